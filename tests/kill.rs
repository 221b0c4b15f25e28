//! kill -9 at every named point of the road, inline (the trigger) and in the task; then the event again, then the sweep.
//! Nothing is lost, doubled or left behind, and each run proves that the process was at the point and died there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_core::failpoint::Failpoint;
use spillway_harness::cloud::Object;
use spillway_harness::database::Engine;
use spillway_harness::failpoint::Pause;
use spillway_harness::fixture::{Counted, Input, file};
use spillway_harness::lambda::Function;
use spillway_harness::process::Signal;
use spillway_harness::settings::Settings;
use spillway_harness::task::Task;
use spillway_harness::test_env::{TASK_BOUND, TestEnv};

const REACH_BOUND: Duration = Duration::from_secs(90);
const CLUSTER: &str = "spillway";
/// The rows of the older file that is replaced.
const OLD_ROWS: usize = 150;

/// What a file must meet with to pass a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
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
fn scenario(point: Failpoint) -> Scenario {
    match point {
        Failpoint::EventParsed
        | Failpoint::FallbackLookedUp
        | Failpoint::LeaseWritten
        | Failpoint::HeadersRead
        | Failpoint::BodyFirstByte
        | Failpoint::BodyHalf
        | Failpoint::BodyEnd
        | Failpoint::Inferred
        | Failpoint::TableMade
        | Failpoint::Begun
        | Failpoint::Claimed
        | Failpoint::RowsFirst
        | Failpoint::RowsHalf
        | Failpoint::RowsAll
        | Failpoint::BeforeLedgerEnd
        | Failpoint::BeforeCommit
        | Failpoint::AfterCommit
        | Failpoint::AfterCopy
        | Failpoint::BeforeDelete
        | Failpoint::AfterDelete => Scenario::Load,
        Failpoint::OldRowsDeleted => Scenario::Replaced,
        Failpoint::BeforeRejects | Failpoint::RejectsLookedUp | Failpoint::RejectsWritten => Scenario::Rejects,
        Failpoint::AfterInsertSelect | Failpoint::BeforeStagingDrop => Scenario::Staged,
        Failpoint::StagingChunk => Scenario::StagedInChunks,
        Failpoint::FallbackBeforePut
        | Failpoint::FallbackAnnounced
        | Failpoint::FallbackAfterComplete
        | Failpoint::FallbackAfterCreateTable
        | Failpoint::FallbackAfterPartition => Scenario::FallBack,
        Failpoint::FallbackMidUpload => Scenario::FallBackInParts,
        Failpoint::AfterRunTask => Scenario::HandOver,
        Failpoint::MidPartCopy => Scenario::OutOfReach("objects are copied in parts above 5 GB"),
    }
}

