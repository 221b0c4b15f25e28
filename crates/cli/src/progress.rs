//! A bar on a terminal while a file is read: rows, rows per second, bytes, and the time that is left.

use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use spillway_core::progress::Progress;

use crate::numbers::{count, counted};
use crate::output::{Format, Output};
use crate::table;

/// How often the bar is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// The shortest time from which a speed is computed. Before it, the first batch would show as millions of rows per second.
const MIN_ELAPSED: Duration = Duration::from_millis(500);

/// The bar. `{prefix}` has the file and the rows, `{msg}` the time that is left.
const TEMPLATE: &str = "{prefix} [{bar:24}] {decimal_bytes}/{decimal_total_bytes}{msg}";

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
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("=> "));
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
    bar.set_position(progress.bytes());
    let (elapsed, bytes) = (bar.elapsed(), progress.bytes());
    bar.set_prefix(format!("{}: {}", table::printable(name), rows_so_far(progress.rows(), elapsed)));
    bar.set_message(time_left(bytes, bar.length().unwrap_or_default(), elapsed));
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
    format!(", {} left", HumanDuration(Duration::from_secs_f64(seconds.ceil())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_and_time_left_need_some_time() {
        let (early, later) = (Duration::from_millis(20), Duration::from_secs(2));
        assert_eq!(rows_so_far(75_776, early), "75,776 rows");
        assert_eq!(rows_so_far(600_000, later), "600,000 rows, 300,000/s");
        assert_eq!(time_left(7, 38, early), "");
        assert_eq!(time_left(0, 38, later), "");
        assert_eq!(time_left(10, 40, later), ", 6 seconds left");
        assert_eq!(time_left(40, 40, later), ", 0 seconds left");
    }
}
