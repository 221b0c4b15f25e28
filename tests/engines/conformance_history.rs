//! Conformance tests for the attempt history, the list of runs and the watermarks of syncs, which every engine runs.

use anyhow::{Context, Result, ensure};
use spillway_core::destination::{
    AttemptRecord, LedgerOutcome, LedgerState, ObjectPlace, Run, RunCursor, RunFilter, RunOutcome, RunPlaces, SyncState,
};
use spillway_core::error::{ErrorKind, chain};

use crate::engines::conformance::{Claim, Engine, File, TestDestination, claim, load};

/// Calls a macro with this module's name and the name of each test.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_history:
            attempts_that_end_in_the_same_way_share_a_row,
            history_is_created_for_an_existing_ledger,
            history_needs_no_right_to_create,
            load_writes_nothing_to_the_history,
            old_attempts_are_deleted,
            runs_are_filtered,
            runs_are_listed_page_by_page,
            watermark_never_moves_back,
            watermarks_need_a_right_to_create_only_once,
        );
    };
}
pub(crate) use for_each_test;

/// The indexes of ledger and history.
const INDEXES: usize = 7;

fn at(time: &str) -> jiff::Timestamp {
    time.parse().expect("a time")
}

/// A failed attempt at the source of a claim.
fn failed(claim: &Claim, started_at: &str, error_kind: ErrorKind) -> AttemptRecord {
    AttemptRecord {
        source: claim.source.clone(),
        table: claim.table.to_string(),
        worker: claim.worker.clone(),
        started_at: at(started_at),
        ended_at: at(started_at) + jiff::SignedDuration::from_secs(2),
        outcome: RunOutcome::Failed,
        error_kind,
        rows_parsed: 0,
        rows_stored: 0,
        rows_rejected: 0,
        reason: format!("{error_kind} at {started_at}"),
    }
}

fn filter() -> RunFilter {
    RunFilter { places: RunPlaces::Bucket("bucket".into()), limit: 100, ..RunFilter::default() }
}

async fn runs(destination: &TestDestination, filter: RunFilter) -> Result<Vec<Run>> {
    let page = destination.runs(&filter).await?;
    ensure!(page.has_attempts_table && page.next.is_none(), "{page:?}");
    Ok(page.runs)
}

fn outcomes(runs: &[Run]) -> Vec<(&str, &str)> {
    runs.iter().map(|run| (run.key.as_str(), run.outcome.name())).collect()
}

/// Removes the history, as if the ledger came from an earlier version.
async fn drop_history(engine: &impl Engine) -> Result<()> {
    engine.administrate("DROP TABLE {schema}.spillway_ledger_attempts").await
}

/// A load needs no history, and writes nothing to it.
pub(crate) async fn load_writes_nothing_to_the_history(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    assert_eq!(destination.runs(&filter()).await?.runs, []);
    load(&destination, &claim("a.csv"), &File::orders(3)).await?;
    let counted = engine.rows("SELECT COUNT(*) FROM spillway_ledger_attempts").await?;
    assert_eq!(counted, [[Some("0".to_owned())]]);
    let runs = runs(&destination, filter()).await?;
    let run = runs.first().context("no run")?;
    assert_eq!((run.outcome, run.rows_stored, run.size_bytes, run.attempts), (RunOutcome::Loaded, 3, 100, 1));
    assert_eq!((run.table.as_str(), run.started_at), ("orders", at("2026-11-20T12:00:00Z")));
    assert!(run.ended_at.is_some() && run.error_kind.is_none() && run.cost_usd.is_none(), "{run:?}");
    let source_id = claim("a.csv").source.id.clone();
    destination.record_move(&source_id, ObjectPlace::MovedTo("processed/a.csv"), Some(0.000_012)).await?;
    let runs = self::runs(&destination, filter()).await?;
    assert_eq!((runs[0].moved_to.as_deref(), runs[0].cost_usd), (Some("processed/a.csv"), Some(0.000_012)));

    drop_history(engine).await?;
    load(&destination, &claim("b.csv"), &File::orders(3)).await?;
    let page = destination.runs(&filter()).await?;
    assert_eq!((page.runs.len(), page.has_attempts_table), (2, false));
    Ok(())
}

