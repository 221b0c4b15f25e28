//! Every statement that can be sent to Redshift. `scripts/check-redshift-sql` parses the snapshot with Redshift's grammar.

use super::super::column::{Storage, columns_query, new_columns};
use super::super::key::primary_key_query;
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
        current_of: None,
    }
}

/// The columns of a new table, the first two of which are the merge key, and a column of text that is filled with spaces.
fn merged_columns() -> Vec<TableColumn> {
    let columns = schema().columns;
    let key = [&columns[1], &columns[8]];
    let mut columns = new_columns(&columns, &key).unwrap();
    let padded = Storage::Characters { max: Some(3), trims_spaces: true };
    columns.push(TableColumn::nullable("code", "character(3)", padded));
    columns
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
    let (columns, merged) = (new_columns(&schema().columns, &[]).unwrap(), merged_columns());
    let keys = RedshiftKeys { distribution: Some("whole".into()), sort: vec!["day".into(), "whole".into()] };
    let create = create_table(&table, &columns, &keys);
    let id = "0123456789abcdef0123456789abcdef";
    let copied = |role| Copied { bucket: "bucket", manifest_key: "copy/0/1/manifest.json", rows: 10, role };
    let load = |fence, create_table, copied| LoadStatements {
        fence,
        change: TableChange::Append,
        columns: &columns,
        create_table,
        copied,
    };
    let replace = |current, copied| LoadStatements {
        change: TableChange::Replace { current_of: "sales.orders", current },
        ..load(None, None, copied)
    };
    let merge = |columns, create_table| LoadStatements {
        change: TableChange::Merge { sequence: "spillway_sequence" },
        columns,
        ..load(None, create_table, Some(copied("default")))
    };
    let create_merged = create_table(&table, &merged, &keys);
    let replaced =
        LedgerRow { current_of: Some("sales.orders"), load_mode: Some("replace"), ..row(LedgerState::Loaded) };
    let by_key = LedgerRow { load_mode: Some("merge"), ..row(LedgerState::Loaded) };
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
                primary_key_query(&table),
                bind(&ledger.current_query::<RedshiftDialect>(), &[Value::from("sales.orders")]),
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
        ("replace a table", plain(tables.load(&claim, &replace(None, Some(copied("default"))), &replaced))),
        ("replace a table by a file without rows", plain(tables.load(&claim, &replace(Some(id), None), &replaced))),
        ("merge into a new table", plain(tables.load(&claim, &merge(&merged, Some(&create_merged)), &by_key))),
        ("merge a file that has only the key", plain(tables.load(&claim, &merge(&merged[1..2], None), &by_key))),
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
    let columns = merged_columns();
    let copied = Copied { bucket: "bucket", manifest_key: "m", rows: 1, role: "default" };
    let steps = |change| -> Vec<Step> {
        let load = LoadStatements { fence: None, change, columns: &columns, create_table: None, copied: Some(copied) };
        tables.load(&claim, &load, &row(LedgerState::Loaded)).into_iter().map(|(step, _)| step).collect()
    };
    let [begin, end] =
        [&[Step::Lock, Step::GuardSource, Step::GuardFence][..], &[Step::Stage, Step::Copy, Step::GuardCount]];
    let ledger = [Step::Ledger, Step::Ledger];
    let append = [begin, end, &[Step::Insert], &ledger, &[Step::Stage, Step::Ledger]].concat();
    assert_eq!(steps(TableChange::Append), append);
    let replace = [
        begin,
        &[Step::GuardTable],
        end,
        &[Step::Delete, Step::Ledger, Step::Insert],
        &ledger,
        &[Step::Stage, Step::Ledger],
    ];
    assert_eq!(steps(TableChange::Replace { current_of: "t", current: None }), replace.concat());
    let merge = [
        begin,
        end,
        &[Step::Merge, Step::Stage, Step::GuardKey, Step::Merge, Step::Insert, Step::GuardMerge],
        &ledger,
        &[Step::Stage, Step::Stage, Step::Ledger, Step::Ledger],
    ];
    assert_eq!(steps(TableChange::Merge { sequence: "n" }), merge.concat());
}

#[test]
fn key_applies_to_tables_with_its_columns() {
    let columns = new_columns(&schema().columns, &[]).unwrap();
    let keys = |distribution: &str, sort: &[&str]| RedshiftKeys {
        distribution: Some(distribution.to_owned()),
        sort: sort.iter().map(|name| (*name).to_owned()).collect(),
    };
    let sql = |keys| create_table(&"t".into(), &columns, &keys);
    assert!(sql(keys("WHOLE", &["day"])).ends_with("DISTSTYLE KEY DISTKEY (\"whole\") SORTKEY (\"day\")"));
    assert!(!sql(keys("other", &["day", "other"])).contains("KEY"));
}
