//! Files as people have them (`tests/cases`): each ends as its user wants, on every engine that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde::Deserialize;
use serde_json::Value;
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

/// The table of every case.
const TABLE: &str = "t";

/// A `case.json`.
#[derive(Debug, Deserialize)]
struct Case {
    engines: Vec<String>,
    /// The name of the file beside `case.json`.
    input: String,
    /// The outcomes that a user accepts.
    outcomes_ok: Vec<String>,
    expect: Expected,
    /// The query for the rows, by engine.
    #[serde(default)]
    check_sql: BTreeMap<String, String>,
}

/// The rows that the query returns.
#[derive(Debug, Deserialize)]
struct Expected {
    /// The columns in the order of the query.
    columns: Vec<String>,
    rows: Vec<Value>,
    rows_mysql: Option<Vec<Value>>,
}

#[rstest]
#[tokio::test]
async fn case_ends_as_its_user_wants(
    #[files("cases/*/case.json")] case: PathBuf,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let folder = case.parent().context("a case has a folder")?;
    let case: Case = serde_json::from_slice(&std::fs::read(&case)?)?;
    let (name, setup) = match engine {
        Engine::MariaDb => ("mysql", "setup.mysql.sql"),
        Engine::Postgres => ("postgres", "setup.pg.sql"),
    };
    if !case.engines.iter().any(|engine| engine == name) {
        return Ok(());
    }
    let test_env = TestEnv::on(engine).await?;
    set_up(&test_env, &folder.join(setup)).await?;
    let key = format!("uploads/{}", case.input);
    let object = test_env.fixture.account.put(&key, std::fs::read(folder.join(&case.input))?).await?;
    test_env.deliver_until_accepted(&settings(&test_env, folder)?, &[&object]).await?;

    let (state, why) = test_env.ledger(&key).await?.context("the ledger has no entry")?;
    ensure!(case.outcomes_ok.contains(&state), "the file is {state}: {why}");
    if state == "loaded" {
        let query = case.check_sql.get(name).context("the case has no query")?;
        let found =
            test_env.rows(&query.replace(&format!("FROM {TABLE} "), &format!("FROM {{schema}}.{TABLE} "))).await?;
        let expected = case.expect.rows_of(engine);
        let is_same =
            found.len() == expected.len() && found.iter().zip(&expected).all(|(row, other)| is_same_row(row, other));
        ensure!(is_same, "{found:?} instead of {expected:?}");
    }
    Ok(())
}

impl Expected {
    fn rows_of(self, engine: Engine) -> Vec<Vec<Option<String>>> {
        let rows = self.rows_mysql.filter(|_| engine == Engine::MariaDb).unwrap_or(self.rows);
        let values = |row: &Value| self.columns.iter().map(|column| row[column].as_str().map(str::to_owned)).collect();
        rows.iter().map(values).collect()
    }
}

/// Whether the values are the same. Numbers may have more zeros: the scale of a column is not the file's.
fn is_same_row(row: &[Option<String>], other: &[Option<String>]) -> bool {
    let number = |value: &Option<String>| value.as_ref().and_then(|text| text.parse::<f64>().ok());
    let is_same = |(value, other): (&Option<String>, &Option<String>)| {
        value == other || number(value).is_some_and(|value| number(other) == Some(value))
    };
    row.len() == other.len() && row.iter().zip(other).all(is_same)
}

/// Creates the table, if the case has one.
async fn set_up(test_env: &TestEnv, setup: &Path) -> Result<()> {
    if !setup.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(setup)?;
    for statement in text.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        let created = format!("CREATE TABLE {{schema}}.{TABLE} ");
        test_env.sql(&statement.replace(&format!("CREATE TABLE {TABLE} "), &created)).await?;
    }
    Ok(())
}

/// The settings of a test, with those of the case.
fn settings(test_env: &TestEnv, folder: &Path) -> Result<Settings> {
    let mut settings = test_env.settings().with("RDS_TABLE", TABLE);
    let file = folder.join("settings.env");
    if file.exists() {
        for line in std::fs::read_to_string(file)?.lines() {
            let (name, value) = line.split_once('=').context("a setting is NAME=VALUE")?;
            settings = settings.with(name, value);
        }
    }
    Ok(settings)
}
