//! The retry policy of `exactly-once.md`, stated here again, for each step of a load that can fail.

use std::time::Duration;

use rstest::rstest;

use super::{CommitFault, Fixture, KEY, Reading, Step};
use crate::deadline::Deadline;
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::report::Outcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    FallsBack,
    Rejected,
    /// The file waits in place, and the next attempt starts again.
    Waits,
}

/// The outcome of a file whose load fails with this kind in every try.
fn expected(kind: ErrorKind) -> Expected {
    match kind {
        ErrorKind::Failover
        | ErrorKind::Capacity
        | ErrorKind::Unreachable
        | ErrorKind::TlsRefused
        | ErrorKind::Credentials
        | ErrorKind::Privilege
        | ErrorKind::TableMismatch
        | ErrorKind::DataRefused
        | ErrorKind::ExportRefused
        | ErrorKind::DatabaseFull
        | ErrorKind::Internal
        | ErrorKind::SecretInvalid => Expected::FallsBack,
        ErrorKind::FileBroken | ErrorKind::Poison | ErrorKind::KeyRefused => Expected::Rejected,
        ErrorKind::Conflict
        | ErrorKind::CommitUnknown
        | ErrorKind::SourceChanged
        | ErrorKind::SourceMissing
        | ErrorKind::SourceArchived
        | ErrorKind::DestinationTaken
        | ErrorKind::Forbidden
        | ErrorKind::Throttled
        | ErrorKind::Service
        | ErrorKind::Busy
        | ErrorKind::LeaseLost
        | ErrorKind::Deadline
        | ErrorKind::Interrupted
        | ErrorKind::Settings
        | ErrorKind::EventInvalid => Expected::Waits,
    }
}

#[rstest]
#[tokio::test]
async fn every_error_kind_has_its_outcome(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(0, 1)] half: usize,
) {
    for kind in ErrorKind::ALL.iter().skip(half).step_by(2) {
        assert_outcome(reading, Step::Write, *kind).await;
    }
}

/// One kind for each combination of retry and outcome.
#[rstest]
#[tokio::test]
async fn outcome_does_not_depend_on_the_step_that_failed(
    #[values(Step::Open, Step::Begin, Step::Finalize, Step::Commit)] step: Step,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(
        ErrorKind::Conflict,
        ErrorKind::Unreachable,
        ErrorKind::Credentials,
        ErrorKind::DataRefused,
        ErrorKind::FileBroken,
        ErrorKind::Service
    )]
    kind: ErrorKind,
) {
    assert_outcome(reading, step, kind).await;
}

