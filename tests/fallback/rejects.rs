//! Rejected records: they are written byte for byte, once, and can be corrected and loaded.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::cloud::Object;
use spillway_test_env::database::{Engine, Rows, texts};
use spillway_test_env::fixture::{Counted, Input, file};
use spillway_test_env::test_env::TestEnv;

const KEY: &str = "uploads/orders.csv";
const HEADER: &[u8] = b"file,record,checksum,note\n";
/// Records with too few fields, with too many fields and a quoted line break, and with text after a closing quote.
const BAD: [&[u8]; 3] = [b"orders,short\n", b"orders,1,c,\"two\nlines\",more\n", b"orders,2,\"c\"x,\"\n"];

/// Uploads a file with good records, and bad ones at its beginning, in the middle and at its end.
async fn upload(test_env: &mut TestEnv, key: &str, records: usize) -> Result<Object> {
    let (body, rows) = file(key, records);
    let good = &body[HEADER.len()..];
    // Every sixth note is `plain`, on one line.
    let middle = good.windows(6).position(|part| part == b"plain\"").context("no plain record")? + 7;
    let body = [HEADER, BAD[0], &good[..middle], BAD[1], &good[middle..], BAD[2]].concat();
    let object = test_env.fixture.account.put(key, body).await?;
    test_env.fixture.inputs.push(Input { object: object.clone(), rows });
    Ok(object)
}

/// The reject file of the only source that has one: its key, its bytes, and the entries of its report.
async fn rejects(test_env: &TestEnv) -> Result<(String, Vec<u8>, Vec<Value>)> {
    let keys = test_env.fixture.account.keys("rejected/").await?;
    ensure!(keys.len() == 2 && keys[0].ends_with(".csv") && keys[1].ends_with(".jsonl"), "{keys:?}");
    let records = test_env.fixture.account.get(&keys[0]).await?;
    let notes = String::from_utf8(test_env.fixture.account.get(&keys[1]).await?)?;
    Ok((keys[0].clone(), records, notes.lines().map(serde_json::from_str).collect::<Result<_, _>>()?))
}

/// The ledger's counts of parsed, stored and rejected rows, and the state.
async fn ledger_counts(test_env: &TestEnv, key: &str) -> Result<Rows> {
    let columns = "CONCAT(rows_parsed, ''), CONCAT(rows_stored, ''), CONCAT(rows_rejected, ''), state";
    test_env.rows(&format!("SELECT {columns} FROM {{schema}}.spillway_ledger WHERE object_key = '{key}'")).await
}

