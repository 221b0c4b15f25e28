//! Patterns that are parsed, matched and rejected, and table names.

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
#[case("u/{loaded_at}/{table}", "u/{loaded_at}/{table} has {loaded_at}, a name with another meaning in KEY_COLUMNS")]
#[case("u/{tenant}{table}", "u/{tenant}{table} has two adjacent parts; put text between them")]
#[case("u/{table}*", "u/{table}* has two adjacent parts; put text between them")]
#[case("u/{table}-{table}", "u/{table}-{table} has {table} twice in one segment")]
#[case("=> t", "=> needs a pattern before it")]
#[case("a/** =>", "a/** => needs a table name after it")]
#[case("a/** => {b}", "a/** has no part {b}")]
#[case("a/** => b*", "a/** has * in its table name")]
#[case("a/** => b.c.d", "a/** has more than one dot in its table name; a dot separates the schema and the table")]
#[case("a/** => .b", "a/** needs a schema before the dot in its table name, and a table after it")]
fn invalid_patterns_are_rejected(#[case] text: &str, #[case] expected: &str) {
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
#[case("SPILLWAY_staging_0123456789abcdef_00ff00ff", Err("begins with spillway_, the prefix of Spillway's own tables"))]
#[case("", Err("is empty"))]
fn table_names_are_validated(#[case] text: &str, #[case] expected: Result<&str, &str>) {
    assert_eq!(table_name(&text.into(), "lEDGER").as_deref().map_err(String::as_str), expected);
}

#[test]
fn a_table_name_has_at_most_63_bytes() {
    assert!(table_name(&"é".repeat(31).into(), "l").is_ok());
    let why = table_name(&"é".repeat(32).into(), "l").unwrap_err();
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
    fn any_text_is_parsed_or_rejected_and_matching_is_deterministic(text in key_or_pattern(), key in key_or_pattern()) {
        if let Ok(patterns) = TablePatterns::parse(&text) {
            let found = patterns.match_key(&key);
            prop_assert_eq!(&found, &patterns.match_key(&key));
            if let Some(found) = found {
                prop_assert!(found.parts.iter().all(|(_, part)| !part.is_empty() && !part.contains('/') && key.contains(part.as_str())));
                if let Ok(name) = table_name(&found.table, "ledger") {
                    prop_assert!(!name.is_empty() && name.len() <= 63 && *name == *name.as_str().to_lowercase());
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
        prop_assert_eq!(found.table.as_str(), table.as_str());
        let parts = [found.part("year"), found.part("month"), found.part("n")];
        prop_assert_eq!(parts, [Some(year.as_str()), Some(month.as_str()), Some(part.as_str())]);
    }
}
