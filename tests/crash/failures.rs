//! The failure table, row by row, on a real server: where the file goes, how soon, and what is said about it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::fixture::Counted;
use spillway_test_env::lambda::Answer;
use spillway_test_env::proxy::{Mode, Proxy};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const ROWS: usize = 40;
const KEY: &str = "uploads/orders.csv";
/// What a call takes besides waiting for the database, on a busy machine.
const MARGIN: Duration = Duration::from_secs(30);
/// The whole table as the world's files need it.
const TABLE: &str = "CREATE TABLE {schema}.orders (file VARCHAR(20), record BIGINT, checksum VARCHAR(20), note TEXT";

/// One delivery that is to end in the fallback for this kind of failure; the answer and the reason that was kept.
async fn fall_back(test_env: &TestEnv, settings: &Settings, object: &Object, kind: &str) -> Result<(Answer, String)> {
    let start = Instant::now();
    let answer = test_env.deliver(settings, &[object]).await?;
    let budget = Duration::from_secs(settings.get("RDS_RETRY_SECONDS").context("no budget is set")?.parse()?);
    ensure!(start.elapsed() < budget + MARGIN, "it took {:?}, the budget is {budget:?}", start.elapsed());
    let reasons = test_env.fallback_reasons().await?;
    ensure!(reasons.len() == 1, "{reasons:?} {} {}", answer.body, answer.logs);
    ensure!(reasons[0].0 == KEY && reasons[0].1.starts_with(&format!("{kind}: ")), "{reasons:?}");
    let failed = test_env.fixture.account.keys("failed/").await?;
    ensure!(failed.len() == 1, "{failed:?}");
    Ok((answer, reasons[0].1.clone()))
}

/// The file is in the fallback and nowhere else; then the database takes it again, and the replay brings it home.
async fn comes_home(test_env: &TestEnv, settings: &Settings) -> Result<()> {
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: ROWS });
    test_env.ensure_kept().await?;
    let reports = test_env.replay(settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == "replayed", "{reports:?}");
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn a_database_that_is_down(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options::default()).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    test_env.server.stop().await?;
    let (answer, _) = fall_back(&test_env, &test_env.settings(), &object, "unreachable").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    test_env.server.start_again().await?;
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[case::refused(Mode::Refuse)]
#[case::silent(Mode::Stall)]
#[tokio::test]
async fn a_database_that_cannot_be_reached(
    #[case] mode: Mode,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let proxy = Proxy::start(test_env.server.port()).await?;
    proxy.set(mode).await?;
    let settings = test_env.settings().with("RDS_PORT", proxy.port());
    let (answer, _) = fall_back(&test_env, &settings, &object, "unreachable").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    proxy.set(Mode::Pass).await?;
    comes_home(&test_env, &settings).await
}

