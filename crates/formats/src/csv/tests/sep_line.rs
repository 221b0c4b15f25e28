//! Excel's first line that names the delimiter.

use rstest::rstest;

use super::*;

#[rstest]
#[case::crlf("sep=;\r\narticle;stock\r\nA-17;4\r\n", "article|stock/A-17|4")]
#[case::comma("sep=,\na,b\n1,2\n", "a|b/1|2")]
#[case::tab("sep=\t\na\tb\n1\t2\n", "a|b/1|2")]
#[case::spelled_tab("sep=\\t\na\tb\n1\t2\n", "a|b/1|2")]
#[case::pipe("SEP=|\na|b\n1|2\n", "a|b/1|2")]
#[case::unusual("Sep=^\na^b\n1^2\n", "a|b/1|2")]
#[case::quoted_line("\"sep=;\"\na;b\n1;2\n", "a|b/1|2")]
#[case::quoted_delimiter("sep=\";\"\na;b\n1;2\n", "a|b/1|2")]
#[case::mark("\u{feff}sep=;\na;b\n1;2\n", "a|b/1|2")]
#[case::lone_cr("sep=;\ra;b\r1;2\r", "a|b/1|2")]
#[case::overrides_detection("sep=;\na;b,c\n1;2,3\n", "a|b,c/1|2,3")]
#[case::empty_lines("sep=;\n\na;b\n1;2\n", "a|b/1|2")]
#[case::comments("sep=;\n# from the till\na;b\n1;2\n", "a|b/1|2")]
#[case::nothing_else("sep=;", "")]
#[case::other_header("sep=;\na,b\n1,2\n", "!the header looks comma-separated, but the delimiter is the semicolon")]
// Near misses.
#[case::longer("sep=;;\n1;2;3\n", "sep=||/1|2|3")]
#[case::letter("sep=x\n1\n", "sep=x/1")]
#[case::nothing_named("sep=\n1\n", "sep=/1")]
#[case::second_line("a;b\nsep=;\n1;2\n", "a|b/sep=|-/1|2")]
#[case::after_an_empty_line("\nsep=;\n1;2\n", "sep=|/1|2")]
fn line_that_names_the_delimiter_is_not_a_record(#[case] file: &str, #[case] expected: &str) {
    check(&detecting(), file, expected);
}

#[test]
fn line_that_contradicts_the_setting_is_an_error() {
    let comma = CsvDialect::default();
    check(&comma, "sep=,\na,b\n1,2\n", "a|b/1|2");
    let message = "!the first line (sep=) says that the delimiter is the semicolon, but CSV_DELIMITER or the extension .tsv \
                   says the comma; change the setting, or set CSV_SKIP_LINES to 1 to ignore the line (header, line 1, byte 0)";
    check(&comma, "sep=;\na;b\n1;2\n", message);
    check(&CsvDialect { skip_lines: Some(1), ..comma }, "sep=;\na,b\n1,2\n", "a|b/1|2");
    check(&CsvDialect { skip_lines: Some(0), ..detecting() }, "sep=;\n1;2\n", "sep=|/1|2");
}

#[test]
fn header_and_records_have_their_positions() {
    let table = decode_as(&detecting(), [&b"\xef\xbb\xbfsep=;\r\na;b\r\n1;2\r\n"[..]], LIMITS).unwrap();
    assert_eq!(table.positions, [Position { record: 1, line: 3, byte: 15 }]);
    let dialect = CsvDialect { has_header: false, ..detecting() };
    let table = decode_as(&dialect, [&b"sep=;\n1;2\n"[..]], LIMITS).unwrap();
    assert_eq!(table.positions, [Position { record: 1, line: 2, byte: 6 }]);
}
