//! Reads the database's credentials from Secrets Manager or from the settings.
//!
//! With IAM authentication, a token replaces the password.
//!
//! Errors contain the secret's name and the field, never a value. Credentials are cached. The caller requests fresh
//! ones when the database rejects the password, which may have been rotated.

mod iam;

use std::sync::Arc;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::aws_failure;
use crate::destination::{Authentication, Credentials, Engine};
use crate::error::{Error, ErrorKind, Result};

/// The origin of the database credentials.
#[derive(Debug, Clone)]
pub enum CredentialSettings {
    /// `RDS_HOST`, `RDS_PORT`, `RDS_USER`, `RDS_PASSWORD` and `RDS_DB`.
    Inline(Credentials),
    /// A secret in Secrets Manager.
    Secret(SecretSettings),
}

/// A secret with the credentials, and values for the fields that it lacks. RDS writes neither host nor database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSettings {
    /// `RDS_SECRET_NAME`: its name or ARN.
    pub name: String,
    /// `RDS_ENGINE`, if set; it takes precedence over the secret.
    pub engine: Option<Engine>,
    /// `RDS_HOST`, if set.
    pub host: Option<String>,
    /// `RDS_PORT`, if set.
    pub port: Option<u16>,
    /// `RDS_DB`, if set.
    pub database: Option<String>,
    /// `RDS_AUTH`.
    pub authentication: Authentication,
}

/// The source of credentials. Clones share the cache.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    client: Client,
    /// What signs the tokens of IAM authentication.
    signer: Option<SharedCredentialsProvider>,
    region: String,
    settings: CredentialSettings,
    cached: Arc<Mutex<Option<Credentials>>>,
    certificates: Arc<Mutex<Option<Bytes>>>,
}

impl Secrets {
    /// Returns a source that has not read anything yet.
    pub(crate) fn new(config: &SdkConfig, settings: CredentialSettings) -> Self {
        Self {
            client: Client::new(config),
            signer: config.credentials_provider(),
            region: config.region().map(ToString::to_string).unwrap_or_default(),
            settings,
            cached: Arc::default(),
            certificates: Arc::default(),
        }
    }

    /// Returns the credentials; `fresh` reads the secret again instead of using the cache. A token is always new.
    pub(crate) async fn get(&self, fresh: bool) -> Result<Credentials> {
        let credentials = self.login(fresh).await?;
        match credentials.authentication {
            Authentication::Password => Ok(credentials),
            Authentication::Iam => self.with_token(credentials).await,
        }
    }

    async fn with_token(&self, login: Credentials) -> Result<Credentials> {
        let missing =
            || Error::new(ErrorKind::Credentials, "there are no AWS credentials to sign a token for the database");
        let signer = self.signer.as_ref().ok_or_else(missing)?;
        let keys = signer.provide_credentials().await.map_err(|error| missing().with_source(error))?;
        let password = iam::token(&login, &self.region, keys, SystemTime::now())?;
        Ok(Credentials { password, ..login })
    }

    async fn login(&self, fresh: bool) -> Result<Credentials> {
        let settings = match &self.settings {
            CredentialSettings::Inline(credentials) => return Ok(credentials.clone()),
            CredentialSettings::Secret(settings) => settings,
        };
        // The lock is held during the request, so that concurrent callers read the secret only once.
        let mut cached = self.cached.lock().await;
        if let Some(credentials) = cached.as_ref().filter(|_| !fresh) {
            return Ok(credentials.clone());
        }
        let text = self.read(&settings.name).await?;
        let credentials = parse(&text, settings)?;
        *cached = Some(credentials.clone());
        Ok(credentials)
    }

    /// Returns the certificates in the secret `name` as PEM. They are read once per process.
    pub(crate) async fn certificates(&self, name: &str) -> Result<Bytes> {
        let mut cached = self.certificates.lock().await;
        if let Some(pem) = &*cached {
            return Ok(pem.clone());
        }
        let pem = Bytes::from(self.read(name).await?);
        if memchr::memmem::find(&pem, b"-----BEGIN CERTIFICATE-----").is_none() {
            return Err(invalid(name, "contains no certificate; store the certificates as PEM text"));
        }
        *cached = Some(pem.clone());
        Ok(pem)
    }

