//! The rejected records of a local file. Their errors are in a file beside them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spillway_core::error::{Error, ErrorKind, Result};

use super::errors_table;
use crate::exit::Exit;
use crate::file_name::shell_word;
use crate::numbers::counted;
use crate::session::Session;
use crate::table::printable;

/// The ending of the file with the errors.
const ERRORS_ENDING: &str = ".errors";

/// The largest number of errors that are printed as text.
const MAX_SHOWN: usize = 100;

/// The files of rejected records, if the name is that of a local file of records or of errors.
pub(super) fn find(name: &str) -> Option<(PathBuf, PathBuf)> {
    let records = name.strip_suffix(ERRORS_ENDING).unwrap_or(name);
    let errors = PathBuf::from(format!("{records}{ERRORS_ENDING}"));
    errors.is_file().then(|| (PathBuf::from(records), errors))
}

/// Shows the errors of a local file of rejected records.
///
/// # Errors
/// When they cannot be read.
pub(super) fn show((records, errors): (&Path, &Path), session: &Session) -> Result<Exit> {
    let all = read(errors)?;
    let document = json!({"records": records, "errors_file": errors, "errors": all});
    let records = records.to_string_lossy();
    session.output.result(&document, |styles| {
        let count = counted(all.len() as u64, "rejected record");
        let mut text = format!("{}: {count}\n\n", printable(&records));
        text.push_str(&errors_table(&all[..all.len().min(MAX_SHOWN)]).text(styles));
        if all.len() > MAX_SHOWN {
            text.push_str(&format!("… and {} more\n", all.len() - MAX_SHOWN));
        }
        text
    });
    let step = format!(
        "correct the records, then spillway load {} into the same table; with the load mode replace or mirror, correct and load the whole \
         file instead",
        shell_word(&records)
    );
    session.output.next_step(&printable(&step));
    Ok(Exit::Done)
}

/// The errors in a file: one JSON object per line.
fn read(path: &Path) -> Result<Vec<Value>> {
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("{} cannot be read: {error}", path.display());
        Error::new(ErrorKind::SourceMissing, message).with_advice()
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let lines = BufReader::new(file).lines().map(|line| line.map_err(|error| failed(&error)));
    lines.map(|line| serde_json::from_str(&line?).map_err(|error| failed(&error))).collect()
}
