//! The keys of two partitions, with the rows that have them.

use super::partitions::hash;
use super::record::Row;
use super::temporary::broken;
use crate::error::Result;

/// A level that no partition has: keys of one partition have different hashes here.
const LEVEL: u64 = u64::MAX;

/// A key with its rows. Rows are offsets in the bytes of both partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    hash: u64,
    pub(super) old: Option<usize>,
    pub(super) new: Option<usize>,
}

/// A hash table that stores no keys, only where their rows are.
#[derive(Debug)]
pub(super) struct KeyTable {
    pub(super) entries: Vec<Entry>,
    /// Numbers of entries from 1; 0 is free. At most half of them are in use.
    slots: Vec<u32>,
}

impl KeyTable {
    /// A table for so many rows, which grows for more.
    pub(super) fn new(rows: usize) -> Self {
        Self { entries: Vec::with_capacity(rows), slots: vec![0; (rows * 2).next_power_of_two()] }
    }

    /// Doubles the slots.
    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for (index, entry) in (1..).zip(&self.entries) {
            let mut slot = entry.hash as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = index;
        }
        self.slots = slots;
    }

    /// Returns the entry of a key, which has no rows if the key is new. `bytes` contain all rows so far.
    ///
    /// # Errors
    /// When the bytes are not those that were written.
    pub(super) fn entry(&mut self, key: &[u8], bytes: &[u8]) -> Result<&mut Entry> {
        let hash = hash(key, LEVEL);
        if self.entries.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mut slot = hash as usize & (self.slots.len() - 1);
        while let Some(index) = self.slots[slot].checked_sub(1) {
            let entry = &self.entries[index as usize];
            if entry.hash == hash && self.key(entry, bytes)? == key {
                return Ok(&mut self.entries[index as usize]);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.entries.push(Entry { hash, old: None, new: None });
        // More rows than numbers would need more memory than a partition may have.
        self.slots[slot] = u32::try_from(self.entries.len()).map_err(|_| broken())?;
        self.entries.last_mut().ok_or_else(broken)
    }

    fn key<'a>(&self, entry: &Entry, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let offset = entry.old.or(entry.new).ok_or_else(broken)?;
        Ok(row(bytes, offset)?.key)
    }
}

/// The row at an offset.
///
/// # Errors
/// When the bytes are not those that were written.
pub(super) fn row(bytes: &[u8], offset: usize) -> Result<Row<'_>> {
    bytes.get(offset..).and_then(Row::first).map(|(row, _)| row).ok_or_else(broken)
}
