use futures_util::TryStreamExt;
use jiff::Timestamp;
use rstest::rstest;

use super::*;
use crate::destination::ValueCheck;
use crate::error::ErrorKind;
use crate::object::ObjectRef;
use spillway_formats::TextEncoding;
use spillway_formats::columns::ColumnRules;
use spillway_formats::compression::DecodedLimits;
use spillway_formats::csv::CsvDialect;
use spillway_formats::detect::FileFormat;
use spillway_formats::json::JsonOptions;
use spillway_formats::limits::ReadLimits;
use spillway_formats::reject::RejectLimit;
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::value::spelling::DayOrder;

fn options(rejects: RejectLimit) -> ReadOptions {
    let decoded = DecodedLimits { max_bytes: 1 << 30, max_ratio: 1000 };
    ReadOptions {
        format: FileFormat::Auto,
        csv: CsvDialect { delimiter: None, ..CsvDialect::default() },
        columns: ColumnRules::default(),
        json: JsonOptions::default(),
        limits: ReadLimits { max_record_bytes: 1 << 20, max_columns: 100, max_memory_bytes: 1 << 30, decoded, rejects },
    }
}

fn reader(key: &str, bytes: &[u8], rejects: RejectLimit) -> FileReader {
    let object = ObjectRef::new("bucket", key);
    let version = ObjectVersion::new(object, "\"e\"".into(), bytes.len() as u64, Timestamp::UNIX_EPOCH, None);
    FileReader::in_memory(bytes.to_vec(), &version, &options(rejects))
}

async fn texts(reader: &FileReader, scan: &ScanResult) -> Vec<Vec<Option<String>>> {
    let batches: Vec<Batch> = reader.rows(&scan.layout).await.unwrap().try_collect().await.unwrap();
    let text = |field: Option<&[u8]>| field.map(|field| String::from_utf8(field.to_vec()).unwrap());
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.rows()).map(move |row| (0..batch.width()).map(|column| text(batch.field(row, column))).collect())
    });
    rows.collect()
}

#[tokio::test]
async fn scan_needs_bytes_and_options_only() {
    let reader = reader("a.csv", b"id,note\n1,x\n2,\n", RejectLimit::Count(0));
    let scan = reader.scan().await.unwrap();
    let columns: Vec<_> = scan.schema.columns.iter().map(|column| (column.name.as_str(), column.column_type)).collect();
    assert_eq!(columns, [("id", ColumnType::Integer), ("note", ColumnType::Text)]);
    assert_eq!((scan.rows, scan.rejects.len(), scan.decoded_bytes, scan.body_sha256.len()), (2, 0, 15, 64));
}

#[rstest]
#[case::null_marks("a.csv", "id,name,n\n1,\\N,\\N\n2,Bob,5\n", &["\\N is stored as text in name from record 1", "NULL_VALUES"])]
#[case::repeated_header("a.csv", "id,name\na,b\nid,name\n", &["record 2 repeats the header", "CSV_REPEATED_HEADERS"])]
#[case::thousands("a.csv", "n;p\n1.500;12,50\n2.750;3,5\n", &["thousands in n,", "table settings"])]
#[case::possible_thousands("a.csv", "n;p\n1.500;x\n2.750;y\n", &["with a point in n have three digits", "table settings"])]
#[case::no_semicolon("a.csv", "n,p\n1.500,x\n2.750,y\n", &[])]
#[case::code("a.csv", "n,p\n12E34,x\n2,y\n", &["values in n may be numbers with an exponent or codes"])]
#[case::small_exponent("a.csv", "n,p\n12e34,x\n2,y\n", &["values in n are read as numbers with an exponent"])]
#[case::versions("a.csv", "n,p\n1.10,x\n1.9,y\n", &["numbers in n have fractions of different lengths"])]
#[case::total("a.csv", "n,p\n1,x\n2,y\nTotal,\n", &["only the last record makes n text", "CSV_SKIP_FOOTER_LINES"])]
#[case::title("a.csv", "Report;;\nid;name;n\n1;A;5\n", &["names only the first column", "CSV_SKIP_LINES"])]
#[case::two_names("a.csv", "id;;n\n1;A;5\n", &[])]
#[case::date_and_time("a.csv", "d,p\n2024-01-02T10:00:00,x\n2024-01-03,y\n", &[])]
#[case::dynamodb("a.json", "{\"Item\":{\"a\":{\"S\":\"x\"}}}", &["JSON_VALUES to dynamodb"])]
#[case::numbers_of_json("a.json", "{\"a\":1.500,\"b\":12E34}", &[])]
#[case::no_doubt("a.csv", "n,p,q\n1.50,x,1\n2.25,y,\\N\n", &[])]
#[tokio::test]
async fn hint_says_what_the_file_leaves_open(#[case] key: &str, #[case] file: &str, #[case] expected: &[&str]) {
    let hint = reader(key, file.as_bytes(), RejectLimit::Count(0)).scan().await.unwrap().hint;
    assert_eq!(hint.is_some(), !expected.is_empty(), "{hint:?}");
    let hint = hint.unwrap_or_default();
    assert!(expected.iter().all(|part| hint.contains(part)) && !hint.contains("; \\N"), "{hint}");
}

#[rstest]
#[case("a.csv", b"id,note\n1,x\n2,\n", &[["1", "x"], ["2", ""]])]
#[case("a.jsonl", b"{\"id\":1,\"note\":\"x\"}\n{\"id\":2}\n", &[["1", "x"], ["2", ""]])]
#[tokio::test]
async fn every_pass_returns_the_same_rows(#[case] key: &str, #[case] bytes: &[u8], #[case] expected: &[[&str; 2]]) {
    let reader = reader(key, bytes, RejectLimit::Count(0));
    let scan = reader.scan().await.unwrap();
    for _ in 0..2 {
        let rows = texts(&reader, &scan).await;
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
        assert_eq!(rows, expected);
    }
}

