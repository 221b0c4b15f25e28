//! The verified move: copy under a condition, look at the copy, delete the source only if it still is what was copied.
//!
//! Every step may be repeated: a copy that an earlier attempt made is recognised by the source's identity in its metadata
//! and is not made again. Nothing at the destination is ever overwritten. Where objects go is decided in [`crate::route`].

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder as ConfigBuilder, Config, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumType, CompletedPart, MetadataDirective, ServerSideEncryption};
use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Store;
use super::answer::{failure, size};
use super::write::{Created, Deleted};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::FaultPoint;
use crate::object::{ObjectRef, Source};

/// The user metadata that says which source an object is the copy of.
const SOURCE_ID: &str = "spillway-source-id";
/// S3's cap on the names and values of user metadata together.
const METADATA_BYTES: usize = 2_048;
/// A copy of 5 GB may take minutes in which S3 sends nothing but blanks.
const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// What stays as it is in a `CopySource`; the SDK does not encode it.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// How large objects are copied. The default is what S3 allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// The largest object that is copied in one request.
    pub single_max_bytes: u64,
    /// The size of the parts above that.
    pub part_bytes: u64,
    /// How many parts are copied at once.
    pub concurrency: usize,
}

impl Default for CopyLimits {
    fn default() -> Self {
        Self { single_max_bytes: 5 * 1024 * 1024 * 1024, part_bytes: 512 * 1024 * 1024, concurrency: 8 }
    }
}

/// A finished move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where the object is now.
    pub key: String,
    /// Whether this call made the copy, or found the one of an earlier attempt.
    pub is_copied: bool,
    /// What became of the source.
    pub source: SourceEnd,
}

/// What became of the source of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEnd {
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
    pub async fn move_object(&self, source: &Source, destination_key: &str) -> Result<Moved> {
        self.move_object_with(source, destination_key, &CopyLimits::default()).await
    }

    /// As [`Store::move_object`], with other limits.
    pub async fn move_object_with(&self, source: &Source, destination_key: &str, limits: &CopyLimits) -> Result<Moved> {
        let destination = ObjectRef::new(&source.object.bucket, destination_key);
        if destination.key == source.object.key {
            return Err(Error::new(ErrorKind::Bug, "an object cannot move onto itself").for_object(&destination));
        }
        let original = self.original(source).await?;
        let found = self.look(&destination).await?;
        let is_copied = found.is_none();
        if let Some(found) = &found {
            verify(source, &original, found, &destination)?;
        } else {
            self.copy(source, &original, &destination, limits).await?;
            FaultPoint::AfterCopy.reached().await;
            let copy = self.look(&destination).await?.ok_or_else(|| {
                Error::new(ErrorKind::Service, "the copy that S3 has confirmed is not there").for_object(&destination)
            })?;
            verify(source, &original, &copy, &destination)?;
        }
        FaultPoint::BeforeDelete.reached().await;
        let end = match original {
            Original::Ours(_) => self.remove(source).await?,
            Original::Replaced => SourceEnd::Replaced,
            Original::Gone => SourceEnd::Gone,
        };
        FaultPoint::AfterDelete.reached().await;
        Ok(Moved { key: destination.key, is_copied, source: end })
    }

    async fn original(&self, source: &Source) -> Result<Original> {
        Ok(match self.look(&source.object).await? {
            Some(head) if head.e_tag.as_deref() == Some(source.etag.as_str()) => Original::Ours(Box::new(head)),
            Some(_) => Original::Replaced,
            None => Original::Gone,
        })
    }

    async fn copy(
        &self,
        source: &Source,
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

    async fn copy_whole(&self, source: &Source, head: &HeadObjectOutput, destination: &ObjectRef) -> Result<()> {
        let mut request = self
            .client
            .copy_object()
            .copy_source(copy_source(source))
            .copy_source_if_match(&source.etag)
            .bucket(&destination.bucket)
            .key(&destination.key)
            // S3 honours this; some servers like it do not, which is why the destination was looked at before.
            .if_none_match("*")
            .set_storage_class(head.storage_class.clone());
        if is_kms(head) {
            request = request
                .set_server_side_encryption(head.server_side_encryption.clone())
                .set_ssekms_key_id(head.ssekms_key_id.clone())
                .set_bucket_key_enabled(head.bucket_key_enabled);
        }
        // Without a replacement S3 copies the metadata as it is.
        if let Some(metadata) = marked_metadata(source, head) {
            request = request
                .metadata_directive(MetadataDirective::Replace)
                .set_metadata(Some(metadata))
                .set_content_type(head.content_type.clone())
                .set_content_encoding(head.content_encoding.clone())
                .set_content_disposition(head.content_disposition.clone())
                .set_content_language(head.content_language.clone())
                .set_cache_control(head.cache_control.clone());
        }
        let error = match request.customize().config_override(patient()).send().await {
            Ok(_) => return Ok(()),
            Err(error) => failure("copy the object", error).for_object(&source.object),
        };
        // 412 has two meanings here. A copy that is there now (by this request's first try, its answer lost, or by
        // another worker) goes on to be verified; otherwise the source has changed.
        if error.kind() == ErrorKind::SourceChanged && self.look(destination).await?.is_some() {
            return Ok(());
        }
        Err(error)
    }

    async fn copy_parts(
        &self,
        source: &Source,
        head: &HeadObjectOutput,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Result<()> {
        let mut request = self
            .client
            .create_multipart_upload()
            .bucket(&destination.bucket)
            .key(&destination.key)
            .set_metadata(marked_metadata(source, head).or_else(|| head.metadata.clone()))
            .set_content_type(head.content_type.clone())
            .set_content_encoding(head.content_encoding.clone())
            .set_content_disposition(head.content_disposition.clone())
            .set_content_language(head.content_language.clone())
            .set_cache_control(head.cache_control.clone())
            .set_storage_class(head.storage_class.clone());
        if is_kms(head) {
            request = request
                .set_server_side_encryption(head.server_side_encryption.clone())
                .set_ssekms_key_id(head.ssekms_key_id.clone())
                .set_bucket_key_enabled(head.bucket_key_enabled);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| failure("start the copy", error).for_object(destination))?;
        let upload_id = answer
            .upload_id
            .ok_or_else(|| Error::new(ErrorKind::Service, "S3 gave no upload id").for_object(destination))?;
        match self.copy_each_part(source, destination, &upload_id, limits).await {
            // `Exists` is verified like any other copy.
            Ok(parts) => match self.complete_new(destination, &upload_id, parts).await? {
                Created::New { .. } | Created::Exists => Ok(()),
            },
            Err(error) => {
                // The first error is the one to tell; parts that stay behind are swept.
                let _ = self.abort_upload(destination, &upload_id).await;
                Err(error)
            }
        }
    }

    async fn copy_each_part(
        &self,
        source: &Source,
        destination: &ObjectRef,
        upload_id: &str,
        limits: &CopyLimits,
    ) -> Result<Vec<CompletedPart>> {
        let ranges = part_ranges(source.size_bytes, limits.part_bytes);
        stream::iter(ranges)
            .map(|(number, range)| self.copy_part(source, destination, upload_id, number, range))
            .buffered(limits.concurrency.max(1))
            .try_collect()
            .await
    }

    async fn copy_part(
        &self,
        source: &Source,
        destination: &ObjectRef,
        upload_id: &str,
        number: i32,
        range: String,
    ) -> Result<CompletedPart> {
        let answer = self
            .client
            .upload_part_copy()
            .copy_source(copy_source(source))
            .copy_source_if_match(&source.etag)
            .copy_source_range(range)
            .bucket(&destination.bucket)
            .key(&destination.key)
            .upload_id(upload_id)
            .part_number(number)
            .customize()
            .config_override(patient())
            .send()
            .await
            .map_err(|error| failure("copy a part of the object", error).for_object(&source.object))?;
        if number == 1 {
            FaultPoint::MidPartCopy.reached().await;
        }
        let part = answer.copy_part_result.unwrap_or_else(|| aws_sdk_s3::types::CopyPartResult::builder().build());
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .set_checksum_crc32_c(part.checksum_crc32_c)
            .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
            .build())
    }

    async fn remove(&self, source: &Source) -> Result<SourceEnd> {
        let object = &source.object;
        if let Some(version) = real_version(source) {
            let request = self.client.delete_object().bucket(&object.bucket).key(&object.key).version_id(version);
            let answer = request.send().await;
            return match answer.map_err(|error| failure("delete the moved version", error).for_object(object)) {
                Ok(_) => Ok(SourceEnd::Deleted),
                Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(SourceEnd::Gone),
                Err(error) => Err(error),
            };
        }
        Ok(match self.delete_if(&object.bucket, &object.key, &source.etag).await? {
            Deleted::Done => SourceEnd::Deleted,
            Deleted::Gone => SourceEnd::Gone,
            Deleted::Changed => SourceEnd::Replaced,
        })
    }
}

