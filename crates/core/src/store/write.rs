//! Writing: conditional puts and deletes, and a streaming upload that shows nothing until it is complete.
//!
//! "Create" is `If-None-Match: *`, "replace" and "delete" carry the ETag of what they expect. After a lost answer the SDK
//! sends a write again, and the second one may meet the first: `Exists` can mean "by this very call".

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType};
use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};

use super::answer::{failure, is_no_such_upload, timestamp};
use super::read::listed_key;
use super::{Store, TRIES, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, SourceId};

/// The size of an upload's first parts, and so the memory a writer holds. S3 takes no smaller part than 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// After this many parts their size doubles, so that S3's 10,000 parts are enough for any object.
const PARTS_PER_SIZE: usize = 2_000;

/// The end of a write that must not overwrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object is new.
    New {
        /// Its ETag, quotes included.
        etag: String,
    },
    /// Another object was there before, or not the one that was to be overwritten; nothing is changed.
    Exists,
}

/// The end of a conditional delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is deleted.
    Done,
    /// It was not there.
    Gone,
    /// Another object is there now; it is untouched.
    Changed,
}

/// A condition on what is there before a write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect<'a> {
    /// Whatever it is.
    Anything,
    /// There is none.
    Nothing,
    /// The object with this ETag.
    Etag(&'a str),
}

impl Store {
    /// Creates an object, or leaves the one that is there.
    pub async fn put_new(&self, bucket: &str, key: &str, bytes: Bytes, content_type: &str) -> Result<Created> {
        match self.put_expecting(bucket, key, bytes, content_type, Expect::Nothing).await {
            Ok(etag) => Ok(Created::New { etag }),
            Err(error) if error.kind() == ErrorKind::SourceChanged => Ok(Created::Exists),
            Err(error) => Err(error),
        }
    }

