//! Writes values and names into statements. The Data API has parameters only for single statements, and none that are empty.

use jiff::Timestamp;

use crate::ledger::Value;

/// Surrounds the number of a parameter in a statement. No statement contains it otherwise.
pub(super) const MARK: char = '\u{1}';

/// Returns a text as a literal.
///
/// Redshift reads a backslash in a literal as an escape character, so none is in one. A NUL character, which no text can have,
/// is replaced.
pub(super) fn text(value: &str) -> String {
    let quoted = |part: &str| format!("'{}'", part.replace('\0', "\u{fffd}").replace('\'', "''"));
    let parts: Vec<String> = value.split('\\').map(quoted).collect();
    match parts.as_slice() {
        [whole] => whole.clone(),
        parts => format!("({})", parts.join(" || CHR(92) || ")),
    }
}

/// Returns a text as a literal, or NULL.
pub(super) fn optional_text(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), text)
}

/// Returns a time in UTC as a literal.
pub(super) fn time(value: Timestamp) -> String {
    format!("TIMESTAMP '{}'", value.strftime("%Y-%m-%d %H:%M:%S%.6f"))
}

/// Returns a quoted name. Redshift compares names in lower case.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.to_ascii_lowercase().replace('"', "\"\""))
}

/// Replaces the numbered parameters of a statement by literals.
pub(super) fn bind(sql: &str, params: &[Value<'_>]) -> String {
    let mut bound = String::with_capacity(sql.len());
    for (index, part) in sql.split(MARK).enumerate() {
        let number = (index % 2 == 1).then(|| part.parse::<usize>().ok()).flatten();
        match number.and_then(|number| params.get(number.checked_sub(1)?)) {
            Some(value) => bound.push_str(&literal(*value)),
            None => bound.push_str(part),
        }
    }
    bound
}

fn literal(value: Value<'_>) -> String {
    match value {
        Value::Text(value) => optional_text(value),
        Value::Count(value) => value.to_string(),
        Value::Time(value) => time(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_its_literal() {
        for (value, expected) in [
            ("", "''"),
            ("it's", "'it''s'"),
            ("\\", "('' || CHR(92) || '')"),
            ("a\\'; DROP TABLE t; --", "('a' || CHR(92) || '''; DROP TABLE t; --')"),
            ("a\0b", "'a\u{fffd}b'"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn parameters_become_literals_once() {
        let at: Timestamp = "2026-11-30T12:00:00.000001Z".parse().unwrap();
        let sql = "SELECT \u{1}2\u{1}, \u{1}1\u{1}, \u{1}3\u{1}, \u{1}4\u{1}";
        let params = [Value::from("\u{1}2\u{1}"), Value::Count(7), Value::from(at), Value::Text(None)];
        assert_eq!(bind(sql, &params), "SELECT 7, '\u{1}2\u{1}', TIMESTAMP '2026-11-30 12:00:00.000001', NULL");
    }

    #[test]
    fn name_is_quoted_in_lower_case() {
        assert_eq!(quoted("Sales \"EU\""), "\"sales \"\"eu\"\"\"");
    }
}