/// The version, where it names one object for ever. With versioning suspended "null" is whatever was written last.
fn real_version(source: &Source) -> Option<&str> {
    source.object.version_id.as_deref().filter(|version| *version != "null")
}

fn copy_source(source: &Source) -> String {
    let key = utf8_percent_encode(&source.object.key, COPY_SOURCE);
    let path = format!("{}/{key}", source.object.bucket);
    match &source.object.version_id {
        Some(version) => format!("{path}?versionId={}", utf8_percent_encode(version, NON_ALPHANUMERIC)),
        None => path,
    }
}

/// Numbers and byte ranges of the parts; S3 takes at most 10,000.
fn part_ranges(size_bytes: u64, part_bytes: u64) -> Vec<(i32, String)> {
    let step = part_bytes.max(size_bytes.div_ceil(10_000)).max(1);
    let starts = (0..size_bytes).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    starts
        .zip(1..)
        .map(|(start, number)| (number, format!("bytes={start}-{}", (start + step).min(size_bytes) - 1)))
        .collect()
}

/// The source's metadata and our mark, or `None` where S3's cap leaves no room for the mark.
fn marked_metadata(source: &Source, head: &HeadObjectOutput) -> Option<HashMap<String, String>> {
    let mut metadata = head.metadata.clone().unwrap_or_default();
    metadata.insert(SOURCE_ID.to_owned(), source.id.as_str().to_owned());
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    (bytes <= METADATA_BYTES).then_some(metadata)
}

/// Nothing is deleted unless this holds: the object at the destination is a whole copy of this very source.
fn verify(source: &Source, original: &Original, copy: &HeadObjectOutput, destination: &ObjectRef) -> Result<()> {
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

fn is_kms(head: &HeadObjectOutput) -> bool {
    matches!(head.server_side_encryption, Some(ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse))
}

/// Settings for requests during which S3 is silent for a long time.
fn patient() -> ConfigBuilder {
    let timeouts = TimeoutConfig::builder()
        .read_timeout(COPY_TIMEOUT)
        .operation_attempt_timeout(COPY_TIMEOUT)
        .operation_timeout(COPY_TIMEOUT * 2)
        .build();
    Config::builder().timeout_config(timeouts).stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}
