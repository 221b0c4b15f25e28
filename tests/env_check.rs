//! The harness is tested first: a proxy that swallows nothing, or a verdict that sees nothing, would let every other
//! test pass.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
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
use spillway_test_env::proxy::{Mode, Proxy, Swallow};
use spillway_test_env::run::Scratch;
use spillway_test_env::settings::Settings;
use spillway_test_env::task::Task;
use spillway_test_env::wire::ClientStream;
use spillway_test_env::{athena, event, fallback};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_shared_server_gives_each_test_a_schema_and_closed_doors_elsewhere() -> Result<()> {
    let server = MariaDb::shared().await?;
    let (first, second) = (server.schema().await?, server.schema().await?);
    let mut connection = first.connect(server.port()).await?;
    connection.query_drop("CREATE TABLE a (b INT)").await?;
    let elsewhere = connection.query_drop(format!("CREATE TABLE {}.a (b INT)", second.name)).await;
    assert!(elsewhere.is_err(), "a schema's owner can write into another test's schema");
    Ok(())
}

#[tokio::test]
async fn tls_is_verified_against_the_private_authority() -> Result<()> {
    let server = MariaDb::shared().await?;
    let mut connection = server.connect_verified(&server.certificates().authority()).await?;
    let cipher: Option<(String, String)> = connection.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await?;
    assert!(!cipher.context("no cipher is reported")?.1.is_empty(), "the connection is not encrypted");
    assert!(
        server.connect_verified(&server.certificates().stranger()).await.is_err(),
        "a stranger's signature is accepted"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_comes_back_on_its_port_with_its_data() -> Result<()> {
    let server = MariaDb::start(Options::default()).await?;
    let schema = server.schema().await?;
    server.execute(&format!("CREATE TABLE {}.kept AS SELECT 1 AS one", schema.name)).await?;
    server.kill().await?;
    assert!(server.administrator().await.is_err(), "a killed server answers");
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
fn a_commit_is_found_however_the_bytes_are_cut() {
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
    assert!(!ClientStream::default().has_commit(&bytes[..before]), "data was taken for a COMMIT");
}

#[test]
fn a_commit_of_postgresql_is_found_however_the_bytes_are_cut() {
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
    assert!(!ClientStream::default().has_commit(&bytes[..before]), "data was taken for a COMMIT");
}

struct Behind {
    server: MariaDb,
    schema: Schema,
    proxy: Proxy,
}

impl Behind {
    async fn new() -> Result<Self> {
        let server = MariaDb::shared().await?;
        let schema = server.schema().await?;
        server.execute(&format!("CREATE TABLE {}.t (a INT) ENGINE=InnoDB", schema.name)).await?;
        let proxy = Proxy::start(server.port()).await?;
        Ok(Self { server, schema, proxy })
    }

    async fn rows(&self) -> Result<usize> {
        Ok(self.server.query(&format!("SELECT a FROM {}.t", self.schema.name)).await?.len())
    }
}

#[tokio::test]
async fn the_proxy_swallows_a_commits_answer_and_the_rows_are_committed() -> Result<()> {
    for swallow in [Swallow::ThenCut, Swallow::ThenRefuse, Swallow::ThenStall] {
        let behind = Behind::new().await?;
        let mut connection = behind.schema.connect(behind.proxy.port()).await?;
        connection.query_drop("START TRANSACTION").await?;
        connection.query_drop("INSERT INTO t VALUES (1)").await?;
        behind.proxy.swallow_next_commit(swallow);
        let commit = tokio::time::timeout(Duration::from_secs(1), connection.query_drop("COMMIT")).await;
        match swallow {
            Swallow::ThenStall => assert!(commit.is_err(), "a stalled COMMIT was answered"),
            Swallow::ThenCut | Swallow::ThenRefuse | Swallow::Lost => {
                assert!(commit?.is_err(), "a cut COMMIT succeeded")
            }
        }
        behind.proxy.swallowed(BOUND).await?;
        assert_eq!(behind.proxy.counts().commits.load(Ordering::SeqCst), 1);
        assert_eq!(behind.rows().await?, 1, "the server did not commit: nothing was swallowed");
        let again = behind.schema.connect(behind.proxy.port()).await;
        assert_eq!(again.is_ok(), swallow != Swallow::ThenRefuse);
    }
    Ok(())
}

#[tokio::test]
async fn the_proxy_loses_a_commit_and_nothing_is_committed() -> Result<()> {
    let behind = Behind::new().await?;
    let mut connection = behind.schema.connect(behind.proxy.port()).await?;
    connection.query_drop("START TRANSACTION").await?;
    connection.query_drop("INSERT INTO t VALUES (1)").await?;
    behind.proxy.swallow_next_commit(Swallow::Lost);
    assert!(connection.query_drop("COMMIT").await.is_err(), "a lost COMMIT succeeded");
    assert_eq!(behind.proxy.counts().lost.load(Ordering::SeqCst), 1);
    assert_eq!(behind.rows().await?, 0, "the COMMIT was not lost");
    Ok(())
}

#[tokio::test]
async fn the_proxy_passes_refuses_cuts_and_stalls() -> Result<()> {
    let behind = Behind::new().await?;
    let mut connection = behind.schema.connect(behind.proxy.port()).await?;
    connection.query_drop("INSERT INTO t VALUES (1)").await?;
    assert_eq!(behind.rows().await?, 1, "the proxy does not pass");

    behind.proxy.cut();
    assert!(connection.query_drop("INSERT INTO t VALUES (2)").await.is_err(), "a cut connection works");

    behind.proxy.set(Mode::Refuse).await?;
    assert!(behind.schema.connect(behind.proxy.port()).await.is_err(), "a closed port takes connections");

    behind.proxy.set(Mode::Pass).await?;
    let mut connection = behind.schema.connect(behind.proxy.port()).await?;
    behind.proxy.set(Mode::Stall).await?;
    let stalled =
        tokio::time::timeout(Duration::from_millis(500), connection.query_drop("INSERT INTO t VALUES (3)")).await;
    assert!(stalled.is_err(), "a stalled connection answers");
    assert_eq!(behind.rows().await?, 1, "a stalled connection reaches the server");
    Ok(())
}

#[tokio::test]
async fn accounts_of_the_local_aws_do_not_meet() -> Result<()> {
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
async fn athena_reads_what_glue_describes() -> Result<()> {
    let account = Cloud::shared().await?.account().await?;
    account.put("table/one.csv", "1,a\n2,b\n").await?;
    register(&account, "table/").await?;
    let rows = athena::rows(&account, "lake", "SELECT number, letter FROM letters ORDER BY number DESC").await?;
    assert_eq!(rows, [["2", "b"], ["1", "a"]].map(|row| row.map(|value| Some(value.to_owned())).to_vec()));
    assert!(athena::rows(&account, "lake", "SELECT nothing FROM letters").await.is_err(), "a wrong query succeeds");
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
async fn the_emulator_gives_a_functions_answer_and_tells_its_errors() -> Result<()> {
    let folder = Scratch::new("script")?;
    let echo = script(&folder, "echo", r#"{"seen":true}"#, "response")?;
    let answer = echo.invoke(&json!({"any": "event"})).await?;
    assert_eq!((answer.is_failure(), &answer.body["seen"]), (false, &json!(true)), "{}", answer.logs);
    assert!(!answer.was_killed());
    assert!(answer.logs.contains("a line of log"), "{}", answer.logs);

    let failing = script(&folder, "failing", r#"{"errorType":"Broken","errorMessage":"on purpose"}"#, "error")?;
    let answer = failing.invoke(&json!({})).await?;
    assert!(answer.is_failure());
    assert_eq!((answer.error_type(), answer.error_message()), (Some("Broken"), "on purpose"), "{}", answer.logs);
    Ok(())
}

#[tokio::test]
async fn a_call_can_be_killed_where_it_waits() -> Result<()> {
    let folder = Scratch::new("script")?;
    let path = executable(&folder, "waiting", "#!/bin/sh\n: >\"$SPILLWAY_FAILPOINT_FILE\"\nexec sleep 60\n")?;
    let pause = Pause::at("Anywhere")?;
    let mut call = Function::of(&path, &pause.settings()).start(&json!({})).await?;
    call.reaches(&pause, BOUND).await?;
    let function = call.function_process().await?;
    let answer = call.kill().await?;
    assert!(!process::is_alive(function));
    assert!(answer.was_killed() && answer.is_failure(), "{answer:?}");
    Ok(())
}

/// A function in a few lines of shell that takes one event and answers it.
fn script(folder: &Scratch, name: &str, answer: &str, verb: &str) -> Result<Function> {
    let code = format!(
        "#!/bin/sh\necho a line of log\napi=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime\n\
         while id=$(curl -sS -D - -o /dev/null \"$api/invocation/next\" | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //Ip'); do\n\
         curl -sS -X POST -d '{answer}' \"$api/invocation/$id/{verb}\" >/dev/null || exit\ndone\n"
    );
    Ok(Function::of(&executable(folder, name, &code)?, &Settings::default()))
}

fn executable(folder: &Scratch, name: &str, code: &str) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join(name);
    std::fs::write(&path, code)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[tokio::test]
async fn a_killed_process_says_which_signal_ended_it_and_how_much_memory_it_had() -> Result<()> {
    for signal in [Signal::Kill, Signal::Terminate] {
        let folder = Scratch::new("script")?;
        let path = executable(&folder, "sleeper", "#!/bin/sh\nexec sleep 60\n")?;
        let task = Task::start_binary(&path, &Settings::default())?;
        task.signal(signal)?;
        let finished = task.finish(BOUND).await?;
        assert!(finished.was_ended_by(signal), "{:?}", finished.status);
        assert_eq!(finished.code(), None);
    }
    let task = Task::start_binary("/bin/ls".as_ref(), &Settings::default())?;
    let finished = task.finish(BOUND).await?;
    assert_eq!(finished.code(), Some(0));
    assert!(finished.logs.contains("Cargo.toml"), "{}", finished.logs);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn the_verdict_sees_what_is_lost_doubled_unexpected_and_misplaced(
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
    assert_eq!(fixture.verdict(&server).await?.misplaced.len(), 1, "an object at two places is not seen");
    fixture.account.s3.delete_object().bucket(&fixture.account.bucket).key(&object.key).send().await?;
    fixture.ensure_kept(&server).await?;
    assert_eq!(fixture.count(&server).await?, Counted { database: 7, fallback: 0 });

    let table = format!("{{schema}}.{}", fixture::TABLE);
    let execute = async |statement: &str| server.execute(&fixture.schema, statement).await;
    execute(&format!("INSERT INTO {table} SELECT * FROM {table} WHERE record = 3")).await?;
    execute(&format!("UPDATE {table} SET note = 'cut' WHERE record = 5")).await?;
    fixture.account.put("lease/left", "{}").await?;
    fixture.account.put(&format!("fallback/{}/dt=2026-01-01/x.parquet", fixture::TABLE), "").await?;
    execute("CREATE TABLE {schema}.spillway_staging_1 (a INT)").await?;
    let verdict = fixture.verdict(&server).await?;
    assert_eq!((verdict.lost.len(), verdict.doubled.len(), verdict.unexpected.len()), (1, 1, 1), "{verdict:#?}");
    assert_eq!((verdict.ledger.len(), verdict.left_over.len()), (1, 3), "{verdict:#?}");
    Ok(())
}

/// What a loader would do: the rows and the ledger's row.
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
fn keys_are_encoded_as_notifications_have_them() {
    assert_eq!(event::encoded_key("uploads/a b+c%2Bd=é.csv"), "uploads/a+b%2Bc%252Bd%3D%C3%A9.csv");
}
