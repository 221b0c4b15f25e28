//! The lake: rows as Parquet in S3, read back with Athena and with a Parquet reader, cell by cell.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::athena;
use spillway_test_env::database::Engine;
use spillway_test_env::fallback::{self, describe};
use spillway_test_env::fixture::{Counted, LAKE_DATABASE, TABLE};
use spillway_test_env::test_env::TestEnv;

/// Every type, quotes, line ends, NULL and the empty string.
const FILE: &str = "id,note,price,weight,paid,day,seen_at\n\
    1,\"a \"\"quoted\"\" word, and\na line \\ with\r\nbreaks\",10.50,1.5e300,true,2026-02-28,2026-02-28 23:59:59.123456\n\
    -9223372036854775808,\"\",-0.01,,false,,\n\
    3,,99999999.99,0.25,,2000-01-01,2026-01-01 00:00:00\n\
    4,NULL,,-2.5,true,2026-12-31,\n\
    5,naïve ☂ 雨,7.00,3.5,false,,\n";

const COLUMNS: &str = "id, note, price, weight, paid, day, seen_at";

/// The rows of that file. In a text column the null token `NULL` is text.
fn expected() -> Vec<Vec<Option<&'static str>>> {
    let note = "a \"quoted\" word, and\na line \\ with\r\nbreaks";
    vec![
        vec![Some("-9223372036854775808"), Some(""), Some("-0.01"), None, Some("false"), None, None],
        vec![
            Some("1"),
            Some(note),
            Some("10.50"),
            Some("1.5e300"),
            Some("true"),
            Some("2026-02-28"),
            Some("2026-02-28 23:59:59.123456"),
        ],
        vec![Some("3"), None, Some("99999999.99"), Some("0.25"), None, Some("2000-01-01"), Some("2026-01-01 00:00:00")],
        vec![Some("4"), Some("NULL"), None, Some("-2.5"), Some("true"), Some("2026-12-31"), None],
        vec![Some("5"), Some("naïve ☂ 雨"), Some("7.00"), Some("3.5"), Some("false"), None, None],
    ]
}

/// A value in one spelling. Engines spell numbers with an exponent, booleans, and times without a fraction differently.
fn spelled(column: usize, value: Option<String>) -> Option<String> {
    let value = value?;
    Some(match (column, value.as_str()) {
        (3, number) => number.parse::<f64>().map_or(value.clone(), |number| number.to_string()),
        (4, "1" | "t") => "true".to_owned(),
        (4, "0" | "f") => "false".to_owned(),
        (6, time) => time.trim_end_matches(".000000").trim_end_matches(".000").to_owned(),
        _ => value,
    })
}

fn spelled_rows(rows: Vec<Vec<Option<String>>>) -> Vec<Vec<Option<String>>> {
    let row = |row: Vec<Option<String>>| row.into_iter().enumerate().map(|(at, value)| spelled(at, value)).collect();
    rows.into_iter().map(row).collect()
}

fn expected_rows() -> Vec<Vec<Option<String>>> {
    let rows = expected().into_iter().map(|row| row.into_iter().map(|value| value.map(str::to_owned)).collect());
    spelled_rows(rows.collect())
}

#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn database_and_lake_have_the_cells_of_the_file(#[case] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let account = &test_env.fixture.account;
    let object = account.put("uploads/orders.csv", FILE).await?;
    let response = test_env.deliver_until_accepted(&test_env.fixture.lake_settings("both"), &[&object]).await?;
    ensure!(!response.is_failure(), "{}", response.body);

    let table = test_env.rows(&format!("SELECT {COLUMNS} FROM {{schema}}.{TABLE} ORDER BY id")).await?;
    assert_eq!(spelled_rows(table), expected_rows());
    let query = format!("SELECT {COLUMNS} FROM {TABLE} ORDER BY id");
    assert_eq!(spelled_rows(athena::query(account, LAKE_DATABASE, &query).await?), expected_rows());
    let found = fallback::read(account, LAKE_DATABASE, TABLE, &format!("lake/{TABLE}/")).await?;
    assert_eq!((found.rows.len(), found.objects.len(), found.unregistered.len()), (5, 1, 0));
    let notes: Vec<_> = found.rows.iter().map(|row| row["note"].clone()).collect();
    let in_file_order: Vec<_> = [1, 0, 2, 3, 4].map(|at| expected()[at][1].map(str::to_owned)).to_vec();
    assert_eq!(notes, in_file_order);

    let glue = describe(account, LAKE_DATABASE, TABLE).await?.context("no table")?;
    let columns = glue.storage_descriptor().map(|storage| storage.columns()).unwrap_or_default();
    let types: Vec<_> = columns.iter().map(|column| column.r#type().unwrap_or_default()).collect();
    assert_eq!(types, ["bigint", "string", "decimal(18,2)", "double", "boolean", "date", "timestamp"]);
    assert!(account.keys("lake/_manifests/").await?.is_empty());
    let ledger = test_env.rows("SELECT state, load_mode, lake_key FROM {schema}.spillway_ledger").await?;
    let key = found.objects[0].clone();
    assert_eq!(ledger, [vec![Some("loaded".to_owned()), Some("append".to_owned()), Some(key)]]);
    Ok(())
}

