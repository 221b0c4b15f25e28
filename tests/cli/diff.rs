//! `spillway diff`: two exports compared by key.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use spillway_test_env::cloud::Cloud;
use spillway_test_env::run::Scratch;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Ended, Running, spillway};
use tokio::io::AsyncReadExt;

use crate::load::files::{gzip, zstd};

const OLD: &str = "id,price,note\n1,9.50,first\n2,100,\n3,7.125,third\n4,1,same\n";
const NEW: &str = "note;id;price\r\nfirst;\"1\";9.75\r\n;3;7.125\r\nsame;4;1\r\nnew;5;3\r\n";

/// A folder with two exports.
struct Folder(Scratch);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(Scratch::new("diff")?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let path = self.path(name);
        std::fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    /// The names of all files, also of hidden ones.
    fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.0.path())?.collect::<std::io::Result<Vec<_>>>()?;
        let mut names: Vec<String> =
            entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }
}

async fn diff(arguments: &[&str]) -> Result<Ended> {
    spillway(&Settings::default(), &[&["diff"], arguments].concat()).await
}

/// The lines of a delta.
fn lines(text: &[u8]) -> Result<Vec<Value>> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).context("a line is not JSON"))
        .collect()
}

#[tokio::test]
async fn summary_and_changes_are_printed() -> Result<()> {
    let folder = Folder::new()?;
    let (old, new) = (folder.file("old.csv.gz", gzip(OLD.as_bytes()).await?)?, folder.file("new.csv", NEW)?);
    let ended = diff(&[&old, &new, "--key", "id"]).await?.ensure_code(0)?;
    let expected = "  key       id\n  inserted  1\n  updated   2 (note 1, price 1)\n  deleted   1\n  unchanged 1\n\n\
                    4 changes\n  ~ id=\"1\": price=\"9.50\" -> \"9.75\"\n  - id=\"2\": price=\"100\" note=NULL\n  \
                    ~ id=\"3\": note=\"third\" -> NULL\n  + id=\"5\": note=\"new\" price=\"3\"\n";
    ensure!(ended.stdout.ends_with(expected) && ended.stdout.contains(" B, 4 rows\n"), "{}", ended.stdout);
    let limited = diff(&[&old, &new, "--key", "id", "--limit", "1"]).await?.ensure_code(0)?;
    ensure!(limited.stdout.matches("id=").count() == 1 && limited.stderr.contains("--output"), "{limited:?}");

    let document = diff(&[&old, &new, "--key", "id", "--json", "--limit", "2"]).await?.ensure_code(0)?.json()?;
    let counts = ["inserted", "updated", "deleted", "unchanged"].map(|name| document[name].as_u64());
    assert_eq!(counts, [Some(1), Some(2), Some(1), Some(1)], "{document}");
    assert_eq!((&document["equal"], &document["changes"][1]["op"]), (&json!(false), &json!("d")));
    assert_eq!(document["changes"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn delta_has_a_summary_and_all_changes_in_every_compression() -> Result<()> {
    let folder = Folder::new()?;
    let (old, new) = (folder.file("old.csv.zst", zstd(OLD.as_bytes()).await?)?, folder.file("new.csv", NEW)?);
    let mut plain = Vec::new();
    for name in ["delta.jsonl", "delta.jsonl.gz", "delta.jsonl.zst"] {
        let output = folder.path(name).display().to_string();
        diff(&[&old, &new, "--key", "id", "--output", &output]).await?.ensure_code(0)?;
        let stored = std::fs::read(&output)?;
        let mut text = Vec::new();
        match name {
            "delta.jsonl" => text.clone_from(&stored),
            "delta.jsonl.gz" => drop(GzipDecoder::new(&stored[..]).read_to_end(&mut text).await?),
            _ => drop(ZstdDecoder::new(&stored[..]).read_to_end(&mut text).await?),
        }
        if plain.is_empty() {
            plain.clone_from(&text);
        }
        assert_eq!(text, plain, "{name}");
    }
    let lines = lines(&plain)?;
    let (summary, changes) = lines.split_first().context("no first line")?;
    assert_eq!((&summary["format"], &summary["format_version"]), (&json!("spillway-delta"), &json!(1)));
    assert_eq!((&summary["old"]["rows"], &summary["new"]["file"]), (&json!(4), &json!(new)));
    assert_eq!(summary["new"]["columns"], json!(["note", "id", "price"]));
    let operations: Vec<&Value> = changes.iter().map(|change| &change["op"]).collect();
    assert_eq!(operations, ["u", "d", "u", "c"]);
    assert_eq!(
        changes[0],
        json!({"op": "u", "key": {"id": "1"}, "before": {"id": "1", "price": "9.50", "note": "first"},
               "after": {"note": "first", "id": "1", "price": "9.75"}, "seq": 1})
    );
    Ok(())
}

#[tokio::test]
async fn exit_code_says_whether_exports_differ_only_on_request() -> Result<()> {
    let folder = Folder::new()?;
    let (old, new) = (folder.file("old.csv", OLD)?, folder.file("new.csv", NEW)?);
    diff(&[&old, &new, "--key", "id", "--exit-code"]).await?.ensure_code(2)?;
    let equal = diff(&[&old, &old, "--key", "id", "--exit-code"]).await?.ensure_code(0)?;
    ensure!(equal.stdout.ends_with("\nthe exports are equal\n"), "{}", equal.stdout);
    let wider =
        folder.file("wider.csv", "id,price,note,color\n1,9.50,first,\n2,100,,\n3,7.125,third,\n4,1,same,red\n")?;
    let ended = diff(&[&old, &wider, "--key", "id", "--exit-code"]).await?.ensure_code(2)?;
    ensure!(ended.stdout.contains("  columns   new: color\n"), "{}", ended.stdout);
    ensure!(ended.stdout.ends_with("\nthe rows are equal in the common columns\n"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn first_export_and_standard_input_are_compared() -> Result<()> {
    let folder = Folder::new()?;
    let old = folder.file("old.csv", OLD)?;
    let first = diff(&["--first", &old, "--key", "id", "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!((&first["old"], &first["inserted"]), (&Value::Null, &json!(4)), "{first}");
    let arguments = ["diff", &old, "-", "--key", "id", "--json", "--set", "CSV_DELIMITER=;"];
    // The setting applies to both files.
    let ended = Running::start(&Settings::default(), &arguments)?.finish(NEW.as_bytes()).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("old.csv"), "{ended:?}");
    let arguments = ["diff", &old, "-", "--key", "id", "--json"];
    let ended = Running::start(&Settings::default(), &arguments)?.finish(NEW.as_bytes()).await?.ensure_code(0)?;
    assert_eq!(ended.json()?["updated"], json!(2));
    Ok(())
}

#[tokio::test]
async fn wrong_use_and_unusable_exports_fail_without_a_delta() -> Result<()> {
    let folder = Folder::new()?;
    let old = folder.file("old.csv", OLD)?;
    let twice = folder.file("twice.csv", "id,price,note\n1,1,a\n2,1,a\n1,2,secret\n")?;
    let output = folder.path("delta.jsonl").display().to_string();
    let wrong: [&[&str]; 6] = [
        &[&old, "--key", "id"],
        &["--first", &old, &old, "--key", "id"],
        &[&old, &old],
        &[&old, &old, "--key", "id", "--output", "delta.csv"],
        &[&old, &old, "--key", "id,ID"],
        &[&old, &old, "--key", "id", "--memory", "1KiB"],
    ];
    for arguments in wrong {
        diff(arguments).await?.ensure_code(64)?;
    }
    let ended = diff(&[&old, &twice, "--key", "id", "--output", &output, "--json"]).await?.ensure_code(1)?;
    let error = &ended.json()?["error"];
    assert_eq!((&error["kind"], &error["record"], &error["column"]), (&json!("file_broken"), &json!(3), &json!("id")));
    ensure!(error["message"].as_str().is_some_and(|text| text.contains("twice.csv") && text.contains("EXPORT_KEY")));
    ensure!(!ended.stderr.contains("secret"), "{ended:?}");
    diff(&[&old, "/no/such/file.csv", "--key", "id", "--output", &output]).await?.ensure_code(1)?;
    assert_eq!(folder.names()?, ["old.csv", "twice.csv"]);
    Ok(())
}

#[tokio::test]
async fn settings_of_a_table_name_the_key_and_the_dialect() -> Result<()> {
    let folder = Folder::new()?;
    let (old, new) = (folder.file("a.txt", "id|n\n1|x\n")?, folder.file("b.txt", "id|n\n1|-\n")?);
    let config = folder.file(
        "tables.toml",
        "[[table]]\nname = \"orders\"\nexport_key = [\"id\"]\ncsv_delimiter = \"|\"\nnull_values = [\"-\"]\n",
    )?;
    let arguments = [&old, &new, "--table", "orders", "--config", &config, "--json"];
    let document = diff(&arguments).await?.ensure_code(0)?.json()?;
    assert_eq!(document["changes"][0]["after"], json!({"id": "1", "n": null}), "{document}");
    Ok(())
}

#[tokio::test]
async fn parquet_is_compared_with_csv_by_its_text() -> Result<()> {
    let folder = Folder::new()?;
    let prices = Decimal128Array::from(vec![Some(950), Some(10_000), None]).with_precision_and_scale(9, 2)?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("price", Arc::new(prices)),
        ("note", Arc::new(StringArray::from(vec![Some("a"), Some(""), None]))),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    let old = folder.file("old.parquet", writer.into_inner()?)?;
    let new = folder.file("new.csv", "id,price,note\n3,,\n1,9.50,a\n2,100,\"\"\n")?;
    let document = diff(&[&old, &new, "--key", "id", "--json"]).await?.ensure_code(0)?.json()?;
    // Two spellings of one number differ.
    assert_eq!((&document["updated"], &document["unchanged"]), (&json!(1), &json!(2)), "{document}");
    let change = &document["changes"][0];
    assert_eq!((&change["before"]["price"], &change["after"]["price"]), (&json!("100.00"), &json!("100")));
    Ok(())
}

#[tokio::test]
async fn objects_are_compared_with_files() -> Result<()> {
    let (folder, account) = (Folder::new()?, Cloud::shared().await?.account().await?);
    let object = account.put("exports/1/orders.csv.gz", gzip(OLD.as_bytes()).await?).await?;
    let (old, new) = (format!("s3://{}/{}", account.bucket, object.key), folder.file("new.csv", NEW)?);
    let document = spillway(&account.settings(), &["diff", &old, &new, "--key", "id", "--json"]).await?;
    let document = document.ensure_code(0)?.json()?;
    assert_eq!((&document["updated"], &document["old"]["file"]), (&json!(2), &json!(old)), "{document}");
    assert_eq!(document["old"]["etag"], json!(format!("\"{}\"", object.etag)));
    let missing = format!("s3://{}/exports/none.csv", account.bucket);
    let ended = spillway(&account.settings(), &["diff", &missing, &new, "--key", "id"]).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("exports/none.csv"), "{ended:?}");
    Ok(())
}
