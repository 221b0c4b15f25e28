//! Files that are loaded while they are read, into a table that is there already: what becomes of them is the same as of
//! files that are read first, whatever turns up on the way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{Counted, file};
use spillway_test_env::lambda::Function;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

use crate::load::files::{gzip, upload};

const BOUND: Duration = Duration::from_secs(60);
const KEY: &str = "uploads/orders.csv";
/// The rows of the file that has made the table.
const FIRST_ROWS: usize = 40;
const ROWS: usize = 200;

/// A stage whose table is there, and settings by which no file is held in memory.
async fn ready(engine: Engine) -> Result<(TestEnv, Settings)> {
    ready_in_mode(engine, "append").await
}

async fn ready_in_mode(engine: Engine, mode: &str) -> Result<(TestEnv, Settings)> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", mode);
    let settings = if mode == "merge" { settings.with("MERGE_KEY", "file,record") } else { settings };
    let first = test_env.fixture.upload("uploads/first.csv", FIRST_ROWS).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    Ok((test_env, settings.with("BUFFER_MAX_BYTES", 0)))
}

/// A file whose end is missing, which nobody knows who has not come there. S3 keeps whole seconds, and of two files of one second
/// the key decides which may replace the other: this one comes after the first.
async fn upload_cut_off(test_env: &mut TestEnv) -> Result<Object> {
    let mut body = gzip(&file("cut off", 20_000).0).await?;
    body.truncate(body.len() - 5);
    let object = test_env.fixture.account.put("uploads/last, cut off.csv.gz", body).await?;
    test_env.fixture.expect_no_rows(object.clone());
    Ok(object)
}

#[rstest]
#[case::append("append")]
#[case::replace("replace")]
#[case::merge("merge")]
#[tokio::test]
async fn rows_are_sent_before_the_file_was_read_to_its_end_and_taken_back_when_it_is_broken(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] mode: &str,
) -> Result<()> {
    let (mut test_env, settings) = ready_in_mode(engine, mode).await?;
    let object = upload_cut_off(&mut test_env).await?;
    let pause = Pause::at("RowsFirst")?;
    let mut call =
        Function::trigger(&settings.clone().and(&pause.settings()))?.start(&test_env.fixture.event(&[&object])).await?;
    call.reaches(&pause, BOUND).await?;
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS, fallback: 0 });
    pause.release()?;
    let answer = call.answer().await?;
    assert_eq!(answer.body["reports"][0]["outcome"], json!("rejected"), "{} {}", answer.body, answer.logs);
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS, fallback: 0 });
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn the_same_bytes_are_a_duplicate_although_all_rows_were_sent(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (mut test_env, settings) = ready(engine).await?;
    // Only there are the same bytes under the same key another source.
    test_env.fixture.account.keep_versions().await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let body = file(KEY, ROWS).0;
    let again = test_env.fixture.account.put(KEY, body.clone()).await?;
    let answer = test_env.deliver_until_accepted(&settings, &[&again]).await?;
    let report = &answer.body["reports"][0];
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
async fn eight_deliveries_at_once_store_the_rows_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (mut test_env, settings) = ready(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let event = [&object];
    let deliveries = futures_util::future::join_all((0..8).map(|_| test_env.deliver(&settings, &event))).await;
    ensure!(deliveries.into_iter().any(|answer| answer.is_ok_and(|answer| !answer.is_failure())), "nobody has loaded");
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS + ROWS, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

/// The value stands behind the beginning of the file, and thousands of rows are with the server when it comes.
#[rstest]
#[tokio::test]
async fn a_value_that_does_not_fit_makes_all_of_the_file_fall_back(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let rows: String = (0..20_000).map(|id| format!("{id},name\n")).collect();
    let object = test_env.fixture.account.put(KEY, format!("id,name\n{rows}20000,too long\n")).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0);
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (state, why) = test_env.ledger(KEY).await?.context("the ledger does not know it")?;
    ensure!(state == "fell_back" && why.contains("record 20001") && why.contains("column name"), "{state}: {why}");
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), 0);
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    assert_eq!(reports[0]["rows_stored"], json!(20_001));
    Ok(())
}

