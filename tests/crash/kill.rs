//! Kills a worker (`kill -9`) at each failpoint that a test can reach, retries the file, and reconciles. Each row must
//! exist exactly once, with no leftovers.
//!
//! One table, [`kill_points`], names each failpoint once. From it come the tests, as `FAILPOINT::RUNNER::ENGINE`, and the
//! exhaustive match in [`scenario`], so a new failpoint does not compile until the table names it. A
//! runner loads the file: `inline` (the function), `in_task` (the task), `single_pass` (the function, in one pass), `in_mirror` (the
//! function, as a full export), `in_sync` (the ingest function), `to_both` (the function, into the database and the lake) or `to_lake` (the function, into the lake alone).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spillway_core::failpoint::Failpoint;
use spillway_test_env::athena;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{Counted, Input, RAW_DATABASE, TABLE, Verdict, file};
use spillway_test_env::lambda::Function;
use spillway_test_env::process::Signal;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};

const REACH_TIMEOUT: Duration = Duration::from_secs(90);
const CLUSTER: &str = "spillway";
/// The number of rows in the older file that is replaced.
const OLD_ROWS: usize = 150;

/// The conditions under which a worker reaches a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// A load without special conditions.
    Load,
    /// A load that replaces the rows of an older file.
    Replace,
    /// A load of a full export, which deletes the rows of an older one and inserts others.
    Mirror,
    /// A single-pass load: the table exists, and the file is too large for the buffer.
    SinglePass,
    /// A load with one rejected record.
    Rejects,
    /// A load through a staging table.
    Staged,
    /// A load through a staging table, in more than one chunk of 64 MiB.
    StagedInChunks,
    /// A fallback write, because the table lacks the file's columns.
    Fallback,
    /// A fallback write of more than one part of 8 MiB.
    FallbackInParts,
    /// A load into the database and the lake.
    Both,
    /// A load into the lake alone.
    Lake,
    /// A load of a file that stays in place and is registered in Glue there.
    RawZone,
    /// A file that the trigger dispatches to Fargate.
    Dispatch,
    /// A file that a sync finds.
    Sync,
    /// No test can reach the failpoint, for this reason.
    OutOfReach(&'static str),
}

