//! Properties of arbitrary files.

use proptest::prelude::*;

use super::*;

/// Any dialect.
fn dialect() -> impl Strategy<Value = CsvDialect> {
    let delimiter = prop_oneof![Just(None), prop::sample::select(&b",;\t|:"[..]).prop_map(Some)];
    let quote = prop::sample::select(vec![Some(b'"'), Some(b'\''), None]);
    let encoding = prop::sample::select(vec![
        TextEncoding::Utf8,
        TextEncoding::Named(encoding_rs::WINDOWS_1252),
        TextEncoding::Named(encoding_rs::SHIFT_JIS),
        TextEncoding::Named(encoding_rs::UTF_16LE),
        TextEncoding::Named(encoding_rs::ISO_2022_JP),
        TextEncoding::Detected(encoding_rs::WINDOWS_1252),
    ]);
    let null_values = prop::sample::select(vec![None, Some(vec![b"ab".to_vec(), b"".to_vec()])]);
    let basic = (delimiter, quote, any::<bool>(), encoding, null_values).prop_map(
        |(delimiter, quote, has_header, encoding, null_values)| CsvDialect {
            delimiter,
            quote,
            has_header,
            encoding,
            null_values,
            ..CsvDialect::default()
        },
    );
    let escape = prop::sample::select(vec![None, None, Some(b'\\'), Some(b'"')]);
    let comment = prop::sample::select(vec![None, None, Some(b'#')]);
    let skip_lines = prop::sample::select(vec![None, None, Some(0), Some(2)]);
    let footer_lines = prop::sample::select(vec![0, 0, 1, 3]);
    let place = prop::sample::select(vec![ExtraFieldPlace::Auto, ExtraFieldPlace::First, ExtraFieldPlace::Last]);
    let detected = prop::sample::select(vec![None, None, Some(Detected::default()), Some(ALL_DETECTED)]);
    let lines = (skip_lines, footer_lines, place);
    (basic, escape, comment, lines, detected, any::<bool>(), any::<bool>()).prop_map(
        |(basic, escape, comment, (skip_lines, skip_footer_lines, extra_field), detected, skips_blank, fills_short)| {
            CsvDialect {
                escape,
                comment,
                skip_lines,
                skip_footer_lines,
                extra_field,
                blank_records: if skips_blank { BlankRecords::Skip } else { BlankRecords::Keep },
                short_records: if fills_short { ShortRecords::Fill } else { ShortRecords::Refuse },
                detected,
                ..basic
            }
        },
    )
}

const ALL_DETECTED: Detected = Detected { backslash: Backslash::Escape, extra_field: ExtraField::Empty };

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

