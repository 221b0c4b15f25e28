//! Tests of the test environment. With a proxy that injects no fault, or a verdict that finds no problem, other tests would
//! pass for the wrong reason.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rstest::rstest;
use serde_json::json;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{self, Counted, Fixture};
use spillway_test_env::lambda::Function;
use spillway_test_env::mariadb::MariaDb;
use spillway_test_env::process::{self, Signal};
use spillway_test_env::proxy::{CommitFault, Mode, Proxy};
use spillway_test_env::run::Scratch;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::wire::ClientStream;
use spillway_test_env::{athena, event, fallback};

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn schema_owner_cannot_write_to_other_schemas() -> Result<()> {
    let server = MariaDb::shared().await?;
    let (first, second) = (server.schema().await?, server.schema().await?);
    let mut connection = first.connect(server.port()).await?;
    connection.query_drop("CREATE TABLE a (b INT)").await?;
    let elsewhere = connection.query_drop(format!("CREATE TABLE {}.a (b INT)", second.name)).await;
    assert!(elsewhere.is_err(), "the owner of a schema can write to another schema");
    Ok(())
}

#[tokio::test]
async fn tls_is_verified_against_the_private_authority() -> Result<()> {
    let server = MariaDb::shared().await?;
    let mut connection = server.connect_verified(&server.certificates().authority()).await?;
    let cipher: Option<(String, String)> = connection.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await?;
    assert!(!cipher.context("no cipher is reported")?.1.is_empty(), "the connection is not encrypted");
    assert!(
        server.connect_verified(&server.certificates().untrusted_authority()).await.is_err(),
        "a certificate of an untrusted authority is accepted"
    );
    Ok(())
}

#[tokio::test]
async fn restarted_server_keeps_port_and_data() -> Result<()> {
    let server = MariaDb::start(Options::default()).await?;
    let schema = server.schema().await?;
    server.execute(&format!("CREATE TABLE {}.kept AS SELECT 1 AS one", schema.name)).await?;
    server.kill().await?;
    assert!(server.administrator().await.is_err(), "a killed server accepts connections");
    server.start_again().await?;
    server.stop().await?;
    server.start_again().await?;
    let rows = server.query(&format!("SELECT * FROM {}.kept", schema.name)).await?;
    assert_eq!(rows, [[Some("1".to_owned())]]);
    Ok(())
}

#[tokio::test]
async fn options_reach_the_server() -> Result<()> {
    let server =
        MariaDb::start(Options { local_infile: false, read_only: true, max_connections: 12, ..Options::default() })
            .await?;
    let rows = server.query("SELECT @@local_infile, @@read_only, @@max_connections").await?;
    assert_eq!(rows, [["0", "1", "12"].map(|value| Some(value.to_owned()))]);
    Ok(())
}

#[test]
fn mysql_commit_is_found_in_split_packets() {
    let packet = |number: u8, text: &str| {
        let mut packet = vec![u8::try_from(text.len() + 1).expect("short"), 0, 0, number, 3];
        packet.extend_from_slice(text.as_bytes());
        packet
    };
    let mut bytes = packet(0, "INSERT INTO a VALUES ('COMMIT')");
    bytes.extend(packet(3, "COMMIT"));
    let before = bytes.len();
    bytes.extend(packet(0, "commit;"));
    for cut in 1..bytes.len() {
        let mut stream = ClientStream::default();
        let (first, second) = bytes.split_at(cut);
        let found = (stream.has_commit(first), stream.has_commit(second));
        assert_eq!(found, (false, true), "cut at {cut}");
    }
    assert!(!ClientStream::default().has_commit(&bytes[..before]), "data was mistaken for a COMMIT");
}

#[test]
fn postgres_commit_is_found_in_split_messages() {
    let message = |letter: &str, text: &str| {
        let length = u32::try_from(text.len() + 5).expect("short").to_be_bytes();
        [letter.as_bytes(), &length, text.as_bytes(), &[0]].concat()
    };
    let mut bytes = message("", "greeting with a user");
    bytes.extend(message("Q", "INSERT INTO a VALUES ('COMMIT')"));
    bytes.extend(message("d", "COMMIT"));
    let before = bytes.len();
    bytes.extend(message("Q", "COMMIT; SELECT 1"));
    for cut in 1..bytes.len() {
        let mut stream = ClientStream::default();
        let (first, second) = bytes.split_at(cut);
        let found = (stream.has_commit(first), stream.has_commit(second));
        assert_eq!(found, (false, true), "cut at {cut}");
    }
    assert!(!ClientStream::default().has_commit(&bytes[..before]), "data was mistaken for a COMMIT");
}

