//! The steps of a claim, and the reads that tell without a lock whether a source needs no load.
//!
//! A new row is inserted without its content id, so the INSERT can violate only the primary key. A second statement
//! sets the content id. If it violates the unique constraint, the same bytes are loaded, or being loaded, under another
//! source id. Only rows of loaded sources keep a content id.

use super::history::time;
use super::statements::{
    CLAIM_AGAIN, CLAIM_BODY, CLAIM_CONTENT, CLAIM_TABLE, CURRENT, CURRENT_LOCKED, DUPLICATE, INSERT, LOCKED, MODE,
    ORIGINAL, RELEASE_TABLE, SUPERSEDED,
};
use super::{
    Claim, ClaimResult, Dialect, ExecuteResult, LedgerConnection, LedgerEntry, LedgerState, Row, SqlLedger,
    WORKER_CHARACTERS, from_and_when, truncated, utc,
};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, ObjectVersion, SourceId};
use crate::table_name::TableName;

/// Number of digits of an id that messages show. Commands accept an id that is shortened to them.
const SHORT_ID_CHARACTERS: usize = 16;

impl SqlLedger<'_> {
    /// Claims the source in the open transaction, and its content if that is known. After an error the caller rolls
    /// back.
    pub(crate) async fn claim<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
    ) -> Result<ClaimResult> {
        if let Some(entry) = self.claim_source(connection, claim).await? {
            connection.roll_back().await;
            return Ok(ClaimResult::NotNeeded(Box::new(entry)));
        }
        let Some(content_id) = claim.content_id else { return Ok(ClaimResult::Claimed) };
        let context = "cannot claim the content";
        let has_savepoint = C::Dialect::ERROR_ENDS_TRANSACTION;
        if has_savepoint {
            connection.run(context, "SAVEPOINT content").await?;
        }
        let params = [content_id.into(), claim.source.id.as_str().into()];
        match self.execute(connection, context, CLAIM_CONTENT, &params).await? {
            ExecuteResult::Rows(_) => {
                if has_savepoint {
                    connection.run(context, "RELEASE SAVEPOINT content").await?;
                }
                Ok(ClaimResult::Claimed)
            }
            ExecuteResult::UniqueViolation(_) => {
                if has_savepoint {
                    connection.run(context, "ROLLBACK TO SAVEPOINT content").await?;
                }
                self.end_as_duplicate(connection, claim, content_id).await
            }
            ExecuteResult::NoTable(error) => Err(error),
        }
    }

    /// Locks the source's row for this attempt, and inserts a missing row. Returns the entry of a source that needs no
    /// load.
    pub(super) async fn claim_source<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
    ) -> Result<Option<LedgerEntry>> {
        let (context, source) = ("cannot claim the source", claim.source);
        let params = [
            source.id.as_str().into(),
            (&source.object.bucket).into(),
            (&source.object.key).into(),
            source.object.version_id.as_deref().into(),
            (&source.etag).into(),
            source.size_bytes.into(),
            claim.body_sha256.unwrap_or_default().into(),
            claim.table.as_str().into(),
            truncated(claim.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            claim.started_at.into(),
        ];
        // While another transaction inserts the same row, this waits until that transaction ends, within the lock
        // timeout.
        if self.execute(connection, context, INSERT, &params).await?.rows()? == 1 {
            return Ok(None);
        }
        let Some(entry) = self.query_entry(connection, context, (MODE, LOCKED), &source.id).await? else {
            // Another transaction deleted the row after the INSERT. No row is locked, so nothing may be loaded.
            let message = "the source's ledger row was deleted while it was claimed";
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        if entry.state.needs_no_load() {
            return Ok(Some(entry));
        }
        self.claim_again(connection, claim).await?;
        Ok(None)
    }

    /// Starts another attempt in the row of a source that fell back or was rejected.
    async fn claim_again<C: LedgerConnection>(&self, connection: &mut C, claim: &Claim<'_>) -> Result<()> {
        let params = [
            claim.body_sha256.unwrap_or_default().into(),
            claim.table.as_str().into(),
            truncated(claim.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            claim.started_at.into(),
            claim.source.id.as_str().into(),
        ];
        self.execute(connection, "cannot claim the source again", CLAIM_AGAIN, &params).await?.rows()?;
        Ok(())
    }

    /// Writes the hash of the body of a source that was claimed before the hash was known, and claims its content.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the content is loaded, or being loaded, under another source id.
    pub(crate) async fn claim_body<C: LedgerConnection>(&self, connection: &mut C, claim: &Claim<'_>) -> Result<()> {
        let params =
            [claim.body_sha256.unwrap_or_default().into(), claim.content_id.into(), claim.source.id.as_str().into()];
        match self.execute(connection, "cannot claim the content", CLAIM_BODY, &params).await? {
            ExecuteResult::Rows(_) => Ok(()),
            ExecuteResult::UniqueViolation(_) => {
                let message = "the same content is loaded, or being loaded, as another source";
                Err(Error::new(ErrorKind::Conflict, message))
            }
            ExecuteResult::NoTable(error) => Err(error),
        }
    }

    /// Claims a table for a source that is already claimed and that is a full export of it.
    ///
    /// `current_of` names the table, or a scope of it, see [`super::scope_name`]. Only one source can hold a name. If a newer source
    /// holds it, this one ends as superseded, see [`CurrentSource::is_newer_than`].
    pub(crate) async fn claim_table<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        current_of: &str,
    ) -> Result<ClaimResult> {
        let context = "cannot claim the table";
        let sql = CURRENT.to_owned() + CURRENT_LOCKED;
        if let Some(row) = self.query(connection, context, &sql, &[current_of.into()]).await?.first() {
            let current = CurrentSource::read(row)?;
            if let Some(entry) = current.superseding(claim)? {
                return self.end_as_superseded(connection, claim, entry).await;
            }
            self.execute(connection, context, RELEASE_TABLE, &[(&current.source_id).into()]).await?.rows()?;
        }
        let params = [current_of.into(), claim.source.last_modified.into(), claim.source.id.as_str().into()];
        match self.execute(connection, context, CLAIM_TABLE, &params).await? {
            ExecuteResult::Rows(_) => Ok(ClaimResult::Claimed),
            ExecuteResult::UniqueViolation(_) => {
                Err(Error::new(ErrorKind::Conflict, "another worker replaced the table at the same time"))
            }
            ExecuteResult::NoTable(error) => Err(error),
        }
    }

    /// Whether a newer source has replaced the table. Takes no lock.
    pub(crate) async fn has_newer<C: LedgerConnection>(
        &self,
        connection: &mut C,
        table: &TableName,
        source: &ObjectVersion,
    ) -> Result<bool> {
        let column = ["current_of"];
        if connection.table_columns(self.table, &column).await?.is_none_or(|found| found.is_empty()) {
            return Ok(false);
        }
        let table = table.unique_text();
        let rows = self.query(connection, "cannot read the ledger", CURRENT, &[table.as_ref().into()]).await?;
        let current = rows.first().map(CurrentSource::read).transpose()?;
        Ok(current.is_some_and(|current| current.is_newer_than(source)))
    }

    /// Adds to the entry of a loaded source the source that has replaced the table since, if any. Takes no lock.
    pub(crate) async fn add_replacement<C: LedgerConnection>(
        &self,
        connection: &mut C,
        table: &TableName,
        (id, entry): (&SourceId, &mut LedgerEntry),
    ) -> Result<()> {
        if entry.state != LedgerState::Loaded {
            return Ok(());
        }
        let table = table.unique_text();
        let rows = self.query(connection, "cannot read the ledger", CURRENT, &[table.as_ref().into()]).await?;
        if let Some(current) = rows.first().map(CurrentSource::read).transpose()?
            && current.source_id != id.as_str()
        {
            entry.replaced_by = Some(current.description()?);
        }
        Ok(())
    }

    /// Writes into the claimed row that a newer file has replaced the table, and commits.
    async fn end_as_superseded<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        entry: LedgerEntry,
    ) -> Result<ClaimResult> {
        let context = "cannot record that the file is superseded";
        let params = [entry.reason.as_deref().into(), claim.source.id.as_str().into()];
        self.execute(connection, context, SUPERSEDED, &params).await?.rows()?;
        connection.run(context, "COMMIT").await?;
        Ok(ClaimResult::NotNeeded(Box::new(entry)))
    }

    /// Returns the entry of a source whose content is loaded as another source. Locks nothing and writes nothing.
    pub(crate) async fn find_duplicate<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
    ) -> Result<Option<LedgerEntry>> {
        let Some(content_id) = claim.content_id else { return Ok(None) };
        let original = self.query(connection, "cannot read the ledger", ORIGINAL, &[content_id.into()]).await?;
        let Some(original) = original.first() else { return Ok(None) };
        let (rows_parsed, reason) = duplicate_of(original)?;
        Ok(Some(new_entry(claim, LedgerState::Duplicate, rows_parsed, reason)))
    }

    /// Writes into the claimed row that its content is loaded under another source id, and commits.
    async fn end_as_duplicate<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        content_id: &str,
    ) -> Result<ClaimResult> {
        let context = "cannot record that the file is a duplicate";
        let original = self.query(connection, context, ORIGINAL, &[content_id.into()]).await?;
        let Some(original) = original.first() else {
            return Err(Error::new(ErrorKind::Conflict, "another worker is loading the same content"));
        };
        let (rows_parsed, reason) = duplicate_of(original)?;
        let params = [rows_parsed.into(), (&reason).into(), claim.source.id.as_str().into()];
        self.execute(connection, context, DUPLICATE, &params).await?.rows()?;
        connection.run(context, "COMMIT").await?;
        Ok(ClaimResult::NotNeeded(Box::new(new_entry(claim, LedgerState::Duplicate, rows_parsed, reason))))
    }
}

