//! Properties of a schema and its columns.

use super::Schema;
use super::infer::Inference;

#[test]
fn columns_without_header_are_unnamed() {
    let inference = || Inference::new(vec!["col_1".to_owned(), "col_2".to_owned()]);
    assert_eq!(inference().finish().unnamed, 0);
    let schema = inference().without_header().finish();
    assert_eq!(schema.unnamed, 2);
    let text = serde_json::to_string(&schema).unwrap();
    assert_eq!(serde_json::from_str::<Schema>(&text).unwrap(), schema);
    // A manifest of an earlier version lacks the field.
    let earlier = text.replace(",\"unnamed\":2", "");
    assert_ne!(earlier, text);
    assert_eq!(serde_json::from_str::<Schema>(&earlier).unwrap().unnamed, 0);
}