#[rstest]
#[case::buffered("8388608", "3")]
#[case::streamed("0", "2%")]
#[tokio::test]
async fn bad_records_are_rejected_and_the_rest_loads(#[case] buffer_bytes: &str, #[case] limit: &str) -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = upload(&mut test_env, KEY, 200).await?;
    let settings = test_env.settings().with("MAX_REJECTS", limit).with("BUFFER_MAX_BYTES", buffer_bytes);
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.body["reports"][0];
    assert_eq!(
        (&report["rows_parsed"], &report["rows_stored"], &report["rows_rejected"]),
        (&json!(203), &json!(200), &json!(3))
    );
    let (key, records, notes) = rejects(&test_env).await?;
    assert_eq!(report["rejects"], json!(key));
    assert_eq!(records, [HEADER, BAD[0], BAD[1], BAD[2]].concat());
    let codes: Vec<&str> = notes.iter().filter_map(|note| note["code"].as_str()).collect();
    assert_eq!(codes, ["field_count", "field_count", "after_quote"]);
    assert_eq!(
        (&notes[0]["record"], &notes[0]["line"], &notes[0]["byte"]),
        (&json!(1), &json!(2), &json!(HEADER.len()))
    );
    assert_eq!(ledger_counts(&test_env, KEY).await?, texts(&[["203", "200", "3", "loaded"]]));
    assert_eq!(test_env.count().await?, Counted { database: 200, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::none("0", "4 fields expected")]
#[case::count("2", "more than 2 records are bad")]
#[case::share("1%", "3 of 203 records are bad")]
#[tokio::test]
async fn too_many_bad_records_reject_the_file(#[case] limit: &str, #[case] reason: &str) -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = upload(&mut test_env, KEY, 200).await?;
    for input in &mut test_env.fixture.inputs {
        input.rows.clear();
    }
    test_env.deliver_until_accepted(&test_env.settings().with("MAX_REJECTS", limit), &[&object]).await?;
    let (state, why) = test_env.ledger(KEY).await?.context("the ledger has no entry")?;
    assert_eq!(state, "rejected");
    ensure!(why.contains(reason), "{why}");
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, Vec::<String>::new());
    assert_eq!(test_env.count().await?, Counted::default());
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::load_data(Engine::MariaDb, "auto")]
#[case::insert(Engine::MariaDb, "insert")]
#[case::copy(Engine::Postgres, "auto")]
#[tokio::test]
async fn values_that_do_not_fit_are_rejected(#[case] engine: Engine, #[case] method: &str) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let text = "id,name\n1,a\nx,b\n2\n3,\"too long\"\n4,d\n";
    let object = test_env.fixture.account.put(KEY, text).await?;
    let settings = test_env.settings().with("RDS_LOAD_METHOD", method);
    test_env.deliver_until_accepted(&settings.clone().with("MAX_REJECTS", 3), &[&object]).await?;
    let rows = test_env.rows("SELECT CONCAT(id, ''), name FROM {schema}.orders ORDER BY id").await?;
    assert_eq!(rows, [["1", "a"], ["4", "d"]].map(|row| row.map(|value| Some(value.to_owned())).to_vec()));
    let (_, records, notes) = rejects(&test_env).await?;
    assert_eq!(String::from_utf8(records)?, "id,name\nx,b\n2\n3,\"too long\"\n");
    let seen: Vec<_> = notes.iter().map(|note| (note["code"].as_str(), note["column"].as_str())).collect();
    let expected =
        [(Some("value_refused"), Some("id")), (Some("field_count"), None), (Some("value_refused"), Some("name"))];
    assert_eq!(seen, expected);
    ensure!(!notes.iter().any(|note| note.to_string().contains("too long\\\"")), "a value is in the report: {notes:?}");
    assert_eq!(ledger_counts(&test_env, KEY).await?, texts(&[["5", "2", "3", "loaded"]]));
    Ok(())
}

/// A file of which the table refuses every record has nothing to load, whatever its size and the limit.
#[rstest]
#[tokio::test]
async fn file_whose_values_are_all_refused_falls_back(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("8388608", "0")] buffer_bytes: &str,
    #[values(1, 20_000)] records: usize,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    test_env.sql("INSERT INTO {schema}.orders VALUES (1, 'kept')").await?;
    let lines: String = (0..records).map(|record| format!("{record},long name {record}\n")).collect();
    let object = test_env.fixture.account.put(KEY, format!("id,name\n{lines}")).await?;
    let settings = test_env.settings().with("MAX_REJECTS", 50_000).with("BUFFER_MAX_BYTES", buffer_bytes);
    let settings = settings.with("LOAD_MODE", "replace");
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.body["reports"][0];
    assert_eq!((&report["outcome"], &report["rows_rejected"]), (&json!("fell_back"), &json!(0)), "{report}");
    let (state, why) = test_env.ledger(KEY).await?.context("the ledger has no entry")?;
    assert_eq!(state, "fell_back");
    ensure!(
        why.contains("does not fit its column") && why.contains("record 1,") && why.contains("column name"),
        "{why}"
    );
    assert_eq!(test_env.fixture.account.keys("rejected/").await?, Vec::<String>::new());
    assert_eq!(test_env.rows("SELECT name FROM {schema}.orders").await?, texts(&[["kept"]]));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn rejects_that_are_not_corrected_stay_in_place(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5))").await?;
    let object = test_env.fixture.account.put(KEY, "id,name\n1,a\nx,b\ny,c\n").await?;
    let settings = test_env.settings().with("MAX_REJECTS", 5);
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (key, records, _) = rejects(&test_env).await?;
    let response = test_env.invoke_ingest(&settings, &json!({ "rejects": key })).await?;
    ensure!(response.is_failure(), "{}", response.body);
    assert_eq!(test_env.fixture.account.get(&key).await?, records);
    assert_eq!(test_env.fixture.account.keys("rejected/").await?.len(), 2);
    assert_eq!(test_env.rows("SELECT name FROM {schema}.orders").await?, texts(&[["a"]]));
    Ok(())
}

