//! The statements of loads and of the ledger. Does no I/O.
//!
//! A transaction is a list of statements that one call of the Data API runs. No statement can depend on the result of another
//! one, so a guard is a division by zero: it ends the transaction unless its condition holds.

use super::column::{TableColumn, staged_definition, staged_value};
use super::literal::{optional_text, quoted, text, time};
use super::merge::{Merge, ROWS_STORED, ROWS_UNCHANGED, ROWS_UPDATED};
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
    /// Fails if another file has replaced the table in the meantime.
    GuardTable,
    /// Creates or drops a temporary table.
    Stage,
    /// Copies the rows into the staging table.
    Copy,
    /// Fails unless the staging table has all rows.
    GuardCount,
    /// Creates the table.
    CreateTable,
    /// Deletes the rows that the file replaces.
    Delete,
    /// Fails if several rows of the table have the same merge key.
    GuardKey,
    /// Prepares staged rows for a merge, or updates rows of the table.
    Merge,
    /// Inserts the rows into the table.
    Insert,
    /// Fails unless each merged row is in the table once.
    GuardMerge,
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

    /// Fails unless the source that was the last to replace a table is still the one that the claim has read.
    ///
    /// So one rule decides which of two files is newer: that of the ledger, see [`crate::ledger::CurrentSource`].
    fn guard_current(&self, current_of: &str, current: Option<&str>) -> String {
        let ledger = &self.ledger;
        let (condition, expected) = match current {
            Some(id) => (format!(" AND source_id = {}", text(id)), 1),
            None => (String::new(), 0),
        };
        format!(
            "SELECT 1 / CASE WHEN (SELECT COUNT(*) FROM {ledger} WHERE current_of = {}{condition}) = {expected} \
             THEN 1 ELSE 0 END",
            text(current_of)
        )
    }

    fn guard_not_loaded(&self, id: &str) -> String {
        format!(
            "SELECT 1 / CASE WHEN EXISTS (SELECT 1 FROM {} WHERE source_id = {id} \
             AND state IN ('loaded', 'duplicate', 'superseded')) THEN 0 ELSE 1 END",
            self.ledger
        )
    }

    /// Returns the statements that replace the ledger row of a source. `counted` are the tables from which the counts of a merge are
    /// read.
    fn write_row(&self, claim: &Claim<'_>, row: &LedgerRow<'_>, counted: Option<&str>) -> Statements {
        let (ledger, source) = (&self.ledger, claim.source);
        let id = text(source.id.as_str());
        let content_id = claim.content_id.filter(|_| row.state == LedgerState::Loaded);
        let modified_at = row.current_of.map_or("NULL".to_owned(), |_| time(source.last_modified));
        let (stored, null) = (row.rows_stored.to_string(), "NULL".to_owned());
        let [stored, updated, unchanged] = match counted {
            Some(_) => [ROWS_STORED, ROWS_UPDATED, ROWS_UNCHANGED].map(str::to_owned),
            None => [stored, null.clone(), null],
        };
        let fields = [
            ("source_id", id.clone()),
            ("content_id", optional_text(content_id)),
            ("bucket", text(&source.object.bucket)),
            ("object_key", text(&source.object.key)),
            ("version_id", optional_text(source.object.version_id.as_deref())),
            ("etag", text(&source.etag)),
            ("size_bytes", source.size_bytes.to_string()),
            ("body_sha256", text(claim.body_sha256.unwrap_or_default())),
            ("target_table", text(claim.table.as_str())),
            ("state", text(row.state.name())),
            ("rows_parsed", row.rows_parsed.to_string()),
            ("rows_stored", stored),
            ("rows_rejected", row.rows_rejected.to_string()),
            ("rows_updated", updated),
            ("rows_unchanged", unchanged),
            ("attempt", row.attempt.to_string()),
            ("worker", text(claim.worker)),
            ("tool_version", text(env!("CARGO_PKG_VERSION"))),
            ("started_at", time(claim.started_at)),
            ("committed_at", "GETDATE()".to_owned()),
            ("load_mode", optional_text(row.load_mode)),
            ("reason", optional_text(row.reason)),
            ("table_changes", optional_text(row.table_changes)),
            ("current_of", optional_text(row.current_of)),
            ("source_modified_at", modified_at),
        ];
        let names = fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let values = fields.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ");
        let insert = match counted {
            Some(tables) => format!("INSERT INTO {ledger} ({names}) SELECT {values} FROM {tables}"),
            None => format!("INSERT INTO {ledger} ({names}) VALUES ({values})"),
        };
        vec![(Step::Ledger, format!("DELETE FROM {ledger} WHERE source_id = {id}")), (Step::Ledger, insert)]
    }

    /// Returns the query for the counts in the ledger row of a merge.
    fn counts_query(&self, id: &str) -> String {
        format!("SELECT rows_stored, rows_updated, rows_unchanged FROM {} WHERE source_id = {id}", self.ledger)
    }

    /// Returns the statements that write an outcome other than a load, unless the source needs no load any more.
    pub(super) fn outcome(&self, claim: &Claim<'_>, row: &LedgerRow<'_>) -> Statements {
        let guard = (Step::GuardSource, self.guard_not_loaded(&text(claim.source.id.as_str())));
        [self.lock(), guard].into_iter().chain(self.write_row(claim, row, None)).collect()
    }

    /// Returns the transaction of a load.
    pub(super) fn load(&self, claim: &Claim<'_>, load: &LoadStatements<'_>, row: &LedgerRow<'_>) -> Statements {
        let mut statements = vec![self.lock()];
        statements.extend(self.guards(claim, load.fence));
        if let TableChange::Replace { current_of, current } = load.change {
            statements.push((Step::GuardTable, self.guard_current(current_of, current)));
        }
        let staged = load.copied.as_ref().map(|copied| staging(claim.source.id.as_str(), load, copied));
        statements.extend(staged.as_ref().map(|staged| staged.fill.clone()).into_iter().flatten());
        statements.extend(load.create_table.map(|sql| (Step::CreateTable, sql.to_owned())));
        if let TableChange::Replace { current_of, .. } = load.change {
            // TRUNCATE would commit the transaction.
            statements.push((Step::Delete, format!("DELETE FROM {}", quoted_table(claim.table))));
            let release =
                format!("UPDATE {} SET current_of = NULL WHERE current_of = {}", self.ledger, text(current_of));
            statements.push((Step::Ledger, release));
        }
        let (id, mut temporary, mut last) = (text(claim.source.id.as_str()), Vec::new(), None);
        match (&staged, load.change) {
            (None, _) => statements.extend(self.write_row(claim, row, None)),
            (Some(staged), TableChange::Append | TableChange::Replace { .. }) => {
                statements.push((Step::Insert, insert(claim.table, load.columns, &staged.table)));
                statements.extend(self.write_row(claim, row, None));
                temporary.push(&staged.table);
            }
            (Some(staged), TableChange::Merge { sequence }) => {
                let Staging { table: staging, matched, .. } = staged;
                let merge = Merge { table: claim.table, columns: load.columns, staging, matched, sequence };
                statements.extend(merge.statements());
                statements.extend(self.write_row(claim, row, Some(&merge.counted())));
                temporary.extend([staging, matched]);
                last = Some((Step::Ledger, self.counts_query(&id)));
            }
        }
        statements.extend(temporary.into_iter().map(|table| (Step::Stage, format!("DROP TABLE {table}"))));
        // The ledger row protects the source from now on.
        statements.push((Step::Ledger, format!("DELETE FROM {} WHERE source_id = {id}", self.fences)));
        statements.extend(last);
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
    /// The table that the source has replaced.
    pub(super) current_of: Option<&'a str>,
}

