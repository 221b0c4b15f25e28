//! Lists the folders below a prefix: what keys have in common up to the next slash.

use aws_sdk_s3::types::EncodingType;

use super::Store;
use super::failure::failure;
use super::read::listed_key;
use crate::error::Result;
use crate::object::ObjectRef;

impl Store {
    /// Returns the prefixes of the folders below a prefix, each with a slash at the end, in byte order. Objects that are not
    /// in a folder are ignored.
    pub(crate) async fn folders(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let location = || ObjectRef::new(bucket, prefix);
        let mut folders = Vec::new();
        let mut token = None;
        loop {
            let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix).delimiter("/");
            let response = request
                .set_continuation_token(token)
                .encoding_type(EncodingType::Url)
                .send()
                .await
                .map_err(|error| failure("list the folders", error).for_object(location()))?;
            let is_encoded = response.encoding_type == Some(EncodingType::Url);
            for folder in response.common_prefixes.unwrap_or_default() {
                let folder = folder.prefix.unwrap_or_default();
                let folder = if is_encoded { listed_key(&folder) } else { Ok(folder) };
                folders.push(folder.map_err(|error| error.for_object(location()))?);
            }
            token = response.next_continuation_token;
            if token.is_none() {
                return Ok(folders);
            }
        }
    }
}
