//! What S3's answers mean: the one place where a failure of the SDK becomes an error of ours.
//!
//! Absent, forbidden, changed, busy, throttled and broken are six different things. An object counts as absent only when
//! S3 says so by name; a bare 404 (a proxy's, an outage's) is a failure of the service.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind};

/// Turns a failure into our error. `action` completes "cannot …", such as "read the object".
pub(super) fn failure<E>(action: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let response = error.raw_response();
    let status = response.map(|response| response.status().as_u16());
    let is_delete_marker = response.and_then(|response| response.headers().get("x-amz-delete-marker")) == Some("true");
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let kind = if is_delete_marker { ErrorKind::SourceMissing } else { kind_of(status, code) };
    let said = match (code, status) {
        (Some(code), Some(status)) => format!("{code}, HTTP {status}"),
        (None, Some(status)) => format!("HTTP {status}"),
        (_, None) => "no answer".to_owned(),
    };
    Error::new(kind, format!("cannot {action} ({said})")).with_source(error)
}

/// Whether a HEAD said 404. It carries no code, so the caller must ask again in a way that does before it believes it.
pub(super) fn is_not_found<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 404)
}

/// Whether a range was refused because the object has no bytes.
pub(super) fn is_empty<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("InvalidRange")
}

/// The upload is unknown: it was completed or aborted before.
pub(super) fn is_no_such_upload<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("NoSuchUpload")
}

fn kind_of(status: Option<u16>, code: Option<&str>) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "NoSuchVersion" => ErrorKind::SourceMissing,
        "NoSuchBucket" => ErrorKind::Settings,
        "PreconditionFailed" => ErrorKind::SourceChanged,
        "ConditionalRequestConflict" | "OperationAborted" => ErrorKind::Busy,
        "SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "TooManyRequests" | "KMS.ThrottlingException" => {
            ErrorKind::Throttled
        }
        // Credentials that ran out between two requests are renewed by the next attempt; nobody has to change a policy.
        "ExpiredToken" | "TokenRefreshRequired" | "RequestTimeTooSkewed" => ErrorKind::Service,
        "KMS.KMSInternalException" | "KMS.DependencyTimeoutException" => ErrorKind::Service,
        code if code.starts_with("KMS.") => ErrorKind::Forbidden,
        code if code.contains("Throttl") => ErrorKind::Throttled,
        _ => match status {
            Some(403) => ErrorKind::Forbidden,
            Some(412) => ErrorKind::SourceChanged,
            Some(429 | 503) => ErrorKind::Throttled,
            _ => ErrorKind::Service,
        },
    }
}

/// S3's time as ours. A time that cannot be (none of S3's are) counts as the epoch.
pub(super) fn timestamp(time: Option<&DateTime>) -> Timestamp {
    time.and_then(|time| {
        let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
        Timestamp::new(time.secs(), nanoseconds).ok()
    })
    .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The size S3 answered with. It never is negative.
pub(super) fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some(404), Some("NoSuchKey"), ErrorKind::SourceMissing)]
    #[case(Some(404), Some("NoSuchVersion"), ErrorKind::SourceMissing)]
    #[case(Some(404), Some("NoSuchBucket"), ErrorKind::Settings)]
    #[case(Some(404), None, ErrorKind::Service)]
    #[case(Some(403), Some("AccessDenied"), ErrorKind::Forbidden)]
    #[case(Some(403), None, ErrorKind::Forbidden)]
    #[case(Some(403), Some("InvalidObjectState"), ErrorKind::Forbidden)]
    #[case(Some(400), Some("KMS.DisabledException"), ErrorKind::Forbidden)]
    #[case(Some(400), Some("KMS.ThrottlingException"), ErrorKind::Throttled)]
    #[case(Some(400), Some("ExpiredToken"), ErrorKind::Service)]
    #[case(Some(412), Some("PreconditionFailed"), ErrorKind::SourceChanged)]
    #[case(Some(412), None, ErrorKind::SourceChanged)]
    #[case(Some(409), Some("ConditionalRequestConflict"), ErrorKind::Busy)]
    #[case(Some(409), None, ErrorKind::Service)]
    #[case(Some(503), Some("SlowDown"), ErrorKind::Throttled)]
    #[case(Some(503), None, ErrorKind::Throttled)]
    #[case(Some(200), Some("SlowDown"), ErrorKind::Throttled)]
    #[case(Some(200), Some("InternalError"), ErrorKind::Service)]
    #[case(Some(500), Some("InternalError"), ErrorKind::Service)]
    #[case(None, None, ErrorKind::Service)]
    fn each_answer_means_one_thing(#[case] status: Option<u16>, #[case] code: Option<&str>, #[case] kind: ErrorKind) {
        assert_eq!(kind_of(status, code), kind);
    }
}
