//! The requests of an import: `{"export": {"step": …}}`. Does no I/O.

use serde::Deserialize;
use serde_json::Value;

use super::place::ExportPlace;
use crate::error::{Error, Result};
use crate::request::invalid;

/// The accepted requests, for error messages.
const ACCEPTED: &str = "accepted are {\"export\": {\"step\": \"register\", \"key\": …}}, the steps lock, diff, apply, publish, finish and \
                        fail of templates/exports.yaml, and {\"export\": {\"step\": \"status\"}}";

/// One step of an import.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum StepRequest {
    /// Find out which export an object belongs to, and whether it is complete.
    Register { bucket: Option<String>, key: String },
    /// Take the lock of the table.
    Lock { tenant: String, table: String, version: String, owner: String },
    /// Compare the export with the one before, and write the delta.
    Diff(LockedVersion),
    /// Load the delta into the database.
    Apply(LockedVersion),
    /// Publish the delta.
    Publish(LockedVersion),
    /// Record the success, and release the lock.
    Finish(LockedVersion),
    /// Record a failure, and release the lock.
    Fail { tenant: String, table: String, version: String, fence: u64, error: Failure },
    /// List the versions of tables.
    Status { tenant: Option<String>, table: Option<String> },
}

/// An error as Step Functions describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Failure {
    /// The kind.
    #[serde(rename = "Error", default)]
    pub(super) kind: String,
    /// JSON with the message of a function, or any other text.
    #[serde(rename = "Cause", default)]
    pub(super) cause: String,
}

/// A version of a table that is locked, and the fencing number of the lock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "LockedFields")]
pub(super) struct LockedVersion {
    pub(super) place: ExportPlace,
    pub(super) fence: u64,
}

/// The fields of a locked version in a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedFields {
    tenant: String,
    table: String,
    version: String,
    fence: u64,
}

impl From<LockedFields> for LockedVersion {
    fn from(LockedFields { tenant, table, version, fence }: LockedFields) -> Self {
        Self::new(tenant, table, version, fence)
    }
}

impl StepRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::EventInvalid`].
    pub(super) fn parse(request: &Value) -> Result<Self> {
        let fields = request.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("export"));
        let Some(step) = fields else { return Err(invalid(format!("unknown request; {ACCEPTED}"))) };
        let step = Self::deserialize(step)
            .map_err(|error| invalid(format!("invalid request; {ACCEPTED}")).with_source(error))?;
        match step.names().iter().any(|name| name.is_empty() || name.contains('/')) {
            true => Err(invalid("tenant, table and version must not be empty or contain a slash")),
            false => Ok(step),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Register { .. } => Vec::new(),
            Self::Status { tenant, table } => tenant.iter().chain(table).map(String::as_str).collect(),
            Self::Lock { tenant, table, version, .. } | Self::Fail { tenant, table, version, .. } => {
                vec![tenant, table, version]
            }
            Self::Diff(locked) | Self::Apply(locked) | Self::Publish(locked) | Self::Finish(locked) => {
                let ExportPlace { tenant, table, version } = &locked.place;
                vec![tenant, table, version]
            }
        }
    }
}

impl Failure {
    /// The message of the error.
    pub(super) fn message(&self) -> String {
        let document = serde_json::from_str::<Value>(&self.cause).ok();
        let message = document.as_ref().and_then(|document| document["errorMessage"].as_str());
        message.unwrap_or(&self.cause).to_owned()
    }
}

impl LockedVersion {
    pub(super) fn new(tenant: String, table: String, version: String, fence: u64) -> Self {
        Self { place: ExportPlace { tenant, table, version }, fence }
    }

    /// The tenant and the table.
    pub(super) fn names(&self) -> (&str, &str) {
        self.place.names()
    }
}

impl Error {
    /// Adds the version to the message of a failed step.
    pub(super) fn of_export(self, place: &ExportPlace, prefix: &str) -> Self {
        self.for_object(place.folder(prefix))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_parsed_strictly() {
        let parse = |step: Value| StepRequest::parse(&json!({"export": step}));
        let register = parse(json!({"step": "register", "key": "a/b/1/c.csv.gz"})).unwrap();
        assert_eq!(register, StepRequest::Register { bucket: None, key: "a/b/1/c.csv.gz".into() });
        let failure = json!({"Error": "busy", "Cause": "{\"errorMessage\": \"why\", \"errorType\": \"busy\"}"});
        let fail = json!({"step": "fail", "tenant": "a", "table": "b", "version": "1", "fence": 2, "error": failure});
        let StepRequest::Fail { error, .. } = parse(fail).unwrap() else { panic!("another step") };
        assert_eq!((error.kind.as_str(), error.message().as_str()), ("busy", "why"));
        assert_eq!(Failure { cause: "text".into(), ..Failure::default() }.message(), "text");
        for wrong in [
            json!({"step": "register"}),
            json!({"step": "other", "key": "a"}),
            json!({"step": "diff", "tenant": "a", "table": "b", "version": "1", "fence": 1, "more": 1}),
            json!({"step": "diff", "tenant": "a", "table": "b", "version": "", "fence": 1}),
            json!({"step": "lock", "tenant": "a/x", "table": "b", "version": "1", "owner": "me"}),
        ] {
            assert_eq!(parse(wrong.clone()).unwrap_err().kind(), crate::error::ErrorKind::EventInvalid, "{wrong}");
        }
        assert!(StepRequest::parse(&json!({"sweep": {}})).is_err());
        assert!(StepRequest::parse(&json!({"export": {"step": "status"}, "bucket": "b"})).is_err());
    }
}