/// A server with a table, and a proxy in front of it.
struct Proxied {
    server: MariaDb,
    schema: Schema,
    proxy: Proxy,
}

impl Proxied {
    async fn new() -> Result<Self> {
        let server = MariaDb::shared().await?;
        let schema = server.schema().await?;
        server.execute(&format!("CREATE TABLE {}.t (a INT) ENGINE=InnoDB", schema.name)).await?;
        let proxy = Proxy::start(server.port()).await?;
        Ok(Self { server, schema, proxy })
    }

    /// A connection through the proxy with an uncommitted row.
    async fn insert_uncommitted(&self) -> Result<Conn> {
        let mut connection = self.schema.connect(self.proxy.port()).await?;
        connection.query_drop("START TRANSACTION").await?;
        connection.query_drop("INSERT INTO t VALUES (1)").await?;
        Ok(connection)
    }

    async fn rows(&self) -> Result<usize> {
        Ok(self.server.query(&format!("SELECT a FROM {}.t", self.schema.name)).await?.len())
    }
}

#[tokio::test]
async fn proxy_drops_commit_response_and_rows_stay() -> Result<()> {
    for fault in [CommitFault::CutAfterCommit, CommitFault::RefuseAfterCommit, CommitFault::StallAfterCommit] {
        let proxied = Proxied::new().await?;
        let mut connection = proxied.insert_uncommitted().await?;
        proxied.proxy.fail_next_commit(fault);
        let commit = tokio::time::timeout(Duration::from_secs(1), connection.query_drop("COMMIT")).await;
        match fault {
            CommitFault::StallAfterCommit => assert!(commit.is_err(), "a stalled COMMIT returned"),
            CommitFault::CutAfterCommit | CommitFault::RefuseAfterCommit | CommitFault::DropCommit => {
                assert!(commit?.is_err(), "a cut COMMIT succeeded")
            }
        }
        proxied.proxy.wait_for_dropped_response(TIMEOUT).await?;
        assert_eq!(proxied.proxy.counts().commits.load(Ordering::SeqCst), 1);
        assert_eq!(proxied.rows().await?, 1, "the server did not commit");
        let again = proxied.schema.connect(proxied.proxy.port()).await;
        assert_eq!(again.is_ok(), fault != CommitFault::RefuseAfterCommit);
    }
    Ok(())
}

#[tokio::test]
async fn proxy_drops_commit_and_no_rows_stay() -> Result<()> {
    let proxied = Proxied::new().await?;
    let mut connection = proxied.insert_uncommitted().await?;
    proxied.proxy.fail_next_commit(CommitFault::DropCommit);
    assert!(connection.query_drop("COMMIT").await.is_err(), "a dropped COMMIT succeeded");
    assert_eq!(proxied.proxy.counts().dropped_commits.load(Ordering::SeqCst), 1);
    assert_eq!(proxied.rows().await?, 0, "the COMMIT was not dropped");
    Ok(())
}

#[tokio::test]
async fn proxy_passes_refuses_cuts_and_stalls() -> Result<()> {
    let proxied = Proxied::new().await?;
    let mut connection = proxied.schema.connect(proxied.proxy.port()).await?;
    connection.query_drop("INSERT INTO t VALUES (1)").await?;
    assert_eq!(proxied.rows().await?, 1, "the proxy does not forward the statement");

    proxied.proxy.cut();
    assert!(connection.query_drop("INSERT INTO t VALUES (2)").await.is_err(), "a cut connection works");

    proxied.proxy.set(Mode::Refuse).await?;
    assert!(proxied.schema.connect(proxied.proxy.port()).await.is_err(), "a closed port accepts connections");

    proxied.proxy.set(Mode::Pass).await?;
    let mut connection = proxied.schema.connect(proxied.proxy.port()).await?;
    proxied.proxy.set(Mode::Stall).await?;
    let stalled =
        tokio::time::timeout(Duration::from_millis(500), connection.query_drop("INSERT INTO t VALUES (3)")).await;
    assert!(stalled.is_err(), "a stalled connection responds");
    assert_eq!(proxied.rows().await?, 1, "a stalled connection reaches the server");
    Ok(())
}

