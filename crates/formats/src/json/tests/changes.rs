//! Records of changes.

use rstest::rstest;

use super::*;

fn read_changes(file: &str) -> Result<Content> {
    let options = JsonOptions { values: JsonValues::Changes, ..JsonOptions::default() };
    let whole = read_with(JsonDecoder::new(LIMITS).with_options(&options), file.as_bytes(), usize::MAX);
    for chunk_bytes in [1, 7] {
        let split = read_with(JsonDecoder::new(LIMITS).with_options(&options), file.as_bytes(), chunk_bytes);
        assert_eq!(split.map_err(|error| error.to_string()), whole.as_ref().cloned().map_err(Error::to_string));
    }
    whole
}

#[test]
fn row_is_the_new_one_or_the_deleted_one() {
    let file = concat!(
        r#"{"format":"spillway-delta","format_version":1,"old":null,"key":["id"],"inserted":1,"updated":1,"deleted":2}"#,
        "\n",
        r#"{"op":"c","key":{"id":"1"},"before":null,"after":{"id":"1","note":"a\"b"},"seq":1}"#,
        "\n",
        r#"{"op":"d","key":{"id":"2"},"before": { "note":null,"id":"2"},"after":null,"seq":2}"#,
        "\n",
        r#"{"schema":{"type":"struct"},"payload":{"before":null,"after":{"id":3,"more":[1]},"op":"u","ts_ms":5}}"#,
        "\n",
        r#"{"op":"d","before":{}}"#,
        "\n",
    );
    let (keys, rows) = read_changes(file).unwrap();
    assert_eq!(keys, ["op", "id", "note", "more"]);
    let fields: Vec<Vec<&str>> = rows.iter().map(|(_, row)| row.iter().map(String::as_str).collect()).collect();
    assert_eq!(fields[0], ["sc", "s1", "sa\"b"]);
    assert_eq!(fields[1], ["sd", "s2", "-"]);
    assert_eq!(fields[2], ["su", "p3", "-", "n[1]"]);
    assert_eq!(fields[3], ["sd", "-", "-", "-"]);
}

#[test]
fn truncated_delta_is_rejected() {
    let summary = r#"{"format":"spillway-delta","inserted":1,"updated":0,"deleted":1}"#;
    let change = r#"{"op":"c","after":{"id":1}}"#;
    for (changes, is_complete) in [(0, false), (1, false), (2, true), (3, false)] {
        let file = format!("{summary}\n{}", format!("{change}\n").repeat(changes));
        let read = read_changes(&file);
        assert_eq!(read.is_ok(), is_complete, "{changes}");
        let Err(error) = read else { continue };
        let expected = format!("the summary of the delta counts 2 changes, and the file has {changes}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    // Two deltas, one after the other.
    let file = format!("{summary}\n{change}\n{change}\n").repeat(2);
    assert_eq!(read_changes(&file).unwrap().1.len(), 4);
}

#[rstest]
#[case::summary("{\"format\":\"spillway-delta\"}", "the summary of the delta has no numbers")]
#[case::row("{\"id\":\"1\"}", "it has no op")]
#[case::other_summary("{\"format\":\"other\"}", "it has no op")]
#[case::large_value("{\"op\":\"u\",\"after\":{\"big\":\"__debezium_unavailable_value\"}}", "the value of column big")]
#[case::no_row("{\"op\":\"d\",\"before\":null,\"after\":null}", "it has neither before nor after")]
#[case::truncate("{\"op\":\"t\"}", "it has neither before nor after")]
#[case::number("{\"op\":1,\"after\":{}}", "op is not a string")]
#[case::not_a_row("{\"op\":\"c\",\"after\":[\"secret\"]}", "before or after is not an object")]
#[case::column_of_that_name("{\"op\":\"c\",\"after\":{\"op\":\"secret\"}}", "its row has a column op")]
#[case::bytes("{\"op\":\"c\",\"after\":{\"raw\":{\"hex\":\"00ff\"}}}", "column raw has bytes that are not text")]
fn other_record_is_rejected_without_its_values(#[case] record: &str, #[case] expected: &str) {
    let file = format!("{{\"op\":\"c\",\"after\":{{\"id\":1}}}}\n{record}\n");
    let message = read_changes(&file).unwrap_err().to_string();
    assert!(message.contains(expected) && message.contains("record 2, line 2"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}
