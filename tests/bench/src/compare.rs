//! Compares the rows of two tables, and the values of a table with those in the file. The SQL is the same for every
//! contender, and runs outside of the measured time.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use spillway_test_env::database::{Database, Engine, Schema};

use crate::client;
use crate::data::{Data, SPECIALS, Special};

const NULL: &str = "<null>";

/// The content of a table, independent of the order of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// The number of rows.
    pub(crate) rows: u64,
    /// The sum of the hashes of all rows.
    checksum: String,
    /// The same without the columns that some loaders cannot load correctly.
    checksum_without_ambiguous: String,
    /// The sum of the hashes of all values, for each column.
    by_column: Vec<String>,
}

impl Content {
    /// Reads the whole table.
    pub(crate) async fn of(server: &Database, schema: &Schema, table: &str, data: Data) -> Result<Self> {
        let engine = schema.engine;
        let columns = data.columns();
        let unambiguous: Vec<&str> =
            columns.iter().copied().filter(|column| !data.ambiguous_columns().contains(column)).collect();
        let mut sums = vec![row_sum(engine, columns)];
        if unambiguous.len() < columns.len() {
            sums.push(row_sum(engine, &unambiguous));
        }
        let row_sums = sums.len();
        sums.extend(columns.iter().map(|column| value_sum(engine, column)));
        let query = format!("SELECT COUNT(*), {} FROM {{schema}}.{table}", sums.join(", "));
        let rows = server.query(schema, &query).await?;
        let values: Vec<String> = rows[0].iter().map(|value| value.clone().unwrap_or_default()).collect();
        Ok(Self {
            rows: values[0].parse()?,
            checksum: values[1].clone(),
            checksum_without_ambiguous: values[row_sums].clone(),
            by_column: values[1 + row_sums..].to_vec(),
        })
    }

    /// Describes how the table of another contender differs from this one of Spillway.
    pub(crate) fn describe_difference(&self, other: &Self, data: Data) -> String {
        if self == other {
            return "the same".into();
        }
        if self.rows != other.rows {
            return format!("wrong: {} rows of {}", other.rows, self.rows);
        }
        let columns = data.columns().iter().zip(self.by_column.iter().zip(&other.by_column));
        let different: Vec<&str> =
            columns.filter(|(_, (own, other))| own != other).map(|(column, _)| *column).collect();
        if self.checksum_without_ambiguous == other.checksum_without_ambiguous {
            return format!("wrong in {} alone", different.join(", "));
        }
        match different.is_empty() {
            true => "wrong: values are in other rows".into(),
            false => format!("wrong in {}", different.join(", ")),
        }
    }
}

fn row_sum(engine: Engine, columns: &[&str]) -> String {
    match engine {
        Engine::MariaDb => {
            let values: Vec<String> = columns.iter().map(|column| format!("QUOTE({column})")).collect();
            // Sixty bits of MD5, because CRC32 is too short for 32 million rows. QUOTE distinguishes NULL from every text.
            format!("SUM(CAST(CONV(LEFT(MD5(CONCAT_WS(',', {})), 15), 16, 10) AS UNSIGNED))", values.join(", "))
        }
        Engine::Postgres => format!("SUM(hashtextextended(CAST(ROW({}) AS text), 0))", columns.join(", ")),
    }
}

fn value_sum(engine: Engine, column: &str) -> String {
    match engine {
        Engine::MariaDb => format!("SUM(CRC32(QUOTE({column})))"),
        Engine::Postgres => format!("SUM(hashtextextended(COALESCE(CAST({column} AS text), '{NULL}'), 0))"),
    }
}

