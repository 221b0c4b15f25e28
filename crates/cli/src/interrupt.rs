//! Ends a command when the user presses Ctrl-C or the process gets SIGTERM. The open transaction is then rolled back.

use spillway_core::deadline::Deadline;
use spillway_core::error::{Error, ErrorKind, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A deadline that is reached when a signal arrives.
///
/// # Errors
/// When the process cannot listen for signals.
pub(crate) fn until_signal() -> Result<Deadline> {
    let listen = |kind| {
        signal(kind).map_err(|error| Error::new(ErrorKind::Internal, "cannot listen for signals").with_source(error))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(Deadline::until_stopped(receiver))
}
