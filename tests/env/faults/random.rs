//! Workers that are killed or halted at random moments, while others load the same files.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use tokio::sync::Mutex;

use super::matrix::Program;
use super::scene::{LEASE_OVER, Mode, Scene};
use super::tally::Outcome;
use super::worker::{Job, Worker};
use crate::database::Engine;
use crate::process::Signal;

/// Deaths of one file, of which three in a row park it.
const MOST_DEATHS: usize = 2;
/// The time that a worker needs, as a mean of those that were not disturbed. The moments of the faults are spread over it, so that they
/// meet every step of a load whatever the load of the machine.
static USUAL_MS: AtomicU64 = AtomicU64::new(700);

/// A run of a seed: files, two workers with some jobs each, and the moments of the faults.
pub async fn run(engine: Engine, mode: Mode, rng: &mut Rng) -> Result<Outcome> {
    let files = if mode.has_no_order() { rng.usize(1..5) } else { 1 };
    let rows: Vec<usize> = (0..files).map(|_| rng.usize(6..250)).collect();
    let mut scene = Scene::prepare(engine, mode, &rows).await?;
    let is_repaired = rng.u8(..) < 60;
    let shared = Shared { fired: AtomicUsize::new(0), deaths: Mutex::new(vec![0; files]) };
    let (first, second) = (Rng::with_seed(rng.u64(..)), Rng::with_seed(rng.u64(..)));
    let (first, second) = tokio::join!(slot(&scene, first, &shared), slot(&scene, second, &shared));
    first.and(second)?;
    scene.note_disturbance();
    if is_repaired {
        scene.repair().await?;
    }
    if is_repaired || scene.counts_after_replay() {
        scene.settle_and_replay().await?;
    } else {
        scene.settle().await?;
    }
    let outcome =
        Outcome { fired: shared.fired.load(Ordering::SeqCst), verdict: scene.verdict().await?, ..Outcome::default() };
    scene.discard().await?;
    Ok(Outcome { out_of_reach: outcome.fired == 0 && outcome.verdict == crate::fixture::Verdict::default(), ..outcome })
}

struct Shared {
    fired: AtomicUsize,
    deaths: Mutex<Vec<usize>>,
}

/// A worker after the other: each loads a random file, or all of them, and may be killed or halted.
async fn slot(scene: &Scene, mut rng: Rng, shared: &Shared) -> Result<()> {
    let files = scene.objects.len();
    for _ in 0..rng.usize(2..5) {
        tokio::time::sleep(Duration::from_millis(rng.u64(0..300))).await;
        let file = rng.usize(0..files);
        let object = &scene.objects[file];
        let (job, concerned) = match rng.u8(0..12) {
            0..=6 => {
                (rng.choice(Program::ALL).unwrap_or(Program::Task).job(&scene.env.fixture, object), file..file + 1)
            }
            7..=8 => (Job::TaskForAll, 0..files),
            9..=10 => (Job::Sweep, 0..files),
            _ => (Job::Replay, 0..files),
        };
        let mut worker = Worker::start(&job, &scene.settings).await?;
        let fault = rng.u8(0..10);
        let usual = USUAL_MS.load(Ordering::Relaxed) as f64 / 1_000.0;
        let delay = Duration::from_secs_f64(rng.f64() * usual * 1.3);
        let begun = Instant::now();
        let mut is_disturbed = false;
        if fault < 8 && !worker.ends_within(delay).await? {
            is_disturbed = true;
            match fault {
                0..=5 => {
                    let mut deaths = shared.deaths.lock().await;
                    let may_die = deaths[concerned.clone()].iter().all(|deaths| *deaths < MOST_DEATHS);
                    if may_die && worker.signal(Signal::Kill)? {
                        deaths[concerned].iter_mut().for_each(|deaths| *deaths += 1);
                        shared.fired.fetch_add(1, Ordering::SeqCst);
                    }
                }
                6 => {
                    if worker.signal(Signal::Terminate)? {
                        shared.fired.fetch_add(1, Ordering::SeqCst);
                    }
                }
                _ => {
                    if worker.signal(Signal::Stop)? {
                        shared.fired.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(LEASE_OVER + Duration::from_millis(rng.u64(0..2_000))).await;
                        worker.signal(Signal::Continue)?;
                    }
                }
            }
        }
        worker.end().await?;
        if !is_disturbed {
            let usual = USUAL_MS.load(Ordering::Relaxed);
            USUAL_MS.store((usual * 7 + begun.elapsed().as_millis() as u64) / 8, Ordering::Relaxed);
        }
    }
    Ok(())
}
