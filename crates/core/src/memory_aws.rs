//! Test double: S3 and Glue in memory, as an HTTP connector of the SDK.
//!
//! It keeps state: conditional writes, ranges, copies and multipart uploads work as AWS documents them. Without sockets
//! a test of the whole pipeline takes milliseconds. Use [`crate::stub_server`] where a test prescribes each response.

mod glue;
mod s3;

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
use serde_json::Value;

use s3::StoredObject;

/// The only bucket.
pub(crate) const BUCKET: &str = "bucket";

/// The services. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct MemoryAws(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, StoredObject>,
    /// Key and parts of each unfinished upload, by upload id.
    uploads: BTreeMap<String, (String, BTreeMap<u32, Vec<u8>>)>,
    /// The metadata of unfinished uploads, by upload id.
    upload_metadata: BTreeMap<String, Vec<(String, String)>>,
    tables: BTreeMap<String, Value>,
    partitions: BTreeMap<String, Value>,
    /// The runs of the Glue job, newest first.
    job_runs: Vec<Value>,
    faults: Vec<Fault>,
    hooks: Vec<Hook>,
    next_id: u32,
}

/// Requests that fail.
struct Fault {
    operation: &'static str,
    key_part: String,
    effect: Effect,
}

#[derive(Clone, Copy)]
enum Effect {
    /// Each such request is refused and changes nothing.
    Refuse { status: u16, code: &'static str },
    /// The next such request takes effect, but its response is an error.
    LoseResponse,
}

/// An action that runs before a request.
struct Hook {
    operation: &'static str,
    key_part: String,
    /// Number of such requests that pass before it runs.
    skip: u32,
    action: Box<dyn FnOnce() + Send>,
}

/// The response to a request.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A request with the parts that decide what it does.
struct Call<'a> {
    request: &'a HttpRequest,
    /// The name of the API operation, such as `PutObject`.
    operation: &'static str,
    /// The key in S3, the table's name in Glue.
    key: String,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

impl MemoryAws {
    /// An SDK configuration for these services, without retries.
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

    /// Writes an object.
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let etag = s3::etag_of(&bytes);
        self.state().put(key, bytes, etag, Vec::new());
    }

    /// Writes an object as a multipart upload does: its ETag is not the one of the same bytes in one request.
    pub(crate) fn put_in_parts(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.state().put_in_parts(key, bytes.into());
    }

    /// The bytes of an object.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).map(|object| object.bytes.clone())
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Starts a multipart upload, as a worker that dies before it completes it.
    pub(crate) fn start_upload(&self, key: &str) {
        self.state().create_upload(key);
    }

    /// Number of unfinished multipart uploads.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Number of Glue partitions.
    pub(crate) fn partitions(&self) -> usize {
        self.state().partitions.len()
    }

    /// A Glue table, as the JSON of the request that wrote it.
    pub(crate) fn glue_table(&self, name: &str) -> Option<Value> {
        self.state().tables.get(name).cloned()
    }

    /// Creates a Glue table, as another program does.
    pub(crate) fn put_glue_table(&self, name: &str, table: Value) {
        self.state().tables.insert(name.to_owned(), table);
    }

    /// The runs of the Glue job, newest first.
    pub(crate) fn job_runs(&self) -> Vec<Value> {
        self.state().job_runs.clone()
    }

    /// Ends a run of the Glue job.
    pub(crate) fn end_job_run(&self, id: &str, state: &str, message: &str) {
        let mut aws = self.state();
        let run = aws.job_runs.iter_mut().find(|run| run["Id"] == id).expect("the run exists");
        run["JobRunState"] = Value::from(state);
        run["ErrorMessage"] = Value::from(message);
    }

    /// The locations of all Glue partitions, with the number of their columns.
    pub(crate) fn partition_folders(&self) -> Vec<(String, usize)> {
        let storage = |partition: &Value| {
            let storage = &partition["StorageDescriptor"];
            let columns = storage["Columns"].as_array().map_or(0, Vec::len);
            (storage["Location"].as_str().unwrap_or_default().to_owned(), columns)
        };
        self.state().partitions.values().map(storage).collect()
    }

    /// Refuses all requests of an operation whose key contains `key_part`, until [`heal`](Self::heal).
    pub(crate) fn fail(&self, operation: &'static str, key_part: &str) {
        self.fail_with(operation, key_part, 500, "InternalError");
    }

