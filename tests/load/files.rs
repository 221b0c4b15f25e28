//! Files in the whole pipeline that are compressed, truncated or misnamed, and CSV dialects and encodings.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_compression::Level;
use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use aws_sdk_s3::primitives::ByteStream;
use rstest::rstest;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::{Counted, Input, file};
use spillway_test_env::run;
use spillway_test_env::task::Task;
use spillway_test_env::test_env::{TASK_TIMEOUT, TestEnv};
use tokio::io::AsyncWriteExt;

pub(crate) async fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzipEncoder::with_quality(Vec::new(), Level::Best);
    encoder.write_all(text).await?;
    encoder.shutdown().await?;
    Ok(encoder.into_inner())
}

pub(crate) async fn zstd(text: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(text).await?;
    encoder.shutdown().await?;
    Ok(encoder.into_inner())
}

/// Uploads an object and expects its rows.
pub(crate) async fn upload(test_env: &mut TestEnv, key: &str, body: Vec<u8>, rows: Vec<String>) -> Result<Object> {
    let object = test_env.fixture.account.put(key, body).await?;
    test_env.fixture.inputs.push(Input { object: object.clone(), rows });
    Ok(object)
}

#[tokio::test]
async fn every_gzip_member_is_loaded() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let (text, rows) = file("five", 500);
    let mut body = Vec::new();
    for part in text.chunks(text.len() / 5 + 1) {
        body.extend(gzip(part).await?);
    }
    body.extend([0; 512]);
    let object = upload(&mut test_env, "uploads/day/five.csv.gz", body, rows).await?;
    // Without a buffer. The decompressed file exceeds one transaction, so it is staged.
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", 0).with("ATOMIC_MAX_BYTES", object.size_bytes + 1);
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 500, fallback: 0 });
    let keys = test_env.fixture.account.keys("processed/").await?;
    ensure!(keys.len() == 1 && keys[0].starts_with("processed/day/five.") && keys[0].ends_with(".csv.gz"), "{keys:?}");
    let sha256 = test_env.rows("SELECT body_sha256 FROM {schema}.spillway_ledger").await?;
    let stored = test_env.fixture.account.get(&keys[0]).await?;
    assert_eq!(sha256, [[Some(hex(&stored))]], "the checksum is not that of the stored bytes");
    test_env.ensure_exactly_once().await
}

