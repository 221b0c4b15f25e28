//! Parquet values that are bytes: in binary columns, in text columns, and through the fallback.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray};
use parquet::file::properties::WriterProperties;
use rstest::rstest;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::{GLUE_DATABASE, GLUE_TABLE};
use spillway_test_env::test_env::TestEnv;
use spillway_test_env::{cloud::Object, fallback};

use crate::load::formats::{Way, parquet_file, upload_and_load};

/// Bytes that an engine could read as escapes, as hex digits, or as text in its character set.
fn values() -> Vec<Option<Vec<u8>>> {
    let every_byte: Vec<u8> = (0..=255).collect();
    // Longer than a BLOB, and not valid UTF-8.
    let long: Vec<u8> = (0..300_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    vec![
        Some(b"\\x41".to_vec()),
        Some(b"two\\\\slashes".to_vec()),
        Some(b"\\101\t\r\n\\N'\"".to_vec()),
        Some(b"NULL".to_vec()),
        Some(Vec::new()),
        None,
        Some(vec![0]),
        Some(vec![0xff, 0xc3, 0x28]),
        Some("\u{e4}\u{1f980}".as_bytes().to_vec()),
        Some(every_byte),
        Some(long),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file with the columns `id`, `raw` and `note`.
fn file(values: &[Option<Vec<u8>>]) -> Result<Vec<u8>> {
    let ids: Int64Array = (1..=values.len() as i64).map(Some).collect();
    let raw: BinaryArray = values.iter().map(Option::as_deref).collect();
    let notes: StringArray = (0..values.len()).map(|index| Some(format!("10.0.0.{index}"))).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(ids)), ("raw", Arc::new(raw)), ("note", Arc::new(notes))];
    parquet_file(columns, WriterProperties::default())
}

/// The bytes of the column `raw` in the order of `id`, in hex.
async fn stored(test_env: &TestEnv) -> Result<Vec<Option<String>>> {
    let expression = match test_env.fixture.schema.engine {
        Engine::MariaDb => "LOWER(HEX(raw))",
        Engine::Postgres => "encode(raw, 'hex')",
    };
    let rows = test_env.rows(&format!("SELECT {expression} FROM {{schema}}.orders ORDER BY id")).await?;
    Ok(rows.into_iter().map(|mut row| row.remove(0)).collect())
}

fn expected() -> Vec<Option<String>> {
    values().iter().map(|value| value.as_deref().map(hex)).collect()
}

async fn type_of_raw(test_env: &TestEnv) -> Result<Option<String>> {
    let query = "SELECT data_type FROM information_schema.columns \
         WHERE table_schema = '{schema}' AND table_name = 'orders' AND column_name = 'raw'";
    Ok(test_env.rows(query).await?.remove(0).remove(0))
}

/// An existing column gets exactly the bytes of the file, also if all of them are text.
#[rstest]
#[case::load_data(Engine::MariaDb, "CREATE TABLE {schema}.orders (id BIGINT, raw LONGBLOB, note TEXT)", "load-data")]
#[case::insert(Engine::MariaDb, "CREATE TABLE {schema}.orders (id BIGINT, raw LONGBLOB, note TEXT)", "insert")]
#[case::copy_binary(Engine::Postgres, "CREATE TABLE {schema}.orders (id bigint, raw bytea, note text)", "auto")]
#[case::copy_text(Engine::Postgres, "CREATE TABLE {schema}.orders (id bigint, raw bytea, note inet)", "auto")]
#[tokio::test]
async fn binary_column_gets_the_bytes_of_the_file(
    #[case] engine: Engine,
    #[case] table: &str,
    #[case] method: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql(table).await?;
    let settings = test_env.settings().with("RDS_LOAD_METHOD", method);
    let text_only: Vec<Option<Vec<u8>>> = values().drain(..6).collect();
    for (index, values) in [values(), text_only].iter().enumerate() {
        let key = format!("uploads/bytes-{index}.parquet");
        let object = test_env.fixture.account.put(&key, file(values)?).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
        let expected: Vec<_> = values.iter().map(|value| value.as_deref().map(hex)).collect();
        assert_eq!(stored(&test_env).await?, expected);
        test_env.sql("DELETE FROM {schema}.orders").await?;
    }
    Ok(())
}

/// A new table, created by the load or by a replay.
#[rstest]
#[case::mariadb(Engine::MariaDb, Way::Loaded, "longblob")]
#[case::mariadb_replayed(Engine::MariaDb, Way::Replayed, "longblob")]
#[case::postgres(Engine::Postgres, Way::Loaded, "bytea")]
#[case::postgres_replayed(Engine::Postgres, Way::Replayed, "bytea")]
#[tokio::test]
async fn new_table_has_a_binary_column(
    #[case] engine: Engine,
    #[case] way: Way,
    #[case] data_type: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    upload_and_load(&test_env, "uploads/bytes.parquet", &file(&values())?, way).await?;
    assert_eq!(type_of_raw(&test_env).await?.as_deref(), Some(data_type));
    assert_eq!(stored(&test_env).await?, expected());
    Ok(())
}

/// Old writers write strings as bytes. They stay text in a new table, and bytes in the replay of an existing one.
#[tokio::test]
async fn bytes_that_are_text_create_a_text_column() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let body = file(&[Some(b"\\x41".to_vec()), Some(b"b".to_vec())])?;
    upload_and_load(&test_env, "uploads/text.parquet", &body, Way::Loaded).await?;
    assert_eq!(type_of_raw(&test_env).await?.as_deref(), Some("text"));
    assert_eq!(test_env.rows("SELECT raw FROM {schema}.orders ORDER BY id").await?[0], [Some("\\x41".to_owned())]);
    test_env.sql("DROP TABLE {schema}.orders").await?;

    let settings = test_env.settings();
    test_env.sql("CREATE TABLE {schema}.orders (other INT)").await?;
    let object = test_env.fixture.account.put("uploads/again.parquet", body).await?;
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    test_env
        .sql("ALTER TABLE {schema}.orders ADD COLUMN id bigint, ADD COLUMN raw bytea, ADD COLUMN note text")
        .await?;
    test_env.replay(&settings).await?;
    assert_eq!(stored(&test_env).await?, [Some(hex(b"\\x41")), Some(hex(b"b"))]);
    Ok(())
}

