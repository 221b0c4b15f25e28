//! Status and check on real servers: each state of a file, also with the server stopped, and each kind of broken set-up.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::run;
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

/// Runs a check, and returns the failed items with their reasons.
async fn failed_items(test_env: &TestEnv, settings: &Settings) -> Result<Vec<(String, String)>> {
    let check = ask(test_env, settings, &json!({"check": {}}), "check").await?;
    let items = check["items"].as_array().context("no items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failed: Vec<_> = items.iter().filter(|item| item["ok"] == false).collect();
    ensure!(failed.iter().all(|item| !text(&item["fix"]).is_empty() && !text(&item["tried"]).is_empty()), "{check:#}");
    ensure!(items.len() == 12 && check["ok"] == failed.is_empty(), "{check:#}");
    Ok(failed.iter().map(|item| (text(&item["name"]), text(&item["reason"]))).collect())
}

/// Fails unless the items that failed for a reason of their own are the expected ones, with these error kinds.
async fn ensure_fails(test_env: &TestEnv, settings: &Settings, expected: &[(&str, &str)]) -> Result<()> {
    let failed = failed_items(test_env, settings).await?;
    let own: Vec<_> = failed.iter().filter(|(_, reason)| !reason.starts_with("not tried, ")).collect();
    let is_expected = own.len() == expected.len()
        && own.iter().zip(expected).all(|((name, reason), (item, start))| name == item && reason.starts_with(start));
    ensure!(is_expected, "expected {expected:?}, found {failed:?}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn check_passes_and_leaves_nothing(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'";
    assert_eq!(failed_items(&test_env, &settings).await?, []);
    assert_eq!((test_env.fixture.account.keys("").await?.len(), test_env.rows(tables).await?.len()), (0, 0));

    let object = test_env.fixture.upload("uploads/orders.csv", 10).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(failed_items(&test_env, &settings).await?, []);
    assert_eq!(test_env.rows(tables).await?.len(), 3);
    let rows = test_env.rows("SELECT COUNT(*) FROM {schema}.spillway_ledger").await?;
    assert_eq!(rows, [[Some("1".to_owned())]]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn check_names_what_is_wrong_with_the_database(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let wrong = settings.clone().with("RDS_PASSWORD", "pass-wrong");
    ensure_fails(&test_env, &wrong, &[("database", "credentials: ")]).await?;
    let unreachable = settings.clone().with("RDS_PORT", run::free_port()?);
    ensure_fails(&test_env, &unreachable, &[("database", "unreachable: ")]).await?;
    let unknown = settings.clone().with("RDS_HOST", "no-such-host.invalid");
    ensure_fails(&test_env, &unknown, &[("database", "unreachable: ")]).await?;
    test_env
        .sql(
            match engine {
                Engine::MariaDb => "REVOKE CREATE, ALTER, DROP ON {schema}.* FROM '{user}'@'%'",
                Engine::Postgres => "ALTER SCHEMA public OWNER TO postgres",
            }
            .replace("{user}", &test_env.fixture.schema.user)
            .as_str(),
        )
        .await?;
    ensure_fails(&test_env, &settings, &[("table", "privilege: "), ("ledger", "spillway_ledger does not exist")]).await
}

#[tokio::test]
async fn check_names_what_is_wrong_with_the_account() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings();
    let no_bucket = settings.clone().with("S3_BUCKET", "no-such-bucket-of-spillway");
    ensure_fails(&test_env, &no_bucket, &[("bucket", "settings: "), ("bucket_write", "settings: ")]).await?;

    let inline = ["RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD", "RDS_DB"];
    let by_secret = inline.iter().fold(settings.clone(), |settings, name| settings.without(name));
    let by_secret = by_secret.with("RDS_SECRET_NAME", "orders-db");
    ensure_fails(&test_env, &by_secret, &[("secret", "secret_invalid: ")]).await?;
    let schema = &test_env.fixture.schema;
    let secret = json!({"username": schema.user, "host": "127.0.0.1", "port": schema.port, "dbname": schema.name});
    let secrets = &test_env.fixture.account.secrets;
    secrets.create_secret().name("orders-db").secret_string(secret.to_string()).send().await?;
    let failed = failed_items(&test_env, &by_secret).await?;
    ensure!(failed[0].0 == "secret" && failed[0].1.contains("lacks the field \"password\""), "{failed:?}");

    let no_subnets = settings
        .with("ECS_CLUSTER", "cluster")
        .with("TASK_DEFINITION", "spillway:1")
        .with("CONTAINER_NAME", "spillway-task");
    ensure_fails(&test_env, &no_subnets, &[("tasks", "SUBNETS is empty")]).await
}

#[tokio::test]
async fn check_tells_that_rows_will_be_inserted() -> Result<()> {
    let options = Options { local_infile: false, ..Options::default() };
    let test_env = TestEnv::with_own_server(Engine::MariaDb, options).await?;
    let settings = test_env.settings();
    let check = ask(&test_env, &settings, &json!({"check": {}}), "check").await?;
    ensure!(check["ok"] == true && check.to_string().contains("rows are sent by INSERT, because"), "{check:#}");
    let only_load_data = settings.with("RDS_LOAD_METHOD", "load-data");
    ensure_fails(&test_env, &only_load_data, &[("load_statement", "privilege: ")]).await
}
