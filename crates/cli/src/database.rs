//! The options that name a database: a URL or a secret, TLS, and the password.

use std::fmt;

use clap::{Args, ValueEnum};
use spillway_core::error::{Error, ErrorKind, Result};

/// Options of a database. Each one replaces a setting.
#[derive(Clone, Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct DatabaseOptions {
    /// Database, as mysql://user@host/database, mariadb://… or postgres://…
    ///
    /// The password may be in the URL, in RDS_PASSWORD or in --password-file. Other processes can see a password in the URL.
    #[arg(long, value_name = "URL", conflicts_with = "secret")]
    to: Option<String>,
    /// Secret in AWS Secrets Manager with the login
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Encryption: verify the server's certificate, or off
    #[arg(long, value_name = "MODE")]
    tls: Option<TlsMode>,
    /// File with the certificates that verify the server, instead of those of RDS
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
}

/// Options of a database whose URL is an argument. Each one replaces a setting.
#[derive(Clone, Args)]
#[command(next_help_heading = "Source")]
pub(crate) struct LoginOptions {
    /// Secret in AWS Secrets Manager with the login
    #[arg(long, value_name = "NAME", conflicts_with = "source")]
    secret: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Encryption: verify the server's certificate, or off
    #[arg(long, value_name = "MODE")]
    tls: Option<TlsMode>,
    /// File with the certificates that verify the server, instead of those of RDS
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
}

/// Encryption of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsMode {
    /// Encrypted, and the certificate is verified
    Verify,
    /// Plain text
    Off,
}

/// The setting of the encryption.
const RDS_TLS: &str = "RDS_TLS";

impl TlsMode {
    fn setting(self) -> (&'static str, String) {
        let word = match self {
            Self::Verify => "verify",
            Self::Off => "off",
        };
        (RDS_TLS, word.to_owned())
    }
}

/// A database from a URL. `Debug` does not print the password.
#[derive(Clone, PartialEq, Eq)]
struct DatabaseUrl {
    engine: &'static str,
    host: String,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: String,
    tls: Option<TlsMode>,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}/{}", self.engine, self.host, self.database)
    }
}

/// Prints no password.
impl fmt::Debug for LoginOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LoginOptions").field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// Prints no password.
impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DatabaseOptions").field("secret", &self.secret).finish_non_exhaustive()
    }
}

impl DatabaseOptions {
    /// The options of a database whose URL is not an option but an argument.
    pub(crate) fn of_url(url: Option<String>, login: LoginOptions) -> Self {
        let LoginOptions { secret, password_file, tls, ca_file } = login;
        Self { to: url, secret, password_file, tls, ca_file }
    }

    /// The URL, as the user wrote it.
    pub(crate) fn url(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// Whether any of the options is used.
    pub(crate) fn is_used(&self) -> bool {
        let Self { to, secret, password_file, tls, ca_file } = self;
        [to, secret, password_file, ca_file].into_iter().any(Option::is_some) || tls.is_some()
    }

    /// The settings that the options replace.
    ///
    /// # Errors
    /// When the URL is invalid, or the password file cannot be read.
    pub(crate) fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        let mut values = Vec::new();
        if let Some(text) = &self.to {
            // Parsed here, because the parser of the command line would print the URL with its password.
            let url: DatabaseUrl = text
                .parse()
                .map_err(|why: String| Error::new(ErrorKind::Settings, format!("the URL of the database: {why}")))?;
            values.extend([("RDS_ENGINE", url.engine.to_owned()), ("RDS_HOST", url.host.clone())]);
            // A variable for another database must not replace a missing part of the URL.
            values.push(("RDS_PORT", url.port.map(|port| port.to_string()).unwrap_or_default()));
            values.push(("RDS_DB", url.database.clone()));
            values.push(("RDS_SECRET_NAME", String::new()));
            values.extend(url.user.clone().map(|user| ("RDS_USER", user)));
            values.extend(url.password.clone().map(|password| ("RDS_PASSWORD", password)));
            values.extend(url.tls.map(TlsMode::setting));
        }
        if let Some(name) = &self.secret {
            // A complete login in variables would take precedence over the secret.
            values.extend([("RDS_SECRET_NAME", name.clone()), ("RDS_PASSWORD", String::new())]);
        }
        if let Some(path) = &self.password_file {
            values.retain(|(name, _)| *name != "RDS_PASSWORD");
            values.push(("RDS_PASSWORD", password_in(path)?));
        }
        if let Some(mode) = self.tls {
            values.retain(|(name, _)| *name != RDS_TLS);
            values.push(mode.setting());
        }
        values.extend(self.ca_file.clone().map(|path| ("RDS_CA_FILE", path)));
        Ok(values)
    }
}

fn password_in(path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Settings, format!("the password file {path} cannot be read")).with_source(error)
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

impl std::str::FromStr for DatabaseUrl {
    type Err = String;

