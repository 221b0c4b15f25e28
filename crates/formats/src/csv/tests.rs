//! Files good and bad, the same files cut anywhere, and another reader's opinion.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::compression::DecodedLimits;
use crate::reject::{Reject, RejectCode, RejectLimit};
use crate::{Error, ErrorKind, Position};

const LIMITS: ReadLimits = ReadLimits {
    max_record_bytes: 1 << 20,
    max_columns: 100,
    decoded: DecodedLimits { max_bytes: 0, max_ratio: 0 },
    rejects: RejectLimit::Count(0),
};

type Field = Option<Vec<u8>>;

/// Everything a file says.
#[derive(Debug, Clone, PartialEq)]
struct Table {
    header: Option<Vec<Vec<u8>>>,
    rows: Vec<Vec<Field>>,
    positions: Vec<Position>,
}

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limits: ReadLimits) -> Result<Table> {
    decode_as(&CsvDialect::default(), chunks, limits)
}

fn decode_as<'a>(
    dialect: &CsvDialect,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limits: ReadLimits,
) -> Result<Table> {
    sifted_within(dialect, chunks, limits).map(|(table, _)| table)
}

/// What is left of a file, and the bad records that were left out.
fn sifted_within<'a>(
    dialect: &CsvDialect,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limits: ReadLimits,
) -> Result<(Table, Vec<Reject>)> {
    let mut decoder = CsvDecoder::new(dialect.clone(), limits);
    let mut table = Table { header: None, rows: Vec::new(), positions: Vec::new() };
    for chunk in chunks {
        decoder.push(chunk)?;
        take(&mut decoder, &mut table);
    }
    decoder.finish()?;
    take(&mut decoder, &mut table);
    table.header = decoder.header().map(<[Vec<u8>]>::to_vec);
    Ok((table, decoder.take_rejects()))
}

fn take(decoder: &mut CsvDecoder, table: &mut Table) {
    while let Some(batch) = decoder.take_batch() {
        assert!(!batch.is_empty());
        for row in 0..batch.rows() {
            table.rows.push((0..batch.width()).map(|column| batch.field(row, column).map(<[u8]>::to_vec)).collect());
            table.positions.push(batch.position(row));
        }
    }
}

fn whole(file: impl AsRef<[u8]>) -> Result<Table> {
    decode([file.as_ref()], LIMITS)
}

/// What a test compares: the table, or the error's words.
fn outcome(result: Result<Table>) -> Result<Table, String> {
    result.map_err(|error: Error| {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    })
}

/// Header and rows as text, a missing field as `-`, fields divided by `|` and records by `/`.
fn shown(table: &Table) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace('\n', "\\n").replace('\r', "\\r");
    let header = table.header.iter().map(|header| header.iter().map(|field| text(field)).collect::<Vec<_>>());
    let rows = table
        .rows
        .iter()
        .map(|row| row.iter().map(|field| field.as_deref().map_or("-".to_owned(), text)).collect::<Vec<_>>());
    header.chain(rows).map(|fields| fields.join("|")).collect::<Vec<_>>().join("/")
}

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let unit = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(unit).collect()
}

#[rstest]
#[case::plain("a,b\n1,2\n", "a|b/1|2")]
#[case::no_final_newline("a,b\n1,2", "a|b/1|2")]
#[case::crlf("a,b\r\n1,2\r\n", "a|b/1|2")]
#[case::mixed("a,b\r\n1,2\n3,4\r\n", "a|b/1|2/3|4")]
#[case::crcrlf("a,b\r\r\n1,2\r\r\n", "a|b/1|2")]
#[case::lone_cr("a,b\r1,2\r\r3,4", "a|b/1|2/3|4")]
#[case::cut_crlf("a,b\n1,2\r", "a|b/1|2")]
#[case::empty("", "")]
#[case::only_newlines("\n\r\n\n", "")]
#[case::only_returns("\r\r\r", "")]
#[case::mark_only("\u{feff}", "")]
#[case::header_only("a,b", "a|b")]
#[case::header_line_only("a,b\r\n", "a|b")]
#[case::header_cr_only("a,b\r", "a|b")]
#[case::blank_lines("\n\na\n\n1\n\r\n\n2\n\n", "a/1/2")]
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
#[case::blanks_stay("a,b\n 1 ,\t\n", "a|b/ 1 |\t")]
#[case::formulas("a,b\n=cmd|' /C calc'!A0,@SUM(1+1)\n+1,-2\n", "a|b/=cmd|' /C calc'!A0|@SUM(1+1)/+1|-2")]
#[case::backslashes("a\nC:\\new\\t\n\\.\n\\N\n", "a/C:\\new\\t/\\./\\N")]
#[case::nul("a,b\nx\0y,\0\n", "a|b/x\0y|\0")]
#[case::beyond_ascii("ä,b\nгород,🦀\n", "ä|b/город|🦀")]
#[case::quoted_delimiters_in_a_name("\"a;b\"\n1;2\n", "a;b/1;2")]
#[case::few_other_delimiters("a|b,c\n1,2\n", "a|b|c/1|2")]
fn a_good_file_says(#[case] file: &str, #[case] expected: &str) {
    assert_eq!(shown(&whole(file).unwrap()), expected);
}

