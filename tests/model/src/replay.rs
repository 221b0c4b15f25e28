//! The steps of a replay that workers do not have.

use crate::attempt::{LookUp, fail};
use crate::guard::Guard;
use crate::protocol::{Protocol, Steps};
use crate::state::{Actor, At, Copy, Destination, REPLAY, State};
use crate::step::Step;

impl At {
    /// Whether workers have no such step.
    pub(crate) fn is_only_in_replay(self) -> bool {
        match self {
            Self::NoFallback | Self::Replayed | Self::SourceCopied => true,
            Self::ObjectRemoved | Self::ManifestRemoved | Self::Restored | Self::NotInFailed => true,
            Self::Idle | Self::Located | Self::ExpiredLeaseRead | Self::LeaseWritten | Self::UploadsAborted => false,
            Self::NotAborted | Self::FallbackLookedUp | Self::BodyEnd | Self::Claimed | Self::RowsAll => false,
            Self::BeforeCommit | Self::Unanswered | Self::LoadFailed | Self::Proved | Self::ManifestWritten => false,
            Self::RowsPartSent | Self::RowsFenced | Self::RowsCompleted | Self::EarlierFallback => false,
            Self::NotNeeded | Self::Outcome | Self::BeforeDelete | Self::AfterDelete | Self::Failed => false,
        }
    }
}

impl Protocol {
    /// Every manifest is replayed, also one without an object.
    pub(crate) fn start_replay(&self, state: &State, steps: &mut Steps<'_>) {
        for (index, _) in state.sources.iter().enumerate().filter(|(_, source)| source.fallback.has_manifest) {
            let source = u8::try_from(index).unwrap_or_default();
            steps.add(Step::ListManifests, REPLAY, |next| {
                next.actors[REPLAY] = Actor { at: At::Located, source, ..Actor::default() };
            });
        }
    }

    /// `replay_rows`, without the load.
    pub(crate) fn replay_steps(&self, state: &State, steps: &mut Steps<'_>) {
        let Actor { at, source, .. } = state.actors[REPLAY];
        let index = usize::from(source);
        match at {
            At::NoFallback => steps.add(Step::FinishedEntry, REPLAY, |next| match self.look_up(next, REPLAY) {
                LookUp::Failed => fail(next, REPLAY),
                LookUp::Finished => self.finish_loaded(next, REPLAY),
                // The report says `skipped`.
                LookUp::Missing => next.actors[REPLAY] = Actor { at: At::AfterDelete, source, ..Actor::default() },
            }),
            _ => self.finish_replay(state, index, steps),
        }
    }

    /// The steps after COMMIT.
    fn finish_replay(&self, state: &State, index: usize, steps: &mut Steps<'_>) {
        let at = state.actors[REPLAY].at;
        let moves_source = state.sources[index].is_in_place && self.has(Guard::ReplayMovesSource);
        let restores_first = self.has(Guard::RestoreBeforeManifest);
        let go_to = |next: &mut State, at: At| next.actors[REPLAY].at = at;
        match at {
            At::Replayed if moves_source => steps.add(Step::AfterCopy, REPLAY, |next| {
                self.copy(next, index, Destination::Processed);
                go_to(next, At::SourceCopied);
            }),
            At::SourceCopied => steps.add(Step::AfterDelete, REPLAY, |next| {
                next.sources[index].is_in_place = false;
                go_to(next, At::Replayed);
            }),
            At::Replayed if self.has(Guard::ManifestRemovedLast) => steps.add(Step::Remove, REPLAY, |next| {
                remove_object(next, index);
                go_to(next, At::ObjectRemoved);
            }),
            At::Replayed => steps.add(Step::RemoveManifest, REPLAY, |next| {
                next.sources[index].fallback.has_manifest = false;
                go_to(next, At::ObjectRemoved);
            }),
            At::ObjectRemoved if restores_first => self.restore_steps(index, steps),
            At::ObjectRemoved => steps.add(Step::RemoveManifest, REPLAY, |next| {
                remove_object(next, index);
                next.sources[index].fallback.has_manifest = false;
                go_to(next, At::ManifestRemoved);
            }),
            At::ManifestRemoved => self.restore_steps(index, steps),
            At::Restored => steps.add(Step::AfterDelete, REPLAY, |next| {
                next.sources[index].failed = Copy::None;
                go_to(next, if restores_first { At::NotInFailed } else { At::AfterDelete });
            }),
            _ => steps.add(Step::RemoveManifest, REPLAY, |next| {
                remove_object(next, index);
                next.sources[index].fallback.has_manifest = false;
                go_to(next, At::AfterDelete);
            }),
        }
    }

    /// `restore_object`: the copy. A copy that exists is verified.
    fn restore_steps(&self, index: usize, steps: &mut Steps<'_>) {
        steps.add(Step::RestoreObject, REPLAY, |next| {
            let source = &mut next.sources[index];
            let restores_first = self.has(Guard::RestoreBeforeManifest);
            next.actors[REPLAY].at = match source.failed {
                Copy::None if restores_first => At::NotInFailed,
                Copy::None => At::AfterDelete,
                copy => {
                    source.processed = copy;
                    At::Restored
                }
            };
        });
    }
}

fn remove_object(next: &mut State, source: usize) {
    let fallback = &mut next.sources[source].fallback;
    (fallback.has_object, fallback.is_registered, fallback.is_replayed) = (false, false, false);
}
