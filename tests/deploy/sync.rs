//! A sync of many files that is killed again and again, and the cost of a sync that finds nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::lambda::Function;

use crate::load::sync::RawZone;

/// The number of kills.
const KILLS: usize = 40;
/// The number of parts for each table and hour.
const PARTS: usize = 14;

/// 1,008 parts of three tables in 24 partitions each, and a sync that is killed 40 times among its files. Then a sync that finds
/// nothing.
#[tokio::test]
#[ignore = "takes minutes; part of `make test-stack`"]
async fn sync_survives_forty_kills() -> Result<()> {
    let mut zone = RawZone::new(Engine::Postgres).await?;
    let hours: Vec<i64> = (0..24).collect();
    let count = zone.upload(&hours, 1..=PARTS).await?;
    let start = Instant::now();
    for kill in 1..=KILLS {
        let call = Function::ingest(&zone.settings)?.start(&json!({"sync": {}})).await?;
        // Files remain after the last kill. So each kill meets other files, and none is parked after three deaths.
        let wanted = kill * (count - count / 8) / KILLS;
        while zone.loaded().await? < wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        call.kill().await?;
    }
    let (killed, loaded) = (start.elapsed(), zone.loaded().await?);
    zone.sync_until_done().await?;
    println!(
        "{count} parts, {KILLS} kills in {killed:.1?} ({loaded} loaded), all loaded after {:.1?}",
        start.elapsed()
    );
    zone.ensure_exactly_once().await?;

    println!("{}", sync_that_finds_nothing(&zone).await?);
    Ok(())
}

/// Fails if the sync finds something. Returns its cost.
async fn sync_that_finds_nothing(zone: &RawZone) -> Result<String> {
    let start = Instant::now();
    let tables = zone.sync(json!({})).await?;
    let sum = |field: &str| -> u64 { tables.iter().filter_map(|table: &Value| table[field].as_u64()).sum() };
    ensure!(sum("done") == sum("files"), "{tables:?}");
    Ok(format!(
        "a sync that finds nothing: {} files, {} requests to S3, {:.1?} with the start of the function",
        sum("files"),
        sum("s3_requests"),
        start.elapsed()
    ))
}
