//! Lists of runs, fallbacks and rejects, by request and by the command line, and the command line against a deployed stack.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::cloud::Cloud;
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::Fixture;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;
use spillway_test_env::{run, wait};
use tokio::process::Command;

/// The time limit for a command and for the functions of a stack.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A command that has ended: exit code, standard output, standard error.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not one JSON document: {self:?}"))
    }
}

/// Runs `spillway` with only these settings.
async fn spillway(settings: &Settings, arguments: &[&str]) -> Result<Ended> {
    let command = Command::new(run::binary("spillway")?)
        .args(arguments)
        .env_clear()
        .envs(settings.iter())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TIMEOUT, command).await.context("the command takes too long")??;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("the output is not UTF-8");
    Ok(Ended { code: output.status.code(), stdout: text(output.stdout)?, stderr: text(output.stderr)? })
}

/// Sends a list request to the ingest function, and returns the list.
async fn list(test_env: &TestEnv, request: &Value) -> Result<Value> {
    let response = test_env.invoke_ingest(&test_env.settings(), request).await?;
    response.ensure_success()?;
    let body: Value = serde_json::from_str(response.body["body"].as_str().context("no body")?)?;
    Ok(body["list"].clone())
}

/// The keys and outcomes of a list of runs, with the number of attempts.
fn outcomes(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|run| format!("{} {} {}", text(&run["key"]), text(&run["outcome"]), run["attempts"])).collect()
}

