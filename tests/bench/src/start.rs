//! `make bench-start`: how large the functions are, how soon a new one answers, and what an inline load takes, beside a function
//! that does nothing and was built the same way.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::lambda::Function;
use spillway_test_env::run::{self, Scratch, workspace};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

use crate::data::Data;
use crate::figures::median;

const ROUNDS: usize = 25;
/// What is loaded inline: ten megabytes.
const LOADED_ROWS: u64 = 325_000;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// A function, and how its new processes have answered.
#[derive(Debug)]
struct Starter {
    name: &'static str,
    function: Function,
    /// What it answers to without asking anybody.
    event: Value,
    bytes: u64,
    zipped_bytes: u64,
    answers: Vec<Duration>,
    memory_bytes: Vec<u64>,
}

/// Measures what was built in this folder and writes the page.
pub(crate) async fn measure(folder: &Path, compute: &str) -> Result<()> {
    let folder = folder.canonicalize().with_context(|| format!("{} is not there", folder.display()))?;
    let stages = [TestEnv::on(Engine::MariaDb).await?, TestEnv::on(Engine::Postgres).await?];
    let settings = as_deployed(&stages[0]);
    let ours = json!({"key": "processed/orders.csv"});
    let test_event = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "a-bucket"});
    let mut starters = [
        Starter::new("hello world", folder.join("examples/hello"), &settings, json!({}))?,
        Starter::new("trigger", folder.join("spillway-trigger"), &settings, test_event)?,
        Starter::new("ingest", folder.join("spillway-ingest"), &settings, ours)?,
    ];
    for _ in 0..ROUNDS {
        starters.rotate_left(1);
        for starter in &mut starters {
            starter.start().await?;
        }
    }
    starters.sort_by_key(|starter| starter.bytes);
    let mut page = page(&starters, compute);
    for (test_env, engine) in stages.into_iter().zip([Engine::MariaDb, Engine::Postgres]) {
        let (seconds, peak) = inline_load(test_env, &folder.join("spillway-trigger")).await?;
        writeln!(page, "- {}: {seconds:.2} s, {:.0} MiB.", engine.title(), peak as f64 / MEBIBYTE)?;
    }
    Ok(std::fs::write(workspace().join("docs/start.md"), page)?)
}

impl Starter {
    fn new(name: &'static str, binary: PathBuf, settings: &Settings, event: Value) -> Result<Self> {
        let file = std::fs::metadata(&binary).with_context(|| format!("{} is not built", binary.display()))?;
        let zipped_bytes = zipped_bytes(&binary)?;
        let function = Function::new(&binary, settings);
        let (answers, memory_bytes) = (Vec::new(), Vec::new());
        Ok(Self { name, function, event, bytes: file.len(), zipped_bytes, answers, memory_bytes })
    }

    async fn start(&mut self) -> Result<()> {
        let mut call = self.function.start(&self.event).await?;
        let begun = Instant::now();
        let answer = call.response().await?;
        self.answers.push(begun.elapsed());
        ensure!(!answer.is_failure(), "{} failed: {} {}", self.name, answer.body, answer.logs);
        self.memory_bytes.push(call.peak_memory_bytes().await?);
        Ok(())
    }

    fn milliseconds(&self) -> f64 {
        median(self.answers.iter().map(|answer| answer.as_secs_f64() * 1e3).collect())
    }
}

/// What the tests have in a hurry gets its default again, and the machine's certificates are one file, as in Lambda's image: Debian has each
/// of them once more in a file of its own.
fn as_deployed(test_env: &TestEnv) -> Settings {
    let settings = test_env.settings().without("RDS_RETRY_SECONDS").without("LEASE_SECONDS");
    settings.with("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
}

/// As large as the zip that is uploaded: Python's library makes it, which SAM uses too.
fn zipped_bytes(binary: &Path) -> Result<u64> {
    let folder = Scratch::new("zip")?;
    let (bootstrap, zip) = (folder.path().join("bootstrap"), folder.path().join("function.zip"));
    std::fs::copy(binary, &bootstrap)?;
    let status = Command::new(run::tool("python")?).args(["-m", "zipfile", "-c"]).args([&zip, &bootstrap]).status()?;
    ensure!(status.success(), "{} cannot be zipped: {status}", binary.display());
    Ok(zip.metadata()?.len())
}

/// One file of ten megabytes through the trigger, new table and all; the seconds to its answer, and the most memory.
async fn inline_load(test_env: TestEnv, trigger: &Path) -> Result<(f64, u64)> {
    let object = test_env.fixture.account.put("uploads/orders.csv", Data::Orders.file(1..LOADED_ROWS + 1)).await?;
    ensure!((10_000_000..11_000_000).contains(&object.size_bytes), "{} bytes are loaded", object.size_bytes);
    let mut call = Function::new(trigger, &as_deployed(&test_env)).start(&test_env.fixture.event(&[&object])).await?;
    let begun = Instant::now();
    let answer = call.response().await?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = &answer.body["reports"][0];
    ensure!(report["rows_stored"] == json!(LOADED_ROWS), "it was not loaded: {} {}", answer.body, answer.logs);
    Ok((seconds, call.peak_memory_bytes().await?))
}

fn page(starters: &[Starter], compute: &str) -> String {
    let mut page = format!(
        "# Size and start

Made by `make bench-start`, {compute}. The functions as they are deployed, but for the processor they are built for, beside one that answers and does
nothing else (`crates/trigger/examples/hello.rs`), built the same way; the machine's certificates are one file, as in Lambda's image. *First answer*: a new process under the runtime emulator of AWS SAM, from the
invocation to its answer, settings read and every client built, to an event that needs none of them; the median of {ROUNDS}, in turns, and in brackets the
least and the most. *Memory* is what was resident at most by then.

| | file MiB | zipped MiB | first answer ms | of hello world | memory MiB |
|---|--:|--:|--:|--:|--:|
"
    );
    let least = starters.first().map_or(f64::NAN, Starter::milliseconds);
    for starter in starters {
        let milliseconds = starter.milliseconds();
        let bounds = |fold: fn(f64, f64) -> f64, from| {
            starter.answers.iter().map(|answer| answer.as_secs_f64() * 1e3).fold(from, fold)
        };
        let cells = [
            starter.name.to_owned(),
            format!("{:.1}", starter.bytes as f64 / MEBIBYTE),
            format!("{:.2}", starter.zipped_bytes as f64 / MEBIBYTE),
            format!("{milliseconds:.1} ({:.1}–{:.1})", bounds(f64::min, f64::MAX), bounds(f64::max, 0.0)),
            format!("{:.2} ×", milliseconds / least),
            format!("{:.1}", median(starter.memory_bytes.iter().map(|bytes| *bytes as f64).collect()) / MEBIBYTE),
        ];
        page += &format!("| {} |\n", cells.join(" | "));
    }
    page + "\nOne file of ten megabytes (325,000 orders, into a new table) through the trigger, from the invocation to its answer, and the most memory:\n\n"
}
