//! Moves that fail halfway. The rows are stored before the object moves, so the next attempt only moves it.

use rstest::rstest;

use super::{FILE, Fixture, KEY, Reading, Step};
use crate::error::ErrorKind;
use crate::report::Outcome;
use crate::route;

/// A file with a quote that is never closed.
const BROKEN: &str = "id,note\n1,\"one\n";

/// The outcome of the file before it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Loaded,
    FellBack,
    Rejected,
}

fn fixture(before: Before) -> Fixture {
    let fixture = Fixture::new(Reading::Buffered);
    match before {
        Before::Loaded => {}
        Before::FellBack => fixture.database.fail(Step::Begin, ErrorKind::TableMismatch),
        Before::Rejected => fixture.aws.put(KEY, BROKEN),
    }
    fixture
}

#[rstest]
#[case(Before::Loaded, "CopyObject", "processed/", "lease upload", Outcome::AlreadyLoaded)]
#[case(Before::Loaded, "HeadObject", "processed/", "lease processed upload", Outcome::AlreadyLoaded)]
#[case(Before::Loaded, "DeleteObject", "uploads/", "lease processed upload", Outcome::AlreadyLoaded)]
#[case(Before::FellBack, "CopyObject", "failed/", "manifest fallback lease upload", Outcome::FellBack)]
#[case(Before::FellBack, "HeadObject", "failed/", "failed manifest fallback lease upload", Outcome::FellBack)]
#[case(Before::FellBack, "DeleteObject", "uploads/", "failed manifest fallback lease upload", Outcome::FellBack)]
#[case(Before::Rejected, "PutObject", "failed/", "upload", Outcome::Rejected)]
#[case(Before::Rejected, "CopyObject", "failed/", "reason upload", Outcome::Rejected)]
#[case(Before::Rejected, "HeadObject", "failed/", "failed reason upload", Outcome::Rejected)]
#[case(Before::Rejected, "DeleteObject", "uploads/", "failed reason upload", Outcome::Rejected)]
#[tokio::test]
async fn failed_move_is_completed_by_the_next_attempt(
    #[case] before: Before,
    #[case] operation: &'static str,
    #[case] key_part: &str,
    #[case] objects: &str,
    #[case] outcome: Outcome,
) {
    let fixture = fixture(before);
    fixture.aws.fail(operation, key_part);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    assert_eq!(fixture.objects(), objects);

    fixture.aws.heal();
    fixture.database.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, outcome);
    match before {
        Before::Loaded => fixture.assert_loaded(),
        Before::FellBack => fixture.assert_fell_back(),
        Before::Rejected => fixture.assert_waits("failed reason"),
    }
}

#[rstest]
#[case("CopyObject", "processed/")]
#[case("DeleteObject", "uploads/")]
#[tokio::test]
async fn request_that_took_effect_without_a_response_completes_the_move(
    #[case] operation: &'static str,
    #[case] key_part: &str,
) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.lose_response(operation, key_part);
    // The same attempt checks a copy whose response was lost. A delete is checked by the next attempt.
    match fixture.process().await {
        Ok(report) => assert_eq!(report.outcome, Outcome::Loaded),
        Err(error) => {
            assert_eq!((error.kind(), operation), (ErrorKind::Service, "DeleteObject"));
            assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);
        }
    }
    assert_eq!(fixture.database.rows(), ["1,one", "2,two"]);
    assert!(!fixture.objects().contains("upload"));
}

#[tokio::test]
async fn other_object_at_the_destination_is_not_overwritten() {
    let fixture = Fixture::new(Reading::Buffered);
    let id = fixture.version(KEY).await.id;
    let destination = route::processed_key(&fixture.settings.prefixes, KEY, &id);
    fixture.aws.put(&destination, "another file");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::DestinationTaken);
    assert_eq!(fixture.objects(), "lease processed upload");
    assert_eq!(fixture.aws.get(&destination).unwrap(), b"another file");

    fixture.aws.delete(&destination);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    fixture.assert_loaded();
}

/// The next version is another file: both are loaded, and the lease of the first stays until a cleanup deletes it.
#[rstest]
#[tokio::test]
async fn object_that_is_overwritten_before_it_moves_is_loaded_in_both_versions(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    let aws = fixture.aws.clone();
    fixture.database.before(Step::Commit, move || aws.put(KEY, "id,note\n3,three\n"));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["1,one", "2,two", "3,three"]);
    assert_eq!(fixture.objects(), "lease processed");
}

#[rstest]
#[tokio::test]
async fn object_that_is_overwritten_after_its_copy_is_not_deleted(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    let aws = fixture.aws.clone();
    fixture.aws.before("DeleteObject", "uploads/", 0, move || aws.put(KEY, "id,note\n3,three\n"));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.objects(), "processed upload");

    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["1,one", "2,two", "3,three"]);
    assert_eq!(fixture.objects(), "processed processed");
}

#[tokio::test]
async fn object_that_is_deleted_before_it_moves_is_an_error_once() {
    let fixture = Fixture::new(Reading::Buffered);
    let aws = fixture.aws.clone();
    fixture.database.before(Step::Commit, move || aws.delete(KEY));
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::SourceMissing);
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("lease", 2));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);

    // The ledger knows the version when it is uploaded again.
    fixture.aws.put(KEY, FILE);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    fixture.assert_loaded();
}
