//! The pieces in which encoded rows are passed to a driver.

use bytes::Bytes;

/// A buffer of at least this size is sent.
const PIECE_BYTES: usize = 256 * 1024;

/// Maximum size of a piece. The bytes of a larger row are split.
const MAX_PIECE_BYTES: usize = 4 * PIECE_BYTES;

/// Returns an empty buffer for encoded rows.
pub(super) fn new_buffer() -> Vec<u8> {
    // The last row usually exceeds the size of a piece.
    Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4)
}

/// Whether the buffer should be sent before the next row.
pub(super) fn is_full(buffer: &[u8]) -> bool {
    buffer.len() >= PIECE_BYTES
}

/// Replaces the buffer with an empty one. Returns its content in pieces.
pub(super) fn take_pieces(buffer: &mut Vec<u8>) -> impl Iterator<Item = Bytes> + use<> {
    let content = Bytes::from(std::mem::replace(buffer, new_buffer()));
    let starts = (0..content.len()).step_by(MAX_PIECE_BYTES);
    starts.map(move |start| content.slice(start..content.len().min(start + MAX_PIECE_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_contain_every_byte_once() {
        for length in [0, 1, MAX_PIECE_BYTES, 2 * MAX_PIECE_BYTES + 1] {
            let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let mut buffer = content.clone();
            let pieces: Vec<Bytes> = take_pieces(&mut buffer).collect();
            assert!(buffer.is_empty() && pieces.iter().all(|piece| piece.len() <= MAX_PIECE_BYTES));
            assert_eq!(pieces.concat(), content);
        }
    }
}
