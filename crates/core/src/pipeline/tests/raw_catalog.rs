//! `CATALOG_RAW`: files that stay in place are registered in Glue before they are loaded, and a failure of the catalog does not stop a load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;
use serde_json::{Value, json};

use super::{Fixture, Reading, Step};
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::pattern::TablePatterns;
use crate::pipeline::{AfterLoad, TableRules, Tables};
use crate::report::{Outcome, Report};
use crate::route::TableRoutes;
use spillway_formats::reject::RejectLimit;

const PART: &str = "uploads/orders/year=2026/day=07/orders_1.csv";
const ROWS: &str = "id,note\n1,one\n2,two\n";

fn fixture(reading: Reading) -> Fixture {
    let mut fixture = Fixture::new(reading);
    fixture.aws.delete(super::KEY);
    fixture.settings.after_load = AfterLoad::Keep;
    fixture.settings.catalog_raw = true;
    let patterns = TablePatterns::parse("uploads/{table}/year={year}/day={day}/**, uploads/{table}/**").unwrap();
    fixture.settings.database.tables = Tables::fixed(TableRules::of_routes(TableRoutes { patterns, default: None }));
    fixture
}

async fn load(fixture: &Fixture, key: &str, body: &str) -> Report {
    fixture.aws.put(key, body);
    let report = fixture.process_key(key).await.unwrap();
    assert_eq!(report.outcome, Outcome::Loaded, "{report:?}");
    report
}

