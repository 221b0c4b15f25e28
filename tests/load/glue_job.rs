//! Large files that are handed to the Glue job.
//!
//! The local AWS starts a run as a process that waits for a file, and loads nothing. A test plays the job's part: a worker without
//! the job loads the rows, and is killed after COMMIT, so that the object is still in place. `tests/glue` tests the job itself.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_glue::types::{JobCommand, JobRunState};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::process::Signal;
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};
use spillway_test_env::wait;

const JOB: &str = "large-files";
const KEY: &str = "uploads/day/orders.csv";
const CLUSTER: &str = "spillway";
const TIMEOUT: Duration = Duration::from_secs(90);

/// A run ends when its file exists. A first line in that file is its error.
const SCRIPT: &str = "import os, sys, time\n\
    end = os.environ['end_file']\n\
    started = time.monotonic()\n\
    while not os.path.exists(end) and time.monotonic() - started < 120:\n    time.sleep(0.05)\n\
    sys.exit(open(end).read() or None)\n";

struct Site {
    test_env: TestEnv,
    settings: Settings,
    object: Object,
    folder: PathBuf,
}

impl Site {
    /// A table with rows of a first file, a second file that is large enough for the job, and the job.
    async fn new(engine: Engine) -> Result<Self> {
        let mut test_env = TestEnv::on(engine).await?;
        let first = test_env.fixture.upload_large("uploads/day/first.csv", 20, 20).await?;
        test_env.deliver_until_accepted(&test_env.settings(), &[&first]).await?;
        let object = test_env.fixture.upload_large(KEY, 200, 20).await?;
        let folder = std::env::temp_dir().join(format!("spillway-glue-job-{}", test_env.fixture.account.id));
        std::fs::create_dir_all(&folder)?;
        let script = folder.join("job.py");
        std::fs::write(&script, SCRIPT)?;
        let command = JobCommand::builder().name("pythonshell").script_location(script.display().to_string()).build();
        let job = test_env.fixture.account.glue.create_job().name(JOB).role("arn:aws:iam::111122223333:role/job");
        let job = job.default_arguments("--end_file", folder.join("end").display().to_string());
        job.command(command).send().await?;
        let settings = test_env.settings().with("GLUE_JOB", JOB).with("GLUE_MIN_BYTES", 1).with("BUFFER_MAX_BYTES", 0);
        Ok(Self { test_env, settings, object, folder })
    }

    /// The ids of the runs.
    async fn runs(&self) -> Result<Vec<String>> {
        let found = self.test_env.fixture.account.glue.get_job_runs().job_name(JOB).send().await?;
        Ok(found.job_runs().iter().filter_map(|run| run.id().map(str::to_owned)).collect())
    }

    /// Ends all runs, also later ones, until [`Self::let_runs_wait`]. With an error, they fail.
    async fn end_runs(&self, error: &str) -> Result<()> {
        // In one step, because a run reads the file as soon as it exists.
        let ready = self.folder.join("ready");
        std::fs::write(&ready, error)?;
        std::fs::rename(&ready, self.folder.join("end"))?;
        let expected = if error.is_empty() { JobRunState::Succeeded } else { JobRunState::Failed };
        wait::until("the end of the runs", TIMEOUT, async || {
            let found = self.test_env.fixture.account.glue.get_job_runs().job_name(JOB).send().await?;
            Ok(found.job_runs().iter().all(|run| run.job_run_state() == Some(&expected)))
        })
        .await
    }

    fn let_runs_wait(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.folder.join("end"))?)
    }

    /// Runs the task until it hands the file over.
    async fn hand_over(&self) -> Result<()> {
        let finished = self.test_env.run_task_until_done(&self.settings, KEY).await?;
        ensure!(finished.logs.contains("\"outcome\":\"handed_over\""), "not handed over: {}", finished.logs);
        Ok(())
    }

    /// Loads the rows and leaves the object in place, as a run of the job does.
    async fn play_the_job(&self) -> Result<()> {
        let pause = Pause::at("AfterCommit")?;
        let task = Task::start(&self.test_env.settings().and(&pause.settings()).with("CSV_KEY", KEY))?;
        pause.wait_until_reached(TIMEOUT).await?;
        task.signal(Signal::Kill)?;
        task.finish(TASK_TIMEOUT).await?;
        Ok(())
    }

    /// Fails unless each row is stored once, the object was moved, and nothing of the job is left in the bucket.
    async fn ensure_done(&self) -> Result<()> {
        self.test_env.sweep(&self.test_env.settings()).await?;
        let left = self.test_env.fixture.account.keys("glue/").await?;
        ensure!(left.is_empty(), "left over: {left:?}");
        self.test_env.ensure_exactly_once().await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Runs that are under way end too.
        let _ = std::fs::write(self.folder.join("end"), "");
    }
}

#[rstest]
#[tokio::test]
async fn file_is_moved_after_its_run(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::new(engine).await?;
    site.hand_over().await?;
    let runs = site.runs().await?;
    // A duplicate event.
    site.hand_over().await?;
    ensure!(runs.len() == 1 && site.runs().await? == runs, "one run, and no other one: {runs:?}");
    site.play_the_job().await?;
    site.end_runs("").await?;
    wait::until("the move", TIMEOUT, async || {
        let response = site.test_env.invoke_ingest(&site.settings, &json!({"glue_run": runs[0]})).await?;
        response.ensure_success()?;
        Ok(!site.test_env.fixture.account.keys("uploads/").await?.contains(&KEY.to_owned()))
    })
    .await?;
    assert_eq!(site.runs().await?, runs);
    site.ensure_done().await
}

