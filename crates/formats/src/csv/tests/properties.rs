//! Properties of arbitrary files.

use proptest::prelude::*;

use super::*;

/// Any dialect.
fn dialect() -> impl Strategy<Value = CsvDialect> {
    let delimiter = prop_oneof![Just(None), prop::sample::select(&b",;\t|:"[..]).prop_map(Some)];
    let quote = prop::sample::select(vec![Some(b'"'), Some(b'\''), None]);
    let encoding = prop::sample::select(vec![
        None,
        Some(encoding_rs::WINDOWS_1252),
        Some(encoding_rs::SHIFT_JIS),
        Some(encoding_rs::UTF_16LE),
        Some(encoding_rs::ISO_2022_JP),
    ]);
    let null_values = prop::sample::select(vec![None, Some(vec![b"ab".to_vec(), b"".to_vec()])]);
    (delimiter, quote, any::<bool>(), encoding, null_values).prop_map(
        |(delimiter, quote, has_header, encoding, null_values)| CsvDialect {
            delimiter,
            quote,
            has_header,
            encoding,
            null_values,
        },
    )
}

/// Writes a record, with quotes around an empty string and around special characters.
fn write_record(record: &[Field], line_end: &str, out: &mut Vec<u8>) {
    for (index, field) in record.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let Some(value) = field else { continue };
        if value.is_empty() || value.iter().any(|byte| b",\"\r\n;\t|".contains(byte)) {
            out.push(b'"');
            for byte in value {
                out.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(line_end.as_bytes());
}

fn table() -> impl Strategy<Value = Vec<Vec<Field>>> {
    let field = prop_oneof![
        Just(None),
        "[a-c,\"\r\n;|é🦀\\\\]{0,6}".prop_map(|text| Some(text.into_bytes())),
        "[0-9]{1,12}".prop_map(|text| Some(text.into_bytes())),
    ];
    // A record of one missing field is an empty line, so there are at least two columns.
    (2usize..5)
        .prop_flat_map(move |width| proptest::collection::vec(proptest::collection::vec(field.clone(), width), 1..8))
}

/// Bytes with many delimiters, quotes and line ends.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b","[..]),
        3 => Just(&b"\""[..]),
        3 => Just(&b"\n"[..]),
        2 => Just(&b"\r"[..]),
        2 => Just(&b"\r\n"[..]),
        4 => Just(&b"ab"[..]),
        1 => Just("é".as_bytes()),
        1 => Just("\u{feff}".as_bytes()),
        1 => Just(&b";"[..]),
        1 => Just(&b"\xff\xfe"[..]),
        1 => Just(&b"\xe2\x82"[..]),
        1 => Just(&b"\0"[..]),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The records that the csv-async crate reads; `None` if it rejects the file. Missing fields are empty.
fn read_with_csv_async(file: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = csv_async::AsyncReaderBuilder::new().has_headers(false).create_reader(file);
        let mut records = Vec::new();
        let mut record = csv_async::ByteRecord::new();
        while reader.read_byte_record(&mut record).await.ok()? {
            records.push(record.iter().map(<[u8]>::to_vec).collect());
        }
        Some(records)
    })
}

proptest! {
    #[test]
    fn chunks_do_not_change_the_result(file in noise(), small in any::<bool>()) {
        let limits = if small { ReadLimits { max_record_bytes: 9, max_columns: 3, ..LIMITS } } else { LIMITS };
        let expected = comparable(decode([&file[..]], limits));
        for cut in 0..=file.len() {
            prop_assert_eq!(&comparable(decode([&file[..cut], &file[cut..]], limits)), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&comparable(decode(file.chunks(1), limits)), &expected);
    }

    #[test]
    fn no_dialect_panics_and_chunks_do_not_change_the_result(
        file in prop_oneof![noise(), proptest::collection::vec(any::<u8>(), 0..60)],
        dialect in dialect(),
    ) {
        let expected = comparable(decode_as(&dialect, [&file[..]], LIMITS));
        for cut in 0..=file.len() {
            prop_assert_eq!(&comparable(decode_as(&dialect, [&file[..cut], &file[cut..]], LIMITS)), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&comparable(decode_as(&dialect, file.chunks(1), LIMITS)), &expected);
    }

    #[test]
    fn rows_and_rejects_are_all_records(file in noise(), dialect in dialect()) {
        if let Ok((table, rejects)) = decode_with_rejects(&dialect, [&file[..]], 1000) {
            for cut in 0..=file.len() {
                let again = decode_with_rejects(&dialect, [&file[..cut], &file[cut..]], 1000).unwrap();
                prop_assert_eq!(&again, &(table.clone(), rejects.clone()), "cut at {}", cut);
            }
            if !rejects.is_empty() {
                let extracted = extract(&dialect, &file, &rejects);
                prop_assert_eq!(extracted.len(), rejects.len() + usize::from(dialect.has_header));
                let mut records: Vec<u64> = table.positions.iter().map(|position| position.record).collect();
                records.extend(rejects.iter().map(|reject| reject.position.record));
                records.sort_unstable();
                prop_assert_eq!(&records, &(1..=records.len() as u64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        let expected = comparable(decode_whole(&file));
        prop_assert_eq!(comparable(decode(file.chunks(7), LIMITS)), expected);
    }

    #[test]
    fn written_records_are_read(records in table(), line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], keep_last in any::<bool>()) {
        let mut file = Vec::new();
        let header: Vec<Field> = (0..records[0].len()).map(|index| Some(format!("c{index}").into_bytes())).collect();
        write_record(&header, line_end, &mut file);
        for record in &records {
            write_record(record, line_end, &mut file);
        }
        if !keep_last {
            file.truncate(file.len() - line_end.len());
        }
        let read = decode_whole(&file).unwrap();
        prop_assert_eq!(&read.rows, &records);
        for cut in 0..=file.len() {
            prop_assert_eq!(&decode([&file[..cut], &file[cut..]], LIMITS).unwrap(), &read);
        }
        let numbers: Vec<u64> = read.positions.iter().map(|position| position.record).collect();
        prop_assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn csv_async_agrees_on_accepted_files(file in noise()) {
        if let Ok(table) = decode_whole(&file) {
            let mut records: Vec<Vec<Vec<u8>>> = table.header.into_iter().collect();
            records.extend(table.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()));
            // csv-async does not read UTF-16. It also drops a byte order mark, and a second mark is text here.
            let mark = "\u{feff}".as_bytes();
            let text = file.strip_prefix(mark).unwrap_or(&file);
            if !text.starts_with(b"\xff\xfe") && !text.starts_with(mark) {
                prop_assert_eq!(Some(records), read_with_csv_async(text));
            }
        }
    }

    #[test]
    fn csv_async_agrees_on_tables(records in table()) {
        let mut file = Vec::new();
        for record in &records {
            write_record(record, "\r\n", &mut file);
        }
        let table = decode_whole(&file).unwrap();
        let mut records: Vec<Vec<Vec<u8>>> = table.header.into_iter().collect();
        records.extend(table.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()));
        prop_assert_eq!(Some(records), read_with_csv_async(&file));
    }
}
