//! Planted passwords and values of rows: files are loaded, rejected, refused, written to the fallback and replayed with the most
//! verbose log. Then no log line, response, message, object's metadata, ledger row, Glue table or event may contain them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::Account;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::{GLUE_DATABASE, LAKE_DATABASE};
use spillway_test_env::lambda::Response;
use spillway_test_env::queues::messages;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::terminal::spillway;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};
use spillway_test_env::wait;

/// Values of rows: a text, a number and a date. No time, size or identifier contains them.
const VALUES: [&str; 3] = ["planted-value", "4242424242424242", "1912-06-23"];
/// A password that is not the user's, a secret that is not JSON, and AWS's own key.
const WRONG_PASSWORD: &str = "planted-password";
const BROKEN_SECRET: &str = "planted-secret";
const AWS_KEY: &str = "planted-aws-key";
/// A table that refuses most of the planted values, in different ways.
const TABLE: &str = "id INT NOT NULL, name VARCHAR(40), amount BIGINT, day DATE";
const ROW: &str = "1,planted-value,4242424242424242,1912-06-23\n";

/// Collects what the programs write, apart from the rows themselves.
struct Collector {
    test_env: TestEnv,
    settings: Settings,
    /// Names and texts.
    texts: Vec<(String, String)>,
}

impl Collector {
    async fn on(engine: Engine) -> Result<Self> {
        let test_env = TestEnv::on(engine).await?;
        // Without a level of Lambda's own, RUST_LOG decides.
        let settings = test_env
            .settings()
            .without("RDS_TABLE")
            .with("TABLE_PATTERN", "uploads/{table}/*")
            .with("AWS_SECRET_ACCESS_KEY", AWS_KEY)
            .with("EVENT_BUS", "default")
            .with("LOG_LEVEL", "trace");
        Ok(Self { test_env, settings, texts: Vec::new() })
    }

    fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.texts.push((name.into(), text.into()));
    }

    fn add_response(&mut self, name: &str, response: &Response) {
        self.add(format!("response: {name}"), response.body.to_string());
        self.add(format!("log: {name}"), &response.logs);
    }

    /// Uploads a file under a table's prefix and delivers its event. The outcome must be this one, or one of several.
    async fn deliver(&mut self, key: &str, body: impl Into<String>, settings: &Settings, outcome: &str) -> Result<()> {
        let object = self.test_env.fixture.account.put(key, body.into()).await?;
        let response = self.test_env.deliver(settings, &[&object]).await?;
        let found = response.body["reports"][0]["outcome"].as_str().or(response.error_type());
        ensure!(
            outcome.split('|').any(|outcome| found == Some(outcome)),
            "{key}: {found:?} instead of {outcome}: {} {}",
            response.body,
            response.logs
        );
        self.add_response(key, &response);
        Ok(())
    }

    async fn ingest(&mut self, name: &str, settings: &Settings, request: &Value) -> Result<Response> {
        let response = self.test_env.invoke_ingest(settings, request).await?;
        self.add_response(name, &response);
        Ok(response)
    }

    /// Adds the ledger, the objects, the catalog and the events.
    async fn add_state(&mut self) -> Result<()> {
        for table in ["spillway_ledger", "spillway_ledger_attempts"] {
            let query = match self.test_env.fixture.schema.engine {
                Engine::MariaDb => format!("SELECT * FROM {{schema}}.{table}"),
                Engine::Postgres => format!("SELECT entry::text FROM {{schema}}.{table} AS entry"),
            };
            let rows = self.test_env.rows(&query).await?;
            ensure!(!rows.is_empty(), "{table} is empty");
            self.add(table, format!("{rows:?}"));
        }
        let account = self.test_env.fixture.account.clone();
        for object in account.list("").await? {
            let head = account.s3.head_object().bucket(&account.bucket).key(&object.key).send().await?;
            self.add(format!("metadata: {}", object.key), format!("{} {head:?}", object.key));
            if !contains_rows(&object.key) {
                let body = String::from_utf8_lossy(&account.get(&object.key).await?).into_owned();
                self.add(format!("object: {}", object.key), body);
            }
        }
        for database in [GLUE_DATABASE, LAKE_DATABASE] {
            let tables = account.glue.get_tables().database_name(database).send().await?;
            for table in tables.table_list() {
                let name = table.name();
                let partitions = account.glue.get_partitions().database_name(database).table_name(name).send().await?;
                self.add(format!("glue: {name}"), format!("{table:?} {:?}", partitions.partitions()));
            }
        }
        Ok(())
    }

    /// The texts that contain one of the planted values, with the value.
    fn leaks(&self) -> Vec<String> {
        let password = self.test_env.fixture.schema.password.as_str();
        let planted = VALUES.iter().copied().chain([WRONG_PASSWORD, BROKEN_SECRET, AWS_KEY, password]);
        let mut leaks = Vec::new();
        for value in planted {
            for (name, text) in &self.texts {
                if let Some(line) = text.lines().find(|line| line.contains(value)) {
                    leaks.push(format!("{value} in {name}: {line}"));
                }
            }
        }
        leaks
    }

    /// The texts of this kind.
    fn count(&self, start: &str) -> usize {
        self.texts.iter().filter(|(name, _)| name.starts_with(start)).count()
    }
}

