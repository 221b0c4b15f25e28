//! `make bench-inline`: compares loads in the trigger function with loads in a task, by time, memory and cost, to choose
//! `INLINE_MAX_BYTES`.
//!
//! The task is measured, because the function does the same work. The time in a function follows from the measured processor
//! time and the share of a processor that Lambda gives to its memory.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use spillway_test_env::database::{Engine, Options};
use spillway_test_env::run::workspace;

use crate::arena::{Arena, LOADED, Tasks};
use crate::data::Data;
use crate::figures::Run;
use crate::measure as stopwatch;

/// The sizes of the files in megabytes.
const SIZES: [u64; 6] = [1, 10, 50, 100, 200, 500];
const ROWS_PER_MEGABYTE: u64 = 32_000;
/// The rounds of files up to [`LARGE`] megabytes; larger ones are loaded once.
const ROUNDS: usize = 3;
const LARGE: u64 = 100;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// Memory sizes of a function in megabytes.
const MEMORY: [f64; 3] = [512.0, 1_024.0, 1_769.0];
/// The memory at which a function has one processor. Source: the Lambda developer guide, "Configure Lambda function memory".
const ONE_PROCESSOR: f64 = 1_769.0;
/// Dollars per gigabyte-second and per invocation of a function; per vCPU-hour and gigabyte-hour of a task. List prices of
/// us-east-1 for x86_64, as in `crates/core/src/cost.rs`.
const LAMBDA_GB_SECOND: f64 = 0.000_016_666_7;
const LAMBDA_REQUEST: f64 = 0.20 / 1e6;
const FARGATE_VCPU_HOUR: f64 = 0.040_48;
const FARGATE_GB_HOUR: f64 = 0.004_445;
/// The template's task.
const TASK_VCPUS: f64 = 1.0;
const TASK_GB: f64 = 2.0;
/// Fargate charges at least a minute, from the download of the image on, which takes about ten seconds.
const TASK_MINIMUM_SECONDS: f64 = 60.0;
const TASK_START_SECONDS: f64 = 10.0;

/// The figures of one file size.
#[derive(Debug)]
struct Figures {
    megabytes: u64,
    run: Run,
}

impl Figures {
    /// The seconds in a function with this memory: as measured, or longer if the processor time needs more.
    fn function_seconds(&self, memory: f64) -> f64 {
        let share = (memory / ONE_PROCESSOR).min(1.0);
        self.run.seconds.max(self.run.client_cpu_seconds / share)
    }

    fn function_dollars(&self, memory: f64) -> f64 {
        memory / 1_024.0 * self.function_seconds(memory) * LAMBDA_GB_SECOND + LAMBDA_REQUEST
    }

    fn task_dollars(&self) -> f64 {
        let seconds = self.run.seconds.max(self.run.client_cpu_seconds / TASK_VCPUS);
        let charged = (TASK_START_SECONDS + seconds).max(TASK_MINIMUM_SECONDS);
        charged / 3_600.0 * (TASK_VCPUS * FARGATE_VCPU_HOUR + TASK_GB * FARGATE_GB_HOUR)
    }
}

/// Measures both engines and writes the page. With `largest` it is a trial run up to that size, which only returns the page.
pub(crate) async fn measure(task: &Path, largest: Option<u64>, machine: &str) -> Result<String> {
    let sizes: Vec<u64> = SIZES.into_iter().filter(|size| largest.is_none_or(|largest| *size <= largest)).collect();
    let mut page = head(machine);
    for engine in [Engine::MariaDb, Engine::Postgres] {
        let tasks = Tasks { measured: task.to_owned(), baseline: None, terminal: None };
        let arena = Arena::open(engine, Options::default(), tasks).await?;
        let mut all = Vec::new();
        for &megabytes in &sizes {
            let run = load(&arena, megabytes).await.with_context(|| format!("{megabytes} MB"))?;
            println!(
                "{} {megabytes} MB: {:.2} s, {:.2} processor s",
                engine.title(),
                run.seconds,
                run.client_cpu_seconds
            );
            all.push(Figures { megabytes, run });
        }
        add_table(&mut page, &arena.version().await?, &all)?;
    }
    if largest.is_none() {
        std::fs::write(workspace().join("docs/inline.md"), &page)?;
    }
    Ok(page)
}

