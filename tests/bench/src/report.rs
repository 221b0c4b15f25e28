//! The figures as Markdown: what was done, a table for each set and engine, and what others get wrong.

use std::fmt::Write;

use anyhow::Result;

use crate::data::SPECIALS;
use crate::figures::{Entry, Run, SPILLWAY, Section};

const INTRODUCTION: &str = "# Benchmarks

Made by `make bench`, which writes this page, its plot and [every single figure](benchmarks.json); `make bench SET=... ENGINE=... ROUNDS=...` makes a part of it again.

![Rows and files per second](benchmarks.svg)

The same file goes into the same private server by everybody in turn, in rounds whose order rotates. The time is that of one process from its
start to its end. For Spillway that is the task as it is deployed, with its default settings: start, fetching from S3, finding out what the file is,
checking each value against its column, the rows in one transaction with their ledger row, over verified TLS, the verified move, the report. The table
is there and empty, as for the others; *new table* is the first file of a table. For MariaDB it then reads the object once more before, infers the types and
makes the table; for PostgreSQL it makes the table by the types of the beginning, in the transaction of the rows, and looks at every value's type as they pass.
The bulk loaders are the databases' own clients (`mariadb`, `psql`), from the local disk and without TLS, in one transaction, into an empty table of the
types that Spillway chose. They check nothing, keep no ledger and fetch and move nothing: this is the least that loading the file can cost. pandas and the
script by hand take the files from the same S3.

- Seconds are the median of all rounds, and in brackets the least and the most. *Spillway takes* is its median divided by the other's: below 1
  Spillway is the faster.
- Peak memory and *client CPU* are those of the measured process, *server CPU* and *S3 CPU* what all processes of the database and of the local S3
  spent meanwhile. Everything runs on the same cores.
- *Fetch alone* is the time in which `curl` reads the same objects from the local S3 (MiniStack, a Python process) and throws them away. What Spillway
  takes includes it, for a new table on MariaDB twice.
- *Content*: row count and a sum over a hash of every row, by the same SQL on Spillway's table and the other's, after every run. What another gets wrong
  is said and does not stop the run: `LOAD DATA` reads a quoted and an unquoted empty field alike.
- The servers have a buffer pool of 1 GiB. MariaDB writes its log to the disk at each COMMIT, with a redo log of 1 GiB and no binary log; PostgreSQL
  has `fsync=off` and otherwise its defaults.
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
    page.push_str(&flatness(sections)?);
    Ok(page)
}

/// One set on one engine.
pub(crate) fn part(section: &Section) -> Result<String> {
    let heading = format!("### {} on {}, {}", section.set, section.server, section.compute);
    Ok(format!("{heading}\n\n{}{}", table(section)?, wrong_values(section)))
}

fn about(section: &Section) -> String {
    let (rows, size) = (thousands(section.rows), section.bytes as f64 / 1e6);
    match section.files {
        1 => format!("One file of {rows} rows: {}, {size:.1} MB.", section.about),
        files => format!(
            "{} files of {} rows each: {}, {size:.1} MB in all. One process loads all of them: the task with \
             a prefix, and a script (`tests/bench/small_files.py`) that does the same S3 requests that are needed at least, one INSERT \
             with a ledger row in a transaction, and the move. Spillway has four of them under way at once, as it comes.",
            thousands(files),
            section.rows / files,
            section.about
        ),
    }
}

/// One row for each contender.
fn table(section: &Section) -> Result<String> {
    let per_second = if section.files > 1 { "files/s" } else { "rows/s" };
    let mut table = format!(
        "| | rounds | seconds | Spillway takes | {per_second} | MB/s | peak MiB | client CPU s | server CPU s | S3 CPU s \
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
            // The largest, since a peak is what has to be there.
            format!("{:.0}", most(entry, |run| run.peak_memory_bytes as f64) / f64::from(1 << 20)),
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

/// Rows a second, or files where there are many.
pub(crate) fn rate(section: &Section, seconds: f64) -> f64 {
    let things = if section.files > 1 { section.files } else { section.rows };
    things as f64 / seconds
}

fn spread(entry: &Entry) -> String {
    let seconds = entry.seconds();
    if entry.runs.len() == 1 {
        return format!("{seconds:.2}");
    }
    let least = -most(entry, |run| -run.seconds);
    format!("{seconds:.2} ({least:.2}–{:.2})", most(entry, |run| run.seconds))
}

fn most(entry: &Entry, figure: impl Fn(&Run) -> f64) -> f64 {
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
    let mut text = "\nWrong values, each compared with what was written into the file; pandas makes its own table here, of the first rows:\n\n".to_owned();
    text += &cells("column", &|wrong| wrong.name.clone());
    text += &cells("---", &|_| "--:".into());
    for (place, special) in SPECIALS.iter().enumerate() {
        let first = format!("`{}`: {}", special.column, special.holds);
        text += &cells(&first, &|wrong| format!("{} of {}", thousands(wrong.counts[place]), thousands(wrong.rows)));
    }
    text
}

/// How the largest file's speed compares with the smallest one's of the same kind.
fn flatness(sections: &[Section]) -> Result<String> {
    let mut text = String::new();
    for large in sections.iter().filter(|section| section.set == "orders-32m") {
        let is_small = |section: &&Section| section.set == "orders-1m" && section.engine == large.engine;
        let Some(small) = sections.iter().find(is_small) else { continue };
        let speed = |section: &Section| Ok::<_, anyhow::Error>(rate(section, section.spillway()?.seconds()));
        let (usage, peak) =
            (speed(large)? / speed(small)?, most(large.spillway()?, |run| run.peak_memory_bytes as f64));
        writeln!(
            text,
            "- {}: {} rows go at {usage:.2} times the rows per second of {}, in {:.0} MiB.",
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
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{page, table, thousands};
    use crate::figures::Wrong;
    use crate::figures::tests::section;

    #[test]
    fn a_table_has_medians_ratios_and_speeds() {
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
    fn a_page_has_each_set_once_and_what_is_wrong() {
        let (mut wide, mut large) = (section("orders-1m", "postgres"), section("orders-32m", "mariadb"));
        wide.wrong.push(Wrong { name: "pandas".into(), rows: 10_000, counts: vec![1_234, 0, 0, 0, 0] });
        large.rows = 32_000_000;
        let text = page(&[section("orders-1m", "mariadb"), wide, large]).unwrap();
        assert_eq!(text.matches("\n## orders-1m\n").count(), 1);
        assert!(text.contains("| `zip`: leading zeros | 1,234 of 10,000 |"), "{text}");
        assert!(
            text.contains("32,000,000 rows go at 32.00 times the rows per second of 1,000,000, in 32 MiB"),
            "{text}"
        );
    }

    #[test]
    fn thousands_are_divided() {
        let numbers = [0, 999, 1_000, 12_345_678].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345,678"]);
    }
}
