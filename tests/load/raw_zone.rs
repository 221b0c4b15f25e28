//! `CATALOG_RAW`: files of a raw zone stay in place, and Athena reads them there, cell by cell.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_formats::Batch;
use spillway_formats::Position;
use spillway_formats::parquet::ParquetEncoder;
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::fallback::FallbackColumn;
use spillway_test_env::athena;
use spillway_test_env::cloud::Account;
use spillway_test_env::database::{Engine, Rows};
use spillway_test_env::fallback::describe;
use spillway_test_env::fixture::RAW_DATABASE;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

use super::files::gzip;

const PATTERN: &str = "uploads/{table}/year={year}/day={day}/{file}, uploads/flat/{table}/**";

fn settings(test_env: &TestEnv) -> Settings {
    let settings = test_env.fixture.raw_zone_settings().without("RDS_TABLE").with("TABLE_PATTERN", PATTERN);
    settings.with("UNKNOWN_COLUMNS", "add")
}

/// Loads a file, and returns its report.
async fn load(test_env: &TestEnv, key: &str, body: impl Into<bytes::Bytes>) -> Result<Value> {
    let object = test_env.fixture.account.put(key, body).await?;
    let response = test_env.deliver_until_accepted(&settings(test_env), &[&object]).await?;
    let report = response.body["reports"][0].clone();
    ensure!(report["outcome"] == "loaded", "{}", response.body);
    Ok(report)
}

/// The partitions of a table with their locations, as `values location`.
async fn partitions(account: &Account, table: &str) -> Result<Vec<String>> {
    let response = account.glue.get_partitions().database_name(RAW_DATABASE).table_name(table).send().await?;
    let shown = |partition: &aws_sdk_glue::types::Partition| {
        let location = partition.storage_descriptor().and_then(|storage| storage.location()).unwrap_or_default();
        let folder = location.strip_prefix(&format!("s3://{}/", account.bucket)).unwrap_or(location);
        format!("{} {folder}", partition.values().join("/"))
    };
    let mut shown: Vec<String> = response.partitions().iter().map(shown).collect();
    shown.sort();
    Ok(shown)
}

