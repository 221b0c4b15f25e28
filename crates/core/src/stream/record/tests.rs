use proptest::prelude::*;
use rstest::rstest;
use spillway_formats::compression::DecodedLimits;
use spillway_formats::reject::RejectLimit;

use super::*;

pub(in crate::stream) fn rules() -> EventRules {
    EventRules {
        table_field: "table".into(),
        tables: None,
        key_fields: Vec::new(),
        ledger_table: "spillway_ledger".into(),
        limits: ReadLimits {
            max_record_bytes: 1 << 20,
            max_columns: 1_000,
            max_memory_bytes: 1 << 20,
            decoded: DecodedLimits { max_bytes: 1 << 20, max_ratio: 100 },
            rejects: RejectLimit::Count(0),
        },
    }
}

fn events(data: impl AsRef<[u8]>) -> (String, String, u64) {
    match read(data.as_ref(), &rules()) {
        Ok(RecordContent::Events(Events { table, lines, count })) => {
            (table, String::from_utf8(lines).expect("text"), count)
        }
        other => panic!("{other:?}"),
    }
}

fn reason(data: impl AsRef<[u8]>, rules: &EventRules) -> (Reason, String) {
    let failure = read(data.as_ref(), rules).expect_err("a failure");
    (failure.reason, failure.detail.into_owned())
}

#[rstest]
#[case::plain(r#"{"table":"a","n":1}"#, "{\"table\":\"a\",\"n\":1}\n", 1)]
#[case::line("{\"table\":\"a\"}\r\n", "{\"table\":\"a\"}\n", 1)]
#[case::white_space(" \t\n{\"table\":\"a\"} \n", "{\"table\":\"a\"}\n", 1)]
#[case::mark("\u{feff}{\"table\":\"a\"}", "{\"table\":\"a\"}\n", 1)]
#[case::lines(
    "{\"table\":\"a\",\"n\":1}\n{\"table\":\"a\",\"n\":2}\n",
    "{\"table\":\"a\",\"n\":1}\n{\"table\":\"a\",\"n\":2}\n",
    2
)]
#[case::adjacent(r#"{"table":"a"}{"table":"A"}"#, "{\"table\":\"a\"}\n{\"table\":\"A\"}\n", 2)]
#[case::pretty("{\n  \"table\": \"a\",\r\n  \"n\": {\n  }\n}", "{   \"table\": \"a\",    \"n\": {   } }\n", 1)]
#[case::braces_in_a_string(r#"{"table":"a","s":"}{\"\\"}"#, "{\"table\":\"a\",\"s\":\"}{\\\"\\\\\"}\n", 1)]
#[case::numbers_keep_their_digits(
    r#"{"table":"a","n":1.10,"m":123456789012345678901234567890}"#,
    "{\"table\":\"a\",\"n\":1.10,\"m\":123456789012345678901234567890}\n",
    1
)]
#[case::escapes_stay(r#"{"table":"a","s":"\u00e9\n"}"#, "{\"table\":\"a\",\"s\":\"\\u00e9\\n\"}\n", 1)]
#[case::other_letters("{\"table\":\"a\",\"s\":\"café ☕\"}", "{\"table\":\"a\",\"s\":\"café ☕\"}\n", 1)]
fn events_are_lines(#[case] data: &str, #[case] lines: &str, #[case] count: u64) {
    assert_eq!(events(data), ("a".to_owned(), lines.to_owned(), count));
}

#[rstest]
#[case("")]
#[case(" \r\n\t")]
#[case("\u{feff}")]
fn white_space_is_no_event(#[case] data: &str) {
    assert_eq!(read(data.as_bytes(), &rules()), Ok(RecordContent::Empty));
}

#[rstest]
#[case::text(b"hello".as_slice())]
#[case::truncated(br#"{"table":"a","n":"#.as_slice())]
#[case::truncated_string(br#"{"table":"a","n":"}"#.as_slice())]
#[case::array(br#"[{"table":"a"}]"#.as_slice())]
#[case::comma_between(br#"{"table":"a"},{"table":"a"}"#.as_slice())]
#[case::second_is_broken(br#"{"table":"a"}{"table":"a""#.as_slice())]
#[case::second_mark(b"{\"table\":\"a\"}\xef\xbb\xbf{\"table\":\"a\"}".as_slice())]
#[case::not_utf8(b"{\"table\":\"a\",\"s\":\"\xff\"}".as_slice())]
#[case::number_over_two_lines(b"{\"table\":\"a\",\"n\":1\n2}".as_slice())]
#[case::line_break_in_a_string(b"{\"table\":\"a\",\"s\":\"1\n2\"}".as_slice())]
#[case::key_twice(br#"{"table":"a","table":"a"}"#.as_slice())]
#[case::half_a_surrogate(br#"{"table":"a","s":"\ud800"}"#.as_slice())]
#[case::compressed(b"\x1f\x8b\x08\x00".as_slice())]
#[case::aggregated(b"\xf3\x89\x9a\xc2\x0a\x01".as_slice())]
fn record_that_is_not_json_fails(#[case] data: &[u8]) {
    assert_eq!(reason(data, &rules()).0, Reason::NotJson);
}

