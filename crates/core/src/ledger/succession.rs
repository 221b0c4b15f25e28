//! The step of a load that takes over the place of the delta before it.

use super::statements::{CLAIM_TABLE, CURRENT, CURRENT_LOCKED, RELEASE_TABLE};
use super::{Claim, ExecuteResult, LedgerConnection, SqlLedger};
use crate::destination::Succession;
use crate::error::{Error, ErrorKind, Result};

impl SqlLedger<'_> {
    /// Moves the name of a succession from the delta before it to the claimed delta, in the open transaction.
    ///
    /// # Errors
    /// [`ErrorKind::ExportRefused`] when another delta has the name, and [`ErrorKind::Conflict`] when another worker takes it at the
    /// same time.
    pub(crate) async fn succeed<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        succession: &Succession,
    ) -> Result<()> {
        let context = "cannot take over the place of the last delta";
        let Succession { name, previous } = succession;
        let sql = CURRENT.to_owned() + CURRENT_LOCKED;
        let rows = self.query(connection, context, &sql, &[name.into()]).await?;
        let last = rows.first().map(|row| Ok::<_, Error>((row.text(0)?, row.optional_integer(2)?))).transpose()?;
        match (&last, previous) {
            (None, None) => {}
            (Some((last, _)), Some(previous)) if *last == previous.as_str() => {}
            // A first export replaces the deltas of an earlier series. A late worker of an earlier series has an older delta.
            (Some((_, modified)), None) if *modified <= Some(claim.source.last_modified.as_microsecond()) => {}
            (Some(_), _) => {
                let message = "the last delta in the ledger is another one than that of the export before, so the table would not get the \
                               rows of this export; start again as docs/exports.md explains";
                return Err(Error::new(ErrorKind::ExportRefused, message).with_advice());
            }
            (None, Some(_)) => {
                let message = "the ledger does not have the delta of the export before, so the table may not have its rows; start again as \
                               docs/exports.md explains";
                return Err(Error::new(ErrorKind::ExportRefused, message).with_advice());
            }
        }
        if let Some((last, _)) = &last {
            self.execute(connection, context, RELEASE_TABLE, &[last.into()]).await?.rows()?;
        }
        let params = [name.into(), claim.source.last_modified.into(), claim.source.id.as_str().into()];
        match self.execute(connection, context, CLAIM_TABLE, &params).await? {
            ExecuteResult::Rows(_) => Ok(()),
            ExecuteResult::UniqueViolation(_) => {
                Err(Error::new(ErrorKind::Conflict, "another worker loads a delta of the table at the same time"))
            }
            ExecuteResult::NoTable(error) => Err(error),
        }
    }
}
