//! Scripts for a real AWS account, as far as they run without one.

use std::process::Command;

use anyhow::{Result, ensure};
use spillway_test_env::run;

/// The commands of a dry run, in this order.
const PROVEN: [&str; 12] = [
    "cloudformation describe-stacks",
    r#"\{\"check\":"#,
    r"small\ +\ 1%.csv",
    "SSEKMSKeyId",
    "get-bucket-notification-configuration",
    "broken.csv",
    "wait until all 200 files are under <ProcessedPrefix>",
    "large.csv",
    "wait until its rows are in the fallback",
    r#"\{\"replay\":"#,
    "wait until the rows of the fallback are loaded",
    "describe-alarms",
];

/// The commands of a dry run for Redshift, in this order.
const PROVEN_IN_REDSHIFT: [&str; 11] = [
    "redshift-data execute-statement",
    "uploads/cells.csv",
    "spillway-task",
    "race.csv",
    "LOAD_MODE=replace",
    "older.csv",
    "LOAD_MODE=merge",
    "twice.csv",
    "wide.csv",
    "DROP\\ TABLE",
    "glue delete-database",
];

/// Runs a script dry, with an `aws` that would fail and leave a trace. Returns the printed steps and commands.
fn dry_run(arguments: &[&str]) -> Result<(String, String)> {
    let folder = run::Scratch::new("proof")?;
    let trace = folder.path().join("called");
    for name in ["aws", "spillway-task"] {
        let program = folder.path().join(name);
        std::fs::write(&program, format!("#!/bin/sh\ntouch {}\nexit 99\n", trace.display()))?;
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let output = Command::new(run::workspace().join("scripts/prove-in-account"))
        .args(arguments)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .output()?;
    let [steps, commands] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ensure!(output.status.success(), "{steps}{commands}");
    ensure!(!trace.exists(), "the dry run called a program");
    Ok((steps, commands))
}

/// Fails unless these texts follow each other.
fn ensure_order(text: &str, parts: &[&str]) -> Result<()> {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            anyhow::bail!("{part:?} is missing or too early:\n{text}")
        };
        rest = after;
    }
    Ok(())
}

/// A dry run prints each step and calls nothing.
#[test]
fn dry_run_of_the_proof_calls_nothing() -> Result<()> {
    let (steps, commands) = dry_run(&["spillway", "--dry-run"])?;
    ensure_order(&commands, &PROVEN)?;
    ensure!(steps.contains("== 13.") && steps.contains("== done"), "{steps}");
    Ok(())
}

/// The same, for Redshift. Its last step removes everything.
#[test]
fn dry_run_for_redshift_calls_nothing() -> Result<()> {
    let (steps, commands) = dry_run(&["redshift", "--dry-run"])?;
    ensure_order(&commands, &PROVEN_IN_REDSHIFT)?;
    ensure!(steps.contains("== 8.") && steps.contains("== done") && steps.contains("== clean up"), "{steps}");
    Ok(())
}
