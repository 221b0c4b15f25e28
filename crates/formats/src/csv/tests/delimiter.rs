//! Detection of the delimiter.

use rstest::rstest;

use super::*;

#[rstest]
#[case::comma("a,b\n1,2\n", "a|b/1|2")]
#[case::semicolon("a;b\n1,5;2\n2,5;3\n", "a|b/1,5|2/2,5|3")]
#[case::tab("a\tb\n1\tx, y\n", "a|b/1|x, y")]
#[case::pipe("a|b|c\n1|2|3\n", "a|b|c/1|2|3")]
#[case::one_column("name\nx; y\nz\n", "name/x; y/z")]
#[case::quoted("\"a;b\";c\n\"1\n;,2\";3\n", "a;b|c/1\\n;,2|3")]
#[case::doubled_quotes("a;b\n\"x\"\";y\";2\n", "a|b/x\";y|2")]
#[case::more_fields_are_no_evidence("a,b;c;d\n1,2;3;4\n", "rejected")]
#[case::two_delimiters("id,route|leg|stop,code|zone\n1,10|20|30,A|1\n2,11|21|31,B|2\n3,12|22|32,C|3\n", "rejected")]
#[case::three_delimiters("a;b|c,d\n1;2|3,4\n", "rejected")]
#[case::header_of_two_delimiters("a,b;c;d", "rejected")]
#[case::semicolons_in_some_rows("a,b;c\n1,x; y\n2,z\n", "a|b;c/1|x; y/2|z")]
#[case::semicolons_in_every_row("a,b\n1,x; y\n2,z; w\n", "a|b/1|x; y/2|z; w")]
#[case::decimal_commas("a;b\n1,5;2,5\n3,5;4,5\n", "a|b/1,5|2,5/3,5|4,5")]
#[case::quoted_semicolons("\"a;b\",c\n\"1;2\",3\n\"4;5\",6\n", "a;b|c/1;2|3/4;5|6")]
#[case::quoted_semicolons_between("a,\"b;c\",d\n1,\"2;3\",4\n", "a|b;c|d/1|2;3|4")]
#[case::valid_quotes_but_uneven("a,\"b;c\",d\n1,\"2;3\",4\n1,\"2;3\"\n", "rejected")]
#[case::inches("a|b\n5\" x|1\n6\" x|2\n", "a|b/5\" x|1/6\" x|2")]
#[case::times_and_text(
    "at|note\n2024-01-01 10:00:00|a, b; c\n2024-01-02 10:00:00|d, e; f\n",
    "at|note/2024-01-01 10:00:00|a, b; c/2024-01-02 10:00:00|d, e; f"
)]
#[case::tabs_and_commas("name\tage\nDoe, J\t5\nRoe, R\t6\n", "name|age/Doe, J|5/Roe, R|6")]
#[case::pipe_in_the_header_only("a|b,c\n1,2\n3,4\n", "a|b|c/1|2/3|4")]
#[case::wider_header_of_uneven_records("a|b|c,d\n1|2|3,4\n1|2,3\n", "a|b|c|d/1|2|3|4/1|2|3")]
#[case::wider_header_only("a|b|c,d\n1,2\n3,4\n", "a|b|c|d/1|2/3|4")]
#[case::wider_header_of_quoted_records("a|b|c,d\n\"1|2|3\",4\n", "a|b|c|d/1|2|3|4")]
#[case::columns_by_the_header_only("id,code|zone\n1,A|1\n2,B|2\n", "rejected")]
#[case::extra_field("a;b,c\n1;2;\n3;4;\n", "a|b,c/1|2/3|4")]
#[case::uneven("a;b;c\n1;2\n", "rejected")]
#[case::header_only("a;b", "a|b")]
#[case::empty("", "")]
#[case::empty_lines("\n\na;b\n\n1;2\n", "a|b/1|2")]
#[case::ambiguous("a,b;c\n1,2;3\n", "rejected")]
#[case::mark("\u{feff}a;b\n1;2\n", "a|b/1|2")]
fn delimiter_is_detected(#[case] file: &str, #[case] expected: &str) {
    let bytes = file.as_bytes();
    let found = decode_as(&detecting(), [bytes], LIMITS);
    match &found {
        Ok(table) => assert_eq!(shown(table), expected),
        Err(error) => assert_eq!(expected, "rejected", "{error}"),
    }
    let found = comparable(found);
    for cut in 0..=bytes.len() {
        assert_eq!(comparable(decode_as(&detecting(), [&bytes[..cut], &bytes[cut..]], LIMITS)), found, "cut at {cut}");
    }
}

