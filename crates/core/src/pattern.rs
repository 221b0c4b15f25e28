//! Parses and matches `TABLE_PATTERN`: patterns over complete keys that determine the target table. Pure.
//!
//! All characters match themselves, except:
//!
//! - `{name}` matches at least one character within a path segment, as few as possible. A name from an earlier segment
//!   matches only the same text again.
//! - `*` matches any number of characters within a segment, also none.
//! - `**` or `...` as the last segment matches one or more segments.
//!
//! Patterns are separated by spaces or commas, and the first match wins. `=> name` after a pattern names the table and
//! may contain parts (`=> {tenant}_{table}`); otherwise the part `{table}` is the table. Matching never backtracks, so
//! its time is linear in the length of the key.

use std::fmt;

/// Names that have another meaning in `KEY_COLUMNS`, so parts cannot have them.
pub(crate) const SPECIAL_NAMES: [&str; 4] = ["source_bucket", "source_key", "source_row", "loaded_at"];

/// The longest table name that both engines accept, in bytes.
const MAX_TABLE_BYTES: usize = 63;
/// The prefix of Spillway's own tables.
const OWN_TABLE_PREFIX: &str = "spillway_";
/// The longest name of a part, in bytes.
const MAX_PART_NAME: usize = 64;

/// The patterns of a `TABLE_PATTERN`, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablePatterns(Vec<TablePattern>);

/// One pattern with its table name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TablePattern {
    /// The original text, for messages.
    text: String,
    segments: Vec<Vec<Piece>>,
    /// Whether the pattern ends with `**` or `...`.
    has_tail: bool,
    table: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A named part.
    Part(String),
    /// `*`.
    Any,
}

/// The table and the parts that a matching pattern extracts from a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyParts {
    /// The table name, not validated.
    pub table: String,
    /// The named parts, in the order of the pattern.
    pub parts: Vec<(String, String)>,
}

impl KeyParts {
    /// The text of a part, if the pattern has a part of this name.
    pub fn part(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|part| part.0 == name).map(|part| part.1.as_str())
    }
}

impl TablePatterns {
    /// Parses patterns.
    ///
    /// # Errors
    /// A message that names the invalid pattern and the mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spaced = text.replace("=>", " => ");
        let mut words = spaced.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).peekable();
        let mut patterns = Vec::new();
        while let Some(word) = words.next() {
            if word == "=>" {
                return Err("=> needs a pattern before it".to_owned());
            }
            let table = match words.next_if_eq(&"=>") {
                Some(_) => {
                    let table = words.next().filter(|table| *table != "=>");
                    Some(table.ok_or_else(|| format!("{word} => needs a table name after it"))?)
                }
                None => None,
            };
            patterns.push(TablePattern::parse(word, table).map_err(|why| format!("{word} {why}"))?);
        }
        if patterns.is_empty() { Err("it contains no pattern".to_owned()) } else { Ok(Self(patterns)) }
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any pattern has a part of this name.
    pub fn have_part(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.has_part(name))
    }

    /// The table names after `=>` that contain no parts.
    pub fn fixed_tables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|pattern| match pattern.table.as_slice() {
            [Piece::Literal(table)] => Some(table.as_str()),
            _ => None,
        })
    }

    /// Matches a key; returns the table and the parts of the first pattern that matches.
    pub fn match_key(&self, key: &str) -> Option<KeyParts> {
        self.0.iter().find_map(|pattern| pattern.match_key(key))
    }
}

/// The original texts of the patterns, separated by commas.
impl fmt::Display for TablePatterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{}", pattern.text)?;
        }
        Ok(())
    }
}

impl TablePattern {
    fn parse(text: &str, table: Option<&str>) -> Result<Self, String> {
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
        let mut pattern = Self { text: text.to_owned(), segments, has_tail, table: Vec::new() };
        if pattern.segments.is_empty() {
            return Err("matches every key; start it with a folder, or set RDS_TABLE instead".to_owned());
        }
        let table = match table {
            Some(table) => table,
            None if pattern.has_part("table") => "{table}",
            None => return Err("names no table; name a part {table}, or append => and a table name".to_owned()),
        };
        pattern.table = pieces(table)?;
        for piece in &pattern.table {
            match piece {
                Piece::Part(name) if !pattern.has_part(name) => return Err(format!("has no part {{{name}}}")),
                Piece::Any => return Err("has * in its table name".to_owned()),
                Piece::Part(_) | Piece::Literal(_) => {}
            }
        }
        Ok(pattern)
    }

