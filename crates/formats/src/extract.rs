//! Copies records out of a CSV or JSON file, byte for byte, by the offset at which they start.

use std::collections::VecDeque;
use std::ops::Range;

use crate::decoder::{Decoder, Layout, ReadOptions};
use crate::{Error, ErrorKind, Result};

/// Returns the skipped lines above the header, the header, the wanted records and the skipped lines at the end of a file as they
/// are in the file, line ends included.
///
/// The caller pushes the decompressed file in chunks and takes the records after each push. Memory is bounded by the chunk and
/// the longest record.
#[derive(Debug)]
pub struct RecordExtractor {
    decoder: Decoder,
    /// The bytes of the file from `window_start` on.
    window: Vec<u8>,
    window_start: u64,
    /// Complete records that were not returned yet.
    ready: VecDeque<Range<u64>>,
}

/// A record that a [`RecordExtractor`] copied out of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtractedRecord<'a> {
    /// The offset of its first byte in the file.
    pub start: u64,
    /// The record as it is in the file.
    pub bytes: &'a [u8],
}

impl RecordExtractor {
    /// An extractor of the header and of the records that start at `starts`, in ascending order.
    pub fn new(layout: &Layout, options: &ReadOptions, starts: impl IntoIterator<Item = u64>) -> Self {
        let mut decoder = Decoder::with_layout(layout, options);
        decoder.find_records(starts.into_iter().collect());
        Self { decoder, window: Vec::new(), window_start: 0, ready: VecDeque::new() }
    }

    /// Whether lines at the end of the file are returned after the last record, so that the file must be read to its end.
    pub fn has_footer(&self) -> bool {
        self.decoder.has_footer()
    }

    /// Adds the next bytes of the file.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.drop_used_bytes();
        self.window.extend_from_slice(chunk);
        self.decoder.push(chunk)?;
        self.collect();
        Ok(())
    }

    /// Ends the file.
    pub fn finish(&mut self) -> Result<()> {
        self.decoder.finish()?;
        self.collect();
        Ok(())
    }

    /// The next complete record, or `None` until more bytes are pushed.
    pub fn next_record(&mut self) -> Result<Option<ExtractedRecord<'_>>> {
        let Some(range) = self.ready.pop_front() else { return Ok(None) };
        let at = |offset: u64| offset.checked_sub(self.window_start).and_then(|at| usize::try_from(at).ok());
        let bytes = at(range.start).zip(at(range.end)).and_then(|(start, end)| self.window.get(start..end));
        let bytes =
            bytes.ok_or_else(|| Error::new(ErrorKind::Internal, "a record is outside of the bytes in memory"))?;
        Ok(Some(ExtractedRecord { start: range.start, bytes }))
    }

    fn collect(&mut self) {
        while self.decoder.take_batch().is_some() {}
        let _rejects = self.decoder.take_rejects();
        self.ready.extend(self.decoder.take_found_records());
    }

    /// Frees what is before the record that is being read.
    fn drop_used_bytes(&mut self) {
        let needed_from = self.ready.front().map_or(self.decoder.record_start(), |range| range.start);
        let used = usize::try_from(needed_from.saturating_sub(self.window_start)).unwrap_or(usize::MAX);
        let used = used.min(self.window.len());
        self.window.drain(..used);
        self.window_start += used as u64;
    }
}

/// Finds the ends of wanted records while a decoder reads.
#[derive(Debug)]
pub(crate) struct RecordFinder {
    /// The offsets of the records' first bytes, in ascending order.
    starts: VecDeque<u64>,
    found: Vec<Range<u64>>,
}

impl RecordFinder {
    pub(crate) fn new(starts: VecDeque<u64>) -> Self {
        Self { starts, found: Vec::new() }
    }

    /// Keeps a record that has ended if it is wanted, the header or a line above it.
    #[inline]
    pub(crate) fn record_ended(&mut self, record: Range<u64>, is_header: bool) {
        if is_header || self.starts.pop_front_if(|start| *start == record.start).is_some() {
            self.found.push(record);
        }
    }

