//! The statements of loads and of the ledger. Pure.
//!
//! A transaction is a list of statements that one call of the Data API runs. No statement can depend on the result of another
//! one, so a guard is a division by zero: it ends the transaction unless its condition holds.

use super::column::{TableColumn, staged_definition, staged_value};
use super::literal::{optional_text, quoted, text, time};
use super::settings::RedshiftKeys;
use crate::ledger::{Claim, LedgerState};
use crate::table_name::TableName;

/// The place of a statement in a transaction, which decides what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Waits for other transactions of Spillway.
    Lock,
    /// Fails if the source needs no load.
    GuardSource,
    /// Fails if another worker has ended this worker's claim.
    GuardFence,
    /// Fails if the same content is loaded as another source.
    GuardContent,
    /// Creates or drops the staging table.
    Stage,
    /// Copies the rows into the staging table.
    Copy,
    /// Fails unless the staging table has all rows.
    GuardCount,
    /// Creates the table.
    CreateTable,
    /// Inserts the rows into the table.
    Insert,
    /// Reads or writes the ledger.
    Ledger,
}

/// The statements of one transaction.
pub(super) type Statements = Vec<(Step, String)>;

/// The names of a ledger's tables.
#[derive(Debug, Clone)]
pub(super) struct LedgerTables {
    ledger: String,
    fences: String,
    lock: String,
}

impl LedgerTables {
    pub(super) fn new(ledger: &str) -> Self {
        let [fences, lock] = Self::own_names(ledger);
        Self { ledger: quoted(ledger), fences: quoted(&fences), lock: quoted(&lock) }
    }

    /// The names of the tables that only a ledger in Redshift has: the fences, and the table that is locked.
    pub(super) fn own_names(ledger: &str) -> [String; 2] {
        ["_fences", "_lock"].map(|ending| format!("{ledger}{ending}"))
    }

    /// Returns the statements that create the tables that only a ledger in Redshift has.
    pub(super) fn create(&self) -> [String; 2] {
        let Self { fences, lock, .. } = self;
        [
            format!("CREATE TABLE IF NOT EXISTS {fences} (source_id VARCHAR(64) NOT NULL, fence VARCHAR(64) NOT NULL)"),
            format!("CREATE TABLE IF NOT EXISTS {lock} (id INTEGER)"),
        ]
    }

    /// Returns the statement that each writing transaction begins with.
    ///
    /// Redshift enforces no unique key, and its snapshot isolation lets two transactions insert the same key. So they run one
    /// after the other. Readers do not wait, because the ledger itself is not locked.
    pub(super) fn lock(&self) -> (Step, String) {
        (Step::Lock, format!("LOCK TABLE {}", self.lock))
    }

    /// Returns the query for the fence of a source.
    pub(super) fn fence_query(&self, source_id: &str) -> String {
        format!("SELECT fence FROM {} WHERE source_id = {}", self.fences, text(source_id))
    }

    /// Returns the query for the number of attempts at a source.
    pub(super) fn attempt_query(&self, source_id: &str) -> String {
        format!("SELECT attempt FROM {} WHERE source_id = {}", self.ledger, text(source_id))
    }

    /// Returns the statements that end all earlier claims on a source.
    pub(super) fn fence_off(&self, source_id: &str, fence: &str) -> Statements {
        let (fences, id) = (&self.fences, text(source_id));
        vec![
            self.lock(),
            (Step::Ledger, format!("DELETE FROM {fences} WHERE source_id = {id}")),
            (Step::Ledger, format!("INSERT INTO {fences} (source_id, fence) VALUES ({id}, {})", text(fence))),
        ]
    }

