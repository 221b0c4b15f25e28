//! Files that pyarrow 26 wrote (`files/pyarrow_files.py`): every encoding and type, and what is not supported.

use rstest::rstest;

use super::*;

/// The bytes of a file without its prefix and extension.
fn file(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/parquet/reader/tests/files");
    std::fs::read(format!("{folder}/pyarrow_{name}.parquet")).unwrap()
}

/// The values of each column, with its name and type.
fn columns(name: &str) -> Vec<(String, Vec<String>)> {
    let (columns, rows) = read(&file(name)).unwrap();
    let column = |(index, (name, kind)): (usize, &(String, ColumnType))| {
        (format!("{name} {kind:?}"), rows.iter().map(|row| row[index].clone()).collect())
    };
    columns.iter().enumerate().map(column).collect()
}

fn is_missing(row: i64) -> bool {
    row % 7 == 3
}

#[rstest]
#[case::pages_of_version_1("encodings_v1")]
#[case::pages_of_version_2("encodings_v2")]
fn every_encoding_is_read(#[case] name: &str) {
    let number = |row: i64| (row * 7919 - 100_000) * (row % 3 - 1);
    let text = |row: i64| format!("prefix/{}/{}", row / 10, row * row);
    let columns = columns(name);
    assert_eq!(columns.len(), 11);
    for (column, values) in columns {
        assert_eq!(values.len(), 200, "{column}");
        for (row, value) in (0..).zip(&values) {
            if is_missing(row) {
                assert_eq!(value, "-", "{column} {row}");
                continue;
            }
            let expected = match column.as_str() {
                "int_delta Integer" | "int_split Integer" => number(row).to_string(),
                "long_delta Integer" => (number(row) * 1_000_003).to_string(),
                "double_split Double" => (number(row) as f64 / 8.0).to_string(),
                "float_split Double" => (row as f32 / 4.0).to_string(),
                "fixed_split Text" => format!("{row:04}"),
                "flag_rle Boolean" => (row % 5 < 2).to_string(),
                "text_lengths Text" | "text_prefixes Text" | "text_plain Text" => text(row),
                "word_dictionary Text" => format!("word {}", row % 9),
                other => panic!("{other}"),
            };
            assert_eq!(*value, expected, "{column} {row}");
        }
    }
}

#[rstest]
#[case("none")]
#[case("snappy")]
#[case("gzip")]
#[case("lz4")]
#[case("zstd")]
fn every_supported_codec_is_read(#[case] codec: &str) {
    let rows = read(&file(&format!("codec_{codec}"))).unwrap().1;
    let expected = (0..50).map(|row| vec![row.to_string(), "abc".repeat(row % 9)]);
    assert!(rows.into_iter().eq(expected));
}