    /// Returns the records found since the last call.
    pub(crate) fn take(&mut self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::columns::ColumnRules;
    use crate::compression::DecodedLimits;
    use crate::csv::{CsvDialect, Detected};
    use crate::detect::FileFormat;
    use crate::json::{JsonOptions, RecordsPath};
    use crate::limits::ReadLimits;
    use crate::reject::RejectLimit;

    fn options() -> ReadOptions {
        let limits = ReadLimits {
            max_record_bytes: 1 << 20,
            max_columns: 100,
            max_memory_bytes: 1 << 30,
            decoded: DecodedLimits { max_bytes: 1 << 30, max_ratio: 1000 },
            rejects: RejectLimit::Count(10),
        };
        ReadOptions {
            format: FileFormat::Auto,
            csv: CsvDialect::default(),
            json: JsonOptions::default(),
            columns: ColumnRules::default(),
            limits,
        }
    }

    fn extracted(layout: &Layout, file: &[u8], chunk_bytes: usize, starts: &[u64]) -> Result<Vec<(u64, String)>> {
        let mut extractor = RecordExtractor::new(layout, &options(), starts.iter().copied());
        let mut records = Vec::new();
        let mut take = |extractor: &mut RecordExtractor| {
            while let Some(record) = extractor.next_record()? {
                records.push((record.start, String::from_utf8(record.bytes.to_vec()).unwrap()));
            }
            Ok(())
        };
        for chunk in file.chunks(chunk_bytes) {
            extractor.push(chunk)?;
            take(&mut extractor)?;
            assert!(extractor.window.len() <= chunk_bytes + 40, "used bytes are dropped");
        }
        extractor.finish()?;
        take(&mut extractor)?;
        Ok(records)
    }

    #[rstest]
    #[case::bad_records("a,b\n1,2\n3\n4,\"5\n\"x\n6,7\n", &[8, 10], &[(0, "a,b\n"), (8, "3\n"), (10, "4,\"5\n\"x\n")])]
    #[case::good_records_too("\u{feff}a,b\r\n\r\n1,2\r\n3,4", &[10, 15], &[(3, "a,b\r\n"), (10, "1,2\r\n"), (15, "3,4")])]
    #[case::no_record_starts_there("a,b\n1,2\n", &[5], &[(0, "a,b\n")])]
    fn csv_records_are_returned_with_their_header(
        #[case] file: &str,
        #[case] starts: &[u64],
        #[case] expected: &[(u64, &str)],
    ) {
        let layout = Layout::Csv(CsvDialect { detected: Some(Detected::default()), ..CsvDialect::default() });
        let expected: Vec<_> = expected.iter().map(|(start, text)| (*start, (*text).to_owned())).collect();
        for chunk_bytes in 1..=file.len() {
            assert_eq!(extracted(&layout, file.as_bytes(), chunk_bytes, starts).unwrap(), expected, "{chunk_bytes}");
        }
    }

    #[test]
    fn skipped_lines_are_returned_before_the_header() {
        let dialect = CsvDialect { skip_lines: Some(2), detected: Some(Detected::default()), ..CsvDialect::default() };
        let file = b"sep=,\n# x\na,b\n1,2\n3\n4,5\n";
        let expected = [(0, "sep=,\n"), (6, "# x\n"), (10, "a,b\n"), (18, "3\n")];
        let expected = expected.map(|(start, text)| (start, text.to_owned()));
        for chunk_bytes in 1..=file.len() {
            let found = extracted(&Layout::Csv(dialect.clone()), file, chunk_bytes, &[18]).unwrap();
            assert_eq!(found, expected, "{chunk_bytes}");
        }
    }

    #[test]
    fn skipped_lines_at_the_end_are_returned_last() {
        let dialect = CsvDialect { skip_footer_lines: 2, detected: Some(Detected::default()), ..CsvDialect::default() };
        let file = b"a,b\n1,2\n3\n4,5\n\nTotal: \"2\n";
        let expected = [(0, "a,b\n"), (8, "3\n"), (14, "\nTotal: \"2\n")].map(|(start, text)| (start, text.to_owned()));
        for chunk_bytes in 1..=file.len() {
            let found = extracted(&Layout::Csv(dialect.clone()), file, chunk_bytes, &[8]).unwrap();
            assert_eq!(found, expected, "{chunk_bytes}");
        }
    }

    #[rstest]
    #[case::lines("{\"a\":1}\noops\n{\"a\":2}\n", &[8], &[(8, "oops\n")])]
    #[case::array("[{\"a\":1},\n {\"a\":x}]", &[1, 11], &[(1, "{\"a\":1}"), (11, "{\"a\":x}")])]
    fn json_records_are_returned(#[case] file: &str, #[case] starts: &[u64], #[case] expected: &[(u64, &str)]) {
        let layout = json_layout();
        let expected: Vec<_> = expected.iter().map(|(start, text)| (*start, (*text).to_owned())).collect();
        for chunk_bytes in 1..=file.len() {
            assert_eq!(extracted(&layout, file.as_bytes(), chunk_bytes, starts).unwrap(), expected, "{chunk_bytes}");
        }
    }

    fn json_layout() -> Layout {
        Layout::Json { keys: vec!["a".to_owned()], joins: Vec::new(), is_plain: true, records_hint: None }
    }

    #[test]
    fn json_records_within_a_document_are_returned() {
        let file = format!("{{\"head\":\"{}\",\"data\":[{{\"a\":1}}, {{\"a\":x}}],\"tail\":[{{}}]}}", "h".repeat(100));
        let start = file.find("{\"a\":x}").unwrap();
        let json = JsonOptions { records_path: RecordsPath::parse("data"), ..JsonOptions::default() };
        let options = ReadOptions { json, ..options() };
        for chunk_bytes in 1..=file.len() {
            let mut extractor = RecordExtractor::new(&json_layout(), &options, [start as u64]);
            let mut records = Vec::new();
            for chunk in file.as_bytes().chunks(chunk_bytes) {
                extractor.push(chunk).unwrap();
                while let Some(record) = extractor.next_record().unwrap() {
                    records.push((record.start, record.bytes.to_vec()));
                }
                assert!(extractor.window.len() <= chunk_bytes + 40, "used bytes are dropped");
            }
            extractor.finish().unwrap();
            assert_eq!(records, [(start as u64, b"{\"a\":x}".to_vec())]);
        }
    }
}
