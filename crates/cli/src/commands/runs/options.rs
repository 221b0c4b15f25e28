//! Where runs are listed: a deployed function, or the database of the settings or options.

use std::path::{Path, absolute};

use clap::Args;
use serde_json::{Value, json};
use spillway_core::config::Environment;
use spillway_core::destination::Run;
use spillway_core::error::Result;

use crate::commands::list::{List, is_id};
use crate::database::DatabaseOptions;
use crate::file_name::bucket_and_key;
use crate::request::{Target, send_in, send_runs, with_database};
use crate::session::Session;

/// The beginning of the bucket of a local file.
const LOCAL_SCHEME: &str = "file://";

/// The options that say where runs are listed.
#[derive(Debug, Clone, Args)]
pub(super) struct RunsOptions {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    database: DatabaseOptions,
}

impl RunsOptions {
    /// Requests a list of runs.
    ///
    /// # Errors
    /// When the options contradict each other, or the request failed.
    pub(super) async fn list(&self, session: &Session, fields: Value) -> Result<List<Run>> {
        let environment = self.environment(session)?;
        List::of_body(send_runs(&environment, &self.target, json!({ "runs": fields })).await?)
    }

    /// Requests the runs of an id, of a key, or of a local file by its path.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub(super) async fn find(&self, session: &Session, run: &str, limit: usize) -> Result<List<Run>> {
        if let (Some(bucket), key) = bucket_and_key(run) {
            // Another bucket may have the same key.
            let options = Self { target: self.target.in_bucket(Some(bucket)), ..self.clone() };
            return options.list(session, json!({"key": key, "limit": limit})).await;
        }
        if is_id(run) {
            return self.list(session, json!({"id": run, "limit": limit})).await;
        }
        let found = self.list(session, json!({"key": run, "limit": limit})).await?;
        match local_key(run).filter(|key| found.items.is_empty() && key != run) {
            Some(key) => self.list(session, json!({"key": key, "limit": limit})).await,
            None => Ok(found),
        }
    }

    /// Loads an object again. `bucket` is its bucket, if it is known.
    ///
    /// # Errors
    /// When the options contradict each other, or the load failed.
    pub(super) async fn load(&self, session: &Session, bucket: Option<&str>, key: &str) -> Result<Value> {
        let mut request = json!({ "key": key });
        if let Some(bucket) = bucket {
            request["bucket"] = json!(bucket);
        }
        send_in(&self.environment(session)?, &self.target, request).await
    }

    /// Whether a name can only be that of a local file: it is a path, or no setting names a bucket.
    ///
    /// # Errors
    /// When `S3_BUCKET` is invalid.
    pub(super) fn is_local(&self, session: &Session, name: &str) -> Result<bool> {
        let is_path = name == "-" || ["/", "./", "../", LOCAL_SCHEME].iter().any(|start| name.starts_with(start));
        Ok(is_path || !self.target.names_bucket(&session.environment)?)
    }

    /// The end of a proposed command: the database that options name must be named again.
    pub(super) fn repeated_options(&self) -> &'static str {
        if self.database.is_used() { " with the same options" } else { "" }
    }

    fn environment(&self, session: &Session) -> Result<Environment> {
        with_database(session, &self.target, &self.database)
    }
}

/// The key of a local file in the ledger: its path without links.
fn local_key(name: &str) -> Option<String> {
    let name = match name.strip_prefix(LOCAL_SCHEME) {
        Some(address) => &address[address.find('/')?..],
        None => name,
    };
    if name == "/-" {
        return Some("-".to_owned());
    }
    // A file that was deleted since has no real path.
    let path = std::fs::canonicalize(name).or_else(|_| absolute(Path::new(name))).ok()?;
    path.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_a_local_file_is_its_path() {
        let folder = std::env::current_dir().unwrap();
        let expected = folder.join("no-such.csv").display().to_string();
        assert_eq!(local_key("no-such.csv"), Some(expected));
        assert_eq!(local_key("file://laptop/no/such.csv"), Some("/no/such.csv".to_owned()));
        assert_eq!(local_key("file://laptop/-"), Some("-".to_owned()));
        assert_eq!(local_key("file://laptop"), None);
    }
}
