//! Load modes in a terminal: the counts of loads by key, what a plan predicts of them, and which setting an error names.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Ended, spillway};

use crate::cli::site::{Site, TABLE};

/// Creates the table with its key.
async fn create_table(site: &Site) -> Result<()> {
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT PRIMARY KEY, qty INT NULL)")).await
}

/// Runs a command for the table.
async fn run(settings: &Settings, command: &str, arguments: &[&str]) -> Result<Ended> {
    spillway(settings, &[&[command, "--table", TABLE], arguments].concat()).await
}

/// Sets the modification time of a file to a number of hours ago.
fn age(path: &str, hours: u64) -> Result<()> {
    let time = SystemTime::now() - Duration::from_secs(3600 * hours);
    Ok(std::fs::File::options().write(true).open(path)?.set_modified(time)?)
}

#[rstest]
#[tokio::test]
async fn counts_of_loads_by_key_are_shown(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    create_table(&site).await?;
    let settings = site.settings();
    let loaded = async |name: &str, content: &str, mode: &str| -> Result<String> {
        let path = site.file(name, content)?;
        let ended = run(&settings, "load", &[&path, "--mode", mode, "--key", "id"]).await?.ensure_code(0)?;
        let line = ended.stdout.trim_end().strip_prefix(&format!("{path}: loaded into {TABLE} in "));
        let counts = line.and_then(|line| line.split_once(": ")).with_context(|| format!("no counts: {ended:?}"))?.1;
        Ok(counts.to_owned())
    };
    let first = loaded("1.csv", "id,qty\n1,10\n2,20\n3,30\n", "merge").await?;
    assert_eq!(first, "3 rows inserted, 0 updated, 0 unchanged");
    let second = loaded("2.csv", "id,qty\n1,10\n2,21\n4,40\n", "mirror").await?;
    assert_eq!(second, "1 row inserted, 1 updated, 1 unchanged, 1 deleted");
    let third = loaded("3.csv", "op,id,qty\nd,1,10\nu,2,22\nu,9,90\nd,8,80\n", "changes").await?;
    let expected = "1 inserted, 1 updated, 0 unchanged, 1 deleted; 2 changes of rows that were not in the table";
    assert_eq!(third, expected.replace("inserted", "row inserted"));
    // A mode without a key has only one count.
    let more = site.file("4.csv", "id,qty\n100,1\n")?;
    let appended = run(&settings, "load", &[&more]).await?.ensure_code(0)?;
    ensure!(appended.stdout.contains(&format!("loaded 1 row into {TABLE}")), "{appended:?}");

    let list = spillway(&settings, &["runs", "list"]).await?.ensure_code(0)?.stdout;
    for text in [" mode ", " append ", " mirror ", " merge ", expected, "3 inserted, 0 updated, 0 unchanged\n"] {
        ensure!(list.contains(text), "{text:?} is not in the list:\n{list}");
    }
    let path = site.path("3.csv").display().to_string();
    let show = spillway(&settings, &["runs", "show", &path]).await?.ensure_code(0)?.stdout;
    ensure!(
        show.contains("load mode     changes\n") && show.contains(&format!("by key        {expected}\n")),
        "{show}"
    );
    let of = async |name: &str| -> Result<Value> {
        let path = site.path(name).display().to_string();
        let shown = spillway(&settings, &["runs", "show", &path, "--json"]).await?.ensure_code(0)?.json()?;
        Ok(shown["items"][0].clone())
    };
    let run = of("3.csv").await?;
    let counts =
        ["load_mode", "rows_stored", "rows_updated", "rows_deleted", "rows_missing"].map(|name| run[name].clone());
    assert_eq!(counts, [json!("changes"), json!(2), json!(1), json!(1), json!(2)], "{run}");
    let run = of("2.csv").await?;
    let counts = ["load_mode", "rows_updated", "rows_unchanged", "rows_deleted"].map(|name| run[name].clone());
    assert_eq!(counts, [json!("mirror"), json!(1), json!(1), json!(1)], "{run}");
    assert_eq!(of("4.csv").await?["load_mode"], json!("append"));
    let page = site.path("runs.html");
    let report = ["runs", "report", "--out", page.to_str().context("a path")?];
    spillway(&settings, &report).await?.ensure_code(0)?;
    let html = std::fs::read_to_string(&page)?;
    ensure!(html.contains("<bdi>append, changes, merge, mirror</bdi>") && html.contains(">unchanged</th>"), "{html}");
    Ok(())
}