#[rstest]
#[case::short_row(
    "a,b,c\n1,2,3\n4,5\n",
    "3 fields expected, as in the header, but 2 found (record 2, line 3, byte 12)"
)]
#[case::long_row("a,b\n1,2\n\n1,2,3\n", "2 fields expected, as in the header, but 3 found (record 2, line 4, byte 9)")]
#[case::trailing_comma("a,b\n1,2,\n", "2 fields expected, as in the header, but 3 found (record 1, line 2, byte 4)")]
#[case::short_last_row("a,b\n1", "2 fields expected, as in the header, but 1 found (record 1, line 2, byte 4)")]
#[case::blanks_are_no_blank_line(
    "a,b\n  \n",
    "2 fields expected, as in the header, but 1 found (record 1, line 2, byte 4)"
)]
#[case::unterminated("a,b\n1,\"x\n2,y\n", "the quote that opens field 2 is never closed (record 1, line 2, byte 4)")]
#[case::unterminated_header("a,\"b\n1,2\n", "the quote that opens field 2 is never closed (header, line 1, byte 0)")]
#[case::after_the_quote(
    "a,b\n1,\"x\"y\n",
    "field 2 has text after its closing quote; double the quotes that belong to the value (record 1, line 2, byte 4)"
)]
#[case::blank_after_the_quote(
    "a,b\n\"x\" ,y\n",
    "field 1 has text after its closing quote; double the quotes that belong to the value (record 1, line 2, byte 4)"
)]
#[case::lone_cr(
    "a,b\n1,x\ry\n",
    "a carriage return outside quotes is not followed by a newline; quote the field that contains it (record 1, line 2, byte 4)"
)]
#[case::lf_among_cr(
    "a,b\r1,2\r3,4\n",
    "a newline is outside quotes, but the header ends with a lone carriage return; use one kind of line end (record 2, line 3, byte 8)"
)]
#[case::semicolons(
    "id;name;x\n1;2;3\n",
    "the header is divided by the semicolon, not by the comma; divide fields by the comma, or quote the column names that contain a semicolon (header, line 1, byte 0)"
)]
#[case::tabs(
    "id\tname\n",
    "the header is divided by the tab, not by the comma; divide fields by the comma, or quote the column names that contain a tab (header, line 1, byte 0)"
)]
fn a_broken_file_is_refused_with_the_place(#[case] file: &str, #[case] expected: &str) {
    assert_eq!(outcome(whole(file)).unwrap_err(), expected);
}

#[rstest]
#[case::latin1(b"a,b\n1,2\ncaf\xe9,3\n", 11, (2, 3, 8))]
#[case::in_quotes(b"a,b\n1,\"x\ny\xff\"\n", 10, (1, 2, 4))]
#[case::header(b"\xefa\n", 0, (0, 1, 0))]
#[case::after_mark(b"\xef\xbb\xbfa\n\xff\n", 5, (1, 2, 5))]
#[case::cut_at_the_end(b"a\nx\xe2\x82", 3, (1, 2, 2))]
#[case::surrogate(b"a\n\xed\xa0\x80\n", 2, (1, 2, 2))]
#[case::overlong(b"a\n\xc0\xaf\n", 2, (1, 2, 2))]
fn what_is_not_utf8_is_refused(#[case] file: &[u8], #[case] bad: u64, #[case] place: (u64, u64, u64)) {
    for cut in 0..=file.len() {
        let error = decode([&file[..cut], &file[cut..]], LIMITS).unwrap_err();
        let (record, line, byte) = place;
        assert_eq!(error.position(), Some(Position { record, line, byte }), "{error}");
        assert!(error.message().starts_with(&format!("the byte at {bad} is not valid UTF-8; ")), "{error}");
    }
}

#[rstest]
#[case(false)]
#[case(true)]
fn utf16_with_a_mark_is_read(#[case] big_endian: bool) {
    let text = "name,größe\n\"🦀,\n\",\n,\"\"\n";
    let file = utf16(text, big_endian);
    let expected = whole(text).unwrap();
    for cut in 0..=file.len() {
        assert_eq!(decode([&file[..cut], &file[cut..]], LIMITS).unwrap(), expected, "cut at {cut}");
    }
    assert_eq!(decode(file.chunks(1), LIMITS).unwrap(), expected);
    let long: String = "a,b\n".chars().chain("x,ü\n".chars().cycle().take(60_000)).collect();
    assert_eq!(whole(utf16(&long, big_endian)).unwrap(), whole(&long).unwrap());
}

