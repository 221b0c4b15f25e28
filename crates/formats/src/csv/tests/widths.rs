//! Records with another number of fields than the header, and records of nothing but delimiters.

use rstest::rstest;

use super::*;
use crate::reject::RejectCode;

#[rstest]
#[case::every_record("id,day\n1,x,\n2,y,\n", "id|day/1|x/2|y")]
#[case::one_record("id,day\n1,x,", "id|day/1|x")]
#[case::crlf("id;day\r\n1;x;\r\n2;;\r\n", "id|day/1|x/2|-")]
#[case::one_column("id\n1,\n2,\n", "id/1/2")]
#[case::header_too("id,day,\n1,x,\n", "id|day|/1|x|-")]
#[case::not_every_record(
    "id,day\n1,x,\n2,y\n",
    "!only if the first field of every record has no name in the header, set CSV_EXTRA_FIELD"
)]
#[case::later_record("id,day\n1,x\n2,y,\n", "!2 fields expected, as in the header, but 3 found (record 2")]
#[case::value("id,day\n1,x,\n2,y,z\n", "!2 fields expected, as in the header, but 3 found; check the quotes")]
#[case::quoted("id,day\n1,x,\"\"\n", "!2 fields expected, as in the header, but 3 found")]
#[case::two_fields("id,day\n1,x,,\n", "!2 fields expected, as in the header, but 4 found")]
fn empty_field_after_the_last_column_is_dropped_if_every_record_has_it(#[case] file: &str, #[case] expected: &str) {
    check(&detecting(), file, expected);
}

#[rstest]
#[case::agrees("2,y,", None)]
#[case::absent("2,y", Some("2 fields and an empty one expected, as in the header and the first records, but 2 found"))]
#[case::two("2,y,,", Some("2 fields and an empty one expected, as in the header and the first records, but 4 found"))]
#[case::value("2,y,z", Some("the field after the last column is empty in the first records, but here it has a value"))]
#[case::quoted(
    "2,y,\"\"",
    Some("the field after the last column is empty in the first records, but here it has a value")
)]
fn every_later_record_must_have_the_empty_field(#[case] last: &str, #[case] expected: Option<&str>) {
    let records = "1,x,\n".repeat(20_000);
    let file = format!("id,day\n{records}{last}\n3,z,\n");
    let bytes = file.as_bytes();
    let found = decode_as(&detecting(), bytes.chunks(1000), LIMITS);
    let Some(expected) = expected else {
        assert_eq!(found.unwrap().rows.len(), 20_002);
        return;
    };
    let error = found.unwrap_err();
    assert!(error.message().starts_with(expected), "{error}");
    assert_eq!(error.position().map(|position| position.record), Some(20_001));
    // The record alone is rejected where that is allowed.
    let (table, rejects) = decode_with_rejects(&detecting(), bytes.chunks(1000), 1).unwrap();
    assert_eq!((table.rows.len(), rejects.len(), rejects[0].code), (20_001, 1, RejectCode::FieldCount));
    assert_eq!(table.rows[20_000], [Some(b"3".to_vec()), Some(b"z".to_vec())]);
}

#[test]
fn blank_records_are_rows_of_nulls_or_skipped() {
    let file = "a,b\n1,2\n,\n\n3,4\n\"\",\n,,,\n,";
    let skip = CsvDialect { blank_records: BlankRecords::Skip, ..detecting() };
    check(&detecting(), "a,b\n1,2\n,\n,\n", "a|b/1|2/-|-/-|-");
    check(&detecting(), file, "!2 fields expected, as in the header, but 4 found (record 5");
    check(&skip, file, "a|b/1|2/3|4/|-");
    check(&skip, ",,\n,,\na,b,c\n1,2,3\n", "a|b|c/1|2|3");
    check(&skip, "a,b\n1,2,\n,,\n3,4,\n", "a|b/1|2/3|4");
    let without_header = CsvDialect { has_header: false, ..skip.clone() };
    check(&without_header, ",\n1,2\n,\n", "|/1|2");
    let null_values = Some(vec![b"-".to_vec()]);
    check(&CsvDialect { null_values, ..skip.clone() }, "a,b\n-,\n,\n1,2\n", "a|b/-|-/1|2");
    let table = decode_as(&skip, [file.as_bytes()], LIMITS).unwrap();
    assert_eq!(table.positions[1], Position { record: 2, line: 5, byte: 11 });
}

#[test]
fn repeated_headers_are_rows_or_skipped() {
    let file = "id,name\n1,a\nid,name\nid,b\n\"id\",\"name\"\n2,c\nid\n";
    let skip = CsvDialect { repeated_headers: RepeatedHeaders::Skip, short_records: ShortRecords::Fill, ..detecting() };
    check(&detecting(), "id,name\na,b\nid,name\n", "id|name/a|b/id|name");
    check(&skip, file, "id|name/1|a/id|b/2|c/id|-");
    check(&skip, "id,\nid,\n1,2\n", "id|/1|2");
    check(&CsvDialect { has_header: false, ..skip.clone() }, "id,x\nid,x\n", "|/id|x/id|x");
    let table = decode_as(&skip, [file.as_bytes()], LIMITS).unwrap();
    assert_eq!(table.positions[1], Position { record: 2, line: 4, byte: 20 });
}

#[test]
fn ctrl_z_at_the_end_is_no_record() {
    check(&detecting(), "id,name\r\n1,a\r\n\x1a", "id|name/1|a");
    check(&detecting(), "id,name\r\n1,a\r\n\x1a\r\n", "id|name/1|a");
    check(&detecting(), "id,name\n1,a\x1a", "id|name/1|a");
    check(&detecting(), "name\na\n\x1a", "name/a");
    check(&detecting(), "name\na\x1a\n", "name/a\x1a");
    check(&detecting(), "id,name\n\x1a\n1,a\n", "!2 fields expected");
    let with_footer = CsvDialect { skip_footer_lines: 1, ..detecting() };
    check(&with_footer, "id,name\n1,a\nTotal,1\n\x1a", "id|name/1|a");
}

#[rstest]
#[case::short("a,b,c\n1\n1,2\n1,2,3\n", "a|b|c/1|-|-/1|2|-/1|2|3")]
#[case::trailing_delimiter("a,b,c\n1,2,\n", "a|b|c/1|2|-")]
#[case::long("a,b\n1\n1,2,3\n", "!2 fields expected, as in the header, but 3 found")]
#[case::extra_field("a,b\n1,2,\n3,4,\n", "a|b/1|2/3|4")]
fn short_records_can_be_filled(#[case] file: &str, #[case] expected: &str) {
    let fill = CsvDialect { short_records: ShortRecords::Fill, ..detecting() };
    check(&fill, file, expected);
    check(&CsvDialect { has_header: false, ..fill }, "1,2,3\n4\n", "||/1|2|3/4|-|-");
}

#[test]
fn short_records_are_bad_by_default() {
    check(&detecting(), "a,b,c\n1,2\n1,2,3\n", "!3 fields expected, as in the header, but 2 found");
}
