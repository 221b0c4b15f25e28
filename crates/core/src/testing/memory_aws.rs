//! S3 and Glue in memory, as an HTTP connector of the SDK: no sockets, so a test of the whole pipeline takes milliseconds.
//!
//! One bucket of a name at a time. S3 keeps conditional writes, reads by range and multipart uploads as AWS documents them; Glue
//! keeps tables and partitions as the JSON that it was sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::object::hash_parts;

/// The bucket that tests use.
pub(crate) const BUCKET: &str = "bucket";

/// The services' state. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryAws(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, (String, BTreeMap<u32, Vec<u8>>)>,
    tables: BTreeMap<String, Value>,
    partitions: BTreeMap<String, Value>,
    /// Requests that fail with this status from now on: method and a part of the path.
    broken: Vec<(&'static str, String, u16)>,
    next_id: u32,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Vec<u8>,
    etag: String,
    metadata: Vec<(String, String)>,
}

/// What a request is answered with: status, headers, body.
type Reply = (u16, Vec<(String, String)>, Vec<u8>);

impl MemoryAws {
    /// An SDK configuration that leads here, without retries.
    pub(crate) fn config(&self) -> SdkConfig {
        let aws = self.clone();
        let client = http_client_fn(move |_, _| SharedHttpConnector::new(aws.clone()));
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url("http://memory")
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "key", None, None, "test")))
            .retry_config(RetryConfig::disabled())
            .http_client(client)
            .build()
    }

    /// Puts an object.
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.state().put(key, bytes.into(), Vec::new());
    }

    /// An object's bytes.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).map(|object| object.bytes.clone())
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Names of the Glue tables that exist.
    pub(crate) fn glue_tables(&self) -> Vec<String> {
        self.state().tables.keys().cloned().collect()
    }

    /// From now on, requests of this method whose path contains `part` fail with `status`.
    pub(crate) fn break_requests(&self, method: &'static str, part: &str, status: u16) {
        self.state().broken.push((method, part.to_owned(), status));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpConnector for MemoryAws {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let aws = self.clone();
        HttpConnectorFuture::new(async move {
            let body = std::mem::replace(request.body_mut(), SdkBody::empty());
            let body = ByteStream::new(body).collect().await;
            let body = body.map_err(|error| ConnectorError::other(error.into(), None))?.to_vec();
            let (status, headers, body) = aws.state().answer(&request, body);
            let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut response = HttpResponse::new(status, SdkBody::from(body));
            for (name, value) in headers {
                response.headers_mut().insert(name, value);
            }
            Ok(response)
        })
    }
}

impl State {
    fn put(&mut self, key: &str, bytes: Vec<u8>, metadata: Vec<(String, String)>) -> String {
        let length = bytes.len().to_string();
        let etag = format!("\"{}\"", &hash_parts(&[&length, &String::from_utf8_lossy(&bytes)])[..32]);
        self.objects.insert(key.to_owned(), Stored { bytes, etag: etag.clone(), metadata });
        etag
    }

