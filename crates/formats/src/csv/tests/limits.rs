//! Limits on records and columns, batches, and memory.

use rstest::rstest;

use super::*;

#[test]
fn record_may_be_as_long_as_the_limit() {
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
            assert_eq!(comparable(result).unwrap_err(), expected, "cut at {cut}");
        }
    }
}

#[test]
fn header_beyond_the_limits_is_rejected() {
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

/// The memory of the decoder that depends on the file.
fn memory_bytes(decoder: &CsvDecoder) -> usize {
    decoder.records.rows.memory_bytes()
}

#[rstest]
#[case::unterminated_quote(b"a,b\n1,2\n3,\"", b"xxxxxxxxx,\n")]
#[case::no_newline(b"a,b\n", b"xxxxxxxxxxx")]
#[case::delimiters_without_end(b"a,b\n", b",,,,,,,,,,,")]
#[case::header_without_end(b"a", b"aaaaaaaaaaa")]
#[case::wide_header(b"a", b",,,,,,,,,,,")]
#[case::empty_lines_then_returns(b"a\n\n\r", b"\r\r\r\r\r\r\r\r\r\r\rx")]
#[case::comment_without_end(b"#", b"# # # # # #")]
fn endless_file_is_rejected_in_bounded_memory(#[case] start: &[u8], #[case] more: &[u8]) {
    let dialect = CsvDialect { comment: Some(b'#'), ..CsvDialect::default() };
    let mut decoder = CsvDecoder::new(dialect, LIMITS);
    decoder.push(start).unwrap();
    let chunk = more.repeat(1000);
    // One of these chunks exceeds a limit.
    let error = (0..200).find_map(|_| {
        assert!(memory_bytes(&decoder) <= 3 << 20, "{} bytes in memory", memory_bytes(&decoder));
        decoder.push(&chunk).err()
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn batch_is_returned_as_soon_as_it_is_full() {
    let mut decoder = CsvDecoder::new(strict(), LIMITS);
    decoder.push(b"a,b\n").unwrap();
    assert_eq!(decoder.header().map(<[Vec<u8>]>::len), Some(2));
    let mut rows = 0;
    for number in 0..5_000 {
        decoder.push(format!("{number},{}\n", "x".repeat(number % 100)).as_bytes()).unwrap();
        while let Some(batch) = decoder.take_batch() {
            assert!(batch.rows() <= 1024 && batch.size_bytes() < 65 * 1024);
            rows += batch.rows();
        }
        assert!(number + 1 - rows < 1024, "rows are not returned");
    }
    decoder.finish().unwrap();
    rows += decoder.take_batch().unwrap().rows();
    assert_eq!((rows, decoder.take_batch().is_none()), (5_000, true));
}

#[test]
fn field_of_ten_megabytes_is_read() {
    let field = "0123456789\"\"\n".repeat(800_000);
    let file = format!("a,b\n1,\"{field}\"\n2,x\n");
    let table = decode(file.as_bytes().chunks(65_536), ReadLimits { max_record_bytes: 1 << 25, ..LIMITS }).unwrap();
    assert_eq!(table.rows[0][1].as_deref(), Some("0123456789\"\n".repeat(800_000).as_bytes()));
    assert_eq!(table.positions[1], Position { record: 2, line: 800_003, byte: file.rfind("2,x").unwrap() as u64 });
}
