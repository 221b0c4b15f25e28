//! Archives as programs write them, and broken ones.

use async_compression::codecs::{DeflateEncoder, EncodeV2};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::compression::{DecodedLimits, Decompressor};
use crate::detect::Compression;

/// How a member is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Stored,
    Deflated,
    /// Deflated, with its sizes after the data: with a signature or not, of 32 or 64 bits.
    Streamed {
        has_signature: bool,
        is_long: bool,
    },
    /// Deflated, with sizes of 64 bits in the header.
    Long,
}

const STYLES: [Style; 7] = [
    Style::Stored,
    Style::Deflated,
    Style::Streamed { has_signature: true, is_long: false },
    Style::Streamed { has_signature: true, is_long: true },
    Style::Streamed { has_signature: false, is_long: false },
    Style::Streamed { has_signature: false, is_long: true },
    Style::Long,
];

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(async_compression::codecs::flate::params::FlateEncoderParams::from(
        async_compression::Level::Default,
    ));
    let (mut stored, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let mut input = PartialBuffer::new(data);
    loop {
        let mut output = WriteBuffer::new_initialized(&mut buffer);
        let is_done = match input.unwritten().is_empty() {
            true => encoder.finish(&mut output).unwrap(),
            false => encoder.encode(&mut input, &mut output).map(|()| false).unwrap(),
        };
        stored.extend_from_slice(output.written());
        if is_done {
            return stored;
        }
    }
}

/// The part of a header that is the same in the directory, from the flags to the lengths.
fn header(style: Style, name: &str, sizes: Sizes, is_local: bool) -> Vec<u8> {
    let method: u16 = if style == Style::Stored { 0 } else { 8 };
    let is_streamed = matches!(style, Style::Streamed { .. });
    let mut header = [if is_streamed { 8u16 } else { 0 }, method, 0, 0].map(u16::to_le_bytes).concat();
    let (crc, stored, decoded) = match style {
        Style::Streamed { .. } if is_local => (0, 0, 0),
        Style::Long => (sizes.crc, u32::MAX, u32::MAX),
        _ => (sizes.crc, sizes.stored as u32, sizes.decoded as u32),
    };
    header.extend([crc, stored, decoded].map(u32::to_le_bytes).concat());
    let extra = if style == Style::Long { 4 + 3 + 4 + 16 } else { 0 };
    header.extend([name.len() as u16, extra].map(u16::to_le_bytes).concat());
    header
}

fn extra_field(style: Style, sizes: Sizes) -> Vec<u8> {
    if style != Style::Long {
        return Vec::new();
    }
    // An extra field of another kind comes first.
    let mut extra = [&0x5455u16.to_le_bytes()[..], &3u16.to_le_bytes(), b"abc"].concat();
    extra.extend([1u16.to_le_bytes(), 16u16.to_le_bytes()].concat());
    extra.extend([sizes.decoded, sizes.stored].map(u64::to_le_bytes).concat());
    extra
}

fn archive(members: &[(&str, &[u8], Style)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data, style) in members {
        let stored = if *style == Style::Stored { data.to_vec() } else { deflated(data) };
        let sizes = Sizes { crc: crc32fast::hash(data), stored: stored.len() as u64, decoded: data.len() as u64 };
        let offset = file.len() as u32;
        file.extend([b"PK\x03\x04\x14\0", &header(*style, name, sizes, true)[..], name.as_bytes()].concat());
        file.extend([extra_field(*style, sizes), stored].concat());
        if let Style::Streamed { has_signature, is_long } = style {
            file.extend(if *has_signature { &b"PK\x07\x08"[..] } else { b"" });
            file.extend(sizes.crc.to_le_bytes());
            file.extend(match is_long {
                true => [sizes.stored, sizes.decoded].map(u64::to_le_bytes).concat(),
                false => [sizes.stored as u32, sizes.decoded as u32].map(u32::to_le_bytes).concat(),
            });
        }
        directory.extend([b"PK\x01\x02\x14\0\x14\0", &header(*style, name, sizes, false)[..]].concat());
        // Comment, disk, attributes and offset.
        directory.extend([&[0; 10][..], &offset.to_le_bytes(), name.as_bytes(), &extra_field(*style, sizes)].concat());
    }
    let (offset, length) = (file.len() as u32, directory.len() as u32);
    file.extend(directory);
    let count = (members.len() as u16).to_le_bytes();
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &length.to_le_bytes(), &offset.to_le_bytes()].concat());
    file.extend([&2u16.to_le_bytes()[..], b"hi"].concat());
    file
}

/// An archive of one file.
pub(in crate::compression) fn archive_of(data: &[u8]) -> Vec<u8> {
    archive(&[("a.csv", data, Style::Streamed { has_signature: true, is_long: false })])
}