#[test]
fn ambiguous_delimiter_is_an_error_with_the_candidates_and_the_setting() {
    let file = b"id,route|leg|stop,code|zone\n1,10|20|30,A|1\n2,11|21|31,B|2\n3,12|22|32,C|3\n";
    let error = decode_as(&detecting(), [&file[..]], LIMITS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let expected = "the delimiter may be the comma or the pipe, and each results in different columns; set CSV_DELIMITER to the \
                    right one (header, line 1, byte 0)";
    assert_eq!(error.to_string(), expected);
    // The setting decides.
    for (delimiter, expected) in
        [(b',', "id|route|leg|stop|code|zone/1|10|20|30|A|1"), (b'|', "id,route|leg|stop,code|zone/1,10|20|30,A|1")]
    {
        let dialect = CsvDialect { delimiter: Some(delimiter), ..CsvDialect::default() };
        let table = decode_as(&dialect, [&file[..]], LIMITS).unwrap();
        assert!(shown(&table).starts_with(expected), "{}", shown(&table));
        assert_eq!(table.rows[0].len(), if delimiter == b',' { 3 } else { 4 });
    }
}

#[rstest]
#[case::records_agree("a;b;c\n1;2;3\n4;5;6\n", "!the header looks semicolon-separated, but the delimiter is the comma")]
#[case::no_records("a;b;c\n", "!set CSV_DELIMITER")]
#[case::extra_field("a;b\n1;2;\n", "!the header looks semicolon-separated")]
#[case::records_without("a;b;c\n1\n2\n", "a;b;c/1/2")]
#[case::uneven_records("a;b;c\n1;2\n3\n", "a;b;c/1;2/3")]
fn header_that_contains_another_delimiter_is_checked_by_the_records(#[case] file: &str, #[case] expected: &str) {
    check(&CsvDialect::default(), file, expected);
}

#[test]
fn file_without_a_header_can_be_ambiguous() {
    let dialect = CsvDialect { has_header: false, ..detecting() };
    let error = decode_as(&dialect, [&b"1,5;2,5\n3,5;4,5\n"[..]], LIMITS).unwrap_err();
    assert!(error.message().contains("the comma or the semicolon"), "{error}");
}

#[test]
fn delimiter_of_a_long_file_is_detected_from_its_start() {
    let rows = "1,2;3\n".repeat(40_000);
    let file = format!("a;b\n{rows}");
    for size in [1000, 65_536, file.len()] {
        let table = decode_as(&detecting(), file.as_bytes().chunks(size), LIMITS).unwrap();
        assert_eq!((table.rows.len(), table.rows[39_999][0].as_deref()), (40_000, Some(&b"1,2"[..])));
        assert_eq!(table.positions[39_999], Position { record: 40_000, line: 40_001, byte: 4 + 6 * 39_999 });
    }
}

#[rstest]
#[case::bad_byte(b"a;b\n1;2\nx\xff;3\n", "the byte at 9 is not valid UTF-8", (2, 3, 8))]
#[case::open_quote(b"a;b\n1;\"2\n", "the quote that opens field 2 is never closed", (1, 2, 4))]
fn error_before_the_delimiter_is_detected_has_its_position(
    #[case] file: &[u8],
    #[case] what: &str,
    #[case] (record, line, byte): (u64, u64, u64),
) {
    let error = decode_as(&detecting(), file.chunks(1), LIMITS).unwrap_err();
    assert!(error.message().starts_with(what), "{error}");
    assert_eq!(error.position(), Some(Position { record, line, byte }));
}
