//! kill -9 at every named point of the road, inline (the trigger) and in the task; then the event again, then the sweep.
//! Nothing is lost, doubled or left behind, and each run proves that the process was at the point and died there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_core::fault::FaultPoint;
use spillway_harness::cloud::Object;
use spillway_harness::database::Engine;
use spillway_harness::fault::Pause;
use spillway_harness::lambda::Function;
use spillway_harness::process::Signal;
use spillway_harness::settings::Settings;
use spillway_harness::stage::{Stage, TASK_BOUND};
use spillway_harness::task::Task;
use spillway_harness::world::{Counted, Input, file};

const REACH_BOUND: Duration = Duration::from_secs(90);
const CLUSTER: &str = "spillway";
/// The rows of the older file that is replaced.
const OLD_ROWS: usize = 150;

/// What a file must meet with to pass a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    /// An ordinary load.
    Load,
    /// A load that replaces the rows of an older file.
    Replaced,
    /// A load into a table that is there, of a file that is not held in memory: it is loaded while it is read.
    Unread,
    /// A load with a bad record that is left out.
    Rejects,
    /// A load through a staging table.
    Staged,
    /// A load through a staging table in more than one chunk of 64 MiB.
    StagedInChunks,
    /// A table that cannot take the file.
    FallBack,
    /// The same, with a Parquet object of more than one part of 8 MiB.
    FallBackInParts,
    /// A file too large for the trigger.
    HandOver,
    /// Not in a test's reach, and why.
    OutOfReach(&'static str),
}

/// Exhaustive, so that a new point cannot be forgotten here.
fn situation(point: FaultPoint) -> Situation {
    match point {
        FaultPoint::EventParsed
        | FaultPoint::FallbackLookedUp
        | FaultPoint::LeaseWritten
        | FaultPoint::HeadersRead
        | FaultPoint::BodyFirstByte
        | FaultPoint::BodyHalf
        | FaultPoint::BodyEnd
        | FaultPoint::Inferred
        | FaultPoint::TableMade
        | FaultPoint::Begun
        | FaultPoint::Claimed
        | FaultPoint::RowsFirst
        | FaultPoint::RowsHalf
        | FaultPoint::RowsAll
        | FaultPoint::BeforeLedgerEnd
        | FaultPoint::BeforeCommit
        | FaultPoint::AfterCommit
        | FaultPoint::AfterCopy
        | FaultPoint::BeforeDelete
        | FaultPoint::AfterDelete => Situation::Load,
        FaultPoint::OldRowsDeleted => Situation::Replaced,
        FaultPoint::BeforeRejects | FaultPoint::RejectsLookedUp | FaultPoint::RejectsWritten => Situation::Rejects,
        FaultPoint::AfterInsertSelect | FaultPoint::BeforeStagingDrop => Situation::Staged,
        FaultPoint::StagingChunk => Situation::StagedInChunks,
        FaultPoint::FallbackBeforePut
        | FaultPoint::FallbackAnnounced
        | FaultPoint::FallbackAfterComplete
        | FaultPoint::FallbackAfterCreateTable
        | FaultPoint::FallbackAfterPartition => Situation::FallBack,
        FaultPoint::FallbackMidUpload => Situation::FallBackInParts,
        FaultPoint::AfterRunTask => Situation::HandOver,
        FaultPoint::MidPartCopy => Situation::OutOfReach("objects are copied in parts above 5 GB"),
    }
}

