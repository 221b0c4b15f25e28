//! A person runs the command: a mistake is found before an object in S3 is claimed or moved, and what was not done is said.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::TABLE as FIXTURE_TABLE;
use spillway_test_env::proxy::Proxy;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Running, spillway};
use spillway_test_env::test_env::TestEnv;

use crate::cli::site::{Site, TABLE};

const TIMEOUT: Duration = Duration::from_secs(60);
const KEY: &str = "uploads/orders.csv";

/// Fails unless the object is where it was uploaded, and nothing else was written.
async fn ensure_untouched(test_env: &TestEnv, what: &str) -> Result<()> {
    let account = &test_env.fixture.account;
    assert_eq!(account.keys("uploads/").await?, [KEY], "{what}");
    for prefix in ["failed/", "fallback/", "lease/", "processed/", "rejected/"] {
        assert_eq!(account.keys(prefix).await?, Vec::<String>::new(), "{what}");
    }
    Ok(())
}

/// A mistake: its settings, the exit code of a load, and a text of the error.
type Mistake = (&'static str, Settings, i32, &'static str);

fn mistakes(settings: &Settings) -> [Mistake; 5] {
    let of = |name: &str, value: &str| settings.clone().with(name, value);
    let mistyped = settings.clone().without("RDS_TABLE").with("TABLE_PATTERN", "upload/{table}/*.csv");
    [
        ("pattern", mistyped, 64, "the key matches no pattern of TABLE_PATTERN"),
        ("password", of("RDS_PASSWORD", "pass-wrong"), 1, "cannot connect to"),
        ("database", of("RDS_DB", "no_such_database"), 1, "cannot connect to"),
        ("host", of("RDS_HOST", "no-such-host.invalid"), 1, "no-such-host.invalid"),
        ("port", of("RDS_PORT", "9"), 1, "cannot connect to"),
    ]
}

#[rstest]
#[tokio::test]
async fn mistake_leaves_the_object_untouched(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload(KEY, 20).await?;
    let settings = test_env.settings();
    let address = format!("s3://{}/{KEY}", test_env.fixture.account.bucket);
    let commands: [&[&str]; 3] =
        [&["load", &address], &["runs", "retry", KEY], &["sweep", "--older-than-seconds", "0"]];
    for (mistake, settings, code, text) in mistakes(&settings) {
        for command in commands {
            let what = format!("{mistake}: {command:?}");
            let ended = spillway(&settings, command).await?;
            ensure!(ended.code == Some(code) && ended.stderr.contains(text), "{what}: {ended:?}");
            ensure!(ended.stderr.contains("hint: ") || mistake == "database", "{what}: {ended:?}");
            ensure_untouched(&test_env, &what).await?;
        }
        if mistake != "pattern" {
            let keep = settings.clone().with("AFTER_LOAD", "keep");
            for command in [&["sync"][..], &["fallback", "replay"], &["rejects", "load", "rejected/orders/a.csv"]] {
                let ended = spillway(&keep, command).await?;
                ensure!(ended.code == Some(1) && ended.stderr.contains(text), "{mistake}: {command:?}: {ended:?}");
                ensure_untouched(&test_env, mistake).await?;
            }
        }
    }
    // With the right settings, the same object is loaded.
    spillway(&settings, &["load", &address]).await?.ensure_code(0)?;
    assert_eq!(test_env.fixture.count(&test_env.server).await?.database, 20);
    drop(object);
    test_env.fixture.ensure_exactly_once(&test_env.server).await
}

