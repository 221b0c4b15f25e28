//! Reads one record of a stream: the events in it, and the table that they name. Pure.
//!
//! A record is one JSON object, or several with or without white space between them. The decoder that loads files reads each
//! object, so an event that passes here is not rejected later for its syntax. Events that would send a whole file to the fallback
//! do not pass either: those without a key, and those with U+0000, which PostgreSQL does not store. Whether a value fits its
//! column is known only by the loader. Bytes of an event stay as they are, except that line breaks between its values become
//! spaces.

use std::borrow::Cow;

use spillway_formats::json::JsonDecoder;
use spillway_formats::limits::ReadLimits;
use spillway_formats::schema::header::column_names;
use spillway_formats::{Batch, FieldKind};

use crate::pattern;
use crate::table_name::TableName;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The most fields of an event. The limit of a file, `MAX_COLUMNS`, applies to the different fields of all its events together.
const MAX_FIELDS: usize = 500;

/// Which events are accepted, and which field names their table.
#[derive(Debug, Clone)]
pub(super) struct EventRules {
    /// The field.
    pub(super) table_field: String,
    /// The accepted tables in lower case; `None` accepts every valid name.
    pub(super) tables: Option<Vec<String>>,
    /// The fields that each event must have, because tables merge by them.
    pub(super) key_fields: Vec<String>,
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
    /// A sentence without values and names of the record.
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
    /// An event lacks one of `STREAM_KEY_FIELDS`, or it is `null`.
    NoKey,
    /// A text or a name in an event contains U+0000.
    NulCharacter,
    /// Two names in an event would be the same column, such as `id` and `ID`.
    SimilarNames,
    /// An event has more than [`MAX_FIELDS`] fields.
    TooManyFields,
    /// The result does not fit into a response.
    TooLarge,
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
            Self::NoKey => "no_key",
            Self::NulCharacter => "nul_character",
            Self::SimilarNames => "similar_names",
            Self::TooManyFields => "too_many_fields",
            Self::TooLarge => "too_large",
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
        let table = check_event(object, rules)?;
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

/// Checks an event, and returns the table that it names.
fn check_event(object: &[u8], rules: &EventRules) -> Result<String, Failure> {
    // The limit on fields has a reason of its own.
    let mut decoder = JsonDecoder::new(ReadLimits { max_columns: usize::MAX, ..rules.limits });
    let decoded = decoder.push(object).and_then(|()| decoder.finish());
    // The decoder's message may contain a name from the record.
    let invalid = "an event is not a valid JSON object, repeats a name, or exceeds a limit of the loader";
    decoded.map_err(|_| Failure::new(Reason::NotJson, invalid))?;
    let max_fields = rules.limits.max_columns.min(MAX_FIELDS);
    if decoder.keys().len() > max_fields {
        return Err(Failure::new(Reason::TooManyFields, format!("an event has more than {max_fields} fields")));
    }
    if has_nul(object) {
        return Err(Failure::new(Reason::NulCharacter, "a text of an event contains the character U+0000"));
    }
    if has_similar_names(decoder.keys()) {
        return Err(Failure::new(Reason::SimilarNames, "two names in an event differ only in letter case or spaces"));
    }
    let event = Event { keys: decoder.keys().to_vec(), batch: decoder.take_batch() };
    let table = event.table(rules)?;
    match rules.key_fields.iter().find(|field| event.field(field).is_none()) {
        None => Ok(table),
        Some(field) => Err(Failure::new(Reason::NoKey, format!("an event has no value in the key field {field:?}"))),
    }
}

/// Whether two names would be the same column. The loader then adds a number to the later one, in the whole file. If that is the key,
/// every other event of the file has none.
fn has_similar_names(keys: &[String]) -> bool {
    let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key.clone().into_bytes()).collect();
    let columns = column_names(&bytes);
    // An empty name gets a number in any case.
    let mut named = bytes.iter().zip(&columns).zip(keys).filter(|(_, key)| !key.trim().is_empty());
    named.any(|((bytes, column), _)| column_names(std::slice::from_ref(bytes))[0] != *column)
}

