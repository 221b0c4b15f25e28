//! COMMIT with a known result, COMMIT without a response, and COMMIT that is never sent.

use std::time::Duration;

use rstest::rstest;
use tokio::sync::watch;

use super::{CommitFault, Fixture, KEY, Reading, Step};
use crate::deadline::Deadline;
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::report::Outcome;

#[rstest]
#[tokio::test]
async fn ledger_that_has_the_rows_proves_a_commit_without_response(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    fixture.database.lose_commit(CommitFault::LostAfterCommit);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored), (Outcome::Loaded, 2));
    assert_eq!((fixture.database.calls(Step::LookUp), fixture.database.calls(Step::Commit)), (1, 1));
    fixture.assert_loaded();
}

/// COMMIT had no effect, and a worker that took over found that a newer file had replaced the table.
#[tokio::test]
async fn file_that_another_worker_found_superseded_is_not_reported_as_loaded() {
    let fixture = Fixture::new(Reading::Buffered);
    let (database, source) = (fixture.database.clone(), fixture.version(KEY).await.id);
    fixture.database.lose_commit(CommitFault::LostBeforeCommit);
    fixture.database.before(Step::LookUp, move || database.put_ledger(&source, LedgerState::Superseded, 0));
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, fixture.database.rows().len()), (Outcome::Superseded, 0));
}

/// The ledger is locked while the server still works on the lost COMMIT.
#[rstest]
#[tokio::test]
async fn ledger_is_read_until_it_responds(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let fixture = Fixture::new(reading).with_retry_budget(Duration::from_secs(60));
    fixture.database.lose_commit(CommitFault::LostAfterCommit);
    fixture.database.fail_times(Step::LookUp, ErrorKind::Conflict, 3);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.calls(Step::LookUp), 4);
    fixture.assert_loaded();
}

#[rstest]
#[tokio::test]
async fn commit_that_provably_had_no_effect_falls_back_after_the_budget(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    for _ in 0..100 {
        fixture.database.lose_commit(CommitFault::LostBeforeCommit);
    }
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::FellBack);
    fixture.assert_fell_back();
    // The ledger is read after each COMMIT, so none is in doubt when the rows are written to the fallback.
    assert_eq!(fixture.database.calls(Step::LookUp), fixture.database.calls(Step::Commit));
}

#[rstest]
#[case(CommitFault::LostAfterCommit, 2)]
#[case(CommitFault::LostBeforeCommit, 0)]
#[tokio::test]
async fn commit_in_doubt_never_falls_back(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(ErrorKind::Unreachable, ErrorKind::Conflict)] look_up: ErrorKind,
    #[case] fault: CommitFault,
    #[case] rows: usize,
) {
    let fixture = Fixture::new(reading);
    fixture.database.lose_commit(fault);
    fixture.database.fail(Step::LookUp, look_up);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::CommitUnknown);
    assert_eq!((fixture.objects().as_str(), fixture.lease_notes()), ("lease upload", Some((true, false))));
    assert_eq!(fixture.database.rows().len(), rows);

    // The next attempt finds the database down: it may not fall back either.
    fixture.database.heal();
    fixture.database.stop();
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!((fixture.objects().as_str(), fixture.lease_notes()), ("lease upload", Some((true, false))));

    fixture.database.heal();
    let expected = if rows > 0 { Outcome::AlreadyLoaded } else { Outcome::Loaded };
    assert_eq!(fixture.process().await.unwrap().outcome, expected);
    fixture.assert_loaded();
}

#[rstest]
#[tokio::test]
async fn worker_that_lost_its_lease_does_not_commit(
    #[values(Step::Begin, Step::Write, Step::Finalize)] before: Step,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    fixture.database.before(before, fixture.steal_lease());
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(fixture.database.calls(Step::Commit), 0);
    // The lease is the successor's.
    fixture.assert_waits("lease upload");
}

#[rstest]
#[tokio::test]
async fn worker_that_cannot_write_its_lease_does_not_commit(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    let aws = fixture.aws.clone();
    fixture.database.before(Step::Finalize, move || aws.fail_with("PutObject", "lease/", 403, "AccessDenied"));
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(fixture.database.calls(Step::Commit), 0);
    fixture.assert_waits("upload");
}

/// S3 fails until the lease has expired, and another worker may hold it. The worker does not wait for S3 any longer.
#[rstest]
#[tokio::test]
async fn worker_that_cannot_renew_its_lease_in_time_does_not_commit(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading).with_lease(Duration::from_secs(1));
    let aws = fixture.aws.clone();
    fixture.database.before(Step::Finalize, move || aws.fail("PutObject", "lease/"));
    let result = tokio::time::timeout(Duration::from_secs(30), fixture.process()).await;
    assert_eq!(result.expect("the worker waits no longer").unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(fixture.database.calls(Step::Commit), 0);
    fixture.assert_waits("upload");
}

/// The lease notes the COMMIT before it is sent, because the worker may die at any later moment.
#[rstest]
#[case(Step::Write, "upload", None)]
#[case(Step::Commit, "lease upload", Some((true, false)))]
#[tokio::test]
async fn interrupted_load_leaves_its_lease_only_after_commit_was_sent(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] step: Step,
    #[case] objects: &str,
    #[case] notes: Option<(bool, bool)>,
) {
    let fixture = Fixture::new(reading);
    fixture.database.hang_at(step);
    let (sender, receiver) = watch::channel(false);
    fixture.database.before(step, move || sender.send(true).unwrap());
    let result = fixture.process_until(KEY, Deadline::until_stopped(receiver)).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    fixture.assert_waits(objects);
    assert_eq!(fixture.lease_notes(), notes);

    fixture.database.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

/// With an earlier COMMIT in doubt the ledger decides. `None` means that the ledger cannot be read.
#[rstest]
#[case::loaded(Some(LedgerState::Loaded), "processed", Some(Outcome::AlreadyLoaded))]
#[case::superseded(Some(LedgerState::Superseded), "processed", Some(Outcome::Superseded))]
#[case::fell_back(Some(LedgerState::FellBack), "failed manifest fallback", Some(Outcome::FellBack))]
#[case::cannot_say(None, "lease upload", None)]
#[tokio::test]
async fn earlier_commit_in_doubt_is_looked_up_before_the_fallback(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] ledger: Option<LedgerState>,
    #[case] objects: &str,
    #[case] outcome: Option<Outcome>,
) {
    let fixture = Fixture::new(reading);
    fixture.leave_lease(true, false).await;
    match ledger {
        Some(state) => fixture.database.put_ledger(&fixture.version(KEY).await.id, state, 2),
        None => fixture.database.fail(Step::LookUp, ErrorKind::Unreachable),
    }
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    let result = fixture.process().await;
    assert_eq!(result.as_ref().ok().map(|report| report.outcome), outcome, "{result:?}");
    assert_eq!(fixture.objects(), objects);
    assert_eq!(fixture.database.calls(Step::LookUp), 1);
}

#[tokio::test]
async fn fallback_without_a_commit_in_doubt_does_not_read_the_ledger() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.leave_lease(false, false).await;
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    assert_eq!(fixture.database.calls(Step::LookUp), 0);
}
