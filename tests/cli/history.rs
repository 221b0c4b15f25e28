//! The ledger and the attempt history of local files: what `spillway load` leaves there.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::file;
use spillway_test_env::process::Signal;
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Running, spillway};
use tokio::process::Command;

use crate::cli::site::{Site, TABLE, error, report};

/// The name of this host, from the system.
async fn system_host() -> Result<String> {
    let output = Command::new("uname").arg("-n").output().await?;
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// Earlier versions wrote `file://local`, because shells do not export `HOSTNAME`.
#[rstest]
#[tokio::test]
async fn host_is_not_part_of_the_identity(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("content", "version")] dedupe: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = site.settings().with("DEDUPE", dedupe);
    let path = site.file("orders.csv", file("orders.csv", 5).0)?;
    let earlier = settings.clone().with("HOSTNAME", "local");
    site.load(&earlier, &[&path]).await?.ensure_code(0)?;
    let again = site.load(&settings, &[&path]).await?.ensure_code(0)?;
    assert_eq!(report(&again)?["outcome"], json!("already_loaded"), "{again:?}");
    assert_eq!(site.buckets().await?, ["file://local"]);
    let copy = site.file("copy.csv", file("orders.csv", 5).0)?;
    let copied = site.load(&settings, &[&copy]).await?.ensure_code(0)?;
    let (expected, rows) = if dedupe == "content" { ("already_loaded", 5) } else { ("loaded", 10) };
    assert_eq!((&report(&copied)?["outcome"], site.rows().await?), (&json!(expected), rows), "{copied:?}");
    assert_eq!(site.buckets().await?, ["file://local".to_owned(), format!("file://{}", system_host().await?)]);
    Ok(())
}

/// A file that the table refuses, and one that is broken before the database is asked: both are in the history, with the reason.
#[rstest]
#[tokio::test]
async fn failed_load_is_an_attempt(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let broken = site.file("broken.csv", "id,qty\n1,10\n2\n")?;
    for _ in 0..2 {
        site.load(&site.settings(), &[&broken]).await?.ensure_code(1)?;
    }
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, qty INT NULL)")).await?;
    let refused = site.file("refused.csv", "id,qty\n1,many\n")?;
    site.load(&site.settings(), &[&refused]).await?.ensure_code(1)?;
    let list = list(&site, &["--outcome", "failed"]).await?;
    let runs = list["items"].as_array().context("items")?;
    let of = |index: usize, name: &str| runs[index][name].clone();
    assert_eq!(runs.len(), 2, "{list}");
    assert_eq!((of(0, "error_kind"), of(0, "key")), (json!("data_refused"), json!(refused)), "{list}");
    assert_eq!((of(1, "error_kind"), of(1, "attempts")), (json!("file_broken"), json!(2)), "{list}");
    assert_eq!((of(1, "table"), of(1, "rows_stored")), (json!(TABLE), json!(0)), "{list}");
    let reason = of(0, "reason").to_string();
    ensure!(reason.contains("column qty") && !reason.contains("many"), "{reason}");
    assert_eq!(site.rows().await?, 0);
    Ok(())
}

