//! Unusual and hostile files, all in one event, on both engines: the outcome of each, and the memory of the function.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use spillway_test_env::cloud::Object;
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::GLUE_DATABASE;
use spillway_test_env::lambda::Function;
use spillway_test_env::test_env::TestEnv;

use crate::load::files::gzip;

/// The limit for every file. A function has 512 MiB by default.
const MEMORY_BYTES: u64 = 256 << 20;
/// Files of one invocation.
const FILES_AT_ONCE: usize = 12;
const HEADER: &str = "id,name\n";
const ROWS: &str = "1,a\n2,b\n";

/// What a file gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// This number of rows is in the table.
    Loaded(u64),
    /// The file is rejected, with this text in the reason. Neither database nor catalog has a table for it.
    Rejected(&'static str),
    /// The rows are in the fallback, and none is in the table.
    FellBack,
}

use Outcome::{FellBack, Loaded, Rejected};

/// Files of text. The name before the first dot is the name of the table.
const TEXTS: &[(&str, &str, Outcome)] = &[
    ("mark.csv", "\u{feff}id,name\n1,a\n", Loaded(1)),
    ("short_row.csv", "id,name,x\n1,a,b\n2\n", Rejected("record 2")),
    ("long_row.csv", "id,name\n1,a\n3,c,d\n", Rejected("record 2")),
    ("open_quote.csv", "id,name\n1,a\n3,\"abc\n4,d\n", Rejected("never closed")),
    ("equal_headers.csv", "a,a,A\n1,2,3\n", Loaded(1)),
    ("empty_headers.csv", "a,,  ,b \n1,2,3,4\n", Loaded(1)),
    ("reserved.csv", "select,from,order\n1,2,3\n", Loaded(1)),
    ("formulas.csv", "id,name\n1,=cmd|'/c calc'!A0\n2,@SUM(1)\n3,+1\n", Loaded(3)),
    ("header_only.csv", "id,name\n", Loaded(0)),
    ("line_ends_only.csv", "\n\n\n", Loaded(0)),
    ("dos.csv", "id,name\r\n1,a\r\n", Loaded(1)),
    ("mixed_ends.csv", "id,name\r\n1,a\n2,b\r\n", Loaded(2)),
    ("old_mac.csv", "id,name\r1,a\r2,b\r", Loaded(2)),
    ("no_last_end.csv", "id,name\n1,a", Loaded(1)),
    ("blank_lines.csv", "id,name\n\n1,a\n\n2,b\n", Loaded(2)),
    ("quoted_line.csv", "id,name\n1,\"a\n\"\"b\"\",c\"\n", Loaded(1)),
    ("semicolons.csv", "id;name\n1;a\n2;b\n", Loaded(2)),
    ("tabs.csv", "id\tname\n1\ta\n", Loaded(1)),
    ("bars.csv", "id|name\n1|a\n", Loaded(1)),
    ("last_commas.csv", "id,name,\n1,a,\n", Loaded(1)),
    ("large_number.csv", "id\n99999999999999999999999999\n", Loaded(1)),
    ("no_numbers.csv", "id,v\n1,NaN\n2,Inf\n3,1e400\n", Loaded(3)),
    ("no_dates.csv", "id,d\n1,0000-00-00\n2,2023-02-29\n3,24:00\n", Loaded(3)),
    ("zeros.csv", "zip\n00123\n", Loaded(1)),
    ("null_words.csv", "id,n,t\n1,NULL,NULL\n2,5,NA\n", Loaded(2)),
    ("backslash.csv", "id,name\n1,C:\\new\\t\n2,\\.\n", Loaded(2)),
    ("page.csv", "<!DOCTYPE html><html></html>", Rejected("HTML")),
    ("error.csv", "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", Rejected("error page")),
    ("lines.jsonl", "{\"id\":1}\n{\"id\":2}\n", Loaded(2)),
    ("array.json", "[{\"id\":1},{\"id\":2}]", Loaded(2)),
    ("object.json", "{\"id\":1}", Loaded(1)),
    ("half_line.jsonl", "{\"id\":1}\n{\"id\":2", Rejected("record 2")),
    ("equal_keys.json", "{\"a\":1,\"a\":2}", Rejected("twice")),
    ("exact.json", "{\"a\":9007199254740993}", Loaded(1)),
    ("surrogate.json", "{\"a\":\"\\ud800\"}", Rejected("record 1")),
    ("escape.json", "{\"a\":\"\\x\"}", Rejected("record 1")),
    ("changing.jsonl", "{\"a\":1}\n{\"b\":\"x\",\"a\":\"t\"}\n", Loaded(2)),
    ("after_array.json", "[{\"a\":1}] x", Rejected("byte")),
    ("scalars.jsonl", "1\n2\n", Rejected("record 1")),
    ("null_line.jsonl", "{\"a\":1}\nnull\n", Rejected("record 2")),
    ("nested.jsonl", "{\"a\":{\"b\":[1,2]}}\n", Loaded(1)),
    ("plain.csv.gz", "id,name\n1,a\n2,b\n", Loaded(2)),
    ("plain.parquet", "id,name\n1,a\n2,b\n", Loaded(2)),
];

