//! How a comparison divides its memory.
//!
//! Buffers of the partitions get a quarter, the two partitions that are compared get a half, and changes that are sorted get a
//! quarter. The buffers of a partition that is divided again are halved at each level. The readers' buffers are not included.

/// The size of a full buffer of a partition.
const MAX_CHUNK_BYTES: usize = 64 * 1024;
const MIN_CHUNK_BYTES: usize = 4096;
const MAX_PARTITIONS: u64 = 512;
const MIN_PARTITIONS: u64 = 2;
/// The memory of a row in addition to its bytes: its entry in the table of keys, and the slots for it.
const ENTRY_BYTES: u64 = 32;

/// The memory of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory(u64);

impl Memory {
    /// So many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The memory for a partition that is divided again.
    pub(super) fn nested(self) -> Self {
        Self(self.0 / 2)
    }

    /// Whether two partitions with so many bytes and rows can be in memory together.
    pub(super) fn holds(self, bytes: u64, rows: u64) -> bool {
        bytes.saturating_add(rows.saturating_mul(ENTRY_BYTES)) <= self.0 / 2
    }

    /// The number of partitions for exports of so many bytes together, so that two partitions are half as large as they may be.
    pub(super) fn partitions(self, bytes: u64) -> usize {
        let wanted = bytes.div_ceil((self.0 / 4).max(1));
        let most = (self.0 / 8 / MIN_CHUNK_BYTES as u64).clamp(MIN_PARTITIONS, MAX_PARTITIONS);
        wanted.clamp(MIN_PARTITIONS, most) as usize
    }

    /// The size of the buffers of so many partitions of one export.
    pub(super) fn chunk_bytes(self, partitions: usize) -> usize {
        let share = usize::try_from(self.0 / 8).unwrap_or(usize::MAX) / partitions.max(1);
        share.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES)
    }

    /// The memory for changes that are sorted.
    pub(super) fn sort_bytes(self) -> usize {
        usize::try_from(self.0 / 4).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_their_buffers_fit() {
        let memory = Memory::new(64 << 20);
        for (bytes, partitions) in [(0, 2), (200 << 20, 13), (6400 << 20, 400), (u64::MAX, 512)] {
            assert_eq!(memory.partitions(bytes), partitions);
            assert!(2 * partitions * memory.chunk_bytes(partitions) <= 16 << 20);
        }
        assert_eq!(Memory::new(4096).partitions(1 << 20), 2);
    }
}