/// Loads a file, rejects one, and sends one to the fallback that does not fit the table.
async fn three_files(test_env: &mut TestEnv) -> Result<()> {
    let settings = test_env.settings();
    let loaded = test_env.fixture.upload("uploads/loaded.csv", 10).await?;
    let broken = "file,record,checksum,note\na,1,\"never closed\n";
    let rejected = test_env.fixture.account.put("uploads/rejected.csv", broken).await?;
    test_env.deliver_until_accepted(&settings, &[&loaded, &rejected]).await?;
    let wide = "file,record,checksum,note,coupon\nw,1,c,n,x\n";
    let fell_back = test_env.fixture.account.put("uploads/wide.csv", wide).await?;
    test_env.deliver_until_accepted(&settings, &[&fell_back]).await?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn runs_show_loads_fallbacks_rejected_files_and_failed_replays(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    three_files(&mut test_env).await?;
    // The table still lacks the column.
    for _ in 0..2 {
        let replay = test_env.invoke_ingest(&settings, &json!({"replay": {}})).await?;
        ensure!(replay.is_failure(), "{}", replay.body);
    }
    let all = list(&test_env, &json!({"runs": {}})).await?;
    let mut found = outcomes(&all);
    found.sort();
    let expected = [
        "uploads/loaded.csv loaded 1",
        "uploads/rejected.csv rejected 1",
        "uploads/wide.csv failed 2",
        "uploads/wide.csv fell_back 1",
    ];
    assert_eq!(found, expected, "{all:#}");
    let failed = list(&test_env, &json!({"runs": {"outcome": "failed", "table": "orders"}})).await?;
    assert_eq!(failed["items"][0]["error_kind"], "table_mismatch", "{failed:#}");
    let id = failed["items"][0]["source_id"].as_str().context("no id")?;

    let fallback = list(&test_env, &json!({"fallback": {"list": {}}})).await?;
    assert_eq!((&fallback["items"][0]["source_id"], &fallback["items"][0]["rows"]), (&json!(id), &json!(1)));
    let statement = match engine {
        Engine::MariaDb => "ALTER TABLE {schema}.orders ADD COLUMN coupon VARCHAR(8)",
        Engine::Postgres => "ALTER TABLE orders ADD COLUMN coupon text",
    };
    test_env.sql(statement).await?;
    test_env.replay(&settings).await?;
    let of_file = list(&test_env, &json!({"runs": {"id": &id[..16]}})).await?;
    let mut found: Vec<_> = outcomes(&of_file);
    found.sort();
    assert_eq!(found, ["uploads/wide.csv failed 2", "uploads/wide.csv fell_back 1", "uploads/wide.csv loaded 1"]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn commands_print_what_the_requests_return(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    three_files(&mut test_env).await?;

    let printed = spillway(&settings, &["runs", "list", "--json"]).await?;
    assert_eq!(printed.json()?["items"], list(&test_env, &json!({"runs": {}})).await?["items"], "{printed:?}");
    let text = spillway(&settings, &["runs", "list", "--outcome", "rejected"]).await?;
    ensure!(text.stdout.contains("uploads/rejected.csv") && !text.stdout.contains("uploads/wide.csv"), "{text:?}");
    ensure!(text.code == Some(0) && !text.stdout.contains("_aws"), "{text:?}");

    let page = run::Scratch::new("report")?;
    let file = page.path().join("runs.html");
    let report = spillway(&settings, &["runs", "report", "--out", &file.display().to_string()]).await?;
    ensure!(report.code == Some(0), "{report:?}");
    let html = std::fs::read_to_string(&file)?;
    ensure!(html.contains("uploads/loaded.csv") && html.contains("table_mismatch"), "{html}");

    let status = spillway(&settings, &["status", "uploads/wide.csv"]).await?;
    ensure!(status.code == Some(2) && status.stdout.starts_with("fell_back  uploads/wide.csv"), "{status:?}");
    let fallback = spillway(&settings, &["fallback", "list"]).await?;
    ensure!(fallback.code == Some(0) && fallback.stdout.contains("uploads/wide.csv"), "{fallback:?}");
    let show = spillway(&settings, &["fallback", "show", "uploads/wide.csv"]).await?;
    ensure!(show.stdout.contains("table_mismatch"), "{show:?}");
    let rejects = spillway(&settings, &["rejects", "list"]).await?;
    ensure!(rejects.code == Some(0) && rejects.stdout == "no rejected records\n", "{rejects:?}");

    test_env.fixture.upload("uploads/retried.csv", 5).await?;
    let retried = spillway(&settings, &["runs", "retry", "uploads/retried.csv"]).await?;
    ensure!(retried.code == Some(0) && retried.stdout.contains("loaded"), "{retried:?}");
    let sweep = spillway(&settings, &["sweep", "--json"]).await?;
    assert_eq!((sweep.code, &sweep.json()?["cleared"]["leases"]), (Some(0), &json!(0)), "{sweep:?}");
    let check = spillway(&settings, &["check"]).await?;
    ensure!(check.code == Some(0) && check.stdout.contains("ok      history"), "{check:?}");
    let wrong = spillway(&settings.with("RDS_PASSWORD", "pass-wrong"), &["check"]).await?;
    ensure!(wrong.code == Some(2) && wrong.stdout.contains("failed  database"), "{wrong:?}");
    Ok(())
}

/// The response without the items of a check that only the function tests.
fn without_events(mut response: Value) -> Value {
    if let Some(items) = response["items"].as_array_mut() {
        items.retain(|item| item["name"] != "queue" && item["name"] != "notification");
    }
    response
}

#[tokio::test]
async fn commands_here_and_in_the_deployed_function_return_the_same() -> Result<()> {
    let (server, cloud) = (Database::start(Engine::MariaDb, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let stack = Deployment::deploy(&cloud, &server, &schema, &["DatabaseRetrySeconds=2"]).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);
    fixture.upload("uploads/orders.csv", 10).await?;
    wait::until("the file to be loaded", TIMEOUT, async || {
        Ok(!fixture.account.keys("processed/").await?.is_empty() && fixture.account.keys("lease/").await?.is_empty())
    })
    .await?;

    let settings = stack.account.settings();
    // The settings of the deployed function.
    let here = settings.clone().and(&stack.ingest_settings().await?);
    for arguments in [
        &["check", "--json"][..],
        &["status", "--json"],
        &["status", "uploads/orders.csv", "--json"],
        &["runs", "list", "--json"],
        &["fallback", "list", "--json"],
        &["rejects", "list", "--json"],
    ] {
        let deployed = spillway(&settings, &[arguments, &["--stack", &stack.stack]].concat()).await?;
        let local = spillway(&here, arguments).await?;
        let is_same = deployed.code == local.code && without_events(deployed.json()?) == without_events(local.json()?);
        ensure!(is_same, "{deployed:?}\n{local:?}");
        ensure!(deployed.code == Some(0), "{deployed:?}");
    }
    let function = stack.output("IngestFunctionName")?;
    let named = spillway(&settings, &["status", "--function", function]).await?;
    ensure!(named.code == Some(0) && named.stdout.starts_with("database  available"), "{named:?}");
    let unknown = spillway(&settings, &["status", "--stack", "no-such-stack"]).await?;
    ensure!(unknown.code == Some(64) && unknown.stderr.contains("no-such-stack"), "{unknown:?}");
    let invalid = spillway(&settings, &["runs", "list", "--since", "yesterday", "--stack", &stack.stack]).await?;
    ensure!(invalid.code == Some(64) && invalid.stderr.contains("since is \"yesterday\""), "{invalid:?}");
    Ok(())
}
