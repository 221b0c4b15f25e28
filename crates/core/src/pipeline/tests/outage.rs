//! Outages that the process knows of from another file: one try instead of a wait, and never another outcome.

use std::time::{Duration, Instant};

use rstest::rstest;

use super::{CommitFault, Fixture, KEY, Reading, Step};
use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::memory_aws::BUCKET;
use crate::object::ObjectRef;
use crate::pipeline::{Context, process};
use crate::report::Outcome;

/// A later file of the same process.
const NEXT: &str = "uploads/b.csv";
/// Longer than any test may wait.
const LONG: Duration = Duration::from_secs(60);

/// Two files, and a process that has proved an outage of this kind. The database is still down.
async fn known_outage(reading: Reading, kind: ErrorKind) -> (Fixture, Context) {
    let mut fixture = Fixture::new(reading);
    fixture.database.fail(Step::Begin, kind);
    let mut context = fixture.context();
    assert_eq!(fixture.process_in(&context, KEY).await.unwrap().outcome, Outcome::FellBack);
    assert_eq!(context.outage.kind(), Some(kind));
    fixture.aws.put(NEXT, "id,note\n3,three\n");
    fixture.settings.database.retry_budget = LONG;
    context.settings.database.retry_budget = LONG;
    (fixture, context)
}

#[rstest]
#[tokio::test]
async fn later_file_is_tried_once_and_falls_back(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(ErrorKind::Failover, ErrorKind::Capacity, ErrorKind::Unreachable, ErrorKind::Credentials)] kind: ErrorKind,
) {
    let (fixture, context) = known_outage(reading, kind).await;
    let (begins, started) = (fixture.database.calls(Step::Begin), Instant::now());
    let report = fixture.process_in(&context, NEXT).await.unwrap();
    assert_eq!(report.outcome, Outcome::FellBack);
    assert!(report.reason.unwrap().starts_with(kind.name()));
    assert_eq!(fixture.database.calls(Step::Begin), begins + 1);
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    assert_eq!(fixture.fallback_rows().len(), 3);
}

#[rstest]
#[tokio::test]
async fn first_try_loads_the_file_once_the_database_is_back(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let (fixture, context) = known_outage(reading, ErrorKind::Unreachable).await;
    fixture.database.heal();
    assert_eq!(fixture.process_in(&context, NEXT).await.unwrap().outcome, Outcome::Loaded);
    assert_eq!((context.outage.kind(), fixture.database.rows().len()), (None, 1));
}

/// After the end of the outage a file waits again.
#[rstest]
#[tokio::test]
async fn response_of_the_database_ends_the_outage(
    #[values(ErrorKind::TableMismatch, ErrorKind::Conflict)] response: ErrorKind,
) {
    let (fixture, context) = known_outage(Reading::Buffered, ErrorKind::Unreachable).await;
    fixture.database.heal();
    fixture.database.fail(Step::Begin, response);
    let outcome = fixture.process_in(&context, NEXT).await.map(|report| report.outcome);
    match response {
        ErrorKind::Conflict => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict),
        _ => assert_eq!(outcome.unwrap(), Outcome::FellBack),
    }
    assert_eq!(context.outage.kind(), None);
    fixture.database.heal();
    fixture.database.fail_times(Step::Begin, ErrorKind::Unreachable, 3);
    fixture.aws.put("uploads/c.csv", "id,note\n4,four\n");
    assert_eq!(fixture.process_in(&context, "uploads/c.csv").await.unwrap().outcome, Outcome::Loaded);
}

/// The connection is lost after the transaction began, so the database is reachable and the file waits.
#[rstest]
#[tokio::test]
async fn failure_after_begin_is_retried(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let (fixture, context) = known_outage(reading, ErrorKind::Unreachable).await;
    fixture.database.heal();
    fixture.database.fail_times(Step::Write, ErrorKind::Failover, 3);
    assert_eq!(fixture.process_in(&context, NEXT).await.unwrap().outcome, Outcome::Loaded);
}

