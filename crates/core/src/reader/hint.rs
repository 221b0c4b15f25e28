//! What the user may have meant with a file that is read in another way than they expect.

use spillway_formats::columns::ColumnRules;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::Layout;
use spillway_formats::schema::infer::{Doubt, Inference};
use spillway_formats::schema::{ColumnType, value};

/// Returns the hints for a file with these columns, which are those after the rules. `layout` is `None` for Parquet.
pub(crate) fn of_file(layout: Option<&Layout>, columns: &[String], rules: &ColumnRules) -> Option<String> {
    let hints = match layout {
        Some(Layout::Json { records_hint, keys, .. }) => {
            vec![records_hint.as_deref().map(records_within), items_of_dynamodb(keys)]
        }
        Some(Layout::Csv(dialect)) => {
            let title = title_above_header(dialect, columns);
            vec![
                header_of_data(dialect, columns),
                title,
                no_delimiter(dialect, columns),
                unmatched_rules(columns, rules),
            ]
        }
        None => vec![unmatched_rules(columns, rules)],
    };
    joined(hints.into_iter().flatten())
}

/// Several hints as one; `None` without any.
pub(crate) fn joined(hints: impl IntoIterator<Item = String>) -> Option<String> {
    let hints: Vec<String> = hints.into_iter().collect();
    (!hints.is_empty()).then(|| hints.join("; "))
}

/// Returns the hints for the values of all records; `columns` are the names after the rules.
pub(crate) fn of_values(
    layout: Option<&Layout>,
    columns: &[String],
    rules: &ColumnRules,
    inference: &Inference,
) -> Vec<String> {
    let Some(Layout::Csv(dialect)) = layout else { return Vec::new() };
    let doubts = inference.doubts();
    let names = |wanted: Doubt| {
        let indexes = doubts.iter().filter(|(_, doubt)| *doubt == wanted).map(|(index, _)| *index);
        let names = indexes.filter_map(|index| columns.get(index).map(String::as_str));
        names.filter(|name| !rules.decide_type(name)).collect::<Vec<_>>().join(", ")
    };
    let mut hints = Vec::new();
    for doubt in Doubt::ALL {
        let names = names(doubt);
        if !names.is_empty() {
            hints.extend(of_doubt(doubt, &names, dialect));
        }
    }
    hints
}

/// What to say about a doubt in these columns.
fn of_doubt(doubt: Doubt, names: &str, dialect: &CsvDialect) -> Option<String> {
    match doubt {
        Doubt::Thousands => Some(format!(
            "points may separate thousands in {names}, because other columns have decimal commas: a new column is text, and an existing \
             number column reads decimal points; set thousands, decimal or type for it in the table settings"
        )),
        Doubt::PossibleThousands => of_thousands(&[names], dialect),
        Doubt::Code => Some(format!(
            "values in {names} may be numbers with an exponent or codes, so a new column is text; type in the table settings decides"
        )),
        Doubt::PossibleCode => Some(format!(
            "values in {names} are read as numbers with an exponent; if they are codes, set type to text in the table settings"
        )),
        Doubt::Fractions => Some(format!(
            "numbers in {names} have fractions of different lengths, and some end with a zero, which a number column does not keep; if they \
             are versions or codes, set type to text in the table settings"
        )),
        Doubt::LastRecord => Some(format!(
            "only the last record makes {names} text; if it is a line with totals, set CSV_SKIP_FOOTER_LINES to 1"
        )),
    }
}

/// What to say about columns in which every point may separate thousands. A number column reads a decimal point.
pub(super) fn of_thousands(columns: &[&str], dialect: &CsvDialect) -> Option<String> {
    // Files with semicolons often come from countries with decimal commas.
    (dialect.delimiter == Some(b';') && !columns.is_empty()).then(|| {
        format!(
            "all numbers with a point in {} have three digits after it; if the point separates thousands, set thousands for the column in \
             the table settings",
            columns.join(", ")
        )
    })
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

/// Records whose only member is `Item`.
fn items_of_dynamodb(keys: &[String]) -> Option<String> {
    (keys == ["Item"]).then(|| {
        "each record has only the key Item; if DynamoDB exported the file, set JSON_VALUES to dynamodb, which makes the attributes columns"
            .to_owned()
    })
}

fn header_of_data(dialect: &CsvDialect, columns: &[String]) -> Option<String> {
    let is_likely = dialect.has_header && are_like_values(columns.iter().map(String::as_str));
    is_likely.then(|| {
        "the first record names the columns, but it looks like data; if the file has no header, set CSV_HEADER to false".to_owned()
    })
}

/// A first record with a value only in its first field: perhaps a title, whose line a spreadsheet fills with delimiters.
fn title_above_header(dialect: &CsvDialect, columns: &[String]) -> Option<String> {
    let has_no_name = |(index, name): (usize, &String)| *name == format!("col_{}", index + 1);
    let is_likely = dialect.has_header
        && columns.len() > 1
        && !columns.first().is_some_and(|name| has_no_name((0, name)))
        && columns.iter().enumerate().skip(1).all(has_no_name);
    is_likely.then(|| {
        "the first record names only the first column; if it is a title above the header, set CSV_SKIP_LINES to the number of lines above \
         the header"
            .to_owned()
    })
}

/// Whether a character in the name of the only column may be a delimiter.
pub(crate) fn may_be_delimiter(character: char) -> bool {
    ",;|".contains(character) || is_unusual_delimiter(character)
}

fn is_unusual_delimiter(character: char) -> bool {
    character.is_control() || "~^\u{a6}\u{a7}".contains(character)
}

/// A file that may have a delimiter which is not detected.
fn no_delimiter(dialect: &CsvDialect, columns: &[String]) -> Option<String> {
    let [name] = columns else { return None };
    let is_likely = dialect.delimiter == Some(b',') && name.chars().any(is_unusual_delimiter);
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
