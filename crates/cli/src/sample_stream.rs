//! Puts sample events into a Kinesis stream.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;
use spillway_core::error::Result;
use spillway_core::kinesis::{DataStream, PutSummary, StreamRecord};

use crate::exit::Exit;
use crate::numbers::{count, counted};
use crate::sample_events::{Topic, broken_stream_record, stream_record};
use crate::session::Session;
use crate::table::printable;

/// The most records that are sent before the rate is checked.
const BLOCK: u64 = 500;
/// With a rate, the number of blocks per second.
const BLOCKS_PER_SECOND: u64 = 5;

/// The records to publish.
pub(crate) struct Publication<'a> {
    /// The name or the ARN of the stream.
    pub(crate) stream: &'a str,
    /// The subject of the events.
    pub(crate) topic: Topic,
    /// The numbers of the events.
    pub(crate) numbers: Range<u64>,
    /// The numbers of broken ones.
    pub(crate) broken: &'a [u64],
    /// The most events per second.
    pub(crate) rate: Option<u32>,
}

/// The result.
#[derive(Debug, PartialEq, Serialize)]
struct Published<'a> {
    stream: &'a str,
    records: u64,
    broken: usize,
    requests: u64,
    /// Records that Kinesis refused at first.
    sent_again: u64,
    seconds: f64,
}

/// Publishes the events, and prints the result.
///
/// # Errors
/// When Kinesis does not accept a record.
pub(crate) async fn publish(publication: Publication<'_>, session: &Session) -> Result<Exit> {
    let stream = DataStream::named(&session.environment.region()?, publication.stream).await;
    let (started, mut total) = (Instant::now(), PutSummary::default());
    let (first, end) = (publication.numbers.start, publication.numbers.end);
    let mut next = first;
    while next < end {
        wait_for_rate(publication.rate, next - first, started).await;
        let block = next..end.min(next + block_size(publication.rate));
        next = block.end;
        let records: Vec<StreamRecord> = block.map(|number| publication.record(number)).collect();
        let summary = stream.put(&records).await?;
        total.requests += summary.requests;
        total.sent_again += summary.sent_again;
    }
    let published = Published {
        stream: publication.stream,
        records: end - first,
        broken: publication.broken.len(),
        requests: total.requests,
        sent_again: total.sent_again,
        seconds: started.elapsed().as_secs_f64(),
    };
    session.output.result(&published, |_| published.text());
    session.output.next_step("wait until Firehose has written its buffer to S3, then run: spillway runs list");
    Ok(Exit::Done)
}

impl Publication<'_> {
    fn record(&self, number: u64) -> StreamRecord {
        let data = match self.broken.iter().position(|broken| *broken == number) {
            Some(way) => broken_stream_record(self.topic, number, way as u64),
            None => stream_record(self.topic, number),
        };
        // Neighbouring numbers have different hashes, so the events spread over all shards.
        StreamRecord { data, partition_key: number.to_string() }
    }
}

impl Published<'_> {
    fn text(&self) -> String {
        format!(
            "{} put into {}, {} of them broken, in {:.1} s ({}, {} sent again)\n",
            counted(self.records, "record"),
            printable(self.stream),
            count(self.broken as u64),
            self.seconds,
            counted(self.requests, "request"),
            count(self.sent_again),
        )
    }
}

/// The number of records that are sent together.
fn block_size(rate: Option<u32>) -> u64 {
    rate.map_or(BLOCK, |rate| (u64::from(rate) / BLOCKS_PER_SECOND).clamp(1, BLOCK))
}

/// Waits until this number of records may have been sent.
async fn wait_for_rate(rate: Option<u32>, sent: u64, started: Instant) {
    let Some(rate) = rate else { return };
    let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
    tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_the_rate() {
        assert_eq!([None, Some(1), Some(100), Some(1_000_000)].map(block_size), [500, 1, 20, 500]);
    }

    #[test]
    fn text_names_stream_and_counts() {
        let published =
            Published { stream: "shop", records: 1_000, broken: 30, requests: 2, sent_again: 7, seconds: 1.25 };
        assert_eq!(
            published.text(),
            "1,000 records put into shop, 30 of them broken, in 1.2 s (2 requests, 7 sent again)\n"
        );
    }

    #[test]
    fn broken_records_differ_from_good_ones() {
        let publication =
            Publication { stream: "s", topic: Topic::Sale, numbers: 0..10, broken: &[1, 2, 3, 4, 5], rate: None };
        for number in 1..6 {
            assert_ne!(publication.record(number).data, stream_record(Topic::Sale, number));
        }
        assert_eq!(publication.record(6).data, stream_record(Topic::Sale, 6));
        assert!(std::str::from_utf8(&publication.record(5).data).is_err());
    }
}
