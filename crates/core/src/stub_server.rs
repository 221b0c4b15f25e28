//! For tests: an AWS endpoint on loopback that gives prepared answers and keeps what it was asked.
//!
//! The SDK's own wire code runs on both sides of what is tested, and what a service answers is written as it answers it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::config::{Credentials, SharedCredentialsProvider};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One prepared answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    body: String,
}

/// An answer with this status and JSON body.
pub(crate) fn answer(status: u16, body: Value) -> Answer {
    Answer { status, body: body.to_string() }
}

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) body: Value,
}

/// The endpoint. The last answer is given again and again.
pub(crate) struct StubServer {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl StubServer {
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = kept.lock().unwrap_or_else(PoisonError::into_inner).len();
                let answer = &answers[index.min(answers.len() - 1)];
                serve(stream, answer, &kept).await.expect("a request of the SDK");
            }
        });
        Self { endpoint, requests }
    }

    /// A configuration that leads here, without retries of the SDK's own.
    pub(crate) fn config(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "key", None, None, "test")))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, answer: &Answer, kept: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(Request { body });
    let head = format!(
        "HTTP/1.1 {} x\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.status,
        answer.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.body.as_bytes()).await?;
    stream.flush().await
}
