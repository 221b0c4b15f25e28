//! Files whose bytes are read otherwise than their writer meant: a space before the quotes, and UTF-16 without a byte order mark.

use rstest::rstest;

use super::*;

fn error_of(file: &[u8], dialect: &CsvDialect) -> Option<String> {
    decode_as(dialect, [file], LIMITS).err().map(|error| error.message().to_owned())
}

#[rstest]
#[case::all_fields("a, b\n1, \"x\"\n2, \"y\"\n", true)]
#[case::only_record("a, b\n1, \"x, y\"\n", true)]
#[case::space_after("a,b\n1,  \"x\" \n", true)]
#[case::some_fields("a, b\n1, \"x\"\n2, y\n", false)]
#[case::inch("a,b\n1, 5\"\n2, 7\"\n", false)]
#[case::no_space("a,b\n1,\"x\"\n2,\"y\"\n", false)]
fn quotes_after_a_space_never_become_part_of_all_values(#[case] file: &str, #[case] is_rejected: bool) {
    let error = error_of(file.as_bytes(), &detecting());
    assert_eq!(error.is_some(), is_rejected, "{error:?}");
    assert!(error.is_none_or(|error| error.contains("a space is before") || error.contains("expected")));
}

#[test]
fn utf16_is_named_whatever_its_first_letters_are() {
    let bytes = |text: &str, is_big: bool| utf16(text, is_big)[2..].to_vec();
    for text in ["Имя\nИван\nПётр\n", "имя,город\nИван,Москва\n", "名前,市\n山田,東京\n"]
    {
        for (is_big, name) in [(false, "utf-16le"), (true, "utf-16be")] {
            let error = error_of(&bytes(text, is_big), &detecting()).unwrap_or_default();
            assert!(error.contains(name) && error.contains("CSV_ENCODING"), "{text} {name}: {error}");
        }
    }
}

#[test]
fn setting_decides_what_quotes_after_a_space_are() {
    check(&CsvDialect { quote: None, ..detecting() }, "a,b\n1, \"x\"\n", "a|b/1| \"x\"");
}
