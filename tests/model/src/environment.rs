//! What happens without an actor: faults, the server's end of a transaction without a client, and the user.

use crate::guard::Guard;
use crate::protocol::{Protocol, Steps, Versions};
use crate::state::{ACTORS, Actor, At, Fallback, Faults, Ledger, Orphans, REPLAY, Source, State, Transaction, Upload};
use crate::step::Step;

impl Protocol {
    /// Steps that need no fault, and that happen by themselves some time.
    pub(crate) fn environment_steps(&self, state: &State, steps: &mut Steps<'_>) {
        if !state.is_database_up {
            steps.add_other(Step::DatabaseStarts, false, 0, |next| next.is_database_up = true);
        }
        for (index, source) in state.sources.iter().enumerate() {
            let Orphans { open, committing, committing_replay } = source.orphans;
            if open {
                steps.add_other(Step::OrphanEnds, false, index, |next| next.sources[index].orphans.open = false);
            }
            for (is_sent, by_replay) in [(committing, false), (committing_replay, true)] {
                if !is_sent {
                    continue;
                }
                let end = move |next: &mut State| match by_replay {
                    true => next.sources[index].orphans.committing_replay = false,
                    false => next.sources[index].orphans.committing = false,
                };
                steps.add_other(Step::OrphanEnds, false, index, end);
                steps.add_other(Step::OrphanCommits, false, index, |next| {
                    end(next);
                    self.commit(next, index, by_replay);
                });
            }
        }
        let [first, second] = state.sources;
        if self.versions == Versions::Overwritten && !second.is_uploaded {
            steps.add_other(Step::Overwritten, true, 1, |next| {
                next.sources[0] = Source { is_in_place: false, is_overwritten: first.is_in_place, ..first };
                next.sources[1] = Source { is_uploaded: true, is_in_place: true, ..second };
            });
        }
    }

    /// Faults, as long as any are left.
    pub(crate) fn fault_steps(&self, state: &State, steps: &mut Steps<'_>) {
        let Faults { crashes, database, stalls } = state.faults;
        for actor in 0..ACTORS {
            let Actor { at, source, transaction, .. } = state.actors[actor];
            if transaction == Transaction::Open && (database > 0 || !state.is_database_up) {
                steps.add_fault(Step::SessionEnds, actor, |next| {
                    next.faults.database -= u8::from(state.is_database_up);
                    next.actors[actor].transaction = Transaction::Lost;
                });
            }
            let has_live_lease = state.sources[usize::from(source)].lease.is_some_and(|lease| !lease.is_expired);
            if stalls > 0 && has_live_lease && state.holds(actor, usize::from(source)) {
                steps.add_fault(Step::LeaseExpires, actor, |next| {
                    next.faults.stalls -= 1;
                    if let Some(lease) = &mut next.sources[usize::from(source)].lease {
                        lease.is_expired = true;
                    }
                });
            }
            // Before the lease, an attempt has changed nothing.
            if crashes > 0 && !matches!(at, At::Idle | At::Located | At::ExpiredLeaseRead) {
                end_steps(state, actor, steps);
            }
        }
        if database > 0 && state.is_database_up {
            steps.add_other(Step::DatabaseStops, true, 0, |next| {
                next.faults.database -= 1;
                next.is_database_up = false;
            });
        }
    }

    /// COMMIT takes effect.
    pub(crate) fn commit(&self, next: &mut State, source: usize, by_replay: bool) {
        let source = &mut next.sources[source];
        source.loads = (source.loads + 1).min(2);
        if !by_replay || self.has(Guard::ReplayClaimsSource) {
            source.ledger = Ledger::Loaded;
        }
        if by_replay {
            source.fallback.is_replayed = source.fallback.has_object;
        }
    }
}

/// An attempt ends early. If that happens at COMMIT, it may have been sent.
fn end_steps(state: &State, actor: usize, steps: &mut Steps<'_>) {
    let Actor { at, transaction, .. } = state.actors[actor];
    for was_sent in [false, true] {
        if was_sent && (at != At::BeforeCommit || transaction != Transaction::Open) {
            continue;
        }
        steps.add_fault(Step::Crash, actor, |next| crash(next, actor, was_sent));
        if at != At::Failed {
            steps.add_fault(Step::Failure, actor, |next| fail(next, actor, was_sent));
        }
    }
}

fn crash(next: &mut State, actor: usize, was_sent: bool) {
    next.faults.crashes -= 1;
    drop_attempt(next, actor, was_sent);
    let source = usize::from(next.actors[actor].source);
    if next.holds(actor, source)
        && let Some(lease) = &mut next.sources[source].lease
    {
        // It is not renewed any more.
        (lease.holder, lease.is_expired) = (None, true);
    }
    next.actors[actor] = Actor::default();
}

fn fail(next: &mut State, actor: usize, was_sent: bool) {
    next.faults.crashes -= 1;
    drop_attempt(next, actor, was_sent);
    let source = next.actors[actor].source;
    next.actors[actor] = Actor { at: At::Failed, source, ..Actor::default() };
}

/// Drops the connection and the upload of an attempt. The server notices that later.
pub(crate) fn drop_attempt(next: &mut State, actor: usize, was_commit_sent: bool) {
    let Actor { source, transaction, upload, .. } = next.actors[actor];
    let Source { orphans, fallback, .. } = &mut next.sources[usize::from(source)];
    if transaction == Transaction::Open {
        match (was_commit_sent, actor == REPLAY) {
            (false, _) => orphans.open = true,
            (true, false) => orphans.committing = true,
            (true, true) => orphans.committing_replay = true,
        }
    }
    next.actors[actor].transaction = Transaction::None;
    let Fallback { has_stale_upload, .. } = fallback;
    *has_stale_upload |= upload == Upload::Sent;
    next.actors[actor].upload = Upload::None;
}