#[rstest]
#[tokio::test]
async fn missing_privilege_leaves_the_object_untouched(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let account = test_env.fixture.account.clone();
    let first = test_env.fixture.upload("uploads/first.csv", 1).await?;
    let address = |key: &str| format!("s3://{}/{key}", account.bucket);
    spillway(&settings, &["load", &address(&first.key)]).await?.ensure_code(0)?;
    let user = test_env.fixture.schema.user.clone();
    match engine {
        Engine::MariaDb => {
            test_env.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?;
            test_env.sql(&format!("GRANT SELECT, UPDATE ON {{schema}}.* TO '{user}'@'%'")).await?;
            test_env.sql(&format!("GRANT INSERT ON {{schema}}.spillway_ledger TO '{user}'@'%'")).await?;
        }
        Engine::Postgres => {
            test_env.sql(&format!("ALTER TABLE {{schema}}.{FIXTURE_TABLE} OWNER TO postgres")).await?;
            test_env.sql(&format!("GRANT SELECT ON {{schema}}.{FIXTURE_TABLE} TO {user}")).await?;
        }
    }
    test_env.fixture.upload("uploads/second.csv", 5).await?;
    let ended = spillway(&settings, &["load", &address("uploads/second.csv")]).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("GRANT INSERT"), "{ended:?}");
    let has_dialect = ended.stderr.contains(&format!("'{user}'@'%'"));
    ensure!(has_dialect == (engine == Engine::MariaDb), "{ended:?}");
    assert_eq!(account.keys("uploads/").await?, ["uploads/second.csv"]);
    for prefix in ["failed/", "fallback/", "lease/"] {
        assert_eq!(account.keys(prefix).await?, Vec::<String>::new());
    }
    Ok(())
}

/// An outage that begins during a load is not a mistake of the person.
#[rstest]
#[tokio::test]
async fn database_that_goes_down_later_leads_to_the_fallback(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::with_own_server(engine, Options::default()).await?;
    test_env.fixture.upload(KEY, 20).await?;
    let address = format!("s3://{}/{KEY}", test_env.fixture.account.bucket);
    let pause = Pause::at("LeaseWritten")?;
    let running = Running::start(&test_env.settings().and(&pause.settings()), &["load", &address])?;
    pause.wait_until_reached(TIMEOUT).await?;
    test_env.server.stop().await?;
    pause.release()?;
    let ended = running.finish(b"").await?.ensure_code(2)?;
    ensure!(ended.stdout.contains("fell back"), "{ended:?}");
    test_env.server.start_again().await?;
    spillway(&test_env.settings(), &["fallback", "replay"]).await?.ensure_code(0)?;
    test_env.fixture.ensure_exactly_once(&test_env.server).await
}

#[tokio::test]
async fn retry_without_a_load_does_not_exit_with_0() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let account = &test_env.fixture.account;
    account.put("uploads/broken.csv", "id,note\n1,\"never closed\n").await?;
    let settings = test_env.settings();
    let rejected = spillway(&settings, &["runs", "retry", "uploads/broken.csv"]).await?.ensure_code(2)?;
    ensure!(rejected.stdout.contains("rejected"), "{rejected:?}");
    // The file is under failed/ now, so that nothing is at its key.
    let gone = spillway(&settings, &["runs", "retry", "uploads/broken.csv"]).await?.ensure_code(1)?;
    ensure!(gone.stdout.contains("skipped"), "{gone:?}");
    Ok(())
}

/// A sweep whose database goes down after its login.
#[rstest]
#[tokio::test]
async fn sweep_says_what_it_has_not_done(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::with_own_server(engine, Options::default()).await?;
    let settings = test_env.settings();
    test_env.fixture.account.put(KEY, "id\n1\n").await?;
    let pause = Pause::at("LeaseWritten")?;
    let sweep = ["sweep", "--older-than-seconds", "0"];
    let running = Running::start(&settings.clone().and(&pause.settings()), &sweep)?;
    pause.wait_until_reached(TIMEOUT).await?;
    test_env.server.stop().await?;
    pause.release()?;
    let ended = running.finish(b"").await?.ensure_code(2)?;
    ensure!(ended.stdout.contains("fell_back"), "{ended:?}");
    ensure!(ended.stderr.contains("not done: staging tables of dead workers are not dropped: "), "{ended:?}");
    let down = spillway(&settings, &sweep).await?.ensure_code(1)?;
    ensure!(down.stderr.contains("cannot connect to") && !down.stderr.contains("cleared"), "{down:?}");
    Ok(())
}

