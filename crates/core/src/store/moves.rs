//! Moves an object: conditional copy, verification of the copy, conditional delete of the source.
//!
//! Every step can be repeated: the copy of an earlier attempt is recognised by the source id in its metadata. An object
//! at the destination is never overwritten. `crate::route` decides the destination key.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumType;

use super::Store;
pub use super::copy::CopyLimits;
use super::copy::{SOURCE_ID, is_kms};
use super::failure::{failure, size};
use super::write::Deleted;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion};

/// A finished move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Whether this call requested a copy; otherwise it found the copy of an earlier attempt.
    pub is_copied: bool,
    /// The state of the source.
    pub source: ObjectDisposition,
}

/// The state of the source after a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectDisposition {
    /// This call deleted it.
    Deleted,
    /// An earlier attempt had deleted it.
    Gone,
    /// Another object has been written to its key; that object stays.
    Replaced,
}

/// The current state of the source of a move.
enum SourceState {
    Unchanged(Box<HeadObjectOutput>),
    Replaced,
    Gone,
}

impl Store {
    /// Moves exactly this version of the source to another key of its bucket.
    ///
    /// In a versioned bucket the version itself is deleted, not hidden by a delete marker: a repeated event for it must
    /// find it gone.
    ///
    /// # Errors
    /// - [`ErrorKind::SourceChanged`]: the source was overwritten before it was copied.
    /// - [`ErrorKind::SourceMissing`]: the source is gone, and no copy exists.
    /// - [`ErrorKind::DestinationTaken`]: the object at the destination is not a complete copy of the source.
    pub async fn move_object(&self, source: &ObjectVersion, destination_key: &str) -> Result<Moved> {
        self.move_object_with(source, destination_key, &CopyLimits::default()).await
    }

    /// Like [`Store::move_object`], with other copy limits.
    pub async fn move_object_with(
        &self,
        source: &ObjectVersion,
        destination_key: &str,
        limits: &CopyLimits,
    ) -> Result<Moved> {
        let destination = ObjectRef::new(&source.object.bucket, destination_key);
        if destination.key == source.object.key {
            return Err(Error::new(ErrorKind::Internal, "the source and the destination of a move are the same")
                .for_object(&destination));
        }
        let (state, is_copied) = match self.copy_after_head(source, &destination, limits).await {
            Some(state) => (state, true),
            None => self.copy_checked(source, &destination, limits).await?,
        };
        Failpoint::BeforeDelete.reached().await?;
        let disposition = match state {
            SourceState::Unchanged(_) => self.remove(source).await?,
            SourceState::Replaced => ObjectDisposition::Replaced,
            SourceState::Gone => ObjectDisposition::Gone,
        };
        Failpoint::AfterDelete.reached().await?;
        Ok(Moved { is_copied, source: disposition })
    }

    /// Deletes exactly this version of an object, as a move deletes its source. An object that was written to the key in the
    /// meantime stays.
    pub async fn delete_version(&self, source: &ObjectVersion) -> Result<ObjectDisposition> {
        Failpoint::BeforeDelete.reached().await?;
        let disposition = self.remove(source).await?;
        Failpoint::AfterDelete.reached().await?;
        Ok(disposition)
    }

