//! The report page in Chromium: nothing is cut off, every text can be read, and the charts are drawn. `make test-browser` runs this.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::terminal::spillway;
use tokio::process::Command;

use crate::cli::site::{Site, TABLE};

/// The page that shows the report at several widths, and measures it.
const MEASURING_PAGE: &str = include_str!("report.html");
/// The reason of the failures.
const REASON: &str = "the table of the test is locked";
const TIMEOUT: Duration = Duration::from_secs(240);

/// A ledger with one load and one failure for each number.
async fn fill(site: &Site, runs: usize) -> Result<()> {
    let [good, bad] = [site.file("good.csv", "id,qty\n1,10\n")?, site.file("bad.csv", "id,qty\nx,10\n")?];
    site.load(&site.settings(), &[&good]).await?.ensure_code(0)?;
    site.load(&site.settings(), &[&bad]).await?.ensure_code(1)?;
    for (table, id, change) in [
        ("spillway_ledger", "source_id", "'content_id', NULL, 'rows_stored', 1000 * i, 'cost_usd', 0.0001 * i"),
        ("spillway_ledger_attempts", "attempt_id", &format!("'reason', '{REASON}'")),
    ] {
        site.sql(&format!(
            "INSERT INTO {{schema}}.{table} SELECT (jsonb_populate_record(run, jsonb_build_object('{id}', lpad(to_hex(i), 64, '0'), \
             'object_key', 'uploads/a/long/folder/with/many/parts/{TABLE}-' || i || '.csv', \
             'started_at', now() - (i - 1) * interval '11 minutes', {change}))).* \
             FROM {{schema}}.{table} AS run, generate_series(1, {runs}) AS i"
        ))
        .await?;
    }
    Ok(())
}

/// The measures of the report page in this folder. `scheme` is that of Chromium: 0 is dark, 1 is light.
async fn measures(folder: &Path, scheme: u8) -> Result<Vec<Value>> {
    let page = folder.join("measure.html");
    std::fs::write(&page, MEASURING_PAGE)?;
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .args(["--virtual-time-budget=120000", "--window-size=1600,1200"])
        .arg(format!("file://{}", page.display()))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TIMEOUT, output).await?.context("cannot run chromium; run make test-browser")?;
    let dom = String::from_utf8_lossy(&output.stdout);
    let result = dom.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (result, _) = result.with_context(|| format!("no result: {}", String::from_utf8_lossy(&output.stderr)))?;
    let result = result.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    serde_json::from_str(&result).with_context(|| format!("no measures: {result:?}"))
}

#[rstest]
#[ignore = "needs Chromium: make test-browser"]
#[tokio::test]
async fn report_page_is_readable(#[values(5, 5_000)] runs: usize) -> Result<()> {
    let site = Site::on(Engine::Postgres).await?;
    fill(&site, runs).await?;
    let page = site.path("runs.html");
    let report = ["runs", "report", "--out", page.to_str().context("a path")?];
    spillway(&site.settings(), &report).await?.ensure_code(0)?;
    for (scheme, is_dark) in [(1, false), (0, true)] {
        let measures = measures(&site.path(""), scheme).await?;
        assert_eq!(measures.len(), 3, "{measures:?}");
        for measure in &measures {
            assert_eq!((&measure["wrong"], &measure["dark"]), (&json!([]), &json!(is_dark)), "{measure}");
            let (charts, texts) = (measure["charts"].as_u64(), measure["texts"].as_u64());
            ensure!(charts >= Some(3) && texts > Some(50), "{measure}");
        }
    }
    // The measures find what is wrong.
    let narrow = std::fs::read_to_string(&page)?
        .replace("</main>", "<p style=\"width:2000px;color:#888;background:#999\">x</p></main>");
    std::fs::write(&page, narrow.replace(REASON, ""))?;
    let wrong = measures(&site.path(""), 1).await?;
    for text in ["wide", "cut off", "contrast", "reason"] {
        ensure!(wrong.iter().all(|measure| measure["wrong"].to_string().contains(text)), "no {text:?} in {wrong:?}");
    }
    Ok(())
}
