//! Properties of a schema and its columns.

use rstest::rstest;

use super::Schema;
use super::infer::Inference;
use crate::{Batch, Position};

#[rstest]
#[case(&[], true)]
#[case(&[None, None], true)]
#[case(&[None, Some("NULL")], false)]
#[case(&[None, Some("")], false)]
#[case(&[Some(""), Some("")], false)]
#[case(&[None, Some("1")], false)]
#[case(&[Some("x")], false)]
fn column_without_any_value_is_empty(#[case] fields: &[Option<&str>], #[case] expected: bool) {
    let mut batch = Batch::new(1);
    for field in fields {
        batch.push_field(field.map(str::as_bytes));
        batch.end_row(Position::default());
    }
    for inference in [Inference::new(vec!["c".to_owned()]), Inference::new(vec!["c".to_owned()]).without_null_tokens()]
    {
        let mut inference = inference;
        inference.observe(&batch);
        assert_eq!(inference.finish().columns[0].is_empty(), expected);
    }
}

#[rstest]
#[case(&[".5", "1.5"], true)]
#[case(&["1.5", "2.5", "5."], true)]
#[case(&["1", "none"], true)]
#[case(&["true", "tRUE"], true)]
#[case(&["fALSE", "true"], true)]
#[case(&["1.5", "-2", "1e3", "NaN", "NA", "", "\\N"], false)]
#[case(&["TRUE", "False"], false)]
#[case(&[".5", "x"], false)]
#[case(&["none", "null"], false)]
#[case(&["2024-01-01"], false)]
fn unusual_spellings_of_a_column_are_known(#[case] fields: &[&str], #[case] expected: bool) {
    let mut inference = Inference::new(vec!["c".to_owned()]);
    let mut batch = Batch::new(1);
    for field in fields {
        batch.push_field(Some(field.as_bytes()));
        batch.end_row(Position::default());
    }
    inference.observe(&batch);
    assert_eq!(inference.finish().columns[0].has_other_spellings, expected);
}

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