/// A stage where the file meets with the situation.
async fn prepare(engine: Engine, scenario: Scenario) -> Result<(TestEnv, Settings, Object)> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let key = "uploads/day/orders.csv";
    let (settings, object) = match scenario {
        Scenario::Load => (settings, test_env.fixture.upload(key, 200).await?),
        Scenario::Replaced => {
            let settings = settings.with("LOAD_MODE", "replace");
            let old = test_env.fixture.upload("uploads/day/older.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&old]).await?;
            test_env.fixture.expect_replaced(&old);
            (settings, test_env.fixture.upload(key, 200).await?)
        }
        Scenario::Unread => {
            let first = test_env.fixture.upload("uploads/day/first.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&first]).await?;
            (settings.with("BUFFER_MAX_BYTES", 0), test_env.fixture.upload(key, 200).await?)
        }
        Scenario::Rejects => {
            let (mut body, rows) = file(key, 200);
            body.extend_from_slice(b"a short record\n");
            let object = test_env.fixture.account.put(key, body).await?;
            test_env.fixture.inputs.push(Input { object: object.clone(), rows });
            (settings.with("MAX_REJECTS", 5), object)
        }
        Scenario::Staged => (settings.with("ATOMIC_MAX_BYTES", 1), test_env.fixture.upload(key, 200).await?),
        Scenario::StagedInChunks => {
            let object = test_env.fixture.upload_large(key, 36, 2 << 20).await?;
            (settings.with("ATOMIC_MAX_BYTES", 1).with("INLINE_MAX_BYTES", 100 << 20), object)
        }
        Scenario::FallBack => (settings, test_env.fixture.upload(key, 200).await?),
        Scenario::FallBackInParts => {
            let object = test_env.fixture.upload_large(key, 20, 1 << 20).await?;
            (settings.with("INLINE_MAX_BYTES", 100 << 20), object)
        }
        Scenario::HandOver => {
            let settings = settings
                .with("INLINE_MAX_BYTES", 10)
                .with("ECS_CLUSTER", CLUSTER)
                .with("TASK_DEFINITION", "spillway-task:1")
                .with("CONTAINER_NAME", "spillway")
                .with("SUBNETS", "subnet-1");
            (settings, test_env.fixture.upload(key, 200).await?)
        }
        Scenario::OutOfReach(why) => anyhow::bail!("not in a test's reach: {why}"),
    };
    if matches!(scenario, Scenario::FallBack | Scenario::FallBackInParts) {
        test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    }
    if scenario == Scenario::HandOver {
        register_task(&test_env).await?;
    }
    Ok((test_env, settings, object))
}

async fn register_task(test_env: &TestEnv) -> Result<()> {
    let container = aws_sdk_ecs::types::ContainerDefinition::builder().name("spillway").image("spillway:1").build();
    let ecs = &test_env.fixture.account.ecs;
    ecs.create_cluster().cluster_name(CLUSTER).send().await?;
    ecs.register_task_definition().family("spillway-task").container_definitions(container).send().await?;
    Ok(())
}

async fn inline(engine: Engine, point: Failpoint) -> Result<()> {
    kill_trigger(engine, point, scenario(point)).await
}

async fn unread(engine: Engine, point: Failpoint) -> Result<()> {
    kill_trigger(engine, point, Scenario::Unread).await
}

async fn kill_trigger(engine: Engine, point: Failpoint, scenario: Scenario) -> Result<()> {
    let (test_env, settings, object) = prepare(engine, scenario).await?;
    let pause = Pause::at(&point.name())?;
    let mut call =
        Function::trigger(&settings.clone().and(&pause.settings()))?.start(&test_env.fixture.event(&[&object])).await?;
    call.reaches(&pause, REACH_BOUND).await?;
    let killed = call.kill().await?;
    ensure!(killed.was_killed() && killed.is_failure(), "it was not killed: {killed:?}");
    ensure_old_rows(&test_env, scenario).await?;

    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    if scenario == Scenario::HandOver {
        run_recorded_tasks(&test_env).await?;
    }
    end(&test_env, &settings.without("ECS_CLUSTER")).await
}

/// Whoever dies before COMMIT leaves the rows that it was to replace.
async fn ensure_old_rows(test_env: &TestEnv, scenario: Scenario) -> Result<()> {
    if scenario == Scenario::Replaced {
        assert_eq!(test_env.count().await?, Counted { database: OLD_ROWS, fallback: 0 });
    }
    Ok(())
}

/// Does what Fargate would: runs the task with the overrides of every RunTask.
async fn run_recorded_tasks(test_env: &TestEnv) -> Result<()> {
    let recorded = test_env.fixture.account.tasks(CLUSTER).await?;
    ensure!(recorded.len() == 2, "the trigger was killed after RunTask and came again: {} tasks", recorded.len());
    for overrides in recorded {
        let key = overrides.get("CSV_KEY").context("no CSV_KEY in the overrides")?.to_owned();
        test_env.run_task_until_done(&test_env.settings().and(&overrides), &key).await?;
    }
    Ok(())
}

async fn in_task(engine: Engine, point: Failpoint) -> Result<()> {
    let scenario = scenario(point);
    let (test_env, settings, object) = prepare(engine, scenario).await?;
    let pause = Pause::at(&point.name())?;
    let task = Task::start(&settings.clone().and(&pause.settings()).with("CSV_KEY", &object.key))?;
    pause.reached(REACH_BOUND).await?;
    task.signal(Signal::Kill)?;
    let killed = task.finish(TASK_BOUND).await?;
    ensure!(killed.was_ended_by(Signal::Kill), "it was not killed: {:?}", killed.status);
    ensure_old_rows(&test_env, scenario).await?;

    if matches!(scenario, Scenario::FallBack | Scenario::FallBackInParts) {
        // The table is mended meanwhile: what is in the fallback already must not be loaded besides.
        test_env.sql("DROP TABLE {schema}.orders").await?;
    }
    test_env.run_task_until_done(&settings, &object.key).await?;
    end(&test_env, &settings).await
}

/// The sweep, and then the count of every row.
async fn end(test_env: &TestEnv, settings: &Settings) -> Result<()> {
    test_env.sweep(settings).await?;
    test_env.ensure_kept().await
}

macro_rules! killed_at {
    ($($how:ident as $list:ident { everywhere: $($name:ident $point:ident)*; mariadb: $($staged:ident $test_env:ident)*; })*) => {$(
        mod $how {
            mod mariadb {
                use super::super::*;
                $(#[tokio::test] async fn $name() -> Result<()> { $how(Engine::MariaDb, Failpoint::$point).await })*
                $(#[tokio::test] async fn $staged() -> Result<()> { $how(Engine::MariaDb, Failpoint::$test_env).await })*
            }
            mod postgresql {
                use super::super::*;
                $(#[tokio::test] async fn $name() -> Result<()> { $how(Engine::Postgres, Failpoint::$point).await })*
            }
        }
        const $list: &[Failpoint] = &[$(Failpoint::$point,)* $(Failpoint::$test_env),*];
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
    for point in Failpoint::ALL {
        let in_reach = !matches!(scenario(point), Scenario::OutOfReach(_));
        let only_in_trigger = matches!(point, Failpoint::EventParsed | Failpoint::AfterRunTask);
        assert!(!UNREAD.contains(&point) || scenario(point) == Scenario::Load, "{point:?}");
        assert_eq!(INLINE.contains(&point), in_reach, "{point:?}");
        assert_eq!(TASK.contains(&point), in_reach && !only_in_trigger, "{point:?}");
    }
}
