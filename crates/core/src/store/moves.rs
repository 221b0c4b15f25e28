//! The verified move: copy under a condition, look at the copy, delete the source only if it still is what was copied.
//!
//! Every step may be repeated: a copy that an earlier attempt made is recognised by the source's identity in its metadata
//! and is not made again. Nothing at the destination is ever overwritten. Where objects go is decided in [`crate::route`].

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumType;

use super::Store;
use super::answer::{failure, size};
pub use super::copy::CopyLimits;
use super::copy::{SOURCE_ID, is_kms};
use super::write::Deleted;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion};

/// A finished move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where the object is now.
    pub key: String,
    /// Whether this call made the copy, or found the one of an earlier attempt.
    pub is_copied: bool,
    /// What became of the source.
    pub source: ObjectDisposition,
}

/// What became of the source of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectDisposition {
    /// It is deleted.
    Deleted,
    /// It was gone already: an earlier attempt's delete.
    Gone,
    /// Another object has taken its place since, and stays there.
    Replaced,
}

/// The source of a move as S3 shows it now.
enum Original {
    Ours(Box<HeadObjectOutput>),
    Replaced,
    Gone,
}

impl Store {
    /// Moves exactly this version of the source to another key of its bucket.
    ///
    /// `SourceChanged`: overwritten before it was copied. `SourceMissing`: gone, and no copy either.
    /// `DestinationTaken`: something else lies at the destination. In a versioned bucket the one version is deleted for
    /// good, not hidden behind a delete marker: an event for it that comes again must find it gone.
    pub async fn move_object(&self, source: &ObjectVersion, destination_key: &str) -> Result<Moved> {
        self.move_object_with(source, destination_key, &CopyLimits::default()).await
    }

    /// As [`Store::move_object`], with other limits.
    pub async fn move_object_with(
        &self,
        source: &ObjectVersion,
        destination_key: &str,
        limits: &CopyLimits,
    ) -> Result<Moved> {
        let destination = ObjectRef::new(&source.object.bucket, destination_key);
        if destination.key == source.object.key {
            return Err(Error::new(ErrorKind::Internal, "an object cannot move onto itself").for_object(&destination));
        }
        let (original, is_copied) = match self.copy_at_once(source, &destination, limits).await {
            Some(original) => (original, true),
            None => self.copy_with_care(source, &destination, limits).await?,
        };
        Failpoint::BeforeDelete.reached().await;
        let end = match original {
            Original::Ours(_) => self.remove(source).await?,
            Original::Replaced => ObjectDisposition::Replaced,
            Original::Gone => ObjectDisposition::Gone,
        };
        Failpoint::AfterDelete.reached().await;
        Ok(Moved { key: destination.key, is_copied, source: end })
    }

    /// The usual case in as few requests as it takes: the source is as it was when it was looked at, and nothing lies at the
    /// destination. The copy is made on the condition that this is so. `None` when it is not, or nobody knows.
    async fn copy_at_once(
        &self,
        source: &ObjectVersion,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Option<Original> {
        let head = self.remembered(source).filter(|_| source.size_bytes <= limits.single_max_bytes)?;
        self.copy_whole(source, &head, destination).await.ok()?;
        let original = Original::Ours(head);
        Failpoint::AfterCopy.reached().await;
        let copy = self.look(destination).await.ok()??;
        verify(source, &original, &copy, destination).ok()?;
        Some(original)
    }

    /// Looks at both ends first. Answers what the source is now, and whether the copy was made here.
    async fn copy_with_care(
        &self,
        source: &ObjectVersion,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Result<(Original, bool)> {
        let original = self.original(source).await?;
        if let Some(found) = self.look(destination).await? {
            verify(source, &original, &found, destination)?;
            return Ok((original, false));
        }
        self.copy(source, &original, destination, limits).await?;
        Failpoint::AfterCopy.reached().await;
        let copy = self.look(destination).await?.ok_or_else(|| {
            Error::new(ErrorKind::Service, "the copy that S3 has confirmed is not there").for_object(destination)
        })?;
        verify(source, &original, &copy, destination)?;
        Ok((original, true))
    }

    async fn original(&self, source: &ObjectVersion) -> Result<Original> {
        Ok(match self.look(&source.object).await? {
            Some(head) if head.e_tag.as_deref() == Some(source.etag.as_str()) => Original::Ours(Box::new(head)),
            Some(_) => Original::Replaced,
            None => Original::Gone,
        })
    }

    async fn copy(
        &self,
        source: &ObjectVersion,
        original: &Original,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Result<()> {
        let head = match original {
            Original::Ours(head) => head,
            Original::Replaced => {
                let message = "the object was overwritten before it could be moved";
                return Err(Error::new(ErrorKind::SourceChanged, message).for_object(&source.object));
            }
            Original::Gone => {
                self.confirm_missing(&source.object).await?;
                let message = "the object was missing and came back while it was to be moved";
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
            let answer = request.send().await;
            return match answer.map_err(|error| failure("delete the moved version", error).for_object(object)) {
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

/// The version, where it names one object for ever. With versioning suspended "null" is whatever was written last.
fn real_version(source: &ObjectVersion) -> Option<&str> {
    source.object.version_id.as_deref().filter(|version| *version != "null")
}

/// Nothing is deleted unless this holds: the object at the destination is a whole copy of this very source.
fn verify(source: &ObjectVersion, original: &Original, copy: &HeadObjectOutput, destination: &ObjectRef) -> Result<()> {
    let head = match original {
        Original::Ours(head) => Some(head.as_ref()),
        Original::Replaced | Original::Gone => None,
    };
    let etags_agree = head.and_then(|head| compare_etags(head, copy));
    let is_marked = copy.metadata.as_ref().and_then(|metadata| metadata.get(SOURCE_ID)).map(String::as_str);
    let is_ours = is_marked.map_or(etags_agree == Some(true), |id| id == source.id.as_str());
    let copied_bytes = size(copy.content_length);
    let message = if !is_ours {
        "another object lies at the destination; nothing was overwritten or deleted".to_owned()
    } else if copied_bytes != source.size_bytes {
        format!("the copy has {copied_bytes} bytes, the source {}; the source stays", source.size_bytes)
    } else if etags_agree == Some(false) || !head.is_none_or(|head| checksums_agree(head, copy)) {
        "the copy's checksum is not the source's; the source stays".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::DestinationTaken, message).for_object(destination))
}

/// Whether two ETags that both are the content's MD5 agree; `None` where one of them is something else.
fn compare_etags(source: &HeadObjectOutput, copy: &HeadObjectOutput) -> Option<bool> {
    let md5 = |head: &HeadObjectOutput| {
        let etag = head.e_tag.as_deref()?.trim_matches('"').to_owned();
        let is_md5 = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_encrypted = is_kms(head) || head.sse_customer_algorithm.is_some();
        (is_md5 && !is_encrypted).then_some(etag)
    };
    Some(md5(source)? == md5(copy)?)
}

/// Whether the checksums over the whole object agree, where both objects have the same kind of them.
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
