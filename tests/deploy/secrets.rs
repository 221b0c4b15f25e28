//! Five kinds of database secrets: what a check and a file get with each, on both engines.
//!
//! For IAM database authentication the servers check tokens through PAM, over TLS
//! (see `spillway_test_env::token_service`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::deploy::SECRET;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::Counted;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};
use spillway_test_env::token_service::{SECRET_KEY, TokenService};

const ROWS: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);
/// The age in seconds at which RDS refuses a token.
const MAX_AGE: u32 = 900;

/// A kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All fields are there.
    Complete,
    /// Only user and password, as RDS writes it. The settings contain the rest.
    RdsManaged,
    /// No secret: a token replaces the password.
    Iam,
    /// The password is not that of the user.
    WrongPassword,
    /// The field `password` is missing.
    MissingField,
}

/// What a check and a file get.
struct Expected {
    /// The item of the check that fails, and the start of its reason.
    failed: Option<(&'static str, &'static str)>,
    outcome: &'static str,
    needs_attention: bool,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Complete, Self::RdsManaged, Self::Iam, Self::WrongPassword, Self::MissingField];

    fn expected(self) -> Expected {
        match self {
            Self::Complete | Self::RdsManaged | Self::Iam => {
                Expected { failed: None, outcome: "loaded", needs_attention: false }
            }
            Self::WrongPassword => {
                Expected { failed: Some(("database", "credentials: ")), outcome: "fell_back", needs_attention: false }
            }
            Self::MissingField => {
                Expected { failed: Some(("secret", "secret_invalid: ")), outcome: "fell_back", needs_attention: true }
            }
        }
    }

    /// The text of the secret; none without a secret.
    fn secret(self, test_env: &TestEnv) -> Option<Value> {
        let schema = &test_env.fixture.schema;
        let complete = json!({
            "username": schema.user, "password": schema.password, "host": "127.0.0.1", "port": schema.port,
            "dbname": schema.name, "engine": schema.engine.name(),
        });
        match self {
            Self::Complete => Some(complete),
            Self::RdsManaged => Some(json!({"username": schema.user, "password": schema.password})),
            Self::Iam => None,
            Self::WrongPassword => {
                let mut wrong = complete;
                wrong["password"] = json!("pass-wrong");
                Some(wrong)
            }
            Self::MissingField => {
                let mut incomplete = complete;
                incomplete.as_object_mut()?.remove("password");
                Some(incomplete)
            }
        }
    }

    /// The settings of the functions.
    fn settings(self, test_env: &TestEnv) -> Settings {
        let settings = test_env.settings();
        let by_secret = |names: &[&str]| {
            names.iter().fold(settings.clone(), |settings, name| settings.without(name)).with("RDS_SECRET_NAME", SECRET)
        };
        match self {
            Self::Complete | Self::WrongPassword | Self::MissingField => {
                by_secret(&["RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD", "RDS_DB", "RDS_ENGINE"])
            }
            Self::RdsManaged => by_secret(&["RDS_USER", "RDS_PASSWORD"]),
            Self::Iam => with_tokens(&settings),
        }
    }
}

