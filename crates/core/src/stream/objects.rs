//! The objects in the text of a record.

use super::failure::{Failure, Reason};

/// The objects of a record, by their braces. Whether an object is valid JSON is checked later.
pub(super) struct Objects<'a> {
    rest: &'a [u8],
}

impl<'a> Objects<'a> {
    pub(super) fn of(record: &'a [u8]) -> Self {
        Self { rest: record }
    }
}

impl<'a> Iterator for Objects<'a> {
    type Item = Result<&'a [u8], Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))?;
        let text = &self.rest[start..];
        let end = if text[0] == b'{' { object_end(text) } else { None };
        let Some(end) = end else {
            self.rest = &[];
            let detail = if text[0] == b'{' {
                "an object is never closed"
            } else {
                "the record has other text than JSON objects"
            };
            return Some(Err(Failure::new(Reason::NotJson, detail)));
        };
        self.rest = &text[end..];
        Some(Ok(&text[..end]))
    }
}

/// The length of the object at the start of a text.
fn object_end(text: &[u8]) -> Option<usize> {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' if !is_string => depth += 1,
            b'}' if !is_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}