/// Each column with the values of the first two rows. The third row has none.
const TYPES: [(&str, [&str; 2]); 32] = [
    ("d9 Decimal { precision: 9, scale: 2 }", ["-1234567.89", "0.05"]),
    ("d18 Decimal { precision: 18, scale: 6 }", ["123456789012.000001", "-0.000001"]),
    ("d38 Decimal { precision: 38, scale: 10 }", ["1234567890123456789012345678.0123456789", "0.0000000000"]),
    ("d50 Text", ["123456789012345678901234567890123456789012345.00001", "1.00000"]),
    ("half Double", ["1.5", "-0.25"]),
    ("single Text", ["0.1", "NaN"]),
    ("u8 Integer", ["255", "0"]),
    ("u32 Integer", ["4294967295", "0"]),
    ("u64 Decimal { precision: 20, scale: 0 }", ["18446744073709551615", "0"]),
    ("day Date", ["2024-02-29", "1970-01-01"]),
    ("day64 Date", ["2024-02-29", "1969-12-31"]),
    ("clock32 Text", ["13:05:00.250000", "00:00:00"]),
    ("clock64 Text", ["23:59:59.999999", "00:00:00"]),
    ("at_s DateTime", ["2024-02-29 13:05:00", "1969-12-31 00:00:00"]),
    ("at_ns DateTime", ["2024-02-29 13:05:00.250000", "1970-01-01 00:00:00"]),
    ("instant Instant", ["2024-02-29 13:05:00.250000Z", "2024-02-29 13:05:00.250000Z"]),
    ("span Integer", ["3600", "0"]),
    ("nothing Text", ["-", "-"]),
    ("large Text", ["grün", ""]),
    ("view Text", ["a longer text than twelve bytes", ""]),
    ("bytes Binary", ["0xff00", ""]),
    ("category Text", ["a", "b"]),
    ("list Json", ["[1,null]", "[]"]),
    ("large_list Json", [r#"["a\"b","NULL"]"#, "[]"]),
    ("fixed_list Json", ["[1,2]", "[3,null]"]),
    ("map Json", [r#"{"k":{"x":1,"tags":["a"]}}"#, "{}"]),
    ("struct Json", [r#"{"x":null,"tags":[]}"#, r#"{"x":2,"tags":null}"#]),
    ("deep Json", [r#"[[{"x":1,"tags":["b"]}],null,[]]"#, "[]"]),
    ("days Json", [r#"["2024-02-29"]"#, "[null]"]),
    ("amounts Json", ["[1.10]", "[null]"]),
    ("id Text", ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    ("doc Json", [r#"{"a": [1, 2]}"#, "[]"]),
];

#[rstest]
#[case::with_the_schema_of_arrow("types")]
#[case::without_it("types_plain")]
fn every_type_is_read(#[case] name: &str) {
    let found = columns(name);
    let expected = TYPES.map(|(column, [first, second])| (column.to_owned(), vec![first, second, "-"]));
    for (found, (column, values)) in found.iter().zip(&expected) {
        assert_eq!((&found.0, &found.1), (column, &values.iter().map(|value| (*value).to_owned()).collect()));
    }
    assert_eq!(found.len(), expected.len());
}

/// In 64 bits nanoseconds would end in 2262, and a later value would silently become another one.
#[rstest]
#[case::with_the_schema_of_arrow("int96")]
#[case::without_it("int96_plain")]
fn timestamps_of_96_bits_are_exact_within_nested_values(#[case] name: &str) {
    let (last, first) = ("9999-12-31 23:59:59.999999", "0001-01-01 00:00:00.000001");
    let expected = [
        ("flat Text", [last.to_owned(), first.to_owned()]),
        ("list Json", [format!("[\"{last}\",null,\"{first}\"]"), "[]".to_owned()]),
        ("struct Json", [format!("{{\"at\":\"{last}\",\"n\":1}}"), "{\"at\":null,\"n\":2}".to_owned()]),
        ("map Json", [format!("{{\"k\":\"{first}\"}}"), "{\"k\":null}".to_owned()]),
        ("deep Json", [format!("[{{\"at\":[\"{last}\"]}}]"), "[{\"at\":null}]".to_owned()]),
        ("fine Json", ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000001"].map(|at| format!("[\"{at}\"]"))),
        ("other Json", ["[1]".to_owned(), "[]".to_owned()]),
    ];
    for ((column, values), (expected_column, [one, two])) in columns(name).into_iter().zip(expected) {
        assert_eq!((column.as_str(), values), (expected_column, vec![one, two, "-".to_owned()]));
    }
}

#[test]
fn row_groups_without_rows_are_read() {
    let rows = read(&file("empty_groups")).unwrap().1;
    assert_eq!(rows, [["1", r#"["1"]"#], ["2", r#"["2"]"#], ["3", r#"["3"]"#]]);
    for (name, width) in [("no_groups", 2), ("no_columns", 0)] {
        let (columns, rows) = read(&file(name)).unwrap();
        assert_eq!((columns.len(), rows.len()), (width, 0), "{name}");
    }
}

#[test]
fn repeated_names_are_separate_columns() {
    let (columns, rows) = read(&file("repeated_names")).unwrap();
    assert_eq!(columns.len(), 3);
    assert_eq!(rows, [["1", "2", "3"]]);
}

#[rstest]
#[case("codec_brotli", "brotli")]
#[case("encrypted_footer", "encrypted")]
#[case("encrypted_column", "encrypted")]
fn unsupported_file_is_rejected_by_name(#[case] name: &str, #[case] words: &str) {
    assert_invalid(&file(name), words);
}
