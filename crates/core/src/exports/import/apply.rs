//! The step apply: loads the delta of the planned import into the table, exactly once.
//!
//! The load is that of the pipeline. Its transaction also takes over the place of the delta before it in the ledger
//! ([`Succession`]), and the lock is verified right before COMMIT.

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use super::ExportImporter;
use super::attempt::ChangesAttempt;
use super::request::LockedVersion;
use super::state::PlannedImport;
use crate::deadline::Deadline;
use crate::destination::{Succession, TableChanges};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::key_columns::KeyFields;
use crate::ledger::scope_name;
use crate::pattern::KeyParts;
use crate::pipeline::TableConfig;
use crate::reader::FileReader;

impl ExportImporter {
    /// Loads the delta of the planned import, unless it is loaded.
    pub(super) async fn apply(&self, locked: &LockedVersion, deadline: &Deadline) -> Result<Value> {
        let planned = self.planned(locked, deadline).await?;
        if !self.settings.target.has_database() {
            return Ok(json!({"status": "skipped"}));
        }
        // The import may have been planned while its changes were only published.
        if let Some(current) = self.registry.state(&locked.place.tenant, &locked.place.table).await?.current {
            self.check_is_in_table(&current)?;
        }
        if planned.statistics.changes() == 0 || planned.statistics.is_loaded {
            return Ok(json!({"status": "applied"}));
        }
        let (parts, config) = self.table(&planned)?;
        let attempt = ChangesAttempt {
            importer: self,
            deadline,
            delta: Some((locked, self.succession(locked, &planned, &config))),
            source: planned.delta.clone(),
            started_at: Timestamp::now(),
            table_changes: TableChanges::default(),
            config,
        };
        let counts = attempt.load(self.delta_reader(&planned, &parts, &attempt).await?).await?;
        Failpoint::ImportApplied.reached().await?;
        let missing = counts.map_or(planned.statistics.rows_missing, |counts| counts.rows_missing);
        if missing > 0 {
            warn!(rows = missing, "rows of the export before were not in the table, which was changed in another way");
        }
        self.change_planned(locked, |planned| {
            planned.statistics.is_loaded = true;
            planned.statistics.rows_missing = missing;
        })
        .await?;
        let table = attempt.config.name.to_string();
        let changes = attempt.table_changes.reported();
        Ok(json!({"status": "applied", "table": table, "rows_missing": missing, "table_changes": changes}))
    }

    /// Whether the ledger has the delta of a planned import.
    ///
    /// # Errors
    /// When the ledger cannot be read, also while a transaction with the delta is open.
    pub(super) async fn is_loaded(&self, planned: &PlannedImport) -> Result<bool> {
        let (_, config) = self.table(planned)?;
        let destination = self.destinations.open(&config.destination, false).await?;
        let entry = destination.look_up(&planned.delta.id).await?;
        Ok(entry.is_some_and(|entry| entry.state.needs_no_load()))
    }

    /// The table of an export, and the settings for its delta.
    fn table(&self, planned: &PlannedImport) -> Result<(KeyParts, TableConfig)> {
        let first = planned.files.first().ok_or_else(|| Error::new(ErrorKind::Internal, "the export has no file"))?;
        self.table_of_changes(&first.object.key, &planned.key)
    }

    /// A reader of the delta. The columns from the key are those of the export, so that tenants can share a table.
    async fn delta_reader(
        &self,
        planned: &PlannedImport,
        parts: &KeyParts,
        attempt: &ChangesAttempt<'_>,
    ) -> Result<FileReader> {
        let first = planned.files.first().ok_or_else(|| Error::new(ErrorKind::Internal, "the export has no file"))?;
        let fields = KeyFields::new(&attempt.config.key_columns, &first.object, parts, attempt.started_at);
        let buffer = self.settings.pipeline.buffer_max_bytes;
        FileReader::open(&self.store, &planned.delta, buffer, &attempt.config.files, &fields).await
    }

    fn succession(&self, locked: &LockedVersion, planned: &PlannedImport, config: &TableConfig) -> Succession {
        let (tenant, table) = locked.names();
        let values = ["import of exports", &self.settings.bucket, &self.settings.prefix, tenant, table];
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        Succession { name: scope_name(&config.name, &values), previous: planned.previous.clone() }
    }
}
