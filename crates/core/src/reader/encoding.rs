//! Detects the encoding of a CSV file (`CSV_ENCODING=auto`) in passes over all of its bytes, before the scan.

use std::borrow::Cow;

use tracing::info;

use crate::error::Result;
use crate::reader::FileReader;
use crate::reader::bytes::Checksum;
use spillway_formats::TextEncoding;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::ReadOptions;
use spillway_formats::detect::StreamFormat;
use spillway_formats::encoding::{EncodingDetector, Utf8Check};

/// Whether the encoding of a file of this format must be detected before it is read.
pub(super) fn detects_encoding(format: StreamFormat, options: &ReadOptions) -> bool {
    match format {
        StreamFormat::Csv | StreamFormat::TabSeparated => options.csv.encoding == TextEncoding::Auto,
        StreamFormat::Json => false,
    }
}

impl FileReader {
    /// Whether the settings say that CSV files have another encoding than UTF-8. Their records cannot be set aside.
    pub(crate) fn has_other_encoding(&self) -> bool {
        !matches!(self.options.csv.encoding, TextEncoding::Utf8 | TextEncoding::Auto)
    }

    /// The options, with the encoding of the file.
    pub(super) async fn options_with_encoding(&self, format: StreamFormat) -> Result<Cow<'_, ReadOptions>> {
        if !detects_encoding(format, &self.options) {
            return Ok(Cow::Borrowed(&self.options));
        }
        let csv = CsvDialect { encoding: self.detected_encoding().await?, ..self.options.csv.clone() };
        Ok(Cow::Owned(ReadOptions { csv, ..self.options.clone() }))
    }

    /// Reads the file once, or twice if it is not UTF-8. The comparison with other encodings is slow, so only such files need it.
    async fn detected_encoding(&self) -> Result<TextEncoding> {
        let mut check = Utf8Check::default();
        let mut bytes = self.decoded(Checksum::Skip).await?;
        while check.is_open()
            && let Some(piece) = bytes.next().await?
        {
            check.push(&piece);
        }
        if check.is_known() {
            return Ok(TextEncoding::Utf8);
        }
        let mut detector = EncodingDetector::default();
        let mut bytes = self.decoded(Checksum::Skip).await?;
        while let Some(piece) = bytes.next().await? {
            detector.push(&piece);
        }
        let encoding = detector.finish();
        if let TextEncoding::Detected(detected) = encoding {
            info!(encoding = detected.name(), "the file is not UTF-8, and its bytes look like this encoding");
        }
        Ok(encoding)
    }
}
