//! The time by which work must end: the deadline of the Lambda invocation, or a signal that stops the process.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

/// Time reserved at the end to roll back, to release the lease and to respond.
const MARGIN: Duration = Duration::from_secs(3);

/// Part of [`MARGIN`] that a last write may use.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// The time by which work must end. Clones are cheap and share the same end.
#[derive(Debug, Clone)]
pub struct Deadline {
    ends_at: Option<Instant>,
    /// The time between the start and the end.
    whole: Option<Duration>,
    stop: Option<watch::Receiver<bool>>,
}

/// A signal that asks a process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, from a program.
    Terminate,
    /// SIGINT, from a person who has pressed Ctrl-C.
    Interrupt,
}

impl Deadline {
    /// A deadline after this time.
    pub fn within(remaining: Duration) -> Self {
        Self { ends_at: Some(Instant::now() + remaining), whole: Some(remaining), stop: None }
    }

    /// A deadline of which this many seconds are left for work.
    #[cfg(test)]
    pub(crate) fn with_time_left(left: u64, whole: u64) -> Self {
        let [left, whole] = [left, whole].map(|seconds| Duration::from_secs(seconds) + MARGIN);
        Self { whole: Some(whole), ..Self::within(left) }
    }

    /// A deadline that is reached when `stop` becomes `true`.
    pub fn until_stopped(stop: watch::Receiver<bool>) -> Self {
        Self { ends_at: None, whole: None, stop: Some(stop) }
    }

    /// A deadline that is reached when the process gets SIGTERM or SIGINT (Ctrl-C). `on_signal` is called then.
    ///
    /// # Errors
    /// When the process cannot listen for signals.
    pub fn until_signal(on_signal: impl FnOnce(StopSignal) + Send + 'static) -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Error::new(ErrorKind::Internal, "cannot listen for signals").with_source(error))
        };
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            let signal = tokio::select! {
                _ = terminate.recv() => StopSignal::Terminate,
                _ = interrupt.recv() => StopSignal::Interrupt,
            };
            on_signal(signal);
            sender.send_replace(true);
        });
        Ok(Self::until_stopped(receiver))
    }

    /// The time left until work must end; `None` if only a signal ends it.
    pub fn remaining(&self) -> Option<Duration> {
        self.ends_at.map(|end| end.saturating_duration_since(Instant::now()).saturating_sub(MARGIN))
    }

    /// The time that work had at the start; `None` if only a signal ends it.
    pub(crate) fn whole_time(&self) -> Option<Duration> {
        self.whole.map(|whole| whole.saturating_sub(MARGIN))
    }

    /// The same deadline, or one after this time if that is earlier.
    pub(crate) fn limited_to(&self, time: Duration) -> Self {
        let limit = Instant::now() + time + MARGIN;
        let ends_at = Some(self.ends_at.map_or(limit, |end| end.min(limit)));
        Self {
            ends_at,
            whole: Some(self.whole.map_or(time + MARGIN, |whole| whole.min(time + MARGIN))),
            stop: self.stop.clone(),
        }
    }

    /// The same deadline, or at least two seconds of the reserved time for a last write.
    pub(crate) fn closing(&self) -> Self {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| *stop.borrow());
        match is_stopped || self.remaining().is_some_and(|left| left < LAST_WRITE) {
            true => Self::within(LAST_WRITE + MARGIN),
            false => self.clone(),
        }
    }

    /// Waits until work must end, and returns the reason as an error. Waits forever without a deadline.
    pub async fn reached(&self) -> Error {
        tokio::select! {
            error = self.out_of_time() => error,
            error = self.stopped() => error,
        }
    }

    async fn out_of_time(&self) -> Error {
        match self.remaining() {
            Some(remaining) => tokio::time::sleep(remaining).await,
            None => std::future::pending().await,
        }
        Error::new(ErrorKind::Deadline, "too little time is left to finish this object")
    }

    async fn stopped(&self) -> Error {
        let Some(mut stop) = self.stop.clone() else { return std::future::pending().await };
        if stop.wait_for(|stopped| *stopped).await.is_err() {
            return std::future::pending().await;
        }
        Error::new(ErrorKind::Interrupted, "the process was asked to stop")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_reaches_every_clone() {
        let (sender, receiver) = watch::channel(false);
        let deadline = Deadline::until_stopped(receiver).clone();
        sender.send(true).expect("the receiver exists");
        assert_eq!(deadline.reached().await.kind(), ErrorKind::Interrupted);
    }

    #[tokio::test]
    async fn the_margin_is_subtracted() {
        let deadline = Deadline::within(Duration::from_secs(2));
        assert_eq!(deadline.remaining(), Some(Duration::ZERO));
        assert_eq!(deadline.reached().await.kind(), ErrorKind::Deadline);
    }

    #[tokio::test]
    async fn a_limit_never_extends_a_deadline() {
        let ends_in = |deadline: &Deadline| deadline.remaining().unwrap().as_secs_f64().round();
        let deadline = Deadline::within(Duration::from_secs(13));
        assert_eq!(ends_in(&deadline.limited_to(Duration::from_secs(5))), 5.0);
        assert_eq!(ends_in(&deadline.limited_to(Duration::from_secs(50))), 10.0);
        let (sender, receiver) = watch::channel(false);
        let limited = Deadline::until_stopped(receiver).limited_to(Duration::from_secs(50));
        sender.send(true).expect("the receiver exists");
        assert_eq!(limited.reached().await.kind(), ErrorKind::Interrupted);
    }

    #[tokio::test]
    async fn a_last_write_has_time_after_the_deadline() {
        let ends_in = |deadline: &Deadline| deadline.remaining().map(|left| left.as_secs_f64().round());
        assert_eq!(ends_in(&Deadline::within(Duration::ZERO).closing()), Some(2.0));
        assert_eq!(ends_in(&Deadline::within(Duration::from_secs(13)).closing()), Some(10.0));
        let (sender, receiver) = watch::channel(false);
        let deadline = Deadline::until_stopped(receiver);
        assert_eq!(ends_in(&deadline.closing()), None);
        sender.send(true).expect("the receiver exists");
        assert_eq!(ends_in(&deadline.closing()), Some(2.0));
    }
}