/// The same row is left out where the settings allow it; so is a record that is broken.
#[rstest]
#[case::a_value("20000,too long\n")]
#[case::a_record("20000\n")]
#[tokio::test]
async fn what_is_bad_is_left_out(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] bad: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let rows: String = (0..20_000).map(|id| format!("{id},name\n")).collect();
    let object = test_env.fixture.account.put(KEY, format!("id,name\n{rows}{bad}")).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0).with("MAX_REJECTS", 1);
    let answer = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &answer.body["reports"][0];
    assert_eq!((&report["rows_stored"], &report["rows_rejected"]), (&json!(20_000), &json!(1)), "{report}");
    let keys = test_env.fixture.account.keys("rejected/").await?;
    let records = test_env.fixture.account.get(keys.first().context("no rejects")?).await?;
    assert_eq!(String::from_utf8(records)?, format!("id,name\n{bad}"));
    Ok(())
}

/// What an earlier attempt has set aside goes when all rows fit the table after all.
#[tokio::test]
async fn nothing_stays_set_aside_of_a_file_that_is_loaded_whole() -> Result<()> {
    let test_env = TestEnv::new().await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let object = test_env.fixture.account.put(KEY, "id,name\n1,a\n2,too long\n").await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0).with("MAX_REJECTS", 1);
    let pause = Pause::at("RejectsWritten")?;
    let mut call =
        Function::trigger(&settings.clone().and(&pause.settings()))?.start(&test_env.fixture.event(&[&object])).await?;
    call.reaches(&pause, BOUND).await?;
    ensure!(call.kill().await?.was_killed(), "it was not killed");
    assert_eq!(test_env.fixture.account.keys("rejected/").await?.len(), 2);
    test_env.sql("ALTER TABLE {schema}.orders MODIFY name VARCHAR(50)").await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), 2);
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, Vec::<String>::new());
    Ok(())
}

/// What comes out of a compressed file shows only in the end, and may be more than one transaction should take.
#[tokio::test]
async fn a_file_that_grows_beyond_one_transaction_is_staged() -> Result<()> {
    let (mut test_env, settings) = ready(Engine::MariaDb).await?;
    let (text, rows) = file("grows", 20_000);
    let object = upload(&mut test_env, "uploads/grows.csv.gz", gzip(&text).await?, rows).await?;
    ensure!(2 * object.size_bytes < text.len() as u64, "it does not grow");
    let settings = settings.with("ATOMIC_MAX_BYTES", object.size_bytes + 1);
    // Only what is staged comes by here.
    let pause = Pause::at("AfterInsertSelect")?;
    let mut call =
        Function::trigger(&settings.and(&pause.settings()))?.start(&test_env.fixture.event(&[&object])).await?;
    call.reaches(&pause, BOUND).await?;
    pause.release()?;
    ensure!(!call.answer().await?.is_failure(), "it was not loaded");
    assert_eq!(test_env.count().await?, Counted { database: FIRST_ROWS + 20_000, fallback: 0 });
    test_env.ensure_kept().await
}

/// Keys that come late in JSON are columns too, whether the table has them or they are added.
#[rstest]
#[case::the_table_has_them("{\"id\": -1, \"late\": \"x\"}")]
#[case::they_are_added("{\"id\": -1}")]
#[tokio::test]
async fn columns_that_come_late_get_their_values(
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

/// Columns of the key stand behind those of the file in one pass as in two.
#[rstest]
#[tokio::test]
async fn columns_of_the_key_are_filled(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("KEY_COLUMNS", "source_row,source_key");
    for (acquire_lease, key) in [(8 << 20, "uploads/held.csv"), (0, "uploads/streamed.csv")] {
        let object = test_env.fixture.account.put(key, "id\n7\n8\n").await?;
        test_env.deliver_until_accepted(&settings.clone().with("BUFFER_MAX_BYTES", acquire_lease), &[&object]).await?;
    }
    let query =
        "SELECT CONCAT(id, ''), CONCAT(source_row, ''), source_key FROM {schema}.orders ORDER BY source_key, id";
    let expected = [
        ["7", "1", "uploads/held.csv"],
        ["8", "2", "uploads/held.csv"],
        ["7", "1", "uploads/streamed.csv"],
        ["8", "2", "uploads/streamed.csv"],
    ];
    assert_eq!(test_env.rows(query).await?, expected.map(|row| row.map(|text| Some(text.to_owned())).to_vec()));
    Ok(())
}
