//! The number of lines: the number of records for a program that reads a file line by line.

use super::*;

fn lines(file: &str) -> u64 {
    let mut decoder = CsvDecoder::new(CsvDialect::default(), LIMITS);
    for chunk in file.as_bytes().chunks(3) {
        decoder.push(chunk).unwrap();
    }
    decoder.finish().unwrap();
    decoder.lines()
}

#[test]
fn lines_are_counted_as_an_editor_shows_them() {
    for (file, expected) in [
        ("", 0),
        ("a,b\n", 1),
        ("a,b\n1,2", 2),
        ("a,b\n1,2\n", 2),
        ("a,b\r\n1,2\r\n", 2),
        ("a,b\r1,2\r3,4\r", 3),
        ("a,b\r\r\n1,2\r\r\n", 4),
        ("a,b\r\n1,2\r\r\n", 3),
        ("a,b\n\n1,2\n\n", 4),
        ("a,b\n1,\"x\ny\"\n2,z\n", 4),
        ("a,b\n1,\"x\ny\"", 3),
        ("# comment\na,b\n1,2\n", 3),
        ("\u{feff}a,b\n1,2\n", 2),
    ] {
        assert_eq!(lines(file), expected, "{file:?}");
    }
}
