//! Every statement that can be sent to Redshift. `scripts/check-redshift-sql` parses the snapshot with Redshift's grammar.

use super::super::column::{columns_query, new_columns};
use super::super::ledger::RedshiftDialect;
use super::super::literal::bind;
use super::*;
use crate::ledger::{SqlLedger, Value};
use crate::object::{ObjectRef, ObjectVersion};
use spillway_formats::Batch;
use spillway_formats::schema::Schema;
use spillway_formats::schema::infer::Inference;

fn source() -> ObjectVersion {
    let time = "2026-11-30T12:00:00Z".parse().unwrap();
    let object =
        ObjectRef { version_id: Some("v1".to_owned()), ..ObjectRef::new("bucket", "uploads/it's \\ here.csv") };
    ObjectVersion::new(object, "\"etag\"".into(), 100, time, None)
}

/// A file with a column of each type.
fn schema() -> Schema {
    let names = ["Flag", "whole", "price", "number", "day", "moment", "at_instant", "document", "note \"n\""];
    let fields = ["true", "1", "1.25", "1e300", "2024-02-29", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z", "{}", "x"];
    let mut batch = Batch::new(names.len());
    fields.iter().for_each(|field| batch.push_field(Some(field.as_bytes())));
    batch.end_row(Default::default());
    let mut inference = Inference::new(names.map(str::to_owned).to_vec());
    inference.observe(&batch);
    inference.finish()
}

fn row(state: LedgerState) -> LedgerRow<'static> {
    LedgerRow {
        state,
        attempt: 2,
        rows_parsed: 11,
        rows_stored: 10,
        rows_rejected: 1,
        load_mode: Some("append"),
        reason: Some("it's full"),
        table_changes: None,
    }
}

/// Returns each statement after the heading of its transaction.
pub(crate) fn statements() -> String {
    let (tables, source, table) =
        (LedgerTables::new("spillway_ledger"), source(), TableName::in_schema("Sales", "orders"));
    let claim = Claim {
        source: &source,
        table: &table,
        worker: "worker",
        started_at: source.last_modified,
        body_sha256: Some("b0d1"),
        content_id: Some("c0"),
    };
    let columns = new_columns(&schema().columns).unwrap();
    let keys = RedshiftKeys { distribution: Some("whole".into()), sort: vec!["day".into(), "whole".into()] };
    let create = create_table(&table, &columns, &keys);
    let id = "0123456789abcdef0123456789abcdef";
    let copied = |role| Copied { bucket: "bucket", manifest_key: "copy/0/1/manifest.json", rows: 10, role };
    let load = |fence, create_table, copied| LoadStatements { fence, columns: &columns, create_table, copied };
    let plain = |statements: Statements| statements.into_iter().map(|(_, sql)| sql).collect::<Vec<_>>();
    let ledger = SqlLedger::new("spillway_ledger");
    let mut parts = vec![
        ("create the ledger", [&ledger.create_statements::<RedshiftDialect>()[..], &tables.create()[..]].concat()),
        (
            "read the ledger before a load",
            vec![
                bind(&ledger.entry_query::<RedshiftDialect>(), &[Value::from(id)]),
                tables.fence_query(id),
                tables.attempt_query(id),
                columns_query(&table),
                columns_query(&"orders".into()),
            ],
        ),
        (
            "load into a new table",
            plain(tables.load(&claim, &load(None, Some(&create), Some(copied("default"))), &row(LedgerState::Loaded))),
        ),
        (
            "load into an existing table, after a fence",
            plain(tables.load(
                &claim,
                &load(Some("f1"), None, Some(copied("arn:aws:iam::123456789012:role/copy"))),
                &row(LedgerState::Loaded),
            )),
        ),
        ("load a file without rows", plain(tables.load(&claim, &load(None, None, None), &row(LedgerState::Loaded)))),
        ("look up a source", plain(tables.fence_off(id, "f2"))),
        ("record an outcome", plain(tables.outcome(&claim, &row(LedgerState::FellBack)))),
        ("create a table without keys", vec![create_table(&"orders".into(), &columns, &RedshiftKeys::default())]),
    ];
    let templates = ledger.templates::<RedshiftDialect>();
    let params = [Value::Text(Some("text")); 20];
    parts.push(("read and write the ledger", templates.iter().map(|sql| bind(sql, &params)).collect()));
    let mut text = String::new();
    for (heading, sqls) in parts {
        text += &format!("-- {heading}\n");
        sqls.iter().for_each(|sql| text += &format!("{sql};\n"));
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

#[test]
fn transaction_of_a_load_begins_with_lock_and_guards() {
    let (tables, source, table) = (LedgerTables::new("ledger"), source(), TableName::from("orders"));
    let claim = Claim {
        source: &source,
        table: &table,
        worker: "worker",
        started_at: source.last_modified,
        body_sha256: None,
        content_id: None,
    };
    let columns = new_columns(&schema().columns).unwrap();
    let copied = Copied { bucket: "bucket", manifest_key: "m", rows: 1, role: "default" };
    let load = LoadStatements { fence: None, columns: &columns, create_table: None, copied: Some(copied) };
    let steps: Vec<Step> =
        tables.load(&claim, &load, &row(LedgerState::Loaded)).into_iter().map(|(step, _)| step).collect();
    let expected = [
        Step::Lock,
        Step::GuardSource,
        Step::GuardFence,
        Step::Stage,
        Step::Copy,
        Step::GuardCount,
        Step::Insert,
        Step::Stage,
        Step::Ledger,
        Step::Ledger,
        Step::Ledger,
    ];
    assert_eq!(steps, expected);
}

#[test]
fn key_applies_to_tables_with_its_columns() {
    let columns = new_columns(&schema().columns).unwrap();
    let keys = |distribution: &str, sort: &[&str]| RedshiftKeys {
        distribution: Some(distribution.to_owned()),
        sort: sort.iter().map(|name| (*name).to_owned()).collect(),
    };
    let sql = |keys| create_table(&"t".into(), &columns, &keys);
    assert!(sql(keys("WHOLE", &["day"])).ends_with("DISTSTYLE KEY DISTKEY (\"whole\") SORTKEY (\"day\")"));
    assert!(!sql(keys("other", &["day", "other"])).contains("KEY"));
}
