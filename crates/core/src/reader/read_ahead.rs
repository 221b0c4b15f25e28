//! A task that runs ahead of its consumer: the pieces it produces wait in a short queue.
//!
//! A pass over a file is a chain of these (fetch and decompress, decode, then check and send or inspect every value). So each part
//! uses a processor of its own where there is one.

use std::future::Future;
use std::panic::resume_unwind;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::error::{Error, ErrorKind, Result};

/// How many pieces may wait: enough that neither side has to keep step with the other, few enough to need little memory.
const QUEUE: usize = 4;

/// The consumer's side of a task: its pieces in order, and then its summary.
#[derive(Debug)]
pub(super) struct ReadAhead<Piece, Summary> {
    queue: mpsc::Receiver<Piece>,
    /// The one task; dropping the set stops it.
    work: JoinSet<Result<Summary>>,
    summary: Option<Summary>,
}

/// The task's side: sends its pieces to the consumer.
#[derive(Debug)]
pub(super) struct Sender<Piece>(mpsc::Sender<Piece>);

impl<Piece> Sender<Piece> {
    /// Waits for room in the queue.
    pub(super) async fn send(&self, piece: Piece) {
        if self.0.send(piece).await.is_err() {
            // The consumer is gone, and dropping its side is about to stop this task.
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

    /// The next piece; `None` after the task ended without an error.
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
            // Called once more after the end.
            None => {}
        }
        Ok(None)
    }

    /// The task's summary, after [`ReadAhead::next`] has returned `None`.
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
    async fn task_stays_close_and_ends_with_its_consumer() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let mut read_ahead = ReadAhead::<_, ()>::start(async move |sender| {
            loop {
                sender.send(counter.fetch_add(1, Ordering::SeqCst)).await;
            }
        });
        assert_eq!(read_ahead.next().await.unwrap(), Some(0));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let far = made.load(Ordering::SeqCst);
        assert!(far <= QUEUE + 2, "{far} pieces ahead");
        drop(read_ahead);
        while Arc::strong_count(&made) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