/// The columns of a table, as `name type`.
async fn columns(account: &Account, table: &str) -> Result<Vec<String>> {
    let table = describe(account, RAW_DATABASE, table).await?.context("no table")?;
    let columns = table.storage_descriptor().map(|storage| storage.columns()).unwrap_or_default();
    Ok(columns.iter().map(|column| format!("{} {}", column.name(), column.r#type().unwrap_or_default())).collect())
}

fn rows(cells: &[&[Option<&str>]]) -> Rows {
    cells.iter().map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect()).collect()
}

/// Every column of CSV is a string, and NULL and the empty string are alike.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn csv_is_read_where_it_is(#[case] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let account = &test_env.fixture.account;
    let first = "id,note,price\n1,\"a \"\"quoted\"\" word, and more\",10.50\n2,,-0.01\n";
    let second = "id,note,price,new\n3,naïve ☂ 雨,,x\n4,NULL,1e3,\n";
    let report = load(&test_env, "uploads/orders/year=2026/day=07/a.csv", first).await?;
    assert_eq!(report["catalog"], format!("{RAW_DATABASE}.orders"));
    load(&test_env, "uploads/orders/year=2026/day=08/b.csv.gz", gzip(second.as_bytes()).await?).await?;
    let query =
        "SELECT id, COALESCE(note, ''), COALESCE(price, ''), COALESCE(\"new\", ''), year, day FROM orders ORDER BY id";
    let expected = rows(&[
        &[Some("1"), Some("a \"quoted\" word, and more"), Some("10.50"), Some(""), Some("2026"), Some("07")],
        &[Some("2"), Some(""), Some("-0.01"), Some(""), Some("2026"), Some("07")],
        &[Some("3"), Some("naïve ☂ 雨"), Some(""), Some("x"), Some("2026"), Some("08")],
        &[Some("4"), Some("NULL"), Some("1e3"), Some(""), Some("2026"), Some("08")],
    ]);
    assert_eq!(athena::query(account, RAW_DATABASE, query).await?, expected);
    let folders = ["2026/07 uploads/orders/year=2026/day=07/", "2026/08 uploads/orders/year=2026/day=08/"];
    assert_eq!(partitions(account, "orders").await?, folders);
    assert_eq!(columns(account, "orders").await?, ["id string", "note string", "price string", "new string"]);
    let keys = account.keys("uploads/").await?;
    assert_eq!(keys.len(), 2, "{keys:?}");

    // The rows that Athena would read wrong are in the database, and the folder is not registered.
    let report =
        load(&test_env, "uploads/orders/year=2026/day=09/c.csv", "id,note,price\n5,\"two\nlines\",1\n").await?;
    ensure!(report["catalog_problem"].to_string().contains("line"), "{report}");
    assert_eq!(partitions(account, "orders").await?, folders);
    let stored = test_env.rows("SELECT CONCAT(id, '') FROM {schema}.orders ORDER BY id").await?.concat();
    assert_eq!(stored, ["1", "2", "3", "4", "5"].map(|id| Some(id.to_owned())));
    Ok(())
}

#[tokio::test]
async fn json_is_read_where_it_is() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let account = &test_env.fixture.account;
    let lines = "{\"id\": 1, \"price\": 10.50, \"ok\": true, \"note\": \"two\\nlines, \\\"quoted\\\"\", \"tags\": [1, 2]}\n\
                 {\"id\": 2, \"price\": null, \"note\": \"\"}\n";
    load(&test_env, "uploads/events/year=2026/day=07/a.jsonl", lines).await?;
    assert_eq!(
        columns(account, "events").await?,
        ["id bigint", "price decimal(18,2)", "ok boolean", "note string", "tags string"]
    );
    let query = "SELECT id, CAST(price AS decimal(18,2)), ok, note, day FROM events ORDER BY id";
    let expected = rows(&[
        &[Some("1"), Some("10.50"), Some("true"), Some("two\nlines, \"quoted\""), Some("07")],
        &[Some("2"), None, None, Some(""), Some("07")],
    ]);
    assert_eq!(athena::query(account, RAW_DATABASE, query).await?, expected);
    // An array of records is loaded, but Athena reads lines.
    let report = load(&test_env, "uploads/events/year=2026/day=08/b.json", "[{\"id\": 3},\n{\"id\": 4}]\n").await?;
    ensure!(report["catalog_problem"].to_string().contains("in each line"), "{report}");
    assert_eq!(partitions(account, "events").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn parquet_is_read_where_it_is() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let account = &test_env.fixture.account;
    let types = [
        ("Id", ColumnType::Integer),
        ("note", ColumnType::Text),
        ("price", ColumnType::Decimal { precision: 12, scale: 2 }),
        ("weight", ColumnType::Double),
        ("paid", ColumnType::Boolean),
        ("day", ColumnType::Date),
        ("seen", ColumnType::DateTime),
    ];
    let column = |(place, (name, kind)): (usize, &(&str, ColumnType))| FallbackColumn {
        name: (*name).to_owned(),
        file_type: *kind,
        stored_type: *kind,
        place,
    };
    let fields: Vec<FallbackColumn> = types.iter().enumerate().map(column).collect();
    let mut batch = Batch::new(types.len());
    let note = "two\nlines, \"quoted\" \\ and more";
    for field in ["1", note, "10.50", "0.25", "true", "2026-02-28", "2026-02-28 23:59:59.123456"] {
        batch.push_field(Some(field.as_bytes()));
    }
    batch.end_row(Position { record: 1, line: 0, byte: 0 });
    batch.push_field(Some(b"2"));
    (1..types.len()).for_each(|_| batch.push_field(None));
    batch.end_row(Position { record: 2, line: 0, byte: 0 });
    let mut encoder = ParquetEncoder::new(&fields)?;
    encoder.write(&batch)?;
    let mut body = encoder.take_bytes();
    body.extend(encoder.finish()?);
    load(&test_env, "uploads/flat/facts/2026/a.parquet", body).await?;
    let expected = [
        "id bigint",
        "note string",
        "price decimal(12,2)",
        "weight double",
        "paid boolean",
        "day date",
        "seen timestamp",
    ];
    assert_eq!(columns(account, "facts").await?, expected);
    let query =
        "SELECT id, note, price, weight, paid, CAST(day AS varchar), CAST(seen AS varchar) FROM facts ORDER BY id";
    let seen = Some("2026-02-28 23:59:59.123456");
    let expected = rows(&[
        &[Some("1"), Some(note), Some("10.50"), Some("0.25"), Some("true"), Some("2026-02-28"), seen],
        &[Some("2"), None, None, None, None, None, None],
    ]);
    assert_eq!(athena::query(account, RAW_DATABASE, query).await?, expected);
    Ok(())
}

/// A table that another program has created stays as it is. Once it is dropped, a sweep registers the folder.
#[tokio::test]
async fn table_of_another_program_is_left_alone() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let account = &test_env.fixture.account;
    let database = aws_sdk_glue::types::DatabaseInput::builder().name(RAW_DATABASE).build()?;
    account.glue.create_database().database_input(database).send().await?;
    let other = aws_sdk_glue::types::TableInput::builder().name("orders").description("by a crawler").build()?;
    account.glue.create_table().database_name(RAW_DATABASE).table_input(other).send().await?;
    let report = load(&test_env, "uploads/orders/year=2026/day=07/a.csv", "id\n1\n").await?;
    ensure!(report["needs_attention"] == json!(true), "{report}");
    let found = describe(account, RAW_DATABASE, "orders").await?.context("no table")?;
    let has_columns = found.storage_descriptor().is_some_and(|storage| !storage.columns().is_empty());
    assert_eq!((found.description(), has_columns), (Some("by a crawler"), false));
    assert_eq!(account.keys("fallback/_registrations/").await?.len(), 1);
    test_env.sweep(&settings(&test_env)).await?;
    assert_eq!(account.keys("fallback/_registrations/").await?.len(), 1);

    account.glue.delete_table().database_name(RAW_DATABASE).name("orders").send().await?;
    test_env.sweep(&settings(&test_env)).await?;
    assert_eq!(partitions(account, "orders").await?, ["2026/07 uploads/orders/year=2026/day=07/"]);
    assert!(account.keys("fallback/").await?.is_empty());
    Ok(())
}
