//! Streaming uploads: multipart, invisible until complete, and abortable by other workers until then.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedPart};
use bytes::BytesMut;

use super::Store;
use super::failure::failure;
use super::sent_upload::{RUN_METADATA, SavedPart, SavedUpload};
use super::write::{Created, Precondition};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;

/// The size of an upload's first parts, and so of its buffer. S3's minimum is 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// After this many parts the part size doubles, so that S3's limit of 10,000 parts suffices for any object.
const PARTS_PER_SIZE: usize = 2_000;

impl Store {
    /// Starts a streaming upload. The first request is sent when the first part is full.
    pub fn upload(&self, bucket: &str, key: &str, content_type: &str) -> Upload {
        Upload {
            store: self.clone(),
            object: ObjectRef::new(bucket, key),
            content_type: content_type.to_owned(),
            run: None,
            buffer: BytesMut::new(),
            upload_id: None,
            parts: Vec::new(),
        }
    }

    /// Starts a streaming upload of an object that names the run in its metadata.
    pub(crate) fn upload_of_run(&self, bucket: &str, key: &str, content_type: &str, run: &str) -> Upload {
        let mut upload = self.upload(bucket, key, content_type);
        upload.run = Some(run.to_owned());
        upload
    }
}

/// An upload whose bytes are all sent. Only this process can complete it.
#[derive(Debug)]
pub struct SealedUpload(Upload);

impl SealedUpload {
    /// Completes the upload unless the key exists. Until then the object is invisible.
    pub async fn complete_new(self) -> Result<Created> {
        self.complete(Precondition::Missing).await
    }

    /// Returns the upload as data, with which any process can complete it.
    pub(crate) fn into_sent(mut self) -> Result<SavedUpload> {
        let upload_id = self.take_id()?;
        let piece = |part: CompletedPart| SavedPart { etag: part.e_tag, crc32: part.checksum_crc32 };
        let pieces = std::mem::take(&mut self.0.parts).into_iter().map(piece).collect();
        Ok(SavedUpload { key: self.0.object.key.clone(), upload_id, pieces })
    }

    fn take_id(&mut self) -> Result<String> {
        let missing = || Error::new(ErrorKind::Internal, "a sealed upload has no id").for_object(&self.0.object);
        self.0.upload_id.take().ok_or_else(missing)
    }

    async fn complete(mut self, precondition: Precondition<'_>) -> Result<Created> {
        let upload_id = self.take_id()?;
        let mut upload = self.0;
        let parts = std::mem::take(&mut upload.parts);
        upload.store.complete(&upload.object, &upload_id, parts, precondition).await
    }

    /// Aborts the upload, which deletes its parts.
    pub async fn abort(self) -> Result<()> {
        self.0.abort().await
    }
}

/// A streaming upload: always multipart, so that another worker can abort it until it is completed.
///
/// After an error call [`Upload::abort`]. An upload that is only dropped (a panic, a cancelled future) cannot send a
/// request any more: its parts stay, invisible, until [`Store::abort_stale_uploads`] aborts it.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    object: ObjectRef,
    content_type: String,
    /// The run in the metadata of the object, if it names one.
    run: Option<String>,
    buffer: BytesMut,
    upload_id: Option<String>,
    parts: Vec<CompletedPart>,
}

impl Upload {
    /// Appends bytes, and sends each full part.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let free = self.part_bytes() - self.buffer.len();
            let (now, later) = bytes.split_at(free.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() < self.part_bytes() {
                return Ok(());
            }
            self.send_part().await?;
        }
    }

    /// Sends the remaining bytes. The object is still invisible, and [`Store::abort_uploads`] can still abort it.
    pub async fn seal(mut self) -> Result<SealedUpload> {
        if (!self.buffer.is_empty() || self.parts.is_empty())
            && let Err(error) = self.send_part().await
        {
            // Return the first error; the cleanup aborts an upload that could not be aborted here.
            let _ = self.abort().await;
            return Err(error);
        }
        Ok(SealedUpload(self))
    }

    /// Sends the remaining bytes and completes the upload unless the key exists.
    pub async fn finish_new(self) -> Result<Created> {
        self.seal().await?.complete_new().await
    }

    /// Sends the remaining bytes and overwrites only the object that has this ETag.
    pub async fn finish_over(self, etag: &str) -> Result<Created> {
        self.seal().await?.complete(Precondition::Etag(etag)).await
    }

    /// Aborts the upload, which deletes the parts sent so far.
    pub async fn abort(mut self) -> Result<()> {
        match self.upload_id.take() {
            Some(upload_id) => self.store.abort_upload(&self.object, &upload_id).await,
            None => Ok(()),
        }
    }

    /// Number of parts sent so far.
    pub fn parts_sent(&self) -> usize {
        self.parts.len()
    }

    fn part_bytes(&self) -> usize {
        PART_BYTES << (self.parts.len() / PARTS_PER_SIZE)
    }

    async fn send_part(&mut self) -> Result<()> {
        let upload_id = self.id().await?;
        // S3 allows at most 10,000 parts, so the number fits.
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let bytes = self.buffer.split().freeze();
        let request = self.store.client.upload_part().bucket(&self.object.bucket).key(&self.object.key);
        let part = request
            .upload_id(upload_id)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(|error| failure("send a part of the upload", error).for_object(&self.object))?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .build();
        self.parts.push(part);
        Ok(())
    }

    async fn id(&mut self) -> Result<String> {
        if let Some(id) = &self.upload_id {
            return Ok(id.clone());
        }
        let request = self.store.client.create_multipart_upload().bucket(&self.object.bucket).key(&self.object.key);
        let response = request
            .content_type(&self.content_type)
            .set_metadata(self.run.clone().map(|run| [(RUN_METADATA.to_owned(), run)].into()))
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .send()
            .await
            .map_err(|error| failure("start the upload", error).for_object(&self.object))?;
        let id = response
            .upload_id
            .ok_or_else(|| Error::new(ErrorKind::Service, "S3 returned no upload id").for_object(&self.object))?;
        self.upload_id = Some(id.clone());
        Ok(id)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.upload_id.is_some() {
            tracing::warn!(object = %self.object, "dropped an unfinished upload; the cleanup will abort it");
        }
    }
}