    /// Returns the guards of a claim. `fence` is the fence that the claim has read.
    pub(super) fn guards(&self, claim: &Claim<'_>, fence: Option<&str>) -> Statements {
        let Self { ledger, fences, .. } = self;
        let id = text(claim.source.id.as_str());
        let (condition, expected) = match fence {
            Some(fence) => (format!(" AND fence = {}", text(fence)), 1),
            None => (String::new(), 0),
        };
        let mut guards = vec![
            (Step::GuardSource, self.guard_not_loaded(&id)),
            (
                Step::GuardFence,
                format!(
                    "SELECT 1 / CASE WHEN (SELECT COUNT(*) FROM {fences} WHERE source_id = {id}{condition}) = {expected} \
                     THEN 1 ELSE 0 END"
                ),
            ),
        ];
        if let Some(content_id) = claim.content_id {
            let content_id = text(content_id);
            let sql = format!(
                "SELECT 1 / CASE WHEN EXISTS (SELECT 1 FROM {ledger} WHERE content_id = {content_id} AND state = 'loaded') \
                 THEN 0 ELSE 1 END"
            );
            guards.push((Step::GuardContent, sql));
        }
        guards
    }

    fn guard_not_loaded(&self, id: &str) -> String {
        format!(
            "SELECT 1 / CASE WHEN EXISTS (SELECT 1 FROM {} WHERE source_id = {id} \
             AND state IN ('loaded', 'duplicate', 'superseded')) THEN 0 ELSE 1 END",
            self.ledger
        )
    }

    /// Returns the statements that replace the ledger row of a source.
    pub(super) fn write_row(&self, claim: &Claim<'_>, row: &LedgerRow<'_>) -> Statements {
        let (ledger, source) = (&self.ledger, claim.source);
        let id = text(source.id.as_str());
        let LedgerRow { state, attempt, rows_parsed, rows_stored, rows_rejected, load_mode, reason, table_changes } =
            row;
        let content_id = claim.content_id.filter(|_| *state == LedgerState::Loaded);
        let insert = format!(
            "INSERT INTO {ledger} (source_id, content_id, bucket, object_key, version_id, etag, size_bytes, body_sha256, \
             target_table, state, rows_parsed, rows_stored, rows_rejected, attempt, worker, tool_version, started_at, \
             committed_at, load_mode, reason, table_changes) VALUES ({id}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {rows_parsed}, \
             {rows_stored}, {rows_rejected}, {attempt}, {}, {}, {}, GETDATE(), {}, {}, {})",
            optional_text(content_id),
            text(&source.object.bucket),
            text(&source.object.key),
            optional_text(source.object.version_id.as_deref()),
            text(&source.etag),
            source.size_bytes,
            text(claim.body_sha256.unwrap_or_default()),
            text(claim.table.as_str()),
            text(state.name()),
            text(claim.worker),
            text(env!("CARGO_PKG_VERSION")),
            time(claim.started_at),
            optional_text(*load_mode),
            optional_text(*reason),
            optional_text(*table_changes),
        );
        vec![(Step::Ledger, format!("DELETE FROM {ledger} WHERE source_id = {id}")), (Step::Ledger, insert)]
    }

    /// Returns the statements that write an outcome other than a load, unless the source needs no load any more.
    pub(super) fn outcome(&self, claim: &Claim<'_>, row: &LedgerRow<'_>) -> Statements {
        let guard = (Step::GuardSource, self.guard_not_loaded(&text(claim.source.id.as_str())));
        [self.lock(), guard].into_iter().chain(self.write_row(claim, row)).collect()
    }

    /// Returns the transaction of a load.
    pub(super) fn load(&self, claim: &Claim<'_>, load: &LoadStatements<'_>, row: &LedgerRow<'_>) -> Statements {
        let mut statements = vec![self.lock()];
        statements.extend(self.guards(claim, load.fence));
        let staged = load.copied.as_ref().map(|copied| staging(claim.source.id.as_str(), load.columns, copied));
        statements.extend(staged.as_ref().map(|staged| staged.fill.clone()).into_iter().flatten());
        statements.extend(load.create_table.map(|sql| (Step::CreateTable, sql.to_owned())));
        if let Some(staged) = staged {
            statements.push((Step::Insert, insert(claim.table, load.columns, &staged.table)));
            statements.push((Step::Stage, format!("DROP TABLE {}", staged.table)));
        }
        statements.extend(self.write_row(claim, row));
        // The ledger row protects the source from now on.
        let fences = &self.fences;
        let id = text(claim.source.id.as_str());
        statements.push((Step::Ledger, format!("DELETE FROM {fences} WHERE source_id = {id}")));
        statements
    }
}

