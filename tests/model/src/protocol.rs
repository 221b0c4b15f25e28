//! The model as a whole: its bounds, its guards, and what can happen in a state.

use crate::checker::{Model, Transition};
use crate::guard::{Guard, Guards};
use crate::invariant::Invariant;
use crate::state::{ACTORS, At, Faults, REPLAY, SOURCES, Source, State};
use crate::step::Step;

/// The versions of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// One.
    One,
    /// The user may overwrite it once with other bytes, in a bucket without versions.
    Overwritten,
    /// Two with the same bytes, in a bucket with versions.
    SameContent,
}

/// The load protocol with some of its guards, versions and faults.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The guards.
    pub guards: Guards,
    /// The versions of the key.
    pub versions: Versions,
    /// The faults that may happen.
    pub faults: Faults,
    /// The only invariant to check; `None` for all.
    pub watched: Option<Invariant>,
}

/// A step, with the actor that does it and the version that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The step.
    pub step: Step,
    /// `a` and `b` are workers.
    pub actor: &'static str,
    /// 1 or 2.
    pub version: u8,
}

/// The names of the actors in traces. Workers are sorted in each state, so `a` and `b` may be exchanged from one step to the next.
const NAMES: [&str; ACTORS] = ["a", "b", "replay"];

impl Protocol {
    pub(crate) fn has(&self, guard: Guard) -> bool {
        self.guards.has(guard)
    }

    /// Notes that a step has broken an invariant. Only the watched one is noted, because a note makes another state.
    pub(crate) fn break_rule(&self, next: &mut State, rule: Invariant) {
        if self.watched.is_none_or(|watched| watched == rule) {
            next.broken = Some(rule);
        }
    }

    fn attempt_steps(&self, state: &State, steps: &mut Steps<'_>) {
        for actor in 0..ACTORS {
            match (actor == REPLAY, state.actors[actor].at) {
                (false, At::Idle) => self.start_load(state, actor, steps),
                (true, At::Idle) => self.start_replay(state, steps),
                (_, At::Located | At::ExpiredLeaseRead) => self.acquire_steps(state, actor, steps),
                (_, At::AfterDelete | At::Failed) => self.end_lease_steps(state, actor, steps),
                (true, at) if at.is_only_in_replay() => self.replay_steps(state, steps),
                _ => self.load_steps(state, actor, steps),
            }
        }
    }
}

/// The transitions from one state, as they are found.
pub(crate) struct Steps<'a> {
    from: &'a State,
    found: &'a mut Vec<Transition<Protocol>>,
}

impl Steps<'_> {
    /// Adds a step of an actor.
    pub(crate) fn add(&mut self, step: Step, actor: usize, change: impl FnOnce(&mut State)) {
        let mut state = *self.from;
        change(&mut state);
        // The version is known before the step or after it.
        let version = self.from.actors[actor].source.max(state.actors[actor].source) + 1;
        self.push(Label { step, actor: NAMES[actor], version }, false, state);
    }

    /// Adds a fault that strikes an actor.
    pub(crate) fn add_fault(&mut self, step: Step, actor: usize, change: impl FnOnce(&mut State)) {
        let mut state = *self.from;
        change(&mut state);
        let version = self.from.actors[actor].source + 1;
        self.push(Label { step, actor: NAMES[actor], version }, true, state);
    }

    /// Adds a step of the clean-up or the environment.
    pub(crate) fn add_other(&mut self, step: Step, is_fault: bool, source: usize, change: impl FnOnce(&mut State)) {
        let mut state = *self.from;
        change(&mut state);
        let version = u8::try_from(source).unwrap_or_default() + 1;
        self.push(Label { step, actor: "-", version }, is_fault, state);
    }

    fn push(&mut self, label: Label, is_fault: bool, state: State) {
        self.found.push(Transition { label, is_fault, state: state.normalized() });
    }
}

impl Model for Protocol {
    type State = State;
    type Label = Label;
    type Rule = Invariant;

    fn initial(&self) -> Vec<State> {
        let first = Source { is_uploaded: true, is_in_place: true, ..Source::default() };
        let sources: [Source; SOURCES] = match self.versions {
            Versions::One | Versions::Overwritten => [first, Source::default()],
            Versions::SameContent => [Source { has_same_content: true, ..first }; SOURCES],
        };
        vec![State {
            actors: Default::default(),
            clean_up: None,
            sources,
            is_database_up: true,
            faults: self.faults,
            broken: None,
        }]
    }

    fn transitions(&self, state: &State, found: &mut Vec<Transition<Self>>) {
        let mut steps = Steps { from: state, found };
        self.attempt_steps(state, &mut steps);
        self.clean_up_steps(state, &mut steps);
        self.environment_steps(state, &mut steps);
        self.fault_steps(state, &mut steps);
    }

    fn broken(&self, state: &State) -> Option<Invariant> {
        state.broken_invariants().find(|broken| self.watched.is_none_or(|watched| watched == *broken))
    }

    fn is_end(&self, state: &State) -> bool {
        state.is_end()
    }
}
