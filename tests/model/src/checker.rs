//! A breadth-first checker: visits all reachable states, finds shortest counterexamples, and checks that an end is reachable.
//!
//! It is not the crate `stateright`, because that crate cannot check the second property. Its `eventually` ignores cycles, and it has
//! no "from every state, an end can be reached". It also always brings a web server.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;

/// A system whose states can be enumerated.
pub trait Model {
    /// A state, small enough to keep millions of them.
    type State: Clone + Eq + Hash;
    /// The name of a transition.
    type Label: Clone + Debug;
    /// The name of a broken rule.
    type Rule: Copy + Eq + Debug;

    /// The states at the beginning.
    fn initial(&self) -> Vec<Self::State>;

    /// Adds every transition from a state.
    fn transitions(&self, state: &Self::State, found: &mut Vec<Transition<Self>>);

    /// The first rule that a state breaks.
    fn broken(&self, state: &Self::State) -> Option<Self::Rule>;

    /// Whether a state is an end.
    fn is_end(&self, state: &Self::State) -> bool;
}

/// A transition to another state.
#[derive(Debug)]
pub struct Transition<M: Model + ?Sized> {
    /// Its name.
    pub label: M::Label,
    /// Whether the environment causes it by a fault, so that no progress may depend on it.
    pub is_fault: bool,
    /// The state after it.
    pub state: M::State,
}

/// A broken rule, with a shortest sequence of transitions that leads to it.
#[derive(Debug)]
pub struct Counterexample<M: Model + ?Sized> {
    /// The rule.
    pub rule: M::Rule,
    /// The transitions from the beginning.
    pub trace: Vec<M::Label>,
}

/// The result of a check.
#[derive(Debug)]
pub struct Checked<M: Model> {
    /// Number of different states that were visited.
    pub states: usize,
    /// Number of transitions between them.
    pub transitions: usize,
    /// Number of visited states that are an end.
    pub ends: usize,
    /// The first broken rule. The search ends there.
    pub broken: Option<Counterexample<M>>,
    /// The trace to a state from which no end can be reached without faults.
    pub stuck: Option<Vec<M::Label>>,
}

/// Visits every reachable state, until one breaks a rule. Then checks that each state can reach an end.
pub fn check<M: Model>(model: &M) -> Checked<M> {
    let mut search = Search { model, indexes: HashMap::new(), states: Vec::new(), parents: Vec::new() };
    for state in model.initial() {
        search.add(state, None);
    }
    let (mut edges, mut transitions, mut next) = (Vec::new(), 0, 0);
    let mut found = Vec::new();
    while next < search.states.len() {
        model.transitions(&search.states[next], &mut found);
        for Transition { is_fault, state, .. } in found.drain(..) {
            transitions += 1;
            let (to, is_new) = search.add(state, Some(next));
            if is_new && let Some(rule) = model.broken(&search.states[to]) {
                let broken = Some(Counterexample { rule, trace: search.trace(to) });
                return Checked { states: search.states.len(), transitions, ends: 0, broken, stuck: None };
            }
            if !is_fault && to != next {
                edges.push((index(to), index(next)));
            }
        }
        next += 1;
    }
    let ends: Vec<usize> = (0..search.states.len()).filter(|index| model.is_end(&search.states[*index])).collect();
    let stuck = first_stuck(search.states.len(), &ends, edges).map(|state| search.trace(state));
    Checked { states: search.states.len(), transitions, ends: ends.len(), broken: None, stuck }
}

struct Search<'a, M: Model> {
    model: &'a M,
    indexes: HashMap<M::State, u32>,
    states: Vec<M::State>,
    parents: Vec<Option<u32>>,
}

impl<M: Model> Search<'_, M> {
    /// Returns the index of a state, and whether it is new.
    fn add(&mut self, state: M::State, parent: Option<usize>) -> (usize, bool) {
        let new = index(self.states.len());
        match self.indexes.entry(state) {
            Entry::Occupied(known) => (*known.get() as usize, false),
            Entry::Vacant(entry) => {
                self.states.push(entry.key().clone());
                entry.insert(new);
                self.parents.push(parent.map(index));
                (new as usize, true)
            }
        }
    }

    /// The labels of the transitions that first led to a state. They are not stored, but found again.
    fn trace(&self, mut to: usize) -> Vec<M::Label> {
        let (mut trace, mut found) = (Vec::new(), Vec::new());
        while let Some(from) = self.parents[to] {
            let from = from as usize;
            self.model.transitions(&self.states[from], &mut found);
            let step = found.drain(..).find(|step| step.state == self.states[to]);
            trace.extend(step.map(|step| step.label));
            to = from;
        }
        trace.reverse();
        trace
    }
}

/// Returns the first state from which no end can be reached. The edges lead backward.
fn first_stuck(states: usize, ends: &[usize], mut edges: Vec<(u32, u32)>) -> Option<usize> {
    edges.sort_unstable();
    let mut reaches = vec![false; states];
    let mut open = ends.to_vec();
    ends.iter().for_each(|end| reaches[*end] = true);
    while let Some(state) = open.pop() {
        let first = edges.partition_point(|(to, _)| (*to as usize) < state);
        for (_, from) in edges[first..].iter().take_while(|(to, _)| *to as usize == state) {
            if !std::mem::replace(&mut reaches[*from as usize], true) {
                open.push(*from as usize);
            }
        }
    }
    reaches.iter().position(|reaches| !reaches)
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("a model has fewer than 2^32 states")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts to 5. From 3 a fault leads to 10, which has no transition.
    struct Counter {
        limit: u8,
        ends_at: u8,
    }

    impl Model for Counter {
        type State = u8;
        type Label = u8;
        type Rule = ();

        fn initial(&self) -> Vec<u8> {
            vec![0]
        }

        fn transitions(&self, state: &u8, found: &mut Vec<Transition<Self>>) {
            if *state < 5 {
                found.push(Transition { label: *state, is_fault: false, state: state + 1 });
            }
            if *state == 3 {
                found.push(Transition { label: 100, is_fault: true, state: 10 });
            }
        }

        fn broken(&self, state: &u8) -> Option<()> {
            (*state > self.limit).then_some(())
        }

        fn is_end(&self, state: &u8) -> bool {
            *state == self.ends_at || *state == 10
        }
    }

    #[test]
    fn every_state_is_visited_once() {
        let checked = check(&Counter { limit: 10, ends_at: 5 });
        assert_eq!((checked.states, checked.transitions, checked.ends), (7, 6, 2));
        assert!(checked.broken.is_none() && checked.stuck.is_none());
    }

    #[test]
    fn shortest_trace_to_a_broken_rule_is_found() {
        assert_eq!(check(&Counter { limit: 4, ends_at: 5 }).broken.unwrap().trace, [0, 1, 2, 100]);
    }

    #[test]
    fn state_that_reaches_an_end_only_by_a_fault_is_stuck() {
        assert_eq!(check(&Counter { limit: 10, ends_at: 20 }).stuck.unwrap(), Vec::<u8>::new());
        assert_eq!(check(&Counter { limit: 10, ends_at: 2 }).stuck.unwrap(), [0, 1, 2]);
    }
}