fn decoded(file: &[u8], chunk_bytes: usize) -> crate::Result<Vec<u8>> {
    let mut decompressor = Decompressor::new(Compression::Zip, DecodedLimits { max_bytes: 1 << 30, max_ratio: 1000 });
    let mut data = Vec::new();
    for chunk in file.chunks(chunk_bytes) {
        decompressor.push(bytes::Bytes::copy_from_slice(chunk));
        while let Some(piece) = decompressor.next_piece()? {
            data.extend_from_slice(&piece);
        }
    }
    decompressor.finish()?;
    Ok(data)
}

fn rows(count: usize) -> Vec<u8> {
    (0..count).map(|row| format!("{row},name {},x\n", row * 31 % 1009)).collect::<String>().into_bytes()
}

#[test]
fn file_of_any_style_is_read_in_any_chunks() {
    let data = rows(20_000);
    for style in STYLES {
        let file = archive(&[("a.csv", &data, style)]);
        for chunk_bytes in [1, 7, 4096, file.len()] {
            assert!(decoded(&file, chunk_bytes).unwrap() == data, "{style:?} in chunks of {chunk_bytes}");
        }
        let empty = archive(&[("a.csv", b"", style)]);
        assert!(decoded(&empty, 5).unwrap().is_empty(), "{style:?}");
    }
}

#[test]
fn folders_and_metadata_of_macos_are_skipped() {
    let data = rows(50);
    let streamed = Style::Streamed { has_signature: true, is_long: false };
    let file = archive(&[
        ("export/", b"", Style::Stored),
        ("export/a.csv", &data, streamed),
        ("__MACOSX/", b"", streamed),
        ("__MACOSX/export/._a.csv", &[7; 163], streamed),
    ]);
    for chunk_bytes in [1, 13, file.len()] {
        assert_eq!(decoded(&file, chunk_bytes).unwrap(), data);
    }
}

#[test]
fn other_archives_are_rejected_with_a_reason() {
    let plain = Style::Deflated;
    let patched = |at: usize, byte: u8| {
        let mut file = archive(&[("a.csv", b"a\n1\n", plain)]);
        file[at] = byte;
        file
    };
    let two = archive(&[("a.csv", b"a\n1\n", plain), ("b.csv", b"a\n2\n", plain)]);
    let folder = archive(&[("a/", b"", Style::Stored)]);
    let large = archive(&[("__MACOSX/a", &vec![0; 2 << 20], plain), ("a.csv", b"a\n1\n", plain)]);
    let mut unlisted = archive(&[("a.csv", b"a\n1\n", plain)]);
    let directory = unlisted.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let listed = unlisted.clone();
    unlisted.drain(directory..directory + 46 + 5);
    let mut other_name = listed.clone();
    other_name[directory + 46] = b'b';
    for (file, reason) in [
        (two, "it contains several files; put each file into an archive of its own"),
        (folder, "it contains no file"),
        (large, "the metadata of macOS is too large"),
        (patched(6, 1), "its file is encrypted"),
        (patched(8, 12), "compressed with another method than deflate"),
        (patched(14, 1), "does not match its checksum or its size"),
        (patched(22, 1), "does not match its checksum or its size"),
        (unlisted, "its directory does not match its files"),
        (other_name, "its directory does not match its files"),
        ([&listed[..directory], b"oops"].concat(), "its records are damaged"),
    ] {
        for chunk_bytes in [1, file.len()] {
            let error = decoded(&file, chunk_bytes).unwrap_err();
            let message = error.message();
            assert!(std::error::Error::source(&error).is_none(), "the reason would be repeated");
            assert!(message.starts_with("the zip archive cannot be read: ") && message.contains(reason), "{message}");
        }
    }
}

#[rstest]
#[case::truncated(|file: &mut Vec<u8>| file.truncate(file.len() - 1), "the zip data ends early")]
#[case::garbage(|file: &mut Vec<u8>| file.extend(b"x"), "other data follows the end of the zip data")]
#[case::second_archive(|file: &mut Vec<u8>| file.extend(archive_of(b"a\n")), "other data follows the end of the zip data")]
fn end_of_the_archive_is_checked(#[case] change: fn(&mut Vec<u8>), #[case] reason: &str) {
    let mut file = archive_of(b"a\n1\n");
    change(&mut file);
    assert!(decoded(&file, 10).unwrap_err().message().starts_with(reason));
}

proptest! {
    /// No change of a byte results in other data.
    #[test]
    fn damaged_archive_is_rejected_or_the_same(
        style in prop::sample::select(STYLES.to_vec()), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        chunk_bytes in 1..50usize,
    ) {
        let data = rows(30);
        let mut file = archive(&[("a.csv", &data, style)]);
        let at = at.index(file.len());
        file[at] = byte;
        if let Ok(found) = decoded(&file, chunk_bytes) {
            prop_assert_eq!(found, data);
        }
    }

    #[test]
    fn any_bytes_are_read_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..200), chunk_bytes in 1..50usize) {
        let _ = decoded(&bytes, chunk_bytes);
        let _ = decoded(&[b"PK\x03\x04", &bytes[..]].concat(), chunk_bytes);
    }
}
