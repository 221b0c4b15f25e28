//! The connection to the database.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::secret;
use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};
use crate::destination::{Authentication, DatabaseKind};

settings! { Database DATABASE {
    /// The database engine. Defaults to the engine in the secret, else PostgreSQL on port 5432, else MySQL.
    RDS_ENGINE: DatabaseKind = Value::Text {
        form: "mysql, mariadb, postgres, postgresql or redshift",
        parse: |text| DatabaseKind::from_name(&text.trim().to_ascii_lowercase()).ok_or(Reason::Form),
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

    /// Workgroup of Redshift Serverless, with `RDS_ENGINE=redshift`. See `docs/redshift.md`.
    REDSHIFT_WORKGROUP: String = NAME, All, Template::Parameter("RedshiftWorkgroup");

    /// Provisioned Redshift cluster, with `RDS_ENGINE=redshift`.
    REDSHIFT_CLUSTER: String = NAME, All, Template::Parameter("RedshiftCluster");

    /// Role with which COPY reads the rows in S3. `default` is the default role of the workgroup or cluster.
    REDSHIFT_COPY_ROLE: String = Value::Text { form: "default, or the ARN of a role", parse: copy_role },
        All, Template::Parameter("RedshiftCopyRole"), default "default";

    /// Prefix of the rows that COPY reads. They are deleted after the load.
    REDSHIFT_COPY_PREFIX: String = Value::Text { form: "a key prefix outside the other prefixes", parse: copy_prefix },
        All, Template::Parameter("RedshiftCopyPrefix"), default "copy/";

    /// Distribution key of a new Redshift table. Tables without this column are distributed as Redshift decides.
    REDSHIFT_DIST_KEY: String = Value::text("the name of a column"), All, Template::NotSet;

    /// Sort key of a new Redshift table. Tables that lack one of these columns are sorted as Redshift decides.
    REDSHIFT_SORT_KEY: Vec<String> = Value::list("names of columns, separated by commas"), All, Template::NotSet;

    /// How long a worker retries while the database is unavailable. Then the file's rows go to the fallback.
    RDS_RETRY_SECONDS: Duration =
        Value::number("number of seconds", 0, 3600), All, Template::Parameter("DatabaseRetrySeconds"), default "150";
}}

const NAME: Value<String> = Value::Text {
    form: "a name of letters, digits and hyphens",
    parse: |text| {
        let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_name { Ok(text.to_owned()) } else { Err(Reason::Form) }
    },
};

/// The role as a statement names it, without characters that a literal would need to escape.
fn copy_role(text: &str) -> Result<String, Reason> {
    let is_arn = text.starts_with("arn:") && !text.contains(['\'', '\\']) && !text.contains(char::is_whitespace);
    if is_arn || text == "default" { Ok(text.to_owned()) } else { Err(Reason::Form) }
}

/// The prefix, with a slash at its end. A statement contains it.
fn copy_prefix(text: &str) -> Result<String, Reason> {
    if text.starts_with('/') || text.contains(['\'', '\\']) || text.contains(char::is_control) {
        return Err(Reason::Form);
    }
    Ok(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}
