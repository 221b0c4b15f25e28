//! Files as they come, whole and cut at every byte; files that are broken, each with its place; and memory.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::compression::DecodedLimits;
use crate::reject::RejectLimit;
use crate::schema::value::json::MAX_DEPTH;
use crate::{Error, ErrorKind, FieldKind};

const LIMITS: ReadLimits = ReadLimits {
    max_record_bytes: 4096,
    max_columns: 100,
    decoded: DecodedLimits { max_bytes: 0, max_ratio: 0 },
    rejects: RejectLimit::Count(0),
};

/// What a file gives: its keys, and per row the place and the fields as they are shown below.
type Read = (Vec<String>, Vec<(String, Vec<String>)>);

fn read_with(mut decoder: JsonDecoder, file: &[u8], chunk_bytes: usize) -> Result<Read> {
    let mut batches = Vec::new();
    for chunk in file.chunks(chunk_bytes.max(1)) {
        decoder.push(chunk)?;
        batches.extend(std::iter::from_fn(|| decoder.take_batch()));
    }
    decoder.finish()?;
    batches.extend(std::iter::from_fn(|| decoder.take_batch()));
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.rows()).map(|row| {
            let fields = (0..batch.width()).map(|column| shown(batch, row, column)).collect();
            (batch.position(row).to_string(), fields)
        })
    });
    Ok((decoder.keys().to_vec(), rows.collect()))
}

/// `-` for missing, else a letter for the kind and the bytes.
fn shown(batch: &Batch, row: usize, column: usize) -> String {
    let Some(field) = batch.field(row, column) else { return "-".to_owned() };
    let kind = match batch.kind(row, column) {
        FieldKind::Plain => 'p',
        FieldKind::String => 's',
        FieldKind::Nested => 'n',
    };
    format!("{kind}{}", String::from_utf8_lossy(field))
}

fn read(file: &[u8]) -> Result<Read> {
    read_with(JsonDecoder::new(LIMITS), file, usize::MAX)
}

/// The fields alone.
fn fields(file: &str) -> Vec<Vec<String>> {
    read(file.as_bytes()).unwrap().1.into_iter().map(|(_, fields)| fields).collect()
}

fn rejection(file: &[u8]) -> Error {
    read(file).expect_err("a broken file")
}

/// Good rows' fields, and the bad records as they are cut out of the file, each with what is wrong.
fn read_but_for_rejects(file: &str, chunk_bytes: usize) -> Result<(Read, Vec<(String, String)>)> {
    let limits = ReadLimits { rejects: RejectLimit::Count(9), ..LIMITS };
    let mut first = JsonDecoder::new(limits);
    let mut rejects = Vec::new();
    let mut rows = Vec::new();
    for chunk in file.as_bytes().chunks(chunk_bytes) {
        first.push(chunk)?;
        rejects.append(&mut first.take_rejects());
        rows.extend(std::iter::from_fn(|| first.take_batch()));
    }
    first.finish()?;
    rejects.append(&mut first.take_rejects());
    let mut again = JsonDecoder::with_keys(first.keys(), limits);
    again.find_records(rejects.iter().map(|reject| reject.position.byte).collect());
    let read = read_with(JsonDecoder::with_keys(first.keys(), limits), file.as_bytes(), chunk_bytes)?;
    again.push(file.as_bytes())?;
    again.finish()?;
    let cut =
        again.take_found_records().into_iter().map(|range| file[range.start as usize..range.end as usize].to_owned());
    Ok((read, cut.zip(rejects.into_iter().map(|reject| reject.reason)).collect()))
}

