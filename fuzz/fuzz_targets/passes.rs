//! Two passes over a file, as a load makes them. Both must return the same rows, in whatever chunks the bytes arrive.

use spillway_formats::Batch;
use spillway_formats::columns::ColumnRules;
use spillway_formats::compression::DecodedLimits;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::{Decoder, ReadOptions};
use spillway_formats::detect::{FileFormat, StreamFormat};
use spillway_formats::json::{JsonOptions, JsonValues};
use spillway_formats::limits::ReadLimits;
use spillway_formats::reject::RejectLimit;

type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// Small limits, so that a short input can exceed them.
pub fn limits(rejects: RejectLimit) -> ReadLimits {
    ReadLimits {
        max_record_bytes: 4096,
        max_columns: 64,
        max_memory_bytes: 64 << 20,
        decoded: DecodedLimits { max_bytes: 1 << 20, max_ratio: 1000 },
        rejects,
    }
}

/// Reads the file twice. The first byte decides the chunks of the first pass, the limit of bad records and some settings.
pub fn check(format: StreamFormat, input: &[u8]) {
    let Some((first, file)) = input.split_first() else { return };
    let rejects = if first & 1 == 0 { RejectLimit::Count(0) } else { RejectLimit::Count(8) };
    let skip_footer_lines = usize::from(first >> 1 & 3);
    let csv = CsvDialect { delimiter: None, skip_footer_lines, ..CsvDialect::default() };
    let values = if first & 8 == 0 { JsonValues::Plain } else { JsonValues::DynamoDb };
    let options = ReadOptions {
        format: FileFormat::Auto,
        csv,
        json: JsonOptions { values, flatten_depth: usize::from(first >> 4 & 3), ..JsonOptions::default() },
        columns: ColumnRules::default(),
        limits: limits(rejects),
    };
    let chunk = usize::from(first >> 1) + 1;
    let mut decoder = Decoder::new(format, &options);
    let Some(rows) = pass(&mut decoder, file.chunks(chunk)) else { return };
    let mut second = Decoder::with_layout(&decoder.layout(), &options);
    let again = pass(&mut second, file.chunks(file.len().max(1)));
    assert_eq!(Some(rows), again, "the second pass returns other rows");
}

/// All rows, as wide as the widest, or `None` after an error.
fn pass<'a>(decoder: &mut Decoder, chunks: impl Iterator<Item = &'a [u8]>) -> Option<Rows> {
    let mut batches: Vec<Batch> = Vec::new();
    for chunk in chunks {
        decoder.push(chunk).ok()?;
        batches.extend(std::iter::from_fn(|| decoder.take_batch()));
    }
    decoder.finish().ok()?;
    batches.extend(std::iter::from_fn(|| decoder.take_batch()));
    let width = decoder.column_names().len();
    let mut rows = Rows::new();
    for batch in &batches {
        for row in 0..batch.rows() {
            let field = |column| batch.field(row, column).map(<[u8]>::to_vec);
            rows.push((0..width).map(|column| if column < batch.width() { field(column) } else { None }).collect());
        }
    }
    Some(rows)
}