#[rstest]
#[case::utf16_lone_surrogate(
    b"\xff\xfea\0\n\0\x00\xd8x\0\n\0",
    "the file begins as UTF-16 but is not valid UTF-16 here"
)]
#[case::utf16_cut(b"\xff\xfea\0\n\0x", "the file begins as UTF-16 but is not valid UTF-16 here")]
#[case::utf16_without_mark(b"a\0,\0b\0\n\0", "the file looks like UTF-16 without a byte order mark")]
#[case::utf16_without_mark_big_endian(b"\0a\0,\0b\0\n", "the file looks like UTF-16 without a byte order mark")]
#[case::utf32(b"\xff\xfe\0\0a\0\0\0", "the file is UTF-32")]
fn other_encodings_are_refused_by_name(#[case] file: &[u8], #[case] expected: &str) {
    for cut in 0..=file.len() {
        let error = decode([&file[..cut], &file[cut..]], LIMITS).unwrap_err();
        assert!(error.message().starts_with(expected), "{error}");
    }
}

#[test]
fn positions_are_those_of_the_record_in_the_file() {
    let file = "\u{feff}a,\"b\nc\"\r\n\"x\n\ny\",1\r\n\r\nz,2\n\"\",\"\r\"\nq,";
    let at = |record, line, text: &str| Position { record, line, byte: file.find(text).unwrap() as u64 };
    let expected = [at(1, 3, "\"x"), at(2, 7, "z,2"), at(3, 8, "\"\","), at(4, 9, "q,")];
    assert_eq!(whole(file).unwrap().positions, expected);
    let old_mac = "a,\"b\rc\"\r\r1,\"\r\"\r2,\n";
    let error = whole(old_mac).unwrap_err();
    assert_eq!(error.position(), Some(Position { record: 2, line: 6, byte: 15 }));
}

#[test]
fn a_record_may_be_as_long_as_the_limit() {
    let limits = ReadLimits { max_record_bytes: 10, max_columns: 3, ..LIMITS };
    assert!(decode([&b"a\n0123456789\n\"12345678\"\n0123456789"[..]], limits).is_ok());
    for (file, expected) in [
        ("a\nb\n01234567890\n", "the record is longer than 10 bytes (record 2, line 3, byte 4)"),
        (
            "a\n\"012345678901\"\n",
            "the record is longer than 10 bytes; the quote that opens field 1 may never be closed (record 1, line 2, byte 2)",
        ),
        ("01234567890\n", "the header is longer than 10 bytes (header, line 1, byte 0)"),
        ("a\n1,2,3,4,5,6,7\n", "the record is longer than 10 bytes (record 1, line 2, byte 2)"),
    ] {
        for cut in 0..=file.len() {
            let bytes = file.as_bytes();
            let result = decode([&bytes[..cut], &bytes[cut..]], limits);
            assert_eq!(outcome(result).unwrap_err(), expected, "cut at {cut}");
        }
    }
}

#[test]
fn a_header_wider_than_the_limit_is_refused() {
    let limits = ReadLimits { max_columns: 3, ..LIMITS };
    assert!(decode([&b"a,b,c\n"[..]], limits).is_ok());
    for file in ["a,b,c,d\n", "a,b,c,", "a,b,c,\"d\"\n"] {
        let error = decode([file.as_bytes()], limits).unwrap_err();
        assert_eq!(error.to_string(), "the header has more than 3 columns (header, line 1, byte 0)");
    }
    let error = decode([&b"x".repeat(2 << 20)[..]], ReadLimits { max_record_bytes: 1 << 30, max_columns: 3, ..LIMITS })
        .unwrap_err();
    assert_eq!(error.message(), "the header is longer than 1048576 bytes");
}

/// How much the decoder holds, as far as a file can make it grow.
fn memory_bytes(decoder: &CsvDecoder) -> usize {
    decoder.records.rows.memory_bytes()
}

