//! The task as a process: its modes, its exit codes, and SIGTERM.

use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::Counted;
use spillway_test_env::process::Signal;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};
use spillway_test_env::wait;

const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn prefix_loads_despite_a_broken_file() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    for (key, records) in [("uploads/a/one.csv", 10), ("uploads/a/deep/TWO.CSV", 20), ("uploads/b/three.csv", 40)] {
        test_env.fixture.upload(key, records).await?;
    }
    let broken = test_env.fixture.account.put("uploads/a/broken.csv", "a,b\n1\n").await?;
    test_env.fixture.account.put("uploads/a/readme.txt", "not a data file").await?;
    let finished = Task::run(&test_env.settings().with("CSV_PREFIX", "uploads/a/"), TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.count().await?.database, 30);
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, ["uploads/a/readme.txt", "uploads/b/three.csv"]);
    test_env.fixture.expect_no_rows(broken);
    test_env.run_task_until_done(&test_env.settings(), "uploads/b/three.csv").await?;
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn invalid_settings_exit_with_2_and_name_the_setting() -> Result<()> {
    let test_env = TestEnv::new().await?;
    for (settings, name) in [
        (test_env.settings().without("S3_BUCKET"), "S3_BUCKET"),
        (test_env.settings().without("RDS_TABLE"), "RDS_TABLE"),
        (test_env.settings().with("CSV_MODE", "newest"), "CSV_MODE"),
        (test_env.settings().with("PROCESSED_PREFIX", "uploads/done/"), "PROCESSED_PREFIX"),
    ] {
        let finished = Task::run(&settings, TASK_TIMEOUT).await?;
        ensure!(finished.code() == Some(2), "{name}: {:?} {}", finished.status, finished.logs);
        assert!(finished.logs.contains(name), "{name}: {}", finished.logs);
    }
    Ok(())
}

#[tokio::test]
async fn unfinished_file_exits_with_1() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 10).await?;
    // The fallback cannot be written either, because the endpoint of Glue is closed.
    let settings = test_env
        .settings()
        .with("RDS_PASSWORD", "wrong")
        .with("RDS_RETRY_SECONDS", 0)
        .with("AWS_ENDPOINT_URL_GLUE", "http://127.0.0.1:9");
    let finished = Task::run(&settings.with("CSV_KEY", &object.key), TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(1), "{:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, std::slice::from_ref(&object.key));
    test_env.run_task_until_done(&test_env.settings(), &object.key).await?;
    assert_eq!(test_env.count().await?, Counted { database: 10, fallback: 0 });
    test_env.sweep(&test_env.settings()).await?;
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn sigterm_rolls_back_and_exits_with_75() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 100).await?;
    let pause = Pause::at("RowsAll")?;
    let task = Task::start(&test_env.settings().and(&pause.settings()).with("CSV_KEY", &object.key))?;
    pause.wait_until_reached(Duration::from_secs(60)).await?;
    task.signal(Signal::Terminate)?;
    let finished = task.finish(Duration::from_secs(30)).await?;
    ensure!(finished.code() == Some(75), "{:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.count().await?, Counted::default());
    assert_eq!(test_env.fixture.account.keys("lease/").await?, Vec::<String>::new());
    // The lease is released, so the next task starts at once.
    let again = Task::run(&test_env.settings().with("CSV_KEY", &object.key), TASK_TIMEOUT).await?;
    ensure!(again.code() == Some(0), "{:?} {}", again.status, again.logs);
    assert_eq!(test_env.count().await?, Counted { database: 100, fallback: 0 });
    test_env.ensure_exactly_once().await
}

/// Of seven small files, three are in progress at the failpoint. Each file is loaded once, however the task ends there.
#[rstest]
#[case::stopped("RowsAll", Signal::Terminate)]
#[case::killed_before_commit("BeforeCommit", Signal::Kill)]
#[case::killed_after_commit("AfterCommit", Signal::Kill)]
#[tokio::test]
async fn small_files_are_processed_concurrently(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] point: &str,
    #[case] signal: Signal,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    for number in 0..7 {
        test_env.fixture.upload(&format!("uploads/{number}.csv"), 20).await?;
    }
    let settings = test_env.settings().with("CSV_PREFIX", "uploads/").with("MAX_CONCURRENT_FILES", 3);
    let pause = Pause::at(point)?;
    let task = Task::start(&settings.clone().and(&pause.settings()))?;
    pause.wait_until_reached(TIMEOUT).await?;
    let leases = async || test_env.fixture.account.keys("lease/").await;
    wait::until("three leases", TIMEOUT, async || Ok(leases().await?.len() == 3)).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(leases().await?.len(), 3, "more files are in progress than the setting allows");
    task.signal(signal)?;
    let finished = task.finish(Duration::from_secs(30)).await?;
    if signal == Signal::Terminate {
        ensure!(finished.code() == Some(75), "{:?} {}", finished.status, finished.logs);
        assert_eq!(leases().await?, Vec::<String>::new());
        assert_eq!(test_env.count().await?, Counted::default());
    } else {
        ensure!(finished.was_ended_by(Signal::Kill), "{:?}", finished.status);
        test_env.sweep(&test_env.settings()).await?;
    }
    let again = Task::run(&settings, TASK_TIMEOUT).await?;
    ensure!(again.code() == Some(0), "{:?} {}", again.status, again.logs);
    assert_eq!(test_env.count().await?, Counted { database: 140, fallback: 0 });
    test_env.ensure_exactly_once().await
}

/// The order of merged files decides the table's content, so they are processed one by one.
#[tokio::test]
async fn merge_processes_files_one_by_one() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    for number in 0..3 {
        test_env.fixture.upload(&format!("uploads/{number}.csv"), 20).await?;
    }
    let settings = test_env.settings().with("CSV_PREFIX", "uploads/").with("LOAD_MODE", "merge");
    let settings = settings.with("MERGE_KEY", "file,record");
    let pause = Pause::at("BeforeCommit")?;
    let task = Task::start(&settings.clone().and(&pause.settings()))?;
    pause.wait_until_reached(TIMEOUT).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(test_env.fixture.account.keys("lease/").await?.len(), 1);
    task.signal(Signal::Kill)?;
    task.finish(Duration::from_secs(30)).await?;
    test_env.sweep(&settings.without("CSV_PREFIX")).await?;
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn file_larger_than_buffer_is_streamed() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 5_000).await?;
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0);
    test_env.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(test_env.count().await?, Counted { database: 5_000, fallback: 0 });
    test_env.ensure_exactly_once().await
}
