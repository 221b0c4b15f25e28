//! The short way into the table: the file is read once, and its rows are sent as they come.
//!
//! What reading the whole file first is for (the types of new columns, the bad records that may be left out, the checksum
//! by which a duplicate is known, the size by which a file is staged, and the schema and number of rows that a fallback has) is not
//! needed for nearly every file. So the rows are loaded unread, in a transaction that holds the source's claim like any
//! other, and the body is claimed at the end, before COMMIT. When it turns out that something of it is needed after all, the
//! transaction is rolled back and the file goes the long way, as if nothing had been tried.
//!
//! Where DDL is part of a transaction, a missing table is made in that of its rows, by the types of the file's beginning. Every value is
//! then looked at as in a first pass, and the first one that would give a column another type ends the try.

use futures_util::stream;
use tracing::{info, warn};

use crate::destination::any::{AnyDestination, AnySession};
use crate::destination::{Claim, Claimed, Destination};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;
use crate::format::decoder::Decoder;
use crate::format::detect::Format;
use crate::pipeline::Attempt;
use crate::pipeline::content::{self, BadRecords, StreamedRows};
use crate::pipeline::decoded::ObjectBytes;
use crate::pipeline::load::{LoadResult, commit};
use crate::pipeline::rejects;
use crate::policy::{Action, Retry, policy};
use crate::route;
use crate::schema::Schema;
use crate::schema::infer::Inference;

/// The largest object, decoded as far as one can tell, whose table is made in the transaction of its rows. Other files for the same
/// new table wait for that transaction; at a slow database's speed it takes no longer than a healthy conflict is tried again.
const NEW_TABLE_MAX_BYTES: u64 = 256 << 20;

/// What became of trying the short way.
pub(super) enum Tried {
    /// The rows are in the table.
    Ended(LoadResult),
    /// The database does not take the rows, and trying again would not change that. Nothing was committed.
    Refused(Error),
    /// The file has to be read first. Nothing was committed. What was only looked at so far is there to be read on.
    Unread(Option<StreamedRows>),
}

/// Loads a large object. Small ones are held in memory, where reading them twice costs next to nothing.
///
/// # Errors
/// What is no matter of the database or of the way: the object is broken, has changed, or cannot be read; the lease is lost; the
/// fate of a COMMIT is unknown.
pub(super) async fn load(attempt: &Attempt<'_>) -> Result<Tried> {
    let limits = &attempt.context.settings.files.limits;
    if attempt.source.size_bytes <= limits.buffer_max_bytes {
        return Ok(Tried::Unread(None));
    }
    let Some(mut beginning) = begin(attempt).await? else { return Ok(Tried::Unread(None)) };
    let error = match try_single_pass(attempt, &mut beginning).await {
        Ok(Some(end)) => return Ok(Tried::Ended(end)),
        Ok(None) => return Ok(Tried::Unread(None)),
        Err(error) => error,
    };
    // A pass that leaves bad records out has another beginning.
    let can_go_on = beginning.rows.is_peeked() && !limits.rejects.is_on();
    let begun = can_go_on.then_some(beginning.rows);
    let kind = error.kind();
    if kind == ErrorKind::Unread {
        info!(reason = %chain(&error), "the file is read before it is loaded");
        return Ok(Tried::Unread(begun));
    }
    match (policy(kind).retry, policy(kind).end) {
        // The row may be one that can be left out.
        (Retry::Never, Action::FallBack) if kind == ErrorKind::DataRefused && limits.rejects.is_on() => {
            Ok(Tried::Unread(None))
        }
        (Retry::Never, Action::FallBack) => Ok(Tried::Refused(error)),
        (Retry::Never, Action::Fail | Action::Reject) => Err(error),
        (Retry::Tries(_) | Retry::Budget | Retry::FreshCredentials(_), _) => {
            warn!(%kind, error = %chain(&error), "the database did not take the rows unread, the file is read first");
            Ok(Tried::Unread(begun))
        }
    }
}

/// A file of which the first rows are known.
struct Beginning {
    rows: StreamedRows,
    names: Vec<String>,
    /// The columns by their names, with the types that the first rows suggest.
    schema: Schema,
}

