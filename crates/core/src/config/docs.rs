//! The generated pages `docs/settings.md` and `docs/errors.md`, and the tests that keep them up to date.
//!
//! `UPDATE_DOCS=1 cargo test -p spillway-core --lib generated_page` rewrites them.

use std::path::Path;

use super::setting::{Category, Declared, ReadBy, Template};
use super::settings;
use super::table_settings::OF_TABLE;
use crate::error::ErrorKind;
use crate::policy::{Action, Retry, policy};

const COMMAND: &str = "UPDATE_DOCS=1 cargo test -p spillway-core --lib generated_page";

/// The sections of `docs/settings.md`, in order.
const CATEGORIES: [Category; 14] = [
    Category::Storage,
    Category::Database,
    Category::Loading,
    Category::Files,
    Category::Limits,
    Category::Fallback,
    Category::Tasks,
    Category::Streams,
    Category::Exports,
    Category::Outcomes,
    Category::Request,
    Category::Logs,
    Category::Platform,
    Category::Testing,
];

const SETTINGS_TOP: &str = "\
# Settings

Spillway reads its settings from environment variables. `template.yaml` sets most of them from its parameters. Both
functions and the task get the same values.

- An empty value counts as unset.
- A setting that is marked *Also per table* can have another value for single tables: see [table settings](table-settings.md).
- Words are accepted in any letter case.
- A missing or invalid setting stops the program at start. The message contains the name, the value and the accepted
  values.
";

const ERRORS_TOP: &str = "\
# Errors

Every failure has a kind. The kind appears in logs, reports and the ledger, and a function returns it as its error type.
It decides what Spillway does next:

- **Retry**: how often the failed step is tried again before the outcome below.
- **Outcome**: what happens to the file.
  - *Falls back*: the rows are written to S3 and Glue, and the file moves to the failed prefix.
  - *Rejected*: the file moves to the failed prefix together with the reason. No row is loaded.
  - *Stays in place*: the call fails. The event is received up to eight times, and each sweep tries the file.
- **Alert**: whether an operator must act although no row is lost. The log line is then an error, and an alarm says so.
";

#[test]
fn the_generated_page_of_settings_is_up_to_date() {
    check("docs/settings.md", &settings_page());
}

#[test]
fn the_generated_page_of_errors_is_up_to_date() {
    check("docs/errors.md", &errors_page());
}

#[test]
fn the_generated_page_of_redshift_statements_is_up_to_date() {
    check("tests/redshift/statements.sql", &crate::destination::redshift_statements());
}

/// Compares a page with its file, or writes the file if `UPDATE_DOCS` is set.
#[allow(clippy::disallowed_methods, reason = "a switch of the test run, not a setting")]
pub(super) fn check(path: &str, page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == page, "{path} is out of date; run: {COMMAND}");
}

fn settings_page() -> String {
    let mut page = format!("{}\n{SETTINGS_TOP}", notice("crates/core/src/config/settings"));
    for category in CATEGORIES {
        page += &format!("\n## {}\n\n{}\n\n", title(category), introduction(category));
        page += "| name | accepts | default | read by | template parameter | meaning |\n|---|---|---|---|---|---|\n";
        for setting in settings::all().filter(|setting| setting.info().category == category) {
            page += &settings_row(setting);
        }
    }
    page
}

/// The heading of its section.
fn title(category: Category) -> &'static str {
    match category {
        Category::Storage => "Region, bucket and prefixes",
        Category::Database => "Database connection",
        Category::Loading => "Tables and loading",
        Category::Files => "File formats",
        Category::Limits => "Limits",
        Category::Fallback => "Fallback and lake",
        Category::Tasks => "Fargate tasks",
        Category::Streams => "Streams",
        Category::Exports => "Exports",
        Category::Outcomes => "Metrics, events and retries",
        Category::Request => "Default request",
        Category::Logs => "Logs",
        Category::Platform => "Set by the platform",
        Category::Testing => "Test builds",
    }
}

/// The sentences below the heading.
fn introduction(category: Category) -> &'static str {
    match category {
        Category::Storage => "All prefixes are in the same bucket as the files.",
        Category::Database => {
            "Set either `RDS_SECRET_NAME`, or all of `RDS_HOST`, `RDS_USER`, `RDS_PASSWORD` and `RDS_DB`. With `RDS_AUTH=iam`, \
             neither `RDS_PASSWORD` nor a secret is needed."
        }
        Category::Loading => "At least one of `RDS_TABLE`, `TABLE_PATTERN` and `SPILLWAY_CONFIG` is required.",
        Category::Files => "The `CSV_` settings and `NULL_VALUES` apply only to CSV files.",
        Category::Limits => "Limits protect the database and the worker from damaged or unusually large files.",
        Category::Fallback => {
            "Rows in the fallback and in the [lake](lake.md) are Parquet in S3, and can be queried through Glue."
        }
        Category::Tasks => "The functions start a Fargate task for an object that is too large for them.",
        Category::Streams => {
            "[Streams](streams.md) describes the transform. `templates/streaming.yaml` sets these from its parameters."
        }
        Category::Exports => {
            "[The import of exports](exports.md#import) describes them. `templates/exports.yaml` sets these from its parameters."
        }
        Category::Outcomes => "[Operations](operations.md) describes the metrics and events.",
        Category::Request => {
            "The task loads what these settings name. So does the ingest function when it is called without a request."
        }
        Category::Logs => "Log lines go to standard error. They never contain row values or passwords.",
        Category::Platform => "AWS Lambda, ECS or the template sets these variables. You do not set them yourself.",
        Category::Testing => {
            "Only builds with the cargo feature `failpoints` read these variables. Deployed builds do not."
        }
    }
}

