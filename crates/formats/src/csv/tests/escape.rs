//! Escape characters, detected and configured.

use rstest::rstest;

use super::*;

#[rstest]
#[case::spark(
    "sku,title,note\nK-1,\"24\\\" oak\",x\nK-2,\"\\\"Nord\\\", 3\",\"y, z\"\nK-3,Lamp,\nK-4,\"5\\\", black\",\"\\\"ok\\\"\"\n",
    "sku|title|note/K-1|24\" oak|x/K-2|\"Nord\", 3|y, z/K-3|Lamp|-/K-4|5\", black|\"ok\""
)]
#[case::escaped_backslash("a,b\n\"x\\\\\",\"y\\\" z\"\n", "a|b/x\\|y\" z")]
#[case::newline("a,b\n\"x\n\\\"y\\\"\",1\n", "a|b/x\\n\"y\"|1")]
#[case::null_token("a,b\n\\N,\"x\\\" y\"\n", "a|b/\\N|x\" y")]
#[case::backslash_outside_quotes("a,b\nC:\\dir,\"x\\\" y\"\n", "a|b/C:\\dir|x\" y")]
#[case::empty_quoted("a,b\n\"\",\"x\\\" y\"\n", "a|b/|x\" y")]
#[case::one_column("a\n\"say \\\"hi\\\"\"\n", "a/say \"hi\"")]
#[case::other_delimiter("a;b\n\"x\\\";y\";1\n\"z\";2\n", "a|b/x\";y|1/z|2")]
#[case::extra_field("a,b\n\"x\\\" y\",1,\n\"z\",2,\n", "a|b/x\" y|1/z|2")]
// The records are valid without escapes.
#[case::directory("a,b\n\"C:\\dir\\\",1\n\"D:\\\",2\n", "a|b/C:\\dir\\|1/D:\\|2")]
#[case::doubled_quotes("a,b\n\"x\\\"\"y\",1\n", "a|b/x\\\"y|1")]
#[case::both_readings("a,b\n\"x\\\",\"y\"\n", "a|b/x\\|y")]
// Neither reading is valid.
#[case::other_escapes("a,b\n\"C:\\new \\\"x\\\"\",1\n", "!field 1 has text after its closing quote")]
#[case::mixed("a,b\n\"x\\\" y\",1\n\"z\"\"\",2\n", "!set CSV_ESCAPE to it")]
#[case::escaped_delimiter_outside("a,b\n\"x\\\" y\",1\nz\\,2\n", "!set CSV_ESCAPE to it")]
#[case::uneven("a,b\n\"x\\\" y\",1\n\"z\",2,3\n", "!set CSV_ESCAPE to it")]
#[case::never_closed("a,b\n1,\"x\\\"\" y\n", "!the quote that opens field 2 is never closed; if a backslash escapes")]
#[case::wrong_number(
    "a,b\n1,2\n\"x\\\",y\",z\n3\n",
    "!2 fields expected, as in the header, but 3 found; if a backslash escapes"
)]
fn backslash_is_an_escape_if_the_records_are_valid_only_then(#[case] file: &str, #[case] expected: &str) {
    check(&detecting(), file, expected);
    let semicolon = file.contains(';');
    let delimiter = Some(if semicolon { b';' } else { b',' });
    check(&CsvDialect { delimiter, ..CsvDialect::default() }, file, expected);
}

/// A file whose first 64 KiB show that backslashes escape quotes, or not, with a record after them.
fn long_file(first: &str, last: &str) -> String {
    format!("a,b\n{}{last}\n", first.repeat(70_000 / first.len()))
}

