//! What differs when a person runs a request in a terminal: mistakes are found before an object is claimed or moved.

use super::Dispatcher;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::pipeline::{Operator, ask};
use crate::report::Report;
use crate::request::Request;
use crate::route::{Prefixes, Route, is_file};
use crate::store::read::Pages;

impl Dispatcher {
    /// A dispatcher for a command: the person who runs it reads each error, and standard output is for its result. It writes no metrics.
    #[must_use]
    pub fn for_terminal(mut self) -> Self {
        self.metrics = self.metrics.silent();
        self.context.operator = Operator::Present;
        self
    }

    /// Reads the table settings, logs in to the database and reads the ledger, all of them once. Changes nothing.
    ///
    /// # Errors
    /// When a load would fail, whatever its file.
    pub async fn log_in(&self, deadline: &Deadline) -> Result<()> {
        self.refresh_tables().await?;
        self.read_ledger(deadline).await
    }

    async fn read_ledger(&self, deadline: &Deadline) -> Result<()> {
        let nothing = ObjectRef::new("", "");
        ask(&self.context, deadline, async |database| database.history(&nothing).await).await.map(drop)
    }

    /// Fails if the settings name no table for an object, or another one than the caller. An object without rows to load passes.
    ///
    /// # Errors
    /// Of the kind `Settings` or `KeyRefused`.
    pub fn check_table(&self, object: &ObjectRef, named: Option<&str>) -> Result<()> {
        let settings = &self.context.settings;
        if Route::of_requested(object, &settings.prefixes) != Route::Ingest {
            return Ok(());
        }
        match named {
            Some(named) => settings.check_table(object, named),
            None => settings.key_parts(&object.key).map(drop),
        }
        .map_err(|error| error.for_object(object))
    }

    /// Loads one object. Unlike [`Self::run`], it leaves the connection open for the next object, until [`Self::close`].
    ///
    /// # Errors
    /// When the object has no outcome. It is still in place.
    pub async fn load(&self, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
        let mut batch = Box::pin(self.run_object(object.clone(), deadline)).await?;
        self.publish(&mut batch).await;
        match (batch.failures.pop(), batch.reports.pop()) {
            (Some(error), _) => Err(error),
            (None, Some(report)) => Ok(report),
            (None, None) => Err(Error::new(ErrorKind::Internal, "the object has no outcome").for_object(object)),
        }
    }

    /// The objects below a prefix.
    pub fn objects(&self, bucket: &str, prefix: &str) -> Objects {
        let prefixes = self.context.settings.prefixes.clone();
        Objects { pages: self.context.store.list(bucket, prefix), bucket: bucket.to_owned(), prefixes }
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.context.destinations.close().await;
    }

    /// Finds mistakes of a person before the request loads anything.
    pub(super) async fn check_before(&self, request: &Request, deadline: &Deadline) -> Result<()> {
        match (self.context.operator, request) {
            (Operator::Absent, _)
            | (
                Operator::Present,
                Request::Extract { .. } | Request::Status { .. } | Request::Check { .. } | Request::List { .. },
            ) => Ok(()),
            (Operator::Present, Request::Object(object)) => {
                self.read_ledger(deadline).await?;
                self.check_table(object, None)
            }
            (
                Operator::Present,
                Request::Rejects(_)
                | Request::Prefix { .. }
                | Request::Replay { .. }
                | Request::Sweep { .. }
                | Request::Sync { .. }
                | Request::GlueRun { .. },
            ) => self.read_ledger(deadline).await,
        }
    }
}

/// The objects below a prefix, page by page, in the order of their keys.
#[derive(Debug)]
pub struct Objects {
    pages: Pages,
    bucket: String,
    prefixes: Prefixes,
}

/// One page of objects.
#[derive(Debug, Default)]
pub struct ObjectPage {
    /// The objects to load.
    pub objects: Vec<ObjectRef>,
    /// Number of objects that Spillway itself writes.
    pub own: usize,
    /// Number of objects that are no data files by their names.
    pub others: usize,
}

impl Objects {
    /// The next page, with the keys that pass a test; `None` after the last one.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn next(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<Option<ObjectPage>> {
        let Some(listed) = self.pages.next().await? else { return Ok(None) };
        let mut page = ObjectPage::default();
        for object in listed.into_iter().map(|listed| ObjectRef::new(&self.bucket, listed.key)) {
            if !is_wanted(&object.key) || object.key.ends_with('/') {
                continue;
            }
            let route = Route::of_requested(&object, &self.prefixes);
            match (route == Route::Ingest, is_file(&object.key)) {
                (true, true) => page.objects.push(object),
                (true, false) => page.others += 1,
                (false, _) => page.own += 1,
            }
        }
        Ok(Some(page))
    }
}
