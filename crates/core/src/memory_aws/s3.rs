//! S3 in memory. All objects have the same time of modification.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

use super::{BUCKET, Call, Reply, State, decode};
use crate::object::hash_parts;

/// An object.
#[derive(Debug, Clone)]
pub(super) struct StoredObject {
    pub(super) bytes: Vec<u8>,
    etag: String,
    metadata: Vec<(String, String)>,
}

/// The name of the operation that a request asks for.
pub(super) fn operation(request: &HttpRequest, query: &[(String, String)]) -> &'static str {
    let has = |name: &str| query.iter().any(|(query, _)| query == name);
    match request.method() {
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" => "CompleteMultipartUpload",
        "PUT" if has("partNumber") => "UploadPart",
        "PUT" if request.headers().get("x-amz-copy-source").is_some() => "CopyObject",
        "PUT" => "PutObject",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        "GET" if has("list-type") => "ListObjectsV2",
        "GET" if has("uploads") => "ListMultipartUploads",
        "GET" => "GetObject",
        "HEAD" => "HeadObject",
        other => panic!("the S3 double does not know the method {other}"),
    }
}

/// The ETag of an object that one request writes.
pub(super) fn etag_of(bytes: &[u8]) -> String {
    let length = bytes.len().to_string();
    format!("\"{}\"", &hash_parts(&[&length, &String::from_utf8_lossy(bytes)])[..32])
}

pub(super) fn error(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>").into_bytes();
    Reply { status, headers: Vec::new(), body }
}

impl State {
    pub(super) fn s3(&mut self, call: &Call<'_>) -> Reply {
        match call.operation {
            "CreateMultipartUpload" => {
                let id = self.create_upload(&call.key);
                self.upload_metadata.insert(id.clone(), metadata_of(call.request));
                xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
            }
            "CompleteMultipartUpload" => self.complete_upload(call),
            "UploadPart" => self.put_part(call),
            "CopyObject" => self.copy_object(call),
            "PutObject" => self.put_object(call),
            "AbortMultipartUpload" => {
                self.uploads.remove(call.parameter("uploadId"));
                no_content()
            }
            "DeleteObject" => self.delete_object(call),
            "ListObjectsV2" if call.parameter("delimiter") == "/" => self.list_folders(call.parameter("prefix")),
            "ListObjectsV2" => self.list_objects(call.parameter("prefix"), call.parameter("start-after")),
            "ListMultipartUploads" => self.list_uploads(call.parameter("prefix")),
            _ => self.read(call),
        }
    }

    pub(super) fn put(&mut self, key: &str, bytes: Vec<u8>, etag: String, metadata: Vec<(String, String)>) -> String {
        self.objects.insert(key.to_owned(), StoredObject { bytes, etag: etag.clone(), metadata });
        etag
    }

    pub(super) fn put_in_parts(&mut self, key: &str, bytes: Vec<u8>) -> String {
        let etag = etag_of(&bytes).replace('"', "");
        self.put(key, bytes, format!("\"{etag}-1\""), Vec::new())
    }

    pub(super) fn create_upload(&mut self, key: &str) -> String {
        self.next_id += 1;
        let id = format!("upload-{}", self.next_id);
        self.uploads.insert(id.clone(), (key.to_owned(), BTreeMap::new()));
        id
    }

    fn read(&self, call: &Call<'_>) -> Reply {
        let Some(object) = self.objects.get(&call.key) else { return error(404, "NoSuchKey") };
        if call.header("if-match").is_some_and(|etag| etag != object.etag) {
            return error(412, "PreconditionFailed");
        }
        let mut headers = vec![
            ("etag".to_owned(), object.etag.clone()),
            ("last-modified".to_owned(), "Fri, 20 Nov 2026 12:00:00 GMT".to_owned()),
        ];
        headers.extend(object.metadata.clone());
        let size = object.bytes.len();
        let range = call.header("range").and_then(|range| parse_range(range, size));
        if call.header("range").is_some() && range.is_none() {
            return error(416, "InvalidRange");
        }
        let bytes = range.clone().map_or(&object.bytes[..], |range| &object.bytes[range]);
        headers.push(("content-length".to_owned(), bytes.len().to_string()));
        if let Some(range) = &range {
            headers.push(("content-range".to_owned(), format!("bytes {}-{}/{size}", range.start, range.end - 1)));
        }
        let body = if call.operation == "HeadObject" { Vec::new() } else { bytes.to_vec() };
        Reply { status: if range.is_some() { 206 } else { 200 }, headers, body }
    }

    fn put_object(&mut self, call: &Call<'_>) -> Reply {
        if let Err(reply) = self.check_precondition(call) {
            return reply;
        }
        let etag = self.put(&call.key, call.body.clone(), etag_of(&call.body), metadata_of(call.request));
        Reply { status: 200, headers: vec![("etag".to_owned(), etag)], body: Vec::new() }
    }

