//! The step publish: sends the changes of a planned delta to the stream.

use std::time::Duration;

use serde_json::{Value, json};

use super::ExportImporter;
use super::request::LockedVersion;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::exports::{ExportSource, PublishRequest, Scope};
use crate::failpoint::Failpoint;
use crate::progress::Progress;

/// Time of the function that is left when it stops to send, so that it can say how far it has come.
const RESERVE: Duration = Duration::from_secs(10);

impl ExportImporter {
    /// Publishes the delta of the planned import, from where an earlier call has stopped. At the deadline the status is `partial`.
    pub(super) async fn publish(&self, locked: &LockedVersion, deadline: &Deadline) -> Result<Value> {
        let planned = self.planned(locked, deadline).await?;
        let Some(stream) = self.settings.target.stream() else { return Ok(json!({"status": "skipped"})) };
        if planned.statistics.changes() == 0 {
            return Ok(json!({"status": "published", "published": 0}));
        }
        let request = PublishRequest {
            delta: ExportSource::Version(planned.delta.clone()),
            stream,
            table: Some(&locked.place.table),
            tenant: Some(&locked.place.tenant),
            version: Some(&locked.place.version),
            format: self.settings.publish_format,
            max_record_bytes: self.settings.publish_max_record_bytes,
            scope: Scope::Rest,
            rate: None,
            progress: Progress::default(),
        };
        let publication = Box::pin(self.publisher.prepare(request)).await?;
        // From here on the import must be finished: the stream has a part of it.
        self.change_planned(locked, |planned| planned.may_be_published = true).await?;
        let sending = deadline.remaining().map(|left| deadline.limited_to(left.saturating_sub(RESERVE)));
        let summary = Box::pin(publication.send(sending.as_ref().unwrap_or(deadline))).await?;
        if summary.left() > 0 {
            return Ok(json!({"status": "partial", "left": summary.left()}));
        }
        Failpoint::ImportPublished.reached().await?;
        self.change_planned(locked, |planned| planned.statistics.published = summary.changes).await?;
        Ok(json!({"status": "published", "published": summary.changes, "sent": summary.sent}))
    }
}