    /// Parses a URL. The error never contains the URL, which may contain a password.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const FORM: &str = "write mysql://user@host:port/database, mariadb://… or postgres://…";
        if text.starts_with("jdbc:") {
            return Err(format!("a JDBC URL cannot be used here; {FORM}"));
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        // SQLAlchemy names the driver too, as in postgresql+psycopg2.
        let engine = match scheme.to_ascii_lowercase().split('+').next().unwrap_or_default() {
            "mysql" => "mysql",
            "mariadb" => "mariadb",
            "postgres" | "postgresql" => "postgres",
            _ => return Err(FORM.to_owned()),
        };
        let (rest, tls) = match rest.split_once('?') {
            Some((rest, options)) => (rest, Some(tls_of(options)?)),
            None => (rest, None),
        };
        if rest.contains('#') {
            return Err("write a # in a name as %23".to_owned());
        }
        let (authority, database) = rest.rsplit_once('/').filter(|(_, database)| !database.is_empty()).ok_or(FORM)?;
        let (login, server) = match authority.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
            None => (None, None),
        };
        let (host, port) = host_and_port(server)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            engine,
            host,
            port,
            user: filled(user),
            password: filled(password),
            database: decoded(database)?,
            tls,
        })
    }
}

/// The encryption that the options of a URL ask for, as psql and libpq (`sslmode`) or the clients of MySQL (`ssl-mode`) write it.
///
/// `require` asks for encryption without verification; here the certificate is always verified.
fn tls_of(options: &str) -> std::result::Result<TlsMode, String> {
    const WRONG: &str = "the only option of a URL is sslmode=disable, require, verify-ca or verify-full; use --tls and --ca-file for \
                         encryption, and write a ? in a name as %3F";
    let mode = options
        .split_once('=')
        .filter(|(name, _)| ["sslmode", "ssl-mode", "ssl_mode"].iter().any(|option| name.eq_ignore_ascii_case(option)));
    let (_, mode) = mode.ok_or(WRONG)?;
    match mode.to_ascii_lowercase().replace('_', "-").as_str() {
        "disable" | "disabled" => Ok(TlsMode::Off),
        "require" | "required" | "verify-ca" | "verify-full" | "verify-identity" => Ok(TlsMode::Verify),
        _ => Err(WRONG.to_owned()),
    }
}

fn host_and_port(server: &str) -> std::result::Result<(String, Option<u16>), String> {
    // The address of IPv6 is in brackets.
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    if host.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    let port = port.map(|port| port.parse().map_err(|_| "the port is not a number from 1 to 65535".to_owned()));
    Ok((host.to_owned(), port.transpose()?))
}

/// Decodes `%41`.
fn decoded(text: &str) -> std::result::Result<String, String> {
    const WRONG: &str = "a percent sign in the URL must be followed by two hex digits; write % as %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the URL is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<DatabaseUrl, String> {
        text.parse()
    }

    #[test]
    fn url_has_all_parts() {
        let url = parse("mysql://lo%40der:p%3Aw%2F@db.example:3307/sh%20op").unwrap();
        let expected = DatabaseUrl {
            engine: "mysql",
            host: "db.example".to_owned(),
            port: Some(3307),
            user: Some("lo@der".to_owned()),
            password: Some("p:w/".to_owned()),
            database: "sh op".to_owned(),
            tls: None,
        };
        assert_eq!(url, expected);
        assert!(!format!("{url:?}").contains("p:w/"));
    }

    #[test]
    fn user_password_and_port_are_optional() {
        let url = parse("PostgreSQL://[::1]/shop").unwrap();
        assert_eq!(
            (url.engine, url.host.as_str(), url.port, url.user, url.password),
            ("postgres", "::1", None, None, None)
        );
        assert_eq!(parse("mariadb://root@localhost/shop").unwrap().password, None);
        assert_eq!(parse("mariadb://root@[::1]:33/shop").unwrap().port, Some(33));
    }

    #[test]
    fn url_of_another_program_is_accepted() {
        assert_eq!(parse("postgresql+psycopg2://u@h/d").unwrap().engine, "postgres");
        let tls = |text: &str| parse(text).unwrap().tls;
        assert_eq!(tls("postgres://u@h/d?sslmode=disable"), Some(TlsMode::Off));
        assert_eq!(tls("mysql://u@h/d?ssl-mode=VERIFY_IDENTITY"), Some(TlsMode::Verify));
        assert_eq!(tls("mysql://u@h/d"), None);
        assert!(parse("jdbc:mysql://h/d").unwrap_err().contains("JDBC"));
    }

    #[test]
    fn invalid_url_is_rejected_without_its_text() {
        for text in [
            "secret",
            "http://u:secret@h/d",
            "mysql://u:secret@h",
            "mysql://u:secret@h/",
            "mysql://u:secret@/d",
            "mysql://u:secret@h:port/d",
            "mysql://u:secret@h/d?ssl=1",
            "postgres://u:secret@h/d?sslmode=prefer",
            "postgres://u:secret@h/d?sslmode=disable&x=secret",
            "jdbc:postgresql://h/d?password=secret",
            "mysql://u:secret%4@h/d",
            "mysql://u:secret%é@h/d",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
