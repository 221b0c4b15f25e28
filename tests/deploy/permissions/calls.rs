//! Finds the AWS operations that the code calls in its source.
//!
//! Every SDK client is a field with the name `client`, and every request ends with `.send()`. A check that each file has the
//! same number of both finds operations that are called in another way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use spillway_test_env::run;

/// The SDK crates whose operations the table knows.
const SDKS: [&str; 7] = [
    "aws_sdk_ecs",
    "aws_sdk_eventbridge",
    "aws_sdk_glue",
    "aws_sdk_redshiftdata",
    "aws_sdk_s3",
    "aws_sdk_secretsmanager",
    "aws_sdk_sqs",
];

/// The name of each operation, such as `GetObject`, with the files that call it.
pub(super) fn operations() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources()? {
        let source = code(&std::fs::read_to_string(&file)?);
        let name = file.strip_prefix(run::workspace())?.display().to_string();
        for sdk in words_after(&source, "aws_sdk_").map(|word| format!("aws_sdk_{word}")) {
            ensure!(SDKS.contains(&sdk.as_str()), "{name} uses {sdk}, which this test does not support");
        }
        let sent = source.matches(".send()").count();
        if sent == 0 && !source.contains("aws_sdk_") {
            // Database clients are also fields with the name `client`.
            continue;
        }
        let methods: Vec<&str> = words_after(&source, "client.").filter(|method| *method != "clone").collect();
        let started = methods.len();
        ensure!(
            started == sent,
            "{name} has {started} calls on a field `client` ({methods:?}) and {sent} calls of `send`; the numbers must be equal"
        );
        for method in methods {
            found.entry(operation(method)).or_default().insert(name.clone());
        }
    }
    ensure!(!found.is_empty(), "no AWS operation was found in the source");
    Ok(found)
}

/// Every Rust file of the crates, except test files.
fn sources() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(run::workspace().join("crates"))? {
        add_sources(&entry?.path().join("src"), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn add_sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            add_sources(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The source without comments, white space and its test module.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(str::chars).filter(|letter| !letter.is_whitespace()).collect()
}

/// The words that follow each occurrence of a text.
fn words_after<'a>(source: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(before).skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// `list_objects_v2` as `ListObjectsV2`.
fn operation(method: &str) -> String {
    let capitalized = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    method.split('_').filter(|word| !word.is_empty()).map(capitalized).collect()
}
