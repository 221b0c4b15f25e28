//! Configured delimiters, quotes, headers and null values.

use super::*;

#[test]
fn another_delimiter_can_be_configured() {
    let mut decoder = CsvDecoder::new(CsvDialect { delimiter: Some(b';'), ..CsvDialect::default() }, LIMITS);
    decoder.push(b"a;b\n1,5;\"x;y\"\n").unwrap();
    decoder.finish().unwrap();
    let batch = decoder.take_batch().unwrap();
    assert_eq!((batch.field(0, 0), batch.field(0, 1)), (Some(&b"1,5"[..]), Some(&b"x;y"[..])));
}

#[test]
fn other_quote_or_none_can_be_configured() {
    let single = CsvDialect { quote: Some(b'\''), ..CsvDialect::default() };
    let table = decode_as(&single, [&b"a,b\n'x,''y',\"z\n"[..]], LIMITS).unwrap();
    assert_eq!(shown(&table), "a|b/x,'y|\"z");
    let none = CsvDialect { quote: None, ..CsvDialect::default() };
    let table = decode_as(&none, [&b"a,b\n\"x,y\"\n"[..]], LIMITS).unwrap();
    assert_eq!(shown(&table), "a|b/\"x|y\"");
}

#[test]
fn file_without_a_header_has_rows_from_the_first_record() {
    let dialect = CsvDialect { has_header: false, ..detecting() };
    let file = "1;;\"\"\n2;x;y\n";
    for cut in 0..=file.len() {
        let table = decode_as(&dialect, [&file.as_bytes()[..cut], &file.as_bytes()[cut..]], LIMITS).unwrap();
        assert_eq!(shown(&table), "||/1|-|/2|x|y");
        assert_eq!(table.positions[0], Position { record: 1, line: 1, byte: 0 });
        assert_eq!(table.positions[1].record, 2);
    }
    let error = decode_as(&dialect, [&b"1;2\n3\n"[..]], LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "2 fields expected, as in the first record, but 1 found (record 2, line 2, byte 4)");
}

#[test]
fn null_values_are_missing_unless_they_are_quoted() {
    let null_values = Some(vec![b"-".to_vec(), b"n/a".to_vec()]);
    let dialect = CsvDialect { null_values, ..CsvDialect::default() };
    let table = decode_as(&dialect, [&b"a,-,c\n-,n/a,x-\n\"-\",,NULL\n"[..]], LIMITS).unwrap();
    assert_eq!(shown(&table), "a|-|c/-|-|x-/-|-|NULL");
    assert_eq!(table.rows[1][0].as_deref(), Some(&b"-"[..]));
    assert_eq!(table.rows[0][0], None);
}
