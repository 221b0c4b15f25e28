//! Error codes of MySQL and MariaDB, each with its symbolic name, the kind of failure, and the reason for a rejected
//! row.
//!
//! A name is the one in the servers' own lists. If MariaDB has no name for a code, or another one, it is MySQL's.

use crate::destination::codes::{
    DUPLICATE_KEY, NO_REFERENCED_ROW, NO_VALUE, OUT_OF_RANGE, ROW_IS_REFERENCED, TOO_LONG, TRIGGER, find,
};
use crate::error::ErrorKind::{
    self, Capacity, Conflict, Credentials, DataRefused, DatabaseFull, Failover, Internal, Privilege, TableMismatch,
    Unreachable,
};

const ER_CANT_CREATE_TABLE: u16 = 1005;
const ER_DISK_FULL: u16 = 1021;
pub(super) const ER_DBACCESS_DENIED_ERROR: u16 = 1044;
pub(super) const ER_BAD_DB_ERROR: u16 = 1049;
pub(super) const ER_SERVER_SHUTDOWN: u16 = 1053;
pub(super) const ER_TABLE_EXISTS_ERROR: u16 = 1050;
pub(super) const ER_DUP_FIELDNAME: u16 = 1060;
pub(super) const ER_DUP_KEYNAME: u16 = 1061;
pub(super) const ER_DUP_ENTRY: u16 = 1062;
const ER_RECORD_FILE_FULL: u16 = 1114;
const ER_TOO_MANY_FIELDS: u16 = 1117;
const ER_TOO_BIG_ROWSIZE: u16 = 1118;
pub(super) const ER_TABLEACCESS_DENIED_ERROR: u16 = 1142;
pub(super) const ER_COLUMNACCESS_DENIED_ERROR: u16 = 1143;
pub(super) const ER_NO_SUCH_TABLE: u16 = 1146;
pub(super) const ER_NOT_ALLOWED_COMMAND: u16 = 1148;
pub(super) const ER_QUERY_INTERRUPTED: u16 = 1317;
pub(super) const ER_VIEW_MULTIUPDATE: u16 = 1393;
pub(super) const ER_CONNECTION_KILLED: u16 = 1927;
pub(super) const ER_SESSION_WAS_KILLED: u16 = 3169;
pub(super) const ER_CLIENT_LOCAL_FILES_DISABLED: u16 = 3948;
pub(super) const ER_LOAD_INFILE_CAPABILITY_DISABLED: u16 = 4166;

