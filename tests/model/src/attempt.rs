//! The steps of an attempt: look for a fallback object, read, load, commit, write the fallback. The move is in `moves`.

use crate::environment::drop_attempt;
use crate::guard::Guard;
use crate::invariant::Invariant;
use crate::protocol::{Protocol, Steps, Versions};
use crate::state::{
    ACTORS, Actor, At, Commit, Destination, Ledger, Notes, Orphans, REPLAY, Source, State, Transaction, Upload,
};
use crate::step::Step;

/// The result of a look-up in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookUp {
    /// The database is down, or another transaction claims the version.
    Failed,
    /// The version needs no load.
    Finished,
    /// Nothing is stored.
    Missing,
}

impl Protocol {
    /// An event, a request or a sweep starts an attempt, as often as it likes.
    pub(crate) fn start_load(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        for (index, _) in state.sources.iter().enumerate().filter(|(_, source)| source.is_in_place) {
            let source = u8::try_from(index).unwrap_or_default();
            steps.add(Step::CurrentVersion, actor, |next| {
                let has_body = !self.has(Guard::ReadUnderLease);
                next.actors[actor] = Actor { at: At::Located, source, has_body, ..Actor::default() };
            });
        }
    }

    /// The steps between the lease and its end that workers and replay share, and those of workers only.
    pub(crate) fn load_steps(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        let Actor { at, must_abort, has_body, .. } = state.actors[actor];
        let source = &state.sources[usize::from(state.actors[actor].source)];
        let aborts = must_abort && self.has(Guard::AbortEarlierUploads);
        match at {
            At::LeaseWritten if aborts && self.has(Guard::AbortBeforeLookUp) => {
                steps.add(Step::AbortWrites, actor, |next| abort_writes(next, actor, At::UploadsAborted));
            }
            At::LeaseWritten | At::UploadsAborted => self.find_fallback(source, actor, aborts, steps),
            At::NotAborted => steps.add(Step::AbortWrites, actor, |next| {
                let found_none = if actor == REPLAY { At::NoFallback } else { At::FallbackLookedUp };
                abort_writes(next, actor, found_none);
            }),
            At::FallbackLookedUp => steps.add(Step::BodyEnd, actor, |next| match source.is_in_place || has_body {
                true => (next.actors[actor].at, next.actors[actor].has_body) = (At::BodyEnd, false),
                false => fail(next, actor),
            }),
            At::BodyEnd => self.claim_steps(state, actor, steps),
            At::Claimed => self.send_rows(state, actor, steps),
            At::RowsAll => steps.add(Step::BeforeCommit, actor, |next| self.fence_before_commit(next, actor)),
            At::BeforeCommit => self.commit_steps(state, actor, steps),
            At::Unanswered => self.resolve_steps(actor, steps),
            At::LoadFailed => self.failed_load_steps(state, actor, steps),
            _ => self.outcome_steps(at, actor, steps),
        }
    }

    /// The fallback write and the move.
    fn outcome_steps(&self, at: At, actor: usize, steps: &mut Steps<'_>) {
        match at {
            At::Proved => self.write_manifest(actor, steps),
            At::ManifestWritten => steps.add(Step::RowsPartSent, actor, |next| {
                (next.actors[actor].at, next.actors[actor].upload) = (At::RowsPartSent, Upload::Sent);
            }),
            At::RowsPartSent => steps.add(Step::RowsFenced, actor, |next| self.fence_before_publish(next, actor)),
            At::RowsFenced => steps.add(Step::RowsCompleted, actor, |next| self.complete_new(next, actor)),
            At::RowsCompleted => steps.add(Step::PartitionMade, actor, |next| register(next, actor)),
            At::EarlierFallback => steps.add(Step::RegisterFound, actor, |next| self.register_found(next, actor)),
            At::NotNeeded => steps.add(Step::BeforeCommit, actor, |next| {
                match self.fence(next, actor, Guard::NotNeededNote, Notes { commit: true, fallback: false }) {
                    true => self.finish_loaded(next, actor),
                    false => fail(next, actor),
                }
            }),
            At::Outcome => self.copy_steps(actor, steps),
            At::BeforeDelete => steps.add(Step::AfterDelete, actor, |next| self.delete_source(next, actor)),
            _ => {}
        }
    }