#[rstest]
#[tokio::test]
async fn a_database_full_of_connections(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options { max_connections: 10, ..Options::default() }).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let mut taken = Vec::new();
    while let Ok(connection) = test_env.fixture.schema.client(test_env.server.port()).await {
        taken.push(connection);
    }
    ensure!(taken.len() >= 5, "only {} connections could be taken", taken.len());
    let (answer, _) = fall_back(&test_env, &test_env.settings(), &object, "capacity").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    drop(taken);
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn a_password_that_is_wrong(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let settings = test_env.settings().with("RDS_PASSWORD", "not the one");
    let (answer, reason) = fall_back(&test_env, &settings, &object, "credentials").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    assert!(!reason.contains("not the one") && !answer.logs.contains("not the one"), "the password is in a message");
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn a_database_that_is_read_only(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options { read_only: true, ..Options::default() }).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let (answer, _) = fall_back(&test_env, &test_env.settings(), &object, "failover").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    test_env
        .sql(match engine {
            Engine::MariaDb => "SET GLOBAL read_only = 0",
            Engine::Postgres => "ALTER ROLE ALL SET default_transaction_read_only = off",
        })
        .await?;
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[case::too_few_columns("CREATE TABLE {schema}.orders (file VARCHAR(20))", "table_mismatch")]
#[case::not_safe("{unsafe table}", "table_mismatch")]
#[case::a_column_that_must_have_a_value("{table}, more INT NOT NULL)", "table_mismatch")]
#[case::a_view(
    "CREATE VIEW {schema}.orders AS SELECT 1 AS file, 2 AS record, 3 AS checksum, 4 AS note",
    "table_mismatch"
)]
#[case::unique_key("{table}, UNIQUE (file))", "data_refused")]
#[case::value_too_long(
    "CREATE TABLE {schema}.orders (file VARCHAR(20), record BIGINT, checksum VARCHAR(5), note TEXT)",
    "data_refused"
)]
#[case::number_too_large(
    "CREATE TABLE {schema}.orders (file VARCHAR(20), record SMALLINT, checksum VARCHAR(20), note TEXT, CHECK (record < 9))",
    "data_refused"
)]
#[tokio::test]
async fn a_table_that_does_not_take_the_file(
    #[case] table: &str,
    #[case] kind: &str,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    // A table that forgets: without transactions, or emptied by a crash.
    let not_safe = match engine {
        Engine::MariaDb => format!("{TABLE}) ENGINE=MyISAM"),
        Engine::Postgres => format!("{})", TABLE.replace("CREATE TABLE", "CREATE UNLOGGED TABLE")),
    };
    test_env.sql(&table.replace("{table}", TABLE).replace("{unsafe table}", &not_safe)).await?;
    let (answer, reason) = fall_back(&test_env, &test_env.settings(), &object, kind).await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    let (state, noted) = test_env.ledger(KEY).await?.context("the ledger does not know the file")?;
    assert_eq!((state.as_str(), noted), ("fell_back", reason.clone()));
    if kind == "data_refused" {
        assert!(reason.contains("record "), "the reason names no record: {reason}");
    }
    assert!(!reason.contains("comma, inside"), "a value is in the reason: {reason}");
    test_env
        .sql(if table.contains("VIEW") { "DROP VIEW {schema}.orders" } else { "DROP TABLE {schema}.orders" })
        .await?;
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn a_user_who_may_not_write(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let user = test_env.fixture.schema.user.clone();
    let (take, give) = match engine {
        Engine::MariaDb => {
            test_env.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?;
            (
                format!("GRANT SELECT ON {{schema}}.* TO '{user}'@'%'"),
                format!("GRANT ALL ON {{schema}}.* TO '{user}'@'%'"),
            )
        }
        Engine::Postgres => {
            ("ALTER SCHEMA public OWNER TO postgres".to_owned(), format!("ALTER SCHEMA public OWNER TO {user}"))
        }
    };
    test_env.sql(&take).await?;
    let (answer, _) = fall_back(&test_env, &test_env.settings(), &object, "privilege").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    test_env.sql(&give).await?;
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn a_schema_that_does_not_exist(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let settings = test_env.settings().with("RDS_DB", "nowhere");
    let (answer, _) = fall_back(&test_env, &settings, &object, "privilege").await?;
    assert!(!answer.is_failure(), "{}", answer.body);
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn a_certificate_that_a_stranger_signed_is_never_talked_past(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let stranger = test_env.server.certificates().stranger();
    let settings = test_env.settings().with("RDS_CA_FILE", stranger.display());
    let (answer, _) = fall_back(&test_env, &settings, &object, "tls_refused").await?;
    assert!(answer.is_failure(), "somebody must look at this: {}", answer.body);
    comes_home(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn a_lock_that_somebody_holds_is_no_reason_to_fall_back(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let first = test_env.fixture.upload("uploads/first.csv", 5).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&first]).await?;
    test_env.sql("CREATE UNIQUE INDEX by_file ON {schema}.orders (file, record)").await?;
    let mut holder = test_env.fixture.schema.client(test_env.server.port()).await?;
    holder.execute("START TRANSACTION").await?;
    holder.execute("INSERT INTO orders (file, record) VALUES ('orders', 7)").await?;
    let answer = test_env.deliver(&test_env.settings(), &[&object]).await?;
    assert_eq!(answer.error_type(), Some("conflict"), "{} {}", answer.body, answer.logs);
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, [KEY]);
    holder.execute("ROLLBACK").await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS + 5, fallback: 0 });
    test_env.ensure_kept().await
}
