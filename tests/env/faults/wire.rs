//! A worker whose link to AWS or to the database breaks, beside a second delivery or not.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use serde_json::json;

use super::link::{Break, Link, Moment, Plan};
use super::matrix::finish;
use super::scene::{Mode, Scene};
use super::tally::Outcome;
use super::worker::{Job, Worker};
use crate::database::Engine;
use crate::settings::Settings;

const SECRET: &str = "database";
/// More answers than a worker gets from either server for a small file.
const MOST_ANSWERS: usize = 45;
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
        0..=5 => Moment::Answer(rng.usize(0..MOST_ANSWERS)),
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

/// A run of a seed with this plan.
pub async fn run(engine: Engine, mode: Mode, behind: Behind, plan: Plan, rng: &mut Rng) -> Result<Outcome> {
    let mut scene = Scene::prepare(engine, mode, &[rng.usize(6..200)]).await?;
    let key = scene.objects[0].key.clone();
    let job = match (mode, rng.bool()) {
        (Mode::Replay, _) => Job::Replay,
        (_, true) => Job::Task(key),
        (_, false) => Job::Load(key),
    };
    let (link, settings) = behind_link(&scene, behind, plan, rng.bool()).await?;
    let worker = Worker::start(&job, &settings)?;
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
    Ok(Outcome { fired, out_of_reach: fired == 0, verdict, ..Outcome::default() })
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