/// Counts, for each special column, the rows whose value differs from the file.
pub(crate) fn wrong_values(schema: &Schema, port: u16, table: &str, rows: u64) -> Result<Vec<u64>> {
    let values: Vec<String> = SPECIALS.iter().map(|special| text_of(schema.engine, special)).collect();
    let row = match schema.engine {
        Engine::MariaDb => format!("CONCAT_WS('|', id, {})", values.join(", ")),
        Engine::Postgres => format!("concat_ws('|', id, {})", values.join(", ")),
    };
    let mut client = client::query_command(schema, port, &format!("SELECT {row} FROM {table}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the database's client")?;
    let lines = BufReader::new(client.stdout.take().context("the client has no output")?).lines();
    let (mut wrong, mut seen) = (vec![0; SPECIALS.len()], vec![false; rows as usize]);
    for line in lines {
        let line = line?;
        let mut stored = line.split('|');
        let id: u64 = stored.next().unwrap_or_default().parse().context("a row has no number")?;
        let Some(is_seen @ false) = seen.get_mut((id as usize).wrapping_sub(1)) else {
            bail!("row {id} is stored twice or is not in the file");
        };
        *is_seen = true;
        for (special, count) in SPECIALS.iter().zip(&mut wrong) {
            *count += u64::from(!is_correct(special, id, stored.next().context("a value is missing")?));
        }
    }
    ensure!(client.wait()?.success(), "the database's client failed");
    ensure!(seen.iter().all(|is_seen| *is_seen), "the table {table} lacks rows");
    Ok(wrong)
}

/// A value as text. A number has all digits, so that it is not wrong because of its spelling or its column's type alone.
fn text_of(engine: Engine, special: &Special) -> String {
    let column = special.column;
    let text = match (engine, special.is_number) {
        (Engine::MariaDb, true) => format!("CAST(CAST({column} AS DECIMAL(38, 6)) AS CHAR)"),
        (Engine::MariaDb, false) => format!("CAST({column} AS CHAR)"),
        (Engine::Postgres, true) => format!("CAST(CAST(CAST({column} AS text) AS numeric(38, 6)) AS text)"),
        (Engine::Postgres, false) => format!("CAST({column} AS text)"),
    };
    format!("COALESCE({text}, '{NULL}')")
}

fn is_correct(special: &Special, row: u64, stored: &str) -> bool {
    match special.value(row) {
        None => stored == NULL,
        Some(written) if special.is_number => shortest(stored) == shortest(&written),
        Some(written) => stored == written,
    }
}

/// A decimal without zeros at its end.
fn shortest(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, is_correct, shortest};
    use crate::data::{Data, SPECIALS};

    #[test]
    fn spelling_of_a_number_is_ignored_but_not_of_a_text() {
        assert_eq!(shortest("9007199254740993.000000"), "9007199254740993");
        assert_eq!(shortest("1200"), "1200");
        let [zip, .., note] = &SPECIALS;
        let row = (1..).find(|row| zip.value(*row).is_some_and(|zip| zip.starts_with('0'))).unwrap();
        let written = zip.value(row).unwrap();
        assert!(is_correct(zip, row, &written));
        assert!(!is_correct(zip, row, written.trim_start_matches('0')));
        let null = (1..).find(|row| note.value(*row).is_none()).unwrap();
        assert!(is_correct(note, null, "<null>") && !is_correct(note, null, ""));
    }

    #[test]
    fn description_names_the_different_columns() {
        let content = |rows, checksum: &str, without_ambiguous: &str, note: &str| {
            let mut by_column = vec!["1".to_owned(); Data::Wide.columns().len()];
            by_column[16] = note.to_owned();
            Content { rows, checksum: checksum.into(), checksum_without_ambiguous: without_ambiguous.into(), by_column }
        };
        let own = content(2, "5", "4", "1");
        assert_eq!(own.describe_difference(&own.clone(), Data::Wide), "the same");
        assert_eq!(own.describe_difference(&content(2, "6", "4", "2"), Data::Wide), "wrong in note alone");
        assert_eq!(own.describe_difference(&content(2, "6", "9", "2"), Data::Wide), "wrong in note");
        assert_eq!(own.describe_difference(&content(2, "6", "9", "1"), Data::Wide), "wrong: values are in other rows");
        assert_eq!(own.describe_difference(&content(1, "6", "9", "1"), Data::Wide), "wrong: 1 rows of 2");
    }
}