    fn answer(&mut self, request: &HttpRequest, body: Vec<u8>) -> Reply {
        let (path, query) = path_and_query(request.uri());
        let method = request.method().to_owned();
        let broken = self.broken.iter().find(|(broken, part, _)| *broken == method && path.contains(part.as_str()));
        if let Some((_, _, status)) = broken {
            return error(*status, "InternalError");
        }
        if let Some(target) = request.headers().get("x-amz-target") {
            return self.glue(target, &serde_json::from_slice(&body).unwrap_or_default());
        }
        let key = path.strip_prefix(&format!("/{BUCKET}")).unwrap_or(&path).trim_start_matches('/').to_owned();
        let has = |name: &str| query.iter().any(|(query, _)| query == name);
        let value = |name: &str| query.iter().find(|(query, _)| query == name).map(|(_, value)| value.clone());
        match method.as_str() {
            "POST" if has("uploads") => self.create_upload(&key),
            "POST" => self.complete_upload(request, &key, &value("uploadId").unwrap_or_default()),
            "PUT" if has("partNumber") => {
                let number = value("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
                self.put_part(&value("uploadId").unwrap_or_default(), number, body)
            }
            "PUT" => self.put_object(request, &key, body),
            "DELETE" if has("uploadId") => {
                self.uploads.remove(&value("uploadId").unwrap_or_default());
                (204, Vec::new(), Vec::new())
            }
            "DELETE" => self.delete_object(request, &key),
            "GET" if has("list-type") => self.list(&value("prefix").unwrap_or_default()),
            "GET" if has("uploads") => xml("<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned()),
            "GET" | "HEAD" => self.read(request, &key, method == "HEAD"),
            other => panic!("a request that S3 does not have here: {other} {path}"),
        }
    }

    fn read(&self, request: &HttpRequest, key: &str, is_head: bool) -> Reply {
        let Some(object) = self.objects.get(key) else { return error(404, "NoSuchKey") };
        if request.headers().get("if-match").is_some_and(|etag| etag != object.etag) {
            return error(412, "PreconditionFailed");
        }
        let mut headers = vec![
            ("etag".to_owned(), object.etag.clone()),
            ("last-modified".to_owned(), "Fri, 20 Nov 2026 12:00:00 GMT".to_owned()),
        ];
        headers.extend(object.metadata.clone());
        let size = object.bytes.len();
        let range = request.headers().get("range").and_then(|range| parse_range(range, size));
        if request.headers().get("range").is_some() && range.is_none() {
            return error(416, "InvalidRange");
        }
        let bytes = range.clone().map_or(&object.bytes[..], |range| &object.bytes[range]);
        headers.push(("content-length".to_owned(), bytes.len().to_string()));
        if let Some(range) = &range {
            headers.push(("content-range".to_owned(), format!("bytes {}-{}/{size}", range.start, range.end - 1)));
        }
        let body = if is_head { Vec::new() } else { bytes.to_vec() };
        (if range.is_some() { 206 } else { 200 }, headers, body)
    }

    fn put_object(&mut self, request: &HttpRequest, key: &str, body: Vec<u8>) -> Reply {
        if let Err(reply) = self.check_write(request, key) {
            return reply;
        }
        let mut metadata = metadata_of(request);
        let Some(source) = request.headers().get("x-amz-copy-source") else {
            let etag = self.put(key, body, metadata);
            return (200, vec![("etag".to_owned(), etag)], Vec::new());
        };
        let source = decode(source.split('?').next().unwrap_or_default());
        let source_key =
            source.trim_start_matches('/').strip_prefix(&format!("{BUCKET}/")).unwrap_or_default().to_owned();
        let Some(object) = self.objects.get(&source_key).cloned() else { return error(404, "NoSuchKey") };
        if request.headers().get("x-amz-copy-source-if-match").is_some_and(|etag| etag != object.etag) {
            return error(412, "PreconditionFailed");
        }
        if request.headers().get("x-amz-metadata-directive") != Some("REPLACE") {
            metadata = object.metadata;
        }
        let etag = self.put(key, object.bytes, metadata);
        xml(format!("<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>", etag.replace('"', "&quot;")))
    }

    /// What conditional writes ask for.
    fn check_write(&self, request: &HttpRequest, key: &str) -> Result<(), Reply> {
        let found = self.objects.get(key);
        if request.headers().get("if-none-match") == Some("*") && found.is_some() {
            return Err(error(412, "PreconditionFailed"));
        }
        match (request.headers().get("if-match"), found) {
            (Some(_), None) => Err(error(404, "NoSuchKey")),
            (Some(etag), Some(object)) if etag != object.etag => Err(error(412, "PreconditionFailed")),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn delete_object(&mut self, request: &HttpRequest, key: &str) -> Reply {
        let found = self.objects.get(key);
        if let (Some(etag), Some(object)) = (request.headers().get("if-match"), found)
            && etag != object.etag
        {
            return error(412, "PreconditionFailed");
        }
        self.objects.remove(key);
        (204, Vec::new(), Vec::new())
    }

    fn list(&self, prefix: &str) -> Reply {
        let contents: String = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| {
                format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag>\
                     <LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>",
                    object.bytes.len(),
                    object.etag.replace('"', "&quot;")
                )
            })
            .collect();
        xml(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"))
    }

    fn create_upload(&mut self, key: &str) -> Reply {
        self.next_id += 1;
        let id = format!("upload-{}", self.next_id);
        self.uploads.insert(id.clone(), (key.to_owned(), BTreeMap::new()));
        xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn put_part(&mut self, id: &str, number: u32, body: Vec<u8>) -> Reply {
        let Some((_, parts)) = self.uploads.get_mut(id) else { return error(404, "NoSuchUpload") };
        parts.insert(number, body);
        (200, vec![("etag".to_owned(), format!("\"part-{number}\""))], Vec::new())
    }

    fn complete_upload(&mut self, request: &HttpRequest, key: &str, id: &str) -> Reply {
        if let Err(reply) = self.check_write(request, key) {
            return reply;
        }
        let Some((key, parts)) = self.uploads.remove(id) else { return error(404, "NoSuchUpload") };
        let etag = self.put(&key, parts.into_values().flatten().collect(), Vec::new());
        let etag = etag.replace('"', "&quot;");
        xml(format!("<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"))
    }

    fn glue(&mut self, target: &str, input: &Value) -> Reply {
        let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let missing = || (400, Vec::new(), json!({"__type": "EntityNotFoundException"}).to_string().into_bytes());
        let exists = || (400, Vec::new(), json!({"__type": "AlreadyExistsException"}).to_string().into_bytes());
        let answer = match target.trim_start_matches("AWSGlue.") {
            "GetDatabase" => json!({"Database": {"Name": input["Name"]}}),
            "GetTable" => match self.tables.get(&name(&input["Name"])) {
                Some(table) => json!({"Table": table}),
                None => return missing(),
            },
            "CreateTable" => {
                let key = name(&input["TableInput"]["Name"]);
                if self.tables.contains_key(&key) {
                    return exists();
                }
                self.tables.insert(key, input["TableInput"].clone());
                json!({})
            }
            "UpdateTable" => {
                self.tables.insert(name(&input["TableInput"]["Name"]), input["TableInput"].clone());
                json!({})
            }
            "GetPartition" => match self.partitions.get(&input["PartitionValues"].to_string()) {
                Some(partition) => json!({"Partition": partition}),
                None => return missing(),
            },
            "CreatePartition" => {
                let key = input["PartitionInput"]["Values"].to_string();
                if self.partitions.contains_key(&key) {
                    return exists();
                }
                self.partitions.insert(key, input["PartitionInput"].clone());
                json!({})
            }
            "DeletePartition" => match self.partitions.remove(&input["PartitionValues"].to_string()) {
                Some(_) => json!({}),
                None => return missing(),
            },
            "BatchUpdatePartition" => json!({"Errors": []}),
            other => panic!("a call that Glue does not have here: {other}"),
        };
        (200, Vec::new(), answer.to_string().into_bytes())
    }
}

fn metadata_of(request: &HttpRequest) -> Vec<(String, String)> {
    let kept = |name: &str| name.starts_with("x-amz-meta-") || name == "content-type" || name == "content-encoding";
    let headers = request.headers().iter().filter(|(name, _)| kept(name));
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn parse_range(range: &str, size: usize) -> Option<std::ops::Range<usize>> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = end.parse::<usize>().map_or(size, |end| (end + 1).min(size));
    (start < end).then_some(start..end)
}

fn path_and_query(uri: &str) -> (String, Vec<(String, String)>) {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let rest = rest.find('/').map_or("", |at| &rest[at..]);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    (decode(path), pairs.collect())
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn xml(body: String) -> Reply {
    (200, vec![("content-type".to_owned(), "application/xml".to_owned())], body.into_bytes())
}

fn error(status: u16, code: &str) -> Reply {
    (status, Vec::new(), format!("<Error><Code>{code}</Code><Message>m</Message></Error>").into_bytes())
}
