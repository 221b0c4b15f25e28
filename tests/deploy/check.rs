//! The check request on good and on broken set-ups. A broken one fails exactly the items that its fault concerns, each with the
//! reason and the fix.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Cloud, Roles};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::{Deployment, SECRET};
use spillway_test_env::fixture::Fixture;
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const LIMIT: Duration = Duration::from_secs(90);
/// The items of a function without `UPLOAD_QUEUE_URL`, and those of the template.
const ITEMS: usize = 12;
const ITEMS_OF_TEMPLATE: usize = 14;

/// An item that failed for a reason of its own: its name, the start of its reason, and words of its fix.
type Expected = (&'static str, &'static str, &'static str);

/// A set-up with one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    UnknownHost,
    ClosedPort,
    WrongPassword,
    UntrustedCertificate,
    ServerWithoutTls,
    UserWithoutGrants,
    LedgerWithoutGrants,
    LocalInfileOff,
    MissingSecret,
    IncompleteSecret,
    MissingBucket,
    NoSubnets,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::UnknownHost,
        Self::ClosedPort,
        Self::WrongPassword,
        Self::UntrustedCertificate,
        Self::ServerWithoutTls,
        Self::UserWithoutGrants,
        Self::LedgerWithoutGrants,
        Self::LocalInfileOff,
        Self::MissingSecret,
        Self::IncompleteSecret,
        Self::MissingBucket,
        Self::NoSubnets,
    ];

    /// Whether a server of the engine can have the fault.
    fn concerns(self, engine: Engine) -> bool {
        match self {
            // MariaDB has no privileges that exclude one table of a schema.
            Self::ServerWithoutTls | Self::LedgerWithoutGrants => engine == Engine::Postgres,
            Self::LocalInfileOff => engine == Engine::MariaDb,
            _ => true,
        }
    }

    /// The servers, of which only a fault in the configuration needs its own.
    async fn test_env(self, engine: Engine) -> Result<TestEnv> {
        let options = match self {
            Self::ServerWithoutTls => Options { tls: false, ..Options::default() },
            Self::LocalInfileOff => Options { local_infile: false, ..Options::default() },
            _ => return TestEnv::on(engine).await,
        };
        TestEnv::with_own_server(engine, options).await
    }

    /// Breaks the set-up, and returns the settings of the function.
    async fn settings(self, test_env: &TestEnv) -> Result<Settings> {
        let settings = test_env.settings();
        let schema = &test_env.fixture.schema;
        Ok(match self {
            Self::UnknownHost => settings.with("RDS_HOST", "no-such-host.invalid"),
            Self::ClosedPort => settings.with("RDS_PORT", run::free_port()?),
            Self::WrongPassword => settings.with("RDS_PASSWORD", "pass-wrong"),
            Self::UntrustedCertificate => {
                settings.with("RDS_CA_FILE", test_env.server.certificates().untrusted_authority().display())
            }
            Self::ServerWithoutTls => settings,
            Self::LocalInfileOff => settings.with("RDS_LOAD_METHOD", "load-data"),
            Self::UserWithoutGrants => {
                let statement = match schema.engine {
                    Engine::MariaDb => format!("REVOKE CREATE, ALTER, DROP ON {{schema}}.* FROM '{}'@'%'", schema.user),
                    Engine::Postgres => "ALTER SCHEMA public OWNER TO postgres".to_owned(),
                };
                test_env.sql(&statement).await?;
                settings
            }
            Self::LedgerWithoutGrants => {
                take_ledger_away(test_env, &settings).await?;
                settings
            }
            Self::MissingSecret => by_secret(&settings),
            Self::IncompleteSecret => {
                let secret =
                    json!({"username": schema.user, "host": "127.0.0.1", "port": schema.port, "dbname": schema.name});
                let secrets = &test_env.fixture.account.secrets;
                secrets.create_secret().name(SECRET).secret_string(secret.to_string()).send().await?;
                by_secret(&settings)
            }
            Self::MissingBucket => settings.with("S3_BUCKET", "no-such-bucket-of-spillway"),
            Self::NoSubnets => settings
                .with("ECS_CLUSTER", "cluster")
                .with("TASK_DEFINITION", "spillway:1")
                .with("CONTAINER_NAME", "spillway-task"),
        })
    }

    fn expected(self) -> &'static [Expected] {
        match self {
            Self::UnknownHost | Self::ClosedPort => {
                &[("database", "unreachable: ", "check host, port, security groups and subnets")]
            }
            Self::WrongPassword => &[("database", "credentials: ", "check user and password in the secret")],
            Self::UntrustedCertificate | Self::ServerWithoutTls => {
                &[("database", "tls_refused: ", "check the server's certificate and RDS_CA_FILE")]
            }
            Self::UserWithoutGrants => &[
                ("table", "privilege: ", "run as an administrator: GRANT "),
                ("ledger", "spillway_ledger does not exist, and the user may not create it", "correct \"table\" first"),
            ],
            Self::LedgerWithoutGrants => &[("ledger", "privilege: ", "run as an administrator: GRANT ")],
            Self::LocalInfileOff => &[("load_statement", "privilege: ", "grant")],
            Self::MissingSecret => &[("secret", "secret_invalid: ", "correct the secret")],
            Self::IncompleteSecret => &[("secret", "secret_invalid: ", "correct the secret")],
            Self::MissingBucket => &[
                ("bucket", "settings: ", "correct the setting"),
                ("bucket_write", "settings: ", "correct the setting"),
            ],
            Self::NoSubnets => &[("tasks", "SUBNETS is empty", "SubnetIds in the template")],
        }
    }
}