/// The plan in S3 is one that the job accepts.
#[tokio::test]
async fn job_reads_the_plan() -> Result<()> {
    let site = Site::new(Engine::Postgres).await?;
    site.hand_over().await?;
    let keys = site.test_env.fixture.account.keys("glue/plans/").await?;
    let plan = site.folder.join("plan.json");
    std::fs::write(&plan, site.test_env.fixture.account.get(keys.first().context("no plan")?).await?)?;
    let script = "import sys; from spillway_glue import plan; found = plan.read(open(sys.argv[1]).read()); \
                  print(found.format, found.rows, found.table, len(found.columns))";
    let output = Command::new(run::tool("python")?)
        .args(["-B", "-c", script, &plan.display().to_string()])
        .env("PYTHONPATH", run::workspace().join("glue"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.starts_with("csv 200 orders "), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A killed worker leads to one run, whether it dies before or after Glue has started it.
#[rstest]
#[case::before_the_start("GluePlanWritten", 0)]
#[case::after_the_start("GlueRunStarted", 1)]
#[case::before_the_release("GlueRunRecorded", 1)]
#[tokio::test]
async fn killed_worker_leads_to_one_run(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] point: &str,
    #[case] runs: usize,
) -> Result<()> {
    let site = Site::new(engine).await?;
    let pause = Pause::at(point)?;
    let task = Task::start(&site.settings.clone().and(&pause.settings()).with("CSV_KEY", KEY))?;
    pause.wait_until_reached(TIMEOUT).await?;
    task.signal(Signal::Kill)?;
    let killed = task.finish(TASK_TIMEOUT).await?;
    ensure!(killed.was_ended_by(Signal::Kill), "the task was not killed: {:?}", killed.status);
    assert_eq!(site.runs().await?.len(), runs);
    site.hand_over().await?;
    assert_eq!(site.runs().await?.len(), 1);
    site.play_the_job().await?;
    site.end_runs("").await?;
    site.test_env.run_task_until_done(&site.settings, KEY).await?;
    assert_eq!(site.runs().await?.len(), 1);
    site.ensure_done().await
}

/// Two tasks of the same file: one hands it over, and the other finds the lease or the run.
#[tokio::test]
async fn two_workers_start_one_run() -> Result<()> {
    let site = Site::new(Engine::Postgres).await?;
    let settings = site.settings.clone().with("CSV_KEY", KEY);
    let (first, second) = (Task::start(&settings)?, Task::start(&settings)?);
    for task in [first, second] {
        let finished = task.finish(TASK_TIMEOUT).await?;
        ensure!(matches!(finished.code(), Some(0 | 75)), "{:?} {}", finished.status, finished.logs);
    }
    assert_eq!(site.runs().await?.len(), 1);
    site.play_the_job().await?;
    site.end_runs("").await?;
    site.test_env.run_task_until_done(&site.settings, KEY).await?;
    site.ensure_done().await
}

/// A refused file has one run, and a file whose runs fail has three. Then the task loads it.
#[rstest]
#[case::refused("spillway refused: a value does not fit", 1)]
#[case::failed("lost an executor", 3)]
#[tokio::test]
async fn task_loads_a_file_whose_runs_fail(#[case] error: &str, #[case] runs: usize) -> Result<()> {
    let site = Site::new(Engine::MariaDb).await?;
    for run in 1..=runs {
        site.hand_over().await?;
        assert_eq!(site.runs().await?.len(), run);
        site.end_runs(error).await?;
        site.let_runs_wait()?;
    }
    let finished = site.test_env.run_task_until_done(&site.settings, KEY).await?;
    ensure!(finished.logs.contains(&format!("{runs} of its runs failed")), "{}", finished.logs);
    assert_eq!(site.runs().await?.len(), runs);
    site.ensure_done().await
}

/// The trigger starts one task for the first pass, none while a run is under way, and another one after it.
#[tokio::test]
async fn trigger_starts_a_task_for_each_step() -> Result<()> {
    let site = Site::new(Engine::MariaDb).await?;
    let account = &site.test_env.fixture.account;
    let container = aws_sdk_ecs::types::ContainerDefinition::builder().name("spillway").image("spillway:1").build();
    account.ecs.create_cluster().cluster_name(CLUSTER).send().await?;
    account.ecs.register_task_definition().family("spillway-task").container_definitions(container).send().await?;
    let trigger = site
        .settings
        .clone()
        .with("ECS_CLUSTER", CLUSTER)
        .with("TASK_DEFINITION", "spillway-task:1")
        .with("CONTAINER_NAME", "spillway")
        .with("SUBNETS", "subnet-1");
    let deliver = async || site.test_env.deliver_until_accepted(&trigger, &[&site.object]).await;
    deliver().await?;
    assert_eq!(account.tasks(CLUSTER).await?.len(), 1);
    site.hand_over().await?;
    let response = deliver().await?;
    ensure!(response.body.to_string().contains("of the Glue job"), "{}", response.body);
    assert_eq!(account.tasks(CLUSTER).await?.len(), 1, "a task was started while a run was under way");
    site.play_the_job().await?;
    site.end_runs("").await?;
    wait::until("another task", TIMEOUT, async || {
        deliver().await?;
        Ok(account.tasks(CLUSTER).await?.len() == 2)
    })
    .await?;
    site.test_env.run_task_until_done(&site.settings, KEY).await?;
    site.ensure_done().await
}
