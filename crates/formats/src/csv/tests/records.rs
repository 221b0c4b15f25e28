//! Records and fields in the default dialect, and their positions.

use rstest::rstest;

use super::*;

#[rstest]
#[case::plain("a,b\n1,2\n", "a|b/1|2")]
#[case::no_final_newline("a,b\n1,2", "a|b/1|2")]
#[case::crlf("a,b\r\n1,2\r\n", "a|b/1|2")]
#[case::mixed("a,b\r\n1,2\n3,4\r\n", "a|b/1|2/3|4")]
#[case::crcrlf("a,b\r\r\n1,2\r\r\n", "a|b/1|2")]
#[case::lone_cr("a,b\r1,2\r\r3,4", "a|b/1|2/3|4")]
#[case::truncated_crlf("a,b\n1,2\r", "a|b/1|2")]
#[case::empty("", "")]
#[case::only_newlines("\n\r\n\n", "")]
#[case::only_returns("\r\r\r", "")]
#[case::byte_order_mark_only("\u{feff}", "")]
#[case::header_only("a,b", "a|b")]
#[case::header_line_only("a,b\r\n", "a|b")]
#[case::header_cr_only("a,b\r", "a|b")]
#[case::empty_lines("\n\na\n\n1\n\r\n\n2\n\n", "a/1/2")]
#[case::missing_and_empty("a,b,c\n,\"\",x\n\"\",,\n", "a|b|c/-||x/|-|-")]
#[case::empty_in_one_column("a\n\"\"\n", "a/")]
#[case::trailing_comma_everywhere("a,b,\n1,2,\n", "a|b|/1|2|-")]
#[case::quotes("a,b\n\"x,y\",\"he said \"\"hi\"\"\"\n", "a|b/x,y|he said \"hi\"")]
#[case::newlines_in_quotes("a,b\n\"x\ny\",\"\r\n\"\n", "a|b/x\\ny|\\r\\n")]
#[case::quote_at_the_end("a\n\"x\"", "a/x")]
#[case::only_quotes("a\n\"\"\"\"\n", "a/\"")]
#[case::quote_as_data("a,b\n5\" pipe, \"x\"\n", "a|b/5\" pipe| \"x\"")]
#[case::quoted_header("\"a,b\",\"c\nd\"\n1,2\n", "a,b|c\\nd/1|2")]
#[case::mark("\u{feff}a,b\n1,2\n", "a|b/1|2")]
#[case::mark_before_a_quote("\u{feff}\"a\",b\n1,2\n", "a|b/1|2")]
#[case::spaces_are_kept("a,b\n 1 ,\t\n", "a|b/ 1 |\t")]
#[case::formulas("a,b\n=cmd|' /C calc'!A0,@SUM(1+1)\n+1,-2\n", "a|b/=cmd|' /C calc'!A0|@SUM(1+1)/+1|-2")]
#[case::backslashes("a\nC:\\new\\t\n\\.\n\\N\n", "a/C:\\new\\t/\\./\\N")]
#[case::nul("a,b\nx\0y,\0\n", "a|b/x\0y|\0")]
#[case::beyond_ascii("ä,b\nгород,🦀\n", "ä|b/город|🦀")]
#[case::quoted_delimiters_in_a_name("\"a;b\"\n1;2\n", "a;b/1;2")]
#[case::few_other_delimiters("a|b,c\n1,2\n", "a|b|c/1|2")]
fn valid_file_is_decoded(#[case] file: &str, #[case] expected: &str) {
    assert_eq!(shown(&decode_whole(file).unwrap()), expected);
}

#[rstest]
#[case::short_row(
    "a,b,c\n1,2,3\n4,5\n",
    "3 fields expected, as in the header, but 2 found (record 2, line 3, byte 12)"
)]
#[case::long_row("a,b\n1,2\n\n1,2,3\n", "2 fields expected, as in the header, but 3 found (record 2, line 4, byte 9)")]
#[case::trailing_comma(
    "a,b\n1,2\n3,4,\n",
    "2 fields expected, as in the header, but 3 found (record 2, line 3, byte 8)"
)]
#[case::short_last_row("a,b\n1", "2 fields expected, as in the header, but 1 found (record 1, line 2, byte 4)")]
#[case::line_of_spaces_is_not_empty(
    "a,b\n  \n",
    "2 fields expected, as in the header, but 1 found (record 1, line 2, byte 4)"
)]
#[case::unterminated("a,b\n1,\"x\n2,y\n", "the quote that opens field 2 is never closed (record 1, line 2, byte 4)")]
#[case::unterminated_header("a,\"b\n1,2\n", "the quote that opens field 2 is never closed (header, line 1, byte 0)")]
#[case::text_after_the_quote(
    "a,b\n1,\"x\"y\n",
    "field 2 has text after its closing quote; double the quotes that belong to the value (record 1, line 2, byte 4)"
)]
#[case::space_after_the_quote(
    "a,b\n\"x\" ,y\n",
    "field 1 has text after its closing quote; double the quotes that belong to the value (record 1, line 2, byte 4)"
)]
#[case::lone_cr(
    "a,b\n1,x\ry\n",
    "a carriage return outside quotes is not followed by a newline; quote the field that contains it (record 1, line 2, byte 4)"
)]
#[case::lf_among_cr(
    "a,b\r1,2\r3,4\n",
    "a newline is outside quotes, but the first line ends with a lone carriage return; use one kind of line end (record 2, line 3, byte 8)"
)]
#[case::semicolons(
    "id;name;x\n1;2;3\n",
    "the header looks semicolon-separated, but the delimiter is the comma; set CSV_DELIMITER, or quote the column names that contain a semicolon (header, line 1, byte 0)"
)]
#[case::tabs(
    "id\tname\n",
    "the header looks tab-separated, but the delimiter is the comma; set CSV_DELIMITER, or quote the column names that contain a tab (header, line 1, byte 0)"
)]
fn invalid_file_is_rejected_with_the_position(#[case] file: &str, #[case] expected: &str) {
    assert_eq!(comparable(decode_whole(file)).unwrap_err(), expected);
}

#[test]
fn position_is_that_of_the_record_in_the_file() {
    let file = "\u{feff}a,\"b\nc\"\r\n\"x\n\ny\",1\r\n\r\nz,2\n\"\",\"\r\"\nq,";
    let at = |record, line, text: &str| Position { record, line, byte: file.find(text).unwrap() as u64 };
    let expected = [at(1, 3, "\"x"), at(2, 7, "z,2"), at(3, 8, "\"\","), at(4, 9, "q,")];
    assert_eq!(decode_whole(file).unwrap().positions, expected);
    let lone_returns = "a,\"b\rc\"\r\r1,\"\r\"\r2,\n";
    let error = decode_whole(lone_returns).unwrap_err();
    assert_eq!(error.position(), Some(Position { record: 2, line: 6, byte: 15 }));
}
