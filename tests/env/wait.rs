//! Polls for a condition, with a time limit. Tests wait for conditions instead of sleeping.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pause between two checks.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Polls until the condition holds. After the time limit it fails with a description of the condition.
pub async fn until<Condition, Check>(what: &str, timeout: Duration, mut condition: Condition) -> Result<()>
where
    Condition: FnMut() -> Check,
    Check: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    while !condition().await? {
        if start.elapsed() > timeout {
            bail!("waited {timeout:?} for {what}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
