//! Parses patterns.

use super::{Piece, SPECIAL_NAMES, TablePattern};

/// The longest name of a part, in bytes.
const MAX_PART_NAME: usize = 64;

impl TablePattern {
    /// Parses a pattern; `table` is the text after `=>`, if any. The error is the end of a sentence about the pattern.
    pub(super) fn parse(text: &str, table: Option<&str>) -> Result<Self, String> {
        if text.starts_with('/') {
            return Err("starts with a slash, but keys do not".to_owned());
        }
        if text.ends_with('/') {
            return Err("ends with a slash; end it with /** to match everything below".to_owned());
        }
        let mut words: Vec<&str> = text.split('/').collect();
        let is_tail = |word: &str| word == "**" || word == "...";
        let has_tail = words.last().is_some_and(|last| is_tail(last));
        if has_tail {
            words.pop();
        }
        if words.iter().any(|word| is_tail(word)) || words.iter().any(|word| word.contains("**")) {
            return Err("contains ** before its last segment".to_owned());
        }
        let segments: Vec<Vec<Piece>> = words.into_iter().map(segment).collect::<Result<_, _>>()?;
        let mut pattern = Self { text: text.to_owned(), segments, has_tail, schema: None, table: Vec::new() };
        if pattern.segments.is_empty() {
            return Err("matches every key; start it with a folder, or set RDS_TABLE instead".to_owned());
        }
        let table = match table {
            Some(table) => table,
            None if pattern.has_part("table") => "{table}",
            None => return Err("names no table; name a part {table}, or append => and a table name".to_owned()),
        };
        let (schema, table) = match table.split_once('.') {
            Some((_, rest)) if rest.contains('.') => {
                return Err(
                    "has more than one dot in its table name; a dot separates the schema and the table".to_owned()
                );
            }
            Some((schema, table)) if schema.is_empty() || table.is_empty() => {
                return Err("needs a schema before the dot in its table name, and a table after it".to_owned());
            }
            Some((schema, table)) => (Some(schema), table),
            None => (None, table),
        };
        pattern.schema = schema.map(pieces).transpose()?;
        pattern.table = pieces(table)?;
        for piece in pattern.schema.iter().flatten().chain(&pattern.table) {
            match piece {
                Piece::Part(name) if !pattern.has_part(name) => return Err(format!("has no part {{{name}}}")),
                Piece::Any => return Err("has * in its table name".to_owned()),
                Piece::Part(_) | Piece::Literal(_) => {}
            }
        }
        Ok(pattern)
    }
}

/// Parses one segment of a pattern, in which no two parts are adjacent and no name occurs twice.
fn segment(text: &str) -> Result<Vec<Piece>, String> {
    let pieces = pieces(text)?;
    let is_open = |piece: &Piece| !matches!(piece, Piece::Literal(_));
    if pieces.windows(2).any(|pair| pair.iter().all(is_open)) {
        return Err("has two adjacent parts; put text between them".to_owned());
    }
    for (index, piece) in pieces.iter().enumerate() {
        if let Piece::Part(name) = piece
            && pieces[..index].contains(piece)
        {
            return Err(format!("has {{{name}}} twice in one segment"));
        }
    }
    Ok(pieces)
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(index) = rest.find(['{', '}', '*']) {
        if index > 0 {
            pieces.push(Piece::Literal(rest[..index].to_owned()));
        }
        let (delimiter, after) = (rest.as_bytes()[index], &rest[index + 1..]);
        rest = match delimiter {
            b'*' => {
                pieces.push(Piece::Any);
                after
            }
            b'{' => {
                let (name, after) = after.split_once('}').ok_or("has a { without a }")?;
                pieces.push(Piece::Part(part_name(name)?));
                after
            }
            _ => return Err("has a } without a {".to_owned()),
        };
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

fn part_name(name: &str) -> Result<String, String> {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_word || name.is_empty() || name.len() > MAX_PART_NAME || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!(
            "has {{{name}}}; the name of a part consists of letters, digits and _, and does not start with a digit"
        ));
    }
    if SPECIAL_NAMES.contains(&name) {
        return Err(format!("has {{{name}}}, a name with another meaning in KEY_COLUMNS"));
    }
    Ok(name.to_owned())
}