#[rstest]
#[case::agrees("\"x \\\"y\\\" z\",1\n", "\"\\\\\\\"\",2", None)]
#[case::other_character(
    "\"x \\\"y\\\" z\",1\n",
    "\"C:\\new\",2",
    Some("field 1 has a backslash before another character")
)]
#[case::doubled_quote("\"x \\\"y\\\" z\",1\n", "\"\"\"\",2", Some("field 1 has a doubled quote"))]
#[case::outside_quotes("\"x \\\"y\\\" z\",1\n", "z\\,2", Some("field 1 has a backslash outside quotes"))]
#[case::end_of_the_file("\"x \\\"y\\\" z\",1\n", "2,z\\", Some("field 2 has a backslash outside quotes"))]
#[case::no_escape_before("\"x, y\",1\n", "\"24\\\" oak\",2", Some("field 1 has text after its closing quote"))]
#[case::no_escape_before_and_quotes(
    "\"x, y\",1\n",
    "\"24\\\"\",2\n\"x\",1",
    Some("field 1 has text after its closing quote")
)]
fn later_record_that_contradicts_the_first_rejects_the_file(
    #[case] first: &str,
    #[case] last: &str,
    #[case] expected: Option<&str>,
) {
    let file = long_file(first, last);
    for chunk_bytes in [1000, 65_536, file.len()] {
        let found = decode_as(&detecting(), file.as_bytes().chunks(chunk_bytes), LIMITS);
        match expected {
            None => assert_eq!(found.unwrap().rows.last().unwrap()[0].as_deref(), Some(&b"\\\""[..])),
            Some(expected) => {
                let error = found.unwrap_err();
                assert!(error.message().starts_with(expected), "{error}");
                assert!(error.message().contains("set CSV_ESCAPE to"), "{error}");
                assert_eq!(error.position().unwrap().byte, file.rfind(last).unwrap() as u64);
            }
        }
    }
}

#[rstest]
#[case::quotes("a,b\n\"x\\\"y\",\"\\\\\"\n", "a|b/x\"y|\\")]
#[case::any_character("a,b\n\"\\x\\é\\,\",\\y\n", "a|b/xé,|y")]
#[case::outside_quotes("a,b\nx\\,y,\\\"z\n", "a|b/x,y|\"z")]
#[case::line_ends("a,b\nx\\\ny,\"\\\r\\\n\"\n", "a|b/x\\ny|\\r\\n")]
#[case::null_token("a,b\n\\N,\\Nx\n\"\\N\",x\\N\n", "a|b/\\N|Nx/N|xN")]
#[case::null_token_at_the_end("a,b\n1,\\N", "a|b/1|\\N")]
#[case::doubled_quotes_too("a,b\n\"x\"\"y\",1\n", "a|b/x\"y|1")]
#[case::ends_after_the_escape("a,b\n1,x\\", "!the file ends after an escape character (CSV_ESCAPE)")]
#[case::never_closed("a,b\n1,\"x\\\"", "!the quote that opens field 2 is never closed")]
fn configured_escape_makes_the_next_character_literal(#[case] file: &str, #[case] expected: &str) {
    check(&CsvDialect { escape: Some(b'\\'), ..detecting() }, file, expected);
}

#[test]
fn other_escapes_and_quotes_can_be_configured() {
    let caret = CsvDialect { escape: Some(b'^'), quote: Some(b'\''), ..detecting() };
    check(&caret, "a,b\n'x^'',1\n\\N,^N\n", "a|b/x'|1/\\N|N");
    let without_quotes = CsvDialect { escape: Some(b'\\'), quote: None, ..detecting() };
    check(&without_quotes, "a|b\nx\\|y|\"z\\\"\n", "a|b/x|y|\"z\"");
    let doubled = CsvDialect { escape: Some(b'"'), ..detecting() };
    check(&doubled, "a,b\n\"x\"\"y\",\\\n", "a|b/x\"y|\\");
}

#[test]
fn positions_count_escaped_line_ends() {
    let dialect = CsvDialect { escape: Some(b'\\'), ..detecting() };
    let file = "a,b\nx\\\ny,\"\\\n\n\"\n1,2\n";
    let table = decode_as(&dialect, [file.as_bytes()], LIMITS).unwrap();
    assert_eq!(table.positions[1], Position { record: 2, line: 6, byte: file.find("1,2").unwrap() as u64 });
}

/// The quote that an escape would leave open reaches the end of the first text. It proves nothing.
#[test]
fn open_quote_does_not_show_an_escape() {
    let file = format!("id,p\n1,\"C:\\\"\n{}3,x,y\n{}", "2,xxxxxxxx\n".repeat(100), "2,xxxxxxxx\n".repeat(9000));
    let error = decode_as(&detecting(), file.as_bytes().chunks(4096), LIMITS).unwrap_err();
    assert!(error.message().contains("2 fields expected"), "{error}");
}
