//! Single-pass loads into an existing table. They have the same result as two-pass loads, whatever the file contains.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::{Counted, file};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

use crate::load::files::{gzip, upload};

const KEY: &str = "uploads/orders.csv";
/// The number of rows in the file that creates the table.
const FIRST_ROWS: usize = 40;
const ROWS: usize = 200;

/// An environment with the table, and settings without a buffer for small files.
async fn ready(engine: Engine) -> Result<(TestEnv, Settings)> {
    ready_in_mode(engine, "append").await
}

async fn ready_in_mode(engine: Engine, mode: &str) -> Result<(TestEnv, Settings)> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", mode);
    let settings =
        if mode == "merge" || mode == "mirror" { settings.with("MERGE_KEY", "file,record") } else { settings };
    let first = test_env.fixture.upload("uploads/first.csv", FIRST_ROWS).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    Ok((test_env, settings.with("BUFFER_MAX_BYTES", 0)))
}

/// Uploads a truncated gzip file; the damage shows only at its end.
///
/// S3 stores times in whole seconds. If the first file has the same time, this key makes the file the newer one.
async fn upload_truncated(test_env: &mut TestEnv) -> Result<Object> {
    let mut body = gzip(&file("truncated", 20_000).0).await?;
    body.truncate(body.len() - 5);
    let object = test_env.fixture.account.put("uploads/last, truncated.csv.gz", body).await?;
    test_env.fixture.expect_no_rows(object.clone());
    Ok(object)
}

#[rstest]
#[case::append("append")]
#[case::replace("replace")]
#[case::merge("merge")]
#[case::mirror("mirror")]
#[tokio::test]
async fn broken_file_is_rolled_back_after_rows_were_sent(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] mode: &str,
) -> Result<()> {
    let (mut test_env, settings) = ready_in_mode(engine, mode).await?;
    let object = upload_truncated(&mut test_env).await?;
    let (call, pause) = test_env.pause_trigger(&settings, "RowsFirst", &object).await?;
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS, fallback: 0 });
    pause.release()?;
    let response = call.finish().await?;
    assert_eq!(response.body["reports"][0]["outcome"], json!("rejected"), "{} {}", response.body, response.logs);
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn duplicate_content_is_detected_after_rows_were_sent(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (mut test_env, settings) = ready(engine).await?;
    // Only with versions are the same bytes under the same key a second source.
    test_env.fixture.account.keep_versions().await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let body = file(KEY, ROWS).0;
    let again = test_env.fixture.account.put(KEY, body.clone()).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&again]).await?;
    let report = &response.body["reports"][0];
    assert_eq!((&report["outcome"], &report["rows_parsed"]), (&json!("already_loaded"), &json!(ROWS)), "{report}");
    let states = format!("SELECT state FROM {{schema}}.spillway_ledger WHERE object_key = '{KEY}' ORDER BY started_at");
    assert_eq!(
        test_env.rows(&states).await?,
        [["loaded"], ["duplicate"]].map(|row| row.map(|state| Some(state.to_owned())).to_vec())
    );
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS + ROWS, fallback: 0 });
    let again = test_env.fixture.account.put(KEY, body).await?;
    test_env.deliver_until_accepted(&settings.with("DEDUPE", "version"), &[&again]).await?;
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS + 2 * ROWS, fallback: 0 });
    Ok(())
}

#[rstest]
#[tokio::test]
async fn eight_concurrent_deliveries_load_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (mut test_env, settings) = ready(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let event = [&object];
    let deliveries = futures_util::future::join_all((0..8).map(|_| test_env.deliver(&settings, &event))).await;
    ensure!(
        deliveries.into_iter().any(|response| response.is_ok_and(|response| !response.is_failure())),
        "no delivery loaded the file"
    );
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS + ROWS, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

/// The value comes after the scanned beginning of the file, when thousands of rows have been sent.
#[rstest]
#[tokio::test]
async fn late_value_that_does_not_fit_falls_back_whole_file(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let rows: String = (0..20_000).map(|id| format!("{id},name\n")).collect();
    let object = test_env.fixture.account.put(KEY, format!("id,name\n{rows}20000,too long\n")).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0);
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (state, why) = test_env.ledger(KEY).await?.context("the ledger has no entry")?;
    ensure!(state == "fell_back" && why.contains("record 20001") && why.contains("column name"), "{state}: {why}");
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), 0);
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    assert_eq!(reports[0]["rows_stored"], json!(20_001));
    Ok(())
}

