//! Reads one record of a stream: the events in it, and the table that they name. Pure.
//!
//! A record is one JSON object, or several with or without white space between them. The decoder that loads files reads each
//! object, so an event that passes here is not rejected later for its syntax. Bytes of an event stay as they are, except that
//! line breaks between its values become spaces.

use std::borrow::Cow;

use spillway_formats::FieldKind;
use spillway_formats::json::JsonDecoder;
use spillway_formats::limits::ReadLimits;

use crate::pattern;
use crate::table_name::TableName;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Which field of an event names its table, and which tables are accepted.
#[derive(Debug, Clone)]
pub(super) struct EventRules {
    /// The field.
    pub(super) table_field: String,
    /// The accepted tables in lower case; `None` accepts every valid name.
    pub(super) tables: Option<Vec<String>>,
    /// The ledger, whose tables are never accepted.
    pub(super) ledger_table: String,
    /// Limits on an event.
    pub(super) limits: ReadLimits,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordContent {
    /// Events of one table.
    Events(Events),
    /// Nothing but white space.
    Empty,
}

/// Events of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Events {
    /// The table, in lower case.
    pub(super) table: String,
    /// The events, each in a line of its own.
    pub(super) lines: Vec<u8>,
    /// The number of events.
    pub(super) count: u64,
}

/// Why a record is not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The kind, for metrics.
    pub(super) reason: Reason,
    /// A sentence without values of the record.
    pub(super) detail: Cow<'static, str>,
}

/// The kinds of records that are not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It is not a sequence of JSON objects.
    NotJson,
    /// An event has no field with the table, or it is `null`.
    NoTable,
    /// The field is not a valid table name.
    InvalidTable,
    /// The table is not one of `STREAM_TABLES`.
    UnknownTable,
    /// The events belong to several tables. A record gets one place in S3.
    SeveralTables,
}

impl Reason {
    /// The name in metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NoTable => "no_table",
            Self::InvalidTable => "invalid_table",
            Self::UnknownTable => "unknown_table",
            Self::SeveralTables => "several_tables",
        }
    }
}

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Reads a record.
///
/// # Errors
/// The reason why none of its events is delivered. One bad event fails its whole record, which then stays complete.
pub(super) fn read(data: &[u8], rules: &EventRules) -> Result<RecordContent, Failure> {
    let text = data.strip_prefix(MARK).unwrap_or(data);
    let mut found: Option<Events> = None;
    for object in (Objects { rest: text }) {
        let object = object?;
        let table = table_of(object, rules)?;
        let events = found.get_or_insert_with(|| Events {
            table: table.clone(),
            lines: Vec::with_capacity(text.len() + 1),
            count: 0,
        });
        if events.table != table {
            return Err(Failure::new(Reason::SeveralTables, "the events of the record name several tables"));
        }
        push_line(object, &mut events.lines);
        events.count += 1;
    }
    Ok(found.map_or(RecordContent::Empty, RecordContent::Events))
}

/// Adds an object as one line. A valid object has line breaks only between its values.
fn push_line(object: &[u8], lines: &mut Vec<u8>) {
    let start = lines.len();
    lines.extend_from_slice(object);
    for byte in &mut lines[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    lines.push(b'\n');
}

/// The table that an event names.
fn table_of(object: &[u8], rules: &EventRules) -> Result<String, Failure> {
    let mut decoder = JsonDecoder::new(rules.limits);
    let decoded = decoder.push(object).and_then(|()| decoder.finish());
    decoded.map_err(|error| Failure::new(Reason::NotJson, format!("an event is not valid: {}", error.message())))?;
    let field = &rules.table_field;
    let missing = || Failure::new(Reason::NoTable, format!("an event has no field {field:?}"));
    let column = decoder.keys().iter().position(|key| key == field).ok_or_else(missing)?;
    let batch = decoder.take_batch().ok_or_else(missing)?;
    let value = batch.field(0, column).ok_or_else(missing)?;
    match (batch.kind(0, column), std::str::from_utf8(value)) {
        (FieldKind::String, Ok(name)) => valid_table(name, rules),
        (FieldKind::String | FieldKind::Plain | FieldKind::Nested, _) => {
            Err(Failure::new(Reason::InvalidTable, format!("the field {field:?} of an event is not a string")))
        }
    }
}

/// The name in lower case, as `TABLE_PATTERN` returns it for the key.
fn valid_table(name: &str, rules: &EventRules) -> Result<String, Failure> {
    let invalid = |why: &str| Failure::new(Reason::InvalidTable, format!("the table name of an event {why}"));
    let table = pattern::table_name(&TableName::from(name), &rules.ledger_table).map_err(|why| invalid(&why))?;
    // The name becomes a folder in S3. Firehose does not document which other characters a partition key may have.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !table.bytes().all(is_plain) {
        return Err(invalid("contains a character other than letters, digits, _, - and ."));
    }
    if table.bytes().all(|byte| byte == b'.') {
        return Err(invalid("consists of dots"));
    }
    let is_known = |tables: &Vec<String>| tables.iter().any(|known| *known == *table);
    if !rules.tables.as_ref().is_none_or(is_known) {
        return Err(Failure::new(Reason::UnknownTable, "the table name of an event is not one of STREAM_TABLES"));
    }
    Ok(table.to_string())
}