/// Writes a record as Spark does, with quotes around every field and a backslash before quotes and backslashes.
fn write_escaped_record(record: &[Field], extra: bool, line_end: &str, out: &mut Vec<u8>) {
    for (index, field) in record.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let Some(value) = field else { continue };
        out.push(b'"');
        for byte in value {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    if extra {
        out.push(b',');
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
        1 => Just(&b"#"[..]),
        1 => Just(&b"'"[..]),
        2 => Just(&b"\\"[..]),
        1 => Just(&b"\\N"[..]),
        1 => Just(&b",\n"[..]),
    ];
    let start = prop::sample::select(vec![&b""[..], b"", b"", b"sep=;\n", b"# x\n", b"#a,b\n", b"\xef\xbb\xbfsep=,\r"]);
    (start, proptest::collection::vec(piece, 0..40)).prop_map(|(start, pieces)| [start, &pieces.concat()].concat())
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
        // All bytes have been compared with a detected encoding before. Without that, a file can be broken in two ways, and the
        // chunks decide which one is found first.
        let is_detected = matches!(dialect.encoding, TextEncoding::Detected(_));
        let result = |decoded| {
            let content = comparable(decoded);
            if is_detected { content.map_err(|_| "broken".to_owned()) } else { content }
        };
        let expected = result(decode_as(&dialect, [&file[..]], LIMITS));
        for cut in 0..=file.len() {
            prop_assert_eq!(&result(decode_as(&dialect, [&file[..cut], &file[cut..]], LIMITS)), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&result(decode_as(&dialect, file.chunks(1), LIMITS)), &expected);
    }

    #[test]
    fn rows_and_rejects_are_all_records(file in noise(), dialect in dialect()) {
        if let Ok((table, rejects)) = decode_with_rejects(&dialect, [&file[..]], 1000) {
            for cut in 0..=file.len() {
                let again = decode_with_rejects(&dialect, [&file[..cut], &file[cut..]], 1000).unwrap();
                prop_assert_eq!(&again, &(table.clone(), rejects.clone()), "cut at {}", cut);
            }
            if !rejects.is_empty() {
                let mut extracted = extract(&dialect, &file, &rejects);
                if dialect.skip_footer_lines > 0 {
                    let footer = extracted.pop();
                    prop_assert!(footer.is_some_and(|footer| !footer.is_empty() && file.ends_with(footer)));
                }
                let (above, records) = extracted.split_at(extracted.len() - rejects.len());
                prop_assert!(above.len() >= usize::from(dialect.has_header));
                for (record, reject) in records.iter().zip(&rejects) {
                    prop_assert!(file[reject.position.byte as usize..].starts_with(record));
                }
                let mut records: Vec<u64> = table.positions.iter().map(|position| position.record).collect();
                records.extend(rejects.iter().map(|reject| reject.position.record));
                records.sort_unstable();
                prop_assert_eq!(&records, &(1..=records.len() as u64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn second_pass_reads_the_same_rows(file in noise(), dialect in dialect()) {
        let limits = ReadLimits { rejects: RejectLimit::Count(1000), ..LIMITS };
        let mut decoder = CsvDecoder::new(dialect.clone(), limits);
        if decoder.push(&file).and_then(|()| decoder.finish()).is_ok() {
            let first = decode_with_rejects_within(&dialect, [&file[..]], limits).unwrap();
            let complete = decoder.dialect();
            let second = decode_with_rejects_within(&complete, file.chunks(1), limits).unwrap();
            prop_assert_eq!(&second, &first);
            if !first.1.is_empty() {
                prop_assert_eq!(extract(&complete, &file, &first.1), extract(&dialect, &file, &first.1));
            }
        }
    }

    #[test]
    fn detection_does_not_change_valid_records(records in table()) {
        // A header of one record, so that the first lines are as varied as the others.
        let mut file = Vec::new();
        for record in &records {
            write_record(record, "\n", &mut file);
        }
        let strict = decode_as(&strict(), [&file[..]], LIMITS).unwrap();
        prop_assert_eq!(decode_whole(&file).unwrap(), strict);
    }

    #[test]
    fn records_below_other_lines_are_read(
        records in table(),
        above in prop::sample::select(vec!["", "sep=,", "# one", "# one\n\n## two\n", "sep=,\n# one"]),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        extra in any::<bool>(),
    ) {
        let mut file = above.replace('\n', line_end).into_bytes();
        if !above.is_empty() {
            file.extend_from_slice(line_end.as_bytes());
        }
        let header: Vec<Field> = (0..records[0].len()).map(|index| Some(format!("c{index}").into_bytes())).collect();
        write_record(&header, line_end, &mut file);
        for record in &records {
            write_record(record, if extra { "," } else { "" }, &mut file);
            file.extend_from_slice(line_end.as_bytes());
        }
        let read = decode_as(&detecting(), [&file[..]], LIMITS).unwrap();
        prop_assert_eq!(&read.rows, &records);
        for cut in 0..=file.len() {
            prop_assert_eq!(&decode_as(&detecting(), [&file[..cut], &file[cut..]], LIMITS).unwrap(), &read);
        }
    }

    #[test]
    fn records_with_escapes_are_read(records in table(), line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], extra in any::<bool>()) {
        let mut file = Vec::new();
        let header: Vec<Field> = (0..records[0].len()).map(|index| Some(format!("c{index}").into_bytes())).collect();
        write_record(&header, line_end, &mut file);
        for record in &records {
            write_escaped_record(record, extra, line_end, &mut file);
        }
        let configured = CsvDialect { escape: Some(b'\\'), ..CsvDialect::default() };
        let read = decode_as(&configured, [&file[..]], LIMITS).unwrap();
        prop_assert_eq!(&read.rows, &records);
        for cut in 0..=file.len() {
            prop_assert_eq!(&decode_as(&configured, [&file[..cut], &file[cut..]], LIMITS).unwrap(), &read);
        }
        // The reading without escapes may be valid too. If not, escapes are detected.
        let without = |extra_field| {
            let detected = Some(Detected { backslash: Backslash::Data, extra_field });
            decode_as(&CsvDialect { detected, ..CsvDialect::default() }, [&file[..]], LIMITS)
        };
        if without(ExtraField::Absent).is_err() && without(ExtraField::Empty).is_err() {
            prop_assert_eq!(decode_whole(&file).unwrap().rows, records);
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
        if let Ok(table) = decode_as(&strict(), [&file[..]], LIMITS) {
            let mut records: Vec<Vec<Vec<u8>>> = table.header.into_iter().collect();
            records.extend(table.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()));
            // csv-async does not read UTF-16, marked or not. It also drops a byte order mark, and a second mark is text here.
            let mark = "\u{feff}".as_bytes();
            let text = file.strip_prefix(mark).unwrap_or(&file);
            let is_utf16 = text.starts_with(b"\xff\xfe") || text.iter().take(2).any(|byte| *byte == 0);
            if !is_utf16 && !text.starts_with(mark) {
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
