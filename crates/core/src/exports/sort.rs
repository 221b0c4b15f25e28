//! Sorts changes by key within a limit of memory: sorted runs in a temporary file, then a merge of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::record::{push_number, push_value, take_bytes, take_number};
use super::temporary::{Chunk, TemporaryFile, broken};
use crate::error::Result;

/// The least number of bytes that a merge reads at a time from each run. It limits the number of runs.
const MIN_READ_BYTES: usize = 4096;
const MAX_READ_BYTES: usize = 256 * 1024;
const MAX_RUNS: usize = 256;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Only the new export has it.
    Create,
    /// Both have it, with different values.
    Update,
    /// Only the old export has it.
    Delete,
}

/// A change, as it is in memory and in the temporary file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredChange<'a> {
    pub(super) key: &'a [u8],
    /// The values of the old row outside the key.
    pub(super) before: Option<&'a [u8]>,
    /// The values of the new row outside the key.
    pub(super) after: Option<&'a [u8]>,
}

impl<'a> StoredChange<'a> {
    /// A change of the row with this key. At least one of the rows exists.
    pub(super) fn new(key: &'a [u8], before: Option<&'a [u8]>, after: Option<&'a [u8]>) -> Self {
        Self { key, before, after }
    }

    pub(super) fn operation(&self) -> Operation {
        match (self.before, self.after) {
            (None, _) => Operation::Create,
            (Some(_), Some(_)) => Operation::Update,
            (Some(_), None) => Operation::Delete,
        }
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        push_number(out, self.key.len() as u64);
        out.extend_from_slice(self.key);
        push_value(out, self.before);
        push_value(out, self.after);
    }

    /// The first change of these bytes and the number of its bytes; `None` if the bytes end within it.
    fn first(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let key = take_bytes(&mut rest)?;
        let (before, after) = (take_row(&mut rest)?, take_row(&mut rest)?);
        Some((Self { key, before, after }, bytes.len() - rest.len()))
    }
}

/// Removes the values of a row, or the note that the export does not have the row.
fn take_row<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Some(length) = take_number(bytes)?.checked_sub(1) else { return Some(None) };
    let (row, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(row))
}

/// Collects changes in any order.
#[derive(Debug)]
pub(super) struct ChangeSorter {
    buffer: Vec<u8>,
    /// Each change in `buffer`: the first bytes of its key, and its offset.
    index: Vec<(u64, usize)>,
    max_bytes: usize,
    file: TemporaryFile,
    runs: Vec<Chunk>,
    /// The number of bytes of the longest change.
    longest: usize,
}

impl ChangeSorter {
    pub(super) fn new(max_bytes: usize) -> Self {
        let (buffer, index, runs) = (Vec::new(), Vec::new(), Vec::new());
        Self { buffer, index, max_bytes, file: TemporaryFile::default(), runs, longest: 0 }
    }

    /// Adds a change.
    ///
    /// # Errors
    /// When the temporary file cannot be used.
    pub(super) fn push(&mut self, change: StoredChange<'_>) -> Result<()> {
        let length = change.key.len() + change.before.map_or(0, <[u8]>::len) + change.after.map_or(0, <[u8]>::len) + 16;
        self.longest = self.longest.max(length);
        let index_bytes = (self.index.len() + 1) * size_of::<(u64, usize)>();
        if self.buffer.len() + length + index_bytes > self.max_bytes && !self.index.is_empty() {
            self.write_run()?;
        }
        if self.buffer.capacity() == self.buffer.len() && self.buffer.len() < self.max_bytes {
            // Growth by doubling would exceed the limit.
            let more = self.buffer.len().clamp(64 * 1024, (self.max_bytes - self.buffer.len()).max(64 * 1024));
            self.buffer.reserve_exact(more.max(length));
        }
        self.index.push((prefix(change.key), self.buffer.len()));
        change.append_to(&mut self.buffer);
        Ok(())
    }

