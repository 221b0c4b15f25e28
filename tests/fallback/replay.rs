//! The fallback, read with Athena and replayed: values are equal to those of the files, and each row is loaded once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_test_env::athena;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fallback::describe;
use spillway_test_env::fixture::{Counted, GLUE_DATABASE, GLUE_TABLE, file};
use spillway_test_env::lambda::Function;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

/// Quotes, line breaks, NULL, empty texts, dates, times, decimals, booleans, and texts that look like numbers.
const TYPED: &str = "id,name,price,paid,day,moment,code,empty\n\
    1,\"He said \"\"no\"\"\",10.50,true,2026-01-31,2026-01-31T23:59:59,00123,\"\"\n\
    2,\"two\nlines, and a comma\",-0.05,false,2024-02-29,2024-02-29T00:00:00,00007,x\n\
    3,,,,,,,\n";

/// A table without the files' columns, so that every file falls back.
const UNSUITABLE_TABLE: &str = "CREATE TABLE {schema}.orders (nothing INT)";

#[tokio::test]
async fn sql_over_fallback_returns_file_values() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let account = &test_env.fixture.account;
    test_env.sql(UNSUITABLE_TABLE).await?;
    let object = account.put("uploads/typed.csv", TYPED).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;

    let query = format!("SELECT id, name, price, paid, day, moment, code, empty FROM {GLUE_TABLE} ORDER BY id");
    let rows = athena::query(account, GLUE_DATABASE, &query).await?;
    let expected: [[Option<&str>; 8]; 3] = [
        [
            Some("1"),
            Some("He said \"no\""),
            Some("10.50"),
            Some("true"),
            Some("2026-01-31"),
            Some("2026-01-31 23:59:59"),
            Some("00123"),
            Some(""),
        ],
        [
            Some("2"),
            Some("two\nlines, and a comma"),
            Some("-0.05"),
            Some("false"),
            Some("2024-02-29"),
            Some("2024-02-29 00:00:00"),
            Some("00007"),
            Some("x"),
        ],
        [Some("3"), None, None, None, None, None, None, None],
    ];
    for (row, expected) in rows.iter().zip(expected) {
        let texts: Vec<Option<String>> =
            row.iter().map(|value| value.as_deref().map(|text| text.trim_end_matches(".000").to_owned())).collect();
        assert_eq!(texts, expected.map(|value| value.map(str::to_owned)));
    }
    assert_eq!(rows.len(), 3);

    let table = describe(account, GLUE_DATABASE, GLUE_TABLE).await?.context("Glue has no table")?;
    let storage = table.storage_descriptor().context("the table has no storage descriptor")?;
    let columns: Vec<(&str, &str)> =
        storage.columns().iter().map(|column| (column.name(), column.r#type().unwrap_or_default())).collect();
    assert_eq!(
        columns,
        [
            ("id", "bigint"),
            ("name", "string"),
            ("price", "decimal(3,2)"),
            ("paid", "boolean"),
            ("day", "date"),
            ("moment", "timestamp"),
            ("code", "string"),
            ("empty", "string"),
        ]
        .map(|(name, kind)| if name == "price" { ("price", columns[2].1) } else { (name, kind) })
    );
    assert!(columns[2].1.starts_with("decimal("), "{columns:?}");
    assert_eq!(table.table_type(), Some("EXTERNAL_TABLE"));
    assert_eq!(table.partition_keys().iter().map(|key| key.name()).collect::<Vec<_>>(), ["dt"]);
    assert_eq!(storage.location(), Some(format!("s3://{}/fallback/orders/", account.bucket).as_str()));
    Ok(())
}

#[tokio::test]
async fn replay_restores_every_value() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings();
    test_env.sql(UNSUITABLE_TABLE).await?;
    let object = test_env.fixture.account.put("uploads/typed.csv", TYPED).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    ensure!(test_env.fallback_reasons().await?.len() == 1, "the file did not fall back");
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == "replayed", "{reports:?}");
    let rows = test_env.rows("SELECT CAST(id AS CHAR), name, price, code, `empty`, DATE_FORMAT(day, '%Y-%m-%d') FROM {schema}.orders ORDER BY id").await?;
    let expected: [[Option<&str>; 6]; 3] = [
        [Some("1"), Some("He said \"no\""), Some("10.50"), Some("00123"), Some(""), Some("2026-01-31")],
        [Some("2"), Some("two\nlines, and a comma"), Some("-0.05"), Some("00007"), Some("x"), Some("2024-02-29")],
        [Some("3"), None, None, None, None, None],
    ];
    assert_eq!(rows, expected.map(|row| row.map(|value| value.map(str::to_owned)).to_vec()));
    Ok(())
}

