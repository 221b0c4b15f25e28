//! UTF-8, UTF-16 and configured encodings.

use rstest::rstest;

use super::*;

#[rstest]
#[case::latin1(b"a,b\n1,2\ncaf\xe9,3\n", 11, (2, 3, 8))]
#[case::in_quotes(b"a,b\n1,\"x\ny\xff\"\n", 10, (1, 2, 4))]
#[case::header(b"\xefa\n", 0, (0, 1, 0))]
#[case::after_mark(b"\xef\xbb\xbfa\n\xff\n", 5, (1, 2, 5))]
#[case::truncated(b"a\nx\xe2\x82", 3, (1, 2, 2))]
#[case::surrogate(b"a\n\xed\xa0\x80\n", 2, (1, 2, 2))]
#[case::overlong(b"a\n\xc0\xaf\n", 2, (1, 2, 2))]
fn invalid_utf8_is_rejected(#[case] file: &[u8], #[case] invalid_byte: u64, #[case] position: (u64, u64, u64)) {
    for cut in 0..=file.len() {
        let error = decode([&file[..cut], &file[cut..]], LIMITS).unwrap_err();
        let (record, line, byte) = position;
        assert_eq!(error.position(), Some(Position { record, line, byte }), "{error}");
        assert!(error.message().starts_with(&format!("the byte at {invalid_byte} is not valid UTF-8; ")), "{error}");
    }
}

#[rstest]
#[case(false)]
#[case(true)]
fn utf16_with_a_byte_order_mark_is_read(#[case] big_endian: bool) {
    let text = "name,größe\n\"🦀,\n\",\n,\"\"\n";
    let file = utf16(text, big_endian);
    let expected = decode_whole(text).unwrap();
    for cut in 0..=file.len() {
        assert_eq!(decode([&file[..cut], &file[cut..]], LIMITS).unwrap(), expected, "cut at {cut}");
    }
    assert_eq!(decode(file.chunks(1), LIMITS).unwrap(), expected);
    let long: String = "a,b\n".chars().chain("x,ü\n".chars().cycle().take(60_000)).collect();
    assert_eq!(decode_whole(utf16(&long, big_endian)).unwrap(), decode_whole(&long).unwrap());
}

#[rstest]
#[case(false)]
#[case(true)]
fn utf16_without_a_byte_order_mark_is_read_if_its_beginning_is_latin(#[case] big_endian: bool) {
    // The first 32 characters decide.
    for text in ["id,city\n1,Graz\n", "n\n", "id,city,größe\n1,\"Lyon\",2\n3,Oslo,4\n5,Środa Wielkopolska 🦀,город\n"]
    {
        let file = utf16(text, big_endian)[2..].to_vec();
        let expected = decode_whole(text).unwrap();
        for cut in 0..=file.len() {
            assert_eq!(decode([&file[..cut], &file[cut..]], LIMITS).unwrap(), expected, "cut at {cut}");
        }
        assert_eq!(decode(file.chunks(1), LIMITS).unwrap(), expected);
        let mut decoder = CsvDecoder::new(CsvDialect::default(), LIMITS);
        decoder.push(&file).unwrap();
        decoder.finish().unwrap();
        let dialect = decoder.dialect();
        assert_eq!(
            dialect.encoding,
            TextEncoding::Named(if big_endian { encoding_rs::UTF_16BE } else { encoding_rs::UTF_16LE })
        );
        assert_eq!(decode_as(&dialect, [&file[..]], LIMITS).unwrap(), expected, "the second pass");
    }
}

#[test]
fn utf16_without_a_byte_order_mark_must_be_valid_to_its_end() {
    let mut file = utf16(&"id,city\n1,Graz\n".repeat(10), false)[2..].to_vec();
    file.extend(b"\x00\xd8x\0\n\0");
    let error = decode([&file[..]], LIMITS).unwrap_err();
    assert!(error.message().starts_with("the file begins as UTF-16 but is not valid UTF-16 here"), "{error}");
}

#[rstest]
#[case::utf16_lone_surrogate(
    b"\xff\xfea\0\n\0\x00\xd8x\0\n\0",
    "the file begins as UTF-16 but is not valid UTF-16 here"
)]
#[case::utf16_truncated(b"\xff\xfea\0\n\0x", "the file begins as UTF-16 but is not valid UTF-16 here")]
#[case::utf16_not_latin(b"a\0,\0\x38\x04\n\0", "the file looks like UTF-16 without a byte order mark")]
#[case::utf16_not_latin_big_endian(b"\0a\0,\x04\x38\0\n", "the file looks like UTF-16 without a byte order mark")]
#[case::utf16_two_zeros(b"a\0\0\0\n\0", "the file looks like UTF-16 without a byte order mark")]
#[case::utf16_one_character(b"\n\0", "the file looks like UTF-16 without a byte order mark")]
#[case::zeros_by_chance(b"a\0b,c\n", "the file looks like UTF-16 without a byte order mark")]
#[case::utf16_without_mark_odd(b"a\0,\0b\0\n", "the file begins as UTF-16 but is not valid UTF-16 here")]
#[case::utf32(b"\xff\xfe\0\0a\0\0\0", "the file is UTF-32")]
fn other_encodings_are_rejected_by_name(#[case] file: &[u8], #[case] expected: &str) {
    for cut in 0..=file.len() {
        let error = decode([&file[..cut], &file[cut..]], LIMITS).unwrap_err();
        assert!(error.message().starts_with(expected), "{error}");
    }
}

#[rstest]
#[case("windows-1252", b"n,p\ncaf\xe9,\x80 5\n", "n|p/caf\u{e9}|\u{20ac} 5")]
#[case("latin1", b"n\n\xfc\n", "n/\u{fc}")]
#[case("shift_jis", b"n,m\n\x93\xfa\x96\x7b,\x83\x5c\n", "n|m/\u{65e5}\u{672c}|\u{30bd}")]
#[case("utf-16le", b"n\0\n\0\xe9\0\n\0", "n/\u{e9}")]
#[case("windows-1252", b"\xef\xbb\xbfn\n\xc3\xa9\n", "n/\u{e9}")]
fn encoding_can_be_configured(#[case] label: &str, #[case] file: &[u8], #[case] expected: &str) {
    let encoding = TextEncoding::parse(label).unwrap();
    let dialect = CsvDialect { encoding, ..detecting() };
    for cut in 0..=file.len() {
        assert_eq!(shown(&decode_as(&dialect, [&file[..cut], &file[cut..]], LIMITS).unwrap()), expected);
    }
}

#[test]
fn text_in_another_encoding_than_configured_is_rejected() {
    let dialect = CsvDialect { encoding: TextEncoding::Named(encoding_rs::SHIFT_JIS), ..detecting() };
    let error = decode_as(&dialect, [&b"n\nx\n\x81\n"[..]], LIMITS).unwrap_err();
    assert!(error.message().starts_with("the file is not valid Shift_JIS (CSV_ENCODING) here"), "{error}");
    assert_eq!(error.position().map(|position| position.record), Some(2));
}