#[rstest]
#[tokio::test]
async fn commit_in_doubt_of_an_earlier_worker_still_waits(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let (fixture, context) = known_outage(reading, ErrorKind::Unreachable).await;
    fixture.aws.put(KEY, "id,note\n5,five\n");
    fixture.leave_lease(true, false).await;
    fixture.database.fail(Step::LookUp, ErrorKind::Unreachable);
    assert_eq!(fixture.process_in(&context, KEY).await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!((fixture.lease_notes(), fixture.fallback_rows().len()), (Some((true, false)), 2));
}

#[tokio::test]
async fn unknown_result_of_commit_stays_in_doubt() {
    let (fixture, mut context) = known_outage(Reading::Buffered, ErrorKind::Unreachable).await;
    context.settings.database.retry_budget = Duration::from_millis(5);
    fixture.database.heal();
    fixture.database.lose_commit(CommitFault::LostBeforeCommit);
    fixture.database.fail(Step::LookUp, ErrorKind::Unreachable);
    assert_eq!(fixture.process_in(&context, NEXT).await.unwrap_err().kind(), ErrorKind::CommitUnknown);
    assert_eq!((fixture.lease_notes(), context.outage.kind()), (Some((true, false)), None));
}

/// The password may have been rotated since the outage was proved.
#[rstest]
#[case(ErrorKind::Credentials, 1)]
#[case(ErrorKind::Unreachable, 0)]
#[tokio::test]
async fn first_try_reads_the_secret_again_after_rejected_credentials(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] kind: ErrorKind,
    #[case] fresh_opens: usize,
) {
    let (fixture, context) = known_outage(reading, kind).await;
    fixture.database.heal();
    let before = fixture.database.fresh_opens();
    assert_eq!(fixture.process_in(&context, NEXT).await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.fresh_opens() - before, fresh_opens);
}

/// The password was rotated while the database was down, so the first try finds the old one.
#[rstest]
#[tokio::test]
async fn password_that_was_rotated_during_the_outage_is_read_again(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let (fixture, context) = known_outage(reading, ErrorKind::Unreachable).await;
    fixture.database.heal();
    fixture.database.fail_times(Step::Begin, ErrorKind::Credentials, 2);
    assert_eq!(fixture.process_in(&context, NEXT).await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(context.outage.kind(), None);
}

#[rstest]
#[case::not_an_outage(ErrorKind::TableMismatch)]
#[case::no_retry(ErrorKind::TlsRefused)]
#[case::busy(ErrorKind::Conflict)]
#[case::not_the_database(ErrorKind::Service)]
#[tokio::test]
async fn other_failures_prove_no_outage(#[case] kind: ErrorKind) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, kind);
    let context = fixture.context();
    let _ = fixture.process_in(&context, KEY).await;
    assert_eq!(context.outage.kind(), None);
}

/// Little time is left, so the file falls back early. The next invocation has time to wait.
#[tokio::test]
async fn wait_that_the_deadline_shortens_proves_no_outage() {
    let fixture = Fixture::new(Reading::Buffered).with_retry_budget(LONG);
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    let context = fixture.context();
    let deadline = Deadline::within(Duration::from_secs(3 + 1));
    let report = process(&context, &ObjectRef::new(BUCKET, KEY), deadline).await.unwrap();
    assert_eq!((report.outcome, context.outage.kind()), (Outcome::FellBack, None));
}

#[tokio::test]
async fn file_that_waits_stops_waiting_when_another_file_proves_the_outage() {
    let fixture = Fixture::new(Reading::Buffered).with_retry_budget(LONG);
    let context = fixture.context();
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    let outage = context.outage.clone();
    let started = Instant::now();
    let prove = async {
        while fixture.database.calls(Step::Begin) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        outage.prove(ErrorKind::Unreachable);
    };
    let (report, ()) = tokio::join!(fixture.process_in(&context, KEY), prove);
    assert_eq!(report.unwrap().outcome, Outcome::FellBack);
    assert!(fixture.database.calls(Step::Begin) > 1 && started.elapsed() < LONG / 4);
}

#[tokio::test]
async fn known_outage_does_not_stop_a_replay_of_a_database_that_is_back() {
    let (fixture, context) = known_outage(Reading::Buffered, ErrorKind::Unreachable).await;
    fixture.database.heal();
    let reports = fixture.replay_in(&context).await;
    assert_eq!(reports[0].as_ref().unwrap().outcome, Outcome::Replayed);
    assert_eq!(context.outage.kind(), None);
}
