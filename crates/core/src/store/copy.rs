//! Copies one object version within its bucket, in one request or in parts, conditional on its ETag.
//!
//! The copy keeps content headers and metadata, and its metadata also contains the source id. Tags are kept only when
//! one request copies the object. The move verifies the copy, not this module.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder as ConfigBuilder, Config, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{CompletedPart, CopyPartResult, MetadataDirective, ServerSideEncryption};
use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Store;
use super::failure::failure;
use super::write::{Created, Precondition};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion};

/// The user metadata field that contains the id of the copied source.
pub(super) const SOURCE_ID: &str = "spillway-source-id";
/// S3's limit for the names and values of all user metadata together.
const METADATA_BYTES: usize = 2_048;
/// A copy of 5 GB may take minutes, during which S3 sends only white space.
const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The characters that stay unencoded in a `CopySource`, which the SDK does not encode itself.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// How objects are copied. The defaults are S3's own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// The size in bytes up to which one request copies the object.
    pub single_max_bytes: u64,
    /// The size in bytes of each part of a larger object.
    pub part_bytes: u64,
    /// Number of parts that are copied concurrently.
    pub concurrency: usize,
}

impl Default for CopyLimits {
    fn default() -> Self {
        Self { single_max_bytes: 5 * 1024 * 1024 * 1024, part_bytes: 512 * 1024 * 1024, concurrency: 8 }
    }
}

/// Copies the content headers of the source to a request that creates an object.
macro_rules! with_content_headers {
    ($request:expr, $head:expr) => {
        $request
            .set_content_type($head.content_type.clone())
            .set_content_encoding($head.content_encoding.clone())
            .set_content_disposition($head.content_disposition.clone())
            .set_content_language($head.content_language.clone())
            .set_cache_control($head.cache_control.clone())
    };
}

/// Copies the storage class and the KMS key of the source to a request that creates an object.
///
/// Without a KMS key the copy gets the bucket's default encryption.
macro_rules! with_storage {
    ($request:expr, $head:expr) => {{
        let request = $request.set_storage_class($head.storage_class.clone());
        if is_kms($head) {
            request
                .set_server_side_encryption($head.server_side_encryption.clone())
                .set_ssekms_key_id($head.ssekms_key_id.clone())
                .set_bucket_key_enabled($head.bucket_key_enabled)
        } else {
            request
        }
    }};
}

impl Store {
    pub(super) async fn copy_whole(
        &self,
        source: &ObjectVersion,
        head: &HeadObjectOutput,
        destination: &ObjectRef,
    ) -> Result<()> {
        let request = self
            .client
            .copy_object()
            .copy_source(copy_source(source))
            .copy_source_if_match(&source.etag)
            .bucket(&destination.bucket)
            .key(&destination.key)
            // Some S3-compatible servers ignore this condition. There a repeated move copies the source again.
            .if_none_match("*");
        let mut request = with_storage!(request, head);
        // By default S3 copies the metadata unchanged.
        if let Some(metadata) = metadata_with_id(source, head) {
            request = request.metadata_directive(MetadataDirective::Replace).set_metadata(Some(metadata));
            request = with_content_headers!(request, head);
        }
        let error = match request.customize().config_override(with_long_timeouts()).send().await {
            Ok(_) => return Ok(()),
            Err(error) => failure("copy the object", error).for_object(&source.object),
        };
        // 412 has two meanings here. Either a copy exists (from another worker, or from an earlier attempt of this
        // request whose response was lost), which the caller verifies. Or the source has changed.
        if error.kind() == ErrorKind::SourceChanged && self.try_head(destination).await?.is_some() {
            return Ok(());
        }
        Err(error)
    }

    pub(super) async fn copy_parts(
        &self,
        source: &ObjectVersion,
        head: &HeadObjectOutput,
        destination: &ObjectRef,
        limits: &CopyLimits,
    ) -> Result<()> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&destination.bucket)
            .key(&destination.key)
            .set_metadata(metadata_with_id(source, head).or_else(|| head.metadata.clone()));
        let request = with_storage!(with_content_headers!(request, head), head);
        let response = request.send().await;
        let response = response.map_err(|error| failure("start the copy", error).for_object(destination))?;
        let upload_id = response
            .upload_id
            .ok_or_else(|| Error::new(ErrorKind::Service, "S3 returned no upload id").for_object(destination))?;
        match self.copy_each_part(source, destination, &upload_id, limits).await {
            // The caller verifies an existing copy like a new one.
            Ok(parts) => match self.complete(destination, &upload_id, parts, Precondition::Missing).await? {
                Created::New { .. } | Created::Exists => Ok(()),
            },
            Err(error) => {
                // Return the first error; the cleanup aborts an upload that could not be aborted here.
                let _ = self.abort_upload(destination, &upload_id).await;
                Err(error)
            }
        }
    }

    async fn copy_each_part(
        &self,
        source: &ObjectVersion,
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
        source: &ObjectVersion,
        destination: &ObjectRef,
        upload_id: &str,
        number: i32,
        range: String,
    ) -> Result<CompletedPart> {
        let response = self
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
            .config_override(with_long_timeouts())
            .send()
            .await
            .map_err(|error| failure("copy a part of the object", error).for_object(&source.object))?;
        if number == 1 {
            Failpoint::MidPartCopy.reached().await?;
        }
        let part = response.copy_part_result.unwrap_or_else(|| CopyPartResult::builder().build());
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .set_checksum_crc32_c(part.checksum_crc32_c)
            .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
            .build())
    }
}

