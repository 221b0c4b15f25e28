//! The invariants, with the names that `docs/model.md` uses, and the end that every state must be able to reach.

use crate::listed::listed;
use crate::state::{At, Copy, Fallback, Ledger, Orphans, Source, State};

listed! {
    /// A statement that must hold in every state.
    pub enum Invariant {
        /// The rows of a version, or of a content, are at most once in the database and the fallback together. While a replay
        /// removes the fallback object, the rows are in both.
        NeverTwice,
        /// A version that left its place has its rows in the database or in the fallback, unless the user has overwritten it.
        NeverLost,
        /// A version is copied to the processed prefix only if its rows are loaded or not needed, and to the failed prefix only if they
        /// are in the fallback.
        MoveAfterOutcome,
        /// A fallback object appears only when no COMMIT of its rows has taken effect or still can.
        FallbackAfterProof,
        /// A fallback object is never written again.
        FallbackWrittenOnce,
        /// An object at the destination of a move is the version that it is named after.
        CopyIsOwn,
        /// When everything is quiet, each version is under one prefix.
        OnePrefix,
        /// When everything is quiet, each fallback object is registered in Glue.
        FallbackRegistered,
        /// An end can be reached from every state without another fault: each version is once in the database or once in the
        /// fallback, its object is under the right prefix, and no lease, transaction, upload or manifest is left over.
        EndReachable,
    }
}

impl State {
    /// The invariants that this state breaks.
    pub fn broken_invariants(&self) -> impl Iterator<Item = Invariant> {
        let is_duplicate = self.sources.iter().any(|source| source.has_same_content);
        let loads: u8 = self.sources.iter().map(|source| source.loads).sum();
        let is_content_twice = (is_duplicate && loads > 1).then_some(Invariant::NeverTwice);
        let uploaded = self.sources.iter().filter(|source| source.is_uploaded);
        self.broken.into_iter().chain(is_content_twice).chain(uploaded.flat_map(|source| self.broken_by(source)))
    }

    fn broken_by(&self, source: &Source) -> impl Iterator<Item = Invariant> + use<> {
        let fallback = source.fallback;
        let is_twice = source.loads > 1 || (source.loads == 1 && fallback.has_object && !fallback.is_replayed);
        let is_stored = source.loads > 0 || fallback.has_object || source.ledger == Ledger::Duplicate;
        let is_lost = !is_stored && !source.is_in_place && !source.is_overwritten;
        let is_other = source.processed == Copy::Other || source.failed == Copy::Other;
        let is_quiet = self.is_quiet() && source.is_quiet();
        let rules = [
            (is_twice, Invariant::NeverTwice),
            (is_lost, Invariant::NeverLost),
            (is_other, Invariant::CopyIsOwn),
            (is_quiet && source.places() != 1 && !source.is_overwritten, Invariant::OnePrefix),
            (is_quiet && fallback.has_object && !fallback.is_registered, Invariant::FallbackRegistered),
        ];
        rules.into_iter().filter_map(|(is_broken, rule)| is_broken.then_some(rule))
    }

    /// Whether no actor does anything.
    fn is_quiet(&self) -> bool {
        self.is_database_up && self.clean_up.is_none() && self.actors.iter().all(|actor| actor.at == At::Idle)
    }

    /// Whether every version has its final place, and nothing is left over.
    pub fn is_end(&self) -> bool {
        self.is_quiet() && self.sources.iter().all(|source| !source.is_uploaded || source.is_final())
    }
}

impl Source {
    /// Whether neither a sweep nor a clean-up nor a replay that was interrupted has anything to do for it.
    fn is_quiet(&self) -> bool {
        let Fallback { has_manifest, has_object, is_replayed, .. } = self.fallback;
        let is_being_removed = is_replayed || has_manifest != has_object;
        !self.is_in_place && self.lease.is_none() && self.orphans == Orphans::default() && !is_being_removed
    }

    /// Number of prefixes with an object that is this version or named after it.
    fn places(&self) -> usize {
        usize::from(self.is_in_place)
            + usize::from(self.processed != Copy::None)
            + usize::from(self.failed != Copy::None)
    }

    fn is_final(&self) -> bool {
        let (fallback, places) = (self.fallback, (self.is_in_place, self.processed, self.failed));
        let has_no_leftover = self.orphans == Orphans::default() && !fallback.has_stale_upload;
        let has_no_fallback = !fallback.has_object && !fallback.has_manifest;
        let is_stored = match self.ledger {
            Ledger::Loaded => self.loads == 1 && has_no_fallback,
            Ledger::Duplicate => self.loads == 0 && has_no_fallback,
            Ledger::Unknown => {
                self.loads == 0 && fallback.has_object && fallback.has_manifest && fallback.is_registered
            }
        };
        if self.is_overwritten {
            // It has no object that could move. Its lease may stay for a day, and the manifest of an unfinished fallback stays.
            let is_nowhere = self.ledger == Ledger::Unknown && self.loads == 0 && !fallback.has_object;
            return has_no_leftover && (is_stored || is_nowhere);
        }
        let is_placed = match self.ledger {
            Ledger::Loaded | Ledger::Duplicate => places == (false, Copy::Own, Copy::None),
            Ledger::Unknown => places == (false, Copy::None, Copy::Own),
        };
        has_no_leftover && is_stored && is_placed && self.lease.is_none()
    }
}