/// The objects of a record, by their braces. Whether an object is valid JSON is checked later.
struct Objects<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Objects<'a> {
    type Item = Result<&'a [u8], Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))?;
        let text = &self.rest[start..];
        let end = if text[0] == b'{' { object_end(text) } else { None };
        let Some(end) = end else {
            self.rest = &[];
            let detail = if text[0] == b'{' {
                "an object is never closed"
            } else {
                "the record has other text than JSON objects"
            };
            return Some(Err(Failure::new(Reason::NotJson, detail)));
        };
        self.rest = &text[end..];
        Some(Ok(&text[..end]))
    }
}

/// The length of the object at the start of a text.
fn object_end(text: &[u8]) -> Option<usize> {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' if !is_string => depth += 1,
            b'}' if !is_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use spillway_formats::compression::DecodedLimits;
    use spillway_formats::reject::RejectLimit;

    use super::*;

    pub(in crate::stream) fn rules() -> EventRules {
        EventRules {
            table_field: "table".into(),
            tables: None,
            ledger_table: "spillway_ledger".into(),
            limits: ReadLimits {
                max_record_bytes: 1 << 20,
                max_columns: 100,
                max_memory_bytes: 1 << 20,
                decoded: DecodedLimits { max_bytes: 1 << 20, max_ratio: 100 },
                rejects: RejectLimit::Count(0),
            },
        }
    }

    fn events(data: impl AsRef<[u8]>) -> (String, String, u64) {
        match read(data.as_ref(), &rules()) {
            Ok(RecordContent::Events(Events { table, lines, count })) => {
                (table, String::from_utf8(lines).expect("text"), count)
            }
            other => panic!("{other:?}"),
        }
    }

    fn reason(data: impl AsRef<[u8]>, rules: &EventRules) -> (Reason, String) {
        let failure = read(data.as_ref(), rules).expect_err("a failure");
        (failure.reason, failure.detail.into_owned())
    }

    #[rstest]
    #[case::plain(r#"{"table":"a","n":1}"#, "{\"table\":\"a\",\"n\":1}\n", 1)]
    #[case::line("{\"table\":\"a\"}\r\n", "{\"table\":\"a\"}\n", 1)]
    #[case::white_space(" \t\n{\"table\":\"a\"} \n", "{\"table\":\"a\"}\n", 1)]
    #[case::mark("\u{feff}{\"table\":\"a\"}", "{\"table\":\"a\"}\n", 1)]
    #[case::lines(
        "{\"table\":\"a\",\"n\":1}\n{\"table\":\"a\",\"n\":2}\n",
        "{\"table\":\"a\",\"n\":1}\n{\"table\":\"a\",\"n\":2}\n",
        2
    )]
    #[case::adjacent(r#"{"table":"a"}{"table":"A"}"#, "{\"table\":\"a\"}\n{\"table\":\"A\"}\n", 2)]
    #[case::pretty("{\n  \"table\": \"a\",\r\n  \"n\": {\n  }\n}", "{   \"table\": \"a\",    \"n\": {   } }\n", 1)]
    #[case::braces_in_a_string(r#"{"table":"a","s":"}{\"\\"}"#, "{\"table\":\"a\",\"s\":\"}{\\\"\\\\\"}\n", 1)]
    #[case::numbers_keep_their_digits(
        r#"{"table":"a","n":1.10,"m":123456789012345678901234567890}"#,
        "{\"table\":\"a\",\"n\":1.10,\"m\":123456789012345678901234567890}\n",
        1
    )]
    #[case::escapes_stay(r#"{"table":"a","s":"\u00e9\n"}"#, "{\"table\":\"a\",\"s\":\"\\u00e9\\n\"}\n", 1)]
    #[case::other_letters("{\"table\":\"a\",\"s\":\"café ☕\"}", "{\"table\":\"a\",\"s\":\"café ☕\"}\n", 1)]
    fn events_are_lines(#[case] data: &str, #[case] lines: &str, #[case] count: u64) {
        assert_eq!(events(data), ("a".to_owned(), lines.to_owned(), count));
    }

    #[rstest]
    #[case("")]
    #[case(" \r\n\t")]
    #[case("\u{feff}")]
    fn white_space_is_no_event(#[case] data: &str) {
        assert_eq!(read(data.as_bytes(), &rules()), Ok(RecordContent::Empty));
    }

    #[rstest]
    #[case::text(b"hello".as_slice())]
    #[case::truncated(br#"{"table":"a","n":"#.as_slice())]
    #[case::truncated_string(br#"{"table":"a","n":"}"#.as_slice())]
    #[case::array(br#"[{"table":"a"}]"#.as_slice())]
    #[case::comma_between(br#"{"table":"a"},{"table":"a"}"#.as_slice())]
    #[case::second_is_broken(br#"{"table":"a"}{"table":"a""#.as_slice())]
    #[case::second_mark(b"{\"table\":\"a\"}\xef\xbb\xbf{\"table\":\"a\"}".as_slice())]
    #[case::not_utf8(b"{\"table\":\"a\",\"s\":\"\xff\"}".as_slice())]
    #[case::number_over_two_lines(b"{\"table\":\"a\",\"n\":1\n2}".as_slice())]
    #[case::line_break_in_a_string(b"{\"table\":\"a\",\"s\":\"1\n2\"}".as_slice())]
    #[case::key_twice(br#"{"table":"a","table":"a"}"#.as_slice())]
    #[case::half_a_surrogate(br#"{"table":"a","s":"\ud800"}"#.as_slice())]
    #[case::compressed(b"\x1f\x8b\x08\x00".as_slice())]
    #[case::aggregated(b"\xf3\x89\x9a\xc2\x0a\x01".as_slice())]
    fn record_that_is_not_json_fails(#[case] data: &[u8]) {
        assert_eq!(reason(data, &rules()).0, Reason::NotJson);
    }

    #[rstest]
    #[case(r#"{"n":1}"#, Reason::NoTable)]
    #[case("{}", Reason::NoTable)]
    #[case(r#"{"table":null}"#, Reason::NoTable)]
    #[case(r#"{"Table":"a"}"#, Reason::NoTable)]
    #[case(r#"{"n":{"table":"a"}}"#, Reason::NoTable)]
    #[case(r#"{"table":7}"#, Reason::InvalidTable)]
    #[case(r#"{"table":["a"]}"#, Reason::InvalidTable)]
    #[case(r#"{"table":""}"#, Reason::InvalidTable)]
    #[case(r#"{"table":"a/b"}"#, Reason::InvalidTable)]
    #[case(r#"{"table":".."}"#, Reason::InvalidTable)]
    #[case(r#"{"table":"café"}"#, Reason::InvalidTable)]
    #[case(r#"{"table":" a"}"#, Reason::InvalidTable)]
    #[case(r#"{"table":"spillway_ledger"}"#, Reason::InvalidTable)]
    #[case(r#"{"table":"Spillway_Ledger_Attempts"}"#, Reason::InvalidTable)]
    #[case(r#"{"table":"a"}{"table":"b"}"#, Reason::SeveralTables)]
    fn record_without_one_valid_table_fails(#[case] data: &str, #[case] expected: Reason) {
        assert_eq!(reason(data, &rules()).0, expected);
    }

    #[test]
    fn table_name_has_at_most_63_bytes() {
        let event = |bytes: usize| format!("{{\"table\":\"{}\"}}", "a".repeat(bytes));
        assert_eq!(events(event(63)).0.len(), 63);
        assert_eq!(reason(event(64), &rules()).0, Reason::InvalidTable);
    }

    #[test]
    fn only_listed_tables_are_accepted() {
        let rules = EventRules { tables: Some(vec!["orders".into()]), table_field: "kind".into(), ..rules() };
        assert!(read(br#"{"kind":"Orders"}"#, &rules).is_ok());
        assert_eq!(reason(r#"{"kind":"other"}"#, &rules).0, Reason::UnknownTable);
    }

    #[test]
    fn failure_shows_no_value() {
        for data in [r#"{"table":"s3cret/x"}"#, r#"{"table":"a","s3cret":"s3cret"#, r#"{"table":"a","n":s3cret}"#] {
            let (_, detail) = reason(data, &rules());
            assert!(!detail.contains("s3cret"), "{detail}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_failure(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&data, &rules());
        }

        #[test]
        fn valid_objects_are_delivered_one_per_line(
            values in prop::collection::vec("\\PC{0,12}", 1..6), between in "[ \t\r\n]{0,3}",
        ) {
            let objects: Vec<_> = values.iter().map(|value| serde_json::json!({"table": "a", "value": value})).collect();
            let texts: Vec<String> = objects.iter().map(|object| format!("{object:#}")).collect();
            let (_, lines, count) = events(texts.join(&between));
            prop_assert_eq!(count as usize, objects.len());
            let read: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(read, objects);
        }
    }
}