    /// Copies with the fewest requests: the cached HEAD response replaces two requests, HEAD of source and of destination.
    ///
    /// The copy is conditional on an unchanged source and a free destination. Returns `None` when that does not hold or
    /// any request fails; the caller then checks both ends.
    async fn copy_after_head(
        &self,
        source: &ObjectVersion,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Option<SourceState> {
        let head = self.take_cached_head(source).filter(|_| source.size_bytes <= limits.single_max_bytes)?;
        self.copy_whole(source, &head, destination).await.ok()?;
        let state = SourceState::Unchanged(head);
        Failpoint::AfterCopy.reached().await.ok()?;
        let copy = self.try_head(destination).await.ok()??;
        verify(source, &state, &copy, destination).ok()?;
        Some(state)
    }

    /// Checks source and destination, then copies. Returns the source's state and whether this call copied it.
    async fn copy_checked(
        &self,
        source: &ObjectVersion,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Result<(SourceState, bool)> {
        let state = self.source_state(source).await?;
        if let Some(found) = self.try_head(destination).await? {
            verify(source, &state, &found, destination)?;
            return Ok((state, false));
        }
        self.copy(source, &state, destination, limits).await?;
        Failpoint::AfterCopy.reached().await?;
        let copy = self.try_head(destination).await?.ok_or_else(|| {
            Error::new(ErrorKind::Service, "S3 confirmed the copy, but it does not exist").for_object(destination)
        })?;
        verify(source, &state, &copy, destination)?;
        Ok((state, true))
    }

    async fn source_state(&self, source: &ObjectVersion) -> Result<SourceState> {
        Ok(match self.try_head(&source.object).await? {
            Some(head) if head.e_tag.as_deref() == Some(source.etag.as_str()) => SourceState::Unchanged(Box::new(head)),
            Some(_) => SourceState::Replaced,
            None => SourceState::Gone,
        })
    }

    async fn copy(
        &self,
        source: &ObjectVersion,
        state: &SourceState,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Result<()> {
        let head = match state {
            SourceState::Unchanged(head) => head,
            SourceState::Replaced => {
                let message = "the object was overwritten before it could be moved";
                return Err(Error::new(ErrorKind::SourceChanged, message).for_object(&source.object));
            }
            SourceState::Gone => {
                self.ensure_exists(&source.object).await?;
                let message = "the object disappeared and reappeared during the move";
                return Err(Error::new(ErrorKind::SourceChanged, message).for_object(&source.object));
            }
        };
        if source.size_bytes > limits.single_max_bytes {
            self.copy_parts(source, head, destination, limits).await
        } else {
            self.copy_whole(source, head, destination).await
        }
    }

    async fn remove(&self, source: &ObjectVersion) -> Result<ObjectDisposition> {
        let object = &source.object;
        if let Some(version) = real_version(source) {
            let request = self.client.delete_object().bucket(&object.bucket).key(&object.key).version_id(version);
            let response = request.send().await;
            return match response.map_err(|error| failure("delete the version", error).for_object(object)) {
                Ok(_) => Ok(ObjectDisposition::Deleted),
                Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(ObjectDisposition::Gone),
                Err(error) => Err(error),
            };
        }
        Ok(match self.delete_if(&object.bucket, &object.key, &source.etag).await? {
            Deleted::Done => ObjectDisposition::Deleted,
            Deleted::Gone => ObjectDisposition::Gone,
            Deleted::Changed => ObjectDisposition::Replaced,
        })
    }
}

/// The version id, if it always names the same object. With versioning suspended, "null" names the latest one.
fn real_version(source: &ObjectVersion) -> Option<&str> {
    source.object.version_id.as_deref().filter(|version| *version != "null")
}

/// Verifies that the object at the destination is a complete copy of this source. The delete depends on it.
fn verify(source: &ObjectVersion, state: &SourceState, copy: &HeadObjectOutput, destination: &ObjectRef) -> Result<()> {
    let head = match state {
        SourceState::Unchanged(head) => Some(head.as_ref()),
        SourceState::Replaced | SourceState::Gone => None,
    };
    let etags_agree = head.and_then(|head| compare_etags(head, copy));
    let copied_id = copy.metadata.as_ref().and_then(|metadata| metadata.get(SOURCE_ID)).map(String::as_str);
    let is_copy_of_source = copied_id.map_or(etags_agree == Some(true), |id| id == source.id.as_str());
    let copied_bytes = size(copy.content_length);
    let message = if !is_copy_of_source {
        "another object is at the destination; nothing was overwritten or deleted".to_owned()
    } else if copied_bytes != source.size_bytes {
        format!("the copy has {copied_bytes} bytes, the source {}; the source was not deleted", source.size_bytes)
    } else if etags_agree == Some(false) || !head.is_none_or(|head| checksums_agree(head, copy)) {
        "the checksums of copy and source differ; the source was not deleted".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::DestinationTaken, message).for_object(destination))
}

/// Whether two ETags agree; `None` unless both are MD5 checksums of the content.
fn compare_etags(source: &HeadObjectOutput, copy: &HeadObjectOutput) -> Option<bool> {
    let md5 = |head: &HeadObjectOutput| {
        let etag = head.e_tag.as_deref()?.trim_matches('"').to_owned();
        let is_md5 = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_encrypted = is_kms(head) || head.sse_customer_algorithm.is_some();
        (is_md5 && !is_encrypted).then_some(etag)
    };
    Some(md5(source)? == md5(copy)?)
}

/// Whether the whole-object checksums agree, as far as both objects have the same kind.
fn checksums_agree(source: &HeadObjectOutput, copy: &HeadObjectOutput) -> bool {
    let covers_all = |head: &HeadObjectOutput| head.checksum_type == Some(ChecksumType::FullObject);
    if !covers_all(source) || !covers_all(copy) {
        return true;
    }
    let pairs = [
        (&source.checksum_crc64_nvme, &copy.checksum_crc64_nvme),
        (&source.checksum_crc32, &copy.checksum_crc32),
        (&source.checksum_crc32_c, &copy.checksum_crc32_c),
        (&source.checksum_sha256, &copy.checksum_sha256),
    ];
    pairs.iter().all(|pair| match pair {
        (Some(source), Some(copy)) => source == copy,
        (None, _) | (_, None) => true,
    })
}