/// The programs that read a setting.
fn readers(read_by: ReadBy) -> &'static str {
    match read_by {
        ReadBy::All => "functions, task",
        ReadBy::Functions => "functions",
        ReadBy::Trigger => "trigger function",
        ReadBy::IngestAndTask => "ingest function, task",
        ReadBy::Task => "task",
        ReadBy::Stream => "stream function",
        ReadBy::Exports => "exports function",
        ReadBy::ExportsAndCommandLine => "exports function, command line",
        ReadBy::CommandLine => "command line",
        ReadBy::TestBuilds => "test builds",
    }
}

fn settings_row(setting: &dyn Declared) -> String {
    let info = setting.info();
    let default = info.default.map(|default| format!("`{default}`{}", size(setting, default))).unwrap_or_default();
    let accepts = setting.choices().map_or_else(|| setting.accepts(), |words| any_of(&words) + &also(setting));
    let parameter = match info.template {
        Template::Parameter(name) => format!("`{name}`"),
        Template::Fixed => "set by the template".to_owned(),
        Template::NotSet => "not a template parameter".to_owned(),
    };
    let cells = [
        format!("`{}`", info.name),
        accepts,
        default,
        readers(info.read_by).to_owned(),
        parameter,
        format!("{}{}", info.text.trim(), if is_per_table(setting) { " Also per table." } else { "" }),
    ];
    row(&cells)
}

/// Whether the table settings can set it.
fn is_per_table(setting: &dyn Declared) -> bool {
    OF_TABLE.iter().any(|other| other.info().name == setting.info().name)
}

/// The other spellings of the words, in parentheses.
fn also(setting: &dyn Declared) -> String {
    let aliases: Vec<String> = setting.aliases().iter().map(|alias| format!("`{alias}`")).collect();
    if aliases.is_empty() { String::new() } else { format!(" (also {})", aliases.join(", ")) }
}

/// The words as code, with "or" before the last one.
fn any_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.split_last().map(|(last, others)| format!("{} or {last}", others.join(", "))).unwrap_or_default()
}

/// A number of bytes in a larger unit, in parentheses.
fn size(setting: &dyn Declared, default: &str) -> String {
    let bytes = default.parse::<u64>().ok().filter(|_| setting.accepts().starts_with("a number of bytes"));
    match bytes {
        Some(bytes) if bytes % (1 << 30) == 0 => format!(" ({} GiB)", bytes >> 30),
        Some(bytes) if bytes % (1 << 20) == 0 => format!(" ({} MiB)", bytes >> 20),
        _ => String::new(),
    }
}

fn errors_page() -> String {
    let mut page = format!("{}\n{ERRORS_TOP}\n", notice("crates/core/src/policy.rs and error.rs"));
    page += "| kind | meaning | retry | outcome | alert | what you can do |\n|---|---|---|---|---|---|\n";
    for &kind in ErrorKind::ALL {
        let policy = policy(kind);
        let outcome = match policy.action {
            Action::FallBack => "falls back",
            Action::Reject => "rejected",
            Action::Fail => "stays in place",
        };
        let alert = if policy.alert { "yes" } else { "no" };
        let cells = [
            format!("`{}`", kind.name()),
            kind.meaning().trim().to_owned(),
            retry(policy.retry),
            outcome.to_owned(),
            alert.to_owned(),
            sentence(policy.hint),
        ];
        page += &row(&cells);
    }
    page
}

fn retry(retry: Retry) -> String {
    match retry {
        Retry::Never => "none".to_owned(),
        Retry::Tries(tries) => format!("up to {tries} tries"),
        Retry::Budget => "for `RDS_RETRY_SECONDS`".to_owned(),
        Retry::FreshCredentials(limit) => {
            format!("with the secret read again, for at most {} seconds", limit.as_secs())
        }
    }
}

fn notice(source: &str) -> String {
    format!("<!-- Generated from {source}. To change this page, change the source and run: {COMMAND} -->\n")
}

/// The text with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

fn row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
