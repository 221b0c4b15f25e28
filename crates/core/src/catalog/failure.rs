//! Maps failures of the Glue SDK to error kinds.

use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Error, ErrorKind};

/// The exception's code, or an empty text when Glue returned none.
pub(super) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// Converts a failed call to an error. `action` is the name in IAM without `glue:`, `name` the table or database.
pub(super) fn failure<E>(action: &str, name: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let kind = kind(code(&error), status);
    let message = match kind {
        ErrorKind::Forbidden => {
            format!(
                "glue:{action} on {name} is not allowed; grant it to the role (and in Lake Formation, if you use it)"
            )
        }
        ErrorKind::Throttled => format!("glue:{action} on {name} was throttled"),
        ErrorKind::Internal => format!("Glue rejected glue:{action} on {name} as invalid"),
        _ => format!("glue:{action} on {name} failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// The error kind for an exception's code and HTTP status.
///
/// "Not found" is a failure here; callers that expect it check the code first.
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
    fn forbidden_throttled_and_broken_are_different_kinds() {
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
