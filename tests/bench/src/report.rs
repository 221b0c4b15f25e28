//! Writes the figures as Markdown: the method, a table for each set and engine, and the wrong values of other loaders.

use std::fmt::Write;

use anyhow::Result;

use crate::data::SPECIALS;
use crate::figures::{Entry, Run, SPILLWAY, Section};

const INTRODUCTION: &str = "# Benchmarks

`make bench` measures these figures. It writes this page, its plot and [all single figures](benchmarks.json). To measure
only some of them again, run `make bench SET=... ENGINE=... ROUNDS=...`.

![Rows and files per second](benchmarks.svg)

All contenders load the same file into the same server, in rounds with changing order. The time is that of one process
from its start to its end.

- *Spillway* is the task as it is deployed, with its default settings. Its time includes the start, the download from S3,
  the detection of the format, the check of each value against its column, the rows and their ledger row in one
  transaction over verified TLS, the verified move, and the report. The table exists and is empty, as for the others.
- *Spillway, new table* loads the first file of a table. On MariaDB it reads the object twice: it infers the types, creates
  the table, and then loads the rows. On PostgreSQL it infers the types from the beginning of the file, creates the table
  in the transaction of the rows, and checks the type of every later value.
- *`spillway load`* is the command line. It loads the file from the local disk into an existing table, with the same checks and
  the ledger row, over verified TLS.
- The bulk loaders are the clients of the databases (`mariadb`, `psql`). They read the file from the local disk and load
  it without TLS in one transaction, into an empty table with the types that Spillway chose. They check nothing, keep no
  ledger, and download and move nothing. Their time is the minimum for loading the file.
- pandas and the hand-written script read the files from the same S3.

The columns of the tables:

- *Seconds* is the median of all rounds, with minimum and maximum in parentheses. *Spillway's time* is the median of
  Spillway divided by that of the other contender. Below 1, Spillway is faster.
- *Peak MiB* and *client CPU* are those of the measured process. *Server CPU* and *S3 CPU* are the processor time of all
  processes of the database and of the local S3 during the run. Everything runs on the same cores.
- *Fetch alone* is the time in which `curl` reads the same objects from the local S3 (MiniStack, a Python process) and
  discards them. Spillway's time includes it; for a new table on MariaDB, twice.
- *Content* is the result of a comparison after every run: the row count and the sum of the hashes of all rows, computed by
  the same SQL for both tables. A difference does not stop the benchmark: `LOAD DATA` does not distinguish a quoted empty
  field from an unquoted one.

The servers have a buffer pool of 1 GiB. MariaDB has a redo log of 1 GiB, which it flushes at each COMMIT, and no
binary log. PostgreSQL has `fsync=off`, and defaults otherwise.
";

/// The whole page.
pub(crate) fn page(sections: &[Section]) -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    let mut set = "";
    for section in sections {
        if section.set != set {
            set = &section.set;
            write!(page, "\n## {set}\n\n{}\n", about(section))?;
        }
        write!(page, "\n{}", part(section)?)?;
    }
    page.push_str(&size_comparison(sections)?);
    Ok(page)
}

/// The part of the page about one set on one engine.
pub(crate) fn part(section: &Section) -> Result<String> {
    let heading = format!("### {} on {}, {}", section.set, section.server, section.machine);
    Ok(format!("{heading}\n\n{}{}", table(section)?, wrong_values(section)))
}

fn about(section: &Section) -> String {
    let (rows, size) = (thousands(section.rows), section.bytes as f64 / 1e6);
    match section.files {
        1 => format!("One file of {rows} rows: {}, {size:.1} MB.", section.about),
        files => format!(
            "{} files of {} rows each: {}, {size:.1} MB in total. One process loads all of them. Spillway is the task with a \
             prefix, which loads four files concurrently by default. The script (`tests/bench/small_files.py`) sends only the \
             necessary S3 requests. For each file it runs one INSERT and writes a ledger row in one transaction, and then moves \
             the file.",
            thousands(files),
            section.rows / files,
            section.about
        ),
    }
}

/// The table with one row per contender.
fn table(section: &Section) -> Result<String> {
    let per_second = if section.files > 1 { "files/s" } else { "rows/s" };
    let mut table = format!(
        "| | rounds | seconds | Spillway's time | {per_second} | MB/s | peak MiB | client CPU s | server CPU s | S3 CPU s \
         | fetch alone s | content |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n"
    );
    let own_seconds = section.spillway()?.seconds();
    for entry in &section.entries {
        let seconds = entry.seconds();
        let cells = [
            entry.name.clone(),
            entry.runs.len().to_string(),
            spread(entry),
            if entry.name == SPILLWAY { String::new() } else { format!("{:.2} ×", own_seconds / seconds) },
            thousands(rate(section, seconds).round() as u64),
            format!("{:.1}", section.bytes as f64 / 1e6 / seconds),
            // The maximum, because so much memory must be available.
            format!("{:.0}", maximum(entry, |run| run.peak_memory_bytes as f64) / f64::from(1 << 20)),
            format!("{:.2}", entry.median(|run| run.client_cpu_seconds)),
            format!("{:.2}", entry.median(|run| run.server_cpu_seconds)),
            format!("{:.2}", entry.median(|run| run.s3_cpu_seconds)),
            if entry.is_from_s3 { format!("{:.2}", section.fetch_seconds) } else { String::new() },
            entry.content.clone(),
        ];
        writeln!(table, "| {} |", cells.join(" | "))?;
    }
    Ok(table)
}

