//! Reads the parameters of an extract.

use jiff::Timestamp;

use super::{invalid, parse_timestamp};
use crate::error::Result;
use crate::extract::Relation;
use crate::table_name::TableName;

/// Returns the relation that a request names, and its name in the raw zone.
///
/// # Errors
/// [`crate::error::ErrorKind::EventInvalid`] unless there is exactly one of a table and a query with a name.
pub fn extract_relation(table: Option<&str>, query: Option<&str>, name: Option<&str>) -> Result<(Relation, String)> {
    match (table, query, name) {
        (Some(table), None, name) => {
            let table = TableName::parse(table).map_err(|why| invalid(format!("the table {why}")))?;
            if table.is_empty() {
                return Err(invalid("the table is empty"));
            }
            let name = name.map_or_else(|| table.own_name().to_owned(), str::to_owned);
            Ok((Relation::Table(table), name))
        }
        (None, Some(query), Some(name)) if !query.trim().is_empty() => {
            Ok((Relation::Query(query.to_owned()), name.to_owned()))
        }
        (None, Some(_), Some(_)) => Err(invalid("the query is empty")),
        (None, Some(_), None) => Err(invalid("an extract of a query needs \"name\", its name in the raw zone")),
        (Some(_), Some(_), _) | (None, None, _) => Err(invalid("an extract needs either \"table\" or \"query\"")),
    }
}

/// Reads a time. `name` is that of its option or field, for the error.
///
/// # Errors
/// [`crate::error::ErrorKind::EventInvalid`] when it is not a date or a timestamp.
pub fn time(name: &str, text: &str) -> Result<Timestamp> {
    parse_timestamp(name, text)
}
