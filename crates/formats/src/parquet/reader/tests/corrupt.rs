//! Truncated and corrupt files, and files of other formats.

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterVersion;
use proptest::prelude::*;

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
