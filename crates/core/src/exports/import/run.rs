//! A whole import in one process: the steps of the state machine of `templates/exports.yaml`, under a lock that is renewed.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tracing::warn;

use super::place::ExportPlace;
use super::request::{Failure, LockedVersion};
use super::{ExportImporter, lock_end};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::request::invalid;

/// The time between two renewals of the lock.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// The time for the record of a failure.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(60);

/// What an import does, or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportProgress {
    /// Further files of the version may arrive within this time.
    WaitingForFiles(Duration),
    /// Another import has the lock of the table. It is asked for again after this time.
    WaitingForLock(Duration),
    /// A step begins.
    Step {
        /// The version: the one of the call, or a planned one that comes first.
        version: String,
        /// `diff`, `apply`, `publish` or `finish`.
        step: &'static str,
    },
}

/// Renews a lock as long as it exists.
struct Renewal(JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ExportImporter {
    /// Imports the version in a folder of the bucket, and before it one of the table that was planned. Returns `status` (`done`, `stale` or
    /// `ignored`), the names of the version, and the statistics of an import.
    ///
    /// # Errors
    /// When the folder has no export, or a step fails. The failure is recorded, and the lock is released. The call may be repeated.
    pub async fn import(
        &self,
        folder: &str,
        deadline: &Deadline,
        notify: impl Fn(ImportProgress) + Sync,
    ) -> Result<Value> {
        self.settings.pipeline.database.tables.refresh(&self.store).await?;
        let result = self.import_until_done(folder, deadline, &notify).await;
        self.destinations.close().await;
        result
    }

    async fn import_until_done(
        &self,
        folder: &str,
        deadline: &Deadline,
        notify: &(impl Fn(ImportProgress) + Sync),
    ) -> Result<Value> {
        // The step needs a key. Which file of the version it names does not matter.
        let key = format!("{folder}_");
        let Some((place, _)) = ExportPlace::of_key(&key, &self.settings.prefix) else {
            let message = format!(
                "{folder} is not the folder of an export: {{tenant}}/{{table}}/{{version}}/ below EXPORT_PREFIX"
            );
            return Err(invalid(message));
        };
        let owner = format!("{}, {}", self.worker, Timestamp::now());
        loop {
            let found = within(deadline, self.register(None, &key)).await?;
            match found["status"].as_str() {
                Some("registered") => {}
                Some("waiting") => {
                    pause(deadline, &found, |time| notify(ImportProgress::WaitingForFiles(time))).await?;
                    continue;
                }
                _ => return Ok(found),
            }
            let lock = within(deadline, self.lock(&place, &owner, deadline)).await?;
            let (Some(fence), Some(version)) = (lock["fence"].as_u64(), lock["version"].as_str()) else {
                if lock["status"] == "busy" {
                    pause(deadline, &lock, |time| notify(ImportProgress::WaitingForLock(time))).await?;
                }
                continue;
            };
            let locked = LockedVersion { place: ExportPlace { version: version.to_owned(), ..place.clone() }, fence };
            let _renewal = self.renew_lock(&locked);
            let imported = within(deadline, self.run_steps(&locked, deadline, notify)).await;
            match self.of_export(&locked, imported) {
                Ok(imported) if locked.place == place => return Ok(described(&place, &imported)),
                Ok(_) => {}
                Err(error) => self.record_failure(&locked, error, locked.place == place).await?,
            }
        }
    }

    /// Runs the steps of a version. Each of them verifies the lock.
    async fn run_steps(
        &self,
        locked: &LockedVersion,
        deadline: &Deadline,
        notify: &(impl Fn(ImportProgress) + Sync),
    ) -> Result<Value> {
        let begin = |step| notify(ImportProgress::Step { version: locked.place.version.clone(), step });
        begin("diff");
        Box::pin(self.diff(locked, deadline)).await?;
        begin("apply");
        Box::pin(self.apply(locked, deadline)).await?;
        begin("publish");
        while Box::pin(self.publish(locked, deadline)).await?["status"] == "partial" {}
        begin("finish");
        self.finish(locked).await
    }

    /// Records a failure, and returns it unless the caller should go on: another import has the lock, or a planned import was dropped.
    async fn record_failure(&self, locked: &LockedVersion, error: Error, is_own: bool) -> Result<()> {
        let failure = Failure { kind: error.kind().name().to_owned(), cause: chain(&error) };
        let ended = match self.fail(locked, &failure, &Deadline::within(FAILURE_TIMEOUT)).await {
            Ok(ended) => ended,
            Err(cause) => {
                warn!(error = %chain(&cause), "the failure could not be recorded; the lock expires by itself");
                return Err(error);
            }
        };
        let may_go_on = error.kind() == ErrorKind::LeaseLost || ended["status"] == "dropped" && !is_own;
        if may_go_on { Ok(()) } else { Err(error) }
    }

    fn renew_lock(&self, locked: &LockedVersion) -> Renewal {
        let (registry, locked) = (self.registry.clone(), locked.clone());
        Renewal(tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let renew = registry.change_state(locked.names(), |state| state.renew(locked.fence, lock_end(None)));
                match renew.await {
                    // The next step finds it out.
                    Err(error) if error.kind() == ErrorKind::LeaseLost => return,
                    Err(error) => warn!(error = %chain(&error), "the lock could not be renewed; it is tried again"),
                    Ok(()) => {}
                }
            }
        }))
    }
}

fn described(ExportPlace { tenant, table, version }: &ExportPlace, imported: &Value) -> Value {
    json!({"status": "done", "tenant": tenant, "table": table, "version": version, "statistics": imported["statistics"]})
}

/// Runs `work`, at most until the deadline.
async fn within<T>(deadline: &Deadline, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        error = deadline.reached() => Err(error),
    }
}

/// Waits for the seconds that a step has returned.
async fn pause(deadline: &Deadline, step: &Value, notify: impl FnOnce(Duration)) -> Result<()> {
    let time = Duration::from_secs(step["seconds"].as_u64().unwrap_or(1).max(1));
    notify(time);
    within(deadline, async {
        tokio::time::sleep(time).await;
        Ok(())
    })
    .await
}
