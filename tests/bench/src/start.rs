//! `make bench-start`: measures the size of the functions, the time to their first response, and a load in a function.
//!
//! The baseline is a function that does nothing and is built the same way.

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

/// The number of starts of each function.
const ROUNDS: usize = 25;
/// The rows of the file that is loaded in the function: ten megabytes.
const LOADED_ROWS: u64 = 325_000;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// A function, and the measurements of its new processes.
#[derive(Debug)]
struct Starter {
    name: &'static str,
    function: Function,
    /// An event to which it responds without any request.
    event: Value,
    bytes: u64,
    zipped_bytes: u64,
    response_times: Vec<Duration>,
    memory_bytes: Vec<u64>,
}

/// Measures the functions built in a folder, and writes the page.
pub(crate) async fn measure(folder: &Path, machine: &str) -> Result<()> {
    let folder = folder.canonicalize().with_context(|| format!("{} does not exist", folder.display()))?;
    let test_envs = [TestEnv::on(Engine::MariaDb).await?, TestEnv::on(Engine::Postgres).await?];
    let settings = as_deployed(&test_envs[0]);
    let skipped_key = json!({"key": "processed/orders.csv"});
    let test_event = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "a-bucket"});
    let mut starters = [
        Starter::new("hello world", folder.join("examples/hello"), &settings, json!({}))?,
        Starter::new("trigger", folder.join("spillway-trigger"), &settings, test_event)?,
        Starter::new("ingest", folder.join("spillway-ingest"), &settings, skipped_key)?,
    ];
    for _ in 0..ROUNDS {
        starters.rotate_left(1);
        for starter in &mut starters {
            starter.start().await?;
        }
    }
    starters.sort_by_key(|starter| starter.bytes);
    let mut page = page(&starters, machine);
    for (test_env, engine) in test_envs.into_iter().zip([Engine::MariaDb, Engine::Postgres]) {
        let (seconds, peak) = inline_load(test_env, &folder.join("spillway-trigger")).await?;
        writeln!(page, "- {}: {seconds:.2} s, {:.0} MiB.", engine.title(), peak as f64 / MEBIBYTE)?;
    }
    Ok(std::fs::write(workspace().join("docs/size.md"), page)?)
}

impl Starter {
    fn new(name: &'static str, binary: PathBuf, settings: &Settings, event: Value) -> Result<Self> {
        let file = std::fs::metadata(&binary).with_context(|| format!("{} is not built", binary.display()))?;
        let zipped_bytes = zipped_bytes(&binary)?;
        let function = Function::new(&binary, settings);
        let (response_times, memory_bytes) = (Vec::new(), Vec::new());
        Ok(Self { name, function, event, bytes: file.len(), zipped_bytes, response_times, memory_bytes })
    }

    async fn start(&mut self) -> Result<()> {
        let mut call = self.function.start(&self.event).await?;
        let started = Instant::now();
        let response = call.response().await?;
        self.response_times.push(started.elapsed());
        ensure!(!response.is_failure(), "{} failed: {} {}", self.name, response.body, response.logs);
        self.memory_bytes.push(call.peak_memory_bytes().await?);
        Ok(())
    }

    fn milliseconds(&self) -> f64 {
        median(self.response_times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }
}

/// The settings of a deployment: those that the tests shorten have their defaults, and the root certificates are one file, as
/// in the image of Lambda. Debian also has each of them in a separate file.
fn as_deployed(test_env: &TestEnv) -> Settings {
    let settings = test_env.settings().without("RDS_RETRY_SECONDS").without("LEASE_SECONDS");
    settings.with("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
}

/// The size of the uploaded zip file. The Python library that creates it is the one that SAM uses.
fn zipped_bytes(binary: &Path) -> Result<u64> {
    let folder = Scratch::new("zip")?;
    let (bootstrap, zip) = (folder.path().join("bootstrap"), folder.path().join("function.zip"));
    std::fs::copy(binary, &bootstrap)?;
    let status = Command::new(run::tool("python")?).args(["-m", "zipfile", "-c"]).args([&zip, &bootstrap]).status()?;
    ensure!(status.success(), "{} cannot be zipped: {status}", binary.display());
    Ok(zip.metadata()?.len())
}

/// Loads a file of ten megabytes into a new table in the trigger function; returns the seconds and the peak memory.
async fn inline_load(test_env: TestEnv, trigger: &Path) -> Result<(f64, u64)> {
    let object = test_env.fixture.account.put("uploads/orders.csv", Data::Orders.file(1..LOADED_ROWS + 1)).await?;
    ensure!((10_000_000..11_000_000).contains(&object.size_bytes), "{} bytes are loaded", object.size_bytes);
    let mut call = Function::new(trigger, &as_deployed(&test_env)).start(&test_env.fixture.event(&[&object])).await?;
    let started = Instant::now();
    let response = call.response().await?;
    let seconds = started.elapsed().as_secs_f64();
    let report = &response.body["reports"][0];
    ensure!(
        report["rows_stored"] == json!(LOADED_ROWS),
        "the file was not loaded: {} {}",
        response.body,
        response.logs
    );
    Ok((seconds, call.peak_memory_bytes().await?))
}

fn page(starters: &[Starter], machine: &str) -> String {
    let mut page = format!(
        "# Size and start

`make bench-start` measures these figures and writes this page. Machine: {machine}.

The functions are built as for a deployment, but for the processor of this machine. The baseline is a function that only
returns its event (`crates/trigger/examples/hello.rs`), built the same way. The root certificates are one file, as in the
image of Lambda.

- *First response* is the time from the invocation to the response of a new process under the runtime emulator of AWS SAM.
  The process reads its settings and creates every client, but the event needs no request. The value is the median of
  {ROUNDS} starts in rotating order, with minimum and maximum in parentheses.
- *Memory* is the peak resident memory up to then.

| | file MiB | zipped MiB | first response ms | to hello world | memory MiB |
|---|--:|--:|--:|--:|--:|
"
    );
    let least = starters.first().map_or(f64::NAN, Starter::milliseconds);
    for starter in starters {
        let milliseconds = starter.milliseconds();
        let bounds = |fold: fn(f64, f64) -> f64, from| {
            starter.response_times.iter().map(|time| time.as_secs_f64() * 1e3).fold(from, fold)
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
    page + "\nThe trigger function loads one file of ten megabytes (325,000 orders) into a new table. The figures are the time from the\ninvocation to the response, and the peak memory:\n\n"
}