fn columns(table: &Value) -> Vec<String> {
    let columns = table["StorageDescriptor"]["Columns"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    columns.iter().map(|column| format!("{} {}", text(&column["Name"]), text(&column["Type"]))).collect()
}

#[rstest]
#[tokio::test]
async fn folder_is_a_partition_of_the_table(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let fixture = fixture(reading);
    let report = load(&fixture, PART, ROWS).await;
    assert_eq!(
        (report.catalog.as_deref(), report.catalog_problem, report.needs_attention),
        (Some("raw.orders"), None, false)
    );
    let table = fixture.aws.glue_table("orders").unwrap();
    assert_eq!(table["StorageDescriptor"]["Location"], "s3://bucket/uploads/orders/");
    assert_eq!(columns(&table), ["id string", "note string"]);
    let keys: Vec<&str> =
        table["PartitionKeys"].as_array().unwrap().iter().filter_map(|key| key["Name"].as_str()).collect();
    assert_eq!(keys, ["year", "day"]);
    let serde = &table["StorageDescriptor"]["SerdeInfo"];
    assert_eq!(serde["SerializationLibrary"], "org.apache.hadoop.hive.serde2.OpenCSVSerde");
    assert_eq!(serde["Parameters"], json!({"separatorChar": ",", "quoteChar": "\"", "escapeChar": "\\"}));
    assert_eq!(table["Parameters"]["skip.header.line.count"], "1");
    assert_eq!(table["Parameters"]["spillway"], "raw");

    // A second part of the folder changes nothing.
    load(&fixture, "uploads/orders/year=2026/day=07/orders_2.csv", "id,note\n3,three\n").await;
    load(&fixture, "uploads/orders/year=2026/day=08/orders_1.csv", "id,note\n4,four\n").await;
    let folders = fixture.aws.partition_folders();
    let expected = ["07", "08"].map(|day| (format!("s3://bucket/uploads/orders/year=2026/day={day}/"), 2));
    assert_eq!(folders, expected);
}

#[tokio::test]
async fn columns_are_only_added() {
    let fixture = fixture(Reading::Buffered);
    load(&fixture, PART, ROWS).await;
    load(&fixture, "uploads/orders/year=2026/day=07/orders_2.csv", "id,note,new\n3,three,x\n").await;
    let fewer = load(&fixture, "uploads/orders/year=2026/day=07/orders_3.csv", "id\n4\n").await;
    assert_eq!(fewer.catalog_problem, None);
    let table = fixture.aws.glue_table("orders").unwrap();
    assert_eq!(columns(&table), ["id string", "note string", "new string"]);
    assert_eq!(fixture.aws.partition_folders()[0].1, 3);
}

#[tokio::test]
async fn json_has_types_and_keys() {
    let fixture = fixture(Reading::SinglePass);
    let key = "uploads/events/year=2026/day=07/1.jsonl";
    let body = "{\"Id\": 1, \"price\": 1.50, \"ok\": true, \"at\": \"2026-01-01\", \"a,b\": [1], \"year\": \"x\"}\n{\"Id\": 2}\n";
    assert_eq!(load(&fixture, key, body).await.catalog.as_deref(), Some("raw.events"));
    let table = fixture.aws.glue_table("events").unwrap();
    let expected = ["id bigint", "price decimal(18,2)", "ok boolean", "at string", "a_b string", "year__column string"];
    assert_eq!(columns(&table), expected);
    let serde = &table["StorageDescriptor"]["SerdeInfo"];
    assert_eq!(serde["SerializationLibrary"], "org.openx.data.jsonserde.JsonSerDe");
    let parameters = json!({"ignore.malformed.json": "false", "mapping.a_b": "a,b", "mapping.year__column": "year"});
    assert_eq!(serde["Parameters"], parameters);

    let other = load(&fixture, "uploads/events/year=2026/day=08/2.jsonl", "{\"Id\": \"text\"}\n").await;
    let why = "Athena cannot read the file in place: its column id is string, and that of the table is bigint";
    assert_eq!((other.catalog, other.catalog_problem.as_deref()), (None, Some(why)));
    assert_eq!(fixture.aws.partitions(), 1);
}

/// The load is as it would be without the catalog.
#[rstest]
#[case::line_end("id,note\n1,\"two\nlines\"\n", "lines")]
#[case::last_line_end("id,note\n1,\"two\nlines\"", "lines")]
#[case::empty_line("id,note\n\n1,x\n", "lines")]
#[case::backslash("id,note\n1,a\\b\n", "backslash")]
#[case::carriage_return("id,note\n1,\"a\rb\"\n", "carriage return")]
#[case::two_carriage_returns("id,note\r\r\n1,x\r\r\n", "lines")]
#[case::detected_escape("id,note\n1,\"a \\\"b\\\" c\"\n2,a\\b\n", "backslash")]
#[tokio::test]
async fn file_that_athena_reads_wrong_is_loaded(
    #[case] body: &str,
    #[case] reason: &str,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = fixture(reading);
    let report = load(&fixture, PART, body).await;
    let problem = report.catalog_problem.unwrap();
    assert!(problem.starts_with("Athena cannot read the file in place: ") && problem.contains(reason), "{problem}");
    assert_eq!((report.catalog, report.needs_attention), (None, false));
    assert_eq!((fixture.aws.glue_table("orders"), fixture.aws.partitions()), (None, 0));
}

/// With a header, Athena skips the mark together with the header.
#[rstest]
#[case(true, None)]
#[case(false, Some("byte order mark"))]
#[tokio::test]
async fn byte_order_mark_is_a_part_of_the_first_value(#[case] has_header: bool, #[case] reason: Option<&str>) {
    let mut fixture = fixture(Reading::Buffered);
    fixture.settings.files.csv.has_header = has_header;
    let report = load(&fixture, PART, &format!("\u{feff}{ROWS}")).await;
    let problem = report.catalog_problem;
    assert!(
        reason.map_or(problem.is_none(), |reason| problem.as_deref().is_some_and(|why| why.contains(reason))),
        "{problem:?}"
    );
}

#[rstest]
#[case::delimiter("uploads/orders/year=2026/day=08/a.csv", "id;note\n3;x\n", "its delimiter is \";\"")]
#[case::json(
    "uploads/orders/year=2026/day=08/a.jsonl",
    "{\"id\": 3, \"note\": \"x\"}\n",
    "it is JSON, and the table reads CSV"
)]
#[case::order("uploads/orders/year=2026/day=08/a.csv", "note,id\nx,3\n", "its column 1 is note")]
#[case::comment(
    "uploads/orders/year=2026/day=08/a.csv",
    "# made today\nid,note\n3,x\n",
    "it has 2 lines above its data"
)]
#[case::folders("uploads/orders/a.csv", "id,note\n3,x\n", "the partition keys []")]
#[tokio::test]
async fn file_that_differs_from_its_table_is_loaded(#[case] key: &str, #[case] body: &str, #[case] reason: &str) {
    let fixture = fixture(Reading::Buffered);
    load(&fixture, PART, ROWS).await;
    let before = fixture.aws.glue_table("orders");
    let report = load(&fixture, key, body).await;
    assert!(report.catalog_problem.as_deref().unwrap_or_default().contains(reason), "{report:?}");
    assert!(!report.needs_attention);
    assert_eq!((fixture.aws.glue_table("orders"), fixture.aws.partitions()), (before, 1));
}

/// Glue is down: the rows are loaded, and a sweep or a sync registers the folder.
#[rstest]
#[case::table_unreadable("GetTable")]
#[case::database_not_created("GetDatabase")]
#[case::table_not_created("CreateTable")]
#[case::partition_not_created("CreatePartition")]
#[tokio::test]
async fn folder_is_registered_later(
    #[case] operation: &'static str,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values("sweep", "sync")] request: &str,
) {
    let fixture = fixture(reading);
    fixture.aws.fail(operation, "");
    for part in [PART, "uploads/orders/year=2026/day=07/orders_2.csv"] {
        let report = load(&fixture, part, &ROWS.replace("one", part)).await;
        assert!(report.needs_attention && report.catalog.is_none(), "{report:?}");
        assert!(report.catalog_problem.is_some_and(|why| why.contains("tries again")));
    }
    // Both files are in one folder.
    assert_eq!(fixture.objects(), "registration upload upload");
    fixture.run(&json!({ request: {} })).await;
    assert_eq!(fixture.objects(), "registration upload upload");
    fixture.aws.heal();
    fixture.run(&json!({ request: {} })).await;
    assert_eq!((fixture.objects().as_str(), fixture.aws.partitions()), ("upload upload", 1));
    assert_eq!(fixture.database.rows().len(), 4);
}

