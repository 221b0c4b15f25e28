//! The open brackets of a JSON text.

use crate::schema::value::json::MAX_DEPTH;

/// The open brackets, as bits. A set bit is a square bracket; the lowest bit is the innermost bracket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nesting {
    squares: u128,
    pub(super) depth: usize,
}

impl Nesting {
    /// Reads a bracket. `None` if it nests too deeply, or closes a bracket of another kind.
    #[inline]
    pub(super) fn read(&mut self, bracket: u8) -> Option<()> {
        if matches!(bracket, b'{' | b'[') {
            // The record itself is the first level.
            if self.depth > MAX_DEPTH {
                return None;
            }
            self.squares = (self.squares << 1) | u128::from(bracket == b'[');
            self.depth += 1;
        } else {
            if (self.squares & 1 == 1) != (bracket == b']') {
                return None;
            }
            self.squares >>= 1;
            self.depth -= 1;
        }
        Some(())
    }
}
