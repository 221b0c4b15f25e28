//! A TCP link to a server that breaks: it cuts, resets, half-closes, stalls or delays connections, or swallows a response.
//!
//! It does not know the protocol, so it works for HTTP and for both databases. It counts the faults that occurred.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the link breaks. Bytes and responses are counted over all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After the clients have sent this number of bytes.
    Sent(usize),
    /// After the server has sent this number of bytes.
    Received(usize),
    /// When the server sends this response, counted from 0. Everything that a server sends between two requests is one response.
    Response(usize),
}

/// What happens then to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Both sides are closed; the bytes up to the moment were forwarded.
    Cut,
    /// Both sides are reset.
    Reset,
    /// The client gets an end of the stream, but may still send.
    HalfClose,
    /// Nothing is forwarded any more, and the connection stays open.
    Stall,
    /// The next bytes are forwarded after this time.
    Delay(Duration),
}

/// A fault of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When it happens. The bytes of a response that breaks are not forwarded.
    pub moment: Moment,
    /// What happens.
    pub effect: Break,
    /// How often it happens: from the second time on, at once with the next bytes or the next response.
    pub times: usize,
}

/// A running link. It ends when the value is dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server_port: u16,
    plan: Plan,
    sent: AtomicUsize,
    received: AtomicUsize,
    responses: AtomicUsize,
    fired: AtomicUsize,
}

impl Link {
    /// Starts a link to a port on 127.0.0.1.
    pub async fn start(server_port: u16, plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            server_port,
            plan,
            sent: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            responses: AtomicUsize::new(0),
            fired: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared, accepting })
    }

    /// The port of the link on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of faults that occurred.
    pub fn fired(&self) -> usize {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// The number of responses so far.
    pub fn responses(&self) -> usize {
        self.shared.responses.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Notes that a fault occurs, unless it has occurred often enough.
    fn fire(&self) -> bool {
        let times = self.plan.times;
        self.fired
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |fired| (fired < times).then_some(fired + 1))
            .is_ok()
    }

    /// The number of these bytes to forward before the fault; `None` without a fault in them.
    fn breaks_at(&self, direction: Direction, length: usize, is_new_response: bool) -> Option<usize> {
        let (counter, limit) = match (self.plan.moment, direction) {
            (Moment::Sent(limit), Direction::Sent) => (&self.sent, limit),
            (Moment::Received(limit), Direction::Received) => (&self.received, limit),
            (Moment::Response(limit), Direction::Received) if is_new_response => {
                let number = self.responses.fetch_add(1, Ordering::SeqCst);
                return (number >= limit && self.fire()).then_some(0);
            }
            _ => return None,
        };
        let before = counter.fetch_add(length, Ordering::SeqCst);
        (before + length > limit && self.fire()).then_some(limit.saturating_sub(before))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Sent,
    Received,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // Dropped with this task, so that no connection outlives the link.
        connections.spawn(serve(client, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// Forwards one connection until one side closes it or it breaks.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", shared.server_port)).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut last = Direction::Sent;
    let mut is_half_closed = false;
    loop {
        let (read, direction) = tokio::select! {
            read = client.read(&mut from_client) => (read, Direction::Sent),
            read = server.read(&mut from_server) => (read, Direction::Received),
        };
        let Ok(length @ 1..) = read else { return };
        let bytes = match direction {
            Direction::Sent => &from_client[..length],
            Direction::Received => &from_server[..length],
        };
        let is_new_response = direction == Direction::Received && last == Direction::Sent;
        last = direction;
        let broken_at = shared.breaks_at(direction, length, is_new_response);
        let forwarded = &bytes[..broken_at.unwrap_or(length).min(length)];
        if forward(direction, forwarded, &mut client, &mut server, is_half_closed).await.is_err() {
            return;
        }
        if let Some(position) = broken_at {
            match shared.plan.effect {
                Break::Cut => return,
                Break::Reset => {
                    let _reset = (client.set_zero_linger(), server.set_zero_linger());
                    return;
                }
                Break::HalfClose => {
                    let _closed = client.shutdown().await;
                    is_half_closed = true;
                }
                Break::Stall => std::future::pending().await,
                Break::Delay(time) => {
                    tokio::time::sleep(time).await;
                    let rest = &bytes[position.min(length)..];
                    if forward(direction, rest, &mut client, &mut server, is_half_closed).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn forward(
    direction: Direction,
    bytes: &[u8],
    client: &mut TcpStream,
    server: &mut TcpStream,
    is_half_closed: bool,
) -> std::io::Result<()> {
    match direction {
        Direction::Sent => server.write_all(bytes).await,
        Direction::Received if is_half_closed => Ok(()),
        Direction::Received => client.write_all(bytes).await,
    }
}
