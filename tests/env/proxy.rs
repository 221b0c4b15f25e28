//! A TCP proxy in front of a database server that injects faults: it refuses, stalls or cuts connections, or drops a COMMIT
//! or its response.
//!
//! It finds a COMMIT by reading the protocol, so tests that need this use `RDS_TLS=off`. It counts faults, so that a test can
//! check that its fault occurred.

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

/// The behavior of the proxy for all current and new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The proxy forwards bytes in both directions.
    Pass,
    /// The port is closed, and open connections are cut, as if the database was down.
    Refuse,
    /// The proxy accepts connections and forwards nothing.
    Stall,
}

/// A fault during COMMIT. The server receives and executes the COMMIT, except with `DropCommit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// The response is dropped and the connection is cut. Other connections pass.
    CutAfterCommit,
    /// The response is dropped and the connection stays open. Other connections pass.
    StallAfterCommit,
    /// The response is dropped, the connection is cut, and the mode becomes [`Mode::Refuse`].
    RefuseAfterCommit,
    /// The COMMIT does not reach the server, and the connection is cut.
    DropCommit,
}

/// The counters of the proxy.
#[derive(Debug, Default)]
pub struct Counts {
    /// Accepted connections.
    pub connections: AtomicU32,
    /// COMMITs that clients sent.
    pub commits: AtomicU32,
    /// COMMITs that were not forwarded to the server.
    pub dropped_commits: AtomicU32,
    /// Responses to a COMMIT that were not forwarded to the client.
    pub dropped_responses: AtomicU32,
}

/// A running proxy. It stops when the value is dropped.
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
    /// A change cuts all open connections.
    cut: watch::Sender<u32>,
    commit_fault: Mutex<Option<CommitFault>>,
    counts: Counts,
}

impl Proxy {
    /// Starts a proxy in [`Mode::Pass`] in front of the server's port.
    pub async fn start(server_port: u16) -> Result<Self> {
        let port = run::free_port()?;
        let shared = Arc::new(Shared {
            server_port,
            mode: watch::Sender::new(Mode::Pass),
            cut: watch::Sender::new(0),
            commit_fault: Mutex::new(None),
            counts: Counts::default(),
        });
        let (report, listening) = watch::channel(false);
        let accepting = tokio::spawn(accept(port, Arc::clone(&shared), report));
        let proxy = Self { port, shared, listening, accepting };
        proxy.listens(true).await?;
        Ok(proxy)
    }

    /// The port of the proxy on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Changes the mode, and waits until the port is open or closed.
    pub async fn set(&self, mode: Mode) -> Result<()> {
        self.shared.mode.send_replace(mode);
        self.listens(mode != Mode::Refuse).await
    }

    /// Cuts every open connection. New connections pass.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|generation| *generation += 1);
    }

    /// Injects a fault into the next COMMIT.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        *self.shared.commit_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Waits until the proxy has dropped the response to a COMMIT.
    pub async fn wait_for_dropped_response(&self, timeout: Duration) -> Result<()> {
        let counts = self.counts();
        wait::until("the proxy to drop the response to a COMMIT", timeout, async || {
            Ok(counts.dropped_responses.load(Ordering::SeqCst) > 0)
        })
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

/// Listens while the mode is not `Refuse`. Ends if it cannot bind the port, which closes `report`.
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

/// Forwards one connection until one side closes it or it is cut.
async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server_port)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (set_fault, fault) = watch::channel(None);
    tokio::select! {
        () = forward_client(from_client, to_server, &shared, &set_fault) => {}
        () = forward_server(from_server, to_client, &shared, fault) => {}
        _ = cut.changed() => {}
    }
}

async fn forward_client(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    set_fault: &watch::Sender<Option<CommitFault>>,
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
            // Before the COMMIT is forwarded, so that its response is not forwarded either.
            let fault = shared.commit_fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            if fault == Some(CommitFault::DropCommit) {
                shared.counts.dropped_commits.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if fault.is_some() {
                set_fault.send_replace(fault);
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
    fault: watch::Receiver<Option<CommitFault>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut mode = shared.mode.subscribe();
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 || mode.wait_for(|&now| now != Mode::Stall).await.is_err() {
            return;
        }
        let fault = *fault.borrow();
        match fault {
            None | Some(CommitFault::DropCommit) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            Some(CommitFault::StallAfterCommit) => {
                shared.counts.dropped_responses.fetch_add(1, Ordering::SeqCst);
            }
            Some(CommitFault::CutAfterCommit) => {
                shared.counts.dropped_responses.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Some(CommitFault::RefuseAfterCommit) => {
                shared.mode.send_replace(Mode::Refuse);
                shared.counts.dropped_responses.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}
