//! The steps of a move: copy, verify, delete.

use crate::attempt::fail;
use crate::guard::Guard;
use crate::invariant::Invariant;
use crate::protocol::{Protocol, Steps, Versions};
use crate::state::{At, Copy, Destination, Ledger, State};
use crate::step::Step;

impl Protocol {
    /// `Store::move_object`: the copy.
    pub(crate) fn copy_steps(&self, actor: usize, steps: &mut Steps<'_>) {
        if !self.has(Guard::DeleteAfterCopy) {
            return steps.add(Step::AfterDelete, actor, |next| self.delete_source(next, actor));
        }
        steps.add(Step::AfterCopy, actor, |next| {
            let index = usize::from(next.actors[actor].source);
            match self.copy(next, index, next.actors[actor].destination) {
                true => next.actors[actor].at = At::BeforeDelete,
                false => fail(next, actor),
            }
        });
    }

    /// Copies the object unless a copy exists. Returns whether a copy exists now.
    pub(crate) fn copy(&self, next: &mut State, index: usize, destination: Destination) -> bool {
        let (source, other) = (next.sources[index], next.sources[1 - index]);
        let found = match destination {
            Destination::Processed => source.processed,
            Destination::Failed => source.failed,
        };
        if found != Copy::None {
            return true;
        }
        let is_other_there = self.versions == Versions::Overwritten && other.is_in_place;
        let copy = match source.is_in_place {
            true => Copy::Own,
            false if is_other_there && !self.has(Guard::CopyIfMatch) => Copy::Other,
            false => return false,
        };
        let has_outcome = match destination {
            Destination::Processed => source.loads > 0 || source.ledger != Ledger::Unknown,
            Destination::Failed => source.fallback.has_object,
        };
        if !has_outcome {
            self.break_rule(next, Invariant::MoveAfterOutcome);
        }
        match destination {
            Destination::Processed => next.sources[index].processed = copy,
            Destination::Failed => next.sources[index].failed = copy,
        }
        true
    }

    /// `Store::move_object`: the delete.
    pub(crate) fn delete_source(&self, next: &mut State, actor: usize) {
        let index = usize::from(next.actors[actor].source);
        if next.sources[index].is_in_place {
            next.sources[index].is_in_place = false;
        } else if self.versions == Versions::Overwritten && !self.has(Guard::DeleteIfMatch) {
            next.sources[1 - index].is_in_place = false;
        }
        next.actors[actor].at = At::AfterDelete;
    }
}
