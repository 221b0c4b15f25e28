//! `make bench-large`: what one transaction for a large file costs MariaDB beside a staging table, and what it costs when the task dies in
//! it: undo, redo, binary log, other sessions' waits, and the time in which everything is rolled back.

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

use crate::arena::{Arena, LOADED};
use crate::data::Data;
use crate::figures::Run;
use crate::measure as stopwatch;

const ROWS: [u64; 2] = [5_000_000, 32_000_000];
const SOURCE: &str = "source/orders.csv";
const UPLOAD: &str = "uploads/orders.csv";
/// Between two commits of the session that looks on.
const NEIGHBOUR_PAUSE: Duration = Duration::from_millis(20);
/// How much of the rows the transaction has changed when its task is killed.
const KILLED_AT: f64 = 0.9;
/// The server answers from what it has seen before to whoever asks for its transactions sooner than after a tenth of a second.
const TRANSACTIONS_KEPT: Duration = Duration::from_millis(120);
const LOAD_BOUND: Duration = Duration::from_secs(1_200);
const ROLLBACK_BOUND: Duration = Duration::from_secs(2_400);
const MEGABYTE: f64 = 1e6;

/// How the rows get into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All of them in one transaction.
    AtOnce,
    /// In committed chunks into a staging table, and from there in one transaction.
    Staged,
}

impl Way {
    fn title(self) -> &'static str {
        match self {
            Self::AtOnce => "one transaction",
            Self::Staged => "staging table",
        }
    }

    fn atomic_max_bytes(self) -> &'static str {
        match self {
            Self::AtOnce => "1000000000000",
            Self::Staged => "1",
        }
    }
}

/// What a server's files and counters stand at.
#[derive(Debug, Clone, Copy)]
struct Space {
    undo: u64,
    redo: u64,
    binary_log: u64,
}

/// One size by one way.
#[derive(Debug)]
struct Figures {
    rows: u64,
    bytes: u64,
    way: Way,
    run: Run,
    grown: Space,
    neighbour: Duration,
    rollback: Duration,
}

/// Measures every size by both ways and writes the page; with `rows`, which is for trying it out, it is only printed.
pub(crate) async fn measure(task: &Path, rows: Option<u64>, compute: &str) -> Result<String> {
    let mut all = Vec::new();
    for rows in rows.map_or(ROWS.to_vec(), |rows| vec![rows]) {
        for way in [Way::AtOnce, Way::Staged] {
            let one = figures(task, rows, way).await.with_context(|| format!("{rows} rows by {}", way.title()))?;
            println!(
                "{rows} rows by {}: {:.1} s, rolled back in {:.1} s",
                way.title(),
                one.run.seconds,
                one.rollback.as_secs_f64()
            );
            all.push(one);
        }
    }
    let page = page(&all, compute)?;
    if rows.is_none() {
        std::fs::write(workspace().join("docs/large-files.md"), &page)?;
    }
    Ok(page)
}

/// On a server of its own, whose files have not grown yet.
async fn figures(task: &Path, rows: u64, way: Way) -> Result<Figures> {
    let options = Options { binary_log: true, ..Options::default() };
    let arena = Arena::open(Engine::MariaDb, options, task).await?;
    let columns: Vec<String> = Data::Orders.columns().iter().map(|name| format!("{name} BIGINT")).collect();
    let make = |table: &str| format!("CREATE TABLE {{schema}}.{table} ({})", columns.join(", "));
    arena.server.execute(&arena.schema, "SET GLOBAL innodb_autoextend_increment = 1").await?;
    arena.server.execute(&arena.schema, &make(LOADED)).await?;
    arena.server.execute(&arena.schema, "CREATE TABLE {schema}.neighbour (id INT AUTO_INCREMENT PRIMARY KEY)").await?;
    let file = arena.folder.path().join("orders.csv");
    let bytes = Data::Orders.write_file(&file, 1..rows + 1)?;
    arena.put_file(SOURCE, &file).await?;

    arena.copy(SOURCE, UPLOAD).await?;
    arena.finalize().await?;
    let before = space(&arena).await?;
    let neighbour = Neighbour::start(&arena.schema, arena.server.port());
    let servers = arena.servers()?;
    // The session beside may wait for this very thread.
    let run = tokio::task::block_in_place(|| stopwatch::run(servers, &mut spillway(&arena, way)))?;
    let neighbour = neighbour.stop().await?;
    let after = space(&arena).await?;
    arena.ensure_moved("uploads/", 1, rows).await?;

    arena.server.execute(&arena.schema, "DROP TABLE {schema}.loaded").await?;
    arena.server.execute(&arena.schema, &make(LOADED)).await?;
    arena.clear("processed/").await?;
    // Other bytes are another source: the ledger knows this one.
    let bytes_of_another = Data::Orders.write_file(&file, 2..rows + 2)?;
    ensure!(bytes_of_another.abs_diff(bytes) < 100, "the second file is of another size");
    arena.put_file(UPLOAD, &file).await?;
    arena.finalize().await?;
    let rollback = rollback(&arena, way, rows).await?;
    let grown = Space {
        undo: after.undo - before.undo,
        redo: after.redo - before.redo,
        binary_log: after.binary_log - before.binary_log,
    };
    Ok(Figures { rows, bytes, way, run, grown, neighbour, rollback })
}

