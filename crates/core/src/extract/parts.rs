//! Cuts records into parts, and sends each part as an upload that stays invisible.
//!
//! Memory is the buffer of one upload. A part begins with the header, and ends only after a complete record.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::manifest::ManifestPart;
use super::run::{PartCompression, PartLimits, Run};
use crate::destination::source::{RecordSink, Records, SourceColumn, push_quoted};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::progress::Progress;
use crate::store::Store;
use crate::store::sent_upload::SavedUpload;
use crate::store::upload::Upload;

/// Compressed bytes are sent in pieces of this size.
const FLUSH_BYTES: usize = 256 << 10;

/// Writes parts.
pub(super) struct PartWriter<'a> {
    store: &'a Store,
    bucket: &'a str,
    run: &'a Run,
    limits: PartLimits,
    header: Vec<u8>,
    progress: Progress,
    open: Option<OpenPart>,
    sent: Vec<SavedUpload>,
    parts: Vec<ManifestPart>,
}

/// The parts of a run, all sent and invisible.
#[derive(Debug)]
pub(super) struct SentParts {
    pub(super) uploads: Vec<SavedUpload>,
    pub(super) parts: Vec<ManifestPart>,
}

struct OpenPart {
    upload: Upload,
    encoder: Encoder,
    rows: u64,
    /// Bytes of CSV.
    csv_bytes: u64,
    /// Bytes as stored.
    bytes: u64,
}

enum Encoder {
    Plain,
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl<'a> PartWriter<'a> {
    pub(super) fn new(
        (store, bucket): (&'a Store, &'a str),
        run: &'a Run,
        limits: PartLimits,
        columns: &[SourceColumn],
        progress: Progress,
    ) -> Self {
        let header = header(columns);
        Self { store, bucket, run, limits, header, progress, open: None, sent: Vec::new(), parts: Vec::new() }
    }

    /// Sends the last part. Without rows, a full extract has one part with only the header.
    pub(super) async fn finish(&mut self, needs_part: bool) -> Result<()> {
        if needs_part && self.parts.is_empty() && self.open.is_none() {
            self.begin_part().await?;
        }
        self.end_part().await
    }

    /// Returns the sent parts.
    pub(super) fn into_sent(self) -> SentParts {
        SentParts { uploads: self.sent, parts: self.parts }
    }

    /// Aborts every upload.
    pub(super) async fn abort(mut self) {
        if let Some(part) = self.open.take() {
            report_left(part.upload.abort().await);
        }
        abort_all(self.store, self.bucket, &self.sent).await;
    }

    async fn begin_part(&mut self) -> Result<&mut OpenPart> {
        let key = self.run.part_key(self.parts.len() + 1);
        let (content_type, encoder) = match self.run.compression() {
            PartCompression::None => ("text/csv", Encoder::Plain),
            PartCompression::Gzip => {
                ("application/gzip", Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))))
            }
        };
        let upload = self.store.upload_of_run(self.bucket, &key, content_type, &self.run.id);
        let part = self.open.insert(OpenPart { upload, encoder, rows: 0, csv_bytes: 0, bytes: 0 });
        part.write(&self.header).await?;
        Ok(part)
    }

    async fn end_part(&mut self) -> Result<()> {
        let Some(mut part) = self.open.take() else { return Ok(()) };
        part.finish().await?;
        let sent = part.upload.seal().await?.into_sent()?;
        self.parts.push(ManifestPart { key: sent.key.clone(), rows: part.rows, bytes: part.bytes });
        self.sent.push(sent);
        Failpoint::ExtractPartSent.reached().await?;
        Ok(())
    }
}

impl RecordSink for PartWriter<'_> {
    async fn write(&mut self, records: &Records) -> Result<()> {
        self.progress.add_rows(records.ends.len());
        self.progress.add_bytes(records.bytes.len());
        let (mut start, mut next) = (0, 0);
        while next < records.ends.len() {
            let limits = self.limits;
            let part = match self.open.as_mut() {
                Some(part) => part,
                None => self.begin_part().await?,
            };
            let first = next;
            let mut end = start;
            while next < records.ends.len() && !part.is_full_with(limits, next - first, end - start) {
                end = records.ends[next];
                next += 1;
            }
            part.write(&records.bytes[start..end]).await?;
            part.rows += (next - first) as u64;
            start = end;
            if part.is_full_with(limits, 0, 0) {
                self.end_part().await?;
            }
        }
        Ok(())
    }
}

impl OpenPart {
    /// Whether a limit is reached with these further rows and bytes.
    fn is_full_with(&self, limits: PartLimits, rows: usize, bytes: usize) -> bool {
        self.rows + rows as u64 >= limits.rows
            || (self.rows + rows as u64 > 0 && self.csv_bytes + bytes as u64 >= limits.bytes)
    }

    async fn write(&mut self, csv: &[u8]) -> Result<()> {
        self.csv_bytes += csv.len() as u64;
        let encoded = match &mut self.encoder {
            Encoder::Plain => {
                self.bytes += csv.len() as u64;
                return self.upload.write(csv).await;
            }
            Encoder::Gzip(encoder) => {
                encoder.write_all(csv).map_err(broken)?;
                if encoder.get_ref().len() < FLUSH_BYTES {
                    return Ok(());
                }
                std::mem::take(encoder.get_mut())
            }
        };
        self.bytes += encoded.len() as u64;
        self.upload.write(&encoded).await
    }

    async fn finish(&mut self) -> Result<()> {
        let Encoder::Gzip(encoder) = std::mem::replace(&mut self.encoder, Encoder::Plain) else { return Ok(()) };
        let encoded = encoder.finish().map_err(broken)?;
        self.bytes += encoded.len() as u64;
        self.upload.write(&encoded).await
    }
}

/// Aborts uploads of a run that is not planned.
pub(super) async fn abort_all(store: &Store, bucket: &str, uploads: &[SavedUpload]) {
    for upload in uploads {
        report_left(store.abort_sent(bucket, upload).await);
    }
}

fn report_left(aborted: Result<()>) {
    if let Err(error) = aborted {
        tracing::warn!(
            error = crate::error::chain(&error),
            "failed to abort an upload; the bucket's lifecycle rule will abort it"
        );
    }
}

/// The header record: each name in quotes.
fn header(columns: &[SourceColumn]) -> Vec<u8> {
    let mut header = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            header.push(b',');
        }
        push_quoted(column.name.as_bytes(), &mut header);
    }
    header.push(b'\n');
    header
}

/// Writing to memory does not fail.
fn broken(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot compress a part").with_source(error)
}
