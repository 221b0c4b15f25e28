//! Test server: an AWS endpoint on loopback that sends prepared JSON responses and records the requests.
//!
//! The SDK's own wire code runs on the client's side; the responses are written as the service writes them.

use std::sync::{Arc, Mutex, PoisonError};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::config::{Credentials, SharedCredentialsProvider};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A prepared response.
#[derive(Debug, Clone)]
pub(crate) struct StubResponse {
    status: u16,
    body: String,
}

/// A response with this status and JSON body.
pub(crate) fn response(status: u16, body: Value) -> StubResponse {
    StubResponse { status, body: body.to_string() }
}

/// The endpoint. It repeats the last response.
pub(crate) struct StubServer {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl StubServer {
    pub(crate) async fn start(responses: Vec<StubResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&bodies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = received.lock().unwrap_or_else(PoisonError::into_inner).len();
                let response = &responses[index.min(responses.len() - 1)];
                serve(stream, response, &received).await.expect("a request of the SDK");
            }
        });
        Self { endpoint, bodies }
    }

    /// A configuration for this endpoint whose SDK clients do not retry.
    pub(crate) fn config(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "key", None, None, "test")))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build()
    }

    /// The JSON bodies of the received requests; null for a body that is not JSON.
    pub(crate) fn request_bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, response: &StubResponse, received: &Mutex<Vec<Value>>) -> std::io::Result<()> {
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
    received.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    let head = format!(
        "HTTP/1.1 {} x\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        response.status,
        response.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(response.body.as_bytes()).await?;
    stream.flush().await
}
