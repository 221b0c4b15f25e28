//! A server for tests that says exactly what it is told, once per connection, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::Store;

/// One answer. Its `Content-Length` always is the whole body's, also where the connection is cut before.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    is_head: bool,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, is_head: false }
    }

    /// S3's XML for an error.
    pub(super) fn error(status: u16, code: &str) -> Self {
        Self::new(status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>"))
    }

    /// The answer to a HEAD for an object of this size.
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

    /// Only this much of the body arrives, then the connection breaks.
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

/// One request as it arrived: its first line and its headers, in small letters.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

pub(super) struct ScriptedResponses {
    pub(super) store: Store,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<Mutex<VecDeque<Reply>>>,
}

impl ScriptedResponses {
    /// A server that gives these answers in this order, and a store that talks to it and never retries by itself.
    pub(super) async fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(Mutex::new(VecDeque::from(replies)));
        tokio::spawn(serve(listener, Arc::clone(&asked), Arc::clone(&left)));
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("a", "b", None, None, "test")))
            .retry_config(RetryConfig::standard().with_max_attempts(1).with_initial_backoff(Duration::from_millis(1)))
            .build();
        Self { store: Store::new(&config), asked, left }
    }

    /// What was asked. Panics when an answer was never fetched: then the test has shown less than it says.
    pub(super) fn asked(&self) -> Vec<Asked> {
        assert_eq!(self.left.lock().unwrap().len(), 0, "answers are left over");
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn methods(&self) -> Vec<String> {
        self.asked().iter().map(|asked| asked.method().to_owned()).collect()
    }
}

async fn serve(listener: TcpListener, asked: Arc<Mutex<Vec<Asked>>>, left: Arc<Mutex<VecDeque<Reply>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Some(request) = receive(&mut stream).await else { continue };
        asked.lock().unwrap().push(request);
        let reply = left.lock().unwrap().pop_front().unwrap_or_else(|| Reply::error(599, "NoAnswerLeft"));
        let _ = reply.send(&mut stream).await;
    }
}

async fn receive(stream: &mut TcpStream) -> Option<Asked> {
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
    Some(Asked { line: lines.first()?.clone(), headers })
}
