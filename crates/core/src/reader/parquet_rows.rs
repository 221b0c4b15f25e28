//! The rows of a Parquet file after the rules for its columns.

use crate::error::Result;
use spillway_formats::Batch;
use spillway_formats::columns::{ColumnRules, FileValues, RuledBatches};
use spillway_formats::parquet::ParquetReader;
use spillway_formats::schema::header::column_names;
use spillway_formats::schema::infer::Inference;

/// The rows of a Parquet file, in order.
pub(crate) struct ParquetRows {
    reader: ParquetReader,
    /// The final names of the file's columns.
    file_names: Vec<String>,
    ruled: RuledBatches,
}

impl ParquetRows {
    pub(super) fn new(reader: ParquetReader, rules: ColumnRules) -> Self {
        let header: Vec<Vec<u8>> = reader.columns().map(|(name, _)| name.as_bytes().to_vec()).collect();
        Self { file_names: column_names(&header), reader, ruled: RuledBatches::new(rules, FileValues::Typed) }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        let Some(batch) = self.reader.next().await? else { return Ok(None) };
        if self.ruled.rules().is_empty() {
            return Ok(Some(batch));
        }
        let names = &self.file_names;
        Ok(Some(self.ruled.apply(&batch, names.len(), || names.clone())?))
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        Ok(self.ruled.rules().names(&self.file_names)?)
    }

    /// The columns as they are in the file, with the types in which Athena reads them in place.
    pub(super) fn hive_columns(&self) -> Vec<(String, Option<String>)> {
        self.reader.hive_columns().map(|(name, hive_type)| (name.to_owned(), hive_type.map(str::to_owned))).collect()
    }

    /// An inference that starts with the types that the file declares.
    pub(super) fn inference(&self) -> Result<Inference> {
        let types = self.reader.columns().map(|(_, column_type)| column_type);
        let columns: Vec<_> = self.file_names.iter().cloned().zip(types).collect();
        Ok(Inference::declared(self.ruled.rules().declared(&columns)?))
    }
}
