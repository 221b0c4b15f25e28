//! A proxy drops a COMMIT or its response, and the database then responds, stalls or is down.
//!
//! Each row must be stored once, and never in both the database and the fallback.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use rstest::rstest;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::Counted;
use spillway_test_env::process::Signal;
use spillway_test_env::proxy::{CommitFault, Mode, Proxy};
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};

const TIMEOUT: Duration = Duration::from_secs(60);
const ROWS: usize = 120;

/// The number of rows in an older file, which is replaced or which created the table.
const OLD_ROWS: usize = 30;

struct Proxied {
    test_env: TestEnv,
    proxy: Proxy,
    object: Object,
    settings: Settings,
    rows_before: usize,
}

impl Proxied {
    /// Uploads a file, and prepares the proxy for a fault at its COMMIT.
    async fn new(engine: Engine, fault: CommitFault) -> Result<Self> {
        Self::in_mode(engine, "append", fault).await
    }

    /// Like [`Proxied::new`], in a load mode, or in a single-pass load if the mode is `single_pass`.
    async fn in_mode(engine: Engine, mode: &str, fault: CommitFault) -> Result<Self> {
        let mut test_env = TestEnv::on(engine).await?;
        let proxy = Proxy::start(test_env.server.port()).await?;
        let mut settings = test_env.settings();
        let mut rows_before = 0;
        if mode == "single_pass" {
            let old = test_env.fixture.upload("uploads/older.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&old]).await?;
            rows_before = OLD_ROWS;
            settings = settings.with("BUFFER_MAX_BYTES", 0);
        } else {
            settings = settings.with("LOAD_MODE", mode);
        }
        if mode == "mirror" {
            settings = settings.with("MERGE_KEY", "file,record").with("MIRROR_MAX_DELETES", 100);
        }
        if mode == "replace" || mode == "mirror" {
            let old = test_env.fixture.upload("uploads/older.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&old]).await?;
            test_env.fixture.expect_replaced(&old);
        } else if mode == "merge" {
            settings = settings.with("MERGE_KEY", "file,record");
        }
        let object = test_env.fixture.upload("uploads/orders.csv", ROWS).await?;
        let settings = settings.with("RDS_TLS", "off").with("RDS_PORT", proxy.port());
        proxy.fail_next_commit(fault);
        Ok(Self { test_env, proxy, object, settings, rows_before })
    }

    async fn ensure_loaded_once(&self) -> Result<()> {
        assert_eq!(self.test_env.count().await?, Counted { database: self.rows_before + ROWS, fallback: 0 });
        self.test_env.sweep(&self.settings).await?;
        self.test_env.ensure_exactly_once().await
    }
}

#[rstest]
#[case::response_lost(CommitFault::CutAfterCommit)]
#[case::commit_lost(CommitFault::DropCommit)]
#[tokio::test]
async fn ledger_resolves_doubt_at_once(
    #[case] fault: CommitFault,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("append", "replace", "merge", "mirror", "single_pass")] mode: &str,
) -> Result<()> {
    let proxied = Proxied::in_mode(engine, mode, fault).await?;
    let response = proxied.test_env.deliver(&proxied.settings, &[&proxied.object]).await?;
    response.ensure_success()?;
    let counts = proxied.proxy.counts();
    let faults = (counts.dropped_responses.load(Ordering::SeqCst), counts.dropped_commits.load(Ordering::SeqCst));
    assert_eq!(faults, if fault == CommitFault::DropCommit { (0, 1) } else { (1, 0) }, "the fault did not occur");
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn silent_database_times_out_and_ledger_resolves_doubt(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let proxied = Proxied::new(engine, CommitFault::StallAfterCommit).await?;
    proxied.test_env.deliver_until_accepted(&proxied.settings, &[&proxied.object]).await?;
    proxied.proxy.wait_for_dropped_response(TIMEOUT).await?;
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn file_waits_while_database_is_down(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("append", "single_pass")] mode: &str,
) -> Result<()> {
    let proxied = Proxied::in_mode(engine, mode, CommitFault::RefuseAfterCommit).await?;
    let Proxied { test_env, proxy, object, settings, rows_before } = &proxied;
    let response = test_env.deliver(settings, &[object]).await?;
    assert_eq!(response.error_type(), Some("commit_unknown"), "{} {}", response.body, response.logs);
    proxy.wait_for_dropped_response(TIMEOUT).await?;
    // The rows are in the database. While no worker can find that out, no worker may write them to the fallback.
    for _ in 0..2 {
        let again = test_env.deliver(settings, &[object]).await?;
        assert!(again.is_failure(), "the event succeeded while the COMMIT was in doubt: {}", again.body);
    }
    assert_eq!(test_env.count().await?, Counted { database: rows_before + ROWS, fallback: 0 });
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, std::slice::from_ref(&object.key));
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());

    proxy.set(Mode::Pass).await?;
    test_env.deliver_until_accepted(settings, &[object]).await?;
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn task_killed_before_commit_response_loads_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let proxied = Proxied::new(engine, CommitFault::StallAfterCommit).await?;
    let task = Task::start(&proxied.settings.clone().with("CSV_KEY", &proxied.object.key))?;
    proxied.proxy.wait_for_dropped_response(TIMEOUT).await?;
    task.signal(Signal::Kill)?;
    let finished = task.finish(TASK_TIMEOUT).await?;
    assert!(finished.was_ended_by(Signal::Kill), "{:?}", finished.status);
    proxied.proxy.cut();
    proxied.test_env.run_task_until_done(&proxied.settings, &proxied.object.key).await?;
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn task_killed_before_commit_response_waits_for_database(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let proxied = Proxied::new(engine, CommitFault::StallAfterCommit).await?;
    let Proxied { test_env, proxy, object, settings, .. } = &proxied;
    let task = Task::start(&settings.clone().with("CSV_KEY", &object.key))?;
    proxy.wait_for_dropped_response(TIMEOUT).await?;
    task.signal(Signal::Kill)?;
    assert!(task.finish(TASK_TIMEOUT).await?.was_ended_by(Signal::Kill));
    proxy.set(Mode::Refuse).await?;
    // The lease expires. The next worker reads in it that a COMMIT may have been sent.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let response = test_env.deliver(settings, &[object]).await?;
    assert!(response.is_failure(), "the event succeeded while the COMMIT was in doubt: {}", response.body);
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new(), "{}", response.logs);
    proxy.set(Mode::Pass).await?;
    test_env.deliver_until_accepted(settings, &[object]).await?;
    proxied.ensure_loaded_once().await
}
