//! Items that DynamoDB exported.

use rstest::rstest;

use super::*;

fn read_items(file: &str) -> Result<Content> {
    let options = JsonOptions { values: JsonValues::DynamoDb, ..JsonOptions::default() };
    let whole = read_with(JsonDecoder::new(LIMITS).with_options(&options), file.as_bytes(), usize::MAX);
    for chunk_bytes in [1, 7] {
        let split = read_with(JsonDecoder::new(LIMITS).with_options(&options), file.as_bytes(), chunk_bytes);
        assert_eq!(split.map_err(|error| error.to_string()), whole.as_ref().cloned().map_err(Error::to_string));
    }
    whole
}

#[test]
fn attributes_are_values() {
    let file = concat!(
        r#"{"Item":{"id":{"S":"a\n1"},"n":{"N":"9007199254740993.10"},"ok":{"BOOL":true},"none":{"NULL":true}}}"#,
        "\n",
        r#"{"Item":{"id":{"S":""},"raw":{"B":"AAE="},"tags":{"SS":["x","y\""]},"ns":{"NS":["1","-2e3"]}}}"#,
        "\n",
        r#"{"Item":{"list":{"L":[{"S":"a"},{"M":{"k":{"N":"1"},"e":{"L":[]}}}]},"map":{"M":{"b":{"BS":["AA=="]}}}}}"#,
        "\n",
    );
    let (keys, rows) = read_items(file).unwrap();
    assert_eq!(keys, ["id", "n", "ok", "none", "raw", "tags", "ns", "list", "map"]);
    let fields: Vec<Vec<&str>> = rows.iter().map(|(_, row)| row.iter().map(String::as_str).collect()).collect();
    assert_eq!(fields[0], ["sa\n1", "p9007199254740993.10", "ptrue", "-"]);
    assert_eq!(fields[1], ["s", "-", "-", "-", "sAAE=", "n[\"x\",\"y\\\"\"]", "n[1,-2e3]"]);
    assert_eq!(fields[2][7..], ["n[\"a\",{\"k\":1,\"e\":[]}]", "n{\"b\":[\"AA==\"]}"]);
    assert_eq!(rows[1].0, "record 2, line 2, byte 101");
}

#[rstest]
#[case::plain("{\"id\":\"a\"}")]
#[case::no_item("{}")]
#[case::change("{\"Metadata\":{},\"Keys\":{},\"NewImage\":{}}")]
#[case::more_than_the_item("{\"Item\":{},\"x\":1}")]
#[case::plain_value("{\"Item\":{\"id\":\"a\"}}")]
#[case::unknown_type("{\"Item\":{\"id\":{\"X\":\"a\"}}}")]
#[case::two_types("{\"Item\":{\"id\":{\"S\":\"a\",\"N\":\"1\"}}}")]
#[case::no_type("{\"Item\":{\"id\":{}}}")]
#[case::not_a_number("{\"Item\":{\"id\":{\"N\":\"secret\"}}}")]
#[case::number_with_spaces("{\"Item\":{\"id\":{\"N\":\"1 \"}}}")]
#[case::number_as_a_number("{\"Item\":{\"id\":{\"N\":1}}}")]
#[case::string_as_a_number("{\"Item\":{\"id\":{\"N\":\"\\\"1\\\"\"}}}")]
#[case::repeated("{\"Item\":{\"id\":{\"S\":\"a\"},\"id\":{\"S\":\"b\"}}}")]
fn other_record_is_rejected_without_its_values(#[case] record: &str) {
    let file = format!("{{\"Item\":{{\"id\":{{\"S\":\"a\"}}}}}}\n{record}\n");
    let error = read_items(&file).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("the record is not an item of a DynamoDB export, which JSON_VALUES expects"),
        "{message}"
    );
    assert!(message.contains("record 2, line 2") && !message.contains("secret"), "{message}");
}

#[test]
fn maps_can_be_flattened() {
    let options = JsonOptions { values: JsonValues::DynamoDb, flatten_depth: 1, ..JsonOptions::default() };
    let file = br#"{"Item":{"id":{"S":"a"},"at":{"M":{"x":{"N":"1"},"y":{"M":{"z":{"NULL":true}}}}}}}"#;
    let (keys, rows) = read_with(JsonDecoder::new(LIMITS).with_options(&options), file, usize::MAX).unwrap();
    assert_eq!(
        (keys, rows[0].1.clone()),
        (
            vec!["id".to_owned(), "at_x".to_owned(), "at_y".to_owned()],
            vec!["sa".to_owned(), "p1".to_owned(), "n{\"z\":null}".to_owned()],
        )
    );
}
