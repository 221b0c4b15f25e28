//! A missing privilege: the error names it, the object, and the GRANT after which the load succeeds.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::terminal::spillway;

use crate::cli::site::{Site, TABLE, error};

/// Loads a file with a user that lacks privileges. An administrator runs the statements of the error, after which the file can be
/// loaded. Returns the privileges.
async fn load_with_grants(site: &Site, arguments: &[&str]) -> Result<BTreeSet<String>> {
    let mut granted = BTreeSet::new();
    let ended = site.load(&site.settings(), arguments).await?;
    let error = error(&ended.ensure_code(1)?)?;
    assert_eq!(error["kind"], json!("privilege"), "{error}");
    let message = error["message"].as_str().context("a message")?;
    ensure!(message.contains(&site.schema.user) && message.contains(" lacks "), "{message}");
    let (_, statements) = message.split_once("run as an administrator: ").context(message.to_owned())?;
    for statement in statements.split_inclusive(';').filter(|statement| statement.contains("GRANT ")) {
        let statement = statement.trim_start().split_inclusive(';').next().unwrap_or_default();
        let (_, rest) = statement.split_once("GRANT ").context(statement.to_owned())?;
        let (privileges, _) = rest.split_once(" ON ").context(statement.to_owned())?;
        granted.extend(privileges.split(", ").map(str::to_owned));
        site.sql(statement.trim_end_matches(';')).await?;
    }
    // The error has named all of them.
    site.load(&site.settings(), arguments).await?.ensure_code(0)?;
    Ok(granted)
}

/// Leaves the user only what the ledger needs and, in MariaDB, the right to see the table.
async fn revoke(site: &Site) -> Result<()> {
    let user = &site.schema.user;
    match site.schema.engine {
        Engine::MariaDb => {
            site.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?;
            for table in ["spillway_ledger", "spillway_ledger_attempts"] {
                site.sql(&format!("GRANT SELECT, INSERT, UPDATE ON {{schema}}.{table} TO '{user}'@'%'")).await?;
            }
            site.sql(&format!("GRANT SELECT ON {{schema}}.{TABLE} TO '{user}'@'%'")).await
        }
        Engine::Postgres => {
            site.sql(&format!("ALTER TABLE {{schema}}.{TABLE} OWNER TO postgres")).await?;
            site.sql(&format!("REVOKE ALL ON {{schema}}.{TABLE} FROM {user}")).await?;
            site.sql(&format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC, {user}", site.schema.name)).await
        }
    }
}

#[rstest]
#[case::append(&[], &["INSERT"])]
#[case::replace(&["--mode", "replace"], &["INSERT", "DELETE"])]
#[case::merge(&["--mode", "merge", "--key", "id"], &["INSERT", "UPDATE"])]
#[case::mirror(&["--mode", "mirror", "--key", "id"], &["INSERT", "UPDATE", "DELETE"])]
#[case::changes(&["--mode", "changes", "--key", "id"], &["INSERT", "UPDATE", "DELETE"])]
#[tokio::test]
async fn missing_privilege_is_named_with_its_grant(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] mode: &[&str],
    #[case] privileges: &[&str],
) -> Result<()> {
    let site = Site::on(engine).await?;
    let has_key = mode.contains(&"--key");
    let key = if has_key { "PRIMARY KEY" } else { "NOT NULL" };
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT {key}, qty INT NULL)")).await?;
    // The first load creates the ledger.
    let first = site.file("first.csv", "op,id,qty\nc,1,10\nc,2,20\nc,3,30\n")?;
    let all = ["--mode", "changes", "--key", "id"];
    let plain = site.file("plain.csv", "id,qty\n1,10\n2,20\n3,30\n")?;
    match has_key {
        true => site.load(&site.settings(), &[&[first.as_str()], &all[..]].concat()).await?.ensure_code(0)?,
        false => site.load(&site.settings(), &[&plain]).await?.ensure_code(0)?,
    };
    revoke(&site).await?;
    // One row is updated, one inserted, one deleted.
    let content = match mode.contains(&"changes") {
        true => "op,id,qty\nu,1,11\nc,4,40\nd,2,20\n",
        false => "id,qty\n1,11\n3,30\n4,40\n",
    };
    let second = site.file("second.csv", content)?;
    let granted = load_with_grants(&site, &[&[second.as_str()], mode].concat()).await?;
    let mut expected: BTreeSet<String> = privileges.iter().map(|name| (*name).to_owned()).collect();
    if has_key {
        let temporary =
            if engine == Engine::MariaDb { &["CREATE TEMPORARY TABLES"][..] } else { &["TEMPORARY", "SELECT"] };
        expected.extend(temporary.iter().map(|name| (*name).to_owned()));
    }
    assert_eq!(granted, expected);
    assert_eq!(site.states().await?, ["loaded", "loaded"]);
    Ok(())
}

