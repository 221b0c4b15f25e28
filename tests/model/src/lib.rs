//! A model of the load protocol: lease, claim, COMMIT, fallback, replay, move and clean-up of one or two object versions.
//!
//! The [`checker`] visits every state that two workers, a replay, a clean-up and a bounded number of faults can reach, and checks
//! each [`invariant`]. `docs/model.md` lists the parts of the model. The steps have the names of the code's failpoints and functions
//! ([`step`]), and a test compares them. Each [`guard`] of the protocol can be removed, and then a test demands a broken invariant.

mod attempt;
pub mod checker;
mod environment;
pub mod guard;
pub mod invariant;
mod lease;
mod listed;
mod moves;
pub mod protocol;
mod replay;
pub mod state;
pub mod step;