    fn copy_object(&mut self, call: &Call<'_>) -> Reply {
        if let Err(reply) = self.check_precondition(call) {
            return reply;
        }
        let source = decode(call.header("x-amz-copy-source").unwrap_or_default());
        let source_key = source.trim_start_matches('/').strip_prefix(&format!("{BUCKET}/")).unwrap_or_default();
        let Some(object) = self.objects.get(source_key).cloned() else { return error(404, "NoSuchKey") };
        if call.header("x-amz-copy-source-if-match").is_some_and(|etag| etag != object.etag) {
            return error(412, "PreconditionFailed");
        }
        let metadata = match call.header("x-amz-metadata-directive") {
            Some("REPLACE") => metadata_of(call.request),
            _ => object.metadata,
        };
        let etag = etag_of(&object.bytes);
        let etag = self.put(&call.key, object.bytes, etag, metadata);
        xml(format!("<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>", quoted(&etag)))
    }

    fn check_precondition(&self, call: &Call<'_>) -> Result<(), Reply> {
        let found = self.objects.get(&call.key);
        if call.header("if-none-match") == Some("*") && found.is_some() {
            return Err(error(412, "PreconditionFailed"));
        }
        match (call.header("if-match"), found) {
            (Some(_), None) => Err(error(404, "NoSuchKey")),
            (Some(etag), Some(object)) if etag != object.etag => Err(error(412, "PreconditionFailed")),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn delete_object(&mut self, call: &Call<'_>) -> Reply {
        if let (Some(etag), Some(object)) = (call.header("if-match"), self.objects.get(&call.key))
            && etag != object.etag
        {
            return error(412, "PreconditionFailed");
        }
        self.objects.remove(&call.key);
        no_content()
    }

    fn put_part(&mut self, call: &Call<'_>) -> Reply {
        let Some((_, parts)) = self.uploads.get_mut(call.parameter("uploadId")) else {
            return error(404, "NoSuchUpload");
        };
        let number = call.parameter("partNumber").parse().unwrap_or_default();
        parts.insert(number, call.body.clone());
        Reply { status: 200, headers: vec![("etag".to_owned(), format!("\"part-{number}\""))], body: Vec::new() }
    }

    fn complete_upload(&mut self, call: &Call<'_>) -> Reply {
        if let Err(reply) = self.check_precondition(call) {
            return reply;
        }
        let Some((key, parts)) = self.uploads.remove(call.parameter("uploadId")) else {
            return error(404, "NoSuchUpload");
        };
        let etag = self.put_in_parts(&key, parts.into_values().flatten().collect());
        let metadata = self.upload_metadata.remove(call.parameter("uploadId")).unwrap_or_default();
        if let Some(object) = self.objects.get_mut(&key) {
            object.metadata = metadata;
        }
        xml(format!("<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>", quoted(&etag)))
    }

    fn list_objects(&self, prefix: &str, after: &str) -> Reply {
        let is_listed = |key: &str| key.starts_with(prefix) && key > after;
        let objects = self.objects.iter().filter(|(key, _)| is_listed(key));
        let contents: String = objects
            .map(|(key, object)| {
                format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag>\
                     <LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>",
                    object.bytes.len(),
                    quoted(&object.etag)
                )
            })
            .collect();
        xml(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"))
    }

    fn list_folders(&self, prefix: &str) -> Reply {
        let folder = |key: &String| {
            let (name, _) = key.strip_prefix(prefix)?.split_once('/')?;
            Some(format!("<CommonPrefixes><Prefix>{prefix}{name}/</Prefix></CommonPrefixes>"))
        };
        let folders: BTreeSet<String> = self.objects.keys().filter_map(folder).collect();
        let folders: String = folders.into_iter().collect();
        xml(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{folders}</ListBucketResult>"))
    }

    fn list_uploads(&self, prefix: &str) -> Reply {
        let uploads = self.uploads.iter().filter(|(_, (key, _))| key.starts_with(prefix));
        let uploads: String = uploads
            .map(|(id, (key, _))| {
                format!(
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId>\
                     <Initiated>2026-11-20T12:00:00.000Z</Initiated></Upload>"
                )
            })
            .collect();
        xml(format!(
            "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
        ))
    }
}

fn metadata_of(request: &HttpRequest) -> Vec<(String, String)> {
    let is_stored =
        |name: &str| name.starts_with("x-amz-meta-") || name == "content-type" || name == "content-encoding";
    let headers = request.headers().iter().filter(|(name, _)| is_stored(name));
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn parse_range(range: &str, size: usize) -> Option<Range<usize>> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = end.parse::<usize>().map_or(size, |end| (end + 1).min(size));
    (start < end).then_some(start..end)
}

fn quoted(etag: &str) -> String {
    etag.replace('"', "&quot;")
}

fn no_content() -> Reply {
    Reply { status: 204, headers: Vec::new(), body: Vec::new() }
}

fn xml(body: String) -> Reply {
    let headers = vec![("content-type".to_owned(), "application/xml".to_owned())];
    Reply { status: 200, headers, body: body.into_bytes() }
}