    /// Like [`fail`](Self::fail), with this status and code.
    pub(crate) fn fail_with(&self, operation: &'static str, key_part: &str, status: u16, code: &'static str) {
        self.add_fault(operation, key_part, Effect::Refuse { status, code });
    }

    /// Carries out the next such request, but returns an error for it.
    pub(crate) fn lose_response(&self, operation: &'static str, key_part: &str) {
        self.add_fault(operation, key_part, Effect::LoseResponse);
    }

    /// Removes all faults.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// Runs an action once, before such a request, after `skip` others.
    pub(crate) fn before(
        &self,
        operation: &'static str,
        key_part: &str,
        skip: u32,
        action: impl FnOnce() + Send + 'static,
    ) {
        let (key_part, action) = (key_part.to_owned(), Box::new(action));
        self.state().hooks.push(Hook { operation, key_part, skip, action });
    }

    fn add_fault(&self, operation: &'static str, key_part: &str, effect: Effect) {
        self.state().faults.push(Fault { operation, key_part: key_part.to_owned(), effect });
    }

    fn respond(&self, request: &HttpRequest, body: Vec<u8>) -> Reply {
        let call = Call::new(request, body);
        // The lock is free while the action runs, because the action changes the state.
        let hook = self.state().take_hook(&call);
        if let Some(hook) = hook {
            (hook.action)();
        }
        let mut state = self.state();
        match state.take_effect(&call) {
            Some(Effect::Refuse { status, code }) => call.error(status, code),
            Some(Effect::LoseResponse) => {
                state.carry_out(&call);
                call.error(500, "InternalError")
            }
            None => state.carry_out(&call),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryAws {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MemoryAws")
    }
}

impl HttpConnector for MemoryAws {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let aws = self.clone();
        HttpConnectorFuture::new(async move {
            let body = std::mem::replace(request.body_mut(), SdkBody::empty());
            let body = ByteStream::new(body).collect().await;
            let body = body.map_err(|error| ConnectorError::other(error.into(), None))?.to_vec();
            let reply = aws.respond(&request, body);
            let status =
                StatusCode::try_from(reply.status).map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut response = HttpResponse::new(status, SdkBody::from(reply.body));
            for (name, value) in reply.headers {
                response.headers_mut().insert(name, value);
            }
            Ok(response)
        })
    }
}

impl State {
    fn take_hook(&mut self, call: &Call<'_>) -> Option<Hook> {
        let index = self.hooks.iter().position(|hook| call.is(hook.operation, &hook.key_part))?;
        match self.hooks[index].skip.checked_sub(1) {
            Some(skip) => {
                self.hooks[index].skip = skip;
                None
            }
            None => Some(self.hooks.remove(index)),
        }
    }

    fn take_effect(&mut self, call: &Call<'_>) -> Option<Effect> {
        let index = self.faults.iter().position(|fault| call.is(fault.operation, &fault.key_part))?;
        match self.faults[index].effect {
            refuse @ Effect::Refuse { .. } => Some(refuse),
            Effect::LoseResponse => Some(self.faults.remove(index).effect),
        }
    }

    fn carry_out(&mut self, call: &Call<'_>) -> Reply {
        if call.is_glue() { self.glue(call) } else { self.s3(call) }
    }
}

impl<'a> Call<'a> {
    fn new(request: &'a HttpRequest, body: Vec<u8>) -> Self {
        let (path, query) = path_and_query(request.uri());
        if let Some(target) = request.headers().get("x-amz-target") {
            let input: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (operation, key) = glue::operation(target, &input);
            return Self { request, operation, key, query, body };
        }
        let key = path.strip_prefix(&format!("/{BUCKET}")).unwrap_or(&path).trim_start_matches('/').to_owned();
        let operation = s3::operation(request, &query);
        Self { request, operation, key, query, body }
    }

    fn is(&self, operation: &str, key_part: &str) -> bool {
        self.operation == operation && self.key.contains(key_part)
    }

    fn is_glue(&self) -> bool {
        self.request.headers().get("x-amz-target").is_some()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name)
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(query, _)| query == name).map_or("", |(_, value)| value)
    }

    fn error(&self, status: u16, code: &str) -> Reply {
        if self.is_glue() { glue::error(status, code) } else { s3::error(status, code) }
    }
}

fn path_and_query(uri: &str) -> (String, Vec<(String, String)>) {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let rest = rest.find('/').map_or("", |start| &rest[start..]);
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
