//! `make bench`: compares Spillway with the databases' bulk loaders, pandas and a hand-written script, on the same files and
//! servers.
//!
//! - `bench task=BINARY [set=NAMES] [engine=NAME] [rounds=COUNT] [rows=COUNT]` writes the figures to `docs/`, where they
//!   replace those of the same sets and engines. With `rows` it is a trial run with small files, which only prints them.
//!   With `baseline=BINARY` it also compares two builds of the task in the same rounds, and only prints the figures. With
//!   `terminal=BINARY` the command `spillway` loads the file, too.
//! - `bench start=FOLDER` is `make bench-start`, for the functions built in that folder.
//! - `bench large=BINARY [rows=COUNT]` is `make bench-large`.
//! - `bench idle=BINARY [rows=COUNT]` is `make bench-idle-sync`, for the command `spillway`, with so many objects of one row.
//! - `bench sync=BINARY [rows=COUNT]` is `make bench-sync`, for the command `spillway`.
//! - `bench diff=BINARY [rows=COUNT]` is `make bench-diff`, for the command `spillway`.
//! - `bench results=BINARY baseline=BINARY files=FOLDER` is `make compare-results`.
//! - `bench inline=BINARY [largest=MEGABYTES]` is `make bench-inline`.

#![expect(clippy::print_stdout, reason = "measurements are printed")]

mod arena;
mod client;
mod compare;
mod data;
mod diff;
mod figures;
mod idle_sync;
mod inline;
mod large;
mod measure;
mod plot;
mod report;
mod results;
mod rounds;
mod sets;
mod start;
mod zone;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::run::{self, Scratch, workspace};

use crate::arena::{Arena, Tasks};
use crate::figures::{Section, merged};
use crate::sets::Set;

/// The most memory that the task may use, for a file of any size.
const MEMORY_LIMIT_BYTES: u64 = 96 << 20;
/// The number of rounds, unless the command line sets it.
const ROUNDS: usize = 3;
/// The exit code after Ctrl-C.
const STOPPED: i32 = 130;

/// The arguments of the command line.
#[derive(Debug)]
struct Plan {
    task: PathBuf,
    sets: Vec<Set>,
    engines: Vec<Engine>,
    rounds: usize,
    /// Another build of the task to compare with.
    baseline: Option<PathBuf>,
    /// The command `spillway`.
    terminal: Option<PathBuf>,
    /// Whether the figures are printed and not published.
    is_trial: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let work = tokio::spawn(measure(std::env::args().skip(1).collect()));
    tokio::select! {
        ended = work => ended?,
        _ = tokio::signal::ctrl_c() => {
            // Removed because the files are large. The servers stop with this process.
            let _best_effort = std::fs::remove_dir_all(run::folder()?);
            std::process::exit(STOPPED);
        }
    }
}

async fn measure(words: Vec<String>) -> Result<()> {
    let machine = machine()?;
    match words.first().and_then(|word| word.split_once('=')) {
        Some(("start", folder)) => start::measure(Path::new(folder), &machine).await,
        Some(("large", task)) => {
            println!("{}", large::measure(Path::new(task), rows_of(&words)?, &machine).await?);
            Ok(())
        }
        Some(("idle", terminal)) => {
            println!("{}", idle_sync::measure(Path::new(terminal), rows_of(&words)?, &machine).await?);
            Ok(())
        }
        Some(("sync", terminal)) => {
            println!("{}", zone::measure(Path::new(terminal), rows_of(&words)?, &machine).await?);
            Ok(())
        }
        Some(("diff", terminal)) => {
            println!("{}", diff::measure(Path::new(terminal), rows_of(&words)?, &machine)?);
            Ok(())
        }
        Some(("results", task)) => {
            let value =
                |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).context("an argument is missing");
            let (baseline, files) = (value("baseline=")?, value("files=")?);
            println!("{}", results::compare(Path::new(task), Path::new(baseline), Path::new(files)).await?);
            Ok(())
        }
        Some(("inline", task)) => {
            let largest = words.get(1).and_then(|word| word.strip_prefix("largest=")).filter(|size| !size.is_empty());
            let largest = largest.map(str::parse).transpose().context("largest is not a number")?;
            println!("{}", inline::measure(Path::new(task), largest, &machine).await?);
            Ok(())
        }
        _ => measure_sets(Plan::parse(words.into_iter())?, &machine).await,
    }
}

/// The value of the second argument `rows=COUNT`, if it has one.
fn rows_of(words: &[String]) -> Result<Option<u64>> {
    let rows = words.get(1).and_then(|word| word.strip_prefix("rows=")).filter(|rows| !rows.is_empty());
    rows.map(str::parse).transpose().context("rows is not a number")
}

