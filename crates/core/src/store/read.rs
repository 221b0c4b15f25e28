//! Reads objects: metadata, bodies that resume after a broken connection, small objects, ranges, listings.
//!
//! All bytes of a body come from one version: each request is conditional on its ETag (and names its version id).
//! Decompression and parsing are not done here.

use std::ops::Range;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::{ChecksumMode, EncodingType};
use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;

use super::failure::{failure, is_empty, is_not_found, size, timestamp};
use super::{Store, TRIES, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion, decode_key};

/// A complete small object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallObject {
    /// The content.
    pub bytes: Bytes,
    /// The ETag including its quotes, for a later conditional write or delete.
    pub etag: String,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key, decoded.
    pub key: String,
    /// The size in bytes as stored.
    pub size_bytes: u64,
    /// The ETag, including its quotes.
    pub etag: String,
    /// When it was written; S3 rounds this to seconds in a listing.
    pub last_modified: Timestamp,
}

/// The pages of a listing, in byte order of the keys. A page contains at most a thousand objects.
#[derive(Debug)]
pub struct Pages {
    store: Store,
    bucket: String,
    prefix: String,
    /// The listing begins after this key.
    after: Option<String>,
    next: NextPage,
}

#[derive(Debug)]
enum NextPage {
    First,
    After(String),
    None,
}

/// Reads the body of one object version, and resumes after a broken connection.
#[derive(Debug)]
pub struct BodyReader {
    store: Store,
    source: ObjectVersion,
    stream: ByteStream,
    offset: u64,
    /// Number of broken connections since the last byte.
    breaks: u32,
    has_ended: bool,
}

impl Store {
    /// Returns the object's version: the named one, or else the newest, with its version id.
    ///
    /// # Errors
    /// [`ErrorKind::SourceMissing`] when S3 says that the object does not exist.
    pub async fn head(&self, object: &ObjectRef) -> Result<ObjectVersion> {
        for attempt in 0..TRIES {
            if let Some(head) = self.try_head(object).await? {
                let source = source_of(object, &head);
                self.cache_head(&source, head);
                return Ok(source);
            }
            self.ensure_exists(object).await?;
            // HEAD and GET disagree: the object was just written, or a proxy returned the 404.
            pause(attempt).await;
        }
        Err(Error::new(ErrorKind::Service, "HEAD and GET disagree on whether the object exists").for_object(object))
    }

    /// Opens the body of exactly this version.
    ///
    /// # Errors
    /// [`ErrorKind::SourceChanged`] or [`ErrorKind::SourceMissing`] when this version no longer exists.
    pub async fn open(&self, source: &ObjectVersion) -> Result<BodyReader> {
        let stream = self.stream_from(source, 0).await?;
        let (store, source) = (self.clone(), source.clone());
        Ok(BodyReader { store, source, stream, offset: 0, breaks: 0, has_ended: false })
    }

