//! A task that runs ahead of its consumer, with a short queue in between.
//!
//! A pass over a file is a chain of such tasks: fetch and decompress, decode, then scan or load every value. So each
//! step can use another processor.

use std::future::Future;
use std::panic::resume_unwind;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::error::{Error, ErrorKind, Result};

/// Capacity of the queue in pieces. A few are enough that neither side waits for the other; more would only use memory.
const QUEUE: usize = 4;

/// The consumer's side of a task: receives the pieces in order, then the summary.
#[derive(Debug)]
pub(super) struct ReadAhead<Piece, Summary> {
    queue: mpsc::Receiver<Piece>,
    /// The only task. Dropping the set aborts it.
    work: JoinSet<Result<Summary>>,
    summary: Option<Summary>,
}

/// The task's side: sends its pieces to the consumer.
#[derive(Debug)]
pub(super) struct Sender<Piece>(mpsc::Sender<Piece>);

impl<Piece> Sender<Piece> {
    /// Sends a piece. Waits while the queue is full.
    pub(super) async fn send(&self, piece: Piece) {
        if self.0.send(piece).await.is_err() {
            // The consumer was dropped, which aborts this task.
            std::future::pending::<()>().await;
        }
    }
}

impl<Piece: Send + 'static, Summary: Send + 'static> ReadAhead<Piece, Summary> {
    /// Starts the task.
    pub(super) fn start<Work>(work: impl FnOnce(Sender<Piece>) -> Work) -> Self
    where
        Work: Future<Output = Result<Summary>> + Send + 'static,
    {
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(work(Sender(sender)).in_current_span());
        Self { queue, work: tasks, summary: None }
    }

    /// Returns the next piece, or `None` after the task has ended without an error.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>> {
        if let Some(piece) = self.queue.recv().await {
            return Ok(Some(piece));
        }
        match self.work.join_next().await {
            Some(Ok(summary)) => self.summary = Some(summary?),
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(stopped) => return Err(Error::new(ErrorKind::Internal, "reading was stopped").with_source(stopped)),
            },
            // The caller continued after the end.
            None => {}
        }
        Ok(None)
    }

    /// Returns the task's summary, after [`ReadAhead::next`] has returned `None`.
    pub(super) fn summary(&mut self) -> Result<Summary> {
        self.summary.take().ok_or_else(|| Error::new(ErrorKind::Internal, "the file was not read to its end"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_order_then_the_summary() {
        let mut read_ahead = ReadAhead::start(async |sender| {
            for piece in 0..100 {
                sender.send(piece).await;
            }
            Ok("the end")
        });
        for piece in 0..100 {
            assert_eq!(read_ahead.next().await.unwrap(), Some(piece));
        }
        assert_eq!((read_ahead.next().await.unwrap(), read_ahead.next().await.unwrap()), (None, None));
        assert_eq!(read_ahead.summary().unwrap(), "the end");
    }

    #[tokio::test]
    async fn pieces_sent_before_an_error_arrive_first() {
        let mut read_ahead = ReadAhead::<_, ()>::start(async |sender| {
            sender.send(1).await;
            Err(Error::new(ErrorKind::FileBroken, "broken"))
        });
        assert_eq!(read_ahead.next().await.unwrap(), Some(1));
        assert_eq!(read_ahead.next().await.unwrap_err().kind(), ErrorKind::FileBroken);
        assert!(read_ahead.summary().is_err());
    }

    #[tokio::test]
    #[should_panic(expected = "a fault")]
    async fn panic_reaches_the_consumer() {
        let mut read_ahead = ReadAhead::<u8, ()>::start(async |_| panic!("a fault"));
        let _ = read_ahead.next().await;
    }

    #[tokio::test]
    async fn task_runs_ahead_by_its_queue_and_ends_with_its_consumer() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let mut read_ahead = ReadAhead::<_, ()>::start(async move |sender| {
            loop {
                sender.send(counter.fetch_add(1, Ordering::SeqCst)).await;
            }
        });
        assert_eq!(read_ahead.next().await.unwrap(), Some(0));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let ahead = sent.load(Ordering::SeqCst);
        assert!(ahead <= QUEUE + 2, "{ahead} pieces ahead");
        drop(read_ahead);
        while Arc::strong_count(&sent) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