/// What a ledger row says, beside the claim.
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerRow<'a> {
    pub(super) state: LedgerState,
    /// The number of this attempt.
    pub(super) attempt: u64,
    /// Records of the file, including rejected ones.
    pub(super) rows_parsed: u64,
    pub(super) rows_stored: u64,
    pub(super) rows_rejected: u64,
    pub(super) load_mode: Option<&'static str>,
    pub(super) reason: Option<&'a str>,
    pub(super) table_changes: Option<&'a str>,
}

/// What the transaction of a load does to the table.
#[derive(Debug, Clone)]
pub(super) struct LoadStatements<'a> {
    /// The fence that the claim has read.
    pub(super) fence: Option<&'a str>,
    /// The columns that receive values.
    pub(super) columns: &'a [TableColumn],
    /// The statement that creates a missing table.
    pub(super) create_table: Option<&'a str>,
    /// The rows; `None` for a file without rows.
    pub(super) copied: Option<Copied<'a>>,
}

/// The rows that COPY reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied<'a> {
    pub(super) bucket: &'a str,
    /// The key of the manifest.
    pub(super) manifest_key: &'a str,
    pub(super) rows: u64,
    /// The ARN of the role, or `default`.
    pub(super) role: &'a str,
}

struct Staging {
    /// The quoted name.
    table: String,
    /// The statements that create, fill and check it.
    fill: Statements,
}

/// Returns the statements that fill a temporary table with all rows.
///
/// COPY compares the columns of Parquet with those of the table by position, so the table has exactly the columns of the file.
fn staging(source_id: &str, columns: &[TableColumn], copied: &Copied<'_>) -> Staging {
    let Copied { bucket, manifest_key, rows, role } = copied;
    let table = quoted(&format!("spillway_copy_{}", &source_id[..16.min(source_id.len())]));
    let definitions: Vec<String> = columns.iter().map(staged_definition).collect();
    let role = if *role == "default" { "default".to_owned() } else { format!("'{role}'") };
    let fill = vec![
        (Step::Stage, format!("CREATE TEMPORARY TABLE {table} ({})", definitions.join(", "))),
        (
            Step::Copy,
            format!("COPY {table} FROM 's3://{bucket}/{manifest_key}' IAM_ROLE {role} FORMAT AS PARQUET MANIFEST"),
        ),
        (Step::GuardCount, format!("SELECT 1 / CASE WHEN (SELECT COUNT(*) FROM {table}) = {rows} THEN 1 ELSE 0 END")),
    ];
    Staging { table, fill }
}

fn insert(table: &TableName, columns: &[TableColumn], staging: &str) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<String> = columns.iter().map(staged_value).collect();
    format!("INSERT INTO {} ({}) SELECT {} FROM {staging}", quoted_table(table), names.join(", "), values.join(", "))
}

/// Returns the statement that creates a table.
pub(super) fn create_table(table: &TableName, columns: &[TableColumn], keys: &RedshiftKeys) -> String {
    let definitions: Vec<String> =
        columns.iter().map(|column| format!("{} {}", quoted(&column.name), column.type_text)).collect();
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {} ({})", quoted_table(table), definitions.join(", "));
    let has_column = |name: &String| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    if let Some(name) = keys.distribution.as_ref().filter(|name| has_column(name)) {
        sql += &format!(" DISTSTYLE KEY DISTKEY ({})", quoted(name));
    }
    let sort: Vec<String> = keys.sort.iter().filter(|name| has_column(name)).map(|name| quoted(name)).collect();
    if !sort.is_empty() && sort.len() == keys.sort.len() {
        sql += &format!(" SORTKEY ({})", sort.join(", "));
    }
    sql
}

fn quoted_table(table: &TableName) -> String {
    table.parts().map(quoted).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
pub(super) mod tests;
