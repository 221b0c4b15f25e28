//! Uploads whose bytes are all sent, as data that can be stored: a later process can complete them.
//!
//! Unlike [`super::upload::SealedUpload::complete_new`], completing such an upload never aborts it. The object names the run
//! of an extract that wrote it in its metadata, so that a process knows its own objects from those of others.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use serde::{Deserialize, Serialize};

use super::failure::{failure, is_no_such_upload};
use super::{Store, TRIES, pause};
use crate::error::{ErrorKind, Result};
use crate::object::ObjectRef;

/// The metadata of an object that names its run.
pub(super) const RUN_METADATA: &str = "spillway-run";

/// An upload whose bytes are all sent, in a form that another process can complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedUpload {
    /// The key of the object.
    pub(crate) key: String,
    pub(super) upload_id: String,
    pub(super) pieces: Vec<SavedPart>,
}

/// One part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedPart {
    pub(super) etag: Option<String>,
    pub(super) crc32: Option<String>,
}

/// The result of completing a sent upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    /// This call made the object visible.
    New,
    /// An object has the key.
    Exists,
    /// The upload does not exist: another call completed it, or it was aborted.
    NoUpload,
}

/// The object that has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyOwner {
    /// No object has the key.
    Missing,
    /// An object of this run.
    Run(String),
    /// An object that no run wrote.
    Other,
}

impl Store {
    /// Makes the object of a sent upload visible, unless its key exists. May be repeated.
    ///
    /// # Errors
    /// After an error the upload still exists, or it is completed.
    pub(crate) async fn complete_sent(&self, bucket: &str, upload: &SavedUpload) -> Result<Completion> {
        let mut attempt = 0;
        loop {
            let list = CompletedMultipartUpload::builder().set_parts(Some(upload.completed())).build();
            let request = self.client.complete_multipart_upload().bucket(bucket).key(&upload.key);
            let request = request.upload_id(&upload.upload_id).multipart_upload(list).if_none_match("*");
            let Err(error) = request.send().await else { return Ok(Completion::New) };
            if is_no_such_upload(&error) {
                return Ok(Completion::NoUpload);
            }
            let error = failure("complete the upload", error).for_object(ObjectRef::new(bucket, &upload.key));
            match error.kind() {
                ErrorKind::SourceChanged => return Ok(Completion::Exists),
                ErrorKind::Busy if attempt + 1 < TRIES => pause(attempt).await,
                _ => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Aborts a sent upload, which deletes its bytes. A missing upload is not an error.
    pub(crate) async fn abort_sent(&self, bucket: &str, upload: &SavedUpload) -> Result<()> {
        self.abort_upload(&ObjectRef::new(bucket, &upload.key), &upload.upload_id).await
    }

    /// Returns which run wrote the object with this key.
    pub(crate) async fn owner_of(&self, bucket: &str, key: &str) -> Result<KeyOwner> {
        let Some(head) = self.try_head(&ObjectRef::new(bucket, key)).await? else { return Ok(KeyOwner::Missing) };
        let run = head.metadata.and_then(|mut metadata| metadata.remove(RUN_METADATA));
        Ok(run.map_or(KeyOwner::Other, KeyOwner::Run))
    }
}

impl SavedUpload {
    fn completed(&self) -> Vec<CompletedPart> {
        let part = |(piece, number): (&SavedPart, i32)| {
            let part = CompletedPart::builder().part_number(number).set_e_tag(piece.etag.clone());
            part.set_checksum_crc32(piece.crc32.clone()).build()
        };
        self.pieces.iter().zip(1..).map(part).collect()
    }
}
