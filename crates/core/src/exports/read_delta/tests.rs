//! Deltas that are complete, truncated and changed.

use proptest::prelude::*;
use serde_json::{Value, json};
use spillway_formats::compression::Compressor;

use super::*;
use crate::exports::change::Change;
use crate::exports::columns::{CommonColumns, ComparedColumns, ExportColumns};
use crate::exports::delta::{FORMAT, FORMAT_VERSION, Heading};
use crate::exports::record::{push_key_part, push_value};
use crate::exports::sort::StoredChange;
use crate::exports::tests::options;
use crate::exports::{ExportSummary, SchemaChanges};
use crate::object::{ObjectRef, ObjectVersion};

/// A value as bytes; `None` is NULL.
type Field = Option<Vec<u8>>;

/// A change of the columns `id`, `shop` and `note`, by the key `shop` and `id`.
#[derive(Debug, Clone)]
struct Sample {
    key: [Vec<u8>; 2],
    before: Option<Field>,
    after: Option<Field>,
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn columns() -> ComparedColumns {
    let of = |columns: &[&str]| ExportColumns::of(names(columns), &names(&["shop", "id"])).unwrap();
    let (old, new) = (of(&["note", "id", "shop"]), of(&["shop", "id", "no\"te"]));
    let common = CommonColumns::of(&old, &new);
    ComparedColumns { old, new, common }
}

/// The lines of a delta with these changes.
fn delta(samples: &[Sample]) -> Vec<u8> {
    let columns = columns();
    let export = |columns: &ExportColumns| ExportSummary { columns: columns.names.clone(), ..ExportSummary::default() };
    let count = |before: bool, after: bool| {
        samples.iter().filter(|one| (one.before.is_some(), one.after.is_some()) == (before, after)).count() as u64
    };
    let counts = ChangeCounts {
        inserted: count(false, true),
        updated: count(true, true),
        deleted: count(true, false),
        ..ChangeCounts::default()
    };
    let summary = Summary {
        old: Some(export(&columns.old)),
        new: export(&columns.new),
        key: columns.new.key_names(),
        counts,
        schema_changes: SchemaChanges::default(),
    };
    let mut lines =
        serde_json::to_vec(&Heading { format: FORMAT, format_version: FORMAT_VERSION, summary: &summary }).unwrap();
    lines.push(b'\n');
    for (sample, seq) in samples.iter().zip(1..) {
        let mut key = Vec::new();
        push_key_part(&mut key, &sample.key[0], false);
        push_key_part(&mut key, &sample.key[1], true);
        let values = |field: &Option<Field>| {
            field.as_ref().map(|field| {
                let mut values = Vec::new();
                push_value(&mut values, field.as_deref());
                values
            })
        };
        let (before, after) = (values(&sample.before), values(&sample.after));
        let stored = StoredChange::new(&key, before.as_deref(), after.as_deref());
        Change::new(seq, stored, &columns).write_line(&mut lines);
    }
    lines
}

fn reader(bytes: &[u8]) -> FileReader {
    let object = ObjectRef::new("bucket", "delta.jsonl");
    let version = ObjectVersion::new(object, "\"e\"".into(), bytes.len() as u64, Timestamp::UNIX_EPOCH, None);
    FileReader::in_memory(bytes.to_vec(), &version, &options())
}

/// All changes.
async fn changes(bytes: &[u8]) -> Result<Vec<DeltaChange>> {
    let reader = reader(bytes);
    let (mut delta, mut changes) = (DeltaReader::start(&reader, "delta.jsonl").await?, Vec::new());
    while let Some(change) = delta.next_change().await? {
        changes.push(change);
    }
    Ok(changes)
}

fn value(field: &Field) -> DeltaValue {
    match field.clone().map(String::from_utf8) {
        None => DeltaValue::Null,
        Some(Ok(text)) => DeltaValue::Text(text),
        Some(Err(error)) => DeltaValue::Bytes(error.into_bytes()),
    }
}

/// The change that the reader should return.
fn expected(sample: &Sample, seq: u64) -> DeltaChange {
    let [shop, id] = sample.key.clone().map(|part| value(&Some(part)));
    let row = |columns: &[&str], values: Vec<DeltaValue>| DeltaRow::of(names(columns).into(), values);
    let operation = match (&sample.before, &sample.after) {
        (None, _) => Operation::Create,
        (Some(_), Some(_)) => Operation::Update,
        (Some(_), None) => Operation::Delete,
    };
    let before = sample.before.as_ref().map(|note| vec![value(note), id.clone(), shop.clone()]);
    let after = sample.after.as_ref().map(|note| vec![shop.clone(), id.clone(), value(note)]);
    DeltaChange {
        seq,
        operation,
        key: row(&["shop", "id"], vec![shop, id]),
        before: before.map(|values| row(&["note", "id", "shop"], values)),
        after: after.map(|values| row(&["shop", "id", "no\"te"], values)),
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0_u8), Just(b'"'), Just(b'\\'), Just(b'\n'), Just(0xc3), Just(0xa9), any::<u8>()];
    prop_oneof![prop::collection::vec(byte, 0..6), ".{0,6}".prop_map(String::into_bytes)]
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let field = || prop::option::of(bytes());
    let rows = prop_oneof![
        field().prop_map(|after| (None, Some(after))),
        field().prop_map(|before| (Some(before), None)),
        (field(), field()).prop_map(|(before, after)| (Some(before), Some(after))),
    ];
    prop::collection::btree_map([bytes(), bytes()], rows, 0..12)
        .prop_map(|changes| changes.into_iter().map(|(key, (before, after))| Sample { key, before, after }).collect())
}

