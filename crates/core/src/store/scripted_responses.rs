//! Test server: sends scripted HTTP responses, one per connection, and records the requests.
//!
//! Unlike [`crate::stub_server`] it can break a connection within a body and send any header.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::Store;

/// A scripted response. Its `Content-Length` is always that of the whole body, even if the connection breaks earlier.
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    is_head: bool,
}

impl Response {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, is_head: false }
    }

    /// An S3 error response in XML.
    pub(super) fn error(status: u16, code: &str) -> Self {
        Self::new(status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>"))
    }

    /// The response to HEAD for an object of this size.
    pub(super) fn head(size: usize) -> Self {
        Self { is_head: true, ..Self::new(200, vec![0; size]) }
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Breaks the connection after this many bytes of the body.
    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    async fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head =
            format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        if !self.is_head {
            stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len())]).await?;
        }
        stream.shutdown().await
    }
}

/// A received request: its request line and its headers, with lower-case names.
#[derive(Debug, Clone)]
pub(super) struct ReceivedRequest {
    pub(super) line: String,
    headers: Vec<(String, String)>,
}

impl ReceivedRequest {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

pub(super) struct ScriptedResponses {
    pub(super) store: Store,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    remaining: Arc<Mutex<VecDeque<Response>>>,
}

impl ScriptedResponses {
    /// Starts a server that sends these responses in order, and a store for it whose SDK client does not retry.
    pub(super) async fn new(responses: Vec<Response>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let remaining = Arc::new(Mutex::new(VecDeque::from(responses)));
        tokio::spawn(serve(listener, Arc::clone(&received), Arc::clone(&remaining)));
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("a", "b", None, None, "test")))
            .retry_config(RetryConfig::standard().with_max_attempts(1).with_initial_backoff(Duration::from_millis(1)))
            .build();
        Self { store: Store::new(&config), received, remaining }
    }

    /// The received requests. Panics when a response is left over: then the test has not shown what it claims.
    pub(super) fn requests(&self) -> Vec<ReceivedRequest> {
        assert_eq!(self.remaining.lock().unwrap().len(), 0, "responses are left over");
        self.received.lock().unwrap().clone()
    }

    pub(super) fn methods(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.method().to_owned()).collect()
    }
}

async fn serve(
    listener: TcpListener,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    remaining: Arc<Mutex<VecDeque<Response>>>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Some(request) = receive(&mut stream).await else { continue };
        received.lock().unwrap().push(request);
        let response = remaining.lock().unwrap().pop_front();
        let _ = response.unwrap_or_else(|| Response::error(599, "NoResponseLeft")).send(&mut stream).await;
    }
}

async fn receive(stream: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, text)| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).await.ok()?;
    Some(ReceivedRequest { line: lines.first()?.clone(), headers })
}
