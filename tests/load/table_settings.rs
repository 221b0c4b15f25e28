//! Table settings in S3: two tables with other settings, in the database, in the fallback, and for corrected records.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const SETTINGS: &str = "settings/tables.toml";
const TABLES: &str = r#"
[[table]]
pattern = "uploads/{tenant}/orders/*"
name = "orders"
csv_delimiter = ";"
key_columns = ["tenant"]
max_rejects = 1

[table.columns.order_no]
source = "Order ID"
type = "text"

[table.columns.ordered_on]
source = "Date"
format = "%d/%m/%Y"

[table.columns.total]
source = "Total"
decimal = ","
thousands = "."
remove = ["€"]

[table.columns.internal]
ignore = true

[table.columns.currency]
default = "EUR"

[[table]]
pattern = "uploads/events/*"
name = "events"

[table.columns.at]
source = "ts"
format = "epoch-milliseconds"
"#;

/// Fields with separators of the country, and an order number with leading zeros.
const ORDERS: &str = "Order ID;Date;Total;internal\n0012;13/01/2024;1.234,50 €;x\n0013;01/02/2024;-7,00 €;y\n";
const ORDER_ROWS: [[&str; 5]; 2] =
    [["EUR", "0012", "2024-01-13", "1234.50", "nordic"], ["EUR", "0013", "2024-02-01", "-7.00", "nordic"]];
const ORDER_QUERY: &str = "SELECT currency, order_no, ordered_on, total, tenant FROM {schema}.orders ORDER BY order_no";

/// Rows as a query returns them.
fn text<const COLUMNS: usize>(rows: &[[&str; COLUMNS]]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.iter().map(|value| Some((*value).to_owned())).collect()).collect()
}

async fn settings(test_env: &TestEnv) -> Result<Settings> {
    let account = &test_env.fixture.account;
    account.put(SETTINGS, TABLES.as_bytes().to_vec()).await?;
    Ok(test_env.settings().without("RDS_TABLE").with("SPILLWAY_CONFIG", format!("s3://{}/{SETTINGS}", account.bucket)))
}

#[rstest]
#[tokio::test]
async fn each_table_is_loaded_by_its_entry(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = settings(&test_env).await?;
    let account = &test_env.fixture.account;
    let orders = account.put("uploads/nordic/orders/1.csv", ORDERS.as_bytes().to_vec()).await?;
    let events = account.put("uploads/events/1.jsonl", b"{\"ts\": 1704067200123, \"id\": 1}\n".to_vec()).await?;
    test_env.deliver_until_accepted(&settings, &[&orders, &events]).await?;
    ensure!(test_env.rows(ORDER_QUERY).await? == text(&ORDER_ROWS), "{:?}", test_env.rows(ORDER_QUERY).await?);
    let in_utc = match engine {
        Engine::MariaDb => "CAST(at AS CHAR(23))",
        Engine::Postgres => "CAST(at AT TIME ZONE 'UTC' AS text)",
    };
    let at = test_env.rows(&format!("SELECT {in_utc} FROM {{schema}}.events")).await?;
    ensure!(at == text(&[["2024-01-01 00:00:00.123"]]), "{at:?}");

    // A key that no entry matches has no table, because RDS_TABLE is not set.
    let other = account.put("uploads/other.csv", ORDERS.as_bytes().to_vec()).await?;
    test_env.deliver_until_accepted(&settings, &[&other]).await?;
    let (state, _) = test_env.ledger("uploads/other.csv").await?.context("the ledger has no entry")?;
    ensure!(state == "rejected", "{state}");
    Ok(())
}

/// The fallback has the names and values after the rules, and a replay must not apply the rules again.
#[rstest]
#[tokio::test]
async fn fallback_is_replayed_with_the_rules_applied_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = settings(&test_env).await?;
    test_env.sql("CREATE TABLE {schema}.orders (other INT)").await?;
    let key = "uploads/nordic/orders/1.csv";
    let object = test_env.fixture.account.put(key, ORDERS.as_bytes().to_vec()).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (state, why) = test_env.ledger(key).await?.context("the ledger has no entry")?;
    ensure!(state == "fell_back", "{state}: {why}");
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == json!("replayed"), "{reports:?}");
    ensure!(test_env.rows(ORDER_QUERY).await? == text(&ORDER_ROWS), "{:?}", test_env.rows(ORDER_QUERY).await?);
    Ok(())
}

#[tokio::test]
async fn corrected_records_use_the_entry_of_their_file() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = settings(&test_env).await?;
    let account = &test_env.fixture.account;
    let bad = ORDERS.replace(";-7,00 €;y", "");
    let object = account.put("uploads/nordic/orders/1.csv", bad.into_bytes()).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let rejects = account.keys("rejected/").await?.into_iter().find(|key| key.ends_with(".csv"));
    let rejects = rejects.context("no record was rejected")?;
    let corrected = "Order ID;Date;Total;internal\n0013;01/02/2024;-7,00 €;y\n";
    account.put(&rejects, corrected.as_bytes().to_vec()).await?;
    let request = json!({ "rejects": rejects });
    test_env.invoke_ingest(&settings, &request).await?.ensure_success()?;
    ensure!(test_env.rows(ORDER_QUERY).await? == text(&ORDER_ROWS), "{:?}", test_env.rows(ORDER_QUERY).await?);
    Ok(())
}

#[rstest]
#[case::format("uploads/nordic/orders/1.csv", "Order ID;Date;Total\n1;2024-01-13;1\n", &["column ordered_on", "%d/%m/%Y"])]
#[case::number("uploads/nordic/orders/1.csv", "Order ID;Date;Total\n1;13/01/2024;1.23\n", &["column total", "record 1"])]
#[tokio::test]
async fn value_of_another_format_rejects_the_file(
    #[case] key: &str,
    #[case] file: &str,
    #[case] expected: &[&str],
) -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = settings(&test_env).await?;
    let object = test_env.fixture.account.put(key, file.as_bytes().to_vec()).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (state, why) = test_env.ledger(key).await?.context("the ledger has no entry")?;
    ensure!(state == "rejected" && expected.iter().all(|part| why.contains(part)), "{state}: {why}");
    Ok(())
}
