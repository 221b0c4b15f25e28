//! `make faults`: runs with faults until its time is over, and prints what was lost, stored twice or left over.
//!
//! Arguments, each as NAME=VALUE: `battery` (`points`, `responses`, `random`, `wire`, `concurrency`, several of them with commas, or `soak`), `seconds`,
//! `runs`, `seed`, `at_once`, and `only`, a part of the names of the cases. Each run that fails is printed with its case and its seed:
//! `battery=random only=random/mariadb/Merge seed=17 runs=1` repeats it.

#![expect(clippy::print_stdout, reason = "the program prints its output")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use futures_util::{StreamExt, TryStreamExt, stream};
use spillway_test_env::cloud::Cloud;
use spillway_test_env::database::{Database, Engine};
use spillway_test_env::faults::matrix::Setup;
use spillway_test_env::faults::tally::{Outcome, Tally};
use spillway_test_env::faults::wire::Line;
use spillway_test_env::faults::{Case, soak};
use spillway_test_env::fixture::Verdict;
use spillway_test_env::run;
use tokio::task::JoinSet;

/// The interval between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(60);

/// A trace that waits too long for its turn loses its lease.
const TRACES_AT_ONCE: usize = 4;

struct Options {
    batteries: Vec<String>,
    seconds: u64,
    runs: usize,
    seed: u64,
    at_once: usize,
    only: String,
}

impl Options {
    fn from_arguments() -> Result<Self> {
        let mut options = Self {
            batteries: ["points", "responses", "random", "wire", "concurrency"].map(str::to_owned).to_vec(),
            seconds: 3_000,
            runs: usize::MAX,
            seed: run::random_numbers().1 % 1_000_000_000,
            at_once: 12,
            only: String::new(),
        };
        for argument in std::env::args().skip(1) {
            let (name, value) = argument.split_once('=').context("an argument is not NAME=VALUE")?;
            match (name, value) {
                (_, "") => {}
                ("battery", _) => options.batteries = value.split(',').map(str::to_owned).collect(),
                ("seconds", _) => options.seconds = value.parse()?,
                ("runs", _) => options.runs = value.parse()?,
                ("seed", _) => options.seed = value.parse()?,
                ("at_once", _) => options.at_once = value.parse()?,
                ("only", _) => value.clone_into(&mut options.only),
                _ => bail!("{name} is not an argument"),
            }
        }
        Ok(options)
    }

