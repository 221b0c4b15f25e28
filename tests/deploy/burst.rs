//! A burst of uploads opens no more connections than the configured number of concurrent uploads, and starts no more tasks than
//! `MaxTasks`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::Cloud;
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::Fixture;
use spillway_test_env::wait;

const CONCURRENCY: usize = 3;
const RECORDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(280);

/// `MaxTasks` of the burst of large files.
const TASKS: usize = 2;
const LARGE_FILES: usize = 8;
const LARGE_RECORDS: usize = 100;

#[rstest]
#[case::short(150)]
#[ignore = "takes minutes; part of `make test-stack`"]
#[case::long(1_000)]
#[tokio::test]
async fn a_burst_stays_below_the_limit_of_connections(#[case] files: usize) -> Result<()> {
    let (server, cloud) = (Database::start(Engine::MariaDb, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let parameters = [format!("MaxConcurrency={CONCURRENCY}")];
    let stack = Deployment::deploy(&cloud, &server, &schema, &[parameters[0].as_str()]).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);
    let own = most_connections(&server, &fixture).await?;

    let started = Instant::now();
    for number in 0..files {
        fixture.upload(&format!("uploads/{number}.csv"), RECORDS).await?;
    }
    wait::until("all files to be loaded", LIMIT, async || {
        Ok(fixture.account.keys("uploads/").await?.is_empty() && fixture.account.keys("lease/").await?.is_empty())
    })
    .await?;
    let most = most_connections(&server, &fixture).await?;
    println!(
        "{files} files in {:.1} s, at most {most} connections, {own} of them the test's",
        started.elapsed().as_secs_f64()
    );
    ensure!(most <= CONCURRENCY + own, "{most} connections at once");
    assert_eq!(fixture.count(&server).await?.database, files * RECORDS);
    fixture.ensure_exactly_once(&server).await
}

/// How the files that wait for a task are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// By a sweep, which loads small files itself.
    Swept,
    /// By tasks, after their messages are received again.
    Redelivered,
}

/// Large files beyond the limit of tasks wait in place until tasks have ended.
#[rstest]
#[case::swept(Waiting::Swept)]
#[ignore = "takes minutes; part of `make test-stack`"]
#[case::redelivered(Waiting::Redelivered)]
#[tokio::test]
async fn a_burst_of_large_files_stays_near_the_limit_of_tasks(#[case] waiting: Waiting) -> Result<()> {
    let (server, cloud) = (Database::start(Engine::MariaDb, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let parameters = [format!("MaxConcurrency={CONCURRENCY}"), format!("MaxTasks={TASKS}")];
    let parameters = [parameters[0].as_str(), parameters[1].as_str(), "InlineMaxBytes=1000"];
    let stack = Deployment::deploy(&cloud, &server, &schema, &parameters).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);
    for number in 0..LARGE_FILES {
        fixture.upload(&format!("uploads/{number}.csv"), LARGE_RECORDS).await?;
    }
    let started = stack.recorded_tasks(TASKS, LIMIT).await?.len();
    wait::until("each file to have a task or to wait", LIMIT, async || {
        Ok(stack.account.tasks(stack.output("ClusterName")?).await?.len() + refused(&stack).await? >= LARGE_FILES)
    })
    .await?;
    let started = started.max(stack.account.tasks(stack.output("ClusterName")?).await?.len());
    // Functions that count the tasks at the same moment can each start one more.
    ensure!(started < TASKS + CONCURRENCY, "{started} tasks at once");
    assert_eq!(fixture.account.keys("uploads/").await?.len(), LARGE_FILES, "a file that waits stays in place");

    match waiting {
        Waiting::Swept => {
            stack.invoke_ingest(&json!({"sweep": {"older_than_seconds": 0}})).await?;
        }
        Waiting::Redelivered => {
            wait::until("tasks for all files", LIMIT, async || {
                run_and_stop_tasks(&stack).await?;
                Ok(fixture.account.keys("uploads/").await?.is_empty())
            })
            .await?;
        }
    }
    assert_eq!(fixture.count(&server).await?.database, LARGE_FILES * LARGE_RECORDS);
    fixture.ensure_exactly_once(&server).await
}

/// The number of files whose start of a task was refused because of the limit.
async fn refused(stack: &Deployment) -> Result<usize> {
    let lines = stack.log_lines("TriggerLogGroupName").await?;
    let waits = |key: &str| lines.iter().any(|line| line.contains("MAX_TASKS is") && line.contains(key));
    Ok((0..LARGE_FILES).filter(|number| waits(&format!("uploads/{number}.csv"))).count())
}

/// Runs each task that ECS counts as running, and stops it there.
async fn run_and_stop_tasks(stack: &Deployment) -> Result<()> {
    let (ecs, cluster) = (&stack.account.ecs, stack.output("ClusterName")?);
    let listed = ecs.list_tasks().cluster(cluster).send().await?;
    for settings in stack.recorded_tasks(listed.task_arns().len(), LIMIT).await? {
        let finished = stack.run_task(&settings, LIMIT).await?;
        ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    }
    for task in listed.task_arns() {
        ecs.stop_task().cluster(cluster).task(task).send().await?;
    }
    Ok(())
}

/// The most connections at once since the server started.
async fn most_connections(server: &Database, fixture: &Fixture) -> Result<usize> {
    let rows = server.query(&fixture.schema, "SHOW GLOBAL STATUS LIKE 'Max_used_connections'").await?;
    let value = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref).context("no status")?;
    Ok(value.parse()?)
}
