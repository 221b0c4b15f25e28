//! Data records with one more field than the header.

use rstest::rstest;

use super::*;

fn with_place(extra_field: ExtraFieldPlace) -> CsvDialect {
    CsvDialect { extra_field, ..detecting() }
}

#[rstest]
#[case::trailing_delimiter("a,b\n1,x,\n2,y,\n", "a|b/1|x/2|y")]
#[case::all_quoted("\"a\",\"b\"\n\"1\",\"x\",\n\"2\",\"y\",\n", "a|b/1|x/2|y")]
#[case::quoted_text_first("\"a\",\"b\"\n\"k\",7,\n\"l\",8,\n", "a|b/k|7/l|8")]
#[case::unquoted_header("a,b\n\"1\",7,\n\"2\",8,\n", "a|b/1|7/2|8")]
#[case::usual("a,b\n1,x\n", "a|b/1|x")]
#[case::row_numbers_without_quotes("n,note\n1,7.5,\n2,8.5,\n", "n|note/1|7.5/2|8.5")]
#[case::quotes_around_every_value("\"n\",\"note\"\n\"1\",\"7\",\n\"2\",\"8\",\n", "n|note/1|7/2|8")]
#[case::value_that_is_no_number("\"n\",\"note\"\n\"1a\",7.5,\n", "n|note/1a|7.5")]
fn empty_last_field_is_dropped(#[case] file: &str, #[case] expected: &str) {
    for place in [ExtraFieldPlace::Auto, ExtraFieldPlace::Last] {
        assert_eq!(read_in_every_way(&with_place(place), file).as_deref(), Ok(expected));
    }
}

/// As `write.table` of R writes a data frame whose last column is empty.
#[rstest]
#[case::whole_number("7")]
#[case::fraction("7.25")]
#[case::negative("-0.5")]
#[case::date("2024-02-29")]
#[case::time("2024-02-29 13:05:00")]
#[case::boolean("TRUE")]
#[case::infinite("-Inf")]
fn row_numbers_before_an_empty_column_need_a_setting(#[case] value: &str) {
    let file = format!("\"n\",\"note\"\n\"1\",{value},\n\"12\",NA,\n");
    let error = read_in_every_way(&with_place(ExtraFieldPlace::Auto), &file).unwrap_err();
    assert!(
        error.contains("set CSV_EXTRA_FIELD to first or last") && error.ends_with("(header, line 1, byte 0)"),
        "{error}"
    );
    let read = |place| read_in_every_way(&with_place(place), &file).unwrap();
    assert_eq!(read(ExtraFieldPlace::First), format!("|n|note/1|{value}|-/12|NA|-"));
    assert_eq!(read(ExtraFieldPlace::Last), format!("n|note/1|{value}/12|NA"));
}

#[test]
fn row_numbers_before_values_name_the_setting() {
    let file = "n,note\n1,7,x\n2,8,y\n";
    for place in [ExtraFieldPlace::Auto, ExtraFieldPlace::Last] {
        let error = read_in_every_way(&with_place(place), file).unwrap_err();
        assert!(error.contains("2 fields expected") && error.contains("set CSV_EXTRA_FIELD to first"), "{error}");
    }
    assert_eq!(read_in_every_way(&with_place(ExtraFieldPlace::First), file).as_deref(), Ok("|n|note/1|7|x/2|8|y"));
}

#[rstest]
#[case::usual("a,b\n1,x\n", Ok("a|b/1|x"))]
#[case::header_only("a,b\n", Ok("a|b"))]
#[case::record_without_it("a,b\n1,2,3\n4,5\n", Err("2 fields expected, as in the header, but 3 found (record 1"))]
fn first_field_without_a_name_is_in_every_record(#[case] file: &str, #[case] expected: Result<&str, &str>) {
    let dialect = CsvDialect { delimiter: Some(b','), ..with_place(ExtraFieldPlace::First) };
    let result = read_in_every_way(&dialect, file);
    match expected {
        Ok(shown) => assert_eq!(result.as_deref(), Ok(shown)),
        Err(words) => assert!(result.as_ref().is_err_and(|error| error.contains(words)), "{result:?}"),
    }
}