#[rstest]
#[case::unterminated_quote(b"a,b\n1,2\n3,\"", b"xxxxxxxxx,\n")]
#[case::no_newline(b"a,b\n", b"xxxxxxxxxxx")]
#[case::delimiters_without_end(b"a,b\n", b",,,,,,,,,,,")]
#[case::header_without_end(b"a", b"aaaaaaaaaaa")]
#[case::wide_header(b"a", b",,,,,,,,,,,")]
#[case::blank_lines_then_returns(b"a\n\n\r", b"\r\r\r\r\r\r\r\r\r\r\rx")]
fn a_file_without_end_is_refused_in_flat_memory(#[case] start: &[u8], #[case] more: &[u8]) {
    let mut decoder = CsvDecoder::new(CsvDialect::default(), LIMITS);
    decoder.push(start).unwrap();
    let chunk = more.repeat(1000);
    // One of these chunks breaks the limit; none of the rest of the gigabyte is ever needed.
    let error = (0..200).find_map(|_| {
        assert!(memory_bytes(&decoder) <= 3 << 20, "{} bytes held", memory_bytes(&decoder));
        decoder.push(&chunk).err()
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn batches_come_as_soon_as_they_are_full() {
    let mut decoder = CsvDecoder::new(CsvDialect::default(), LIMITS);
    decoder.push(b"a,b\n").unwrap();
    assert_eq!(decoder.header().map(<[Vec<u8>]>::len), Some(2));
    let mut rows = 0;
    for number in 0..5_000 {
        decoder.push(format!("{number},{}\n", "x".repeat(number % 100)).as_bytes()).unwrap();
        while let Some(batch) = decoder.take_batch() {
            assert!(batch.rows() <= 1024 && batch.size_bytes() < 65 * 1024);
            rows += batch.rows();
        }
        assert!(number + 1 - rows < 1024, "rows are held back");
    }
    decoder.finish().unwrap();
    rows += decoder.take_batch().unwrap().rows();
    assert_eq!((rows, decoder.take_batch().is_none()), (5_000, true));
}

#[test]
fn a_field_of_ten_megabytes_is_read_whole() {
    let field = "0123456789\"\"\n".repeat(800_000);
    let file = format!("a,b\n1,\"{field}\"\n2,x\n");
    let table = decode(file.as_bytes().chunks(65_536), ReadLimits { max_record_bytes: 1 << 25, ..LIMITS }).unwrap();
    assert_eq!(table.rows[0][1].as_deref(), Some("0123456789\"\n".repeat(800_000).as_bytes()));
    assert_eq!(table.positions[1], Position { record: 2, line: 800_003, byte: file.rfind("2,x").unwrap() as u64 });
}

#[test]
fn another_delimiter_can_be_asked_for() {
    let mut decoder = CsvDecoder::new(CsvDialect { delimiter: Some(b';'), ..CsvDialect::default() }, LIMITS);
    decoder.push(b"a;b\n1,5;\"x;y\"\n").unwrap();
    decoder.finish().unwrap();
    let batch = decoder.take_batch().unwrap();
    assert_eq!((batch.field(0, 0), batch.field(0, 1)), (Some(&b"1,5"[..]), Some(&b"x;y"[..])));
}

/// The dialect of files that are looked at.
fn auto() -> CsvDialect {
    CsvDialect { delimiter: None, ..CsvDialect::default() }
}

#[rstest]
#[case::comma("a,b\n1,2\n", "a|b/1|2")]
#[case::semicolon("a;b\n1,5;2\n2,5;3\n", "a|b/1,5|2/2,5|3")]
#[case::tab("a\tb\n1\tx, y\n", "a|b/1|x, y")]
#[case::pipe("a|b|c\n1|2|3\n", "a|b|c/1|2|3")]
#[case::one_column("name\nx; y\nz\n", "name/x; y/z")]
#[case::quoted("\"a;b\";c\n\"1\n;,2\";3\n", "a;b|c/1\\n;,2|3")]
#[case::doubled_quotes("a;b\n\"x\"\";y\";2\n", "a|b/x\";y|2")]
#[case::more_fields_prove_nothing("a,b;c;d\n1,2;3;4\n", "refused")]
#[case::two_delimiters("id,route|leg|stop,code|zone\n1,10|20|30,A|1\n2,11|21|31,B|2\n3,12|22|32,C|3\n", "refused")]
#[case::three_delimiters("a;b|c,d\n1;2|3,4\n", "refused")]
#[case::header_of_two_delimiters("a,b;c;d", "refused")]
#[case::semicolons_in_some_rows("a,b;c\n1,x; y\n2,z\n", "a|b;c/1|x; y/2|z")]
#[case::semicolons_in_every_row("a,b\n1,x; y\n2,z; w\n", "a|b/1|x; y/2|z; w")]
#[case::decimal_commas("a;b\n1,5;2,5\n3,5;4,5\n", "a|b/1,5|2,5/3,5|4,5")]
#[case::quoted_semicolons("\"a;b\",c\n\"1;2\",3\n\"4;5\",6\n", "a;b|c/1;2|3/4;5|6")]
#[case::quoted_semicolons_between("a,\"b;c\",d\n1,\"2;3\",4\n", "a|b;c|d/1|2;3|4")]
#[case::quoted_well_but_uneven("a,\"b;c\",d\n1,\"2;3\",4\n1,\"2;3\"\n", "refused")]
#[case::inches("a|b\n5\" x|1\n6\" x|2\n", "a|b/5\" x|1/6\" x|2")]
#[case::times_and_text(
    "at|note\n2024-01-01 10:00:00|a, b; c\n2024-01-02 10:00:00|d, e; f\n",
    "at|note/2024-01-01 10:00:00|a, b; c/2024-01-02 10:00:00|d, e; f"
)]
#[case::tabs_and_commas("name\tage\nDoe, J\t5\nRoe, R\t6\n", "name|age/Doe, J|5/Roe, R|6")]
#[case::pipe_in_the_header_alone("a|b,c\n1,2\n3,4\n", "a|b|c/1|2/3|4")]
#[case::even_ones_win("a|b|c,d\n1|2|3,4\n1|2,3\n", "refused")]
#[case::uneven("a;b;c\n1;2\n", "refused")]
#[case::header_only("a;b", "a|b")]
#[case::empty("", "")]
#[case::blank_lines("\n\na;b\n\n1;2\n", "a|b/1|2")]
#[case::undecided("a,b;c\n1,2;3\n", "refused")]
#[case::mark("\u{feff}a;b\n1;2\n", "a|b/1|2")]
fn the_delimiter_is_found(#[case] file: &str, #[case] expected: &str) {
    let bytes = file.as_bytes();
    let found = decode_as(&auto(), [bytes], LIMITS);
    match &found {
        Ok(table) => assert_eq!(shown(table), expected),
        Err(error) => assert_eq!(expected, "refused", "{error}"),
    }
    let found = outcome(found);
    for cut in 0..=bytes.len() {
        assert_eq!(outcome(decode_as(&auto(), [&bytes[..cut], &bytes[cut..]], LIMITS)), found, "cut at {cut}");
    }
}

#[test]
fn an_undecided_delimiter_names_the_candidates_and_the_setting() {
    let file = b"id,route|leg|stop,code|zone\n1,10|20|30,A|1\n2,11|21|31,B|2\n3,12|22|32,C|3\n";
    let error = decode_as(&auto(), [&file[..]], LIMITS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let expected = "the delimiter may be the comma or the pipe, and each gives different columns; set CSV_DELIMITER to the \
                    right one (header, line 1, byte 0)";
    assert_eq!(error.to_string(), expected);
    // The setting decides, whichever it names.
    for (delimiter, expected) in
        [(b',', "id|route|leg|stop|code|zone/1|10|20|30|A|1"), (b'|', "id,route|leg|stop,code|zone/1,10|20|30,A|1")]
    {
        let dialect = CsvDialect { delimiter: Some(delimiter), ..CsvDialect::default() };
        let table = decode_as(&dialect, [&file[..]], LIMITS).unwrap();
        assert!(shown(&table).starts_with(expected), "{}", shown(&table));
        assert_eq!(table.rows[0].len(), if delimiter == b',' { 3 } else { 4 });
    }
}

#[test]
fn rows_without_a_header_are_no_evidence_for_more_columns() {
    let dialect = CsvDialect { has_header: false, ..auto() };
    let error = decode_as(&dialect, [&b"1,5;2,5\n3,5;4,5\n"[..]], LIMITS).unwrap_err();
    assert!(error.message().contains("the comma or the semicolon"), "{error}");
}

#[test]
fn a_long_file_is_decided_by_its_first_part() {
    let rows = "1,2;3\n".repeat(40_000);
    let file = format!("a;b\n{rows}");
    for size in [1000, 65_536, file.len()] {
        let table = decode_as(&auto(), file.as_bytes().chunks(size), LIMITS).unwrap();
        assert_eq!((table.rows.len(), table.rows[39_999][0].as_deref()), (40_000, Some(&b"1,2"[..])));
        assert_eq!(table.positions[39_999], Position { record: 40_000, line: 40_001, byte: 4 + 6 * 39_999 });
    }
}

#[rstest]
#[case::bad_byte(b"a;b\n1;2\nx\xff;3\n", "the byte at 9 is not valid UTF-8", (2, 3, 8))]
#[case::open_quote(b"a;b\n1;\"2\n", "the quote that opens field 2 is never closed", (1, 2, 4))]
fn trouble_before_the_delimiter_is_found_has_its_place(
    #[case] file: &[u8],
    #[case] what: &str,
    #[case] (record, line, byte): (u64, u64, u64),
) {
    let error = decode_as(&auto(), file.chunks(1), LIMITS).unwrap_err();
    assert!(error.message().starts_with(what), "{error}");
    assert_eq!(error.position(), Some(Position { record, line, byte }));
}

#[test]
fn other_quotes_and_none() {
    let single = CsvDialect { quote: Some(b'\''), ..CsvDialect::default() };
    let table = decode_as(&single, [&b"a,b\n'x,''y',\"z\n"[..]], LIMITS).unwrap();
    assert_eq!(shown(&table), "a|b/x,'y|\"z");
    let none = CsvDialect { quote: None, ..CsvDialect::default() };
    let table = decode_as(&none, [&b"a,b\n\"x,y\"\n"[..]], LIMITS).unwrap();
    assert_eq!(shown(&table), "a|b/\"x|y\"");
}

#[test]
fn a_file_without_a_header_has_rows_from_the_first_record_on() {
    let dialect = CsvDialect { has_header: false, ..auto() };
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
fn null_values_say_nothing_unless_they_are_quoted() {
    let null_values = Some(vec![b"-".to_vec(), b"n/a".to_vec()]);
    let dialect = CsvDialect { null_values, ..CsvDialect::default() };
    let table = decode_as(&dialect, [&b"a,-,c\n-,n/a,x-\n\"-\",,NULL\n"[..]], LIMITS).unwrap();
    assert_eq!(shown(&table), "a|-|c/-|-|x-/-|-|NULL");
    assert_eq!(table.rows[1][0].as_deref(), Some(&b"-"[..]));
    assert_eq!(table.rows[0][0], None);
}

#[rstest]
#[case("windows-1252", b"n,p\ncaf\xe9,\x80 5\n", "n|p/caf\u{e9}|\u{20ac} 5")]
#[case("latin1", b"n\n\xfc\n", "n/\u{fc}")]
#[case("shift_jis", b"n,m\n\x93\xfa\x96\x7b,\x83\x5c\n", "n|m/\u{65e5}\u{672c}|\u{30bd}")]
#[case("utf-16le", b"n\0\n\0\xe9\0\n\0", "n/\u{e9}")]
#[case("windows-1252", b"\xef\xbb\xbfn\n\xc3\xa9\n", "n/\u{e9}")]
fn an_encoding_can_be_asked_for(#[case] label: &str, #[case] file: &[u8], #[case] expected: &str) {
    let encoding = encoding_rs::Encoding::for_label(label.as_bytes());
    let dialect = CsvDialect { encoding, ..auto() };
    for cut in 0..=file.len() {
        assert_eq!(shown(&decode_as(&dialect, [&file[..cut], &file[cut..]], LIMITS).unwrap()), expected);
    }
}

#[test]
fn what_is_not_of_the_encoding_is_refused() {
    let dialect = CsvDialect { encoding: Some(encoding_rs::SHIFT_JIS), ..auto() };
    let error = decode_as(&dialect, [&b"n\nx\n\x81\n"[..]], LIMITS).unwrap_err();
    assert!(error.message().starts_with("the file is not valid Shift_JIS (CSV_ENCODING) here"), "{error}");
    assert_eq!(error.position().map(|position| position.record), Some(2));
}

/// The same with so many bad records left out.
fn sifted<'a>(
    dialect: &CsvDialect,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    max_rejects: u64,
) -> Result<(Table, Vec<Reject>)> {
    sifted_within(dialect, chunks, ReadLimits { rejects: RejectLimit::Count(max_rejects), ..LIMITS })
}

/// The header and the records at these places, as they stand in the file.
fn cut_out<'a>(dialect: &CsvDialect, file: &'a [u8], rejects: &[Reject]) -> Vec<&'a [u8]> {
    let mut decoder = CsvDecoder::new(dialect.clone(), ReadLimits { rejects: RejectLimit::Count(1000), ..LIMITS });
    decoder.find_records(rejects.iter().map(|reject| reject.position.byte).collect());
    file.chunks(3).for_each(|chunk| decoder.push(chunk).unwrap());
    decoder.finish().unwrap();
    decoder.take_found_records().into_iter().map(|range| &file[range.start as usize..range.end as usize]).collect()
}

