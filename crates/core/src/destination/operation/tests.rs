use futures_util::TryStreamExt;
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::infer::Inference;

use super::*;

fn mode(name: &str) -> LoadMode {
    LoadMode::Changes(Changes { key: Vec::new(), operation_column: name.to_owned() })
}

fn schema(names: &[&str]) -> Schema {
    Inference::new(names.iter().map(|name| (*name).to_owned()).collect()).finish()
}

fn batch(rows: &[[Option<&str>; 3]]) -> Batch {
    let mut batch = Batch::new(3);
    for row in rows {
        row.iter().for_each(|field| batch.push_field(field.map(str::as_bytes)));
        batch.end_row(Position { record: 7, ..Position::default() });
    }
    batch
}

async fn moved(rows: &[[Option<&str>; 3]]) -> Result<Vec<Vec<Option<String>>>> {
    let stream = futures_util::stream::iter([Ok(batch(rows))]).boxed();
    let batches: Vec<Batch> = moved_to_end(stream, (1, "op".to_owned()), None).try_collect().await?;
    let text =
        |batch: &Batch, row, column| batch.field(row, column).map(|field| String::from_utf8_lossy(field).into_owned());
    let rows = |batch: &Batch| {
        (0..batch.rows()).map(|row| (0..batch.width()).map(|column| text(batch, row, column)).collect()).collect()
    };
    Ok(batches.iter().flat_map(|batch| -> Vec<Vec<Option<String>>> { rows(batch) }).collect())
}

#[test]
fn column_is_found_in_any_case_and_left_out() {
    let changes = ChangedRows::of(&mode("op"), &schema(&["id", "Op", "note"])).unwrap().unwrap();
    assert_eq!(changes.operation, 1);
    let names: Vec<&str> = changes.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "note"]);
    for names in [&["id", "note"][..], &["op"]] {
        let error = ChangedRows::of(&mode("op"), &schema(names)).err().unwrap();
        assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("op")));
    }
    assert!(ChangedRows::of(&mode("op"), &schema(&[])).unwrap().is_none());
    assert!(ChangedRows::of(&LoadMode::Append, &schema(&["op"])).unwrap().is_none());
}

#[test]
fn deletions_are_not_merged_as_rows() {
    let merge = |key: &str| LoadMode::Merge { key: vec![key.to_owned()] };
    let changes = Schema { is_of_changes: true, ..schema(&["op", "id"]) };
    let error = ChangedRows::of(&merge("id"), &changes).err().unwrap().to_string();
    assert!(error.contains("JSON_VALUES=changes") && error.contains("LOAD_MODE=merge"), "{error}");
    for stored in [LoadMode::Append, LoadMode::Replace] {
        assert!(ChangedRows::of(&stored, &changes).unwrap().is_none(), "{stored:?}");
    }
    let file = columns(&[("id", ColumnType::Integer), ("Op", ColumnType::Text)]);
    let lacking: Vec<&Column> = file.iter().collect();
    assert!(reject_operations(&merge("id"), &lacking).unwrap_err().to_string().contains("OPERATION_COLUMN=Op"));
    for allowed in [merge("op"), LoadMode::Append, LoadMode::Replace, mode("op")] {
        reject_operations(&allowed, &lacking).unwrap();
    }
    // Longer texts and numbers are no operations.
    let long = Column { max_bytes: 7, ..file[1].clone() };
    let number = Column { column_type: ColumnType::Integer, ..file[1].clone() };
    reject_operations(&merge("id"), &[&long, &number]).unwrap();
}

/// Columns with these names and types.
fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let columns = schema(&names).columns.into_iter().zip(columns);
    columns.map(|(column, (_, column_type))| Column { column_type: *column_type, ..column }).collect()
}

#[test]
fn columns_of_changes_name_the_settings() {
    use ColumnType::{Json, Text};
    let advice = |list: &[(&str, ColumnType)]| {
        let columns = columns(list);
        super::advice(&columns.iter().collect::<Vec<_>>())
    };
    let envelopes = [
        &[("op", Text), ("before", Text), ("after", Json), ("seq", Text)][..],
        &[("before", Json), ("after", Text), ("op", Text)],
        &[("schema", Json), ("payload", Json)],
    ];
    for envelope in envelopes {
        let text = advice(envelope).unwrap();
        assert!(text.contains("JSON_VALUES=changes, LOAD_MODE=changes"), "{text}");
        let schema = Schema { columns: columns(envelope), ..schema(&[]) };
        let error = ChangedRows::of(&mode("op"), &schema).err().unwrap();
        assert!(error.to_string().contains("JSON_VALUES=changes"), "{error}");
    }
    assert!(advice(&[("id", Text), ("Op", Text)]).unwrap().contains("OPERATION_COLUMN=Op"));
    for other in [&[("before", Text), ("after", Text)][..], &[("payload", Json)], &[("operation", Text)]] {
        assert_eq!(advice(other), None);
    }
    let error = ChangedRows::of(&mode("kind"), &schema(&["id", "op"])).err().unwrap().to_string();
    assert!(error.contains("no column kind") && error.contains("OPERATION_COLUMN"), "{error}");
}

#[test]
fn operations_are_counted_until_an_unknown_one() {
    let mut checker = ChangedRows { schema: schema(&[]), operation: 1 }.checker(&mode("op"));
    let rows = |operations: [&'static str; 3]| batch(&operations.map(|operation| [None, Some(operation), None]));
    checker.check(&rows(["I", "update", "d"])).unwrap();
    checker.check(&rows(["c", "D", "delete"])).unwrap();
    assert_eq!(checker.counts, OperationCounts { stores: 2, updates: 1, deletes: 3 });
    let error = checker.check(&rows(["c", "x", "c"])).unwrap_err();
    assert_eq!((error.kind(), error.column()), (ErrorKind::FileBroken, Some("op")));
}

#[tokio::test]
async fn operation_moves_to_the_end_in_one_spelling() {
    let rows = [[Some("1"), Some("D"), None], [None, Some("Insert"), Some("x")], [Some(""), Some("u"), Some("y")]];
    let text = |text: &str| Some(text.to_owned());
    let expected = [[text("1"), None, text("d")], [None, text("x"), text("c")], [text(""), text("y"), text("u")]];
    assert_eq!(moved(&rows).await.unwrap(), expected);
    for unknown in [None, Some(""), Some("t"), Some("dd")] {
        let error = moved(&[[Some("1"), unknown, None]]).await.unwrap_err();
        assert_eq!((error.kind(), error.position().map(|at| at.record)), (ErrorKind::FileBroken, Some(7)));
        assert!(!error.to_string().contains("dd"), "{error}");
    }
}