/// Reads user and password from the secret instead of the variables.
fn by_secret(settings: &Settings) -> Settings {
    let inline = ["RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD", "RDS_DB"];
    inline.iter().fold(settings.clone(), |settings, name| settings.without(name)).with("RDS_SECRET_NAME", SECRET)
}

/// Loads a file, so that there is a ledger, and takes the privileges on it from the user.
async fn take_ledger_away(test_env: &TestEnv, settings: &Settings) -> Result<()> {
    let object = test_env.fixture.account.put("uploads/first.csv", "a,b\n1,2\n").await?;
    test_env.deliver_until_accepted(settings, &[&object]).await?;
    test_env.sql("ALTER TABLE spillway_ledger OWNER TO postgres").await?;
    test_env.sql(&format!("REVOKE ALL ON spillway_ledger FROM {}", test_env.fixture.schema.user)).await
}

/// The body of the response to a check.
async fn check(test_env: &TestEnv, settings: &Settings) -> Result<Value> {
    let response = test_env.invoke_ingest(settings, &json!({"check": {}})).await?;
    response.ensure_success()?;
    let body: Value = serde_json::from_str(response.body["body"].as_str().context("no body")?)?;
    ensure!(body["reports"] == json!([]), "{body}");
    Ok(body["check"].clone())
}

