//! From the upload to the rows: the trigger under the runtime emulator, events that come more than once, at once, or in
//! bad company.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::fixture::Counted;
use spillway_test_env::lambda::{Answer, Function};
use spillway_test_env::test_env::TestEnv;

fn outcomes(answer: &Answer) -> Vec<&str> {
    let reports = answer.body["reports"].as_array().map(Vec::as_slice).unwrap_or_default();
    reports.iter().filter_map(|report| report["outcome"].as_str()).collect()
}

#[rstest]
#[tokio::test]
async fn an_upload_becomes_rows_a_ledger_entry_and_a_processed_object(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/2026/day one/orders+100%.csv", 50).await?;
    let answer = test_env.deliver(&test_env.settings(), &[&object]).await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    assert_eq!(outcomes(&answer), ["loaded"]);
    assert_eq!(test_env.count().await?, Counted { database: 50, fallback: 0 });
    let keys = test_env.fixture.account.keys("processed/").await?;
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("processed/2026/day one/orders+100%.") && keys[0].ends_with(".csv"), "{keys:?}");
    assert_eq!(test_env.ledger(&object.key).await?.map(|(state, _)| state).as_deref(), Some("loaded"));
    // Three writes and seven reads of S3 (see `cost`), an invocation, and less than a minute of half a gigabyte.
    let cost = answer.body["reports"][0]["cost_usd"].as_f64().context("the report has no cost")?;
    let requests = 3.0 * 0.000_005 + 7.0 * 0.000_000_4 + 0.000_000_2;
    ensure!(cost > requests && cost < requests + 0.000_5, "the file cost {cost} dollars, its requests {requests}");
    let noted =
        test_env.server.query(&test_env.fixture.schema, "SELECT cost_usd FROM {schema}.spillway_ledger").await?;
    assert_eq!(noted, [[Some(format!("{cost:.6}"))]]);
    test_env.ensure_kept().await
}

#[rstest]
#[case::twice_one_after_the_other(2, false)]
#[case::twice_at_once(2, true)]
#[case::eight_times_at_once(8, true)]
#[tokio::test]
async fn the_same_event_again_stores_the_rows_once(
    #[case] times: usize,
    #[case] at_once: bool,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 400).await?;
    let settings = test_env.settings();
    let trigger = Function::trigger(&settings)?;
    let event = test_env.fixture.event(&[&object]);
    let mut answers = Vec::new();
    if at_once {
        let mut calls = Vec::new();
        for _ in 0..times {
            calls.push(trigger.start(&event).await?);
        }
        for call in calls {
            answers.push(call.answer().await?);
        }
    } else {
        for _ in 0..times {
            answers.push(trigger.invoke(&event).await?);
        }
    }
    let loaded = answers.iter().filter(|answer| outcomes(answer) == ["loaded"]).count();
    assert_eq!(loaded, 1, "{answers:#?}");
    // Whoever found it held by another worker failed, and Lambda brings that event again.
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 400, fallback: 0 });
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn the_same_bytes_uploaded_again_are_a_duplicate(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    let first = test_env.fixture.upload("uploads/orders.csv", 20).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    let body = test_env.fixture.account.get(&test_env.fixture.account.keys("processed/").await?[0]).await?;
    let again = test_env.fixture.account.put("uploads/orders.csv", body).await?;
    let answer = test_env.deliver_until_accepted(&settings, &[&again]).await?;
    assert_eq!(outcomes(&answer), ["already_loaded"], "{}", answer.body);
    assert_eq!(test_env.count().await?.database, 20);
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new());
    Ok(())
}

#[rstest]
#[tokio::test]
async fn another_file_under_the_same_name_is_another_file(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
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
async fn one_broken_file_of_an_event_goes_to_failed_and_the_other_is_loaded() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let broken = test_env.fixture.account.put("uploads/broken.csv", "a,b\n1,\"never closed\n").await?;
    let good = test_env.fixture.upload("uploads/good.csv", 10).await?;
    let answer = test_env.deliver(&test_env.settings(), &[&broken, &good]).await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    assert_eq!(outcomes(&answer), ["rejected", "loaded"]);
    let failed = test_env.fixture.account.keys("failed/").await?;
    assert_eq!(failed.len(), 2, "{failed:?}");
    let reason: Value = serde_json::from_slice(&test_env.fixture.account.get(&failed[1]).await?)?;
    assert_eq!((&reason["kind"], &reason["record"]), (&json!("file_broken"), &json!(1)), "{reason}");
    test_env.fixture.expect_no_rows(broken);
    test_env.ensure_kept().await
}

#[tokio::test]
async fn a_record_that_reaches_no_end_fails_the_event_after_the_others_had_their_turn() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let good = test_env.fixture.upload("uploads/good.csv", 10).await?;
    let mut event = test_env.fixture.event(&[&good, &good]);
    event["Records"][0]["s3"]["object"] = json!({"size": 10});
    let answer = Function::trigger(&test_env.settings())?.invoke(&event).await?;
    assert_eq!(answer.error_type(), Some("event_invalid"), "{} {}", answer.body, answer.logs);
    assert_eq!(test_env.count().await?.database, 10);
    test_env.ensure_kept().await
}

#[rstest]
#[tokio::test]
async fn a_file_without_rows_is_finished_too(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings();
    for (key, body) in [("uploads/empty.csv", ""), ("uploads/header.csv", "file,record,checksum,note\n")] {
        let object = test_env.fixture.account.put(key, body).await?;
        let answer = test_env.deliver_until_accepted(&settings, &[&object]).await?;
        assert_eq!(outcomes(&answer), ["loaded"], "{key}");
        test_env.fixture.expect_no_rows(object);
    }
    assert_eq!(test_env.fixture.account.keys("processed/").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn insert_stores_the_same_rows_as_load_data() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 700).await?;
    let settings = test_env.settings().with("RDS_LOAD_METHOD", "insert");
    test_env.deliver_until_accepted(&settings, &[&object]).await?;
    assert_eq!(test_env.count().await?.database, 700);
    test_env.ensure_kept().await
}

#[tokio::test]
async fn wrong_settings_stop_the_function_at_its_start() -> Result<()> {
    let mut test_env = TestEnv::new().await?;
    let object = test_env.fixture.upload("uploads/orders.csv", 3).await?;
    let answer = test_env.deliver(&test_env.settings().with("RDS_PORT", 70_000), &[&object]).await?;
    assert!(answer.is_failure(), "{}", answer.body);
    assert!(answer.logs.contains("RDS_PORT") && answer.logs.contains("70000"), "{}", answer.logs);
    assert_eq!(test_env.count().await?, Counted::default());
    Ok(())
}
