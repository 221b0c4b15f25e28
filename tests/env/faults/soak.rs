//! Functions that stay warm for many files, while others are killed. Their memory, descriptors and connections must not grow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use serde_json::{Value, json};

use super::scene::{Mode, Scene};
use crate::database::{Database, Engine};
use crate::fixture::{Input, Verdict, file};
use crate::lambda::{Function, WarmFunction};
use crate::process::{self, Signal};
use crate::settings::Settings;

/// Functions that receive events. The first one is never killed, and is measured.
const FUNCTIONS: usize = 3;
/// Events that may wait, so that the upload does not run ahead of the functions.
const MOST_WAITING: usize = 40;
/// The time until a failed event is delivered again.
const REDELIVERY: Duration = Duration::from_secs(2);
/// The time for the last events after the last upload.
const LAST_DELIVERIES: Duration = Duration::from_secs(60);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(20);

/// One measurement of memory, descriptors and connections.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Files that were uploaded until then.
    pub files: usize,
    /// The resident memory of the function that is never killed.
    pub memory_bytes: u64,
    /// Its open descriptors.
    pub descriptors: u64,
    /// Connections of all functions to the database, counted by the server.
    pub connections: u64,
}

/// What a soak has shown.
#[derive(Debug)]
pub struct Soak {
    /// Uploads, with those that overwrote a file.
    pub files: usize,
    /// Files that were overwritten as soon as they were uploaded.
    pub overwritten: usize,
    /// Calls of the trigger function.
    pub calls: usize,
    /// Functions that were killed during a call.
    pub kills: usize,
    /// The measurements, in their order.
    pub samples: Vec<Sample>,
    /// What is wrong at the end.
    pub verdict: Verdict,
}

impl Soak {
    /// What has grown between the second and the last third of the time.
    pub fn growth(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |name: &str, slack: u64, value: fn(&Sample) -> u64| {
            let third = self.samples.len() / 3;
            let middle = median(self.samples[third..2 * third].iter().map(value));
            let last = median(self.samples[2 * third..].iter().map(value));
            if last > middle + middle / 10 + slack {
                found.push(format!("{name}: {middle}, later {last}"));
            }
        };
        compare("memory in bytes", 2 << 20, |sample| sample.memory_bytes);
        compare("descriptors", 4, |sample| sample.descriptors);
        compare("connections", 2, |sample| sample.connections);
        found
    }
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What the functions share.
struct Shared {
    waiting: Mutex<VecDeque<(Instant, Value)>>,
    /// When the last upload ends.
    end: Instant,
    files: AtomicUsize,
    calls: AtomicUsize,
    kills: AtomicUsize,
}

impl Shared {
    fn deliver(&self, after: Duration, event: Value) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((Instant::now() + after, event));
    }

    /// The next event whose time has come.
    fn next(&self) -> Option<Value> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let index = waiting.iter().position(|(time, _)| *time <= Instant::now())?;
        waiting.remove(index).map(|(_, event)| event)
    }

    fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no further event is delivered. The sweep at the end loads what is left.
    fn is_over(&self) -> bool {
        let since = self.end.elapsed();
        since > LAST_DELIVERIES || (!since.is_zero() && self.waiting() == 0)
    }
}

/// Uploads files for this time. Each event is delivered once or several times, some files are overwritten, and functions are killed.
pub async fn run(engine: Engine, time: Duration, rng: &mut Rng) -> Result<Soak> {
    let mut scene = Scene::prepare(engine, Mode::Append, &[]).await?;
    let settings = scene.settings.clone();
    let shared = Shared {
        waiting: Mutex::default(),
        end: Instant::now() + time,
        files: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
        kills: AtomicUsize::new(0),
    };
    let first = WarmFunction::start(&Function::trigger(&settings)?).await?;
    let seeds: Vec<u64> = (0..FUNCTIONS).map(|_| rng.u64(..)).collect();
    let killed = seeds[1..].iter().map(|seed| serve_killed(&settings, &shared, Rng::with_seed(*seed)));
    let (server, schema) = (Database::shared(engine).await?, scene.env.fixture.schema.clone());
    let measured = async {
        let query = match &server {
            Database::MariaDb(_) => "SELECT COUNT(*) FROM information_schema.processlist WHERE user = ",
            Database::Postgres(_) => "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = ",
        };
        let query = format!("{query}'{}'", schema.user);
        let mut samples = Vec::new();
        while Instant::now() < shared.end {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let function = first.process().await?;
            let rows = server.query(&schema, &query).await?;
            let count = rows[0][0].as_deref().context("a count is never NULL")?;
            samples.push(Sample {
                files: shared.files.load(Ordering::Relaxed),
                memory_bytes: process::memory_bytes(function).context("the first function has ended")?,
                descriptors: process::descriptors(function),
                connections: count.parse()?,
            });
        }
        anyhow::Ok(samples)
    };
    let (overwritten, (), _, (), samples) = tokio::try_join!(
        upload(&mut scene, &shared, rng.fork()),
        serve(&first, &shared),
        futures_util::future::try_join_all(killed),
        sweep(&settings, &shared),
        measured,
    )?;
    drop(first);
    scene.note_disturbance();
    scene.settle_and_replay().await?;
    forget_unread(&mut scene, &overwritten).await?;
    let verdict = scene.verdict().await?;
    // An overwritten version exists nowhere any more. If its successor was lost, its rows are missing too.
    let misplaced = verdict.misplaced.into_iter().filter(|text| !text.ends_with("is at []")).collect();
    let verdict = Verdict { misplaced, ..verdict };
    scene.discard().await?;
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (files, calls, kills) = (count(&shared.files), count(&shared.calls), count(&shared.kills));
    Ok(Soak { files, overwritten: overwritten.len(), calls, kills, samples, verdict })
}