fn spillway(arena: &Arena, way: Way) -> std::process::Command {
    let mut command = arena.spillway("CSV_KEY", UPLOAD);
    command.env("ATOMIC_MAX_BYTES", way.atomic_max_bytes());
    command
}

/// Kills the task when its largest transaction is nearly done; the time until nothing of it is left.
async fn rollback(arena: &Arena, way: Way, rows: u64) -> Result<Duration> {
    let mut child = spillway(arena, way).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let enough = (rows as f64 * KILLED_AT) as u64;
    let reached = wait::until("the transaction to have changed most rows", LOAD_BOUND, async || {
        ensure!(process::is_alive(child.id()), "the task has ended before");
        Ok(changed_rows(&arena.server, &arena.schema).await? >= enough)
    });
    reached.await?;
    process::send(Signal::Kill, child.id())?;
    let begun = Instant::now();
    child.wait()?;
    wait::until("the end of the rollback", ROLLBACK_BOUND, async || {
        Ok(changed_rows(&arena.server, &arena.schema).await? == 0)
    })
    .await?;
    let rollback = begun.elapsed();
    let left = arena.server.query(&arena.schema, "SELECT COUNT(*) FROM {schema}.loaded").await?;
    ensure!(left[0] == [Some("0".to_owned())], "{left:?} rows are left of the transaction");
    Ok(rollback)
}

/// The rows that the largest open transaction has changed so far.
async fn changed_rows(server: &Database, schema: &Schema) -> Result<u64> {
    tokio::time::sleep(TRANSACTIONS_KEPT).await;
    let changed = "SELECT COALESCE(MAX(trx_rows_modified), 0) FROM information_schema.innodb_trx";
    number(server, schema, changed).await
}

async fn number(server: &Database, schema: &Schema, query: &str) -> Result<u64> {
    let answer = server.query(schema, query).await?;
    let text =
        answer.first().and_then(|row| row.last()).cloned().flatten().with_context(|| format!("no answer: {query}"))?;
    text.parse().with_context(|| format!("no number: {query}"))
}

async fn space(arena: &Arena) -> Result<Space> {
    let (server, schema) = (&arena.server, &arena.schema);
    // Without tablespaces of its own, as is the default, undo lies in the system's.
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

/// Another session, which commits a row of its own again and again; it keeps its longest wait.
#[derive(Debug)]
struct Neighbour {
    is_over: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<Result<Duration>>,
}

impl Neighbour {
    fn start(schema: &Schema, port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (schema, flag) = (schema.clone(), is_over.clone());
        let work = tokio::spawn(async move {
            let mut client = schema.client(port).await?;
            let (mut longest, mut commits) = (Duration::ZERO, 0);
            while !flag.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.execute("INSERT INTO neighbour VALUES ()").await?;
                longest = longest.max(begun.elapsed());
                commits += 1;
                tokio::time::sleep(NEIGHBOUR_PAUSE).await;
            }
            ensure!(commits > 1, "the session beside has hardly come to its turn");
            Ok(longest)
        });
        Self { is_over, work }
    }

    async fn stop(self) -> Result<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        self.work.await?
    }
}

fn page(all: &[Figures], compute: &str) -> Result<String> {
    let mut page = format!(
        "# Large files on MariaDB

Made by `make bench-large`, {compute}; each line on a server of its own, with a buffer pool and a redo log of 1 GiB and a binary log of rows that is synced at each COMMIT.
The same file, into a table that is there, in one transaction and by a staging table (`ATOMIC_MAX_BYTES` above and below its size).

- *Undo*, *redo* and *binary log* are what the server's files have grown by, or had written to them, until the end of the task.
- *Others wait* is the longest time that a session beside took to commit a row of its own, one every {} ms.
- *Rolled back*: from the kill of the task when its last transaction has changed {:.0} % of the rows, to the end of the rollback. So long the source is
  claimed, and whoever comes for it gets `conflict`.

| rows | MB | | seconds | of one transaction | server CPU s | undo MB | redo MB | binary log MB | others wait ms | rolled back s |
|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|
",
        NEIGHBOUR_PAUSE.as_millis(),
        KILLED_AT * 100.0,
    );
    let mut at_once = f64::NAN;
    for one in all {
        if one.way == Way::AtOnce {
            at_once = one.run.seconds;
        }
        writeln!(
            page,
            "| {} | {:.0} | {} | {:.1} | {:.2} × | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
            one.rows,
            one.bytes as f64 / MEGABYTE,
            one.way.title(),
            one.run.seconds,
            one.run.seconds / at_once,
            one.run.server_cpu_seconds,
            one.grown.undo as f64 / MEGABYTE,
            one.grown.redo as f64 / MEGABYTE,
            one.grown.binary_log as f64 / MEGABYTE,
            one.neighbour.as_secs_f64() * 1e3,
            one.rollback.as_secs_f64(),
        )?;
    }
    Ok(page)
}
