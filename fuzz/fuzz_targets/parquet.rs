//! Parquet: no panic, and no more memory than the limit (libFuzzer's own is 2 GiB).
#![no_main]

use std::sync::Once;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spillway_formats::parquet::{ParquetLimits, ParquetReader};

/// The reader catches panics of the Parquet crate. libFuzzer's hook would end the process before; a panic that the reader does
/// not catch still does.
static CATCHABLE_PANICS: Once = Once::new();

fuzz_target!(|input: &[u8]| {
    CATCHABLE_PANICS.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let file = Bytes::copy_from_slice(input);
    let limits = ParquetLimits { max_record_bytes: 4096, max_columns: 64, max_memory_bytes: 64 << 20 };
    let size = file.len() as u64;
    let read = move |range: std::ops::Range<u64>| {
        let part = file.slice(range.start as usize..range.end as usize);
        async move { Ok::<_, std::io::Error>(part) }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let Ok(mut reader) = ParquetReader::open(size, read, limits).await else { return };
        while let Ok(Some(_)) = reader.next().await {}
    });
});
