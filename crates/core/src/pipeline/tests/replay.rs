//! Replay of fallback objects: their rows are loaded exactly once.

use rstest::rstest;

use super::{CommitFault, Fixture, KEY, Reading, Step};
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::object::ObjectVersion;
use crate::pattern::TablePatterns;
use crate::pipeline::{AfterLoad, TableEntry, TableRules, Tables};
use crate::replay::Replay;
use crate::report::Outcome;
use crate::route::TableRoutes;
use spillway_formats::schema::fallback::FallbackFormat;

/// Without `TABLE_PATTERN`, an entry of the table settings can still name another table.
#[tokio::test]
async fn replay_with_table_settings_covers_every_table() {
    let (mut fixture, _) = fell_back().await;
    let routes = TableRoutes { patterns: TablePatterns::default(), default: Some("other".into()) };
    fixture.settings.database.tables = Tables::fixed(TableRules::of_routes(routes.clone()));
    assert!(fixture.replay().await.is_empty());
    let table = "orders".into();
    let config = fixture.settings.table_defaults(&table);
    let entries = vec![TableEntry { patterns: TablePatterns::default(), name: Some(table), config }];
    fixture.settings.database.tables = Tables::fixed(TableRules { routes, entries });
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_eq!(fixture.database.rows(), ["1,one", "2,two"]);
}

/// A file that fell back while the database was down. Now the database is up.
async fn fell_back() -> (Fixture, ObjectVersion) {
    let fixture = Fixture::new(Reading::Buffered);
    let version = fixture.version(KEY).await;
    fixture.database.stop();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    fixture.database.heal();
    (fixture, version)
}

/// Replays, and returns the only outcome or error kind.
async fn replay(fixture: &Fixture) -> Result<Outcome, ErrorKind> {
    let mut results = fixture.replay().await;
    assert_eq!(results.len(), 1);
    results.remove(0).map(|report| report.outcome).map_err(|error| error.kind())
}

fn assert_restored(fixture: &Fixture) {
    fixture.assert_loaded();
    assert_eq!(fixture.aws.partitions(), 0);
}

#[rstest]
#[tokio::test]
async fn replayed_rows_leave_the_fallback_and_the_object_moves(
    #[values(FallbackFormat::Csv, FallbackFormat::Parquet)] format: FallbackFormat,
) {
    let (fixture, _) = fell_back().await;
    if format == FallbackFormat::Csv {
        fixture.rewrite_fallback_as_csv();
    }
    let mut reports = fixture.replay().await;
    let report = reports.remove(0).unwrap();
    assert_eq!((report.outcome, report.rows_parsed, report.rows_stored), (Outcome::Replayed, 2, 2));
    assert!(report.moved_to.unwrap().starts_with("processed/"));
    assert_restored(&fixture);
    assert!(fixture.replay().await.is_empty());
}

#[rstest]
#[case(Step::Begin)]
#[case(Step::Finalize)]
#[tokio::test]
async fn replay_that_the_database_rejects_keeps_the_fallback(
    #[values(ErrorKind::Unreachable, ErrorKind::DataRefused)] kind: ErrorKind,
    #[case] step: Step,
) {
    let (fixture, _) = fell_back().await;
    fixture.database.fail(step, kind);
    assert_eq!(replay(&fixture).await, Err(kind));
    fixture.assert_fell_back();

    fixture.database.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_restored(&fixture);
}

#[rstest]
#[case(CommitFault::LostAfterCommit)]
#[case(CommitFault::LostBeforeCommit)]
#[tokio::test]
async fn replay_with_a_commit_in_doubt_keeps_the_fallback(#[case] fault: CommitFault) {
    let (fixture, _) = fell_back().await;
    fixture.database.lose_commit(fault);
    fixture.database.fail(Step::LookUp, ErrorKind::Privilege);
    assert_eq!(replay(&fixture).await, Err(ErrorKind::CommitUnknown));
    assert_eq!(fixture.objects(), "failed manifest fallback lease");

    fixture.database.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_restored(&fixture);
}

#[rstest]
#[case("CopyObject", "processed/", "failed manifest fallback lease")]
#[case("DeleteObject", "failed/", "failed manifest fallback lease processed")]
#[case("DeleteObject", "fallback/orders/", "manifest fallback lease processed")]
#[case("DeletePartition", "spare", "manifest lease processed")]
#[case("DeleteObject", "_manifests/", "manifest lease processed")]
#[tokio::test]
async fn move_or_removal_that_fails_is_completed_by_the_next_replay(
    #[case] operation: &'static str,
    #[case] key_part: &str,
    #[case] objects: &str,
) {
    let (fixture, _) = fell_back().await;
    fixture.aws.fail(operation, key_part);
    assert_eq!(replay(&fixture).await, Err(ErrorKind::Service));
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), (objects, 2));

    fixture.aws.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_restored(&fixture);
}

#[tokio::test]
async fn manifest_without_an_object_and_without_loaded_rows_is_skipped() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.fail("CreateMultipartUpload", "fallback/");
    fixture.process().await.unwrap_err();
    fixture.aws.heal();
    fixture.database.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Skipped));
    fixture.assert_waits("manifest upload");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows().len(), 2);
}

#[tokio::test]
async fn manifest_without_an_object_waits_while_the_ledger_cannot_be_read() {
    let (fixture, _) = fell_back().await;
    let object = fixture.aws.keys().into_iter().find(|key| key.starts_with("fallback/orders/")).unwrap();
    fixture.aws.delete(&object);
    fixture.database.fail(Step::LookUp, ErrorKind::Privilege);
    assert_eq!(replay(&fixture).await, Err(ErrorKind::Privilege));
    assert_eq!(fixture.objects(), "failed manifest");
}

