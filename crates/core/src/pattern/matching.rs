//! Matches keys. A match never backtracks.

use super::{KeyParts, Piece, TablePattern};
use crate::table_name::TableName;

impl TablePattern {
    /// Matches a key; returns the table and the parts.
    pub(super) fn match_key(&self, key: &str) -> Option<KeyParts> {
        let mut parts: Vec<(&str, &str)> = Vec::new();
        let mut rest = Some(key);
        for segment in &self.segments {
            let (text, below) = match rest?.split_once('/') {
                Some((text, below)) => (text, Some(below)),
                None => (rest?, None),
            };
            match_segment(segment, text, &mut parts)?;
            rest = below;
        }
        if rest.is_some() != self.has_tail {
            return None;
        }
        let own_name = filled(&self.table, &parts)?;
        let table = match &self.schema {
            None => own_name.into(),
            Some(schema) => TableName::in_schema(&filled(schema, &parts)?, &own_name),
        };
        let parts = parts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        Some(KeyParts { table, parts })
    }
}

/// The text of a name, with the texts of its parts.
pub(super) fn filled(pieces: &[Piece], parts: &[(&str, &str)]) -> Option<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Part(name) => text.push_str(bound(parts, name)?),
            Piece::Any => return None,
        }
    }
    Some(text)
}

/// Matches one segment and adds its new parts.
///
/// An open piece is `*` or a part without a text yet. The text after it is searched from the left, so each open piece
/// matches as little as possible. The text after the last open piece must be the end of the segment.
pub(super) fn match_segment<'a>(pieces: &'a [Piece], text: &'a str, parts: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
    let mut rest = text;
    let mut open: Option<&'a Piece> = None;
    let mut wanted = String::new();
    for piece in pieces {
        let known = match piece {
            Piece::Literal(literal) => Some(literal.as_str()),
            Piece::Part(name) => bound(parts, name),
            Piece::Any => None,
        };
        if let Some(known) = known {
            wanted.push_str(known);
            continue;
        }
        let start = match open {
            None => rest.starts_with(wanted.as_str()).then_some(0)?,
            Some(before) => {
                let min = min_bytes(before, rest)?;
                min + rest[min..].find(wanted.as_str())?
            }
        };
        close(open, &rest[..start], parts);
        rest = &rest[start + wanted.len()..];
        open = Some(piece);
        wanted.clear();
    }
    let left = rest.strip_suffix(wanted.as_str())?;
    match open {
        None => left.is_empty().then_some(()),
        Some(before) => {
            min_bytes(before, left)?;
            close(open, left, parts);
            Some(())
        }
    }
}

/// The minimum length in bytes of the match of an open piece, or `None` when the text is shorter.
fn min_bytes(piece: &Piece, text: &str) -> Option<usize> {
    match piece {
        Piece::Part(_) => text.chars().next().map(char::len_utf8),
        Piece::Any | Piece::Literal(_) => Some(0),
    }
}

/// Adds the part that an open piece has matched.
fn close<'a>(open: Option<&'a Piece>, text: &'a str, parts: &mut Vec<(&'a str, &'a str)>) {
    if let Some(Piece::Part(name)) = open {
        parts.push((name, text));
    }
}

/// The text of a part, if it has one.
pub(super) fn bound<'a>(parts: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    parts.iter().find(|part| part.0 == name).map(|part| part.1)
}
