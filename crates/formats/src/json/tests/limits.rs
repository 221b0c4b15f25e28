//! Limits on records, keys and nesting, and memory.

use super::*;
use crate::schema::value::json::MAX_DEPTH;

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let whole = nested(MAX_DEPTH);
    assert_eq!(fields(&whole), [[format!("n{}", &whole[5..whole.len() - 1])]]);
    for depth in [MAX_DEPTH + 1, 100_000] {
        let error = error_of(nested(depth).as_bytes());
        assert!(error.to_string().contains("nested more than 100 deep in a value at line 1, byte 105"), "{error}");
    }
}

#[test]
fn number_of_keys_is_limited() {
    let line = |keys: std::ops::Range<usize>| {
        let members: Vec<String> = keys.map(|key| format!("\"k{key}\":1")).collect();
        format!("{{{}}}\n", members.join(","))
    };
    let file = line(0..60) + &line(40..100);
    assert_eq!(read(file.as_bytes()).unwrap().0.len(), 100);
    let error = error_of((file + "{\"k100\":1}").as_bytes());
    assert!(error.to_string().contains("more than 100 different keys"), "{error}");
    assert!(error.to_string().contains("record 3, line 3"), "{error}");
}

#[test]
fn long_record_is_read_or_rejected_in_bounded_memory() {
    let limits = ReadLimits { max_record_bytes: 20_000_000, ..LIMITS };
    let mut decoder = JsonDecoder::new(limits);
    decoder.push(b"{\"a\":\"").unwrap();
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        decoder.push(&piece).unwrap();
    }
    decoder.push(b"\"}\n{\"a\":1}\n").unwrap();
    let batch = decoder.take_batch().unwrap();
    assert_eq!(batch.field(0, 0).map(<[u8]>::len), Some(160 * 64 * 1024));

    let mut decoder = JsonDecoder::new(LIMITS);
    decoder.push(b"{\"a\":1}\n{\"a\":\"").unwrap();
    let error = decoder.push(&piece).unwrap_err();
    assert_eq!(error.to_string(), "the record is longer than 4096 bytes (record 2, line 2, byte 8)");
    assert!(decoder.frames.memory_bytes() < 200_000, "{}", decoder.frames.memory_bytes());
    let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(4096 - 8));
    for chunk_bytes in [1, 7, 4095, 4096, 5000] {
        assert!(read_with(JsonDecoder::new(LIMITS), exact.as_bytes(), chunk_bytes).is_ok());
        let longer = exact.replace("{\"", "{ \"");
        assert!(read_with(JsonDecoder::new(LIMITS), longer.as_bytes(), chunk_bytes).is_err());
    }
}

#[test]
fn memory_is_bounded_for_many_records() {
    let mut decoder = JsonDecoder::new(LIMITS);
    let lines = "{\"id\":1,\"name\":\"a name\",\"tags\":[1,2,3]}\n".repeat(2000);
    let mut most = 0;
    for _ in 0..100 {
        for chunk in lines.as_bytes().chunks(16 * 1024) {
            decoder.push(chunk).unwrap();
            most = most.max(decoder.frames.memory_bytes());
            while decoder.take_batch().is_some() {}
        }
    }
    assert!(most < 400_000, "{most}");
}
