//! Records and values of a CSV file that are loaded as data, but may be something else: repeated headers, and `\N`.
//!
//! The pass that reads the rows collects them. They change nothing but the hint of the report.

use std::collections::BTreeMap;

use crate::reader::shape::{FileShape, ShapeContents};
use spillway_formats::Batch;
use spillway_formats::columns::ColumnRules;
use spillway_formats::schema::value::{is_null_token, spelling};

/// The mark for NULL in files of MySQL and PostgreSQL.
const NULL_MARK: &[u8] = b"\\N";

/// The records and values that may not be data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Suspects {
    /// The records that repeat the header.
    headers: Found,
    /// The values that are `\N`, by the index of their column in the file.
    null_marks: BTreeMap<usize, NullMarks>,
    /// The indexes of the columns in which every point may separate thousands; `None` before the first rows.
    thousands: Option<Vec<usize>>,
}

/// Some records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Found {
    count: u64,
    /// The number of the first one.
    first: u64,
}

/// The values `\N` of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct NullMarks {
    found: Found,
    /// Whether the column also has values of no other type than text.
    is_text: bool,
}

impl Found {
    fn add(&mut self, record: u64) {
        if self.count == 0 {
            self.first = record;
        }
        self.count += 1;
    }
}

impl Suspects {
    /// Adds the next rows, as the decoder has returned them. `header` is `None` for a file without one. `has_null_tokens` is whether
    /// no setting names the texts that mean NULL.
    pub(super) fn observe(&mut self, batch: &Batch, header: Option<&[Vec<u8>]>, has_null_tokens: bool) {
        if let Some(header) = header {
            self.observe_headers(batch, header);
        }
        // Nearly every batch of most files has no backslash.
        if has_null_tokens && batch.contains(b'\\') {
            self.observe_null_marks(batch);
        }
        if batch.rows() > 0 {
            self.observe_thousands(batch);
        }
    }

    /// Only columns whose first rows have such a number are watched, so that this costs other files nothing.
    fn observe_thousands(&mut self, batch: &Batch) {
        match &mut self.thousands {
            None => {
                let columns = (0..batch.width()).filter(|column| points(batch, *column) == Points::OfThousands);
                self.thousands = Some(columns.collect());
            }
            Some(columns) => columns.retain(|column| points(batch, *column) != Points::Other),
        }
    }

    fn observe_headers(&mut self, batch: &Batch, header: &[Vec<u8>]) {
        let Some(first) = header.iter().position(|name| !name.is_empty()) else { return };
        let is_same = |row, column: usize| batch.field(row, column).unwrap_or_default() == header[column].as_slice();
        for row in (0..batch.rows()).filter(|row| is_same(*row, first)) {
            if (0..header.len().min(batch.width())).all(|column| is_same(row, column)) {
                self.headers.add(batch.position(row).record);
            }
        }
    }

    #[cold]
    fn observe_null_marks(&mut self, batch: &Batch) {
        for column in 0..batch.width() {
            let marks = (0..batch.rows()).filter(|row| batch.field(*row, column) == Some(NULL_MARK));
            let mut marks = marks.peekable();
            if marks.peek().is_none() {
                continue;
            }
            let known = self.null_marks.entry(column).or_default();
            marks.for_each(|row| known.found.add(batch.position(row).record));
            known.is_text |= (0..batch.rows()).any(|row| batch.field(row, column).is_some_and(is_text));
        }
    }

    /// Drops the `\N` of columns that are not text, once a scan knows the types. `is_text` accepts the index of a column.
    pub(super) fn retain_text_columns(&mut self, is_text: impl Fn(usize) -> bool) {
        self.null_marks.retain(|column, marks| {
            marks.is_text = is_text(*column);
            marks.is_text
        });
    }

    /// Drops the numbers whose points may separate thousands, because a scan has looked at all numbers.
    pub(super) fn forget_thousands(&mut self) {
        self.thousands = None;
    }

    /// The columns in which every number with a point may be one of thousands, without those whose type `rules` decide.
    pub(super) fn thousands<'a>(&self, shape: &'a FileShape, rules: &ColumnRules) -> Vec<&'a str> {
        let ShapeContents::Text(text) = &shape.contents else { return Vec::new() };
        let columns = self.thousands.iter().flatten();
        let names = columns.filter_map(|column| text.names.get(*column).map(String::as_str));
        names.filter(|name| !rules.decide_type(name)).collect()
    }

    /// What to say about them; `shape` has the names of the file's columns.
    pub(super) fn hints(&self, shape: &FileShape) -> Vec<String> {
        let mut hints = Vec::new();
        if let Found { count: 1.., first } = self.headers {
            let many =
                if self.headers.count > 1 { format!(" ({} records do)", self.headers.count) } else { String::new() };
            hints.push(format!(
                "record {first} repeats the header{many} and is read as data; if several files were joined, set CSV_REPEATED_HEADERS to \
                 skip"
            ));
        }
        let ShapeContents::Text(text) = &shape.contents else { return hints };
        let marks = self.null_marks.iter().filter(|(_, marks)| marks.is_text);
        let names: Vec<&str> =
            marks.clone().filter_map(|(column, _)| text.names.get(*column).map(String::as_str)).collect();
        if let Some(first) = marks.map(|(_, marks)| marks.found.first).min()
            && !names.is_empty()
        {
            hints.push(format!(
                "\\N is stored as text in {} from record {first}; if it means NULL, set NULL_VALUES to \\N, and to the other texts that mean \
                 NULL",
                names.join(", ")
            ));
        }
        hints
    }
}