/// The load ends as before if the history cannot be written: the user lacks the rights, or the database is down.
#[rstest]
#[tokio::test]
async fn load_fails_in_the_same_way_without_a_history(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let broken = site.file("broken.csv", "id,qty\n1,10\n2\n")?;
    let log = site.settings().with("LOG_LEVEL", "debug");
    let unreachable = log.clone().with("RDS_PORT", run::free_port()?);
    // The file is broken, so its load does not ask the database.
    let ended = site.load(&unreachable, &[&broken]).await?.ensure_code(1)?;
    assert_eq!(error(&ended)?["kind"], json!("file_broken"), "{ended:?}");
    assert_eq!(ended.stderr.matches("could not be recorded in the history").count(), 1, "{}", ended.stderr);
    let good = site.file("good.csv", "id,qty\n1,10\n")?;
    let ended = site.load(&unreachable.with("RDS_RETRY_SECONDS", 0), &[&good]).await?.ensure_code(1)?;
    assert_eq!(error(&ended)?["kind"], json!("unreachable"), "{ended:?}");
    assert_eq!(ended.stderr.matches("is not recorded in the history").count(), 1, "{}", ended.stderr);
    // A table of this name without the columns of a history.
    site.load(&site.settings(), &[&good]).await?.ensure_code(0)?;
    site.sql("DROP TABLE {schema}.spillway_ledger_attempts").await?;
    site.sql("CREATE TABLE {schema}.spillway_ledger_attempts (other INT)").await?;
    let ended = site.load(&log, &[&broken]).await?.ensure_code(1)?;
    assert_eq!(error(&ended)?["kind"], json!("file_broken"), "{ended:?}");
    let quiet = site.load(&site.settings(), &[&broken]).await?.ensure_code(1)?;
    ensure!(!quiet.stderr.contains("history"), "{}", quiet.stderr);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn interrupted_load_is_an_attempt(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("orders.csv", file("orders.csv", 5).0)?;
    let pause = Pause::at("RowsAll")?;
    let settings = site.settings().and(&pause.settings());
    let running = Running::start(&settings, &["load", &path, "--json", "--table", TABLE])?;
    pause.wait_until_reached(Duration::from_secs(60)).await?;
    running.signal(Signal::Terminate)?;
    running.finish(b"").await?.ensure_code(75)?;
    let list = list(&site, &[]).await?;
    assert_eq!(list["items"][0]["error_kind"], json!("interrupted"), "{list}");
    Ok(())
}

/// The runs that the command lists with only the settings of the database.
async fn list(site: &Site, arguments: &[&str]) -> Result<Value> {
    let all = [&["runs", "list", "--json"], arguments].concat();
    spillway(&site.settings(), &all).await?.ensure_code(0)?.json()
}

#[rstest]
#[tokio::test]
async fn runs_of_every_table_are_listed(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = site.settings();
    let path = site.file("orders.csv", file("orders.csv", 5).0)?;
    for table in ["orders", "others"] {
        spillway(&settings, &["load", &path, "--table", table]).await?.ensure_code(0)?;
    }
    let tables = |list: &Value| -> Vec<String> {
        let runs = list["items"].as_array().into_iter().flatten();
        runs.filter_map(|run| run["table"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(tables(&list(&site, &[]).await?), ["others", "orders"]);
    assert_eq!(tables(&list(&site, &["--table", "orders"]).await?), ["orders"]);
    // A bucket of the settings adds its objects, and an option selects its objects only.
    assert_eq!(tables(&list(&site, &["--set", "S3_BUCKET=bucket"]).await?).len(), 2);
    assert_eq!(tables(&list(&site, &["--bucket", "bucket"]).await?).len(), 0);
    let of = |name: &str| settings.get(name).unwrap_or_default().to_owned();
    let scheme = if engine == Engine::MariaDb { "mariadb" } else { "postgres" };
    let url = format!("{scheme}://{}@127.0.0.1:{}/{}", of("RDS_USER"), of("RDS_PORT"), of("RDS_DB"));
    let only_password = Settings::default().with("RDS_PASSWORD", of("RDS_PASSWORD"));
    let options = ["runs", "list", "--json", "--to", &url, "--ca-file", &of("RDS_CA_FILE")];
    let by_url = spillway(&only_password, &options).await?.ensure_code(0)?.json()?;
    assert_eq!(tables(&by_url), ["others", "orders"]);
    let missing = spillway(&Settings::default(), &["runs", "list"]).await?.ensure_code(64)?;
    ensure!(missing.stderr.contains("--to URL"), "{}", missing.stderr);
    let both = spillway(&settings, &["runs", "list", "--to", &url, "--stack", "s"]).await?.ensure_code(64)?;
    ensure!(both.stderr.contains("either a function or a database"), "{}", both.stderr);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn local_file_is_shown_and_retry_names_the_command(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = site.settings();
    let path = site.file("my orders.csv", "id,qty\n1,10\n2\n")?;
    site.load(&settings, &[&path]).await?.ensure_code(1)?;
    let command = format!("spillway load '{path}' --table {TABLE}");
    let show = spillway(&settings, &["runs", "show", &path]).await?.ensure_code(0)?;
    let address = format!("file://{}{path}", system_host().await?);
    ensure!(show.stdout.starts_with(&address), "{}", show.stdout);
    ensure!(show.stderr.contains(&command), "{}", show.stderr);
    let id = list(&site, &[]).await?["items"][0]["source_id"].as_str().context("an id")?.to_owned();
    for run in [path.as_str(), &address, &id[..16]] {
        let retry = spillway(&settings, &["runs", "retry", run]).await?.ensure_code(64)?;
        ensure!(retry.stderr.contains(&command) && !retry.stderr.contains("--again"), "{}", retry.stderr);
    }
    site.file("my orders.csv", "id,qty\n1,10\n")?;
    site.load(&settings, &[&path]).await?.ensure_code(0)?;
    let retry = spillway(&settings, &["runs", "retry", &path]).await?.ensure_code(64)?;
    ensure!(retry.stderr.contains("is loaded; there is nothing to retry"), "{}", retry.stderr);
    ensure!(!retry.stderr.contains("--again"), "{}", retry.stderr);
    let unknown = spillway(&settings, &["runs", "retry", "other.csv"]).await?.ensure_code(64)?;
    ensure!(unknown.stderr.contains("spillway load other.csv"), "{}", unknown.stderr);
    spillway(&settings, &["runs", "show", "other.csv"]).await?.ensure_code(1)?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn file_that_needs_no_load_is_explained(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = site.settings();
    let host = system_host().await?;
    let path = site.file("orders.csv", file("orders.csv", 5).0)?;
    let copy = site.file("copy.csv", file("orders.csv", 5).0)?;
    let load = async |arguments: &[&str]| {
        spillway(&settings, &[&["load", "--table", TABLE], arguments].concat()).await?.ensure_code(0)
    };
    load(&[&path]).await?;
    // The second load of the copy reads its own ledger row.
    for (file, reason) in [(&path, "it was"), (&copy, "the same content was"), (&copy, "the same content was")] {
        let ended = load(&[file]).await?;
        let expected = format!("{file}: already loaded: {reason} loaded from file://{host}{path} at 20");
        ensure!(ended.stdout.starts_with(&expected) && ended.stdout.contains(" UTC"), "{}", ended.stdout);
        ensure!(ended.stderr.contains("add --again to load it once more"), "{}", ended.stderr);
        let plan = spillway(&settings, &["plan", file, "--table", TABLE]).await?.ensure_code(0)?;
        ensure!(plan.stderr.contains("--again"), "{}", plan.stderr);
    }
    Ok(())
}

/// An older file does not replace a newer one, unless the user asks for it.
#[rstest]
#[tokio::test]
async fn older_file_names_the_newer_one(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = site.settings();
    let older = site.file("older.csv", "id,qty\n1,10\n")?;
    let newer = site.file("newer.csv", "id,qty\n1,10\n2,20\n")?;
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&older)?.set_modified(hour_ago)?;
    let load = async |arguments: &[&str]| {
        spillway(&settings, &[&["load", "--mode", "replace", "--table", TABLE], arguments].concat())
            .await?
            .ensure_code(0)
    };
    load(&[&newer]).await?;
    for _ in 0..2 {
        let ended = load(&[&older]).await?;
        let expected = format!("superseded: the newer file file://{}{newer} (changed at 20", system_host().await?);
        ensure!(ended.stdout.contains(&expected), "{}", ended.stdout);
        ensure!(ended.stderr.contains("add --again to replace the table"), "{}", ended.stderr);
    }
    load(&[&older, "--again"]).await?;
    assert_eq!(site.rows().await?, 1);
    Ok(())
}
