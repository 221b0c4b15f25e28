//! The options that name a table and say how it is loaded.

use clap::{Args, ValueEnum};
use spillway_core::error::{Error, ErrorKind, Result};

/// Options of a table. Each one replaces a setting, also one of the settings file.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Table")]
pub(crate) struct TableOptions {
    /// Table; by default the one that the settings name for the file
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// Choose table and settings as for an object with this key (local files only)
    #[arg(long = "as", value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// How the file changes the table
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Columns of the merge key, separated by commas; for the modes merge, mirror and changes
    #[arg(long = "key", value_name = "COLUMNS")]
    merge_key: Option<String>,
    /// Format of the file; by default it is detected
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// `LOAD_MODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Add the rows
    Append,
    /// Replace all rows
    Replace,
    /// Update rows with the same key and insert the others
    Merge,
    /// Like merge, and delete the rows that the file does not have
    Mirror,
    /// Insert, update or delete the row with the key of each row, as its column of operations says
    Changes,
}

/// `FILE_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// CSV
    Csv,
    /// JSON objects, one per line or in an array
    Json,
    /// Parquet
    Parquet,
}

impl TableOptions {
    /// The key by which the settings choose the table of a file.
    pub(crate) fn key_of<'a>(&'a self, file: &'a str) -> &'a str {
        self.key.as_deref().unwrap_or(file)
    }

    /// The settings that the options replace.
    ///
    /// # Errors
    /// When the name of the table is in quotes.
    pub(crate) fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        self.table.as_deref().map(check_unquoted).transpose()?;
        let mut values = Vec::new();
        values.extend(self.table.clone().map(|table| ("RDS_TABLE", table)));
        values.extend(self.mode.map(|mode| {
            let word = match mode {
                Mode::Append => "append",
                Mode::Replace => "replace",
                Mode::Merge => "merge",
                Mode::Mirror => "mirror",
                Mode::Changes => "changes",
            };
            ("LOAD_MODE", word.to_owned())
        }));
        values.extend(self.merge_key.clone().map(|key| ("MERGE_KEY", key)));
        values.extend(self.format.map(|format| {
            let word = match format {
                Format::Csv => "csv",
                Format::Json => "json",
                Format::Parquet => "parquet",
            };
            ("FILE_FORMAT", word.to_owned())
        }));
        Ok(values)
    }
}

/// Fails for a table name in the quotes of SQL, which would become a part of the name.
///
/// # Errors
/// [`ErrorKind::EventInvalid`].
pub(crate) fn check_unquoted(table: &str) -> Result<()> {
    let is_quoted = |part: &str| {
        let inner = |quote| part.strip_prefix(quote).is_some_and(|rest| rest.ends_with(quote));
        inner('"') || inner('`')
    };
    match table.split('.').chain([table]).any(is_quoted) {
        true => {
            let plain = table.replace(['"', '`'], "");
            let message =
                format!("--table {table}: write the name without quotes, as {plain}; Spillway quotes it in SQL");
            Err(Error::new(ErrorKind::EventInvalid, message).with_advice())
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_not_part_of_a_name() {
        for table in ["\"Orders\"", "`orders`", "sales.\"Order Items\"", "\"sales\".orders", "\"a.b\""] {
            let error = check_unquoted(table).unwrap_err().to_string();
            assert!(error.contains("without quotes"), "{error}");
        }
        assert!(check_unquoted("sales.\"Order Items\"").unwrap_err().to_string().contains("as sales.Order Items;"));
        for table in ["orders", "sales.orders", "5\" disks", "it's"] {
            check_unquoted(table).unwrap();
        }
    }
}
