//! Bad records that are rejected one by one.

use rstest::rstest;

use super::*;
use crate::reject::RejectCode;

#[rstest]
#[case::short("a,b\n1,2\n3\n4,5\n", "a|b/1|2/4|5", &["3\n"])]
#[case::long_at_the_end("a,b\r\n1,2\r\n3,4,5", "a|b/1|2", &["3,4,5"])]
#[case::after_a_quote("a,b\n\"x\"y,\"1\n2,3\n", "a|b/2|3", &["\"x\"y,\"1\n"])]
#[case::after_a_quote_crlf("a,b\r\n1,\"x\" \r\n2,3\r\n", "a|b/2|3", &["1,\"x\" \r\n"])]
#[case::lone_returns("a,b\r\"x\"y,z\r2,3\r", "a|b/2|3", &["\"x\"y,z\r"])]
#[case::many_lines("a,b\n\"1\n\n2\",x,y\n\n\n3,4\n", "a|b/3|4", &["\"1\n\n2\",x,y\n"])]
#[case::mark("\u{feff}a,b\n\n1\n2,3\n", "a|b/2|3", &["1\n"])]
#[case::all("a,b\n1\n2\n", "a|b", &["1\n", "2\n"])]
fn bad_records_are_rejected_byte_for_byte(#[case] file: &str, #[case] rows: &str, #[case] bad: &[&str]) {
    let bytes = file.as_bytes();
    let (table, rejects) = decode_with_rejects(&CsvDialect::default(), [bytes], 10).unwrap();
    assert_eq!(shown(&table), rows);
    let extracted: Vec<&[u8]> = extract(&CsvDialect::default(), bytes, &rejects);
    assert_eq!(extracted[1..], bad.iter().map(|record| record.as_bytes()).collect::<Vec<_>>());
    assert!(extracted[0].starts_with(b"a,b"), "the header");
    for cut in 0..=bytes.len() {
        let again = decode_with_rejects(&CsvDialect::default(), [&bytes[..cut], &bytes[cut..]], 10).unwrap();
        assert_eq!(again, (table.clone(), rejects.clone()), "cut at {cut}");
    }
    let error = decode_with_rejects(&CsvDialect::default(), [bytes], bad.len() as u64 - 1).unwrap_err();
    assert_eq!(error.position(), rejects.last().map(|reject| reject.position));
}

#[test]
fn rejects_have_a_position_and_a_code() {
    let (_, rejects) =
        decode_with_rejects(&CsvDialect::default(), [&b"a,b\n1,2\n\"x\ny\"\n3,\"z\"z\n"[..]], 10).unwrap();
    let positions: Vec<_> = rejects.iter().map(|reject| (reject.code, reject.position)).collect();
    let expected = [
        (RejectCode::FieldCount, Position { record: 2, line: 3, byte: 8 }),
        (RejectCode::AfterQuote, Position { record: 3, line: 5, byte: 14 }),
    ];
    assert_eq!(positions, expected);
}

#[rstest]
#[case::open_quote("a,b\n1,2\n3,\"4\n")]
#[case::not_utf8("a,b\n1,2\n\u{1}\n")]
#[case::lone_return("a,b\n1,x\ry\n")]
fn other_faults_reject_the_file(#[case] file: &str) {
    let file: Vec<u8> = file.bytes().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    assert_eq!(decode_with_rejects(&CsvDialect::default(), [&file[..]], 10).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn bad_record_rejects_a_converted_file() {
    let file = utf16("a,b\n1\n2,3\n", false);
    assert!(decode_with_rejects(&CsvDialect::default(), [&file[..]], 10).is_err());
    let decoder = {
        let mut decoder = CsvDecoder::new(CsvDialect::default(), LIMITS);
        decoder.push(&utf16("a,b\n", false)).unwrap();
        decoder.finish().unwrap();
        decoder
    };
    assert_eq!(decoder.dialect().encoding, TextEncoding::Named(encoding_rs::UTF_16LE));
}
