//! Single quotes around fields, while the quote character is the double quote.

use rstest::rstest;

use super::*;

#[rstest]
#[case::all("'a','b'\n'x','y'\n", Err(()))]
#[case::records_only("id,name\n1,'Anna'\n2,'Ben'\n", Err(()))]
#[case::with_nulls("id,name\n1,'Anna'\n2,\n3,NULL\n", Err(()))]
#[case::names_only("'id','size'\n1,2\n", Err(()))]
#[case::one_record("name\n'Anna'\n", Err(()))]
// Near misses.
#[case::apostrophe("name\nO'Brien\nD'Arcy\n", Ok("name/O'Brien/D'Arcy"))]
#[case::at_the_start("name\n't Hooft\n'Anna'\n", Ok("name/'t Hooft/'Anna'"))]
#[case::at_the_end("name\nboys'\n", Ok("name/boys'"))]
#[case::one_quote("name\n'\n", Ok("name/'"))]
#[case::some_records("id,title\n1,Foo\n2,'Bar'\n", Ok("id|title/1|Foo/2|'Bar'"))]
#[case::double_quotes_too("id,title\n1,'Foo'\n\"2\",'Bar'\n", Ok("id|title/1|'Foo'/2|'Bar'"))]
#[case::no_record("'a','b'\n", Ok("'a'|'b'"))]
#[case::number_as_text("id\n'00123\n", Ok("id/'00123"))]
fn single_quotes_never_become_part_of_all_values(#[case] file: &str, #[case] expected: Result<&str, ()>) {
    let refused =
        "!single quotes are around the text fields, but the quote character is the double quote; set CSV_QUOTE";
    check(&detecting(), file, expected.unwrap_or(refused));
}

#[test]
fn setting_decides_what_single_quotes_are() {
    let file = "'a','b'\n'x,y','z'\n";
    check(&CsvDialect { quote: Some(b'\''), ..detecting() }, file, "a|b/x,y|z");
    check(&CsvDialect { quote: None, ..detecting() }, "'a','b'\n'x','y'\n", "'a'|'b'/'x'|'y'");
    check(&CsvDialect { has_header: false, ..detecting() }, "'x',1\n", "!set CSV_QUOTE");
}
