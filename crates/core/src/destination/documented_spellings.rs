//! The tables of `docs/types.md`, which the tests of each engine's value check compare with the code.

use spillway_formats::Batch;
use spillway_formats::schema::infer::Inference;
use spillway_formats::schema::value::NULL_WORDS;
use spillway_formats::schema::{Column, ColumnType};

use super::check::date;
use crate::error::Position;

const PAGE: &str = include_str!("../../../../docs/types.md");

/// A row of the table of accepted spellings.
pub(super) struct Accepted {
    /// The kind of column.
    pub(super) column: &'static str,
    pub(super) spellings: Vec<&'static str>,
    /// The stored value.
    pub(super) stored: &'static str,
    /// The type of a new column with such a value alone.
    new_table: &'static str,
}

/// A row of the table of rejected spellings.
pub(super) struct Rejected {
    /// The kind of column.
    pub(super) column: &'static str,
    pub(super) spellings: Vec<&'static str>,
}

/// Returns the accepted spellings.
pub(super) fn accepted() -> Vec<Accepted> {
    let row = |cells: Vec<&'static str>| Accepted {
        column: cells[0],
        spellings: code(cells[1]),
        stored: code(cells[2])[0],
        new_table: cells[3],
    };
    table(4).into_iter().map(row).collect()
}

/// Returns the rejected spellings.
pub(super) fn rejected() -> Vec<Rejected> {
    table(3).into_iter().map(|cells| Rejected { column: cells[0], spellings: code(cells[1]) }).collect()
}

/// The rows of the table with this number of cells in the section about spellings.
fn table(width: usize) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("Spellings\n")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows: Vec<_> = cells.filter(|cells| cells.len() == width && cells[0] != "column").collect();
    assert!(rows.len() > 8, "the table with {width} columns is missing");
    rows
}

/// The texts in backticks.
fn code(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn documented_type_is_inferred() {
    for Accepted { spellings, new_table, .. } in accepted() {
        for text in spellings {
            assert_eq!(type_name(&inferred(&[text])), new_table, "{text}");
        }
    }
}

/// The column of a new table with these values.
fn inferred(values: &[&str]) -> Column {
    let mut batch = Batch::new(1);
    for text in values {
        batch.push_field(Some(text.as_bytes()));
        batch.end_row(Position::default());
    }
    let mut inference = Inference::new(vec!["c".to_owned()]);
    inference.observe(&batch);
    inference.finish().columns.remove(0)
}

/// The documented name of a column's type.
fn type_name(column: &Column) -> &'static str {
    match column.column_type {
        ColumnType::Boolean => "boolean",
        ColumnType::Integer => "integer",
        ColumnType::Decimal { .. } => "decimal",
        ColumnType::Double => "double",
        ColumnType::Date => "date",
        ColumnType::DateTime => "date and time",
        ColumnType::Instant => "instant",
        ColumnType::Text => "text",
        other => panic!("{other:?}"),
    }
}

#[test]
fn documented_orders_of_day_and_month_are_proved() {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("Day and month\n")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut seen = 0;
    for cells in rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()) {
        let values = code(cells[0]);
        let column = inferred(&values);
        assert_eq!(type_name(&column), cells[2].split(',').next().unwrap(), "{values:?}");
        let stored = values.iter().map(|value| date(value.as_bytes(), column.day_order).ok());
        let expected = code(cells[1]).into_iter().map(|value| date(value.as_bytes(), None).ok());
        match cells[1].starts_with("refused") {
            true => assert!(stored.into_iter().all(|days| days.is_none()), "{values:?}"),
            false => assert!(stored.eq(expected), "{values:?}"),
        }
        seen += 1;
    }
    assert!(seen > 5, "the table is missing");
}

#[test]
fn null_words_are_documented() {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("NULL\n")).unwrap();
    for word in NULL_WORDS {
        assert!(section.contains(&format!("`{word}`")), "{word}");
    }
}
