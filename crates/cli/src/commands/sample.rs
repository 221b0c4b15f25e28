//! `spillway sample`: prints events of a shop, to try a load with, or puts them into a stream.

use clap::{Args, ValueEnum};
use serde_json::Value;
use spillway_core::error::{Error, ErrorKind, Result};

use crate::exit::Exit;
use crate::sample_events::{Topic, lines};
use crate::sample_stream::{Publication, publish};
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  spillway sample --rows 1000 --format csv > sales.csv\n  \
                        spillway sample --stream shop-events --events 1000 --broken 30")]
pub(crate) struct Arguments {
    /// Number of events
    #[arg(long, visible_alias = "events", value_name = "COUNT", default_value_t = 100)]
    rows: u64,
    /// Number of broken records among them, evenly distributed; in files they are truncated
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    broken: u64,
    /// Subject of the events
    #[arg(long, value_name = "TOPIC", default_value = "sale")]
    topic: SampleTopic,
    /// Format
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: SampleFormat,
    /// Put the events into this Kinesis stream (a name or an ARN), one per record, with their table in the field "table"
    #[arg(long, value_name = "STREAM", conflicts_with = "format")]
    stream: Option<String>,
    /// With --stream, the most events per second
    #[arg(long, value_name = "COUNT", requires = "stream", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Select other events: each number gives events with other ids
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u32,
}

/// The subject of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SampleTopic {
    /// Sales
    Sale,
    /// Changes of stock
    Inventory,
}

/// The format of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SampleFormat {
    /// One JSON object per line
    Jsonl,
    /// CSV with a header
    Csv,
}

/// The columns of CSV, in order.
const COLUMNS: [&str; 11] = [
    "request_id",
    "ts",
    "store_id",
    "event_type",
    "category",
    "sku",
    "qty",
    "sales",
    "gift_wrap",
    "priority_shipping",
    "is_return",
];

/// Number of events that are written at a time.
const BLOCK: u64 = 10_000;

/// The distance between the first events of two seeds.
const SEED_DISTANCE: u64 = 1_000_000;

/// Refuses numbers that would yield other events than the arguments say.
fn check(arguments: &Arguments) -> Result<()> {
    let Arguments { rows, broken, seed, .. } = arguments;
    let message = if arguments.stream.is_some() && *broken > 0 && broken >= rows {
        format!("--broken is {broken}; it must be less than the number of events, {rows}")
    } else if *seed > 0 && *rows > SEED_DISTANCE {
        format!(
            "--seed selects up to {SEED_DISTANCE} events, and --events is {rows}; more would be those of the next seed too"
        )
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Settings, message))
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    check(arguments)?;
    let topic = match arguments.topic {
        SampleTopic::Sale => Topic::Sale,
        SampleTopic::Inventory => Topic::Inventory,
    };
    // The first event is never broken.
    let first = u64::from(arguments.seed) * SEED_DISTANCE;
    let distance = |number: u64| first + number * arguments.rows / (arguments.broken + 1);
    let broken: Vec<u64> = (1..=arguments.broken).map(distance).collect();
    let end = first + arguments.rows;
    if let Some(stream) = &arguments.stream {
        let publication = Publication { stream, topic, numbers: first..end, broken: &broken, rate: arguments.rate };
        return publish(publication, session).await;
    }
    if arguments.format == SampleFormat::Csv {
        session.output.raw(format!("{}\n", COLUMNS.join(",")).as_bytes());
    }
    for start in (first..end).step_by(usize::try_from(BLOCK).unwrap_or(usize::MAX)) {
        let numbers = start..end.min(start + BLOCK);
        let text = match arguments.format {
            SampleFormat::Jsonl => lines(topic, numbers, &broken),
            SampleFormat::Csv => numbers.map(|number| record(&topic.event(number), broken.contains(&number))).collect(),
        };
        if !session.output.raw(text.as_bytes()) {
            break;
        }
    }
    Ok(Exit::Done)
}

/// A record of CSV. A truncated one lacks its last fields.
fn record(event: &Value, is_broken: bool) -> String {
    let field = |column: &&str| match &event[*column] {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\n']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields: Vec<String> = COLUMNS.iter().take(if is_broken { 4 } else { COLUMNS.len() }).map(field).collect();
    fields.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_must_yield_what_they_say() {
        let checked = |rows, broken, stream: Option<&str>, seed| {
            let (topic, format, stream) = (SampleTopic::Sale, SampleFormat::Jsonl, stream.map(str::to_owned));
            check(&Arguments { rows, broken, topic, format, stream, rate: None, seed })
                .map_err(|error| error.to_string())
        };
        assert!(checked(10, 9, Some("s"), 0).is_ok() && checked(0, 0, Some("s"), 0).is_ok());
        assert!(checked(10, 10, Some("s"), 0).unwrap_err().contains("--broken is 10"));
        assert!(checked(10, 10, None, 0).is_ok());
        assert!(checked(SEED_DISTANCE, 0, None, 1).is_ok() && checked(SEED_DISTANCE + 1, 0, None, 0).is_ok());
        assert!(checked(SEED_DISTANCE + 1, 0, None, 1).unwrap_err().contains("--seed"));
    }

    #[test]
    fn record_has_a_field_for_each_column() {
        let complete = record(&Topic::Sale.event(1), false);
        assert_eq!(complete, "s-00000001,2026-11-20T00:00:07Z,101,sale,garden,000037,2,14.00,false,,false\n");
        assert_eq!(record(&Topic::Sale.event(1), true), "s-00000001,2026-11-20T00:00:07Z,101,sale\n");
    }
}