/// Rows per second, or files per second if there is more than one file.
pub(crate) fn rate(section: &Section, seconds: f64) -> f64 {
    let count = if section.files > 1 { section.files } else { section.rows };
    count as f64 / seconds
}

fn spread(entry: &Entry) -> String {
    let seconds = entry.seconds();
    if entry.runs.len() == 1 {
        return format!("{seconds:.2}");
    }
    let minimum = -maximum(entry, |run| -run.seconds);
    format!("{seconds:.2} ({minimum:.2}–{:.2})", maximum(entry, |run| run.seconds))
}

fn maximum(entry: &Entry, figure: impl Fn(&Run) -> f64) -> f64 {
    entry.runs.iter().map(figure).fold(f64::NEG_INFINITY, f64::max)
}

fn wrong_values(section: &Section) -> String {
    if section.wrong.is_empty() {
        return String::new();
    }
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cells = |first: &str, each: &dyn Fn(&crate::figures::Wrong) -> String| {
        row(std::iter::once(first.to_owned()).chain(section.wrong.iter().map(each)).collect())
    };
    let mut text = "\nNumbers of values that differ from the file. Here pandas loads only the first rows, into a table that it creates:\n\n".to_owned();
    text += &cells("column", &|wrong| wrong.name.clone());
    text += &cells("---", &|_| "--:".into());
    for (index, special) in SPECIALS.iter().enumerate() {
        let first = format!("`{}`: {}", special.column, special.contents);
        text += &cells(&first, &|wrong| format!("{} of {}", thousands(wrong.counts[index]), thousands(wrong.rows)));
    }
    text
}

/// Compares the speed for the largest file with that for the smallest file of the same kind.
fn size_comparison(sections: &[Section]) -> Result<String> {
    let mut text = String::new();
    for large in sections.iter().filter(|section| section.set == "orders-32m") {
        let is_small = |section: &&Section| section.set == "orders-1m" && section.engine == large.engine;
        let Some(small) = sections.iter().find(is_small) else { continue };
        let speed = |section: &Section| Ok::<_, anyhow::Error>(rate(section, section.spillway()?.seconds()));
        let (ratio, peak) =
            (speed(large)? / speed(small)?, maximum(large.spillway()?, |run| run.peak_memory_bytes as f64));
        writeln!(
            text,
            "- {}: {} rows are loaded at {ratio:.2} times the speed of {} rows, with a peak memory of {:.0} MiB.",
            large.server,
            thousands(large.rows),
            thousands(small.rows),
            peak / f64::from(1 << 20)
        )?;
    }
    Ok(if text.is_empty() { text } else { format!("\n## Speed and memory by size\n\n{text}") })
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use spillway_test_env::run::workspace;

    use super::{page, table, thousands};
    use crate::figures::tests::section;
    use crate::figures::{Section, Wrong};
    use crate::plot::chart;

    /// Compares a page with the published one, or writes it if `UPDATE_DOCS` is set.
    #[allow(clippy::disallowed_methods, reason = "a switch of the test run, not a setting")]
    fn check_published(name: &str, page: &str) {
        let file = workspace().join("docs").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, page).unwrap();
        }
        let published = std::fs::read_to_string(&file).unwrap();
        assert!(
            published == page,
            "docs/{name} is out of date; run: UPDATE_DOCS=1 cargo test -p spillway-bench published"
        );
    }

    #[test]
    fn published_page_and_plot_show_the_published_figures() {
        let figures = std::fs::read(workspace().join("docs/benchmarks.json")).unwrap();
        let sections: Vec<Section> = serde_json::from_slice(&figures).unwrap();
        check_published("benchmarks.md", &page(&sections).unwrap());
        check_published("benchmarks.svg", &chart(&sections));
    }

    #[test]
    fn table_has_medians_ratios_and_speeds() {
        let text = table(&section("orders-1m", "mariadb")).unwrap();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| Spillway | 3 | 2.00 (1.50–9.00) |  | 500,000 | 16.0 | 32 | 0.50 | 0.75 | 0.25 | 0.10 | the same |",
                "| a <loader> | 3 | 1.00 (1.00–1.00) | 2.00 × | 1,000,000 | 32.0 | 32 | 0.50 | 0.75 | 0.25 |  | the same |",
            ]
        );
        let columns = |line: &str| line.matches('|').count();
        assert!(text.lines().all(|line| columns(line) == columns(rows[0])), "{text}");
    }

    #[test]
    fn page_has_each_set_once_and_the_wrong_values() {
        let (mut wide, mut large) = (section("orders-1m", "postgres"), section("orders-32m", "mariadb"));
        wide.wrong.push(Wrong { name: "pandas".into(), rows: 10_000, counts: vec![1_234, 0, 0, 0, 0] });
        large.rows = 32_000_000;
        let text = page(&[section("orders-1m", "mariadb"), wide, large]).unwrap();
        assert_eq!(text.matches("\n## orders-1m\n").count(), 1);
        assert!(text.contains("| `zip`: leading zeros | 1,234 of 10,000 |"), "{text}");
        assert!(
            text.contains(
                "32,000,000 rows are loaded at 32.00 times the speed of 1,000,000 rows, with a peak memory of 32 MiB"
            ),
            "{text}"
        );
    }

    #[test]
    fn thousands_are_separated() {
        let numbers = [0, 999, 1_000, 12_345_678].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345,678"]);
    }
}