/// Attempts that end in the same way on a day are counted in one row, which shows the latest of them.
pub(crate) async fn attempts_that_end_in_the_same_way_share_a_row(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    load(&destination, &claim("other.csv"), &File::orders(1)).await?;
    let source = claim("a.csv");
    for (time, kind) in [
        ("2026-11-19T23:59:59Z", ErrorKind::Throttled),
        ("2026-11-20T08:00:00Z", ErrorKind::Throttled),
        ("2026-11-20T08:15:00Z", ErrorKind::Throttled),
        ("2026-11-20T08:30:00.000001Z", ErrorKind::Throttled),
        ("2026-11-20T09:00:00Z", ErrorKind::Forbidden),
    ] {
        destination.record_attempt(&failed(&source, time, kind)).await?;
    }
    let runs = runs(&destination, RunFilter { key: Some("a.csv".into()), ..filter() }).await?;
    let found: Vec<_> = runs.iter().map(|run| (run.error_kind.as_deref(), run.attempts, run.started_at)).collect();
    assert_eq!(
        found,
        [
            (Some("forbidden"), 1, at("2026-11-20T09:00:00Z")),
            (Some("throttled"), 3, at("2026-11-20T08:30:00.000001Z")),
            (Some("throttled"), 1, at("2026-11-19T23:59:59Z")),
        ]
    );
    assert_eq!((runs[1].first_started_at, runs[0].first_started_at), (Some(at("2026-11-20T08:00:00Z")), None));
    assert_eq!(runs[1].reason.as_deref(), Some("throttled at 2026-11-20T08:30:00.000001Z"));
    assert_eq!((runs[1].elapsed_ms, runs[1].worker.as_str()), (Some(2000), "conformance"));
    Ok(())
}

/// The upkeep creates the table and the indexes of a ledger of an earlier version; a failed attempt creates the table.
pub(crate) async fn history_is_created_for_an_existing_ledger(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    destination.maintain_attempts(at("2026-01-01T00:00:00Z")).await?;
    ensure!(destination.probe().await?.history?.is_none(), "without a ledger, nothing is created");
    load(&destination, &claim("a.csv"), &File::orders(1)).await?;
    let complete = destination.probe().await?.history?.context("no ledger")?;
    ensure!(complete.exists && complete.missing_indexes.is_empty(), "{complete:?}");

    drop_history(engine).await?;
    destination.record_attempt(&failed(&claim("b.csv"), "2026-11-20T12:00:01Z", ErrorKind::Busy)).await?;
    assert_eq!(outcomes(&runs(&destination, filter()).await?), [("b.csv", "failed"), ("a.csv", "loaded")]);

    drop_history(engine).await?;
    for index in engine.ledger_indexes() {
        engine.administrate(&index).await?;
    }
    let probe = destination.probe().await?.history?.context("no ledger")?;
    ensure!(!probe.exists && probe.missing_indexes.len() == 3, "{probe:?}");
    destination.maintain_attempts(at("2026-01-01T00:00:00Z")).await?;
    let probe = destination.probe().await?.history?.context("no ledger")?;
    ensure!(probe.exists && probe.missing_indexes.is_empty(), "{probe:?}");
    assert_eq!(engine.index_count().await?, INDEXES);
    Ok(())
}

/// Without the right to create tables, loads and lists work, and a check names what is missing.
pub(crate) async fn history_needs_no_right_to_create(engine: &impl Engine) -> Result<()> {
    load(&engine.destination(), &claim("a.csv"), &File::orders(1)).await?;
    drop_history(engine).await?;
    engine.revoke_ddl().await?;
    // An open session of MySQL keeps the rights that it had.
    let destination = engine.destination();
    let attempt = failed(&claim("b.csv"), "2026-11-20T12:00:01Z", ErrorKind::Busy);
    let error = destination.record_attempt(&attempt).await.err().context("the history was created")?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    let error =
        destination.maintain_attempts(at("2026-01-01T00:00:00Z")).await.err().context("the history was created")?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    load(&destination, &claim("c.csv"), &File::orders(1)).await?;
    let page = destination.runs(&filter()).await?;
    assert_eq!((page.runs.len(), page.has_attempts_table), (2, false));
    let probe = destination.probe().await?.history?.context("no ledger")?;
    assert_eq!((probe.exists, probe.table.as_str()), (false, "spillway_ledger_attempts"));
    Ok(())
}

/// Only attempts before the time are deleted, and never a row of the ledger.
pub(crate) async fn old_attempts_are_deleted(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    load(&destination, &claim("a.csv"), &File::orders(1)).await?;
    for day in 10..15 {
        let attempt = failed(&claim("b.csv"), &format!("2026-11-{day}T12:00:00Z"), ErrorKind::Busy);
        destination.record_attempt(&attempt).await?;
    }
    assert_eq!(destination.maintain_attempts(at("2026-11-13T12:00:00Z")).await?.deleted, 3);
    assert_eq!(destination.maintain_attempts(at("2026-11-13T12:00:00Z")).await?.deleted, 0);
    let left: Vec<_> = runs(&destination, filter()).await?.iter().map(|run| run.outcome).collect();
    assert_eq!(left, [RunOutcome::Loaded, RunOutcome::Failed, RunOutcome::Failed]);
    Ok(())
}

