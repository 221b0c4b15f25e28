//! Without one of its guards the protocol breaks an invariant, unless the guard is redundant.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use spillway_model::checker::check;
use spillway_model::guard::{Guard, Guards};
use spillway_model::invariant::Invariant;
use spillway_model::protocol::{Label, Protocol, Versions};
use spillway_model::state::Faults;

/// Crashes, faults of the database and stalls, from the smallest model to the largest.
const BOUNDS: [(u8, u8, u8); 7] = [(0, 0, 0), (0, 1, 0), (1, 1, 0), (0, 1, 1), (1, 1, 1), (1, 2, 0), (0, 2, 1)];

/// Each guard, the versions of the smallest model that needs it, and the invariant that breaks without it.
const NEEDED: &[(Guard, Versions, Invariant)] = &[
    (Guard::LeaseIfNoneMatch, Versions::One, Invariant::NeverTwice),
    (Guard::TakeOverIfMatch, Versions::One, Invariant::NeverTwice),
    (Guard::TakeOverKeepsNotes, Versions::One, Invariant::NeverTwice),
    (Guard::ReadUnderLease, Versions::One, Invariant::NeverTwice),
    (Guard::FenceBeforeCommit, Versions::One, Invariant::NeverTwice),
    (Guard::FenceIfMatch, Versions::One, Invariant::NeverTwice),
    (Guard::CommitNote, Versions::One, Invariant::NeverTwice),
    (Guard::ClaimLock, Versions::One, Invariant::NeverTwice),
    (Guard::ClaimReadsLedger, Versions::One, Invariant::NeverTwice),
    (Guard::ContentClaim, Versions::SameContent, Invariant::NeverTwice),
    (Guard::AskBeforeFallback, Versions::One, Invariant::FallbackAfterProof),
    (Guard::LookUpSeesClaims, Versions::One, Invariant::FallbackAfterProof),
    (Guard::FallbackLookedUpFirst, Versions::One, Invariant::NeverTwice),
    (Guard::FenceBeforePublish, Versions::One, Invariant::NeverTwice),
    (Guard::FallbackNote, Versions::One, Invariant::NeverTwice),
    (Guard::AbortEarlierUploads, Versions::One, Invariant::NeverTwice),
    (Guard::AbortBeforeLookUp, Versions::One, Invariant::NeverTwice),
    (Guard::ManifestFirst, Versions::One, Invariant::EndReachable),
    (Guard::ManifestRemovedLast, Versions::One, Invariant::EndReachable),
    (Guard::RegisterFound, Versions::One, Invariant::FallbackRegistered),
    (Guard::MoveAfterOutcome, Versions::One, Invariant::NeverLost),
    (Guard::CopyIfMatch, Versions::Overwritten, Invariant::CopyIsOwn),
    (Guard::DeleteAfterCopy, Versions::One, Invariant::OnePrefix),
    (Guard::DeleteIfMatch, Versions::Overwritten, Invariant::NeverLost),
    (Guard::ReleaseAfterMove, Versions::One, Invariant::NeverTwice),
    (Guard::ReleaseIfMatch, Versions::One, Invariant::NeverTwice),
    (Guard::AbandonKeepsNotes, Versions::One, Invariant::NeverTwice),
    (Guard::CleanUpKeepsNotes, Versions::One, Invariant::NeverTwice),
    (Guard::ReplayClaimsSource, Versions::One, Invariant::NeverTwice),
    (Guard::RemoveAfterCommit, Versions::One, Invariant::NeverLost),
    (Guard::ReplayMovesSource, Versions::One, Invariant::NeverTwice),
    (Guard::NotNeededNote, Versions::SameContent, Invariant::OnePrefix),
    (Guard::RestoreBeforeManifest, Versions::One, Invariant::OnePrefix),
];

/// Guards without which every invariant holds, because other guards prevent the same mistake.
const REDUNDANT: &[Guard] =
    &[Guard::FallbackIfNoneMatch, Guard::AskAfterUnknownCommit, Guard::CleanUpIfMatch, Guard::ReplayUnderLease];

/// A shortest trace to a state that breaks an invariant without these guards, in the smallest bounds; also the bounds.
fn break_without(
    removed: &[Guard],
    versions: Versions,
    watched: Option<Invariant>,
) -> Option<(Vec<Label>, (u8, u8, u8))> {
    let guards = Guards::all().without(removed);
    let is_end_watched = watched.is_none_or(|watched| watched == Invariant::EndReachable);
    BOUNDS.into_iter().find_map(|(crashes, database, stalls)| {
        let faults = Faults { crashes, database, stalls };
        let checked = check(&Protocol { guards, versions, faults, watched });
        let broken = checked.broken.map(|broken| broken.trace);
        let trace = broken.or(checked.stuck.filter(|_| is_end_watched));
        trace.map(|trace| (trace, (crashes, database, stalls)))
    })
}

#[test]
fn each_guard_prevents_a_broken_invariant() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/model.md");
    let page = std::fs::read_to_string(page).expect("docs/model.md can be read");
    let mut problems = String::new();
    for (guard, versions, invariant) in NEEDED {
        let Some((trace, bounds)) = break_without(&[*guard], *versions, Some(*invariant)) else {
            let _ = writeln!(problems, "{guard:?} does not break {invariant:?}");
            continue;
        };
        println!("without {guard:?}, {invariant:?} breaks after {} steps, within {bounds:?}:", trace.len());
        trace.iter().for_each(|label| println!("  {} {} {:?}", label.version, label.actor, label.step));
        let row = format!("| `{guard:?}` | `{invariant:?}` | {} |", trace.len());
        if !page.lines().any(|line| line == row) {
            let _ = writeln!(problems, "docs/model.md lacks this row: {row}");
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn each_guard_is_needed_or_redundant() {
    let named = NEEDED.iter().map(|(guard, ..)| *guard).chain(REDUNDANT.iter().copied());
    assert_eq!(named.collect::<BTreeSet<Guard>>(), Guard::ALL.iter().copied().collect());
    for guard in REDUNDANT {
        let broken = break_without(&[*guard], Versions::One, None);
        assert!(broken.is_none(), "{guard:?} is not redundant: {broken:#?}");
    }
}

/// `If-None-Match` makes a difference if the lease does not prevent a second fallback write.
#[test]
fn fallback_is_written_once_even_without_the_lease() {
    let (guard, rule) = (Guard::FallbackIfNoneMatch, Some(Invariant::FallbackWrittenOnce));
    assert!(break_without(&[Guard::FenceBeforePublish], Versions::One, rule).is_none());
    assert!(break_without(&[Guard::FenceBeforePublish, guard], Versions::One, rule).is_some());
}
