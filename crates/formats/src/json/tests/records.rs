//! Records, keys and values.

use rstest::rstest;

use super::*;

const LINES: &str = "{\"id\": 1, \"name\": \"Zoë\\n\\\"\\u00e9\\ud83e\\udd80\", \"tags\": [1, {\"a\\\"}\": \"]\"}]}\r\n\n  \
     {\"name\":null,\"id\":-0.10}\n{}\n{\"id\":2,\"late\" : true ,\"\":\"NULL\"}";

#[test]
fn lines_are_records_and_keys_may_be_late() {
    let (keys, rows) = read(LINES.as_bytes()).unwrap();
    assert_eq!(keys, ["id", "name", "tags", "late", ""]);
    let rows: Vec<(&str, Vec<&str>)> =
        rows.iter().map(|(position, row)| (position.as_str(), row.iter().map(String::as_str).collect())).collect();
    let expected: [(&str, Vec<&str>); 4] = [
        ("record 1, line 1, byte 0", vec!["p1", "sZoë\n\"é🦀", "n[1, {\"a\\\"}\": \"]\"}]"]),
        ("record 2, line 3, byte 80", vec!["p-0.10", "-", "-"]),
        ("record 3, line 4, byte 105", vec!["-", "-", "-"]),
        ("record 4, line 5, byte 108", vec!["p2", "-", "-", "ptrue", "sNULL"]),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn known_keys_make_all_rows_equally_wide() {
    let (keys, _) = read(LINES.as_bytes()).unwrap();
    let (second_keys, rows) = read_with(JsonDecoder::with_keys(&keys, LIMITS), LINES.as_bytes(), usize::MAX).unwrap();
    assert_eq!(second_keys, keys);
    assert!(rows.iter().all(|(_, fields)| fields.len() == 5), "{rows:?}");
    assert_eq!(rows[3].1, ["p2", "-", "-", "ptrue", "sNULL"]);
    let other = read_with(JsonDecoder::with_keys(&["id".to_owned()], LIMITS), LINES.as_bytes(), usize::MAX);
    assert!(other.unwrap_err().to_string().contains("was absent when the file was read before"));
}

#[rstest]
#[case::lines("{\"a\":1}\n{\"a\":2}\n")]
#[case::end_mark("{\"a\":1}\n{\"a\":2}\n\u{1a}")]
#[case::no_last_line_end("{\"a\":1}\n{\"a\":2}")]
#[case::array("[{\"a\":1},{\"a\":2}]")]
#[case::pretty_array("\n[\n  {\n    \"a\": 1\n  },\n  { \"a\": 2 }\n]\n\n")]
#[case::pretty_objects("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n")]
#[case::adjacent("{\"a\":1}{\"a\":2}")]
#[case::byte_order_mark("\u{feff}{\"a\":1}\n{\"a\":2}")]
fn layout_of_the_objects_is_detected(#[case] file: &str) {
    assert_eq!(fields(file), [["p1"], ["p2"]]);
}

#[test]
fn one_object_is_one_record() {
    assert_eq!(fields("{\n  \"a\": \"x\",\n  \"b\": null\n}\n"), [["sx", "-"]]);
}

#[rstest]
#[case("")]
#[case("\n \t\r\n")]
#[case("\u{feff}")]
#[case("[]")]
#[case(" [\n] ")]
fn file_without_records_is_empty(#[case] file: &str) {
    assert_eq!(read(file.as_bytes()).unwrap(), (Vec::new(), Vec::new()));
}

#[test]
fn numbers_and_nested_values_keep_their_spelling() {
    let file =
        "{\"a\":9007199254740993,\"b\":1e400,\"c\":0.10,\"d\":-0,\"e\":1E+2,\"f\":{ \"x\" : 1.0 ,\n\"x\":2},\"g\":[ ]}";
    assert_eq!(
        fields(file),
        [["p9007199254740993", "p1e400", "p0.10", "p-0", "p1E+2", "n{ \"x\" : 1.0 ,\n\"x\":2}", "n[ ]"]]
    );
}

/// As Python's `json.dumps` writes it.
#[test]
fn nan_is_a_missing_value() {
    let file = "{\"a\": NaN, \"b\": \"NaN\", \"c\": [\"NaN\"]}\n{\"a\":1,\"b\":NaN}\n{\"late\":NaN,\"a\":\"x\"}";
    for chunk_bytes in 1..file.len() {
        let (keys, rows) = read_with(JsonDecoder::new(LIMITS), file.as_bytes(), chunk_bytes).unwrap();
        assert_eq!(keys, ["a", "b", "c", "late"]);
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
        assert_eq!(rows, [vec!["-", "sNaN", "n[\"NaN\"]"], vec!["p1", "-", "-"], vec!["sx", "-", "-", "-"]]);
    }
    assert_eq!(fields("[{\"a\":NaN},{\"a\":-0.5}]"), [["-"], ["p-0.5"]]);
}

/// As Python's `json.dumps` writes them. A string makes a new column text, as in Parquet.
#[test]
fn infinite_numbers_are_strings() {
    let file = "{\"a\": Infinity, \"b\": [1]}\n{\"a\": -Infinity}\n{\"a\":1.5}";
    assert_eq!(fields(file), [vec!["sInfinity", "n[1]"], vec!["s-Infinity", "-"], vec!["p1.5", "-"]]);
}

#[test]
fn string_may_contain_any_character() {
    assert_eq!(fields("{\"a\":\"\\u0000\",\"b\":\"\",\"c\":\"{[\\\\\\\"\"}"), [["s\u{0}", "s", "s{[\\\""]]);
}

#[test]
fn utf16_with_a_byte_order_mark_is_read() {
    for (mark, is_big_endian) in [([0xff, 0xfe], false), ([0xfe, 0xff], true)] {
        let mut file = mark.to_vec();
        for unit in "{\"ä\":\"🦀\"}\n{\"ä\":2}".encode_utf16() {
            file.extend(if is_big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() });
        }
        for chunk_bytes in 1..9 {
            let (keys, rows) = read_with(JsonDecoder::new(LIMITS), &file, chunk_bytes).unwrap();
            assert_eq!((keys[0].as_str(), rows[0].1[0].as_str(), rows[1].1[0].as_str()), ("ä", "s🦀", "p2"));
        }
    }
}

#[test]
fn utf16_without_a_byte_order_mark_is_read() {
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let text = "{\"a\":\"ä\",\"b\":[1, 2, 3, 4, 5, 6, 7]}\n{\"a\":\"🦀\"}";
        let file: Vec<u8> = text.encode_utf16().flat_map(to_bytes).collect();
        for chunk_bytes in 1..9 {
            let (keys, rows) = read_with(JsonDecoder::new(LIMITS), &file, chunk_bytes).unwrap();
            assert_eq!((keys[0].as_str(), rows[0].1[0].as_str(), rows[1].1[0].as_str()), ("a", "sä", "s🦀"));
        }
    }
}

