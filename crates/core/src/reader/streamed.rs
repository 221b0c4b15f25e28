//! The rows of a CSV or JSON file. Background tasks read the file from its first byte to its last.

use std::sync::{Arc, OnceLock};

use crate::error::Result;
use crate::reader::bytes::{BodySummary, DecodedBytes};
use crate::reader::hint;
use crate::reader::peeked_file::{PassResult, StopReason};
use crate::reader::read_ahead::ReadAhead;
use crate::reader::shape::{FileShape, TextShape, ValueScan};
use crate::reader::suspects::Suspects;
use spillway_formats::Batch;
use spillway_formats::columns::{ColumnRules, FileValues, RuledBatches};
use spillway_formats::decoder::{Decoder, Layout};
use spillway_formats::reject::Reject;
use spillway_formats::schema::infer::Inference;

/// What a pass does with a bad record, as long as the configured limit is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadRecords {
    /// The pass skips it and lists it in the summary.
    Reject,
    /// The pass stops.
    Stop,
}

/// The summary of a complete pass.
#[derive(Debug)]
pub(crate) struct ScanSummary {
    /// Empty for an empty file.
    pub(crate) column_names: Vec<String>,
    /// `None` for Parquet.
    pub(super) layout: Option<Layout>,
    /// The bad records, in file order.
    pub(super) rejects: Vec<Reject>,
    /// How other programs would see the file.
    pub(crate) shape: Box<FileShape>,
    /// Records and values of CSV that may not be data.
    pub(super) suspects: Box<Suspects>,
    pub(crate) bytes: BodySummary,
}

impl ScanSummary {
    /// What the user may have meant with the file.
    pub(crate) fn hint(&self, rules: &ColumnRules) -> Option<String> {
        let of_file = hint::of_file(self.layout.as_ref(), &self.column_names, rules);
        let of_thousands = match &self.layout {
            Some(Layout::Csv(dialect)) => hint::of_thousands(&self.suspects.thousands(&self.shape, rules), dialect),
            Some(Layout::Json { .. }) | None => None,
        };
        hint::joined(of_file.into_iter().chain(of_thousands).chain(self.suspects.hints(&self.shape)))
    }
}

/// The rows of a CSV or JSON file, in order.
pub(crate) struct StreamedRows {
    rows: ReadAhead<Batch, PassResult>,
    peeked: Option<Batch>,
    /// The column names known with the first batch.
    names: Arc<OnceLock<Vec<String>>>,
    has_null_tokens: bool,
    has_names: bool,
    has_typed_numbers: bool,
    has_decimal_commas: bool,
}

impl StreamedRows {
    pub(super) fn start(
        bytes: DecodedBytes,
        mut decoder: Decoder,
        rules: ColumnRules,
        (bad_records, value_scan): (BadRecords, ValueScan),
    ) -> Self {
        let names = Arc::new(OnceLock::new());
        let has_null_tokens = decoder.has_null_tokens();
        // Rules that change the columns name them.
        let has_names = decoder.has_names() || !rules.keep_columns();
        let first_names = names.clone();
        let has_decimal_commas = rules.have_decimal_comma();
        let values = if matches!(decoder, Decoder::Csv(_)) { FileValues::Texts } else { FileValues::Typed };
        let mut ruled = RuledBatches::new(rules, values);
        let has_typed_numbers = values == FileValues::Typed;
        let mut text = TextShape::new(value_scan);
        let mut suspects = Box::<Suspects>::default();
        let compression = bytes.compression();
        let rows = ReadAhead::start(async move |batches| {
            let mut bytes = bytes.read_ahead();
            let mut rejects = Vec::new();
            loop {
                let piece = bytes.next().await?;
                match &piece {
                    Some(piece) => decoder.push(piece)?,
                    None => decoder.finish()?,
                }
                text.observe_piece(piece.as_ref());
                while let Some(batch) = decoder.take_batch() {
                    text.observe_batch(&batch);
                    if let Decoder::Csv(csv) = &decoder {
                        suspects.observe(&batch, csv.header().filter(|_| decoder.has_names()), has_null_tokens);
                    }
                    if first_names.get().is_none() {
                        if !decoder.has_names() {
                            ruled.rules().check_positions(&decoder.column_names())?;
                        }
                        let _first = first_names.set(ruled.rules().names(&decoder.column_names())?);
                    }
                    let batch = match ruled.rules().is_empty() {
                        true => batch,
                        false => ruled.apply(&batch, decoder.known_columns(), || decoder.column_names())?,
                    };
                    batches.send(batch).await;
                }
                rejects.append(&mut decoder.take_rejects());
                if bad_records == BadRecords::Stop && !rejects.is_empty() {
                    return Ok(PassResult::Stopped(StopReason::BadRecord));
                }
                if piece.is_none() {
                    break;
                }
            }
            let file_names = decoder.column_names();
            let (column_names, layout) = (ruled.rules().names(&file_names)?, Some(decoder.layout()));
            let shape = Box::new(FileShape::of_text(compression, text.end(&decoder, file_names, rejects.len())));
            let bytes = bytes.summary()?;
            Ok(PassResult::Complete(ScanSummary { column_names, layout, rejects, shape, suspects, bytes }))
        });
        Self { rows, peeked: None, names, has_null_tokens, has_names, has_typed_numbers, has_decimal_commas }
    }

    /// Peeks at the first rows. [`StreamedRows::next`] returns them again.
    pub(super) async fn peek(&mut self) -> Result<Option<&Batch>> {
        if self.peeked.is_none() {
            self.peeked = self.rows.next().await?;
        }
        Ok(self.peeked.as_ref())
    }

    /// Whether the first rows were peeked at, and no row was read.
    pub(super) fn is_peeked(&self) -> bool {
        self.peeked.is_some()
    }

    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        match self.peeked.take() {
            Some(first) => Ok(Some(first)),
            None => self.rows.next().await,
        }
    }

    /// The names of the first `width` columns, once the first batch is known.
    pub(super) fn first_names(&self, width: usize) -> Vec<String> {
        self.names.get().map(|names| names.iter().take(width).cloned().collect()).unwrap_or_default()
    }

    /// An inference for these rows, which learns the columns from the batches.
    pub(super) fn inference(&self) -> Inference {
        let mut inference = Inference::new(Vec::new());
        if !self.has_null_tokens {
            inference = inference.without_null_tokens();
        }
        if !self.has_names {
            inference = inference.without_header();
        }
        if self.has_typed_numbers {
            inference = inference.with_typed_numbers();
        }
        if self.has_decimal_commas {
            inference = inference.with_decimal_commas();
        }
        inference
    }

    /// Returns the end of the pass, after [`StreamedRows::next`] has returned `None`.
    pub(super) fn end(&mut self) -> Result<PassResult> {
        self.rows.summary()
    }
}