/// Each filter selects the runs that it names. An outcome that the ledger has too is listed once.
pub(crate) async fn runs_are_filtered(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    load(&destination, &claim("up_loads/a.csv"), &File::orders(1)).await?;
    let fell_back = claim("upXloads/b.csv");
    let outcome = LedgerOutcome {
        state: LedgerState::FellBack,
        body_sha256: None,
        rows_parsed: 5,
        rows_stored: 5,
        rows_rejected: 0,
        reason: "table_mismatch: no column".into(),
    };
    destination.record(&fell_back, &outcome).await?;
    let attempt = AttemptRecord {
        outcome: RunOutcome::FellBack,
        ..failed(&fell_back, "2026-11-20T12:00:00Z", ErrorKind::TableMismatch)
    };
    destination.record_attempt(&attempt).await?;
    let busy = failed(&claim("up_loads/C.csv"), "2026-11-20T13:00:00Z", ErrorKind::Busy);
    destination.record_attempt(&AttemptRecord { table: "refunds".into(), ..busy }).await?;

    let keys = async |filter: RunFilter| -> Result<Vec<String>> {
        let mut keys: Vec<String> = runs(&destination, filter).await?.into_iter().map(|run| run.key).collect();
        keys.sort();
        Ok(keys)
    };
    assert_eq!(keys(filter()).await?, ["upXloads/b.csv", "up_loads/C.csv", "up_loads/a.csv"]);
    assert_eq!(keys(RunFilter { outcome: Some(RunOutcome::FellBack), ..filter() }).await?, ["upXloads/b.csv"]);
    assert_eq!(keys(RunFilter { outcome: Some(RunOutcome::Failed), ..filter() }).await?, ["up_loads/C.csv"]);
    assert_eq!(keys(RunFilter { outcome: Some(RunOutcome::Loaded), ..filter() }).await?, ["up_loads/a.csv"]);
    assert_eq!(keys(RunFilter { table: Some("refunds".into()), ..filter() }).await?, ["up_loads/C.csv"]);
    let prefix = |prefix: &str| RunFilter { key_prefix: Some(prefix.into()), ..filter() };
    assert_eq!(keys(prefix("up_loads/")).await?, ["up_loads/C.csv", "up_loads/a.csv"]);
    assert_eq!(keys(prefix("up_loads/c")).await?, Vec::<String>::new());
    let since = RunFilter { since: Some(at("2026-11-20T12:30:00Z")), ..filter() };
    assert_eq!(keys(since).await?, ["up_loads/C.csv"]);
    let until = RunFilter { until: Some(at("2026-11-20T12:30:00Z")), ..filter() };
    assert_eq!(keys(until).await?, ["upXloads/b.csv", "up_loads/a.csv"]);
    let id = fell_back.source.id.as_str()[..16].to_owned();
    assert_eq!(keys(RunFilter { id: Some(id), ..filter() }).await?, ["upXloads/b.csv"]);
    let other = RunFilter { places: RunPlaces::Bucket("other".into()), ..filter() };
    assert_eq!(keys(other).await?, Vec::<String>::new());
    let mut local = failed(&claim("/data/local.csv"), "2026-11-20T11:00:00Z", ErrorKind::FileBroken);
    local.source.object.bucket = "file://laptop".to_owned();
    destination.record_attempt(&local).await?;
    let mut expected = keys(filter()).await?;
    expected.insert(0, "/data/local.csv".to_owned());
    for places in [RunPlaces::BucketOrLocal("bucket".into()), RunPlaces::All] {
        assert_eq!(keys(RunFilter { places, ..filter() }).await?, expected);
    }
    let of_other = RunFilter { places: RunPlaces::BucketOrLocal("other".into()), ..filter() };
    assert_eq!(keys(of_other).await?, ["/data/local.csv"]);

    // The rows of a replay belong to the ledger row, and the history keeps the fallback.
    load(&destination, &fell_back, &File::orders(5)).await?;
    let of_file = runs(&destination, RunFilter { key: Some("upXloads/b.csv".into()), ..filter() }).await?;
    let mut found: Vec<_> = of_file.iter().map(|run| run.outcome.name()).collect();
    found.sort_unstable();
    assert_eq!(found, ["fell_back", "loaded"]);
    Ok(())
}

