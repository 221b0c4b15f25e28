//! `make bench`: Spillway beside the databases' own bulk loaders, pandas, and a script by hand, on the same files and servers.
//!
//! Called as `bench task=BINARY [set=NAMES] [engine=NAME] [rounds=COUNT] [rows=COUNT]`. The figures go to `docs/`, where they
//! replace those of the same sets and engines; with `rows`, which is for trying it out, they are only printed.
//! `bench start=FOLDER` is `make bench-start`, of the functions that were built there; `bench large=BINARY [rows=COUNT]` is `make bench-large`.

#![expect(clippy::print_stdout, reason = "measurements are printed")]

mod arena;
mod client;
mod compare;
mod data;
mod figures;
mod large;
mod measure;
mod plot;
mod report;
mod rounds;
mod sets;
mod start;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::run::{self, Scratch, workspace};

use crate::arena::Arena;
use crate::figures::{Section, merged};
use crate::sets::Set;

/// What the task may have resident, whatever the size of the file.
const MEMORY_LIMIT_BYTES: u64 = 96 << 20;
const ROUNDS: usize = 3;
/// The exit code of a process that was stopped from the keyboard.
const STOPPED: i32 = 130;

/// What the command line asks for.
#[derive(Debug)]
struct Plan {
    task: PathBuf,
    sets: Vec<Set>,
    engines: Vec<Engine>,
    rounds: usize,
    is_trial: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let work = tokio::spawn(measure(std::env::args().skip(1).collect()));
    tokio::select! {
        ended = work => ended?,
        _ = tokio::signal::ctrl_c() => {
            // The files are large. The servers end with this process.
            let _best_effort = std::fs::remove_dir_all(run::folder()?);
            std::process::exit(STOPPED);
        }
    }
}

async fn measure(words: Vec<String>) -> Result<()> {
    let compute = compute()?;
    match words.first().and_then(|word| word.split_once('=')) {
        Some(("start", folder)) => start::measure(Path::new(folder), &compute).await,
        Some(("large", task)) => {
            let rows = words.get(1).and_then(|word| word.strip_prefix("rows=")).filter(|rows| !rows.is_empty());
            let rows = rows.map(str::parse).transpose().context("rows is no number")?;
            println!("{}", large::measure(Path::new(task), rows, &compute).await?);
            Ok(())
        }
        _ => measure_sets(Plan::parse(words.into_iter())?, &compute).await,
    }
}

async fn measure_sets(plan: Plan, compute: &str) -> Result<()> {
    let begun = Instant::now();
    // A copy: it stays the same while others build.
    let folder = Scratch::new("bench_task")?;
    let task = folder.path().join("spillway-task");
    std::fs::copy(&plan.task, &task).with_context(|| format!("cannot copy {}", plan.task.display()))?;
    let mut sections = Vec::new();
    for &engine in &plan.engines {
        for set in &plan.sets {
            let arena = Arena::open(engine, Options::default(), &task).await?;
            println!("{} on {}", set.name, arena.version().await?);
            let section = rounds::run(&arena, set, plan.rounds, compute, |line| println!("{line}")).await;
            sections.push(section.with_context(|| format!("{} on {} failed", set.name, engine.title()))?);
            if !plan.is_trial {
                publish(&sections)?;
            }
        }
    }
    for section in &sections {
        println!("\n{}", report::part(section)?);
    }
    println!("{:.0} minutes in all", begun.elapsed().as_secs_f64() / 60.0);
    sections.iter().try_for_each(ensure_flat)
}

impl Plan {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut task, mut set, mut engine, mut rounds, mut rows) = (None, None, None, None, None);
        for argument in arguments {
            let (name, value) = argument.split_once('=').with_context(|| format!("{argument:?} is no NAME=VALUE"))?;
            let kept = match name {
                "task" => &mut task,
                "set" => &mut set,
                "engine" => &mut engine,
                "rounds" => &mut rounds,
                "rows" => &mut rows,
                _ => bail!("{name:?} is no argument; there are task, set, engine, rounds and rows"),
            };
            // What the Makefile has no value for is empty.
            *kept = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        let rows: Option<u64> = rows.map(|text| text.parse()).transpose().context("rows is no number")?;
        let rounds = rounds.map_or(Ok(ROUNDS), |text| text.parse()).context("rounds is no number")?;
        ensure!(rounds > 0 && rows != Some(0), "rounds and rows are at least 1");
        let engines = match engine {
            None => vec![Engine::MariaDb, Engine::Postgres],
            Some(name) => {
                let unknown = || format!("{name:?} is no engine; there are mariadb and postgres");
                vec![Engine::from_name(&name).with_context(unknown)?]
            }
        };
        Ok(Self {
            task: task.context("which binary of the task? task=PATH")?.into(),
            sets: sets::chosen(set.as_deref(), rows)?,
            engines,
            rounds,
            is_trial: rows.is_some(),
        })
    }
}

/// Writes figures, report and plot, with what earlier runs have measured of other sets.
fn publish(sections: &[Section]) -> Result<()> {
    let path = |name| workspace().join("docs").join(name);
    let older = match std::fs::read(path("benchmarks.json")) {
        Ok(text) => serde_json::from_slice(&text).context("docs/benchmarks.json is of another form; delete it")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let all = merged(older, sections.to_vec(), &sets::names());
    std::fs::write(path("benchmarks.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    std::fs::write(path("benchmarks.svg"), plot::chart(&all))?;
    Ok(std::fs::write(path("benchmarks.md"), report::page(&all)?)?)
}

/// Fails when Spillway has needed more memory than it may.
fn ensure_flat(section: &Section) -> Result<()> {
    let peaks = section.spillway()?.runs.iter().map(|run| run.peak_memory_bytes);
    let (peak, limit) = (peaks.max().unwrap_or_default() >> 20, MEMORY_LIMIT_BYTES >> 20);
    ensure!(peak < limit, "{} on {} took {peak} MiB; {limit} is the limit", section.set, section.server);
    Ok(())
}

/// Cores and memory.
fn compute() -> Result<String> {
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
    fn what_the_makefile_leaves_empty_has_its_default() {
        let default = plan(&["task=t", "set=", "engine=", "rounds=", "rows="]).unwrap();
        assert_eq!((default.rounds, default.engines.len(), default.is_trial), (3, 2, false));
        assert!(default.sets.iter().all(|set| set.name != "orders-32m"), "half an hour, unasked for");
        let chosen = plan(&["task=t", "set=small,orders-32m", "engine=postgres", "rows=250"]).unwrap();
        assert_eq!(chosen.engines, [Engine::Postgres]);
        assert_eq!((chosen.sets[0].files, chosen.sets[1].rows_each, chosen.is_trial), (3, 250, true));
        assert_eq!(plan(&["task=t", "set=all"]).unwrap().sets.len(), 5);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for arguments in
            [&["task=t", "set=orders"][..], &["task=t", "engine=oracle"], &["rounds=3"], &["task=t", "rounds=0"]]
        {
            assert!(plan(arguments).is_err(), "{arguments:?}");
        }
    }
}