    fn has_part(&self, wanted: &str) -> bool {
        self.segments.iter().flatten().any(|piece| matches!(piece, Piece::Part(name) if name == wanted))
    }

    fn match_key(&self, key: &str) -> Option<KeyParts> {
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
        let mut table = String::new();
        for piece in &self.table {
            match piece {
                Piece::Literal(text) => table.push_str(text),
                Piece::Part(name) => table.push_str(bound(&parts, name)?),
                Piece::Any => return None,
            }
        }
        let parts = parts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        Some(KeyParts { table, parts })
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

/// Matches one segment and adds its new parts.
///
/// An open piece is `*` or a part without a text yet. The text after it is searched from the left, so each open piece
/// matches as little as possible. The text after the last open piece must be the end of the segment.
fn match_segment<'a>(pieces: &'a [Piece], text: &'a str, parts: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
    let mut rest = text;
    let mut open: Option<&'a Piece> = None;
    let mut wanted = String::new();
    for piece in pieces {
        let is_bound = match piece {
            Piece::Literal(literal) => {
                wanted.push_str(literal);
                true
            }
            Piece::Part(name) => match bound(parts, name) {
                Some(value) => {
                    wanted.push_str(value);
                    true
                }
                None => false,
            },
            Piece::Any => false,
        };
        if is_bound {
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

fn close<'a>(open: Option<&'a Piece>, text: &'a str, parts: &mut Vec<(&'a str, &'a str)>) {
    if let Some(Piece::Part(name)) = open {
        parts.push((name, text));
    }
}

fn bound<'a>(parts: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    parts.iter().find(|part| part.0 == name).map(|part| part.1)
}

/// Converts a text from a key to a table name: in lower case, so that it is equal in every engine and in Glue.
///
/// Quotes, dots and spaces within are allowed, because identifiers are always quoted.
///
/// # Errors
/// The reason why the text is not a valid table name.
pub(crate) fn table_name(text: &str, ledger_table: &str) -> Result<String, String> {
    let name = text.to_lowercase();
    let why = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_TABLE_BYTES {
        format!("has {} bytes, and a table name has at most {MAX_TABLE_BYTES}", name.len())
    } else if name.chars().any(char::is_control) {
        "contains a control character".to_owned()
    } else if name.chars().any(|character| character > '\u{ffff}') {
        "contains a character above U+FFFF, which MySQL does not allow in names".to_owned()
    } else if name.trim() != name {
        "starts or ends with white space".to_owned()
    } else if name.starts_with(OWN_TABLE_PREFIX) {
        format!("begins with {OWN_TABLE_PREFIX}, the prefix of Spillway's own tables")
    } else if name == ledger_table.to_lowercase() {
        "is the name of the ledger".to_owned()
    } else {
        return Ok(name);
    };
    Err(why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const RAW_ZONE: &str = "data/batch/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";

    /// The table and the parts of a key, as one line.
    fn describe(patterns: &str, key: &str) -> Option<String> {
        let found = TablePatterns::parse(patterns).unwrap().match_key(key)?;
        let parts: Vec<String> = found.parts.iter().map(|(name, text)| format!("{name}={text}")).collect();
        Some(format!("{} [{}]", found.table, parts.join(" ")))
    }

    #[rstest]
    #[case("uploads/{table}/**", "uploads/orders/2026/11/a.csv", Some("orders [table=orders]"))]
    #[case("uploads/{table}/...", "uploads/orders/a.csv", Some("orders [table=orders]"))]
    #[case("uploads/{table}/**", "uploads/orders.csv", None)]
    #[case("uploads/{table}/**", "uploads//a.csv", None)]
    #[case("uploads/{table}/**", "Uploads/orders/a.csv", None)]
    #[case("uploads/{table}/*.csv", "uploads/orders/.csv", Some("orders [table=orders]"))]
    #[case("uploads/{table}/*.csv", "uploads/orders/x/a.csv", None)]
    #[case("uploads/{table}.csv", "uploads/a.b.csv", Some("a.b [table=a.b]"))]
    #[case("uploads/{table}.{kind}", "uploads/a.b.csv", Some("a [table=a kind=b.csv]"))]
    #[case("{tenant}_{table}/*", "a_b_c/x", Some("b_c [tenant=a table=b_c]"))]
    #[case("*-{table}-*/x", "a-b-c-d/x", Some("b [table=b]"))]
    #[case("{table}é{n}", "ééé1", Some("é [table=é n=é1]"))]
    #[case(
        RAW_ZONE,
        "data/batch/my_part/year=2026/month=01/day=10/hhmm=0830/my_part_part2.csv",
        Some("my_part [table=my_part year=2026 month=01 day=10 hhmm=0830 n=2]")
    )]
    #[case(RAW_ZONE, "data/batch/orders/year=2026/month=01/day=10/hhmm=0830/refunds_part2.csv", None)]
    #[case(RAW_ZONE, "data/batch/orders/year=/month=01/day=10/hhmm=0830/orders_part2.csv", None)]
    #[case(RAW_ZONE, "data/batch/orders/year=2026/month=01/day=10/hhmm=0830/orders_part.csv", None)]
    #[case(
        "{tenant}/{table}/{version}/{file}.csv.gz",
        "acme/orders/42/full.csv.gz",
        Some("orders [tenant=acme table=orders version=42 file=full]")
    )]
    #[case(
        "{tenant}/{table}/{version}/{file}.csv.gz => {tenant}_{table}",
        "a/b/1/c.csv.gz",
        Some("a_b [tenant=a table=b version=1 file=c]")
    )]
    #[case("sale_events/** => sale_events", "sale_events/2026/1.json", Some("sale_events []"))]
    #[case("a/** => one, a/** => two", "a/x", Some("one []"))]
    #[case("a/b/**=>one a/** => two", "a/c/x", Some("two []"))]
    #[case("b/{table}/**\n a/{table}/**", "a/t/x", Some("t [table=t]"))]
    #[case(
        "uploads/{table}/**",
        "uploads/a`; DROP TABLE x; --'\"/1.csv",
        Some("a`; DROP TABLE x; --'\" [table=a`; DROP TABLE x; --'\"]")
    )]
    #[case("uploads/{table}/**", "uploads/../secret.csv", Some(".. [table=..]"))]
    fn keys_are_matched(#[case] patterns: &str, #[case] key: &str, #[case] expected: Option<&str>) {
        assert_eq!(describe(patterns, key).as_deref(), expected);
    }

    #[rstest]
    #[case("", "it contains no pattern")]
    #[case(" , ", "it contains no pattern")]
    #[case("uploads/*", "uploads/* names no table; name a part {table}, or append => and a table name")]
    #[case("/uploads/{table}/**", "/uploads/{table}/** starts with a slash, but keys do not")]
    #[case("uploads/{table}/", "uploads/{table}/ ends with a slash; end it with /** to match everything below")]
    #[case("uploads/**/{table}", "uploads/**/{table} contains ** before its last segment")]
    #[case("uploads/{table}**", "uploads/{table}** contains ** before its last segment")]
    #[case("** => t", "** matches every key; start it with a folder, or set RDS_TABLE instead")]
    #[case("uploads/{table", "uploads/{table has a { without a }")]
    #[case("uploads/table}", "uploads/table} has a } without a {")]
    #[case(
        "u/{}/{table}",
        "u/{}/{table} has {}; the name of a part consists of letters, digits and _, and does not start with a digit"
    )]
    #[case(
        "u/{1}/{table}",
        "u/{1}/{table} has {1}; the name of a part consists of letters, digits and _, and does not start with a digit"
    )]
    #[case(
        "u/{loaded_at}/{table}",
        "u/{loaded_at}/{table} has {loaded_at}, a name with another meaning in KEY_COLUMNS"
    )]
    #[case("u/{tenant}{table}", "u/{tenant}{table} has two adjacent parts; put text between them")]
    #[case("u/{table}*", "u/{table}* has two adjacent parts; put text between them")]
    #[case("u/{table}-{table}", "u/{table}-{table} has {table} twice in one segment")]
    #[case("=> t", "=> needs a pattern before it")]
    #[case("a/** =>", "a/** => needs a table name after it")]
    #[case("a/** => {b}", "a/** has no part {b}")]
    #[case("a/** => b*", "a/** has * in its table name")]
    fn invalid_patterns_are_refused(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(TablePatterns::parse(text).unwrap_err(), expected);
    }

    #[rstest]
    #[case("Orders", Ok("orders"))]
    #[case("größe 100% \"x\" `y` a.b", Ok("größe 100% \"x\" `y` a.b"))]
    #[case("..", Ok(".."))]
    #[case("a\0b", Err("contains a control character"))]
    #[case("a\nb", Err("contains a control character"))]
    #[case("🦀", Err("contains a character above U+FFFF, which MySQL does not allow in names"))]
    #[case(" a", Err("starts or ends with white space"))]
    #[case("a\u{a0}", Err("starts or ends with white space"))]
    #[case("Ledger", Err("is the name of the ledger"))]
    #[case(
        "SPILLWAY_staging_0123456789abcdef_00ff00ff",
        Err("begins with spillway_, the prefix of Spillway's own tables")
    )]
    #[case("", Err("is empty"))]
    fn table_names_are_validated(#[case] text: &str, #[case] expected: Result<&str, &str>) {
        assert_eq!(table_name(text, "lEDGER").as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn a_table_name_has_at_most_63_bytes() {
        assert!(table_name(&"é".repeat(31), "l").is_ok());
        let why = table_name(&"é".repeat(32), "l").unwrap_err();
        assert_eq!(why, "has 64 bytes, and a table name has at most 63");
    }

    #[test]
    fn matching_does_not_backtrack() {
        let patterns = TablePatterns::parse("{a}_{b}_{c}_{d}_{e}_{f}_{g}_{h}!{table}").unwrap();
        assert_eq!(patterns.match_key(&"_".repeat(1024)), None);
    }

    /// Random keys and patterns that often contain the special characters.
    fn key_or_pattern() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("{table}".to_owned()),
            Just("{a}".to_owned()),
            Just("{b}".to_owned()),
            Just("*".to_owned()),
            Just("**".to_owned()),
            Just("...".to_owned()),
            Just("/".to_owned()),
            Just("/".to_owned()),
            Just("x".to_owned()),
            Just("é".to_owned()),
            Just("=".to_owned()),
            Just(" => ".to_owned()),
            Just(",".to_owned()),
            Just("{".to_owned()),
            "\\PC{0,3}",
        ];
        prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn any_text_is_parsed_or_refused_and_matching_is_deterministic(text in key_or_pattern(), key in key_or_pattern()) {
            if let Ok(patterns) = TablePatterns::parse(&text) {
                let found = patterns.match_key(&key);
                prop_assert_eq!(&found, &patterns.match_key(&key));
                if let Some(found) = found {
                    prop_assert!(found.parts.iter().all(|(_, part)| !part.is_empty() && !part.contains('/') && key.contains(part.as_str())));
                    if let Ok(name) = table_name(&found.table, "ledger") {
                        prop_assert!(!name.is_empty() && name.len() <= 63 && name == name.to_lowercase());
                        prop_assert!(!name.chars().any(char::is_control));
                    }
                }
            }
        }

        #[test]
        fn a_key_built_from_a_pattern_returns_its_parts(
            table in "[a-z][a-z0-9_.é]{0,20}", year in "[0-9]{4}", month in "[0-9]{2}", part in "[0-9]{1,3}",
        ) {
            let key = format!("data/batch/{table}/year={year}/month={month}/day=01/hhmm=0000/{table}_part{part}.csv");
            let found = TablePatterns::parse(RAW_ZONE).unwrap().match_key(&key).unwrap();
            prop_assert_eq!(&found.table, &table);
            let parts = [found.part("year"), found.part("month"), found.part("n")];
            prop_assert_eq!(parts, [Some(year.as_str()), Some(month.as_str()), Some(part.as_str())]);
        }
    }
}
