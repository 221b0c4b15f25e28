//! A bar on a terminal while a file is read: bytes, rows, rows per second, and the time that is left.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spillway_core::progress::Progress;

use crate::numbers::count;
use crate::output::{Format, Output};
use crate::table;

/// How often the bar is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// The bar. `{msg}` has the file and the rows.
const TEMPLATE: &str = "{msg} [{bar:24}] {bytes}/{total_bytes}, {eta} left";

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
    let rows = progress.rows();
    let milliseconds = u64::try_from(bar.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let per_second = rows.saturating_mul(1000) / milliseconds;
    let name = table::printable(name);
    bar.set_message(format!("{name}: {} rows, {}/s", count(rows), count(per_second)));
}