    async fn read(&self, name: &str) -> Result<String> {
        let response = self.client.get_secret_value().secret_id(name).send().await;
        let secret = response.map_err(|error| failure(name, error))?;
        secret.secret_string.ok_or_else(|| invalid(name, "is binary; store JSON as text"))
    }
}

/// Parses the credentials in a secret's text. The settings supply missing fields.
fn parse(text: &str, settings: &SecretSettings) -> Result<Credentials> {
    let name = &settings.name;
    // The parser's error is not kept as a source: it may quote a part of the secret.
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err(invalid(name, "is not a JSON object with username, password, host, port and dbname"));
    };
    let port = port(&fields, name)?.or(settings.port);
    let engine = match settings.engine {
        Some(engine) => engine,
        None => engine(&fields, name)?.unwrap_or(Engine::from_port(port)),
    };
    let missing = |field: &str, setting: &str| invalid(name, &format!("lacks the field {field:?}{setting}"));
    let user = filled(&fields, "username", name)?.ok_or_else(|| missing("username", ""))?;
    // An empty password is valid, and a token replaces it.
    let password = match (text_field(&fields, "password", name)?, settings.authentication) {
        (Some(password), _) => password,
        (None, Authentication::Iam) => "",
        (None, Authentication::Password) => return Err(missing("password", "")),
    };
    let host = filled(&fields, "host", name)?.or(settings.host.as_deref());
    let database = filled(&fields, "dbname", name)?.or(settings.database.as_deref());
    Ok(Credentials {
        engine,
        host: host.ok_or_else(|| missing("host", ", and RDS_HOST is not set"))?.to_owned(),
        port: port.unwrap_or(engine.default_port()),
        user: user.to_owned(),
        password: SecretString::from(password),
        authentication: settings.authentication,
        database: database.ok_or_else(|| missing("dbname", ", and RDS_DB is not set"))?.to_owned(),
    })
}

fn text_field<'a>(fields: &'a Map<String, Value>, field: &str, name: &str) -> Result<Option<&'a str>> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(name, &format!("has a field {field:?} that is not text"))),
    }
}

/// A text field; an empty text counts as missing.
fn filled<'a>(fields: &'a Map<String, Value>, field: &str, name: &str) -> Result<Option<&'a str>> {
    Ok(text_field(fields, field, name)?.filter(|text| !text.is_empty()))
}

/// The field `engine`, with the values that RDS writes. An error does not quote it: a field of a broken secret may contain the password.
fn engine(fields: &Map<String, Value>, name: &str) -> Result<Option<Engine>> {
    let Some(text) = filled(fields, "engine", name)? else { return Ok(None) };
    let found = Engine::from_name(text);
    let unsupported = "has a field \"engine\" that is not mysql, mariadb, aurora-mysql, postgres or aurora-postgresql";
    found.map(Some).ok_or_else(|| invalid(name, unsupported))
}

fn port(fields: &Map<String, Value>, name: &str) -> Result<Option<u16>> {
    let port = match fields.get("port") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match port.filter(|port| *port > 0) {
        Some(port) => Ok(Some(port)),
        None => Err(invalid(name, "has a field \"port\" that is not a number from 1 to 65535")),
    }
}

fn invalid(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::SecretInvalid, format!("the secret {name:?} {what}"))
}