    /// Returns all changes in the order of their keys.
    ///
    /// # Errors
    /// When the temporary file cannot be used.
    pub(super) fn finish(mut self) -> Result<SortedChanges> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(SortedChanges::Memory { buffer: self.buffer, index: self.index, next: 0 });
        }
        self.write_run()?;
        (self.buffer, self.index) = (Vec::new(), Vec::new());
        Ok(SortedChanges::Merge(Merge::start(self.file, &self.runs, self.max_bytes)?))
    }

    fn sort(&mut self) {
        let buffer = &self.buffer;
        let key = |offset: usize| {
            let mut rest = &buffer[offset..];
            take_bytes(&mut rest).unwrap_or_default()
        };
        self.index.sort_unstable_by(|left, right| left.0.cmp(&right.0).then_with(|| key(left.1).cmp(key(right.1))));
    }

    fn write_run(&mut self) -> Result<()> {
        if self.index.is_empty() {
            return Ok(());
        }
        self.sort();
        let (start, mut block) = (self.file.length(), Vec::with_capacity(MAX_READ_BYTES.min(self.max_bytes)));
        for (_, offset) in &self.index {
            let (_, length) = StoredChange::first(&self.buffer[*offset..]).ok_or_else(broken)?;
            append(&mut self.file, &mut block, &self.buffer[*offset..*offset + length])?;
        }
        self.file.append(&block)?;
        self.runs.push(Chunk { start, length: (self.file.length() - start) as usize });
        self.index.clear();
        self.buffer.clear();
        self.buffer.shrink_to(self.max_bytes);
        match self.runs.len() >= max_runs(self.max_bytes, self.longest) {
            true => self.merge_runs(),
            false => Ok(()),
        }
    }

    /// Replaces all runs by one.
    fn merge_runs(&mut self) -> Result<()> {
        let mut merge = Merge::start(std::mem::take(&mut self.file), &self.runs, self.max_bytes)?;
        let (mut file, mut block) = (TemporaryFile::default(), Vec::new());
        while let Some(bytes) = merge.next()? {
            append(&mut file, &mut block, bytes)?;
        }
        file.append(&block)?;
        self.runs = vec![Chunk { start: 0, length: file.length() as usize }];
        self.file = file;
        Ok(())
    }
}

/// Appends bytes through a block.
fn append(file: &mut TemporaryFile, block: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    if block.len() + bytes.len() > MAX_READ_BYTES && !block.is_empty() {
        file.append(block)?;
        block.clear();
    }
    block.extend_from_slice(bytes);
    Ok(())
}

/// The most runs that a merge reads at a time. It has a buffer for each, with at least one change.
fn max_runs(max_bytes: usize, longest: usize) -> usize {
    (max_bytes / MIN_READ_BYTES.max(longest)).clamp(2, MAX_RUNS)
}

/// The first bytes of a key as a number with the same order.
fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

/// Changes in the order of their keys.
#[derive(Debug)]
pub(super) enum SortedChanges {
    Memory { buffer: Vec<u8>, index: Vec<(u64, usize)>, next: usize },
    Merge(Merge),
}

impl SortedChanges {
    /// Returns the next change.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<StoredChange<'_>>> {
        let bytes = match self {
            Self::Memory { buffer, index, next } => {
                let Some((_, offset)) = index.get(*next) else { return Ok(None) };
                *next += 1;
                &buffer[*offset..]
            }
            Self::Merge(merge) => match merge.next()? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        StoredChange::first(bytes).map(|(change, _)| Some(change)).ok_or_else(broken)
    }
}

/// A merge of sorted runs.
#[derive(Debug)]
pub(super) struct Merge {
    file: TemporaryFile,
    runs: Vec<Run>,
    /// The next key of each run that has one.
    next: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// The run whose change was returned last.
    current: Option<usize>,
}

