//! The names of files and options: paths that are not UTF-8, pipes, patterns, and values that are empty.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::run;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Ended, Running, spillway};
use tokio::process::Command;

use crate::cli::site::{Site, TABLE, report};

/// The numbers of loaded and of already loaded files.
fn loaded(ended: &Ended) -> Result<(u64, u64)> {
    let document = ended.json()?;
    let number = |name: &str| document[name].as_u64().context("a number");
    Ok((number("loaded")?, number("already_loaded")?))
}

#[rstest]
#[tokio::test]
async fn names_that_are_not_utf8_are_loaded(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    // Both names are shown alike.
    for (name, id) in [(&b"caf\xe9.csv"[..], 1), (b"caf\xe8.csv", 2)] {
        std::fs::write(site.path("").join(OsStr::from_bytes(name)), format!("id,qty\n{id},10\n"))?;
    }
    let pattern = site.path("*.csv").display().to_string();
    let settings = site.settings().with("MAX_REJECTS", 1);
    assert_eq!(loaded(&site.load(&settings, &[&pattern]).await?.ensure_code(0)?)?, (2, 0));
    assert_eq!(loaded(&site.load(&settings, &[&pattern]).await?.ensure_code(0)?)?, (0, 2));
    assert_eq!(site.rows().await?, 2);
    let bad = site.path("").join(OsStr::from_bytes(b"b\xe9d.csv"));
    std::fs::write(bad, "id,qty\n3,10\nx,10\n")?;
    let ended = site.load(&settings, &[&pattern]).await?.ensure_code(0)?;
    assert_eq!(loaded(&ended)?, (1, 2), "{ended:?}");
    let beside = std::fs::read_dir(site.path(""))?.collect::<std::io::Result<Vec<_>>>()?;
    let is_of_file = |name: &[u8]| name.starts_with(b"b\xe9d.csv.rejected-");
    assert_eq!(beside.iter().filter(|entry| is_of_file(entry.file_name().as_bytes())).count(), 2, "{beside:?}");
    Ok(())
}

#[tokio::test]
async fn pipes_of_a_shell_are_files() -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    for (name, id) in [("/dev/stdin", 1), ("/dev/fd/0", 2), ("/proc/self/fd/0", 3)] {
        let running = Running::start(&site.settings(), &["load", name, "--json", "--table", TABLE])?;
        let ended = running.finish(format!("id\n{id}\n").as_bytes()).await?.ensure_code(0)?;
        assert_eq!(report(&ended)?["rows_stored"], json!(1), "{name}: {ended:?}");
    }
    let planned = Running::start(&Settings::default(), &["plan", "/dev/stdin", "--json", "--engine", "postgres"])?;
    assert_eq!(planned.finish(b"id\n7\n").await?.ensure_code(0)?.json()?["rows_parsed"], json!(1));
    assert_eq!(site.rows().await?, 3);
    Ok(())
}

#[tokio::test]
async fn pattern_of_tables_does_not_see_needless_parts_of_a_path() -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    site.file("in.csv", "id\n1\n")?;
    let settings = site.settings().without("RDS_TABLE").with("TABLE_PATTERN", "{table}.csv");
    let binary = run::binary("spillway")?;
    for (path, outcome) in [("./in.csv", "loaded"), ("in.csv", "already_loaded"), (".//in.csv", "already_loaded")] {
        let command = Command::new(&binary)
            .args(["load", path, "--json"])
            .env_clear()
            .envs(settings.iter())
            .current_dir(site.path(""))
            .output()
            .await?;
        let document: serde_json::Value = serde_json::from_slice(&command.stdout)?;
        let report = &document["files"][0]["report"];
        assert_eq!((&report["outcome"], &report["table"]), (&json!(outcome), &json!("in")), "{path}: {document}");
    }
    Ok(())
}

#[tokio::test]
async fn result_that_cannot_be_written_is_a_failure() -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    let path = site.file("orders.csv", "id\n1\n")?;
    for arguments in [
        &["plan", &path, "--engine", "mysql"][..],
        &["plan", &path, "--engine", "mysql", "--json"],
        &["load", &path, "--table", TABLE],
        &["sample", "--rows", "3"],
        &["config", "schema"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let command = |stdout: Stdio| {
            let mut command = Command::new(run::binary("spillway")?);
            command.args(arguments).env_clear().envs(site.settings().iter()).stdout(stdout).stderr(Stdio::piped());
            Ok::<_, anyhow::Error>(command)
        };
        let full = command(File::options().write(true).open("/dev/full")?.into())?.spawn()?.wait_with_output().await?;
        let stderr = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{arguments:?}: {stderr}");
        ensure!(stderr.contains("standard output cannot be written"), "{arguments:?}: {stderr}");
        // The reader of a pipe may have seen enough.
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let closed = command(writer.into())?.spawn()?.wait_with_output().await?;
        assert_eq!(closed.status.code(), Some(0), "{arguments:?}: {closed:?}");
    }
    // The row is stored, whatever the output.
    assert_eq!(site.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn errors_name_the_option_that_is_wrong() -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    let path = site.file("orders.csv", "id\n1\n")?;
    for (arguments, text) in [
        (&["load", &path, "--table", TABLE, "--key", "id"][..], "error: --key: MERGE_KEY is \"id\""),
        (&["load", &path, "--table", ""], "a value is required for '--table <NAME>'"),
        (&["load", "a[0-9].csv", "--table", TABLE], "only *, ? and ** make a pattern"),
        (&["status", "orders.csv"], "spillway runs show orders.csv"),
        (&["config", "check", &path], "orders.csv: the table settings are not valid TOML"),
    ] {
        let ended = spillway(&site.settings().without("S3_BUCKET"), arguments).await?;
        ensure!(ended.code != Some(0) && ended.stderr.contains(text), "no {text:?} in {}", ended.stderr);
    }
    assert_eq!(site.tables().await?, 0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn rejected_records_of_a_local_file_are_shown(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let first = site.file("first.csv", "id,qty\n1,10\n")?;
    site.load(&site.settings(), &[&first]).await?.ensure_code(0)?;
    let path = site.file("orders.csv", "id,qty\n2,10\nx,10\n3,ten\n")?;
    let ended = site.load(&site.settings().with("MAX_REJECTS", 2), &[&path]).await?.ensure_code(0)?;
    let records = report(&ended)?["rejects"].as_str().context("a path")?.to_owned();
    let none = Settings::default();
    let shown = spillway(&none, &["rejects", "show", &records]).await?.ensure_code(0)?;
    for text in ["2 rejected records", "value_refused", "qty", &format!("spillway load {records}")] {
        ensure!(shown.stdout.contains(text) || shown.stderr.contains(text), "no {text:?} in {shown:?}");
    }
    let errors = format!("{records}.errors");
    let json = spillway(&none, &["rejects", "show", &errors, "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(json["errors"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!((&json["errors"][0]["record"], &json["errors"][1]["column"]), (&json!(2), &json!("qty")), "{json}");
    // They are only a part of their file.
    for command in ["plan", "load"] {
        let replaced = spillway(&site.settings(), &[command, &records, "--table", TABLE, "--mode", "replace"]).await?;
        ensure!(replaced.code != Some(0) && replaced.stderr.contains("correct the complete file"), "{replaced:?}");
    }
    assert_eq!(site.rows().await?, 2);
    // Another name is that of an object.
    let missing = spillway(&none, &["rejects", "show", &path, "--json"]).await?.ensure_code(64)?;
    ensure!(missing.json()?["error"]["message"].to_string().contains("bucket"), "{missing:?}");
    Ok(())
}
