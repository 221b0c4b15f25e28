//! A file's state as a sentence for the user, with what to do next.

use super::{FileState, FileStatus};
use crate::destination::{LedgerState, RunOutcome};
use crate::object::ObjectRef;
use crate::pipeline::{AfterLoad, PipelineConfig};
use crate::reconcile::age_seconds;
use crate::route::Route;

/// Returns the explanation of a state whose other fields are complete.
pub(super) fn of(status: &FileStatus, settings: &PipelineConfig, object: &ObjectRef) -> String {
    let after_load = settings.table_of_key(&object.key).map_or(settings.after_load, |config| config.after_load);
    match status.state {
        FileState::Waiting => waiting(status, settings, object, after_load),
        FileState::Loading => loading(status),
        FileState::Loaded => loaded(status, after_load),
        FileState::FellBack => fell_back(status),
        FileState::Rejected => rejected(status),
        FileState::Unknown => unknown(status, settings, object),
    }
}

fn waiting(status: &FileStatus, settings: &PipelineConfig, object: &ObjectRef, after_load: AfterLoad) -> String {
    let prefixes = &settings.prefixes;
    if let Route::Skip { why } = Route::of_requested(object, prefixes) {
        return format!("the object is never loaded: {why}; ask for the key that the file was uploaded to");
    }
    if let Route::Skip { why } = Route::of(object, prefixes) {
        return format!(
            "no event and no sweep loads the object: {why}; move it to a key that is loaded, or send {{\"key\": {:?}}}",
            object.key
        );
    }
    let age = status.object.as_ref().map_or(0, |object| age_seconds(object.last_modified));
    let next = match (&status.ledger.error, after_load) {
        (None, _) => "its event or the next sweep loads it",
        (Some(_), AfterLoad::Keep) => "the database cannot be read now, and the file waits until it can be",
        (Some(_), AfterLoad::Move | AfterLoad::Delete) => {
            "the database cannot be read now, so the next attempt may write its rows to the fallback"
        }
    };
    let failed = failed_attempts(status);
    format!(
        "the file has waited for {age} s and no worker has it{failed}; {next}; to load it now send {{\"key\": {:?}}}; if it \
         waits long, search for the key in the log of the trigger function",
        object.key
    )
}

/// The latest failure of the version that waits, if the history has one.
fn failed_attempts(status: &FileStatus) -> String {
    let Some(last) = status.attempts.first().filter(|run| run.outcome == RunOutcome::Failed) else {
        return String::new();
    };
    let count = match last.attempts {
        1 => "an attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    let (kind, reason) = (last.error_kind.as_deref().unwrap_or_default(), last.reason.as_deref().unwrap_or_default());
    format!("; {count} failed, the last one at {} ({kind}: {reason})", last.ended_at.unwrap_or(last.started_at))
}

fn loading(status: &FileStatus) -> String {
    if let Some(run) = status.glue_run.as_ref().filter(|run| run.is_under_way) {
        let state = run.state.as_deref().unwrap_or("its state cannot be read");
        let since = run.started_at.map(|time| format!(" since {time}")).unwrap_or_default();
        return format!(
            "the run {} of the Glue job {} works on the file{since} ({state}); wait, or look for the run in the console of Glue",
            run.run, run.job
        );
    }
    let Some(lease) = &status.lease else { return "a worker is loading the file".to_owned() };
    format!(
        "the worker {:?} is loading the file; wait; if the worker is dead, another one takes over after {}",
        lease.worker, lease.expires_at
    )
}

fn loaded(status: &FileStatus, after_load: AfterLoad) -> String {
    let state = status.ledger.rows.first().map(|row| row.state);
    let mut text = match state {
        Some(LedgerState::Duplicate) => {
            "the same bytes were loaded before, so the file was not loaded again; to load them twice upload them under \
             another key, or, in a bucket with versioning, set DEDUPE=version and upload the file again"
        }
        Some(LedgerState::Superseded) => "a newer file has replaced the table, so the rows of this one are not needed",
        Some(LedgerState::Loaded) => "the rows are in the table",
        None if status.ledger.error.is_none() => {
            "the object is under the processed prefix, but this ledger has no row of it: the file was empty, its rows are in another \
             database, or its ledger row was deleted"
        }
        Some(LedgerState::FellBack | LedgerState::Rejected) | None => {
            "the object is under the processed prefix, so its rows are in the table"
        }
    }
    .to_owned();
    if status.object.is_some() {
        text.push_str(match after_load {
            AfterLoad::Move => "; the object has not moved yet, and the next sweep moves it",
            AfterLoad::Delete => "; the object is not deleted yet, and the next sweep deletes it",
            AfterLoad::Keep => "; the object stays in place, because AFTER_LOAD is keep",
        });
    }
    if !status.rejects.is_empty() {
        text.push_str("; some records were rejected; correct them and load them with a rejects request");
    }
    text
}

fn fell_back(status: &FileStatus) -> String {
    let Some(fallback) = &status.fallback else {
        return "the object is under the failed prefix without a reason file, so its rows fell back; the fallback no \
                longer contains them, so a replay has loaded them unless they were deleted; the ledger shows which"
            .to_owned();
    };
    format!(
        "the rows are in the fallback, because the database did not accept them ({}); query them with Athena; a replay \
         loads them when the cause is gone",
        fallback.reason
    )
}

fn rejected(status: &FileStatus) -> String {
    let text = |field: &str| {
        let reason = status.reason.as_ref().and_then(|reason| reason.content[field].as_str());
        reason.map(str::to_owned)
    };
    let of_ledger = status.ledger.rows.first().and_then(|row| row.reason.clone());
    let reason = text("reason").or(of_ledger).unwrap_or_else(|| "the reason is not known".to_owned());
    let hint = text("hint").unwrap_or_else(|| "correct the file and upload it again".to_owned());
    format!("the file was rejected and none of its rows is stored ({reason}); {hint}")
}

fn unknown(status: &FileStatus, settings: &PipelineConfig, object: &ObjectRef) -> String {
    let ledger = match status.ledger.error {
        None => "the ledger has no row of it",
        Some(_) => "the ledger cannot be read now",
    };
    format!(
        "no object has this key in the bucket {}, no file was moved from it, and {ledger}; check the key and the bucket; \
         files are loaded from {}",
        object.bucket,
        upload_prefixes(settings)
    )
}

fn upload_prefixes(settings: &PipelineConfig) -> String {
    let name = |prefix: &String| if prefix.is_empty() { "the whole bucket".to_owned() } else { prefix.clone() };
    settings.prefixes.upload.iter().map(name).collect::<Vec<_>>().join(", ")
}