#[tokio::test]
async fn replay_waits_for_an_unavailable_database_without_an_error() {
    let (fixture, _) = fell_back().await;
    fixture.database.stop();
    let Replay::Postponed(postponed) = fixture.try_replay().await else { panic!("the replay was not postponed") };
    assert_eq!((postponed.files, postponed.rows), (1, 2));
    assert!(postponed.reason.starts_with("unreachable: "), "{}", postponed.reason);
    assert_eq!(fixture.objects(), "failed manifest fallback");
    fixture.database.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
}

#[tokio::test]
async fn rows_that_the_ledger_has_are_not_loaded_again() {
    let (fixture, version) = fell_back().await;
    fixture.database.put_ledger(&version.id, LedgerState::Loaded, 2);
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_eq!((fixture.database.calls(Step::Write), fixture.objects().as_str()), (0, "processed"));
}

#[tokio::test]
async fn fallback_with_a_live_lease_is_left_to_its_holder() {
    let (fixture, version) = fell_back().await;
    fixture.put_live_lease(&version);
    assert_eq!(replay(&fixture).await, Err(ErrorKind::Busy));
    assert_eq!(fixture.objects(), "failed manifest fallback lease");
}

#[tokio::test]
async fn worker_that_lost_its_lease_does_not_commit_a_replay() {
    let (fixture, _) = fell_back().await;
    fixture.database.before(Step::Write, fixture.steal_lease());
    assert_eq!(replay(&fixture).await, Err(ErrorKind::LeaseLost));
    assert_eq!(fixture.database.calls(Step::Commit), 0);
    assert_eq!(fixture.objects(), "failed manifest fallback lease");
}

#[tokio::test]
async fn deleted_object_does_not_stop_the_replay() {
    let (fixture, _) = fell_back().await;
    let key = fixture.aws.keys().into_iter().find(|key| key.starts_with("failed/")).unwrap();
    fixture.aws.delete(&key);
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("", 2));
}

/// A worker died after it had written the fallback object, and before or within the move. If the object stayed, a later event could
/// write its rows to the fallback again while the database is down.
#[rstest]
#[case::before_the_move("CopyObject", AfterLoad::Move, "processed")]
#[case::within_the_move("DeleteObject", AfterLoad::Move, "processed")]
#[case::before_the_move_and_deleted("CopyObject", AfterLoad::Delete, "")]
#[case::within_the_move_and_deleted("DeleteObject", AfterLoad::Delete, "")]
#[tokio::test]
async fn replay_moves_the_object_that_a_dead_worker_has_left(
    #[case] failing: &'static str,
    #[case] after_load: AfterLoad,
    #[case] objects: &str,
) {
    let mut fixture = Fixture::new(Reading::Buffered);
    fixture.settings.after_load = after_load;
    fixture.database.stop();
    fixture.aws.fail(failing, if failing == "CopyObject" { "failed/" } else { "uploads/" });
    fixture.process().await.unwrap_err();
    assert!(fixture.objects().ends_with("upload"), "{}", fixture.objects());
    fixture.aws.heal();
    fixture.database.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), (objects, 2));
}

/// The user has uploaded another file with the same key after the worker died.
#[tokio::test]
async fn replay_leaves_a_newer_object_in_place() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.stop();
    fixture.aws.fail("CopyObject", "failed/");
    fixture.process().await.unwrap_err();
    fixture.aws.heal();
    fixture.aws.put(KEY, "id,note\n3,three\n");
    fixture.database.heal();
    assert_eq!(replay(&fixture).await, Ok(Outcome::Replayed));
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("upload", 2));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows().len(), 3);
}

#[tokio::test]
async fn fallback_that_fails_does_not_stop_the_others() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    fixture.database.stop();
    fixture.process().await.unwrap();
    fixture.process_key("uploads/b.csv").await.unwrap();
    fixture.database.heal();
    fixture.database.fail_times(Step::Begin, ErrorKind::TableMismatch, 1);
    let results = fixture.replay().await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
    // The partition stays as long as it has an object.
    assert_eq!(fixture.aws.partitions(), 1);
    assert!(fixture.replay().await.iter().all(Result::is_ok));
    assert_eq!((fixture.database.rows().len(), fixture.aws.partitions()), (3, 0));
    assert_eq!(fixture.objects(), "processed processed");
}

/// Replay deletes the object that a manifest names, so it does not follow a manifest that another program wrote.
#[rstest]
#[case::other_object("fallback/", "processed/")]
#[case::other_source("/dt=2026-11-20/", "/dt=2026-11-20/x")]
#[case::ledger("\"target_table\": \"orders\"", "\"target_table\": \"spillway_ledger\"")]
#[tokio::test]
async fn forged_manifest_is_not_replayed(#[case] from: &str, #[case] to: &str) {
    let (mut fixture, _) = fell_back().await;
    // With patterns, a replay selects the manifests of every table.
    let patterns = TablePatterns::parse("uploads/{table}/**").unwrap();
    let routes = TableRoutes { patterns, default: Some("orders".into()) };
    fixture.settings.database.tables = Tables::fixed(TableRules::of_routes(routes));
    let key = fixture.aws.keys().into_iter().find(|key| key.contains("_manifests/")).unwrap();
    let text = String::from_utf8(fixture.aws.get(&key).unwrap()).unwrap();
    assert!(text.contains(from), "{text}");
    fixture.aws.put(&key, text.replace(from, to));
    let before = fixture.aws.keys();
    assert!(fixture.replay().await.is_empty());
    assert_eq!(fixture.aws.keys(), before);
    assert!(fixture.database.rows().is_empty());
}
