//! The connection to the database.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::secret;
use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};
use crate::destination::{Authentication, Engine};

settings! { Database DATABASE {
    /// The database engine. Defaults to the engine in the secret, else PostgreSQL on port 5432, else MySQL.
    RDS_ENGINE: Engine = Value::Text {
        form: "mysql, mariadb, postgres or postgresql",
        parse: |text| Engine::from_name(&text.trim().to_ascii_lowercase()).ok_or(Reason::Form),
    }, All, Template::Parameter("DatabaseEngine");

    /// Name or ARN of a Secrets Manager secret: JSON with `username`, `password`, `host`, `port`, `dbname` and `engine`.
    /// Ignored when `RDS_HOST`, `RDS_USER`, `RDS_PASSWORD` and `RDS_DB` are all set.
    RDS_SECRET_NAME: String =
        Value::text("the name or ARN of a secret"), All, Template::Parameter("DatabaseSecretName");

    /// Host of the database. Used with a secret that has no `host`.
    RDS_HOST: String = Value::text("a host name or address"), All, Template::Parameter("DatabaseHost");

    /// Port of the database. Used with a secret that has no `port`. Defaults to 5432 for PostgreSQL, else 3306.
    RDS_PORT: u16 = Value::number("port number", 1, 65_535), All, Template::Parameter("DatabasePort");

    /// Database user, without a secret.
    RDS_USER: String = Value::text("a user name"), All, Template::Parameter("DatabaseUser");

    /// How the database verifies the user. `iam` signs a token of IAM database authentication for each connection; then
    /// `RDS_PASSWORD` and the secret's password are not used, and `RDS_TLS=off` is not accepted.
    RDS_AUTH: Authentication = Value::Choice(&[
        Choice::new("password", Authentication::Password),
        Choice::new("iam", Authentication::Iam),
    ]), All, Template::Parameter("DatabaseAuthentication"), default "password";

    /// Password of the database user, without a secret.
    RDS_PASSWORD: SecretString =
        Value::Text { form: "a password that is not empty", parse: |text| Ok(secret(text)) }, All, Template::NotSet;

    /// Name of the database with the tables and the ledger. Used with a secret that has no `dbname`.
    RDS_DB: String = Value::text("the name of a database"), All, Template::Parameter("DatabaseName");

    /// `verify` checks the server's certificate and host name. `off` sends everything in plain text, also the password.
    RDS_TLS: bool = Value::Choice(&[Choice::new("verify", true), Choice::new("off", false)]),
        All, Template::Parameter("DatabaseTls"), default "verify";

    /// Certificates to verify the server with. Defaults to the built-in RDS bundle.
    RDS_CA_FILE: String = Value::text("the path of a PEM file"), All, Template::Parameter("DatabaseCaFile");

    /// Secret with the certificates to verify the server with, as PEM text. Takes precedence over `RDS_CA_FILE`.
    RDS_CA_SECRET_NAME: String =
        Value::text("the name or ARN of a secret"), All, Template::Parameter("DatabaseCaSecretArn");

    /// How long a worker retries while the database is unavailable. Then the file's rows go to the fallback.
    RDS_RETRY_SECONDS: Duration =
        Value::number("number of seconds", 0, 3600), All, Template::Parameter("DatabaseRetrySeconds"), default "150";
}}