#[tokio::test]
async fn bad_records_are_listed_within_the_limit_and_reject_the_file_beyond_it() {
    let file = b"a,b\n1,2\n3\n4,5\n";
    let scan = reader("a.csv", file, RejectLimit::Count(1)).scan().await.unwrap();
    assert_eq!((scan.rows, scan.rejects.len()), (2, 1));
    let error = reader("a.csv", file, RejectLimit::Count(0)).scan().await.unwrap_err();
    assert_eq!((error.kind(), error.position().unwrap().record), (ErrorKind::FileBroken, 2));
}

#[tokio::test]
async fn encoding_is_detected_from_all_bytes() {
    let auto = |bytes: &[u8]| {
        let mut reader = reader("a.csv", bytes, RejectLimit::Count(0));
        reader.options.csv.encoding = TextEncoding::Auto;
        reader
    };
    let western = b"id,name\n1,J\xfcrgen\n2,Zo\xeb Bront\xeb\n";
    let reader = auto(western);
    assert!(reader.peek().await.unwrap().is_none(), "a beginning proves no encoding");
    let scan = reader.scan().await.unwrap();
    let rows = texts(&reader, &scan).await;
    assert_eq!(rows[1][1].as_deref(), Some("Zoë Brontë"));
    assert_eq!((scan.body_sha256.len(), scan.can_extract_records()), (64, false));
    let reader = auto("id,name\n1,Jürgen\n".as_bytes());
    let scan = reader.scan().await.unwrap();
    assert_eq!(texts(&reader, &scan).await[0][1].as_deref(), Some("Jürgen"));
    assert!(scan.can_extract_records());
}

#[tokio::test]
async fn bytes_that_are_no_text_are_rejected_with_the_setting() {
    let mut reader = reader("a.csv", b"id,name\n1,J\xfcrgen \x81\n", RejectLimit::Count(0));
    reader.options.csv.encoding = TextEncoding::Auto;
    let error = reader.scan().await.unwrap_err();
    assert!(error.to_string().contains("set CSV_ENCODING"), "{error}");
}

#[tokio::test]
async fn beginning_proves_no_order_of_day_and_month() {
    // The first rows allow only one order, and a later one allows only the other.
    let body = format!("day\n{}01/13/2024\n", "13/01/2024\n".repeat(10_000));
    let reader = reader("a.csv", body.as_bytes(), RejectLimit::Count(0));
    let mut peeked = reader.peek().await.unwrap().unwrap();
    let column = &peeked.schema().columns[0];
    assert_eq!((column.column_type, column.day_order), (ColumnType::Text, None));
    let batches: Vec<Batch> = peeked.rows(&reader, ValueCheck::EveryValue).try_collect().await.unwrap();
    assert!(batches.is_empty());
    assert!(matches!(peeked.end().unwrap(), PassResult::Stopped(StopReason::TypeChanged)));
    let column = &reader.scan().await.unwrap().schema.columns[0];
    assert_eq!((column.column_type, column.day_order), (ColumnType::Text, None));
}

#[tokio::test]
async fn scan_proves_an_order_of_day_and_month() {
    let body = format!("day\n{}12/31/2024\n", "01/02/2024\n".repeat(10_000));
    let scan = reader("a.csv", body.as_bytes(), RejectLimit::Count(0)).scan().await.unwrap();
    let column = &scan.schema.columns[0];
    assert_eq!((column.column_type, column.day_order), (ColumnType::Date, Some(DayOrder::MonthFirst)));
}

#[tokio::test]
async fn empty_file_has_no_columns() {
    let scan = reader("a.csv", b"", RejectLimit::Count(0)).scan().await.unwrap();
    assert!(scan.schema.columns.is_empty() && scan.rows == 0);
}

#[tokio::test]
async fn beginning_gives_a_provisional_schema_and_all_rows() {
    let reader = reader("a.csv", b"a\n1\n2\n", RejectLimit::Count(0));
    let mut peeked = reader.peek().await.unwrap().unwrap();
    assert_eq!(peeked.schema().columns[0].column_type, ColumnType::Integer);
    let batches: Vec<Batch> = peeked.rows(&reader, ValueCheck::EveryValue).try_collect().await.unwrap();
    assert_eq!(batches.iter().map(Batch::rows).sum::<usize>(), 2);
    assert!(matches!(peeked.end().unwrap(), PassResult::Complete(_)));
}

#[rstest]
#[case(ValueCheck::EveryValue, "x", StopReason::TypeChanged)]
#[case(ValueCheck::NotNeeded, "1,2", StopReason::BadRecord)]
#[tokio::test]
async fn guard_stops_the_rows_before_the_end(
    #[case] value_check: ValueCheck,
    #[case] last: &str,
    #[case] expected: StopReason,
) {
    let body = format!("a\n{}{last}\n", "1\n".repeat(300_000));
    let reader = reader("a.csv", body.as_bytes(), RejectLimit::Count(1));
    let mut peeked = reader.peek().await.unwrap().unwrap();
    let batches: Vec<Batch> = peeked.rows(&reader, value_check).try_collect().await.unwrap();
    assert!(batches.iter().map(Batch::rows).sum::<usize>() <= 300_001);
    assert!(matches!(peeked.end().unwrap(), PassResult::Stopped(reason) if reason == expected));
    assert!(peeked.into_unread_rows().is_none(), "rows were read, so the pass cannot be continued");
}
