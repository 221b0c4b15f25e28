//! Files that other programs wrote, with a column of each type that they have.

use super::*;

/// The columns with their types, and the rows, one below the other.
fn shown_file(file: &[u8]) -> (String, Vec<String>) {
    let (columns, rows) = read(file).unwrap();
    let columns: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} {kind:?}")).collect();
    (columns.join(", "), rows.iter().map(|row| row.join("|")).collect())
}

/// pandas 3.1 with pyarrow 26: whole doubles for integers with missing values, categories, and a column of missing values.
#[test]
fn pandas_file_is_read() {
    let (columns, rows) = shown_file(include_bytes!("files/pandas.parquet"));
    assert_eq!(
        columns,
        "i Double, s Text, t DateTime, tz Instant, cat Text, n Text, I Integer, B Boolean, td Integer, obj Json, l Json, \
         d Date, dec Decimal { precision: 3, scale: 2 }, by Binary"
    );
    assert_eq!(
        rows,
        [
            "1|a|2024-01-01 00:00:00|2023-12-31 23:00:00Z|x|-|1|true|1000000|{\"a\":1}|[1]|2024-01-01|1.10|a",
            "2|-|-|2024-01-01 23:00:00Z|y|-|-|-|-|-|-|2024-01-01|-|0xff",
            "-|c|2024-01-02 03:04:05|2024-01-02 23:00:00Z|x|-|3|false|86400000000|{\"a\":2}|[2,3]|2024-01-01|2.20|-",
        ]
    );
}

/// polars 2.1: categories and enums, durations, fixed lists, and a column of the type null.
#[test]
fn polars_file_is_read() {
    let (columns, rows) = shown_file(include_bytes!("files/polars.parquet"));
    assert_eq!(
        columns,
        "i Integer, u Decimal { precision: 20, scale: 0 }, s Text, c Text, e Text, d Decimal { precision: 38, scale: 1 }, \
         t Text, dur Integer, l Json, st Json, b Binary, n Text, dt DateTime, a Json"
    );
    assert_eq!(
        rows,
        [
            "1|18446744073709551615|a|x|x|1.5|01:02:03|1000000|[1]|{\"a\":1}|0xff|-|2024-01-01 00:00:00|[1,2]",
            "-|0|-|y|y|-|-|-|[]|{\"a\":null}||-|-|[3,4]",
        ]
    );
}

/// DuckDB 2.0: small integers, decimals, a UUID, a map and an enum.
#[test]
fn duckdb_file_is_read() {
    let (columns, rows) = shown_file(include_bytes!("files/duckdb.parquet"));
    assert_eq!(
        columns,
        "a Integer, b Integer, c Decimal { precision: 20, scale: 0 }, d Decimal { precision: 9, scale: 2 }, \
         e Decimal { precision: 30, scale: 2 }, f Double, g Date, h Text, i DateTime, j Instant, k Text, l Text, m Json, \
         n Json, o Json, p Text, q Boolean, r Text"
    );
    assert_eq!(
        rows,
        ["1|2|3|1.50|1.50|1.5|2024-01-01|01:02:03|2024-01-01 00:00:00|2023-12-31 22:00:00Z|\
          d3b26d6a-c644-4bc6-8401-34134c8b9b64|x|[1,2]|{\"a\":1}|{\"k\":1}|a|true|-"]
    );
}

/// fastparquet 2026.9 stores durations in the type TIME.
#[test]
fn fastparquet_file_is_read() {
    let (_, rows) = shown_file(include_bytes!("files/fastparquet.parquet"));
    assert_eq!(rows.len(), 3);
    assert!(rows[0].ends_with("|00:00:01") && rows[2].ends_with("|24:00:00"), "{rows:?}");
}
