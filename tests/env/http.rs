//! One HTTP request over loopback, for what no SDK speaks: the runtime emulator, MiniStack's health, Athena's JSON.
//! HTTP/1.0 keeps it small: no chunks, and the answer ends where the connection does.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// Sends a GET without a body.
pub async fn get(port: u16, path: &str) -> Result<Answer> {
    send(port, &format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")).await
}

/// Sends a POST with a body and more headers.
pub async fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut request = format!(
        "POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    send(port, &format!("{request}\r\n{body}")).await
}

async fn send(port: u16, request: &str) -> Result<Answer> {
    let mut stream =
        TcpStream::connect(("127.0.0.1", port)).await.with_context(|| format!("nobody listens on port {port}"))?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("the connection broke before the answer was whole")?;
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no headers")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer has no status")?;
    Ok(Answer { status, body: body.to_owned() })
}
