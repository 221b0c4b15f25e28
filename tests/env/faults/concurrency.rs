//! Many workers at once: one file, two versions of one key, many files, and loads beside sweeps and replays.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;

use super::matrix::Program;
use super::scene::{Mode, Scene};
use super::tally::Outcome;
use super::worker::{Job, Worker};
use crate::cloud::Object;
use crate::database::Engine;
use crate::fixture::{Input, Verdict, file};

/// What happens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// This number of workers load the same file.
    Same(usize),
    /// A key is overwritten with other bytes while workers load it.
    Versions,
    /// Thirty-two files into one table, by workers that load all of them and workers that load one.
    Many,
    /// Loads, fallback writes, sweeps and replays, while the table is repaired.
    Beside,
}

impl Crowd {
    /// The kinds, each as often as its cost allows.
    pub const ALL: [Self; 8] = [
        Self::Same(2),
        Self::Same(2),
        Self::Same(8),
        Self::Same(32),
        Self::Versions,
        Self::Versions,
        Self::Many,
        Self::Beside,
    ];
}

/// A round of a seed.
pub async fn run(engine: Engine, crowd: Crowd, rng: &mut Rng) -> Result<Outcome> {
    match crowd {
        Crowd::Same(workers) => same(engine, workers, rng).await,
        Crowd::Versions => versions(engine, rng).await,
        Crowd::Many => many(engine, rng).await,
        Crowd::Beside => beside(engine, rng).await,
    }
}

fn load(scene: &Scene, object: &Object, rng: &mut Rng) -> Job {
    rng.choice(Program::ALL).unwrap_or(Program::Task).job(&scene.env.fixture, object)
}

async fn same(engine: Engine, workers: usize, rng: &mut Rng) -> Result<Outcome> {
    let modes = [Mode::Append, Mode::Merge, Mode::Replace, Mode::Fallback, Mode::Both, Mode::Rejects];
    let scene = Scene::prepare(engine, modes[rng.usize(0..modes.len())], &[rng.usize(6..200)]).await?;
    let jobs: Vec<Job> = (0..workers).map(|_| load(&scene, &scene.objects[0], rng)).collect();
    at_once(&scene, &jobs).await?;
    end(scene, workers).await
}

async fn many(engine: Engine, rng: &mut Rng) -> Result<Outcome> {
    const FILES: usize = 32;
    let mode = [Mode::Append, Mode::Merge, Mode::Both][rng.usize(0..3)];
    let rows: Vec<usize> = (0..FILES).map(|_| rng.usize(6..60)).collect();
    let scene = Scene::prepare(engine, mode, &rows).await?;
    let mut jobs = vec![Job::TaskForAll; 3];
    jobs.extend((0..8).map(|_| load(&scene, &scene.objects[rng.usize(0..FILES)], rng)));
    at_once(&scene, &jobs).await?;
    end(scene, jobs.len()).await
}

async fn beside(engine: Engine, rng: &mut Rng) -> Result<Outcome> {
    let rows = [rng.usize(6..150), rng.usize(6..150), rng.usize(6..150)];
    let mut scene = Scene::prepare(engine, Mode::Fallback, &rows).await?;
    let mut workers = Vec::new();
    let (steps, repaired_at) = (10, rng.usize(0..10));
    for step in 0..steps {
        if step == repaired_at {
            scene.repair().await?;
        }
        let job = match rng.u8(0..6) {
            0..=2 => load(&scene, &scene.objects[rng.usize(0..rows.len())], rng),
            3 => Job::Sweep,
            _ => Job::Replay,
        };
        workers.push(Worker::start(&job, &scene.settings).await?);
        tokio::time::sleep(Duration::from_millis(rng.u64(0..400))).await;
    }
    for worker in workers {
        worker.end().await?;
    }
    scene.repair().await?;
    end(scene, steps).await
}

/// The first version is loaded as a whole or not at all, if it is overwritten early. The second one is loaded.
async fn versions(engine: Engine, rng: &mut Rng) -> Result<Outcome> {
    let mut scene = Scene::prepare(engine, Mode::Append, &[rng.usize(6..200)]).await?;
    let first = scene.objects[0].clone();
    let mut jobs = vec![load(&scene, &first, rng), load(&scene, &first, rng)];
    let mut workers = vec![Worker::start(&jobs[0], &scene.settings).await?];
    tokio::time::sleep(Duration::from_millis(rng.u64(0..900))).await;
    let (body, rows) = file("uploads/second.csv", rng.usize(6..200));
    let object = scene.env.fixture.account.put(&first.key, body).await?;
    scene.env.fixture.inputs.push(Input { object: object.clone(), rows });
    jobs.push(load(&scene, &object, rng));
    for job in &jobs[1..] {
        workers.push(Worker::start(job, &scene.settings).await?);
    }
    for worker in workers {
        worker.end().await?;
    }
    scene.settle().await?;
    let is_loaded = !scene.env.rows("SELECT 1 FROM {schema}.orders WHERE file = 'orders0' LIMIT 1").await?.is_empty();
    if !is_loaded {
        scene.env.fixture.inputs.remove(0);
    }
    let verdict = scene.verdict().await?;
    // An overwritten version exists nowhere any more. If the second one was lost, its rows are missing too.
    let misplaced = verdict.misplaced.into_iter().filter(|text| !text.ends_with("is at []")).collect();
    let verdict = Verdict { misplaced, ..verdict };
    scene.discard().await?;
    Ok(Outcome { fired: jobs.len(), verdict, ..Outcome::default() })
}

async fn at_once(scene: &Scene, jobs: &[Job]) -> Result<()> {
    let mut workers = Vec::new();
    for job in jobs {
        workers.push(Worker::start(job, &scene.settings).await?);
    }
    for worker in workers {
        worker.end().await?;
    }
    Ok(())
}

async fn end(mut scene: Scene, fired: usize) -> Result<Outcome> {
    scene.settle_and_replay().await?;
    let verdict = scene.verdict().await?;
    scene.discard().await?;
    Ok(Outcome { fired, verdict, ..Outcome::default() })
}
