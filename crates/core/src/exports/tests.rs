//! Comparisons of files in memory, against maps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use spillway_formats::columns::ColumnRules;
use spillway_formats::compression::{Compressor, DecodedLimits};
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::ReadOptions;
use spillway_formats::detect::FileFormat;
use spillway_formats::json::JsonOptions;
use spillway_formats::limits::ReadLimits;

use super::*;
use crate::object::ObjectVersion;

pub(in crate::exports) fn options() -> ReadOptions {
    let decoded = DecodedLimits { max_bytes: 1 << 30, max_ratio: 1000 };
    let rejects = RejectLimit::Count(0);
    ReadOptions {
        format: FileFormat::Auto,
        csv: CsvDialect { delimiter: None, ..CsvDialect::default() },
        columns: ColumnRules::default(),
        json: JsonOptions::default(),
        limits: ReadLimits { max_record_bytes: 1 << 20, max_columns: 100, max_memory_bytes: 1 << 30, decoded, rejects },
    }
}

fn export_file(name: &str, bytes: &[u8], (key, options): (&[&str], &ReadOptions)) -> ExportFile {
    let object = ObjectRef::new("bucket", name);
    let version = ObjectVersion::new(object, "\"e\"".into(), bytes.len() as u64, Timestamp::UNIX_EPOCH, None);
    let reader = FileReader::in_memory(bytes.to_vec(), &version, options);
    let summary = ExportSummary { file: name.to_owned(), ..ExportSummary::default() };
    ExportFile { reader, summary, key: key.iter().map(|name| (*name).to_owned()).collect() }
}