    /// Creates or overwrites an object. Returns its ETag.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Bytes, content_type: &str) -> Result<String> {
        self.put_expecting(bucket, key, bytes, content_type, Expect::Anything).await
    }

    /// Overwrites the object that has this ETag. Returns the new ETag; `SourceChanged` when another is there,
    /// `SourceMissing` when none is.
    pub async fn put_if(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        bytes: Bytes,
        content_type: &str,
    ) -> Result<String> {
        self.put_expecting(bucket, key, bytes, content_type, Expect::Etag(etag)).await
    }

    /// Deletes an object, whichever is there.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        let answer = request.send().await;
        answer.map(drop).map_err(|error| failure("delete the object", error).for_object(ObjectRef::new(bucket, key)))
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

    /// Starts a streaming write. Nothing is sent before the first part is full.
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

    /// Aborts the multipart uploads below a prefix that were started longer ago than `older_than`: what is left of
    /// writers that died. Keys that name one of the `live` sources are spared, as a large one takes long. Returns how many.
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

    /// Aborts every multipart upload below a prefix, however young: whoever writes there has lost the right to.
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
        let place = ObjectRef::new(bucket, prefix);
        let (mut aborted, mut key_marker, mut id_marker) = (0, None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(bucket).prefix(prefix);
            let page = request
                .encoding_type(EncodingType::Url)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .send()
                .await
                .map_err(|error| failure("list the multipart uploads", error).for_object(&place))?;
            let is_encoded = page.encoding_type == Some(EncodingType::Url);
            let plain = |key: &str| if is_encoded { listed_key(key) } else { Ok(key.to_owned()) };
            for upload in page.uploads() {
                if let (Some(key), Some(id)) = (upload.key(), upload.upload_id())
                    && timestamp(upload.initiated()) < before
                {
                    let key = plain(key)?;
                    if !live.iter().any(|source_id| key.contains(source_id.short())) {
                        self.abort_upload(&ObjectRef::new(bucket, key), id).await?;
                        aborted += 1;
                    }
                }
            }
            if page.is_truncated != Some(true) {
                return Ok(aborted);
            }
            key_marker = page.next_key_marker.as_deref().map(plain).transpose()?;
            id_marker = page.next_upload_id_marker.clone();
        }
    }

    /// Aborts an upload; one that is gone already is fine.
    pub(super) async fn abort_upload(&self, object: &ObjectRef, upload_id: &str) -> Result<()> {
        let request = self.client.abort_multipart_upload().bucket(&object.bucket).key(&object.key);
        match request.upload_id(upload_id).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_no_such_upload(&error) => Ok(()),
            Err(error) => Err(failure("abort the upload", error).for_object(object)),
        }
    }

    /// Makes an upload visible where what is there is what is expected. Afterwards the upload is gone, whatever came of it.
    pub(super) async fn complete(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: Vec<CompletedPart>,
        expect: Expect<'_>,
    ) -> Result<Created> {
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&object.bucket).key(&object.key);
        let request = request.upload_id(upload_id).multipart_upload(list);
        let request = match expect {
            Expect::Anything => request,
            Expect::Nothing => request.if_none_match("*"),
            Expect::Etag(etag) => request.if_match(etag),
        };
        let error = match request.send().await {
            Ok(answer) => return Ok(Created::New { etag: answer.e_tag.unwrap_or_default() }),
            Err(error) => error,
        };
        // The upload is unknown when an earlier try's answer was lost; after a conflict it must be sent anew.
        let may_exist = is_no_such_upload(&error);
        let error = failure("complete the upload", error).for_object(object);
        let is_there = match error.kind() {
            ErrorKind::SourceChanged => true,
            ErrorKind::SourceMissing => matches!(expect, Expect::Etag(_)),
            ErrorKind::Busy => self.look(object).await?.is_some(),
            _ => may_exist && self.look(object).await?.is_some(),
        };
        if let Err(left) = self.abort_upload(object, upload_id).await {
            tracing::warn!(%object, error = &left as &dyn std::error::Error, "an upload stays behind; the sweep will abort it");
        }
        if is_there { Ok(Created::Exists) } else { Err(error) }
    }

    async fn put_expecting(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        content_type: &str,
        expect: Expect<'_>,
    ) -> Result<String> {
        let mut attempt = 0;
        loop {
            let request = self.client.put_object().bucket(bucket).key(key).content_type(content_type);
            let request = match expect {
                Expect::Anything => request,
                Expect::Nothing => request.if_none_match("*"),
                Expect::Etag(etag) => request.if_match(etag),
            };
            let error = match request.body(ByteStream::from(bytes.clone())).send().await {
                Ok(answer) => return Ok(answer.e_tag.unwrap_or_default()),
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

/// An upload that has all its bytes and only waits to be made visible.
#[derive(Debug)]
pub struct SealedUpload(Upload);

impl SealedUpload {
    /// Makes the object visible, unless the key is taken.
    pub async fn complete_new(self) -> Result<Created> {
        self.complete(Expect::Nothing).await
    }

    async fn complete(self, expect: Expect<'_>) -> Result<Created> {
        let mut upload = self.0;
        let Some(upload_id) = upload.upload_id.take() else {
            return Err(Error::new(ErrorKind::Internal, "an upload without an id").for_object(&upload.object));
        };
        let parts = std::mem::take(&mut upload.parts);
        upload.store.complete(&upload.object, &upload_id, parts, expect).await
    }

    /// Gives up: the parts are deleted.
    pub async fn abort(self) -> Result<()> {
        self.0.abort().await
    }
}

/// A streaming write: always a multipart upload, so that up to its last step it can be aborted from outside.
///
/// After an error, or to give up, call [`Upload::abort`]. A writer that is only dropped (a panic, a cancelled future)
/// cannot speak to S3 any more: its parts stay, unseen, until [`Store::abort_stale_uploads`] finds them.
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
    /// Takes bytes, and sends a part whenever one is full.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let room = self.part_bytes() - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() < self.part_bytes() {
                return Ok(());
            }
            self.send_part().await?;
        }
    }

    /// Sends what is left. The object is still unseen, however small it is, and can still be aborted by anybody: see
    /// [`Store::abort_uploads`].
    pub async fn seal(mut self) -> Result<SealedUpload> {
        if (!self.buffer.is_empty() || self.parts.is_empty())
            && let Err(error) = self.send_part().await
        {
            // The first error is the one to tell; parts that stay behind are swept.
            let _ = self.abort().await;
            return Err(error);
        }
        Ok(SealedUpload(self))
    }

    /// Sends what is left and makes the object visible, unless the key is taken.
    pub async fn finish_new(self) -> Result<Created> {
        self.seal().await?.complete_new().await
    }

    /// Sends what is left and overwrites the object that has this ETag, and no other.
    pub async fn finish_over(self, etag: &str) -> Result<Created> {
        self.seal().await?.complete(Expect::Etag(etag)).await
    }

    /// Gives up: parts that were sent are deleted.
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
        // S3 takes at most 10,000 parts, so this always fits.
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
        let answer = request
            .content_type(&self.content_type)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .send()
            .await
            .map_err(|error| failure("start the upload", error).for_object(&self.object))?;
        let id = answer
            .upload_id
            .ok_or_else(|| Error::new(ErrorKind::Service, "S3 gave no upload id").for_object(&self.object))?;
        self.upload_id = Some(id.clone());
        Ok(id)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.upload_id.is_some() {
            tracing::warn!(object = %self.object, "an upload was dropped without an end; the sweep will abort its parts");
        }
    }
}
