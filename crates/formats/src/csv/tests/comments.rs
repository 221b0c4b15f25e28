//! Comments and other lines above the header.

use rstest::rstest;

use super::*;

#[rstest]
#[case::three_lines(
    "# Station 4711\n# provisional\n# unit: ppm\nyear,mean\n2019,411.66\n2020,414.24\n",
    "year|mean/2019|411.66/2020|414.24"
)]
#[case::empty_lines("\n# one\n\n# two\n\nid,name\n1,x\n", "id|name/1|x")]
#[case::crlf("# one\r\nid;name\r\n1;x\r\n", "id|name/1|x")]
#[case::lone_cr("# one\rid;name\r1;x\r", "id|name/1|x")]
#[case::semicolons("# one\nid;name\n1;x\n2;y\n", "id|name/1|x/2|y")]
#[case::only_a_header("# one\nid,name\n", "id|name")]
#[case::commas_in_a_comment("# a, b, c\n# one\nid,name\n1,x\n", "id|name/1|x")]
#[case::quote_in_a_comment("# 5\" pipes, \"x\nid,name,size\n1,x,2\n", "id|name|size/1|x|2")]
#[case::extra_field("# one\nid,name\n1,x,\n2,y,\n", "id|name/1|x/2|y")]
#[case::last_is_the_header("## one\n## two\n#id\tname\n1\tx\n2\ty\n", "#id|name/1|x/2|y")]
#[case::later_lines_are_data("# one\nid,name\n#2,y\n", "id|name/#2|y")]
#[case::later_comment("# one\nid,name\n# two\n1,x\n2,y\n", "!2 fields expected")]
#[case::ambiguous_delimiter("# one\na,b;c\n1,2;3\n", "!the delimiter may be the comma or the semicolon")]
// A header that begins with #.
#[case::header("#id,name\n1,x\n2,y\n", "#id|name/1|x/2|y")]
#[case::header_of_text("#name,city\nAnna,Graz\nBen,Lyon\n", "#name|city/Anna|Graz/Ben|Lyon")]
#[case::header_after_a_space("# x,y\n1.0,2.5\n3.0,4.5\n", "# x|y/1.0|2.5/3.0|4.5")]
#[case::header_of_one_column("#id\n1\n2\n", "#id/1/2")]
#[case::header_of_hashtags("#tag\n#one\n#two\nthree\n", "#tag/#one/#two/three")]
#[case::header_with_a_bad_record("#id,name\n1,x\n2,y,z\n", "!2 fields expected")]
#[case::header_above_narrower_records("#id,name,note\n1,a\n2,b\n3,c\n", "!3 fields expected")]
#[case::all_lines("#a\n#b\n", "#a/#b")]
#[case::uneven_semicolons("# one\nx; y\nz\nq; r\n", "# one/x; y/z/q; r")]
#[case::header_alone("#id,name\n", "#id|name")]
#[case::quoted_header("\"#id\",name\n1,x\n", "#id|name/1|x")]
// Both readings are possible.
#[case::comment_as_wide(
    "# made by A, B\nid,name\n1,x\n2,y\n",
    "!CSV_COMMENT to # if it is a comment, or CSV_SKIP_LINES"
)]
#[case::comment_as_wide_of_text("# name,city\nfirst,last\nAnna,Graz\n", "!may be a comment or the header")]
#[case::one_column("# one\nid\n1\n2\n", "!may be a comment or the header")]
#[case::one_column_of_text("#notes\nx; y\nz; q\n", "!may be a comment or the header")]
#[case::two_headers("# one\n#id,name\nfirst,count\n1,2\n", "!may be a comment or the header")]
#[case::two_hashed_lines("# one\n#a,b\n#c,d\n1,2\n", "!may be a comment or the header")]
fn lines_with_a_hash_above_the_header_are_comments(#[case] file: &str, #[case] expected: &str) {
    check(&detecting(), file, expected);
}

#[test]
fn setting_decides_what_can_be_read_in_two_ways() {
    let file = "# made by A, B\nid,name\n1,x\n";
    check(&CsvDialect { comment: Some(b'#'), ..detecting() }, file, "id|name/1|x");
    check(&CsvDialect { skip_lines: Some(1), ..detecting() }, file, "id|name/1|x");
    check(&CsvDialect { skip_lines: Some(0), ..detecting() }, file, "# made by A| B/id|name/1|x");
}

