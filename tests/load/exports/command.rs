//! `spillway exports`: imports versions in one process, with the registry of the state machine, and shows them.

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::process::Signal;
use spillway_test_env::terminal::{Ended, Running, spillway};

use super::site::{Site, TIMEOUT, csv, rows, version};

impl Site {
    fn folder(&self, version: &str) -> String {
        format!("s3://{}/exports/tenant/test_table/{version}/", self.test_env.fixture.account.bucket)
    }

    async fn import_here(&self, version: &str) -> Result<Ended> {
        spillway(&self.settings, &["exports", "import", &self.folder(version), "--json"]).await
    }

    async fn show(&self) -> Result<Value> {
        spillway(&self.settings, &["exports", "show", "tenant", "test_table", "--json"]).await?.ensure_code(0)?.json()
    }
}

#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn versions_are_imported_by_the_command(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    site.put(&version(1), &csv(&rows(1))).await?;
    let first = site.import_here(&version(1)).await?.ensure_code(0)?;
    let counts = first.json()?["statistics"].clone();
    assert_eq!((&counts["inserted"], &counts["compared_with"]), (&json!(rows(1).len()), &Value::Null), "{first:?}");
    // Again, and a version that the functions import after it.
    let again = site.import_here(&version(1)).await?.ensure_code(0)?.json()?;
    assert_eq!((&again["status"], &again["statistics"]), (&json!("done"), &Value::Null));
    site.import(&version(2), &rows(2), None).await?;
    site.put(&version(3), &csv(&rows(3))).await?;
    let third = site.import_here(&version(3)).await?.ensure_code(0)?.json()?;
    assert_eq!(third["statistics"]["compared_with"], version(2).as_str(), "{third}");
    ensure!(site.table().await? == rows(3), "the table has other rows");
    let stale = site.import_here(&version(1)).await?.ensure_code(0)?.json()?;
    assert_eq!(stale["status"], "stale");
    let show = site.show().await?;
    let states: Vec<&Value> = show["versions"].as_array().into_iter().flatten().map(|found| &found["state"]).collect();
    assert_eq!(states, [&json!("done"); 3]);
    let list = spillway(&site.settings, &["exports", "list"]).await?.ensure_code(0)?;
    ensure!(list.stdout.contains("test_table") && list.stdout.contains(&version(3)), "{list:?}");
    Ok(())
}

/// The process is killed, and the command runs again after the lock has expired.
#[rstest]
#[tokio::test]
async fn killed_command_is_repeated(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("ImportPlanned", "BeforeCommit", "AfterCommit", "ImportFinished")] point: &str,
) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    site.put(&version(2), &csv(&rows(2))).await?;
    let pause = Pause::at(point)?;
    let arguments = ["exports", "import", &site.folder(&version(2))];
    let running = Running::start(&site.settings.clone().and(&pause.settings()), &arguments)?;
    pause.wait_until_reached(TIMEOUT).await?;
    running.signal(Signal::Kill)?;
    running.finish(b"").await?;
    if point != "ImportFinished" {
        site.expire_lock().await?;
    }
    site.import_here(&version(2)).await?.ensure_code(0)?;
    ensure!(site.table().await? == rows(2), "the table has other rows");
    let loads = site.test_env.rows("SELECT source_id FROM {schema}.spillway_ledger WHERE state = 'loaded'").await?;
    assert_eq!(loads.len(), 2);
    Ok(())
}

#[tokio::test]
async fn command_that_is_stopped_or_fails_releases_the_lock() -> Result<()> {
    let site = Site::new(Engine::Postgres, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    site.put(&version(2), &csv(&rows(2))).await?;
    let pause = Pause::at("ImportDeltaWritten")?;
    let arguments = ["exports", "import", &site.folder(&version(2))];
    let running = Running::start(&site.settings.clone().and(&pause.settings()), &arguments)?;
    pause.wait_until_reached(TIMEOUT).await?;
    running.signal(Signal::Interrupt)?;
    pause.release()?;
    running.finish(b"").await?.ensure_code(130)?;
    // A key twice.
    site.put(&version(3), "id,name,price\n1,a,1\n1,b,2\n").await?;
    let refused = site.import_here(&version(3)).await?.ensure_code(1)?;
    ensure!(format!("{refused:?}").contains("has the same key"), "{refused:?}");
    let text = spillway(&site.settings, &["exports", "show", "tenant", "test_table"]).await?.ensure_code(0)?;
    ensure!(text.stdout.contains("failed") && text.stdout.contains("has the same key"), "{text:?}");
    site.import_here(&version(2)).await?.ensure_code(0)?;
    ensure!(site.table().await? == rows(2), "the table has other rows");
    let other = spillway(&site.settings, &["exports", "show", "tenant", "other"]).await?.ensure_code(1)?;
    ensure!(other.stderr.contains("no table other of tenant"), "{other:?}");
    Ok(())
}
