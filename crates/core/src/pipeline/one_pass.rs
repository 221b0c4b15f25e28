//! The short way into a table that is there already: the file is read once, and its rows are sent as they come.
//!
//! What reading the whole file first is for (the types of new columns, the bad records that may be left out, the checksum
//! by which a duplicate is known, the size by which a file is staged, and the schema and number of rows that a fallback has) is not
//! needed for nearly every file. So the rows are loaded unread, in a transaction that holds the source's claim like any
//! other, and the body is claimed at the end, before COMMIT. When it turns out that something of it is needed after all, the
//! transaction is rolled back and the file goes the long way, as if nothing had been tried.

use futures_util::stream;
use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::fault::FaultPoint;
use crate::format::decoder::Decoder;
use crate::format::detect::Format;
use crate::format::{Batch, BatchStream};
use crate::pipeline::Attempt;
use crate::pipeline::content::{self, BadRecords, FedRows};
use crate::pipeline::decoded::ObjectBytes;
use crate::pipeline::load::{LoadEnd, commit};
use crate::pipeline::rejects;
use crate::policy::{End, Retry, policy};
use crate::schema::Schema;
use crate::target::{Claimed, Target};

/// What became of trying the short way.
#[derive(Debug)]
pub(super) enum Tried {
    /// The rows are in the table.
    Ended(LoadEnd),
    /// The database does not take the rows, and trying again would not change that. Nothing was committed.
    Refused(Error),
    /// The file has to be read first. Nothing was committed.
    Unread,
}

/// Loads a large object whose table is there. Small ones are held in memory, where reading them twice costs next to nothing.
///
/// # Errors
/// What is no matter of the database or of the way: the object is broken, has changed, or cannot be read; the lease is lost; the
/// fate of a COMMIT is unknown.
pub(super) async fn load(attempt: &Attempt<'_>) -> Result<Tried> {
    let limits = &attempt.road.settings.files.limits;
    if attempt.source.size_bytes <= limits.hold_max_bytes {
        return Ok(Tried::Unread);
    }
    let error = match load_unread(attempt).await {
        Ok(Some(end)) => return Ok(Tried::Ended(end)),
        Ok(None) => return Ok(Tried::Unread),
        Err(error) => error,
    };
    let kind = error.kind();
    if kind == ErrorKind::Unread {
        info!(reason = %chain(&error), "the file is read before it is loaded");
        return Ok(Tried::Unread);
    }
    match (policy(kind).retry, policy(kind).end) {
        // The row may be one that can be left out.
        (Retry::Never, End::FallBack) if kind == ErrorKind::DataRefused && limits.rejects.is_on() => Ok(Tried::Unread),
        (Retry::Never, End::FallBack) => Ok(Tried::Refused(error)),
        (Retry::Never, End::Fail | End::Reject) => Err(error),
        (Retry::Tries(_) | Retry::Budget | Retry::FreshCredentials(_), _) => {
            warn!(%kind, error = %chain(&error), "the database did not take the rows unread, the file is read first");
            Ok(Tried::Unread)
        }
    }
}

/// One try; nothing for a file that does not come as one stream of rows, or has none.
async fn load_unread(attempt: &Attempt<'_>) -> Result<Option<LoadEnd>> {
    let (decoded, format) = content::open_first(attempt, &ObjectBytes::Streamed).await?;
    let Format::Fed(format) = format else { return Ok(None) };
    let decoder = Decoder::new(format, &attempt.road.settings.files);
    let mut rows = FedRows::start(decoded, decoder, BadRecords::GivenUp);
    let Some(first) = rows.next().await? else { return Ok(None) };
    FaultPoint::HeadersRead.reached().await;
    let names = rows.first_names(first.width());
    let schema = schema_of(attempt, &rows, &first, names.clone());
    FaultPoint::Inferred.reached().await;

    let target = attempt.target(false).await?;
    let mut session = match target.claim(&attempt.claim(None), &schema).await? {
        Claimed::Ours(session) => session,
        // How many were left out is for the long way to find.
        Claimed::Ended(_) if attempt.road.settings.files.limits.rejects.is_on() => return Ok(None),
        Claimed::Ended(entry) => {
            attempt.commit_proved();
            return Ok(Some(LoadEnd::Before(entry)));
        }
    };
    let loaded = target.load(&mut session, &schema, stream_of(attempt, first, &mut rows)).await?;
    let end = rows.end()?;
    if end.column_names != names {
        return Err(more_columns());
    }
    target.claim_body(&mut session, attempt.body(&end.bytes.body_sha256, end.bytes.decoded_bytes)).await?;
    rejects::forget(attempt).await?;
    let loaded = target.settle(&mut session, loaded).await?;
    commit(attempt, &target, session, loaded).await.map(Some)
}

/// The columns by their names; what types the first rows suggest counts for nothing.
fn schema_of(attempt: &Attempt<'_>, rows: &FedRows, first: &Batch, names: Vec<String>) -> Schema {
    let mut inference = rows.inference();
    inference.observe(first);
    let mut schema = inference.finish_as(names);
    attempt.key_fields.extend(&mut schema, first.rows() as u64);
    schema
}

fn stream_of<'a>(attempt: &'a Attempt<'_>, first: Batch, rows: &'a mut FedRows) -> BatchStream<'a> {
    let width = first.width();
    let rows = stream::try_unfold((Some(first), rows), move |(first, rows)| async move {
        let batch = match first {
            Some(first) => Some(first),
            None => rows.next().await?,
        };
        match batch {
            Some(batch) if batch.width() != width => Err(more_columns()),
            batch => Ok(batch.map(|batch| (batch, (None, rows)))),
        }
    });
    content::with_key_fields(attempt, Box::pin(rows))
}

fn more_columns() -> Error {
    Error::new(ErrorKind::Unread, "the file has columns that its beginning does not show")
}
