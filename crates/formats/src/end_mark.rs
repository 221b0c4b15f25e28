//! Holds back a Ctrl-Z (0x1A) at the end of a file, which programs for DOS write as its last byte. It may stand on a line of its own.
//!
//! Elsewhere, and before the line end of the last record, the character is data.

/// Ctrl-Z, the end of a text file in DOS.
const CTRL_Z: u8 = 0x1a;

/// The text that is not released, because it may be the end mark.
#[derive(Debug, Default)]
pub(crate) struct EndMark {
    /// Empty, or the mark and the line end after it.
    held: Vec<u8>,
    /// The last byte before the mark; `None` at the start of the file.
    before: Option<u8>,
}

impl EndMark {
    /// Divides the next text. Returns the text that was held and is data, and the text after it that is data.
    pub(crate) fn split<'a>(&mut self, text: &'a [u8]) -> (Vec<u8>, &'a [u8]) {
        if self.held.is_empty() && !before_line_end(text).ends_with(&[CTRL_Z]) {
            // Nearly every piece of text.
            self.before = text.last().copied().or(self.before);
            return (Vec::new(), text);
        }
        let mut all = std::mem::take(&mut self.held);
        let held = all.len();
        all.extend_from_slice(text);
        let start = self.start_of_mark(&all);
        self.held = all.split_off(start);
        self.before = all.last().copied().or(self.before);
        match start.checked_sub(held) {
            // The held text is data, and so is the beginning of the new one.
            Some(length) => {
                all.truncate(held);
                (all, &text[..length])
            }
            // The mark is still held, or a part of the held text is data.
            None => (all, &[]),
        }
    }

    /// The number of bytes that are not released. At the end of the file, they are the mark.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.len() as u64
    }

    /// The offset of the mark at the end of a text, or the length of a text without a mark.
    fn start_of_mark(&self, text: &[u8]) -> usize {
        let line = before_line_end(text);
        let Some(before) = line.strip_suffix(&[CTRL_Z]) else { return text.len() };
        let is_line = before.last().copied().or(self.before).is_none_or(|byte| matches!(byte, b'\n' | b'\r'));
        if is_line || line.len() == text.len() { before.len() } else { text.len() }
    }
}

/// A text without the line end at its end.
fn before_line_end(text: &[u8]) -> &[u8] {
    let line_ends = [&b"\r\n"[..], b"\n", b"\r"];
    line_ends.into_iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a text, which arrives in pieces of this length.
    fn data(text: &[u8], length: usize) -> (Vec<u8>, u64) {
        let mut mark = EndMark::default();
        let mut data = Vec::new();
        for piece in text.chunks(length) {
            let (held, rest) = mark.split(piece);
            data.extend_from_slice(&held);
            data.extend_from_slice(rest);
        }
        (data, mark.held_bytes())
    }

    #[test]
    fn ctrl_z_at_the_end_is_held_back() {
        for (text, held) in [
            (&b"a\n1\n\x1a"[..], 1),
            (b"a\r\n1\r\n\x1a\r\n", 3),
            (b"a\r1\r\x1a\r", 2),
            (b"a\n1\x1a", 1),
            (b"\x1a", 1),
            // The last value of a record, and marks before the end.
            (b"a\n1\x1a\n", 0),
            (b"a\n\x1a\n1\n", 0),
            (b"a\n\x1a\r\n\r\n", 0),
            (b"a\n1\n", 0),
            (b"a\n\x1a\x1a", 1),
        ] {
            for length in 1..=text.len() {
                let expected = (text[..text.len() - held].to_vec(), held as u64);
                assert_eq!(data(text, length), expected, "{text:?} in pieces of {length}");
            }
        }
    }
}
