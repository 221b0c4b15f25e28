//! Large files for a table that is missing, where DDL is part of a transaction: the table is made in that of its rows, by the types
//! of the file's beginning, and is there for nobody before them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{Counted, file};
use spillway_test_env::lambda::{Call, Function};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

use crate::load::files::gzip;

const BOUND: Duration = Duration::from_secs(60);
const ROWS: usize = 20_000;
/// The last record, whose value shows what its column is.
const LATE_RECORD: usize = 20_001;

/// A stage without a table, and settings by which no file is held in memory.
async fn ready() -> Result<(TestEnv, Settings)> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0);
    Ok((test_env, settings))
}

/// The trigger, held at the point with the file of this object.
async fn acquire_lease(test_env: &TestEnv, settings: &Settings, point: &str, object: &Object) -> Result<(Call, Pause)> {
    let pause = Pause::at(point)?;
    let trigger = Function::trigger(&settings.clone().and(&pause.settings()))?;
    let mut call = trigger.start(&test_env.fixture.event(&[object])).await?;
    call.reaches(&pause, BOUND).await?;
    Ok((call, pause))
}

async fn has_table(test_env: &TestEnv) -> bool {
    test_env.rows("SELECT * FROM {schema}.orders LIMIT 1").await.is_ok()
}

#[tokio::test]
async fn rows_are_sent_before_the_file_was_read_and_the_table_goes_with_them_when_it_is_broken() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let mut body = gzip(&file("cut off", ROWS).0).await?;
    body.truncate(body.len() - 5);
    let object = test_env.fixture.account.put("uploads/cut off.csv.gz", body).await?;
    test_env.fixture.expect_no_rows(object.clone());
    let (call, pause) = acquire_lease(&test_env, &settings, "RowsFirst", &object).await?;
    ensure!(!has_table(&test_env).await, "the table is there before its rows");
    pause.release()?;
    let answer = call.answer().await?;
    assert_eq!(answer.body["reports"][0]["outcome"], json!("rejected"), "{} {}", answer.body, answer.logs);
    ensure!(!has_table(&test_env).await, "a table is left of a broken file");
    test_env.ensure_kept().await
}

/// What only the end of the file shows counts as much as its beginning.
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
async fn a_type_that_shows_late_is_the_column_s(
    #[case] early: &str,
    #[case] late: &str,
    #[case] expected: &str,
) -> Result<()> {
    let (test_env, settings) = ready().await?;
    let rows: String = (1..LATE_RECORD).map(|id| format!("{id},{early}\n")).collect();
    let body = format!("id,value\n{rows}{LATE_RECORD},{late}\n");
    let object = test_env.fixture.account.put("uploads/orders.csv", body).await?;
    let answer = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &answer.body["reports"][0];
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

/// Whoever has the next file for the same new table waits for it, and does not send its own over the spillway.
#[tokio::test]
async fn another_file_for_the_same_table_waits_for_it() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let first = test_env.fixture.upload("uploads/first.csv", 300).await?;
    let second = test_env.fixture.upload("uploads/second.csv", 200).await?;
    let (call, pause) = acquire_lease(&test_env, &settings, "RowsFirst", &first).await?;
    let turned_away = test_env.deliver(&settings, &[&second]).await?;
    assert_eq!(turned_away.error_type(), Some("conflict"), "{} {}", turned_away.body, turned_away.logs);
    ensure!(!has_table(&test_env).await, "somebody has made the table");
    pause.release()?;
    ensure!(!call.answer().await?.is_failure(), "the first was not loaded");
    test_env.deliver_until_accepted(&settings, &[&second]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 500, fallback: 0 });
    test_env.ensure_kept().await
}

#[tokio::test]
async fn eight_files_at_once_make_one_table() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let mut objects = Vec::new();
    for number in 0..8 {
        objects.push(test_env.fixture.upload(&format!("uploads/{number}.csv"), 100).await?);
    }
    let events: Vec<[&Object; 1]> = objects.iter().map(|object| [object]).collect();
    try_join_all(events.iter().map(|event| test_env.deliver_until_accepted(&settings, event))).await?;
    assert_eq!(test_env.count().await?, Counted { database: 800, fallback: 0 });
    test_env.ensure_kept().await
}

#[tokio::test]
async fn eight_deliveries_of_one_file_make_one_table_and_store_its_rows_once() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    let event = [&object];
    let answers = join_all((0..8).map(|_| test_env.deliver(&settings, &event))).await;
    ensure!(answers.into_iter().any(|answer| answer.is_ok_and(|answer| !answer.is_failure())), "nobody has loaded");
    test_env.deliver_until_accepted(&settings, &event).await?;
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn a_worker_that_dies_leaves_a_table_only_with_its_rows(
    #[values("Claimed", "TableMade", "RowsFirst", "RowsAll", "BeforeLedgerEnd", "BeforeCommit", "AfterCommit")]
    point: &str,
) -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    let (call, _pause) = acquire_lease(&test_env, &settings, point, &object).await?;
    ensure!(call.kill().await?.was_killed(), "it was not killed");
    assert_eq!(has_table(&test_env).await, point == "AfterCommit");
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

/// Where a table has more to it than its columns, it is made before any row is sent.
#[tokio::test]
async fn a_mode_that_needs_a_key_makes_its_table_first() -> Result<()> {
    let (mut test_env, settings) = ready().await?;
    let settings = settings.with("LOAD_MODE", "merge").with("MERGE_KEY", "file,record");
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    let (call, pause) = acquire_lease(&test_env, &settings, "RowsFirst", &object).await?;
    ensure!(has_table(&test_env).await, "the table is not there");
    pause.release()?;
    ensure!(!call.answer().await?.is_failure(), "it was not loaded");
    let keys = test_env.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders'").await?;
    ensure!(keys.first().and_then(|row| row[0].clone()).context("no key")?.contains("(file, record)"), "{keys:?}");
    test_env.ensure_kept().await
}
