//! Sends one HTTP request over loopback, where the tests use no SDK: to the runtime emulator, MiniStack and Athena.
//!
//! It uses HTTP/1.0, without chunks: the response ends with the connection.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// Sends a GET without a body.
pub async fn get(port: u16, path: &str) -> Result<Response> {
    get_with(port, path, &[]).await
}

/// Sends a GET with additional headers.
pub async fn get_with(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    send(port, &format!("{request}\r\n")).await
}

/// Sends a POST with a body and additional headers.
pub async fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Response> {
    request("POST", port, path, headers, body).await
}

/// Sends a request with a body and additional headers.
pub async fn request(method: &str, port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Response> {
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    send(port, &format!("{request}\r\n{body}")).await
}

async fn send(port: u16, request: &str) -> Result<Response> {
    let mut stream =
        TcpStream::connect(("127.0.0.1", port)).await.with_context(|| format!("cannot connect to port {port}"))?;
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.context("the connection closed before the end of the response")?;
    let response = String::from_utf8(response).context("the response is not UTF-8")?;
    let (head, body) = response.split_once("\r\n\r\n").context("the response has no headers")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the response has no status")?;
    Ok(Response { status, body: body.to_owned() })
}
