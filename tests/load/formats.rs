//! JSON and Parquet in the whole pipeline, loaded or replayed from the fallback, and the same rows in every format.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, NullArray,
    RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spillway_test_env::database::Engine;
use spillway_test_env::fallback;
use spillway_test_env::fixture::{GLUE_DATABASE, GLUE_TABLE};
use spillway_test_env::test_env::TestEnv;

use crate::load::files::{gzip, zstd};

/// Lines with nested values, optional keys, and texts that mean NULL in other formats.
const EVENTS: &str = concat!(
    "{\"id\": 1, \"ts\": \"2024-05-01T10:00:00+02:00\", \"sku\": \"007\", \"tags\": [\"a\", {\"b\": 0.10}], \"big\": 9007199254740993}\n",
    "{\"sku\": \"NULL\", \"id\": 2, \"tags\": null, \"late\": true}\r\n",
    "\n",
    "{\"id\": 3, \"ts\": \"2024-05-01T10:00:00Z\", \"sku\": \"\", \"tags\": {\"x\": [\"tab\\t\", \"\\u0000\", \"it's\"]}, \"Late\": \"two\\nlines \\ud83e\\udd80\"}",
);

/// The tags of the first line.
const TAGS: &str = "[\"a\", {\"b\": 0.10}]";

const EVENT_COLUMNS: &str = "id, ts, sku, tags, big, late, Late_2";

/// The rows of [`EVENTS`], of which the first has these tags.
fn event_rows(tags: &str) -> Vec<Vec<Option<String>>> {
    let rows = [
        [Some("1"), Some("2024-05-01 08:00:00.000000"), Some("007"), Some(tags), Some("9007199254740993"), None, None],
        [Some("2"), None, Some("NULL"), None, None, Some("1"), None],
        [
            Some("3"),
            Some("2024-05-01 10:00:00.000000"),
            Some(""),
            Some("{\"x\": [\"tab\\t\", \"\\u0000\", \"it's\"]}"),
            None,
            None,
            Some("two\nlines 🦀"),
        ],
    ];
    rows.map(|row| row.map(|value| value.map(str::to_owned)).to_vec()).to_vec()
}

/// A JSON value as the server stores it. MySQL stores its meaning.
fn stored_json(text: &'static str, in_mysql: &'static str) -> &'static str {
    if Engine::MariaDb.is_mysql() { in_mysql } else { text }
}

/// The columns of a table with their types, as MariaDB names them. MySQL shows no width of an integer, and JSON is a type of its own.
async fn types(test_env: &TestEnv, table: &str) -> Result<Vec<String>> {
    let query = format!(
        "SELECT CONCAT(COLUMN_NAME, ' ', COLUMN_TYPE) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = '{{schema}}' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION"
    );
    let mut types: Vec<String> = test_env.rows(&query).await?.into_iter().filter_map(|mut row| row.remove(0)).collect();
    if Engine::MariaDb.is_mysql() {
        for column in &mut types {
            let (name, type_name) = column.rsplit_once(' ').context("a column without a type")?;
            let type_name = match type_name {
                "bigint" => "bigint(20)",
                "json" => "longtext",
                other => other,
            };
            *column = format!("{name} {type_name}");
        }
    }
    Ok(types)
}

/// A table without the file's columns, so that the file falls back. After it is dropped, a replay creates a new table.
const UNSUITABLE_TABLE: &str = "CREATE TABLE {schema}.orders (other INT)";

/// The way of a file's rows to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They are loaded.
    Loaded,
    /// They fall back, and are replayed.
    Replayed,
}

/// Uploads an object, and loads or replays it.
pub(super) async fn upload_and_load(test_env: &TestEnv, key: &str, body: &[u8], way: Way) -> Result<()> {
    let object = test_env.fixture.account.put(key, body.to_vec()).await?;
    let settings = test_env.settings();
    if way == Way::Loaded {
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
        return Ok(());
    }
    test_env.sql(UNSUITABLE_TABLE).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (state, why) = test_env.ledger(key).await?.context("the ledger has no entry")?;
    ensure!(state == "fell_back", "{state}: {why}");
    test_env.sql("DROP TABLE {schema}.orders").await?;
    let reports = test_env.replay(&settings).await?;
    ensure!(reports.len() == 1 && reports[0]["outcome"] == json!("replayed"), "{reports:?}");
    Ok(())
}

