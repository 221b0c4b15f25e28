//! Lines below the records.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn with_footer(lines: usize) -> CsvDialect {
    CsvDialect { skip_footer_lines: lines, ..detecting() }
}

#[rstest]
#[case::one(1, "a,b\n1,2\nTotal: 1\n", "a|b/1|2")]
#[case::no_last_line_end(1, "a,b\n1,2\nTotal: 1", "a|b/1|2")]
#[case::empty_lines_count(2, "a,b\n1,2\nTotal\n\n", "a|b/1|2")]
#[case::empty_line_is_the_footer(1, "a,b\n1,2\n\n", "a|b/1|2")]
#[case::quotes_in_the_footer(1, "a,b\n1,2\n\"open\n", "a|b/1|2")]
#[case::crlf(2, "a,b\r\n1,2\r\n\r\n(2 rows)\r\n", "a|b/1|2")]
#[case::lone_cr(1, "a,b\r1,2\rTotal\r", "a|b/1|2")]
#[case::lone_cr_and_empty_line(1, "a\r1\r\r", "a/1")]
#[case::quoted_line_end_above(1, "a,b\n1,\"x\ny\"\nTotal\n", "a|b/1|x\\ny")]
#[case::header_and_footer(1, "a,b\nTotal\n", "a|b")]
#[case::delimiter_of_the_records(1, "a;b\n1;2\nx,y,z\n", "a|b/1|2")]
#[case::empty(3, "", "")]
fn last_lines_are_skipped(#[case] lines: usize, #[case] file: &str, #[case] expected: &str) {
    assert_eq!(read_in_every_way(&with_footer(lines), file).as_deref(), Ok(expected));
}

#[rstest]
#[case::all_lines(2, "a\n1\n", "the file has no line above the 2 lines that CSV_SKIP_FOOTER_LINES skips")]
#[case::one_line(1, "a", "no line above the 1 line that")]
#[case::within_a_field(1, "a\n\"x\ny\"\n", "the last lines that CSV_SKIP_FOOTER_LINES skips may begin within it")]
#[case::bad_record_above(1, "a,b\n1\nTotal\n", "2 fields expected")]
fn file_that_lacks_such_lines_is_rejected(#[case] lines: usize, #[case] file: &str, #[case] words: &str) {
    let error = read_in_every_way(&with_footer(lines), file).unwrap_err();
    assert!(error.contains(words), "{error}");
}

#[test]
fn held_lines_have_a_limit() {
    let limits = ReadLimits { max_record_bytes: 20, ..LIMITS };
    let long = "1234567890\n1234567890\n";
    for (file, is_read) in
        [(format!("a\n1\n{long}"), false), (format!("a\n{long}1\n2\n"), false), ("a\n1\n2\n".to_owned(), true)]
    {
        for chunk_bytes in 1..=file.len() {
            let read = decode_as(&with_footer(2), file.as_bytes().chunks(chunk_bytes), limits);
            assert_eq!(read.is_ok(), is_read, "{file:?}");
            assert!(read.is_ok() || read.unwrap_err().message().contains("MAX_RECORD_BYTES"));
        }
    }
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let mut decoder = CsvDecoder::new(with_footer(3), LIMITS);
    for _ in 0..10_000 {
        decoder.push(b"1234567890,1234567890\n1234567890,1234567890\n").unwrap();
        while decoder.take_batch().is_some() {}
        assert!(decoder.footer.as_ref().is_some_and(|footer| footer.memory_bytes() < 4096));
    }
}

#[test]
fn positions_and_rejects_stay_right() {
    let limits = ReadLimits { rejects: RejectLimit::Count(5), ..LIMITS };
    let file = b"a,b\n1,2\n3\n4,5\nTotal\n";
    for chunk_bytes in 1..=file.len() {
        let (table, rejects) = decode_with_rejects_within(&with_footer(1), file.chunks(chunk_bytes), limits).unwrap();
        assert_eq!(shown(&table), "a|b/1|2/4|5");
        let at: Vec<(u64, u64)> = table.positions.iter().map(|position| (position.record, position.byte)).collect();
        assert_eq!(at, [(1, 4), (3, 10)]);
        assert_eq!((rejects.len(), rejects[0].position.record), (1, 2));
    }
}

proptest! {
    /// The rows are those of the same file without its last lines.
    #[test]
    fn file_is_read_as_without_its_last_lines(
        records in prop::collection::vec("[a-c]{0,2},(\"x[,\n]?\"|[d-f]?)", 0..5),
        footer in prop::collection::vec("[a-z,\"; ]{0,4}", 1..4),
        line_end in prop::sample::select(vec!["\n", "\r\n"]),
        chunk_bytes in 1..9usize,
    ) {
        let mut body = format!("p,q{line_end}");
        for record in &records {
            body += &(record.to_owned() + line_end);
        }
        let file = body.clone() + &footer.join(line_end) + line_end;
        let strict = CsvDialect { skip_footer_lines: footer.len(), ..strict() };
        let read = decode_as(&strict, file.as_bytes().chunks(chunk_bytes), LIMITS);
        let expected = decode_as(&super::strict(), [body.as_bytes()], LIMITS);
        prop_assert_eq!(comparable(read), comparable(expected));
    }
}
