//! Imports of full exports, step by step as the state machine of `templates/exports.yaml` runs them: a chain of versions, kills at
//! each step, workers that stall, and exports that are refused. After each, the table is equal to the newest accepted export.

mod command;
mod consumer;
mod site;

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::firehose::records;
use spillway_test_env::lambda::{Call, Function};

use consumer::Consumer;
use site::{Execution, Rows, STATE, STREAM, Site, TABLE, TIMEOUT, csv, gzip, rows, version};

/// A chain of three versions, with statistics.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn chain_of_versions_is_imported_with_statistics(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    let row = |id: u64, name: &str, price: &str| (id, (name.to_owned(), Some(price.to_owned())));
    let counts = |record: &Value| {
        let statistics = &record["statistics"];
        ["inserted", "updated", "deleted", "unchanged"].map(|name| statistics[name].as_u64().unwrap_or(u64::MAX))
    };
    let first = site.import("20201230_V0001", &Rows::from([row(1, "a", "1.00"), row(2, "b", "2.00")]), None).await?;
    assert_eq!((counts(&first), &first["statistics"]["compared_with"]), ([2, 0, 0, 0], &Value::Null));
    let second = Rows::from([row(1, "a", "1.50"), row(2, "b", "2.00"), row(3, "c", "3.00")]);
    let second = site.import("20201230_V0002", &second, None).await?;
    assert_eq!((counts(&second), &second["statistics"]["compared_with"]), ([1, 1, 0, 1], &json!("20201230_V0001")));
    let third = site.import("20201231_V0001", &Rows::from([row(1, "a", "1.50"), row(3, "c", "3.25")]), None).await?;
    assert_eq!((counts(&third), &third["statistics"]["compared_with"]), ([0, 1, 1, 1], &json!("20201230_V0002")));
    for record in [&first, &second, &third] {
        ensure!(record["state"] == "done" && record["statistics"]["elapsed_ms"].as_u64().is_some_and(|time| time > 0));
        ensure!(record["statistics"]["rows_missing"] == 0 && record["statistics"]["is_loaded"] == true, "{record}");
    }
    // Every event again, in any order.
    for (version, expected) in [
        ("20201231_V0001", Execution::Done),
        ("20201230_V0001", Execution::Stale),
        ("20201230_V0002", Execution::Stale),
    ] {
        let key = format!("exports/tenant/test_table/{version}/export1.csv.gz");
        assert_eq!(site.execute(&key, "again", None).await?, expected);
        assert_eq!(site.record(version).await?["state"], "done", "{version}");
    }
    let loads = site.test_env.rows("SELECT rows_deleted, rows_stored FROM {schema}.spillway_ledger").await?;
    assert_eq!(loads.len(), 3, "{loads:?}");
    Ok(())
}

/// The failpoints of an import into database and stream, in their order.
const POINTS: [&str; 12] = [
    "ImportRegistered",
    "ImportLocked",
    "ImportDeltaWritten",
    "ImportPlanned",
    "Claimed",
    "RowsFirst",
    "BeforeLedgerEnd",
    "BeforeCommit",
    "AfterCommit",
    "ImportApplied",
    "ImportPublished",
    "ImportFinished",
];

/// `kill -9` at each step, repeated by the same execution; then a consumer of the stream.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn killed_step_is_repeated(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "both").await?;
    site.import(&version(1), &rows(1), None).await?;
    for (number, point) in (2..).zip(POINTS) {
        let record = site.import(&version(number), &rows(number), Some(point)).await?;
        ensure!(record["state"] == "done" && record["statistics"]["rows_missing"] == 0, "{point}: {record}");
    }
    let last = 1 + POINTS.len() as u64;
    let mut consumer = Consumer::default();
    let published = records(&site.test_env.fixture.account, STREAM).await?;
    published.iter().try_for_each(|record| consumer.read(record))?;
    ensure!(consumer.rows == rows(last), "the consumer of the stream has other rows");
    let loads = site.test_env.rows("SELECT source_id FROM {schema}.spillway_ledger WHERE state = 'loaded'").await?;
    assert_eq!(loads.len() as u64, last);
    println!(
        "{} kills, {} records published, {} rows in the table",
        POINTS.len(),
        published.len(),
        consumer.rows.len()
    );
    Ok(())
}