fn hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[rstest]
#[case::zstd("uploads/a.csv.zst", true, false, None)]
#[case::gzip_named_csv("uploads/a.csv", false, true, None)]
#[case::gzip_named_zstd("uploads/a.csv.zst", false, true, None)]
#[case::gzip_with_content_encoding("uploads/a.csv.gz", false, true, Some("gzip"))]
#[case::uncompressed_named_gzip("uploads/a.csv.gz", false, false, Some("gzip"))]
#[tokio::test]
async fn compression_is_detected_by_content(
    #[case] key: &str,
    #[case] is_zstd: bool,
    #[case] is_gzip: bool,
    #[case] content_encoding: Option<&str>,
) -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let (text, rows) = file("a", 300);
    let body = match (is_zstd, is_gzip) {
        (true, _) => zstd(&text).await?,
        (false, true) => gzip(&text).await?,
        (false, false) => text,
    };
    let account = &test_env.fixture.account;
    let size_bytes = body.len() as u64;
    let put = account.s3.put_object().bucket(&account.bucket).key(key).body(ByteStream::from(body));
    let response = put.set_content_encoding(content_encoding.map(str::to_owned)).send().await?;
    let etag = response.e_tag().context("no ETag")?.trim_matches('"').to_owned();
    let object = Object { key: key.to_owned(), size_bytes, etag };
    test_env.fixture.inputs.push(Input { object: object.clone(), rows });
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 300, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::truncated("the gzip data ends early")]
#[case::checksum("the gzip data cannot be decoded")]
#[case::garbage("other data follows the end of the gzip data")]
#[case::archive("the zip data ends early")]
#[case::twice("the object is compressed more than once")]
#[tokio::test]
async fn broken_compressed_file_is_rejected(#[case] reason: &str) -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let (text, _) = file("broken", 20_000);
    let mut body = gzip(&text).await?;
    match reason {
        "the gzip data ends early" => body.truncate(body.len() - 5),
        "the gzip data cannot be decoded" => {
            let checksum = body.len() - 6;
            body[checksum] ^= 1;
        }
        "other data follows the end of the gzip data" => body.extend(b"trailing"),
        "the zip data ends early" => body = b"PK\x03\x04 and so on".to_vec(),
        _ => body = gzip(&body).await?,
    }
    let object = test_env.fixture.account.put("uploads/broken.csv.gz", body).await?;
    test_env.fixture.expect_no_rows(object.clone());
    test_env.deliver_until_accepted(&test_env.settings(), &[&object]).await?;
    let (state, why) = test_env.ledger(&object.key).await?.context("the ledger has no entry")?;
    assert_eq!(state, "rejected");
    ensure!(why.contains(reason), "{why}");
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: 0 });
    let keys = test_env.fixture.account.keys("failed/").await?;
    ensure!(keys.len() == 2 && keys.iter().all(|key| key.starts_with("failed/broken.")), "{keys:?}");
    ensure!(keys[0].ends_with(".csv.gz") && keys[1].ends_with(".csv.gz.reason.json"), "{keys:?}");
    test_env.ensure_exactly_once().await
}

/// Ten gigabytes of rows, compressed a thousandfold, are rejected long before all are read, without more memory than any
/// other file.
#[tokio::test]
async fn decompression_bomb_is_rejected_in_constant_memory() -> Result<()> {
    const MEMBERS: usize = 1000;
    let test_env = TestEnv::new().await?;
    let member = gzip(&b"1,2\n".repeat(10_000_000 / 4)).await?;
    let bomb = [gzip(b"a,b\n").await?, member.repeat(MEMBERS)].concat();
    ensure!(bomb.len() < 20_000_000, "the compressed file has {} bytes", bomb.len());
    let object = test_env.fixture.account.put("uploads/bomb.csv.gz", bomb).await?;
    let finished = Task::run(&test_env.settings().with("CSV_KEY", &object.key), TASK_TIMEOUT).await?;
    assert_eq!(finished.code(), Some(0), "{}", finished.logs);
    let (state, reason) = test_env.ledger(&object.key).await?.context("the ledger has no entry")?;
    ensure!(state == "rejected" && reason.contains("MAX_DECODED_RATIO"), "{state}: {reason}");
    ensure!(finished.peak_memory_bytes < 96 << 20, "the task used {} bytes of memory", finished.peak_memory_bytes);
    ensure!(test_env.fixture.account.keys("uploads/").await?.is_empty(), "the file was not moved");
    Ok(())
}

#[tokio::test]
#[ignore = "takes minutes and needs an optimized task; run `make test-large`"]
async fn ten_gigabyte_file_loads_in_constant_memory() -> Result<()> {
    const MEMBERS: usize = 1000;
    const ROWS: usize = 1000;
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let row = format!("7,{}\n", "0123456789".repeat(1000));
    let member = gzip(&row.as_bytes().repeat(ROWS)).await?;
    let file = [gzip(b"id,note\n").await?, member.repeat(MEMBERS)].concat();
    ensure!(row.len() * ROWS * MEMBERS > 10_000_000_000 && file.len() < 50_000_000, "{} bytes", file.len());
    let object = test_env.fixture.account.put("uploads/large.csv.gz", file).await?;
    let settings = test_env.settings().with("CSV_KEY", &object.key).with("MAX_DECODED_RATIO", 100_000);
    let task = Task::start_binary(&run::optimized_task()?, &settings.with("LEASE_SECONDS", 60))?;
    let finished = task.finish(Duration::from_secs(1_800)).await?;
    assert_eq!(finished.code(), Some(0), "{}", finished.logs);
    let rows = test_env.rows("SELECT COUNT(*), SUM(id), SUM(LENGTH(note)) FROM {schema}.orders").await?;
    let expected = [ROWS * MEMBERS, 7 * ROWS * MEMBERS, 10_000 * ROWS * MEMBERS];
    assert_eq!(rows, [expected.map(|number| Some(number.to_string())).to_vec()]);
    ensure!(finished.peak_memory_bytes < 96 << 20, "the task used {} bytes of memory", finished.peak_memory_bytes);
    ensure!(test_env.fixture.account.keys("uploads/").await?.is_empty(), "the file was not moved");
    Ok(())
}