#[test]
fn bad_lines_are_left_out_and_cut_as_they_are_wherever_the_file_is_cut() {
    let bad = [
        "{\"a\": 2, \"b\": [1, 2}\r\n",
        "{\"a\": 3, \"only here\": \"cut off\n",
        "[\"no object\"]\n",
        "{\"a\": 4, \"a\": 5}",
        "oops {\"a\": 6}\n",
        "{\"a\": 7",
    ];
    let file = format!(
        "{{\"a\": 1}}\n{}{}{}\n{{\"a\": 8, \"late\": true}}\n{} \n{}{{\"a\": 9}}\n{}",
        bad[0], bad[1], bad[2], bad[3], bad[4], bad[5]
    );
    for chunk_bytes in 1..=file.len() {
        let ((keys, rows), cut) = read_but_for_rejects(&file, chunk_bytes).unwrap();
        assert_eq!(keys, ["a", "late"]);
        let fields: Vec<Vec<String>> = rows.into_iter().map(|(_, fields)| fields).collect();
        assert_eq!(fields, [["p1", "-"], ["p8", "ptrue"], ["p9", "-"]]);
        let records: Vec<&str> = cut.iter().map(|(record, _)| record.as_str()).collect();
        assert_eq!(records, bad, "in chunks of {chunk_bytes}");
    }
}

#[test]
fn in_an_array_only_a_record_with_a_certain_end_is_left_out() {
    let ((_, rows), cut) = read_but_for_rejects("[{\"a\": 1}, {\"a\": nope}, {\"a\": 3}]", 5).unwrap();
    assert_eq!((rows.len(), cut.len(), cut[0].0.as_str()), (2, 1, "{\"a\": nope}"));
    assert!(read_but_for_rejects("[{\"a\": 1}, 2, {\"a\": 3}]", 5).is_err());
    // Whether the brace of the second object is one too many, or the first one's is missing, nobody can tell.
    assert!(read_but_for_rejects("{\n\"a\": 1\n}\n{\"a\": [}\n{\"a\": 2}\n", 5).is_err());
}

#[test]
fn more_bad_lines_than_are_allowed_are_an_error() {
    let file = "{\"a\": 1}\n".to_owned() + &"oops\n".repeat(10);
    let error = read_but_for_rejects(&file, 7).expect_err("ten of nine");
    assert!(error.message().contains("MAX_REJECTS"), "{error}");
}

const LINES: &str = "{\"id\": 1, \"name\": \"Zoë\\n\\\"\\u00e9\\ud83e\\udd80\", \"tags\": [1, {\"a\\\"}\": \"]\"}]}\r\n\n  \
     {\"name\":null,\"id\":-0.10}\n{}\n{\"id\":2,\"late\" : true ,\"\":\"NULL\"}";

