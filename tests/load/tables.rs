//! Several tables: the key names the table in the database, in the fallback and in the catalog.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::athena;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::{Database, Engine};
use spillway_test_env::fallback::describe;
use spillway_test_env::fixture::{GLUE_DATABASE, GLUE_TABLE, file};
use spillway_test_env::sample_events::{Topic, lines};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const RAW_ZONE: &str = "data/batch/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";

/// Settings with a table pattern and without a default table.
fn by_pattern(test_env: &TestEnv, pattern: &str) -> Settings {
    test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", pattern)
}

async fn put(test_env: &TestEnv, key: &str, records: usize) -> Result<Object> {
    test_env.fixture.account.put(key, file(key, records).0).await
}

/// A quoted table name with its schema.
fn quoted(test_env: &TestEnv, table: &str) -> String {
    match test_env.server {
        Database::MariaDb(_) => format!("{{schema}}.`{}`", table.replace('`', "``")),
        Database::Postgres(_) => format!("{{schema}}.\"{}\"", table.replace('"', "\"\"")),
    }
}

/// The rows of a query, with the values of each row separated by spaces.
async fn joined_rows(test_env: &TestEnv, query: &str) -> Result<Vec<String>> {
    let rows = test_env.rows(query).await?;
    Ok(rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect())
}

/// The number of rows of each file in a table, in the order of the file names.
async fn rows_by_file(test_env: &TestEnv, table: &str) -> Result<Vec<String>> {
    let table = quoted(test_env, table);
    joined_rows(test_env, &format!("SELECT file, COUNT(*) FROM {table} GROUP BY file ORDER BY file")).await
}

/// The tables in the schema, without the ledger.
async fn tables(test_env: &TestEnv) -> Result<Vec<String>> {
    let query = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' \
         AND table_name NOT IN ('spillway_ledger', 'spillway_ledger_attempts')";
    let mut names = joined_rows(test_env, query).await?;
    names.sort();
    Ok(names)
}

/// The outcome and the table of each report.
fn summaries(reports: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    reports.iter().map(|report| format!("{} {}", text(&report["outcome"]), text(&report["table"]))).collect()
}

#[rstest]
#[tokio::test]
async fn prefix_request_loads_three_tables(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = by_pattern(&test_env, RAW_ZONE);
    let counts = [("orders", 30), ("order_lines", 50), ("refunds", 7)];
    for (table, records) in counts {
        for part in 1..=4 {
            let key = format!("data/batch/{table}/year=2026/month=0{part}/day=10/hhmm=0830/{table}_part{part}.csv");
            put(&test_env, &key, records + part).await?;
        }
    }
    let response = test_env.invoke_ingest(&settings, &json!({"prefix": "data/batch/"})).await?;
    response.ensure_success()?;
    let reports = response.reports()?;
    assert_eq!(reports.len(), 12, "{reports:#?}");
    for (table, records) in counts {
        let expected: Vec<String> = (1..=4).map(|part| format!("{table}_part{part} {}", records + part)).collect();
        assert_eq!(rows_by_file(&test_env, table).await?, expected);
    }
    assert_eq!(tables(&test_env).await?, ["order_lines", "orders", "refunds"]);
    let query = "SELECT target_table, SUM(rows_stored) FROM {schema}.spillway_ledger GROUP BY 1 ORDER BY 1";
    let ledger = joined_rows(&test_env, query).await?;
    assert_eq!(ledger, ["order_lines 210", "orders 130", "refunds 38"]);
    // A second request finds no files.
    let again = test_env.invoke_ingest(&settings, &json!({"prefix": "data/batch/"})).await?;
    assert_eq!(again.reports()?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn objects_of_one_event_load_into_their_own_tables() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, "uploads/sales_*/** => sales, uploads/{table}/**");
    let sales = put(&test_env, "uploads/sales_eu/2026/a.csv", 20).await?;
    let stock = put(&test_env, "uploads/Stock/a.csv", 30).await?;
    let response = test_env.deliver(&settings, &[&sales, &stock]).await?;
    response.ensure_success()?;
    assert_eq!(summaries(&response.reports()?), ["loaded sales", "loaded stock"]);
    assert_eq!(rows_by_file(&test_env, "sales").await?, ["a 20"]);
    assert_eq!(rows_by_file(&test_env, "stock").await?, ["a 30"]);
    assert_eq!(tables(&test_env).await?, ["sales", "stock"]);
    Ok(())
}

