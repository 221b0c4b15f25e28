//! Excel workbooks in place of data files: rejected with a reason.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::fixture::Counted;
use spillway_test_env::test_env::TestEnv;

use crate::load::files::gzip;

/// A workbook that openpyxl has written, and an archive that contains it.
const WORKBOOK: &[u8] = include_bytes!("../../crates/formats/src/detect/testdata/openpyxl.xlsx");
const ARCHIVE: &[u8] = include_bytes!("../../crates/formats/src/detect/testdata/openpyxl.zip");

const REASON: &str = "the object is an Excel workbook";
const ADVICE: &str = "save each sheet as CSV in UTF-8";

/// What starts the load of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Event,
    Request,
    Task,
}

#[rstest]
#[case::named_csv("uploads/orders.csv", Trigger::Event)]
#[case::in_an_archive("uploads/orders.csv.zip", Trigger::Event)]
#[case::in_gzip("uploads/orders.csv.gz", Trigger::Event)]
#[case::named_csv_by_request("uploads/orders.csv", Trigger::Request)]
#[case::own_name_by_request("uploads/orders.xlsx", Trigger::Request)]
#[case::own_name_by_task("uploads/orders.xlsx", Trigger::Task)]
#[tokio::test]
async fn workbook_is_rejected_with_advice(#[case] key: &str, #[case] trigger: Trigger) -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let body = match key.rsplit('.').next() {
        Some("zip") => ARCHIVE.to_vec(),
        Some("gz") => gzip(WORKBOOK).await?,
        _ => WORKBOOK.to_vec(),
    };
    let object = test_env.fixture.account.put(key, body).await?;
    test_env.fixture.expect_no_rows(object.clone());
    let settings = test_env.settings();
    match trigger {
        Trigger::Event => drop(test_env.deliver_until_accepted(&settings, &[&object]).await?),
        Trigger::Request => {
            let response = test_env.invoke_ingest(&settings, &json!({"key": key})).await?;
            ensure!(!response.is_failure(), "{}", response.body);
        }
        Trigger::Task => drop(test_env.run_task_until_done(&settings, key).await?),
    }
    let (state, why) = test_env.ledger(key).await?.context("the ledger has no entry")?;
    assert_eq!(state, "rejected");
    ensure!(why.contains(REASON) && why.contains(ADVICE), "{why}");
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: 0 });
    let keys = test_env.fixture.account.keys("failed/").await?;
    let reason = keys.iter().find(|key| key.ends_with(".reason.json")).context("no reason file")?;
    let reason: Value = serde_json::from_slice(&test_env.fixture.account.get(reason).await?)?;
    assert_eq!(reason["kind"], "file_broken", "{reason}");
    ensure!(keys.len() == 2 && reason["reason"].as_str().is_some_and(|text| text.contains(ADVICE)), "{keys:?}");
    Ok(())
}