#[test]
fn lines_are_records_and_keys_may_come_late() {
    let (keys, rows) = read(LINES.as_bytes()).unwrap();
    assert_eq!(keys, ["id", "name", "tags", "late", ""]);
    let rows: Vec<(&str, Vec<&str>)> =
        rows.iter().map(|(place, row)| (place.as_str(), row.iter().map(String::as_str).collect())).collect();
    let expected: [(&str, Vec<&str>); 4] = [
        ("record 1, line 1, byte 0", vec!["p1", "sZoë\n\"é🦀", "n[1, {\"a\\\"}\": \"]\"}]"]),
        ("record 2, line 3, byte 80", vec!["p-0.10", "-", "-"]),
        ("record 3, line 4, byte 105", vec!["-", "-", "-"]),
        ("record 4, line 5, byte 108", vec!["p2", "-", "-", "ptrue", "sNULL"]),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn known_keys_give_rows_of_one_width() {
    let (keys, _) = read(LINES.as_bytes()).unwrap();
    let (again, rows) = read_with(JsonDecoder::with_keys(&keys, LIMITS), LINES.as_bytes(), usize::MAX).unwrap();
    assert_eq!(again, keys);
    assert!(rows.iter().all(|(_, fields)| fields.len() == 5), "{rows:?}");
    assert_eq!(rows[3].1, ["p2", "-", "-", "ptrue", "sNULL"]);
    let other = read_with(JsonDecoder::with_keys(&["id".to_owned()], LIMITS), LINES.as_bytes(), usize::MAX);
    assert!(other.unwrap_err().to_string().contains("was absent when the file was read before"));
}

#[rstest]
#[case::lines("{\"a\":1}\n{\"a\":2}\n")]
#[case::no_last_line_end("{\"a\":1}\n{\"a\":2}")]
#[case::array("[{\"a\":1},{\"a\":2}]")]
#[case::pretty_array("\n[\n  {\n    \"a\": 1\n  },\n  { \"a\": 2 }\n]\n\n")]
#[case::pretty_objects("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n")]
#[case::side_by_side("{\"a\":1}{\"a\":2}")]
#[case::byte_order_mark("\u{feff}{\"a\":1}\n{\"a\":2}")]
fn every_shape_is_found_out(#[case] file: &str) {
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
fn a_file_without_records_is_empty(#[case] file: &str) {
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

#[test]
fn a_string_may_hold_anything() {
    assert_eq!(fields("{\"a\":\"\\u0000\",\"b\":\"\",\"c\":\"{[\\\\\\\"\"}"), [["s\u{0}", "s", "s{[\\\""]]);
}

#[test]
fn utf16_with_a_mark_is_read() {
    for (mark, big) in [([0xff, 0xfe], false), ([0xfe, 0xff], true)] {
        let mut file = mark.to_vec();
        for unit in "{\"ä\":\"🦀\"}\n{\"ä\":2}".encode_utf16() {
            file.extend(if big { unit.to_be_bytes() } else { unit.to_le_bytes() });
        }
        for chunk_bytes in 1..9 {
            let (keys, rows) = read_with(JsonDecoder::new(LIMITS), &file, chunk_bytes).unwrap();
            assert_eq!((keys[0].as_str(), rows[0].1[0].as_str(), rows[1].1[0].as_str()), ("ä", "s🦀", "p2"));
        }
    }
}

/// Broken files, and what is said: where, and a part of the words.
#[rstest]
#[case::truncated("{\"a\":1}\n{\"a\":2", "record 2, line 2, byte 8", "ends within the record")]
#[case::truncated_in_a_string("{\"a\":\"x}\n", "record 1, line 1, byte 0", "a string is never closed")]
#[case::truncated_array("[{\"a\":1},\n{\"a\":2}", "record 3, line 2, byte 17", "before the array's closing bracket")]
#[case::bad_escape("{\"a\":1}\n\n{\"b\":\"\\x\"}", "record 2, line 3, byte 9", "invalid escape at line 3, byte 16")]
#[case::control_character("{\"a\":\"\n\"}", "record 1, line 1, byte 0", "control character")]
#[case::lone_surrogate("{\"a\":\"\\ud800x\"}", "record 1, line 1, byte 0, column a", "half of a surrogate pair")]
#[case::lone_low_surrogate("{\"a\":\"\\udc00\"}", "record 1, line 1, byte 0, column a", "half of a surrogate pair")]
#[case::nested_lone_surrogate(
    "{\"a\":[\"\\\\\\uD83E\\u0041\"]}",
    "record 1, line 1, byte 0, column a",
    "half of a surrogate pair"
)]
#[case::garbage_after_the_array(
    "[{\"a\":1}]\n{}",
    "record 2, line 2, byte 10",
    "continues after the array's closing bracket"
)]
#[case::scalar("{\"a\":1}\n7\n", "record 2, line 2, byte 8", "the record is not an object")]
#[case::null("null\n", "record 1, line 1, byte 0", "neither an object nor an array")]
#[case::null_in_an_array("[{\"a\":1},null]", "record 2, line 1, byte 9", "the record is not an object")]
#[case::array_in_an_array("[[1]]", "record 1, line 1, byte 1", "the record is not an object")]
#[case::text("id,name\n1,x\n", "record 1, line 1, byte 0", "neither an object nor an array")]
#[case::trailing_comma("[{\"a\":1},]", "record 2, line 1, byte 9", "a comma is before the array's closing bracket")]
#[case::trailing_comma_in_an_object("{\"a\":1,}", "record 1, line 1, byte 0", "trailing comma")]
#[case::no_comma("[{\"a\":1} {\"a\":2}]", "record 2, line 1, byte 9", "a comma or")]
#[case::comma_between_lines("{\"a\":1},\n{\"a\":2}", "record 2, line 1, byte 7", "not in an array")]
#[case::nan("{\"a\":NaN}", "record 1, line 1, byte 0", "expected value at line 1, byte 5")]
#[case::infinity("{\"a\":-Infinity}", "record 1, line 1, byte 0", "invalid number")]
#[case::leading_zero("{\"a\":01}", "record 1, line 1, byte 0", "invalid number")]
#[case::single_quotes("{'a':1}", "record 1, line 1, byte 0", "key must be a string")]
#[case::duplicate_key(
    "{\"a\":1,\"b\":2,\n\"\\u0061\":3}",
    "record 1, line 1, byte 0",
    "the key \"a\" occurs twice at line 2"
)]
#[case::wrong_bracket(
    "{\"a\":1}\n{\"a\":[1}",
    "record 2, line 2, byte 8",
    "a closing bracket does not match the open one at line 2, byte 15"
)]
fn a_broken_file_is_refused_with_its_place(#[case] file: &str, #[case] place: &str, #[case] words: &str) {
    let error = rejection(file.as_bytes());
    let told = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{told}");
    assert!(told.contains(words) && told.ends_with(&format!("({place})")), "{told}");
    for chunk_bytes in 1..file.len() {
        let split = read_with(JsonDecoder::new(LIMITS), file.as_bytes(), chunk_bytes).unwrap_err();
        assert_eq!(split.to_string(), told, "in chunks of {chunk_bytes}");
    }
}

