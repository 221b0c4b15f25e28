//! `make bench-large`: compares one transaction for a large file on MariaDB with a staging table.
//!
//! It measures undo, redo and binary log, the waits of another session, and the rollback after the task is killed.

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::process::{self, Signal};
use spillway_test_env::run::workspace;
use spillway_test_env::wait;

use crate::arena::{Arena, LOADED, Tasks};
use crate::data::Data;
use crate::figures::Run;
use crate::measure as stopwatch;

const ROWS: [u64; 2] = [5_000_000, 32_000_000];
const SOURCE: &str = "source/orders.csv";
const UPLOAD: &str = "uploads/orders.csv";
/// The pause of the other session between two commits.
const OTHER_SESSION_PAUSE: Duration = Duration::from_millis(20);
/// The part of the rows that the transaction has changed when its task is killed.
const KILLED_AT: f64 = 0.9;
/// The pause between two reads of `innodb_trx`. Within a tenth of a second the server returns its cached rows.
const TRANSACTION_CACHE_TIME: Duration = Duration::from_millis(120);
const LOAD_TIMEOUT: Duration = Duration::from_secs(1_200);
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(2_400);
const MEGABYTE: f64 = 1e6;

/// How the rows are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// All rows in one transaction.
    OneTransaction,
    /// In committed chunks into a staging table, and from there in one transaction.
    Staging,
}

impl Method {
    fn title(self) -> &'static str {
        match self {
            Self::OneTransaction => "one transaction",
            Self::Staging => "staging table",
        }
    }

    fn atomic_max_bytes(self) -> &'static str {
        match self {
            Self::OneTransaction => "1000000000000",
            Self::Staging => "1",
        }
    }
}

/// The bytes in a server's files and counters.
#[derive(Debug, Clone, Copy)]
struct Space {
    undo: u64,
    redo: u64,
    binary_log: u64,
}

/// The figures of one file size and one method.
#[derive(Debug)]
struct Figures {
    rows: u64,
    bytes: u64,
    method: Method,
    run: Run,
    /// The growth during the run.
    growth: Space,
    /// The longest wait of the other session.
    other_session: Duration,
    rollback: Duration,
}

/// Measures every file size with both methods and writes the page. With `rows` it is a trial run, which only returns it.
pub(crate) async fn measure(task: &Path, rows: Option<u64>, machine: &str) -> Result<String> {
    let mut all = Vec::new();
    for rows in rows.map_or(ROWS.to_vec(), |rows| vec![rows]) {
        for method in [Method::OneTransaction, Method::Staging] {
            let one =
                figures(task, rows, method).await.with_context(|| format!("{rows} rows with {}", method.title()))?;
            println!(
                "{rows} rows with {}: {:.1} s, rolled back in {:.1} s",
                method.title(),
                one.run.seconds,
                one.rollback.as_secs_f64()
            );
            all.push(one);
        }
    }
    let page = page(&all, machine)?;
    if rows.is_none() {
        std::fs::write(workspace().join("docs/large-files.md"), &page)?;
    }
    Ok(page)
}

/// Measures on a new server, whose files have not grown.
async fn figures(task: &Path, rows: u64, method: Method) -> Result<Figures> {
    let options = Options { binary_log: true, ..Options::default() };
    let tasks = Tasks { measured: task.to_owned(), baseline: None, terminal: None };
    let arena = Arena::open(Engine::MariaDb, options, tasks).await?;
    let columns: Vec<String> = Data::Orders.columns().iter().map(|name| format!("{name} BIGINT")).collect();
    let create_table = |table: &str| format!("CREATE TABLE {{schema}}.{table} ({})", columns.join(", "));
    arena.server.execute(&arena.schema, "SET GLOBAL innodb_autoextend_increment = 1").await?;
    arena.server.execute(&arena.schema, &create_table(LOADED)).await?;
    arena
        .server
        .execute(&arena.schema, "CREATE TABLE {schema}.other_session (id INT AUTO_INCREMENT PRIMARY KEY)")
        .await?;
    let file = arena.folder.path().join("orders.csv");
    let bytes = Data::Orders.write_file(&file, 1..rows + 1)?;
    arena.put_file(SOURCE, &file).await?;

    arena.copy(SOURCE, UPLOAD).await?;
    arena.settle().await?;
    let before = space(&arena).await?;
    let other_session = OtherSession::start(&arena.schema, arena.server.port());
    let servers = arena.servers()?;
    // The other session may be on this thread.
    let run = tokio::task::block_in_place(|| stopwatch::run(servers, &mut spillway(&arena, method)))?;
    let other_session = other_session.stop().await?;
    let after = space(&arena).await?;
    arena.check_moved("uploads/", 1, rows).await?;

    arena.server.execute(&arena.schema, "DROP TABLE {schema}.loaded").await?;
    arena.server.execute(&arena.schema, &create_table(LOADED)).await?;
    arena.clear("processed/").await?;
    // The ledger already contains the first file, so the second one has other bytes.
    let second_bytes = Data::Orders.write_file(&file, 2..rows + 2)?;
    ensure!(second_bytes.abs_diff(bytes) < 100, "the second file has another size");
    arena.put_file(UPLOAD, &file).await?;
    arena.settle().await?;
    let rollback = rollback(&arena, method, rows).await?;
    let growth = Space {
        undo: after.undo - before.undo,
        redo: after.redo - before.redo,
        binary_log: after.binary_log - before.binary_log,
    };
    Ok(Figures { rows, bytes, method, run, growth, other_session, rollback })
}

fn spillway(arena: &Arena, method: Method) -> std::process::Command {
    let mut command = arena.spillway("CSV_KEY", UPLOAD);
    command.env("ATOMIC_MAX_BYTES", method.atomic_max_bytes());
    command
}