    /// `fallback::find`, from `Attempt::find_earlier_fallback`.
    fn find_fallback(&self, source: &Source, actor: usize, aborts: bool, steps: &mut Steps<'_>) {
        let (is_replay, fallback) = (actor == REPLAY, source.fallback);
        let aborts_later = aborts && !self.has(Guard::AbortBeforeLookUp);
        let looks = is_replay || self.has(Guard::FallbackLookedUpFirst);
        let at = match (looks && fallback.has_object, fallback.has_manifest) {
            // The manifest is missing: an operator must act.
            (true, false) => At::Failed,
            (true, true) if !is_replay => At::EarlierFallback,
            (true, true) => At::BodyEnd,
            (false, _) if aborts_later => At::NotAborted,
            (false, _) if is_replay => At::NoFallback,
            (false, _) => At::FallbackLookedUp,
        };
        let step = if looks && fallback.has_object { Step::EarlierFallback } else { Step::FallbackLookedUp };
        steps.add(step, actor, |next| match at {
            At::Failed => fail(next, actor),
            at => (next.actors[actor].at, next.actors[actor].must_abort) = (at, false),
        });
    }

    /// `Destination::begin`: connect, read the ledger, claim.
    fn claim_steps(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        let index = usize::from(state.actors[actor].source);
        let (source, other) = (&state.sources[index], &state.sources[1 - index]);
        let is_same_source = actor != REPLAY || self.has(Guard::ReplayClaimsSource);
        let is_lockable = self.has(Guard::ClaimLock) && is_same_source;
        let has_duplicate = self.versions == Versions::SameContent && self.has(Guard::ContentClaim) && is_same_source;
        if !state.is_database_up {
            steps.add(Step::LoadOnce, actor, |next| next.actors[actor].at = At::LoadFailed);
        } else if source.ledger != Ledger::Unknown && self.has(Guard::ClaimReadsLedger) && is_same_source {
            steps.add(Step::NotNeeded, actor, |next| self.finish_not_needed(next, actor));
        } else if (is_lockable && state.is_claimed_by_another(actor, index))
            || (has_duplicate && state.is_claimed_by_another(actor, 1 - index))
        {
            // `Conflict`: the file waits for its next attempt.
            steps.add(Step::LoadOnce, actor, |next| fail(next, actor));
        } else if has_duplicate && other.ledger == Ledger::Loaded {
            steps.add(Step::NotNeeded, actor, |next| {
                next.sources[index].ledger = Ledger::Duplicate;
                self.finish_not_needed(next, actor);
            });
        } else {
            steps.add(Step::Claimed, actor, |next| {
                (next.actors[actor].at, next.actors[actor].transaction) = (At::Claimed, Transaction::Open);
            });
        }
    }

    fn send_rows(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        let index = usize::from(state.actors[actor].source);
        if state.actors[actor].transaction == Transaction::Lost || !state.is_database_up {
            return steps.add(Step::LoadOnce, actor, |next| {
                drop_attempt(next, actor, false);
                next.actors[actor].at = At::LoadFailed;
            });
        }
        steps.add(Step::RowsAll, actor, |next| {
            if actor == REPLAY && !next.sources[index].fallback.has_object {
                // Another replay has removed it.
                return fail(next, actor);
            }
            if actor == REPLAY && !self.has(Guard::RemoveAfterCommit) {
                next.sources[index].fallback.has_object = false;
            }
            if actor != REPLAY && !self.has(Guard::MoveAfterOutcome) {
                self.copy(next, index, Destination::Processed);
                next.sources[index].is_in_place = false;
            }
            next.actors[actor].at = At::RowsAll;
        });
    }