#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn lake_alone_needs_only_the_ledger(#[case] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.fixture.lake_settings("lake");
    let first = test_env.fixture.upload("uploads/a.csv", 150).await?;
    // The file waits while the ledger cannot be reached.
    let response =
        test_env.deliver(&settings.clone().with("RDS_PORT", 1).with("RDS_RETRY_SECONDS", 0), &[&first]).await?;
    ensure!(response.is_failure(), "{}", response.body);
    assert_eq!(test_env.fixture.account.keys("").await?, ["uploads/a.csv"]);

    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    let second = test_env.fixture.upload("uploads/b.csv", 50).await?;
    // A duplicate event changes nothing.
    for _ in 0..2 {
        test_env.deliver_until_accepted(&settings, &[&second]).await?;
    }
    test_env.fixture.ensure_once_in_lake(&test_env.server).await?;
    assert_eq!(test_env.count().await?, Counted::default());
    let ledger = test_env.rows("SELECT DISTINCT state, load_mode FROM {schema}.spillway_ledger").await?;
    assert_eq!(ledger, [[Some("loaded".to_owned()), Some("lake".to_owned())]]);
    Ok(())
}

/// Columns are only added, and every file stays readable.
#[tokio::test]
async fn files_with_other_columns_share_a_table() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let (account, settings) = (&test_env.fixture.account, test_env.fixture.lake_settings("lake"));
    for (key, body) in [
        ("uploads/1.csv", "id,amount\n1,5\n"),
        ("uploads/2.csv", "amount,id\nfive,2\n"),
        ("uploads/3.jsonl", "{\"id\": 3, \"tags\": [\"a\", 1]}\n"),
    ] {
        let object = account.put(key, body).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    let query = format!("SELECT id, amount, amount__string, tags FROM {TABLE} ORDER BY id");
    let rows = athena::query(account, LAKE_DATABASE, &query).await?;
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        [text("1"), text("5"), None, None],
        [text("2"), None, text("five"), None],
        [text("3"), None, None, text("[\"a\", 1]")],
    ];
    assert_eq!(rows, expected);
    Ok(())
}

/// A file that falls back is in the lake after its replay, and a file that was loaded before `OUTPUT=both` is not.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn replayed_file_is_in_the_lake_once(#[case] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.fixture.lake_settings("both");
    let object = test_env.fixture.upload("uploads/a.csv", 150).await?;
    test_env.sql("CREATE TABLE {schema}.orders (other INT)").await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: 150 });
    assert!(test_env.fixture.account.keys("lake/").await?.is_empty());
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == json!("replayed"), "{reports:?}");
    test_env.ensure_exactly_once().await?;
    test_env.fixture.ensure_once_in_lake(&test_env.server).await
}

/// A worker dies before COMMIT, and the file is overwritten. The sweep finishes its load from the lake object.
#[rstest]
#[case::mariadb(Engine::MariaDb, "both")]
#[case::postgresql(Engine::Postgres, "both")]
#[case::lake_alone(Engine::Postgres, "lake")]
#[tokio::test]
async fn overwritten_file_is_finished_from_its_lake_object(#[case] engine: Engine, #[case] output: &str) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.fixture.lake_settings(output);
    let object = test_env.fixture.upload("uploads/a.csv", 150).await?;
    let (call, _pause) = test_env.pause_trigger(&settings, "LakePublished", &object).await?;
    call.kill().await?;
    let first = test_env.fixture.inputs.remove(0);
    let second = test_env.fixture.upload("uploads/a.csv", 40).await?;
    test_env.deliver_until_accepted(&settings, &[&second]).await?;
    test_env.sweep(&settings).await?;
    test_env.fixture.inputs[0].rows.extend(first.rows);
    test_env.fixture.ensure_once_in_lake(&test_env.server).await?;
    if output == "both" {
        test_env.ensure_exactly_once().await?;
    }
    Ok(())
}