proptest! {
    #[test]
    fn written_changes_are_read_again(samples in samples()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(changes(&delta(&samples))).unwrap();
        let expected: Vec<DeltaChange> = samples.iter().zip(1..).map(|(sample, seq)| expected(sample, seq)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn every_truncated_delta_is_an_error(samples in samples(), cut in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let complete = delta(&samples);
        let error = runtime.block_on(changes(&complete[..cut.index(complete.len())])).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::FileBroken);
    }
}

fn three() -> Vec<Sample> {
    let text = |text: &str| Some(Some(text.as_bytes().to_vec()));
    vec![
        Sample { key: [b"a".to_vec(), b"1".to_vec()], before: None, after: text("secret") },
        Sample { key: [b"a".to_vec(), b"2".to_vec()], before: text("secret"), after: text("y") },
        Sample { key: [b"b".to_vec(), b"1".to_vec()], before: Some(None), after: None },
    ]
}

/// The message of a delta in which `change` replaced the lines.
async fn message(change: impl Fn(&mut Vec<Value>)) -> String {
    let mut lines: Vec<Value> = delta(&three())
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    change(&mut lines);
    // `Value` sorts the names of an object, so the lines are written with the order of the writer.
    let ordered = |row: &Value, columns: &[&str]| match row {
        Value::Object(row) => {
            let known =
                columns.iter().filter_map(|name| row.get(*name).map(|value| format!("{}:{value}", json!(name))));
            let other = row.iter().filter(|(name, _)| !columns.contains(&name.as_str()));
            let other = other.map(|(name, value)| format!("{}:{value}", json!(name)));
            format!("{{{}}}", known.chain(other).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    };
    let mut text = format!("{}\n", lines[0]);
    for line in &lines[1..] {
        let fields = line.as_object().unwrap().iter().map(|(name, value)| match name.as_str() {
            "before" => format!("\"before\":{}", ordered(value, &["note", "id", "shop"])),
            "key" | "after" => format!("\"{name}\":{}", ordered(value, &["shop", "id", "no\"te"])),
            _ => format!("\"{name}\":{value}"),
        });
        text += &format!("{{{}}}\n", fields.collect::<Vec<_>>().join(","));
    }
    match changes(text.as_bytes()).await {
        Ok(changes) => format!("{} changes", changes.len()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::FileBroken);
            let message = crate::error::chain(&error);
            assert!(!message.contains("secret"), "{message}");
            message
        }
    }
}

#[tokio::test]
async fn every_changed_field_is_an_error_that_names_line_and_reason() {
    assert_eq!(message(|_| ()).await, "3 changes");
    type Edit = fn(&mut Vec<Value>);
    let cases: [(Edit, &str); 19] = [
        (|lines| lines[0]["format"] = json!("other"), "is not spillway-delta (header, line 1, byte 0)"),
        (|lines| lines[0]["format_version"] = json!(2), "the delta has format_version 2"),
        (|lines| drop(lines[0].as_object_mut().unwrap().remove("key")), "the summary lacks a field"),
        (|lines| drop(lines.remove(0)), "its first line has no format (header, line 1"),
        (|lines| drop(lines.pop()), "counts 1 deleted rows, and the file has 0"),
        (|lines| drop(lines.remove(2)), "seq is 3, not 2: a line was removed, added or moved (record 2, line 3, byte"),
        (|lines| lines.swap(1, 2), "seq is 2, not 1"),
        (|lines| lines[0]["updated"] = json!(7), "counts 7 updated rows, and the file has 1"),
        (|lines| lines[1]["op"] = json!("u"), "op is u, which does not fit"),
        (|lines| lines[1]["op"] = json!("secret"), "op is not c, u or d (record 1, line 2"),
        (|lines| lines[1]["seq"] = json!("secret"), "of the line has another type (record 1, line 2"),
        (|lines| lines[1]["after"]["id"] = json!("secret"), "the key column id has another value"),
        (
            |lines| lines[1]["after"]["more"] = json!("secret"),
            "the row after has a column that the summary does not name",
        ),
        (
            |lines| drop(lines[2]["before"].as_object_mut().unwrap().remove("note")),
            "the row before lacks the column note",
        ),
        (|lines| lines[2]["before"]["note"] = json!(123), "of the line has another type (record 2, line 3"),
        (|lines| lines[2]["before"]["note"] = json!({"hex": "secret"}), "of the line has another type"),
        (|lines| lines[2]["key"]["id"] = json!(null), "the key column id is null"),
        (|lines| lines[3]["key"]["shop"] = json!("a"), "the key is not greater than that of the line before"),
        (|lines| lines[3]["note"] = json!("secret"), "the change has a field that this format does not have"),
    ];
    for (edit, expected) in cases {
        let message = message(edit).await;
        assert!(message.contains(expected), "{message} / {expected}");
    }
}

#[tokio::test]
async fn text_that_is_no_delta_and_broken_lines_are_errors() {
    let complete = delta(&three());
    let after = |text: &[u8]| [&complete[..], text].concat();
    let cases = [
        (b"".to_vec(), "the file is empty"),
        (b"id,name\n1,secret\n".to_vec(), "the file is not a delta"),
        (after(b"\n"), "the line is not complete JSON (record 4, line 5"),
        (after(b"{\"op\":\"c\"\n"), "the line is not complete JSON (record 4, line 5"),
        (after(b"{\"op\":\"c\"}\n"), "lacks one of op, key"),
        (after(b"{\"op\":\"c\",\"op\":\"c\"}\n"), "has a field twice"),
        (after(b"{\"op\":\"c\"}"), "the line has no end: the file is truncated (record 4, line 5"),
    ];
    for (bytes, expected) in cases {
        let error = changes(&bytes).await.unwrap_err();
        let message = error.to_string();
        assert!(error.kind() == ErrorKind::FileBroken && message.contains(expected), "{message} / {expected}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[tokio::test]
async fn compressed_deltas_are_read_and_truncated_ones_are_errors() {
    let plain = delta(&three());
    for mut compressor in [Compressor::gzip(), Compressor::zstd()] {
        let mut stored = Vec::new();
        compressor.push(&plain, &mut stored).unwrap();
        compressor.finish(&mut stored).unwrap();
        assert_eq!(changes(&stored).await.unwrap(), changes(&plain).await.unwrap());
        stored.truncate(stored.len() - 1);
        let error = changes(&stored).await.unwrap_err().to_string();
        assert!(error.contains("ends early") && error.contains("line "), "{error}");
    }
}
