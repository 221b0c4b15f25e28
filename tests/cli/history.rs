//! The ledger and the attempt history of local files: what `spillway load` leaves there.

use anyhow::Result;
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::file;
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