#[test]
fn what_is_not_utf8_is_refused() {
    let error = rejection(b"{\"a\":1}\n{\"a\":\"\xff\"}");
    assert!(error.to_string().contains("not valid UTF-8"), "{error}");
    assert!(error.to_string().ends_with("(record 2, line 2, byte 8)"), "{error}");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let whole = nested(MAX_DEPTH);
    assert_eq!(fields(&whole), [[format!("n{}", &whole[5..whole.len() - 1])]]);
    for depth in [MAX_DEPTH + 1, 100_000] {
        let error = rejection(nested(depth).as_bytes());
        assert!(error.to_string().contains("nested more than 100 deep in a value at line 1, byte 105"), "{error}");
    }
}

#[test]
fn a_file_may_have_so_many_keys_and_no_more() {
    let line = |keys: std::ops::Range<usize>| {
        let members: Vec<String> = keys.map(|key| format!("\"k{key}\":1")).collect();
        format!("{{{}}}\n", members.join(","))
    };
    let file = line(0..60) + &line(40..100);
    assert_eq!(read(file.as_bytes()).unwrap().0.len(), 100);
    let error = rejection((file + "{\"k100\":1}").as_bytes());
    assert!(error.to_string().contains("more than 100 different keys"), "{error}");
    assert!(error.to_string().contains("record 3, line 3"), "{error}");
}

#[test]
fn a_long_record_is_read_or_refused_with_little_memory() {
    let limits = ReadLimits { max_record_bytes: 20_000_000, ..LIMITS };
    let mut decoder = JsonDecoder::new(limits);
    decoder.push(b"{\"a\":\"").unwrap();
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        decoder.push(&piece).unwrap();
    }
    decoder.push(b"\"}\n{\"a\":1}\n").unwrap();
    let batch = decoder.take_batch().unwrap();
    assert_eq!(batch.field(0, 0).map(<[u8]>::len), Some(160 * 64 * 1024));

    let mut decoder = JsonDecoder::new(LIMITS);
    decoder.push(b"{\"a\":1}\n{\"a\":\"").unwrap();
    let error = decoder.push(&piece).unwrap_err();
    assert_eq!(error.to_string(), "the record is longer than 4096 bytes (record 2, line 2, byte 8)");
    assert!(decoder.frames.memory_bytes() < 200_000, "{}", decoder.frames.memory_bytes());
    let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(4096 - 8));
    for chunk_bytes in [1, 7, 4095, 4096, 5000] {
        assert!(read_with(JsonDecoder::new(LIMITS), exact.as_bytes(), chunk_bytes).is_ok());
        let longer = exact.replace("{\"", "{ \"");
        assert!(read_with(JsonDecoder::new(LIMITS), longer.as_bytes(), chunk_bytes).is_err());
    }
}

