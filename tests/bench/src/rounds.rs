//! Runs the rounds of a set. Every contender runs once per round, in changing order. Every table is compared before it is
//! dropped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::arena::{Arena, LOADED, REFERENCE};
use crate::client;
use crate::compare::{Content, wrong_values};
use crate::data::Data;
use crate::figures::{Entry, Run, SPILLWAY, SPILLWAY_LOAD, SPILLWAY_NEW_TABLE, Section, Wrong, is_own};
use crate::measure;
use crate::sets::Set;

/// The rows of the wide set that pandas loads. They contain all difficult values; the whole set would take minutes.
const PANDAS_ROWS: u64 = 10_000;
const SOURCE: &str = "source/";

/// A program that loads the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// Spillway into an existing table. With many files, the first of them creates the table.
    Spillway,
    /// Spillway into a new table.
    SpillwayNewTable,
    /// The other build of Spillway, with which this one is compared, into an existing table.
    Baseline,
    /// The other build of Spillway into a new table.
    BaselineNewTable,
    /// The command `spillway`, from the local disk into an existing table.
    Terminal,
    /// The bulk loader of the database, from the local disk.
    Loader,
    /// The functions `read_csv` and `to_sql` of pandas, from S3.
    Pandas,
    /// A hand-written script for many files, from S3.
    Script,
}

impl Contender {
    /// Whether it is Spillway, which must store every value.
    fn is_spillway(self) -> bool {
        self.is_task() || self == Self::Terminal
    }

    /// Whether it is Spillway's task, which moves the object.
    fn is_task(self) -> bool {
        matches!(self, Self::Spillway | Self::SpillwayNewTable | Self::Baseline | Self::BaselineNewTable)
    }

    /// The contenders of each round. Spillway is first, because it chooses the types of the tables.
    fn of(set: &Set, arena: &Arena) -> Vec<Self> {
        let (is_one_file, has_baseline) = (set.files == 1, arena.has_baseline());
        let takes_part = [
            (Self::SpillwayNewTable, is_one_file),
            (Self::BaselineNewTable, is_one_file && has_baseline),
            (Self::Loader, is_one_file),
            (Self::Terminal, is_one_file && arena.has_terminal()),
            (Self::Spillway, true),
            (Self::Baseline, has_baseline),
            (Self::Script, !is_one_file && !has_baseline),
        ];
        takes_part.into_iter().filter_map(|(contender, takes_part)| takes_part.then_some(contender)).collect()
    }
}

/// The state of a set while it is measured.
#[derive(Debug)]
struct Rounds<'a> {
    arena: &'a Arena,
    set: &'a Set,
    file: PathBuf,
    bytes: u64,
    /// The content of the table after the first run of Spillway.
    content: Option<Content>,
    entries: Vec<(Contender, Entry)>,
    wrong: Vec<Wrong>,
}

/// Measures a set. `say` gets one line per run.
pub(crate) async fn run(
    arena: &Arena,
    set: &Set,
    rounds: usize,
    machine: &str,
    say: impl Fn(&str) + Sync,
) -> Result<Section> {
    let file = arena.folder.path().join(format!("{}.csv", set.name));
    let mut all = Rounds { arena, set, file, bytes: 0, content: None, entries: Vec::new(), wrong: Vec::new() };
    let sources = all.put_sources().await?;
    let fetch_seconds = arena.fetch_seconds(&sources)?;
    for round in 0..rounds {
        let mut order = Contender::of(set, arena);
        let contenders = order.len();
        order.rotate_left(round % contenders);
        // Rotation alone would always run the same contender directly before another one, whose writes it may slow down.
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            say(&all.run_contender(contender, round).await?);
        }
    }
    if set.has_pandas && !arena.has_baseline() {
        say(&all.run_contender(Contender::Pandas, rounds).await?);
    }
    if set.data == Data::Wide && !arena.has_baseline() {
        all.check_pandas().await?;
    }
    Ok(Section {
        set: set.name.to_owned(),
        about: set.about.to_owned(),
        engine: arena.schema.engine.name().to_owned(),
        server: arena.version().await?,
        machine: machine.to_owned(),
        files: set.files,
        rows: all.rows(),
        bytes: all.bytes,
        fetch_seconds,
        entries: all.entries.into_iter().map(|(_, entry)| entry).collect(),
        wrong: all.wrong,
    })
}