/// A stage where the file meets with the situation.
async fn prepare(engine: Engine, situation: Situation) -> Result<(Stage, Settings, Object)> {
    let mut stage = Stage::on(engine).await?;
    let settings = stage.settings();
    let key = "uploads/day/orders.csv";
    let (settings, object) = match situation {
        Situation::Load => (settings, stage.world.upload(key, 200).await?),
        Situation::Replaced => {
            let settings = settings.with("LOAD_MODE", "replace");
            let old = stage.world.upload("uploads/day/older.csv", OLD_ROWS).await?;
            stage.deliver_until_accepted(&settings, &[&old]).await?;
            stage.world.expect_replaced(&old);
            (settings, stage.world.upload(key, 200).await?)
        }
        Situation::Unread => {
            let first = stage.world.upload("uploads/day/first.csv", OLD_ROWS).await?;
            stage.deliver_until_accepted(&settings, &[&first]).await?;
            (settings.with("HOLD_MAX_BYTES", 0), stage.world.upload(key, 200).await?)
        }
        Situation::Rejects => {
            let (mut body, rows) = file(key, 200);
            body.extend_from_slice(b"a short record\n");
            let object = stage.world.account.put(key, body).await?;
            stage.world.inputs.push(Input { object: object.clone(), rows });
            (settings.with("MAX_REJECTS", 5), object)
        }
        Situation::Staged => (settings.with("ATOMIC_MAX_BYTES", 1), stage.world.upload(key, 200).await?),
        Situation::StagedInChunks => {
            let object = stage.world.upload_large(key, 36, 2 << 20).await?;
            (settings.with("ATOMIC_MAX_BYTES", 1).with("INLINE_MAX_BYTES", 100 << 20), object)
        }
        Situation::FallBack => (settings, stage.world.upload(key, 200).await?),
        Situation::FallBackInParts => {
            let object = stage.world.upload_large(key, 20, 1 << 20).await?;
            (settings.with("INLINE_MAX_BYTES", 100 << 20), object)
        }
        Situation::HandOver => {
            let settings = settings
                .with("INLINE_MAX_BYTES", 10)
                .with("ECS_CLUSTER", CLUSTER)
                .with("TASK_DEFINITION", "spillway-task:1")
                .with("CONTAINER_NAME", "spillway")
                .with("SUBNETS", "subnet-1");
            (settings, stage.world.upload(key, 200).await?)
        }
        Situation::OutOfReach(why) => anyhow::bail!("not in a test's reach: {why}"),
    };
    if matches!(situation, Situation::FallBack | Situation::FallBackInParts) {
        stage.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    }
    if situation == Situation::HandOver {
        register_task(&stage).await?;
    }
    Ok((stage, settings, object))
}

async fn register_task(stage: &Stage) -> Result<()> {
    let container = aws_sdk_ecs::types::ContainerDefinition::builder().name("spillway").image("spillway:1").build();
    let ecs = &stage.world.account.ecs;
    ecs.create_cluster().cluster_name(CLUSTER).send().await?;
    ecs.register_task_definition().family("spillway-task").container_definitions(container).send().await?;
    Ok(())
}

async fn inline(engine: Engine, point: FaultPoint) -> Result<()> {
    kill_trigger(engine, point, situation(point)).await
}

async fn unread(engine: Engine, point: FaultPoint) -> Result<()> {
    kill_trigger(engine, point, Situation::Unread).await
}

async fn kill_trigger(engine: Engine, point: FaultPoint, situation: Situation) -> Result<()> {
    let (stage, settings, object) = prepare(engine, situation).await?;
    let pause = Pause::at(&point.name())?;
    let mut call =
        Function::trigger(&settings.clone().and(&pause.settings()))?.start(&stage.world.event(&[&object])).await?;
    call.reaches(&pause, REACH_BOUND).await?;
    let killed = call.kill().await?;
    ensure!(killed.was_killed() && killed.is_failure(), "it was not killed: {killed:?}");
    ensure_old_rows(&stage, situation).await?;

    stage.deliver_until_accepted(&settings, &[&object]).await?;
    if situation == Situation::HandOver {
        run_recorded_tasks(&stage).await?;
    }
    end(&stage, &settings.without("ECS_CLUSTER")).await
}

/// Whoever dies before COMMIT leaves the rows that it was to replace.
async fn ensure_old_rows(stage: &Stage, situation: Situation) -> Result<()> {
    if situation == Situation::Replaced {
        assert_eq!(stage.count().await?, Counted { database: OLD_ROWS, fallback: 0 });
    }
    Ok(())
}

/// Does what Fargate would: runs the task with the overrides of every RunTask.
async fn run_recorded_tasks(stage: &Stage) -> Result<()> {
    let recorded = stage.world.account.tasks(CLUSTER).await?;
    ensure!(recorded.len() == 2, "the trigger was killed after RunTask and came again: {} tasks", recorded.len());
    for overrides in recorded {
        let key = overrides.get("CSV_KEY").context("no CSV_KEY in the overrides")?.to_owned();
        stage.run_task_until_done(&stage.settings().and(&overrides), &key).await?;
    }
    Ok(())
}

async fn in_task(engine: Engine, point: FaultPoint) -> Result<()> {
    let situation = situation(point);
    let (stage, settings, object) = prepare(engine, situation).await?;
    let pause = Pause::at(&point.name())?;
    let task = Task::start(&settings.clone().and(&pause.settings()).with("CSV_KEY", &object.key))?;
    pause.reached(REACH_BOUND).await?;
    task.signal(Signal::Kill)?;
    let killed = task.finish(TASK_BOUND).await?;
    ensure!(killed.was_ended_by(Signal::Kill), "it was not killed: {:?}", killed.status);
    ensure_old_rows(&stage, situation).await?;

    if matches!(situation, Situation::FallBack | Situation::FallBackInParts) {
        // The table is mended meanwhile: what is in the fallback already must not be loaded besides.
        stage.sql("DROP TABLE {schema}.orders").await?;
    }
    stage.run_task_until_done(&settings, &object.key).await?;
    end(&stage, &settings).await
}