async fn assert_outcome(reading: Reading, step: Step, kind: ErrorKind) {
    let fixture = Fixture::new(reading);
    fixture.database.fail(step, kind);
    let result = fixture.process().await;
    // A database that cannot be opened cannot record the outcome either.
    let recorded = |state| (step != Step::Open).then_some(state);
    match expected(kind) {
        Expected::FallsBack => {
            let report = result.unwrap();
            assert_eq!(report.outcome, Outcome::FellBack, "{kind}");
            assert_eq!((report.rows_parsed, report.rows_stored), (2, 2), "{kind}");
            assert!(report.reason.unwrap().starts_with(kind.name()), "{kind}");
            fixture.assert_fell_back();
            assert_eq!(fixture.fallback_rows(), ["1,one", "2,two"], "{kind}");
            assert_eq!(fixture.ledger_state(), recorded(LedgerState::FellBack), "{kind}");
        }
        Expected::Rejected => {
            assert_eq!(result.unwrap().outcome, Outcome::Rejected, "{kind}");
            fixture.assert_waits("failed reason");
            assert_eq!(fixture.ledger_state(), recorded(LedgerState::Rejected), "{kind}");
        }
        Expected::Waits => {
            assert_eq!(result.unwrap_err().kind(), kind);
            // The lease says that COMMIT may have been sent, so it stays for the next attempt.
            let objects = if step == Step::Commit { "lease upload" } else { "upload" };
            fixture.assert_waits(objects);
            assert_eq!(fixture.ledger_state(), None, "{kind}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn file_that_waits_is_loaded_once_by_the_next_attempt(
    #[values(Step::Write, Step::Commit)] step: Step,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(ErrorKind::Conflict, ErrorKind::Service)] kind: ErrorKind,
) {
    let fixture = Fixture::new(reading);
    fixture.database.fail(step, kind);
    fixture.process().await.unwrap_err();
    fixture.database.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

#[rstest]
#[case(ErrorKind::Internal, true)]
#[case(ErrorKind::TlsRefused, true)]
#[case(ErrorKind::SecretInvalid, true)]
#[case(ErrorKind::Unreachable, false)]
#[case(ErrorKind::DataRefused, false)]
#[tokio::test]
async fn bug_or_unsafe_connection_needs_attention(#[case] kind: ErrorKind, #[case] needs_attention: bool) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, kind);
    assert_eq!(fixture.process().await.unwrap().needs_attention, needs_attention);
}

/// The report of the first attempt is lost, because Glue fails after the rows were written.
#[rstest]
#[case(ErrorKind::TlsRefused, true)]
#[case(ErrorKind::Unreachable, false)]
#[tokio::test]
async fn attempt_that_finds_a_fallback_reports_its_attention(#[case] kind: ErrorKind, #[case] needs_attention: bool) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, kind);
    fixture.aws.fail("CreatePartition", "spare");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    fixture.aws.heal();
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.needs_attention), (Outcome::FellBack, needs_attention));
    fixture.assert_fell_back();
}

/// Conflicts are retried six times; an error that a retry cannot change is not retried. A single-pass load is one try
/// before those.
#[rstest]
#[case(ErrorKind::Conflict, Reading::Buffered, 6)]
#[case(ErrorKind::Conflict, Reading::SinglePass, 7)]
#[case(ErrorKind::TableMismatch, Reading::Buffered, 1)]
#[case(ErrorKind::TableMismatch, Reading::SinglePass, 1)]
#[case(ErrorKind::Busy, Reading::Buffered, 1)]
#[tokio::test]
async fn number_of_tries_depends_on_the_kind(#[case] kind: ErrorKind, #[case] reading: Reading, #[case] tries: usize) {
    let fixture = Fixture::new(reading).with_retry_budget(Duration::from_secs(60));
    fixture.database.fail(Step::Begin, kind);
    let _ = fixture.process().await;
    assert_eq!(fixture.database.calls(Step::Begin), tries);
}

#[rstest]
#[tokio::test]
async fn outage_within_the_budget_does_not_fall_back(
    #[values(
        ErrorKind::Failover,
        ErrorKind::Capacity,
        ErrorKind::Unreachable,
        ErrorKind::Credentials,
        ErrorKind::Conflict
    )]
    kind: ErrorKind,
    #[values(Step::Begin, Step::Commit)] step: Step,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading).with_retry_budget(Duration::from_secs(60));
    fixture.database.fail_times(step, kind, 3);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

#[tokio::test]
async fn outage_beyond_the_budget_falls_back() {
    let fixture = Fixture::new(Reading::Buffered).with_retry_budget(Duration::from_millis(20));
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    assert!(fixture.database.calls(Step::Begin) > 1);
}

/// Retries end early enough to write the fallback before the deadline.
#[tokio::test]
async fn outage_falls_back_before_the_deadline() {
    let fixture = Fixture::new(Reading::Buffered).with_retry_budget(Duration::from_secs(60));
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    // The deadline reserves three seconds. Half of the rest is left for the fallback.
    let deadline = Deadline::within(Duration::from_secs(3 + 2));
    let report = fixture.process_until(KEY, deadline).await.unwrap();
    assert_eq!(report.outcome, Outcome::FellBack);
    fixture.assert_fell_back();
}

#[rstest]
#[case(ErrorKind::Credentials, 1)]
#[case(ErrorKind::Unreachable, 0)]
#[tokio::test]
async fn only_refused_credentials_are_read_again(#[case] kind: ErrorKind, #[case] fresh_opens: usize) {
    let fixture = Fixture::new(Reading::Buffered).with_retry_budget(Duration::from_secs(60));
    fixture.database.fail_times(Step::Begin, kind, 1);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.fresh_opens(), fresh_opens);
}

#[tokio::test]
async fn rows_that_the_database_loses_are_not_committed() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.lose_a_row();
    let report = fixture.process().await.unwrap();
    assert!(report.needs_attention && report.reason.unwrap().starts_with(ErrorKind::Internal.name()));
    fixture.assert_fell_back();
}

#[rstest]
#[tokio::test]
async fn move_that_the_ledger_cannot_record_changes_nothing_else(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    fixture.database.fail(Step::RecordMove, ErrorKind::Unreachable);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

#[tokio::test]
async fn commit_that_did_not_take_effect_is_retried() {
    let fixture = Fixture::new(Reading::Buffered).with_retry_budget(Duration::from_secs(60));
    fixture.database.lose_commit(CommitFault::LostBeforeCommit);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.calls(Step::Commit), 2);
    fixture.assert_loaded();
}
