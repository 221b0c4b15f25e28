//! One try at one source: what it holds, and what it knows of commits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::config::{Dedupe, LoadMode};
use crate::deadline::Deadline;
use crate::destination::any::AnyDestination;
use crate::destination::{Body, Claim, Destination, LedgerOutcome};
use crate::error::{Result, chain};
use crate::fallback;
use crate::object::{ObjectVersion, hash_parts};
use crate::pattern::KeyParts;
use crate::pipeline::Context;
use crate::pipeline::cost_meter::{ObjectUsage, Usage};
use crate::schema::key_columns::KeyFields;
use crate::store::lease::Lease;

/// The longest that a note in the ledger, which nothing depends on, may hold up an object.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time that is kept for the fallback when the database is waited for under a deadline.
const FALLBACK_RESERVE: Duration = Duration::from_secs(30);

/// One try at one source by one worker.
pub(crate) struct Attempt<'a> {
    pub(crate) context: &'a Context,
    pub(crate) source: ObjectVersion,
    /// The table the rows are for; empty for a key that gives none, which is only ever refused.
    pub(crate) table: String,
    /// The key of the file that the records were first in: another than the source's for corrected rejects.
    pub(crate) original_key: String,
    /// What the key and this attempt add to each row of the source.
    pub(crate) key_fields: KeyFields,
    pub(crate) deadline: Deadline,
    pub(crate) started_at: Timestamp,
    usage: ObjectUsage,
    lease: Lease,
    /// A COMMIT for this source may have been sent, by us or by the worker whose lease we took over, and nothing has
    /// proved since that it did not take effect.
    commit_unproved: AtomicBool,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        context: &'a Context,
        source: ObjectVersion,
        key: KeyParts,
        original_key: Option<String>,
        lease: Lease,
        deadline: Deadline,
        usage: ObjectUsage,
    ) -> Self {
        let commit_unproved = AtomicBool::new(lease.previous_holder().is_some_and(|left| left.commit_may_be_sent));
        let started_at = Timestamp::now();
        let key_fields = KeyFields::new(&context.settings.key_columns, &source.object, &key, started_at);
        let original_key = original_key.unwrap_or_else(|| source.object.key.clone());
        Self {
            context,
            source,
            table: key.table,
            original_key,
            key_fields,
            deadline,
            started_at,
            usage,
            lease,
            commit_unproved,
        }
    }

    /// Fails when the lease is no longer ours. Whatever was seen in S3 before has no successor's hand in it.
    pub(crate) async fn verify_lease(&self) -> Result<()> {
        self.lease.verify().await
    }

    /// Notes in the lease that COMMIT is about to be sent. Fails when the lease is no longer ours.
    pub(crate) async fn fence_before_commit(&self) -> Result<()> {
        self.lease.mark_commit().await?;
        self.commit_unproved.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// The ledger, or a claim that we hold, has shown that no COMMIT took effect.
    pub(crate) fn commit_disproved(&self) {
        self.commit_unproved.store(false, Ordering::SeqCst);
    }

    /// COMMIT took effect, and the ledger says so to everybody.
    pub(crate) fn commit_proved(&self) {
        self.commit_unproved.store(false, Ordering::SeqCst);
    }

    /// Whether the ledger must be asked before the rows may go anywhere else.
    pub(crate) fn is_commit_unproved(&self) -> bool {
        self.commit_unproved.load(Ordering::SeqCst)
    }

    /// Notes in the lease that the fallback object is about to appear. Fails when the lease is no longer ours.
    pub(crate) async fn fence_before_fallback(&self) -> Result<()> {
        self.lease.mark_fallback().await
    }

    /// Makes sure that the worker whose lease we took over can no longer complete a fallback object: from here on, either
    /// the object is there or it never will be.
    pub(crate) async fn end_previous_fallback(&self) -> Result<()> {
        if self.lease.previous_holder().is_some_and(|left| left.fallback_may_be_written) {
            let Context { store, settings, .. } = self.context;
            let aborted = fallback::abort_writes(store, settings, &self.source).await?;
            info!(aborted, "took over from a worker that may have been writing the fallback");
        }
        Ok(())
    }

    /// Ends the lease. After an attempt without an end its notes stay behind for whoever comes next: a COMMIT or a
    /// fallback that may be under way.
    pub(crate) async fn end(self, has_end: bool) {
        let released = if has_end { self.lease.release().await } else { self.lease.abandon().await };
        if let Err(error) = released {
            warn!(error = %chain(&error), "the lease could not be released; it expires by itself");
        }
    }

    /// How long an outage of the database may be waited for: the setting, and never past the deadline.
    pub(crate) fn retry_budget(&self) -> Duration {
        let budget = self.context.settings.database.retry_budget;
        match self.deadline.remaining() {
            Some(remaining) => budget.min(remaining.saturating_sub(FALLBACK_RESERVE.min(remaining / 2))),
            None => budget,
        }
    }

    /// The target with the credentials of now; `fresh` reads the secret again.
    pub(crate) async fn destination(&self, fresh: bool) -> Result<AnyDestination> {
        self.context.destination(&self.table, fresh).await
    }

    /// What the ledger keeps of a body whose checksum is this, and that is so many bytes decompressed.
    pub(crate) fn body(&self, sha256: &str, decoded_bytes: u64) -> Body {
        let object = &self.source.object;
        let settings = &self.context.settings;
        // What replaces the table may be what it held before another file did.
        let content_id = match (settings.dedupe, &settings.database.options.load_mode) {
            (Dedupe::Content, LoadMode::Append | LoadMode::Merge { .. }) => {
                Some(hash_parts(&[&object.bucket, &object.key, sha256]))
            }
            (Dedupe::Content, LoadMode::Replace) | (Dedupe::Version, _) => None,
        };
        Body { sha256: sha256.to_owned(), content_id, decoded_bytes }
    }

    /// What is claimed in the ledger.
    pub(crate) fn claim(&self, body: Option<Body>) -> Claim {
        Claim {
            source: self.source.clone(),
            body,
            table: self.table.clone(),
            is_schema_provisional: false,
            worker: self.context.worker.clone(),
            started_at: self.started_at,
            value_rejects: None,
        }
    }

    /// Writes a fate into the ledger when the database answers soon; nothing depends on it.
    pub(crate) async fn record_outcome(&self, body_sha256: &str, outcome: &LedgerOutcome) {
        let claim = self.claim(Some(self.body(body_sha256, self.source.size_bytes)));
        self.note("the fate could not be noted in the ledger", async {
            self.destination(false).await?.record(&claim, outcome).await
        })
        .await;
    }

    /// What the object has cost so far, in US dollars, where it is known what this runs on.
    pub(crate) fn cost_usd(&self) -> Option<f64> {
        let compute = self.context.settings.compute?;
        let Usage { time, requests } = self.usage.usage();
        Some(compute.dollars(time, requests))
    }

    /// Writes the object's new place, and what it has cost to bring it there, into the ledger when the database answers
    /// soon; nothing depends on it.
    pub(crate) async fn record_move(&self, moved_to: &str, cost_usd: Option<f64>) {
        self.note("the move could not be noted in the ledger", async {
            self.destination(false).await?.record_move(&self.source.id, moved_to, cost_usd).await
        })
        .await;
    }

    async fn note(&self, what: &str, writing: impl Future<Output = Result<()>>) {
        match tokio::time::timeout(NOTE_TIMEOUT, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %chain(&error), "{what}"),
            Err(_) => warn!("{what} within {} s", NOTE_TIMEOUT.as_secs()),
        }
    }
}

impl Context {
    /// A table as a target, with the credentials of now; `fresh` reads the secret again.
    pub(crate) async fn destination(&self, table: &str, fresh: bool) -> Result<AnyDestination> {
        let database = &self.settings.database;
        let credentials = self.secrets.get(fresh).await?;
        Ok(AnyDestination::new(credentials, database.options.clone(), table.to_owned(), &self.connections))
    }
}