/// With `MAX_REJECTS`, a late bad value and a late bad record are rejected.
#[rstest]
#[case::a_value("20000,too long\n")]
#[case::a_record("20000\n")]
#[tokio::test]
async fn bad_values_and_records_are_rejected(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] bad: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let rows: String = (0..20_000).map(|id| format!("{id},name\n")).collect();
    let object = test_env.fixture.account.put(KEY, format!("id,name\n{rows}{bad}")).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0).with("MAX_REJECTS", 1);
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.body["reports"][0];
    assert_eq!((&report["rows_stored"], &report["rows_rejected"]), (&json!(20_000), &json!(1)), "{report}");
    let keys = test_env.fixture.account.keys("rejected/").await?;
    let records = test_env.fixture.account.get(keys.first().context("no rejects")?).await?;
    assert_eq!(String::from_utf8(records)?, format!("id,name\n{bad}"));
    Ok(())
}

/// Rejects of an earlier attempt are deleted if all rows fit the table at the next attempt.
#[tokio::test]
async fn rejects_of_earlier_attempt_are_deleted() -> Result<()> {
    let test_env = TestEnv::new().await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let object = test_env.fixture.account.put(KEY, "id,name\n1,a\n2,too long\n").await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0).with("MAX_REJECTS", 1);
    let (call, _pause) = test_env.pause_trigger(&settings, "RejectsWritten", &object).await?;
    ensure!(call.kill().await?.was_killed(), "the function was not killed");
    assert_eq!(test_env.fixture.account.keys("rejected/").await?.len(), 2);
    test_env.sql("ALTER TABLE {schema}.orders MODIFY name VARCHAR(50)").await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), 2);
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, Vec::<String>::new());
    Ok(())
}

/// The decompressed size of a file is known only at its end, and may exceed the limit of one transaction.
#[tokio::test]
async fn file_that_decompresses_beyond_one_transaction_is_staged() -> Result<()> {
    let (mut test_env, settings) = ready(Engine::MariaDb).await?;
    let (text, rows) = file("compressible", 20_000);
    let object = upload(&mut test_env, "uploads/compressible.csv.gz", gzip(&text).await?, rows).await?;
    ensure!(2 * object.size_bytes < text.len() as u64, "the file is not compressible enough");
    let settings = settings.with("ATOMIC_MAX_BYTES", object.size_bytes + 1);
    // Only staged loads reach this failpoint.
    let (call, pause) = test_env.pause_trigger(&settings, "AfterInsertSelect", &object).await?;
    pause.release()?;
    call.finish().await?.ensure_success()?;
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS + 20_000, fallback: 0 });
    test_env.ensure_exactly_once().await
}

/// JSON keys that first appear late become columns, which the table has or which are added.
#[rstest]
#[case::existing_column("{\"id\": -1, \"late\": \"x\"}")]
#[case::added_column("{\"id\": -1}")]
#[tokio::test]
async fn late_json_keys_become_columns(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] first: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0).with("UNKNOWN_COLUMNS", "add");
    let rows: String = (0..50_000).map(|id| format!("{{\"id\": {id}}}\n")).collect();
    let late = format!("{rows}{{\"id\": 50000, \"late\": \"here\"}}\n");
    for (key, body) in [("uploads/first.jsonl", first), ("uploads/late.jsonl", &late)] {
        let object = test_env.fixture.account.put(key, body.to_owned()).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), 50_002);
    let late = test_env.rows("SELECT late FROM {schema}.orders WHERE id = 50000").await?;
    assert_eq!(late, [[Some("here".to_owned())]]);
    Ok(())
}

/// Key columns follow the file's columns, in a single-pass load as in a two-pass load.
#[rstest]
#[tokio::test]
async fn key_columns_are_filled(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("KEY_COLUMNS", "source_row,source_key");
    for (buffer_bytes, key) in [(8 << 20, "uploads/buffered.csv"), (0, "uploads/streamed.csv")] {
        let object = test_env.fixture.account.put(key, "id\n7\n8\n").await?;
        test_env.deliver_until_accepted(&settings.clone().with("BUFFER_MAX_BYTES", buffer_bytes), &[&object]).await?;
    }
    let query =
        "SELECT CONCAT(id, ''), CONCAT(source_row, ''), source_key FROM {schema}.orders ORDER BY source_key, id";
    let expected = [
        ["7", "1", "uploads/buffered.csv"],
        ["8", "2", "uploads/buffered.csv"],
        ["7", "1", "uploads/streamed.csv"],
        ["8", "2", "uploads/streamed.csv"],
    ];
    assert_eq!(test_env.rows(query).await?, expected.map(|row| row.map(|text| Some(text.to_owned())).to_vec()));
    Ok(())
}