/// A command opens a connection for each of many files only if it must.
#[rstest]
#[tokio::test]
async fn loaded_files_share_one_connection(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("append", "replace")] mode: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let proxy = Proxy::start(site.server.port()).await?;
    let settings = site.settings().with("RDS_PORT", proxy.port()).with("RDS_TLS", "off");
    let files: Vec<String> = (0..30)
        .map(|number| site.file(&format!("{number:02}.csv"), format!("id,note\n{number},x\n")))
        .collect::<Result<_>>()?;
    let load = async |count: usize| {
        let files: Vec<&str> = files[..count].iter().map(String::as_str).collect();
        let before = proxy.counts().connections.load(Ordering::SeqCst);
        let arguments = [&["load", "--table", TABLE, "--mode", mode], &files[..]].concat();
        let ended = spillway(&settings, &arguments).await?.ensure_code(0)?;
        anyhow::Ok((proxy.counts().connections.load(Ordering::SeqCst) - before, ended.stdout))
    };
    load(files.len()).await?;
    let (few, _) = load(2).await?;
    let (many, printed) = load(files.len()).await?;
    ensure!(printed.contains("30 files: 0 loaded, 30 already loaded"), "{printed}");
    assert_eq!((few, many), (1, 1), "{printed}");
    Ok(())
}

/// The names of the ledger, its history and the watermarks.
const LEDGER: &str = "spillway_ledger";

/// A command that reads a ledger which it may not read does not say that there are no runs.
#[rstest]
#[case::mariadb(Engine::MariaDb, "no privilege")]
#[case::postgres(Engine::Postgres, "no privilege")]
#[case::postgres_schema(Engine::Postgres, "no schema")]
#[tokio::test]
async fn ledger_that_cannot_be_read_is_not_an_empty_one(#[case] engine: Engine, #[case] lack: &str) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let user = test_env.fixture.schema.user.clone();
    let load = async || {
        test_env.fixture.account.put(KEY, "id\n1\n").await?;
        let address = format!("s3://{}/{KEY}", test_env.fixture.account.bucket);
        spillway(&settings, &["load", &address]).await
    };
    load().await?.ensure_code(0)?;
    let grant = match (engine, lack) {
        (Engine::MariaDb, _) => {
            test_env.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?;
            // Otherwise the user cannot log in to the database.
            test_env.sql("CREATE TABLE {schema}.other (id INT)").await?;
            test_env.sql(&format!("GRANT SELECT ON {{schema}}.other TO '{user}'@'%'")).await?;
            "GRANT SELECT ON `"
        }
        (Engine::Postgres, "no schema") => {
            test_env.sql("ALTER SCHEMA public OWNER TO postgres").await?;
            test_env.sql(&format!("REVOKE ALL ON SCHEMA public FROM PUBLIC, {user}")).await?;
            "GRANT USAGE ON SCHEMA public TO "
        }
        (Engine::Postgres, _) => {
            test_env.sql(&format!("ALTER TABLE {{schema}}.{LEDGER} OWNER TO postgres")).await?;
            "GRANT SELECT ON \"spillway_ledger\" TO "
        }
    };
    let command = ["runs list", "runs show uploads/orders.csv", "status uploads/orders.csv", "status"];
    for command in command {
        let arguments: Vec<&str> = command.split(' ').collect();
        let ended = spillway(&settings, &arguments).await?;
        let printed = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code != Some(0) && printed.contains(grant), "{command}: {ended:?}");
        ensure!(printed.contains(&user) && !printed.contains("no runs"), "{command}: {ended:?}");
    }
    // A load does not conclude that the file is new.
    let refused = load().await?.ensure_code(1)?;
    ensure!(refused.stderr.contains("GRANT "), "{refused:?}");
    // An administrator runs the statement, after which the runs are listed.
    let listed = spillway(&settings, &["runs", "list"]).await?;
    let (_, statements) = listed.stderr.split_once("run as an administrator: ").unwrap_or_default();
    for statement in statements.lines().next().unwrap_or_default().split_inclusive(';') {
        test_env.sql(statement.trim().trim_end_matches(';')).await?;
    }
    let listed = spillway(&settings, &["runs", "list"]).await?.ensure_code(0)?;
    ensure!(listed.stdout.contains("uploads/orders.csv"), "{listed:?}");
    Ok(())
}

