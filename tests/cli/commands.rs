//! The other commands: settings, events, samples, completions, and exit codes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Running, spillway};

use crate::cli::site::Site;

const CONFIG: &str = "[[table]]\npattern = \"in/{name}/*.csv\"\nname = \"{name}\"\nmax_rejects = 5\n";

#[tokio::test]
async fn wrong_use_exits_with_64_and_help_with_0() -> Result<()> {
    let none = Settings::default();
    for arguments in [&["load"][..], &["nothing"], &["plan", "a.csv", "--engine", "oracle"], &[]] {
        spillway(&none, arguments).await?.ensure_code(64)?;
    }
    for arguments in [&["plan", "a.csv", "--set", "MAX_REJECT=1"][..], &["load", "a.csv", "--table", "t"]] {
        let ended = spillway(&none, arguments).await?.ensure_code(64)?;
        ensure!(ended.stderr.contains("MAX_REJECTS") || ended.stderr.contains("--to"), "{ended:?}");
    }
    let help = spillway(&none, &["--help"]).await?.ensure_code(0)?;
    ensure!(help.stdout.contains("plan") && help.stdout.contains("Exit codes"), "{}", help.stdout);
    ensure!(spillway(&none, &["--version"]).await?.ensure_code(0)?.stdout.starts_with("spillway "));
    Ok(())
}

#[tokio::test]
async fn settings_file_is_checked_and_explained() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    let (none, path) = (Settings::default(), site.file("tables.toml", CONFIG)?);
    let checked = spillway(&none, &["config", "check", &path, "--json"]).await?.ensure_code(0)?.json()?;
    assert_eq!(checked, json!({"ok": true, "tables": 1}));
    let wrong = site.file("wrong.toml", CONFIG.replace("max_rejects", "max_reject"))?;
    let ended = spillway(&none, &["config", "check", &wrong]).await?.ensure_code(2)?;
    ensure!(ended.stderr.contains("did you mean max_rejects?"), "{}", ended.stderr);
    let show = ["config", "show", "in/orders/a.csv", "--config", &path, "--json", "--set", "DEDUPE=version"];
    let shown = spillway(&none.clone().with("LOAD_MODE", "replace"), &show).await?.ensure_code(0)?.json()?;
    assert_eq!((&shown["table"], &shown["entry"]), (&json!("orders"), &json!(1)));
    let setting = |name: &str| {
        let all = shown["settings"].as_array().into_iter().flatten();
        all.clone().find(|setting| setting["name"] == name).map(|setting| setting["origin"].clone())
    };
    assert_eq!(setting("MAX_REJECTS"), Some(json!("file")));
    assert_eq!(setting("DEDUPE"), Some(json!("option")));
    assert_eq!(setting("LOAD_MODE"), Some(json!("environment")));
    assert_eq!(setting("CSV_QUOTE"), Some(json!("default")));
    let schema = spillway(&none, &["config", "schema"]).await?.ensure_code(0)?.json()?;
    ensure!(schema["$schema"].is_string(), "{schema}");
    Ok(())
}

#[tokio::test]
async fn events_have_every_shape() -> Result<()> {
    let none = Settings::default();
    let all = spillway(&none, &["events", "s3://bucket/a b.csv"]).await?.ensure_code(0)?.json()?;
    let shapes: Vec<&String> = all.as_object().context("an object")?.keys().collect();
    assert_eq!(shapes, ["eventbridge", "request", "s3", "sns", "sqs"]);
    let one = spillway(&none, &["events", "s3://bucket/a b.csv", "--shape", "s3"]).await?.ensure_code(0)?.json()?;
    assert_eq!(one["Records"][0]["s3"]["object"]["key"], json!("a+b.csv"));
    spillway(&none, &["events", "a.csv"]).await?.ensure_code(64)?;
    Ok(())
}

#[tokio::test]
async fn sample_can_be_planned() -> Result<()> {
    let none = Settings::default();
    for (format, expected) in [("csv", "csv"), ("jsonl", "json")] {
        let sample = spillway(&none, &["sample", "--rows", "25000", "--broken", "2", "--format", format]).await?;
        let arguments = ["plan", "-", "--json", "--set", "MAX_REJECTS=2"];
        let plan = Running::start(&none, &arguments)?.finish(sample.stdout.as_bytes()).await?.ensure_code(0)?.json()?;
        let counts = (&plan["format"]["name"], &plan["rows_parsed"], &plan["rows_rejected"]);
        assert_eq!(counts, (&Value::from(expected), &json!(25_000), &json!(2)), "{plan}");
    }
    Ok(())
}

#[tokio::test]
async fn completions_and_manual_page_are_printed() -> Result<()> {
    let none = Settings::default();
    for shell in ["bash", "zsh", "fish"] {
        let ended = spillway(&none, &["completions", shell]).await?.ensure_code(0)?;
        ensure!(ended.stdout.contains("spillway"), "{shell}");
    }
    let page = spillway(&none, &["completions", "--man"]).await?.ensure_code(0)?;
    ensure!(page.stdout.contains(".TH spillway"), "{}", page.stdout);
    Ok(())
}
