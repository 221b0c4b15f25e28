//! The dialect contains the detected details, and rejected records can be read again with the lines above them.

use rstest::rstest;

use super::*;

fn dialect_of(file: &str) -> CsvDialect {
    let mut decoder = CsvDecoder::new(detecting(), LIMITS);
    decoder.push(file.as_bytes()).unwrap();
    decoder.finish().unwrap();
    decoder.dialect()
}

#[rstest]
#[case::plain("a,b\n1,2\n", b',', 0, Backslash::Data, ExtraField::Absent)]
#[case::sep_line("sep=;\na;b\n1;2\n", b';', 1, Backslash::Data, ExtraField::Absent)]
#[case::comments("# x\n\n# y\na|b\n1|2\n", b'|', 3, Backslash::Data, ExtraField::Absent)]
#[case::extra_field("a,b\n1,2,\n", b',', 0, Backslash::Data, ExtraField::Empty)]
#[case::escape("a,b\n1,\"x\\\" y\"\n", b',', 0, Backslash::Escape, ExtraField::Absent)]
#[case::all("sep=;\n# x\na;b\n1;\"x\\\" y\";\n", b';', 2, Backslash::Escape, ExtraField::Empty)]
#[case::empty("", b',', 0, Backslash::Data, ExtraField::Absent)]
fn dialect_contains_what_was_detected(
    #[case] file: &str,
    #[case] delimiter: u8,
    #[case] skip_lines: usize,
    #[case] backslash: Backslash,
    #[case] extra_field: ExtraField,
) {
    let expected = CsvDialect {
        delimiter: Some(delimiter),
        skip_lines: Some(skip_lines),
        detected: Some(Detected { backslash, extra_field }),
        ..CsvDialect::default()
    };
    assert_eq!(dialect_of(file), expected);
}

#[rstest]
#[case::sep_line("sep=;\r\na;b\r\n1;2\r\n3\r\n4;5\r\n", &["sep=;\r\n", "a;b\r\n", "3\r\n"])]
#[case::comments("\u{feff}# x\n\na,b\n1,2\n3\n", &["# x\n", "\n", "a,b\n", "3\n"])]
#[case::lone_cr("# x\ra,b\r1,2\r3\r", &["# x\r", "a,b\r", "3\r"])]
#[case::extra_field("a,b\n1,2,\n2,3,\n3,4\n", &["a,b\n", "1,2,\n", "2,3,\n"])]
fn rejected_records_have_the_lines_above_them(#[case] file: &str, #[case] expected: &[&str]) {
    let (_, rejects) = decode_with_rejects(&detecting(), [file.as_bytes()], 10).unwrap();
    let dialect = dialect_with_rejects(file);
    for dialect in [&detecting(), &dialect] {
        let found = extract(dialect, file.as_bytes(), &rejects);
        assert_eq!(found, expected.iter().map(|record| record.as_bytes()).collect::<Vec<_>>());
    }
}

fn dialect_with_rejects(file: &str) -> CsvDialect {
    let mut decoder = CsvDecoder::new(detecting(), ReadLimits { rejects: RejectLimit::Count(10), ..LIMITS });
    decoder.push(file.as_bytes()).unwrap();
    decoder.finish().unwrap();
    decoder.dialect()
}

#[test]
fn corrected_records_are_read_with_the_configured_dialect() {
    let dialect = CsvDialect { skip_lines: Some(2), ..detecting() };
    let file = "Report\nof June\na;b\n1;2\n3\n";
    let (table, rejects) = decode_with_rejects(&dialect, [file.as_bytes()], 10).unwrap();
    assert_eq!(shown(&table), "a|b/1|2");
    let rejected = extract(&dialect, file.as_bytes(), &rejects).concat();
    assert_eq!(rejected, b"Report\nof June\na;b\n3\n");
    let corrected = [&rejected[..rejected.len() - 1], b";4\n"].concat();
    assert_eq!(shown(&decode_as(&dialect, [&corrected[..]], LIMITS).unwrap()), "a|b/3|4");
}
