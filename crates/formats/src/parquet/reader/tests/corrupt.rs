//! Truncated and corrupt files, and files of other formats.

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterVersion;
use proptest::prelude::*;

use arrow_array::builder::Int64Builder;

use super::*;

#[test]
fn invalid_files_are_rejected() {
    let file = mixed(300, WriterProperties::default());
    assert_invalid(b"", "too short");
    assert_invalid(b"PAR1", "too short");
    assert_invalid(b"PAR1PAR1PAR1", "declared length of the footer");
    assert_invalid(b"PAR1\0\0\0\0PAR1", "a header is truncated");
    assert_invalid(b"id,name\n1,hello world\n", "does not end with the Parquet magic number");
    assert_invalid(&[&file[..file.len() - 1], b"E"].concat(), "encrypted");
    let mut long_footer = file.clone();
    let length_at = file.len() - 8;
    long_footer[length_at..length_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_invalid(&long_footer, "declared length of the footer");
    long_footer[length_at..length_at + 4].copy_from_slice(&(file.len() as u32 - 11).to_le_bytes());
    assert_invalid(&long_footer, "declared length of the footer");
    // The footer is complete, but its column chunks are outside of the file.
    assert_invalid(&[b"PAR1", &file[file.len() / 2..]].concat(), "");
    for cut in (0..file.len()).step_by(97) {
        assert_eq!(read(&file[..cut]).unwrap_err().kind(), ErrorKind::Invalid, "cut at {cut}");
    }
}

fn corrupted() -> impl Strategy<Value = Vec<u8>> {
    let bases = [
        (WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED, true),
        (WriterVersion::PARQUET_2_0, Compression::UNCOMPRESSED, false),
        (WriterVersion::PARQUET_2_0, Compression::SNAPPY, true),
        (WriterVersion::PARQUET_1_0, Compression::ZSTD(ZstdLevel::default()), false),
    ];
    let files = bases.map(|(version, codec, dictionary)| {
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(codec)
            .set_dictionary_enabled(dictionary)
            .set_data_page_row_count_limit(20)
            .build();
        mixed(60, properties)
    });
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (prop::sample::select(files.to_vec()), changes, any::<bool>()).prop_map(|(mut file, changes, in_footer)| {
        for (index, byte) in changes {
            // Half of the files change in the last third only. It contains the footer, which declares the most.
            let first = if in_footer { file.len() - file.len() / 3 } else { 0 };
            let offset = first + index.index(file.len() - first);
            file[offset] = byte;
        }
        file
    })
}

proptest! {
    /// Nothing panics, and every error says that the file is invalid.
    #[test]
    fn corrupt_files_are_read_or_rejected(file in corrupted()) {
        if let Err(error) = read(&file) {
            prop_assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error);
        }
    }

    #[test]
    fn any_bytes_between_the_magic_numbers_are_rejected(inside in prop::collection::vec(any::<u8>(), 0..300), length in 0..300u32) {
        let file = [b"PAR1", &inside[..], &length.to_le_bytes(), b"PAR1"].concat();
        prop_assert_eq!(read(&file).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

/// A file of one row, in which each of `columns` has a list of `values` zeros. It has a few kilobytes.
fn list_bomb(columns: usize, values: usize) -> Vec<u8> {
    let list = || {
        let mut list = ListBuilder::new(Int64Builder::new());
        list.values().append_slice(&vec![0; values]);
        list.append(true);
        Arc::new(list.finish()) as ArrayRef
    };
    let rows = RecordBatch::try_from_iter((0..columns).map(|column| (format!("c{column}"), list()))).unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn lists_that_need_more_memory_than_allowed_are_rejected_before_they_are_decoded() {
    // Each list alone is below the limit: 1.2 MB of 12 bytes a value.
    let file = list_bomb(8, 100_000);
    assert!(file.len() < 20_000, "{}", file.len());
    let error = read_within(&file, ParquetLimits { max_memory_bytes: 4 << 20, ..LIMITS }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("bytes of memory, and this worker may use 4194304"), "{error}");
    // With enough memory the values are decoded, but the record as JSON is longer than allowed.
    let error = read_within(&file, LIMITS).unwrap_err();
    assert!(error.message().contains("longer than"), "{error}");
    let limits = ParquetLimits { max_record_bytes: 2 << 20, ..LIMITS };
    assert_eq!(read_within(&file, limits).unwrap().1.len(), 1);
}

#[test]
fn a_nested_value_ends_at_the_limit_of_the_record() {
    let file = list_bomb(1, 1_000_000);
    let error = read_within(&file, ParquetLimits { max_record_bytes: 1_000, ..LIMITS }).unwrap_err();
    assert_eq!(error.to_string(), "the value is longer than MAX_RECORD_BYTES (record 1, column c0)");
}

#[test]
fn a_long_text_is_rejected_before_it_is_copied() {
    let text = "x".repeat(2_000_000);
    let rows = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(vec![text])) as ArrayRef)]).unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let error = read_within(&file, LIMITS).unwrap_err();
    assert!(error.message().starts_with("the value is longer than MAX_RECORD_BYTES"), "{error}");
}