#[rstest]
#[case::loaded(Way::Loaded)]
#[case::replayed(Way::Replayed)]
#[tokio::test]
async fn json_lines_load_with_nested_values_and_late_keys(#[case] way: Way) -> Result<()> {
    let test_env = TestEnv::new().await?;
    upload_and_load(&test_env, "uploads/events.jsonl", EVENTS.as_bytes(), way).await?;
    let rows = test_env.rows(&format!("SELECT {EVENT_COLUMNS} FROM {{schema}}.orders ORDER BY id")).await?;
    assert_eq!(rows, event_rows(stored_json(TAGS, "[\"a\", {\"b\": 0.1}]")));
    let expected = [
        "id bigint(20)",
        "ts datetime(6)",
        "sku text",
        "tags longtext",
        "big bigint(20)",
        "late tinyint(1)",
        "Late_2 text",
    ];
    assert_eq!(types(&test_env, "orders").await?, expected);
    let json = "SELECT JSON_VALUE(tags, '$.x[2]') FROM {schema}.orders WHERE id = 3";
    assert_eq!(test_env.rows(json).await?, [[Some("it's".to_owned())]]);
    Ok(())
}

/// The JSON string `NA` is neither NULL nor a number, so it does not fit a number column.
#[tokio::test]
async fn json_string_in_number_column_is_not_null() -> Result<()> {
    let test_env = TestEnv::new().await?;
    test_env.sql("CREATE TABLE {schema}.orders (id BIGINT, n BIGINT)").await?;
    let body = b"{\"id\": 1, \"n\": \"42\"}\n{\"id\": 2, \"n\": \"NA\"}\n";
    let object = test_env.fixture.account.put("uploads/words.json", body.to_vec()).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    let (state, why) = test_env.ledger(&object.key).await?.context("the ledger has no entry")?;
    ensure!(state == "fell_back" && why.contains("record 2") && why.contains("column n"), "{state}: {why}");
    let found = fallback::read(&test_env.fixture.account, GLUE_DATABASE, GLUE_TABLE, "fallback/orders/").await?;
    let words: Vec<_> = found.rows.iter().map(|row| row["n"].as_deref()).collect();
    assert_eq!(words, [Some("42"), Some("NA")]);
    Ok(())
}

/// PostgreSQL loads the same files. Its type `json` keeps the text of nested values.
#[tokio::test]
async fn json_and_parquet_load_into_postgres() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    upload_and_load(&test_env, "uploads/events.jsonl", EVENTS.as_bytes(), Way::Loaded).await?;
    let rows = test_env.rows("SELECT id, sku, tags, big, \"Late_2\" FROM {schema}.orders ORDER BY id").await?;
    let expected: Vec<Vec<Option<String>>> =
        event_rows(TAGS).iter().map(|row| [0, 2, 3, 4, 6].map(|place| row[place].clone()).to_vec()).collect();
    assert_eq!(rows, expected);
    let object = test_env.fixture.account.put("uploads/types.parquet", every_type()?).await?;
    test_env.deliver_until_accepted(&test_env.settings().with("RDS_TABLE", "types"), &[&object]).await?;
    let query = "SELECT whole, large, money, odd, clock, fine, word, tags FROM {schema}.types ORDER BY odd DESC";
    let expected = [
        "-9223372036854775808",
        "18446744073709551615",
        "-1.250",
        "NaN",
        "01:02:03.000004",
        "1970-01-01 00:00:00.000000001",
        "007",
        "[\"a\\\"b\",null]",
    ];
    assert_eq!(test_env.rows(query).await?[0], expected.map(|value| Some(value.to_owned())));
    Ok(())
}