#[rstest]
#[case::short("a,b\n1,2\n3\n4,5\n", "a|b/1|2/4|5", &["3\n"])]
#[case::long_at_the_end("a,b\r\n1,2\r\n3,4,5", "a|b/1|2", &["3,4,5"])]
#[case::after_a_quote("a,b\n\"x\"y,\"1\n2,3\n", "a|b/2|3", &["\"x\"y,\"1\n"])]
#[case::after_a_quote_crlf("a,b\r\n1,\"x\" \r\n2,3\r\n", "a|b/2|3", &["1,\"x\" \r\n"])]
#[case::lone_returns("a,b\r\"x\"y,z\r2,3\r", "a|b/2|3", &["\"x\"y,z\r"])]
#[case::many_lines("a,b\n\"1\n\n2\",x,y\n\n\n3,4\n", "a|b/3|4", &["\"1\n\n2\",x,y\n"])]
#[case::mark("\u{feff}a,b\n\n1\n2,3\n", "a|b/2|3", &["1\n"])]
#[case::all("a,b\n1\n2\n", "a|b", &["1\n", "2\n"])]
fn bad_records_are_left_out_byte_for_byte(#[case] file: &str, #[case] left: &str, #[case] bad: &[&str]) {
    let bytes = file.as_bytes();
    let (table, rejects) = sifted(&CsvDialect::default(), [bytes], 10).unwrap();
    assert_eq!(shown(&table), left);
    let cut: Vec<&[u8]> = cut_out(&CsvDialect::default(), bytes, &rejects);
    assert_eq!(cut[1..], bad.iter().map(|record| record.as_bytes()).collect::<Vec<_>>());
    assert!(cut[0].starts_with(b"a,b"), "the header");
    for cut in 0..=bytes.len() {
        let again = sifted(&CsvDialect::default(), [&bytes[..cut], &bytes[cut..]], 10).unwrap();
        assert_eq!(again, (table.clone(), rejects.clone()), "cut at {cut}");
    }
    let error = sifted(&CsvDialect::default(), [bytes], bad.len() as u64 - 1).unwrap_err();
    assert_eq!(error.position(), rejects.last().map(|reject| reject.position));
}

