//! The rows of one export, divided by the hash of their key.
//!
//! Each partition has a small buffer. A full buffer is appended to one temporary file, which all partitions share. So the number
//! of partitions is limited by memory only, not by the number of open files, and the file is written in order.

use std::hash::{DefaultHasher, Hasher};

use super::memory::Memory;
use super::record::Row;
use super::temporary::{Chunk, LINK_BYTES, TemporaryFile, broken};
use crate::error::Result;

/// The rows of one export in partitions.
#[derive(Debug)]
pub(super) struct Partitions {
    partitions: Vec<Partition>,
    file: TemporaryFile,
    level: u64,
    chunk_bytes: usize,
}

/// The rows whose keys have one hash.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The last chunk in the file. Each begins with the place of the one before it, so that memory holds only this one.
    last: Option<Chunk>,
    /// The last rows, which are not in the file.
    buffer: Vec<u8>,
    /// Number of rows.
    pub(super) rows: u64,
    /// Number of bytes of the rows.
    pub(super) bytes: u64,
}

impl Partition {
    fn append(&mut self, file: &mut TemporaryFile, rows: &[u8]) -> Result<()> {
        let mut chunk = Vec::with_capacity(LINK_BYTES + rows.len());
        chunk.extend_from_slice(&Chunk::link(self.last));
        chunk.extend_from_slice(rows);
        self.last = Some(file.append(&chunk)?);
        Ok(())
    }
}

impl Partitions {
    /// Empty partitions. Each `level` has a hash of its own, so that a partition can be divided again.
    pub(super) fn new(count: usize, level: u64, memory: Memory) -> Self {
        Self {
            partitions: (0..count).map(|_| Partition::default()).collect(),
            file: TemporaryFile::default(),
            level,
            chunk_bytes: memory.chunk_bytes(count),
        }
    }

    /// Number of partitions.
    pub(super) fn count(&self) -> usize {
        self.partitions.len()
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub(super) fn push(&mut self, row: Row<'_>) -> Result<()> {
        let index = (hash(row.key, self.level) % self.partitions.len() as u64) as usize;
        let (partition, size) = (&mut self.partitions[index], row.size());
        partition.rows += 1;
        partition.bytes += size as u64;
        if partition.buffer.len() + size > self.chunk_bytes && !partition.buffer.is_empty() {
            let rows = std::mem::take(&mut partition.buffer);
            partition.append(&mut self.file, &rows)?;
            partition.buffer = rows;
            partition.buffer.clear();
        }
        if size > self.chunk_bytes {
            let mut long = Vec::with_capacity(size);
            row.append_to(&mut long);
            return partition.append(&mut self.file, &long);
        }
        if partition.buffer.capacity() == 0 {
            partition.buffer.reserve_exact(self.chunk_bytes);
        }
        row.append_to(&mut partition.buffer);
        Ok(())
    }

    /// Removes a partition. Its rows can be read with [`Partitions::next_rows`].
    pub(super) fn take(&mut self, index: usize) -> Partition {
        std::mem::take(&mut self.partitions[index])
    }

    /// Appends the next rows of a partition to `out`, and removes them from it. Returns whether it had any.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub(super) fn next_rows(&self, partition: &mut Partition, out: &mut Vec<u8>) -> Result<bool> {
        if let Some(chunk) = partition.last {
            let start = out.len();
            self.file.read(chunk, out)?;
            let link = out.get(start..start + LINK_BYTES).ok_or_else(broken)?;
            partition.last = Chunk::of_link(link);
            out.drain(start..start + LINK_BYTES);
            return Ok(true);
        }
        let rows = std::mem::take(&mut partition.buffer);
        out.extend_from_slice(&rows);
        Ok(!rows.is_empty())
    }

    /// Divides a partition by the hash of the next level.
    ///
    /// # Errors
    /// When a temporary file cannot be read or written.
    pub(super) fn divide(&self, mut partition: Partition, count: usize, memory: Memory) -> Result<Self> {
        let mut parts = Self::new(count, self.level + 1, memory);
        let mut rows = Vec::new();
        while self.next_rows(&mut partition, &mut rows)? {
            let mut rest = &rows[..];
            while !rest.is_empty() {
                let (row, size) = Row::first(rest).ok_or_else(broken)?;
                parts.push(row)?;
                rest = &rest[size..];
            }
            rows.clear();
        }
        Ok(parts)
    }
}

/// The hash of a key, which is the same in every run. It is keyed by the level.
pub(super) fn hash(key: &[u8], level: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(level);
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(partitions: &mut Partitions, index: usize) -> Vec<u64> {
        let (mut partition, mut bytes) = (partitions.take(index), Vec::new());
        while partitions.next_rows(&mut partition, &mut bytes).unwrap() {}
        let (mut records, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((row, size)) = Row::first(rest) {
            records.push(row.record);
            rest = &rest[size..];
        }
        records.sort_unstable();
        records
    }

    #[test]
    fn each_row_is_in_one_partition_after_any_number_of_divisions() {
        let memory = Memory::new(4096);
        let mut partitions = Partitions::new(4, 0, memory);
        for record in 1..=1000 {
            let long = vec![b'x'; if record == 500 { 100_000 } else { 5 }];
            partitions.push(Row { record, key: record.to_string().as_bytes(), values: &long }).unwrap();
        }
        let mut all = Vec::new();
        for index in 0..4 {
            let partition = partitions.take(index);
            let mut parts = partitions.divide(partition, 3, memory).unwrap();
            for part in 0..3 {
                let records = records(&mut parts, part);
                assert!(!records.is_empty(), "the levels have different hashes");
                all.extend(records);
            }
        }
        all.sort_unstable();
        assert_eq!(all, (1..=1000).collect::<Vec<_>>());
    }
}