#[tokio::test]
async fn cloud_accounts_are_isolated() -> Result<()> {
    let cloud = Cloud::shared().await?;
    let (first, second) = (cloud.account().await?, cloud.account().await?);
    let object = first.put("uploads/a b+c.csv", "a\n1\n").await?;
    assert_eq!(first.list("uploads/").await?, [object]);
    assert_eq!(first.get("uploads/a b+c.csv").await?, b"a\n1\n");
    assert_eq!(second.list("").await?, []);
    assert!(first.tasks("none").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn athena_reads_glue_tables() -> Result<()> {
    let account = Cloud::shared().await?.account().await?;
    account.put("table/one.csv", "1,a\n2,b\n").await?;
    register(&account, "table/").await?;
    let rows = athena::query(&account, "lake", "SELECT number, letter FROM letters ORDER BY number DESC").await?;
    assert_eq!(rows, [["2", "b"], ["1", "a"]].map(|row| row.map(|value| Some(value.to_owned())).to_vec()));
    assert!(athena::query(&account, "lake", "SELECT nothing FROM letters").await.is_err(), "a wrong query succeeds");
    assert!(fallback::describe(&account, "lake", "none").await?.is_none());
    Ok(())
}

async fn register(account: &Account, folder: &str) -> Result<()> {
    use aws_sdk_glue::types::{Column, DatabaseInput, SerDeInfo, StorageDescriptor, TableInput};
    account.glue.create_database().database_input(DatabaseInput::builder().name("lake").build()?).send().await?;
    let storage = StorageDescriptor::builder()
        .columns(Column::builder().name("number").r#type("bigint").build()?)
        .columns(Column::builder().name("letter").r#type("string").build()?)
        .location(format!("s3://{}/{folder}", account.bucket))
        .serde_info(SerDeInfo::builder().serialization_library("org.apache.hadoop.hive.serde2.OpenCSVSerde").build())
        .build();
    let table =
        TableInput::builder().name("letters").table_type("EXTERNAL_TABLE").storage_descriptor(storage).build()?;
    account.glue.create_table().database_name("lake").table_input(table).send().await?;
    Ok(())
}

#[tokio::test]
async fn emulator_returns_responses_and_errors() -> Result<()> {
    let folder = Scratch::new("script")?;
    let echo = script(&folder, "echo", r#"{"seen":true}"#, "response")?;
    let response = echo.invoke(&json!({"any": "event"})).await?;
    assert_eq!((response.is_failure(), &response.body["seen"]), (false, &json!(true)), "{}", response.logs);
    assert!(!response.was_killed());
    assert!(response.logs.contains("a line of log"), "{}", response.logs);

    let failing = script(&folder, "failing", r#"{"errorType":"Broken","errorMessage":"on purpose"}"#, "error")?;
    let response = failing.invoke(&json!({})).await?;
    assert!(response.is_failure());
    assert_eq!((response.error_type(), response.error_message()), (Some("Broken"), "on purpose"), "{}", response.logs);
    Ok(())
}

#[tokio::test]
async fn paused_function_can_be_killed() -> Result<()> {
    let folder = Scratch::new("script")?;
    let path = executable(&folder, "waiting", "#!/bin/sh\n: >\"$SPILLWAY_FAILPOINT_FILE\"\nexec sleep 60\n")?;
    let pause = Pause::at("Anywhere")?;
    let mut call = Function::new(&path, &pause.settings()).start(&json!({})).await?;
    call.wait_for(&pause, TIMEOUT).await?;
    let function = call.function_process().await?;
    let response = call.kill().await?;
    assert!(!process::is_alive(function));
    assert!(response.was_killed() && response.is_failure(), "{response:?}");
    Ok(())
}

/// A function in shell that responds to each event with the same text.
fn script(folder: &Scratch, name: &str, response: &str, verb: &str) -> Result<Function> {
    let code = format!(
        "#!/bin/sh\necho a line of log\napi=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime\n\
         while id=$(curl -sS -D - -o /dev/null \"$api/invocation/next\" | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //Ip'); do\n\
         curl -sS -X POST -d '{response}' \"$api/invocation/$id/{verb}\" >/dev/null || exit\ndone\n"
    );
    Ok(Function::new(&executable(folder, name, &code)?, &Settings::default()))
}

fn executable(folder: &Scratch, name: &str, code: &str) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join(name);
    std::fs::write(&path, code)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[tokio::test]
async fn killed_process_reports_its_signal() -> Result<()> {
    for signal in [Signal::Kill, Signal::Terminate] {
        let folder = Scratch::new("script")?;
        let path = executable(&folder, "sleeper", "#!/bin/sh\nexec sleep 60\n")?;
        let task = Task::start_binary(&path, &Settings::default())?;
        task.signal(signal)?;
        let finished = task.finish(TIMEOUT).await?;
        assert!(finished.was_ended_by(signal), "{:?}", finished.status);
        assert_eq!(finished.code(), None);
    }
    let task = Task::start_binary("/bin/ls".as_ref(), &Settings::default())?;
    let finished = task.finish(TIMEOUT).await?;
    assert_eq!(finished.code(), Some(0));
    assert!(finished.logs.contains("Cargo.toml"), "{}", finished.logs);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn verdict_finds_lost_duplicate_unexpected_and_misplaced(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let server = Database::shared(engine).await?;
    let mut fixture = Fixture::new(Cloud::shared().await?.account().await?, server.schema().await?);
    let object = fixture.upload("uploads/day one/orders.csv", 7).await?;
    assert_eq!(fixture.verdict(&server).await?.lost.len(), 7);
    assert_eq!(fixture.verdict(&server).await?.misplaced.len(), 1);

    load_by_hand(&fixture, &server).await?;
    let body = fixture.account.get(&object.key).await?;
    fixture.account.put("processed/day one/orders.0123456789abcdef.csv", body).await?;
    assert_eq!(fixture.verdict(&server).await?.misplaced.len(), 1, "an object under two prefixes was not found");
    fixture.account.s3.delete_object().bucket(&fixture.account.bucket).key(&object.key).send().await?;
    fixture.ensure_exactly_once(&server).await?;
    assert_eq!(fixture.count(&server).await?, Counted { database: 7, fallback: 0 });

    let table = format!("{{schema}}.{}", fixture::TABLE);
    let execute = async |statement: &str| server.execute(&fixture.schema, statement).await;
    execute(&format!("INSERT INTO {table} SELECT * FROM {table} WHERE record = 3")).await?;
    execute(&format!("UPDATE {table} SET note = 'cut' WHERE record = 5")).await?;
    fixture.account.put("lease/left", "{}").await?;
    fixture.account.put(&format!("fallback/{}/dt=2026-01-01/x.parquet", fixture::TABLE), "").await?;
    execute("CREATE TABLE {schema}.spillway_staging_1 (a INT)").await?;
    let verdict = fixture.verdict(&server).await?;
    assert_eq!((verdict.lost.len(), verdict.duplicated.len(), verdict.unexpected.len()), (1, 1, 1), "{verdict:#?}");
    assert_eq!((verdict.ledger.len(), verdict.left_over.len()), (1, 3), "{verdict:#?}");
    Ok(())
}

/// Stores the rows and a ledger entry, as a load does.
async fn load_by_hand(fixture: &Fixture, server: &Database) -> Result<()> {
    let table = format!("{{schema}}.{}", fixture::TABLE);
    let execute = async |statement: &str| server.execute(&fixture.schema, statement).await;
    execute(&format!("CREATE TABLE {table} (file TEXT, record BIGINT, checksum TEXT, note TEXT)")).await?;
    execute("CREATE TABLE {schema}.spillway_ledger (object_key TEXT, state TEXT, rows_stored BIGINT)").await?;
    execute("INSERT INTO {schema}.spillway_ledger VALUES ('k', 'loaded', 7)").await?;
    for (file, record, checksum, note) in fixture::records("orders", 7) {
        let note = if fixture.schema.engine == Engine::MariaDb { note.replace('\\', "\\\\") } else { note.to_owned() };
        execute(&format!("INSERT INTO {table} VALUES ('{file}', {record}, '{checksum}', '{note}')")).await?;
    }
    Ok(())
}

#[test]
fn notification_keys_are_form_encoded() {
    assert_eq!(event::encoded_key("uploads/a b+c%2Bd=é.csv"), "uploads/a+b%2Bc%252Bd%3D%C3%A9.csv");
}