/// What a load does to the rows that its table has.
#[derive(Debug, Clone, Copy)]
pub(super) enum TableChange<'a> {
    /// They stay.
    Append,
    /// They are deleted.
    Replace {
        /// The table's name in the ledger's column `current_of`.
        current_of: &'a str,
        /// The source that was the last to replace the table, as the claim has read it.
        current: Option<&'a str>,
    },
    /// Those with a key of the file are updated.
    Merge {
        /// The name of the staged column with the row numbers.
        sequence: &'a str,
    },
}

/// What the transaction of a load does to the table.
#[derive(Debug, Clone)]
pub(super) struct LoadStatements<'a> {
    /// The fence that the claim has read.
    pub(super) fence: Option<&'a str>,
    pub(super) change: TableChange<'a>,
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
    /// The quoted name of the table that a merge creates beside it.
    matched: String,
    /// The statements that create, fill and check it.
    fill: Statements,
}

/// Returns the statements that fill a temporary table with all rows.
///
/// COPY compares the columns of Parquet with those of the table by position, so the table has exactly the columns of the file.
fn staging(source_id: &str, load: &LoadStatements<'_>, copied: &Copied<'_>) -> Staging {
    let Copied { bucket, manifest_key, rows, role } = copied;
    let name = |kind: &str| quoted(&format!("spillway_{kind}_{}", &source_id[..16.min(source_id.len())]));
    let (table, matched) = (name("copy"), name("match"));
    let mut definitions: Vec<String> = load.columns.iter().map(staged_definition).collect();
    if let TableChange::Merge { sequence } = load.change {
        definitions.push(format!("{} BIGINT", quoted(sequence)));
    }
    let role = if *role == "default" { "default".to_owned() } else { format!("'{role}'") };
    let fill = vec![
        (Step::Stage, format!("CREATE TEMPORARY TABLE {table} ({})", definitions.join(", "))),
        (
            Step::Copy,
            format!("COPY {table} FROM 's3://{bucket}/{manifest_key}' IAM_ROLE {role} FORMAT AS PARQUET MANIFEST"),
        ),
        (Step::GuardCount, format!("SELECT 1 / CASE WHEN (SELECT COUNT(*) FROM {table}) = {rows} THEN 1 ELSE 0 END")),
    ];
    Staging { table, matched, fill }
}

fn insert(table: &TableName, columns: &[TableColumn], staging: &str) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<String> = columns.iter().map(|column| staged_value(column, "")).collect();
    format!("INSERT INTO {} ({}) SELECT {} FROM {staging}", quoted_table(table), names.join(", "), values.join(", "))
}

/// Returns the statement that creates a table. The merge key becomes its primary key, which Redshift does not enforce.
pub(super) fn create_table(table: &TableName, columns: &[TableColumn], keys: &RedshiftKeys) -> String {
    let definition = |column: &TableColumn| {
        let required = if column.in_merge_key { " NOT NULL" } else { "" };
        format!("{} {}{required}", quoted(&column.name), column.type_text)
    };
    let mut definitions: Vec<String> = columns.iter().map(definition).collect();
    let in_key = columns.iter().filter(|column| column.in_merge_key);
    let merge_key: Vec<String> = in_key.map(|column| quoted(&column.name)).collect();
    if !merge_key.is_empty() {
        definitions.push(format!("PRIMARY KEY ({})", merge_key.join(", ")));
    }
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

pub(super) fn quoted_table(table: &TableName) -> String {
    table.parts().map(quoted).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
pub(super) mod tests;
