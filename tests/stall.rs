//! A worker that stands still at the worst moment until another has taken over its lease, and then goes on where it stood.
//!
//! Nothing tells it that time has passed. The rows are in one place, once, all the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_harness::cloud::Object;
use spillway_harness::database::Engine;
use spillway_harness::fault::Pause;
use spillway_harness::process::Signal;
use spillway_harness::settings::Settings;
use spillway_harness::stage::{Stage, TASK_BOUND};
use spillway_harness::task::{Finished, Task};
use spillway_harness::world::Counted;

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
