//! A worker that stands still at the worst moment until another has taken over its lease, and then goes on where it stood.
//!
//! Nothing tells it that time has passed. The rows are in one place, once, all the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_harness::cloud::Object;
use spillway_harness::database::Engine;
use spillway_harness::failpoint::Pause;
use spillway_harness::fixture::{Counted, Input, file};
use spillway_harness::process::Signal;
use spillway_harness::settings::Settings;
use spillway_harness::task::{Finished, Task};
use spillway_harness::test_env::{TASK_BOUND, TestEnv};

const REACH_BOUND: Duration = Duration::from_secs(90);
/// A lease counts for five seconds in the tests, and one more for clocks that differ.
const LEASE_OVER: Duration = Duration::from_secs(8);
const ROWS: usize = 200;

/// A task that was halted at a point of the road, and whose lease has run out since.
struct Stalled {
    task: Task,
    pause: Pause,
}

impl Stalled {
    async fn at(point: &str, settings: &Settings, object: &Object) -> Result<Self> {
        let pause = Pause::at(point)?;
        let task = Task::start(&settings.clone().and(&pause.settings()).with("CSV_KEY", &object.key))?;
        pause.reached(REACH_BOUND).await?;
        task.signal(Signal::Halt)?;
        tokio::time::sleep(LEASE_OVER).await;
        Ok(Self { task, pause })
    }

    /// Lets it go on; how it ended.
    async fn goes_on(self) -> Result<Finished> {
        self.pause.release()?;
        self.task.signal(Signal::GoOn)?;
        self.task.finish(TASK_BOUND).await
    }
}

async fn stage_with_file(engine: Engine) -> Result<(TestEnv, Settings, Object)> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", ROWS).await?;
    let settings = test_env.settings();
    Ok((test_env, settings, object))
}

#[rstest]
#[tokio::test]
async fn before_its_fallback_appears_while_another_loads_the_rows(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (test_env, settings, object) = stage_with_file(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    let stalled = Stalled::at("FallbackAnnounced", &settings, &object).await?;
    test_env.sql("DROP TABLE {schema}.orders").await?;
    test_env.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn before_its_fallback_appears_while_another_falls_back_and_a_replay_brings_it_home(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (test_env, settings, object) = stage_with_file(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    let stalled = Stalled::at("FallbackAnnounced", &settings, &object).await?;
    test_env.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: ROWS });
    test_env.sql("DROP TABLE {schema}.orders").await?;
    test_env.replay(&settings).await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn before_it_announces_its_commit(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let (test_env, settings, object) = stage_with_file(engine).await?;
    let stalled = Stalled::at("BeforeLedgerEnd", &settings, &object).await?;
    // Its transaction is open and holds the claim: another may take the lease over, but neither load nor fall back.
    let other = Task::run(&settings.clone().with("CSV_KEY", &object.key), TASK_BOUND).await?;
    ensure!(other.code() == Some(1), "{:?} {}", other.status, other.logs);
    assert_eq!(test_env.count().await?, Counted::default());

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have lost its lease: {:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.count().await?, Counted::default());
    test_env.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn between_the_announcement_and_its_commit(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (test_env, settings, object) = stage_with_file(engine).await?;
    let stalled = Stalled::at("BeforeCommit", &settings, &object).await?;
    let other = Task::run(&settings.clone().with("CSV_KEY", &object.key), TASK_BOUND).await?;
    ensure!(other.code() == Some(1), "{:?} {}", other.status, other.logs);
    assert_eq!(test_env.count().await?, Counted::default());

    // Its claim has kept everybody out, so it may finish.
    stalled.goes_on().await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.run_task_until_done(&settings, &object.key).await?;
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

#[rstest]
#[case::before_it_looks("BeforeRejects", false)]
#[case::after_it_has_looked("RejectsLookedUp", false)]
#[case::after_it_has_found_those_of_a_dead_one("RejectsLookedUp", true)]
#[tokio::test]
async fn before_it_writes_its_rejects_while_another_loads_the_rows(
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
    // Not held in memory: what is taken away cannot be written once more when the source is gone.
    let settings = test_env.settings().with("MAX_REJECTS", 5).with("BUFFER_MAX_BYTES", 0);
    test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    if has_predecessor {
        let dead = Stalled::at("RejectsWritten", &settings, &object).await?;
        dead.task.signal(Signal::Kill)?;
        dead.task.finish(TASK_BOUND).await?;
    }
    let stalled = Stalled::at(point, &settings, &object).await?;
    test_env.sql("DROP TABLE {schema}.orders").await?;
    test_env.run_task_until_done(&settings, key).await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    let rejects = test_env.fixture.account.keys("rejected/").await?;
    ensure!(rejects.len() == 2, "the records and their notes: {rejects:?}");
    assert_eq!(test_env.fixture.account.get(&rejects[0]).await?, [&header, BAD].concat());
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_kept().await
}

#[tokio::test]
async fn before_it_takes_rejects_away_while_another_leaves_some_out() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let object = test_env.fixture.account.put("uploads/orders.csv", "id,name\n1,a\n2,too long\n").await?;
    let settings = test_env.settings().with("MAX_REJECTS", 1);
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(50))").await?;
    let stalled = Stalled::at("BeforeRejects", &settings, &object).await?;
    // The server has given its connection up, so its claim keeps nobody out any more.
    let of_user =
        format!("SELECT id FROM information_schema.processlist WHERE user = '{}'", test_env.fixture.schema.user);
    for connection in test_env.rows(&of_user).await?.into_iter().flatten().flatten() {
        test_env.sql(&format!("KILL {connection}")).await?;
    }
    test_env.sql("ALTER TABLE {schema}.orders MODIFY name VARCHAR(5)").await?;
    test_env.run_task_until_done(&settings, &object.key).await?;
    let rejected = test_env.fixture.account.keys("rejected/").await?;
    ensure!(rejected.len() == 2, "the record and its note: {rejected:?}");

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, rejected);
    assert_eq!(test_env.fixture.account.get(&rejected[0]).await?, b"id,name\n2,too long\n");
    assert_eq!(test_env.rows("SELECT name FROM {schema}.orders").await?, [[Some("a".to_owned())]]);
    Ok(())
}
