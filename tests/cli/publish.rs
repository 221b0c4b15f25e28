//! `spillway publish`: the changes of a delta in a Kinesis stream, and a consumer that applies them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::firehose::{KinesisRecord, kinesis, records};
use spillway_test_env::process::Signal;
use spillway_test_env::run::Scratch;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Ended, Running, spillway};
use spillway_test_env::wait;

const TIMEOUT: Duration = Duration::from_secs(60);
const STREAM: &str = "shop-changes";
/// Several shards, so that their records have no common order.
const SHARDS: u64 = 3;

/// The rows of an export: note and price by store and SKU.
type Rows = BTreeMap<(String, String), [Option<String>; 2]>;

/// An account with a stream, and a folder with exports and deltas.
struct Site {
    account: Account,
    folder: Scratch,
}

impl Site {
    async fn new() -> Result<Self> {
        let account = Cloud::shared().await?.account().await?;
        kinesis(&account, "CreateStream", &json!({"StreamName": STREAM, "ShardCount": SHARDS})).await?;
        wait::until("the stream to be active", TIMEOUT, async || {
            let described = kinesis(&account, "DescribeStreamSummary", &json!({"StreamName": STREAM})).await?;
            Ok(described["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")
        })
        .await?;
        Ok(Self { account, folder: Scratch::new("publish")? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, name: &str, rows: &Rows) -> Result<String> {
        let path = self.path(name);
        std::fs::write(&path, csv(rows))?;
        Ok(path.display().to_string())
    }

    /// Writes the delta of two exports, and returns its path.
    async fn delta(&self, exports: &[&str], name: &str) -> Result<String> {
        let output = self.path(name).display().to_string();
        let arguments = [&["diff"], exports, &["--key", "store,sku", "--output", &output]].concat();
        spillway(&Settings::default(), &arguments).await?.ensure_code(0)?;
        Ok(output)
    }

    async fn publish(&self, arguments: &[&str]) -> Result<Ended> {
        spillway(&self.account.settings(), &[&["publish", "--stream", STREAM], arguments].concat()).await
    }

    async fn records(&self) -> Result<Vec<KinesisRecord>> {
        records(&self.account, STREAM).await
    }
}

/// CSV in which an empty field is NULL and a quoted one is empty.
fn csv(rows: &Rows) -> String {
    let field = |value: &Option<String>| match value {
        None => String::new(),
        Some(text) => format!("\"{}\"", text.replace('"', "\"\"")),
    };
    let mut text = "note,store,sku,price\n".to_owned();
    for ((store, sku), [note, price]) in rows {
        let fields = [note.clone(), Some(store.clone()), Some(sku.clone()), price.clone()];
        text += &format!("{}\n", fields.each_ref().map(field).join(","));
    }
    text
}

/// The first export, and a later one with inserted, updated and deleted rows.
fn exports() -> (Rows, Rows) {
    let key = |number: u64| (format!("store \"{}\"", number % 7), format!("sku,{number}"));
    let row = |number: u64| {
        let note = match number % 5 {
            0 => None,
            1 => Some(String::new()),
            _ => Some(format!("note é\n{number}")),
        };
        [note, Some(format!("{}.50", number % 90))]
    };
    let old: Rows = (0..1_200).map(|number| (key(number), row(number))).collect();
    let kept = (200..1_200).map(|number| (key(number), if number % 2 == 0 { row(number) } else { row(number + 1) }));
    let new: Rows = kept.chain((1_200..1_700).map(|number| (key(number), row(number)))).collect();
    (old, new)
}

/// A consumer, as `docs/exports.md` describes it.
#[derive(Default)]
struct Consumer {
    rows: Rows,
    /// For each partition key, the version and the sequence of its last change.
    last: HashMap<String, (String, u64)>,
    dropped: usize,
}

impl Consumer {
    fn read(&mut self, record: &KinesisRecord) -> Result<()> {
        let message: Value = serde_json::from_slice(&record.data)?;
        let source = &message["source"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a field is not text");
        let change = (text(&source["export_version"])?, text(&source["sequence"])?.parse()?);
        if self.last.get(record.partition_key()) == Some(&change) {
            self.dropped += 1;
            return Ok(());
        }
        self.last.insert(record.partition_key().to_owned(), change);
        ensure!(source["key"] == json!(["store", "sku"]) && source["table"] == "prices", "{message}");
        let (before, after) = (&message["before"], &message["after"]);
        let row = if after.is_null() { before } else { after };
        let key = (text(&row["store"])?, text(&row["sku"])?);
        let values = |row: &Value| ["note", "price"].map(|column| row[column].as_str().map(str::to_owned));
        // The row before the change is the one that the consumer has.
        let expected = (!before.is_null()).then(|| values(before));
        ensure!(self.rows.get(&key) == expected.as_ref(), "{message}");
        match message["op"].as_str() {
            Some("r" | "c" | "u") => drop(self.rows.insert(key, values(after))),
            Some("d") => drop(self.rows.remove(&key)),
            _ => anyhow::bail!("another operation: {message}"),
        }
        Ok(())
    }
}

/// The progress of a publication; none before its first write.
fn published(path: &str) -> Option<u64> {
    let text = std::fs::read(path).ok()?;
    serde_json::from_slice::<Value>(&text).ok()?["published"].as_u64()
}

#[tokio::test]
async fn consumer_has_the_newest_export_after_a_kill_and_repeats() -> Result<()> {
    let site = Site::new().await?;
    let (old_rows, new_rows) = exports();
    let (old, new) = (site.export("old.csv", &old_rows)?, site.export("new.csv", &new_rows)?);
    let first = site.delta(&["--first", &old], "first.jsonl.zst").await?;
    let document = site.publish(&[&first, "--table", "prices", "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!((&document["state"], &document["sent"]), (&json!("published"), &json!(1_200)), "{document}");
    let mut consumer = Consumer::default();
    let snapshot = site.records().await?;
    snapshot.iter().try_for_each(|record| consumer.read(record))?;
    assert_eq!((consumer.rows == old_rows, consumer.dropped, snapshot.len()), (true, 0, 1_200));

    // With 200 changes per second, a batch has 40 changes, and the whole delta takes 6 seconds.
    let delta = site.delta(&[&old, &new], "delta.jsonl.gz").await?;
    let (progress, earlier) = (format!("{delta}.published-{STREAM}.json"), site.path("earlier").display().to_string());
    let arguments = ["publish", &delta, "--stream", STREAM, "--table", "prices"];
    let running = Running::start(&site.account.settings(), &[&arguments[..], &["--rate", "200"]].concat())?;
    wait::until("the first batches", TIMEOUT, async || Ok(published(&progress) >= Some(40))).await?;
    std::fs::copy(&progress, &earlier)?;
    let copied = published(&earlier).context("no progress")?;
    wait::until("more batches", TIMEOUT, async || Ok(published(&progress) >= Some(copied + 120))).await?;
    running.signal(Signal::Kill)?;
    let ended = running.finish(b"").await?;
    ensure!(ended.code.is_none(), "the command was not killed: {ended:?}");
    let killed_at = published(&progress).context("no progress")?;
    ensure!(killed_at < 1_000, "{killed_at} changes were published before the kill");

    // As if the kill had come between the acknowledgement of three batches and their progress.
    std::fs::copy(&earlier, &progress)?;
    let ended = spillway(&site.account.settings(), &[&arguments[..], &["--json"]].concat()).await?.ensure_code(0)?;
    let document = ended.json()?;
    let changes = document["changes"].as_u64().context("no changes")?;
    assert_eq!(changes, 1_200, "200 deleted, 500 updated, 500 inserted");
    ensure!(ended.stderr.contains(&format!("continues after change {copied} of 1,200")), "{ended:?}");
    assert_eq!((&document["published_before"], &document["sent"]), (&json!(copied), &json!(changes - copied)));

    let all = site.records().await?;
    ensure!(all.len() as u64 >= 1_200 + changes + killed_at - copied, "no change was sent twice: {}", all.len());
    let mut consumer = Consumer::default();
    for record in &all {
        consumer.read(record)?;
        // One record is delivered twice.
        if record.partition_key() == all[700].partition_key() {
            consumer.read(record)?;
        }
    }
    assert_eq!(consumer.rows, new_rows);
    ensure!(consumer.dropped > all.len() - 2_400, "{} records were dropped", consumer.dropped);
    Ok(())
}

#[tokio::test]
async fn signal_stops_a_publication_after_a_batch() -> Result<()> {
    let site = Site::new().await?;
    let (old_rows, _) = exports();
    let delta = site.delta(&["--first", &site.export("old.csv", &old_rows)?], "delta.jsonl").await?;
    let progress = format!("{delta}.published-{STREAM}.json");
    let arguments = ["publish", &delta, "--stream", STREAM, "--table", "prices", "--json"];
    let running = Running::start(&site.account.settings(), &[&arguments[..], &["--rate", "200"]].concat())?;
    wait::until("the first batches", TIMEOUT, async || Ok(published(&progress) >= Some(40))).await?;
    running.signal(Signal::Terminate)?;
    let stopped = running.finish(b"").await?.ensure_code(75)?.json()?;
    let sent = stopped["sent"].as_u64().context("no number")?;
    ensure!(stopped["state"] == "interrupted" && sent < 1_200 && published(&progress) == Some(sent), "{stopped}");
    let rest = spillway(&site.account.settings(), &arguments).await?.ensure_code(0)?.json()?;
    assert_eq!((&rest["state"], &rest["sent"]), (&json!("published"), &json!(1_200 - sent)), "{rest}");
    // The batch that was being sent was recorded too, so no change is sent twice.
    assert_eq!(site.records().await?.len(), 1_200);
    Ok(())
}

#[tokio::test]
async fn published_delta_is_sent_again_only_on_request() -> Result<()> {
    let site = Site::new().await?;
    let (old_rows, new_rows) = exports();
    let (old, new) = (site.export("old.csv", &old_rows)?, site.export("new.csv", &new_rows)?);
    let delta = site.delta(&[&old, &new], "delta.jsonl").await?;
    let arguments = [&delta, "--table", "prices"].map(AsRef::as_ref);
    let ended = site.publish(&arguments).await?.ensure_code(0)?;
    ensure!(ended.stdout.starts_with("1,200 changes published to shop-changes (table prices, version "), "{ended:?}");
    let again = site.publish(&[&arguments[..], &["--json"]].concat()).await?.ensure_code(0)?.json()?;
    assert_eq!((&again["state"], &again["sent"]), (&json!("already_published"), &json!(0)), "{again}");
    assert_eq!(site.records().await?.len(), 1_200);
    let again = site.publish(&[&arguments[..], &["--again", "--json"]].concat()).await?.ensure_code(0)?.json()?;
    assert_eq!((&again["state"], &again["sent"]), (&json!("published"), &json!(1_200)), "{again}");
    assert_eq!(site.records().await?.len(), 2_400);

    // Another delta under the same name, and other settings, are other publications.
    let delta = site.delta(&["--first", &new], "delta.jsonl").await?;
    let ended = site.publish(&[&delta, "--table", "prices"]).await?.ensure_code(0)?;
    // The new export is the same, and so is the version that is derived from it.
    ensure!(ended.stderr.contains("belongs to another delta, so all changes are sent"), "{ended:?}");
    let ended =
        site.publish(&[&delta, "--table", "prices", "--tenant", "acme", "--version", "2"]).await?.ensure_code(0)?;
    ensure!(ended.stderr.contains("belongs to another tenant and version, so all changes are sent"), "{ended:?}");
    assert_eq!(site.records().await?.len(), 2_400 + 2 * 1_500);
    Ok(())
}

#[tokio::test]
async fn object_is_published_as_messages_of_dms() -> Result<()> {
    let site = Site::new().await?;
    let (old_rows, new_rows) = exports();
    let (old, new) = (site.export("old.csv", &old_rows)?, site.export("new.csv", &new_rows)?);
    let local = site.delta(&[&old, &new], "delta.jsonl.zst").await?;
    let object = site.account.put("deltas/delta.jsonl.zst", std::fs::read(&local)?).await?;
    let address = format!("s3://{}/{}", site.account.bucket, object.key);
    let arguments = [&address, "--format", "dms", "--tenant", "acme", "--version", "2026-11-29", "--table", "prices"];
    let ended = site.publish(&arguments).await?.ensure_code(0)?;
    ensure!(ended.stdout.contains("(table prices, version 2026-11-29)"), "{ended:?}");
    let messages: Vec<Value> =
        site.records().await?.iter().map(|record| serde_json::from_slice(&record.data)).collect::<Result<_, _>>()?;
    let count = |operation: &str| messages.iter().filter(|one| one["metadata"]["operation"] == operation).count();
    assert_eq!(["insert", "update", "delete", "load"].map(count), [500, 500, 200, 0]);
    for message in &messages {
        let metadata = &message["metadata"];
        ensure!(metadata["schema-name"] == "acme" && metadata["table-name"] == "prices", "{message}");
        ensure!(message["before-image"].is_object() == (metadata["operation"] == "update"), "{message}");
    }
    let progress = site.account.get("deltas/delta.jsonl.zst.published-shop-changes.json").await?;
    let progress: Value = serde_json::from_slice(&progress)?;
    assert_eq!((&progress["published"], &progress["changes"]), (&json!(1_200), &json!(1_200)), "{progress}");
    let again = site.publish(&[&arguments[..], &["--json"]].concat()).await?.ensure_code(0)?.json()?;
    assert_eq!(again["state"], "already_published", "{again}");
    Ok(())
}

#[tokio::test]
async fn table_is_named_by_option_or_settings() -> Result<()> {
    let site = Site::new().await?;
    let (old_rows, _) = exports();
    let delta = site.delta(&["--first", &site.export("old.csv", &old_rows)?], "delta.jsonl").await?;
    let ended = site.publish(&[&delta]).await?.ensure_code(64)?;
    ensure!(ended.stderr.contains("name it with --table"), "{ended:?}");
    let document = site.publish(&[&delta, "--set", "RDS_TABLE=stock", "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(document["table"], "stock", "{document}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_of_a_delta_that_cannot_be_published() -> Result<()> {
    let site = Site::new().await?;
    let (old_rows, _) = exports();
    let long = "secret ".repeat(300);
    let more = (("zzz".to_owned(), "1".to_owned()), [Some(long), None]);
    let rows: Rows = old_rows.into_iter().chain([more]).collect();
    let delta = site.delta(&["--first", &site.export("old.csv", &rows)?], "delta.jsonl").await?;

    let limit = ["--table", "prices", "--set", "PUBLISH_MAX_RECORD_BYTES=2048"];
    let ended = site.publish(&[&[delta.as_str()], &limit[..]].concat()).await?.ensure_code(64)?;
    ensure!(ended.stderr.contains("the record of change 1201 (key columns store, sku) has "), "{ended:?}");
    ensure!(!ended.stderr.contains("secret") && !ended.stderr.contains("zzz"), "{ended:?}");

    let text = std::fs::read_to_string(&delta)?;
    let truncated = site.path("truncated.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&truncated, format!("{}\n", lines[..lines.len() - 1].join("\n")))?;
    let truncated = truncated.display().to_string();
    let ended = site.publish(&[&truncated, "--table", "prices"]).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("counts 1201 inserted rows, and the file has 1200"), "{ended:?}");
    ensure!(site.records().await?.is_empty() && published(&format!("{truncated}.published-{STREAM}.json")).is_none());

    let missing = ["publish", &delta, "--table", "prices", "--stream", "missing"];
    let ended = spillway(&site.account.settings(), &missing).await?.ensure_code(64)?;
    ensure!(ended.stderr.contains("\"missing\""), "{ended:?}");
    site.publish(&["-", "--table", "prices"]).await?.ensure_code(64)?;
    Ok(())
}
