//! Runs with faults: workers that are killed, halted or cut off, and the check that every row exists once afterwards.
//!
//! `make faults` runs as many as its time allows, and prints the seed of each run that fails. `tests/crash/faults.rs` runs a few.

pub mod concurrency;
pub mod link;
pub mod matrix;
pub mod random;
pub mod scene;
pub mod soak;
pub mod tally;
pub mod wire;
pub mod worker;

use std::fmt;

use anyhow::Result;
use fastrand::Rng;

use crate::database::Engine;
use concurrency::Crowd;
use link::Plan;
use matrix::{Fault, Setup};
use scene::Mode;
use tally::Outcome;
use wire::{Behind, Line};

/// One run. Together with its seed it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Case {
    /// A fault at a failpoint.
    Point(Setup, String, Fault),
    /// Faults at random moments.
    Random(Engine, Mode),
    /// A link that breaks.
    Wire(Line, Plan),
    /// Many workers at once.
    Concurrency(Engine, Crowd),
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(setup, point, fault) => write!(formatter, "points/{setup}/{point}/{fault:?}"),
            Self::Random(engine, mode) => write!(formatter, "random/{}/{mode:?}", engine.name()),
            Self::Wire(line, plan) => write!(formatter, "wire/{line}/{plan:?}"),
            Self::Concurrency(engine, crowd) => write!(formatter, "concurrency/{}/{crowd:?}", engine.name()),
        }
    }
}

impl Case {
    /// The case of a seed in a battery: `random`, `wire` or `concurrency`.
    pub fn random(battery: &str, seed: u64) -> Option<Self> {
        let mut rng = Rng::with_seed(seed);
        let engine = if rng.bool() { Engine::MariaDb } else { Engine::Postgres };
        let mut mode = Mode::ALL[rng.usize(0..Mode::ALL.len())];
        while !mode.is_on(engine) {
            mode = Mode::ALL[rng.usize(0..Mode::ALL.len())];
        }
        match battery {
            "random" => Some(Self::Random(engine, mode)),
            "wire" => {
                let behind = if rng.u8(0..3) == 0 { Behind::Database } else { Behind::Aws };
                Some(Self::Wire(Line { engine, mode, behind }, wire::random_plan(&mut rng)))
            }
            "concurrency" => Some(Self::Concurrency(engine, Crowd::ALL[rng.usize(0..Crowd::ALL.len())])),
            _ => None,
        }
    }

    /// Every fault at each of these failpoints.
    pub fn points(setup: Setup, points: &[String]) -> Vec<Self> {
        let cases = |point: &String| Fault::ALL.map(|fault| Self::Point(setup, point.clone(), fault));
        points.iter().flat_map(cases).collect()
    }

    /// Runs the case with the random numbers of a seed.
    pub async fn run(&self, seed: u64) -> Result<Outcome> {
        let mut rng = Rng::with_seed(seed);
        match self {
            Self::Point(setup, point, fault) => setup.run(point, *fault, &mut rng).await,
            Self::Random(engine, mode) => random::run(*engine, *mode, &mut rng).await,
            Self::Wire(line, plan) => wire::run(*line, *plan, &mut rng).await,
            Self::Concurrency(engine, crowd) => concurrency::run(*engine, *crowd, &mut rng).await,
        }
    }
}