/// A plan does not say that a table is new which the user may not see.
#[tokio::test]
async fn hidden_table_is_not_planned_as_new() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    let user = &site.schema.user;
    let path = site.file("orders.csv", "id\n1\n")?;
    site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    site.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?;
    site.sql(&format!("GRANT SELECT ON {{schema}}.{LEDGER} TO '{user}'@'%'")).await?;
    let other = site.file("other.csv", "id\n2\n")?;
    let ended = spillway(&site.settings(), &["plan", &other, "--table", TABLE]).await?;
    ensure!(ended.code != Some(0) && !ended.stdout.contains("orders: new"), "{ended:?}");
    ensure!(format!("{ended:?}").contains("SELECT command denied"), "{ended:?}");
    Ok(())
}

/// The advice does not depend on the language of the server's messages.
#[tokio::test]
async fn advice_is_the_same_in_another_language() -> Result<()> {
    let site = Site::with_own_server(Engine::MariaDb).await?;
    let user = site.schema.user.clone();
    let path = site.file("orders.csv", "id\n1\n")?;
    site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    site.sql("SET GLOBAL lc_messages = 'fr_FR'").await?;
    let wrong = spillway(&site.settings().with("RDS_PASSWORD", "pass-wrong"), &["runs", "list"]).await?;
    ensure!(wrong.code == Some(1) && wrong.stderr.contains("1045"), "{wrong:?}");
    // The messages before the session begins show that the server speaks French.
    ensure!(!wrong.stderr.contains("Access denied"), "{wrong:?}");
    let unknown = spillway(&site.settings().with("RDS_DB", "no_such_database"), &["runs", "list"]).await?;
    ensure!(unknown.code == Some(1) && unknown.stderr.contains("GRANT "), "{unknown:?}");
    site.sql(&format!("REVOKE INSERT ON {{schema}}.* FROM '{user}'@'%'")).await?;
    site.sql(&format!("GRANT INSERT ON {{schema}}.{LEDGER} TO '{user}'@'%'")).await?;
    let other = site.file("other.csv", "id\n2\n")?;
    let denied = spillway(&site.settings(), &["load", &other, "--table", TABLE]).await?.ensure_code(1)?;
    ensure!(denied.stderr.contains("1142") && denied.stderr.contains("GRANT INSERT ON"), "{denied:?}");
    Ok(())
}

/// A user who may not use the database at all gets the statement of its engine.
#[rstest]
#[case::mariadb(
    Engine::MariaDb,
    "REVOKE ALL ON {schema}.* FROM '{user}'@'%'",
    "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE"
)]
#[case::postgres(
    Engine::Postgres,
    "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC, {user}",
    "GRANT CONNECT ON DATABASE"
)]
#[tokio::test]
async fn statement_is_that_of_the_engine(
    #[case] engine: Engine,
    #[case] revoke: &str,
    #[case] grant: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    if engine == Engine::Postgres {
        site.sql(&format!("ALTER DATABASE {} OWNER TO postgres", site.schema.name)).await?;
    }
    site.sql(&revoke.replace("{user}", &site.schema.user).replace("{database}", &site.schema.name)).await?;
    let path = site.file("orders.csv", "id\n1\n")?;
    for command in [&["load", &path, "--table", TABLE][..], &["runs", "list"], &["check"]] {
        let ended = spillway(&site.settings(), command).await?;
        let printed = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code != Some(0) && printed.contains(grant), "{command:?}: {ended:?}");
        ensure!(engine == Engine::MariaDb || !printed.contains("'@'%'"), "{command:?}: {ended:?}");
    }
    Ok(())
}

