//! What an error of the driver or the server means: error code → [`ErrorKind`], by the failure table.
//!
//! Server messages can hold row values (1062, 1366, 1064 quote them), so only the messages of kinds that never do are
//! kept as a source; of all others the code and the SQLSTATE stay.

use mysql_async::{DriverError, IoError};

use crate::destination::limits::{Phase, has_safe_messages};
use crate::error::{Error, ErrorKind};

/// A column of this name exists: another worker added it first.
pub(super) const DUPLICATE_COLUMN: u16 = 1060;

/// The table does not exist.
pub(super) const NO_SUCH_TABLE: u16 = 1146;

/// A row with the same unique key exists.
pub(super) const DUPLICATE_KEY: u16 = 1062;

/// An error code as the server gave it, without its message.
#[derive(Debug, thiserror::Error)]
#[error("server error {code} ({state})")]
struct ServerCode {
    code: u16,
    state: String,
}

/// The error for a failed call; `doing` says what was tried, as in "cannot send the rows".
pub(super) fn failure(phase: Phase, doing: &str, error: mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(server) => server_failure(doing, &server),
        mysql_async::Error::Io(IoError::Tls(source)) => {
            Error::new(ErrorKind::TlsRefused, format!("{doing}: TLS failed")).with_source(source)
        }
        mysql_async::Error::Io(IoError::Io(source)) => {
            let kind = match phase {
                Phase::Connecting if is_tls(&source) => ErrorKind::TlsRefused,
                phase => phase.broken(),
            };
            Error::new(kind, doing).with_source(source)
        }
        mysql_async::Error::Driver(driver) => driver_failure(phase, doing, driver),
        mysql_async::Error::Url(source) => Error::new(ErrorKind::Internal, doing).with_source(source),
        mysql_async::Error::Other(source) => Error::new(ErrorKind::Internal, doing).with_source(source),
    }
}

/// What an answer of the server means that is an error.
pub(super) fn server_failure(doing: &str, server: &mysql_async::ServerError) -> Error {
    let kind = kind_of(server.code, &server.state);
    let error = Error::new(kind, doing);
    // The message of 1393 is about a view, and quotes its text.
    if has_safe_messages(kind) && server.code != 1393 {
        return error.with_source(server.clone());
    }
    error.with_source(ServerCode { code: server.code, state: server.state.clone() })
}

/// The server error code behind a driver error.
pub(super) fn server_code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(server) => Some(server.code),
        _ => None,
    }
}

/// Whether the server's answer says that LOAD DATA LOCAL is switched off.
pub(super) fn is_local_infile_off(code: u16) -> bool {
    matches!(code, 1148 | 3948 | 4166)
}

/// Whether an error answer to COMMIT leaves open what became of it: the session was killed or the server went down.
pub(super) fn leaves_commit_open(code: u16) -> bool {
    matches!(code, 1053 | 1317 | 1927 | 3169)
}

fn driver_failure(phase: Phase, doing: &str, driver: DriverError) -> Error {
    let kind = match (&driver, phase) {
        (DriverError::NoClientSslFlagFromServer, _) => ErrorKind::TlsRefused,
        (
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled
            | DriverError::InvalidParsecSalt,
            _,
        ) => ErrorKind::Credentials,
        (DriverError::ConnectionClosed, phase) => phase.broken(),
        (DriverError::PacketTooLarge, _) => ErrorKind::DatabaseFull,
        // A packet may hold what we sent, so such an error is not kept as a source.
        (DriverError::UnexpectedPacket { .. } | DriverError::PacketOutOfOrder, Phase::Connecting) => {
            return Error::new(ErrorKind::Unreachable, format!("{doing}: the server does not speak the protocol"));
        }
        (DriverError::FromValue { .. } | DriverError::FromRow { .. } | DriverError::UnexpectedPacket { .. }, _) => {
            return Error::new(
                ErrorKind::Internal,
                format!("{doing}: the server's answer has another form than expected"),
            );
        }
        (_, _) => ErrorKind::Internal,
    };
    Error::new(kind, doing).with_source(driver)
}