#[test]
fn chunks_do_not_change_the_result() {
    let array = "[ {\"a\": \"\\\"\\u00e9ü🦀\\\\\", \"b\": [[], {\"x\": null}]} ,\n{\"b\": -1.5e3}\n ]\n";
    for file in [LINES, array] {
        let whole = read(file.as_bytes()).unwrap();
        for cut in 0..=file.len() {
            let mut decoder = JsonDecoder::new(LIMITS);
            decoder.push(&file.as_bytes()[..cut]).unwrap();
            let rest = read_with(decoder, &file.as_bytes()[cut..], usize::MAX).unwrap();
            assert_eq!(rest, whole, "cut at {cut}");
        }
        for chunk_bytes in 1..40 {
            assert_eq!(read_with(JsonDecoder::new(LIMITS), file.as_bytes(), chunk_bytes).unwrap(), whole);
        }
    }
}

#[test]
fn lines_are_counted_as_an_editor_shows_them() {
    for (file, expected) in [
        ("", 0),
        ("{\"a\": 1}", 1),
        ("{\"a\": 1}\n", 1),
        ("{\"a\": 1}\n{\"a\": 2}\n", 2),
        ("{\"a\": 1}{\"a\": 2}\n", 1),
        ("[\n{\"a\": 1},\n{\"a\": 2}\n]\n", 4),
        ("{\n  \"a\": 1\n}", 3),
        ("{\"a\": 1}\n\n", 2),
    ] {
        let mut decoder = JsonDecoder::new(LIMITS);
        decoder.push(file.as_bytes()).unwrap();
        decoder.finish().unwrap();
        assert_eq!(decoder.lines(file.as_bytes().last().copied()), expected, "{file:?}");
    }
}
