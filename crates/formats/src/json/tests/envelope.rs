//! Records in an array within a document (`JSON_RECORDS`).

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn decoder(path: &str) -> JsonDecoder {
    JsonDecoder::new(LIMITS)
        .with_options(&JsonOptions { records_path: Some(RecordsPath::parse(path).unwrap()), ..JsonOptions::default() })
}

/// Reads a file in chunks of every size, with the same result.
fn read_at(path: &str, file: &str) -> Result<Content> {
    let whole = read_with(decoder(path), file.as_bytes(), usize::MAX);
    for chunk_bytes in 1..file.len() {
        let split = read_with(decoder(path), file.as_bytes(), chunk_bytes);
        assert_eq!(
            split.map_err(|error| error.to_string()),
            whole.as_ref().map(Clone::clone).map_err(ToString::to_string)
        );
    }
    whole
}

#[rstest]
#[case::only_key("data", "{\"data\":[{\"a\":1},{\"a\":2}]}")]
#[case::with_root("$.data", "{\"data\":[{\"a\":1},{\"a\":2}]}\n")]
#[case::among_others(
    "data",
    "{\"meta\": {\"data\": [{\"a\":0}], \"n\": [[1, {}]]}, \"s\": \"\\\"}]{[\", \"data\" : [ {\"a\":1} ,\n{\"a\":2} ] , \"next\": null, \"x\": -1.5e3}"
)]
#[case::deeper(
    "a.b.c",
    "{\"z\":{},\"a\":{\"c\":[{\"a\":0}],\"b\":{\"x\":1,\"c\":[{\"a\":1},{\"a\":2}],\"y\":{\"c\":[]}}},\"b\":{}}"
)]
#[case::escaped_key("d\u{e4}ta", "{\"d\\u00e4t\\u0061\":[{\"a\":1},{\"a\":2}]}")]
#[case::several_documents("Records", "{\"Records\":[{\"a\":1}]}\n{\"x\":1,\"Records\":[]}{\"Records\":[{\"a\":2}]}")]
#[case::longer_key_before(
    "data",
    "{\"data_data_data_data_data_data\":[{\"a\":0}],\"dat\":1,\"data\":[{\"a\":1},{\"a\":2}]}"
)]
fn records_within_a_document_are_read(#[case] path: &str, #[case] file: &str) {
    let (keys, rows) = read_at(path, file).unwrap();
    let fields: Vec<Vec<String>> = rows.into_iter().map(|(_, fields)| fields).collect();
    assert_eq!((keys, fields), (vec!["a".to_owned()], vec![vec!["p1".to_owned()], vec!["p2".to_owned()]]));
}

#[test]
fn second_pass_returns_the_same_rows_and_positions() {
    let file = "{\"n\":2,\n\"data\":[{\"a\":1},\n{\"b\":2}]}";
    let options = JsonOptions { records_path: RecordsPath::parse("data"), ..JsonOptions::default() };
    let keys = ["a", "b"].map(str::to_owned);
    let (_, rows) =
        read_with(JsonDecoder::with_keys(&keys, LIMITS).with_options(&options), file.as_bytes(), 3).unwrap();
    let positions: Vec<&str> = rows.iter().map(|(position, _)| position.as_str()).collect();
    assert_eq!(positions, ["record 1, line 2, byte 16", "record 2, line 3, byte 25"]);
    assert_eq!(rows[1].1, ["-", "p2"]);
}

#[rstest]
#[case::empty_file("")]
#[case::white_space(" \n")]
#[case::empty_array("{\"data\": [ ]}")]
fn file_without_records_is_empty(#[case] file: &str) {
    assert_eq!(read_at("data", file).unwrap(), (Vec::new(), Vec::new()));
}