/// The driver hands a failed TLS handshake out as an I/O error around the error of rustls.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The failure table for MySQL and MariaDB. A code that is not listed is judged by its SQLSTATE.
pub(super) fn kind_of(code: u16, state: &str) -> ErrorKind {
    match code {
        // Deadlock, lock wait timeout, NOWAIT; a row or definition that changed under a snapshot; statement to prepare again.
        1020 | 1205 | 1213 | 1412 | 1615 | 1684 | 3058 | 3572 => ErrorKind::Conflict,
        // Read-only, shutting down, killed, connection broken as seen by the server.
        1053
        | 1080
        | 1152
        | 1158..=1161
        | 1184
        | 1223
        | 1290
        | 1317
        | 1792
        | 1836
        | 1874
        | 1927
        | 2006
        | 2013
        | 3169
        | 4031 => ErrorKind::Failover,
        // Connections, memory, threads, statement time.
        1037 | 1038 | 1040 | 1041 | 1135 | 1203 | 1226 | 1969 | 3024 => ErrorKind::Capacity,
        // The handshake failed, or this host is blocked after too many failed attempts.
        1042 | 1043 | 1129 => ErrorKind::Unreachable,
        // User, password, host, plugin, expired or locked account, TLS demanded from this user.
        1045 | 1130 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 3955 | 4151 => ErrorKind::Credentials,
        // Grants, no such database, LOCAL switched off.
        1044 | 1049 | 1142 | 1143 | 1148 | 1227 | 1370 | 3948 | 4166 => ErrorKind::Privilege,
        // Tables, columns, names, widths; views; binlog formats and primary key rules that refuse the table.
        1050
        | 1054
        | 1059
        | 1060
        | 1071
        | 1074
        | 1101
        | 1102
        | 1103
        | 1110
        | 1113
        | 1117
        | 1118
        | 1136
        | 1146
        | 1166
        | 1167
        | 1286
        | 1347
        | 1348
        | 1356
        | 1364
        | 1393..=1395
        | 1471
        | 1665
        | 1785
        | 1906
        | 1932
        | 3098
        | 3105
        | 3750 => ErrorKind::TableMismatch,
        // Values, keys, constraints, triggers that signal, partitions that have no place, JSON.
        1022
        | 1048
        | 1062
        | 1216
        | 1217
        | 1261..=1265
        | 1292
        | 1300
        | 1365..=1367
        | 1406
        | 1411
        | 1416
        | 1441
        | 1451
        | 1452
        | 1525
        | 1526
        | 1557
        | 1586
        | 1644
        | 1690
        | 1748
        | 1761
        | 1762
        | 1863
        | 1916
        | 1918
        | 3140
        | 3141
        | 3156..=3158
        | 3819
        | 4025
        | 4038 => ErrorKind::DataRefused,
        // Disk, table, transaction, packet, lock table, binlog.
        1021 | 1026 | 1114 | 1153 | 1197 | 1206 | 1301 | 1534 | 1598 => ErrorKind::DatabaseFull,
        // Our SQL: syntax, arguments, what cannot be prepared, placeholders.
        1064 | 1065 | 1149 | 1210 | 1243 | 1295 | 1390 => ErrorKind::Internal,
        _ => kind_of_state(state),
    }
}

fn kind_of_state(state: &str) -> ErrorKind {
    match state.get(..2) {
        Some("08") => ErrorKind::Failover,
        Some("22" | "23") => ErrorKind::DataRefused,
        Some("28") => ErrorKind::Credentials,
        Some("40") => ErrorKind::Conflict,
        // What we do not know falls back, so that nothing is lost, and asks for a person.
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn server(code: u16, state: &str, message: &str) -> mysql_async::Error {
        mysql_async::ServerError { code, state: state.into(), message: message.into() }.into()
    }

    /// The failure table of the design, line by line.
    const TABLE: [(ErrorKind, &[u16]); 8] = [
        (ErrorKind::Conflict, &[1213, 1205, 3572]),
        (ErrorKind::Failover, &[1290, 1792, 1836, 1053, 1927]),
        (ErrorKind::Capacity, &[1040, 1203, 1226]),
        (ErrorKind::Credentials, &[1045, 1698, 1130, 3159]),
        (ErrorKind::Privilege, &[1044, 1142, 1143, 1049]),
        (ErrorKind::TableMismatch, &[1146, 1054, 1136, 1364, 1118, 1166, 1059, 1060, 1117]),
        (ErrorKind::DataRefused, &[1264, 1265, 1292, 1366, 1406, 1048, 1062, 1451, 1452, 3819, 4025, 1690]),
        (ErrorKind::DatabaseFull, &[1114, 1021, 1197, 1153]),
    ];

    #[test]
    fn every_code_of_the_failure_table_has_its_kind() {
        for (kind, codes) in TABLE {
            for &code in codes {
                let error = failure(Phase::Connected, "cannot send", server(code, "HY000", ""));
                assert_eq!(error.kind(), kind, "{code}");
            }
        }
        for code in [1064, 1210, 1295] {
            assert_eq!(kind_of(code, "42000"), ErrorKind::Internal, "{code}");
        }
    }

    #[test]
    fn a_code_that_is_not_listed_is_judged_by_its_state() {
        let kinds = ["08S01", "22007", "23000", "28000", "40001", "HY000", ""].map(|state| kind_of(9999, state));
        let expected = [
            ErrorKind::Failover,
            ErrorKind::DataRefused,
            ErrorKind::DataRefused,
            ErrorKind::Credentials,
            ErrorKind::Conflict,
            ErrorKind::Internal,
            ErrorKind::Internal,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn no_value_gets_out_of_a_server_message() {
        for (code, message) in [
            (1062, "Duplicate entry 'top secret' for key 'PRIMARY'"),
            (1366, "Incorrect integer value: 'top secret' for column `d`.`t`.`c` at row 1"),
            (1064, "You have an error in your SQL syntax near 'top secret'"),
            (9999, "something new about 'top secret'"),
        ] {
            let text = chain(&failure(Phase::Connected, "cannot send", server(code, "HY000", message)));
            assert!(!text.contains("top secret"), "{text}");
            assert!(text.contains(&code.to_string()), "{text}");
        }
    }

    #[test]
    fn an_io_error_is_an_outage_or_a_failover_depending_on_the_stage() {
        let broken = || mysql_async::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(failure(Phase::Connecting, "x", broken()).kind(), ErrorKind::Unreachable);
        assert_eq!(failure(Phase::Connected, "x", broken()).kind(), ErrorKind::Failover);
        let closed = failure(Phase::Connected, "x", DriverError::ConnectionClosed.into());
        assert_eq!(closed.kind(), ErrorKind::Failover);
    }

    #[test]
    fn tls_trouble_is_recognised_in_each_of_its_forms() {
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(failure(Phase::Connecting, "x", wrapped.into()).kind(), ErrorKind::TlsRefused);
        let value_rejected = failure(Phase::Connecting, "x", DriverError::NoClientSslFlagFromServer.into());
        assert_eq!(value_rejected.kind(), ErrorKind::TlsRefused);
    }
}
