//! Files that the task and the functions copy into Redshift, on a double of its Data API over PostgreSQL.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::cloud::REGION;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::Counted;
use spillway_test_env::lambda::Function;
use spillway_test_env::process::Signal;
use spillway_test_env::redshift::{DataApi, WORKGROUP};
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};

const REACH_TIMEOUT: Duration = Duration::from_secs(90);
const KEY: &str = "uploads/day/orders.csv";

/// A test environment on PostgreSQL behind the double, and the settings of a program that uses it.
async fn environment() -> Result<(TestEnv, DataApi, Settings)> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let api = DataApi::start(&test_env.fixture.schema, &test_env.fixture.account).await?;
    let without = ["RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD"];
    let settings = without
        .iter()
        .fold(test_env.settings(), |settings, name| settings.without(name))
        .with("RDS_ENGINE", "redshift")
        .with("REDSHIFT_WORKGROUP", WORKGROUP)
        .with("REDSHIFT_SORT_KEY", "file,record")
        .with("AWS_ENDPOINT_URL_REDSHIFT_DATA", api.endpoint());
    Ok((test_env, api, settings))
}

/// Fails unless each row is stored once, and no object for COPY is left.
async fn ensure_once(test_env: &TestEnv) -> Result<()> {
    test_env.fixture.ensure_exactly_once(&test_env.server).await?;
    let keys = test_env.fixture.account.keys("copy/").await?;
    ensure!(keys.is_empty(), "left over: {keys:?}");
    Ok(())
}

/// A file is loaded once into a table that is created for it. Duplicate events and later files change no row of it.
#[tokio::test]
async fn files_are_copied_once() -> Result<()> {
    let (mut test_env, api, settings) = environment().await?;
    let first = test_env.fixture.upload(KEY, 3000).await?;
    test_env.deliver(&settings, &[&first]).await?.ensure_success()?;
    test_env.deliver(&settings, &[&first]).await?.ensure_success()?;
    let second = test_env.fixture.upload("uploads/day/more.csv", 500).await?;
    test_env.deliver(&settings, &[&second]).await?.ensure_success()?;
    assert_eq!(api.loads(), 2);
    let runs = test_env.invoke_ingest(&settings, &json!({"runs": {}})).await?;
    ensure!(!runs.is_failure() && runs.body.to_string().matches("loaded").count() >= 2, "{}", runs.body);
    ensure_once(&test_env).await
}

/// The settings for a load mode. The merge key of the fixture's rows is unique.
fn in_mode(settings: &Settings, mode: &str) -> Settings {
    let settings = settings.clone().with("LOAD_MODE", mode);
    if mode == "merge" { settings.with("MERGE_KEY", "file,record") } else { settings }
}

/// A worker that is killed at any step of a load leaves a file that the next worker loads once.
#[rstest]
#[tokio::test]
async fn killed_worker_loads_once(
    #[values("append", "replace", "merge")] mode: &str,
    #[values(
        "Begun",
        "RowsFirst",
        "RowsHalf",
        "RowsAll",
        "BeforeLedgerEnd",
        "BeforeCommit",
        "AfterCommit",
        "BeforeDelete"
    )]
    failpoint: &str,
) -> Result<()> {
    let (mut test_env, _api, settings) = environment().await?;
    let settings = in_mode(&settings, mode);
    test_env.fixture.upload(KEY, 400).await?;
    let pause = Pause::at(failpoint)?;
    let task = Task::start(&settings.clone().with("CSV_KEY", KEY).and(&pause.settings()))?;
    pause.wait_until_reached(REACH_TIMEOUT).await?;
    task.signal(Signal::Kill)?;
    ensure!(task.finish(TASK_TIMEOUT).await?.was_ended_by(Signal::Kill), "the task ended before {failpoint}");
    test_env.run_task_until_done(&settings, KEY).await?;
    test_env.sweep(&settings).await?;
    ensure_once(&test_env).await
}

/// A worker is killed while its transaction waits. The transaction is committed later, or not at all: the rows exist once.
#[rstest]
#[tokio::test]
async fn transaction_of_a_killed_worker_counts_once(#[values("append", "replace", "merge")] mode: &str) -> Result<()> {
    let (mut test_env, api, settings) = environment().await?;
    let settings = in_mode(&settings, mode);
    test_env.fixture.upload(KEY, 400).await?;
    api.hold_loads(true);
    let task = Task::start(&settings.clone().with("CSV_KEY", KEY))?;
    spillway_test_env::wait::until("the load to be sent", REACH_TIMEOUT, async || Ok(api.loads() == 1)).await?;
    task.signal(Signal::Kill)?;
    task.finish(TASK_TIMEOUT).await?;
    api.hold_loads(false);
    test_env.run_task_until_done(&settings, KEY).await?;
    api.wait_until_idle().await?;
    test_env.sweep(&settings).await?;
    ensure_once(&test_env).await
}

