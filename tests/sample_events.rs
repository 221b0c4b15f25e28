//! Writes sample events into a folder with the layout of a bucket: for each topic a file with many events, and files with
//! one event each.
//!
//! Usage: `cargo run --bin sample-events -- FOLDER [EVENTS [BROKEN]]`, then `aws s3 sync FOLDER s3://YOUR-BUCKET/`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use spillway_test_env::sample_events::{Topic, lines};

/// The number of files with one event for each topic.
const SINGLE_EVENT_FILES: u64 = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("usage: sample-events FOLDER [EVENTS [BROKEN]]")?;
    let mut number = |default: u64| -> Result<u64> {
        let text = arguments.next();
        text.map_or(Ok(default), |text| text.parse().with_context(|| format!("{text:?} is not a number")))
    };
    let (events, broken) = (number(100)?, number(2)?);
    for topic in [Topic::Sale, Topic::Inventory] {
        let path = Path::new(&folder).join(topic.folder()).join("2026/11/20");
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        // Broken events have equal distances, and the first event is never broken.
        let broken: Vec<u64> = (1..=broken).map(|number| number * events / (broken + 1)).collect();
        write(&path.join("events.jsonl"), &lines(topic, 0..events, &broken))?;
        for number in events..events + SINGLE_EVENT_FILES {
            write(&path.join(format!("event-{number}.json")), &topic.event(number).to_string())?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(std::io::stdout(), "{}", path.display()).context("standard output is closed")
}
