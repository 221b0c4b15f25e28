//! The invariants hold in every reachable state.
//!
//! The bounds are numbers of crashes and failures, of faults of the database, and of stalls.

#![expect(clippy::print_stdout, reason = "the number of states is printed")]

use std::time::Instant;

use spillway_model::checker::check;
use spillway_model::guard::Guards;
use spillway_model::protocol::{Protocol, Versions};
use spillway_model::state::Faults;

/// Checks each model in full, and fails on the first broken invariant.
fn assert_holds(versions: Versions, bounds: &[(u8, u8, u8)]) {
    for (crashes, database, stalls) in bounds.iter().copied() {
        let faults = Faults { crashes, database, stalls };
        let started = Instant::now();
        let checked = check(&Protocol { guards: Guards::all(), versions, faults, watched: None });
        let name = format!("{versions:?} with {faults:?}");
        println!(
            "{name}: {} states, {} transitions, {} ends, {:.1} s",
            checked.states,
            checked.transitions,
            checked.ends,
            started.elapsed().as_secs_f64()
        );
        if let Some(broken) = checked.broken {
            panic!("{name} breaks {:?}: {:#?}", broken.rule, broken.trace);
        }
        assert!(checked.stuck.is_none(), "{name} reaches no end after {:#?}", checked.stuck);
        assert!(checked.ends > 0);
    }
}

#[test]
fn one_version_is_stored_once() {
    assert_holds(Versions::One, &[(1, 1, 0), (1, 1, 1), (1, 2, 1)]);
}

#[test]
fn overwritten_key_loses_no_version() {
    assert_holds(Versions::Overwritten, &[(1, 1, 0)]);
}

#[test]
fn same_content_is_loaded_once() {
    assert_holds(Versions::SameContent, &[(1, 1, 0)]);
}

/// Takes minutes and gigabytes: `cargo test -p spillway-model --test protocol -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn invariants_hold_with_more_faults() {
    assert_holds(Versions::One, &[(2, 2, 1), (1, 1, 2)]);
    assert_holds(Versions::Overwritten, &[(1, 1, 1)]);
    assert_holds(Versions::SameContent, &[(1, 1, 1)]);
}
