//! A bar on a terminal while a file is read: rows, rows per second, bytes, and the time that is left.

use std::time::Duration;

use console::Term;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use spillway_core::progress::Progress;

use crate::numbers::{count, counted};
use crate::output::{Format, Output};
use crate::table;

/// How often the bar is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// The shortest time from which a speed is computed. Before it, the first batch would show as millions of rows per second.
const MIN_ELAPSED: Duration = Duration::from_millis(500);

/// The lengths of the bar, from wide terminals to narrow ones. The length 0 draws no bar.
const BAR_LENGTHS: [usize; 4] = [24, 10, 5, 0];

/// The width of a terminal that does not tell its own.
const DEFAULT_WIDTH: usize = 80;

/// Runs the work, and draws its progress if standard error is a terminal.
pub(crate) async fn watch<T>(
    output: &Output,
    (name, size_bytes): (&str, u64),
    progress: &Progress,
    work: impl Future<Output = T>,
) -> T {
    if !output.has_terminal() || output.format() == Format::Json {
        return work.await;
    }
    let bar = ProgressBar::with_draw_target(Some(size_bytes), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    let mut work = std::pin::pin!(work);
    let mut seen_passes = 0;
    let result = loop {
        match tokio::time::timeout(INTERVAL, work.as_mut()).await {
            Ok(result) => break result,
            Err(_) => draw(&bar, name, progress, &mut seen_passes),
        }
    };
    bar.finish_and_clear();
    result
}

fn draw(bar: &ProgressBar, name: &str, progress: &Progress, seen_passes: &mut u64) {
    if progress.passes() != *seen_passes {
        *seen_passes = progress.passes();
        bar.reset();
    }
    let (elapsed, bytes, total) = (bar.elapsed(), progress.bytes(), bar.length().unwrap_or_default());
    bar.set_position(bytes);
    let width = Term::stderr().size_checked().map_or(DEFAULT_WIDTH, |(_, columns)| usize::from(columns));
    let state = State {
        name: &table::printable(name),
        rows: &rows_so_far(progress.rows(), elapsed),
        bytes: (bytes, total),
        left: &time_left(bytes, total, elapsed),
    };
    bar.set_message(state.line(width));
}

/// The parts of the line.
struct State<'a> {
    name: &'a str,
    rows: &'a str,
    bytes: (u64, u64),
    left: &'a str,
}

impl State<'_> {
    /// The line of a terminal with this many columns. On a narrow one the bar is shorter or missing, and then the name is cut.
    fn line(&self, width: usize) -> String {
        let (bytes, total) = self.bytes;
        let sizes = format!("{}/{}", DecimalBytes(bytes), DecimalBytes(total));
        let with = |name: &str, bar: usize| {
            let bar = if bar == 0 { String::new() } else { format!("[{}] ", drawn(self.bytes, bar)) };
            format!("{name}: {} {bar}{sizes}{}", self.rows, self.left)
        };
        let fits = |line: &String| line.chars().count() < width;
        if let Some(line) = BAR_LENGTHS.iter().map(|bar| with(self.name, *bar)).find(fits) {
            return line;
        }
        // Without its beginning, a path still names the file.
        let without_name = with("", 0).chars().count();
        let end = self.name.chars().count().saturating_sub(width.saturating_sub(without_name + 2));
        let name: String = self.name.chars().skip(end).collect();
        with(&format!("…{name}"), 0).chars().take(width.saturating_sub(1)).collect()
    }
}

/// The inside of a bar with this many characters.
fn drawn((bytes, total): (u64, u64), length: usize) -> String {
    let done = usize::try_from(bytes.saturating_mul(length as u64) / total.max(1)).unwrap_or(length).min(length);
    let head = if done < length { ">" } else { "" };
    format!("{}{head}{}", "=".repeat(done), " ".repeat(length - done - head.len()))
}

/// The rows so far, with their speed.
fn rows_so_far(rows: u64, elapsed: Duration) -> String {
    if elapsed < MIN_ELAPSED {
        return counted(rows, "row");
    }
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    format!("{}, {}/s", counted(rows, "row"), count(rows.saturating_mul(1000) / milliseconds))
}

/// The time until all bytes are read, at the speed so far.
fn time_left(bytes: u64, total: u64, elapsed: Duration) -> String {
    if elapsed < MIN_ELAPSED || bytes == 0 {
        return String::new();
    }
    #[allow(clippy::cast_precision_loss, reason = "an estimate in seconds")]
    let seconds = elapsed.as_secs_f64() * total.saturating_sub(bytes) as f64 / bytes as f64;
    format!(", {} left", short(Duration::from_secs_f64(seconds.ceil()).as_secs()))
}

/// A duration in seconds, short enough for a line with a bar.
fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_fits_the_terminal() {
        let state = State {
            name: "exports/2026-11/orders-1m.csv",
            rows: "595,968 rows, 327,454/s",
            bytes: (28_000_000, 39_780_000),
            left: ", 2 s left",
        };
        let full = "exports/2026-11/orders-1m.csv: 595,968 rows, 327,454/s [================>       ] 28.00 MB/39.78 MB, 2 s left";
        let expected = [
            (120, full),
            (100, "exports/2026-11/orders-1m.csv: 595,968 rows, 327,454/s [=======>  ] 28.00 MB/39.78 MB, 2 s left"),
            (91, "exports/2026-11/orders-1m.csv: 595,968 rows, 327,454/s [===> ] 28.00 MB/39.78 MB, 2 s left"),
            (85, "exports/2026-11/orders-1m.csv: 595,968 rows, 327,454/s 28.00 MB/39.78 MB, 2 s left"),
            (70, "…1/orders-1m.csv: 595,968 rows, 327,454/s 28.00 MB/39.78 MB, 2 s left"),
        ];
        for (width, line) in expected {
            assert_eq!(state.line(width), line);
        }
        for width in 0..200 {
            assert!(state.line(width).chars().count() < width.max(1), "{width}: {}", state.line(width));
        }
        assert!(state.line(40).starts_with("…: 595,968 rows"), "{}", state.line(40));
    }

    #[test]
    fn bar_is_full_at_the_end() {
        assert_eq!([drawn((0, 10), 4), drawn((5, 10), 4), drawn((10, 10), 4)], [">   ", "==> ", "===="]);
        assert_eq!(drawn((0, 0), 4), ">   ");
    }

    #[test]
    fn speed_and_time_left_need_some_time() {
        let (early, later) = (Duration::from_millis(20), Duration::from_secs(2));
        assert_eq!(rows_so_far(75_776, early), "75,776 rows");
        assert_eq!(rows_so_far(600_000, later), "600,000 rows, 300,000/s");
        assert_eq!(time_left(7, 38, early), "");
        assert_eq!(time_left(0, 38, later), "");
        assert_eq!(time_left(10, 40, later), ", 6 s left");
        assert_eq!(time_left(40, 40, later), ", 0 s left");
        assert_eq!([59, 61, 3660].map(short), ["59 s", "1 min 1 s", "1 h 1 min"]);
    }
}
