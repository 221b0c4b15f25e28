//! The task as a process of its own: its modes, its exit codes, and what SIGTERM does to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_harness::database::Engine;
use spillway_harness::fault::Pause;
use spillway_harness::process::Signal;
use spillway_harness::stage::{Stage, TASK_BOUND};
use spillway_harness::task::Task;
use spillway_harness::wait;
use spillway_harness::world::Counted;

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_prefix_is_loaded_whole_and_a_broken_file_does_not_stop_the_others() -> Result<()> {
    let mut stage = Stage::new().await?;
    for (key, records) in [("uploads/a/one.csv", 10), ("uploads/a/deep/TWO.CSV", 20), ("uploads/b/three.csv", 40)] {
        stage.world.upload(key, records).await?;
    }
    let broken = stage.world.account.put("uploads/a/broken.csv", "a,b\n1\n").await?;
    stage.world.account.put("uploads/a/readme.txt", "not ours").await?;
    let finished = Task::run(&stage.settings().with("CSV_PREFIX", "uploads/a/"), TASK_BOUND).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    assert_eq!(stage.count().await?.database, 30);
    assert_eq!(stage.world.account.keys("uploads/").await?, ["uploads/a/readme.txt", "uploads/b/three.csv"]);
    stage.world.expect_no_rows(broken);
    stage.run_task_until_done(&stage.settings(), "uploads/b/three.csv").await?;
    stage.ensure_kept().await
}

#[tokio::test]
async fn wrong_settings_end_the_task_with_2_and_name_the_setting() -> Result<()> {
    let stage = Stage::new().await?;
    for (settings, name) in [
        (stage.settings().without("S3_BUCKET"), "S3_BUCKET"),
        (stage.settings().without("RDS_TABLE"), "RDS_TABLE"),
        (stage.settings().with("CSV_MODE", "newest"), "CSV_MODE"),
        (stage.settings().with("PROCESSED_PREFIX", "uploads/done/"), "PROCESSED_PREFIX"),
    ] {
        let finished = Task::run(&settings, TASK_BOUND).await?;
        ensure!(finished.code() == Some(2), "{name}: {:?} {}", finished.status, finished.logs);
        assert!(finished.logs.contains(name), "{name}: {}", finished.logs);
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_reaches_no_end_ends_the_task_with_1() -> Result<()> {
    let mut stage = Stage::new().await?;
    let object = stage.world.upload("uploads/orders.csv", 10).await?;
    // The fallback cannot be written either: there is no such Glue database name.
    let settings = stage
        .settings()
        .with("RDS_PASSWORD", "wrong")
        .with("RDS_RETRY_SECONDS", 0)
        .with("AWS_ENDPOINT_URL_GLUE", "http://127.0.0.1:9");
    let finished = Task::run(&settings.with("CSV_KEY", &object.key), TASK_BOUND).await?;
    ensure!(finished.code() == Some(1), "{:?} {}", finished.status, finished.logs);
    assert_eq!(stage.world.account.keys("uploads/").await?, std::slice::from_ref(&object.key));
    stage.run_task_until_done(&stage.settings(), &object.key).await?;
    assert_eq!(stage.count().await?, Counted { database: 10, fallback: 0 });
    stage.sweep(&stage.settings()).await?;
    stage.ensure_kept().await
}

#[tokio::test]
async fn sigterm_rolls_back_lets_go_and_says_try_again() -> Result<()> {
    let mut stage = Stage::new().await?;
    let object = stage.world.upload("uploads/orders.csv", 100).await?;
    let pause = Pause::at("RowsAll")?;
    let task = Task::start(&stage.settings().and(&pause.settings()).with("CSV_KEY", &object.key))?;
    pause.reached(Duration::from_secs(60)).await?;
    task.signal(Signal::Terminate)?;
    let finished = task.finish(Duration::from_secs(30)).await?;
    ensure!(finished.code() == Some(75), "{:?} {}", finished.status, finished.logs);
    assert_eq!(stage.count().await?, Counted::default());
    assert_eq!(stage.world.account.keys("lease/").await?, Vec::<String>::new());
    // Nothing has to expire first.
    let again = Task::run(&stage.settings().with("CSV_KEY", &object.key), TASK_BOUND).await?;
    ensure!(again.code() == Some(0), "{:?} {}", again.status, again.logs);
    assert_eq!(stage.count().await?, Counted { database: 100, fallback: 0 });
    stage.ensure_kept().await
}

/// Seven small files, three of them under way when the process is at the point: whatever ends it there, each file is loaded once.
#[rstest]
#[case::stopped("RowsAll", Signal::Terminate)]
#[case::killed_before_commit("BeforeCommit", Signal::Kill)]
#[case::killed_after_commit("AfterCommit", Signal::Kill)]
#[tokio::test]
async fn small_files_of_a_prefix_are_under_way_at_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] point: &str,
    #[case] signal: Signal,
) -> Result<()> {
    let mut stage = Stage::on(engine).await?;
    for number in 0..7 {
        stage.world.upload(&format!("uploads/{number}.csv"), 20).await?;
    }
    let settings = stage.settings().with("CSV_PREFIX", "uploads/").with("FILES_AT_ONCE", 3);
    let pause = Pause::at(point)?;
    let task = Task::start(&settings.clone().and(&pause.settings()))?;
    pause.reached(BOUND).await?;
    let leases = async || stage.world.account.keys("lease/").await;
    wait::until("three leases", BOUND, async || Ok(leases().await?.len() == 3)).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(leases().await?.len(), 3, "more at once than were asked for");
    task.signal(signal)?;
    let finished = task.finish(Duration::from_secs(30)).await?;
    if signal == Signal::Terminate {
        ensure!(finished.code() == Some(75), "{:?} {}", finished.status, finished.logs);
        assert_eq!(leases().await?, Vec::<String>::new());
        assert_eq!(stage.count().await?, Counted::default());
    } else {
        ensure!(finished.was_ended_by(Signal::Kill), "{:?}", finished.status);
        stage.sweep(&stage.settings()).await?;
    }
    let again = Task::run(&settings, TASK_BOUND).await?;
    ensure!(again.code() == Some(0), "{:?} {}", again.status, again.logs);
    assert_eq!(stage.count().await?, Counted { database: 140, fallback: 0 });
    stage.ensure_kept().await
}

/// Which of two files was the later one shows in the table, so they come one after the other.
#[tokio::test]
async fn files_whose_order_matters_go_one_by_one() -> Result<()> {
    let mut stage = Stage::new().await?;
    for number in 0..3 {
        stage.world.upload(&format!("uploads/{number}.csv"), 20).await?;
    }
    let settings = stage.settings().with("CSV_PREFIX", "uploads/").with("LOAD_MODE", "merge");
    let settings = settings.with("MERGE_KEY", "file,record");
    let pause = Pause::at("BeforeCommit")?;
    let task = Task::start(&settings.clone().and(&pause.settings()))?;
    pause.reached(BOUND).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.world.account.keys("lease/").await?.len(), 1);
    task.signal(Signal::Kill)?;
    task.finish(Duration::from_secs(30)).await?;
    stage.sweep(&settings.without("CSV_PREFIX")).await?;
    stage.ensure_kept().await
}

#[tokio::test]
async fn a_file_larger_than_what_is_held_is_streamed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let object = stage.world.upload("uploads/orders.csv", 5_000).await?;
    let settings = stage.settings().with("HOLD_MAX_BYTES", 0);
    stage.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(stage.count().await?, Counted { database: 5_000, fallback: 0 });
    stage.ensure_kept().await
}
