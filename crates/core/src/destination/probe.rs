//! Tries what a load needs from a database: its privileges, its statement, and the ledger.

use super::engine::LoadConnection;
use super::{AttemptsProbe, DestinationOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Dialect, SqlLedger};
use crate::object::SourceId;

/// The results of the tests on one connection.
#[derive(Debug)]
pub struct Probe {
    /// The statement that sends rows.
    pub load_statement: Result<&'static str>,
    /// Creating a temporary table and inserting a row.
    pub temporary_table: Result<()>,
    /// The errors of creating, changing and dropping a table; empty if everything is allowed.
    pub table: Vec<Error>,
    /// Reading and writing the ledger.
    pub ledger: Result<LedgerProbe>,
    /// What the attempt history lacks; `None` without a ledger.
    pub history: Result<Option<AttemptsProbe>>,
    /// The statements that grant all that the user lacks; empty if it lacks nothing, or if that is unknown.
    pub grants: String,
}

/// The state of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerProbe {
    /// It can be read and written.
    Usable,
    /// It does not exist. The first load creates it.
    Missing,
}

impl Probe {
    /// Runs all tests. A failure does not stop the tests after it.
    pub(super) async fn run<C: LoadConnection>(connection: &mut C, options: &DestinationOptions) -> Self {
        // Concurrent probes use different tables.
        let random = fastrand::u64(..);
        let mut probe = Self {
            load_statement: connection.load_statement(options.load_method),
            temporary_table: try_temporary_table(connection, &format!("spillway_check_temporary_{random:016x}")).await,
            table: try_table(connection, &format!("spillway_check_{random:016x}")).await,
            ledger: try_ledger(connection, &SqlLedger::new(&options.ledger_table), random).await,
            history: try_history(connection, &SqlLedger::new(&options.ledger_table)).await,
            grants: String::new(),
        };
        if probe.is_denied() {
            probe.grants = connection.missing_grants(options).await.unwrap_or_default();
        }
        probe
    }

    /// Whether the user lacks a privilege.
    fn is_denied(&self) -> bool {
        let errors = [self.temporary_table.as_ref().err(), self.ledger.as_ref().err()];
        errors.into_iter().flatten().chain(&self.table).any(|error| error.kind() == ErrorKind::Privilege)
    }
}

async fn try_temporary_table<C: LoadConnection>(connection: &mut C, name: &str) -> Result<()> {
    let name = C::Dialect::quoted(name);
    connection.run("cannot create a temporary table", &format!("CREATE TEMPORARY TABLE {name} (id INT)")).await?;
    connection.run("cannot insert into a temporary table", &format!("INSERT INTO {name} VALUES (1)")).await
}

async fn try_table<C: LoadConnection>(connection: &mut C, name: &str) -> Vec<Error> {
    let name = C::Dialect::quoted(name);
    // MySQL checks the privilege before it looks for the table. A table that cannot be dropped must not be created.
    let drop_sql = format!("DROP TABLE IF EXISTS {name}");
    if let Err(error) = connection.run("cannot drop a table", &drop_sql).await {
        return vec![error];
    }
    let create_sql = format!("CREATE TABLE {name} (id INT) {}", C::Dialect::TABLE_OPTIONS);
    if let Err(error) = connection.run("cannot create a table", &create_sql).await {
        return vec![error];
    }
    let mut errors = Vec::new();
    for (context, sql) in [
        ("cannot insert into a table", format!("INSERT INTO {name} VALUES (1)")),
        ("cannot read a table", format!("SELECT id FROM {name} FOR UPDATE")),
        ("cannot update a table", format!("UPDATE {name} SET id = 2")),
        ("cannot delete from a table", format!("DELETE FROM {name}")),
        ("cannot add a column to a table", format!("ALTER TABLE {name} ADD COLUMN note INT NULL")),
        ("cannot drop a table", drop_sql),
    ] {
        errors.extend(connection.run(context, &sql).await.err());
    }
    errors
}

async fn try_history<C: LoadConnection>(connection: &mut C, ledger: &SqlLedger<'_>) -> Result<Option<AttemptsProbe>> {
    match ledger.exists(connection).await? {
        true => ledger.probe_history(connection).await.map(Some),
        false => Ok(None),
    }
}

async fn try_ledger<C: LoadConnection>(connection: &mut C, ledger: &SqlLedger<'_>, random: u64) -> Result<LedgerProbe> {
    if !ledger.exists(connection).await? {
        return Ok(LedgerProbe::Missing);
    }
    // No object has this identity, so no row of an object is locked.
    if let Some(id) = SourceId::parse(&format!("{random:064x}")) {
        ledger.inspect_loaded(connection, &id).await?;
        ledger.try_insert(connection, &id).await?;
    }
    Ok(LedgerProbe::Usable)
}
