//! Objects whose members are columns.

use proptest::prelude::*;
use rstest::rstest;

use super::properties::value;
use super::*;

const WIDE: ReadLimits = ReadLimits { max_record_bytes: 1 << 20, max_columns: 10_000, ..LIMITS };

fn decoder(limits: ReadLimits, flatten_depth: usize) -> JsonDecoder {
    JsonDecoder::new(limits).with_options(&JsonOptions { flatten_depth, ..JsonOptions::default() })
}

fn flattened(file: &str, depth: usize) -> Result<Content> {
    let (keys, rows) = read_with(decoder(WIDE, depth), file.as_bytes(), usize::MAX)?;
    let options = JsonOptions { flatten_depth: depth, ..JsonOptions::default() };
    // A later pass knows the keys.
    let later = JsonDecoder::with_keys(&keys, WIDE).with_options(&options);
    let (later_keys, later_rows) = read_with(later, file.as_bytes(), 3)?;
    assert_eq!(later_keys, keys);
    for ((_, row), (_, later)) in rows.iter().zip(&later_rows) {
        assert_eq!(row[..], later[..row.len()]);
        assert!(later[row.len()..].iter().all(|field| field == "-"));
    }
    Ok((later_keys, later_rows))
}

/// A file, a depth, the columns and the fields of each record.
#[rstest]
#[case::off("{\"a\":{\"b\":1}}", 0, "a", &["n{\"b\":1}"])]
#[case::one_level("{\"a\":{\"b\":1,\"c\":{\"d\":2}},\"e\":[{\"f\":3}]}", 1, "a_b a_c e", &["p1 n{\"d\":2} n[{\"f\":3}]"])]
#[case::two_levels("{\"a\":{\"b\":1,\"c\":{\"d\":{}}}}", 2, "a_b a_c_d", &["p1 n{}"])]
#[case::enough_levels("{\"a\":{\"b\":{\"c\":{\"d\":\"x\"}}}}", 9, "a_b_c_d", &["sx"])]
#[case::keys_come_late("{\"a\":{\"b\":1}}\n{\"a\":{\"c\":2},\"d\":3}", 1, "a_b a_c d", &["p1 - -", "- p2 p3"])]
#[case::null_for_an_object("{\"a\":null,\"i\":1}\n{\"a\":{\"b\":1}}\n{\"a\":null}", 1, "i a_b", &["p1 -", "- p1", "- -"])]
#[case::value_for_an_object("{\"a\":{\"b\":1}}\n{\"a\":7}\n{\"a\":null}", 1, "a_b a", &["p1 -", "- p7", "- -"])]
#[case::empty_object("{\"a\":{},\"i\":1}", 1, "i", &["p1"])]
#[case::escaped_keys("{\"\\u0061\":{\"\\u0062\":\"\\n\"}}", 1, "a_b", &["s\n"])]
#[case::not_finite("{\"a\":{\"b\":NaN,\"c\":-Infinity}}", 1, "a_b a_c", &["- s-Infinity"])]
#[case::empty_keys("{\"\":{\"\":{\"\":1}}}", 2, "__", &["p1"])]
#[case::same_name_in_another_case("{\"a\":{\"b\":1},\"A_B\":2}", 1, "a_b A_B", &["p1 p2"])]
#[case::same_name_of_objects("{\"a_b\":{\"x\":1},\"a\":{\"b\":{\"y\":2}}}", 2, "a_b_x a_b_y", &["p1 p2"])]
fn members_of_objects_are_columns(
    #[case] file: &str,
    #[case] depth: usize,
    #[case] columns: &str,
    #[case] records: &[&str],
) {
    let (keys, rows) = flattened(file, depth).unwrap();
    assert_eq!(keys.join(" "), columns);
    let rows: Vec<String> = rows.into_iter().map(|(_, fields)| fields.join(" ")).collect();
    assert_eq!(rows, records);
}

