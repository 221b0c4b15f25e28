//! The steps at a lease: acquire, take over, fence, release, abandon, and the clean-up of expired leases.

use crate::guard::Guard;
use crate::protocol::{Protocol, Steps};
use crate::state::{Actor, At, Commit, Lease, Notes, Obsolete, REPLAY, State};
use crate::step::Step;

impl Protocol {
    /// `Lease::acquire`, from `Attempt::start`.
    pub(crate) fn acquire_steps(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        let source = usize::from(state.actors[actor].source);
        if actor == REPLAY && !self.has(Guard::ReplayUnderLease) {
            return steps.add(Step::LeaseWritten, actor, |next| next.actors[actor].at = At::LeaseWritten);
        }
        if let Some((notes, is_unchanged)) = state.actors[actor].seen {
            return steps.add(Step::LeaseWritten, actor, |next| {
                match is_unchanged || !self.has(Guard::TakeOverIfMatch) {
                    true => self.write_new_lease(next, actor, notes),
                    // The code tries again.
                    false => next.actors[actor] = Actor { at: At::Located, seen: None, ..next.actors[actor] },
                }
            });
        }
        match state.sources[source].lease {
            Some(_) if !self.has(Guard::LeaseIfNoneMatch) => {
                steps.add(Step::LeaseWritten, actor, |next| self.write_new_lease(next, actor, Notes::default()));
            }
            None => steps.add(Step::LeaseWritten, actor, |next| self.write_new_lease(next, actor, Notes::default())),
            Some(Lease { is_expired: true, notes, .. }) => steps.add(Step::ReadLease, actor, |next| {
                next.actors[actor].at = At::ExpiredLeaseRead;
                next.actors[actor].seen = Some((notes, true));
            }),
            // `Busy`: the event is received again.
            Some(_) => steps.add(Step::Abandon, actor, |next| next.actors[actor] = Actor::default()),
        }
    }

    fn write_new_lease(&self, next: &mut State, actor: usize, previous: Notes) {
        let kept = if self.has(Guard::TakeOverKeepsNotes) { previous } else { Notes::default() };
        let source = usize::from(next.actors[actor].source);
        write_lease(next, source, Some(Lease { holder: u8::try_from(actor).ok(), is_expired: false, notes: kept }));
        let commit = if previous.commit { Commit::InDoubt } else { Commit::NotSent };
        let now = next.actors[actor];
        next.actors[actor] = Actor { at: At::LeaseWritten, seen: None, commit, must_abort: previous.fallback, ..now };
    }

    /// Writes notes into the lease of an actor. Returns whether it may go on.
    pub(crate) fn fence(&self, next: &mut State, actor: usize, fence: Guard, note: Notes) -> bool {
        let source = usize::from(next.actors[actor].source);
        let has_lease = actor != REPLAY || self.has(Guard::ReplayUnderLease);
        if !self.has(fence) || !has_lease {
            return true;
        }
        if !next.holds(actor, source) && (fence != Guard::FenceBeforeCommit || self.has(Guard::FenceIfMatch)) {
            return false;
        }
        let found = next.sources[source].lease.map(|lease| lease.notes).unwrap_or_default();
        let notes = Notes { commit: found.commit | note.commit, fallback: found.fallback | note.fallback };
        write_lease(next, source, Some(Lease { holder: u8::try_from(actor).ok(), is_expired: false, notes }));
        true
    }

    /// `Attempt::end_lease`.
    pub(crate) fn end_lease_steps(&self, state: &State, actor: usize, steps: &mut Steps<'_>) {
        match state.actors[actor].at {
            At::Failed => steps.add(Step::Abandon, actor, |next| {
                self.abandon(next, actor);
                next.actors[actor] = Actor::default();
            }),
            _ => steps.add(Step::Release, actor, |next| {
                self.release(next, actor);
                next.actors[actor] = Actor::default();
            }),
        }
    }

    pub(crate) fn release(&self, next: &mut State, actor: usize) {
        let source = usize::from(next.actors[actor].source);
        if next.holds(actor, source) || !self.has(Guard::ReleaseIfMatch) {
            write_lease(next, source, None);
        }
    }

    fn abandon(&self, next: &mut State, actor: usize) {
        let source = usize::from(next.actors[actor].source);
        let Some(lease) = next.sources[source].lease.filter(|_| next.holds(actor, source)) else { return };
        let is_in_doubt = lease.notes.commit || lease.notes.fallback;
        let kept = (is_in_doubt && self.has(Guard::AbandonKeepsNotes)).then_some(Lease {
            holder: None,
            is_expired: true,
            ..lease
        });
        write_lease(next, source, kept);
    }

    /// `lease::drop_expired` and `Store::abort_stale_uploads`, from `cleanup::clean_up`.
    pub(crate) fn clean_up_steps(&self, state: &State, steps: &mut Steps<'_>) {
        if let Some(Obsolete { source, is_unchanged }) = state.clean_up {
            let source = usize::from(source);
            return steps.add_other(Step::DropExpired, false, source, |next| {
                next.clean_up = None;
                if is_unchanged || !self.has(Guard::CleanUpIfMatch) {
                    write_lease(next, source, None);
                }
            });
        }
        for (index, source) in state.sources.iter().enumerate() {
            // A lease without notes counts the deaths as long as the object is in place; that decides nothing here.
            let is_obsolete = source.lease.is_some_and(|lease| {
                let is_in_doubt = lease.notes.commit || lease.notes.fallback;
                let is_needed = source.is_in_place || (source.is_overwritten && is_in_doubt);
                lease.is_expired && (!is_needed || (is_in_doubt && !self.has(Guard::CleanUpKeepsNotes)))
            });
            if is_obsolete {
                let seen = u8::try_from(index).map(|source| Obsolete { source, is_unchanged: true }).ok();
                steps.add_other(Step::IsObsolete, false, index, |next| next.clean_up = seen);
            }
            let is_live = source.lease.is_some_and(|lease| !lease.is_expired);
            if source.fallback.has_stale_upload && !is_live {
                steps.add_other(Step::AbortStaleUploads, false, index, |next| {
                    next.sources[index].fallback.has_stale_upload = false;
                });
            }
        }
    }
}

/// Writes or deletes a lease object. A worker that has read it before then has an old ETag.
pub(crate) fn write_lease(next: &mut State, source: usize, lease: Option<Lease>) {
    next.sources[source].lease = lease;
    for actor in next.actors.iter_mut().filter(|actor| usize::from(actor.source) == source) {
        if let Some((_, is_unchanged)) = &mut actor.seen {
            *is_unchanged = false;
        }
    }
    if let Some(obsolete) = next.clean_up.as_mut().filter(|obsolete| usize::from(obsolete.source) == source) {
        obsolete.is_unchanged = false;
    }
}
