//! The layout of a file: codecs, versions of the format, dictionaries, row groups and limits.

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterVersion;

use super::*;

#[test]
fn codec_version_and_layout_do_not_change_the_rows() {
    let expected = read(&mixed(5_000, WriterProperties::default())).unwrap();
    assert_eq!(expected.1.len(), 5_000);
    assert_eq!(expected.1[7][..3], ["-", "word 7", "00000007-ä\n\"49"]);
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = WriterProperties::builder()
                .set_compression(codec)
                .set_writer_version(version)
                .set_dictionary_enabled(version == WriterVersion::PARQUET_1_0)
                .set_max_row_group_row_count(Some(999))
                .set_data_page_row_count_limit(100)
                .build();
            assert!(read(&mixed(5_000, properties)).unwrap() == expected, "{codec} {version:?}");
        }
    }
}

#[test]
fn file_without_rows_has_its_columns() {
    let (columns, rows) = read(&mixed(0, WriterProperties::default())).unwrap();
    assert_eq!((columns.len(), rows.len()), (6, 0));
}

#[test]
fn limits_are_enforced() {
    let file = mixed(100, WriterProperties::default());
    let error = read_within(&file, ParquetLimits { max_columns: 5, ..LIMITS }).unwrap_err();
    assert!(error.to_string().contains("more than 5 columns"), "{error}");
    let error = read_within(&file, ParquetLimits { max_record_bytes: 30, ..LIMITS }).unwrap_err();
    assert!(error.to_string().contains("longer than 30 bytes"), "{error}");
}

/// The dictionary contains the text once, and every row refers to it.
#[test]
fn repeated_long_text_is_returned_in_small_batches() {
    let long = "x".repeat(1_000_000);
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    (0..500).for_each(|_| dictionary.append_value(&long));
    let file = written(vec![("c", Arc::new(dictionary.finish()))], WriterProperties::default());
    assert!(file.len() < 10_000_000, "{}", file.len());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let bytes = Bytes::from(file);
        let size_bytes = bytes.len() as u64;
        let read = move |range: Range<u64>| {
            let part = bytes.slice(range.start as usize..range.end as usize);
            async move { Ok::<_, std::io::Error>(part) }
        };
        let mut reader = ParquetReader::open(size_bytes, read, LIMITS).await.unwrap();
        let mut rows = 0;
        while let Some(batch) = reader.next().await.unwrap() {
            assert!(batch.memory_bytes() < 4_000_000, "{}", batch.memory_bytes());
            rows += batch.rows();
        }
        assert_eq!(rows, 500);
    });
}