/// The pages of a list contain each run once, newest first.
pub(crate) async fn runs_are_listed_page_by_page(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    for name in ["a.csv", "b.csv", "c.csv"] {
        load(&destination, &claim(name), &File::orders(1)).await?;
    }
    for (index, name) in ["a.csv", "b.csv", "c.csv", "d.csv"].into_iter().enumerate() {
        // The first three started together with the loads of the same files.
        let time = ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z", "2026-11-20T12:00:01Z"];
        destination.record_attempt(&failed(&claim(name), time[index], ErrorKind::Busy)).await?;
    }
    let all = outcomes(&runs(&destination, filter()).await?).len();
    assert_eq!(all, 7);
    for limit in 1..8 {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = destination.runs(&RunFilter { limit, after, ..filter() }).await?;
            found.extend(page.runs);
            pages += 1;
            ensure!(pages <= 8, "the list does not end");
            let Some(next) = page.next else { break };
            after = RunCursor::parse(&next.to_text());
            ensure!(after.is_some(), "{}", next.to_text());
        }
        ensure!(found.is_sorted_by_key(|run| std::cmp::Reverse(run.started_at)), "not newest first: {found:?}");
        let mut names: Vec<_> = found.iter().map(|run| (run.key.clone(), run.outcome.name())).collect();
        names.sort();
        names.dedup();
        assert_eq!((found.len(), names.len()), (7, 7), "with {limit} runs per page");
    }
    Ok(())
}

/// A sync of a table that started at this time and had this watermark.
fn synced(table: &str, started_at: &str, watermark: Option<&str>) -> SyncState {
    SyncState {
        bucket: "bucket".into(),
        table: table.into(),
        watermark: watermark.map(at),
        started_at: at(started_at),
        ended_at: at(started_at) + jiff::SignedDuration::from_secs(2),
        files: 7,
        remaining: u64::from(watermark.is_none()),
        worker: "conformance".into(),
    }
}

/// Each bucket and table has one watermark. A sync without one, or with an earlier one, keeps it.
pub(crate) async fn watermark_never_moves_back(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    assert_eq!(destination.syncs("bucket").await?, []);
    let (first, last) = ("2026-11-20T08:00:00.000001Z", "2026-11-20T09:00:00Z");
    destination.record_sync(&synced("orders", first, None)).await?;
    assert_eq!(destination.syncs("bucket").await?, [synced("orders", first, None)]);
    for watermark in [Some(last), Some(first), None] {
        destination.record_sync(&synced("orders", last, watermark)).await?;
        let found = destination.syncs("bucket").await?;
        assert_eq!(found, [SyncState { watermark: Some(at(last)), ..synced("orders", last, watermark) }]);
    }
    destination.record_sync(&synced("refunds", first, Some(first))).await?;
    let tables: Vec<String> = destination.syncs("bucket").await?.into_iter().map(|sync| sync.table).collect();
    assert_eq!(tables, ["orders", "refunds"]);
    assert_eq!(destination.syncs("other").await?, []);

    // Two workers create the row of a table at once.
    let (one, other) = (engine.destination(), engine.destination());
    let (earlier, later) = (synced("visits", first, Some(first)), synced("visits", last, Some(last)));
    let (one, other) = tokio::join!(one.record_sync(&earlier), other.record_sync(&later));
    one.and(other)?;
    let visits = destination.syncs("bucket").await?.pop().context("no sync of visits")?;
    assert_eq!((visits.table.as_str(), visits.watermark), ("visits", Some(at(last))));
    Ok(())
}

/// Without the right to create tables, the first sync cannot keep its watermark. Later ones need no such right.
pub(crate) async fn watermarks_need_a_right_to_create_only_once(engine: &impl Engine) -> Result<()> {
    let watermark = Some("2026-11-20T08:00:00Z");
    let sync = synced("orders", "2026-11-20T08:00:00Z", watermark);
    engine.destination().record_sync(&sync).await?;
    engine.revoke_ddl().await?;
    let destination = engine.destination();
    let next = synced("orders", "2026-11-20T09:00:00Z", Some("2026-11-20T09:00:00Z"));
    destination.record_sync(&next).await?;
    assert_eq!(destination.syncs("bucket").await?, [next]);
    engine.administrate("DROP TABLE {schema}.spillway_ledger_syncs").await?;
    assert_eq!(destination.syncs("bucket").await?, []);
    let error = destination.record_sync(&sync).await.err().context("the table was created")?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    Ok(())
}
