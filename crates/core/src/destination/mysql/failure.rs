//! Converts errors of the driver and the server into Spillway's errors, by the table in [`super::codes`].
//!
//! Server messages may quote row values, as those of 1062 (ER_DUP_ENTRY), 1064 (ER_PARSE_ERROR) and 1366
//! (ER_TRUNCATED_WRONG_VALUE_FOR_FIELD) do. The error keeps a message as its source only if messages of its kind never
//! quote values. Otherwise it keeps the code and the SQLSTATE.

use mysql_async::{DriverError, IoError, LocalInfileError};

use super::codes::{ER_BAD_DB_ERROR, ER_VIEW_MULTIUPDATE, code_of, kind_of, reason};
use crate::destination::denial::MISSING_DATABASE;
use crate::destination::failure::{Phase, other_protocol, unexpected_response};
use crate::destination::redact::has_safe_messages;
use crate::error::{Error, ErrorKind};

/// A server error without its message.
#[derive(Debug, thiserror::Error)]
#[error("server error {code} ({state})")]
struct ServerCode {
    code: u16,
    state: String,
}

/// The error for a failed call; `context` is the failed action, such as "cannot send the rows".
pub(super) fn failure(phase: Phase, context: &str, error: mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(server) => server_failure(context, &server),
        mysql_async::Error::Io(IoError::Tls(source)) => {
            Error::new(ErrorKind::TlsRefused, format!("{context}: TLS failed")).with_source(source)
        }
        mysql_async::Error::Io(IoError::Io(source)) => {
            let kind = match phase {
                Phase::Connecting if is_tls(&source) => ErrorKind::TlsRefused,
                phase => phase.connection_failure(),
            };
            Error::new(kind, context).with_source(source)
        }
        mysql_async::Error::Driver(driver) => driver_failure(phase, context, driver),
        mysql_async::Error::Url(source) => Error::new(ErrorKind::Internal, context).with_source(source),
        mysql_async::Error::Other(source) => Error::new(ErrorKind::Internal, context).with_source(source),
    }
}

/// Converts an error that the server returned.
pub(super) fn server_failure(context: &str, server: &mysql_async::ServerError) -> Error {
    let code = code_of(server.code, &server.message);
    let kind = kind_of(code, &server.state);
    let error = match kind {
        // The server's own message names only a size or a table.
        ErrorKind::TableMismatch => match reason(code) {
            Some(reason) => Error::new(kind, format!("{context}: {reason}")),
            None => Error::new(kind, context),
        },
        _ if code == ER_BAD_DB_ERROR => Error::new(kind, context).advised(MISSING_DATABASE),
        _ => Error::new(kind, context),
    };
    // The message of this code quotes the definition of a view.
    if has_safe_messages(kind) && server.code != ER_VIEW_MULTIUPDATE {
        return error.with_source(server.clone());
    }
    error.with_source(ServerCode { code: server.code, state: server.state.clone() })
}

/// Returns the server's error code of a driver error.
pub(super) fn server_code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(server) => Some(server.code),
        _ => None,
    }
}

fn driver_failure(phase: Phase, context: &str, driver: DriverError) -> Error {
    let kind = match (&driver, phase) {
        (DriverError::NoClientSslFlagFromServer, _) => ErrorKind::TlsRefused,
        (
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled
            | DriverError::InvalidParsecSalt,
            _,
        ) => ErrorKind::Credentials,
        (DriverError::ConnectionClosed, phase) => phase.connection_failure(),
        (DriverError::PacketTooLarge, _) => ErrorKind::DatabaseFull,
        // LOAD DATA has a handler, which sends rows. For any other statement the driver sends nothing.
        (DriverError::LocalInfile(LocalInfileError::NoHandler), _) => {
            let message = format!(
                "{context}: the server requests a file of this machine, and gets none; the server, or a proxy in front of it, \
                 may be hostile"
            );
            return Error::new(ErrorKind::Internal, message);
        }
        // The driver's error may quote a packet with row values, so it is not kept as the source.
        (DriverError::UnexpectedPacket { .. } | DriverError::PacketOutOfOrder, Phase::Connecting) => {
            return other_protocol(context);
        }
        (DriverError::FromValue { .. } | DriverError::FromRow { .. } | DriverError::UnexpectedPacket { .. }, _) => {
            return unexpected_response(context);
        }
        (_, _) => ErrorKind::Internal,
    };
    Error::new(kind, context).with_source(driver)
}

/// Whether TLS failed. The driver returns that as an I/O error whose source is the error of rustls.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn server(code: u16, state: &str, message: &str) -> mysql_async::Error {
        mysql_async::ServerError { code, state: state.into(), message: message.into() }.into()
    }

    #[test]
    fn errors_do_not_quote_values() {
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
    fn io_error_kind_depends_on_phase() {
        let broken = || mysql_async::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(failure(Phase::Connecting, "x", broken()).kind(), ErrorKind::Unreachable);
        assert_eq!(failure(Phase::Connected, "x", broken()).kind(), ErrorKind::Failover);
        let closed = failure(Phase::Connected, "x", DriverError::ConnectionClosed.into());
        assert_eq!(closed.kind(), ErrorKind::Failover);
    }

    #[test]
    fn request_for_a_file_is_named() {
        let request = DriverError::LocalInfile(LocalInfileError::NoHandler);
        let text = failure(Phase::Connected, "cannot read the ledger", request.into()).to_string();
        assert!(text.starts_with("cannot read the ledger: the server requests a file of this machine"), "{text}");
    }

    #[test]
    fn every_form_of_tls_failure_is_recognized() {
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(failure(Phase::Connecting, "x", wrapped.into()).kind(), ErrorKind::TlsRefused);
        let no_tls = failure(Phase::Connecting, "x", DriverError::NoClientSslFlagFromServer.into());
        assert_eq!(no_tls.kind(), ErrorKind::TlsRefused);
    }
}
