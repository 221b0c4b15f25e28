//! A worker that stands still at the worst moment until another has taken over its lease, and then goes on where it stood.
//!
//! Nothing tells it that time has passed. The rows are in one place, once, all the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_harness::cloud::Object;
use spillway_harness::database::Engine;
use spillway_harness::fault::Pause;
use spillway_harness::process::Signal;
use spillway_harness::settings::Settings;
use spillway_harness::stage::{Stage, TASK_BOUND};
use spillway_harness::task::{Finished, Task};
use spillway_harness::world::{Counted, Input, file};

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

async fn stage_with_file(engine: Engine) -> Result<(Stage, Settings, Object)> {
    let mut stage = Stage::on(engine).await?;
    let object = stage.world.upload("uploads/orders.csv", ROWS).await?;
    let settings = stage.settings();
    Ok((stage, settings, object))
}

#[rstest]
#[tokio::test]
async fn before_its_fallback_appears_while_another_loads_the_rows(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (stage, settings, object) = stage_with_file(engine).await?;
    stage.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    let stalled = Stalled::at("FallbackAnnounced", &settings, &object).await?;
    stage.sql("DROP TABLE {schema}.orders").await?;
    stage.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });
    stage.sweep(&settings).await?;
    stage.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn before_its_fallback_appears_while_another_falls_back_and_a_replay_brings_it_home(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (stage, settings, object) = stage_with_file(engine).await?;
    stage.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    let stalled = Stalled::at("FallbackAnnounced", &settings, &object).await?;
    stage.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(stage.count().await?, Counted { database: 0, fallback: ROWS });
    stage.sql("DROP TABLE {schema}.orders").await?;
    stage.replay(&settings).await?;
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });
    stage.sweep(&settings).await?;
    stage.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn before_it_announces_its_commit(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let (stage, settings, object) = stage_with_file(engine).await?;
    let stalled = Stalled::at("BeforeLedgerEnd", &settings, &object).await?;
    // Its transaction is open and holds the claim: another may take the lease over, but neither load nor fall back.
    let other = Task::run(&settings.clone().with("CSV_KEY", &object.key), TASK_BOUND).await?;
    ensure!(other.code() == Some(1), "{:?} {}", other.status, other.logs);
    assert_eq!(stage.count().await?, Counted::default());

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have lost its lease: {:?} {}", finished.status, finished.logs);
    assert_eq!(stage.count().await?, Counted::default());
    stage.run_task_until_done(&settings, &object.key).await?;
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });
    stage.sweep(&settings).await?;
    stage.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn between_the_announcement_and_its_commit(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (stage, settings, object) = stage_with_file(engine).await?;
    let stalled = Stalled::at("BeforeCommit", &settings, &object).await?;
    let other = Task::run(&settings.clone().with("CSV_KEY", &object.key), TASK_BOUND).await?;
    ensure!(other.code() == Some(1), "{:?} {}", other.status, other.logs);
    assert_eq!(stage.count().await?, Counted::default());

    // Its claim has kept everybody out, so it may finish.
    stalled.goes_on().await?;
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });
    stage.run_task_until_done(&settings, &object.key).await?;
    stage.sweep(&settings).await?;
    stage.ensure_kept().await
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
    let mut stage = Stage::new().await?;
    let key = "uploads/orders.csv";
    let (body, rows) = file(key, ROWS);
    let header = body.split_inclusive(|byte| *byte == b'\n').next().context("no header")?.to_vec();
    let object = stage.world.account.put(key, [body.as_slice(), BAD].concat()).await?;
    stage.world.inputs.push(Input { object: object.clone(), rows });
    // Not held in memory: what is taken away cannot be written once more when the source is gone.
    let settings = stage.settings().with("MAX_REJECTS", 5).with("HOLD_MAX_BYTES", 0);
    stage.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    if has_predecessor {
        let dead = Stalled::at("RejectsWritten", &settings, &object).await?;
        dead.task.signal(Signal::Kill)?;
        dead.task.finish(TASK_BOUND).await?;
    }
    let stalled = Stalled::at(point, &settings, &object).await?;
    stage.sql("DROP TABLE {schema}.orders").await?;
    stage.run_task_until_done(&settings, key).await?;
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    let rejects = stage.world.account.keys("rejected/").await?;
    ensure!(rejects.len() == 2, "the records and their notes: {rejects:?}");
    assert_eq!(stage.world.account.get(&rejects[0]).await?, [&header, BAD].concat());
    assert_eq!(stage.count().await?, Counted { database: ROWS, fallback: 0 });
    stage.sweep(&settings).await?;
    stage.ensure_kept().await
}

#[tokio::test]
async fn before_it_takes_rejects_away_while_another_leaves_some_out() -> Result<()> {
    let stage = Stage::new().await?;
    let object = stage.world.account.put("uploads/orders.csv", "id,name\n1,a\n2,too long\n").await?;
    let settings = stage.settings().with("MAX_REJECTS", 1);
    stage.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(50))").await?;
    let stalled = Stalled::at("BeforeRejects", &settings, &object).await?;
    // The server has given its connection up, so its claim keeps nobody out any more.
    let of_user = format!("SELECT id FROM information_schema.processlist WHERE user = '{}'", stage.world.schema.user);
    for connection in stage.rows(&of_user).await?.into_iter().flatten().flatten() {
        stage.sql(&format!("KILL {connection}")).await?;
    }
    stage.sql("ALTER TABLE {schema}.orders MODIFY name VARCHAR(5)").await?;
    stage.run_task_until_done(&settings, &object.key).await?;
    let left_out = stage.world.account.keys("rejected/").await?;
    ensure!(left_out.len() == 2, "the record and its note: {left_out:?}");

    let finished = stalled.goes_on().await?;
    ensure!(finished.code() == Some(1), "it should have failed: {:?} {}", finished.status, finished.logs);
    assert_eq!(stage.world.account.keys("rejected/").await?, left_out);
    assert_eq!(stage.world.account.get(&left_out[0]).await?, b"id,name\n2,too long\n");
    assert_eq!(stage.rows("SELECT name FROM {schema}.orders").await?, [[Some("a".to_owned())]]);
    Ok(())
}
