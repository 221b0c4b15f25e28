//! `spillway diff`: compares two full exports of a table by key.

mod text;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::exports::{Comparison, DeltaWriter, DiffRequest, ExportDiffer, ExportSource, Summary};
use spillway_core::local_file::{LocalFile, STANDARD_INPUT};
use spillway_core::progress::Progress;

use crate::exit::{self, Exit};
use crate::file_name::FileName;
use crate::output::Format;
use crate::progress;
use crate::session::Session;
use crate::table::printable;

/// The arguments of the command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  spillway diff monday.csv.gz tuesday.csv.gz --key id --output delta.jsonl.zst\n  \
                        spillway diff --first monday.csv.gz --key store_id,sku --output delta.jsonl.zst")]
pub(crate) struct Arguments {
    /// The older and the newer export: files, s3://bucket/key, or - for standard input
    #[arg(value_names = ["OLD", "NEW"], num_args = 1..=2, required = true)]
    files: Vec<OsString>,
    /// Columns that identify a row, separated by commas (overrides EXPORT_KEY)
    #[arg(long, value_name = "COLUMNS")]
    key: Option<String>,
    /// Treat every row of NEW as inserted, because no older export exists
    #[arg(long)]
    first: bool,
    /// Write all changes to this file: .jsonl, .jsonl.gz or .jsonl.zst
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print this many changes
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    limit: u64,
    /// Exit with 2 if the exports differ
    #[arg(long)]
    exit_code: bool,
    /// Memory limit, such as 64MiB (overrides DIFF_MEMORY); more rows use temporary files
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Table whose settings apply to both exports; by default the one that the settings name for NEW
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Select the settings by this object key instead of NEW
    #[arg(long = "as", value_name = "KEY")]
    choose_as: Option<String>,
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct DiffDocument<'a> {
    equal: bool,
    #[serde(flatten)]
    summary: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a Path>,
    /// The first changes.
    changes: Vec<Value>,
}

/// The first changes, in both formats.
#[derive(Debug, Default)]
struct FirstChanges {
    json: Vec<Value>,
    text: String,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let (old, new) = names(arguments)?;
    // Early, so that a wrong name or folder is found before the comparison.
    let writer = arguments.output.as_deref().map(|output| create(output, &arguments.files)).transpose()?;
    let key = arguments.key.clone().map(|key| ("EXPORT_KEY", key));
    let memory = arguments.memory.map(|memory| ("DIFF_MEMORY", memory.to_string()));
    let settings = session.settings(key.into_iter().chain(memory).collect())?;
    let deadline = exit::until_signal()?;
    let differ = Box::pin(ExportDiffer::new(settings.pipeline, settings.diff_memory)).await;
    let work = async {
        let mut comparison = Box::pin(compare(arguments, (old, new), &differ, session)).await?;
        let first = changes(arguments, (&mut comparison, writer), session).await?;
        Ok::<_, Error>((comparison, first))
    };
    let (comparison, first) = tokio::select! {
        result = work => result?,
        error = deadline.reached() => return Err(error),
    };
    let summary = comparison.summary();
    let document =
        DiffDocument { equal: summary.is_equal(), summary, output: arguments.output.as_deref(), changes: first.json };
    session.output.result(&document, |styles| text::summary(summary, styles) + &first.text);
    match &arguments.output {
        Some(output) => session.output.next_step(&printable(&format!("the changes are in {}", output.display()))),
        None if summary.counts.changes() > arguments.limit => {
            session.output.next_step("--output delta.jsonl.zst writes all changes to a file");
        }
        None => {}
    }
    Ok(if arguments.exit_code && !summary.is_equal() { Exit::NeedsAttention } else { Exit::Done })
}

/// Creates the delta, unless it would replace one of the exports.
fn create(output: &Path, exports: &[OsString]) -> Result<DeltaWriter> {
    let place = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    if place(output).is_some_and(|output| exports.iter().any(|export| place(Path::new(export)) == Some(output))) {
        return Err(Error::new(ErrorKind::Settings, "--output names one of the exports, which it would replace"));
    }
    DeltaWriter::create(output)
}