/// `json.dumps` of Python writes NaN.
#[rstest]
#[case(Engine::MariaDb)]
#[case(Engine::Postgres)]
#[tokio::test]
async fn json_nan_is_null_and_infinity_is_refused(#[case] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let body = b"{\"id\": 1, \"temp\": 21.5, \"note\": \"NaN\"}\n{\"id\": 2, \"temp\": NaN, \"note\": NaN}\n";
    upload_and_load(&test_env, "uploads/nan.jsonl", body, Way::Loaded).await?;
    let rows = test_env.rows("SELECT id, temp, note FROM {schema}.orders ORDER BY id").await?;
    let expected = [[Some("1"), Some("21.5"), Some("NaN")], [Some("2"), None, None]];
    assert_eq!(rows, expected.map(|row| row.map(|value| value.map(str::to_owned)).to_vec()));
    let body = b"{\"id\": 3, \"temp\": -Infinity}\n".to_vec();
    let object = test_env.fixture.account.put("uploads/infinity.jsonl", body).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    let (state, why) = test_env.ledger(&object.key).await?.context("the ledger has no entry")?;
    ensure!(state == "fell_back" && why.contains("record 1") && why.contains("column temp"), "{state}: {why}");
    Ok(())
}

/// A Parquet FLOAT has its own shortest digits, so a new double column shows what the writer saw, and a column of 32 bits
/// stores the same 32 bits.
#[rstest]
#[case(Engine::MariaDb, "FLOAT", "c + 0e0")]
#[case(Engine::Postgres, "real", "c::float8")]
#[tokio::test]
async fn parquet_float_is_exact(
    #[case] engine: Engine,
    #[case] column_type: &str,
    #[case] as_double: &str,
) -> Result<()> {
    let values = [0.1f32, -16_777_216.0, 3.402_823e38, 1.0e-45, 1.175_494_4e-38, 123_456.79, 0.0];
    let test_env = TestEnv::on(engine).await?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((1..=values.len() as i64).map(Some).collect::<Int64Array>())),
        ("c", Arc::new(values.iter().copied().map(Some).collect::<Float32Array>())),
    ];
    let body = parquet_file(columns, WriterProperties::default())?;
    test_env.sql(&format!("CREATE TABLE {{schema}}.orders (id BIGINT, c {column_type})")).await?;
    upload_and_load(&test_env, "uploads/existing.parquet", &body, Way::Loaded).await?;
    let rows =
        test_env.rows(&format!("SELECT CAST({as_double} AS CHAR(40)) FROM {{schema}}.orders ORDER BY id")).await?;
    for (row, value) in rows.iter().zip(values) {
        let stored: f64 = row[0].as_deref().unwrap_or_default().trim().parse()?;
        ensure!(
            (stored as f32).to_bits() == value.to_bits()
                && (stored - f64::from(value)).abs() <= f64::from(value).abs() * 1e-14,
            "{value:e}: {stored:e}"
        );
    }
    test_env.sql("DROP TABLE {schema}.orders").await?;
    upload_and_load(&test_env, "uploads/new.parquet", &body, Way::Loaded).await?;
    let rows = test_env.rows("SELECT c FROM {schema}.orders ORDER BY id").await?;
    assert_eq!(rows[0], [Some("0.1".to_owned())]);
    for (row, value) in rows.iter().zip(values) {
        ensure!(row[0].as_deref().unwrap_or_default().parse::<f64>()? == value.to_string().parse::<f64>()?, "{row:?}");
    }
    Ok(())
}

