//! A TCP proxy in front of MariaDB that passes, refuses, stalls, cuts, or forwards a COMMIT and keeps its answer.
//!
//! It reads the protocol, so what must find a COMMIT runs with `RDS_TLS=off`. It counts what it did: a test that injects a
//! fault also proves that the fault happened.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire::ClientStream;
use crate::{run, wait};

/// What the proxy does to all connections, present and future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes go both ways.
    Pass,
    /// Nobody listens, and what was open is cut: the database is gone.
    Refuse,
    /// Connections are taken and kept, and not a byte goes either way.
    Stall,
}

/// What happens to the connection whose COMMIT got no answer, and to everybody afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swallow {
    /// That connection is cut; others pass.
    ThenCut,
    /// That connection stays open and silent; others pass.
    ThenStall,
    /// That connection is cut and the database is gone: the proxy refuses.
    ThenRefuse,
    /// The COMMIT itself is lost: it never reaches the server, and the connection is cut.
    Lost,
}

/// What the proxy has done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that were taken.
    pub connections: AtomicU32,
    /// COMMITs that clients sent.
    pub commits: AtomicU32,
    /// COMMITs that never reached the server.
    pub lost: AtomicU32,
    /// Answers to a COMMIT that the server gave and the client never got.
    pub swallowed: AtomicU32,
}

/// The proxy; it ends with the value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: watch::Receiver<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server_port: u16,
    mode: watch::Sender<Mode>,
    /// Changes when all open connections are to be cut.
    cut: watch::Sender<u32>,
    swallow: Mutex<Option<Swallow>>,
    counts: Counts,
}

impl Proxy {
    /// Starts a proxy that passes everything to the server's port.
    pub async fn start(server_port: u16) -> Result<Self> {
        let port = run::free_port()?;
        let shared = Arc::new(Shared {
            server_port,
            mode: watch::Sender::new(Mode::Pass),
            cut: watch::Sender::new(0),
            swallow: Mutex::new(None),
            counts: Counts::default(),
        });
        let (report, listening) = watch::channel(false);
        let accepting = tokio::spawn(accept(port, Arc::clone(&shared), report));
        let proxy = Self { port, shared, listening, accepting };
        proxy.listens(true).await?;
        Ok(proxy)
    }

    /// The proxy's own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the proxy has done so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Changes the mode, and waits until the port is open or closed accordingly.
    pub async fn set(&self, mode: Mode) -> Result<()> {
        self.shared.mode.send_replace(mode);
        self.listens(mode != Mode::Refuse).await
    }

    /// Cuts every open connection; new ones pass.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|generation| *generation += 1);
    }

    /// Keeps the server's answer to the next COMMIT from its client, or the COMMIT from the server.
    pub fn swallow_next_commit(&self, swallow: Swallow) {
        *self.shared.swallow.lock().unwrap_or_else(PoisonError::into_inner) = Some(swallow);
    }

    /// Waits until a COMMIT's answer was given by the server and swallowed here.
    pub async fn swallowed(&self, bound: Duration) -> Result<()> {
        let counts = self.counts();
        wait::until(
            "a COMMIT's answer to be swallowed",
            bound,
            async || Ok(counts.swallowed.load(Ordering::SeqCst) > 0),
        )
        .await
    }

    async fn listens(&self, expected: bool) -> Result<()> {
        let mut listening = self.listening.clone();
        let change = tokio::time::timeout(Duration::from_secs(5), listening.wait_for(|&now| now == expected));
        change
            .await
            .context("the proxy did not change its port in time")?
            .context("the proxy could not bind its port")?;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// Listens while the mode is not `Refuse`; ends when the port cannot be bound, which closes the report.
async fn accept(port: u16, shared: Arc<Shared>, report: watch::Sender<bool>) {
    let mut mode = shared.mode.subscribe();
    loop {
        if mode.wait_for(|&now| now != Mode::Refuse).await.is_err() {
            return;
        }
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else { return };
        report.send_replace(true);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    shared.counts.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(client, Arc::clone(&shared)));
                }
                refused = mode.wait_for(|&now| now == Mode::Refuse) => {
                    if refused.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
        drop(listener);
        shared.cut.send_modify(|generation| *generation += 1);
        report.send_replace(false);
    }
}

/// One connection, until either side ends it or it is cut.
async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server_port)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (swallowing, swallow) = watch::channel(None);
    tokio::select! {
        () = forward_client(from_client, to_server, &shared, &swallowing) => {}
        () = forward_server(from_server, to_client, &shared, swallow) => {}
        _ = cut.changed() => {}
    }
}

async fn forward_client(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    swallowing: &watch::Sender<Option<Swallow>>,
) {
    let mut packets = ClientStream::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut mode = shared.mode.subscribe();
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 || mode.wait_for(|&now| now != Mode::Stall).await.is_err() {
            return;
        }
        if packets.has_commit(&buffer[..read]) {
            shared.counts.commits.fetch_add(1, Ordering::SeqCst);
            // Before the COMMIT goes out, so that its answer cannot slip through.
            let armed = shared.swallow.lock().unwrap_or_else(PoisonError::into_inner).take();
            if armed == Some(Swallow::Lost) {
                shared.counts.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if armed.is_some() {
                swallowing.send_replace(armed);
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn forward_server(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    swallow: watch::Receiver<Option<Swallow>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut mode = shared.mode.subscribe();
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 || mode.wait_for(|&now| now != Mode::Stall).await.is_err() {
            return;
        }
        let swallow_now = *swallow.borrow();
        match swallow_now {
            None | Some(Swallow::Lost) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            Some(Swallow::ThenStall) => {
                shared.counts.swallowed.fetch_add(1, Ordering::SeqCst);
            }
            Some(Swallow::ThenCut) => {
                shared.counts.swallowed.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Some(Swallow::ThenRefuse) => {
                shared.mode.send_replace(Mode::Refuse);
                shared.counts.swallowed.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}