/// Loads a file of this size into a new table, some times; returns the run of median duration.
async fn load(arena: &Arena, megabytes: u64) -> Result<Run> {
    let rows = megabytes * ROWS_PER_MEGABYTE;
    let file = arena.folder.path().join("orders.csv");
    Data::Orders.write_file(&file, 1..rows + 1)?;
    let mut runs = Vec::new();
    for round in 0..if megabytes > LARGE { 1 } else { ROUNDS } {
        let key = format!("uploads/{megabytes}-{round}.csv");
        arena.put_file(&key, &file).await?;
        arena.drop_table(LOADED).await?;
        arena.settle().await?;
        runs.push(stopwatch::run(arena.servers()?, &mut arena.spillway("CSV_KEY", &key))?);
        arena.check_moved(&key, 1, rows).await?;
        arena.clear("processed/").await?;
    }
    runs.sort_by(|left, right| left.seconds.total_cmp(&right.seconds));
    Ok(runs.swap_remove(runs.len() / 2))
}

fn head(machine: &str) -> String {
    format!(
        "# In the function or in a task

`make bench-inline` measures these figures and writes this page. Machine: {machine}, with the database and the local S3.

`INLINE_MAX_BYTES` decides which files the trigger function loads itself. A Fargate task loads larger ones. It starts after 30 to
60 seconds, and Fargate charges at least a minute.

- *Seconds*, *processor seconds* and *memory* are measured: the task loads the file into a new table. The function does the
  same work. Database and S3 are on the same machine: on AWS they have processors of their own, but a network between them.
- *In the function* is computed for a function of 1,024 MB, the template's default. It has 0.58 of a processor.
- The cost is that of 1,000 files, in US dollars (x86_64, us-east-1): functions of 512, 1,024 and 1,769 MB (one processor),
  and a task of 1 vCPU and 2 GB. Ten seconds of its start are charged.
"
    )
}

fn add_table(page: &mut String, version: &str, all: &[Figures]) -> Result<()> {
    write!(
        page,
        "
## {version}

| MB | seconds | processor seconds | memory MiB | in the function s | $ 512 MB | $ 1,024 MB | $ 1,769 MB | $ task |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"
    )?;
    for one in all {
        let dollars = MEMORY.map(|memory| format!("{:.3}", one.function_dollars(memory) * 1e3));
        writeln!(
            page,
            "| {} | {:.2} | {:.2} | {:.0} | {:.1} | {} | {:.3} |",
            one.megabytes,
            one.run.seconds,
            one.run.client_cpu_seconds,
            one.run.peak_memory_bytes as f64 / MEBIBYTE,
            one.function_seconds(MEMORY[1]),
            dollars.join(" | "),
            one.task_dollars() * 1e3,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Figures, Run};

    #[test]
    fn a_task_costs_at_least_a_minute_and_a_function_its_processor_time() {
        let run = Run {
            seconds: 2.0,
            client_cpu_seconds: 1.769,
            server_cpu_seconds: 0.0,
            s3_cpu_seconds: 0.0,
            peak_memory_bytes: 0,
        };
        let figures = Figures { megabytes: 100, run };
        assert!((figures.function_seconds(512.0) - 6.112).abs() < 0.001 && figures.function_seconds(1_769.0) == 2.0);
        assert!((figures.task_dollars() - 0.000_823).abs() < 0.000_001, "{}", figures.task_dollars());
        assert!(figures.function_dollars(1_024.0) < figures.task_dollars());
    }
}
