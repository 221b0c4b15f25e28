//! Numbers as people write them.

/// A number with a comma between thousands: `10,001`.
pub fn with_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 row`, `10,001 rows`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", with_thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(with_thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn nouns_follow_their_numbers() {
        assert_eq!([1, 0, 1000].map(|rows| counted(rows, "row")), ["1 row", "0 rows", "1,000 rows"]);
    }
}
