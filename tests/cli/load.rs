//! `spillway load`: each file once, whatever happens.

use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::file;
use spillway_test_env::process::Signal;
use spillway_test_env::proxy::{CommitFault, Proxy};
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Running, spillway};
use spillway_test_env::test_env::TestEnv;

use crate::cli::site::{Site, TABLE, error, report};

const TIMEOUT: Duration = Duration::from_secs(60);
const ROWS: u64 = 200;

/// A file with rows.
fn body() -> Vec<u8> {
    file("orders.csv", ROWS as usize).0
}

/// Loads a first file that creates the table, and returns settings with which all other loads are single-pass loads.
async fn with_table(site: &Site) -> Result<Settings> {
    let first = site.file("first.csv", file("first.csv", 1).0)?;
    site.load(&site.settings(), &[&first]).await?.ensure_code(0)?;
    Ok(site.settings().with("BUFFER_MAX_BYTES", 0))
}

#[rstest]
#[tokio::test]
async fn same_content_loads_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("scanned", "single_pass")] pass: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = if pass == "scanned" { site.settings() } else { with_table(&site).await? };
    let before = if pass == "scanned" { 0 } else { site.rows().await? };
    let path = site.file("orders.csv", body())?;
    let ended = site.load(&settings, &[&path]).await?.ensure_code(0)?;
    assert_eq!(report(&ended)?["outcome"], json!("loaded"), "{ended:?}");
    assert_eq!(report(&ended)?["rows_stored"], json!(ROWS));
    let copy = site.file("copy.csv", body())?;
    let renamed = site.path("renamed.csv").display().to_string();
    std::fs::copy(&path, &renamed)?;
    for file in [&path, &copy, &renamed] {
        let ended = site.load(&settings, &[file]).await?.ensure_code(0)?;
        assert_eq!(report(&ended)?["outcome"], json!("already_loaded"), "{file}: {ended:?}");
    }
    let piped = Running::start(&settings, &["load", "-", "--json", "--table", TABLE])?.finish(&body()).await?;
    assert_eq!(report(&piped)?["outcome"], json!("already_loaded"), "{piped:?}");
    assert_eq!(site.rows().await?, before + ROWS);
    // The content belongs to a table: another table gets it.
    let ended = spillway(&settings, &["load", &path, "--json", "--table", "others"]).await?.ensure_code(0)?;
    assert_eq!(report(&ended)?["outcome"], json!("loaded"), "{ended:?}");
    let changes = report(&ended)?["table_changes"].to_string();
    ensure!(changes.starts_with("[\"created the table with the columns "), "{ended:?}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn changed_file_and_repeated_file_load(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("orders.csv", body())?;
    site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    // The same size and, as rsync sets it, the same time.
    let modified = std::fs::metadata(&path)?.modified()?;
    site.file("orders.csv", String::from_utf8(body())?.replace("plain", "PLAIN"))?;
    std::fs::File::options().write(true).open(&path)?.set_modified(modified)?;
    let changed = site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    assert_eq!(report(&changed)?["outcome"], json!("loaded"), "{changed:?}");
    assert_eq!(site.rows().await?, 2 * ROWS);
    let again = site.load(&site.settings(), &[&path, "--again"]).await?.ensure_code(0)?;
    assert_eq!(report(&again)?["outcome"], json!("loaded"), "{again:?}");
    assert_eq!(site.rows().await?, 3 * ROWS);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn process_that_is_killed_loads_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("HeadersRead", "Claimed", "RowsHalf", "RowsAll", "BeforeCommit", "AfterCommit")] point: &str,
    #[values("scanned", "single_pass")] pass: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = if pass == "scanned" { site.settings() } else { with_table(&site).await? };
    let before = if pass == "scanned" { 0 } else { site.rows().await? };
    let path = site.file("orders.csv", body())?;
    let pause = Pause::at(point)?;
    let arguments = ["load", &path, "--json", "--table", TABLE];
    let killed = Running::start(&settings.clone().and(&pause.settings()), &arguments)?;
    pause.wait_until_reached(TIMEOUT).await?;
    killed.signal(Signal::Kill)?;
    killed.finish(b"").await?;
    let settings = settings.with("RDS_RETRY_SECONDS", 60);
    let again = site.load(&settings, &[&path]).await?.ensure_code(0)?;
    let expected = if point == "AfterCommit" { "already_loaded" } else { "loaded" };
    assert_eq!(report(&again)?["outcome"], json!(expected), "{again:?}");
    assert_eq!(site.rows().await?, before + ROWS);
    assert_eq!(report(&site.load(&settings, &[&path]).await?)?["outcome"], json!("already_loaded"));
    assert_eq!(site.rows().await?, before + ROWS);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn interrupted_load_stores_nothing_and_exits_with_75(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = with_table(&site).await?;
    let path = site.file("orders.csv", body())?;
    let pause = Pause::at("RowsAll")?;
    let arguments = ["load", &path, "--json", "--table", TABLE];
    let running = Running::start(&settings.clone().and(&pause.settings()), &arguments)?;
    pause.wait_until_reached(TIMEOUT).await?;
    running.signal(Signal::Terminate)?;
    let ended = running.finish(b"").await?.ensure_code(75)?;
    assert_eq!(error(&ended)?["kind"], json!("interrupted"), "{ended:?}");
    assert_eq!(site.rows().await?, 1);
    site.load(&settings.with("RDS_RETRY_SECONDS", 60), &[&path]).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, 1 + ROWS);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn ledger_resolves_commit_without_response(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values(CommitFault::CutAfterCommit, CommitFault::DropCommit)] fault: CommitFault,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("orders.csv", body())?;
    let proxy = Proxy::start(site.server.port()).await?;
    let settings = site.settings().with("RDS_TLS", "off").with("RDS_PORT", proxy.port()).with("RDS_RETRY_SECONDS", 60);
    proxy.fail_next_commit(fault);
    let ended = site.load(&settings, &[&path]).await?.ensure_code(0)?;
    assert_eq!(report(&ended)?["outcome"], json!("loaded"), "{ended:?}");
    assert_eq!(site.rows().await?, ROWS);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn four_processes_load_one_file_once(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = with_table(&site).await?.with("RDS_RETRY_SECONDS", 60);
    let path = site.file("orders.csv", body())?;
    let arguments = [path.as_str()];
    let loads = (0..4).map(|_| site.load(&settings, &arguments));
    let mut loaded = 0;
    for ended in futures_util::future::join_all(loads).await {
        let ended = ended?;
        match ended.code {
            Some(0) => loaded += usize::from(report(&ended)?["outcome"] == json!("loaded")),
            // A process that has waited too long for the claim fails, and may be started again.
            _ => assert_eq!(error(&ended)?["kind"], json!("conflict"), "{ended:?}"),
        }
    }
    assert_eq!((loaded, site.rows().await?), (1, 1 + ROWS));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn file_with_bad_record_stores_nothing_or_all_others(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("scanned", "single_pass")] pass: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, qty INT NULL)")).await?;
    let settings = if pass == "scanned" { site.settings() } else { site.settings().with("BUFFER_MAX_BYTES", 0) };
    let path = site.file("bad.csv", "id,qty\n1,10\n2\n3,many\n4,40\n")?;
    let ended = site.load(&settings, &[&path]).await?.ensure_code(1)?;
    let failure = error(&ended)?;
    assert_eq!((&failure["kind"], &failure["record"]), (&json!("file_broken"), &json!(2)), "{ended:?}");
    assert!(ended.stderr.contains("bad.csv") && ended.stderr.contains("MAX_REJECTS"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("many"), "the message contains a value: {}", ended.stderr);
    let one = site.load(&settings, &[&path, "--set", "MAX_REJECTS=1"]).await?.ensure_code(1)?;
    assert_eq!((&error(&one)?["kind"], &error(&one)?["column"]), (&json!("data_refused"), &json!("qty")), "{one:?}");
    assert_eq!(site.rows().await?, 0);
    let folder = || -> Result<usize> { Ok(std::fs::read_dir(site.path(""))?.count()) };
    assert_eq!(folder()?, 1, "a failed load leaves no rejects");

    let ended = site.load(&settings, &[&path, "--set", "MAX_REJECTS=2"]).await?.ensure_code(0)?;
    let loaded = report(&ended)?;
    assert_eq!((&loaded["rows_stored"], &loaded["rows_rejected"]), (&json!(2), &json!(2)), "{ended:?}");
    let rejects = loaded["rejects"].as_str().unwrap_or_default().to_owned();
    assert_eq!(std::fs::read_to_string(&rejects)?, "id,qty\n2\n3,many\n");
    let errors = std::fs::read_to_string(format!("{rejects}.errors"))?;
    let codes: Vec<String> = errors
        .lines()
        .filter_map(|line| Some(line.split("\"code\":\"").nth(1)?.split('"').next()?.to_owned()))
        .collect();
    assert_eq!(codes, ["field_count", "value_refused"], "{errors}");
    // The corrected records are another content. A later load of the file that fails leaves them alone.
    std::fs::write(&rejects, "id,qty\n2,20\n3,30\n")?;
    let unreachable = settings.clone().with("RDS_PORT", run::free_port()?).with("RDS_RETRY_SECONDS", 0);
    site.load(&unreachable, &[&path, "--set", "MAX_REJECTS=2"]).await?.ensure_code(1)?;
    assert_eq!(std::fs::read_to_string(&rejects)?, "id,qty\n2,20\n3,30\n");
    site.load(&settings, &[&rejects]).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, 4);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn refused_values_are_explained_with_their_limit(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("scanned", "single_pass")] pass: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, qty INT NULL)")).await?;
    let settings = if pass == "scanned" { site.settings() } else { site.settings().with("BUFFER_MAX_BYTES", 0) };
    let path = site.file("bad.csv", "id,qty\n1,10\n2,a\n3,b\n4,c\n")?;
    let plain = site.load(&settings, &[&path]).await?.ensure_code(1)?;
    ensure!(plain.stderr.contains("set MAX_REJECTS"), "{}", plain.stderr);
    for arguments in [&[&*path, "--set", "MAX_REJECTS=2"], &[&*path, "--set", "MAX_REJECTS=60%"]] {
        let ended = site.load(&settings, arguments).await?.ensure_code(1)?;
        let failure = error(&ended)?;
        assert_eq!((&failure["record"], &failure["column"]), (&json!(2), &json!("qty")), "{failure}");
        let text = &ended.stderr;
        ensure!(text.contains("MAX_REJECTS allows (2 of 4): at least 3 have a value"), "{text}");
        ensure!(text.contains("raise MAX_REJECTS"), "{text}");
        let plan = site.plan(&settings, arguments).await?.ensure_code(2)?.json()?;
        ensure!(
            failure["message"]
                .as_str()
                .is_some_and(|message| message.ends_with(plan["error"]["message"].as_str().unwrap_or("-"))),
            "{plan} {failure}"
        );
    }
    // No limit can set aside a record of a file that is not UTF-8, or all records.
    let latin = site.file("latin.csv", b"id,qty\n1,10\n2,\xe4\n")?;
    let all = site.file("all.csv", "id,qty\nx,10\n2,a\n")?;
    for (file, reason) in [(&latin, "not an integer"), (&all, "each of the 2 rows")] {
        for limit in ["MAX_REJECTS=0", "MAX_REJECTS=9"] {
            if file == &all && limit == "MAX_REJECTS=0" {
                continue;
            }
            let arguments = [&**file, "--set", limit, "--set", "CSV_ENCODING=windows-1252"];
            let arguments = if file == &latin { &arguments[..] } else { &arguments[..3] };
            let ended = site.load(&settings, arguments).await?.ensure_code(1)?;
            ensure!(ended.stderr.contains(reason) && !ended.stderr.contains("set MAX_REJECTS"), "{}", ended.stderr);
            let plan = site.plan(&settings, arguments).await?.ensure_code(2)?.json()?;
            assert_eq!(plan["error"]["kind"], json!("data_refused"), "{plan}");
        }
    }
    assert_eq!(site.rows().await?, 0);
    Ok(())
}