/// A test environment in which a worker reaches the failpoints of the scenario.
async fn prepare(engine: Engine, scenario: Scenario) -> Result<(TestEnv, Settings, Object)> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let key = "uploads/day/orders.csv";
    let (settings, object) = match scenario {
        Scenario::Load | Scenario::Sync => (settings, test_env.fixture.upload(key, 200).await?),
        Scenario::Replace | Scenario::Mirror => {
            let settings = match scenario {
                Scenario::Mirror => settings
                    .with("LOAD_MODE", "mirror")
                    .with("MERGE_KEY", "file,record")
                    .with("MIRROR_MAX_DELETES", 100),
                _ => settings.with("LOAD_MODE", "replace"),
            };
            let old = test_env.fixture.upload("uploads/day/older.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&old]).await?;
            test_env.fixture.expect_replaced(&old);
            (settings, test_env.fixture.upload(key, 200).await?)
        }
        Scenario::SinglePass => {
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
        Scenario::Fallback => (settings, test_env.fixture.upload(key, 200).await?),
        Scenario::FallbackInParts => {
            let object = test_env.fixture.upload_large(key, 20, 1 << 20).await?;
            (settings.with("INLINE_MAX_BYTES", 100 << 20), object)
        }
        Scenario::Both => (test_env.fixture.lake_settings("both"), test_env.fixture.upload(key, 200).await?),
        Scenario::Lake => (test_env.fixture.lake_settings("lake"), test_env.fixture.upload(key, 200).await?),
        Scenario::RawZone => {
            let settings = test_env.fixture.raw_zone_settings();
            // Its notes have neither line ends nor backslashes, which Athena would not read.
            (settings, test_env.fixture.upload_large(key, 200, 20).await?)
        }
        Scenario::Dispatch => {
            let settings = settings
                .with("INLINE_MAX_BYTES", 10)
                .with("ECS_CLUSTER", CLUSTER)
                .with("TASK_DEFINITION", "spillway-task:1")
                .with("CONTAINER_NAME", "spillway")
                .with("SUBNETS", "subnet-1");
            (settings, test_env.fixture.upload(key, 200).await?)
        }
        Scenario::OutOfReach(why) => anyhow::bail!("no test can reach it: {why}"),
    };
    if matches!(scenario, Scenario::Fallback | Scenario::FallbackInParts) {
        test_env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
    }
    if scenario == Scenario::Dispatch {
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

async fn single_pass(engine: Engine, point: Failpoint) -> Result<()> {
    kill_trigger(engine, point, Scenario::SinglePass).await
}

async fn to_both(engine: Engine, point: Failpoint) -> Result<()> {
    kill_trigger(engine, point, Scenario::Both).await
}

async fn in_mirror(engine: Engine, point: Failpoint) -> Result<()> {
    kill_trigger(engine, point, Scenario::Mirror).await
}

async fn to_lake(engine: Engine, point: Failpoint) -> Result<()> {
    kill_trigger(engine, point, Scenario::Lake).await
}

async fn kill_trigger(engine: Engine, point: Failpoint, scenario: Scenario) -> Result<()> {
    let (test_env, settings, object) = prepare(engine, scenario).await?;
    let (call, _pause) = test_env.pause_trigger(&settings, &point.name(), &object).await?;
    let killed = call.kill().await?;
    ensure!(killed.was_killed() && killed.is_failure(), "the trigger was not killed: {killed:?}");
    ensure_old_rows(&test_env, scenario, point).await?;

    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    if scenario == Scenario::Dispatch {
        run_recorded_tasks(&test_env).await?;
    }
    finish(&test_env, &settings.without("ECS_CLUSTER"), scenario).await
}

/// Fails if a worker that died before COMMIT has changed the rows of the older file.
async fn ensure_old_rows(test_env: &TestEnv, scenario: Scenario, point: Failpoint) -> Result<()> {
    if matches!(scenario, Scenario::Replace | Scenario::Mirror) && point != Failpoint::AfterCommit {
        assert_eq!(test_env.count().await?, Counted { database: OLD_ROWS, fallback: 0 });
    }
    Ok(())
}

/// Runs the task with the overrides of each RunTask request, as Fargate would.
async fn run_recorded_tasks(test_env: &TestEnv) -> Result<()> {
    let recorded = test_env.fixture.account.tasks(CLUSTER).await?;
    ensure!(
        recorded.len() == 2,
        "expected one RunTask request before and one after the kill, found {}",
        recorded.len()
    );
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
    pause.wait_until_reached(REACH_TIMEOUT).await?;
    task.signal(Signal::Kill)?;
    let killed = task.finish(TASK_TIMEOUT).await?;
    ensure!(killed.was_ended_by(Signal::Kill), "the task was not killed: {:?}", killed.status);
    ensure_old_rows(&test_env, scenario, point).await?;

    if matches!(scenario, Scenario::Fallback | Scenario::FallbackInParts) {
        // With the table repaired, the retry must not load rows that are already in the fallback.
        test_env.sql("DROP TABLE {schema}.orders").await?;
    }
    test_env.run_task_until_done(&settings, &object.key).await?;
    finish(&test_env, &settings, scenario).await
}

async fn in_sync(engine: Engine, point: Failpoint) -> Result<()> {
    let scenario = scenario(point);
    let (test_env, settings, _) = prepare(engine, scenario).await?;
    let request = json!({"sync": {"table": "orders"}});
    let pause = Pause::at(&point.name())?;
    let mut call = Function::ingest(&settings.clone().and(&pause.settings()))?.start(&request).await?;
    call.wait_for(&pause, REACH_TIMEOUT).await?;
    let killed = call.kill().await?;
    ensure!(killed.was_killed() && killed.is_failure(), "the function was not killed: {killed:?}");
    test_env.invoke_ingest(&settings, &request).await?.ensure_success()?;
    finish(&test_env, &settings, scenario).await
}

/// Reconciles, then checks that each row exists once in each place where it belongs, and that nothing is left over.
async fn finish(test_env: &TestEnv, settings: &Settings, scenario: Scenario) -> Result<()> {
    test_env.sweep(settings).await?;
    if matches!(scenario, Scenario::Both | Scenario::Lake) {
        test_env.fixture.ensure_once_in_lake(&test_env.server).await?;
    }
    match scenario {
        Scenario::Lake => ensure!(test_env.count().await? == Counted::default(), "rows outside the lake"),
        Scenario::RawZone => ensure_once_in_raw_zone(test_env).await?,
        _ => test_env.ensure_exactly_once().await?,
    }
    Ok(())
}

/// Fails unless the file is in place, is registered, and each of its rows is in the database once and in the raw zone once.
async fn ensure_once_in_raw_zone(test_env: &TestEnv) -> Result<()> {
    let fixture = &test_env.fixture;
    let verdict = Verdict { misplaced: Vec::new(), ..fixture.verdict(&test_env.server).await? };
    ensure!(verdict == Verdict::default(), "a row or a leftover is wrong: {verdict:#?}");
    let keys: Vec<&str> = fixture.inputs.iter().map(|input| input.object.key.as_str()).collect();
    ensure!(
        fixture.account.keys("").await? == keys,
        "other objects than the files: {:?}",
        fixture.account.keys("").await?
    );
    let query = format!("SELECT count(*), count(DISTINCT record) FROM {TABLE}");
    let counted = athena::query(&fixture.account, RAW_DATABASE, &query).await?;
    ensure!(counted == [[Some("200".to_owned()), Some("200".to_owned())]], "Athena counts {counted:?}");
    Ok(())
}

/// Declares each failpoint with its test name, scenario, runners and engines; generates [`scenario`] and the tests.
macro_rules! kill_points {
    ($($point:ident $name:ident: $scenario:ident$(($why:literal))? [$($runner:ident)*] $engines:tt;)*) => {
        /// The scenario in which a worker reaches the failpoint.
        fn scenario(point: Failpoint) -> Scenario {
            match point {
                $(Failpoint::$point => Scenario::$scenario$(($why))?,)*
            }
        }
        $(mod $name {
            $(mod $runner {
                kill_tests!($runner $point $engines);
            })*
        })*
    };
}

macro_rules! kill_tests {
    ($runner:ident $point:ident [$($engine:ident)*]) => {$(
        #[tokio::test]
        async fn $engine() -> anyhow::Result<()> {
            super::super::$runner(kill_tests!($engine), spillway_core::failpoint::Failpoint::$point).await
        }
    )*};
    (mariadb) => { spillway_test_env::database::Engine::MariaDb };
    (postgresql) => { spillway_test_env::database::Engine::Postgres };
}

// PostgreSQL loads a file of any size in one transaction, so it has no staging table.
kill_points! {
    EventParsed event_parsed: Load [inline] [mariadb postgresql];
    FallbackLookedUp fallback_looked_up: Load [inline in_task] [mariadb postgresql];
    LeaseWritten lease_written: Load [inline in_task] [mariadb postgresql];
    HeadersRead headers_read: Load [inline in_task single_pass] [mariadb postgresql];
    BodyFirstByte body_first_byte: Load [inline in_task] [mariadb postgresql];
    BodyHalf body_half: Load [inline in_task single_pass] [mariadb postgresql];
    BodyEnd body_end: Load [inline in_task] [mariadb postgresql];
    Inferred inferred: Load [inline in_task single_pass] [mariadb postgresql];
    TableMade table_made: Load [inline in_task single_pass] [mariadb postgresql];
    Begun begun: Load [inline in_task single_pass] [mariadb postgresql];
    Claimed claimed: Load [inline in_task single_pass to_both to_lake] [mariadb postgresql];
    OldRowsDeleted old_rows_deleted: Replace [inline in_task] [mariadb postgresql];
    MissingRowsDeleted missing_rows_deleted: Mirror [inline in_task] [mariadb postgresql];
    RowsFirst rows_first: Load [inline in_task single_pass] [mariadb postgresql];
    RowsHalf rows_half: Load [inline in_task single_pass] [mariadb postgresql];
    RowsAll rows_all: Load [inline in_task single_pass in_mirror to_both] [mariadb postgresql];
    BeforeRejects before_rejects: Rejects [inline in_task] [mariadb postgresql];
    RejectsLookedUp rejects_looked_up: Rejects [inline in_task] [mariadb postgresql];
    RejectsWritten rejects_written: Rejects [inline in_task] [mariadb postgresql];
    BeforeLedgerEnd before_ledger_end: Load [inline in_task single_pass in_mirror to_both to_lake] [mariadb postgresql];
    BeforeCommit before_commit: Load [inline in_task single_pass in_mirror to_both to_lake] [mariadb postgresql];
    AfterCommit after_commit: Load [inline in_task single_pass in_mirror to_both to_lake] [mariadb postgresql];
    AfterCopy after_copy: Load [inline in_task single_pass to_both] [mariadb postgresql];
    MidPartCopy mid_part_copy: OutOfReach("S3 copies in parts only objects above 5 GB") [] [mariadb postgresql];
    BeforeDelete before_delete: Load [inline in_task] [mariadb postgresql];
    AfterDelete after_delete: Load [inline in_task to_both] [mariadb postgresql];
    StagingChunk staging_chunk: StagedInChunks [inline in_task] [mariadb];
    AfterInsertSelect after_insert_select: Staged [inline in_task] [mariadb];
    BeforeStagingDrop before_staging_drop: Staged [inline in_task] [mariadb];
    ManifestWritten manifest_written: Fallback [inline in_task to_both to_lake] [mariadb postgresql];
    RowsPartSent rows_part_sent: FallbackInParts [inline in_task to_both to_lake] [mariadb postgresql];
    RowsFenced rows_fenced: Fallback [inline in_task to_both to_lake] [mariadb postgresql];
    RowsCompleted rows_completed: Fallback [inline in_task to_both to_lake] [mariadb postgresql];
    CatalogTableMade catalog_table_made: Fallback [inline in_task to_both to_lake] [mariadb postgresql];
    PartitionMade partition_made: Fallback [inline in_task to_both to_lake] [mariadb postgresql];
    LakePublished lake_published: Both [inline in_task to_lake] [mariadb postgresql];
    RawRegistered raw_registered: RawZone [inline in_task] [mariadb postgresql];
    AfterRunTask after_run_task: Dispatch [inline] [mariadb postgresql];
    GluePlanWritten glue_plan_written: OutOfReach("only a file for the Glue job reaches it, and load::glue_job kills it there") [] [mariadb postgresql];
    GlueRunStarted glue_run_started: OutOfReach("only a file for the Glue job reaches it, and load::glue_job kills it there") [] [mariadb postgresql];
    GlueRunRecorded glue_run_recorded: OutOfReach("only a file for the Glue job reaches it, and load::glue_job kills it there") [] [mariadb postgresql];
    SyncListed sync_listed: Sync [in_sync] [mariadb postgresql];
    SyncFilesDone sync_files_done: Sync [in_sync] [mariadb postgresql];
    ExtractPartSent extract_part_sent: OutOfReach("only an extract reaches it, and load::extract kills it there") [] [mariadb postgresql];
    ExtractPlanned extract_planned: OutOfReach("only an extract reaches it, and load::extract kills it there") [] [mariadb postgresql];
    ExtractPartVisible extract_part_visible: OutOfReach("only an extract reaches it, and load::extract kills it there") [] [mariadb postgresql];
    ExtractPartsVisible extract_parts_visible: OutOfReach("only an extract reaches it, and load::extract kills it there") [] [mariadb postgresql];
    ExtractManifestWritten extract_manifest_written: OutOfReach("only an extract reaches it, and load::extract kills it there") [] [mariadb postgresql];
    ImportRegistered import_registered: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
    ImportLocked import_locked: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
    ImportDeltaWritten import_delta_written: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
    ImportPlanned import_planned: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
    ImportApplied import_applied: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
    ImportPublished import_published: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
    ImportFinished import_finished: OutOfReach("only an import of exports reaches it, and load::exports kills it there") [] [mariadb postgresql];
}
