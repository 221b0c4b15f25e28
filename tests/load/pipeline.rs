//! Loads by the trigger under the runtime emulator: one file, duplicate events, and events with several files.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::Counted;
use spillway_test_env::lambda::{Function, Response};
use spillway_test_env::test_env::TestEnv;

fn outcomes(response: &Response) -> Vec<&str> {
    let reports = response.body["reports"].as_array().map(Vec::as_slice).unwrap_or_default();
    reports.iter().filter_map(|report| report["outcome"].as_str()).collect()
}

#[rstest]
#[tokio::test]
async fn upload_is_loaded_recorded_and_moved(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/2026/day one/orders+100%.csv", 50).await?;
    let response = test_env.deliver(&test_env.settings(), &[&object]).await?;
    response.ensure_success()?;
    assert_eq!(outcomes(&response), ["loaded"]);
    assert_eq!(test_env.count().await?, Counted { database: 50, fallback: 0 });
    let keys = test_env.fixture.account.keys("processed/").await?;
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("processed/2026/day one/orders+100%.") && keys[0].ends_with(".csv"), "{keys:?}");
    assert_eq!(test_env.ledger(&object.key).await?.map(|(state, _)| state).as_deref(), Some("loaded"));
    // Three writes and seven reads of S3 (see `cost`), one invocation, and less than a minute with 512 MB.
    let cost = response.body["reports"][0]["cost_usd"].as_f64().context("the report has no cost")?;
    let requests = 3.0 * 0.000_005 + 7.0 * 0.000_000_4 + 0.000_000_2;
    ensure!(cost > requests && cost < requests + 0.000_5, "the file cost {cost} dollars, the requests {requests}");
    let recorded =
        test_env.server.query(&test_env.fixture.schema, "SELECT cost_usd FROM {schema}.spillway_ledger").await?;
    assert_eq!(recorded, [[Some(format!("{cost:.6}"))]]);
    test_env.ensure_exactly_once().await
}

#[rstest]
#[case::two_in_sequence(2, false)]
#[case::two_at_once(2, true)]
#[case::eight_at_once(8, true)]
#[tokio::test]
async fn duplicate_event_loads_once(
    #[case] times: usize,
    #[case] at_once: bool,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 400).await?;
    let settings = test_env.settings();
    let mut responses = Vec::new();
    if at_once {
        responses = test_env.deliver_concurrently(&settings, &vec![&object; times]).await?;
    } else {
        for _ in 0..times {
            responses.push(test_env.deliver(&settings, &[&object]).await?);
        }
    }
    let loaded = responses.iter().filter(|response| outcomes(response) == ["loaded"]).count();
    assert_eq!(loaded, 1, "{responses:#?}");
    // The deliveries that met another worker's lease have failed, and Lambda retries them.
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 400, fallback: 0 });
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn same_content_uploaded_again_is_a_duplicate(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let first = test_env.fixture.upload("uploads/orders.csv", 20).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    let body = test_env.fixture.account.get(&test_env.fixture.account.keys("processed/").await?[0]).await?;
    let again = test_env.fixture.account.put("uploads/orders.csv", body).await?;
    let response = test_env.deliver_until_accepted(&settings, &[&again]).await?;
    assert_eq!(outcomes(&response), ["already_loaded"], "{}", response.body);
    assert_eq!(test_env.count().await?.database, 20);
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new());
    Ok(())
}

#[rstest]
#[tokio::test]
async fn new_content_under_same_key_loads(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    for records in [20, 30] {
        let object = test_env.fixture.upload("uploads/orders.csv", records).await?;
        test_env.deliver_until_accepted(&settings, &[&object]).await?;
    }
    assert_eq!(test_env.count().await?.database, 50);
    assert_eq!(test_env.fixture.account.keys("processed/").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn broken_file_does_not_stop_other_files_of_an_event() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let broken = test_env.fixture.account.put("uploads/broken.csv", "a,b\n1,\"not closed\n").await?;
    let good = test_env.fixture.upload("uploads/good.csv", 10).await?;
    let response = test_env.deliver(&test_env.settings(), &[&broken, &good]).await?;
    response.ensure_success()?;
    assert_eq!(outcomes(&response), ["rejected", "loaded"]);
    let failed = test_env.fixture.account.keys("failed/").await?;
    assert_eq!(failed.len(), 2, "{failed:?}");
    let reason: Value = serde_json::from_slice(&test_env.fixture.account.get(&failed[1]).await?)?;
    assert_eq!((&reason["kind"], &reason["record"]), (&json!("file_broken"), &json!(1)), "{reason}");
    test_env.fixture.expect_no_rows(broken);
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn failed_record_fails_the_event_after_other_records_load() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let good = test_env.fixture.upload("uploads/good.csv", 10).await?;
    let mut event = test_env.fixture.event(&[&good, &good]);
    event["Records"][0]["s3"]["object"] = json!({"size": 10});
    let response = Function::trigger(&test_env.settings())?.invoke(&event).await?;
    assert_eq!(response.error_type(), Some("event_invalid"), "{} {}", response.body, response.logs);
    assert_eq!(test_env.count().await?.database, 10);
    test_env.ensure_exactly_once().await
}

#[rstest]
#[tokio::test]
async fn file_without_rows_is_completed(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    for (key, body) in [("uploads/empty.csv", ""), ("uploads/header.csv", "file,record,checksum,note\n")] {
        let object = test_env.fixture.account.put(key, body).await?;
        let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
        assert_eq!(outcomes(&response), ["loaded"], "{key}");
        test_env.fixture.expect_no_rows(object);
    }
    assert_eq!(test_env.fixture.account.keys("processed/").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn insert_stores_same_rows_as_load_data() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 700).await?;
    let settings = test_env.settings().with("RDS_LOAD_METHOD", "insert");
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?.database, 700);
    test_env.ensure_exactly_once().await
}

#[tokio::test]
async fn invalid_settings_stop_the_function_at_start() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 3).await?;
    let response = test_env.deliver(&test_env.settings().with("RDS_PORT", 70_000), &[&object]).await?;
    assert!(response.is_failure(), "{}", response.body);
    assert!(response.logs.contains("RDS_PORT") && response.logs.contains("70000"), "{}", response.logs);
    assert_eq!(test_env.count().await?, Counted::default());
    Ok(())
}
