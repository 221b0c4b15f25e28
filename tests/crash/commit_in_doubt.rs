//! COMMIT without an answer: a proxy swallows it, with the database up, silent or gone. The rows are stored once, and
//! never in the database and the fallback both.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::Counted;
use spillway_test_env::process::Signal;
use spillway_test_env::proxy::{Mode, Proxy, Swallow};
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_BOUND, TestEnv};

const BOUND: Duration = Duration::from_secs(60);
const ROWS: usize = 120;

/// The rows of an older file, which is replaced or has made the table.
const OLD_ROWS: usize = 30;

struct Proxied {
    test_env: TestEnv,
    proxy: Proxy,
    object: Object,
    settings: Settings,
    rows_before: usize,
}

impl Proxied {
    /// A file to load through a proxy that will do this to its COMMIT.
    async fn new(engine: Engine, swallow: Swallow) -> Result<Self> {
        Self::in_mode(engine, "append", swallow).await
    }

    /// The same in a load mode; a file that replaces has an older one to replace. One that is appended `unread` finds its
    /// table, and is loaded while it is read.
    async fn in_mode(engine: Engine, mode: &str, swallow: Swallow) -> Result<Self> {
        let mut test_env = TestEnv::on(engine).await?;
        let proxy = Proxy::start(test_env.server.port()).await?;
        let mut settings = test_env.settings();
        let mut rows_before = 0;
        if mode == "unread" {
            let old = test_env.fixture.upload("uploads/older.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&old]).await?;
            rows_before = OLD_ROWS;
            settings = settings.with("BUFFER_MAX_BYTES", 0);
        } else {
            settings = settings.with("LOAD_MODE", mode);
        }
        if mode == "replace" {
            let old = test_env.fixture.upload("uploads/older.csv", OLD_ROWS).await?;
            test_env.deliver_until_accepted(&settings, &[&old]).await?;
            test_env.fixture.expect_replaced(&old);
        } else if mode == "merge" {
            settings = settings.with("MERGE_KEY", "file,record");
        }
        let object = test_env.fixture.upload("uploads/orders.csv", ROWS).await?;
        let settings = settings.with("RDS_TLS", "off").with("RDS_PORT", proxy.port());
        proxy.swallow_next_commit(swallow);
        Ok(Self { test_env, proxy, object, settings, rows_before })
    }

    async fn ensure_loaded_once(&self) -> Result<()> {
        assert_eq!(self.test_env.count().await?, Counted { database: self.rows_before + ROWS, fallback: 0 });
        self.test_env.sweep(&self.settings).await?;
        self.test_env.ensure_kept().await
    }
}

#[rstest]
#[case::the_answer_is_lost(Swallow::ThenCut)]
#[case::the_commit_is_lost(Swallow::Lost)]
#[tokio::test]
async fn with_the_database_up_the_ledger_tells_at_once(
    #[case] swallow: Swallow,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("append", "replace", "merge", "unread")] mode: &str,
) -> Result<()> {
    let proxied = Proxied::in_mode(engine, mode, swallow).await?;
    let answer = proxied.test_env.deliver(&proxied.settings, &[&proxied.object]).await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    let counts = proxied.proxy.counts();
    let fired = (counts.swallowed.load(Ordering::SeqCst), counts.lost.load(Ordering::SeqCst));
    assert_eq!(fired, if swallow == Swallow::Lost { (0, 1) } else { (1, 0) }, "the fault did not fire");
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn a_silent_database_is_given_up_and_the_ledger_tells(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let proxied = Proxied::new(engine, Swallow::ThenStall).await?;
    proxied.test_env.deliver_until_accepted(&proxied.settings, &[&proxied.object]).await?;
    proxied.proxy.swallowed(BOUND).await?;
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn with_the_database_gone_the_file_waits_and_never_falls_back(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("append", "unread")] mode: &str,
) -> Result<()> {
    let proxied = Proxied::in_mode(engine, mode, Swallow::ThenRefuse).await?;
    let Proxied { test_env, proxy, object, settings, rows_before } = &proxied;
    let answer = test_env.deliver(settings, &[object]).await?;
    assert_eq!(answer.error_type(), Some("commit_unknown"), "{} {}", answer.body, answer.logs);
    proxy.swallowed(BOUND).await?;
    // The rows are in the database, which nobody can know now. Whoever comes next must not write them elsewhere either.
    for _ in 0..2 {
        let again = test_env.deliver(settings, &[object]).await?;
        assert!(again.is_failure(), "accepted while nobody can know: {}", again.body);
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
async fn a_task_killed_between_commit_and_answer_leaves_rows_that_the_next_one_finds(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let proxied = Proxied::new(engine, Swallow::ThenStall).await?;
    let task = Task::start(&proxied.settings.clone().with("CSV_KEY", &proxied.object.key))?;
    proxied.proxy.swallowed(BOUND).await?;
    task.signal(Signal::Kill)?;
    let finished = task.finish(TASK_BOUND).await?;
    assert!(finished.was_ended_by(Signal::Kill), "{:?}", finished.status);
    proxied.proxy.cut();
    proxied.test_env.run_task_until_done(&proxied.settings, &proxied.object.key).await?;
    proxied.ensure_loaded_once().await
}

#[rstest]
#[tokio::test]
async fn a_task_killed_between_commit_and_answer_with_the_database_gone_waits_for_it(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let proxied = Proxied::new(engine, Swallow::ThenStall).await?;
    let Proxied { test_env, proxy, object, settings, .. } = &proxied;
    let task = Task::start(&settings.clone().with("CSV_KEY", &object.key))?;
    proxy.swallowed(BOUND).await?;
    task.signal(Signal::Kill)?;
    assert!(task.finish(TASK_BOUND).await?.was_ended_by(Signal::Kill));
    proxy.set(Mode::Refuse).await?;
    // The lease expires meanwhile; whoever takes it over reads there that a COMMIT may have been sent.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let answer = test_env.deliver(settings, &[object]).await?;
    assert!(answer.is_failure(), "accepted while nobody can know: {}", answer.body);
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new(), "{}", answer.logs);
    proxy.set(Mode::Pass).await?;
    test_env.deliver_until_accepted(settings, &[object]).await?;
    proxied.ensure_loaded_once().await
}
