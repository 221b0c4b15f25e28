//! Commands that only read need only what they read: a bucket, or a bucket and a database, but no table.

use anyhow::{Result, ensure};
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::spillway;
use spillway_test_env::test_env::TestEnv;

/// The settings of the database.
const DATABASE: [&str; 8] =
    ["RDS_ENGINE", "RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD", "RDS_DB", "RDS_SECRET_NAME", "RDS_TABLE"];

#[tokio::test]
async fn lists_of_objects_need_only_a_bucket() -> Result<()> {
    let test_env = TestEnv::on(Engine::MariaDb).await?;
    let bucket = test_env.fixture.account.bucket.clone();
    let only_bucket = DATABASE.iter().fold(test_env.settings(), |settings, name| settings.without(name));
    let no_bucket = only_bucket.clone().without("S3_BUCKET");
    for list in [["fallback", "list"], ["rejects", "list"]] {
        let list: Vec<&str> = list.to_vec();
        let listed = spillway(&only_bucket, &[&list[..], &["--json"]].concat()).await?.ensure_code(0)?.json()?;
        assert_eq!(listed["items"], json!([]), "{list:?}");
        spillway(&no_bucket, &[&list[..], &["--bucket", &bucket]].concat()).await?.ensure_code(0)?;
        let missing = spillway(&no_bucket, &list).await?.ensure_code(64)?;
        for name in ["--bucket NAME", "S3_BUCKET"] {
            ensure!(missing.stderr.contains(name), "{list:?}: no {name} in {}", missing.stderr);
        }
        ensure!(!missing.stderr.contains("RDS_"), "{list:?} needs no database: {}", missing.stderr);
    }
    for show in [["fallback", "show", "uploads/a.csv"], ["rejects", "show", "rejected/orders/a.csv"]] {
        spillway(&only_bucket, &show).await?.ensure_code(1)?;
    }
    Ok(())
}

#[tokio::test]
async fn status_needs_a_bucket_and_a_database_but_no_table() -> Result<()> {
    let test_env = TestEnv::on(Engine::MariaDb).await?;
    let settings = test_env.settings().without("RDS_TABLE");
    for arguments in [&["status", "--json"][..], &["status", "--json", "--bucket", &test_env.fixture.account.bucket]] {
        let status = spillway(&settings, arguments).await?.ensure_code(0)?.json()?;
        assert_eq!(status["database"]["available"], json!(true), "{status}");
    }
    let unknown = spillway(&settings, &["status", "uploads/no.csv", "--json"]).await?.ensure_code(2)?.json()?;
    assert_eq!(unknown["state"], json!("unknown"), "{unknown}");
    let of = |name: &str| settings.get(name).unwrap_or_default().to_owned();
    let url = format!("mariadb://{}@127.0.0.1:{}/{}", of("RDS_USER"), of("RDS_PORT"), of("RDS_DB"));
    let by_url =
        DATABASE.iter().filter(|name| **name != "RDS_PASSWORD").fold(settings.clone(), |all, name| all.without(name));
    spillway(&by_url, &["status", "--to", &url]).await?.ensure_code(0)?;
    let without = |names: &[&str]| names.iter().fold(settings.clone(), |all, name| all.without(name));
    let cases: [(Settings, &[&str]); 3] = [
        (without(&DATABASE), &["--to URL", "RDS_HOST"]),
        (without(&["S3_BUCKET"]), &["--bucket NAME", "S3_BUCKET"]),
        (without(&DATABASE).without("S3_BUCKET"), &["--to URL", "RDS_HOST", "--bucket NAME", "S3_BUCKET"]),
    ];
    for (settings, names) in cases {
        let missing = spillway(&settings, &["status"]).await?.ensure_code(64)?;
        for name in names {
            ensure!(missing.stderr.contains(name), "no {name} in {}", missing.stderr);
        }
    }
    // A command that loads names what it lacks as well.
    let missing = spillway(&without(&["S3_BUCKET"]), &["sweep"]).await?.ensure_code(64)?;
    ensure!(missing.stderr.contains("--bucket NAME"), "{}", missing.stderr);
    Ok(())
}

/// One object without a table must not hide what happened to the others.
#[tokio::test]
async fn failure_of_one_object_hides_no_report() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let account = test_env.fixture.account.clone();
    let settings = test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", "uploads/{table}/*");
    let sweep = ["sweep", "--older-than-seconds", "0", "--json"];
    for number in 0..2 {
        account.put(&format!("uploads/orders/{number}.csv"), format!("id\n{number}\n")).await?;
        account.put(&format!("uploads/{number}.csv"), "id\n1\n").await?;
        let ended = spillway(&settings, &sweep).await?.ensure_code(1)?;
        let document = ended.json()?;
        let failures = document["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!((&document["reports"][0]["outcome"], failures.len()), (&json!("loaded"), number + 1), "{document}");
        assert_eq!(failures[0]["kind"], json!("key_refused"), "{document}");
        ensure!(ended.stderr.contains("error: ") && !ended.stderr.contains("--table,"), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn addresses_of_objects_are_accepted_where_keys_are() -> Result<()> {
    let test_env = TestEnv::on(Engine::Postgres).await?;
    let account = test_env.fixture.account.clone();
    account.put("uploads/orders.csv", "id\n1\n").await?;
    let (settings, bucket) = (test_env.settings(), account.bucket.clone());
    let address = format!("s3://{bucket}/uploads/orders.csv");
    spillway(&settings, &["load", &address]).await?.ensure_code(0)?;
    let elsewhere = settings.clone().without("S3_BUCKET");
    let status = spillway(&elsewhere, &["status", &address, "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(status["state"], json!("loaded"), "{status}");
    let shown = spillway(&elsewhere, &["runs", "show", &address, "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(shown["items"][0]["key"], json!("uploads/orders.csv"), "{shown}");
    // The same key in another bucket is another object.
    spillway(&settings, &["runs", "show", "s3://other-bucket/uploads/orders.csv"]).await?.ensure_code(1)?;
    spillway(&settings, &["config", "show", &address]).await?.ensure_code(0)?;
    // A plan reads what a load reads.
    let moved = account.keys("processed/").await?.remove(0);
    let planned = spillway(&settings, &["plan", &format!("s3://{bucket}/{moved}")]).await?.ensure_code(64)?;
    ensure!(planned.stderr.contains("no load reads this object"), "{planned:?}");
    Ok(())
}
