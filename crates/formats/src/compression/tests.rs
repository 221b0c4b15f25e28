//! Valid, corrupt and arbitrary files, in chunks of every size.

use std::io::Write;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const LIMITS: DecodedLimits = DecodedLimits { max_bytes: 1 << 30, max_ratio: 200 };

fn encoded(compression: Compression, text: &[u8]) -> Vec<u8> {
    use async_compression::codecs::zstd::params::CParameter;
    use async_compression::codecs::{EncodeV2, GzipEncoder, ZstdEncoder};
    let mut encoder: Box<dyn EncodeV2> = match compression {
        Compression::Gzip => Box::new(GzipEncoder::new(
            async_compression::codecs::flate::params::FlateEncoderParams::from(async_compression::Level::Default),
        )),
        Compression::Zstd => Box::new(ZstdEncoder::new_with_params(3, &[CParameter::checksum_flag(true)])),
        Compression::Zip => return zip::tests::archive_of(text),
    };
    let mut out = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut input = PartialBuffer::new(text);
    loop {
        let mut output = WriteBuffer::new_initialized(&mut buffer);
        let is_done = if input.unwritten().is_empty() {
            encoder.finish(&mut output).unwrap()
        } else {
            encoder.encode(&mut input, &mut output).unwrap();
            false
        };
        let written = output.written_len();
        out.write_all(&buffer[..written]).unwrap();
        if is_done {
            return out;
        }
    }
}

fn decoded_with(compression: Compression, stored: &[u8], chunk: usize, limits: DecodedLimits) -> Result<Vec<u8>> {
    let mut decompressor = Decompressor::new(compression, limits);
    let mut text = Vec::new();
    for chunk in stored.chunks(chunk) {
        decompressor.push(Bytes::copy_from_slice(chunk));
        while let Some(piece) = decompressor.next_piece()? {
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
            text.extend_from_slice(&piece);
        }
    }
    decompressor.finish()?;
    Ok(text)
}

fn decoded(compression: Compression, stored: &[u8], chunk: usize) -> Result<Vec<u8>> {
    decoded_with(compression, stored, chunk, LIMITS)
}

fn csv(rows: usize) -> Vec<u8> {
    (0..rows).map(|row| format!("{row},name {},{}\n", row % 97, row * 31 % 1009)).collect::<String>().into_bytes()
}

#[rstest]
#[case(Compression::Gzip)]
#[case(Compression::Zstd)]
fn several_members_are_read(#[case] compression: Compression) {
    let parts: Vec<Vec<u8>> = (0..5).map(|part| csv(part * 5_000)).collect();
    let stored: Vec<u8> = parts.iter().flat_map(|part| encoded(compression, part)).collect();
    for chunk in [1, 7, 4096, stored.len()] {
        assert_eq!(decoded(compression, &stored, chunk).unwrap(), parts.concat());
    }
}

#[test]
fn padding_and_skippable_frames_are_skipped() {
    let text = csv(100);
    let padded = [encoded(Compression::Gzip, &text), vec![0; 70_000]].concat();
    assert_eq!(decoded(Compression::Gzip, &padded, 1000).unwrap(), text);
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frame = encoded(Compression::Zstd, &text);
    let stored = [skippable.clone(), frame.clone(), skippable, frame].concat();
    for chunk in [1, 11, stored.len()] {
        assert_eq!(decoded(Compression::Zstd, &stored, chunk).unwrap(), [text.clone(), text.clone()].concat());
    }
}

#[rstest]
#[case(Compression::Gzip, b"garbage", "other data follows the end of the gzip data")]
#[case(Compression::Gzip, b"\0\0a", "other data follows the end of the gzip data")]
#[case(Compression::Gzip, b"\x1f\x8b\x08", "the gzip data ends early")]
#[case(Compression::Gzip, b"\x1fx", "the gzip data cannot be decoded")]
#[case(Compression::Zstd, b"garbage", "other data follows the end of the zstd data")]
#[case(Compression::Zstd, b"\0\0", "other data follows the end of the zstd data")]
#[case(Compression::Zstd, b"\x28\xb5", "the zstd data ends early")]
fn other_data_after_the_end_is_rejected(#[case] compression: Compression, #[case] more: &[u8], #[case] what: &str) {
    let stored = [&encoded(compression, &csv(1000))[..], more].concat();
    for chunk in [1, 100, stored.len()] {
        let error = decoded(compression, &stored, chunk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().starts_with(what), "{error}");
    }
}