    /// Reads a complete object of at most `max_bytes`; returns `None` when it does not exist.
    pub async fn read_small(&self, bucket: &str, key: &str, max_bytes: u64) -> Result<Option<SmallObject>> {
        let object = ObjectRef::new(bucket, key);
        let mut attempt = 0;
        loop {
            let response = match self.client.get_object().bucket(bucket).key(key).send().await {
                Ok(response) => response,
                Err(error) => {
                    let error = failure("read the object", error).for_object(&object);
                    return if error.kind() == ErrorKind::SourceMissing { Ok(None) } else { Err(error) };
                }
            };
            let (etag, size_bytes) = (response.e_tag.unwrap_or_default(), size(response.content_length));
            if size_bytes > max_bytes {
                let message = format!("the object has {size_bytes} bytes, more than the {max_bytes} expected here");
                return Err(Error::new(ErrorKind::Service, message).for_object(&object));
            }
            match response.body.collect().await {
                Ok(body) => return Ok(Some(SmallObject { bytes: body.into_bytes(), etag })),
                Err(cause) if attempt + 1 == TRIES => return Err(broken_off(0, size_bytes, cause).for_object(&object)),
                Err(_) => pause(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Returns the ETag of an object, including its quotes, or `None` when it does not exist.
    ///
    /// Reads one byte with GET: unlike HEAD, its 404 has a code that says what is missing.
    pub async fn etag_of(&self, bucket: &str, key: &str) -> Result<Option<String>> {
        let object = ObjectRef::new(bucket, key);
        let error = match self.client.get_object().bucket(bucket).key(key).range("bytes=0-0").send().await {
            Ok(response) => return Ok(Some(response.e_tag.unwrap_or_default())),
            // An empty object has no first byte.
            Err(error) if is_empty(&error) => return self.head(&object).await.map(|source| Some(source.etag)),
            Err(error) => failure("check for the object", error).for_object(&object),
        };
        if error.kind() == ErrorKind::SourceMissing { Ok(None) } else { Err(error) }
    }

    /// Reads a byte range of the version with this ETag. The range must lie within the object.
    pub async fn read_range(&self, object: &ObjectRef, etag: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let mut attempt = 0;
        loop {
            let request =
                self.client.get_object().bucket(&object.bucket).key(&object.key).if_match(etag).range(&header);
            let request = request.set_version_id(object.version_id.clone());
            let response =
                request.send().await.map_err(|error| failure("read the object", error).for_object(object))?;
            // A server may ignore the range and return the whole object (RFC 9110, 14.2). S3 does not.
            let skipped = if response.content_range.is_some() { 0 } else { range.start };
            match read_part(response.body, skipped, wanted).await {
                Ok(bytes) if bytes.len() as u64 == wanted => return Ok(bytes),
                Ok(bytes) => {
                    let message = format!("requested {header}, received {} bytes", bytes.len());
                    return Err(Error::new(ErrorKind::Service, message).for_object(object));
                }
                Err(cause) if attempt + 1 == TRIES => return Err(broken_off(0, wanted, cause).for_object(object)),
                Err(_) => pause(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Lists the objects under a prefix, page by page.
    pub fn list(&self, bucket: &str, prefix: &str) -> Pages {
        self.list_after(bucket, prefix, None)
    }

    /// Lists the objects under a prefix whose keys come after this one, page by page.
    pub fn list_after(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Pages {
        let (bucket, prefix, after) = (bucket.to_owned(), prefix.to_owned(), after.map(str::to_owned));
        Pages { store: self.clone(), bucket, prefix, after, next: NextPage::First }
    }

    /// The objects under some prefixes that pass a test, in the order of the listing.
    ///
    /// # Errors
    /// When a page cannot be listed; a part of a listing is never returned.
    pub(crate) async fn list_matching(
        &self,
        bucket: &str,
        prefixes: &[String],
        is_wanted: impl Fn(&ListedObject) -> bool,
    ) -> Result<Vec<ListedObject>> {
        let mut found = Vec::new();
        for prefix in prefixes {
            let mut pages = self.list(bucket, prefix);
            while let Some(page) = pages.next().await? {
                found.extend(page.into_iter().filter(&is_wanted));
            }
        }
        Ok(found)
    }

    /// Sends HEAD. `None` is a 404 without a code: the caller confirms it or can tolerate a wrong one.
    pub(super) async fn try_head(&self, object: &ObjectRef) -> Result<Option<HeadObjectOutput>> {
        let request = self.client.head_object().bucket(&object.bucket).key(&object.key);
        let request = request.set_version_id(object.version_id.clone()).checksum_mode(ChecksumMode::Enabled);
        match request.send().await {
            Ok(head) => Ok(Some(head)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(failure("read the metadata of the object", error).for_object(object)),
        }
    }

    /// Sends GET to check a 404 of HEAD, because its 404 has a code. Fails if the object is gone.
    pub(super) async fn ensure_exists(&self, object: &ObjectRef) -> Result<()> {
        let request = self.client.get_object().bucket(&object.bucket).key(&object.key);
        match request.set_version_id(object.version_id.clone()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure("find the object", error).for_object(object)),
        }
    }

    async fn stream_from(&self, source: &ObjectVersion, offset: u64) -> Result<ByteStream> {
        let object = &source.object;
        let request = self.client.get_object().bucket(&object.bucket).key(&object.key).if_match(&source.etag);
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let response = request
            .set_version_id(object.version_id.clone())
            .set_range(range)
            .send()
            .await
            .map_err(|error| failure("read the object", error).for_object(object))?;
        // A server without support for If-Match would continue with the bytes of another version. S3 supports it.
        if response.e_tag.as_deref() != Some(source.etag.as_str()) {
            return Err(Error::new(ErrorKind::SourceChanged, "the object was overwritten").for_object(object));
        }
        let (left, wanted) = (size(response.content_length), source.size_bytes - offset);
        if left != wanted {
            let message = format!("requested {wanted} bytes from offset {offset}, S3 offers {left}");
            return Err(Error::new(ErrorKind::Service, message).for_object(object));
        }
        Ok(response.body)
    }
}

impl BodyReader {
    /// Returns the next bytes, or `None` after the last byte of the version.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.has_ended {
                return Ok(None);
            }
            match self.stream.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return self.accept(chunk).await.map(Some),
                Some(Err(cause)) => self.resume(Some(cause)).await?,
                None if self.offset == self.source.size_bytes => {
                    self.has_ended = true;
                    Failpoint::BodyEnd.reached().await?;
                }
                None => self.resume(None).await?,
            }
        }
    }

    async fn accept(&mut self, chunk: Bytes) -> Result<Bytes> {
        let before = self.offset;
        self.offset += chunk.len() as u64;
        self.breaks = 0;
        let whole = self.source.size_bytes;
        if self.offset > whole {
            let message = format!("the body is longer than the object's {whole} bytes");
            return Err(Error::new(ErrorKind::Service, message).for_object(&self.source.object));
        }
        if before == 0 {
            Failpoint::BodyFirstByte.reached().await?;
        }
        if before < whole.div_ceil(2) && self.offset >= whole.div_ceil(2) {
            Failpoint::BodyHalf.reached().await?;
        }
        Ok(chunk)
    }

    /// Opens the body of the same version again at the current offset. Fails after several attempts without a byte.
    async fn resume(&mut self, cause: Option<ByteStreamError>) -> Result<()> {
        let (offset, whole) = (self.offset, self.source.size_bytes);
        let object = &self.source.object;
        let mut last = match cause {
            // All bytes have arrived, so the SDK's error is a wrong checksum. Reading the end again would not help.
            Some(cause) if offset == whole => {
                let message = "the body does not match its checksum";
                return Err(Error::new(ErrorKind::Service, message).with_source(cause).for_object(object));
            }
            Some(cause) => broken_off(offset, whole, cause),
            None => Error::new(ErrorKind::Service, format!("the body ended after {offset} of {whole} bytes")),
        };
        while self.breaks < TRIES {
            tracing::debug!(%object, offset, "the body broke off, resuming");
            pause(self.breaks).await;
            self.breaks += 1;
            match self.store.stream_from(&self.source, offset).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::Service | ErrorKind::Throttled) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last.for_object(object))
    }
}

impl Pages {
    /// Returns the next page, which may be empty, or `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<ListedObject>>> {
        let token = match &self.next {
            NextPage::First => None,
            NextPage::After(token) => Some(token.clone()),
            NextPage::None => return Ok(None),
        };
        // Without the encoding a key with a control character would make the response invalid XML.
        let request = self.store.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let response = request
            .set_start_after(self.after.clone().filter(|_| token.is_none()))
            .set_continuation_token(token)
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(|error| failure("list the objects", error).for_object(self.location()))?;
        let objects = response.contents.unwrap_or_default();
        let is_encoded = response.encoding_type == Some(EncodingType::Url);
        let mut page = Vec::with_capacity(objects.len());
        for listed in objects {
            let key = listed.key.unwrap_or_default();
            page.push(ListedObject {
                key: if is_encoded {
                    listed_key(&key).map_err(|error| error.for_object(self.location()))?
                } else {
                    key
                },
                size_bytes: size(listed.size),
                etag: listed.e_tag.unwrap_or_default(),
                last_modified: timestamp(listed.last_modified.as_ref()),
            });
        }
        // Set last: after an error the caller can request the same page again, and never skips one.
        self.next = response.next_continuation_token.map_or(NextPage::None, NextPage::After);
        Ok(Some(page))
    }

    fn location(&self) -> ObjectRef {
        ObjectRef::new(&self.bucket, &self.prefix)
    }
}

/// The key from a listing that asked S3 to encode keys.
pub(super) fn listed_key(encoded: &str) -> Result<String> {
    decode_key(encoded).map_err(|cause| {
        Error::new(ErrorKind::Service, "a listed key is not UTF-8; delete or rename that object").with_source(cause)
    })
}

fn source_of(object: &ObjectRef, head: &HeadObjectOutput) -> ObjectVersion {
    let version_id = head.version_id.clone().or_else(|| object.version_id.clone());
    let object = ObjectRef { version_id, ..object.clone() };
    let etag = head.e_tag.clone().unwrap_or_default();
    let encoding = head.content_encoding.as_deref().and_then(stored_encoding);
    ObjectVersion::new(object, etag, size(head.content_length), timestamp(head.last_modified.as_ref()), encoding)
        .with_content_type(head.content_type.clone())
}

/// Removes `aws-chunked` from a content encoding: it describes the upload, not the stored bytes.
fn stored_encoding(header: &str) -> Option<String> {
    let is_stored = |name: &&str| !name.is_empty() && !name.eq_ignore_ascii_case("aws-chunked");
    let names: Vec<&str> = header.split(',').map(str::trim).filter(is_stored).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// Reads `wanted` bytes of a body after the first `skipped`, or fewer if it ends. Later bytes are not read.
async fn read_part(mut body: ByteStream, mut skipped: u64, wanted: u64) -> Result<Bytes, ByteStreamError> {
    let mut read = BytesMut::new();
    while (read.len() as u64) < wanted
        && let Some(mut chunk) = body.try_next().await?
    {
        let passed = skipped.min(chunk.len() as u64);
        chunk.advance(passed as usize);
        skipped -= passed;
        let missing = wanted - read.len() as u64;
        chunk.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

fn broken_off(offset: u64, whole: u64, cause: ByteStreamError) -> Error {
    let message = format!("the body broke off after {offset} of {whole} bytes");
    Error::new(ErrorKind::Service, message).with_source(cause)
}

#[cfg(test)]
mod tests;