/// A function whose time ends while its transaction waits fails the event. The event that comes again stores the rows once,
/// whether the transaction runs before it or after it.
#[rstest]
#[tokio::test]
async fn function_that_ends_during_its_transaction_loads_once(#[values("append", "merge")] mode: &str) -> Result<()> {
    let (mut test_env, api, settings) = environment().await?;
    let settings = in_mode(&settings, mode);
    let object = test_env.fixture.upload(KEY, 400).await?;
    api.hold_loads(true);
    let trigger = Function::trigger(&settings)?.with_timeout(20);
    let response = trigger.invoke(&test_env.fixture.event(&[&object])).await?;
    ensure!(response.is_failure() && api.loads() == 1, "{}", response.body);
    api.hold_loads(false);
    test_env.deliver_until_accepted(&settings, &[&object]).await?.ensure_success()?;
    api.wait_until_idle().await?;
    test_env.sweep(&settings).await?;
    ensure_once(&test_env).await
}

/// Of six tasks that load one file at the same time, one stores its rows.
#[rstest]
#[tokio::test]
async fn six_tasks_load_one_file_once(#[values("append", "replace", "merge")] mode: &str) -> Result<()> {
    let (mut test_env, api, settings) = environment().await?;
    let settings = in_mode(&settings, mode);
    test_env.fixture.upload(KEY, 400).await?;
    let tasks: Result<Vec<Task>> = (0..6).map(|_| Task::start(&settings.clone().with("CSV_KEY", KEY))).collect();
    for task in tasks? {
        task.finish(TASK_TIMEOUT).await?;
    }
    test_env.run_task_until_done(&settings, KEY).await?;
    api.wait_until_idle().await?;
    test_env.sweep(&settings).await?;
    ensure_once(&test_env).await
}

/// A replaced table has the rows of the newest file, and a merged one the newest row of each key.
#[tokio::test]
async fn files_replace_a_table_and_are_merged() -> Result<()> {
    let (test_env, api, settings) = environment().await?;
    let load = async |key: &str, body: &str, mode: &str| {
        let object = test_env.fixture.account.put(key, body.to_owned()).await?;
        let settings = settings.clone().with("RDS_TABLE", "prices").with("LOAD_MODE", mode).with("MERGE_KEY", "id");
        let settings = if mode == "merge" { settings } else { settings.without("MERGE_KEY") };
        test_env.deliver(&settings, &[&object]).await?.ensure_success()
    };
    let rows = async || test_env.rows("SELECT id, price FROM {schema}.prices ORDER BY id").await;
    let text = |rows: &[[&str; 2]]| -> Vec<Vec<Option<String>>> {
        rows.iter().map(|row| row.iter().map(|field| Some((*field).to_owned())).collect()).collect()
    };
    load("uploads/a.csv", "id,price\n1,1.50\n2,2.50\n", "replace").await?;
    load("uploads/b.csv", "id,price\n3,3.50\n", "replace").await?;
    assert_eq!(rows().await?, text(&[["3", "3.50"]]));
    load("uploads/c.csv", "id,price\n3,3.75\n4,4.50\n4,4.75\n", "merge").await?;
    assert_eq!(rows().await?, text(&[["3", "3.75"], ["4", "4.75"]]));
    // The counts of a merge are those of the server.
    let runs = test_env.invoke_ingest(&settings, &json!({"runs": {}})).await?.body.to_string();
    ensure!(runs.contains("rows_updated") && runs.contains("merge") && runs.contains("replace"), "{runs}");
    assert_eq!(api.loads(), 3);
    let keys = test_env.fixture.account.keys("copy/").await?;
    ensure!(keys.is_empty(), "left over: {keys:?}");
    Ok(())
}

