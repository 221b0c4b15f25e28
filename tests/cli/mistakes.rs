//! What a new user does wrong, or does not know: the command says what happened and what to do, and nothing happens silently.

use std::cell::RefCell;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::process::Signal;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Running, spillway};
use spillway_test_env::test_env::TestEnv;
use spillway_test_env::wait::until;
use tokio::process::Command;

use crate::cli::site::{Site, TABLE, error, report};

const MERGE: [&str; 4] = ["--mode", "merge", "--key", "id"];
const MIRROR: [&str; 4] = ["--mode", "mirror", "--key", "id"];
const CHANGES: [&str; 4] = ["--mode", "changes", "--key", "id"];
const DEBEZIUM: [&str; 2] = ["--set", "JSON_VALUES=changes"];
const TIMEOUT: Duration = Duration::from_secs(60);
/// Linux's O_NONBLOCK: a pipe without a reader is not opened.
const O_NONBLOCK: i32 = 0o4000;

/// A deletion that is loaded as a row would bring the row back.
#[rstest]
#[tokio::test]
async fn deletions_are_never_stored_as_rows(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("scanned", "single_pass")] pass: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = if pass == "scanned" { site.settings() } else { site.settings().with("BUFFER_MAX_BYTES", 0) };
    let json = site.file(
        "changes.jsonl",
        "{\"op\":\"c\",\"before\":null,\"after\":{\"id\":3,\"qty\":30}}\n{\"op\":\"d\",\"before\":{\"id\":1,\"qty\":10},\"after\":null}\n",
    )?;
    let csv = site.file("changes.csv", "Op,id,qty\nI,3,30\nD,1,10\n")?;
    let refused = async |file: &str, arguments: &[&str]| -> Result<Value> {
        let arguments = [&[file], arguments].concat();
        let planned = site.plan(&settings, &arguments).await?.ensure_code(2)?.json()?;
        let refusal = error(&site.load(&settings, &arguments).await?.ensure_code(1)?)?;
        assert_eq!(planned["error"]["kind"], refusal["kind"], "{planned} {refusal}");
        assert_eq!(refusal["kind"], json!("table_mismatch"), "{refusal}");
        ensure!(refusal["message"].to_string().contains("LOAD_MODE=changes"), "{refusal}");
        ensure!(refusal["hint"].is_null(), "the message has the advice: {refusal}");
        Ok(refusal)
    };
    for (mode, name) in [(&MERGE, "LOAD_MODE=merge"), (&MIRROR, "LOAD_MODE=mirror")] {
        // Neither a new table, nor one without the column.
        for round in ["new", "existing"] {
            let refusal = refused(&json, &[&mode[..], &DEBEZIUM].concat()).await?;
            for setting in ["JSON_VALUES=changes", name] {
                ensure!(refusal["message"].to_string().contains(setting), "{round}: {refusal}");
            }
            // The settings are shared by all files of a table. For CSV, JSON_VALUES means nothing.
            for unknown in ["refuse", "add", "ignore", "json"] {
                let unknown = format!("UNKNOWN_COLUMNS={unknown}");
                let refusal = refused(&csv, &[&mode[..], &DEBEZIUM, &["--set", &unknown]].concat()).await?;
                ensure!(refusal["message"].to_string().contains("OPERATION_COLUMN=Op"), "{round} {unknown}: {refusal}");
            }
            let first =
                site.file("first.csv", format!("id,qty\n1,10\n2,20\n{}", if round == "new" { "" } else { "4,40\n" }))?;
            site.load(&settings, &[&[first.as_str()], &mode[..]].concat()).await?.ensure_code(0)?;
        }
        assert_eq!(site.rows().await?, 3);
        site.sql(&format!("DROP TABLE {{schema}}.{TABLE}")).await?;
        site.sql("DELETE FROM {schema}.spillway_ledger").await?;
    }
    let first = site.file("first.csv", "id,qty\n1,10\n2,20\n")?;
    site.load(&settings, &[&[first.as_str()], &MERGE[..]].concat()).await?.ensure_code(0)?;
    // CSV whose columns are plain rows is loaded with the same settings.
    let plain = site.file("plain.csv", "id,qty\n2,21\n")?;
    site.load(&settings, &[&[plain.as_str()], &MERGE[..], &DEBEZIUM].concat()).await?.ensure_code(0)?;
    for file in [&json, &csv] {
        site.load(&settings, &[&[file.as_str()], &CHANGES[..], &DEBEZIUM].concat()).await?.ensure_code(0)?;
    }
    assert_eq!(site.values(&format!("SELECT id FROM {{schema}}.{TABLE} ORDER BY id")).await?, ["2", "3"]);
    // A table that marks deleted rows has the column on purpose.
    site.sql(&format!("ALTER TABLE {{schema}}.{TABLE} ADD COLUMN op VARCHAR(10) NULL")).await?;
    site.load(&settings, &[&[csv.as_str(), "--again"], &MERGE[..]].concat()).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, 3);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn change_of_the_load_mode_is_not_silent(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("orders.csv", "id,qty\n1,10\n2,20\n")?;
    let again = async |arguments: &[&str]| {
        let arguments = [&["load", &path, "--table", TABLE], arguments].concat();
        spillway(&site.settings(), &arguments).await?.ensure_code(0)
    };
    again(&[]).await?;
    let same = again(&[]).await?;
    ensure!(!same.stdout.contains("LOAD_MODE") && same.stderr.contains("add --again to load it once more"), "{same:?}");
    let other = again(&["--mode", "replace"]).await?;
    ensure!(other.stdout.contains("with LOAD_MODE=append, not replace"), "{other:?}");
    ensure!(other.stderr.contains("add --again to load it with this mode"), "{other:?}");
    let json = report(&again(&["--mode", "replace", "--json"]).await?)?;
    assert_eq!((&json["outcome"], &json["earlier_load_mode"]), (&json!("already_loaded"), &json!("append")), "{json}");
    let plan = spillway(&site.settings(), &["plan", &path, "--table", TABLE, "--mode", "replace"]).await?;
    ensure!(plan.stdout.contains("was loaded before, with LOAD_MODE=append"), "{plan:?}");
    again(&["--mode", "replace", "--again"]).await?;
    assert_eq!(site.rows().await?, 2);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn empty_file_is_a_run(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("empty.csv", "")?;
    for _ in 0..2 {
        let ended = spillway(&site.settings(), &["load", &path, "--table", TABLE]).await?.ensure_code(0)?;
        ensure!(ended.stdout.contains("nothing to load: the file is empty"), "{ended:?}");
    }
    let runs = spillway(&site.settings(), &["runs", "list", "--json"]).await?.ensure_code(0)?.json()?;
    let items = runs["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(items.len(), 1, "{runs}");
    let run = (&items[0]["outcome"], &items[0]["reason"], &items[0]["rows_stored"]);
    assert_eq!(run, (&json!("loaded"), &json!("the file is empty"), &json!(0)), "{runs}");
    ensure!(items[0]["key"].as_str().is_some_and(|key| key.ends_with("/empty.csv")), "{runs}");
    // When it has rows, it is another version.
    site.file("empty.csv", "id,qty\n1,10\n")?;
    let ended = site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    assert_eq!(report(&ended)?["rows_stored"], json!(1), "{ended:?}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn ctrl_c_says_what_happened_and_what_to_run(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let files = ["a.csv", "b.csv", "c.csv"].map(|name| site.file(name, format!("id,note\n1,{name}\n")));
    let [first, second, third] = files.map(|file| file.unwrap_or_default());
    site.load(&site.settings(), &[&first]).await?.ensure_code(0)?;
    let pause = Pause::at("RowsAll")?;
    let arguments = ["load", &first, &second, &third, "--table", TABLE];
    let running = Running::start(&site.settings().and(&pause.settings()), &arguments)?;
    pause.wait_until_reached(TIMEOUT).await?;
    running.signal(Signal::Interrupt)?;
    let ended = running.finish(b"").await?.ensure_code(130)?;
    for text in ["b.csv: the load was interrupted; no row of the file is stored", "run the same command again"] {
        ensure!(ended.stderr.contains(text), "no {text:?} in {}", ended.stderr);
    }
    ensure!(ended.stdout.contains("3 files: 0 loaded, 1 already loaded, 1 failed, 1 not tried"), "{ended:?}");
    assert_eq!(site.rows().await?, 1);
    let settings = site.settings().with("RDS_RETRY_SECONDS", 60);
    spillway(&settings, &arguments).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, 3);
    Ok(())
}

#[tokio::test]
async fn wrong_use_is_a_document_for_scripts() -> Result<()> {
    let none = Settings::default();
    for arguments in
        [&["load", "--json"][..], &["--json", "nothing"], &["plan", "a.csv", "--json", "--engine", "oracle"]]
    {
        let ended = spillway(&none, arguments).await?.ensure_code(64)?;
        let error = &ended.json()?["error"];
        assert_eq!(error["kind"], json!("event_invalid"), "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        ensure!(!message.is_empty() && !message.contains("Usage") && !message.starts_with("error"), "{message}");
        ensure!(ended.stderr.contains("Usage") || ended.stderr.contains("--help"), "{ended:?}");
    }
    // A file may have the name of an option.
    let ended = spillway(&none, &["load", "--nothing", "--", "--json"]).await?.ensure_code(64)?;
    ensure!(ended.stdout.is_empty(), "{ended:?}");
    let settings = spillway(&none, &["plan", "a.csv", "--json", "--set", "NO=1"]).await?.ensure_code(64)?;
    ensure!(settings.json()?["error"]["message"].to_string().contains("NO is not a setting"), "{settings:?}");
    Ok(())
}

#[tokio::test]
async fn window_of_a_sync_and_its_database_have_different_options() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let settings = test_env.settings().with("AFTER_LOAD", "keep");
    let old = spillway(&settings, &["sync", "--from", "2026-11-01", "--to", "2026-11-02"]).await?.ensure_code(64)?;
    ensure!(old.stderr.contains("--to names the database; write --until"), "{}", old.stderr);
    let reversed =
        spillway(&settings, &["sync", "--from", "2026-11-02", "--until", "2026-11-01"]).await?.ensure_code(64)?;
    ensure!(reversed.stderr.contains("--from must be before --until"), "{}", reversed.stderr);
    let wrong = spillway(&settings, &["sync", "--until", "tomorrow"]).await?.ensure_code(64)?;
    ensure!(wrong.stderr.contains("--until is \"tomorrow\""), "{}", wrong.stderr);
    let of = |name: &str| settings.get(name).unwrap_or_default().to_owned();
    let url = format!("postgres://{}@127.0.0.1:{}/{}", of("RDS_USER"), of("RDS_PORT"), of("RDS_DB"));
    let names = ["RDS_ENGINE", "RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_DB", "RDS_SECRET_NAME"];
    let by_url = names.iter().fold(settings.clone(), |all, name| all.without(name));
    for command in [
        &["sync", "--from", "2026-11-01", "--until", "2026-11-02"][..],
        &["sweep"],
        &["check"],
        &["fallback", "replay"],
    ] {
        spillway(&by_url, command).await?.ensure_code(64)?;
        let ended = spillway(&by_url, &[command, &["--to", &url]].concat()).await?;
        ensure!(matches!(ended.code, Some(0 | 2)), "{command:?}: {ended:?}");
        ensure!(!ended.stdout.contains("failed  database"), "{command:?}: {ended:?}");
    }
    let both = spillway(&by_url, &["sweep", "--to", &url, "--stack", "s"]).await?.ensure_code(64)?;
    ensure!(both.stderr.contains("name either a function or a database"), "{}", both.stderr);
    Ok(())
}

/// The other responses of S3 are tested with a stub in the unit tests of the store.
#[tokio::test]
async fn failures_of_s3_say_what_to_do() -> Result<()> {
    let test_env = TestEnv::on(Engine::MariaDb).await?;
    let settings = test_env.settings();
    let bucket = &test_env.fixture.account.bucket;
    let object = format!("s3://{bucket}/uploads/a.csv");
    let none = settings.clone().without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
    let closed = settings.clone().with("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let cases: [(&Settings, &[&str], &[&str]); 4] = [
        (
            &settings,
            &["plan", "s3://no-such-bucket-3f1c/a.csv"],
            &["the bucket does not exist", "check the name of the bucket"],
        ),
        (
            &settings,
            &["fallback", "list", "--bucket", "no-such-bucket-3f1c"],
            &["the bucket does not exist", "check the name"],
        ),
        (&none, &["plan", &object], &["there are no AWS credentials", "AWS_PROFILE"]),
        (&closed, &["plan", &object], &["the service cannot be reached", "AWS_ENDPOINT_URL"]),
    ];
    for (settings, command, texts) in cases {
        let ended = spillway(settings, command).await?;
        ensure!(matches!(ended.code, Some(1 | 64)), "{command:?}: {ended:?}");
        for text in texts {
            ensure!(ended.stderr.contains(text), "{command:?}: no {text:?} in {}", ended.stderr);
        }
        for text in ["docs/settings.md", "dispatch failure", "service error", "WARN", "\\n"] {
            ensure!(!ended.stderr.contains(text), "{command:?}: {text:?} in {}", ended.stderr);
        }
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn value_without_a_wider_type_has_its_own_hint(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("scanned", "single_pass")] pass: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = if pass == "scanned" { site.settings() } else { site.settings().with("BUFFER_MAX_BYTES", 0) };
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NULL, day DATE NULL)")).await?;
    let path = site.file("orders.csv", "id,day\n1,2026-11-30\n2,soon\n")?;
    let widen = ["--set", "CHANGED_TYPES=widen"];
    let refused = error(&site.load(&settings, &[&[path.as_str()], &widen[..]].concat()).await?.ensure_code(1)?)?;
    ensure!(refused["hint"].to_string().contains("CHANGED_TYPES=widen knows no type"), "{refused}");
    let refused = error(&site.load(&settings, &[&path]).await?.ensure_code(1)?)?;
    ensure!(!refused["hint"].to_string().contains("widen"), "{refused}");
    Ok(())
}

/// A pipe may never be written or closed.
#[tokio::test]
async fn ctrl_c_ends_a_load_that_waits_for_a_pipe() -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    let pipe = site.path("pipe.csv");
    ensure!(Command::new("mkfifo").arg(&pipe).status().await?.success(), "cannot create {}", pipe.display());
    let name = pipe.display().to_string();
    let running = Running::start(&site.settings(), &["load", &name, "--table", TABLE])?;
    // Succeeds when the command has the pipe open. Nothing is ever written.
    let open = || std::fs::File::options().write(true).custom_flags(O_NONBLOCK).open(&pipe);
    let writer = RefCell::new(None);
    let is_open = || {
        let opened = open().ok();
        let is_open = opened.is_some();
        writer.replace(opened);
        async move { Ok(is_open) }
    };
    until("a reader of the pipe", TIMEOUT, is_open).await?;
    running.signal(Signal::Interrupt)?;
    let ended = running.finish(b"").await?.ensure_code(130)?;
    ensure!(ended.stderr.contains("pipe.csv: "), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn names_and_paths_of_a_new_user_are_explained() -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    let path = site.file("Größe 日本.csv", "id,größe\n1,10\n")?;
    let folder = site.path("").display().to_string();
    let load = async |arguments: &[&str]| spillway(&site.settings(), &[&["load"], arguments].concat()).await;
    let wrong: [(&[&str], i32, &str); 5] = [
        (&[&path, "--table", "\"Orders\""], 64, "without quotes, as Orders"),
        (&[&path, "--table", "sales.`orders`"], 64, "without quotes, as sales.orders"),
        (&[&folder, "--table", TABLE], 1, "it is a folder; name its files"),
        (&["no-such.csv", "--table", TABLE], 1, "no-such.csv: the file does not exist"),
        (&["no-such-*.csv", "--table", TABLE], 1, "no file matches no-such-*.csv"),
    ];
    for (arguments, code, text) in wrong {
        let ended = load(arguments).await?.ensure_code(code)?;
        ensure!(ended.stderr.contains(text), "no {text:?} in {}", ended.stderr);
    }
    let of = |name: &str| site.settings().get(name).unwrap_or_default().to_owned();
    let without_user = format!("postgres://127.0.0.1:{}/{}", of("RDS_PORT"), of("RDS_DB"));
    let missing = format!("postgres://{}@127.0.0.1:{}/no_such_database", of("RDS_USER"), of("RDS_PORT"));
    let password = Settings::default().with("RDS_PASSWORD", of("RDS_PASSWORD")).with("RDS_TLS", of("RDS_TLS"));
    let password = password.with("RDS_CA_FILE", of("RDS_CA_FILE"));
    for (url, text) in [(&without_user, "no user for the database"), (&missing, "create the database or schema")] {
        let ended = spillway(&password, &["load", &path, "--table", TABLE, "--to", url]).await?;
        ensure!(ended.code != Some(0) && ended.stderr.contains(text), "{url}: no {text:?} in {}", ended.stderr);
        ensure!(!ended.stderr.contains("RDS_SECRET_NAME") && !ended.stderr.contains("INSERT"), "{}", ended.stderr);
    }
    load(&[&path, "--table", "Größe 日本"]).await?.ensure_code(0)?;
    assert_eq!(site.value("SELECT \"größe\" FROM {schema}.\"Größe 日本\"").await?, "10");
    Ok(())
}