/// Uploads files until the end. Returns the names of those that were overwritten at once.
async fn upload(scene: &mut Scene, shared: &Shared, mut rng: Rng) -> Result<Vec<String>> {
    let mut overwritten = Vec::new();
    while Instant::now() < shared.end {
        if shared.waiting() >= MOST_WAITING {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let number = shared.files.fetch_add(1, Ordering::Relaxed);
        let key = format!("uploads/day/orders{number}.csv");
        scene.upload(&key, rng.usize(6..60)).await?;
        let object = scene.objects.pop().context("the file was uploaded")?;
        let event = scene.env.fixture.event(&[&object]);
        if rng.u8(0..20) == 0 {
            shared.deliver(Duration::ZERO, event.clone());
            tokio::time::sleep(Duration::from_millis(rng.u64(0..200))).await;
            let (body, rows) = file(&format!("later{number}.csv"), rng.usize(6..60));
            let object = scene.env.fixture.account.put(&key, body).await?;
            shared.files.fetch_add(1, Ordering::Relaxed);
            overwritten.push(format!("orders{number}"));
            shared.deliver(Duration::ZERO, scene.env.fixture.event(&[&object]));
            scene.env.fixture.inputs.push(Input { object, rows });
        }
        for delivery in 0..=rng.usize(0..3) {
            let after = Duration::from_millis(if delivery == 0 { 0 } else { rng.u64(0..6_000) });
            shared.deliver(after, event.clone());
        }
    }
    Ok(overwritten)
}

/// Delivers events to the function that is never killed.
async fn serve(function: &WarmFunction, shared: &Shared) -> Result<()> {
    while !shared.is_over() {
        let Some(event) = shared.next() else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        call(function, shared, event).await?;
    }
    Ok(())
}

async fn call(function: &WarmFunction, shared: &Shared, event: Value) -> Result<()> {
    shared.calls.fetch_add(1, Ordering::Relaxed);
    if function.invoke(&event).await?.is_failure() {
        shared.deliver(REDELIVERY, event);
    }
    Ok(())
}

/// Delivers events to functions of which each is killed during one of its calls, and replaced.
async fn serve_killed(settings: &Settings, shared: &Shared, mut rng: Rng) -> Result<()> {
    while !shared.is_over() {
        let function = WarmFunction::start(&Function::trigger(settings)?).await?;
        let mut calls = rng.usize(5..60);
        while calls > 0 && !shared.is_over() {
            let Some(event) = shared.next() else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            calls -= 1;
            if calls > 0 {
                call(&function, shared, event).await?;
                continue;
            }
            // The emulator's response to a killed function does not matter: the event is delivered again.
            let delay = Duration::from_millis(rng.u64(0..300));
            let kill = async {
                tokio::time::sleep(delay).await;
                process::send(Signal::Kill, function.process().await?)
            };
            let (killed, _response) = tokio::join!(kill, function.invoke(&event));
            killed?;
            shared.kills.fetch_add(1, Ordering::Relaxed);
            shared.deliver(REDELIVERY, event);
        }
    }
    Ok(())
}

/// Sweeps and replays beside the loads.
async fn sweep(settings: &Settings, shared: &Shared) -> Result<()> {
    let function = WarmFunction::start(&Function::ingest(settings)?).await?;
    let mut requests = [json!({"sweep": {"older_than_seconds": 30}}), json!({"replay": {}})].into_iter().cycle();
    while Instant::now() + SWEEP_INTERVAL < shared.end {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        // A file that another worker loads makes the sweep fail.
        function.invoke(&requests.next().context("the requests repeat")?).await?;
    }
    Ok(())
}

/// Expects no rows of the files that were overwritten before a function read them.
async fn forget_unread(scene: &mut Scene, overwritten: &[String]) -> Result<()> {
    let rows = scene.env.rows("SELECT DISTINCT file FROM {schema}.orders").await?;
    let loaded: Vec<String> = rows.into_iter().filter_map(|mut row| row.remove(0)).collect();
    let is_unread = |input: &Input| {
        let name = input.rows.first().and_then(|row| row.split(' ').next()).unwrap_or_default();
        overwritten.iter().any(|file| file == name) && !loaded.iter().any(|file| file == name)
    };
    scene.env.fixture.inputs.retain(|input| !is_unread(input));
    Ok(())
}
