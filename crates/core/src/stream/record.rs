//! Reads one record of a stream: the events in it, and the table that they name. Does no I/O.
//!
//! A record is one JSON object, or several with or without white space between them. The decoder that loads files reads each
//! object, so an event that passes here is not rejected later for its syntax. Events that would send a whole file to the fallback
//! do not pass either: those without a key, and those with U+0000, which PostgreSQL does not store. Whether a value fits its
//! column is known only by the loader. Bytes of an event stay as they are, except that line breaks between its values become
//! spaces.

use spillway_formats::json::JsonDecoder;
use spillway_formats::limits::ReadLimits;
use spillway_formats::schema::header::column_names;
use spillway_formats::{Batch, FieldKind};

use super::failure::{Failure, Reason};
use super::objects::Objects;
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

/// Reads a record.
///
/// # Errors
/// The reason why none of its events is delivered. One bad event fails its whole record, which then stays complete.
pub(super) fn read(data: &[u8], rules: &EventRules) -> Result<RecordContent, Failure> {
    let text = data.strip_prefix(MARK).unwrap_or(data);
    let mut found: Option<Events> = None;
    for object in Objects::of(text) {
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

#[cfg(test)]
pub(super) mod tests;