/// pandas writes a column without values with the type null, and its index as a column.
#[tokio::test]
async fn parquet_column_of_the_type_null_is_null() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let columns = || -> Vec<(&str, ArrayRef)> {
        vec![("a", Arc::new(NullArray::new(2))), ("__index_level_0__", Arc::new(Int64Array::from(vec![7, 8])))]
    };
    let body = parquet_file(columns(), WriterProperties::default())?;
    upload_and_load(&test_env, "uploads/new.parquet", &body, Way::Loaded).await?;
    let rows = test_env.rows("SELECT a, __index_level_0__ FROM {schema}.orders ORDER BY 2").await?;
    assert_eq!(rows, [[None, Some("7".to_owned())], [None, Some("8".to_owned())]]);
    test_env.sql("DROP TABLE {schema}.orders").await?;
    test_env.sql("CREATE TABLE {schema}.orders (a integer, __index_level_0__ bigint)").await?;
    upload_and_load(&test_env, "uploads/existing.parquet", &body, Way::Loaded).await?;
    assert_eq!(
        test_env.rows("SELECT count(*), count(a) FROM {schema}.orders").await?,
        [[Some("2".to_owned()), Some("0".to_owned())]]
    );
    Ok(())
}

/// A Parquet file with a column of every type.
fn every_type() -> Result<Vec<u8>> {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a\"b"), None]);
    tags.append_null();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("whole", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("large", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("money", Arc::new(Decimal128Array::from(vec![Some(-1250), None]).with_precision_and_scale(20, 3)?)),
        ("float", Arc::new(Float64Array::from(vec![Some(0.1), None]))),
        ("odd", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1.5)]))),
        ("day", Arc::new(Date32Array::from(vec![Some(19_782), None]))),
        ("clock", Arc::new(Time64MicrosecondArray::from(vec![Some(3_723_000_004), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]))),
        ("instant", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("UTC"))),
        ("fine", Arc::new(TimestampNanosecondArray::from(vec![Some(1), None]))),
        ("word", Arc::new(StringArray::from(vec![Some("007"), None]))),
        ("tags", Arc::new(tags.finish())),
    ];
    parquet_file(columns, WriterProperties::default())
}

pub(super) fn parquet_file(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Result<Vec<u8>> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

#[rstest]
#[case::buffered(Way::Loaded, 67_108_864)]
#[case::read_by_ranges(Way::Loaded, 0)]
#[case::replayed(Way::Replayed, 67_108_864)]
#[tokio::test]
async fn parquet_keeps_its_types(#[case] way: Way, #[case] buffer_bytes: u64) -> Result<()> {
    let test_env = TestEnv::new().await?;
    match way {
        Way::Replayed => upload_and_load(&test_env, "uploads/types.parquet", &every_type()?, way).await?,
        Way::Loaded => {
            let object = test_env.fixture.account.put("uploads/types.parquet", every_type()?).await?;
            test_env
                .deliver_until_accepted(&test_env.settings().with("BUFFER_MAX_BYTES", buffer_bytes), &[&object])
                .await?;
        }
    }
    let expected = [
        ("flag tinyint(1)", "1"),
        ("whole bigint(20)", "-9223372036854775808"),
        ("large decimal(38,0)", "18446744073709551615"),
        ("money decimal(38,3)", "-1.250"),
        ("float double", "0.1"),
        ("odd text", "NaN"),
        ("day date", "2024-02-29"),
        ("clock text", "01:02:03.000004"),
        ("at datetime(6)", "1970-01-01 00:00:00.000001"),
        ("instant datetime(6)", "1970-01-01 00:00:00.000000"),
        ("fine text", "1970-01-01 00:00:00.000000001"),
        ("word text", "007"),
        ("tags longtext", stored_json("[\"a\\\"b\",null]", "[\"a\\\"b\", null]")),
    ];
    assert_eq!(types(&test_env, "orders").await?, expected.map(|(column, _)| column));
    let mut rows = test_env.rows("SELECT * FROM {schema}.orders ORDER BY odd DESC").await?;
    assert_eq!(rows.remove(0), expected.map(|(_, value)| Some(value.to_owned())));
    let is_empty = |(index, value): (usize, &Option<String>)| value.is_none() || index == 5;
    ensure!(rows.len() == 1 && rows[0].iter().enumerate().all(is_empty), "{rows:?}");
    let ledger =
        test_env.rows("SELECT body_sha256 <> REPEAT('0', 64), rows_stored FROM {schema}.spillway_ledger").await?;
    assert_eq!(ledger, [[Some("1".to_owned()), Some("2".to_owned())]]);
    Ok(())
}

#[rstest]
#[case::twice(
    "a.json",
    b"{\"a\":1}\n{\"a\":1,\"a\":2}\n",
    "the key \"a\" occurs twice at line 2, byte 17 (record 2, line 2, byte 8)"
)]
#[case::cut("a.json", b"[{\"a\":1},\n", "before the array's closing bracket (record 2, line 2, byte 10)")]
#[case::scalar("a.jsonl", b"{\"a\":1}\n\"secret\"\n", "the record is not an object (record 2, line 2, byte 8)")]
#[case::parquet("a.parquet", b"PAR1 and no footer", "does not end with the Parquet magic number")]
#[tokio::test]
async fn broken_files_are_rejected(#[case] name: &str, #[case] body: &[u8], #[case] reason: &str) -> Result<()> {
    let test_env = TestEnv::new().await?;
    let object = test_env.fixture.account.put(&format!("uploads/{name}"), body.to_vec()).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    let keys = test_env.fixture.account.keys("failed/").await?;
    let reason_key = keys.iter().find(|key| key.ends_with(".reason.json")).context("no reason")?;
    let report: Value = serde_json::from_slice(&test_env.fixture.account.get(reason_key).await?)?;
    let why = report["reason"].as_str().unwrap_or_default();
    ensure!(keys.len() == 2 && why.contains(reason) && !why.contains("secret"), "{keys:?}: {report}");
    Ok(())
}