#[tokio::test]
async fn decoded_size_limit_rejects_the_file() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let bomb = gzip(&[&b"a,b\n"[..], &b"1,2\n".repeat(1 << 20)].concat()).await?;
    let object = test_env.fixture.account.put("uploads/bomb.csv.gz", bomb).await?;
    test_env.fixture.expect_no_rows(object.clone());
    let settings = test_env.settings().with("MAX_DECODED_BYTES", 1 << 20);
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let (state, why) = test_env.ledger(&object.key).await?.context("the ledger has no entry")?;
    assert_eq!(state, "rejected");
    ensure!(why.contains("MAX_DECODED_BYTES (1048576)"), "{why}");
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::detected(&[], "id;name;price\n1;a,b;1,5\n2;\"x;y\";2,5\n", &[["1", "a,b", "1,5"], ["2", "x;y", "2,5"]])]
#[case::configured(
    &[("CSV_DELIMITER", "tab"), ("CSV_QUOTE", "none"), ("NULL_VALUES", "-,n/a")],
    "id\tname\tprice\n1\t\"a\t-\n2\tNULL\t3\n",
    &[["1", "\"a", "NULL is here"], ["2", "NULL", "3"]]
)]
#[case::without_a_header(&[("CSV_HEADER", "false")], "1|a|\n2|b|3\n", &[["1", "a", "NULL is here"], ["2", "b", "3"]])]
#[tokio::test]
async fn csv_dialect_is_detected_or_configured(
    #[case] settings: &[(&str, &str)],
    #[case] text: &str,
    #[case] expected: &[[&str; 3]],
) -> Result<()> {
    let test_env = TestEnv::new().await?;
    let object = test_env.fixture.account.put("uploads/a.csv", text.to_owned()).await?;
    let settings_of_case = settings.iter().fold(test_env.settings(), |all, (name, value)| all.with(name, value));
    // Without a buffer, so that the second pass uses the layout of the first.
    test_env.deliver_until_accepted(&settings_of_case.with("BUFFER_MAX_BYTES", 0), &[&object]).await?;
    let names = match settings.iter().any(|(name, _)| *name == "CSV_HEADER") {
        true => "col_1, col_2, COALESCE(col_3, 'NULL is here')",
        false => "id, name, COALESCE(price, 'NULL is here')",
    };
    let rows = test_env.rows(&format!("SELECT {names} FROM {{schema}}.orders ORDER BY 1")).await?;
    assert_eq!(rows, expected.iter().map(|row| row.map(|value| Some(value.to_owned())).to_vec()).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn configured_encoding_is_used() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let object = test_env.fixture.account.put("uploads/a.csv", &b"id,name\n1,caf\xe9\n"[..]).await?;
    test_env.deliver_until_accepted(&test_env.settings().with("CSV_ENCODING", "windows-1252"), &[&object]).await?;
    let rows = test_env.rows("SELECT HEX(name) FROM {schema}.orders").await?;
    assert_eq!(rows, [[Some("636166C3A9".to_owned())]]);
    Ok(())
}
