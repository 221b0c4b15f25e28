//! A night with the database down: files arrive, some of them bad, and the schedules run. In the morning the database is
//! back, and every file, alarm and queue is as it should be.
//!
//! The clock is simulated: a schedule runs when the test invokes the function as the schedule does, and the test evaluates
//! each alarm of the template every five minutes over what the functions really wrote (see `spillway_test_env::alarms`).
//! Leases, visibility and retries are shortened.
#![expect(clippy::print_stdout, reason = "the protocol of the night is printed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::alarms::{History, raised};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::fixture::{Counted, Fixture, file};
use spillway_test_env::process::{self, Signal};
use spillway_test_env::queues::QUEUES;
use spillway_test_env::wait;
use tokio::task::JoinHandle;

use crate::load::files::gzip;

const LIMIT: Duration = Duration::from_secs(150);
/// The minute at which the files arrive.
const ARRIVAL: u32 = 1;
/// The minute of the third death. After it, only the message of the file with which workers die is in the queue.
const POISON: u32 = 13;
const FILES: usize = 20;
const ROWS: usize = 25;
/// The key of the file with which workers die.
const KILLER: &str = "uploads/killer.csv";
const BROKEN: &str = "uploads/broken.csv";
const BOMB: &str = "uploads/bomb.csv.gz";
/// In a deployment a message is invisible for six minutes. Here the test sends a copy of it as soon as the lease has expired,
/// and the message itself finds no object any more.
const VISIBILITY_SECONDS: u32 = 75;
const LEASE_SECONDS: u32 = 5;
/// Longer than a lease, and one second more for clock differences.
const LEASE_OVER: Duration = Duration::from_millis(6_500);

/// The stack, its files, and what its alarms have measured.
struct Night {
    server: Database,
    stack: Deployment,
    fixture: Fixture,
    history: History,
    begun: Instant,
    cloud: Cloud,
}

#[rstest]
#[ignore = "takes more than a minute; part of `make test-stack`"]
#[case::mariadb(Engine::MariaDb)]
#[ignore = "takes more than a minute; part of `make test-stack`"]
#[case::postgres(Engine::Postgres)]
#[tokio::test]
async fn after_a_night_without_a_database_every_row_is_loaded_once(#[case] engine: Engine) -> Result<()> {
    let mut night = Night::begin(engine).await?;
    night.schedules(0).await?;
    night.expect(0, &[]).await?;

    night.server.stop().await?;
    let killer = night.upload().await?;
    night.files_have_outcomes().await?;
    night.expect(5, &["FellBackAlarm", "RejectedAlarm", "TriggerErrorsAlarm"]).await?;
    night.receive_killer_again(&killer, 2).await?;
    night.expect(10, &["TriggerErrorsAlarm"]).await?;
    night.receive_killer_again(&killer, 3).await?;
    tokio::time::sleep(LEASE_OVER).await;
    night.schedules(15).await?;
    night.expect(15, &["TriggerErrorsAlarm"]).await?;
    night.expect(20, &[]).await?;
    night.quarter(30, &[]).await?;
    night.quarter(45, &["WaitingAlarm"]).await?;
    night.quarter(60, &["WaitingAlarm"]).await?;
    night.status_tells_what_waits().await?;
    night.quarter(75, &["FallbackAgeAlarm", "WaitingAlarm"]).await?;

    night.server.start_again().await?;
    // Now the ledger can be read, which proves that the rows of the killer are not stored. So it is parked.
    night.schedules(90).await?;
    night.expect(90, &["FallbackAgeAlarm", "NeedsAttentionAlarm", "RejectedAlarm"]).await?;
    night.expect(95, &["FallbackAgeAlarm"]).await?;
    night.quarter(105, &[]).await?;
    night.queues_are_empty().await?;
    night.everything_is_in_place().await
}

impl Night {
    async fn begin(engine: Engine) -> Result<Self> {
        let begun = Instant::now();
        let (server, cloud) = (Database::start(engine, Options::default()).await?, Cloud::start().await?);
        let schema = server.schema().await?;
        let parameters = [
            "NotificationEmail=operator@example.com",
            "ScheduleState=ENABLED",
            "DatabaseRetrySeconds=1",
            "MaxConcurrency=2",
            "MaxRejects=5",
            "MaxDecodedBytes=1000000",
        ];
        let stack = Deployment::deploy(&cloud, &server, &schema, &parameters).await?;
        set_visibility(&stack).await?;
        let fixture = Fixture::new(stack.account.clone(), schema);
        println!("minute   0: deployed after {:.0} s", begun.elapsed().as_secs_f64());
        Ok(Self { server, stack, fixture, history: History::of_uploads_at(ARRIVAL, POISON), begun, cloud })
    }