/// A table or a folder has a fixed number of notes, however many files are loaded while Glue is down.
#[tokio::test]
async fn files_with_the_same_columns_share_a_note() {
    let fixture = fixture(Reading::Buffered);
    fixture.aws.fail("GetTable", "");
    for (number, value) in ["1", "1234567", "1234567890123"].into_iter().enumerate() {
        let key = format!("uploads/events/year=2026/day=07/{number}.jsonl");
        load(&fixture, &key, &format!("{{\"id\": {value}}}\n")).await;
    }
    assert_eq!(fixture.objects(), "registration upload upload upload");
}

/// After one failure, files do not wait for Glue. They are noted at once.
#[tokio::test]
async fn outage_of_glue_is_remembered() {
    let fixture = fixture(Reading::Buffered);
    let context = fixture.context();
    fixture.aws.fail("GetTable", "");
    fixture.aws.put(PART, ROWS);
    assert!(fixture.process_in(&context, PART).await.unwrap().needs_attention);
    fixture.aws.heal();
    let next = "uploads/orders/year=2026/day=08/orders_1.csv";
    fixture.aws.put(next, "id,note\n3,three\n");
    let report = fixture.process_in(&context, next).await.unwrap();
    assert!(report.catalog_problem.is_some_and(|why| why.contains("less than a minute ago")));
    assert_eq!((fixture.objects().as_str(), fixture.aws.partitions()), ("registration registration upload upload", 0));
    fixture.run(&json!({ "sweep": {} })).await;
    assert_eq!((fixture.objects().as_str(), fixture.aws.partitions()), ("upload upload", 2));
}

/// An outage ends the registrations of a request. A table that Glue refuses does not.
#[rstest]
#[case::outage(500, "InternalError", 1)]
#[case::forbidden(400, "AccessDeniedException", 2)]
#[tokio::test]
async fn noted_registrations_end_with_an_outage(#[case] status: u16, #[case] code: &'static str, #[case] tried: usize) {
    let fixture = fixture(Reading::Buffered);
    fixture.aws.fail("GetTable", "");
    for table in ["a", "b"] {
        load(&fixture, &format!("uploads/{table}/x.csv"), ROWS).await;
    }
    fixture.aws.heal();
    fixture.aws.fail_with("GetTable", "", status, code);
    let requests = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let requests = requests.clone();
        let count = move || {
            requests.fetch_add(1, Ordering::Relaxed);
        };
        fixture.aws.before("GetTable", "", 0, count);
    }
    fixture.run(&json!({ "sweep": {} })).await;
    assert_eq!(requests.load(Ordering::Relaxed), tried);
    assert_eq!(fixture.objects(), "registration registration upload upload");
}

/// Another worker extends the table and the partition while this one writes the partition with fewer columns.
#[tokio::test]
async fn partition_gets_the_columns_of_every_worker() {
    let fixture = fixture(Reading::Buffered);
    load(&fixture, PART, ROWS).await;
    let aws = fixture.aws.clone();
    fixture.aws.before("BatchUpdatePartition", "", 0, move || {
        let mut table = aws.glue_table("orders").unwrap();
        let columns = table["StorageDescriptor"]["Columns"].as_array_mut().unwrap();
        columns.push(json!({"Name": "other", "Type": "string"}));
        aws.put_glue_table("orders", table);
    });
    load(&fixture, "uploads/orders/year=2026/day=07/orders_2.csv", "id,note,new\n3,three,x\n").await;
    assert_eq!(fixture.aws.partition_folders()[0].1, 4);
}

/// A query of Athena would fail at such a record.
#[rstest]
#[case::nan("{\"id\": 1, \"x\": NaN}\n", "NaN")]
#[case::infinity("{\"id\": 1, \"x\": -Infinity}\n", "Infinity")]
#[case::rejected("{\"id\": 1}\n{\"id\": }\n", "rejected records")]
#[tokio::test]
async fn json_that_athena_cannot_parse_is_not_registered(#[case] body: &str, #[case] reason: &str) {
    let mut fixture = fixture(Reading::Buffered);
    fixture.settings.files.limits.rejects = RejectLimit::Count(1);
    let report = load(&fixture, "uploads/events/year=2026/day=07/1.jsonl", body).await;
    assert!(report.catalog_problem.as_deref().is_some_and(|why| why.contains(reason)), "{report:?}");
    assert_eq!(fixture.aws.partitions(), 0);
}

