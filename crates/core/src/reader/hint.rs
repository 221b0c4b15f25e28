//! What the user may have meant with a file that is read in another way than they expect.

use spillway_formats::columns::ColumnRules;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::Layout;
use spillway_formats::schema::{ColumnType, value};

/// Returns the hints for a file with these columns, which are those after the rules. `layout` is `None` for Parquet.
pub(crate) fn of_file(layout: Option<&Layout>, columns: &[String], rules: &ColumnRules) -> Option<String> {
    let hints = match layout {
        Some(Layout::Json { records_hint, .. }) => vec![records_hint.as_deref().map(records_within)],
        Some(Layout::Csv(dialect)) => {
            vec![header_of_data(dialect, columns), no_delimiter(dialect, columns), unmatched_rules(columns, rules)]
        }
        None => vec![unmatched_rules(columns, rules)],
    };
    let hints: Vec<String> = hints.into_iter().flatten().collect();
    (!hints.is_empty()).then(|| hints.join("; "))
}

/// Whether column names look like the values of a record: a date, `\N`, a number with a fraction, or a number in the first column.
/// Years as the names of later columns do not.
pub(crate) fn are_like_values<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    let is = |column_type, name: &str| {
        !value::is_null_token(name.as_bytes()) && value::parse(column_type, Some(name.as_bytes())).is_some()
    };
    let is_value = |name: &str| {
        name == "\\N" || is(ColumnType::Date, name) || (name.contains('.') && is(ColumnType::Double, name))
    };
    names.next().is_some_and(|first| is(ColumnType::Integer, first) || is_value(first)) || names.any(is_value)
}

/// What to say about a document whose records may be within it. It was read as one record.
fn records_within(key: &str) -> String {
    format!(
        "the file is one object with one array of objects; if its records are in that array, set JSON_RECORDS to {key}"
    )
}

fn header_of_data(dialect: &CsvDialect, columns: &[String]) -> Option<String> {
    let is_likely = dialect.has_header && are_like_values(columns.iter().map(String::as_str));
    is_likely.then(|| {
        "the first record names the columns, but it looks like data; if the file has no header, set CSV_HEADER to false".to_owned()
    })
}

/// A file that may have a delimiter which is not detected.
fn no_delimiter(dialect: &CsvDialect, columns: &[String]) -> Option<String> {
    let [name] = columns else { return None };
    let is_unusual = |character: char| character.is_control() || "~^\u{a6}\u{a7}".contains(character);
    let is_likely = dialect.delimiter == Some(b',') && name.chars().any(is_unusual);
    is_likely.then(|| {
        "the file has one column, and its name contains an unusual character; if that is the delimiter, set CSV_DELIMITER to it, or \
         to its code, such as \\x01"
            .to_owned()
    })
}

fn unmatched_rules(columns: &[String], rules: &ColumnRules) -> Option<String> {
    let unmatched = rules.unmatched(columns);
    (!unmatched.is_empty() && !columns.is_empty())
        .then(|| format!("rules of the table settings have no column in the file: {}", unmatched.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_like_values_are_found() {
        for (names, expected) in [
            (&["1", "Ann", "2024-01-01"][..], true),
            (&["Ann", "10.50"], true),
            (&["Ann", "\\N"], true),
            (&["7", "x"], true),
            (&["country", "2019", "2020"], false),
            (&["id", "name"], false),
            (&["v1.0", "NaN"], false),
            (&[], false),
        ] {
            assert_eq!(are_like_values(names.iter().copied()), expected, "{names:?}");
        }
    }
}
