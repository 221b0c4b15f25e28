//! Writes sample events into a folder, laid out as they are uploaded: a file of many events for each topic, and files of
//! one event each. To try it: `cargo run --bin sample-events -- FOLDER [EVENTS [BROKEN]]`, then
//! `aws s3 sync FOLDER s3://YOUR-BUCKET/`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use spillway_test_env::sample_events::{Topic, lines};

/// How many files of one event there are for each topic.
const SINGLES: u64 = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("give a folder, then the number of events and of broken ones")?;
    let mut number = |default: u64| -> Result<u64> {
        let text = arguments.next();
        text.map_or(Ok(default), |text| text.parse().with_context(|| format!("{text:?} is not a number")))
    };
    let (events, broken) = (number(100)?, number(2)?);
    for topic in [Topic::Sale, Topic::Inventory] {
        let place = Path::new(&folder).join(topic.folder()).join("2026/11/20");
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        // The broken ones stand apart from each other, and none is the first.
        let broken: Vec<u64> = (1..=broken).map(|place| place * events / (broken + 1)).collect();
        write(&place.join("events.jsonl"), &lines(topic, 0..events, &broken))?;
        for number in events..events + SINGLES {
            write(&place.join(format!("event-{number}.json")), &topic.event(number).to_string())?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(std::io::stdout(), "{}", path.display()).context("standard output is closed")
}
