//! Numbers as people write them.

pub(crate) use spillway_formats::numbers::with_thousands as count;

/// A number with its noun.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_follow_their_numbers() {
        assert_eq!([1, 0, 1000].map(|rows| counted(rows, "row")), ["1 row", "0 rows", "1,000 rows"]);
    }
}
