//! The list requests: runs, rows in the fallback, and rejected records. Reads only.
//!
//! Every list has the same shape: items, and the place where the next page begins. A request reads at most a page.

mod fallback_list;
mod rejects_list;

use serde::Serialize;

use crate::deadline::Deadline;
use crate::destination::{Run, RunFilter, RunPage};
use crate::error::Result;
use crate::pipeline::{Context, ask};

pub use fallback_list::{FallbackFilter, FallbackItem};
pub use rejects_list::{RejectsFilter, RejectsItem};

/// The default number of items of a page.
pub(crate) const DEFAULT_LIMIT: usize = 50;

/// The largest number of items of a page: the response of a function is limited to 6 MB.
pub(crate) const MAX_LIMIT: usize = 1000;

/// A list request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListRequest {
    /// Runs, newest first.
    Runs(RunFilter),
    /// Files in the fallback.
    Fallback(FallbackFilter),
    /// Files of rejected records.
    Rejects(RejectsFilter),
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct List {
    /// The items.
    pub items: Items,
    /// The place where the next page begins: the value of `after` in the next request. `None` after the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What the list lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The items of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Items {
    /// Runs.
    Runs(Vec<Run>),
    /// Files in the fallback.
    Fallback(Vec<FallbackItem>),
    /// Files of rejected records.
    Rejects(Vec<RejectsItem>),
}

/// Returns a page of the list.
///
/// # Errors
/// When the database or S3 cannot be read.
pub(crate) async fn list(context: &Context, bucket: &str, request: &ListRequest, deadline: &Deadline) -> Result<List> {
    match request {
        ListRequest::Runs(filter) => {
            let page = ask(context, deadline, async |database| database.runs(filter).await).await?;
            Ok(list_of_runs(page))
        }
        ListRequest::Fallback(filter) => fallback_list::list(context, bucket, filter).await,
        ListRequest::Rejects(filter) => rejects_list::list(context, bucket, filter).await,
    }
}

fn list_of_runs(page: RunPage) -> List {
    let RunPage { runs, next, has_attempts_table } = page;
    let note = (!has_attempts_table).then(|| {
        "the attempt history does not exist or cannot be read, so attempts that failed are not listed; a check request says \
         why"
        .to_owned()
    });
    List { items: Items::Runs(runs), next: next.map(|cursor| cursor.to_text()), note }
}