/// Maps a failed request to an error; missing, forbidden, throttled and broken are different kinds.
fn failure<R>(name: &str, error: SdkError<GetSecretValueError, R>) -> Error
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    if let Some(failure) = aws_failure::of_request(&error, code) {
        return failure.into_error(&format!("the secret {name:?} cannot be read: {}", failure.what), &error);
    }
    let (kind, what) = match code.unwrap_or_default() {
        "ResourceNotFoundException" => {
            (ErrorKind::SecretInvalid, "does not exist; check RDS_SECRET_NAME and the region")
        }
        "InvalidRequestException" => (
            ErrorKind::SecretInvalid,
            "cannot be read in its current state; check whether it is scheduled for deletion",
        ),
        "InvalidParameterException" | "ValidationException" => {
            (ErrorKind::SecretInvalid, "has a name that Secrets Manager rejects; check RDS_SECRET_NAME")
        }
        "AccessDeniedException" => {
            (ErrorKind::Forbidden, "may not be read; allow secretsmanager:GetSecretValue on it for this role")
        }
        "DecryptionFailure" => {
            (ErrorKind::Forbidden, "cannot be decrypted; allow kms:Decrypt on its key for this role")
        }
        code if code.contains("Throttl") => {
            (ErrorKind::Throttled, "cannot be read: Secrets Manager throttled the request")
        }
        _ => (ErrorKind::Service, "cannot be read: Secrets Manager failed or could not be reached"),
    };
    Error::new(kind, format!("the secret {name:?} {what}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;
    use crate::stub_server::{StubServer, response};

    fn bare() -> SecretSettings {
        SecretSettings {
            name: "prod/db".into(),
            engine: None,
            host: None,
            port: None,
            database: None,
            authentication: Authentication::Password,
        }
    }

    #[rstest]
    #[case(json!({"username": "u", "password": "p", "host": "h", "port": 3307, "dbname": "d"}), "u:p@h:3307/d")]
    #[case(json!({"username": "u", "password": "p", "host": "h", "port": "3307", "dbname": "d"}), "u:p@h:3307/d")]
    #[case(json!({"username": "u", "password": "", "host": "h", "dbname": "d", "engine": "mariadb"}), "u:@h:3306/d")]
    #[case(json!({"username": "u", "password": "p", "host": "h", "dbname": "d", "port": null, "more": [1]}), "u:p@h:3306/d")]
    fn a_secret_is_read(#[case] text: Value, #[case] expected: &str) {
        let found = parse(&text.to_string(), &bare()).unwrap();
        let password = found.password.expose_secret();
        assert_eq!(format!("{}:{password}@{}:{}/{}", found.user, found.host, found.port, found.database), expected);
    }

    #[rstest]
    #[case(json!({"engine": "postgres"}), None, (Engine::Postgres, 5432))]
    #[case(json!({"engine": "aurora-postgresql", "port": 5433}), None, (Engine::Postgres, 5433))]
    #[case(json!({"engine": "mariadb", "port": 5432}), None, (Engine::MySql, 5432))]
    #[case(json!({"port": "5432"}), None, (Engine::Postgres, 5432))]
    #[case(json!({"engine": ""}), None, (Engine::MySql, 3306))]
    #[case(json!({"engine": "mysql"}), Some(Engine::Postgres), (Engine::Postgres, 5432))]
    fn the_engine_comes_from_the_setting_then_the_secret_then_the_port(
        #[case] more: Value,
        #[case] set: Option<Engine>,
        #[case] expected: (Engine, u16),
    ) {
        let mut text = json!({"username": "u", "password": "p", "host": "h", "dbname": "d"});
        text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = parse(&text.to_string(), &SecretSettings { engine: set, ..bare() }).unwrap();
        assert_eq!((found.engine, found.port), expected);
    }

    #[test]
    fn settings_supply_missing_fields() {
        let settings =
            SecretSettings { host: Some("set".into()), port: Some(3310), database: Some("shop".into()), ..bare() };
        let managed = json!({"username": "u", "password": "p"}).to_string();
        let found = parse(&managed, &settings).unwrap();
        assert_eq!((found.host.as_str(), found.port, found.database.as_str()), ("set", 3310, "shop"));
        let whole = json!({"username": "u", "password": "p", "host": "own", "port": 1, "dbname": "own"}).to_string();
        let found = parse(&whole, &settings).unwrap();
        assert_eq!((found.host.as_str(), found.port, found.database.as_str()), ("own", 1, "own"));
    }

    #[rstest]
    #[case("s3cret", "is not a JSON object with username, password, host, port and dbname")]
    #[case("[\"s3cret\"]", "is not a JSON object with username, password, host, port and dbname")]
    #[case(r#"{"password": "s3cret"}"#, "lacks the field \"username\"")]
    #[case(r#"{"username": "", "password": "s3cret"}"#, "lacks the field \"username\"")]
    #[case(r#"{"username": "u"}"#, "lacks the field \"password\"")]
    #[case(r#"{"username": "u", "password": ["s3cret"]}"#, "has a field \"password\" that is not text")]
    #[case(r#"{"username": "u", "password": "s3cret"}"#, "lacks the field \"host\", and RDS_HOST is not set")]
    #[case(
        r#"{"username": "u", "password": "s3cret", "host": "h"}"#,
        "lacks the field \"dbname\", and RDS_DB is not set"
    )]
    #[case(
        r#"{"username": "u", "password": "s3cret", "host": "h", "dbname": "d", "port": "s3cret"}"#,
        "has a field \"port\" that is not a number from 1 to 65535"
    )]
    #[case(
        r#"{"username": "u", "password": "s3cret", "host": "h", "dbname": "d", "port": 0}"#,
        "has a field \"port\" that is not a number from 1 to 65535"
    )]
    #[case(
        r#"{"username": "u", "password": "s3cret", "engine": "s3cret"}"#,
        "has a field \"engine\" that is not mysql, mariadb, aurora-mysql, postgres or aurora-postgresql"
    )]
    fn errors_name_the_secret_and_the_field_but_no_value(#[case] text: &str, #[case] expected: &str) {
        let error = parse(text, &bare()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SecretInvalid);
        assert_eq!(crate::error::chain(&error), format!("the secret \"prod/db\" {expected}"));
    }

    fn whole(password: &str) -> Value {
        let text = json!({"username": "u", "password": password, "host": "h", "dbname": "d"}).to_string();
        json!({"ARN": "arn", "Name": "prod/db", "SecretString": text})
    }

    #[tokio::test]
    async fn a_secret_is_cached_until_a_fresh_one_is_requested() {
        let aws = StubServer::start(vec![response(200, whole("old")), response(200, whole("new"))]).await;
        let secrets = Secrets::new(&aws.config(), CredentialSettings::Secret(bare()));
        for (fresh, expected) in [(false, "old"), (false, "old"), (true, "new"), (false, "new")] {
            assert_eq!(secrets.clone().get(fresh).await.unwrap().password.expose_secret(), expected);
        }
        assert_eq!(aws.request_bodies().len(), 2);
        assert_eq!(aws.request_bodies()[0], json!({"SecretId": "prod/db"}));
    }

    #[rstest]
    #[case("ResourceNotFoundException", ErrorKind::SecretInvalid)]
    #[case("InvalidRequestException", ErrorKind::SecretInvalid)]
    #[case("AccessDeniedException", ErrorKind::Forbidden)]
    #[case("DecryptionFailure", ErrorKind::Forbidden)]
    #[case("ThrottlingException", ErrorKind::Throttled)]
    #[case("InternalServiceError", ErrorKind::Service)]
    #[tokio::test]
    async fn each_failure_has_its_own_kind(#[case] code: &str, #[case] kind: ErrorKind) {
        let aws = StubServer::start(vec![response(400, json!({"__type": code, "message": "no"}))]).await;
        let error = Secrets::new(&aws.config(), CredentialSettings::Secret(bare())).get(false).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with("the secret \"prod/db\" "), "{error}");
    }

    #[tokio::test]
    async fn binary_secret_is_rejected() {
        let aws = StubServer::start(vec![response(200, json!({"ARN": "arn", "SecretBinary": "AAEC"}))]).await;
        let error = Secrets::new(&aws.config(), CredentialSettings::Secret(bare())).get(false).await.unwrap_err();
        assert_eq!(error.to_string(), "the secret \"prod/db\" is binary; store JSON as text");
    }

    #[tokio::test]
    async fn certificates_are_read_once_and_must_be_pem() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let aws = StubServer::start(vec![response(200, json!({"SecretString": pem}))]).await;
        let secrets = Secrets::new(&aws.config(), CredentialSettings::Secret(bare()));
        assert_eq!(secrets.certificates("ca").await.unwrap(), pem.as_bytes());
        assert_eq!(secrets.certificates("ca").await.unwrap(), pem.as_bytes());
        assert_eq!(aws.request_bodies().len(), 1);
        let aws = StubServer::start(vec![response(200, json!({"SecretString": "hunter2"}))]).await;
        let error =
            Secrets::new(&aws.config(), CredentialSettings::Secret(bare())).certificates("ca").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SecretInvalid);
        assert!(error.to_string().contains("no certificate") && !error.to_string().contains("hunter2"), "{error}");
    }
}