/// Whether valid JSON contains the escape of U+0000. The character itself is not valid there.
fn has_nul(object: &[u8]) -> bool {
    let mut rest = object;
    while let Some(start) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[start + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        // The byte after a backslash may be a backslash too, which starts no further escape.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// A decoded event.
struct Event {
    keys: Vec<String>,
    /// One row; `None` if the event has no field.
    batch: Option<Batch>,
}

impl Event {
    /// The value of a field; `None` if the event lacks it, or it is `null`.
    fn field(&self, name: &str) -> Option<(FieldKind, &[u8])> {
        let column = self.keys.iter().position(|key| key == name)?;
        let batch = self.batch.as_ref()?;
        batch.field(0, column).map(|value| (batch.kind(0, column), value))
    }

    /// The table that the event names.
    fn table(&self, rules: &EventRules) -> Result<String, Failure> {
        let name = &rules.table_field;
        let missing = || Failure::new(Reason::NoTable, format!("an event has no field {name:?}"));
        let (kind, value) = self.field(name).ok_or_else(missing)?;
        match (kind, std::str::from_utf8(value)) {
            (FieldKind::String, Ok(table)) => valid_table(table, rules),
            (FieldKind::String | FieldKind::Plain | FieldKind::Nested, _) => {
                Err(Failure::new(Reason::InvalidTable, format!("the field {name:?} of an event is not a string")))
            }
        }
    }
}

/// The name in lower case, if it is one of the accepted tables.
fn valid_table(name: &str, rules: &EventRules) -> Result<String, Failure> {
    let invalid = |why: String| Failure::new(Reason::InvalidTable, format!("the table name of an event {why}"));
    let table = table_name(name, &rules.ledger_table).map_err(invalid)?;
    if rules.tables.as_ref().is_none_or(|tables| tables.contains(&table)) {
        return Ok(table);
    }
    Err(Failure::new(Reason::UnknownTable, "the table name of an event is not one of STREAM_TABLES"))
}

/// The name in lower case, as `TABLE_PATTERN` returns it for the key.
///
/// # Errors
/// Why an event cannot name this table, without the name: "is empty".
pub(crate) fn table_name(name: &str, ledger_table: &str) -> Result<String, String> {
    let table = pattern::table_name(&TableName::from(name), ledger_table)?;
    // The name becomes a folder in S3. Firehose does not document which other characters a partition key may have.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !table.bytes().all(is_plain) {
        return Err("contains a character other than letters, digits, _, - and .".to_owned());
    }
    if table.bytes().all(|byte| byte == b'.') {
        return Err("consists of dots".to_owned());
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
            key_fields: Vec::new(),
            ledger_table: "spillway_ledger".into(),
            limits: ReadLimits {
                max_record_bytes: 1 << 20,
                max_columns: 1_000,
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

    #[rstest]
    #[case(r#"{"table":"a","n":1}"#)]
    #[case(r#"{"table":"a","id":1}"#)]
    #[case(r#"{"table":"a","id":null,"at":1}"#)]
    #[case(r#"{"table":"a","ID":1,"at":1}"#)]
    #[case(r#"{"table":"a","n":{"id":1},"at":1}"#)]
    #[case(r#"{"table":"a","id":1,"at":2}{"table":"a","id":1}"#)]
    fn event_without_its_key_fails(#[case] data: &str) {
        let rules = EventRules { key_fields: vec!["id".into(), "at".into()], ..rules() };
        assert_eq!(reason(data, &rules).0, Reason::NoKey);
        assert!(read(br#"{"table":"a","id":"","at":0}"#, &rules).is_ok());
    }

    #[rstest]
    #[case(r#"{"table":"a","s":"x\u0000y"}"#)]
    #[case(r#"{"table":"a","s":"\\\u0000"}"#)]
    #[case(r#"{"table":"a","n":[{"s":"\u0000"}]}"#)]
    #[case(r#"{"table":"a","\u0000":1}"#)]
    fn event_with_a_nul_character_fails(#[case] data: &str) {
        assert_eq!(reason(data, &rules()).0, Reason::NulCharacter);
    }

    #[rstest]
    #[case(r#"{"table":"a","qty":1,"Qty":2}"#)]
    #[case(r#"{"Table":"b","table":"a"}"#)]
    #[case(r#"{"table":"a","qty":1,"qty ":2}"#)]
    fn event_with_similar_names_fails(#[case] data: &str) {
        assert_eq!(reason(data, &rules()).0, Reason::SimilarNames);
    }

    #[test]
    fn empty_and_nested_names_are_not_similar() {
        assert_eq!(events(r#"{"table":"a","":1,"n":{"N":1},"qty_2":1,"qty":1}"#).2, 1);
    }

    #[test]
    fn backslash_before_u0000_is_a_text() {
        assert_eq!(events(r#"{"table":"a","s":"\\u0000"}"#).2, 1);
    }

    #[test]
    fn event_has_at_most_500_fields() {
        let event = |fields: usize| {
            let fields: String = (1..fields).map(|number| format!(",\"f{number}\":1")).collect();
            format!("{{\"table\":\"a\"{fields}}}")
        };
        assert_eq!(events(event(MAX_FIELDS)).2, 1);
        for fields in [MAX_FIELDS + 1, 2_000] {
            assert_eq!(reason(event(fields), &rules()).0, Reason::TooManyFields);
        }
        let few = ReadLimits { max_columns: 5, ..rules().limits };
        assert_eq!(reason(event(6), &EventRules { limits: few, ..rules() }).0, Reason::TooManyFields);
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
        let rules = EventRules { key_fields: vec!["id".into()], ..rules() };
        for data in [
            r#"{"table":"s3cret/x"}"#,
            r#"{"table":"a","s3cret":"s3cret"#,
            r#"{"table":"a","n":s3cret}"#,
            r#"{"table":"a","s3cret":1,"s3cret":2}"#,
            r#"{"table":"a","s3cret":"\u0000"}"#,
            r#"{"table":"a","s3cret":1}"#,
        ] {
            let (_, detail) = reason(data, &rules);
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
