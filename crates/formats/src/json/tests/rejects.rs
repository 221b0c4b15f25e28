//! Bad records that are rejected one by one.

use super::*;

#[test]
fn bad_lines_are_rejected_byte_for_byte_in_any_chunks() {
    let bad = [
        "{\"a\": 2, \"b\": [1, 2}\r\n",
        "{\"a\": 3, \"only here\": \"cut off\n",
        "[\"not an object\"]\n",
        "{\"a\": 4, \"a\": 5}",
        "oops {\"a\": 6}\n",
        "{\"a\": 7",
    ];
    let file = format!(
        "{{\"a\": 1}}\n{}{}{}\n{{\"a\": 8, \"late\": true}}\n{} \n{}{{\"a\": 9}}\n{}",
        bad[0], bad[1], bad[2], bad[3], bad[4], bad[5]
    );
    for chunk_bytes in 1..=file.len() {
        let ((keys, rows), rejects) = read_with_rejects(&file, chunk_bytes).unwrap();
        assert_eq!(keys, ["a", "late"]);
        let fields: Vec<Vec<String>> = rows.into_iter().map(|(_, fields)| fields).collect();
        assert_eq!(fields, [["p1", "-"], ["p8", "ptrue"], ["p9", "-"]]);
        let records: Vec<&str> = rejects.iter().map(|(record, _)| record.as_str()).collect();
        assert_eq!(records, bad, "in chunks of {chunk_bytes}");
    }
}

#[test]
fn only_a_record_with_a_certain_end_is_rejected_alone() {
    let ((_, rows), rejects) = read_with_rejects("[{\"a\": 1}, {\"a\": nope}, {\"a\": 3}]", 5).unwrap();
    assert_eq!((rows.len(), rejects.len(), rejects[0].0.as_str()), (2, 1, "{\"a\": nope}"));
    assert!(read_with_rejects("[{\"a\": 1}, 2, {\"a\": 3}]", 5).is_err());
    // Either the brace of the last object is one too many, or that of the object before is missing.
    assert!(read_with_rejects("{\n\"a\": 1\n}\n{\"a\": [}\n{\"a\": 2}\n", 5).is_err());
}

#[test]
fn infinity_within_a_value_rejects_only_its_record() {
    for file in ["{\"a\": 1}\n{\"a\": [Infinity]}\n{\"a\": NaN}\n", "[{\"a\": 1}, {\"a\": [Infinity]}, {\"a\": NaN}]"] {
        let ((_, rows), rejects) = read_with_rejects(file, 7).unwrap();
        let fields: Vec<Vec<String>> = rows.into_iter().map(|(_, fields)| fields).collect();
        assert_eq!((fields, rejects.len()), (vec![vec!["p1".to_owned()], vec!["-".to_owned()]], 1));
        assert!(rejects[0].0.trim_end() == "{\"a\": [Infinity]}" && rejects[0].1.contains("NaN or Infinity"));
    }
}

/// Firehose writes records without line ends.
#[test]
fn bad_record_among_others_on_its_line_is_rejected_alone() {
    let file = "{\"a\":1}{\"a\":nope}{\"a\":3} {\"a\":4}\n{\"a\":5}";
    for chunk_bytes in 1..=file.len() {
        let ((_, rows), rejects) = read_with_rejects(file, chunk_bytes).unwrap();
        let records: Vec<&str> = rejects.iter().map(|(record, _)| record.as_str()).collect();
        assert_eq!((rows.len(), records), (4, vec!["{\"a\":nope}"]), "in chunks of {chunk_bytes}");
    }
}

#[test]
fn more_bad_lines_than_allowed_are_an_error() {
    let file = "{\"a\": 1}\n".to_owned() + &"oops\n".repeat(10);
    let error = read_with_rejects(&file, 7).expect_err("ten of nine");
    assert!(error.message().contains("MAX_REJECTS"), "{error}");
}

#[test]
fn fault_of_a_last_line_without_line_end_is_the_first_one() {
    let file = "{\"a\": 1}\n{\"a\": 2]}";
    for chunk_bytes in 1..=file.len() {
        let (_, rejects) = read_with_rejects(file, chunk_bytes).unwrap();
        assert_eq!(rejects[0].0, "{\"a\": 2]}");
        assert!(rejects[0].1.contains("a closing bracket does not match the open one"), "{}", rejects[0].1);
    }
}

#[test]
fn bad_line_above_the_limit_is_an_error_in_any_chunks() {
    let line = |bytes: usize| format!("{{\"a\": 1}}\n{}\n{{\"a\": 3}}\n", "x".repeat(bytes));
    for chunk_bytes in [1, 100, 4095, 4096, 4097, 4106, usize::MAX] {
        let (_, rejects) = read_with_rejects(&line(4096), chunk_bytes).unwrap();
        assert_eq!(rejects[0].0.trim_end().len(), 4096);
        let error = read_with_rejects(&line(4097), chunk_bytes).unwrap_err();
        assert!(error.to_string().contains("longer than 4096 bytes"), "{error} in chunks of {chunk_bytes}");
    }
}
