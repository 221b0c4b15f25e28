//! Writes objects: conditional puts and deletes, and streaming uploads that are invisible until complete.
//!
//! Creating uses `If-None-Match: *`; overwriting and deleting use the expected ETag. The SDK repeats a write whose response
//! was lost, and the repeated write may find the first one: [`Created::Exists`] may mean an object of the same call.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType};
use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};

use super::failure::{failure, is_no_such_upload, timestamp};
use super::read::listed_key;
use super::{Store, TRIES, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, SourceId};

/// The size of an upload's first parts, and so of its buffer. S3's minimum is 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// After this many parts the part size doubles, so that S3's limit of 10,000 parts suffices for any object.
const PARTS_PER_SIZE: usize = 2_000;

/// The result of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was written.
    New {
        /// Its ETag, including its quotes.
        etag: String,
    },
    /// Another object has the key, or not the one to overwrite; nothing changed.
    Exists,
}

/// The result of a conditional delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The object was deleted.
    Done,
    /// The object did not exist.
    Gone,
    /// Another object has the key; nothing changed.
    Changed,
}

/// What must be at the key before a write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Precondition<'a> {
    /// Anything, or no object.
    None,
    /// No object.
    Missing,
    /// The object with this ETag.
    Etag(&'a str),
}

impl Store {
    /// Creates an object unless the key exists.
    pub async fn put_new(&self, bucket: &str, key: &str, bytes: Bytes, content_type: &str) -> Result<Created> {
        match self.put_with(bucket, key, bytes, content_type, Precondition::Missing).await {
            Ok(etag) => Ok(Created::New { etag }),
            Err(error) if error.kind() == ErrorKind::SourceChanged => Ok(Created::Exists),
            Err(error) => Err(error),
        }
    }

