//! Files with which workers die again and again: they are parked after three deaths, and stop no other file. Many files
//! during an outage: together they wait once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::cloud::Object;
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{Counted, file};
use spillway_test_env::lambda::Function;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const KEY: &str = "uploads/orders.csv";
const ROWS: usize = 200;
const REACH_TIMEOUT: Duration = Duration::from_secs(90);
/// Longer than a lease: five seconds in the tests, and one more for clock differences.
const LEASE_OVER: Duration = Duration::from_secs(7);
const NO_ROWS: Counted = Counted { database: 0, fallback: 0 };

/// Delivers the file to a trigger that is killed at each of the failpoints, one after the other.
async fn die_at(test_env: &TestEnv, settings: &Settings, object: &Object, points: [&str; 3]) -> Result<()> {
    for point in points {
        let (call, _pause) = test_env.pause_trigger(settings, point, object).await?;
        ensure!(call.kill().await?.was_killed(), "the trigger was not killed at {point}");
        tokio::time::sleep(LEASE_OVER).await;
    }
    Ok(())
}

/// Fails unless the file is in the failed prefix once, with its reason, and none of its rows is stored.
async fn ensure_parked(test_env: &TestEnv, key: &str) -> Result<()> {
    let account = &test_env.fixture.account;
    let stem = key.trim_start_matches("uploads/").trim_end_matches(".csv").to_owned();
    let mut failed = account.keys(&format!("failed/{stem}.")).await?;
    failed.sort();
    ensure!(failed.len() == 2, "expected the file and its reason: {failed:?}");
    ensure!(failed[1] == format!("{}.reason.json", failed[0]), "{failed:?}");
    let reason: Value = serde_json::from_slice(&account.get(&failed[1]).await?)?;
    ensure!(reason["kind"] == "poison", "{reason}");
    ensure!(reason["reason"].as_str().is_some_and(|text| text.contains("3 workers in a row died")), "{reason}");
    let (state, text) = test_env.ledger(key).await?.context("the ledger has no row of the file")?;
    ensure!(state == "rejected" && text.contains("3 workers in a row died"), "{state}: {text}");
    Ok(())
}

#[rstest]
#[case::while_reading(["BodyHalf"; 3])]
#[case::while_writing_rows(["RowsHalf"; 3])]
#[case::until_just_before_commit(["LeaseWritten", "Claimed", "BeforeCommit"])]
#[tokio::test]
async fn file_is_parked_after_three_kills(
    #[case] points: [&str; 3],
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let object = test_env.fixture.account.put(KEY, file(KEY, ROWS).0).await?;
    test_env.fixture.expect_no_rows(object.clone());
    die_at(&test_env, &settings, &object, points).await?;

    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.reports()?[0];
    ensure!(report["outcome"] == "rejected" && report["needs_attention"] == true, "{report}");
    ensure_parked(&test_env, KEY).await?;
    assert_eq!(test_env.count().await?, NO_ROWS);
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn file_that_was_committed_before_three_kills_is_loaded(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    die_at(&test_env, &settings, &object, ["AfterCommit", "LeaseWritten", "LeaseWritten"]).await?;

    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.reports()?[0];
    ensure!(report["outcome"] == "already_loaded" && report["needs_attention"] == false, "{report}");
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    assert_eq!(test_env.fixture.account.keys("failed/").await?, Vec::<String>::new());
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

/// Starts a sweep and kills it where only the file with a bad record gets.
async fn kill_sweep(test_env: &TestEnv, settings: &Settings) -> Result<Vec<String>> {
    let pause = Pause::at("RejectsLookedUp")?;
    let ingest = Function::ingest(&settings.clone().and(&pause.settings()))?;
    let mut call = ingest.start(&json!({"sweep": {"older_than_seconds": 0}})).await?;
    call.wait_for(&pause, REACH_TIMEOUT).await?;
    let loaded = test_env.fixture.account.keys("processed/").await?;
    ensure!(call.kill().await?.was_killed(), "the sweep was not killed");
    tokio::time::sleep(LEASE_OVER).await;
    Ok(loaded)
}

#[rstest]
#[tokio::test]
async fn file_that_kills_each_sweep_stops_no_other_file(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("MAX_REJECTS", 5).with("MAX_CONCURRENT_FILES", 1);
    let (body, _) = file(KEY, ROWS);
    let poison = test_env.fixture.account.put(KEY, [body.as_slice(), b"a short record\n"].concat()).await?;
    test_env.fixture.expect_no_rows(poison);
    // S3 rounds the time in a listing to seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for name in ["newer", "newest"] {
        test_env.fixture.upload(&format!("uploads/{name}.csv"), ROWS).await?;
    }
    // The oldest file comes first, until a worker has died with it.
    assert_eq!(kill_sweep(&test_env, &settings).await?.len(), 0);
    assert_eq!(kill_sweep(&test_env, &settings).await?.len(), 2);
    assert_eq!(test_env.count().await?, Counted { database: 2 * ROWS, fallback: 0 });
    assert_eq!(kill_sweep(&test_env, &settings).await?.len(), 2);

    test_env.sweep(&settings).await?;
    ensure_parked(&test_env, KEY).await?;
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, Vec::<String>::new());
    assert_eq!(test_env.count().await?, Counted { database: 2 * ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn ten_files_wait_once_for_a_database_that_is_down(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    const FILES: usize = 10;
    const WAIT: Duration = Duration::from_secs(15);
    let mut test_env = TestEnv::with_own_server(engine, Options::default()).await?;
    let settings = test_env.settings().with("RDS_RETRY_SECONDS", WAIT.as_secs()).with("MAX_CONCURRENT_FILES", 1);
    for number in 0..FILES {
        test_env.fixture.upload(&format!("uploads/{number}.csv"), ROWS).await?;
    }
    test_env.server.stop().await?;
    let start = Instant::now();
    let response = test_env.invoke_ingest(&settings, &json!({"sweep": {"older_than_seconds": 0}})).await?;
    let elapsed = start.elapsed();
    response.ensure_success()?;
    let reports = response.reports()?;
    ensure!(reports.len() == FILES && reports.iter().all(|report| report["outcome"] == "fell_back"), "{reports:?}");
    // A file gives up when its next delay would end after the budget. No delay is longer than ten seconds, so each file
    // that waits needs at least five seconds, and ten of them fifty.
    ensure!(elapsed < 3 * WAIT, "the sweep took {elapsed:?}, and one file may wait {WAIT:?}");

    test_env.server.start_again().await?;
    assert_eq!(test_env.replay(&settings).await?.len(), FILES);
    assert_eq!(test_env.count().await?, Counted { database: FILES * ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}