/// What the points in the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Points {
    /// No value has a point.
    None,
    /// All values are numbers of at most three digits, and three more digits follow each point.
    OfThousands,
    /// A value is something else.
    Other,
}

/// What the points in a column of these rows are.
fn points(batch: &Batch, column: usize) -> Points {
    let mut found = Points::None;
    for field in (0..batch.rows()).filter_map(|row| batch.field(row, column)) {
        let number = field.strip_prefix(b"-").unwrap_or(field);
        let (whole, has_point) = match number {
            [whole @ .., b'.', a, b, c] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => (whole, true),
            whole => (whole, false),
        };
        let is_whole = (1..=3).contains(&whole.len()) && whole.iter().all(u8::is_ascii_digit);
        match (is_whole, has_point) {
            (true, true) if whole[0] != b'0' => found = Points::OfThousands,
            (true, false) => {}
            _ if is_null_token(field) => {}
            _ => return Points::Other,
        }
    }
    found
}

/// Whether a value has no other type than text.
fn is_text(value: &[u8]) -> bool {
    !is_null_token(value)
        && spelling::double(value).is_none()
        && spelling::date_time(value).is_none()
        && spelling::time_of_day(value).is_none()
        && spelling::boolean(value).is_none()
        && spelling::uuid(value).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::Position;

    fn observed(header: &[&str], rows: &[&[&str]]) -> Suspects {
        let header: Vec<Vec<u8>> = header.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut suspects = Suspects::default();
        for (index, row) in rows.iter().enumerate() {
            let mut batch = Batch::new(row.len());
            row.iter().for_each(|field| batch.push_field((!field.is_empty()).then_some(field.as_bytes())));
            batch.end_row(Position { record: index as u64 + 1, ..Position::default() });
            suspects.observe(&batch, Some(&header), true);
        }
        suspects
    }

    #[test]
    fn repeated_header_is_equal_in_all_fields() {
        let rows: &[&[&str]] = &[&["1", "a"], &["id", "name"], &["id", "b"], &["ID", "name"], &["id", "name"]];
        assert_eq!(observed(&["id", "name"], rows).headers, Found { count: 2, first: 2 });
        assert_eq!(observed(&["id", ""], &[&["id", "x"], &["id", ""]]).headers, Found { count: 1, first: 2 });
        assert_eq!(observed(&["", ""], &[&["", ""]]).headers.count, 0);
    }

    #[test]
    fn points_between_thousands_are_found_from_the_first_rows_on() {
        let watched = |rows: &[&[&str]]| observed(&["a"], rows).thousands.unwrap_or_default();
        assert_eq!(watched(&[&["1.500"], &["-12"], &[""], &["NULL"], &["999.000"]]), [0]);
        for rows in [
            &[&["1.500"][..], &["2.75"]][..],
            &[&["1.500"], &["0.750"]],
            &[&["1.500"], &["1234"]],
            &[&["1.500"], &["1234.500"]],
            &[&["1.500"], &["x"]],
            &[&["1.500"], &["1.500.000"]],
            &[&["1.50"]],
            &[&["12"], &["1.500"]],
        ] {
            assert!(watched(rows).is_empty(), "{rows:?}");
        }
    }

    #[test]
    fn null_mark_is_suspect_only_in_text() {
        let mut batch = Batch::new(3);
        for row in [["Ann", "\\N", "\\N"], ["\\N", "5", "\\N"]] {
            row.iter().for_each(|field| batch.push_field(Some(field.as_bytes())));
            batch.end_row(Position { record: 7, ..Position::default() });
        }
        let mut suspects = Suspects::default();
        suspects.observe(&batch, None, false);
        assert!(suspects.null_marks.is_empty(), "a setting names the texts that mean NULL");
        suspects.observe(&batch, None, true);
        let is_text = |suspects: &Suspects| suspects.null_marks.values().map(|marks| marks.is_text).collect::<Vec<_>>();
        assert_eq!(is_text(&suspects), [true, false, false]);
        suspects.retain_text_columns(|column| column != 1);
        assert_eq!(is_text(&suspects), [true, true]);
    }
}
