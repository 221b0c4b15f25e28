//! Failures that every service of AWS has: credentials, the clock, and connections. Each is a plain sentence with advice.
//!
//! The message of the SDK does not say what a user can do, and it differs from service to service.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::SdkError;

use crate::error::{Error, ErrorKind};

/// What a failure means, whatever the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommonFailure {
    /// The kind of the error.
    pub(crate) kind: ErrorKind,
    /// The sentence, as the end of a message.
    pub(crate) what: &'static str,
    /// What the user of a command can do.
    pub(crate) advice: &'static str,
}

impl CommonFailure {
    /// The error. Unless the sentence says everything, the innermost cause follows: an address, a file or a program.
    pub(crate) fn into_error(self, message: &str, cause: &(dyn StdError + 'static)) -> Error {
        let mut root = cause;
        while let Some(source) = root.source() {
            root = source;
        }
        let message = match self == NO_CREDENTIALS {
            true => message.to_owned(),
            false => format!("{message}: {root}"),
        };
        Error::new(self.kind, message).advised(self.advice)
    }
}

/// There are no credentials.
const NO_CREDENTIALS: CommonFailure = CommonFailure {
    kind: ErrorKind::Settings,
    what: "there are no AWS credentials",
    advice: "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; aws configure or aws sso login creates a profile",
};

/// The credentials exist, but a file, a program or a service does not return them.
const UNREADABLE_CREDENTIALS: CommonFailure = CommonFailure {
    kind: ErrorKind::Service,
    what: "the AWS credentials cannot be read",
    advice: "check AWS_PROFILE and its profile, or log in again, for example with aws sso login",
};

/// The credentials were valid before. A function gets new ones by itself.
const EXPIRED: CommonFailure = CommonFailure {
    kind: ErrorKind::Service,
    what: "the AWS credentials have expired",
    advice: "log in again, for example with aws sso login, then run the command again",
};

const UNKNOWN_KEY: CommonFailure = CommonFailure {
    kind: ErrorKind::Forbidden,
    what: "AWS does not know the access key, or the session token is not that of the key",
    advice: "check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or AWS_PROFILE; aws sts get-caller-identity tests them",
};

const WRONG_SECRET_KEY: CommonFailure = CommonFailure {
    kind: ErrorKind::Forbidden,
    what: "the secret access key is not that of the access key",
    advice: "check AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; aws sts get-caller-identity tests them",
};

const WRONG_CLOCK: CommonFailure = CommonFailure {
    kind: ErrorKind::Service,
    what: "the clock of this machine differs too much from that of AWS",
    advice: "set the clock of this machine, then run the command again",
};

const UNREACHABLE: CommonFailure = CommonFailure {
    kind: ErrorKind::Service,
    what: "the service cannot be reached",
    advice: "check the network, AWS_REGION and AWS_ENDPOINT_URL",
};

/// Returns what a failed request means, unless that depends on the service.
pub(crate) fn of_request<E, R>(error: &SdkError<E, R>, code: Option<&str>) -> Option<CommonFailure>
where
    E: StdError + 'static,
    R: std::fmt::Debug + 'static,
{
    if let Some(failure) = code.and_then(of_code) {
        return Some(failure);
    }
    match error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => None,
        SdkError::DispatchFailure(dispatch) => {
            let failure = dispatch.as_connector_error().and_then(|cause| of_credentials(cause));
            failure.or((dispatch.is_io() || dispatch.is_timeout()).then_some(UNREACHABLE))
        }
        SdkError::TimeoutError(_) => Some(UNREACHABLE),
        other => of_credentials(other),
    }
}

/// Returns what a response with this error code means.
fn of_code(code: &str) -> Option<CommonFailure> {
    Some(match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired" => EXPIRED,
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidToken" => UNKNOWN_KEY,
        "SignatureDoesNotMatch" | "InvalidSignatureException" => WRONG_SECRET_KEY,
        "RequestTimeTooSkewed" => WRONG_CLOCK,
        _ => return None,
    })
}

/// Returns what an error means if one of its causes is about credentials.
pub(crate) fn of_credentials(error: &(dyn StdError + 'static)) -> Option<CommonFailure> {
    let mut next = Some(error);
    while let Some(cause) = next {
        match cause.downcast_ref::<CredentialsError>() {
            Some(CredentialsError::CredentialsNotLoaded(_)) => return Some(NO_CREDENTIALS),
            Some(_) => return Some(UNREADABLE_CREDENTIALS),
            None => next = cause.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_credentials_has_a_sentence_and_advice() {
        for (code, expected) in [
            ("ExpiredToken", EXPIRED),
            ("UnrecognizedClientException", UNKNOWN_KEY),
            ("InvalidSignatureException", WRONG_SECRET_KEY),
            ("RequestTimeTooSkewed", WRONG_CLOCK),
        ] {
            assert_eq!(of_code(code), Some(expected), "{code}");
        }
        assert_eq!(of_code("AccessDenied"), None);
    }

    #[test]
    fn missing_credentials_differ_from_unreadable_ones() {
        let cause = CredentialsError::not_loaded_no_source();
        assert_eq!(of_credentials(&cause), Some(NO_CREDENTIALS));
        let inner = CredentialsError::provider_error("the profile is broken");
        let outer = crate::error::Error::new(ErrorKind::Service, "x").with_source(inner);
        assert_eq!(of_credentials(&outer), Some(UNREADABLE_CREDENTIALS));
        assert_eq!(of_credentials(&std::io::Error::other("x")), None);
    }
}