async fn measure_sets(plan: Plan, machine: &str) -> Result<()> {
    let started = Instant::now();
    // A copy, so that a build during the run does not change it.
    let folder = Scratch::new("bench_task")?;
    let copy = |binary: &Path, name: &str| {
        let copied = folder.path().join(name);
        std::fs::copy(binary, &copied).with_context(|| format!("cannot copy {}", binary.display()))?;
        anyhow::Ok(copied)
    };
    let tasks = Tasks {
        measured: copy(&plan.task, "spillway-task")?,
        baseline: plan.baseline.as_deref().map(|baseline| copy(baseline, "baseline-task")).transpose()?,
        terminal: plan.terminal.as_deref().map(|terminal| copy(terminal, "spillway")).transpose()?,
    };
    let mut sections = Vec::new();
    for &engine in &plan.engines {
        for set in &plan.sets {
            let arena = Arena::open(engine, Options::default(), tasks.clone()).await?;
            println!("{} on {}", set.name, arena.version().await?);
            let section = rounds::run(&arena, set, plan.rounds, machine, |line| println!("{line}")).await;
            sections.push(section.with_context(|| format!("{} on {} failed", set.name, engine.title()))?);
            if !plan.is_trial {
                publish(&sections)?;
            }
        }
    }
    for section in &sections {
        println!("\n{}", report::part(section)?);
    }
    println!("{:.0} minutes in all", started.elapsed().as_secs_f64() / 60.0);
    sections.iter().try_for_each(check_memory)
}

impl Plan {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut task, mut baseline, mut terminal, mut set) = (None, None, None, None);
        let (mut engine, mut rounds, mut rows) = (None, None, None);
        for argument in arguments {
            let (name, value) = argument.split_once('=').with_context(|| format!("{argument:?} is not NAME=VALUE"))?;
            let argument = match name {
                "task" => &mut task,
                "baseline" => &mut baseline,
                "terminal" => &mut terminal,
                "set" => &mut set,
                "engine" => &mut engine,
                "rounds" => &mut rounds,
                "rows" => &mut rows,
                _ => bail!(
                    "unknown argument {name:?}; accepted are task, baseline, terminal, set, engine, rounds and rows"
                ),
            };
            // The Makefile passes an empty value for an unset variable.
            *argument = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        let rows: Option<u64> = rows.map(|text| text.parse()).transpose().context("rows is not a number")?;
        let rounds = rounds.map_or(Ok(ROUNDS), |text| text.parse()).context("rounds is not a number")?;
        ensure!(rounds > 0 && rows != Some(0), "rounds and rows must be at least 1");
        let engines = match engine {
            None => vec![Engine::MariaDb, Engine::Postgres],
            Some(name) => {
                let unknown = || format!("unknown engine {name:?}; accepted are mariadb and postgres");
                vec![Engine::from_name(&name).with_context(unknown)?]
            }
        };
        Ok(Self {
            task: task.context("task=PATH, the binary of the task, is missing")?.into(),
            sets: sets::select(set.as_deref(), rows)?,
            engines,
            rounds,
            is_trial: rows.is_some() || baseline.is_some(),
            baseline: baseline.map(PathBuf::from),
            terminal: terminal.map(PathBuf::from),
        })
    }
}

/// Writes figures, report and plot. Figures of other sets are kept.
fn publish(sections: &[Section]) -> Result<()> {
    let path = |name| workspace().join("docs").join(name);
    let older = match std::fs::read(path("benchmarks.json")) {
        Ok(text) => serde_json::from_slice(&text).context("docs/benchmarks.json has another structure; delete it")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let all = merged(older, sections.to_vec(), &sets::names());
    std::fs::write(path("benchmarks.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    std::fs::write(path("benchmarks.svg"), plot::chart(&all))?;
    Ok(std::fs::write(path("benchmarks.md"), report::page(&all)?)?)
}

/// Fails if Spillway used more memory than [`MEMORY_LIMIT_BYTES`].
fn check_memory(section: &Section) -> Result<()> {
    let peaks = section.spillway()?.runs.iter().map(|run| run.peak_memory_bytes);
    let (peak, limit) = (peaks.max().unwrap_or_default() >> 20, MEMORY_LIMIT_BYTES >> 20);
    ensure!(peak < limit, "{} on {} used {peak} MiB; the limit is {limit} MiB", section.set, section.server);
    Ok(())
}

/// The cores and the memory of this machine.
fn machine() -> Result<String> {
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("no MemTotal")?;
    let kibibytes: f64 = total.trim().trim_end_matches(" kB").parse()?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores, {:.0} GiB", kibibytes / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::{Engine, Plan};

    fn plan(arguments: &[&str]) -> anyhow::Result<Plan> {
        Plan::parse(arguments.iter().map(|text| (*text).to_owned()))
    }

    #[test]
    fn empty_arguments_have_their_defaults() {
        let default = plan(&["task=t", "set=", "engine=", "rounds=", "rows="]).unwrap();
        assert_eq!((default.rounds, default.engines.len(), default.is_trial), (3, 2, false));
        assert!(
            default.sets.iter().all(|set| set.name != "orders-32m"),
            "it takes half an hour, so it is not a default"
        );
        let chosen = plan(&["task=t", "set=small,orders-32m", "engine=postgres", "rows=250"]).unwrap();
        assert_eq!(chosen.engines, [Engine::Postgres]);
        assert_eq!((chosen.sets[0].files, chosen.sets[1].rows_each, chosen.is_trial), (3, 250, true));
        assert_eq!(plan(&["task=t", "set=all"]).unwrap().sets.len(), 5);
        let compared = plan(&["task=t", "baseline=b"]).unwrap();
        assert!(compared.is_trial && compared.baseline == Some("b".into()), "a comparison is not published");
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for arguments in
            [&["task=t", "set=orders"][..], &["task=t", "engine=oracle"], &["rounds=3"], &["task=t", "rounds=0"]]
        {
            assert!(plan(arguments).is_err(), "{arguments:?}");
        }
    }
}