/// The number of rows of the source with the same content, and the reason for the ledger.
fn duplicate_of(original: &Row) -> Result<(u64, String)> {
    let (id, rows_parsed) = (original.text(0)?, original.count(1)?);
    let object = ObjectRef::new(original.text(2)?, original.text(3)?);
    let loaded_at = original.optional_integer(4)?.map(time).transpose()?;
    let short = truncated(&id, SHORT_ID_CHARACTERS);
    Ok((rows_parsed, format!("the same content was loaded {} (id {short})", from_and_when(&object, loaded_at))))
}

/// The entry of a claimed source that needs no load.
fn new_entry(claim: &Claim<'_>, state: LedgerState, rows_parsed: u64, reason: String) -> LedgerEntry {
    LedgerEntry {
        state,
        rows_parsed,
        rows_stored: 0,
        moved_to: None,
        object: claim.source.object.clone(),
        committed_at: None,
        reason: Some(reason),
        load_mode: None,
        replaced_by: None,
    }
}

/// The source that was the last to replace a table, read from its ledger row.
#[derive(Debug)]
pub(crate) struct CurrentSource {
    pub(crate) source_id: String,
    bucket: String,
    key: String,
    /// S3's `LastModified`, in microseconds since 1970-01-01 UTC.
    modified_micros: Option<i64>,
}

