//! Work that runs ahead of whoever needs it, in a task of its own: what it makes waits in a short queue.
//!
//! A pass over a file is a chain of these (fetch and decompress, decode, then check and send or look at every value), so that
//! each part has a processor of its own where there is one, and nobody waits for what could have been done before.

use std::future::Future;
use std::panic::resume_unwind;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::error::{Error, ErrorKind, Result};

/// How many pieces may wait: enough for the two sides not to go in step, few enough to take no memory worth counting.
const QUEUE: usize = 4;

/// Where the work's pieces come out, one after the other, and at last what all of it has shown.
#[derive(Debug)]
pub(super) struct ReadAhead<Piece, Action> {
    queue: mpsc::Receiver<Piece>,
    /// The one task; it is stopped when this goes.
    work: JoinSet<Result<Action>>,
    end: Option<Action>,
}

/// Where the work puts its pieces.
#[derive(Debug)]
pub(super) struct Sender<Piece>(mpsc::Sender<Piece>);

impl<Piece> Sender<Piece> {
    /// Waits for room in the queue.
    pub(super) async fn put(&self, piece: Piece) {
        if self.0.send(piece).await.is_err() {
            // Nobody waits for it any more, and the task is about to be stopped.
            std::future::pending::<()>().await;
        }
    }
}

impl<Piece: Send + 'static, Action: Send + 'static> ReadAhead<Piece, Action> {
    /// Starts the work.
    pub(super) fn start<Work>(work: impl FnOnce(Sender<Piece>) -> Work) -> Self
    where
        Work: Future<Output = Result<Action>> + Send + 'static,
    {
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(work(Sender(sender)).in_current_span());
        Self { queue, work: tasks, end: None }
    }

    /// The next piece; none once the work has come to a good end.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>> {
        if let Some(piece) = self.queue.recv().await {
            return Ok(Some(piece));
        }
        match self.work.join_next().await {
            Some(Ok(end)) => self.end = Some(end?),
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(stopped) => return Err(Error::new(ErrorKind::Internal, "reading was stopped").with_source(stopped)),
            },
            // Asked once more after the end.
            None => {}
        }
        Ok(None)
    }

    /// What all of the work has shown, once [`ReadAhead::next`] has given none.
    pub(super) fn end(&mut self) -> Result<Action> {
        self.end.take().ok_or_else(|| Error::new(ErrorKind::Internal, "reading has not come to its end"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn pieces_come_in_order_and_the_end_last() {
        let mut read_ahead = ReadAhead::start(async |sender| {
            for piece in 0..100 {
                sender.put(piece).await;
            }
            Ok("the end")
        });
        for piece in 0..100 {
            assert_eq!(read_ahead.next().await.unwrap(), Some(piece));
        }
        assert_eq!((read_ahead.next().await.unwrap(), read_ahead.next().await.unwrap()), (None, None));
        assert_eq!(read_ahead.end().unwrap(), "the end");
    }

    #[tokio::test]
    async fn what_was_made_before_an_error_comes_first() {
        let mut read_ahead = ReadAhead::<_, ()>::start(async |sender| {
            sender.put(1).await;
            Err(Error::new(ErrorKind::FileBroken, "broken"))
        });
        assert_eq!(read_ahead.next().await.unwrap(), Some(1));
        assert_eq!(read_ahead.next().await.unwrap_err().kind(), ErrorKind::FileBroken);
        assert!(read_ahead.end().is_err());
    }

    #[tokio::test]
    #[should_panic(expected = "a fault")]
    async fn a_panic_is_passed_on() {
        let mut read_ahead = ReadAhead::<u8, ()>::start(async |_| panic!("a fault"));
        let _ = read_ahead.next().await;
    }

    #[tokio::test]
    async fn the_work_is_never_far_ahead_and_ends_with_whoever_wants_it() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let mut read_ahead = ReadAhead::<_, ()>::start(async move |sender| {
            loop {
                sender.put(counter.fetch_add(1, Ordering::SeqCst)).await;
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
