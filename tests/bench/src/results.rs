//! `make compare-results`: compares what two builds of the task make of the same files.
//!
//! Each file gets a table of its own. What can differ: where the object is afterwards, the columns of its table, and the rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_test_env::database::{Engine, Rows};
use spillway_test_env::task::Task;
use spillway_test_env::test_env::TestEnv;

/// The time limit for one build with all files.
const TIMEOUT: Duration = Duration::from_secs(1_800);
/// The places of an object, or of its rows.
const PLACES: [&str; 5] = ["uploads/", "processed/", "failed/", "fallback/", "rejected/"];

/// What a build made of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    places: Vec<&'static str>,
    columns: Rows,
    rows: Rows,
}

/// Loads every file below the folder with both builds, on MariaDB and PostgreSQL. Returns the differences.
pub(crate) async fn compare(task: &Path, baseline: &Path, folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "{} has no files", folder.display());
    let mut text = String::new();
    for engine in [Engine::MariaDb, Engine::Postgres] {
        let after = load(engine, task, &files).await?;
        let before = load(engine, baseline, &files).await?;
        let mut equal = 0;
        for (number, file) in files.iter().enumerate() {
            let table = table(number);
            let (before, after) = (&before[&table], &after[&table]);
            if before == after {
                equal += 1;
                continue;
            }
            text += &format!("{} on {}\n", file.strip_prefix(folder)?.display(), engine.title());
            text += &format!("  before: {}\n   after: {}\n", described(before, after), described(after, before));
        }
        let loaded = after.values().filter(|made| !made.columns.is_empty()).count();
        text += &format!("{}: {} files, {loaded} loaded, {equal} with equal results\n", engine.title(), files.len());
    }
    Ok(text)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn table(number: usize) -> String {
    format!("t{number:04}")
}

/// Loads the files with one build. Returns the results by table.
async fn load(engine: Engine, task: &Path, files: &[PathBuf]) -> Result<BTreeMap<String, Made>> {
    let env = TestEnv::on(engine).await?;
    for (number, file) in files.iter().enumerate() {
        let name = file.file_name().and_then(|name| name.to_str()).context("a name is not UTF-8")?;
        env.fixture.account.put(&format!("uploads/{}/{name}", table(number)), std::fs::read(file)?).await?;
    }
    let settings = env.settings().without("RDS_TABLE").with("TABLE_PATTERN", "uploads/{table}/**");
    let settings = settings.with("CSV_PREFIX", "uploads/").with("CSV_MODE", "all").with("RDS_TLS", "off");
    let ended = Task::start_binary(task, &settings)?.finish(TIMEOUT).await?;
    let keys = env.fixture.account.keys("").await?;
    ensure!(
        keys.iter().any(|key| key.starts_with("processed/")),
        "{} has loaded no file: {}",
        task.display(),
        ended.logs
    );
    let mut made = BTreeMap::new();
    for number in 0..files.len() {
        let table = table(number);
        let is_of_table = |key: &String| key.split('/').any(|part| part == table);
        let is_at = |place: &&str| keys.iter().any(|key| key.starts_with(place) && is_of_table(key));
        let places = PLACES.into_iter().filter(is_at).collect();
        let columns = env
            .rows(&format!(
                "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale, \
                 datetime_precision, is_nullable FROM information_schema.columns \
                 WHERE table_schema = '{{schema}}' AND table_name = '{table}' ORDER BY ordinal_position"
            ))
            .await?;
        let values: Vec<String> = columns.iter().filter_map(|column| value(engine, column)).collect();
        let mut rows = match values.is_empty() {
            true => Vec::new(),
            false => env.rows(&format!("SELECT {} FROM {{schema}}.{table}", values.join(", "))).await?,
        };
        rows.sort();
        made.insert(table, Made { places, columns, rows });
    }
    env.server.drop_schema(&env.fixture.schema).await?;
    Ok(made)
}

/// The expression that reads a column as text. Bytes may not be UTF-8.
fn value(engine: Engine, column: &[Option<String>]) -> Option<String> {
    let (name, data_type) = (column.first()?.as_deref()?, column.get(1)?.as_deref()?);
    Some(match engine {
        Engine::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        Engine::MariaDb => {
            let quoted = format!("`{}`", name.replace('`', "``"));
            if data_type.ends_with("blob") || data_type.ends_with("binary") { format!("HEX({quoted})") } else { quoted }
        }
    })
}

/// The parts of a result that differ from another.
fn described(made: &Made, other: &Made) -> String {
    let mut parts = vec![made.places.join(" ")];
    let lines = |rows: &Rows, other: &Rows| {
        let only = rows.iter().filter(|row| !other.contains(row)).take(3);
        let line = |row: &Vec<Option<String>>| {
            row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("|")
        };
        only.map(line).collect::<Vec<_>>().join(" ; ")
    };
    if made.columns != other.columns {
        parts.push(format!("columns {}", lines(&made.columns, &other.columns)));
    }
    if made.rows != other.rows {
        parts.push(format!("{} rows {}", made.rows.len(), lines(&made.rows, &other.rows)));
    }
    parts.join(", ")
}
