//! Valid and invalid files, each also in chunks of every size.

mod changes;
mod dynamodb;
mod envelope;
mod flatten;
mod invalid;
mod limits;
mod properties;
mod records;
mod rejects;

use super::*;
use crate::compression::DecodedLimits;
use crate::reject::RejectLimit;
use crate::{Error, ErrorKind, FieldKind};

const LIMITS: ReadLimits = ReadLimits {
    max_record_bytes: 4096,
    max_columns: 100,
    max_memory_bytes: 1 << 30,
    decoded: DecodedLimits { max_bytes: 0, max_ratio: 0 },
    rejects: RejectLimit::Count(0),
};

/// The keys of a file, and the position and the fields of each row as [`shown`] writes them.
type Content = (Vec<String>, Vec<(String, Vec<String>)>);

fn read_with(mut decoder: JsonDecoder, file: &[u8], chunk_bytes: usize) -> Result<Content> {
    let mut batches = Vec::new();
    for chunk in file.chunks(chunk_bytes.max(1)) {
        decoder.push(chunk)?;
        batches.extend(std::iter::from_fn(|| decoder.take_batch()));
    }
    decoder.finish()?;
    batches.extend(std::iter::from_fn(|| decoder.take_batch()));
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.rows()).map(|row| {
            let fields = (0..batch.width()).map(|column| shown(batch, row, column)).collect();
            (batch.position(row).to_string(), fields)
        })
    });
    Ok((decoder.keys().to_vec(), rows.collect()))
}

/// A field as a letter for its kind and its bytes; `-` if it is missing.
fn shown(batch: &Batch, row: usize, column: usize) -> String {
    let Some(field) = batch.field(row, column) else { return "-".to_owned() };
    let kind = match batch.kind(row, column) {
        FieldKind::Plain => 'p',
        FieldKind::String => 's',
        FieldKind::Nested => 'n',
    };
    format!("{kind}{}", String::from_utf8_lossy(field))
}

fn read(file: &[u8]) -> Result<Content> {
    read_with(JsonDecoder::new(LIMITS), file, usize::MAX)
}

/// The fields of all rows.
fn fields(file: &str) -> Vec<Vec<String>> {
    read(file.as_bytes()).unwrap().1.into_iter().map(|(_, fields)| fields).collect()
}

fn error_of(file: &[u8]) -> Error {
    read(file).expect_err("the file is invalid")
}

/// The content without bad records, and each bad record as it is in the file, with the reason.
fn read_with_rejects(file: &str, chunk_bytes: usize) -> Result<(Content, Vec<(String, String)>)> {
    let limits = ReadLimits { rejects: RejectLimit::Count(9), ..LIMITS };
    let mut first = JsonDecoder::new(limits);
    let mut rejects = Vec::new();
    let mut rows = Vec::new();
    for chunk in file.as_bytes().chunks(chunk_bytes) {
        first.push(chunk)?;
        rejects.append(&mut first.take_rejects());
        rows.extend(std::iter::from_fn(|| first.take_batch()));
    }
    first.finish()?;
    rejects.append(&mut first.take_rejects());
    let mut second = JsonDecoder::with_keys(first.keys(), limits);
    second.find_records(rejects.iter().map(|reject| reject.position.byte).collect());
    let read = read_with(JsonDecoder::with_keys(first.keys(), limits), file.as_bytes(), chunk_bytes)?;
    second.push(file.as_bytes())?;
    second.finish()?;
    let records =
        second.take_found_records().into_iter().map(|range| file[range.start as usize..range.end as usize].to_owned());
    Ok((read, records.zip(rejects.into_iter().map(|reject| reject.reason)).collect()))
}
