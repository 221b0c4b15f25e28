//! SQLSTATE codes of PostgreSQL, each with its condition name, the kind of failure, and the reason for a rejected row.
//!
//! A name is the one in appendix A of PostgreSQL's manual.

use crate::destination::codes::{DUPLICATE_KEY, NO_VALUE, OUT_OF_RANGE, ROW_IS_REFERENCED, TOO_LONG, TRIGGER, find};
use crate::error::ErrorKind::{
    self, Capacity, Conflict, Credentials, DataRefused, DatabaseFull, Failover, Internal, Privilege, TableMismatch,
};

pub(super) const DUPLICATE_COLUMN: &str = "42701";
pub(super) const DUPLICATE_OBJECT: &str = "42710";
pub(super) const DUPLICATE_TABLE: &str = "42P07";
pub(super) const UNDEFINED_TABLE: &str = "42P01";
pub(super) const UNIQUE_VIOLATION: &str = "23505";
pub(super) const STATEMENT_COMPLETION_UNKNOWN: &str = "40003";

/// The error codes with their names and kinds, sorted by code.
#[rustfmt::skip]
const CODES: [(&str, &str, ErrorKind); 58] = [
    ("08004", "sqlserver_rejected_establishment_of_sqlconnection", Credentials),
    ("09000", "triggered_action_exception", DataRefused),
    ("0A000", "feature_not_supported", Internal),
    ("0L000", "invalid_grantor", Privilege),
    ("0LP01", "invalid_grant_operation", Privilege),
    ("0P000", "invalid_role_specification", Privilege),
    ("21000", "cardinality_violation", DataRefused),
    // The rows were encoded for another type, which the column had before.
    ("22P03", "invalid_binary_representation", Conflict),
    ("22P04", "bad_copy_file_format", Internal),
    ("25006", "read_only_sql_transaction", Failover),
    ("25P03", "idle_in_transaction_session_timeout", Failover),
    ("25P04", "transaction_timeout", Failover),
    ("27000", "triggered_data_change_violation", DataRefused),
    ("28000", "invalid_authorization_specification", Credentials),
    ("28P01", "invalid_password", Credentials),
    ("3D000", "invalid_catalog_name", Privilege),
    ("3F000", "invalid_schema_name", Privilege),
    ("40000", "transaction_rollback", Conflict),
    ("40001", "serialization_failure", Conflict),
    ("40P01", "deadlock_detected", Conflict),
    ("42501", "insufficient_privilege", Privilege),
    ("42601", "syntax_error", Internal),
    ("42602", "invalid_name", DataRefused),
    ("42611", "invalid_column_definition", TableMismatch),
    ("42622", "name_too_long", TableMismatch),
    ("42701", "duplicate_column", TableMismatch),
    ("42703", "undefined_column", TableMismatch),
    ("42704", "undefined_object", TableMismatch),
    ("42710", "duplicate_object", TableMismatch),
    ("42804", "datatype_mismatch", TableMismatch),
    ("42809", "wrong_object_type", TableMismatch),
    ("42830", "invalid_foreign_key", TableMismatch),
    ("428C9", "generated_always", TableMismatch),
    ("42P01", "undefined_table", TableMismatch),
    ("42P06", "duplicate_schema", TableMismatch),
    ("42P07", "duplicate_table", TableMismatch),
    ("42P10", "invalid_column_reference", TableMismatch),
    ("42P16", "invalid_table_definition", TableMismatch),
    ("42P17", "invalid_object_definition", TableMismatch),
    ("44000", "with_check_option_violation", DataRefused),
    ("53000", "insufficient_resources", Capacity),
    ("53100", "disk_full", DatabaseFull),
    ("53200", "out_of_memory", Capacity),
    ("53300", "too_many_connections", Capacity),
    ("53400", "configuration_limit_exceeded", Capacity),
    ("54000", "program_limit_exceeded", TableMismatch),
    ("54011", "too_many_columns", TableMismatch),
    ("55000", "object_not_in_prerequisite_state", TableMismatch),
    ("55006", "object_in_use", Conflict),
    ("55P03", "lock_not_available", Conflict),
    ("57000", "operator_intervention", Failover),
    ("57014", "query_canceled", Failover),
    ("57P01", "admin_shutdown", Failover),
    ("57P02", "crash_shutdown", Failover),
    ("57P03", "cannot_connect_now", Failover),
    ("57P04", "database_dropped", Privilege),
    ("57P05", "idle_session_timeout", Failover),
    ("F0001", "lock_file_exists", Failover),
];

