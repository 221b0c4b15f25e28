//! A source's rows, pass after pass: the bytes are decompressed, the decoder of the file's format makes batches of them.
//!
//! The first pass sees every value and decides the schema; later passes give the same rows again, by the layout that the
//! first one has found.

use futures_util::{TryStreamExt, stream};

use crate::error::Result;
use crate::fallback::{self, Manifest};
use crate::fault::FaultPoint;
use crate::format::decoder::{Decoder, Layout};
use crate::format::{Batch, BatchStream, detect};
use crate::pipeline::Attempt;
use crate::pipeline::decoded::{BytesEnd, DecodedBytes, ObjectBytes, hints};
use crate::schema::Schema;
use crate::schema::infer::Inference;

/// Where the rows are read from, after the first pass.
pub(crate) enum Content {
    /// The source object, which is laid out like this.
    Object(ObjectBytes, Layout),
    /// The fallback object that an earlier attempt has written.
    Fallback(Box<Manifest>),
}

/// What the first pass has found.
pub(crate) struct Inspected {
    pub(crate) schema: Schema,
    pub(crate) rows: u64,
    /// SHA-256 of the body in hex, as it is stored.
    pub(crate) body_sha256: String,
    /// How many bytes the rows are read from, decompressed.
    pub(crate) decoded_bytes: u64,
    pub(crate) content: Content,
}

/// Reads the whole object once: its layout, its schema, its rows' number, its checksum.
pub(crate) async fn inspect(attempt: &Attempt<'_>) -> Result<Inspected> {
    let bytes = ObjectBytes::of(attempt).await?;
    let mut reader = RowReader::first(attempt, &bytes).await?;
    let mut inference = None;
    let mut rows = 0;
    while let Some(batch) = reader.next().await? {
        if inference.is_none() {
            FaultPoint::HeadersRead.reached().await;
        }
        rows += batch.rows() as u64;
        inference.get_or_insert_with(|| reader.inference()).observe(&batch);
    }
    let mut schema = inference.unwrap_or_else(|| reader.inference()).finish();
    attempt.key_fields.extend(&mut schema, rows);
    FaultPoint::Inferred.reached().await;
    let (layout, BytesEnd { body_sha256, decoded_bytes }) = reader.end();
    Ok(Inspected { schema, rows, body_sha256, decoded_bytes, content: Content::Object(bytes, layout) })
}

/// The rows once more, from the first.
pub(crate) async fn rows<'a>(attempt: &'a Attempt<'_>, inspected: &Inspected) -> Result<BatchStream<'a>> {
    let (bytes, layout) = match &inspected.content {
        Content::Object(bytes, layout) => (bytes, layout),
        Content::Fallback(manifest) => return fallback::open_rows(&attempt.road.store, manifest).await,
    };
    let reader = RowReader::again(attempt, bytes, layout).await?;
    let rows = Box::pin(stream::try_unfold(reader, |mut reader| async {
        let batch = reader.next().await?;
        Ok(batch.map(|batch| (batch, reader)))
    }));
    Ok(with_key_fields(attempt, rows))
}

/// The rows with what the key adds to them; as they are when it adds nothing.
fn with_key_fields<'a>(attempt: &'a Attempt<'_>, rows: BatchStream<'a>) -> BatchStream<'a> {
    match attempt.key_fields.is_empty() {
        true => rows,
        false => Box::pin(rows.map_ok(|batch| attempt.key_fields.widen(&batch))),
    }
}

/// One pass over the rows of an object.
struct RowReader {
    bytes: DecodedBytes,
    decoder: Decoder,
    is_finished: bool,
}

impl RowReader {
    /// The first pass: what the file is shows in its first bytes.
    async fn first(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<Self> {
        let settings = &attempt.road.settings.files;
        let mut bytes = DecodedBytes::open(attempt, bytes).await?;
        let head = bytes.head().await?;
        let format = detect::format(settings.format, hints(&attempt.source), &head)?;
        Ok(Self { bytes, decoder: Decoder::new(format, settings), is_finished: false })
    }

    /// A later pass.
    async fn again(attempt: &Attempt<'_>, bytes: &ObjectBytes, layout: &Layout) -> Result<Self> {
        let settings = &attempt.road.settings.files;
        let bytes = DecodedBytes::open(attempt, bytes).await?;
        Ok(Self { bytes, decoder: Decoder::with_layout(layout, settings), is_finished: false })
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.decoder.take_batch() {
                return Ok(Some(batch));
            }
            if self.is_finished {
                return Ok(None);
            }
            match self.bytes.next().await? {
                Some(piece) => self.decoder.feed(&piece)?,
                None => {
                    self.decoder.finish()?;
                    self.is_finished = true;
                }
            }
        }
    }

    /// What watches the columns that are known by now; none for an empty file.
    fn inference(&self) -> Inference {
        let inference = Inference::new(self.decoder.column_names());
        if self.decoder.has_null_tokens() { inference } else { inference.without_null_tokens() }
    }

    /// What the whole pass has shown.
    fn end(self) -> (Layout, BytesEnd) {
        (self.decoder.layout(), self.bytes.end())
    }
}