    /// Creates or overwrites an object. Returns its ETag.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Bytes, content_type: &str) -> Result<String> {
        self.put_with(bucket, key, bytes, content_type, Precondition::None).await
    }

    /// Overwrites the object that has this ETag. Returns the new ETag.
    ///
    /// # Errors
    /// [`ErrorKind::SourceChanged`] when another object has the key, [`ErrorKind::SourceMissing`] when none has.
    pub async fn put_if(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        bytes: Bytes,
        content_type: &str,
    ) -> Result<String> {
        self.put_with(bucket, key, bytes, content_type, Precondition::Etag(etag)).await
    }

    /// Deletes the object with this key, whatever its version.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        let response = request.send().await;
        response.map(drop).map_err(|error| failure("delete the object", error).for_object(ObjectRef::new(bucket, key)))
    }

    /// Deletes the object that has this ETag.
    pub async fn delete_if(&self, bucket: &str, key: &str, etag: &str) -> Result<Deleted> {
        let mut attempt = 0;
        loop {
            let request = self.client.delete_object().bucket(bucket).key(key).if_match(etag);
            let Err(error) = request.send().await else { return Ok(Deleted::Done) };
            let error = failure("delete the object", error).for_object(ObjectRef::new(bucket, key));
            match error.kind() {
                ErrorKind::SourceMissing => return Ok(Deleted::Gone),
                ErrorKind::SourceChanged => return Ok(Deleted::Changed),
                ErrorKind::Busy if attempt + 1 < TRIES => pause(attempt).await,
                _ => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Starts a streaming upload. The first request is sent when the first part is full.
    pub fn upload(&self, bucket: &str, key: &str, content_type: &str) -> Upload {
        Upload {
            store: self.clone(),
            object: ObjectRef::new(bucket, key),
            content_type: content_type.to_owned(),
            buffer: BytesMut::new(),
            upload_id: None,
            parts: Vec::new(),
        }
    }

    /// Aborts multipart uploads of dead workers under a prefix. Returns how many.
    ///
    /// These are the uploads older than `older_than` whose key contains none of the `live` source ids: the upload of a
    /// large source may take long.
    pub async fn abort_stale_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        older_than: Duration,
        live: &[SourceId],
    ) -> Result<usize> {
        let age = SignedDuration::try_from(older_than).unwrap_or(SignedDuration::MAX);
        let before = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
        self.abort_uploads_started_before(bucket, prefix, before, live).await
    }

    /// Aborts every multipart upload under a prefix, whatever its age. Returns how many.
    ///
    /// For a key whose previous writer has lost its lease.
    pub async fn abort_uploads(&self, bucket: &str, prefix: &str) -> Result<usize> {
        self.abort_uploads_started_before(bucket, prefix, Timestamp::MAX, &[]).await
    }

    async fn abort_uploads_started_before(
        &self,
        bucket: &str,
        prefix: &str,
        before: Timestamp,
        live: &[SourceId],
    ) -> Result<usize> {
        let location = ObjectRef::new(bucket, prefix);
        let (mut aborted, mut key_marker, mut id_marker) = (0, None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(bucket).prefix(prefix);
            let page = request
                .encoding_type(EncodingType::Url)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .send()
                .await
                .map_err(|error| failure("list the multipart uploads", error).for_object(&location))?;
            let is_encoded = page.encoding_type == Some(EncodingType::Url);
            let decode = |key: &str| if is_encoded { listed_key(key) } else { Ok(key.to_owned()) };
            for upload in page.uploads() {
                if let (Some(key), Some(id)) = (upload.key(), upload.upload_id())
                    && timestamp(upload.initiated()) < before
                {
                    let key = decode(key)?;
                    if !live.iter().any(|source_id| key.contains(source_id.short())) {
                        self.abort_upload(&ObjectRef::new(bucket, key), id).await?;
                        aborted += 1;
                    }
                }
            }
            if page.is_truncated != Some(true) {
                return Ok(aborted);
            }
            key_marker = page.next_key_marker.as_deref().map(decode).transpose()?;
            id_marker = page.next_upload_id_marker.clone();
        }
    }

    /// Aborts an upload. A missing upload is not an error.
    pub(super) async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> Result<()> {
        let request = self.client.abort_multipart_upload().bucket(&object.bucket).key(&object.key);
        match request.upload_id(upload_id).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_no_such_upload(&error) => Ok(()),
            Err(error) => Err(failure("abort the upload", error).for_object(object)),
        }
    }

    /// Completes an upload if the precondition holds, and aborts it otherwise.
    pub(super) async fn complete(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: Vec<CompletedPart>,
        precondition: Precondition<'_>,
    ) -> Result<Created> {
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&object.bucket).key(&object.key);
        let request = request.upload_id(upload_id).multipart_upload(list);
        let request = match precondition {
            Precondition::None => request,
            Precondition::Missing => request.if_none_match("*"),
            Precondition::Etag(etag) => request.if_match(etag),
        };
        let error = match request.send().await {
            Ok(response) => return Ok(Created::New { etag: response.e_tag.unwrap_or_default() }),
            Err(error) => error,
        };
        // `NoSuchUpload` may mean that an earlier attempt completed it and the response was lost. After a 409 the upload
        // cannot be completed any more (S3's documentation of CompleteMultipartUpload).
        let may_exist = is_no_such_upload(&error);
        let error = failure("complete the upload", error).for_object(object);
        let exists = match error.kind() {
            ErrorKind::SourceChanged => true,
            ErrorKind::SourceMissing => matches!(precondition, Precondition::Etag(_)),
            ErrorKind::Busy => self.try_head(object).await?.is_some(),
            _ => may_exist && self.try_head(object).await?.is_some(),
        };
        if let Err(cause) = self.abort_upload(object, upload_id).await {
            let error = &cause as &dyn std::error::Error;
            tracing::warn!(%object, error, "failed to abort an upload; the sweep will abort it");
        }
        if exists { Ok(Created::Exists) } else { Err(error) }
    }

    async fn put_with(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        content_type: &str,
        precondition: Precondition<'_>,
    ) -> Result<String> {
        let mut attempt = 0;
        loop {
            let request = self.client.put_object().bucket(bucket).key(key).content_type(content_type);
            let request = match precondition {
                Precondition::None => request,
                Precondition::Missing => request.if_none_match("*"),
                Precondition::Etag(etag) => request.if_match(etag),
            };
            let error = match request.body(ByteStream::from(bytes.clone())).send().await {
                Ok(response) => return Ok(response.e_tag.unwrap_or_default()),
                Err(error) => failure("write the object", error).for_object(ObjectRef::new(bucket, key)),
            };
            if error.kind() != ErrorKind::Busy || attempt + 1 == TRIES {
                return Err(error);
            }
            pause(attempt).await;
            attempt += 1;
        }
    }
}

/// An upload whose bytes are all sent and that is not completed yet.
#[derive(Debug)]
pub struct SealedUpload(Upload);

impl SealedUpload {
    /// Completes the upload unless the key exists. Until then the object is invisible.
    pub async fn complete_new(self) -> Result<Created> {
        self.complete(Precondition::Missing).await
    }

    async fn complete(self, precondition: Precondition<'_>) -> Result<Created> {
        let mut upload = self.0;
        let Some(upload_id) = upload.upload_id.take() else {
            return Err(Error::new(ErrorKind::Internal, "a sealed upload has no id").for_object(&upload.object));
        };
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
            // Return the first error; the sweep aborts an upload that could not be aborted here.
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
        if self.parts.len() == 1 {
            Failpoint::FallbackMidUpload.reached().await;
        }
        Ok(())
    }

    async fn id(&mut self) -> Result<String> {
        if let Some(id) = &self.upload_id {
            return Ok(id.clone());
        }
        let request = self.store.client.create_multipart_upload().bucket(&self.object.bucket).key(&self.object.key);
        let response = request
            .content_type(&self.content_type)
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
            tracing::warn!(object = %self.object, "dropped an unfinished upload; the sweep will abort it");
        }
    }
}