/// Compares two files, of which the old one may be missing. Returns the summary and all changes.
async fn diff(
    old: Option<ExportFile>,
    new: ExportFile,
    (memory, partitions): (u64, usize),
) -> Result<(Summary, Vec<Value>)> {
    let memory = Memory::new(memory);
    let (old, new) = read(old.into_iter().collect(), vec![new], partitions, memory).await?;
    let mut comparison = compare(old, new, memory).await?;
    let mut changes = Vec::new();
    while let Some(change) = comparison.next_change()? {
        let mut line = Vec::new();
        change.write_line(&mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        changes.push(serde_json::from_slice(&line).unwrap());
    }
    Ok((comparison.summary, changes))
}

/// Compares two texts by the column `id`.
async fn diff_texts(old: (&str, &str), new: (&str, &str)) -> Result<(Summary, Vec<Value>)> {
    let options = options();
    let file = |(name, text): (&str, &str)| export_file(name, text.as_bytes(), (&["id"], &options));
    diff(Some(file(old)), file(new), (1 << 20, 3)).await
}

fn operations(changes: &[Value]) -> Vec<(&str, &str)> {
    changes.iter().map(|change| (change["op"].as_str().unwrap(), change["key"]["id"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn changes_are_in_the_order_of_keys_with_both_rows() {
    let old = "id,amount,note\n1,5,a\n10,6,\n2,7,c\n";
    let new = "note;id;amount\n\"\";10;6\nc;2;7\nnew;3;\"8\"\n";
    let (summary, changes) = diff_texts(("old.csv", old), ("new.csv", new)).await.unwrap();
    assert_eq!(
        changes,
        [
            json!({"op": "d", "key": {"id": "1"}, "before": {"id": "1", "amount": "5", "note": "a"}, "after": null, "seq": 1}),
            json!({"op": "u", "key": {"id": "10"}, "before": {"id": "10", "amount": "6", "note": null},
                   "after": {"note": "", "id": "10", "amount": "6"}, "seq": 2}),
            json!({"op": "c", "key": {"id": "3"}, "before": null, "after": {"note": "new", "id": "3", "amount": "8"}, "seq": 3}),
        ]
    );
    let counts = &summary.counts;
    assert_eq!((counts.inserted, counts.updated, counts.deleted, counts.unchanged), (1, 1, 1, 1));
    assert_eq!(counts.updated_by_column, BTreeMap::from([("note".to_owned(), 1)]));
    assert_eq!((summary.new.rows, summary.new.sha256.len(), summary.new.columns.len()), (3, 64, 3));
    assert!(!summary.is_equal());
}

#[tokio::test]
async fn equal_rows_in_other_formats_are_no_changes() {
    let csv = "id,note\n1,\"a\nb\"\n2,\n3,\"\"\n";
    let (mut gzip, mut zstd) = ((Compressor::gzip(), Vec::new()), (Compressor::zstd(), Vec::new()));
    for (compressor, out) in [&mut gzip, &mut zstd] {
        compressor.push(csv.as_bytes(), out).unwrap();
        compressor.finish(out).unwrap();
    }
    let json = "{\"note\":\"a\\nb\",\"id\":1}\n{\"id\":2}\n{\"id\":3,\"note\":\"\"}\n";
    let late = "{\"id\":2}\n{\"id\":3,\"note\":\"\"}\n{\"id\":1,\"note\":\"a\\nb\"}\n";
    let files: [(&str, &[u8]); 5] = [
        ("a.csv", csv.as_bytes()),
        ("a.csv.gz", &gzip.1),
        ("a.csv.zst", &zstd.1),
        ("a.jsonl", json.as_bytes()),
        ("late.jsonl", late.as_bytes()),
    ];
    let options = options();
    for old in files {
        for new in files {
            let file = |(name, bytes)| export_file(name, bytes, (&["id"], &options));
            let (summary, changes) = diff(Some(file(old)), file(new), (1 << 20, 2)).await.unwrap();
            assert!(summary.is_equal() && changes.is_empty(), "{} and {}: {changes:?}", old.0, new.0);
            assert_eq!(summary.counts.unchanged, 3);
        }
    }
}

#[tokio::test]
async fn header_alone_is_an_export_without_rows_and_nothing_is_none() {
    let (header, rows) = (("a.csv", "id,b\n"), ("b.csv", "id,b\n1,x\n2,y\n"));
    let (summary, changes) = diff_texts(header, rows).await.unwrap();
    assert_eq!((operations(&changes), summary.counts.inserted), (vec![("c", "1"), ("c", "2")], 2));
    let (summary, changes) = diff_texts(rows, header).await.unwrap();
    assert_eq!((operations(&changes), summary.counts.deleted), (vec![("d", "1"), ("d", "2")], 2));
    assert!(diff_texts(header, header).await.unwrap().0.is_equal());
    for empty in [("empty.csv", ""), ("empty.jsonl", "")] {
        let error = diff_texts(rows, empty).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: the export is empty", empty.0)), "{error}");
    }
}

#[tokio::test]
async fn first_export_is_all_inserts() {
    let options = options();
    let file = || export_file("a.csv", b"id,b\n2,x\n1,\n", (&["id"], &options));
    let (summary, changes) = diff(None, file(), (1 << 20, 2)).await.unwrap();
    assert_eq!(operations(&changes), [("c", "1"), ("c", "2")]);
    assert!(summary.old.is_none() && summary.schema_changes == SchemaChanges::default() && !summary.is_equal());
    let twice = export_file("a.csv", b"id,b\n2,x\n1,\n2,y\n", (&["id"], &options));
    assert!(diff(None, twice, (1 << 20, 2)).await.is_err());
}

#[tokio::test]
async fn column_of_one_export_is_a_schema_change_and_no_update() {
    let (old, new) = (("old.csv", "id,a,gone\n1,x,1\n2,y,2\n"), ("new.csv", "id,more,A\n1,7,x\n2,8,z\n3,9,w\n"));
    let (summary, changes) = diff_texts(old, new).await.unwrap();
    assert_eq!(operations(&changes), [("u", "2"), ("c", "3")]);
    assert_eq!((&changes[0]["before"]["gone"], &changes[0]["after"]["more"]), (&json!("2"), &json!("8")));
    assert_eq!(changes[1]["after"], json!({"id": "3", "more": "9", "A": "w"}));
    let SchemaChanges { added, removed } = &summary.schema_changes;
    assert_eq!((added.as_slice(), removed.as_slice()), (&["more".to_owned()][..], &["gone".to_owned()][..]));
    let (summary, changes) = diff_texts(("a.csv", "id,a\n1,x\n"), ("b.csv", "id,a,b\n1,x,\n")).await.unwrap();
    assert!(changes.is_empty() && !summary.is_equal());
}

#[tokio::test]
async fn repeated_and_missing_keys_are_errors_with_their_record() {
    let good = ("good.csv", "id,b\n1,x\n");
    let twice = ("twice.csv", "id,b\n7,x\n1,y\n7,z\n");
    for (old, new) in [(good, twice), (twice, good)] {
        let error = diff_texts(old, new).await.unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::FileBroken, Some("id")));
        assert_eq!(error.position().unwrap().record, 3);
        let text = error.to_string();
        assert!(text.starts_with("twice.csv: record 1 has the same key; EXPORT_KEY"), "{text}");
    }
    let null = ("null.csv", "b,id\nx,1\ny,\n");
    let error = diff_texts(good, null).await.unwrap_err();
    assert_eq!((error.position().unwrap().record, error.column()), (2, Some("id")));
    assert!(error.to_string().starts_with("null.csv: a column of the key is NULL; EXPORT_KEY"), "{error}");
    let empty = ("empty.csv", "id,b\n\"\",x\n");
    assert_eq!(operations(&diff_texts(good, empty).await.unwrap().1), [("c", ""), ("d", "1")]);
    let missing = diff_texts(good, ("missing.csv", "b,c\nx,1\n")).await.unwrap_err();
    assert_eq!((missing.column(), missing.kind()), (Some("id"), ErrorKind::FileBroken));
    assert!(diff_texts(good, ("missing.jsonl", "{\"b\":1}\n{\"id\":1}\n")).await.is_err());
}

#[tokio::test]
async fn bad_record_is_an_error_whatever_max_rejects_is() {
    let error = diff_texts(("a.csv", "id,b\n1,x\n"), ("b.csv", "id,b\n1,x\n2\n")).await.unwrap_err();
    assert_eq!((error.kind(), error.position().unwrap().record), (ErrorKind::FileBroken, 2));
}

#[tokio::test]
async fn one_key_in_every_row_is_an_error_and_no_endless_division() {
    let rows: String = (0..5000).map(|number| format!("same,{number}\n")).collect();
    let options = options();
    let file = |text: &str| export_file("a.csv", text.as_bytes(), (&["id"], &options));
    let error = diff(Some(file("id,b\n")), file(&format!("id,b\n{rows}")), (4096, 2)).await.unwrap_err();
    assert!(error.message().contains("has the same key"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_not_text_are_written_in_hex() {
    let columns = columns::ExportColumns { names: vec!["k".to_owned(), "v".to_owned()], key: vec![0] };
    let mut values = Vec::new();
    record::push_value(&mut values, Some(b"\xff\x00"));
    let stored = sort::StoredChange::new(b"\"", None, Some(&values));
    let common = columns::CommonColumns::of(&columns, &columns);
    let columns = ComparedColumns { old: columns.clone(), new: columns, common };
    let mut line = Vec::new();
    Change::new(1, stored, &columns).write_line(&mut line);
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["after"], json!({"k": "\"", "v": {"hex": "ff00"}}));
}

/// The rows of an export: the parts of the key, then the other values.
type Rows = BTreeMap<Vec<String>, Vec<Option<String>>>;

const KEYS: [&str; 2] = ["k1", "k2"];
const VALUES: [&str; 3] = ["v1", "v2", "v3"];

/// How a test writes an export.
#[derive(Debug, Clone)]
struct Written {
    form: u8,
    delimiter: u8,
    is_crlf: bool,
    quotes_all: bool,
    compression: u8,
    seed: u64,
}

fn text() -> impl Strategy<Value = String> {
    let parts =
        prop::sample::select(vec!["a", "b", "\"", ",", ";", "\n", "\r\n", "é", "1", "0.50", " x", "\u{1}", "NULL"]);
    prop::collection::vec(parts, 0..4).prop_map(|parts| parts.concat())
}

fn row() -> impl Strategy<Value = Vec<Option<String>>> {
    prop::collection::vec(prop::option::weighted(0.8, text()), VALUES.len())
}

fn key() -> impl Strategy<Value = Vec<String>> {
    let small = (0_u8..60).prop_map(|number| number.to_string());
    prop::collection::vec(prop_oneof![3 => small, 1 => text()], KEYS.len())
}

fn written() -> impl Strategy<Value = Written> {
    (0_u8..3, prop::sample::select(vec![b',', b';', b'\t']), any::<bool>(), any::<bool>(), 0_u8..3, any::<u64>())
        .prop_map(|(form, delimiter, is_crlf, quotes_all, compression, seed)| Written {
            form,
            delimiter,
            is_crlf,
            quotes_all,
            compression,
            seed,
        })
}

impl Written {
    /// The name of the file, its bytes, and the options that it is read with. Rows and columns are in any order.
    fn file(&self, rows: &Rows) -> (String, Vec<u8>, ReadOptions) {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut order: Vec<&Vec<String>> = rows.keys().collect();
        random.shuffle(&mut order);
        let mut columns: Vec<usize> = (0..KEYS.len() + VALUES.len()).collect();
        random.shuffle(&mut columns);
        let field = |key: &Vec<String>, column: usize| match column.checked_sub(KEYS.len()) {
            None => Some(key[column].clone()),
            Some(value) => rows[key][value].clone(),
        };
        // JSON without records has no columns.
        let is_json = self.form == 2 && !rows.is_empty();
        let mut text = String::new();
        if !is_json {
            let names: Vec<&str> = columns.iter().map(|column| name(*column)).collect();
            self.write_record(names.iter().map(|name| Some((*name).to_owned())), &mut text);
        }
        for (index, key) in order.iter().enumerate() {
            let fields = columns.iter().map(|column| (*column, field(key, *column)));
            if is_json {
                // A missing member is NULL, but the first row has every column.
                let kept = fields.filter(|(_, field)| index == 0 || field.is_some() || random.bool());
                let object: Map<String, Value> =
                    kept.map(|(column, field)| (name(column).to_owned(), json!(field))).collect();
                text += &format!("{}\n", Value::Object(object));
            } else {
                self.write_record(fields.map(|(_, field)| field), &mut text);
            }
        }
        let csv = CsvDialect { delimiter: Some(self.delimiter), escape: Some(b'"'), ..CsvDialect::default() };
        let (name, bytes) = self.compressed(if is_json { "a.jsonl" } else { "a.csv" }, text.into_bytes());
        (name, bytes, ReadOptions { csv, ..options() })
    }

    fn write_record(&self, fields: impl Iterator<Item = Option<String>>, out: &mut String) {
        let fields = fields.map(|field| match field {
            None => String::new(),
            Some(text) if self.quotes_all || text.is_empty() || text.contains(|c: char| !c.is_alphanumeric()) => {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            Some(text) => text,
        });
        *out += &fields.collect::<Vec<_>>().join(&char::from(self.delimiter).to_string());
        *out += if self.is_crlf { "\r\n" } else { "\n" };
    }

    fn compressed(&self, name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
        let (ending, mut compressor) = match self.compression {
            0 => ("", Compressor::none()),
            1 => (".gz", Compressor::gzip()),
            _ => (".zst", Compressor::zstd()),
        };
        let mut out = Vec::new();
        compressor.push(&bytes, &mut out).unwrap();
        compressor.finish(&mut out).unwrap();
        (format!("{name}{ending}"), out)
    }
}

fn name(column: usize) -> &'static str {
    KEYS.iter().chain(&VALUES).nth(column).unwrap()
}

fn object(key: &[String], values: Option<&Vec<Option<String>>>) -> Value {
    let Some(values) = values else { return Value::Null };
    let key = key.iter().cloned().map(Some);
    Value::Object(
        key.chain(values.clone()).enumerate().map(|(column, field)| (name(column).to_owned(), json!(field))).collect(),
    )
}

/// The changes that two maps have, in the order of their keys.
fn expected(old: &Rows, new: &Rows) -> Vec<Value> {
    let keys: std::collections::BTreeSet<&Vec<String>> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed
        .enumerate()
        .map(|(index, key)| {
            let (before, after) = (old.get(key), new.get(key));
            let op = match (before, after) {
                (None, _) => "c",
                (_, None) => "d",
                (Some(_), Some(_)) => "u",
            };
            let key_object = json!({"k1": key[0], "k2": key[1]});
            json!({"op": op, "key": key_object, "before": object(key, before), "after": object(key, after), "seq": index + 1})
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changes_are_those_of_two_maps(
        common in prop::collection::btree_map(key(), row(), 0..120),
        only_old in prop::collection::btree_map(key(), row(), 0..40),
        only_new in prop::collection::btree_map(key(), row(), 0..40),
        written in (written(), written()),
        memory in prop::sample::select(vec![2048_u64, 10_000, 1 << 20]),
        partitions in 1_usize..5,
    ) {
        let with = |more: Rows| common.clone().into_iter().chain(more).collect::<Rows>();
        let (old, new) = (with(only_old), with(only_new));
        let (old_file, new_file) = (written.0.file(&old), written.1.file(&new));
        let file = |(name, bytes, options): &(String, Vec<u8>, ReadOptions)| export_file(name, bytes, (&KEYS, options));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let diff = diff(Some(file(&old_file)), file(&new_file), (memory, partitions));
        let (summary, changes) = runtime.block_on(diff).unwrap();
        let expected = expected(&old, &new);
        prop_assert_eq!(summary.counts.changes(), expected.len() as u64);
        prop_assert_eq!(summary.counts.unchanged as usize, old.iter().filter(|(key, row)| new.get(*key) == Some(row)).count());
        prop_assert_eq!((summary.old.unwrap().rows, summary.new.rows), (old.len() as u64, new.len() as u64));
        prop_assert_eq!(changes, expected);
    }
}