/// Files of other bytes.
async fn binaries(engine: Engine) -> Result<Vec<(&'static str, Vec<u8>, Outcome)>> {
    let text = format!("{HEADER}{ROWS}");
    let zipped = gzip(text.as_bytes()).await?;
    let long = gzip(format!("{HEADER}{}", ROWS.repeat(9_000)).as_bytes()).await?;
    let checksum = zipped.len() - 8;
    let wrong = [&zipped[..checksum], &[0; 4], &zipped[checksum + 4..]].concat();
    let columns = |count: usize, cell: &dyn Fn(usize) -> String| (0..count).map(cell).collect::<Vec<_>>().join(",");
    let wide = |count: usize, width: usize| {
        format!("{}\n{}\n", columns(count, &|i| format!("c{i}")), columns(count, &|_| "x".repeat(width))).into_bytes()
    };
    let late = (0..12_000).map(|i| format!("{i},{i}\n")).collect::<String>();
    let endless = |start: &str, line: &[u8]| -> Result<Vec<u8>> {
        let mut file = start.as_bytes().to_vec();
        while file.len() < 40 << 20 {
            file.write_all(line)?;
        }
        Ok(file)
    };
    let nul = if engine == Engine::MariaDb { Loaded(1) } else { FellBack };
    Ok(vec![
        ("empty.csv", Vec::new(), Loaded(0)),
        ("wide_text.csv", utf16("id,name\n1,ä\n"), Loaded(1)),
        ("no_text.csv", b"id,name\n1,\xff\xfe\xfa\n".to_vec(), Rejected("record 1")),
        ("nul.csv", b"id,name\n1,a\0b\n".to_vec(), nul),
        ("endless_quote.csv", endless("id,name\n1,a\n2,\"", b"x,y\n")?, Rejected("record 2")),
        ("endless_line.csv", endless("", b"x")?, Rejected("longer than")),
        ("long_field.csv", [b"id,name\n1,".to_vec(), vec![b'x'; 10_000_000], b"\n".to_vec()].concat(), Loaded(1)),
        ("long_header.csv", [vec![b'a'; 10_000_000], b",b\n1,2\n".to_vec()].concat(), Rejected("header")),
        ("many_columns.csv", wide(5_000, 1), Rejected("columns")),
        ("wide_row.csv", wide(1_500, 50), FellBack),
        ("long_names.csv", format!("{0}l,{0}r\n1,2\n", "x".repeat(70)).into_bytes(), Loaded(1)),
        ("late_type.csv", format!("id,v\n{late}x,text\n").into_bytes(), Loaded(12_001)),
        (
            "deep.json",
            [b"{\"a\":".to_vec(), vec![b'['; 100_000], vec![b']'; 100_000], b"}".to_vec()].concat(),
            Rejected("nested"),
        ),
        ("cut.csv.gz", long[..long.len() - 40].to_vec(), Rejected("")),
        ("checksum.csv.gz", wrong, Rejected("CRC")),
        ("members.csv.gz", [zipped.clone(), gzip(b"3,c\n").await?].concat(), Loaded(3)),
        ("padded.csv.gz", [zipped.clone(), vec![0; 100]].concat(), Loaded(2)),
        ("garbage.csv.gz", [&zipped[..], b"garbage"].concat(), Rejected("other data")),
        ("zipped.csv", zipped, Loaded(2)),
        ("bz2.csv", [&b"BZh91AY&SY"[..], &[0; 50]].concat(), Rejected("bzip2")),
        ("xz.csv", [&b"\xfd7zXZ\0"[..], &[0; 50]].concat(), Rejected("xz")),
        ("cut.parquet", [&b"PAR1"[..], &[0; 40]].concat(), Rejected("")),
        ("footer.parquet", [&b"PAR1"[..], &[0; 20], b"\xff\xff\xff\x7fPAR1"].concat(), Rejected("")),
    ])
}