#[test]
fn memory_stays_flat_over_many_records() {
    let mut decoder = JsonDecoder::new(LIMITS);
    let lines = "{\"id\":1,\"name\":\"a name\",\"tags\":[1,2,3]}\n".repeat(2000);
    let mut most = 0;
    for _ in 0..100 {
        for chunk in lines.as_bytes().chunks(16 * 1024) {
            decoder.push(chunk).unwrap();
            most = most.max(decoder.frames.memory_bytes());
            while decoder.take_batch().is_some() {}
        }
    }
    assert!(most < 400_000, "{most}");
}

#[test]
fn wherever_it_is_cut_a_file_gives_the_same() {
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

fn value() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map_into(),
        any::<i64>().prop_map_into(),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map_into(),
        any::<String>().prop_map_into(),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map_into(),
            prop::collection::hash_map("[a-c]{0,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// What a value is shown as.
fn expected(value: Option<&serde_json::Value>) -> String {
    match value {
        None | Some(serde_json::Value::Null) => "-".to_owned(),
        Some(serde_json::Value::String(text)) => format!("s{text}"),
        Some(nested @ (serde_json::Value::Array(_) | serde_json::Value::Object(_))) => format!("n{nested}"),
        Some(scalar) => format!("p{scalar}"),
    }
}

proptest! {
    /// Any records, in any shape and any chunks, come out as serde_json has them.
    #[test]
    fn records_come_out_as_they_went_in(
        records in prop::collection::vec(prop::collection::hash_map("[a-dä]{0,2}", value(), 0..5), 0..8),
        shape in 0..3usize,
        chunk_bytes in 1..80usize,
    ) {
        let records: Vec<serde_json::Map<_, _>> =
            records.into_iter().map(|record| record.into_iter().collect()).collect();
        let texts: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        let file = match shape {
            0 => texts.join("\n"),
            1 => format!("[{}]", texts.join(" ,\n")),
            _ => texts.concat(),
        };
        let (keys, rows) = read_with(JsonDecoder::new(LIMITS), file.as_bytes(), chunk_bytes).unwrap();
        prop_assert_eq!(rows.len(), records.len());
        for ((_, fields), record) in rows.iter().zip(&records) {
            prop_assert!(record.keys().all(|key| keys.contains(key)));
            for (index, key) in keys.iter().enumerate() {
                let field = fields.get(index).map_or("-", String::as_str);
                prop_assert_eq!(field, expected(record.get(key)));
            }
        }
    }

    /// Whatever the bytes, the decoder answers, and the same for any chunks.
    #[test]
    fn any_bytes_are_read_or_refused(
        file in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(
                prop::sample::select(&b"{}[]\",:\\ \n0a-.eu\xc3\xa9"[..]), 0..60
            ),
            "[\\[ ]?(\\{\"[ab]\":(1|\"\\\\\\\\u[dD][89a-f][0-9]{2}\"|\\[\\]|\\{\\}|nul)\\}[,\n ]?){0,5}\\]?".prop_map(String::into_bytes),
        ],
        chunk_bytes in 1..30usize,
    ) {
        let whole = read(&file).map_err(|error| error.to_string());
        let split = read_with(JsonDecoder::new(LIMITS), &file, chunk_bytes).map_err(|error| error.to_string());
        prop_assert_eq!(split, whole);
    }
}