    /// Whether cases whose names begin with this text can be among those that were asked for.
    fn concerns(&self, beginning: &str) -> bool {
        beginning.contains(&self.only) || self.only.starts_with(beginning)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    println!("seed {}", options.seed);
    // Before the runs, so that no run waits for a server's start.
    let _cloud = Cloud::shared().await?;
    for engine in [Engine::MariaDb, Engine::Postgres] {
        Database::shared(engine).await?;
    }
    if options.batteries == ["soak"] {
        return soak(&options).await;
    }
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for battery in &options.batteries {
        let tally = run_battery(battery, &options).await?;
        tallies.insert(battery.clone(), tally);
    }
    println!(
        "\n| battery | runs | faults fired | lost | doubled | unexpected | other | failed | seconds of all runs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, tally) in &tallies {
        println!("{}", tally.line(name));
    }
    if tallies.values().all(Tally::is_clean) { Ok(()) } else { bail!("runs have failed; see above") }
}

/// Loads many files with warm functions on each engine, and prints the measurements.
async fn soak(options: &Options) -> Result<()> {
    let mut is_clean = true;
    for engine in [Engine::MariaDb, Engine::Postgres] {
        let time = Duration::from_secs(options.seconds / 2);
        let soak = soak::run(engine, time, &mut Rng::with_seed(options.seed)).await?;
        println!(
            "{}: {} uploads, {} of them overwritten, {} calls, {} functions killed",
            engine.name(),
            soak.files,
            soak.overwritten,
            soak.calls,
            soak.kills
        );
        println!("| files | memory (MiB) | descriptors | connections |\n|---|---|---|---|");
        let step = (soak.samples.len() / 12).max(1);
        for sample in soak.samples.iter().step_by(step) {
            let mebibytes = sample.memory_bytes as f64 / f64::from(1 << 20);
            println!("| {} | {mebibytes:.1} | {} | {} |", sample.files, sample.descriptors, sample.connections);
        }
        let growth = soak.growth();
        if soak.verdict != Verdict::default() || !growth.is_empty() {
            is_clean = false;
            println!("WRONG {growth:?} {:#?}", soak.verdict);
        }
    }
    if is_clean { Ok(()) } else { bail!("the soak has failed; see above") }
}

/// Runs cases until the time of the battery is over.
async fn run_battery(battery: &str, options: &Options) -> Result<Tally> {
    let begun = Instant::now();
    let time = Duration::from_secs(options.seconds / options.batteries.len() as u64);
    let listed = match battery {
        "points" => Some(points(options).await?),
        "responses" => Some(responses(options).await?),
        _ => None,
    };
    let mut listed = listed.map(|mut cases| {
        cases.retain(|case| case.to_string().contains(&options.only));
        cases.sort_by_key(Case::to_string);
        Rng::with_seed(options.seed).shuffle(&mut cases);
        println!("{battery}: {} cases", cases.len());
        cases.into_iter()
    });
    let mut tally = Tally::default();
    let mut running = JoinSet::new();
    let (mut seed, mut started, mut printed) = (options.seed, 0, Instant::now());
    loop {
        while running.len() < options.at_once && started < options.runs && begun.elapsed() < time {
            let case = match &mut listed {
                Some(cases) => cases.next(),
                None => Some(Case::random(battery, seed).with_context(|| format!("{battery} is not a battery"))?),
            };
            let Some(case) = case else { break };
            if case.to_string().contains(&options.only) {
                started += 1;
                running.spawn(async move {
                    let begun = Instant::now();
                    (case.run(seed).await, case, seed, begun.elapsed())
                });
            }
            seed += 1;
        }
        let Some(ended) = running.join_next().await else { break };
        let (result, case, seed, time) = ended?;
        note(&mut tally, &case, seed, result, time);
        if printed.elapsed() > PROGRESS {
            printed = Instant::now();
            println!("{} after {:.0} s", tally.line(battery), begun.elapsed().as_secs_f64());
        }
    }
    println!(
        "{} after {:.0} s, {} cases out of reach",
        tally.line(battery),
        begun.elapsed().as_secs_f64(),
        tally.out_of_reach
    );
    Ok(tally)
}

fn note(tally: &mut Tally, case: &Case, seed: u64, result: Result<Outcome>, time: Duration) {
    match result {
        Ok(outcome) => {
            if outcome.verdict != Verdict::default() {
                println!("WRONG {case} seed={seed}: {:#?}", outcome.verdict);
            }
            tally.add(&outcome, time);
        }
        Err(error) => {
            tally.failed += 1;
            println!("FAILED {case} seed={seed}: {error:#}");
        }
    }
}

/// The faults at each failpoint that a trace of each setup has found.
async fn points(options: &Options) -> Result<Vec<Case>> {
    let setups = Setup::all().into_iter().filter(|setup| options.concerns(&format!("points/{setup}/")));
    let traces = setups.map(|setup| async move {
        let points = setup.trace().await?;
        println!("{setup} reaches {} failpoints: {}", points.len(), points.join(" "));
        anyhow::Ok(Case::points(setup, &points))
    });
    let cases: Vec<Vec<Case>> = stream::iter(traces).buffer_unordered(TRACES_AT_ONCE).try_collect().await?;
    Ok(cases.concat())
}

/// Each response of each server that a worker gets, swallowed or late.
async fn responses(options: &Options) -> Result<Vec<Case>> {
    let lines = Line::all().into_iter().filter(|line| options.concerns(&format!("wire/{line}/")));
    let plans = lines.map(|line| async move {
        let plans = line.plans().await?;
        println!("{line} gets {} responses", plans.len() / 2);
        anyhow::Ok(plans.into_iter().map(move |plan| Case::Wire(line, plan)).collect::<Vec<_>>())
    });
    let cases: Vec<Vec<Case>> = stream::iter(plans).buffer_unordered(TRACES_AT_ONCE).try_collect().await?;
    Ok(cases.concat())
}