/// The fallback stores bytes as the Glue type `binary`.
#[tokio::test]
async fn text_column_rejects_bytes_that_are_not_text() -> Result<()> {
    let test_env = TestEnv::new().await?;
    test_env.sql("CREATE TABLE {schema}.orders (id BIGINT, raw TEXT, note TEXT)").await?;
    let upload = async |key: &str, value: &[u8]| -> Result<Object> {
        let object = test_env.fixture.account.put(key, file(&[Some(value.to_vec())])?).await?;
        test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
        Ok(object)
    };
    upload("uploads/text.parquet", b"\\x41").await?;
    assert_eq!(test_env.rows("SELECT raw FROM {schema}.orders").await?, [[Some("\\x41".to_owned())]]);
    let object = upload("uploads/bytes.parquet", b"\xff\0").await?;
    let (state, why) = test_env.ledger(&object.key).await?.context("the ledger has no entry")?;
    ensure!(state == "fell_back" && why.contains("column raw") && why.contains("not UTF-8 text"), "{state}: {why}");
    let glue = fallback::describe(&test_env.fixture.account, GLUE_DATABASE, GLUE_TABLE).await?.context("no table")?;
    let columns = glue.storage_descriptor().map(|storage| storage.columns()).unwrap_or_default();
    let types: Vec<_> = columns.iter().map(|column| (column.name(), column.r#type().unwrap_or_default())).collect();
    assert_eq!(types, [("id", "bigint"), ("raw", "binary"), ("note", "string")]);
    Ok(())
}

/// The merge key is compared byte by byte.
#[rstest]
#[case(Engine::MariaDb)]
#[case(Engine::Postgres)]
#[tokio::test]
async fn bytes_can_be_a_merge_key(#[case] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "merge").with("MERGE_KEY", "raw");
    let key = |last: u8| Some(vec![0xff, last]);
    for (index, values) in [[key(b'a'), key(b'A')], [key(b'A'), key(b' ')]].iter().enumerate() {
        let object = test_env.fixture.account.put(&format!("uploads/{index}.parquet"), file(values)?).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    let rows = test_env.rows("SELECT id, note FROM {schema}.orders ORDER BY raw").await?;
    let expected = [["2", "10.0.0.1"], ["1", "10.0.0.0"], ["1", "10.0.0.0"]];
    assert_eq!(rows, expected.map(|row| row.map(|value| Some(value.to_owned())).to_vec()));
    assert_eq!(stored(&test_env).await?.len(), 3);
    Ok(())
}