/// A user without any right to create tables, as a new user often is.
#[rstest]
#[case::mariadb(Engine::MariaDb, "")]
#[case::postgres(Engine::Postgres, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")]
#[case::postgres_without_schema(Engine::Postgres, "REVOKE ALL ON SCHEMA public FROM PUBLIC")]
#[tokio::test]
async fn first_load_names_each_missing_privilege(#[case] engine: Engine, #[case] revoke: &str) -> Result<()> {
    let site = Site::on(engine).await?;
    let user = &site.schema.user;
    match engine {
        Engine::MariaDb => {
            site.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?;
            site.sql(&format!("GRANT SELECT ON {{schema}}.* TO '{user}'@'%'")).await?;
        }
        Engine::Postgres => {
            site.sql("ALTER SCHEMA public OWNER TO postgres").await?;
            site.sql(revoke).await?;
        }
    }
    let path = site.file("orders.csv", "id,qty\n1,10\n")?;
    let denied = error(&site.load(&site.settings(), &[&path]).await?.ensure_code(1)?)?;
    let names_history = denied["message"].to_string().contains("spillway_ledger_attempts");
    ensure!(names_history == (engine == Engine::MariaDb), "{denied}");
    let granted = load_with_grants(&site, &[&path]).await?;
    ensure!(granted.contains("CREATE"), "{granted:?}");
    assert_eq!(site.rows().await?, 1);
    Ok(())
}

/// The check tells all missing privileges at once, too.
#[rstest]
#[tokio::test]
async fn check_names_all_missing_privileges(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("new", "with a ledger")] ledger: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let user = &site.schema.user;
    if ledger != "new" {
        let path = site.file("orders.csv", "id,qty\n1,10\n")?;
        site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    }
    match engine {
        Engine::MariaDb => site.sql(&format!("REVOKE ALL ON {{schema}}.* FROM '{user}'@'%'")).await?,
        Engine::Postgres => {
            for table in if ledger == "new" { &[][..] } else { &["spillway_ledger", "spillway_ledger_attempts"] } {
                site.sql(&format!("ALTER TABLE {{schema}}.{table} OWNER TO postgres")).await?;
            }
            site.sql("ALTER SCHEMA public OWNER TO postgres").await?;
            site.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await?;
            site.sql(&format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC, {user}", site.schema.name)).await?;
        }
    }
    if engine == Engine::MariaDb {
        // Without any privilege, the user cannot even log in to the database.
        site.sql(&format!("GRANT SELECT ON {{schema}}.* TO '{user}'@'%'")).await?;
    }
    let settings = site.settings();
    let of = |name: &str| settings.get(name).unwrap_or_default().to_owned();
    let scheme = if engine == Engine::MariaDb { "mariadb" } else { "postgres" };
    let url = format!("{scheme}://{}@127.0.0.1:{}/{}", of("RDS_USER"), of("RDS_PORT"), of("RDS_DB"));
    let check = async || spillway(&settings, &["check", "--json", "--to", &url]).await;
    let failed = check().await?.ensure_code(2)?.json()?;
    let fixes = failed["items"].as_array().into_iter().flatten().filter_map(|item| item["fix"].as_str());
    let fix = fixes.filter(|fix| fix.contains("GRANT ")).collect::<Vec<_>>();
    let (_, statements) = fix.first().context(failed.to_string())?.split_once(": ").context("statements")?;
    for statement in statements.split("; ") {
        site.sql(statement.trim_end_matches(';')).await?;
    }
    let passed = check().await?.ensure_code(0)?.json()?;
    assert_eq!(passed["ok"], json!(true), "{passed}");
    Ok(())
}
