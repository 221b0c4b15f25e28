//! A column of the target table, and which of them a file's columns go into. How an engine stores values is its own.

use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, Schema};

/// A column of the target table; `Storage` is how the engine stores its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetColumn<Storage> {
    /// The name as the table has it.
    pub(super) name: String,
    /// The type as SQL writes it, for messages.
    pub(super) type_text: String,
    /// How values are stored.
    pub(super) storage: Storage,
    /// How its texts compare, where the engine names it.
    pub(super) collation: Option<String>,
    /// Rows are merged by it, so it needs a value.
    pub(super) in_merge_key: bool,
    /// NULL may be stored.
    pub(super) nullable: bool,
    /// A row that does not name the column gets a value that the table's owner chose.
    pub(super) has_default: bool,
    /// The server numbers rows that bring no number.
    pub(super) auto_increment: bool,
    /// The server computes the value; nothing can be stored.
    pub(super) generated: bool,
    /// Null tokens of the file are NULL here, unless the column is text.
    pub(super) null_tokens: bool,
}

/// The file's columns that the table lacks.
pub(super) fn missing<'a, S>(columns: &[TargetColumn<S>], wanted: &'a [Column]) -> Vec<&'a Column> {
    wanted.iter().filter(|column| find(columns, &column.name).is_none()).collect()
}

/// The error for columns that the table lacks and that are not to be added.
pub(super) fn lacks(table: &str, missing: &[&Column]) -> Error {
    let names: Vec<&str> = missing.iter().take(20).map(|column| column.name.as_str()).collect();
    let message = format!(
        "table {table} lacks {} of the file's columns: {}; add them or set UNKNOWN_COLUMNS=add",
        missing.len(),
        names.join(", ")
    );
    Error::new(ErrorKind::TableMismatch, message)
}

/// The table's columns in the file's order.
pub(super) fn fit<S: Clone>(table: &str, columns: &[TargetColumn<S>], schema: &Schema) -> Result<Vec<TargetColumn<S>>> {
    let mut chosen: Vec<TargetColumn<S>> = Vec::with_capacity(schema.columns.len());
    for wanted in &schema.columns {
        let Some(column) = find(columns, &wanted.name) else {
            let message = format!("table {table} has no column {}", wanted.name);
            return Err(Error::new(ErrorKind::TableMismatch, message).in_column(&wanted.name));
        };
        if column.generated {
            let message = format!("table {table} computes column {} itself", column.name);
            return Err(Error::new(ErrorKind::TableMismatch, message).in_column(&column.name));
        }
        chosen.push(TargetColumn { null_tokens: wanted.null_tokens, ..column.clone() });
    }
    let is_filled = |column: &TargetColumn<S>| {
        column.nullable
            || column.has_default
            || column.generated
            || chosen.iter().any(|other| other.name == column.name)
    };
    match columns.iter().find(|column| !is_filled(column)) {
        Some(column) => {
            let message =
                format!("the file has no column {}, which table {table} demands (NOT NULL, no default)", column.name);
            Err(Error::new(ErrorKind::TableMismatch, message).in_column(&column.name))
        }
        None => Ok(chosen),
    }
}

/// The column of this name, else the first that differs in letter case alone. A file has no two such columns.
pub(super) fn find<'a, S>(columns: &'a [TargetColumn<S>], name: &str) -> Option<&'a TargetColumn<S>> {
    columns.iter().find(|column| column.name == name).or_else(|| {
        let lower = name.to_lowercase();
        columns.iter().find(|column| column.name.to_lowercase() == lower)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::infer::Inference;

    fn named(name: &str) -> TargetColumn<()> {
        TargetColumn {
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
    fn columns_are_found_in_any_letter_case_and_come_in_file_order() {
        let chosen = fit("t", &[named("a"), named("b"), named("c"), named("C")], &schema(&["B", "a", "C"])).unwrap();
        assert_eq!(chosen.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["b", "a", "C"]);
    }

    #[test]
    fn a_demanded_column_must_be_in_the_file() {
        let mut demanded = named("b");
        demanded.nullable = false;
        let error = fit("t", &[named("a"), demanded.clone()], &schema(&["a"])).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("b")));
        demanded.has_default = true;
        assert!(fit("t", &[named("a"), demanded], &schema(&["a"])).is_ok());
    }

    #[test]
    fn a_generated_column_takes_no_values() {
        let mut generated = named("a");
        generated.generated = true;
        assert_eq!(fit("t", &[generated], &schema(&["a"])).unwrap_err().kind(), ErrorKind::TableMismatch);
    }
}