/// The manifest says that the columns have no names. Spellings that only the table's columns explain are kept.
#[rstest]
#[tokio::test]
async fn file_without_header_is_replayed_by_position(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    test_env.sql("CREATE TABLE {schema}.orders (nothing INT)").await?;
    let body = "1.0,20240115,.5,null,none\n2.0,20240229,1.25,x,.5\n";
    let object = test_env.fixture.account.put("uploads/plain.csv", body).await?;
    test_env.deliver_until_accepted(&settings.clone().with("CSV_HEADER", "false"), &[&object]).await?;
    ensure!(test_env.fallback_reasons().await?.len() == 1, "the file did not fall back");
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let ddl = "CREATE TABLE {schema}.orders (number INT NOT NULL, day DATE, rate DECIMAL(9,4), \
               remark VARCHAR(9), code VARCHAR(9))";
    test_env.sql(ddl).await?;
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == "replayed", "{reports:?}");
    let query =
        "SELECT CONCAT(number, ''), CONCAT(day, ''), CONCAT(rate, ''), remark, code FROM {schema}.orders ORDER BY 1";
    let expected = [["1", "2024-01-15", "0.5000", "null", "none"], ["2", "2024-02-29", "1.2500", "x", ".5"]];
    assert_eq!(test_env.rows(query).await?, expected.map(|row| row.map(|text| Some(text.to_owned())).to_vec()));
    Ok(())
}

#[tokio::test]
async fn replayed_file_is_a_duplicate_when_uploaded_again() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let (account, settings) = (&test_env.fixture.account, test_env.settings());
    test_env.sql(UNSUITABLE_TABLE).await?;
    let object = account.put("uploads/typed.csv", TYPED).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    test_env.sql("DROP TABLE {schema}.orders").await?;
    ensure!(test_env.replay(&settings).await?.len() == 1, "nothing was replayed");

    let again = account.put("uploads/typed.csv", TYPED).await?;
    let response = test_env.deliver(&settings, &[&again]).await?;
    ensure!(!response.is_failure(), "the second delivery failed: {} {}", response.body, response.logs);
    ensure!(account.keys("uploads/").await?.is_empty(), "the second object was not moved");
    let count = test_env.rows("SELECT COUNT(*) FROM {schema}.orders").await?;
    assert_eq!(count, [[Some("3".to_owned())]]);
    Ok(())
}

/// The same bytes under the same key, uploaded again after the table was repaired, or before.
#[rstest]
#[case::versions_are_kept(true, false, "loaded", 2)]
#[case::versions_are_kept_and_uploaded_before_the_repair(true, true, "fell_back", 2)]
// The second upload has the identity of the first one, which is in the fallback.
#[case::versions_are_not_kept(false, false, "fell_back", 1)]
#[tokio::test]
async fn file_in_the_fallback_that_is_uploaded_again_is_loaded_once(
    #[case] keeps_versions: bool,
    #[case] is_uploaded_before_repair: bool,
    #[case] outcome: &str,
    #[case] processed: usize,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let (account, settings) = (&test_env.fixture.account, test_env.settings());
    if keeps_versions {
        account.keep_versions().await?;
    }
    let (key, rows) = ("uploads/orders.csv", 200);
    let (body, _) = file(key, rows);
    test_env.sql("CREATE TABLE {schema}.orders (nothing INT)").await?;
    let first = account.put(key, body.clone()).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: rows });

    if !is_uploaded_before_repair {
        test_env.sql("DROP TABLE {schema}.orders").await?;
    }
    let again = account.put(key, body).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&again]).await?;
    assert_eq!(response.reports()?[0]["outcome"], outcome);
    if is_uploaded_before_repair {
        test_env.sql("DROP TABLE {schema}.orders").await?;
    }
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.iter().all(|report| report["outcome"] == "replayed"), "{reports:?}");
    assert_eq!(test_env.count().await?, Counted { database: rows, fallback: 0 });
    test_env.sweep(&settings).await?;
    for prefix in ["uploads/", "failed/", "fallback/"] {
        assert_eq!(account.keys(prefix).await?, Vec::<String>::new());
    }
    assert_eq!(account.keys("processed/").await?.len(), processed);
    assert_eq!(test_env.replay(&settings).await?.len(), 0, "a second replay found files");
    assert_eq!(test_env.count().await?, Counted { database: rows, fallback: 0 });
    Ok(())
}

