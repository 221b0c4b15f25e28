//! A worker stalls until another worker has taken over its lease, and then continues.
//!
//! The stalled worker does not notice that time has passed. Each row must exist once, in one place.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{Counted, Input, file};
use spillway_test_env::process::Signal;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::{Finished, Task};
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};

const REACH_TIMEOUT: Duration = Duration::from_secs(90);
/// Longer than a lease: five seconds in the tests, and one more for clock differences.
const LEASE_OVER: Duration = Duration::from_secs(8);
const ROWS: usize = 200;

/// A task that was halted at a failpoint, and whose lease has expired.
struct StalledTask {
    task: Task,
    pause: Pause,
}

impl StalledTask {
    async fn at(failpoint: &str, settings: &Settings, object: &Object) -> Result<Self> {
        let pause = Pause::at(failpoint)?;
        let task = Task::start(&settings.clone().and(&pause.settings()).with("CSV_KEY", &object.key))?;
        pause.wait_until_reached(REACH_TIMEOUT).await?;
        task.signal(Signal::Stop)?;
        tokio::time::sleep(LEASE_OVER).await;
        Ok(Self { task, pause })
    }

    /// Lets the task continue and returns how it ended.
    async fn resume(self) -> Result<Finished> {
        self.pause.release()?;
        self.task.signal(Signal::Continue)?;
        self.task.finish(TASK_TIMEOUT).await
    }

    /// Lets the task continue and fails unless it ends because another worker has the file.
    async fn resume_and_fail(self) -> Result<()> {
        let finished = self.resume().await?;
        ensure!(failed(&finished), "the stalled task did not fail: {:?} {}", finished.status, finished.logs);
        Ok(())
    }
}

/// Whether a task has failed: with 75 if another worker has the file, otherwise with 1.
fn failed(task: &Finished) -> bool {
    matches!(task.code(), Some(1 | 75))
}

const NO_ROWS: Counted = Counted { database: 0, fallback: 0 };
const ALL_LOADED: Counted = Counted { database: ROWS, fallback: 0 };
const ALL_FELL_BACK: Counted = Counted { database: 0, fallback: ROWS };

/// The result for the other worker, which takes over the lease of the stalled one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    /// It loads the rows. The stalled worker found a table that rejects the file, which is repaired by then.
    Loads,
    /// It writes the rows to the fallback, and a replay loads them after the table is repaired.
    FallsBackAndReplays,
    /// It fails: the stalled worker's open transaction holds the claim.
    IsLockedOut,
}

