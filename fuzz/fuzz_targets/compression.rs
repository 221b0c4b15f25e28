//! gzip, Zstandard and zip: no panic, and no more bytes than the limit.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spillway_formats::compression::{DecodedLimits, Decompressor};
use spillway_formats::detect::Compression;

const MAX_BYTES: u64 = 1 << 20;
/// A piece that exceeds the limit may have been decompressed before the check.
const PIECE_BYTES: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((first, file)) = input.split_first() else { return };
    let compression = match first & 3 {
        0 => Compression::Gzip,
        2 => Compression::Zip,
        _ => Compression::Zstd,
    };
    let mut decompressor = Decompressor::new(compression, DecodedLimits { max_bytes: MAX_BYTES, max_ratio: 1000 });
    let mut decoded = 0;
    for chunk in file.chunks(usize::from(first >> 1) + 1) {
        decompressor.push(Bytes::copy_from_slice(chunk));
        loop {
            match decompressor.next_piece() {
                Ok(Some(piece)) => decoded += piece.len() as u64,
                Ok(None) => break,
                Err(_) => return,
            }
            assert!(decoded <= MAX_BYTES + PIECE_BYTES, "more bytes than the limit");
        }
    }
    let _result = decompressor.finish();
});