/// A ledger of an earlier version lacks columns. Lists show the others, and the next file of changes adds what it needs.
#[rstest]
#[tokio::test]
async fn ledger_of_older_version_is_listed(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    create_table(&site).await?;
    let settings = site.settings();
    let changes = ["--mode", "changes", "--key", "id"];
    let first = site.file("1.csv", "op,id,qty\nc,1,10\n")?;
    run(&settings, "load", &[&[first.as_str()], &changes[..]].concat()).await?.ensure_code(0)?;
    for column in ["rows_missing", "rows_deleted", "table_changes"] {
        site.sql(&format!("ALTER TABLE {{schema}}.spillway_ledger DROP COLUMN {column}")).await?;
    }
    let list = spillway(&settings, &["runs", "list", "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(
        (&list["items"][0]["load_mode"], &list["items"][0]["rows_stored"]),
        (&json!("changes"), &json!(1)),
        "{list}"
    );
    let second = site.file("2.csv", "op,id,qty\nd,1,10\nd,2,20\n")?;
    run(&settings, "load", &[&[second.as_str()], &changes[..]].concat()).await?.ensure_code(0)?;
    let columns =
        "SELECT CONCAT(rows_deleted, ' ', rows_missing) FROM {schema}.spillway_ledger ORDER BY started_at DESC";
    assert_eq!(site.values(columns).await?.first().map(String::as_str), Some("1 1"));
    for column in ["load_mode", "rows_updated", "rows_unchanged"] {
        site.sql(&format!("ALTER TABLE {{schema}}.spillway_ledger DROP COLUMN {column}")).await?;
    }
    let list = spillway(&settings, &["runs", "list", "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(
        (&list["items"][0]["load_mode"], &list["items"][0]["rows_deleted"]),
        (&Value::Null, &json!(1)),
        "{list}"
    );
    Ok(())
}

/// Files that are older than the loaded ones are expected: the totals count them, and the log has no warning.
#[rstest]
#[case::whole_table(&[], "2 files: 1 loaded, 1 superseded; 1 row inserted, 0 updated, 0 unchanged, 0 deleted")]
#[case::scope(&["--set", "MIRROR_SCOPE=tenant"], "2 files: 1 loaded, 1 superseded; 1 row inserted, 0 updated, 0 unchanged, 0 deleted")]
#[tokio::test]
async fn superseded_file_is_counted_and_no_warning(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] scope: &[&str],
    #[case] summary: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (tenant VARCHAR(20), id INT, PRIMARY KEY (tenant, id))"))
        .await?;
    let newer = site.file("a newer.csv", "tenant,id\nx,1\n")?;
    let older = site.file("b older.csv", "tenant,id\nx,1\nx,2\n")?;
    age(&newer, 1)?;
    age(&older, 2)?;
    let mode = [&["--mode", "mirror", "--key", "tenant,id"], scope].concat();
    let settings = site.settings().with("LOG_LEVEL", "info");
    let files = [&[newer.as_str(), older.as_str()], &mode[..]].concat();
    let ended = run(&settings, "load", &files).await?.ensure_code(0)?;
    assert_eq!(ended.stdout.lines().last(), Some(summary), "{ended:?}");
    ensure!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
    assert_eq!(site.rows().await?, 1);
    let document = run(&settings, "load", &[&files[..], &["--json"]].concat()).await?.ensure_code(0)?.json()?;
    assert_eq!((&document["superseded"], &document["already_loaded"]), (&json!(1), &json!(1)), "{document}");
    Ok(())
}

/// A mirror that would certainly delete too many rows is predicted, and the load fails with the same kind of error.
#[rstest]
#[tokio::test]
async fn plan_predicts_a_mirror_with_too_many_deletions(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    create_table(&site).await?;
    let settings = site.settings();
    let rows = |number: usize| (1..=number).fold("id,qty\n".to_owned(), |text, id| text + &format!("{id},1\n"));
    let full = site.file("full.csv", rows(1000))?;
    let mode = ["--mode", "mirror", "--key", "id"];
    run(&settings, "load", &[&[full.as_str()], &mode[..]].concat()).await?.ensure_code(0)?;
    let cut = site.file("cut.csv", rows(899))?;
    let plan = run(&settings, "plan", &[&[cut.as_str()], &mode[..]].concat()).await?.ensure_code(2)?;
    let message = "the file would delete at least 101 of the 1000 rows of table orders, and at most 100 may be deleted";
    ensure!(plan.stdout.contains(message) && plan.stdout.contains("deletes at least 101 of 1,000 rows"), "{plan:?}");
    let loaded =
        run(&settings, "load", &[&[cut.as_str(), "--json"], &mode[..]].concat()).await?.ensure_code(1)?.json()?;
    assert_eq!(loaded["files"][0]["error"]["kind"], json!("export_refused"), "{loaded}");
    let smaller = site.file("smaller.csv", rows(900))?;
    let plan =
        run(&settings, "plan", &[&[smaller.as_str(), "--json"], &mode[..]].concat()).await?.ensure_code(0)?.json()?;
    let deletes = json!({"table_rows": 1000, "at_least": 100, "allowed": 100});
    assert_eq!(plan["table"]["deletes"], deletes, "{plan}");
    let not_checked = plan["table"]["not_checked"].to_string();
    ensure!(not_checked.contains("MIRROR_MAX_DELETES") && not_checked.contains("a key twice"), "{not_checked}");
    let ended = run(&settings, "load", &[&[smaller.as_str()], &mode[..]].concat()).await?.ensure_code(0)?;
    ensure!(ended.stdout.contains("900 unchanged, 100 deleted"), "{ended:?}");
    Ok(())
}

/// A plan counts the operations, and finds the unknown one that a load finds.
#[rstest]
#[tokio::test]
async fn plan_checks_operations(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    create_table(&site).await?;
    let settings = site.settings();
    let mode = ["--json", "--mode", "changes", "--key", "id"];
    let good = site.file("good.csv", "op,id,qty\nc,1,10\nI,2,20\nu,1,11\nd,2,20\n")?;
    let plan = run(&settings, "plan", &[&[good.as_str()], &mode[..]].concat()).await?.ensure_code(0)?.json()?;
    assert_eq!(plan["table"]["operations"], json!({"stores": 2, "updates": 1, "deletes": 1}), "{plan}");
    ensure!(plan["table"]["not_checked"].to_string().contains("are in the table"), "{plan}");
    let text = run(&settings, "plan", &[good.as_str(), "--mode", "changes", "--key", "id"]).await?.ensure_code(0)?;
    ensure!(text.stdout.contains("operations: 2 insert, 1 update, 1 delete\n"), "{text:?}");
    ensure!(text.stdout.contains("would load 4 changes\n"), "{text:?}");
    for with_rejects in ["0", "5"] {
        let bad = site.file("bad.csv", "op,id,qty\nc,1,10\nx,2,20\n")?;
        let settings = settings.clone().with("MAX_REJECTS", with_rejects);
        let plan = run(&settings, "plan", &[&[bad.as_str()], &mode[..]].concat()).await?.ensure_code(2)?.json()?;
        let load = run(&settings, "load", &[&[bad.as_str()], &mode[..]].concat()).await?.ensure_code(1)?.json()?;
        let (planned, loaded) = (&plan["error"], &load["files"][0]["error"]);
        for name in ["kind", "record", "column"] {
            assert_eq!(planned[name], loaded[name], "{name}: {planned} {loaded}");
        }
        assert_eq!((&planned["kind"], &planned["record"]), (&json!("file_broken"), &json!(2)), "{planned}");
    }
    // Without a database, the operations are checked as well.
    let none = Settings::default();
    let bad = site.path("bad.csv").display().to_string();
    run(&none, "plan", &[&[bad.as_str()], &mode[..]].concat()).await?.ensure_code(2)?;
    Ok(())
}

/// A delta or a message of Debezium in a load without the settings for it.
const DELTA: &str = concat!(
    r#"{"op":"u","key":{"id":"1"},"before":{"id":"1","qty":"9"},"after":{"id":"1","qty":"10"},"seq":1}"#,
    "\n",
    r#"{"op":"d","key":{"id":"2"},"before":{"id":"2","qty":"9"},"after":null,"seq":2}"#,
    "\n"
);

#[rstest]
#[tokio::test]
async fn file_of_changes_names_the_missing_settings(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    create_table(&site).await?;
    let settings = site.settings();
    let delta = site.file("delta.jsonl", DELTA)?;
    let csv = site.file("dms.csv", "Op,id,qty\nI,5,50\n")?;
    let plain = site.file("plain.csv", "id,qty\n5,50\n")?;
    let values = ["--set", "JSON_VALUES=changes"];
    let (changes, merge) = (["--mode", "changes", "--key", "id"], ["--mode", "merge", "--key", "id"]);
    let cases: [(&[&str], &[&str]); 6] = [
        (&[&delta], &["JSON_VALUES=changes", "LOAD_MODE=changes"]),
        (&[&[delta.as_str()], &changes[..]].concat(), &["JSON_VALUES=changes"]),
        (&[&[delta.as_str()], &merge[..]].concat(), &["JSON_VALUES=changes", "LOAD_MODE=changes"]),
        (&[&[delta.as_str()], &values[..]].concat(), &["LOAD_MODE=changes", "OPERATION_COLUMN=op"]),
        (&[&csv], &["LOAD_MODE=changes", "OPERATION_COLUMN=Op"]),
        (&[&[plain.as_str()], &changes[..]].concat(), &["OPERATION_COLUMN", "LOAD_MODE=merge"]),
    ];
    for (arguments, names) in cases {
        let load = run(&settings, "load", arguments).await?.ensure_code(1)?;
        let plan = run(&settings, "plan", arguments).await?.ensure_code(2)?;
        for name in names {
            ensure!(load.stderr.contains(name), "{arguments:?}: no {name} in {}", load.stderr);
            ensure!(plan.stdout.contains(name), "{arguments:?}: no {name} in {}", plan.stdout);
        }
    }
    // The settings that the messages name load the file.
    let all = [&[delta.as_str()], &values[..], &changes[..]].concat();
    let ended = run(&settings, "load", &all).await?.ensure_code(0)?;
    ensure!(ended.stdout.contains("1 row inserted") && ended.stdout.contains("2 changes of rows"), "{ended:?}");
    // A new table stores the records as they are, and a hint says what else they may be.
    for command in ["plan", "load"] {
        let raw = spillway(&settings, &[command, &delta, "--table", "raw_changes"]).await?.ensure_code(0)?;
        ensure!(format!("{}{}", raw.stdout, raw.stderr).contains("JSON_VALUES=changes"), "{raw:?}");
    }
    let again = site.file("again.jsonl", DELTA.replace("\"10\"", "\"11\""))?;
    let raw = spillway(&settings, &["load", &again, "--table", "raw_changes"]).await?.ensure_code(0)?;
    ensure!(!raw.stderr.contains("hint"), "the table has these columns on purpose: {raw:?}");
    Ok(())
}

/// Patterns match in every part of a path, in the order of the names.
#[tokio::test]
async fn patterns_load_files_of_several_folders() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    for (name, id) in [("2026/01", 1), ("2026/02", 2), ("2025/12", 3)] {
        std::fs::create_dir_all(site.path(name))?;
        site.file(&format!("{name}/orders.csv"), format!("id,qty\n{id},1\n"))?;
    }
    let pattern = |pattern: &str| site.path(pattern).display().to_string();
    let files = |ended: &Ended| -> Result<Vec<String>> {
        let document = ended.json()?;
        let files = document["files"].as_array().context("files")?.iter().filter_map(|file| file["file"].as_str());
        Ok(files.map(|file| file.rsplit('/').nth(1).unwrap_or_default().to_owned()).collect())
    };
    let some = site.load(&site.settings(), &[&pattern("2026/*/orders.csv")]).await?.ensure_code(0)?;
    assert_eq!(files(&some)?, ["01", "02"]);
    let all = site.load(&site.settings(), &[&pattern("**/*.csv")]).await?.ensure_code(0)?;
    assert_eq!(files(&all)?, ["12", "01", "02"]);
    assert_eq!(site.rows().await?, 3);
    let none = site.load(&site.settings(), &[&pattern("**/*.json")]).await?.ensure_code(1)?;
    ensure!(none.stderr.contains("no file matches"), "{none:?}");
    Ok(())
}