impl Merge {
    fn start(file: TemporaryFile, runs: &[Chunk], max_bytes: usize) -> Result<Self> {
        let read_bytes = (max_bytes / runs.len().max(1)).clamp(MIN_READ_BYTES, MAX_READ_BYTES);
        let runs = runs.iter().map(|run| Run::new(*run, read_bytes)).collect();
        let mut merge = Self { file, runs, next: BinaryHeap::new(), current: None };
        for index in 0..merge.runs.len() {
            merge.advance(index)?;
        }
        Ok(merge)
    }

    /// The bytes of the next change.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        if let Some(index) = self.current.take() {
            self.advance(index)?;
        }
        let Some(Reverse((_, index))) = self.next.pop() else { return Ok(None) };
        self.current = Some(index);
        Ok(Some(self.runs[index].change()))
    }

    fn advance(&mut self, index: usize) -> Result<()> {
        if let Some(key) = self.runs[index].advance(&self.file)? {
            self.next.push(Reverse((key, index)));
        }
        Ok(())
    }
}

/// A sorted run, read in order.
#[derive(Debug)]
struct Run {
    rest: Chunk,
    read_bytes: usize,
    buffer: Vec<u8>,
    /// The current change in `buffer`.
    start: usize,
    end: usize,
}

impl Run {
    fn new(rest: Chunk, read_bytes: usize) -> Self {
        Self { rest, read_bytes, buffer: Vec::new(), start: 0, end: 0 }
    }

    fn change(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Moves to the next change and returns its key; `None` after the last one.
    fn advance(&mut self, file: &TemporaryFile) -> Result<Option<Vec<u8>>> {
        self.start = self.end;
        loop {
            if let Some((change, length)) = StoredChange::first(&self.buffer[self.start..]) {
                self.end = self.start + length;
                return Ok(Some(change.key.to_vec()));
            }
            if self.rest.length == 0 {
                return if self.start == self.buffer.len() { Ok(None) } else { Err(broken()) };
            }
            self.buffer.drain(..self.start);
            (self.start, self.end) = (0, 0);
            // A change that is longer than the buffer doubles it.
            let length = self.read_bytes.max(self.buffer.len()).min(self.rest.length);
            file.read(Chunk { start: self.rest.start, length }, &mut self.buffer)?;
            self.rest = Chunk { start: self.rest.start + length as u64, length: self.rest.length - length };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All changes, in the order in which they are returned.
    fn sorted(changes: &[(Vec<u8>, usize)], max_bytes: usize) -> Vec<(Vec<u8>, usize)> {
        let mut sorter = ChangeSorter::new(max_bytes);
        for (key, length) in changes {
            let values = vec![b'v'; *length];
            let change = StoredChange::new(key, Some(&values), None);
            sorter.push(change).unwrap();
        }
        let (mut sorted, mut all) = (sorter.finish().unwrap(), Vec::new());
        while let Some(change) = sorted.next().unwrap() {
            assert_eq!((change.operation(), change.after), (Operation::Delete, None));
            all.push((change.key.to_vec(), change.before.unwrap().len()));
        }
        all
    }

    proptest! {
        #[test]
        fn changes_are_sorted_with_any_limit(
            changes in prop::collection::btree_map(prop::collection::vec(0_u8..4, 0..12), 0_usize..40, 0..300),
            seed in any::<u64>(),
            max_bytes in 1_usize..20_000,
        ) {
            let expected: Vec<(Vec<u8>, usize)> = changes.into_iter().collect();
            let mut shuffled = expected.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            prop_assert_eq!(sorted(&shuffled, max_bytes), expected);
        }
    }

    #[test]
    fn more_runs_than_a_merge_reads_are_merged_in_between() {
        let changes: Vec<(Vec<u8>, usize)> =
            (0..3000_u64).map(|number| ((number * 7919 % 3000).to_be_bytes().to_vec(), 50)).collect();
        let mut expected = changes.clone();
        expected.sort();
        assert_eq!(sorted(&changes, 2000), expected);
        let long = vec![(vec![2], 100_000), (vec![1], 3), (vec![3], 70_000)];
        assert_eq!(sorted(&long, 1000), [(vec![1], 3), (vec![2], 100_000), (vec![3], 70_000)]);
    }
}
