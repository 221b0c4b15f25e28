//! The settings of the transform of a stream.

use super::environment::Environment;
use super::setting::{Reason, invalid};
use super::{read, settings};
use crate::error::Result;
use crate::stream::{StreamSettings, table_name};

/// The settings of the transform; `None` if the function runs requests.
pub(super) fn stream(environment: &Environment) -> Result<Option<StreamSettings>> {
    let Some(table_field) = environment.find(&settings::STREAM_TABLE_FIELD)? else { return Ok(None) };
    let ledger_table = environment.get(&settings::LEDGER_TABLE)?;
    Ok(Some(StreamSettings {
        region: environment.get(&settings::AWS_REGION)?,
        stack: environment.get(&settings::STACK_NAME)?,
        tables: tables(environment, &ledger_table)?,
        key_fields: environment.find(&settings::STREAM_KEY_FIELDS)?.unwrap_or_default(),
        limits: read::limits(environment, None)?,
        table_field,
        ledger_table,
    }))
}

/// `STREAM_TABLES` in lower case.
fn tables(environment: &Environment, ledger_table: &str) -> Result<Option<Vec<String>>> {
    let Some(names) = environment.find(&settings::STREAM_TABLES)? else { return Ok(None) };
    let valid = |name: &String| {
        table_name(name, ledger_table).map_err(|why| {
            let text = environment.text(&settings::STREAM_TABLES).ok().flatten().unwrap_or_default();
            invalid(&settings::STREAM_TABLES, &text, Reason::Because(format!("the table name {name:?} {why}")))
        })
    };
    names.iter().map(valid).collect::<Result<Vec<String>>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IngestRole, IngestSettings};
    use crate::error::ErrorKind;

    #[test]
    fn transform_needs_only_the_field() {
        let found = stream(&Environment::of(&[("STREAM_TABLE_FIELD", "kind")])).unwrap().unwrap();
        assert_eq!((found.table_field.as_str(), found.tables, found.stack.as_str()), ("kind", None, "spillway"));
        assert_eq!(found.ledger_table, "spillway_ledger");
        assert!(IngestSettings::read(&Environment::of(&[("STREAM_TABLE_FIELD", "kind")])).is_err());
    }

    #[test]
    fn tables_are_in_lower_case_and_valid() {
        let read = |tables: &str| stream(&Environment::of(&[("STREAM_TABLE_FIELD", "t"), ("STREAM_TABLES", tables)]));
        assert_eq!(
            read("Orders, items ,").unwrap().unwrap().tables,
            Some(vec!["orders".to_owned(), "items".to_owned()])
        );
        for (tables, why) in [
            ("orders,spillway_ledger", "is the name of the ledger"),
            ("orders;items", "contains a character other than letters"),
            ("sales/orders", "contains a character other than letters"),
            ("..", "consists of dots"),
        ] {
            let error = read(tables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn key_fields_keep_their_letter_case() {
        let read = |fields: &[(&str, &str)]| {
            stream(&Environment::of(&[&[("STREAM_TABLE_FIELD", "t")], fields].concat())).unwrap().unwrap().key_fields
        };
        assert_eq!(read(&[("STREAM_KEY_FIELDS", "requestId, at")]), ["requestId", "at"]);
        assert!(read(&[]).is_empty() && read(&[("STREAM_KEY_FIELDS", "")]).is_empty());
    }

    #[test]
    fn function_without_the_field_runs_requests() {
        assert!(stream(&Environment::of(&[])).unwrap().is_none());
        let role = IngestRole::read(&Environment::of(&[("STREAM_TABLE_FIELD", "t")])).unwrap();
        assert!(matches!(role, IngestRole::Stream(_)));
        assert!(IngestRole::read(&Environment::of(&[])).is_err());
    }
}