/// Fails unless the items that failed for a reason of their own are the expected ones.
fn ensure_fails(check: &Value, items: usize, expected: &[Expected]) -> Result<()> {
    let found = check["items"].as_array().context("no items")?;
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let failed: Vec<&Value> = found.iter().filter(|item| item["ok"] == false).collect();
    ensure!(failed.iter().all(|item| !text(item, "fix").is_empty() && !text(item, "tried").is_empty()), "{check:#}");
    ensure!(found.len() == items && check["ok"] == failed.is_empty(), "{check:#}");
    let own: Vec<_> = failed.iter().filter(|item| !text(item, "reason").starts_with("not tried, ")).collect();
    let is_expected = own.len() == expected.len()
        && own.iter().zip(expected).all(|(item, (name, reason, fix))| {
            text(item, "name") == *name && text(item, "reason").starts_with(reason) && text(item, "fix").contains(fix)
        });
    ensure!(is_expected, "expected {expected:?}, found {failed:#?}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn check_passes_and_leaves_nothing(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'";
    ensure_fails(&check(&test_env, &settings).await?, ITEMS, &[])?;
    assert_eq!((test_env.fixture.account.keys("").await?.len(), test_env.rows(tables).await?.len()), (0, 0));

    let object = test_env.fixture.upload("uploads/orders.csv", 10).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let before = test_env.rows(tables).await?;
    ensure_fails(&check(&test_env, &settings).await?, ITEMS, &[])?;
    assert_eq!(test_env.rows(tables).await?, before);
    let rows = test_env.rows("SELECT COUNT(*) FROM {schema}.spillway_ledger").await?;
    assert_eq!(rows, [[Some("1".to_owned())]]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn check_names_each_fault_with_its_fix(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    for fault in Fault::ALL.into_iter().filter(|fault| fault.concerns(engine)) {
        let test_env = fault.test_env(engine).await?;
        let settings = fault.settings(&test_env).await?;
        let found = check(&test_env, &settings).await?;
        ensure_fails(&found, ITEMS, fault.expected()).with_context(|| format!("{fault:?}"))?;
    }
    Ok(())
}

/// A missing field of the secret is named.
#[tokio::test]
async fn check_names_the_missing_field() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = Fault::IncompleteSecret.settings(&test_env).await?;
    let found = check(&test_env, &settings).await?.to_string();
    ensure!(found.contains(r#"lacks the field \"password\""#), "{found}");
    Ok(())
}

#[tokio::test]
async fn check_tells_that_rows_will_be_inserted() -> Result<()> {
    let test_env = Fault::LocalInfileOff.test_env(Engine::MariaDb).await?;
    let found = check(&test_env, &test_env.settings()).await?;
    ensure!(found["ok"] == true && found.to_string().contains("rows are sent by INSERT, because"), "{found:#}");
    Ok(())
}

/// Faults of the account, on the deployed template with its roles enforced. Each is mended before the next one.
#[tokio::test]
async fn check_names_faults_of_the_account() -> Result<()> {
    let server = Database::start(Engine::MariaDb, Options::default()).await?;
    let cloud = Cloud::start_with(Roles::Enforced).await?;
    let schema = server.schema().await?;
    let stack =
        Deployment::deploy(&cloud, &server, &schema, &["DatabaseRetrySeconds=1", "InlineMaxBytes=1000"]).await?;
    stack.allow_misread_requests().await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);
    let expect = async |expected: &[Expected]| {
        let response = stack.invoke_ingest(&json!({"check": {}})).await?;
        ensure_fails(&response["check"], ITEMS_OF_TEMPLATE, expected)
    };
    expect(&[]).await?;

    let role = stack.role("IngestRole").await?;
    let bucket = format!("arn:aws:s3:::{}", fixture.account.bucket);
    for (action, resource, expected) in [
        ("glue:GetDatabase", "*", ("glue", "forbidden: ", "policy of the role")),
        ("s3:PutObject", "*", ("bucket_write", "forbidden: ", "policy of the role")),
        ("s3:GetBucketNotification", bucket.as_str(), ("notification", "forbidden: ", "policy of the role")),
        ("secretsmanager:GetSecretValue", "*", ("secret", "forbidden: ", "policy of the role")),
    ] {
        role.put_policy("fault", "Deny", action, resource).await?;
        expect(&[expected]).await.with_context(|| action.to_owned())?;
        role.delete_policy("fault").await?;
    }

    // A task whose image is missing.
    fixture.upload("uploads/large.csv", 100).await?;
    stack.recorded_tasks(1, LIMIT).await?;
    let (ecs, cluster) = (&stack.account.ecs, stack.output("ClusterName")?);
    let tasks = ecs.list_tasks().cluster(cluster).send().await?;
    let task = tasks.task_arns().first().context("no task")?;
    let reason = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
    ecs.stop_task().cluster(cluster).task(task).reason(reason).send().await?;
    let image = ("tasks", "the last task did not start: CannotPullContainerError", "push the image");
    expect(&[image]).await?;

    // A bucket without notifications, and a queue that was deleted.
    let nothing = aws_sdk_s3::types::NotificationConfiguration::builder().build();
    let s3 = &stack.account.s3;
    let change = s3.put_bucket_notification_configuration().bucket(&fixture.account.bucket);
    change.notification_configuration(nothing).send().await?;
    let notification = ("notification", "the bucket ", "EventBridge notifications");
    expect(&[notification, image]).await?;
    let queue = json!({"QueueUrl": stack.output("UploadQueueUrl")?});
    call(&stack.account, "sqs", "AmazonSQS.DeleteQueue", &queue).await?;
    let queue = ("queue", "settings: the queue does not exist", "deploy the stack again");
    expect(&[queue, image]).await
}
