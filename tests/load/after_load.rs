//! `AFTER_LOAD` in the whole pipeline: duplicate events, sweeps, a database that is down, and a worker that dies before the
//! delete.

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::Counted;
use spillway_test_env::test_env::TestEnv;

const KEY: &str = "uploads/a.csv";

async fn sweep(test_env: &TestEnv, settings: &spillway_test_env::settings::Settings) -> Result<Vec<Value>> {
    let response = test_env.invoke_ingest(settings, &json!({"sweep": {"older_than_seconds": 0}})).await?;
    response.ensure_success()?;
    response.reports()
}

/// A kept file loads once, whatever delivers it again, in a bucket with and without versions.
#[rstest]
#[tokio::test]
async fn kept_file_stays_in_place_and_loads_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("content", "version")] dedupe: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let account = &test_env.fixture.account;
    account.keep_versions().await?;
    let settings = test_env.settings().with("AFTER_LOAD", "keep").with("DEDUPE", dedupe);
    let object = account.put(KEY, "id\n1\n2\n").await?;
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(response.body["reports"][0]["outcome"], "loaded", "{}", response.body);
    let again = test_env.deliver(&settings, &[&object]).await?;
    assert_eq!(again.body["reports"][0]["outcome"], "already_loaded", "{}", again.body);
    assert_eq!(sweep(&test_env, &settings).await?, Vec::<Value>::new());
    let prefix = test_env.invoke_ingest(&settings, &json!({"prefix": "uploads/"})).await?;
    assert_eq!(prefix.reports()?, Vec::<Value>::new());
    let status = test_env.invoke_ingest(&settings, &json!({"status": {}})).await?;
    ensure!(status.body.to_string().contains("\\\"waiting\\\":{\\\"files\\\":0"), "{}", status.body);

    // The same bytes again are another version, and other bytes another file.
    account.put(KEY, "id\n1\n2\n").await?;
    let swept = sweep(&test_env, &settings).await?;
    assert_eq!(swept.len(), usize::from(dedupe == "version"), "{swept:?}");
    account.put(KEY, "id\n3\n").await?;
    assert_eq!(sweep(&test_env, &settings).await?.len(), 1);
    let ids = test_env.rows("SELECT CONCAT(id, '') FROM {schema}.orders ORDER BY id").await?.concat();
    let expected: &[&str] = if dedupe == "version" { &["1", "1", "2", "2", "3"] } else { &["1", "2", "3"] };
    assert_eq!(ids.into_iter().flatten().collect::<Vec<_>>(), expected);
    assert_eq!(account.keys("").await?, [KEY]);
    Ok(())
}

/// While the ledger cannot be read, nothing shows whether a kept file is loaded. So it waits.
#[tokio::test]
async fn kept_file_waits_for_a_database_that_is_down() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().with("AFTER_LOAD", "keep").with("RDS_RETRY_SECONDS", 1);
    let down = settings.clone().with("RDS_PORT", 1);
    let object = test_env.fixture.account.put(KEY, "id\n1\n").await?;
    for _ in 0..2 {
        let response = test_env.deliver(&down, &[&object]).await?;
        ensure!(response.is_failure(), "{}", response.body);
        ensure!(!test_env.fixture.account.keys("").await?.iter().any(|key| key.starts_with("fallback/")));
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    let rows = test_env.rows("SELECT CONCAT(id, '') FROM {schema}.orders").await?;
    assert_eq!(rows, [[Some("1".to_owned())]]);
    Ok(())
}

/// A file is deleted after its load. If the worker dies before the delete, the next attempt only deletes.
#[rstest]
#[case("AfterCommit")]
#[case("BeforeDelete")]
#[case("AfterDelete")]
#[tokio::test]
async fn killed_worker_leaves_a_file_that_is_deleted_later(#[case] failpoint: &str) -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let settings = test_env.settings().with("AFTER_LOAD", "delete");
    let object = test_env.fixture.upload(KEY, 30).await?;
    let (call, _pause) = test_env.pause_trigger(&settings, failpoint, &object).await?;
    call.kill().await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    test_env.sweep(&settings).await?;
    assert_eq!(test_env.count().await?, Counted { database: 30, fallback: 0 });
    assert_eq!(test_env.fixture.account.keys("").await?, Vec::<String>::new());
    Ok(())
}
