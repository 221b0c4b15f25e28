//! The HTTP side of the double: JSON requests over connections that stay open.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Response, State, handle};

/// Accepts connections for ever.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            // A client that closes its connection ends it.
            let _ = serve_connection(stream, &state).await;
        });
    }
}

async fn serve_connection(mut stream: TcpStream, state: &Arc<State>) -> Result<()> {
    let mut received = Vec::new();
    loop {
        let Some((operation, body)) = read_request(&mut stream, &mut received).await? else { return Ok(()) };
        let (status, body) = match handle(state, &operation, &body).await {
            Response::Ok(body) => ("200 OK", body),
            Response::Refused(code, message) => ("400 Bad Request", json!({"__type": code, "message": message})),
            Response::Lost => return Ok(()),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
    }
}

/// Reads a request: the operation and the body. `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Option<(String, Value)>> {
    loop {
        if let Some(request) = take_request(received)? {
            return Ok(Some(request));
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

/// Takes a request from the received bytes, if it is complete.
fn take_request(received: &mut Vec<u8>) -> Result<Option<(String, Value)>> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").map_or(Ok(0), |text| text.parse())?;
    let (start, end) = (end + 4, end + 4 + length);
    if received.len() < end {
        return Ok(None);
    }
    let target = header("x-amz-target").context("the request names no operation")?;
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&received[start..end])?;
    received.drain(..end);
    Ok(Some((operation, body)))
}
