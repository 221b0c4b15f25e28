//! The step status: what the registry has of each table.

use serde_json::{Value, json};

use super::ExportImporter;
use super::place::{ExportPlace, compare_versions};
use crate::error::Result;

impl ExportImporter {
    /// Lists the tables of a tenant or of all, and the versions of a table.
    pub(super) async fn status(&self, tenant: Option<&str>, table: Option<&str>) -> Result<Value> {
        let (bucket, prefix) = (&self.settings.bucket, &self.settings.registry_prefix);
        let mut tables = Vec::new();
        for tenant_folder in self.store.folders(bucket, prefix).await? {
            let tenant_name = name(&tenant_folder, prefix);
            if tenant.is_some_and(|wanted| wanted != tenant_name) {
                continue;
            }
            for table_folder in self.store.folders(bucket, &tenant_folder).await? {
                let table_name = name(&table_folder, &tenant_folder);
                if table.is_some_and(|wanted| wanted != table_name) {
                    continue;
                }
                tables.push(self.table_status(tenant_name, table_name, table.is_some()).await?);
            }
        }
        Ok(json!({"tables": tables}))
    }

    async fn table_status(&self, tenant: &str, table: &str, with_versions: bool) -> Result<Value> {
        let state = self.registry.state(tenant, table).await?;
        let current =
            state.current.as_ref().map(|current| json!({"version": current.version, "statistics": current.statistics}));
        let planned =
            state.planned.as_ref().map(|planned| json!({"version": planned.version, "statistics": planned.statistics}));
        let mut status =
            json!({"tenant": tenant, "table": table, "current": current, "planned": planned, "lock": state.lock});
        if with_versions {
            status["versions"] = self.versions_of(tenant, table).await?.into();
        }
        Ok(status)
    }

    async fn versions_of(&self, tenant: &str, table: &str) -> Result<Vec<Value>> {
        let folder = format!("{}{tenant}/{table}/versions/", self.settings.registry_prefix);
        let (mut pages, mut names) = (self.store.list(&self.settings.bucket, &folder), Vec::new());
        while let Some(page) = pages.next().await? {
            let name = |key: &str| Some(key.strip_prefix(&folder)?.strip_suffix(".json")?.to_owned());
            names.extend(page.iter().filter_map(|listed| name(&listed.key)));
        }
        names.sort_by(|one, other| compare_versions(one, other));
        let mut versions = Vec::with_capacity(names.len());
        for version in names {
            let place = ExportPlace { tenant: tenant.to_owned(), table: table.to_owned(), version };
            let Some(record) = self.registry.record(&place).await? else { continue };
            versions.push(json!({
                "version": record.version,
                "state": record.state,
                "files": record.files.len(),
                "registered_at": record.registered_at,
                "started_at": record.started_at,
                "ended_at": record.ended_at,
                "statistics": record.statistics,
                "error_kind": record.error_kind,
                "error": record.error,
            }));
        }
        Ok(versions)
    }
}

/// The name of a folder below another one.
fn name<'a>(folder: &'a str, parent: &str) -> &'a str {
    folder.strip_prefix(parent).unwrap_or(folder).trim_end_matches('/')
}