/// The columns of a table with their types in `information_schema`, which every engine has.
async fn data_types(test_env: &TestEnv, table: &str) -> Result<Vec<Vec<Option<String>>>> {
    let query = format!(
        "SELECT column_name, data_type FROM information_schema.columns \
         WHERE table_schema = '{{schema}}' AND table_name = '{table}' ORDER BY ordinal_position"
    );
    test_env.rows(&query).await
}

/// The number of rows of a table, and a checksum of all values.
async fn dump(test_env: &TestEnv, table: &str) -> Result<(usize, String)> {
    let query = format!("SELECT id, amount, ratio, flag, day, note FROM {{schema}}.{table} ORDER BY id");
    let rows = test_env.rows(&query).await?;
    let mut hasher = Sha256::new();
    rows.iter().for_each(|row| hasher.update(format!("{row:?}")));
    Ok((rows.len(), hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The number of rows in each file of the matrix.
const ROWS: i64 = 50_000;

/// One row of the matrix, which is the same in every format.
struct MatrixRow {
    id: i64,
    amount: Option<i128>,
    ratio: f64,
    flag: Option<bool>,
    day: Option<i32>,
    note: Option<String>,
}

/// A row with quotes, delimiters, line breaks, texts that may mean NULL, and missing values.
fn matrix_row(id: i64) -> MatrixRow {
    let notes =
        ["plain", "a \"quoted\" word", "two\nlines", "comma, semicolon; tab\t", "NULL", "", "naïve ☂ 🦀", "\\N\\"];
    let on = |step: i64| id % step != 0;
    MatrixRow {
        id,
        amount: on(7).then_some(i128::from(id) * 17 - 1_000),
        ratio: id as f64 / 1024.0 * if id % 2 == 0 { 1e20 } else { 1e-9 },
        flag: on(5).then_some(id % 3 == 0),
        day: on(11).then_some((id % 20_000) as i32),
        note: on(13).then(|| format!("{}{}", notes[id as usize % notes.len()], if on(3) { "" } else { " x" })),
    }
}

fn amount_text(unscaled: i128) -> String {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs());
    format!("{sign}{}.{:02}", digits / 100, digits % 100)
}

fn day_text(days: i32) -> String {
    let day = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).expect("a day in range");
    day.to_string()
}

fn ratio_text(ratio: f64) -> String {
    format!("{ratio:e}")
}

fn csv(delimiter: char) -> Vec<u8> {
    let mut text = ["id", "amount", "ratio", "flag", "day", "note"].join(&delimiter.to_string());
    text.push('\n');
    for row in (1..=ROWS).map(matrix_row) {
        let fields = [
            row.id.to_string(),
            row.amount.map(amount_text).unwrap_or_default(),
            ratio_text(row.ratio),
            row.flag.map(|flag| flag.to_string()).unwrap_or_default(),
            row.day.map(day_text).unwrap_or_default(),
            row.note.map(|note| format!("\"{}\"", note.replace('"', "\"\""))).unwrap_or_default(),
        ];
        text.push_str(&fields.join(&delimiter.to_string()));
        text.push('\n');
    }
    text.into_bytes()
}

fn json_objects() -> impl Iterator<Item = String> {
    (1..=ROWS).map(matrix_row).map(|row| {
        let mut members = vec![format!("\"id\":{}", row.id)];
        // A missing value is null, or its key is missing.
        match row.amount {
            Some(amount) => members.push(format!("\"amount\":{}", amount_text(amount))),
            None if row.id % 2 == 0 => members.push("\"amount\":null".to_owned()),
            None => {}
        }
        members.push(format!("\"ratio\":{}", ratio_text(row.ratio)));
        members.push(format!("\"flag\":{}", row.flag.map_or("null".to_owned(), |flag| flag.to_string())));
        members.extend(row.day.map(|day| format!("\"day\":\"{}\"", day_text(day))));
        members.extend(row.note.map(|note| format!("\"note\":{}", Value::from(note))));
        format!("{{{}}}", members.join(","))
    })
}

fn matrix_parquet() -> Result<Vec<u8>> {
    let rows: Vec<MatrixRow> = (1..=ROWS).map(matrix_row).collect();
    let amounts: Decimal128Array = rows.iter().map(|row| row.amount).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>())),
        ("amount", Arc::new(amounts.with_precision_and_scale(18, 2)?)),
        ("ratio", Arc::new(rows.iter().map(|row| Some(row.ratio)).collect::<Float64Array>())),
        ("flag", Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>())),
        ("day", Arc::new(rows.iter().map(|row| row.day).collect::<Date32Array>())),
        ("note", Arc::new(rows.iter().map(|row| row.note.clone()).collect::<StringArray>())),
    ];
    parquet_file(columns, WriterProperties::builder().set_max_row_group_row_count(Some(20_000)).build())
}