/// The error codes with their names and kinds, sorted by code.
#[rustfmt::skip]
const CODES: [(u16, &str, ErrorKind); 152] = [
    (1020, "ER_CHECKREAD", Conflict),
    (1021, "ER_DISK_FULL", DatabaseFull),
    (1022, "ER_DUP_KEY", DataRefused),
    (1026, "ER_ERROR_ON_WRITE", DatabaseFull),
    (1037, "ER_OUTOFMEMORY", Capacity),
    (1038, "ER_OUT_OF_SORTMEMORY", Capacity),
    (1040, "ER_CON_COUNT_ERROR", Capacity),
    (1041, "ER_OUT_OF_RESOURCES", Capacity),
    (1042, "ER_BAD_HOST_ERROR", Unreachable),
    (1043, "ER_HANDSHAKE_ERROR", Unreachable),
    (1044, "ER_DBACCESS_DENIED_ERROR", Privilege),
    (1045, "ER_ACCESS_DENIED_ERROR", Credentials),
    (1048, "ER_BAD_NULL_ERROR", DataRefused),
    (1049, "ER_BAD_DB_ERROR", Privilege),
    (1050, "ER_TABLE_EXISTS_ERROR", TableMismatch),
    (1053, "ER_SERVER_SHUTDOWN", Failover),
    (1054, "ER_BAD_FIELD_ERROR", TableMismatch),
    (1059, "ER_TOO_LONG_IDENT", TableMismatch),
    (1060, "ER_DUP_FIELDNAME", TableMismatch),
    (1062, "ER_DUP_ENTRY", DataRefused),
    (1064, "ER_PARSE_ERROR", Internal),
    (1065, "ER_EMPTY_QUERY", Internal),
    (1071, "ER_TOO_LONG_KEY", TableMismatch),
    (1074, "ER_TOO_BIG_FIELDLENGTH", TableMismatch),
    (1080, "ER_FORCING_CLOSE", Failover),
    (1101, "ER_BLOB_CANT_HAVE_DEFAULT", TableMismatch),
    (1102, "ER_WRONG_DB_NAME", TableMismatch),
    (1103, "ER_WRONG_TABLE_NAME", TableMismatch),
    (1110, "ER_FIELD_SPECIFIED_TWICE", TableMismatch),
    (1113, "ER_TABLE_MUST_HAVE_COLUMNS", TableMismatch),
    (1114, "ER_RECORD_FILE_FULL", DatabaseFull),
    (1117, "ER_TOO_MANY_FIELDS", TableMismatch),
    (1118, "ER_TOO_BIG_ROWSIZE", TableMismatch),
    (1129, "ER_HOST_IS_BLOCKED", Unreachable),
    (1130, "ER_HOST_NOT_PRIVILEGED", Credentials),
    (1135, "ER_CANT_CREATE_THREAD", Capacity),
    (1136, "ER_WRONG_VALUE_COUNT_ON_ROW", TableMismatch),
    (1142, "ER_TABLEACCESS_DENIED_ERROR", Privilege),
    (1143, "ER_COLUMNACCESS_DENIED_ERROR", Privilege),
    (1146, "ER_NO_SUCH_TABLE", TableMismatch),
    (1148, "ER_NOT_ALLOWED_COMMAND", Privilege),
    (1149, "ER_SYNTAX_ERROR", Internal),
    (1152, "ER_ABORTING_CONNECTION", Failover),
    (1153, "ER_NET_PACKET_TOO_LARGE", DatabaseFull),
    (1158, "ER_NET_READ_ERROR", Failover),
    (1159, "ER_NET_READ_INTERRUPTED", Failover),
    (1160, "ER_NET_ERROR_ON_WRITE", Failover),
    (1161, "ER_NET_WRITE_INTERRUPTED", Failover),
    (1166, "ER_WRONG_COLUMN_NAME", TableMismatch),
    (1167, "ER_WRONG_KEY_COLUMN", TableMismatch),
    (1184, "ER_NEW_ABORTING_CONNECTION", Failover),
    (1197, "ER_TRANS_CACHE_FULL", DatabaseFull),
    (1203, "ER_TOO_MANY_USER_CONNECTIONS", Capacity),
    (1205, "ER_LOCK_WAIT_TIMEOUT", Conflict),
    (1206, "ER_LOCK_TABLE_FULL", DatabaseFull),
    (1210, "ER_WRONG_ARGUMENTS", Internal),
    (1213, "ER_LOCK_DEADLOCK", Conflict),
    (1216, "ER_NO_REFERENCED_ROW", DataRefused),
    (1217, "ER_ROW_IS_REFERENCED", DataRefused),
    (1223, "ER_CANT_UPDATE_WITH_READLOCK", Failover),
    (1226, "ER_USER_LIMIT_REACHED", Capacity),
    (1227, "ER_SPECIFIC_ACCESS_DENIED_ERROR", Privilege),
    (1243, "ER_UNKNOWN_STMT_HANDLER", Internal),
    (1251, "ER_NOT_SUPPORTED_AUTH_MODE", Credentials),
    (1261, "ER_WARN_TOO_FEW_RECORDS", DataRefused),
    (1262, "ER_WARN_TOO_MANY_RECORDS", DataRefused),
    (1263, "ER_WARN_NULL_TO_NOTNULL", DataRefused),
    (1264, "ER_WARN_DATA_OUT_OF_RANGE", DataRefused),
    (1265, "WARN_DATA_TRUNCATED", DataRefused),
    (1275, "ER_SERVER_IS_IN_SECURE_AUTH_MODE", Credentials),
    (1286, "ER_UNKNOWN_STORAGE_ENGINE", TableMismatch),
    (1290, "ER_OPTION_PREVENTS_STATEMENT", Failover),
    (1292, "ER_TRUNCATED_WRONG_VALUE", DataRefused),
    (1295, "ER_UNSUPPORTED_PS", Internal),
    (1300, "ER_INVALID_CHARACTER_STRING", DataRefused),
    (1301, "ER_WARN_ALLOWED_PACKET_OVERFLOWED", DatabaseFull),
    (1317, "ER_QUERY_INTERRUPTED", Failover),
    (1347, "ER_WRONG_OBJECT", TableMismatch),
    (1348, "ER_NONUPDATEABLE_COLUMN", TableMismatch),
    (1356, "ER_VIEW_INVALID", TableMismatch),
    (1364, "ER_NO_DEFAULT_FOR_FIELD", TableMismatch),
    (1365, "ER_DIVISION_BY_ZERO", DataRefused),
    (1366, "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD", DataRefused),
    (1367, "ER_ILLEGAL_VALUE_FOR_TYPE", DataRefused),
    (1370, "ER_PROCACCESS_DENIED_ERROR", Privilege),
    (1390, "ER_PS_MANY_PARAM", Internal),
    (1393, "ER_VIEW_MULTIUPDATE", TableMismatch),
    (1394, "ER_VIEW_NO_INSERT_FIELD_LIST", TableMismatch),
    (1395, "ER_VIEW_DELETE_MERGE_VIEW", TableMismatch),
    (1406, "ER_DATA_TOO_LONG", DataRefused),
    (1411, "ER_WRONG_VALUE_FOR_TYPE", DataRefused),
    (1412, "ER_TABLE_DEF_CHANGED", Conflict),
    (1416, "ER_CANT_CREATE_GEOMETRY_OBJECT", DataRefused),
    (1441, "ER_DATETIME_FUNCTION_OVERFLOW", DataRefused),
    (1451, "ER_ROW_IS_REFERENCED_2", DataRefused),
    (1452, "ER_NO_REFERENCED_ROW_2", DataRefused),
    (1471, "ER_NON_INSERTABLE_TABLE", TableMismatch),
    (1524, "ER_PLUGIN_IS_NOT_LOADED", Credentials),
    (1525, "ER_WRONG_VALUE", DataRefused),
    (1526, "ER_NO_PARTITION_FOR_GIVEN_VALUE", DataRefused),
    (1534, "ER_BINLOG_ROW_LOGGING_FAILED", DatabaseFull),
    (1557, "ER_FOREIGN_DUPLICATE_KEY", DataRefused),
    (1586, "ER_DUP_ENTRY_WITH_KEY_NAME", DataRefused),
    (1598, "ER_BINLOG_LOGGING_IMPOSSIBLE", DatabaseFull),
    (1615, "ER_NEED_REPREPARE", Conflict),
    (1644, "ER_SIGNAL_EXCEPTION", DataRefused),
    (1665, "ER_BINLOG_STMT_MODE_AND_ROW_ENGINE", TableMismatch),
    (1684, "ER_WARN_I_S_SKIPPED_TABLE", Conflict),
    (1690, "ER_DATA_OUT_OF_RANGE", DataRefused),
    (1698, "ER_ACCESS_DENIED_NO_PASSWORD_ERROR", Credentials),
    (1748, "ER_ROW_DOES_NOT_MATCH_GIVEN_PARTITION_SET", DataRefused),
    (1761, "ER_FOREIGN_DUPLICATE_KEY_WITH_CHILD_INFO", DataRefused),
    (1762, "ER_FOREIGN_DUPLICATE_KEY_WITHOUT_CHILD_INFO", DataRefused),
    (1785, "ER_GTID_UNSAFE_NON_TRANSACTIONAL_TABLE", TableMismatch),
    (1792, "ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION", Failover),
    (1820, "ER_MUST_CHANGE_PASSWORD", Credentials),
    (1836, "ER_READ_ONLY_MODE", Failover),
    (1862, "ER_MUST_CHANGE_PASSWORD_LOGIN", Credentials),
    (1863, "ER_ROW_IN_WRONG_PARTITION", DataRefused),
    (1874, "ER_INNODB_READ_ONLY", Failover),
    (1906, "ER_WARNING_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN", TableMismatch),
    (1916, "ER_DATA_OVERFLOW", DataRefused),
    (1918, "ER_BAD_DATA", DataRefused),
    (1927, "ER_CONNECTION_KILLED", Failover),
    (1932, "ER_NO_SUCH_TABLE_IN_ENGINE", TableMismatch),
    (1969, "ER_STATEMENT_TIMEOUT", Capacity),
    (2006, "CR_SERVER_GONE_ERROR", Failover),
    (2013, "CR_SERVER_LOST", Failover),
    (3024, "ER_QUERY_TIMEOUT", Capacity),
    (3037, "ER_GIS_INVALID_DATA", DataRefused),
    (3058, "ER_USER_LOCK_DEADLOCK", Conflict),
    (3098, "ER_BEFORE_DML_VALIDATION_ERROR", TableMismatch),
    (3105, "ER_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN", TableMismatch),
    (3118, "ER_ACCOUNT_HAS_BEEN_LOCKED", Credentials),
    (3140, "ER_INVALID_JSON_TEXT", DataRefused),
    (3141, "ER_INVALID_JSON_TEXT_IN_PARAM", DataRefused),
    (3156, "ER_INVALID_JSON_VALUE_FOR_CAST", DataRefused),
    (3157, "ER_JSON_DOCUMENT_TOO_DEEP", DataRefused),
    (3158, "ER_JSON_DOCUMENT_NULL_KEY", DataRefused),
    (3159, "ER_SECURE_TRANSPORT_REQUIRED", Credentials),
    (3169, "ER_SESSION_WAS_KILLED", Failover),
    (3572, "ER_LOCK_NOWAIT", Conflict),
    (3643, "ER_WRONG_SRID_FOR_COLUMN", DataRefused),
    (3750, "ER_TABLE_WITHOUT_PK", TableMismatch),
    (3819, "ER_CHECK_CONSTRAINT_VIOLATED", DataRefused),
    (3948, "ER_CLIENT_LOCAL_FILES_DISABLED", Privilege),
    (3955, "ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK", Credentials),
    (4025, "ER_CONSTRAINT_FAILED", DataRefused),
    (4031, "ER_CLIENT_INTERACTION_TIMEOUT", Failover),
    (4038, "ER_JSON_SYNTAX", DataRefused),
    (4151, "ER_ACCOUNT_HAS_BEEN_LOCKED", Credentials),
    (4166, "ER_LOAD_INFILE_CAPABILITY_DISABLED", Privilege),
];