    /// Uploads all files. Workers die with one of them.
    async fn upload(&mut self) -> Result<Killer> {
        let account = self.fixture.account.clone();
        // Only a file with bad records gets to this failpoint.
        let pause = Pause::at("RejectsLookedUp")?;
        self.stack.set_variables(&pause.settings().with("LEASE_SECONDS", LEASE_SECONDS)).await?;
        let killer = Killer::lurk(account.clone(), pause);
        let (body, _) = file(KILLER, ROWS);
        // First and alone in its batch, so that no other file waits until its message is received again.
        let object = account.put(KILLER, [&body[..], b"a short record\n"].concat()).await?;
        self.fixture.expect_no_rows(object);
        self.dies(&killer, 1).await?;
        let object = account.put(BROKEN, "file,record,checksum,note\na,1,\"never closed\n").await?;
        self.fixture.expect_no_rows(object);
        let object = account.put(BOMB, gzip(&b"1,2\n".repeat(500_000)).await?).await?;
        self.fixture.expect_no_rows(object);
        for number in 0..FILES {
            self.fixture.upload(&format!("uploads/2026/{number:02}.csv"), ROWS).await?;
        }
        Ok(killer)
    }

    /// Waits until every file but the killer has left the upload prefix, and its message the queue.
    async fn files_have_outcomes(&self) -> Result<()> {
        wait::until("the files to have outcomes", LIMIT, async || {
            let waiting = self.fixture.account.keys("uploads/").await?;
            Ok(waiting.iter().all(|key| key == KILLER) && self.stack.messages("UploadQueueUrl").await?.all() <= 1)
        })
        .await
    }

    /// The message of the file is received again, by a worker that dies too.
    async fn receive_killer_again(&self, killer: &Killer, deaths: u32) -> Result<()> {
        tokio::time::sleep(LEASE_OVER).await;
        let object = self.fixture.inputs.iter().find(|input| input.object.key == KILLER).context("no killer")?;
        let event = self.fixture.event(&[&object.object]).to_string();
        let request = json!({"QueueUrl": self.stack.output("UploadQueueUrl")?, "MessageBody": event});
        call(&self.stack.account, "sqs", "AmazonSQS.SendMessage", &request).await?;
        self.dies(killer, deaths).await
    }

    /// Waits until this number of workers has died, and Lambda has noticed.
    async fn dies(&self, killer: &Killer, deaths: u32) -> Result<()> {
        killer.deaths(deaths).await?;
        let function = self.stack.output("TriggerFunctionName")?;
        wait::until("Lambda to notice the death", LIMIT, async || {
            Ok(self.cloud.failed_batches(function)? >= deaths as usize)
        })
        .await
    }

