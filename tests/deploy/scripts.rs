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

/// A dry run prints each step and calls nothing: its `aws` would fail, and leave a trace.
#[test]
fn dry_run_of_the_proof_calls_nothing() -> Result<()> {
    let folder = run::Scratch::new("proof")?;
    let (program, trace) = (folder.path().join("aws"), folder.path().join("called"));
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\nexit 99\n", trace.display()))?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let output = Command::new(run::workspace().join("scripts/prove-in-account"))
        .args(["spillway", "--dry-run"])
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .output()?;
    let (steps, commands) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{steps}{commands}");
    ensure!(!trace.exists(), "the dry run called aws");
    let mut rest: &str = &commands;
    for command in PROVEN {
        let Some((_, after)) = rest.split_once(command) else {
            anyhow::bail!("{command:?} is missing or too early:\n{commands}")
        };
        rest = after;
    }
    ensure!(steps.contains("== 13.") && steps.contains("== done"), "{steps}");
    Ok(())
}
