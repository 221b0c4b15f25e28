//! Files that are rejected as a whole, each with the position of the fault.

use rstest::rstest;

use super::*;

/// Invalid files, with the position and a part of the message.
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
#[case::lower_case_nan("{\"a\":nan}", "record 1, line 1, byte 0", "expected ident at line 1, byte 6")]
#[case::negative_nan("{\"a\":-NaN}", "record 1, line 1, byte 0", "invalid number")]
#[case::nan_as_a_key("{NaN:1}", "record 1, line 1, byte 0", "key must be a string")]
#[case::nan_before_a_fault("{\"a\":NaN,\"b\":x}", "record 1, line 1, byte 0", "expected value at line 1, byte 13")]
#[case::nested_nan("{\"a\":{\"b\":[1, NaN]}}", "record 1, line 1, byte 0, column a", "contains NaN or Infinity")]
#[case::duplicate_key_with_nan(
    "{\"a\":NaN,\"a\":1}",
    "record 1, line 1, byte 0",
    "the key \"a\" occurs twice at line 1"
)]
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
fn invalid_file_is_rejected_with_the_position(#[case] file: &str, #[case] position: &str, #[case] words: &str) {
    let error = error_of(file.as_bytes());
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{message}");
    assert!(message.contains(words) && message.ends_with(&format!("({position})")), "{message}");
    for chunk_bytes in 1..file.len() {
        let split = read_with(JsonDecoder::new(LIMITS), file.as_bytes(), chunk_bytes).unwrap_err();
        assert_eq!(split.to_string(), message, "in chunks of {chunk_bytes}");
    }
}

#[test]
fn invalid_utf8_is_rejected() {
    let error = error_of(b"{\"a\":1}\n{\"a\":\"\xff\"}");
    assert!(error.to_string().contains("not valid UTF-8"), "{error}");
    assert!(error.to_string().ends_with("(record 2, line 2, byte 8)"), "{error}");
}