#[tokio::test]
async fn rejects_never_replace_a_file() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    let path = site.file("bad.csv", "id,qty\n1,10\n2\n")?;
    let taken = site.file("taken", "mine")?;
    let settings = site.settings().with("MAX_REJECTS", 1);
    let ended = site.load(&settings, &[&path, "--rejects", &taken]).await?.ensure_code(64)?;
    assert!(ended.stderr.contains("exists already"), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(&taken)?, "mine");
    let free = site.path("free").display().to_string();
    site.load(&settings, &[&path, "--rejects", &free]).await?.ensure_code(0)?;
    assert_eq!(std::fs::read_to_string(&free)?, "id,qty\n2\n");
    Ok(())
}

#[tokio::test]
async fn one_broken_file_does_not_stop_the_others() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    for (name, rows) in [("a1.csv", 3), ("a3.csv", 4)] {
        site.file(name, file(name, rows).0)?;
    }
    site.file("a2.csv", "x,y\n1\n")?;
    let pattern = site.path("a*.csv").display().to_string();
    let ended = site.load(&site.settings(), &[&pattern]).await?.ensure_code(1)?;
    let document = ended.json()?;
    assert_eq!((&document["loaded"], &document["failed"], &document["rows_stored"]), (&json!(2), &json!(1), &json!(7)));
    let text = spillway(&site.settings(), &["load", &pattern, "--table", TABLE]).await?.ensure_code(1)?;
    let summary = "3 files: 0 loaded, 2 already loaded, 1 failed; 0 rows stored";
    assert_eq!(text.stdout.lines().last(), Some(summary), "{text:?}");
    assert_eq!(text.stdout.lines().count(), 3, "one plain line for each loaded file, and the summary: {text:?}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn database_that_is_down_is_named_and_nothing_is_stored(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::with_own_server(engine).await?;
    let path = site.file("orders.csv", body())?;
    site.server.stop().await?;
    let ended = site.load(&site.settings().with("RDS_RETRY_SECONDS", 0), &[&path]).await?.ensure_code(1)?;
    assert_eq!(error(&ended)?["kind"], json!("unreachable"), "{ended:?}");
    assert!(ended.stderr.contains("hint: nothing was stored"), "{}", ended.stderr);
    let plan = site.plan(&site.settings(), &[&path]).await?.ensure_code(1)?;
    assert_eq!(plan.json()?["error"]["kind"], json!("unreachable"), "{plan:?}");
    site.server.start_again().await?;
    site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, ROWS);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn url_names_the_database_and_the_password_stays_secret(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("orders.csv", body())?;
    let of = |name: &str| site.settings().get(name).unwrap_or_default().to_owned();
    let (user, password, port, database) = (of("RDS_USER"), of("RDS_PASSWORD"), of("RDS_PORT"), of("RDS_DB"));
    let scheme = if engine == Engine::MariaDb { "mariadb" } else { "postgres" };
    let url = |login: &str| format!("{scheme}://{login}@127.0.0.1:{port}/{database}");
    let authority = of("RDS_CA_FILE");
    let secret = site.file("password", format!("{password}\n"))?;
    let none = Settings::default();
    let load = async |settings: &Settings, arguments: &[&str]| {
        site.load(settings, &[&[path.as_str(), "--ca-file", &authority], arguments].concat()).await
    };
    let ended = load(&none, &["--to", &url(&user), "--password-file", &secret]).await?.ensure_code(0)?;
    assert_eq!(report(&ended)?["outcome"], json!("loaded"), "{ended:?}");
    load(&none, &["--to", &url(&format!("{user}:{password}"))]).await?.ensure_code(0)?;
    load(&none.clone().with("RDS_PASSWORD", &password), &["--to", &url(&user)]).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, ROWS);
    let wrong = load(&none, &["--to", &url(&format!("{user}:wrong-{password}"))]).await?.ensure_code(1)?;
    assert_eq!(error(&wrong)?["kind"], json!("credentials"), "{wrong:?}");
    ensure!(!wrong.stderr.contains("retrying"), "a wrong password is not tried again: {wrong:?}");
    let invalid = load(&none, &["--to", &format!("oracle://{user}:{password}@h/d")]).await?.ensure_code(64)?;
    for ended in [wrong, invalid] {
        let text = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(!text.contains(&password), "the password is shown: {text}");
    }
    Ok(())
}