    /// The claim shows that no other COMMIT can be under way. After the fence, this one can.
    fn fence_before_commit(&self, next: &mut State, actor: usize) {
        let note = Notes { commit: self.has(Guard::CommitNote), fallback: false };
        if !self.fence(next, actor, Guard::FenceBeforeCommit, note) {
            return fail(next, actor);
        }
        (next.actors[actor].at, next.actors[actor].commit) = (At::BeforeCommit, Commit::InDoubt);
    }

    fn commit_steps(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        let index = usize::from(state.actors[actor].source);
        let is_open = state.actors[actor].transaction == Transaction::Open;
        if is_open && state.is_database_up {
            steps.add(Step::AfterCommit, actor, |next| {
                next.actors[actor].transaction = Transaction::None;
                self.commit(next, index, actor == REPLAY);
                self.finish_loaded(next, actor);
            });
            if state.faults.database == 0 {
                return;
            }
            steps.add_fault(Step::CommitRefused, actor, |next| {
                next.faults.database -= 1;
                let now = next.actors[actor];
                let (at, transaction, commit) = (At::LoadFailed, Transaction::None, Commit::Resolved);
                next.actors[actor] = Actor { at, transaction, commit, ..now };
            });
            steps.add_fault(Step::CommitUnanswered, actor, |next| {
                next.faults.database -= 1;
                drop_attempt(next, actor, true);
                next.actors[actor].at = At::Unanswered;
            });
        } else {
            steps.add(Step::CommitUnanswered, actor, |next| {
                drop_attempt(next, actor, true);
                next.actors[actor].at = At::Unanswered;
            });
        }
    }

    fn resolve_steps(&self, actor: usize, steps: &mut Steps<'_>) {
        let step = Step::ResolveUnknownCommit;
        let failed_load = |next: &mut State| next.actors[actor].at = At::LoadFailed;
        if !self.has(Guard::AskAfterUnknownCommit) {
            return steps.add(step, actor, failed_load);
        }
        steps.add(step, actor, |next| match self.look_up(next, actor) {
            // `CommitUnknown`, after the retry budget.
            LookUp::Failed => fail(next, actor),
            LookUp::Finished => self.finish_loaded(next, actor),
            LookUp::Missing => {
                next.actors[actor].commit = Commit::Resolved;
                failed_load(next);
            }
        });
    }

    /// An outage: try again, or write the rows to the fallback.
    fn failed_load_steps(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        if state.is_database_up {
            steps.add(Step::Load, actor, |next| next.actors[actor].at = At::BodyEnd);
        }
        if actor == REPLAY {
            return steps.add(Step::Load, actor, |next| fail(next, actor));
        }
        if state.actors[actor].commit != Commit::InDoubt || !self.has(Guard::AskBeforeFallback) {
            return self.write_manifest(actor, steps);
        }
        steps.add(Step::FinishedEntry, actor, |next| match self.look_up(next, actor) {
            LookUp::Failed => fail(next, actor),
            LookUp::Finished => self.finish_loaded(next, actor),
            LookUp::Missing => next.actors[actor].at = At::Proved,
        });
    }

    /// `load::finished_entry`.
    pub(crate) fn look_up(&self, state: &State, actor: usize) -> LookUp {
        let source = usize::from(state.actors[actor].source);
        let is_refused = self.has(Guard::LookUpSeesClaims) && state.is_claimed_by_another(actor, source);
        match state.sources[source].ledger {
            _ if !state.is_database_up || is_refused => LookUp::Failed,
            Ledger::Loaded | Ledger::Duplicate => LookUp::Finished,
            Ledger::Unknown => LookUp::Missing,
        }
    }

    fn write_manifest(&self, actor: usize, steps: &mut Steps<'_>) {
        steps.add(Step::ManifestWritten, actor, |next| {
            let source = usize::from(next.actors[actor].source);
            next.sources[source].fallback.has_manifest |= self.has(Guard::ManifestFirst);
            // From here on, the state of the COMMIT is not read any more.
            (next.actors[actor].at, next.actors[actor].commit) = (At::ManifestWritten, Commit::NotSent);
        });
    }