/// A key without a table is moved to `failed/`, with a reason that names the key and the patterns.
#[tokio::test]
async fn key_without_a_table_is_rejected_with_reason() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, "uploads/{table}/*.csv");
    for (key, expected) in [
        (
            "uploads/stray.csv",
            "the key matches no pattern of TABLE_PATTERN and the table settings (uploads/{table}/*.csv), and RDS_TABLE is not set",
        ),
        ("uploads/spillway_ledger/a.csv", "\"spillway_ledger\" (by TABLE_PATTERN), which is the name of the ledger"),
        (&format!("uploads/{}/a.csv", "x".repeat(64)), "which has 64 bytes"),
    ] {
        let object = put(&test_env, key, 3).await?;
        let good = put(&test_env, "uploads/good/a.csv", 3).await?;
        let response = test_env.deliver(&settings, &[&object, &good]).await?;
        response.ensure_success()?;
        assert_eq!(response.reports()?[0]["outcome"], "rejected", "{}", response.body);
        let name = key
            .strip_prefix("uploads/")
            .and_then(|rest| rest.strip_suffix(".csv"))
            .context("the key has another form")?;
        let failed = test_env.fixture.account.keys(&format!("failed/{name}.")).await?;
        assert_eq!(failed.len(), 2, "{failed:?}");
        let note: Value = serde_json::from_slice(&test_env.fixture.account.get(&failed[1]).await?)?;
        assert_eq!(note["kind"], "key_refused");
        let reason = note["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&format!("/{key}: ")) && reason.contains(expected), "{reason}");
        assert_eq!(test_env.ledger(key).await?.map(|(state, _)| state).as_deref(), Some("rejected"));
        // A second delivery has nothing to do.
        let again = test_env.deliver(&settings, &[&object]).await?;
        assert_eq!(summaries(&again.reports()?), ["skipped -"]);
    }
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new());
    assert_eq!(tables(&test_env).await?, ["good"]);
    Ok(())
}

#[tokio::test]
async fn unmatched_key_uses_the_default_table() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().with("TABLE_PATTERN", "uploads/{table}/**");
    let stray = put(&test_env, "uploads/stray.csv", 3).await?;
    let named = put(&test_env, "uploads/refunds/a.csv", 4).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&stray, &named]).await?;
    assert_eq!(summaries(&response.reports()?), ["loaded orders", "loaded refunds"]);
    Ok(())
}

/// A table name from a key is quoted, whatever it contains.
#[rstest]
#[tokio::test]
async fn table_name_is_never_executed(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = by_pattern(&test_env, "uploads/{table}/*.csv");
    test_env.sql("CREATE TABLE {schema}.victim (id INT)").await?;
    let names = [
        "a`; drop table victim; --",
        "b'; drop table victim; --",
        "c\"; drop table victim; --",
        "..",
        "d.victim",
        "e\\`f",
        "%s ${x} {y}",
        "café",
        "cafe",
        "größe 雨",
    ];
    let mut expected: Vec<String> = names.map(str::to_owned).to_vec();
    for (index, name) in names.iter().enumerate() {
        let object = put(&test_env, &format!("uploads/{name}/file{index}.csv"), 3 + index).await?;
        let response = test_env.deliver(&settings, &[&object]).await?;
        response.ensure_success().with_context(|| name.to_string())?;
        assert_eq!(summaries(&response.reports()?), [format!("loaded {name}")]);
        assert_eq!(rows_by_file(&test_env, name).await?, [format!("file{index} {}", 3 + index)]);
    }
    expected.push("victim".to_owned());
    expected.sort();
    assert_eq!(tables(&test_env).await?, expected);
    Ok(())
}

/// Keys that differ only in letter case name one table, as in Glue, whose names are lower case.
#[tokio::test]
async fn letter_case_does_not_create_second_table() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, "uploads/{table}/*.csv");
    for (key, records) in
        [("uploads/Orders/one.csv", 3), ("uploads/orders/two.csv", 4), ("uploads/ORDERS/three.csv", 5)]
    {
        let object = put(&test_env, key, records).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    assert_eq!(tables(&test_env).await?, ["orders"]);
    assert_eq!(rows_by_file(&test_env, "orders").await?, ["one 3", "three 5", "two 4"]);
    Ok(())
}