const WRONG_VALUE: &str = "a value does not have its column's type";
const WRONG_CHARACTER: &str =
    "a value contains characters that the database's encoding or the column's type cannot store";
const WRONG_JSON: &str = "a value is not JSON that the column accepts";

/// Reasons for rejected rows, sorted by code.
#[rustfmt::skip]
const REASONS: [(&str, &str, &str); 18] = [
    ("22001", "string_data_right_truncation", TOO_LONG),
    ("22003", "numeric_value_out_of_range", OUT_OF_RANGE),
    ("22007", "invalid_datetime_format", WRONG_VALUE),
    ("22008", "datetime_field_overflow", WRONG_VALUE),
    ("22021", "character_not_in_repertoire", WRONG_CHARACTER),
    // Also the text of bytea with a digit that is not hexadecimal.
    ("22023", "invalid_parameter_value", WRONG_VALUE),
    ("22030", "duplicate_json_object_key_value", WRONG_JSON),
    ("22032", "invalid_json_text", WRONG_JSON),
    ("22P02", "invalid_text_representation", WRONG_VALUE),
    ("22P03", "invalid_binary_representation", WRONG_VALUE),
    ("22P05", "untranslatable_character", WRONG_CHARACTER),
    ("23001", "restrict_violation", ROW_IS_REFERENCED),
    ("23502", "not_null_violation", NO_VALUE),
    ("23503", "foreign_key_violation", "a foreign key names a row that does not exist, or that would be deleted"),
    ("23505", "unique_violation", DUPLICATE_KEY),
    ("23514", "check_violation", "a CHECK constraint or the bounds of the partitions reject a row"),
    ("23P01", "exclusion_violation", "an exclusion constraint rejects a row"),
    ("P0001", "raise_exception", TRIGGER),
];

/// Returns the kind of failure of an SQLSTATE. Its class decides for a code that is not in the table; `None` for an
/// unknown class.
pub(super) fn kind_of(state: &str) -> Option<ErrorKind> {
    find(&CODES, state).or_else(|| kind_of_class(state.get(..2)?))
}

/// Returns the reason for a rejected row.
pub(super) fn reason(state: &str) -> Option<&'static str> {
    find(&REASONS, state)
}

fn kind_of_class(class: &str) -> Option<ErrorKind> {
    match class {
        "08" | "57" | "58" => Some(Failover),
        // Values, keys, constraints; errors of functions that triggers and defaults call.
        "22" | "23" | "2F" | "38" | "39" | "P0" => Some(DataRefused),
        "28" => Some(Credentials),
        "40" => Some(Conflict),
        "42" => Some(Internal),
        "53" => Some(Capacity),
        "54" => Some(TableMismatch),
        // The caller decides the kind of an unknown class.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::codes::assert_consistent;

    /// The expected kind of each code, stated again.
    const DESIGN: [(ErrorKind, &[&str]); 9] = [
        (Conflict, &["40001", "40P01", "55P03"]),
        (Failover, &["25006", "57P01", "57P02", "57P03", "08000", "08006", "08P01", "58000", "58030"]),
        (Capacity, &["53300", "53200"]),
        (Credentials, &["28P01", "28000", "08004"]),
        (Privilege, &["42501", "3D000", "3F000"]),
        (TableMismatch, &["42P01", "42703", "42804", "42701", "54000", "54011"]),
        (DataRefused, &["22001", "22003", "22P02", "22P05", "23502", "23505", "23514", "P0001"]),
        (DatabaseFull, &["53100"]),
        (Internal, &["42601", "0A000"]),
    ];

    #[test]
    fn design_codes_have_their_kind() {
        for (kind, states) in DESIGN {
            for state in states {
                assert_eq!(kind_of(state), Some(kind), "{state}");
            }
        }
    }

    /// A digit that is not hexadecimal in the text of bytea.
    #[test]
    fn wrong_text_of_bytes_has_the_wrong_type() {
        assert_eq!((kind_of("22023"), reason("22023")), (Some(DataRefused), Some(WRONG_VALUE)));
    }

    #[test]
    fn unknown_class_has_no_kind() {
        for state in ["XX000", "U0001", "", "4"] {
            assert_eq!(kind_of(state), None, "{state}");
        }
    }

    #[test]
    fn codes_are_sorted_and_have_one_name() {
        assert_consistent(&CODES, &REASONS);
    }
}