impl Rounds<'_> {
    fn rows(&self) -> u64 {
        self.set.files * self.set.rows_each
    }

    /// Generates the files and stores them outside of the upload prefix; returns their keys.
    async fn put_sources(&mut self) -> Result<Vec<String>> {
        let (data, each) = (self.set.data, self.set.rows_each);
        if self.set.files == 1 {
            let key = format!("{SOURCE}{}.csv", self.set.name);
            self.bytes = data.write_file(&self.file, 1..each + 1)?;
            self.arena.put_file(&key, &self.file).await?;
            return Ok(vec![key]);
        }
        let mut keys = Vec::new();
        for number in 0..self.set.files {
            let body = data.file(number * each + 1..(number + 1) * each + 1);
            self.bytes += body.len() as u64;
            keys.push(format!("{SOURCE}{number:06}.csv"));
            self.arena.account.put(&keys[number as usize], body).await?;
        }
        Ok(keys)
    }

    /// Prepares, measures and compares one run of a contender, and cleans up. Returns a line about it.
    async fn run_contender(&mut self, contender: Contender, round: usize) -> Result<String> {
        let prefix = format!("uploads/{contender:?}-{round}/").to_lowercase();
        let table = if contender.is_spillway() { LOADED } else { REFERENCE };
        self.arena.drop_table(table).await?;
        let creates_table = matches!(contender, Contender::SpillwayNewTable | Contender::BaselineNewTable)
            || (contender.is_task() && self.set.files > 1);
        if !creates_table {
            self.arena.create_empty(table).await?;
        }
        if contender.is_task() || contender == Contender::Script {
            for source in self.arena.account.keys(SOURCE).await? {
                self.arena.copy(&source, &source.replace(SOURCE, &prefix)).await?;
            }
        }
        self.arena.settle().await?;

        let run = measure::run(self.arena.servers()?, &mut self.command(contender, &prefix)?)
            .with_context(|| format!("{contender:?} failed in round {}", round + 1))?;

        let compared = self.compare(contender, table).await?;
        if contender.is_task() {
            self.arena.check_moved(&prefix, self.set.files, self.rows()).await?;
        }
        if self.set.data == Data::Wide && self.wrong.iter().all(|wrong| wrong.name != self.name(contender)) {
            self.check_values(&self.name(contender), table, self.rows())?;
        }
        self.arena.drop_table(table).await?;
        for prefix in ["uploads/", "processed/"] {
            self.arena.clear(prefix).await?;
        }
        let name = self.name(contender);
        let line =
            format!("  {name}: {:.2} s, {:.0} rows/s; {compared}", run.seconds, self.rows() as f64 / run.seconds);
        self.add_run(contender, run, compared);
        Ok(line)
    }

    fn name(&self, contender: Contender) -> String {
        match contender {
            Contender::Spillway => SPILLWAY.to_owned(),
            Contender::SpillwayNewTable => SPILLWAY_NEW_TABLE.to_owned(),
            Contender::Baseline => format!("{SPILLWAY}, baseline"),
            Contender::BaselineNewTable => format!("{SPILLWAY_NEW_TABLE}, baseline"),
            Contender::Terminal => SPILLWAY_LOAD.to_owned(),
            Contender::Loader => client::loader_name(self.arena.schema.engine).to_owned(),
            Contender::Pandas => "pandas `to_sql`".to_owned(),
            Contender::Script => "hand-written script".to_owned(),
        }
    }

    fn command(&self, contender: Contender, prefix: &str) -> Result<std::process::Command> {
        let (arena, set) = (self.arena, self.set);
        let key = format!("{prefix}{}.csv", set.name);
        let (setting, value) = if set.files == 1 { ("CSV_KEY", key.as_str()) } else { ("CSV_PREFIX", prefix) };
        Ok(match contender {
            Contender::Spillway | Contender::SpillwayNewTable => arena.spillway(setting, value),
            Contender::Baseline | Contender::BaselineNewTable => arena.baseline(setting, value)?,
            Contender::Terminal => arena.terminal_load(&self.file)?,
            Contender::Loader => {
                client::load_command(&arena.schema, arena.server.port(), &self.file, REFERENCE, set.data)
            }
            Contender::Pandas => arena.script("pandas_way.py", [&format!("{SOURCE}{}.csv", set.name), REFERENCE])?,
            Contender::Script => arena.script("small_files.py", [prefix, REFERENCE])?,
        })
    }

    /// Describes the content of the table.
    ///
    /// # Errors
    /// When Spillway lost rows, or stored other values than in an earlier round.
    async fn compare(&mut self, contender: Contender, table: &str) -> Result<String> {
        let content = Content::of(&self.arena.server, &self.arena.schema, table, self.set.data).await?;
        if !contender.is_spillway() {
            let own = self.content.as_ref().context("Spillway has not run before")?;
            return Ok(own.describe_difference(&content, self.set.data));
        }
        ensure!(content.rows == self.rows(), "Spillway stored {} rows of {}", content.rows, self.rows());
        match &self.content {
            Some(first) => ensure!(*first == content, "Spillway stored other values than in its first round"),
            None => {
                self.arena.save_shape().await?;
                self.content = Some(content);
            }
        }
        Ok("all rows".into())
    }

    fn add_run(&mut self, contender: Contender, run: Run, content: String) {
        if let Some((_, entry)) = self.entries.iter_mut().find(|(known, _)| *known == contender) {
            entry.runs.push(run);
            if content.starts_with("wrong") {
                entry.content = content;
            }
            return;
        }
        let is_from_s3 = !matches!(contender, Contender::Loader | Contender::Terminal);
        let entry = Entry { name: self.name(contender), is_from_s3, runs: vec![run], content };
        self.entries.push((contender, entry));
    }

    /// Compares the special columns of a table with the file, value by value.
    fn check_values(&mut self, name: &str, table: &str, rows: u64) -> Result<()> {
        let counts = wrong_values(&self.arena.schema, self.arena.server.port(), table, rows)?;
        ensure!(!is_own(name) || counts.iter().all(|count| *count == 0), "Spillway stored wrong values: {counts:?}");
        self.wrong.push(Wrong { name: name.to_owned(), rows, counts });
        Ok(())
    }

    /// Lets pandas create a table from the first rows, and counts the wrong values.
    async fn check_pandas(&mut self) -> Result<()> {
        let rows = self.set.rows_each.min(PANDAS_ROWS);
        let file: &Path = &self.file.with_extension("head");
        self.set.data.write_file(file, 1..rows + 1)?;
        let key = format!("{SOURCE}head.csv");
        self.arena.put_file(&key, file).await?;
        self.arena.drop_table(REFERENCE).await?;
        measure::run(self.arena.servers()?, &mut self.arena.script("pandas_way.py", [&key, REFERENCE])?)?;
        self.check_values(&self.name(Contender::Pandas), REFERENCE, rows)
    }
}