/// One column has one key in all files of a table.
#[tokio::test]
async fn json_key_that_differs_from_its_column_is_refused() {
    let fixture = fixture(Reading::Buffered);
    load(&fixture, "uploads/events/year=2026/day=07/1.jsonl", "{\"a,b\": 1}\n").await;
    let other = load(&fixture, "uploads/events/year=2026/day=08/2.jsonl", "{\"a_b\": 1}\n").await;
    assert!(other.catalog_problem.is_some_and(|why| why.contains("has another key")));
    assert_eq!(fixture.aws.partitions(), 1);
}

#[tokio::test]
async fn table_of_another_program_is_not_changed() {
    let fixture = fixture(Reading::Buffered);
    let other =
        json!({"Name": "orders", "StorageDescriptor": {"Columns": [], "Location": "s3://bucket/uploads/orders/"}});
    fixture.aws.put_glue_table("orders", other.clone());
    let report = load(&fixture, PART, ROWS).await;
    assert!(report.needs_attention && report.catalog_problem.unwrap().contains("does not change it"));
    assert_eq!((fixture.aws.glue_table("orders"), fixture.aws.partitions()), (Some(other), 0));
    assert_eq!(fixture.objects(), "registration upload");
}

#[tokio::test]
async fn partition_does_not_move_to_another_folder() {
    let mut fixture = fixture(Reading::Buffered);
    let patterns = TablePatterns::parse("uploads/a/dt={dt}/** => orders, uploads/b/dt={dt}/** => orders").unwrap();
    fixture.settings.database.tables = Tables::fixed(TableRules::of_routes(TableRoutes { patterns, default: None }));
    load(&fixture, "uploads/a/dt=1/x.csv", ROWS).await;
    // Another value is another partition, wherever its folder is.
    let elsewhere = load(&fixture, "uploads/b/dt=2/x.csv", "id,note\n3,x\n").await;
    assert_eq!(elsewhere.catalog.as_deref(), Some("raw.orders"));
    let same = load(&fixture, "uploads/b/dt=1/x.csv", "id,note\n4,x\n").await;
    assert!(same.catalog_problem.is_some_and(|why| why.contains("is already at \"s3://bucket/uploads/a/dt=1/\"")));
    let folders: Vec<String> = fixture.aws.partition_folders().into_iter().map(|(folder, _)| folder).collect();
    assert_eq!(folders, ["s3://bucket/uploads/a/dt=1/", "s3://bucket/uploads/b/dt=2/"]);
}

/// Without the note, the folder would be forgotten after COMMIT.
#[rstest]
#[tokio::test]
async fn file_waits_if_its_registration_cannot_be_noted(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = fixture(reading);
    fixture.aws.fail("GetTable", "");
    fixture.aws.fail("PutObject", "fallback/_registrations/");
    fixture.aws.put(PART, ROWS);
    assert_eq!(fixture.process_key(PART).await.unwrap_err().kind(), ErrorKind::Service);
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("upload", 0));
    fixture.aws.heal();
    assert_eq!(fixture.process_key(PART).await.unwrap().catalog.as_deref(), Some("raw.orders"));
    assert_eq!(fixture.database.rows(), ["1,one", "2,two"]);
}

/// The registration comes before the ledger row, so an attempt that was not committed is repeated with it.
#[tokio::test]
async fn attempt_after_a_failed_load_registers_again() {
    let fixture = fixture(Reading::Buffered);
    fixture.aws.put(PART, ROWS);
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    fixture.process_key(PART).await.unwrap_err();
    assert_eq!((fixture.aws.partitions(), fixture.ledger_state()), (1, None));
    fixture.database.heal();
    assert_eq!(fixture.process_key(PART).await.unwrap().catalog.as_deref(), Some("raw.orders"));
    assert_eq!((fixture.aws.partitions(), fixture.ledger_state()), (1, Some(LedgerState::Loaded)));
}

#[rstest]
#[case::off(AfterLoad::Keep, false)]
#[case::moved(AfterLoad::Move, true)]
#[tokio::test]
async fn without_catalog_nothing_of_it_is_requested(#[case] after_load: AfterLoad, #[case] catalog_raw: bool) {
    let mut fixture = fixture(Reading::Buffered);
    (fixture.settings.after_load, fixture.settings.catalog_raw) = (after_load, catalog_raw);
    fixture.aws.fail("GetTable", "");
    fixture.aws.fail("PutObject", "fallback/");
    let report = load(&fixture, PART, ROWS).await;
    assert_eq!((report.catalog, report.catalog_problem), (None, None));
}