#[rstest]
#[case::fallback_write_fails_after_successor_loads("RowsFenced", Successor::Loads, ALL_LOADED)]
#[case::fallback_write_fails_after_replay("RowsFenced", Successor::FallsBackAndReplays, ALL_LOADED)]
// The successor owns the lease, so the stalled worker fails before it commits.
#[case::load_fails_before_fence("BeforeLedgerEnd", Successor::IsLockedOut, NO_ROWS)]
// The stalled worker has verified its lease, and its claim kept the successor out, so it commits.
#[case::load_commits_after_fence("BeforeCommit", Successor::IsLockedOut, ALL_LOADED)]
#[tokio::test]
async fn stalled(
    #[case] failpoint: &str,
    #[case] successor: Successor,
    #[case] counted: Counted,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", ROWS).await?;
    let settings = test_env.settings();
    if successor != Successor::IsLockedOut {
        test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    }
    let stalled = StalledTask::at(failpoint, &settings, &object).await?;
    run_successor(&test_env, &settings, &object, successor).await?;

    if failpoint == "BeforeCommit" {
        // Its exit code depends on who moves the object.
        stalled.resume().await?;
    } else {
        stalled.resume_and_fail().await?;
    }
    assert_eq!(test_env.count().await?, counted);
    if successor == Successor::IsLockedOut {
        test_env.run_task_until_done(&settings, &object.key).await?;
        assert_eq!(test_env.count().await?, ALL_LOADED);
    }
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

async fn run_successor(test_env: &TestEnv, settings: &Settings, object: &Object, successor: Successor) -> Result<()> {
    match successor {
        Successor::Loads => {
            test_env.sql("DROP TABLE {schema}.orders").await?;
            test_env.run_task_until_done(settings, &object.key).await?;
            assert_eq!(test_env.count().await?, ALL_LOADED);
        }
        Successor::FallsBackAndReplays => {
            test_env.run_task_until_done(settings, &object.key).await?;
            assert_eq!(test_env.count().await?, ALL_FELL_BACK);
            test_env.sql("DROP TABLE {schema}.orders").await?;
            test_env.replay(settings).await?;
            assert_eq!(test_env.count().await?, ALL_LOADED);
        }
        Successor::IsLockedOut => {
            let other = Task::run(&settings.clone().with("CSV_KEY", &object.key), TASK_TIMEOUT).await?;
            ensure!(failed(&other), "the other task did not fail: {:?} {}", other.status, other.logs);
            assert_eq!(test_env.count().await?, NO_ROWS);
        }
    }
    Ok(())
}

#[rstest]
#[case::lookup("BeforeRejects", false)]
#[case::write("RejectsLookedUp", false)]
#[case::deletion_of_earlier_rejects("RejectsLookedUp", true)]
#[tokio::test]
async fn stalled_worker_writes_no_rejects_after_successor_loads(
    // The step before which the worker stalls.
    #[case] point: &str,
    #[case] has_predecessor: bool,
) -> Result<()> {
    const BAD: &[u8] = b"a short record\n";
    let mut test_env = TestEnv::new().await?;
    let key = "uploads/orders.csv";
    let (body, rows) = file(key, ROWS);
    let header = body.split_inclusive(|byte| *byte == b'\n').next().context("no header")?.to_vec();
    let object = test_env.fixture.account.put(key, [body.as_slice(), BAD].concat()).await?;
    test_env.fixture.inputs.push(Input { object: object.clone(), rows });
    // Without a buffer, deleted reject files cannot be written again after the source is gone.
    let settings = test_env.settings().with("MAX_REJECTS", 5).with("BUFFER_MAX_BYTES", 0);
    test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    if has_predecessor {
        let dead = StalledTask::at("RejectsWritten", &settings, &object).await?;
        dead.task.signal(Signal::Kill)?;
        dead.task.finish(TASK_TIMEOUT).await?;
    }
    let stalled = StalledTask::at(point, &settings, &object).await?;
    test_env.sql("DROP TABLE {schema}.orders").await?;
    test_env.run_task_until_done(&settings, key).await?;
    assert_eq!(test_env.count().await?, ALL_LOADED);

    stalled.resume_and_fail().await?;
    let rejects = test_env.fixture.account.keys("rejected/").await?;
    ensure!(rejects.len() == 2, "expected the reject file and its report: {rejects:?}");
    assert_eq!(test_env.fixture.account.get(&rejects[0]).await?, [&header, BAD].concat());
    assert_eq!(test_env.count().await?, ALL_LOADED);
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn stalled_worker_keeps_rejects_of_its_successor() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let object = test_env.fixture.account.put("uploads/orders.csv", "id,name\n1,a\n2,too long\n").await?;
    let settings = test_env.settings().with("MAX_REJECTS", 1);
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(50))").await?;
    let stalled = StalledTask::at("BeforeRejects", &settings, &object).await?;
    // Without its connection the stalled worker has no transaction, so its claim no longer excludes others.
    let connections_of_user =
        format!("SELECT id FROM information_schema.processlist WHERE user = '{}'", test_env.fixture.schema.user);
    for connection in test_env.rows(&connections_of_user).await?.into_iter().flatten().flatten() {
        test_env.sql(&format!("KILL {connection}")).await?;
    }
    test_env.sql("ALTER TABLE {schema}.orders MODIFY name VARCHAR(5)").await?;
    test_env.run_task_until_done(&settings, &object.key).await?;
    let rejected = test_env.fixture.account.keys("rejected/").await?;
    ensure!(rejected.len() == 2, "expected the reject file and its report: {rejected:?}");

    stalled.resume_and_fail().await?;
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, rejected);
    assert_eq!(test_env.fixture.account.get(&rejected[0]).await?, b"id,name\n2,too long\n");
    assert_eq!(test_env.rows("SELECT name FROM {schema}.orders").await?, [[Some("a".to_owned())]]);
    Ok(())
}

/// Longer than the server lets a transaction be idle.
const IDLE_OVER: Duration = Duration::from_secs(100);

/// The rejected records are written while the load's transaction is open. For a large file this takes minutes.
#[rstest]
#[tokio::test]
async fn slow_write_of_rejects_does_not_end_the_load(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let key = "uploads/orders.csv";
    let (body, rows) = file(key, ROWS);
    let object = test_env.fixture.account.put(key, [body.as_slice(), b"a short record\n"].concat()).await?;
    test_env.fixture.inputs.push(Input { object, rows });
    let pause = Pause::at("RejectsWritten")?;
    let settings = test_env.settings().with("MAX_REJECTS", 1).with("CSV_KEY", key);
    let task = Task::start(&settings.and(&pause.settings()))?;
    pause.wait_until_reached(REACH_TIMEOUT).await?;
    tokio::time::sleep(IDLE_OVER).await;
    pause.release()?;
    let finished = task.finish(TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    ensure!(!finished.logs.contains("retrying"), "the load was repeated: {}", finished.logs);
    assert_eq!(test_env.count().await?, ALL_LOADED);
    test_env.ensure_exactly_once().await
}