impl CurrentSource {
    /// Returns the source in a row of [`SqlLedger::current_query`].
    pub(crate) fn read(row: &Row) -> Result<Self> {
        let (source_id, key, modified_micros) = (row.text(0)?, row.text(1)?, row.optional_integer(2)?);
        Ok(Self { source_id, bucket: row.text(3)?, key, modified_micros })
    }

    /// Returns the entry of a claimed source that this one supersedes; `None` if the claimed one is newer.
    pub(crate) fn superseding(&self, claim: &Claim<'_>) -> Result<Option<LedgerEntry>> {
        if !self.is_newer_than(claim.source) {
            return Ok(None);
        }
        let reason = format!("the newer file {} has already replaced the table", self.description()?);
        Ok(Some(new_entry(claim, LedgerState::Superseded, 0, reason)))
    }

    /// The object, and when it was changed.
    fn description(&self) -> Result<String> {
        let object = ObjectRef::new(&self.bucket, &self.key);
        Ok(match self.modified_micros {
            Some(micros) => format!("{object} (changed at {})", utc(time(micros)?)),
            None => object.to_string(),
        })
    }

    /// Whether this source is newer than another, so that its rows stay in the table.
    ///
    /// The later `LastModified` is newer. If both are equal, the greater key is. Keys are compared byte by byte, because a collation may
    /// find different keys equal.
    fn is_newer_than(&self, other: &ObjectVersion) -> bool {
        let other = (Some(other.last_modified.as_microsecond()), other.object.key.as_str());
        (self.modified_micros, self.key.as_str()) > other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_source_has_later_time_then_greater_key() {
        let noon = "2026-11-20T12:00:00Z".parse().unwrap();
        let source = ObjectVersion::new(ObjectRef::new("bucket", "b"), "e".into(), 1, noon, None);
        let micros = noon.as_microsecond();
        let is_newer = |key: &str, modified_micros| {
            let (source_id, bucket) = (String::new(), "bucket".to_owned());
            CurrentSource { source_id, bucket, key: key.into(), modified_micros }.is_newer_than(&source)
        };
        assert!(is_newer("a", Some(micros + 1)) && !is_newer("c", Some(micros - 1)));
        assert!(is_newer("c", Some(micros)) && is_newer("ba", Some(micros)) && is_newer("\u{e4}", Some(micros)));
        assert!(!is_newer("b", Some(micros)) && !is_newer("a", Some(micros)) && !is_newer("Z", Some(micros)));
        assert!(!is_newer("c", None));
    }
}