/// Begins to read; nothing for a file that does not come as one stream of rows, or has none.
async fn begin(attempt: &Attempt<'_>) -> Result<Option<Beginning>> {
    let (decoded, format) = content::open_first(attempt, &ObjectBytes::Streamed).await?;
    let Format::Streaming(format) = format else { return Ok(None) };
    let decoder = Decoder::new(format, &attempt.context.settings.files);
    let mut rows = StreamedRows::start(decoded, decoder, BadRecords::Abort);
    let mut inference = rows.inference();
    let first = match rows.look().await {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Unread => return Ok(None),
        Err(error) => return Err(error),
    };
    Failpoint::HeadersRead.reached().await;
    inference.observe(first);
    let (width, first_rows) = (first.width(), first.rows() as u64);
    let names = rows.first_names(width);
    let mut schema = inference.finish_as(names.clone());
    attempt.key_fields.extend(&mut schema, first_rows);
    Failpoint::Inferred.reached().await;
    Ok(Some(Beginning { rows, names, schema }))
}

/// One try; nothing where the long way has to tell how many records were left out of a file that was loaded before.
async fn try_single_pass(attempt: &Attempt<'_>, beginning: &mut Beginning) -> Result<Option<LoadResult>> {
    let Beginning { rows, names, schema } = beginning;
    let destination = attempt.destination(false).await?;
    let (claimed, mut watch) = claim(attempt, &destination, schema, rows).await?;
    let mut session = match claimed {
        Claimed::Ours(session) => session,
        Claimed::Ended(_) if attempt.context.settings.files.limits.rejects.is_on() => return Ok(None),
        Claimed::Ended(entry) => {
            attempt.commit_proved();
            return Ok(Some(LoadResult::AlreadyLoaded(entry)));
        }
    };
    let stream = stream_of(attempt, names.len(), rows, watch.as_mut().map(|seen| (seen, &*schema)));
    let loaded = destination.load(&mut session, schema, stream).await?;
    let end = rows.end()?;
    if end.column_names != *names {
        return Err(more_columns());
    }
    destination.claim_body(&mut session, attempt.body(&end.bytes.body_sha256, end.bytes.decoded_bytes)).await?;
    rejects::remove_earlier(attempt).await?;
    let loaded = destination.finalize(&mut session, loaded).await?;
    commit(attempt, &destination, session, loaded).await.map(Some)
}

/// Claims the source, and where its table is missing, with a watch over the types that the table is made by.
async fn claim(
    attempt: &Attempt<'_>,
    destination: &AnyDestination,
    schema: &Schema,
    rows: &StreamedRows,
) -> Result<(Claimed<AnySession>, Option<Inference>)> {
    let claim = attempt.claim(None);
    match destination.claim(&claim, schema).await {
        Err(error)
            if error.kind() == ErrorKind::Unread && route::expected_bytes(&attempt.source) <= NEW_TABLE_MAX_BYTES =>
        {
            let claim = Claim { is_schema_provisional: true, ..claim };
            Ok((destination.claim(&claim, schema).await?, Some(rows.inference())))
        }
        claimed => Ok((claimed?, None)),
    }
}

/// The rows, for as long as they have the columns of the beginning, and with a watch over them the types as well.
fn stream_of<'a>(
    attempt: &'a Attempt<'_>,
    width: usize,
    rows: &'a mut StreamedRows,
    watch: Option<(&'a mut Inference, &'a Schema)>,
) -> BatchStream<'a> {
    let rows = stream::try_unfold((rows, watch), move |(rows, mut watch)| async move {
        let Some(batch) = rows.next().await? else { return Ok(None) };
        if batch.width() != width {
            return Err(more_columns());
        }
        if let Some((seen, schema)) = &mut watch {
            seen.observe(&batch);
            if !seen.makes_the_columns_of(schema) {
                let position = batch.position(batch.rows() - 1);
                let message = "a column's type is another than the file's beginning shows, by this record";
                return Err(Error::new(ErrorKind::Unread, message).at(position));
            }
        }
        Ok(Some((batch, (rows, watch))))
    });
    content::with_key_fields(attempt, Box::pin(rows))
}

fn more_columns() -> Error {
    Error::new(ErrorKind::Unread, "the file has columns that its beginning does not show")
}
