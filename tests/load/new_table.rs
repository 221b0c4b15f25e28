//! Large files for a missing table, on an engine with transactional DDL.
//!
//! The table is created in the transaction of its rows, with the types of the file's beginning. It becomes visible together
//! with the rows.

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::{Counted, file};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

use crate::load::files::gzip;

const ROWS: usize = 20_000;
/// The number of the last record, whose value decides the column's type.
const LATE_RECORD: usize = 20_001;

/// An environment without a table, and settings without a buffer for small files.
async fn ready() -> Result<(TestEnv, Settings)> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0);
    Ok((test_env, settings))
}

async fn has_table(test_env: &TestEnv) -> bool {
    test_env.rows("SELECT * FROM {schema}.orders LIMIT 1").await.is_ok()
}

#[tokio::test]
async fn broken_file_leaves_no_table() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let mut body = gzip(&file("cut off", ROWS).0).await?;
    body.truncate(body.len() - 5);
    let object = test_env.fixture.account.put("uploads/cut off.csv.gz", body).await?;
    test_env.fixture.expect_no_rows(object.clone());
    let (call, pause) = test_env.pause_trigger(&settings, "RowsFirst", &object).await?;
    ensure!(!has_table(&test_env).await, "the table is visible before its rows");
    pause.release()?;
    let response = call.finish().await?;
    assert_eq!(response.body["reports"][0]["outcome"], json!("rejected"), "{} {}", response.body, response.logs);
    ensure!(!has_table(&test_env).await, "the broken file left a table");
    test_env.ensure_exactly_once().await
}

/// A value in the last record decides the column's type as much as the first ones.
#[rstest]
#[case::a_fraction("1", "0.5", "numeric")]
#[case::a_word("1", "word", "text")]
#[case::a_leading_zero("1", "007", "text")]
#[case::a_time_of_day("2026-11-20", "2026-11-20 12:00:00", "text")]
#[case::the_first_value("", "7", "bigint")]
#[case::more_digits("1.5", "12345678901234567890.5", "numeric")]
#[case::nothing_new("1", "", "bigint")]
#[case::a_null_token("1", "NA", "bigint")]
#[tokio::test]
async fn late_value_decides_the_column_type(
    #[case] early: &str,
    #[case] late: &str,
    #[case] expected: &str,
) -> Result<()> {
    let (test_env, settings) = ready().await?;
    let rows: String = (1..LATE_RECORD).map(|id| format!("{id},{early}\n")).collect();
    let body = format!("id,value\n{rows}{LATE_RECORD},{late}\n");
    let object = test_env.fixture.account.put("uploads/orders.csv", body).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.body["reports"][0];
    assert_eq!((&report["outcome"], &report["rows_stored"]), (&json!("loaded"), &json!(LATE_RECORD)), "{report}");
    let shown = "SELECT CAST(pg_typeof(value) AS text), CAST(value AS text) FROM {schema}.orders WHERE id IN (1, 20001) ORDER BY id";
    let stored = test_env.rows(shown).await?;
    let value = |text: &str| {
        let is_null = text.is_empty() || (text == "NA" && expected != "text");
        (!is_null).then(|| text.to_owned())
    };
    let types = stored.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(types, [Some(expected.to_owned()), Some(expected.to_owned())]);
    let number = |text: Option<String>| text.map(|text| text.trim_end_matches('0').trim_end_matches('.').to_owned());
    assert_eq!(number(stored[0][1].clone()), number(value(early)));
    assert_eq!(number(stored[1][1].clone()), number(value(late)));
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), LATE_RECORD);
    Ok(())
}

/// While another worker creates the table, a second file conflicts, and does not fall back.
#[tokio::test]
async fn second_file_for_new_table_conflicts_then_loads() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let first = test_env.fixture.upload("uploads/first.csv", 300).await?;
    let second = test_env.fixture.upload("uploads/second.csv", 200).await?;
    let (call, pause) = test_env.pause_trigger(&settings, "RowsFirst", &first).await?;
    let conflicting = test_env.deliver(&settings, &[&second]).await?;
    assert_eq!(conflicting.error_type(), Some("conflict"), "{} {}", conflicting.body, conflicting.logs);
    ensure!(!has_table(&test_env).await, "the second worker created the table");
    pause.release()?;
    call.finish().await?.ensure_success()?;
    test_env.deliver_until_accepted(&settings, &[&second]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 500, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn eight_concurrent_files_create_one_table() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let mut objects = Vec::new();
    for number in 0..8 {
        objects.push(test_env.fixture.upload(&format!("uploads/{number}.csv"), 100).await?);
    }
    let events: Vec<[&Object; 1]> = objects.iter().map(|object| [object]).collect();
    try_join_all(events.iter().map(|event| test_env.deliver_until_accepted(&settings, event))).await?;
    assert_eq!(test_env.count().await?, Counted { database: 800, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn eight_concurrent_deliveries_create_one_table() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    let event = [&object];
    let responses = join_all((0..8).map(|_| test_env.deliver(&settings, &event))).await;
    ensure!(
        responses.into_iter().any(|response| response.is_ok_and(|response| !response.is_failure())),
        "no delivery loaded the file"
    );
    test_env.deliver_until_accepted(&settings, &event).await?;
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn killed_worker_leaves_table_only_with_its_rows(
    #[values("Claimed", "TableMade", "RowsFirst", "RowsAll", "BeforeLedgerEnd", "BeforeCommit", "AfterCommit")]
    point: &str,
) -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    let (call, _pause) = test_env.pause_trigger(&settings, point, &object).await?;
    ensure!(call.kill().await?.was_killed(), "the function was not killed");
    assert_eq!(has_table(&test_env).await, point == "AfterCommit");
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    // The table of the killed worker was rolled back, so the file that created it is the one that is loaded.
    let changes = test_env.rows("SELECT table_changes FROM {schema}.spillway_ledger").await?.concat();
    ensure!(changes[0].as_ref().is_some_and(|text| text.starts_with("created the table with")), "{changes:?}");
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

/// A table that needs a key is created before any row is sent.
#[tokio::test]
async fn merge_creates_its_table_before_rows() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let settings = settings.with("LOAD_MODE", "merge").with("MERGE_KEY", "file,record");
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    let (call, pause) = test_env.pause_trigger(&settings, "RowsFirst", &object).await?;
    ensure!(has_table(&test_env).await, "the table does not exist");
    pause.release()?;
    call.finish().await?.ensure_success()?;
    let keys = test_env.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders'").await?;
    ensure!(keys.first().and_then(|row| row[0].clone()).context("no key")?.contains("(file, record)"), "{keys:?}");
    test_env.ensure_exactly_once().await
}