#[rstest]
#[case(Compression::Gzip)]
#[case(Compression::Zstd)]
#[case(Compression::Zip)]
fn truncation_and_wrong_checksum_are_detected(#[case] compression: Compression) {
    let text = csv(300);
    let stored = encoded(compression, &text);
    for cut in 1..stored.len() {
        assert_eq!(decoded(compression, &stored[..cut], 64).unwrap_err().kind(), ErrorKind::Invalid, "cut at {cut}");
    }
    let offset = match compression {
        // The checksum is before the length.
        Compression::Gzip => stored.len() - 6,
        Compression::Zstd => stored.len() - 1,
        // In the directory, before its end.
        Compression::Zip => stored.len() - 59,
    };
    let mut corrupt = stored;
    corrupt[offset] ^= 1;
    assert_eq!(decoded(compression, &corrupt, 64).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn every_byte_of_a_gzip_trailer_is_checked() {
    let stored = encoded(Compression::Gzip, &csv(300));
    // The last eight bytes are the CRC and the size of the content.
    for offset in stored.len() - 8..stored.len() {
        let mut corrupt = stored.clone();
        corrupt[offset] ^= 1;
        for chunk in [1, corrupt.len()] {
            let error = decoded(Compression::Gzip, &corrupt, chunk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "byte {offset}");
        }
    }
    // The trailer of each member is checked, not only the last one.
    let mut first = stored.clone();
    first[stored.len() - 1] ^= 1;
    let both = [first, stored].concat();
    assert_eq!(decoded(Compression::Gzip, &both, 100).unwrap_err().kind(), ErrorKind::Invalid);
}

/// A frame without a checksum whose header declares `declared` bytes of content.
fn declaring_frame(declared: u8, content: &[u8], is_single_segment: bool) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    match is_single_segment {
        true => frame.extend([0x20, declared]),
        // A window of 1 KiB, and the size of the content in four bytes.
        false => frame.extend([0x80, 0, declared, 0, 0, 0]),
    }
    // One last block, not compressed.
    let block = (content.len() as u32) << 3 | 1;
    frame.extend(&block.to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

#[rstest]
fn content_size_of_a_zstd_frame_is_checked(#[values(true, false)] is_single_segment: bool) {
    let content = b"id,name\n1,a\n";
    let size = content.len() as u8;
    for chunk in [1, 7, 100] {
        let exact = declaring_frame(size, content, is_single_segment);
        assert_eq!(decoded(Compression::Zstd, &exact, chunk).unwrap(), content);
        for declared in [0, 1, size - 1, size + 1, 200] {
            let wrong = declaring_frame(declared, content, is_single_segment);
            let error = decoded(Compression::Zstd, &wrong, chunk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{declared} declared, in chunks of {chunk}");
        }
    }
}

#[test]
fn every_byte_of_a_zstd_checksum_is_checked() {
    let stored = encoded(Compression::Zstd, &csv(300));
    for offset in stored.len() - 4..stored.len() {
        let mut corrupt = stored.clone();
        corrupt[offset] ^= 1;
        for chunk in [1, corrupt.len()] {
            let error = decoded(Compression::Zstd, &corrupt, chunk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "byte {offset}");
        }
    }
}

#[test]
fn window_beyond_the_limit_is_rejected() {
    // Frame headers that ask for 64 MiB and for 2 GiB.
    for descriptor in [16 << 3, 21 << 3] {
        let stored = [0x28, 0xb5, 0x2f, 0xfd, 0, descriptor, 0, 0, 0];
        let error = decoded(Compression::Zstd, &stored, 9).unwrap_err();
        assert!(error.message().ends_with("the largest supported window has 32 MiB"), "{error}");
    }
}

#[rstest]
#[case(Compression::Gzip)]
#[case(Compression::Zstd)]
#[case(Compression::Zip)]
fn decompressed_size_is_limited(#[case] compression: Compression) {
    let row = b"a,b,c,d,e,f,g\n";
    let bomb = encoded(compression, &row.repeat((65 << 20) / row.len()));
    let rejected = |limits| decoded_with(compression, &bomb, 1000, limits).map(|text| text.len()).unwrap_err();
    let error = rejected(DecodedLimits { max_ratio: 50, ..LIMITS });
    assert!(error.message().contains("MAX_DECODED_RATIO (50)"), "{error}");
    let error = rejected(DecodedLimits { max_bytes: 1 << 20, ..LIMITS });
    assert!(error.message().contains("MAX_DECODED_BYTES (1048576)"), "{error}");
    let higher = DecodedLimits { max_ratio: 1_000_000, ..LIMITS };
    assert!(decoded_with(compression, &bomb, 1000, higher).is_ok());
}

proptest! {
    #[test]
    fn any_text_survives_a_round_trip(text in proptest::collection::vec(any::<u8>(), 0..5_000), chunk in 1usize..600) {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Zip] {
            let stored = encoded(compression, &text);
            prop_assert_eq!(&decoded(compression, &stored, chunk).unwrap(), &text);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..500), chunk in 1usize..100, corrupt in any::<proptest::sample::Index>()) {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let _ = decoded(compression, &bytes, chunk);
            let mut stored = encoded(compression, &csv(50));
            let offset = corrupt.index(stored.len());
            stored[offset] ^= 0x55;
            let _ = decoded(compression, &stored, chunk);
            stored.truncate(offset);
            stored.extend_from_slice(&bytes);
            let _ = decoded(compression, &stored, chunk);
        }
    }
}