const PACKET_TOO_LARGE: &str = "a value is larger than max_allowed_packet";
const WRONG_VALUE: &str =
    "a value does not have its column's type, or contains characters that the column's character set lacks";
const NOT_JSON: &str = "a value is not JSON";
const NOT_A_GEOMETRY: &str = "a value is not a geometry of the column's type";
const ROW_TOO_WIDE: &str = "a row is too wide: MySQL keeps up to 40 bytes of each text in the row, which has space for about 8,000 bytes; \
     ignore some columns by rules in the table settings or, if the table exists, keep those that it lacks in one JSON column \
     (UNKNOWN_COLUMNS=json)";
const CHECK_CONSTRAINT: &str = "a CHECK constraint of the table rejects a row";

const TOO_MANY_COLUMNS: &str = "the table would have more columns than the storage engine allows (InnoDB: 1,017); \
     ignore some columns by rules in the table settings or, if the table exists, keep those that it lacks in one JSON column \
     (UNKNOWN_COLUMNS=json)";

/// Reasons for rejected rows and refused tables, sorted by code.
#[rustfmt::skip]
const REASONS: [(u16, &str, &str); 31] = [
    (1022, "ER_DUP_KEY", DUPLICATE_KEY),
    (1048, "ER_BAD_NULL_ERROR", NO_VALUE),
    (1062, "ER_DUP_ENTRY", DUPLICATE_KEY),
    (1117, "ER_TOO_MANY_FIELDS", TOO_MANY_COLUMNS),
    (1118, "ER_TOO_BIG_ROWSIZE", ROW_TOO_WIDE),
    (1153, "ER_NET_PACKET_TOO_LARGE", PACKET_TOO_LARGE),
    (1216, "ER_NO_REFERENCED_ROW", NO_REFERENCED_ROW),
    (1217, "ER_ROW_IS_REFERENCED", ROW_IS_REFERENCED),
    (1263, "ER_WARN_NULL_TO_NOTNULL", NO_VALUE),
    (1264, "ER_WARN_DATA_OUT_OF_RANGE", OUT_OF_RANGE),
    (1265, "WARN_DATA_TRUNCATED", "a value would be cut or rounded"),
    (1292, "ER_TRUNCATED_WRONG_VALUE", WRONG_VALUE),
    (1301, "ER_WARN_ALLOWED_PACKET_OVERFLOWED", PACKET_TOO_LARGE),
    (1364, "ER_NO_DEFAULT_FOR_FIELD", "the file lacks a column that is NOT NULL and has no default"),
    (1366, "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD", WRONG_VALUE),
    (1406, "ER_DATA_TOO_LONG", TOO_LONG),
    (1411, "ER_WRONG_VALUE_FOR_TYPE", WRONG_VALUE),
    (1416, "ER_CANT_CREATE_GEOMETRY_OBJECT", NOT_A_GEOMETRY),
    (1451, "ER_ROW_IS_REFERENCED_2", ROW_IS_REFERENCED),
    (1452, "ER_NO_REFERENCED_ROW_2", NO_REFERENCED_ROW),
    (1525, "ER_WRONG_VALUE", WRONG_VALUE),
    (1586, "ER_DUP_ENTRY_WITH_KEY_NAME", DUPLICATE_KEY),
    (1644, "ER_SIGNAL_EXCEPTION", TRIGGER),
    (1690, "ER_DATA_OUT_OF_RANGE", OUT_OF_RANGE),
    (3037, "ER_GIS_INVALID_DATA", NOT_A_GEOMETRY),
    (3140, "ER_INVALID_JSON_TEXT", NOT_JSON),
    (3141, "ER_INVALID_JSON_TEXT_IN_PARAM", NOT_JSON),
    (3643, "ER_WRONG_SRID_FOR_COLUMN", "the column accepts only geometries with an SRID, and WKT has none"),
    (3819, "ER_CHECK_CONSTRAINT_VIOLATED", CHECK_CONSTRAINT),
    (4025, "ER_CONSTRAINT_FAILED", CHECK_CONSTRAINT),
    (4038, "ER_JSON_SYNTAX", NOT_JSON),
];