/// UTF-16 with a byte order mark.
fn utf16(text: &str) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// The number of rows of a table; none if it does not exist.
async fn rows_of(test_env: &TestEnv, table: &str) -> Result<Option<u64>> {
    let exists =
        format!("SELECT 1 FROM information_schema.tables WHERE table_schema = '{{schema}}' AND table_name = '{table}'");
    if test_env.rows(&exists).await?.is_empty() {
        return Ok(None);
    }
    let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{table}")).await?;
    Ok(Some(rows[0][0].clone().context("a count is never NULL")?.parse()?))
}

/// What is wrong about a file's outcome; none if it is as expected.
async fn problem(test_env: &TestEnv, table: &str, report: &Value, expected: Outcome) -> Result<Option<String>> {
    let (outcome, reason) = (report["outcome"].as_str(), report["reason"].as_str().unwrap_or_default());
    let stored = rows_of(test_env, table).await?;
    let is_right = match expected {
        Loaded(rows) => outcome == Some("loaded") && stored.unwrap_or(0) == rows,
        Rejected(words) => {
            outcome == Some("rejected") && stored.is_none() && reason.contains(words) && reason.contains(table)
        }
        FellBack => outcome == Some("fell_back") && stored.unwrap_or(0) == 0,
    };
    Ok((!is_right).then(|| format!("{table}: not {expected:?} with {stored:?} rows: {report}")))
}

#[rstest]
#[tokio::test]
async fn every_file_has_its_outcome(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let account = &test_env.fixture.account;
    let settings = test_env
        .settings()
        .without("RDS_TABLE")
        .with("TABLE_PATTERN", "uploads/{table}/*")
        .with("INLINE_MAX_BYTES", 64 << 20);
    let texts = TEXTS.iter().map(|(name, text, outcome)| (*name, text.as_bytes().to_vec(), *outcome));
    let mut expected = Vec::new();
    let mut objects: Vec<Object> = Vec::new();
    for (index, (name, body, outcome)) in texts.chain(binaries(engine).await?).enumerate() {
        let table = format!("{}_{index}", name.split('.').next().unwrap_or_default());
        objects.push(account.put(&format!("uploads/{table}/{name}"), body).await?);
        expected.push((table, outcome));
    }
    let objects: Vec<&Object> = objects.iter().collect();
    let (mut reports, mut memory_bytes) = (Vec::new(), 0);
    // One invocation would run out of time on a slow machine.
    for objects in objects.chunks(FILES_AT_ONCE) {
        let mut call = Function::trigger(&settings)?.start(&test_env.fixture.event(objects)).await?;
        let response = call.response().await?;
        memory_bytes = memory_bytes.max(call.peak_memory_bytes().await?);
        response.ensure_success()?;
        reports.extend(response.reports()?);
    }
    assert_eq!(reports.len(), expected.len());
    let mut problems = Vec::new();
    for ((table, outcome), object) in expected.iter().zip(&objects) {
        let report = reports.iter().find(|report| report["object"]["key"] == object.key.as_str());
        let report = report.with_context(|| format!("no report of {}", object.key))?;
        problems.extend(problem(&test_env, table, report, *outcome).await?);
    }
    ensure!(problems.is_empty(), "{problems:#?}");
    ensure!(memory_bytes < MEMORY_BYTES, "the function needed {} MiB", memory_bytes >> 20);

    // Rejected files are in no table of the catalog, and each object has moved once.
    let tables = account.glue.get_tables().database_name(GLUE_DATABASE).send().await?;
    let fallbacks = expected.iter().filter(|(_, outcome)| *outcome == FellBack).count();
    assert_eq!(tables.table_list().len(), fallbacks);
    assert_eq!(account.keys("uploads/").await?, Vec::<String>::new());
    let moved = [account.keys("processed/").await?, account.keys("failed/").await?].concat();
    assert_eq!(moved.iter().filter(|key| !key.ends_with(".reason.json")).count(), expected.len());
    Ok(())
}