    async fn queues_are_empty(&self) -> Result<()> {
        wait::until("the queues to be empty", LIMIT, async || {
            for queue in QUEUES {
                if self.stack.messages(queue).await?.all() > 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    /// Invokes the ingest function with the requests of both schedules. Files count as old enough for the sweep.
    async fn schedules(&mut self, minute: u32) -> Result<()> {
        let swept = self.stack.invoke_ingest(&json!({"sweep": {"older_than_seconds": 0}})).await?;
        // The sweep's gauges are those of this minute, whatever the replay does after it.
        let replayed = self.stack.invoke_ingest(&json!({"replay": {}})).await?;
        println!(
            "minute {minute:>3}: sweep: {} files, replay: {} files, postponed: {}",
            swept["reports"].as_array().map_or(0, Vec::len),
            replayed["reports"].as_array().map_or(0, Vec::len),
            replayed["postponed"]["rows"],
        );
        Ok(())
    }

    /// Runs the schedules at this minute. The same alarms are raised for a quarter of an hour.
    async fn quarter(&mut self, minute: u32, alarms: &[&str]) -> Result<()> {
        self.schedules(minute).await?;
        for later in [0, 5, 10] {
            self.expect(minute + later, alarms).await?;
        }
        Ok(())
    }

    /// Reads the metrics at this minute and fails unless exactly these alarms are raised.
    async fn expect(&mut self, minute: u32, alarms: &[&str]) -> Result<()> {
        self.stack.observe(&self.cloud, &mut self.history, minute).await?;
        let readings = self.stack.readings(&self.history, minute).await?;
        ensure!(readings.len() == 12, "the template has other alarms: {readings:#?}");
        let values = readings.iter().map(|reading| {
            let value = reading.value.map_or("no data".to_owned(), |value| value.to_string());
            let mark = if reading.is_raised { " RAISED" } else { "" };
            format!("{} {value}{mark}", reading.alarm.trim_end_matches("Alarm"))
        });
        println!("minute {minute:>3}: {}", values.collect::<Vec<_>>().join(", "));
        let found = raised(&readings);
        ensure!(found == alarms, "minute {minute}: expected {alarms:?}, found {found:?}");
        Ok(())
    }

    /// The status while the database is down: what waits, and where each kind of file is.
    async fn status_tells_what_waits(&self) -> Result<()> {
        let status = self.stack.invoke_ingest(&json!({"status": {}})).await?["status"].clone();
        println!("status: {status}");
        let waiting = &status["waiting"];
        assert_eq!((&waiting["files"], &waiting["oldest"]["key"]), (&json!(1), &json!(KILLER)), "{status:#}");
        assert_eq!(status["leases"], json!([]), "{status:#}");
        let fallback = &status["fallback"][0];
        assert_eq!((&fallback["files"], &fallback["rows"]), (&json!(FILES), &json!(FILES * ROWS)), "{status:#}");
        assert_eq!(status["database"]["available"], false, "{status:#}");
        for (key, state, reason) in [
            ("uploads/2026/07.csv", "fell_back", "unreachable"),
            (KILLER, "waiting", "the database cannot be read now"),
            (BROKEN, "rejected", "quote"),
            (BOMB, "rejected", "MAX_DECODED_BYTES"),
        ] {
            let status = self.status_of(key).await?;
            println!("status: {key}: {} ({})", status["state"], status["explanation"]);
            let is_named = status["explanation"].as_str().is_some_and(|text| text.contains(reason));
            ensure!(status["state"] == state && is_named, "{key}: {status:#}");
        }
        Ok(())
    }

    async fn status_of(&self, key: &str) -> Result<Value> {
        Ok(self.stack.invoke_ingest(&json!({"status": {"key": key}})).await?["status"].clone())
    }

    /// In the morning: rows once, files where they belong, nothing in a queue.
    async fn everything_is_in_place(&self) -> Result<()> {
        let account = &self.fixture.account;
        assert_eq!(self.fixture.count(&self.server).await?, Counted { database: FILES * ROWS, fallback: 0 });
        assert_eq!(account.keys("processed/2026/").await?.len(), FILES);
        assert_eq!(account.keys("fallback/").await?, Vec::<String>::new());
        let failed = account.keys("failed/").await?;
        let reasons = failed.iter().filter(|key| key.ends_with(".reason.json")).count();
        ensure!(failed.len() == 6 && reasons == 3, "the failed prefix should have three files: {failed:?}");
        for queue in QUEUES {
            assert_eq!(self.stack.messages(queue).await?.all(), 0, "{queue}");
        }
        for number in [0, FILES - 1] {
            let status = self.status_of(&format!("uploads/2026/{number:02}.csv")).await?;
            assert_eq!(status["state"], "loaded", "{status:#}");
        }
        let parked = self.status_of(KILLER).await?;
        ensure!(parked["state"] == "rejected" && parked["reason"]["content"]["kind"] == "poison", "{parked:#}");
        self.fixture.ensure_exactly_once(&self.server).await?;
        println!("minute 105: in place after {:.0} s", self.begun.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Sets the time after which the message of a worker that died is received again.
async fn set_visibility(stack: &Deployment) -> Result<()> {
    let attributes = json!({"VisibilityTimeout": VISIBILITY_SECONDS.to_string()});
    let request = json!({"QueueUrl": stack.output("UploadQueueUrl")?, "Attributes": attributes});
    call(&stack.account, "sqs", "AmazonSQS.SetQueueAttributes", &request).await.map(drop)
}

/// Kills each worker that stops at the failpoint.
struct Killer {
    killed: Arc<AtomicU32>,
    lurking: JoinHandle<Result<()>>,
}

impl Killer {
    fn lurk(account: Account, pause: Pause) -> Self {
        let killed = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&killed);
        let lurking = tokio::spawn(async move {
            loop {
                if pause.is_reached() {
                    process::send(Signal::Kill, worker_of_killer(&account).await?)?;
                    pause.release()?;
                    count.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { killed, lurking }
    }

    /// Waits until this number of workers has died.
    async fn deaths(&self, count: u32) -> Result<()> {
        wait::until(&format!("death {count} of a worker"), LIMIT, async || {
            ensure!(!self.lurking.is_finished(), "the workers are no longer killed");
            Ok(self.killed.load(Ordering::SeqCst) >= count)
        })
        .await
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.lurking.abort();
    }
}

/// The process that has the lease of the file.
async fn worker_of_killer(account: &Account) -> Result<u32> {
    for key in account.keys("lease/").await? {
        // Another worker may have ended its lease since.
        let Ok(body) = account.get(&key).await else { continue };
        let lease: Value = serde_json::from_slice(&body)?;
        if lease["object"]["key"] == KILLER {
            let worker = lease["worker"].as_str().context("the lease names no worker")?;
            let pid = worker.rsplit(' ').next().and_then(|pid| pid.parse().ok());
            return pid.with_context(|| format!("{worker:?} contains no process id"));
        }
    }
    anyhow::bail!("no worker has the lease of {KILLER}")
}