/// Returns the kind of failure of an error code. The SQLSTATE decides for a code that is not in the table.
pub(super) fn kind_of(code: u16, state: &str) -> ErrorKind {
    find(&CODES, code).unwrap_or_else(|| kind_of_state(state))
}

fn kind_of_state(state: &str) -> ErrorKind {
    match state.get(..2) {
        Some("08") => Failover,
        Some("22" | "23") => DataRefused,
        Some("28") => Credentials,
        Some("40") => Conflict,
        // An unknown error falls back, so that nothing is lost, and raises an alert.
        _ => Internal,
    }
}

/// Returns the code that MySQL has for a storage engine's error, which MariaDB puts into the message of 1005
/// (ER_CANT_CREATE_TABLE), such as `Can't create table ... (errno: 185 "Too many columns")`.
///
/// The numbers are those of MariaDB's include/my_base.h, and 28 is ENOSPC.
pub(super) fn code_of(code: u16, message: &str) -> u16 {
    let storage_error = || message.rsplit_once("(errno: ")?.1.split_once(' ')?.0.parse().ok();
    match (code, storage_error()) {
        (ER_CANT_CREATE_TABLE, Some(28 | 189)) => ER_DISK_FULL,
        (ER_CANT_CREATE_TABLE, Some(135)) => ER_RECORD_FILE_FULL,
        (ER_CANT_CREATE_TABLE, Some(139)) => ER_TOO_BIG_ROWSIZE,
        (ER_CANT_CREATE_TABLE, Some(185)) => ER_TOO_MANY_FIELDS,
        (code, _) => code,
    }
}

