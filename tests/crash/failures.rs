//! The database failures that the retry policy lists, caused on real servers: the outcome of the file, its time and its reason.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::fixture::Counted;
use spillway_test_env::lambda::Response;
use spillway_test_env::proxy::{Mode, Proxy};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const ROWS: usize = 40;
const KEY: &str = "uploads/orders.csv";
/// The time of a call in addition to the retries, on a busy machine.
const MARGIN: Duration = Duration::from_secs(30);
/// The statement that creates a table for the fixture's files, without its end.
const TABLE: &str = "CREATE TABLE {schema}.orders (file VARCHAR(20), record BIGINT, checksum VARCHAR(20), note TEXT";

/// Delivers a file that must fall back with this error kind, and returns the response and the recorded reason.
async fn fall_back(test_env: &TestEnv, settings: &Settings, object: &Object, kind: &str) -> Result<(Response, String)> {
    let start = Instant::now();
    let response = test_env.deliver(settings, &[object]).await?;
    let budget =
        Duration::from_secs(settings.get("RDS_RETRY_SECONDS").context("RDS_RETRY_SECONDS is not set")?.parse()?);
    ensure!(
        start.elapsed() < budget + MARGIN,
        "the delivery took {:?}; the retry budget is {budget:?}",
        start.elapsed()
    );
    let reasons = test_env.fallback_reasons().await?;
    ensure!(reasons.len() == 1, "{reasons:?} {} {}", response.body, response.logs);
    ensure!(reasons[0].0 == KEY && reasons[0].1.starts_with(&format!("{kind}: ")), "{reasons:?}");
    let failed = test_env.fixture.account.keys("failed/").await?;
    ensure!(failed.len() == 1, "{failed:?}");
    Ok((response, reasons[0].1.clone()))
}

/// Fails unless the file is only in the fallback, and a replay loads it completely.
async fn ensure_replay_restores(test_env: &TestEnv, settings: &Settings) -> Result<()> {
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: ROWS });
    test_env.ensure_exactly_once().await?;
    let reports = test_env.replay(settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == "replayed", "{reports:?}");
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn stopped_database_falls_back(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options::default()).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    test_env.server.stop().await?;
    let (response, _) = fall_back(&test_env, &test_env.settings(), &object, "unreachable").await?;
    response.ensure_success()?;
    test_env.server.start_again().await?;
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[case::refused(Mode::Refuse)]
#[case::silent(Mode::Stall)]
#[tokio::test]
async fn unreachable_database_falls_back(
    #[case] mode: Mode,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let proxy = Proxy::start(test_env.server.port()).await?;
    proxy.set(mode).await?;
    let settings = test_env.settings().with("RDS_PORT", proxy.port());
    let (response, _) = fall_back(&test_env, &settings, &object, "unreachable").await?;
    response.ensure_success()?;
    proxy.set(Mode::Pass).await?;
    ensure_replay_restores(&test_env, &settings).await
}

#[rstest]
#[tokio::test]
async fn database_without_free_connections_falls_back(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options { max_connections: 10, ..Options::default() }).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let mut clients = Vec::new();
    while let Ok(client) = test_env.fixture.schema.client(test_env.server.port()).await {
        clients.push(client);
    }
    ensure!(clients.len() >= 5, "only {} clients could connect", clients.len());
    let (response, _) = fall_back(&test_env, &test_env.settings(), &object, "capacity").await?;
    response.ensure_success()?;
    drop(clients);
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn wrong_password_falls_back(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let settings = test_env.settings().with("RDS_PASSWORD", "pass-wrong");
    let (response, reason) = fall_back(&test_env, &settings, &object, "credentials").await?;
    response.ensure_success()?;
    let has_password = reason.contains("pass-wrong") || response.logs.contains("pass-wrong");
    assert!(!has_password, "the password is in a message");
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn read_only_database_falls_back(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options { read_only: true, ..Options::default() }).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let (response, _) = fall_back(&test_env, &test_env.settings(), &object, "failover").await?;
    response.ensure_success()?;
    test_env
        .sql(match engine {
            Engine::MariaDb => "SET GLOBAL read_only = 0",
            Engine::Postgres => "ALTER ROLE ALL SET default_transaction_read_only = off",
        })
        .await?;
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[case::too_few_columns("CREATE TABLE {schema}.orders (file VARCHAR(20))", "table_mismatch")]
#[case::not_durable("{not durable}", "table_mismatch")]
#[case::required_column("{table}, more INT NOT NULL)", "table_mismatch")]
#[case::view(
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
async fn unsuitable_table_falls_back(
    #[case] table: &str,
    #[case] kind: &str,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    // A table without transactions, or one that a crash empties.
    let not_durable = match engine {
        Engine::MariaDb => format!("{TABLE}) ENGINE=MyISAM"),
        Engine::Postgres => format!("{})", TABLE.replace("CREATE TABLE", "CREATE UNLOGGED TABLE")),
    };
    test_env.sql(&table.replace("{table}", TABLE).replace("{not durable}", &not_durable)).await?;
    let (response, reason) = fall_back(&test_env, &test_env.settings(), &object, kind).await?;
    response.ensure_success()?;
    let (state, recorded) = test_env.ledger(KEY).await?.context("the ledger has no entry")?;
    assert_eq!((state.as_str(), recorded), ("fell_back", reason.clone()));
    if kind == "data_refused" {
        assert!(reason.contains("record "), "the reason names no record: {reason}");
    }
    assert!(!reason.contains("comma, inside"), "a value is in the reason: {reason}");
    test_env
        .sql(if table.contains("VIEW") { "DROP VIEW {schema}.orders" } else { "DROP TABLE {schema}.orders" })
        .await?;
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn missing_privilege_falls_back(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
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
    let (response, _) = fall_back(&test_env, &test_env.settings(), &object, "privilege").await?;
    response.ensure_success()?;
    test_env.sql(&give).await?;
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn missing_schema_falls_back(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let settings = test_env.settings().with("RDS_DB", "nowhere");
    let (response, _) = fall_back(&test_env, &settings, &object, "privilege").await?;
    response.ensure_success()?;
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn untrusted_certificate_falls_back_and_needs_attention(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let untrusted = test_env.server.certificates().untrusted_authority();
    let settings = test_env.settings().with("RDS_CA_FILE", untrusted.display());
    let (response, _) = fall_back(&test_env, &settings, &object, "tls_refused").await?;
    assert_eq!(response.body["reports"][0]["needs_attention"], true, "{}", response.body);
    ensure_replay_restores(&test_env, &test_env.settings()).await
}

#[rstest]
#[tokio::test]
async fn held_lock_does_not_cause_fallback(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, ROWS).await?;
    let table = "CREATE TABLE {schema}.orders \
                 (file VARCHAR(20), record INT, checksum VARCHAR(40), note TEXT, UNIQUE (file, record))";
    test_env.sql(table).await?;
    let mut holder = test_env.fixture.schema.client(test_env.server.port()).await?;
    holder.execute("START TRANSACTION").await?;
    holder.execute("INSERT INTO orders (file, record) VALUES ('orders', 7)").await?;
    let response = test_env.deliver(&test_env.settings(), &[&object]).await?;
    assert_eq!(response.error_type(), Some("conflict"), "{} {}", response.body, response.logs);
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, [KEY]);
    holder.execute("ROLLBACK").await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}
