//! A burst of uploads opens no more connections than the configured number of concurrent uploads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_test_env::cloud::Cloud;
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::Fixture;
use spillway_test_env::wait;

const CONCURRENCY: usize = 3;
const RECORDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(280);

#[rstest]
#[case::short(150)]
#[ignore = "takes minutes; part of `make test-stack`"]
#[case::long(1_000)]
#[tokio::test]
async fn a_burst_stays_below_the_limit_of_connections(#[case] files: usize) -> Result<()> {
    let (server, cloud) = (Database::start(Engine::MariaDb, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let parameters = [format!("MaxConcurrency={CONCURRENCY}")];
    let stack = Deployment::deploy(&cloud, &server, &schema, &[parameters[0].as_str()]).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);
    let own = most_connections(&server, &fixture).await?;

    let started = Instant::now();
    for number in 0..files {
        fixture.upload(&format!("uploads/{number}.csv"), RECORDS).await?;
    }
    wait::until("all files to be loaded", LIMIT, async || {
        Ok(fixture.account.keys("uploads/").await?.is_empty() && fixture.account.keys("lease/").await?.is_empty())
    })
    .await?;
    let most = most_connections(&server, &fixture).await?;
    println!(
        "{files} files in {:.1} s, at most {most} connections, {own} of them the test's",
        started.elapsed().as_secs_f64()
    );
    ensure!(most <= CONCURRENCY + own, "{most} connections at once");
    assert_eq!(fixture.count(&server).await?.database, files * RECORDS);
    fixture.ensure_exactly_once(&server).await
}

/// The most connections at once since the server started.
async fn most_connections(server: &Database, fixture: &Fixture) -> Result<usize> {
    let rows = server.query(&fixture.schema, "SHOW GLOBAL STATUS LIKE 'Max_used_connections'").await?;
    let value = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref).context("no status")?;
    Ok(value.parse()?)
}
