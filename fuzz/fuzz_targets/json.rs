//! JSON: no panic, and both passes return the same rows.
#![no_main]

mod passes;

use libfuzzer_sys::fuzz_target;
use spillway_formats::detect::StreamFormat;

fuzz_target!(|input: &[u8]| passes::check(StreamFormat::Json, input));