/// Returns the reason for a rejected row or a refused table.
pub(super) fn reason(code: u16) -> Option<&'static str> {
    find(&REASONS, code)
}

/// Whether the server says that LOAD DATA LOCAL is switched off.
pub(super) fn is_local_infile_off(code: u16) -> bool {
    matches!(code, ER_NOT_ALLOWED_COMMAND | ER_CLIENT_LOCAL_FILES_DISABLED | ER_LOAD_INFILE_CAPABILITY_DISABLED)
}

/// Whether COMMIT may have taken effect in spite of this error: the session was killed, or the server is shutting down.
pub(super) fn leaves_commit_in_doubt(code: u16) -> bool {
    matches!(code, ER_SERVER_SHUTDOWN | ER_QUERY_INTERRUPTED | ER_CONNECTION_KILLED | ER_SESSION_WAS_KILLED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::codes::assert_consistent;

    /// The expected kind of each code, stated again.
    const DESIGN: [(ErrorKind, &[u16]); 9] = [
        (Conflict, &[1213, 1205, 3572]),
        (Failover, &[1290, 1792, 1836, 1053, 1927]),
        (Capacity, &[1040, 1203, 1226]),
        (Credentials, &[1045, 1698, 1130, 3159]),
        (Privilege, &[1044, 1142, 1143, 1049]),
        (TableMismatch, &[1146, 1054, 1136, 1364, 1118, 1166, 1059, 1060, 1117]),
        (DataRefused, &[1264, 1265, 1292, 1366, 1406, 1048, 1062, 1451, 1452, 3819, 4025, 1690]),
        (DatabaseFull, &[1114, 1021, 1197, 1153]),
        (Internal, &[1064, 1210, 1295]),
    ];

    #[test]
    fn design_codes_have_their_kind() {
        for (kind, codes) in DESIGN {
            for &code in codes {
                assert_eq!(kind_of(code, "HY000"), kind, "{code}");
            }
        }
    }

    #[test]
    fn storage_errors_inside_1005_have_a_code_of_their_own() {
        let create = |error: &str| code_of(1005, &format!("Can't create table `d`.`t (errno: 1 ` (errno: {error})"));
        let codes = ["185 \"Too many columns\"", "139 \"Too big row\"", "28 \"No space left on device\""].map(create);
        assert_eq!(codes, [1117, 1118, 1021]);
        assert_eq!(create("150 \"Foreign key constraint is incorrectly formed\""), 1005);
        assert_eq!(code_of(1005, "Can't create table"), 1005);
        assert_eq!(code_of(1062, "Duplicate entry (errno: 185 \"\")"), 1062);
    }

    #[test]
    fn codes_are_sorted_and_have_one_name() {
        assert_consistent(&CODES, &REASONS);
        assert!(REASONS.iter().all(|(code, _, _)| find(&CODES, *code).is_some()));
    }

    #[test]
    fn sqlstate_decides_for_unknown_code() {
        let kinds = ["08S01", "22007", "23000", "28000", "40001", "HY000", ""].map(|state| kind_of(9999, state));
        assert_eq!(kinds, [Failover, DataRefused, DataRefused, Credentials, Conflict, Internal, Internal]);
    }
}