/// The older and the newer export.
fn names(arguments: &Arguments) -> Result<(Option<FileName>, FileName)> {
    let wrong = |message: &str| Error::new(ErrorKind::Settings, message);
    let (old, new) = match (arguments.files.as_slice(), arguments.first) {
        ([new], true) => (None, new),
        ([old, new], false) if old == new && old == OsStr::new(STANDARD_INPUT) => {
            return Err(wrong("only one of the two exports can be standard input"));
        }
        ([old, new], false) => (Some(old), new),
        (_, true) => return Err(wrong("--first compares with no older export, so name one file")),
        (_, false) => return Err(wrong("name two exports, OLD and NEW, or use --first for the first export")),
    };
    Ok((old.map(|old| FileName::of(old)).transpose()?, FileName::of(new)?))
}

async fn compare(
    arguments: &Arguments,
    (old, new): (Option<FileName>, FileName),
    differ: &ExportDiffer,
    session: &Session,
) -> Result<Comparison> {
    let (old_file, new_file) = (open(old.as_ref()).await?, open(Some(&new)).await?);
    let progress = Progress::default();
    let request = DiffRequest {
        old: old.and_then(|name| source_of(name, old_file.as_ref())).into_iter().collect(),
        new: source_of(new, new_file.as_ref()).into_iter().collect(),
        table: arguments.table.as_deref(),
        key: arguments.choose_as.as_deref(),
        progress: progress.clone(),
    };
    let sizes: Vec<u64> = [&old_file, &new_file].into_iter().flatten().map(LocalFile::size_bytes).collect();
    let name = arguments.files.join(OsStr::new(" and "));
    let name = name.to_string_lossy();
    let work = differ.compare(request);
    match sizes.len() == arguments.files.len() {
        true => progress::watch(&session.output, (&name, sizes.iter().sum()), &progress, work).await,
        false => work.await,
    }
}

/// Opens a local file; `None` for an object.
async fn open(name: Option<&FileName>) -> Result<Option<LocalFile>> {
    match name {
        Some(FileName::Local(path)) => {
            LocalFile::open(path).await.map(Some).map_err(|error| error.for_object(path.display()))
        }
        Some(FileName::Object(_)) | None => Ok(None),
    }
}

fn source_of(name: FileName, file: Option<&LocalFile>) -> Option<ExportSource<'_>> {
    match name {
        FileName::Object(object) => Some(ExportSource::Object(object)),
        FileName::Local(_) => file.map(ExportSource::Local),
    }
}

/// Returns the first changes, and writes all of them to the file.
async fn changes(
    arguments: &Arguments,
    (comparison, mut writer): (&mut Comparison, Option<DeltaWriter>),
    session: &Session,
) -> Result<FirstChanges> {
    let mut first = FirstChanges::default();
    if let Some(writer) = &mut writer {
        writer.write_summary(comparison.summary())?;
    }
    let mut line = Vec::new();
    while let Some(change) = comparison.next_change()? {
        if let Some(writer) = &mut writer {
            writer.write(&change)?;
        }
        if change.seq > arguments.limit {
            if writer.is_none() {
                break;
            }
        } else if session.output.format() == Format::Json {
            line.clear();
            change.write_line(&mut line);
            let change = serde_json::from_slice(&line);
            first.json.push(change.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?);
        } else {
            first.text += &text::change(&change);
        }
        if change.seq.is_multiple_of(YIELD_AFTER) {
            // A signal can stop the command here.
            tokio::task::yield_now().await;
        }
    }
    if let Some(writer) = writer {
        writer.finish()?;
    }
    Ok(first)
}

/// Number of changes that are written without a pause.
const YIELD_AFTER: u64 = 1024;

/// Number of bytes of a size with an optional unit.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err("write a number of bytes, or a number with a unit, such as 64MiB".to_owned()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| "write a number of bytes, such as 64MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "the size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_has_an_optional_unit() {
        let sizes = ["1048576", "64MiB", "2 GB", "8k", "1g"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1 << 20, 64 << 20, 2_000_000_000, 8192, 1 << 30]);
        assert!(["", "x", "1.5MiB", "64 XB", "99999999999GiB"].iter().all(|text| size(text).is_err()));
    }
}