    fn fence_before_publish(&self, next: &mut State, actor: usize) {
        let note = Notes { commit: false, fallback: self.has(Guard::FallbackNote) };
        match self.fence(next, actor, Guard::FenceBeforePublish, note) {
            true => next.actors[actor].at = At::RowsFenced,
            false => {
                next.actors[actor].upload = Upload::None;
                fail(next, actor);
            }
        }
    }

    fn complete_new(&self, next: &mut State, actor: usize) {
        let index = usize::from(next.actors[actor].source);
        if std::mem::take(&mut next.actors[actor].upload) == Upload::Aborted {
            return fail(next, actor);
        }
        let is_committing = |other: usize| {
            let Actor { at, source, transaction, .. } = next.actors[other];
            at == At::BeforeCommit && usize::from(source) == index && transaction == Transaction::Open
        };
        let source = &next.sources[index];
        let Orphans { committing, committing_replay, .. } = source.orphans;
        let may_be_stored = source.ledger == Ledger::Loaded || source.loads > 0 || committing || committing_replay;
        if source.fallback.has_object {
            if !self.has(Guard::FallbackIfNoneMatch) {
                self.break_rule(next, Invariant::FallbackWrittenOnce);
            }
        } else {
            if may_be_stored || (0..ACTORS).any(is_committing) {
                self.break_rule(next, Invariant::FallbackAfterProof);
            }
            next.sources[index].fallback.has_object = true;
        }
        next.actors[actor].at = At::RowsCompleted;
    }

    fn register_found(&self, next: &mut State, actor: usize) {
        let index = usize::from(next.actors[actor].source);
        let was_registered = next.sources[index].fallback.is_registered;
        register(next, actor);
        next.sources[index].fallback.is_registered = was_registered || self.has(Guard::RegisterFound);
    }

    fn finish_not_needed(&self, next: &mut State, actor: usize) {
        if actor == REPLAY || !self.has(Guard::NotNeededNote) {
            return self.finish_loaded(next, actor);
        }
        next.actors[actor] = Actor { at: At::NotNeeded, source: next.actors[actor].source, ..Actor::default() };
    }

    /// The version needs no load any more: it is loaded, or it is a duplicate.
    pub(crate) fn finish_loaded(&self, next: &mut State, actor: usize) {
        let at = if actor == REPLAY { At::Replayed } else { At::Outcome };
        let source = next.actors[actor].source;
        if actor == REPLAY {
            let fallback = &mut next.sources[usize::from(source)].fallback;
            fallback.is_replayed = fallback.has_object;
        }
        if !self.has(Guard::ReleaseAfterMove) {
            self.release(next, actor);
        }
        next.actors[actor] = Actor { at, source, destination: Destination::Processed, ..Actor::default() };
    }
}

/// The rows are in the fallback and registered.
fn register(next: &mut State, actor: usize) {
    let source = next.actors[actor].source;
    let fallback = &mut next.sources[usize::from(source)].fallback;
    fallback.is_registered = true;
    // Already there, except without `Guard::ManifestFirst`.
    fallback.has_manifest |= fallback.has_object;
    next.actors[actor] = Actor { at: At::Outcome, source, destination: Destination::Failed, ..Actor::default() };
}

/// Aborts the uploads of the source's fallback object. A source without a manifest has none.
fn abort_writes(next: &mut State, actor: usize, at: At) {
    let source = next.actors[actor].source;
    (next.actors[actor].at, next.actors[actor].must_abort) = (at, false);
    if !next.sources[usize::from(source)].fallback.has_manifest {
        return;
    }
    next.sources[usize::from(source)].fallback.has_stale_upload = false;
    for other in next.actors.iter_mut().filter(|other| other.source == source && other.upload == Upload::Sent) {
        other.upload = Upload::Aborted;
    }
}

/// The attempt ends with an error. Its connection is dropped.
pub(crate) fn fail(next: &mut State, actor: usize) {
    drop_attempt(next, actor, false);
    let source = next.actors[actor].source;
    next.actors[actor] = Actor { at: At::Failed, source, ..Actor::default() };
}
