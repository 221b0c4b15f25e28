//! Waiting with a bound: tests poll for what they wait for and never trust a sleep.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Polls until the condition holds; after the bound an error says what never came.
pub async fn until<Condition, Answer>(what: &str, bound: Duration, mut condition: Condition) -> Result<()>
where
    Condition: FnMut() -> Answer,
    Answer: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    while !condition().await? {
        if start.elapsed() > bound {
            bail!("waited {bound:?} for this, in vain: {what}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