/// Kills the task when its largest transaction is nearly done; returns the time until it is rolled back.
async fn rollback(arena: &Arena, method: Method, rows: u64) -> Result<Duration> {
    let mut child = spillway(arena, method).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let enough = (rows as f64 * KILLED_AT) as u64;
    let reached = wait::until("the transaction to have changed most rows", LOAD_TIMEOUT, async || {
        ensure!(process::is_alive(child.id()), "the task has already ended");
        Ok(changed_rows(&arena.server, &arena.schema).await? >= enough)
    });
    reached.await?;
    process::send(Signal::Kill, child.id())?;
    let started = Instant::now();
    child.wait()?;
    wait::until("the end of the rollback", ROLLBACK_TIMEOUT, async || {
        Ok(changed_rows(&arena.server, &arena.schema).await? == 0)
    })
    .await?;
    let rollback = started.elapsed();
    let left = arena.server.query(&arena.schema, "SELECT COUNT(*) FROM {schema}.loaded").await?;
    ensure!(left[0] == [Some("0".to_owned())], "{left:?} rows of the transaction remain");
    Ok(rollback)
}

/// The number of rows that the largest open transaction has changed so far.
async fn changed_rows(server: &Database, schema: &Schema) -> Result<u64> {
    tokio::time::sleep(TRANSACTION_CACHE_TIME).await;
    let changed = "SELECT COALESCE(MAX(trx_rows_modified), 0) FROM information_schema.innodb_trx";
    number(server, schema, changed).await
}

async fn number(server: &Database, schema: &Schema, query: &str) -> Result<u64> {
    let rows = server.query(schema, query).await?;
    let text =
        rows.first().and_then(|row| row.last()).cloned().flatten().with_context(|| format!("no value: {query}"))?;
    text.parse().with_context(|| format!("not a number: {query}"))
}

async fn space(arena: &Arena) -> Result<Space> {
    let (server, schema) = (&arena.server, &arena.schema);
    // By default there are no undo tablespaces, and undo is in the system tablespace.
    let undo = "SELECT file_size FROM information_schema.innodb_sys_tablespaces WHERE name = 'innodb_system'";
    let redo =
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Innodb_os_log_written'";
    let logs = server.query(schema, "SHOW BINARY LOGS").await?;
    let sizes = logs.iter().filter_map(|row| row.get(1)?.as_deref()?.parse::<u64>().ok());
    Ok(Space {
        undo: number(server, schema, undo).await?,
        redo: number(server, schema, redo).await?,
        binary_log: sizes.sum(),
    })
}

/// A session that commits rows to its own table, and measures its longest wait.
#[derive(Debug)]
struct OtherSession {
    is_stopped: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<Duration>>,
}

impl OtherSession {
    fn start(schema: &Schema, port: u16) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (schema, flag) = (schema.clone(), is_stopped.clone());
        let task = tokio::spawn(async move {
            let mut client = schema.client(port).await?;
            let (mut longest, mut commits) = (Duration::ZERO, 0);
            while !flag.load(Ordering::Relaxed) {
                let started = Instant::now();
                client.execute("INSERT INTO other_session VALUES ()").await?;
                longest = longest.max(started.elapsed());
                commits += 1;
                tokio::time::sleep(OTHER_SESSION_PAUSE).await;
            }
            ensure!(commits > 1, "the other session committed fewer than two rows");
            Ok(longest)
        });
        Self { is_stopped, task }
    }

    async fn stop(self) -> Result<Duration> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

fn page(all: &[Figures], machine: &str) -> Result<String> {
    let mut page = format!(
        "# Large files on MariaDB

`make bench-large` measures these figures and writes this page. Machine: {machine}.

The same file is loaded into an existing table, in one transaction and through a staging table (`ATOMIC_MAX_BYTES` is
above or below its size). Each row is one run on a new server with a buffer pool of 1 GiB, a redo log of 1 GiB, and a row-based
binary log that is synced at each COMMIT.

A staging table takes longer. Its advantage is the shorter rollback of a worker that dies early. So keep the default of
`ATOMIC_MAX_BYTES` unless a file may not wait for the rollback of one transaction, which takes about as long as the load.

- *Undo*, *redo* and *binary log* are the bytes that the server wrote to each of them until the end of the task.
- *Others wait* is the longest time that another session needed to commit a row to its own table. It commits one every
  {} ms.
- *Rolled back* is the time from the kill of the task to the end of the rollback. The task is killed when its last
  transaction has changed {:.0} % of the rows. Until the rollback ends, another worker that
  tries the file gets `conflict`.

| rows | MB | method | seconds | ratio to one transaction | server CPU s | undo MB | redo MB | binary log MB | others wait ms | rolled back s |
|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|
",
        OTHER_SESSION_PAUSE.as_millis(),
        KILLED_AT * 100.0,
    );
    let mut one_transaction = f64::NAN;
    for one in all {
        if one.method == Method::OneTransaction {
            one_transaction = one.run.seconds;
        }
        writeln!(
            page,
            "| {} | {:.0} | {} | {:.1} | {:.2} × | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
            one.rows,
            one.bytes as f64 / MEGABYTE,
            one.method.title(),
            one.run.seconds,
            one.run.seconds / one_transaction,
            one.run.server_cpu_seconds,
            one.growth.undo as f64 / MEGABYTE,
            one.growth.redo as f64 / MEGABYTE,
            one.growth.binary_log as f64 / MEGABYTE,
            one.other_session.as_secs_f64() * 1e3,
            one.rollback.as_secs_f64(),
        )?;
    }
    Ok(page)
}