#[rstest]
#[case::plain(Engine::MariaDb, ["orders", "refunds"], ["orders", "refunds"])]
#[case::encoded_in_glue(Engine::MariaDb, ["größe", "a-b"], ["gr__e__", "a_b__"])]
#[case::postgres(Engine::Postgres, ["orders", "a\"b"], ["orders", "a_b__"])]
#[tokio::test]
async fn two_tables_fall_back_and_replay_separately(
    #[case] engine: Engine,
    #[case] names: [&str; 2],
    #[case] glue_starts: [&str; 2],
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = by_pattern(&test_env, "uploads/{table}/*.csv");
    let mut objects = Vec::new();
    for (index, name) in names.iter().enumerate() {
        test_env.sql(&format!("CREATE TABLE {} (nothing INT)", quoted(&test_env, name))).await?;
        objects.push(put(&test_env, &format!("uploads/{name}/a{index}.csv"), 10 + index).await?);
        objects.push(put(&test_env, &format!("uploads/{name}/b{index}.csv"), 20 + index).await?);
    }
    let objects: Vec<&Object> = objects.iter().collect();
    for response in test_env.deliver_concurrently(&settings, &objects).await? {
        response.ensure_success()?;
    }
    let account = &test_env.fixture.account;
    let tables = account.glue.get_tables().database_name(GLUE_DATABASE).send().await?;
    let mut glue: Vec<String> = tables.table_list().iter().map(|table| table.name().to_owned()).collect();
    glue.sort_by_key(|name| glue_starts.iter().position(|start| name.starts_with(start)));
    assert_eq!(glue.len(), 2, "{glue:?}");
    for (index, (name, start)) in glue.iter().zip(glue_starts).enumerate() {
        assert!(name == start || name.starts_with(start) && start.ends_with("__"), "{glue:?}");
        let rows = athena::query(
            account,
            GLUE_DATABASE,
            &format!("SELECT file, COUNT(*) FROM {name} GROUP BY file ORDER BY file"),
        )
        .await?;
        let expected =
            [[format!("a{index}"), (10 + index).to_string()], [format!("b{index}"), (20 + index).to_string()]];
        assert_eq!(rows, expected.map(|row| row.map(Some).to_vec()), "{name}");
    }
    assert!(describe(account, GLUE_DATABASE, GLUE_TABLE).await?.is_none(), "Glue has a table for the default table");

    for name in names {
        test_env.sql(&format!("DROP TABLE {}", quoted(&test_env, name))).await?;
    }
    // First one table is replayed, then the rest.
    let one = test_env.invoke_ingest(&settings, &json!({"replay": {"table": names[1]}})).await?;
    assert_eq!(summaries(&one.reports()?), [format!("replayed {}", names[1]), format!("replayed {}", names[1])]);
    assert_eq!(
        summaries(&test_env.replay(&settings).await?),
        [format!("replayed {}", names[0]), format!("replayed {}", names[0])]
    );
    for (index, name) in names.iter().enumerate() {
        assert_eq!(
            rows_by_file(&test_env, name).await?,
            [format!("a{index} {}", 10 + index), format!("b{index} {}", 20 + index)]
        );
    }
    assert_eq!(account.keys("fallback/").await?, Vec::<String>::new());
    for name in glue {
        let partitions = account.glue.get_partitions().database_name(GLUE_DATABASE).table_name(name).send().await?;
        assert_eq!(partitions.partitions(), []);
    }
    Ok(())
}