#[tokio::test]
async fn too_many_bad_values_fall_back_without_bad_records() -> Result<()> {
    let test_env = TestEnv::new().await?;
    test_env.sql("CREATE TABLE {schema}.orders (id INT, name VARCHAR(5)) ENGINE=InnoDB").await?;
    let object = test_env.fixture.account.put(KEY, "id,name\n1,a\nx,b\n2\ny,c\n").await?;
    let settings = test_env.settings().with("MAX_REJECTS", 2);
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (_, records, _) = rejects(&test_env).await?;
    assert_eq!(String::from_utf8(records)?, "id,name\n2\n");
    assert_eq!(ledger_counts(&test_env, KEY).await?, texts(&[["4", "3", "1", "fell_back"]]));
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    assert_eq!((&reports[0]["rows_stored"], &reports[0]["rows_rejected"]), (&json!(3), &json!(1)));
    assert_eq!(ledger_counts(&test_env, KEY).await?, texts(&[["4", "3", "1", "loaded"]]));
    Ok(())
}

#[tokio::test]
async fn corrected_rejects_load_once() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().with("MAX_REJECTS", 1);
    let object = test_env.fixture.account.put(KEY, "id,name\n1,a\n2\n").await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (key, records, _) = rejects(&test_env).await?;
    let corrected = String::from_utf8(records)?.replace("2\n", "2,b\n");
    test_env.fixture.account.put(&key, corrected).await?;
    for _ in 0..2 {
        let response = test_env.invoke_ingest(&settings, &json!({ "rejects": key })).await?;
        response.ensure_success()?;
    }
    let rows = test_env.rows("SELECT CONCAT(id, ''), name FROM {schema}.orders ORDER BY id").await?;
    assert_eq!(rows, [["1", "a"], ["2", "b"]].map(|row| row.map(|value| Some(value.to_owned())).to_vec()));
    let processed = test_env.fixture.account.keys("processed/rejected/orders/").await?;
    assert_eq!(processed.len(), 1, "{processed:?}");
    let refused = test_env.invoke_ingest(&settings, &json!({"rejects": "uploads/orders.csv"})).await?;
    ensure!(refused.is_failure(), "a key that is not a reject file was accepted");
    Ok(())
}

#[tokio::test]
async fn corrected_rejects_keep_key_columns_of_original() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().without("RDS_TABLE").with("MAX_REJECTS", 2);
    let settings = settings.with("TABLE_PATTERN", "uploads/{region}/{table}.csv").with("KEY_COLUMNS", "region");
    let object = test_env.fixture.account.put("uploads/north/orders.csv", "id,name\n1,a\n2\n3\n").await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (key, records, notes) = rejects(&test_env).await?;
    assert_eq!(notes[0]["object_key"], json!("uploads/north/orders.csv"));
    // One record is still bad. Its new reject file refers to the original file too.
    let corrected = String::from_utf8(records)?.replace("2\n", "2,b\n");
    test_env.fixture.account.put(&key, corrected).await?;
    let response = test_env.invoke_ingest(&settings, &json!({ "rejects": key })).await?;
    response.ensure_success()?;
    let keys = test_env.fixture.account.keys("rejected/orders/").await?;
    let again = keys.iter().find(|again| again.ends_with(".csv")).context("no record was rejected again")?;
    let notes_key = again.replace(".csv", ".jsonl");
    let notes = test_env.fixture.account.get(&notes_key).await?;
    ensure!(String::from_utf8(notes)?.contains(r#""object_key":"uploads/north/orders.csv""#));
    let rows = test_env.rows("SELECT CONCAT(id, ''), region FROM {schema}.orders ORDER BY id").await?;
    assert_eq!(rows, [["1", "north"], ["2", "north"]].map(|row| row.map(|value| Some(value.to_owned())).to_vec()));

    // Without the report the key columns would be empty, so the file is rejected with this reason.
    test_env.fixture.account.s3.delete_object().bucket(&test_env.fixture.account.bucket).key(&notes_key).send().await?;
    let response = test_env.invoke_ingest(&settings, &json!({ "rejects": again })).await?;
    let (state, why) = test_env.ledger(again).await?.context("the ledger has no entry")?;
    assert_eq!(state, "rejected", "{} {}", response.body, response.logs);
    ensure!(why.contains("object_key") && why.contains("KEY_COLUMNS"), "{why}");
    assert_eq!(test_env.rows("SELECT id FROM {schema}.orders").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn worker_killed_after_writing_rejects_duplicates_nothing() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = upload(&mut test_env, KEY, 200).await?;
    let settings = test_env.settings().with("MAX_REJECTS", 3);
    let (call, _pause) = test_env.pause_trigger(&settings, "RejectsWritten", &object).await?;
    let written = rejects(&test_env).await?;
    ensure!(call.kill().await?.was_killed(), "the function was not killed");
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(rejects(&test_env).await?, written);
    assert_eq!(ledger_counts(&test_env, KEY).await?, texts(&[["203", "200", "3", "loaded"]]));
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}