/// After a kill, the execution does not continue. The lock expires, and the next version first finishes what was planned.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn next_version_takes_over_from_a_killed_import(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "both").await?;
    site.import(&version(1), &rows(1), None).await?;
    let mut number = 2;
    for point in POINTS.into_iter().skip(1) {
        let key = site.put(&version(number), &csv(&rows(number))).await?;
        let pause = Pause::at(point)?;
        let settings = site.settings.clone().and(&pause.settings());
        let dying = Site { test_env: Arc::clone(&site.test_env), settings };
        let mut no_kill = None;
        tokio::select! {
            ended = dying.execute_until(&key, "dead", &mut no_kill) => bail!("the import did not reach {point}: {ended:?}"),
            reached = pause.wait_until_reached(TIMEOUT) => reached?,
        }
        // Dropping the call has killed the process.
        let is_finished = point == "ImportFinished";
        if !is_finished {
            site.expire_lock().await?;
        }
        site.import(&version(number + 1), &rows(number + 1), None).await?;
        let record = site.record(&version(number)).await?;
        // Nothing was planned before ImportPlanned, so that version is not needed.
        let is_planned = !matches!(point, "ImportLocked" | "ImportDeltaWritten");
        ensure!((record["state"] == "done") == is_planned, "{point}: {record}");
        let compared = &site.record(&version(number + 1)).await?["statistics"]["compared_with"];
        let expected = if is_planned { version(number) } else { version(number - 1) };
        assert_eq!(compared, &json!(expected), "{point}");
        number += 2;
    }
    let mut consumer = Consumer::default();
    records(&site.test_env.fixture.account, STREAM).await?.iter().try_for_each(|record| consumer.read(record))?;
    ensure!(consumer.rows == rows(number - 1), "the consumer of the stream has other rows");
    Ok(())
}

/// A worker that stalls until another one has the lock cannot commit.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn stalled_worker_cannot_commit(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    let key = site.put(&version(2), &csv(&rows(2))).await?;
    let pause = Pause::at("BeforeLedgerEnd")?;
    let mut call = paused_apply(&site, &key, &version(2), &pause).await?;
    call.wait_for(&pause, TIMEOUT).await?;
    site.expire_lock().await?;
    let names = json!({"tenant": "tenant", "table": "test_table", "version": version(2)});
    let mut lock = names.clone();
    (lock["step"], lock["owner"]) = ("lock".into(), "second".into());
    let locked = site.step(lock, &mut None).await?.map_err(anyhow::Error::msg)?;
    ensure!(locked["status"] == "locked" && locked["version"] == version(2), "{locked}");
    pause.release()?;
    let response = call.finish().await?;
    assert_eq!(response.error_type(), Some("lease_lost"), "{}", response.body);
    ensure!(site.table().await? == rows(1), "the stalled worker has committed");
    assert_eq!(site.execute(&key, "second", None).await?, Execution::Done);
    ensure!(site.table().await? == rows(2));
    Ok(())
}

/// Starts the step apply of a version, with a failpoint.
async fn paused_apply(site: &Site, key: &str, version: &str, pause: &Pause) -> Result<Call> {
    let names = json!({"tenant": "tenant", "table": "test_table", "version": version});
    let mut lock = names.clone();
    (lock["step"], lock["owner"]) = ("lock".into(), "first".into());
    for step in [json!({"step": "register", "key": key}), lock] {
        site.invoke(&step).await?.ensure_success()?;
    }
    let fence = site.document(STATE).await?["lock"]["fence"].clone();
    let mut held = names;
    (held["step"], held["fence"]) = ("diff".into(), fence);
    site.invoke(&held).await?.ensure_success()?;
    held["step"] = "apply".into();
    Function::ingest(&site.settings.clone().and(&pause.settings()))?.start(&json!({"export": held})).await
}

