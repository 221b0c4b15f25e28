//! The columns of a table, and how a file's columns are matched to them. Each engine adds how it stores values.

use super::{FileSchema, UnknownColumns};
use crate::error::{Error, ErrorKind, Result};
use spillway_formats::schema::{Column, Schema};

/// A column of the table. `Storage` is how the engine stores its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableColumn<Storage> {
    /// The name, as the table spells it.
    pub(super) name: String,
    /// The type in SQL, for messages.
    pub(super) type_text: String,
    /// How values are stored.
    pub(super) storage: Storage,
    /// The collation, where the engine needs it by name.
    pub(super) collation: Option<String>,
    /// The column is part of the merge key, so it needs a value.
    pub(super) in_merge_key: bool,
    /// NULL is allowed.
    pub(super) nullable: bool,
    /// The column has a default value.
    pub(super) has_default: bool,
    /// The server numbers rows that have no value here.
    pub(super) auto_increment: bool,
    /// The server computes the value, so none can be stored.
    pub(super) generated: bool,
    /// The file's null tokens mean NULL here, unless the column is text.
    pub(super) null_tokens: bool,
}

/// The file's columns that the table does not have.
pub(super) enum Missing<'a> {
    /// The table has all of them.
    Nothing,
    /// These must be added.
    Add(Vec<&'a Column>),
    /// Columns must be added, and only a scan of the whole file tells their types.
    NeedsScan,
}

/// Compares the table's columns with the file's.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when columns are missing that may not be added.
pub(super) fn missing<'a, S>(
    table: &str,
    columns: &[TableColumn<S>],
    schema: FileSchema<'a>,
    unknown_columns: UnknownColumns,
) -> Result<Missing<'a>> {
    let wanted = schema.schema().columns.iter();
    let missing: Vec<&Column> = wanted.filter(|column| find(columns, &column.name).is_none()).collect();
    match (unknown_columns, schema) {
        _ if missing.is_empty() => Ok(Missing::Nothing),
        (UnknownColumns::Refuse, _) => Err(lacks(table, &missing)),
        (UnknownColumns::Add, FileSchema::Provisional { .. }) => Ok(Missing::NeedsScan),
        (UnknownColumns::Add, FileSchema::Final { .. }) => Ok(Missing::Add(missing)),
    }
}

/// The error for columns that the table does not have and that may not be added.
fn lacks(table: &str, missing: &[&Column]) -> Error {
    let names: Vec<&str> = missing.iter().take(20).map(|column| column.name.as_str()).collect();
    let message = format!(
        "table {table} lacks {} of the file's columns: {}; add them or set UNKNOWN_COLUMNS=add",
        missing.len(),
        names.join(", ")
    );
    Error::new(ErrorKind::TableMismatch, message)
}

/// Returns the table's columns in the file's order.
pub(super) fn fit<S: Clone>(table: &str, columns: &[TableColumn<S>], schema: &Schema) -> Result<Vec<TableColumn<S>>> {
    let mut chosen: Vec<TableColumn<S>> = Vec::with_capacity(schema.columns.len());
    for wanted in &schema.columns {
        let Some(column) = find(columns, &wanted.name) else {
            let message = format!("table {table} has no column {}", wanted.name);
            return Err(Error::new(ErrorKind::TableMismatch, message).in_column(&wanted.name));
        };
        if column.generated {
            let message = format!("table {table} computes column {}, so the file cannot contain it", column.name);
            return Err(Error::new(ErrorKind::TableMismatch, message).in_column(&column.name));
        }
        chosen.push(TableColumn { null_tokens: wanted.null_tokens, ..column.clone() });
    }
    let is_filled = |column: &TableColumn<S>| {
        column.nullable
            || column.has_default
            || column.generated
            || chosen.iter().any(|other| other.name == column.name)
    };
    match columns.iter().find(|column| !is_filled(column)) {
        Some(column) => {
            let message =
                format!("the file has no column {}, which table {table} requires (NOT NULL, no default)", column.name);
            Err(Error::new(ErrorKind::TableMismatch, message).in_column(&column.name))
        }
        None => Ok(chosen),
    }
}

/// Returns the column of this name, else the first one that differs only in letter case. No file has two such columns.
pub(super) fn find<'a, S>(columns: &'a [TableColumn<S>], name: &str) -> Option<&'a TableColumn<S>> {
    columns.iter().find(|column| column.name == name).or_else(|| {
        let lower = name.to_lowercase();
        columns.iter().find(|column| column.name.to_lowercase() == lower)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::schema::infer::Inference;

    fn named(name: &str) -> TableColumn<()> {
        TableColumn {
            name: name.into(),
            type_text: "int".into(),
            storage: (),
            collation: None,
            in_merge_key: false,
            nullable: true,
            has_default: false,
            auto_increment: false,
            generated: false,
            null_tokens: true,
        }
    }

    fn schema(names: &[&str]) -> Schema {
        Inference::new(names.iter().map(|name| (*name).to_owned()).collect()).finish()
    }

    #[test]
    fn columns_match_in_any_letter_case_and_keep_file_order() {
        let chosen = fit("t", &[named("a"), named("b"), named("c"), named("C")], &schema(&["B", "a", "C"])).unwrap();
        assert_eq!(chosen.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["b", "a", "C"]);
    }

    #[test]
    fn required_column_must_be_in_file() {
        let mut required = named("b");
        required.nullable = false;
        let error = fit("t", &[named("a"), required.clone()], &schema(&["a"])).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("b")));
        required.has_default = true;
        assert!(fit("t", &[named("a"), required], &schema(&["a"])).is_ok());
    }

    #[test]
    fn generated_column_is_rejected() {
        let mut generated = named("a");
        generated.generated = true;
        assert_eq!(fit("t", &[generated], &schema(&["a"])).unwrap_err().kind(), ErrorKind::TableMismatch);
    }
}