#[rstest]
#[case::replace(&["--mode", "replace"], 3)]
#[case::merge(&["--mode", "merge", "--key", "id"], 4)]
#[case::mirror(&["--mode", "mirror", "--key", "id"], 3)]
#[tokio::test]
async fn load_mode_is_an_option(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] mode: &[&str],
    #[case] expected: u64,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let first = site.file("first.csv", "id,qty\n1,10\n2,20\n")?;
    let second = site.file("second.csv", "id,qty\n2,21\n3,30\n4,40\n")?;
    for path in [&first, &second] {
        site.load(&site.settings(), &[&[path.as_str()], mode].concat()).await?.ensure_code(0)?;
    }
    assert_eq!(site.rows().await?, expected);
    assert_eq!(site.value(&format!("SELECT qty FROM {{schema}}.{TABLE} WHERE id = 2")).await?, "21");
    assert_eq!(site.states().await?, ["loaded", "loaded"]);
    Ok(())
}

/// Objects in S3 go through the pipeline: the object moves, and its ledger row names it.
#[rstest]
#[tokio::test]
async fn object_is_planned_and_loaded_like_by_a_function(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 20).await?;
    let (settings, address) = (test_env.settings(), format!("s3://{}/{}", test_env.fixture.account.bucket, object.key));
    let plan = spillway(&settings, &["plan", &address, "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!((&plan["outcome"], &plan["rows_parsed"]), (&json!("loaded"), &json!(20)), "{plan}");
    assert_eq!(test_env.fixture.account.keys("").await?, [object.key.as_str()], "a plan writes nothing");
    let ended = spillway(&settings, &["load", &address, "--json"]).await?.ensure_code(0)?;
    assert_eq!(report(&ended)?["outcome"], json!("loaded"), "{ended:?}");
    let broken = test_env.fixture.account.put("uploads/broken.csv", "a,b\n1\n").await?;
    let address = format!("s3://{}/{}", test_env.fixture.account.bucket, broken.key);
    let plan = spillway(&settings, &["plan", &address, "--json"]).await?.ensure_code(2)?.json()?;
    assert_eq!(plan["outcome"], json!("rejected"), "{plan}");
    let ended = spillway(&settings, &["load", &address, "--json"]).await?.ensure_code(2)?;
    assert_eq!(report(&ended)?["outcome"], json!("rejected"), "{ended:?}");
    test_env.fixture.expect_no_rows(broken);
    test_env.ensure_exactly_once().await
}

/// The key of an object alone decides its table. So plan and load refuse options that contradict it.
#[tokio::test]
async fn table_of_an_object_is_that_of_its_key() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let settings = test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", "uploads/{table}/**");
    let account = &test_env.fixture.account;
    let object = account.put("uploads/visits/1.csv", "id\n1\n").await?;
    let address = format!("s3://{}/{}", account.bucket, object.key);
    for command in ["plan", "load"] {
        let refused = spillway(&settings, &[command, &address, "--table", "orders"]).await?.ensure_code(64)?;
        for word in [object.key.as_str(), "TABLE_PATTERN", "visits", "orders"] {
            ensure!(refused.stderr.contains(word), "{command}: no {word} in {}", refused.stderr);
        }
        let refused =
            spillway(&settings, &[command, &address, "--as", "uploads/orders/1.csv"]).await?.ensure_code(64)?;
        ensure!(refused.stderr.contains("--as"), "{command}: {}", refused.stderr);
    }
    let planned =
        spillway(&settings, &["plan", &address, "--table", "visits", "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(planned["table"]["name"], "visits", "{planned}");
    spillway(&settings, &["load", &address, "--table", "visits"]).await?.ensure_code(0)?;
    // It has moved. A script must notice that nothing was loaded.
    spillway(&settings, &["load", &address]).await?.ensure_code(1)?;
    assert_eq!(test_env.rows("SELECT CAST(id AS text) FROM {schema}.visits").await?, [[Some("1".to_owned())]]);
    Ok(())
}
