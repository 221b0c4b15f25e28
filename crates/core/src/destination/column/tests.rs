use super::*;
use crate::destination::Body;
use crate::error::Position;
use spillway_formats::Batch;
use spillway_formats::schema::infer::Inference;

fn named(name: &str) -> TableColumn<()> {
    TableColumn { name: name.into(), ..nullable_column("int", ()) }
}

fn schema(names: &[&str]) -> Schema {
    Inference::new(names.iter().map(|name| (*name).to_owned()).collect()).finish()
}

#[test]
fn columns_match_in_any_letter_case_and_keep_file_order() {
    let columns = [named("a"), named("b"), named("c"), named("C")];
    let matched = match_columns("t", &columns, &schema(&["B", "a", "C"]), Contract::REFUSE).unwrap();
    assert_eq!(matched.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["b", "a", "C"]);
}

#[test]
fn required_column_must_be_in_file() {
    let mut required = named("b");
    required.nullable = false;
    let error = match_columns("t", &[named("a"), required.clone()], &schema(&["a"]), Contract::REFUSE).unwrap_err();
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("b")));
    required.has_default = true;
    assert!(match_columns("t", &[named("a"), required], &schema(&["a"]), Contract::REFUSE).is_ok());
}

/// The schema of one row.
fn schema_of(fields: &[(&str, Option<&str>)]) -> Schema {
    let mut batch = Batch::new(fields.len());
    fields.iter().for_each(|(_, field)| batch.push_field(field.map(str::as_bytes)));
    batch.end_row(Position::default());
    let mut inference = Inference::new(fields.iter().map(|(name, _)| (*name).to_owned()).collect());
    inference.observe(&batch);
    inference.finish()
}

#[test]
fn unknown_columns_become_one_column() {
    let contract = Contract { unknown: UnknownColumns::Json, extra: "more", ..Contract::REFUSE };
    let columns = [named("More"), named("a")];
    let matched = match_columns("t", &columns, &schema(&["x", "a", "y"]), contract).unwrap();
    let fields: Vec<(&str, usize, bool)> =
        matched.iter().map(|column| (column.name.as_str(), column.field, column.extra.is_some())).collect();
    assert_eq!(fields, [("a", 1, false), ("More", 3, true)]);
    assert_eq!(match_columns("t", &columns, &schema(&["a"]), contract).unwrap().len(), 1);
    for (columns, file) in [(&[named("a")][..], &["a", "x"][..]), (&columns, &["a", "x", "more"])] {
        let error = match_columns("t", columns, &schema(file), contract).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("more")), "{error}");
    }
}

#[test]
fn missing_columns_are_refused_on_request() {
    let contract = Contract { missing: MissingColumns::Refuse, ..Contract::REFUSE };
    let (mut id, mut total) = (named("id"), named("total"));
    (id.auto_increment, total.generated) = (true, true);
    let columns = [id, named("a"), named("b"), total];
    assert!(match_columns("t", &columns, &schema(&["a", "b"]), contract).is_ok());
    let error = match_columns("t", &columns, &schema(&["b"]), contract).unwrap_err();
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("a")));
    assert!(error.message().contains("MISSING_COLUMNS"), "{error}");
    assert!(match_columns("t", &columns, &schema(&["b"]), Contract::REFUSE).is_ok());
}

#[test]
fn generated_column_with_a_value_is_rejected() {
    let mut generated = named("a");
    generated.generated = true;
    let error = match_columns("t", &[generated], &schema_of(&[("a", Some("1"))]), Contract::REFUSE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
}

fn without_empty(columns: &[TableColumn<()>], schema: &Schema) -> Vec<(String, usize)> {
    let mut matched = match_columns("t", columns, schema, Contract::REFUSE).unwrap();
    let body = Body { sha256: String::new(), content_id: None, decoded_bytes: 0, lake_key: None };
    let schema = FileSchema::Final { schema, body: &body };
    assert_eq!(leave_out_empty(&mut matched, schema), EmptyColumns::LeftOut);
    matched.into_iter().map(|column| (column.name, column.field)).collect()
}

#[test]
fn column_without_values_is_left_out_if_the_server_fills_it() {
    let mut id = named("id");
    (id.nullable, id.has_default) = (false, true);
    let mut total = named("total");
    total.generated = true;
    let mut status = named("status");
    status.has_default = true;
    let columns = [id.clone(), named("b"), total.clone(), status];
    let fields = [("total", None), ("b", Some("1")), ("id", None), ("status", None)];
    let expected = [("b".to_owned(), 1), ("status".to_owned(), 3)];
    assert_eq!(without_empty(&columns, &schema_of(&fields)), expected);
    let fields = [("b", None), ("id", Some(""))];
    let expected = [("b".to_owned(), 0), ("id".to_owned(), 1)];
    assert_eq!(without_empty(&columns, &schema_of(&fields)), expected);
    // A file without any other column.
    assert_eq!(without_empty(&columns, &schema_of(&[("id", None)])), [("id".to_owned(), 0)]);
    assert!(without_empty(&[total], &schema_of(&[("total", None)])).is_empty());
    // An INSERT without the key would not find the row to update.
    id.in_merge_key = true;
    assert_eq!(without_empty(&[id, named("b")], &schema_of(&[("b", Some("1")), ("id", None)])).len(), 2);
}

#[test]
fn first_rows_do_not_show_that_a_column_is_empty() {
    let mut id = named("id");
    (id.nullable, id.has_default) = (false, true);
    let schema = schema_of(&[("id", None), ("b", Some("1"))]);
    for (null_fill, expected) in [
        (NullFill::Nothing, EmptyColumns::NeedsScan),
        (NullFill::Trigger, EmptyColumns::NeedsScan),
        (NullFill::NextNumber, EmptyColumns::LeftOut),
    ] {
        id.null_fill = null_fill;
        let mut columns = match_columns("t", &[id.clone(), named("b")], &schema, Contract::REFUSE).unwrap();
        let provisional = FileSchema::Provisional { schema: &schema, may_create_table: false };
        assert_eq!(leave_out_empty(&mut columns, provisional), expected);
        assert_eq!(columns.len(), 2);
    }
}
