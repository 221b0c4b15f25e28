//! A worker whose link to AWS or to the database breaks, beside a second delivery or not.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use serde_json::json;

use super::link::{Break, Link, Moment, Plan};
use super::matrix::{Program, finish};
use super::scene::{LEASE_OVER, Mode, Scene};
use super::tally::Outcome;
use super::worker::{Job, Worker};
use crate::database::Engine;
use crate::settings::Settings;

const SECRET: &str = "database";
/// More responses than a worker gets from either server for a small file.
const MOST_RESPONSES: usize = 32;
/// A body of a test's file and its headers are shorter.
const MOST_BYTES: usize = 20_000;

/// The server whose link breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// S3, Glue and Secrets Manager.
    Aws,
    /// The database.
    Database,
}

/// The plan of a seed.
pub fn random_plan(rng: &mut Rng) -> Plan {
    let moment = match rng.u8(0..10) {
        0..=5 => Moment::Response(rng.usize(0..MOST_RESPONSES)),
        6..=7 => Moment::Received(rng.usize(0..MOST_BYTES)),
        _ => Moment::Sent(rng.usize(0..MOST_BYTES)),
    };
    let effect = match rng.u8(0..20) {
        0..=8 => Break::Cut,
        9..=12 => Break::Reset,
        13..=15 => Break::HalfClose,
        16..=18 => Break::Delay(Duration::from_millis(rng.u64(100..8_000))),
        _ => Break::Stall,
    };
    let times = match rng.u8(0..10) {
        0..=5 => 1,
        6..=7 => rng.usize(2..6),
        _ => 60,
    };
    Plan { moment, effect, times }
}

/// A worker of one mode whose responses are counted, and then swallowed one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The engine.
    pub engine: Engine,
    /// The mode.
    pub mode: Mode,
    /// The server.
    pub behind: Behind,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{:?}/{:?}", self.engine.name(), self.mode, self.behind)
    }
}

impl Line {
    /// Every combination.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for engine in [Engine::MariaDb, Engine::Postgres] {
            for mode in Mode::ALL.into_iter().filter(|mode| mode.is_on(engine)) {
                all.extend([Behind::Aws, Behind::Database].map(|behind| Self { engine, mode, behind }));
            }
        }
        all
    }

    /// A plan for each response that a worker gets without a fault: it is swallowed, or it comes after the lease has expired.
    pub async fn plans(self) -> Result<Vec<Plan>> {
        let never = Plan { moment: Moment::Response(usize::MAX), effect: Break::Cut, times: 1 };
        let scene = Scene::prepare(self.engine, self.mode, &[100]).await?;
        let (link, settings) = behind_link(&scene, self.behind, never, false).await?;
        let job = if self.mode == Mode::Replay { Job::Replay } else { Job::Task(scene.objects[0].key.clone()) };
        Worker::run(&job, &settings).await?;
        let responses = link.responses();
        scene.discard().await?;
        let late = Break::Delay(LEASE_OVER);
        let plans =
            |response| [Break::Cut, late].map(|effect| Plan { moment: Moment::Response(response), effect, times: 1 });
        Ok((0..responses).flat_map(plans).collect())
    }
}

/// A run of a seed with this plan.
pub async fn run(line: Line, plan: Plan, rng: &mut Rng) -> Result<Outcome> {
    let Line { engine, mode, behind } = line;
    let mut scene = Scene::prepare(engine, mode, &[rng.usize(6..200)]).await?;
    let job = match (mode, rng.choice(Program::ALL).unwrap_or(Program::Task)) {
        (Mode::Replay, _) => Job::Replay,
        (_, program) => program.job(&scene.env.fixture, &scene.objects[0]),
    };
    let (link, settings) = behind_link(&scene, behind, plan, rng.bool()).await?;
    let worker = Worker::start(&job, &settings).await?;
    if rng.u8(0..4) == 0 {
        tokio::time::sleep(Duration::from_millis(rng.u64(0..1_500))).await;
        scene.work(&job).await?;
    }
    worker.end().await?;
    let fired = link.fired();
    drop(link);
    scene.note_disturbance();
    if fired > 0 {
        finish(&mut scene, &job, rng).await?;
    }
    let verdict = if fired > 0 { scene.verdict().await? } else { crate::fixture::Verdict::default() };
    scene.discard().await?;
    Ok(Outcome { fired, out_of_reach: fired == 0, verdict })
}

/// A link to the server, and the settings of a worker that uses it.
async fn behind_link(scene: &Scene, behind: Behind, plan: Plan, uses_secret: bool) -> Result<(Link, Settings)> {
    let settings = scene.settings.clone();
    let schema = &scene.env.fixture.schema;
    if behind == Behind::Database {
        let link = Link::start(schema.port, plan).await?;
        let settings = settings.with("RDS_PORT", link.port());
        return Ok((link, settings));
    }
    let account = &scene.env.fixture.account;
    let link = Link::start(account.port, plan).await?;
    let mut settings = settings.with("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", link.port()));
    if uses_secret {
        let secret = json!({
            "username": schema.user, "password": schema.password, "host": "127.0.0.1", "port": schema.port,
            "dbname": schema.name,
        });
        account.secrets.create_secret().name(SECRET).secret_string(secret.to_string()).send().await?;
        for name in ["RDS_HOST", "RDS_PORT", "RDS_USER", "RDS_PASSWORD", "RDS_DB"] {
            settings = settings.without(name);
        }
        settings = settings.with("RDS_SECRET_NAME", SECRET);
    }
    Ok((link, settings))
}