#[test]
fn rejects_know_their_record_line_and_code() {
    let (_, rejects) = sifted(&CsvDialect::default(), [&b"a,b\n1,2\n\"x\ny\"\n3,\"z\"z\n"[..]], 10).unwrap();
    let permits: Vec<_> = rejects.iter().map(|reject| (reject.code, reject.position)).collect();
    let expected = [
        (RejectCode::FieldCount, Position { record: 2, line: 3, byte: 8 }),
        (RejectCode::AfterQuote, Position { record: 3, line: 5, byte: 14 }),
    ];
    assert_eq!(permits, expected);
}

#[rstest]
#[case::open_quote("a,b\n1,2\n3,\"4\n")]
#[case::not_utf8("a,b\n1,2\n\u{1}\n")]
#[case::lone_return("a,b\n1,x\ry\n")]
fn other_trouble_still_breaks_the_file(#[case] file: &str) {
    let file: Vec<u8> = file.bytes().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    assert_eq!(sifted(&CsvDialect::default(), [&file[..]], 10).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn what_is_converted_keeps_every_record() {
    let file = utf16("a,b\n1\n2,3\n", false);
    assert!(sifted(&CsvDialect::default(), [&file[..]], 10).is_err());
    let decoder = {
        let mut decoder = CsvDecoder::new(CsvDialect::default(), LIMITS);
        decoder.push(&utf16("a,b\n", false)).unwrap();
        decoder.finish().unwrap();
        decoder
    };
    assert_eq!(decoder.dialect().encoding, Some(encoding_rs::UTF_16LE));
}

/// Any dialect at all.
fn dialect() -> impl Strategy<Value = CsvDialect> {
    let delimiter = prop_oneof![Just(None), prop::sample::select(&b",;\t|:"[..]).prop_map(Some)];
    let quote = prop::sample::select(vec![Some(b'"'), Some(b'\''), None]);
    let encoding = prop::sample::select(vec![
        None,
        Some(encoding_rs::WINDOWS_1252),
        Some(encoding_rs::SHIFT_JIS),
        Some(encoding_rs::UTF_16LE),
        Some(encoding_rs::ISO_2022_JP),
    ]);
    let null_values = prop::sample::select(vec![None, Some(vec![b"ab".to_vec(), b"".to_vec()])]);
    (delimiter, quote, any::<bool>(), encoding, null_values).prop_map(
        |(delimiter, quote, has_header, encoding, null_values)| CsvDialect {
            delimiter,
            quote,
            has_header,
            encoding,
            null_values,
        },
    )
}

/// A writer that quotes what must be quoted, and an empty string.
fn write_record(record: &[Field], line_end: &str, out: &mut Vec<u8>) {
    for (index, field) in record.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let Some(value) = field else { continue };
        if value.is_empty() || value.iter().any(|byte| b",\"\r\n;\t|".contains(byte)) {
            out.push(b'"');
            for byte in value {
                out.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(line_end.as_bytes());
}

fn table() -> impl Strategy<Value = Vec<Vec<Field>>> {
    let field = prop_oneof![
        Just(None),
        "[a-c,\"\r\n;|é🦀\\\\]{0,6}".prop_map(|text| Some(text.into_bytes())),
        "[0-9]{1,12}".prop_map(|text| Some(text.into_bytes())),
    ];
    // A record of one missing field is a blank line, so there are always two columns at least.
    (2usize..5)
        .prop_flat_map(move |width| proptest::collection::vec(proptest::collection::vec(field.clone(), width), 1..8))
}

/// Bytes in which every mark is common.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b","[..]),
        3 => Just(&b"\""[..]),
        3 => Just(&b"\n"[..]),
        2 => Just(&b"\r"[..]),
        2 => Just(&b"\r\n"[..]),
        4 => Just(&b"ab"[..]),
        1 => Just("é".as_bytes()),
        1 => Just("\u{feff}".as_bytes()),
        1 => Just(&b";"[..]),
        1 => Just(&b"\xff\xfe"[..]),
        1 => Just(&b"\xe2\x82"[..]),
        1 => Just(&b"\0"[..]),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// What the csv-async crate reads, missing and empty fields alike; `None` when it refuses the file.
fn read_by_another(file: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = csv_async::AsyncReaderBuilder::new().has_headers(false).create_reader(file);
        let mut records = Vec::new();
        let mut record = csv_async::ByteRecord::new();
        while reader.read_byte_record(&mut record).await.ok()? {
            records.push(record.iter().map(<[u8]>::to_vec).collect());
        }
        Some(records)
    })
}

proptest! {
    #[test]
    fn a_cut_anywhere_changes_nothing(file in noise(), small in any::<bool>()) {
        let limits = if small { ReadLimits { max_record_bytes: 9, max_columns: 3, ..LIMITS } } else { LIMITS };
        let expected = outcome(decode([&file[..]], limits));
        for cut in 0..=file.len() {
            prop_assert_eq!(&outcome(decode([&file[..cut], &file[cut..]], limits)), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&outcome(decode(file.chunks(1), limits)), &expected);
    }

    #[test]
    fn no_bytes_make_any_dialect_panic_and_a_cut_changes_nothing(
        file in prop_oneof![noise(), proptest::collection::vec(any::<u8>(), 0..60)],
        dialect in dialect(),
    ) {
        let expected = outcome(decode_as(&dialect, [&file[..]], LIMITS));
        for cut in 0..=file.len() {
            prop_assert_eq!(&outcome(decode_as(&dialect, [&file[..cut], &file[cut..]], LIMITS)), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&outcome(decode_as(&dialect, file.chunks(1), LIMITS)), &expected);
    }

    #[test]
    fn what_is_left_out_and_what_is_not_is_the_whole_file(file in noise(), dialect in dialect()) {
        if let Ok((table, rejects)) = sifted(&dialect, [&file[..]], 1000) {
            for cut in 0..=file.len() {
                let again = sifted(&dialect, [&file[..cut], &file[cut..]], 1000).unwrap();
                prop_assert_eq!(&again, &(table.clone(), rejects.clone()), "cut at {}", cut);
            }
            if !rejects.is_empty() {
                let cut = cut_out(&dialect, &file, &rejects);
                prop_assert_eq!(cut.len(), rejects.len() + usize::from(dialect.has_header));
                let mut records: Vec<u64> = table.positions.iter().map(|position| position.record).collect();
                records.extend(rejects.iter().map(|reject| reject.position.record));
                records.sort_unstable();
                prop_assert_eq!(&records, &(1..=records.len() as u64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        let expected = outcome(whole(&file));
        prop_assert_eq!(outcome(decode(file.chunks(7), LIMITS)), expected);
    }

    #[test]
    fn what_is_written_is_read(records in table(), line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], keep_last in any::<bool>()) {
        let mut file = Vec::new();
        let header: Vec<Field> = (0..records[0].len()).map(|index| Some(format!("c{index}").into_bytes())).collect();
        write_record(&header, line_end, &mut file);
        for record in &records {
            write_record(record, line_end, &mut file);
        }
        if !keep_last {
            file.truncate(file.len() - line_end.len());
        }
        let read = whole(&file).unwrap();
        prop_assert_eq!(&read.rows, &records);
        for cut in 0..=file.len() {
            prop_assert_eq!(&decode([&file[..cut], &file[cut..]], LIMITS).unwrap(), &read);
        }
        let lines: Vec<u64> = read.positions.iter().map(|position| position.record).collect();
        prop_assert_eq!(lines, (1..=records.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn another_reader_agrees_on_what_is_accepted(file in noise()) {
        if let Ok(table) = whole(&file) {
            let mut ours: Vec<Vec<Vec<u8>>> = table.header.into_iter().collect();
            ours.extend(table.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()));
            // UTF-16 and byte order marks are ours alone; a second mark is text here, and the other reader drops one too.
            let mark = "\u{feff}".as_bytes();
            let text = file.strip_prefix(mark).unwrap_or(&file);
            if !text.starts_with(b"\xff\xfe") && !text.starts_with(mark) {
                prop_assert_eq!(Some(ours), read_by_another(text));
            }
        }
    }

    #[test]
    fn another_reader_agrees_on_tables(records in table()) {
        let mut file = Vec::new();
        for record in &records {
            write_record(record, "\r\n", &mut file);
        }
        let table = whole(&file).unwrap();
        let mut ours: Vec<Vec<Vec<u8>>> = table.header.into_iter().collect();
        ours.extend(table.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()));
        prop_assert_eq!(Some(ours), read_by_another(&file));
    }
}
