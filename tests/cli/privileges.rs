//! A missing privilege: the error names it, the object, and the GRANT after which the load succeeds.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;

use crate::cli::site::{Site, TABLE, error};

/// More statements than any load needs.
const MAX_GRANTS: usize = 15;

/// Loads a file until it succeeds. After each failure, an administrator runs the statements of the error. Returns the privileges.
async fn load_with_grants(site: &Site, arguments: &[&str]) -> Result<BTreeSet<String>> {
    let mut granted = BTreeSet::new();
    for _ in 0..MAX_GRANTS {
        let ended = site.load(&site.settings(), arguments).await?;
        if ended.code == Some(0) {
            return Ok(granted);
        }
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
    }
    bail!("not loaded after {MAX_GRANTS} statements: {granted:?}")
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
    // The error of a denied COPY has only the message of the server.
    if engine == Engine::Postgres && mode.is_empty() {
        let ended = site.load(&site.settings(), &[&second]).await?.ensure_code(1)?;
        ensure!(error(&ended)?["message"].to_string().contains("permission denied for table orders"), "{ended:?}");
        return Ok(());
    }
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
    let granted = load_with_grants(&site, &[&path]).await?;
    ensure!(granted.contains("CREATE"), "{granted:?}");
    assert_eq!(site.rows().await?, 1);
    Ok(())
}