/// Rows in the fallback keep their table in the database and in Glue.
#[tokio::test]
async fn changed_pattern_keeps_table_of_fallback() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let before = by_pattern(&test_env, "uploads/{table}/*.csv");
    test_env.sql("CREATE TABLE {schema}.orders (nothing INT) ENGINE=InnoDB").await?;

    let object = put(&test_env, "uploads/orders/a.csv", 5).await?;
    test_env.deliver_until_accepted(&before, &[&object]).await?;
    test_env.sql("DROP TABLE {schema}.orders").await?;

    // With the new patterns, the same keys name another table or none.
    let after = by_pattern(&test_env, "uploads/orders/*.csv => other");
    let nothing = by_pattern(&test_env, "elsewhere/{table}/*.csv");
    assert_eq!(summaries(&test_env.replay(&nothing).await?), ["replayed orders"]);
    assert_eq!(rows_by_file(&test_env, "orders").await?, ["a 5"]);
    let partitions =
        test_env.fixture.account.glue.get_partitions().database_name(GLUE_DATABASE).table_name("orders").send().await?;
    assert_eq!(partitions.partitions(), []);
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());

    // The same bytes under the same key are loaded once, although the key now names another table.
    for (settings, expected) in [(&before, "loaded orders"), (&after, "already_loaded other")] {
        let object = put(&test_env, "uploads/orders/b.csv", 3).await?;
        let response = test_env.deliver_until_accepted(settings, &[&object]).await?;
        assert_eq!(summaries(&response.reports()?), [expected]);
    }
    Ok(())
}

#[tokio::test]
async fn sweep_covers_every_upload_prefix() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, "{table}/**").with("UPLOAD_PREFIX", "sale_events/, inventory_events/");
    let sale = put(&test_env, "sale_events/2026/a.csv", 3).await?;
    let stray = put(&test_env, "other_events/a.csv", 3).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&sale, &stray]).await?;
    assert_eq!(summaries(&response.reports()?), ["loaded sale_events", "skipped -"]);
    put(&test_env, "sale_events/b.csv", 4).await?;
    put(&test_env, "inventory_events/b.csv", 5).await?;
    test_env.sweep(&settings).await?;
    assert_eq!(rows_by_file(&test_env, "sale_events").await?, ["a 3", "b 4"]);
    assert_eq!(rows_by_file(&test_env, "inventory_events").await?, ["b 5"]);
    assert_eq!(test_env.fixture.account.keys("other_events/").await?, ["other_events/a.csv"]);
    let moved = test_env.fixture.account.keys("processed/").await?;
    assert!(moved.len() == 3 && moved[0].starts_with("processed/2026/a."), "{moved:?}");
    Ok(())
}

#[tokio::test]
async fn whole_bucket_as_upload_prefix_excludes_own_prefixes() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, "{tenant}/{table}/{version}/{file}.csv").with("UPLOAD_PREFIX", "/");
    let first = put(&test_env, "acme/orders/1/full.csv", 3).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    put(&test_env, "umbrella/orders/7/part.csv", 4).await?;
    put(&test_env, "acme/refunds/1/full.csv", 5).await?;
    // The notification for the moved copy is skipped.
    let moved = test_env.fixture.account.list("processed/").await?;
    let response = test_env.deliver(&settings, &[&moved[0]]).await?;
    assert_eq!(summaries(&response.reports()?), ["skipped -"]);
    test_env.sweep(&settings).await?;
    assert_eq!(rows_by_file(&test_env, "orders").await?, ["full 3", "part 4"]);
    assert_eq!(rows_by_file(&test_env, "refunds").await?, ["full 5"]);
    let keys = test_env.fixture.account.keys("").await?;
    assert!(keys.len() == 3 && keys.iter().all(|key| key.starts_with("processed/")), "{keys:?}");
    assert!(keys[0].starts_with("processed/acme/orders/1/full."), "{keys:?}");
    Ok(())
}

const DATED: &str = "uploads/{table}/year={year}/month={month}/*.csv, uploads/{table}/*.csv";