#[tokio::test]
async fn three_concurrent_fallbacks_replay_completely() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let settings = test_env.settings();
    test_env.sql(UNSUITABLE_TABLE).await?;
    let mut objects = Vec::new();
    for (name, records) in [("one", 30), ("two", 40), ("three", 50)] {
        objects.push(test_env.fixture.upload(&format!("uploads/{name}.csv"), records).await?);
    }
    let objects: Vec<&Object> = objects.iter().collect();
    for response in test_env.deliver_concurrently(&settings, &objects).await? {
        response.ensure_success()?;
    }
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: 120 });
    test_env.ensure_exactly_once().await?;
    let counted = athena::query(
        &test_env.fixture.account,
        GLUE_DATABASE,
        &format!("SELECT file, COUNT(*) FROM {GLUE_TABLE} GROUP BY file ORDER BY 2"),
    )
    .await?;
    assert_eq!(
        counted,
        [["one", "30"], ["two", "40"], ["three", "50"]].map(|row| row.map(|value| Some(value.to_owned())).to_vec())
    );

    test_env.sql("DROP TABLE {schema}.orders").await?;
    assert_eq!(test_env.replay(&settings).await?.len(), 3);
    assert_eq!(test_env.count().await?, Counted { database: 120, fallback: 0 });
    assert_eq!(test_env.replay(&settings).await?.len(), 0, "a second replay found files");
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());
    test_env.ensure_exactly_once().await
}

/// An environment with a file of 200 rows in the fallback, and without the table that rejected it.
async fn with_fallback(engine: Engine) -> Result<(TestEnv, Settings)> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    test_env.sql(UNSUITABLE_TABLE).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 200).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    test_env.sql("DROP TABLE {schema}.orders").await?;
    Ok((test_env, settings))
}

#[tokio::test]
async fn concurrent_replays_load_once() -> Result<()> {
    let (test_env, settings) = with_fallback(Engine::MariaDb).await?;
    let ingest = Function::ingest(&settings)?;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(ingest.start(&serde_json::json!({"replay": {}})).await?);
    }
    for call in calls {
        call.finish().await?;
    }
    test_env.replay(&settings).await?;
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::before_commit("BeforeCommit")]
#[case::after_commit("AfterCommit")]
#[case::lease_written("LeaseWritten")]
#[tokio::test]
async fn killed_replay_completes_once(#[case] point: &str) -> Result<()> {
    let (test_env, settings) = with_fallback(Engine::MariaDb).await?;
    kill_replay(&settings, point).await?;

    test_env.replay(&settings).await?;
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::before_commit("BeforeCommit", Counted { database: 0, fallback: 200 })]
#[case::after_commit("AfterCommit", Counted { database: 200, fallback: 0 })]
#[case::after_copy("AfterCopy", Counted { database: 200, fallback: 0 })]
#[case::after_delete("AfterDelete", Counted { database: 200, fallback: 0 })]
#[tokio::test]
async fn sweep_finishes_killed_replay(
    #[case] point: &str,
    #[case] expected: Counted,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (test_env, settings) = with_fallback(engine).await?;
    kill_replay(&settings, point).await?;

    test_env.sweep(&settings).await?;
    assert_eq!(test_env.count().await?, expected);
    test_env.ensure_exactly_once().await
}

/// Kills a replay at a failpoint, and waits until its lease of five seconds has expired.
async fn kill_replay(settings: &Settings, point: &str) -> Result<()> {
    let pause = Pause::at(point)?;
    let ingest = Function::ingest(&settings.clone().and(&pause.settings()))?;
    let mut call = ingest.start(&serde_json::json!({"replay": {}})).await?;
    call.wait_for(&pause, Duration::from_secs(60)).await?;
    ensure!(call.kill().await?.was_killed(), "the function was not killed");
    tokio::time::sleep(Duration::from_secs(6)).await;
    Ok(())
}