#[rstest]
#[case::missing(
    "{\"date\":[]}",
    "no array at $.data (JSON_RECORDS): it lacks the key \"data\" (record 1, line 1, byte 10)"
)]
#[case::no_members("{}", "lacks the key \"data\"")]
#[case::object(
    "{\"data\":{}}",
    "no array at $.data (JSON_RECORDS): it has another value there (record 1, line 1, byte 8)"
)]
#[case::null("{\"data\":null}", "it has another value there")]
#[case::array("[{\"data\":[]}]", "it is not an object")]
#[case::scalar("7", "it is not an object")]
#[case::missing_in_the_second(
    "{\"data\":[{\"a\":1}]}\n{\"a\":2}",
    "lacks the key \"data\" (record 2, line 2, byte 25)"
)]
#[case::twice("{\"data\":[],\"data\":[]}", "the key \"data\" of $.data (JSON_RECORDS) twice")]
#[case::no_colon("{\"data\"[]}", "a colon is missing")]
#[case::no_comma("{\"data\":[] \"b\":1}", "a comma or a closing brace is missing")]
#[case::no_key("{\"data\":[],}", "a key is missing")]
#[case::wrong_bracket("{\"x\":[{]],\"data\":[]}", "a closing bracket does not match the open one")]
#[case::wrong_end("{\"data\":[]]", "a comma or a closing brace is missing")]
#[case::cut_before("{\"x\":[1,2", "ends within the document around the records")]
#[case::cut_after("{\"data\":[{\"a\":1}]", "ends within the document around the records")]
#[case::cut_in_a_key("{\"da", "ends within the document around the records")]
#[case::cut_in_the_array("{\"data\":[{\"a\":1},", "before the array's closing bracket")]
#[case::no_object("{\"data\":[7]}", "the record is not an object (record 1, line 1, byte 9)")]
#[case::text_after("{\"data\":[]} x", "it is not an object")]
fn document_without_the_array_is_rejected(#[case] file: &str, #[case] words: &str) {
    let error = read_at("data", file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn path_must_lead_through_objects() {
    for file in ["{\"a\":[{\"b\":[]}]}", "{\"a\":1}", "{\"a\":\"b\"}"] {
        let error = read_at("a.b", file).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no array at $.a.b (JSON_RECORDS): it has a value that is not an object on this path"),
            "{error}"
        );
    }
    let error = read_at("a.b", "{\"a\":{\"c\":[]},\"b\":[]}").unwrap_err();
    assert!(error.to_string().contains("lacks the key \"b\""), "{error}");
}

#[test]
fn nesting_around_the_records_is_limited() {
    let error = read_at("data", &format!("{{\"x\":{}", "[".repeat(200))).unwrap_err();
    assert!(error.to_string().contains("nested more than 100 deep in the document"), "{error}");
}

#[test]
fn memory_does_not_depend_on_the_skipped_text() {
    let mut decoder = decoder("data");
    let piece = vec![b'x'; 64 * 1024];
    for start in ["{\"text\":\"", "\",\"", "\":1,\"list\":[\""] {
        decoder.push(start.as_bytes()).unwrap();
        for _ in 0..100 {
            decoder.push(&piece).unwrap();
        }
        assert!(decoder.frames.memory_bytes() < 100_000, "{}", decoder.frames.memory_bytes());
    }
    decoder.push(b"\"],\"data\":[{\"a\":1}]}").unwrap();
    decoder.finish().unwrap();
    assert_eq!(decoder.take_batch().unwrap().rows(), 1);
}

#[test]
fn bad_record_within_a_document_is_rejected_alone() {
    let limits = ReadLimits { rejects: RejectLimit::Count(9), ..LIMITS };
    let options = JsonOptions { records_path: RecordsPath::parse("data"), ..JsonOptions::default() };
    let mut decoder = JsonDecoder::new(limits).with_options(&options);
    decoder.push(b"{\"data\":[{\"a\":1},\n{\"a\":x},{\"a\":3}],\"n\":3}").unwrap();
    decoder.finish().unwrap();
    assert_eq!((decoder.take_batch().unwrap().rows(), decoder.take_rejects().len()), (2, 1));
}

#[rstest]
#[case::array_of_objects("{\"count\":2,\"items\":[ {\"a\":1},{\"a\":2}],\"tags\":[1]}", Some("items"))]
#[case::two_arrays("{\"a\":[{}],\"b\":[{}]}", None)]
#[case::no_objects("{\"a\":[1],\"b\":[]}", None)]
#[case::two_records("{\"a\":[{}]}\n{\"a\":[{}]}", None)]
#[case::in_an_array("[{\"a\":[{}]}]", None)]
fn document_around_records_is_suspected(#[case] file: &str, #[case] expected: Option<&str>) {
    for chunk_bytes in [1, 5, 1000] {
        let mut decoder = JsonDecoder::new(LIMITS);
        file.as_bytes().chunks(chunk_bytes).for_each(|chunk| decoder.push(chunk).unwrap());
        decoder.finish().unwrap();
        assert_eq!(decoder.records_hint(), expected);
    }
}

proptest! {
    /// The records are the same with a document around them, whatever else it contains.
    #[test]
    fn any_document_gives_the_records_of_its_array(
        before in prop::collection::btree_map("[a-c\"\\\\]{0,3}", super::properties::value(), 0..4),
        after in prop::collection::btree_map("[d-f\u{e9}]{1,3}", super::properties::value(), 0..4),
        records in prop::collection::vec(prop::collection::btree_map("[a-c]{1,2}", super::properties::value(), 0..4), 0..5),
        chunk_bytes in 1..60usize,
    ) {
        let member = |(key, value): (&String, &serde_json::Value)| {
            format!("{}:{value}", serde_json::Value::from(key.as_str()))
        };
        let array = serde_json::to_string(&records).unwrap();
        let mut members: Vec<String> = before.iter().map(member).collect();
        members.push(format!("\"the records\" : {array}"));
        members.extend(after.iter().map(member));
        let file = format!("{{{}}}", members.join(",\n"));
        let (keys, rows) = read_with(decoder("the records"), file.as_bytes(), chunk_bytes).unwrap();
        let (expected_keys, expected_rows) = read(array.as_bytes()).unwrap();
        prop_assert_eq!(keys, expected_keys);
        let fields = |rows: Vec<(String, Vec<String>)>| rows.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>();
        prop_assert_eq!(fields(rows), fields(expected_rows));
    }

    /// The reader never panics, and chunks do not change the result.
    #[test]
    fn any_document_is_read_or_rejected(
        file in prop_oneof!["[{}\\[\\]\",:\\\\ a1]{0,40}", "\\{(\"[ab]\":([1a]|\\[\\]|\\{\"b\":\\[(\\{\\},?)*\\]\\}),?){0,4}\\}"],
        chunk_bytes in 1..20usize,
    ) {
        let whole = read_with(decoder("a.b"), file.as_bytes(), usize::MAX).map_err(|error| error.to_string());
        let split = read_with(decoder("a.b"), file.as_bytes(), chunk_bytes).map_err(|error| error.to_string());
        prop_assert_eq!(split, whole);
    }
}
