//! What a failed Glue call means.

use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Error, ErrorKind};

/// An exception's code, where Glue has answered with one.
pub(super) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// The core's error for a failed call of `action` (as IAM calls it, without `glue:`) on `name`.
pub(super) fn failure<E>(action: &str, name: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let kind = kind(code(&error), status);
    let message = match kind {
        ErrorKind::Forbidden => {
            format!(
                "glue:{action} on {name} is not allowed; grant it to the role (and in Lake Formation, where that is used)"
            )
        }
        ErrorKind::Throttled => format!("glue:{action} on {name} was asked to slow down"),
        ErrorKind::Internal => format!("glue:{action} on {name} was refused as invalid"),
        _ => format!("glue:{action} on {name} failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// The kind for an exception's code and the HTTP status. Only the caller knows when "not found" is an answer; here it
/// is a failure as any other.
pub(super) fn kind(code: &str, status: Option<u16>) -> ErrorKind {
    match (code, status) {
        (code, _) if code.starts_with("AccessDenied") || code == "GlueEncryptionException" => ErrorKind::Forbidden,
        (code, _) if code.starts_with("Throttling") || code == "TooManyRequestsException" => ErrorKind::Throttled,
        ("ConcurrentModificationException" | "ResourceNumberLimitExceededException", _) => ErrorKind::Throttled,
        ("InvalidInputException" | "ValidationException", _) => ErrorKind::Internal,
        (_, Some(429)) => ErrorKind::Throttled,
        (_, Some(401 | 403)) => ErrorKind::Forbidden,
        _ => ErrorKind::Service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_throttled_and_broken_are_three_things() {
        for (code, status, expected) in [
            ("AccessDeniedException", Some(400), ErrorKind::Forbidden),
            ("UnrecognizedClientException", Some(403), ErrorKind::Forbidden),
            ("ThrottlingException", Some(400), ErrorKind::Throttled),
            ("", Some(429), ErrorKind::Throttled),
            ("InternalServiceException", Some(500), ErrorKind::Service),
            ("", None, ErrorKind::Service),
            ("EntityNotFoundException", Some(400), ErrorKind::Service),
            ("InvalidInputException", Some(400), ErrorKind::Internal),
        ] {
            assert_eq!(kind(code, status), expected, "{code} {status:?}");
        }
    }
}