#[rstest]
#[case(r#"{"n":1}"#, Reason::NoTable)]
#[case("{}", Reason::NoTable)]
#[case(r#"{"table":null}"#, Reason::NoTable)]
#[case(r#"{"Table":"a"}"#, Reason::NoTable)]
#[case(r#"{"n":{"table":"a"}}"#, Reason::NoTable)]
#[case(r#"{"table":7}"#, Reason::InvalidTable)]
#[case(r#"{"table":["a"]}"#, Reason::InvalidTable)]
#[case(r#"{"table":""}"#, Reason::InvalidTable)]
#[case(r#"{"table":"a/b"}"#, Reason::InvalidTable)]
#[case(r#"{"table":".."}"#, Reason::InvalidTable)]
#[case(r#"{"table":"café"}"#, Reason::InvalidTable)]
#[case(r#"{"table":" a"}"#, Reason::InvalidTable)]
#[case(r#"{"table":"spillway_ledger"}"#, Reason::InvalidTable)]
#[case(r#"{"table":"Spillway_Ledger_Attempts"}"#, Reason::InvalidTable)]
#[case(r#"{"table":"a"}{"table":"b"}"#, Reason::SeveralTables)]
fn record_without_one_valid_table_fails(#[case] data: &str, #[case] expected: Reason) {
    assert_eq!(reason(data, &rules()).0, expected);
}

#[rstest]
#[case(r#"{"table":"a","n":1}"#)]
#[case(r#"{"table":"a","id":1}"#)]
#[case(r#"{"table":"a","id":null,"at":1}"#)]
#[case(r#"{"table":"a","ID":1,"at":1}"#)]
#[case(r#"{"table":"a","n":{"id":1},"at":1}"#)]
#[case(r#"{"table":"a","id":1,"at":2}{"table":"a","id":1}"#)]
fn event_without_its_key_fails(#[case] data: &str) {
    let rules = EventRules { key_fields: vec!["id".into(), "at".into()], ..rules() };
    assert_eq!(reason(data, &rules).0, Reason::NoKey);
    assert!(read(br#"{"table":"a","id":"","at":0}"#, &rules).is_ok());
}

#[rstest]
#[case(r#"{"table":"a","s":"x\u0000y"}"#)]
#[case(r#"{"table":"a","s":"\\\u0000"}"#)]
#[case(r#"{"table":"a","n":[{"s":"\u0000"}]}"#)]
#[case(r#"{"table":"a","\u0000":1}"#)]
fn event_with_a_nul_character_fails(#[case] data: &str) {
    assert_eq!(reason(data, &rules()).0, Reason::NulCharacter);
}

#[rstest]
#[case(r#"{"table":"a","qty":1,"Qty":2}"#)]
#[case(r#"{"Table":"b","table":"a"}"#)]
#[case(r#"{"table":"a","qty":1,"qty ":2}"#)]
fn event_with_similar_names_fails(#[case] data: &str) {
    assert_eq!(reason(data, &rules()).0, Reason::SimilarNames);
}

#[test]
fn empty_and_nested_names_are_not_similar() {
    assert_eq!(events(r#"{"table":"a","":1,"n":{"N":1},"qty_2":1,"qty":1}"#).2, 1);
}

#[test]
fn backslash_before_u0000_is_a_text() {
    assert_eq!(events(r#"{"table":"a","s":"\\u0000"}"#).2, 1);
}

#[test]
fn event_has_at_most_500_fields() {
    let event = |fields: usize| {
        let fields: String = (1..fields).map(|number| format!(",\"f{number}\":1")).collect();
        format!("{{\"table\":\"a\"{fields}}}")
    };
    assert_eq!(events(event(MAX_FIELDS)).2, 1);
    for fields in [MAX_FIELDS + 1, 2_000] {
        assert_eq!(reason(event(fields), &rules()).0, Reason::TooManyFields);
    }
    let few = ReadLimits { max_columns: 5, ..rules().limits };
    assert_eq!(reason(event(6), &EventRules { limits: few, ..rules() }).0, Reason::TooManyFields);
}

#[test]
fn table_name_has_at_most_63_bytes() {
    let event = |bytes: usize| format!("{{\"table\":\"{}\"}}", "a".repeat(bytes));
    assert_eq!(events(event(63)).0.len(), 63);
    assert_eq!(reason(event(64), &rules()).0, Reason::InvalidTable);
}

#[test]
fn only_listed_tables_are_accepted() {
    let rules = EventRules { tables: Some(vec!["orders".into()]), table_field: "kind".into(), ..rules() };
    assert!(read(br#"{"kind":"Orders"}"#, &rules).is_ok());
    assert_eq!(reason(r#"{"kind":"other"}"#, &rules).0, Reason::UnknownTable);
}

#[test]
fn failure_shows_no_value() {
    let rules = EventRules { key_fields: vec!["id".into()], ..rules() };
    for data in [
        r#"{"table":"s3cret/x"}"#,
        r#"{"table":"a","s3cret":"s3cret"#,
        r#"{"table":"a","n":s3cret}"#,
        r#"{"table":"a","s3cret":1,"s3cret":2}"#,
        r#"{"table":"a","s3cret":"\u0000"}"#,
        r#"{"table":"a","s3cret":1}"#,
    ] {
        let (_, detail) = reason(data, &rules);
        assert!(!detail.contains("s3cret"), "{detail}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_a_failure(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&data, &rules());
    }

    #[test]
    fn valid_objects_are_delivered_one_per_line(
        values in prop::collection::vec("\\PC{0,12}", 1..6), between in "[ \t\r\n]{0,3}",
    ) {
        let objects: Vec<_> = values.iter().map(|value| serde_json::json!({"table": "a", "value": value})).collect();
        let texts: Vec<String> = objects.iter().map(|object| format!("{object:#}")).collect();
        let (_, lines, count) = events(texts.join(&between));
        prop_assert_eq!(count as usize, objects.len());
        let read: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        prop_assert_eq!(read, objects);
    }
}
