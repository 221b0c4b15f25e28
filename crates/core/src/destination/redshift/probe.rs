//! Tries what a load needs from Redshift: its privileges and the ledger. COPY itself is not tried.

use super::Redshift;
use super::client::{Limit, Transaction};
use super::column::columns_query;
use super::failure::rolled_back;
use super::ledger::{CHANGE_LIMIT, queries, random};
use super::literal::quoted;
use crate::destination::{AttemptsProbe, LedgerProbe, Probe};
use crate::error::Result;

/// See [`crate::destination::Destination::probe`].
pub(super) async fn probe(redshift: &Redshift) -> Result<Probe> {
    queries(redshift.client(), "cannot query Redshift", &["SELECT 1".to_owned()]).await?;
    let name = quoted(&format!("spillway_check_{}", random()));
    let temporary = [
        format!("CREATE TEMPORARY TABLE {name} (id INTEGER)"),
        format!("INSERT INTO {name} VALUES (1)"),
        format!("DROP TABLE {name}"),
    ];
    let table = [
        format!("CREATE TABLE {name} (id INTEGER)"),
        format!("INSERT INTO {name} VALUES (1)"),
        format!("SELECT id FROM {name}"),
        format!("DELETE FROM {name}"),
        format!("DROP TABLE {name}"),
    ];
    let ledger = match redshift.has_ledger().await {
        Ok(true) => try_statements(redshift, "cannot lock the ledger", &[redshift.tables.lock().1])
            .await
            .map(|()| LedgerProbe::Usable),
        Ok(false) => Ok(LedgerProbe::Missing),
        Err(error) => Err(error),
    };
    Ok(Probe {
        load_statement: Ok("COPY of Parquet through the Redshift Data API"),
        temporary_table: try_statements(redshift, "cannot use a temporary table", &temporary).await,
        table: try_statements(redshift, "cannot use a table", &table).await.err().into_iter().collect(),
        ledger,
        history: history(redshift).await,
        grants: String::new(),
    })
}

async fn try_statements(redshift: &Redshift, context: &str, sqls: &[String]) -> Result<()> {
    match redshift.client().transaction(sqls, &random(), Limit::Time(CHANGE_LIMIT)).await {
        Transaction::Committed(_) => Ok(()),
        Transaction::RolledBack(failed) => Err(rolled_back(context, &failed, &[])),
        Transaction::Refused(error) | Transaction::Unknown(error) => Err(error),
    }
}

async fn history(redshift: &Redshift) -> Result<Option<AttemptsProbe>> {
    if !redshift.has_ledger().await? {
        return Ok(None);
    }
    let table = redshift.ledger().attempts_table();
    let sqls = [columns_query(&table.as_str().into())];
    let found = queries(redshift.client(), "cannot look for the attempt history", &sqls).await?.swap_remove(0);
    Ok(Some(AttemptsProbe { table, exists: !found.is_empty(), ..AttemptsProbe::default() }))
}
