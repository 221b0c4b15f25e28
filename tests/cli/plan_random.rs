//! Random files, tables and settings: `spillway plan` says what `spillway load` then does.
//!
//! Each run uses new files. A failure shows the file, the table and the settings.

use anyhow::{Context, Result};
use fastrand::Rng;
use rstest::rstest;
use spillway_test_env::database::Engine;

use crate::cli::plan::ensure_load_is_planned;
use crate::cli::site::{Site, TABLE};

const FILES: usize = 30;

/// Settings that change the outcome of a file with unusual records, values or columns.
const SETTINGS: [&[(&str, &str)]; 7] = [
    &[],
    &[("MAX_REJECTS", "2")],
    &[("CHANGED_TYPES", "widen")],
    &[("CHANGED_TYPES", "widen"), ("MAX_REJECTS", "1")],
    &[("UNKNOWN_COLUMNS", "add")],
    &[("UNKNOWN_COLUMNS", "json"), ("CSV_SHORT_RECORDS", "fill")],
    &[("UNKNOWN_COLUMNS", "ignore"), ("MISSING_COLUMNS", "refuse")],
];

/// Types of existing columns on both engines.
const TYPES: [&str; 8] =
    ["SMALLINT", "BIGINT", "DECIMAL(6,2)", "VARCHAR(4)", "VARCHAR(400)", "DATE", "DOUBLE PRECISION", "INT NOT NULL"];

/// Values of one kind. A column of a file has mostly values of one of them.
const VALUES: [&[&str]; 8] = [
    &["1", "2", "-3", "+4", "70000", "9000000000", "1.0", "1e3", "007"],
    &["1.5", ".5", "-0.25", "12345.678", "1e300", "0.1", "1,5"],
    &["2024-01-02", "20240103", "2024/1/4", "2024-02-30"],
    &["13/02/2024", "01/02/2024", "28/02/2024", "02/13/2024"],
    &["2024-01-02 03:04:05", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.123456789"],
    &["true", "FALSE", "t", "no"],
    &["a", "longer text", "é☂", "NULL", "\"quoted \"\"text\"\"\"", "\"two\nlines\""],
    &["", "NA", "\"\"", "NULL", "\\N"],
];

/// A CSV file with these columns.
fn csv(rng: &mut Rng, names: &[String]) -> String {
    let delimiter = [",", ";", "\t", "|"][rng.usize(..4)];
    let kinds: Vec<usize> = names.iter().map(|_| rng.usize(..VALUES.len())).collect();
    let mut text = names.join(delimiter) + "\n";
    for _ in 0..rng.usize(1..25) {
        let mut fields: Vec<String> = Vec::new();
        for kind in &kinds {
            let kind = if rng.u8(..15) == 0 { rng.usize(..VALUES.len()) } else { *kind };
            let value = VALUES[kind][rng.usize(..VALUES[kind].len())];
            let must_be_quoted = value.contains(delimiter) && !value.starts_with('"');
            fields.push(if must_be_quoted { format!("\"{value}\"") } else { value.to_owned() });
        }
        match rng.u8(..40) {
            0 => drop(fields.pop()),
            1 => fields.push("more".to_owned()),
            _ => {}
        }
        text += &(fields.join(delimiter) + "\n");
    }
    text
}

/// The statement for a table that has some of these columns, and sometimes another one.
fn ddl(rng: &mut Rng, names: &[String]) -> Option<String> {
    if rng.u8(..3) == 0 {
        return None;
    }
    let mut columns: Vec<String> = Vec::new();
    for name in names {
        let kind = TYPES[rng.usize(..TYPES.len())];
        if rng.u8(..8) > 0 {
            columns.push(format!("{name} {kind}"));
        }
    }
    if columns.is_empty() || rng.u8(..6) == 0 {
        columns.push(format!("other {}", TYPES[rng.usize(..TYPES.len())]));
    }
    Some(format!("CREATE TABLE {{schema}}.{TABLE} ({})", columns.join(", ")))
}

#[rstest]
#[tokio::test]
async fn plan_says_what_load_does_with_random_files(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut rng = Rng::new();
    for _ in 0..FILES {
        let site = Site::on(engine).await?;
        let names: Vec<String> = (0..rng.usize(1..6)).map(|column| format!("c{column}")).collect();
        let file = csv(&mut rng, &names);
        let table = ddl(&mut rng, &names);
        if let Some(table) = &table {
            site.sql(table).await?;
            if engine == Engine::Postgres {
                site.sql(&format!("ALTER TABLE {{schema}}.{TABLE} OWNER TO {}", site.schema.user)).await?;
            }
        }
        let chosen = SETTINGS[rng.usize(..SETTINGS.len())];
        let settings = chosen.iter().fold(site.settings(), |settings, (name, value)| settings.with(name, value));
        let path = site.file("random.csv", &file)?;
        ensure_load_is_planned(&site, &settings, &[&path])
            .await
            .with_context(|| format!("{chosen:?} {table:?} {file:?}"))?;
    }
    Ok(())
}