/// A name that ends in `/` or has a `*` means several objects, which are loaded in the order of their keys.
#[rstest]
#[tokio::test]
async fn prefix_and_pattern_load_each_object(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let account = &test_env.fixture.account;
    let settings = test_env.settings().with("UPLOAD_PREFIX", "uploads/");
    for (key, id) in [("uploads/a/2.csv", 2), ("uploads/a/1.csv", 1), ("uploads/a/b/3.csv", 3), ("uploads/c/4.json", 4)]
    {
        let body = if key.ends_with("json") { format!("{{\"id\":{id}}}\n") } else { format!("id\n{id}\n") };
        account.put(key, body).await?;
    }
    account.put("uploads/a/_SUCCESS", "").await?;
    account.put("uploads/a/", "").await?;
    let address = |key: &str| format!("s3://{}/{key}", account.bucket);
    let load = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| address(name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        spillway(&settings, &[&["load"], &names[..]].concat()).await
    };
    let pattern = load(&["uploads/a/*.csv"]).await?.ensure_code(0)?;
    let lines: Vec<&str> = pattern.stdout.lines().collect();
    ensure!(
        lines.len() == 3 && lines[0].contains("a/1.csv: loaded") && lines[1].contains("a/2.csv: loaded"),
        "{lines:?}"
    );
    ensure!(lines[2].starts_with("2 files: 2 loaded"), "{lines:?}");
    let folder = load(&["uploads/"]).await?.ensure_code(0)?;
    ensure!(folder.stdout.contains("2 files: 2 loaded"), "{folder:?}");
    ensure!(folder.stderr.contains("skipped 1 object whose name"), "{folder:?}");
    let count = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{FIXTURE_TABLE}")).await?;
    assert_eq!(count, [[Some("4".to_owned())]]);
    // What Spillway has written is skipped, in one line.
    account.put("uploads/a/5.csv", "id\n5\n").await?;
    let all = load(&["**/*.csv"]).await?.ensure_code(0)?;
    ensure!(all.stdout.contains("a/5.csv: loaded"), "{all:?}");
    ensure!(all.stderr.contains("skipped 3 objects that Spillway itself has written"), "{all:?}");
    assert_eq!(all.stderr.matches("skipped").count(), 1, "{all:?}");
    for missing in ["uploads/no/", "uploads/no*.csv"] {
        let ended = load(&[missing]).await?.ensure_code(1)?;
        let text = format!("{} matches no object", address(missing));
        ensure!(ended.stderr.contains(&text), "{ended:?}");
    }
    let missing = load(&["uploads/no.csv"]).await?.ensure_code(1)?;
    ensure!(
        missing.stdout.contains(&format!("the object {} does not exist", address("uploads/no.csv"))),
        "{missing:?}"
    );
    ensure!(!missing.stdout.contains("gone"), "{missing:?}");
    let json = spillway(&settings, &["load", &address("uploads/no/"), "--json"]).await?.ensure_code(1)?.json()?;
    assert_eq!(json["files"][0]["error"]["kind"], serde_json::json!("source_missing"), "{json}");
    Ok(())
}

/// A file whose rows another one has replaced is not simply "already loaded".
#[rstest]
#[tokio::test]
async fn replaced_file_names_the_file_that_has_the_table(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let (old, new) = (site.file("old.csv", "id\n1\n")?, site.file("new.csv", "id\n2\n")?);
    let earlier = std::time::SystemTime::now() - Duration::from_secs(60);
    std::fs::File::options().write(true).open(&old)?.set_modified(earlier)?;
    let load = async |file: &str, more: &[&str]| {
        let arguments = [&["load", file, "--table", TABLE, "--mode", "replace"], more].concat();
        spillway(&site.settings(), &arguments).await?.ensure_code(0)
    };
    load(&old, &[]).await?;
    let same = load(&old, &[]).await?;
    ensure!(same.stdout.contains("already loaded") && !same.stdout.contains("replaced"), "{same:?}");
    load(&new, &[]).await?;
    let replaced = load(&old, &[]).await?;
    ensure!(replaced.stdout.contains("but its rows are gone: file://"), "{replaced:?}");
    ensure!(replaced.stdout.contains("/new.csv (changed at "), "{replaced:?}");
    ensure!(replaced.stderr.contains("add --again to replace the table with this file once more"), "{replaced:?}");
    load(&old, &["--again"]).await?;
    assert_eq!(site.value(&format!("SELECT id FROM {{schema}}.{TABLE}")).await?, "1");
    Ok(())
}