/// The same rows in every format, uncompressed and compressed, create the same table.
#[rstest]
#[tokio::test]
async fn same_rows_in_every_format_create_same_table(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let lines = json_objects().collect::<Vec<_>>().join("\n").into_bytes();
    let array = format!("[\n{}\n]", json_objects().collect::<Vec<_>>().join(",\n")).into_bytes();
    let bodies = [("csv", csv(',')), ("jsonl", lines), ("json", array)];
    let mut files = vec![
        ("parquet".to_owned(), matrix_parquet()?),
        ("semicolons.csv".to_owned(), csv(';')),
        ("tsv".to_owned(), csv('\t')),
        ("tsv.zst".to_owned(), zstd(&csv('\t')).await?),
    ];
    for (ending, body) in &bodies {
        files.push(((*ending).to_owned(), body.clone()));
        files.push((format!("{ending}.gz"), gzip(body).await?));
        files.push((format!("{ending}.zst"), zstd(body).await?));
    }
    let mut first = None;
    for (ending, body) in files {
        let table = format!("t_{}", ending.replace('.', "_"));
        let key = format!("uploads/matrix.{ending}");
        test_env.fixture.account.put(&key, body).await?;
        let settings = test_env.settings().with("RDS_TABLE", &table).with("BUFFER_MAX_BYTES", 1_000_000);
        test_env.run_task_until_done(&settings, &key).await?;
        let found = (data_types(&test_env, &table).await?, dump(&test_env, &table).await?);
        ensure!(found.1.0 == ROWS as usize, "{ending}: {found:?}");
        match &first {
            None => first = Some(found),
            Some(expected) => ensure!(found == *expected, "{ending}: {found:?}, but Parquet created {expected:?}"),
        }
    }
    Ok(())
}
