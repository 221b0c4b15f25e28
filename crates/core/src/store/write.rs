//! Writes objects: conditional puts and deletes, and completing and aborting multipart uploads.
//!
//! Creating uses `If-None-Match: *`; overwriting and deleting use the expected ETag. The SDK repeats a write whose
//! response was lost, and the repeated write may find the first one: [`Created::Exists`] may mean an object of the same
//! call.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, EncodingType};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::copy::with_long_timeouts;
use super::failure::{failure, is_no_such_upload, timestamp};
use super::read::listed_key;
use super::{Store, TRIES, pause};
use crate::error::{ErrorKind, Result};
use crate::object::{ObjectRef, SourceId};

/// The result of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was written.
    New {
        /// Its ETag, including its quotes.
        etag: String,
    },
    /// The key does not have the expected object: it has one although none was expected, or the one to overwrite was changed
    /// or deleted. Nothing was written by this request.
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

/// The required state of the key before a write.
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
        // S3 may take minutes for thousands of parts.
        let error = match request.customize().config_override(with_long_timeouts()).send().await {
            Ok(response) => return Ok(Created::New { etag: response.e_tag.unwrap_or_default() }),
            Err(error) => error,
        };
        // `NoSuchUpload` may mean that an earlier attempt completed it and the response was lost. After a 409 the
        // upload cannot be completed any more (S3's documentation of CompleteMultipartUpload).
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
            tracing::warn!(%object, error, "failed to abort an upload; the cleanup will abort it");
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