#[rstest]
#[case::between_records("a,b\n%,x\n1,2\n% \"y\n\n%\n3,4\n%", "a|b/1|2/3|4")]
#[case::above_the_header("% x\n\n%y\na;b\n%\n1;2\n", "a|b/1|2")]
#[case::hash_is_data("#a,b\n1,2\n", "#a|b/1|2")]
#[case::in_quotes("a,b\n1,\"x\n%y\"\n", "a|b/1|x\\n%y")]
#[case::quoted("a,b\n\"%1\",2\n", "a|b/%1|2")]
#[case::in_a_field("a,b\n1%,%2\n", "a|b/1%|%2")]
#[case::crlf("%x\r\na,b\r\n%y\r\n1,2\r\n", "a|b/1|2")]
#[case::lone_cr("%x\ra,b\r%y\r1,2\r", "a|b/1|2")]
#[case::returns_in_a_comment("a,b\n%x\ry\n1,2\n", "a|b/1|2")]
fn configured_comments_are_skipped_outside_quotes(#[case] file: &str, #[case] expected: &str) {
    check(&CsvDialect { comment: Some(b'%'), ..detecting() }, file, expected);
}

#[rstest]
#[case::text(2, "Report \"x\n2024,1\nid,name\n1,x\n", "id|name/1|x")]
#[case::empty_lines(3, "Report\n\n\nid;name\n1;x\n", "id|name/1|x")]
#[case::empty_lines_below(1, "Report\n\n\nid;name\n1;x\n", "id|name/1|x")]
#[case::crlf(1, "Report\r\nid;name\r\n1;x\r\n", "id|name/1|x")]
#[case::lone_cr(2, "Report\r\rid;name\r1;x\r", "id|name/1|x")]
#[case::as_many_as_all(2, "Report\nid\n", "!no line below the 2 lines that CSV_SKIP_LINES skips")]
#[case::more_than_all(9, "Report\nid\n", "!no line below the 9 lines")]
#[case::empty_file(9, "", "")]
#[case::none(0, "id\n1\n", "id/1")]
fn configured_lines_are_skipped(#[case] lines: usize, #[case] file: &str, #[case] expected: &str) {
    check(&CsvDialect { skip_lines: Some(lines), ..detecting() }, file, expected);
}

#[test]
fn header_above_short_records_may_be_a_comment() {
    let dialect = CsvDialect { short_records: ShortRecords::Fill, ..detecting() };
    check(&dialect, "#id,name,note\nx,y\n2,b\n3,c\n", "!may be a comment or the header");
}

#[test]
fn records_below_comments_have_their_positions() {
    let file = "\u{feff}# one\n\n# two\na,b\n\n1,2\n";
    let table = decode_as(&detecting(), [file.as_bytes()], LIMITS).unwrap();
    assert_eq!(table.positions, [Position { record: 1, line: 6, byte: file.find("1,2").unwrap() as u64 }]);
    let error = decode_as(&detecting(), [&b"# one\na,b;c\n1,2;3\n"[..]], LIMITS).unwrap_err();
    assert_eq!(error.position(), Some(Position { record: 0, line: 2, byte: 6 }));
}

#[test]
fn configured_lines_must_end_in_the_first_text() {
    let file = format!("{}\na,b\n1,2\n", "x".repeat(70_000));
    let dialect = CsvDialect { skip_lines: Some(1), ..detecting() };
    let error = decode_as(&dialect, file.as_bytes().chunks(1000), LIMITS).unwrap_err();
    assert_eq!(error.message(), "the lines above the header (CSV_SKIP_LINES=1) are longer than 65536 bytes");
}

#[test]
fn file_without_a_header_may_have_comments_above() {
    let dialect = CsvDialect { has_header: false, ..detecting() };
    check(&dialect, "# one\n1,x\n2,y\n", "|/1|x/2|y");
    check(&dialect, "#1,x\n2,y\n", "|/#1|x/2|y");
    check(&dialect, "# one\n#1,x\n2,y\n", "!may be a comment or the header");
}
