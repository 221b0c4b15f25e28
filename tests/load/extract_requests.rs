//! Extracts as requests: in the ingest function, in a task, and from the secret of another database.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::{Engine, Schema};
use spillway_test_env::lambda::Function;
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};

const SECRET: &str = "prod/shop";
const FOLDER: &str = "data/batch/items/year=2026/month=11/day=30/hhmm=0830/";

async fn create_items(schema: &Schema, rows: u32) -> Result<()> {
    let mut client = schema.client(schema.port).await?;
    client.execute("CREATE TABLE items (id int PRIMARY KEY, note varchar(200))").await?;
    for id in 0..rows {
        client.execute(&format!("INSERT INTO items VALUES ({id}, 'a, b')")).await?;
    }
    Ok(())
}

/// A second database of the same server, whose login is in a secret.
async fn other_database(test_env: &TestEnv, rows: u32) -> Result<Schema> {
    let other = test_env.server.schema().await?;
    create_items(&other, rows).await?;
    let secret = json!({
        "username": other.user, "password": other.password, "host": "127.0.0.1", "port": test_env.server.port(),
        "dbname": other.name, "engine": other.engine.name(),
    });
    let secrets = &test_env.fixture.account.secrets;
    secrets.create_secret().name(SECRET).secret_string(secret.to_string()).send().await?;
    Ok(other)
}

async fn run_in_function(settings: &Settings, request: &Value) -> Result<Value> {
    let response = Function::ingest(settings)?.invoke(request).await?;
    response.ensure_success()?;
    Ok(serde_json::from_str(response.body["body"].as_str().context("the response has no body")?)?)
}

/// The sample extracts the database of the settings. The same request later reads nothing.
#[rstest]
#[tokio::test]
async fn function_extracts_its_own_database(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    create_items(&test_env.fixture.schema, 3).await?;
    let sample = std::fs::read_to_string(run::workspace().join("events/ingest-extract.json"))?;
    let request: Value = serde_json::from_str(&sample)?;
    for status in ["extracted", "already_extracted"] {
        let response = run_in_function(&test_env.settings(), &request).await?;
        let extract = &response["extracts"][0];
        assert_eq!((&extract["status"], &extract["rows"], &extract["parts"]), (&json!(status), &json!(3), &json!(1)));
        assert_eq!(extract["folder"], FOLDER);
    }
    let keys = test_env.fixture.account.keys(FOLDER).await?;
    assert_eq!(keys, [format!("{FOLDER}_manifest.json"), format!("{FOLDER}items_part1.csv.gz")]);
    Ok(())
}

/// Of two extracts, one fails. The other one is written, and the failure names its extract.
#[tokio::test]
async fn failed_extract_does_not_stop_the_others() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    other_database(&test_env, 4).await?;
    let extract =
        |table: &str| json!({"secret": SECRET, "table": table, "to": "data/batch/", "at": "2026-11-30T08:30"});
    let request = json!({"extract": [extract("missing"), extract("items")]});
    let response = Function::ingest(&test_env.settings())?.invoke(&request).await?;
    ensure!(response.is_failure(), "{}", response.body);
    let message = response.error_message();
    ensure!(message.contains("the extract of \"missing\" failed") && !message.contains("items"), "{message}");
    assert_eq!(test_env.fixture.account.keys(FOLDER).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn task_runs_a_request() -> Result<()> {
    let test_env = TestEnv::on(Engine::MariaDb).await?;
    other_database(&test_env, 5).await?;
    let extract = json!({"secret": SECRET, "query": "SELECT id FROM items WHERE id > 1", "name": "items", "to": "data/batch",
                         "at": "2026-11-30T08:30", "batch_size": 2, "compression": "none"});
    let settings = test_env.settings().with("TASK_REQUEST", json!({"extract": extract}));
    let finished = Task::run(&settings, TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    let line = finished.logs.lines().find(|line| line.contains("\"status\":\"extracted\"")).context("no result")?;
    let result: Value = serde_json::from_str(line)?;
    assert_eq!((&result["rows"], &result["parts"]), (&json!(3), &json!(2)), "{result}");
    let parts = [1, 2].map(|number| format!("{FOLDER}items_part{number}.csv"));
    assert_eq!(test_env.fixture.account.keys(&format!("{FOLDER}items")).await?, parts);
    let invalid = Task::run(&test_env.settings().with("TASK_REQUEST", "{\"extract\": {}}"), TASK_TIMEOUT).await?;
    ensure!(
        invalid.code() == Some(2) && invalid.logs.contains("TASK_REQUEST"),
        "{:?} {}",
        invalid.status,
        invalid.logs
    );
    Ok(())
}
