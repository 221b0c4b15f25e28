//! The ledger and the attempt history of local files: what `spillway load` leaves there.

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::file;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::spillway;
use tokio::process::Command;

use crate::cli::site::{Site, report};

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