#[tokio::test]
async fn key_columns_are_added_in_database_and_fallback() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, DATED).with("KEY_COLUMNS", "month, source_key, source_row, loaded_at");
    let keys = ["uploads/t/year=2026/month=01/a.csv", "uploads/t/year=2026/month=10/b.csv", "uploads/t/c.csv"];
    let columns = "file, month, source_key, source_row";
    let expected: Vec<Vec<Option<String>>> = keys
        .iter()
        .zip([("a", Some("01")), ("b", Some("10")), ("c", None)])
        .flat_map(|(key, (file, month))| {
            [1, 2].map(|row| {
                let row = row.to_string();
                [Some(file), month, Some(key), Some(&row)].map(|value| value.map(str::to_owned)).to_vec()
            })
        })
        .collect();
    // The files fall back, and are replayed.
    test_env.sql("CREATE TABLE {schema}.t (nothing INT) ENGINE=InnoDB").await?;
    for key in keys {
        let object = put(&test_env, key, 2).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    let account = &test_env.fixture.account;
    let query = format!("SELECT {columns} FROM t ORDER BY file, source_row");
    assert_eq!(athena::query(account, GLUE_DATABASE, &query).await?, expected);
    let table = describe(account, GLUE_DATABASE, "t").await?.context("Glue has no table")?;
    let storage = table.storage_descriptor().context("the table has no storage descriptor")?;
    let types: Vec<&str> = storage.columns().iter().skip(4).filter_map(|column| column.r#type()).collect();
    assert_eq!(types, ["string", "string", "bigint", "timestamp"]);
    test_env.sql("DROP TABLE {schema}.t").await?;
    assert_eq!(summaries(&test_env.replay(&settings).await?), ["replayed t"; 3]);
    let query = format!("SELECT {columns} FROM {{schema}}.t ORDER BY file, source_row");
    assert_eq!(test_env.rows(&query).await?, expected);
    let times = "SELECT COUNT(DISTINCT loaded_at), MIN(loaded_at) > NOW() - INTERVAL 1 DAY FROM {schema}.t";
    let plain = |rows: Vec<Vec<Option<String>>>| rows.concat().into_iter().flatten().collect::<Vec<_>>().join(" ");
    assert_eq!(plain(test_env.rows(times).await?), "3 1");
    Ok(())
}

#[tokio::test]
async fn file_column_takes_precedence_over_key_column() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, DATED).with("KEY_COLUMNS", "month,year");
    let body = "id,Month\n1,march\n2,april\n";
    let object = test_env.fixture.account.put("uploads/t/year=2026/month=03/a.csv", body).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let empty = test_env.fixture.account.put("uploads/t/year=2026/month=03/empty.csv", "").await?;
    test_env.deliver_until_accepted(&settings, &[&empty]).await?;
    let rows = test_env.rows("SELECT CAST(id AS CHAR), `Month`, month_2, year FROM {schema}.t ORDER BY id").await?;
    let row = |values: [&str; 4]| values.map(|value| Some(value.to_owned())).to_vec();
    assert_eq!(rows, [row(["1", "march", "03", "2026"]), row(["2", "april", "03", "2026"])]);
    Ok(())
}

/// JSON events of two topics, in one file with many events and in files with one event each.
#[rstest]
#[tokio::test]
async fn json_events_of_two_topics_load_once_into_two_tables(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = by_pattern(&test_env, "{table}/**")
        .with("UPLOAD_PREFIX", "sale_events/,inventory_events/")
        .with("KEY_COLUMNS", "source_row");
    let account = &test_env.fixture.account;
    let many = account.put("sale_events/2026/11/20/events.jsonl", lines(Topic::Sale, 0..40, &[])).await?;
    let mut objects = vec![many];
    for number in 0..4 {
        let key = format!("inventory_events/2026/11/20/event-{number}.json");
        objects.push(account.put(&key, Topic::Inventory.event(number).to_string()).await?);
    }
    let objects: Vec<_> = objects.iter().collect();
    for _twice in 0..2 {
        test_env.deliver_until_accepted(&settings, &objects).await?;
    }
    for (topic, count) in [(Topic::Sale, 40), (Topic::Inventory, 4)] {
        let table = quoted(&test_env, topic.folder());
        let found =
            joined_rows(&test_env, &format!("SELECT request_id, sku, qty FROM {table} ORDER BY request_id")).await?;
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let expected: Vec<String> = (0..count)
            .map(|number| topic.event(number))
            .map(|event| format!("{} {} {}", text(&event, "request_id"), text(&event, "sku"), event["qty"]))
            .collect();
        assert_eq!(found, expected);
    }
    // Optional fields are NULL where they are missing.
    let sales = quoted(&test_env, Topic::Sale.folder());
    let found =
        joined_rows(&test_env, &format!("SELECT COUNT(*), COUNT(priority_shipping), COUNT(sales) FROM {sales}"))
            .await?;
    assert_eq!(found, ["40 20 40"]);
    let found =
        joined_rows(&test_env, &format!("SELECT COUNT(DISTINCT source_row), MAX(source_row) FROM {sales}")).await?;
    assert_eq!(found, ["40 40"]);
    assert_eq!(tables(&test_env).await?, ["inventory_events", "sale_events"]);
    Ok(())
}