/// The sweep, and then the count of every row.
async fn end(stage: &Stage, settings: &Settings) -> Result<()> {
    stage.sweep(settings).await?;
    stage.ensure_kept().await
}

macro_rules! killed_at {
    ($($how:ident as $list:ident { everywhere: $($name:ident $point:ident)*; mariadb: $($staged:ident $stage:ident)*; })*) => {$(
        mod $how {
            mod mariadb {
                use super::super::*;
                $(#[tokio::test] async fn $name() -> Result<()> { $how(Engine::MariaDb, FaultPoint::$point).await })*
                $(#[tokio::test] async fn $staged() -> Result<()> { $how(Engine::MariaDb, FaultPoint::$stage).await })*
            }
            mod postgresql {
                use super::super::*;
                $(#[tokio::test] async fn $name() -> Result<()> { $how(Engine::Postgres, FaultPoint::$point).await })*
            }
        }
        const $list: &[FaultPoint] = &[$(FaultPoint::$point,)* $(FaultPoint::$stage),*];
    )*};
}

killed_at! {
    inline as INLINE {
        everywhere:
        event_parsed EventParsed
        fallback_looked_up FallbackLookedUp
        lease_written LeaseWritten
        headers_read HeadersRead
        body_first_byte BodyFirstByte
        body_half BodyHalf
        body_end BodyEnd
        inferred Inferred
        table_made TableMade
        begun Begun
        claimed Claimed
        old_rows_deleted OldRowsDeleted
        rows_first RowsFirst
        rows_half RowsHalf
        rows_all RowsAll
        before_rejects BeforeRejects
        rejects_looked_up RejectsLookedUp
        rejects_written RejectsWritten
        before_ledger_end BeforeLedgerEnd
        before_commit BeforeCommit
        after_commit AfterCommit
        after_copy AfterCopy
        before_delete BeforeDelete
        after_delete AfterDelete
        fallback_before_put FallbackBeforePut
        fallback_mid_upload FallbackMidUpload
        fallback_announced FallbackAnnounced
        fallback_after_complete FallbackAfterComplete
        fallback_after_create_table FallbackAfterCreateTable
        fallback_after_partition FallbackAfterPartition
        after_run_task AfterRunTask;
        // PostgreSQL commits nothing in chunks.
        mariadb:
            staging_chunk StagingChunk
            after_insert_select AfterInsertSelect
            before_staging_drop BeforeStagingDrop;
    }
    unread as UNREAD {
        everywhere:
        headers_read HeadersRead
        body_half BodyHalf
        inferred Inferred
        table_made TableMade
        begun Begun
        claimed Claimed
        rows_first RowsFirst
        rows_half RowsHalf
        rows_all RowsAll
        before_ledger_end BeforeLedgerEnd
        before_commit BeforeCommit
        after_commit AfterCommit
        after_copy AfterCopy;
        mariadb:;
    }
    in_task as TASK {
        everywhere:
        fallback_looked_up FallbackLookedUp
        lease_written LeaseWritten
        headers_read HeadersRead
        body_first_byte BodyFirstByte
        body_half BodyHalf
        body_end BodyEnd
        inferred Inferred
        table_made TableMade
        begun Begun
        claimed Claimed
        old_rows_deleted OldRowsDeleted
        rows_first RowsFirst
        rows_half RowsHalf
        rows_all RowsAll
        before_rejects BeforeRejects
        rejects_looked_up RejectsLookedUp
        rejects_written RejectsWritten
        before_ledger_end BeforeLedgerEnd
        before_commit BeforeCommit
        after_commit AfterCommit
        after_copy AfterCopy
        before_delete BeforeDelete
        after_delete AfterDelete
        fallback_before_put FallbackBeforePut
        fallback_mid_upload FallbackMidUpload
        fallback_announced FallbackAnnounced
        fallback_after_complete FallbackAfterComplete
        fallback_after_create_table FallbackAfterCreateTable
        fallback_after_partition FallbackAfterPartition;
        // PostgreSQL commits nothing in chunks.
        mariadb:
            staging_chunk StagingChunk
            after_insert_select AfterInsertSelect
            before_staging_drop BeforeStagingDrop;
    }
}

#[test]
fn every_point_in_reach_is_on_both_lists() {
    for point in FaultPoint::ALL {
        let in_reach = !matches!(situation(point), Situation::OutOfReach(_));
        let only_in_trigger = matches!(point, FaultPoint::EventParsed | FaultPoint::AfterRunTask);
        assert!(!UNREAD.contains(&point) || situation(point) == Situation::Load, "{point:?}");
        assert_eq!(INLINE.contains(&point), in_reach, "{point:?}");
        assert_eq!(TASK.contains(&point), in_reach && !only_in_trigger, "{point:?}");
    }
}
