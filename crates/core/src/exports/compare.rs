//! Compares the rows of two exports, partition by partition.

use super::columns::{CommonColumns, ExportColumns};
use super::memory::Memory;
use super::partitions::{Partition, Partitions};
use super::read::Export;
use super::record::{Row, Values};
use super::sort::{ChangeSorter, SortedChanges, StoredChange};
use super::summary::ChangeCounts;
use super::table::{KeyTable, row};
use super::temporary::{LINK_BYTES, broken};
use crate::error::{Error, ErrorKind, Position, Result};

/// The most times that a partition is divided again. More would not help: then its rows have the same key, which is an error.
const MAX_LEVELS: usize = 6;

/// The most rows that memory is reserved for before they are read.
const MAX_RESERVED_ROWS: usize = 1 << 20;

/// An export of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

/// Compares exports with these columns.
#[derive(Debug)]
pub(super) struct Comparer {
    memory: Memory,
    /// The names of both files, for errors.
    files: (String, String),
    key_names: Vec<String>,
    common: CommonColumns,
    counts: ChangeCounts,
    /// For each pair of common columns, the number of updates that change it.
    by_column: Vec<u64>,
    sorter: ChangeSorter,
}

/// Partitions of both exports with the same hash.
struct Pair<'a> {
    old: (&'a Partitions, Partition),
    new: (&'a Partitions, Partition),
}

impl Comparer {
    pub(super) fn new(old: &Export, new: &Export, memory: Memory) -> Self {
        let common = CommonColumns::of(&old.columns, &new.columns);
        Self {
            memory,
            files: (old.file(), new.file()),
            key_names: new.columns.key_names(),
            by_column: vec![0; common.pairs.len()],
            common,
            counts: ChangeCounts::default(),
            sorter: ChangeSorter::new(memory.sort_bytes()),
        }
    }

    /// Compares all rows.
    ///
    /// # Errors
    /// When a key is in one export twice, or a temporary file cannot be used.
    pub(super) async fn compare(&mut self, old: &mut Export, new: &mut Export) -> Result<()> {
        for index in 0..new.partitions.count() {
            let (old_rows, new_rows) = (old.partitions.take(index), new.partitions.take(index));
            let pair = Pair { old: (&old.partitions, old_rows), new: (&new.partitions, new_rows) };
            self.pair(pair, 0, self.memory.nested())?;
            // A long comparison can be stopped here.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Returns the columns, the counts and the changes.
    ///
    /// # Errors
    /// When a temporary file cannot be used.
    pub(super) fn finish(self, new: &ExportColumns) -> Result<(CommonColumns, ChangeCounts, SortedChanges)> {
        let Self { common, mut counts, by_column, sorter, .. } = self;
        let columns: Vec<usize> = new.value_columns().collect();
        let named = common.pairs.iter().zip(by_column).filter(|(_, updates)| *updates > 0);
        counts.updated_by_column =
            named.map(|((_, column), updates)| (new.names[columns[*column]].clone(), updates)).collect();
        Ok((common, counts, sorter.finish()?))
    }

    /// Compares a pair, in parts if it is large. The buffers of the parts use `buffers`.
    fn pair(&mut self, pair: Pair<'_>, level: usize, buffers: Memory) -> Result<()> {
        let Pair { old: (old_file, old), new: (new_file, new) } = pair;
        let bytes = old.bytes + new.bytes;
        if level == MAX_LEVELS || self.memory.holds(bytes, old.rows + new.rows) || old.rows + new.rows < 2 {
            return self.in_memory(Pair { old: (old_file, old), new: (new_file, new) });
        }
        let rows = old.rows + new.rows;
        let parts = buffers.partitions(bytes.saturating_mul(2));
        let mut old = old_file.divide(old, parts, buffers)?;
        let mut new = new_file.divide(new, parts, buffers)?;
        for index in 0..parts {
            let (old_rows, new_rows) = (old.take(index), new.take(index));
            // If one part has all rows, their keys are most likely equal, and no hash divides them.
            let next_level = if old_rows.rows + new_rows.rows == rows { MAX_LEVELS } else { level + 1 };
            self.pair(Pair { old: (&old, old_rows), new: (&new, new_rows) }, next_level, buffers.nested())?;
        }
        Ok(())
    }

    fn in_memory(&mut self, pair: Pair<'_>) -> Result<()> {
        let Pair { old: (old_file, mut old), new: (new_file, mut new) } = pair;
        let (rows, size) = (old.rows + new.rows, old.bytes + new.bytes);
        let mut table = KeyTable::new(usize::try_from(rows).unwrap_or(usize::MAX).min(MAX_RESERVED_ROWS));
        let mut bytes = Vec::new();
        if self.memory.holds(size, rows) {
            bytes.reserve_exact(usize::try_from(size).unwrap_or(0) + LINK_BYTES);
        }
        let mut start = 0;
        while old_file.next_rows(&mut old, &mut bytes)? {
            self.add_old(&mut table, &bytes, start)?;
            start = bytes.len();
        }
        while new_file.next_rows(&mut new, &mut bytes)? {
            self.add_new(&mut table, &bytes, start)?;
            start = bytes.len();
        }
        for entry in &table.entries {
            if let (Some(old), None) = (entry.old, entry.new) {
                let row = row(&bytes, old)?;
                self.counts.deleted += 1;
                self.sorter.push(StoredChange::new(row.key, Some(row.values), None))?;
            }
        }
        Ok(())
    }

    /// Adds the rows of the old export from `start`.
    fn add_old(&mut self, table: &mut KeyTable, bytes: &[u8], start: usize) -> Result<()> {
        let mut offset = start;
        while offset < bytes.len() {
            let (found, size) = Row::first(&bytes[offset..]).ok_or_else(broken)?;
            let entry = table.entry(found.key, bytes)?;
            if let Some(other) = entry.old.replace(offset) {
                return Err(self.repeated(Side::Old, found.record, row(bytes, other)?.record));
            }
            offset += size;
        }
        Ok(())
    }

    /// Compares the rows of the new export from `start`.
    fn add_new(&mut self, table: &mut KeyTable, bytes: &[u8], start: usize) -> Result<()> {
        let mut offset = start;
        while offset < bytes.len() {
            let (found, size) = Row::first(&bytes[offset..]).ok_or_else(broken)?;
            let entry = table.entry(found.key, bytes)?;
            if let Some(other) = entry.new.replace(offset) {
                return Err(self.repeated(Side::New, found.record, row(bytes, other)?.record));
            }
            match entry.old {
                None => {
                    self.counts.inserted += 1;
                    self.sorter.push(StoredChange::new(found.key, None, Some(found.values)))?;
                }
                Some(old) => self.compare_rows(row(bytes, old)?, found)?,
            }
            offset += size;
        }
        Ok(())
    }

    fn compare_rows(&mut self, old: Row<'_>, new: Row<'_>) -> Result<()> {
        let is_same_text = self.common.is_same_layout && old.values == new.values;
        if is_same_text || !self.count_updates(old.values, new.values) {
            self.counts.unchanged += 1;
            return Ok(());
        }
        self.counts.updated += 1;
        self.sorter.push(StoredChange::new(new.key, Some(old.values), Some(new.values)))
    }

    /// Counts the common columns whose values differ. Returns whether any does.
    fn count_updates(&mut self, old: &[u8], new: &[u8]) -> bool {
        let old: Vec<Option<&[u8]>> = Values(old).collect();
        let new: Vec<Option<&[u8]>> = Values(new).collect();
        let mut has_update = false;
        for ((old_column, new_column), updates) in self.common.pairs.iter().zip(&mut self.by_column) {
            let (before, after) = (old.get(*old_column).copied().flatten(), new.get(*new_column).copied().flatten());
            if before != after {
                *updates += 1;
                has_update = true;
            }
        }
        has_update
    }

    fn repeated(&self, side: Side, record: u64, other: u64) -> Error {
        let (first, second) = (record.min(other), record.max(other));
        let message = format!(
            "record {first} has the same key; EXPORT_KEY must name columns whose values together identify each row"
        );
        let position = Position { record: second, line: 0, byte: 0 };
        let error = Error::new(ErrorKind::FileBroken, message).at(position).in_column(self.key_names.join(", "));
        match side {
            Side::Old => error.for_object(&self.files.0),
            Side::New => error.for_object(&self.files.1),
        }
    }
}