/// Settings that sign a token for each connection.
fn with_tokens(settings: &Settings) -> Settings {
    settings.clone().without("RDS_PASSWORD").with("RDS_AUTH", "iam").with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// Servers whose users log in with tokens.
async fn token_env(engine: Engine, tokens: &TokenService) -> Result<TestEnv> {
    let options = Options { pam_services: Some(tokens.services()), ..Options::default() };
    let test_env = TestEnv::with_own_server(engine, options).await?;
    tokens.serve(test_env.server.port());
    Ok(test_env)
}

/// The failed items of a check that were tried, as name and reason.
async fn failed_items(test_env: &TestEnv, settings: &Settings) -> Result<Vec<(String, String)>> {
    let response = test_env.invoke_ingest(settings, &json!({"check": {}})).await?;
    response.ensure_success()?;
    let body: Value = serde_json::from_str(response.body["body"].as_str().context("no body")?)?;
    let items = body["check"]["items"].as_array().context("no items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failed = items.iter().filter(|item| item["ok"] == false);
    let failed = failed.map(|item| (text(&item["name"]), text(&item["reason"])));
    Ok(failed.filter(|(_, reason)| !reason.starts_with("not tried, ")).collect())
}

#[rstest]
#[tokio::test]
async fn each_kind_of_secret_has_its_outcome(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let tokens = TokenService::start(MAX_AGE).await?;
    for kind in Kind::ALL {
        let mut test_env =
            if kind == Kind::Iam { token_env(engine, &tokens).await? } else { TestEnv::on(engine).await? };
        let settings = kind.settings(&test_env);
        let secrets = test_env.fixture.account.secrets.clone();
        if let Some(secret) = kind.secret(&test_env) {
            secrets.create_secret().name(SECRET).secret_string(secret.to_string()).send().await?;
        }
        let expected = kind.expected();
        let failed = failed_items(&test_env, &settings).await?;
        let is_expected = match (expected.failed, failed.as_slice()) {
            (None, []) => true,
            (Some((name, start)), [(item, reason)]) => item == name && reason.starts_with(start),
            (None | Some(_), _) => false,
        };
        ensure!(is_expected, "{kind:?}: the check found {failed:?}");

        let object = test_env.fixture.upload("uploads/orders.csv", ROWS).await?;
        let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
        let report = &response.reports()?[0];
        println!("{} {kind:?}: {} {} {failed:?}", engine.title(), report["outcome"], report["reason"]);
        ensure!(report["outcome"] == expected.outcome, "{kind:?}: {report:#}");
        ensure!(report["needs_attention"] == expected.needs_attention, "{kind:?}: {report:#}");
        if expected.outcome == "fell_back" {
            assert_eq!(test_env.count().await?, Counted { database: 0, fallback: ROWS }, "{kind:?}");
            let corrected = Kind::Complete.secret(&test_env).context("no secret")?.to_string();
            secrets.put_secret_value().secret_id(SECRET).secret_string(corrected).send().await?;
            assert_eq!(test_env.replay(&settings).await?.len(), 1, "{kind:?}");
        }
        assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 }, "{kind:?}");
        test_env.ensure_exactly_once().await?;
        if kind == Kind::Iam {
            let logins = tokens.logins();
            let user = &test_env.fixture.schema.user;
            let is_good = logins.iter().all(|login| login.user == *user && login.result.is_ok());
            ensure!(logins.len() >= 2 && is_good, "{logins:?}");
        }
    }
    Ok(())
}

/// A token of another key is refused, and the file falls back.
#[rstest]
#[tokio::test]
async fn server_refuses_a_token_of_another_key(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let tokens = TokenService::start(MAX_AGE).await?;
    let mut test_env = token_env(engine, &tokens).await?;
    let settings = with_tokens(&test_env.settings()).with("AWS_SECRET_ACCESS_KEY", "another-key");
    let failed = failed_items(&test_env, &settings).await?;
    ensure!(failed.len() == 1 && failed[0].1.starts_with("credentials: "), "{failed:?}");
    let object = test_env.fixture.upload("uploads/orders.csv", ROWS).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    ensure!(response.reports()?[0]["outcome"] == "fell_back", "{}", response.body);
    let logins = tokens.logins();
    ensure!(logins.iter().all(|login| login.result == Err("another signature".to_owned())), "{logins:?}");
    assert_eq!(test_env.replay(&with_tokens(&test_env.settings())).await?.len(), 1);
    assert_eq!(test_env.count().await?, Counted { database: ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}

/// A process that runs longer than a token is valid signs a new one for its next connection.
#[rstest]
#[tokio::test]
async fn process_signs_a_new_token_after_the_first_one_has_expired(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    const SECONDS: u32 = 3;
    let tokens = TokenService::start(SECONDS).await?;
    let mut test_env = token_env(engine, &tokens).await?;
    for name in ["one", "two"] {
        test_env.fixture.upload(&format!("uploads/{name}.csv"), ROWS).await?;
    }
    let pause = Pause::at("AfterDelete")?;
    let settings = with_tokens(&test_env.settings()).and(&pause.settings());
    let settings = settings.with("CSV_PREFIX", "uploads/").with("MAX_CONCURRENT_FILES", 1);
    let task = Task::start(&settings)?;
    pause.wait_until_reached(LIMIT).await?;
    let before = tokens.logins().len();
    // The restart ends the connection, so that the second file needs another one.
    test_env.server.stop().await?;
    tokio::time::sleep(Duration::from_secs(u64::from(SECONDS) + 1)).await;
    test_env.server.start_again().await?;
    pause.release()?;
    // The second file pauses at the same point.
    pause.wait_until_reached(LIMIT).await?;
    pause.release()?;
    let finished = task.finish(TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    let logins = tokens.logins();
    ensure!(logins.len() > before && logins.iter().all(|login| login.result.is_ok()), "{logins:?}");
    assert_eq!(test_env.count().await?, Counted { database: 2 * ROWS, fallback: 0 });
    test_env.ensure_exactly_once().await
}