fn copy_source(source: &ObjectVersion) -> String {
    let key = utf8_percent_encode(&source.object.key, COPY_SOURCE);
    let path = format!("{}/{key}", source.object.bucket);
    match &source.object.version_id {
        Some(version) => format!("{path}?versionId={}", utf8_percent_encode(version, NON_ALPHANUMERIC)),
        None => path,
    }
}

/// Numbers and byte ranges of the parts; S3 allows at most 10,000.
fn part_ranges(size_bytes: u64, part_bytes: u64) -> Vec<(i32, String)> {
    let step = part_bytes.max(size_bytes.div_ceil(10_000)).max(1);
    let starts = (0..size_bytes).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    starts
        .zip(1..)
        .map(|(start, number)| (number, format!("bytes={start}-{}", (start + step).min(size_bytes) - 1)))
        .collect()
}

/// Returns the source's metadata with the source id, or `None` when that exceeds S3's limit.
fn metadata_with_id(source: &ObjectVersion, head: &HeadObjectOutput) -> Option<HashMap<String, String>> {
    let mut metadata = head.metadata.clone().unwrap_or_default();
    metadata.insert(SOURCE_ID.to_owned(), source.id.as_str().to_owned());
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    (bytes <= METADATA_BYTES).then_some(metadata)
}

pub(super) fn is_kms(head: &HeadObjectOutput) -> bool {
    matches!(head.server_side_encryption, Some(ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse))
}

/// Client settings for requests during which S3 sends no data for minutes.
pub(super) fn with_long_timeouts() -> ConfigBuilder {
    let timeouts = TimeoutConfig::builder()
        .read_timeout(COPY_TIMEOUT)
        .operation_attempt_timeout(COPY_TIMEOUT)
        .operation_timeout(COPY_TIMEOUT * 2)
        .build();
    Config::builder().timeout_config(timeouts).stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a b+c.csv", "b/a%20b%2Bc.csv")]
    #[case("100%.csv", "b/100%25.csv")]
    #[case("a%2Bb.csv", "b/a%252Bb.csv")]
    #[case("year=2026/\u{e9}'\"\\.csv", "b/year%3D2026/%C3%A9%27%22%5C.csv")]
    #[case("..//x?y#z", "b/..//x%3Fy%23z")]
    #[case("\u{1f600}", "b/%F0%9F%98%80")]
    fn keys_are_encoded_once(#[case] key: &str, #[case] expected: &str) {
        let source = ObjectVersion::new(ObjectRef::new("b", key), "e".into(), 1, Timestamp::UNIX_EPOCH, None);
        assert_eq!(copy_source(&source), expected);
    }

    #[test]
    fn parts_cover_every_byte_once_and_stay_within_the_limit() {
        let ranges = |size, part| part_ranges(size, part).into_iter().map(|(_, range)| range).collect::<Vec<_>>();
        assert_eq!(ranges(5, 2), ["bytes=0-1", "bytes=2-3", "bytes=4-4"]);
        assert_eq!(ranges(4, 2), ["bytes=0-1", "bytes=2-3"]);
        let most = part_ranges(50 << 40, 512 << 20);
        assert_eq!(most.len(), 10_000);
        assert_eq!(most.last().map(|(number, _)| *number), Some(10_000));
        assert!(most[9_999].1.ends_with(&format!("-{}", (50_u64 << 40) - 1)));
    }

    #[test]
    fn the_source_id_never_exceeds_the_metadata_limit() {
        let source = ObjectVersion::new(ObjectRef::new("b", "k"), "e".into(), 1, Timestamp::UNIX_EPOCH, None);
        let with = |bytes: usize| HeadObjectOutput::builder().metadata("x", "y".repeat(bytes - 1)).build();
        let id_bytes = SOURCE_ID.len() + 64;
        assert_eq!(metadata_with_id(&source, &with(METADATA_BYTES - id_bytes)).map(|metadata| metadata.len()), Some(2));
        assert_eq!(metadata_with_id(&source, &with(METADATA_BYTES - id_bytes + 1)), None);
    }
}