#[rstest]
#[case::two_paths("{\"a_b\":1,\"a\":{\"b\":2}}", "the keys \"a_b\" and \"a.b\" both have the column \"a_b\"")]
#[case::in_another_record("{\"a\":{\"b_c\":1}}\n{\"a_b\":{\"c\":2}}", "the keys \"a.b_c\" and \"a_b.c\" both have")]
#[case::repeated_value("{\"a\":{\"b\":1,\"b\":2}}", "the key \"a.b\" occurs twice")]
#[case::repeated_object("{\"a\":{\"b\":1},\"a\":{\"c\":2}}", "the key \"a\" occurs twice")]
#[case::object_and_value("{\"a\":{\"b\":1},\"a\":2}", "the key \"a\" occurs twice")]
#[case::value_and_object("{\"a\":2,\"a\":{\"b\":1}}", "the key \"a\" occurs twice")]
#[case::null_and_object("{\"a\":null,\"a\":{\"b\":1}}", "the key \"a\" occurs twice")]
#[case::two_nulls("{\"a\":null,\"a\":null}", "the key \"a\" occurs twice")]
#[case::nested_nan("{\"a\":{\"b\":[NaN]}}", "contains NaN")]
#[case::not_json("{\"a\":{\"b\":x}}", "not valid JSON")]
fn ambiguous_keys_are_rejected(#[case] file: &str, #[case] words: &str) {
    let error = flattened(file, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn keys_of_objects_are_limited() {
    let file: String = (0..101).map(|key| format!("{{\"k{key}\":{{}}}}\n")).collect();
    let error = read_with(decoder(LIMITS, 1), file.as_bytes(), usize::MAX).unwrap_err();
    assert!(error.to_string().contains("more than 100 different keys"), "{error}");
}

#[test]
fn bad_record_leaves_no_keys() {
    let limits = ReadLimits { rejects: RejectLimit::Count(9), ..LIMITS };
    let options = JsonOptions { flatten_depth: 1, ..JsonOptions::default() };
    let mut decoder = JsonDecoder::new(limits).with_options(&options);
    decoder.push(b"{\"a\":{\"b\":1}}\n{\"x\":{\"y\":1,\"y\":2}}\n{\"x\":{\"y\":3}}\n{\"a_b\":4}\n").unwrap();
    decoder.finish().unwrap();
    assert_eq!(decoder.keys(), ["a_b", "x_y"]);
    let reasons: Vec<String> = decoder.take_rejects().into_iter().map(|reject| reject.reason).collect();
    assert!(reasons[0].contains("occurs twice") && reasons[1].contains("both have the column"), "{reasons:?}");
}

proptest! {
    /// With enough levels, each value that is not an object is in the column of its path.
    #[test]
    fn every_value_is_in_the_column_of_its_path(
        records in prop::collection::vec(prop::collection::hash_map("[a-d]{1,2}", value(), 0..4), 1..5),
    ) {
        fn collect(path: &str, value: &serde_json::Value, found: &mut Vec<(String, String)>) {
            match value {
                serde_json::Value::Object(members) => members.iter().for_each(|(key, value)| {
                    collect(&format!("{path}_{key}"), value, found);
                }),
                serde_json::Value::Null => {}
                serde_json::Value::String(text) => found.push((path.to_owned(), format!("s{text}"))),
                serde_json::Value::Array(_) => found.push((path.to_owned(), format!("n{value}"))),
                scalar => found.push((path.to_owned(), format!("p{scalar}"))),
            }
        }
        let records: Vec<serde_json::Map<_, _>> = records.into_iter().map(|record| record.into_iter().collect()).collect();
        let file: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        // No key contains an underscore, so no two paths have the same name.
        let (keys, rows) = flattened(&file, 9).unwrap();
        for (record, (_, row)) in records.iter().zip(rows) {
            let mut expected = Vec::new();
            record.iter().for_each(|(key, value)| collect(key, value, &mut expected));
            let mut found: Vec<(String, String)> =
                keys.iter().cloned().zip(row).filter(|(_, field)| field != "-").collect();
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}

/// If the later pass accepted other records, rows would be lost or stored twice.
#[rstest]
#[case::null_at_another_path("{\"user_id\":null,\"user\":{\"id\":5}}\n{\"user_id\":7}\n", "p5")]
#[case::value_before_an_object("{\"a_b\":1}\n{\"a\":{\"b\":2}}\n", "p1")]
fn later_pass_rejects_the_same_records(#[case] file: &str, #[case] accepted: &str) {
    let limits = ReadLimits { rejects: RejectLimit::Count(9), ..WIDE };
    let mut first = decoder(limits, 1);
    first.push(file.as_bytes()).unwrap();
    first.finish().unwrap();
    assert_eq!(first.take_rejects().len(), 1);
    let options = JsonOptions { flatten_depth: 1, ..JsonOptions::default() };
    let later = JsonDecoder::with_keys(first.keys(), limits).with_options(&options).with_joins(first.joins());
    let (_, rows) = read_with(later, file.as_bytes(), 3).unwrap();
    let fields: Vec<String> = rows.into_iter().map(|(_, fields)| fields.join(" ")).collect();
    assert_eq!(fields, [accepted]);
}
