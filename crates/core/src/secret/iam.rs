//! IAM database authentication: a token replaces the password.
//!
//! A token is a request to the service `rds-db` that is signed and never sent. The server accepts it for 15 minutes, and
//! only when a connection is opened. Computing one needs no request. Format:
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::config::Credentials as AwsCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

use crate::destination::Credentials;
use crate::error::{Error, ErrorKind, Result};

/// An error of the signer.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

const LIFETIME: Duration = Duration::from_secs(900);
/// The scheme that a signature needs and a token does not contain.
const SCHEME: &str = "https://";
/// All characters except those that RFC 3986 calls unreserved.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns a token for the user and the server of `login`, signed at `time`.
///
/// # Errors
/// When the credentials of AWS cannot sign.
pub(super) fn token(
    login: &Credentials,
    region: &str,
    aws_credentials: AwsCredentials,
    time: SystemTime,
) -> Result<SecretString> {
    sign_in(login, region, aws_credentials, time).map(SecretString::from).map_err(|error| {
        Error::new(ErrorKind::Credentials, "the token for IAM database authentication cannot be signed")
            .with_source(error)
    })
}

fn sign_in(
    login: &Credentials,
    region: &str,
    aws_credentials: AwsCredentials,
    time: SystemTime,
) -> Result<String, BoxError> {
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(LIFETIME);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity = aws_credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(time)
        .settings(settings)
        .build()?
        .into();
    let user = utf8_percent_encode(&login.user, &RESERVED);
    let mut address = format!("{SCHEME}{}:{}/?Action=connect&DBUser={user}", login.host, login.port);
    let request = SignableRequest::new("GET", &address, std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (instructions, _signature) = sign(request, &params)?.into_parts();
    for (name, value) in instructions.params() {
        address.push_str(&format!("&{name}={}", utf8_percent_encode(value, &RESERVED)));
    }
    Ok(address.split_off(SCHEME.len()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::destination::{Authentication, Engine};

    fn login(user: &str) -> Credentials {
        Credentials {
            engine: Engine::Postgres,
            host: "db.example.eu-west-1.rds.amazonaws.com".to_owned(),
            port: 5432,
            user: user.to_owned(),
            password: SecretString::from(String::new()),
            database: "shop".to_owned(),
            authentication: Authentication::Iam,
        }
    }

    /// The expected tokens were computed with botocore's `RequestSigner.generate_presigned_url`, for the same time.
    #[test]
    fn token_is_that_of_another_implementation() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_374_400);
        for (user, session, expected) in [
            ("loader", None, include_str!("testdata/token.txt")),
            ("load er@x", Some("session/token+="), include_str!("testdata/token_with_session.txt")),
        ] {
            let keys = AwsCredentials::new("AKIDEXAMPLE", "secret/key+", session.map(str::to_owned), None, "test");
            let token = token(&login(user), "eu-west-1", keys, time).unwrap();
            let sorted = |text: &str| {
                let (address, query) = text.trim().split_once('?').unwrap();
                let mut parts: Vec<&str> = query.split('&').collect();
                parts.sort_unstable();
                format!("{address}?{}", parts.join("&"))
            };
            assert_eq!(sorted(token.expose_secret()), sorted(expected));
        }
    }
}
