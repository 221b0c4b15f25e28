//! Registers a file that stays in place in the catalog of its raw zone, before its ledger row is committed.
//!
//! So a worker that dies in between leaves a file that is processed and registered again. A problem of the catalog does not
//! stop the load: it is reported, and a registration that Glue did not make is noted for a later sweep or sync.

use tracing::{debug, error, warn};

use crate::catalog::Registration;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::pipeline::{AfterLoad, Attempt};
use crate::raw_zone::{self, SourceFile};
use crate::reader::FileShape;
use crate::report::Report;
use spillway_formats::schema::Schema;

/// The result for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawResult {
    /// The table, as `database.table`, in which the file's folder is registered.
    Registered(String),
    /// Why Athena would read the file wrong.
    Unreadable(String),
    /// Why Glue did not register the folder. It is noted.
    Failed(String),
}

impl RawResult {
    /// Adds the result to the report of the file.
    pub(super) fn add_to(self, report: &mut Report) {
        match self {
            Self::Registered(table) => report.catalog = Some(table),
            Self::Unreadable(why) => report.catalog_problem = Some(why),
            Self::Failed(why) => {
                report.catalog_problem = Some(why);
                report.needs_attention = true;
            }
        }
    }
}

/// Whether this attempt must register its file.
pub(super) fn is_wanted(attempt: &Attempt<'_>) -> bool {
    attempt.config.catalog_raw && attempt.config.after_load == AfterLoad::Keep && attempt.table.is_some()
}

/// Registers the folder of a file that was read, or notes it.
///
/// # Errors
/// When neither is possible. Then the file must not be loaded, because nothing would register it later.
pub(super) async fn register(attempt: &Attempt<'_>, schema: Option<&Schema>, shape: &FileShape) -> Result<()> {
    let Some(table) = attempt.table.as_ref().filter(|_| is_wanted(attempt)) else { return Ok(()) };
    let (context, object) = (attempt.context, &attempt.source.object);
    let settings = &context.settings;
    let source = SourceFile { object, table, options: &attempt.config.files, shape, schema };
    let file = match raw_zone::describe(settings, &source) {
        Ok(file) => file,
        Err(why) => {
            unreadable(attempt, why);
            return Ok(());
        }
    };
    let registered = match context.glue_outage.is_known() {
        true => Err(Error::new(ErrorKind::Service, "Glue failed less than a minute ago, so it was not asked again")),
        false => raw_zone::register(context, &file).await,
    };
    match registered {
        Ok(Registration::Done) => {
            debug!(table = file.table, folder = file.folder, "the folder is registered in Glue");
            attempt.set_raw_result(RawResult::Registered(format!("{}.{}", settings.raw_database, file.table)));
            Failpoint::RawRegistered.reached().await?;
        }
        Ok(Registration::Differs(why)) => unreadable(attempt, why),
        Err(error) => {
            let why = chain(&error);
            error!(error = %why, folder = file.folder, "the folder is not registered in Glue; a sweep or a sync tries again");
            raw_zone::note(&context.store, settings, &object.bucket, &file).await?;
            attempt.set_raw_result(RawResult::Failed(format!("{why} (a sweep or a sync tries again)")));
        }
    }
    Ok(())
}

fn unreadable(attempt: &Attempt<'_>, why: String) {
    warn!(why, "Athena cannot read the file in place; it is loaded as usual");
    attempt.set_raw_result(RawResult::Unreadable(format!("Athena cannot read the file in place: {why}")));
}
