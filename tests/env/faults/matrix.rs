//! One fault at one failpoint, for each mode, engine, worker and kind of fault.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use serde_json::json;

use super::scene::{LEASE_OVER, Mode, Scene};
use super::tally::Outcome;
use super::worker::{Job, Worker};
use crate::cloud::Object;
use crate::database::Engine;
use crate::failpoint::Pause;
use crate::fixture::Fixture;
use crate::process::Signal;

/// The time after which a released worker is not released again.
const RELEASED_TIMEOUT: Duration = Duration::from_secs(100);

/// What happens to the worker at the failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM, as when Fargate stops a task. The worker continues and ends by itself.
    Terminate,
    /// SIGSTOP until another worker has taken over the lease, then SIGCONT.
    Halt,
    /// A panic.
    Panic,
    /// The step before the failpoint fails each time: the connection to its server is lost.
    Error,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Kill, Self::Terminate, Self::Halt, Self::Panic, Self::Error];
}

/// The program of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The task.
    Task,
    /// The command line.
    CommandLine,
    /// The trigger function, with a notification of S3.
    Trigger,
    /// The ingest function, with a request that names the key.
    Ingest,
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 4] = [Self::Task, Self::CommandLine, Self::Trigger, Self::Ingest];

    /// Whether the program can replay the fallback.
    fn replays(self) -> bool {
        matches!(self, Self::CommandLine | Self::Ingest)
    }

    /// What the program is asked to do with a file.
    pub fn job(self, fixture: &Fixture, object: &Object) -> Job {
        match self {
            Self::Task => Job::Task(object.key.clone()),
            Self::CommandLine => Job::Load(object.key.clone()),
            Self::Trigger => Job::Trigger(fixture.event(&[object])),
            Self::Ingest => Job::Ingest(json!({"key": object.key})),
        }
    }
}

/// A worker in one mode. Its failpoints are found by a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// The engine.
    pub engine: Engine,
    /// The mode.
    pub mode: Mode,
    /// The program.
    pub program: Program,
}

impl fmt::Display for Setup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{:?}/{:?}", self.engine.name(), self.mode, self.program)
    }
}

impl Setup {
    /// Every combination. The task and the trigger function cannot replay.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for engine in [Engine::MariaDb, Engine::Postgres] {
            for mode in Mode::ALL.into_iter().filter(|mode| mode.is_on(engine)) {
                for program in Program::ALL {
                    if mode != Mode::Replay || program.replays() {
                        all.push(Self { engine, mode, program });
                    }
                }
            }
        }
        all
    }

    fn job(self, scene: &Scene) -> Job {
        match (self.mode, self.program) {
            (Mode::Replay, Program::Ingest) => Job::Ingest(json!({"replay": {}})),
            (Mode::Replay, _) => Job::Replay,
            (_, program) => program.job(&scene.env.fixture, &scene.objects[0]),
        }
    }

    /// The failpoints that the worker reaches, sorted, each once.
    pub async fn trace(self) -> Result<Vec<String>> {
        let mut logs = String::new();
        // On a machine with much load a worker may lose its lease.
        for _ in 0..4 {
            let scene = Scene::prepare(self.engine, self.mode, &[120]).await?;
            let pause = Pause::at("every:trace")?;
            let ended = Worker::run(&self.job(&scene), &scene.settings.clone().and(&pause.settings())).await?;
            scene.discard().await?;
            // The command line exits with 2 when a file falls back.
            if matches!(ended.status.code(), Some(0 | 2)) {
                let mut points = pause.reached();
                points.sort();
                points.dedup();
                ensure!(!points.is_empty(), "{self} reaches no failpoint: {}", ended.logs);
                return Ok(points);
            }
            logs = ended.logs;
        }
        bail!("{self} fails without a fault: {logs}")
    }

    /// Disturbs the worker at the failpoint, loads the file again, and sweeps.
    pub async fn run(self, point: &str, fault: Fault, rng: &mut Rng) -> Result<Outcome> {
        let mut scene = Scene::prepare(self.engine, self.mode, &[rng.usize(6..200)]).await?;
        let outcome = self.disturb(&mut scene, point, fault, rng).await?;
        scene.discard().await?;
        Ok(outcome)
    }

    async fn disturb(self, scene: &mut Scene, point: &str, fault: Fault, rng: &mut Rng) -> Result<Outcome> {
        let job = self.job(scene);
        let pause = match fault {
            Fault::Panic => Pause::at(&format!("{point}:panic"))?,
            Fault::Error => Pause::at(&format!("{point}:error"))?,
            Fault::Kill | Fault::Terminate | Fault::Halt => Pause::at(point)?,
        };
        let mut worker = Worker::start(&job, &scene.settings.clone().and(&pause.settings())).await?;
        while !pause.is_reached() {
            if worker.has_ended()? && !pause.is_reached() {
                return Ok(Outcome { out_of_reach: true, ..Outcome::default() });
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        match fault {
            Fault::Kill => {
                ensure!(worker.signal(Signal::Kill)?, "the worker ended at {point}");
                let ended = worker.end().await?;
                ensure!(!ended.status.success(), "the worker was not killed at {point}");
            }
            Fault::Terminate => {
                ensure!(worker.signal(Signal::Terminate)?, "the worker ended at {point}");
                tokio::time::sleep(Duration::from_millis(rng.u64(0..100))).await;
                end_released(worker, &pause).await?;
            }
            Fault::Halt => {
                ensure!(scene.halt(&mut worker)?, "the worker ended at {point}");
                tokio::time::sleep(LEASE_OVER).await;
                if rng.bool() {
                    scene.repair().await?;
                }
                // It may fail, if the halted worker has an open transaction.
                scene.work(&job).await?;
                // Before the worker runs again, so that it does not see the file.
                pause.release()?;
                worker.signal(Signal::Continue)?;
                end_released(worker, &pause).await?;
            }
            Fault::Panic => {
                let ended = worker.end().await?;
                ensure!(ended.logs.contains("a test has requested a panic"), "no panic at {point}: {}", ended.logs);
            }
            // The file that shows that the failpoint was reached was written by the step that fails.
            Fault::Error => drop(worker.end().await?),
        }
        scene.note_disturbance();
        finish(scene, &job, rng).await?;
        Ok(Outcome { fired: 1, verdict: scene.verdict().await?, ..Outcome::default() })
    }
}

/// Waits for the end of a worker, and releases it each time that it pauses: a replay moves up to two copies of a file.
async fn end_released(mut worker: Worker, pause: &Pause) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < RELEASED_TIMEOUT && !worker.ends_within(Duration::from_millis(50)).await? {
        if pause.is_reached() {
            pause.release()?;
        }
    }
    worker.end().await.map(drop)
}

/// Loads the file again or not, repairs its table or not, sweeps, and replays what was repaired.
pub(super) async fn finish(scene: &mut Scene, job: &Job, rng: &mut Rng) -> Result<()> {
    let is_repaired = rng.bool();
    if is_repaired {
        scene.repair().await?;
    }
    if rng.bool() {
        // While the lease of the dead worker is valid.
        scene.work(job).await?;
    }
    if scene.counts_after_replay() || is_repaired { scene.settle_and_replay().await } else { scene.settle().await }
}