/// A load whose responses are lost merges once, and a key that the table has twice leads to the fallback.
#[tokio::test]
async fn merge_without_responses_and_of_a_key_twice() -> Result<()> {
    let (mut test_env, api, settings) = environment().await?;
    let settings = in_mode(&settings, "merge");
    let object = test_env.fixture.upload(KEY, 40).await?;
    api.lose_responses(4);
    api.lose_results(12);
    test_env.deliver(&settings, &[&object]).await?.ensure_success()?;
    api.lose_results(0);
    assert_eq!((api.loads(), test_env.fixture.count(&test_env.server).await?.database), (1, 40));
    test_env.sql("INSERT INTO {schema}.orders SELECT * FROM {schema}.orders").await?;
    let more = test_env.fixture.account.put(KEY, "file,record,checksum,note\norders,1,x,y\n".to_owned());
    let more = more.await?;
    test_env.deliver(&settings, &[&more]).await?.ensure_success()?;
    assert_eq!(test_env.fixture.count(&test_env.server).await?.database, 80);
    Ok(())
}

/// While the Data API does not respond, the rows go to the fallback. A replay copies them.
#[tokio::test]
async fn outage_leads_to_the_fallback_and_a_replay() -> Result<()> {
    let (mut test_env, api, settings) = environment().await?;
    let object = test_env.fixture.upload(KEY, 400).await?;
    api.set_down(true);
    test_env.deliver(&settings, &[&object]).await?.ensure_success()?;
    assert_eq!(test_env.fixture.count(&test_env.server).await?, Counted { database: 0, fallback: 400 });
    api.set_down(false);
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.iter().all(|report| report["outcome"] == "replayed") && reports.len() == 1, "{reports:?}");
    assert_eq!(test_env.fixture.count(&test_env.server).await?, Counted { database: 400, fallback: 0 });
    test_env.sweep(&settings).await?;
    ensure_once(&test_env).await
}

/// The script for a real account also runs on the double. So its comparisons are right, and it removes what it has created.
#[tokio::test]
async fn proof_in_an_account_passes_on_the_double() -> Result<()> {
    let (test_env, _api, settings) = environment().await?;
    let folder = run::Scratch::new("proof")?;
    let (python, program) = (run::tool("python")?, run::workspace().join("tests/deploy/aws.py"));
    let aws = folder.path().join("aws");
    std::fs::write(&aws, format!("#!/bin/sh\nexec {} {} \"$@\"\n", python.display(), program.display()))?;
    std::fs::set_permissions(&aws, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let output = tokio::process::Command::new(run::workspace().join("scripts/prove-in-account"))
        .arg("redshift")
        .env_clear()
        .envs(settings.iter())
        .env("AWS_DEFAULT_REGION", REGION)
        .env("TASK", run::binary("spillway-task")?)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .output()
        .await?;
    let [steps, problems] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(output.status.success() && steps.contains("== done"), "{steps}{problems}");
    let tables = test_env.rows("SELECT CAST(tablename AS text) FROM pg_tables WHERE tablename LIKE 'spillway_prove%'");
    assert_eq!(tables.await?, spillway_test_env::database::Rows::new());
    for prefix in ["spillway-prove", "copy/"] {
        let keys = test_env.fixture.account.keys(prefix).await?;
        ensure!(keys.is_empty(), "left over: {keys:?}");
    }
    Ok(())
}

/// A table that lacks the file's columns leads to the fallback, with no row in the table.
#[tokio::test]
async fn table_that_does_not_fit_leads_to_the_fallback() -> Result<()> {
    let (mut test_env, _api, settings) = environment().await?;
    test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(100))").await?;
    let object = test_env.fixture.upload(KEY, 30).await?;
    test_env.deliver(&settings, &[&object]).await?.ensure_success()?;
    assert_eq!(test_env.fixture.count(&test_env.server).await?, Counted { database: 0, fallback: 30 });
    ensure_once(&test_env).await
}

/// A check passes, and names the statement that loads rows.
#[tokio::test]
async fn check_passes() -> Result<()> {
    let (test_env, _api, settings) = environment().await?;
    let response = test_env.invoke_ingest(&settings, &json!({"check": {}})).await?;
    let text = response.body["body"].as_str().map(str::to_owned).unwrap_or_else(|| response.body.to_string());
    let body: Value = serde_json::from_str(&text)?;
    let items = body["items"].as_array().or_else(|| body["check"]["items"].as_array()).context("no items")?;
    for name in ["secret", "database", "load_statement", "temporary_table", "table", "ledger", "history"] {
        let item = items.iter().find(|item| item["name"] == name).with_context(|| format!("no item {name}"))?;
        ensure!(item["ok"] == true, "{item}");
    }
    ensure!(text.contains("COPY of Parquet"), "{text}");
    Ok(())
}