/// The database refuses a delta whose export before is not the one that the table has, whatever the registry says.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn ledger_refuses_a_delta_of_another_base(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    let old = site.document(STATE).await?;
    site.import(&version(2), &rows(2), None).await?;
    // A registry from a backup: it has forgotten the second version.
    site.change_state(|state| *state = old).await?;
    site.ensure_refused(&version(3), gzip(&csv(&rows(3)))?, "export_refused: ").await?;
    ensure!(site.table().await? == rows(2));
    // A registry without this table: the next version is a first export, and a full one.
    site.change_state(|state| state["current"] = Value::Null).await?;
    site.test_env.sql(&format!("DELETE FROM {{schema}}.{TABLE}")).await?;
    let first = site.import(&version(4), &rows(4), None).await?;
    assert_eq!(first["statistics"]["compared_with"], Value::Null);
    site.import(&version(5), &rows(5), None).await?;
    Ok(())
}

/// Tenants whose exports have the same keys share a table, and the import of one changes no row of the other.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn tenants_share_a_table(#[case] engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, "database").await?;
    site.settings = site
        .settings
        .with("TABLE_PATTERN", "exports/{tenant}/{table}/{version}/{file}")
        .with("KEY_COLUMNS", "tenant")
        .with("LOAD_MODE", "merge")
        .with("MERGE_KEY", "tenant,id");
    let table =
        "CREATE TABLE {schema}.items (tenant varchar(20), id bigint, name varchar(100), PRIMARY KEY (tenant, id))";
    site.test_env.sql(table).await?;
    if engine == Engine::Postgres {
        let user = &site.test_env.fixture.schema.user;
        site.test_env.sql(&format!("ALTER TABLE {{schema}}.items OWNER TO \"{user}\"")).await?;
    }
    for (tenant, version, text) in [
        ("acme", "V1", "id,name\n1,a\n2,b\n"),
        ("globex", "V1", "id,name\n1,x\n2,y\n3,z\n"),
        ("acme", "V2", "id,name\n2,B\n4,d\n"),
        ("globex", "V2", "id,name\n3,z\n"),
    ] {
        let key = format!("exports/{tenant}/items/{version}/part.csv.gz");
        site.test_env.fixture.account.put(&key, gzip(text)?).await?;
        assert_eq!(site.execute(&key, &key, None).await?, Execution::Done);
    }
    let mut found: Vec<String> = Vec::new();
    for row in site.test_env.rows("SELECT tenant, id, name FROM {schema}.items").await? {
        found.push(row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "));
    }
    found.sort();
    assert_eq!(found, ["acme 2 B", "acme 4 d", "globex 3 z"]);
    Ok(())
}

/// Wrong exports, each with a clear error, and nothing lost.
#[tokio::test]
async fn wrong_exports_are_refused() -> Result<()> {
    let site = Site::new(Engine::MariaDb, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    let text = csv(&rows(2));
    let whole = gzip(&text)?;
    let half: Rows = rows(2).into_iter().take(150).collect();
    let wrong_value = text.replacen("id,name,price\n", "id,name,price\n9999,\"x\",no number\n", 1);
    for (number, body, error) in [
        (2, Vec::new(), "file_broken: "),
        (3, gzip("")?, "file_broken: "),
        (4, gzip("id,name,price\n")?, "lacks 300 of the 300 rows"),
        (5, whole[..whole.len() / 2].to_vec(), "file_broken: "),
        (6, gzip(&csv(&half))?, "it may be truncated"),
        (7, gzip(&format!("{text}310,\"x\",1.00\n310,\"y\",1.00\n"))?, "has the same key"),
        (8, gzip(&text.replace("id,name,price\n", "id,name,cost\n"))?, "new: cost; missing: price"),
        (9, gzip(&format!("{text},\"x\",1.00\n"))?, "a column of the key is NULL"),
        (10, gzip(&wrong_value)?, "data_refused: "),
    ] {
        site.ensure_refused(&version(number), body, error).await.with_context(|| format!("case {number}"))?;
    }
    // A corrected file under the same key is imported, and so is the next version.
    let corrected = site.import(&version(10), &rows(10), None).await?;
    assert_eq!(corrected["statistics"]["compared_with"], version(1));
    assert_eq!(corrected["error"], Value::Null);
    site.import(&version(11), &rows(11), None).await?;
    Ok(())
}
