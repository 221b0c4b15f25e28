//! What the load of a file needs from the attempt that it belongs to.

use std::time::Duration;

use crate::destination::{Body, ChangedTypes, Destination, FileClaim, TableChanges};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectVersion;
use crate::pipeline::{Attempt, FileRows, KnownOutage, LakeObject, TableConfig, lake, raw_catalog, rejects};
use crate::reader::FileShape;
use spillway_formats::reject::Reject;
use spillway_formats::schema::Schema;

/// An attempt to load one file: an object in S3 under a lease ([`Attempt`]), a file of this machine ([`crate::local_load`]), or the
/// changes of an export ([`crate::exports`]).
///
/// The load calls `write_rejects` or `remove_earlier_rejects` before COMMIT, and `fence_before_commit` right before it. If one
/// of them fails, no COMMIT is sent.
pub(crate) trait LoadAttempt: Sync {
    /// Whether the rows of a file that the database refuses are written elsewhere, which needs a scan of the file.
    const HAS_FALLBACK: bool;

    /// The version of the file.
    fn source(&self) -> &ObjectVersion;

    /// The settings of the table.
    fn config(&self) -> &TableConfig;

    /// The changes of the table that this attempt requests and makes.
    fn table_changes(&self) -> &TableChanges;

    /// Keeps a hint for the report: what the user may have meant with the file.
    fn set_hint(&self, hint: Option<String>);

    /// The outage of the database that this process knows of.
    fn outage(&self) -> &KnownOutage;

    /// `RDS_RETRY_SECONDS`.
    fn configured_retry_budget(&self) -> Duration;

    /// The time to wait for the database: the setting, limited by the deadline.
    fn retry_budget(&self) -> Duration;

    /// The destination with the current credentials; `reread_secret` reads the secret again.
    fn destination(&self, reread_secret: bool) -> impl Future<Output = Result<Box<dyn Destination>>> + Send;

    /// The claim on the file in the ledger.
    fn claim(&self) -> FileClaim;

    /// The ledger's record of a body with this checksum and this decompressed size.
    fn body(&self, sha256: &str, decoded_bytes: u64) -> Body;

    /// Stores the records that the scan rejected and the records in `table_rejects`.
    ///
    /// # Errors
    /// When they may be incomplete.
    fn write_rejects(&self, rows: &FileRows<'_>, table_rejects: Vec<Reject>)
    -> impl Future<Output = Result<()>> + Send;

    /// Sends the rows to the lake, except the records in `table_rejects`; `None` without a lake.
    ///
    /// # Errors
    /// When the rows cannot be sent, or an earlier attempt published other rows.
    fn upload_to_lake(
        &self,
        rows: &FileRows<'_>,
        table_rejects: &[Reject],
    ) -> impl Future<Output = Result<Option<LakeObject<'_>>>> + Send;

    /// Registers the folder of a file that stays in place in the catalog of its raw zone. `schema` has the types of all values.
    ///
    /// # Errors
    /// When a folder that is not registered could be forgotten. Send no COMMIT then.
    fn register_raw(&self, schema: Option<&Schema>, shape: &FileShape) -> impl Future<Output = Result<()>> + Send;

    /// Deletes the rejects of earlier attempts. The caller knows that none of them has committed.
    ///
    /// # Errors
    /// When they may still exist.
    fn remove_earlier_rejects(&self) -> impl Future<Output = Result<()>> + Send;

    /// The last step before COMMIT: removes a lake object that this load does not name, and notes in the lease that COMMIT may be
    /// sent. From then on the result of COMMIT is in doubt.
    ///
    /// # Errors
    /// When another worker has taken over, or the lake object may still exist.
    fn fence_before_commit(&self) -> impl Future<Output = Result<()>> + Send;

    /// Notes that no COMMIT is in doubt any more: the ledger, or a claim of this attempt, shows whether it took effect.
    fn mark_commit_resolved(&self);

    /// Requests a wider column if the settings allow it and a value needs one. Returns whether another try may succeed.
    fn try_request_wider_column(&self, error: &Error) -> bool {
        self.config().destination.changed_types == ChangedTypes::Widen
            && error.needs_other_type()
            && error.column().is_some_and(|column| self.table_changes().request_wider(column))
    }

    /// Whether another try can succeed after a rejected password: the secret may have been rotated, or the server may accept the
    /// new password by then.
    fn credentials_may_change(&self) -> bool {
        true
    }

    /// Whether the first try reads the secret again: the known outage began with a rejected password, and the password
    /// may have been rotated since.
    fn starts_with_fresh_credentials(&self) -> bool {
        self.outage().kind() == Some(ErrorKind::Credentials)
    }
}

impl LoadAttempt for Attempt<'_> {
    const HAS_FALLBACK: bool = true;

    fn source(&self) -> &ObjectVersion {
        &self.source
    }

    fn config(&self) -> &TableConfig {
        &self.config
    }

    fn table_changes(&self) -> &TableChanges {
        &self.table_changes
    }

    fn set_hint(&self, hint: Option<String>) {
        Attempt::set_hint(self, hint);
    }

    fn outage(&self) -> &KnownOutage {
        &self.context.outage
    }

    fn configured_retry_budget(&self) -> Duration {
        self.context.settings.database.retry_budget
    }

    fn retry_budget(&self) -> Duration {
        Attempt::retry_budget(self)
    }

    async fn destination(&self, reread_secret: bool) -> Result<Box<dyn Destination>> {
        Attempt::destination(self, reread_secret).await
    }

    fn claim(&self) -> FileClaim {
        Attempt::claim(self)
    }

    fn body(&self, sha256: &str, decoded_bytes: u64) -> Body {
        Attempt::body(self, sha256, decoded_bytes)
    }

    async fn write_rejects(&self, rows: &FileRows<'_>, table_rejects: Vec<Reject>) -> Result<()> {
        rejects::write(self, rows, table_rejects).await
    }

    async fn upload_to_lake(&self, rows: &FileRows<'_>, table_rejects: &[Reject]) -> Result<Option<LakeObject<'_>>> {
        lake::upload(self, rows, table_rejects).await
    }

    async fn register_raw(&self, schema: Option<&Schema>, shape: &FileShape) -> Result<()> {
        raw_catalog::register(self, schema, shape).await
    }

    async fn remove_earlier_rejects(&self) -> Result<()> {
        rejects::remove_earlier(self).await
    }

    async fn fence_before_commit(&self) -> Result<()> {
        lake::withdraw(self).await?;
        self.note_commit_in_lease().await
    }

    fn mark_commit_resolved(&self) {
        Attempt::mark_commit_resolved(self);
    }
}
