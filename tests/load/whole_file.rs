//! What only a whole file shows: the order of day and month, the encoding, the lines at the end, and the file in an archive.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::test_env::TestEnv;

use crate::load::formats::{Way, upload_and_load};
use crate::load::modes::upload;

const DATES: &str = "id,day,note\n1,01/02/2024,05/06/2024\n2,13/02/2024,\n3,,x\n";
const DATE_QUERY: &str = "SELECT CAST(day AS CHAR(10)), note FROM {schema}.orders ORDER BY id";

/// Rows as a query returns them.
fn texts<const COLUMNS: usize>(rows: &[[Option<&str>; COLUMNS]]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.iter().map(|value| value.map(str::to_owned)).collect()).collect()
}

fn date_rows() -> Vec<Vec<Option<String>>> {
    texts(&[[Some("2024-02-01"), Some("05/06/2024")], [Some("2024-02-13"), None], [None, Some("x")]])
}

/// A date column gets dates, whichever way the file is read, and a text column keeps the text of the file.
#[rstest]
#[tokio::test]
async fn dates_are_stored_if_the_file_proves_their_order(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values(true, false)] table_exists: bool,
    #[values("0", "8388608")] buffer_max_bytes: &str,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    if table_exists {
        test_env.sql("CREATE TABLE {schema}.orders (id int, day date, note varchar(20))").await?;
    }
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", buffer_max_bytes);
    let (_, report) = upload(&test_env, &settings, "uploads/a.csv", DATES).await?;
    ensure!(report["outcome"] == json!("loaded"), "{report}");
    assert_eq!(test_env.rows(DATE_QUERY).await?, date_rows());
    // Each file has to prove the order itself.
    let (_, report) = upload(&test_env, &settings, "uploads/b.csv", "id,day\n4,01/02/2024\n").await?;
    ensure!(report["outcome"] == json!("fell_back"), "{report}");
    Ok(())
}

#[tokio::test]
async fn dates_in_the_fallback_keep_the_order_of_their_file() -> Result<()> {
    let test_env = TestEnv::new().await?;
    upload_and_load(&test_env, "uploads/a.csv", DATES.as_bytes(), Way::Replayed).await?;
    assert_eq!(test_env.rows(DATE_QUERY).await?, date_rows());
    Ok(())
}

#[tokio::test]
async fn encoding_is_detected() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().with("CSV_ENCODING", "auto");
    let western = b"id,name\n1,J\xfcrgen M\xfcller\n2,Zo\xeb Bront\xeb\n".to_vec();
    for (key, body) in [("uploads/a.csv", western), ("uploads/b.csv", "id,name\n3,Łódź\n".into())] {
        let object = test_env.fixture.account.put(key, body).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    let names = test_env.rows("SELECT name FROM {schema}.orders ORDER BY id").await?;
    assert_eq!(names, texts(&[[Some("Jürgen Müller")], [Some("Zoë Brontë")], [Some("Łódź")]]));
    Ok(())
}

/// The rejects contain the skipped last line, so that the same settings read the corrected records.
#[tokio::test]
async fn corrected_records_of_a_file_with_a_footer_are_loaded() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().with("CSV_SKIP_FOOTER_LINES", 1).with("MAX_REJECTS", 1);
    let (_, report) = upload(&test_env, &settings, "uploads/a.csv", "id,note\n1,one\n2\nTotal: 2\n").await?;
    let counts = ["rows_stored", "rows_rejected"].map(|name| report[name].clone());
    assert_eq!(counts, [1, 1].map(Value::from), "{report}");
    let rejects = report["rejects"].as_str().context("no rejects")?;
    let records = String::from_utf8(test_env.fixture.account.get(rejects).await?)?;
    assert_eq!(records, "id,note\n2\nTotal: 2\n");
    test_env.fixture.account.put(rejects, "id,note\n2,two\nTotal: 2\n").await?;
    test_env.invoke_ingest(&settings, &json!({ "rejects": rejects })).await?.ensure_success()?;
    let notes = test_env.rows("SELECT note FROM {schema}.orders ORDER BY id").await?;
    assert_eq!(notes, texts(&[[Some("one")], [Some("two")]]));
    Ok(())
}

#[tokio::test]
async fn file_in_a_zip_archive_is_loaded() -> Result<()> {
    let test_env = TestEnv::new().await?;
    // The first byte belongs to the fuzz target.
    let archive = &include_bytes!("../../fuzz/seeds/compression/zip-folder-and-macos")[1..];
    let object = test_env.fixture.account.put("uploads/a.csv.zip", archive.to_vec()).await?;
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    let rows = test_env.rows("SELECT CONCAT(COUNT(*), ' ', MAX(name)) FROM {schema}.orders").await?;
    assert_eq!(rows, texts(&[[Some("40 name 98")]]));
    Ok(())
}