/// A truncated event rejects its whole file, with the position in the reason. Other files are loaded.
#[tokio::test]
async fn broken_json_events_reject_only_their_file() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = by_pattern(&test_env, "{table}/**").with("UPLOAD_PREFIX", "sale_events/,inventory_events/");
    let account = &test_env.fixture.account;
    let broken = account.put("sale_events/broken.jsonl", lines(Topic::Sale, 0..40, &[7, 23])).await?;
    let good = account.put("sale_events/good.jsonl", lines(Topic::Sale, 40..50, &[])).await?;
    let stock = account.put("inventory_events/1.json", Topic::Inventory.event(1).to_string()).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&broken, &good, &stock]).await?;
    assert_eq!(
        summaries(&response.reports()?),
        ["rejected sale_events", "loaded sale_events", "loaded inventory_events"]
    );
    let failed = account.keys("failed/broken.").await?;
    let note: Value = serde_json::from_slice(&account.get(&failed[1]).await?)?;
    assert_eq!((&note["kind"], &note["record"]), (&json!("file_broken"), &json!(8)), "{note}");
    let sales = quoted(&test_env, Topic::Sale.folder());
    assert_eq!(
        joined_rows(&test_env, &format!("SELECT COUNT(*), MIN(request_id) FROM {sales}")).await?,
        ["10 s-00000040"]
    );
    Ok(())
}

/// With `MAX_REJECTS`, truncated events are rejected byte for byte, and loaded once they are corrected.
#[rstest]
#[tokio::test]
async fn corrected_json_events_load_after_rejection(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = by_pattern(&test_env, "{table}/**")
        .with("UPLOAD_PREFIX", "sale_events/,inventory_events/")
        .with("MAX_REJECTS", 2);
    let account = &test_env.fixture.account;
    let sent = lines(Topic::Sale, 0..40, &[7, 23]);
    let many = account.put("sale_events/events.jsonl", sent.clone()).await?;
    let stock = account.put("inventory_events/1.json", Topic::Inventory.event(1).to_string()).await?;
    for _twice in 0..2 {
        test_env.deliver_until_accepted(&settings, &[&many, &stock]).await?;
    }
    let (sales, stocks) = (quoted(&test_env, Topic::Sale.folder()), quoted(&test_env, Topic::Inventory.folder()));
    assert_eq!(
        joined_rows(&test_env, &format!("SELECT COUNT(*), COUNT(DISTINCT request_id) FROM {sales}")).await?,
        ["38 38"]
    );
    assert_eq!(joined_rows(&test_env, &format!("SELECT COUNT(*) FROM {stocks}")).await?, ["1"]);

    let keys = account.keys("rejected/sale_events/").await?;
    ensure!(keys.len() == 2 && keys[0].ends_with(".json") && keys[1].ends_with(".jsonl"), "{keys:?}");
    let bad: String = [7, 23].iter().filter_map(|number| sent.split_inclusive('\n').nth(*number)).collect();
    assert_eq!(String::from_utf8(account.get(&keys[0]).await?)?, bad);
    let notes = String::from_utf8(account.get(&keys[1]).await?)?;
    let notes: Vec<Value> = notes.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let positions: Vec<_> = notes.iter().map(|note| (&note["record"], &note["line"], &note["code"])).collect();
    assert_eq!(positions, [(&json!(8), &json!(8), &json!("not_json")), (&json!(24), &json!(24), &json!("not_json"))]);
    let ledger =
        "SELECT rows_parsed, rows_stored, rows_rejected FROM {schema}.spillway_ledger WHERE object_key LIKE 'sale%'";
    assert_eq!(joined_rows(&test_env, ledger).await?, ["40 38 2"]);

    let corrected = lines(Topic::Sale, 7..8, &[]) + &lines(Topic::Sale, 23..24, &[]);
    account.put(&keys[0], corrected).await?;
    for _twice in 0..2 {
        let response = test_env.invoke_ingest(&settings, &json!({ "rejects": keys[0] })).await?;
        response.ensure_success()?;
    }
    assert_eq!(
        joined_rows(&test_env, &format!("SELECT COUNT(*), COUNT(DISTINCT request_id) FROM {sales}")).await?,
        ["40 40"]
    );
    Ok(())
}
