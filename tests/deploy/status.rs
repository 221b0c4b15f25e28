//! Status on real servers: each state of a file, also with the server stopped.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const BROKEN: &str = "file,record,checksum,note\na,1,\"never closed\n";

/// Sends a request to the ingest function, and returns a field of the body.
async fn ask(test_env: &TestEnv, settings: &Settings, request: &Value, field: &str) -> Result<Value> {
    let response = test_env.invoke_ingest(settings, request).await?;
    response.ensure_success()?;
    let body: Value = serde_json::from_str(response.body["body"].as_str().context("no body")?)?;
    ensure!(body["reports"] == json!([]), "{body}");
    Ok(body[field].clone())
}

async fn status(test_env: &TestEnv, key: &str) -> Result<Value> {
    ask(test_env, &test_env.settings(), &json!({"status": {"key": key}}), "status").await
}

/// The states of the files, in the order of their names.
async fn states(test_env: &TestEnv) -> Result<Vec<String>> {
    let mut states = Vec::new();
    for name in ["loaded", "rejected", "fell_back", "waiting", "unknown"] {
        let status = status(test_env, &format!("uploads/{name}.csv")).await?;
        ensure!(!status["explanation"].as_str().unwrap_or_default().is_empty(), "{status:#}");
        states.push(status["state"].as_str().unwrap_or_default().to_owned());
    }
    Ok(states)
}

#[rstest]
#[tokio::test]
async fn status_finds_every_file_with_the_server_up_and_down(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options::default()).await?;
    let settings = test_env.settings();
    let loaded = test_env.fixture.upload("uploads/loaded.csv", 10).await?;
    let rejected = test_env.fixture.account.put("uploads/rejected.csv", BROKEN).await?;
    test_env.deliver_until_accepted(&settings, &[&loaded, &rejected]).await?;
    test_env.server.stop().await?;
    let fell_back = test_env.fixture.upload("uploads/fell_back.csv", 20).await?;
    test_env.deliver_until_accepted(&settings, &[&fell_back]).await?;
    test_env.fixture.upload("uploads/waiting.csv", 5).await?;
    let objects = test_env.fixture.account.keys("").await?;

    assert_eq!(states(&test_env).await?, ["loaded", "rejected", "fell_back", "waiting", "unknown"]);
    let found = status(&test_env, "uploads/rejected.csv").await?;
    assert_eq!(found["reason"]["content"]["kind"], "file_broken", "{found:#}");
    assert!(found["ledger"]["error"].as_str().unwrap_or_default().starts_with("unreachable: "), "{found:#}");
    let found = status(&test_env, "uploads/fell_back.csv").await?;
    assert_eq!((&found["fallback"]["table"], &found["fallback"]["rows"]), (&json!("orders"), &json!(20)), "{found:#}");
    let backlog = ask(&test_env, &settings, &json!({"status": {}}), "status").await?;
    assert_eq!(backlog["waiting"]["oldest"]["key"], "uploads/waiting.csv", "{backlog:#}");
    assert_eq!((&backlog["waiting"]["files"], &backlog["fallback"][0]["rows"]), (&json!(1), &json!(20)));
    assert_eq!(backlog["database"]["available"], false, "{backlog:#}");

    test_env.server.start_again().await?;
    assert_eq!(states(&test_env).await?, ["loaded", "rejected", "fell_back", "waiting", "unknown"]);
    let found = status(&test_env, "uploads/loaded.csv").await?;
    let row = &found["ledger"]["rows"][0];
    assert_eq!((&row["state"], &row["rows_stored"], &row["attempt"]), (&json!("loaded"), &json!(10), &json!(1)));
    assert_eq!(row["moved_to"], found["moved"][0]["key"], "{found:#}");
    let times = ["started_at", "committed_at"].map(|name| row[name].as_str().unwrap_or_default().to_owned());
    ensure!(times[0] <= times[1] && times[0].starts_with("20"), "{found:#}");
    let found = status(&test_env, "uploads/rejected.csv").await?;
    assert_eq!(found["ledger"]["rows"][0]["state"], "rejected", "{found:#}");
    let backlog = ask(&test_env, &settings, &json!({"status": {}}), "status").await?;
    assert_eq!(backlog["database"], json!({"available": true}), "{backlog:#}");
    assert_eq!(test_env.fixture.account.keys("").await?, objects, "a status changed the bucket");

    test_env.replay(&settings).await?;
    let found = status(&test_env, "uploads/fell_back.csv").await?;
    assert_eq!((&found["state"], &found["ledger"]["rows"][0]["state"]), (&json!("loaded"), &json!("loaded")));
    Ok(())
}

#[tokio::test]
async fn status_names_the_worker_of_a_file() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let settings = test_env.settings();
    let object = test_env.fixture.upload("uploads/orders.csv", 10).await?;
    let (call, pause) = test_env.pause_trigger(&settings, "Claimed", &object).await?;
    let found = status(&test_env, "uploads/orders.csv").await?;
    assert_eq!(found["state"], "loading", "{found:#}");
    assert!(found["lease"]["worker"].as_str().unwrap_or_default().starts_with("trigger on "), "{found:#}");
    pause.release()?;
    call.finish().await?.ensure_success()?;
    assert_eq!(status(&test_env, "uploads/orders.csv").await?["state"], "loaded");
    Ok(())
}

/// New ledgers have an index for the look-up by key.
#[rstest]
#[tokio::test]
async fn new_ledger_has_an_index_on_the_key(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 10).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    let indexes = test_env
        .rows(match engine {
            Engine::MariaDb => {
                "SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{schema}' \
                 AND TABLE_NAME = 'spillway_ledger' AND COLUMN_NAME = 'object_key'"
            }
            Engine::Postgres => {
                "SELECT indexname FROM pg_indexes WHERE tablename = 'spillway_ledger' \
                 AND indexdef LIKE '%(object_key)'"
            }
        })
        .await?;
    assert_eq!(indexes.len(), 1, "{indexes:?}");
    Ok(())
}