/// Whether an object consists of the rows of a file.
fn contains_rows(key: &str) -> bool {
    let is_reject_reason = key.starts_with("rejected/") && key.ends_with(".jsonl");
    let is_note = is_reject_reason || key.ends_with(".reason.json") || key.contains("/_manifests/");
    let has_rows = ["uploads/", "processed/", "failed/", "fallback/", "lake/", "rejected/"];
    !is_note && has_rows.iter().any(|prefix| key.starts_with(prefix))
}

/// Creates a queue that receives all events of Spillway, and returns its URL.
async fn subscribe_to_events(account: &Account) -> Result<String> {
    let queue = call(account, "sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": "outcomes"})).await?;
    let url = queue["QueueUrl"].as_str().context("the queue has no URL")?.to_owned();
    let rule = json!({"Name": "outcomes", "EventPattern": r#"{"source": ["spillway"]}"#});
    call(account, "events", "AWSEvents.PutRule", &rule).await?;
    let arn = format!("arn:aws:sqs:us-east-1:{}:outcomes", account.id);
    let targets = json!({"Rule": "outcomes", "Targets": [{"Id": "queue", "Arn": arn}]});
    call(account, "events", "AWSEvents.PutTargets", &targets).await?;
    Ok(url)
}

/// Files that are broken before any value reaches the database.
async fn reject_files(all: &mut Collector) -> Result<()> {
    let settings = all.settings.clone();
    let header = "id,name,amount,day\n";
    for (name, body) in [
        ("quote.csv", format!("{header}{ROW}2,\"planted-value\n")),
        ("text.csv", format!("{header}{ROW}2,\"planted-value\"planted-value,3,\n")),
        ("fields.csv", format!("{header}{ROW}planted-value,4242424242424242\n")),
        ("page.csv", "<!DOCTYPE html><html><body>planted-value</body></html>".to_owned()),
        ("lines.jsonl", "{\"id\": 1}\n{\"id\": planted-value}\n".to_owned()),
        ("scalar.json", "[{\"id\": 1}, \"planted-value\"]".to_owned()),
        ("end.json", "{\"id\": 1, \"name\": \"planted-value".to_owned()),
    ] {
        all.deliver(&format!("uploads/broken/{name}"), body, &settings, "rejected").await?;
    }
    let some = settings.with("MAX_REJECTS", 5);
    all.test_env.sql("CREATE TABLE {schema}.partly (id INT, name VARCHAR(5))").await?;
    let body = "id,name\n1,a\nplanted-value,b\n3,planted-value\n4,c,planted-value\n5,\"planted-value\"x\n";
    all.deliver("uploads/partly/a.csv", body, &some, "loaded").await
}

/// Files that the database or the check of their values refuses.
async fn refuse_files(all: &mut Collector) -> Result<()> {
    let settings = all.settings.clone();
    for (table, definition) in [
        ("unique_name", format!("{TABLE}, UNIQUE (name)")),
        ("narrow", TABLE.replace("VARCHAR(40)", "VARCHAR(5)")),
        ("small", TABLE.replace("BIGINT", "INT")),
        ("numbers", TABLE.replace("name VARCHAR(40)", "name INT")),
        ("days", TABLE.replace("name VARCHAR(40)", "name DATE")),
        ("checked", format!("{TABLE}, CHECK (amount < 9)")),
        ("missing", "other INT".to_owned()),
        ("required", format!("{TABLE}, more INT NOT NULL")),
        ("parent", "name VARCHAR(40) NOT NULL PRIMARY KEY".to_owned()),
        ("child", format!("{TABLE}, FOREIGN KEY (name) REFERENCES {{schema}}.parent (name)")),
    ] {
        all.test_env.sql(&format!("CREATE TABLE {{schema}}.{table} ({definition})")).await?;
        if table != "parent" {
            let body = format!("id,name,amount,day\n{ROW}{ROW}");
            all.deliver(&format!("uploads/{table}/a.csv"), body, &settings, "fell_back").await?;
        }
    }
    // A trigger that quotes a value in its message.
    let trigger = match all.test_env.fixture.schema.engine {
        Engine::MariaDb => {
            "CREATE TRIGGER {schema}.quotes BEFORE INSERT ON {schema}.quoting FOR EACH ROW BEGIN \
             DECLARE message TEXT DEFAULT CONCAT('no ', NEW.name); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = message; END"
        }
        Engine::Postgres => {
            "CREATE FUNCTION {schema}.quotes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no %', NEW.name USING DETAIL = NEW.name, HINT = NEW.name; END $$; \
             CREATE TRIGGER quotes BEFORE INSERT ON {schema}.quoting FOR EACH ROW EXECUTE FUNCTION {schema}.quotes()"
        }
    };
    all.test_env.sql(&format!("CREATE TABLE {{schema}}.quoting ({TABLE})")).await?;
    all.test_env.sql(trigger).await?;
    all.deliver("uploads/quoting/a.csv", format!("id,name,amount,day\n{ROW}"), &settings, "fell_back").await?;
    // Rows whose key or operation is unusable.
    let by_key = settings.clone().with("LOAD_MODE", "merge").with("MERGE_KEY", "id");
    all.deliver("uploads/keyed/a.csv", "id,name\n,planted-value\n", &by_key, "fell_back|rejected").await?;
    let changes = settings.with("LOAD_MODE", "changes").with("MERGE_KEY", "id");
    all.deliver("uploads/changed/a.csv", "op,id,name\nplanted-value,1,planted-value\n", &changes, "fell_back|rejected")
        .await
}

/// Failures to connect, with passwords and secrets that must not appear.
async fn fail_to_connect(all: &mut Collector) -> Result<()> {
    let settings = all.settings.clone();
    let body = || format!("id,name,amount,day\n{ROW}");
    let wrong = settings.clone().with("RDS_PASSWORD", WRONG_PASSWORD);
    all.deliver("uploads/password/a.csv", body(), &wrong, "fell_back").await?;
    let secrets = all.test_env.fixture.account.secrets.clone();
    for (index, secret) in [
        BROKEN_SECRET.to_owned(),
        format!("{{\"password\": \"{BROKEN_SECRET}\", "),
        json!({"password": BROKEN_SECRET}).to_string(),
        json!({"username": "u", "password": {"text": BROKEN_SECRET}, "host": "127.0.0.1", "dbname": "d"}).to_string(),
        json!({"username": "u", "password": "p", "host": "127.0.0.1", "dbname": "d", "port": BROKEN_SECRET})
            .to_string(),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("secret-{index}");
        secrets.create_secret().name(&name).secret_string(secret).send().await?;
        let by_secret = ["RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD", "RDS_DB", "RDS_ENGINE"]
            .iter()
            .fold(settings.clone(), |settings, name| settings.without(name))
            .with("RDS_SECRET_NAME", &name);
        all.deliver(&format!("uploads/secret{index}/a.csv"), body(), &by_secret, "fell_back").await?;
    }
    Ok(())
}

/// The other programs: the task, and the command on a file of this machine.
async fn run_programs(all: &mut Collector) -> Result<()> {
    let account = all.test_env.fixture.account.clone();
    account.put("uploads/by_task/a.csv", format!("id,name,amount,day\n{ROW}")).await?;
    account.put("uploads/unique_name/task.csv", format!("id,name,amount,day\n{ROW}{ROW}")).await?;
    for key in ["uploads/by_task/a.csv", "uploads/unique_name/task.csv"] {
        let finished = Task::run(&all.settings.clone().with("CSV_KEY", key), TASK_TIMEOUT).await?;
        all.add(format!("log: task {key}"), finished.logs);
    }
    let folder = spillway_test_env::run::Scratch::new("planted")?;
    let good = folder.path().join("good.csv").display().to_string();
    let broken = folder.path().join("broken.csv").display().to_string();
    std::fs::write(&good, format!("id,name,amount,day\n{ROW}{ROW}"))?;
    std::fs::write(&broken, format!("id,name,amount,day\n{ROW}2,\"planted-value\n"))?;
    let settings = all.test_env.fixture.schema.settings().with("LOG_LEVEL", "trace").with("RDS_RETRY_SECONDS", 1);
    for (table, file) in [("of_files", &good), ("unique_name", &good), ("numbers", &good), ("of_files", &broken)] {
        for command in ["load", "plan"] {
            let ended = spillway(&settings, &[command, "--table", table, file]).await?;
            all.add(format!("command: {command} {table} {file}"), format!("{}{}", ended.stdout, ended.stderr));
        }
    }
    let wrong = settings.with("RDS_PASSWORD", WRONG_PASSWORD);
    let ended = spillway(&wrong, &["load", "--table", "of_files", &good]).await?;
    ensure!(ended.code != Some(0), "{ended:?}");
    all.add("command: wrong password", format!("{}{}", ended.stdout, ended.stderr));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn planted_values_appear_in_nothing_but_rows(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut all = Collector::on(engine).await?;
    let account = all.test_env.fixture.account.clone();
    let queue = subscribe_to_events(&account).await?;

    let lake =
        all.settings.clone().with("OUTPUT", "both").with("LAKE_PREFIX", "lake/").with("LAKE_DATABASE", LAKE_DATABASE);
    let body = format!("id,name,amount,day\n{ROW}");
    all.deliver("uploads/loaded/a.csv", body.clone(), &lake, "loaded").await?;
    let settings = all.settings.clone();
    all.deliver("uploads/loaded/a.csv", body, &settings, "already_loaded").await?;
    reject_files(&mut all).await?;
    refuse_files(&mut all).await?;
    fail_to_connect(&mut all).await?;
    run_programs(&mut all).await?;
    all.add_state().await?;

    // The replay loads what the database accepts now. The rest stays in the fallback.
    all.test_env.sql("DROP TABLE {schema}.missing").await?;
    all.ingest("replay", &settings, &json!({"replay": {}})).await?;
    ensure!(!account.keys("processed/missing/").await?.is_empty(), "no file was replayed");
    for request in [
        json!({"sweep": {"older_than_seconds": 0}}),
        json!({"check": {}}),
        json!({"runs": {}}),
        json!({"status": {}}),
        json!({"fallback": {"list": {}}}),
        json!({"rejects": {"list": {}}}),
    ] {
        all.ingest(&request.to_string(), &settings, &request).await?;
    }
    all.add_state().await?;
    wait::until("events", Duration::from_secs(30), async || Ok(messages(&account, &queue).await?.all() >= 10)).await?;
    loop {
        let request = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10});
        let received = call(&account, "sqs", "AmazonSQS.ReceiveMessage", &request).await?;
        let Some(messages) = received["Messages"].as_array().filter(|messages| !messages.is_empty()) else { break };
        for message in messages {
            all.add("event", message["Body"].as_str().unwrap_or_default());
            let deletion = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
            call(&account, "sqs", "AmazonSQS.DeleteMessage", &deletion).await?;
        }
    }

    for (kind, least) in [("log: ", 30), ("object: failed/", 7), ("object: fallback/", 10), ("object: rejected/", 1)]
        .into_iter()
        .chain([("glue: ", 10), ("event", 10), ("command: ", 9), ("metadata: ", 40)])
    {
        ensure!(all.count(kind) >= least, "only {} texts of the kind {kind:?}", all.count(kind));
    }
    // The objects with rows do have the planted values, so a leak would be found.
    let rows = account.keys("processed/loaded/").await?;
    ensure!(String::from_utf8_lossy(&account.get(&rows[0]).await?).contains(VALUES[0]), "the value is not in {rows:?}");
    let leaks = all.leaks();
    ensure!(leaks.is_empty(), "{leaks:#?}");
    Ok(())
}
