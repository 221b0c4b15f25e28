//! Maps failures of the S3 SDK to error kinds.
//!
//! Missing, forbidden, changed, busy, throttled and broken are different kinds. An object is missing only when S3
//! returns the code for it. A 404 without a code may come from a proxy or an outage, so it is a failure of the service.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use crate::aws_failure;
use crate::error::{Error, ErrorKind};

/// The header with the region of a bucket, in responses to requests that were sent to another one.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// Converts an SDK failure to an error. `action` completes "cannot …", such as "read the object".
pub(super) fn failure<E>(action: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let response = error.raw_response();
    let status = response.map(|response| response.status().as_u16());
    let header = |name: &str| response.and_then(|response| response.headers().get(name));
    let is_delete_marker = header("x-amz-delete-marker") == Some("true");
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let details = match (code, status) {
        (Some(code), Some(status)) => format!("{code}, HTTP {status}"),
        (None, Some(status)) => format!("HTTP {status}"),
        (_, None) => "no response".to_owned(),
    };
    let message = |what: &str| format!("cannot {action}: {what} ({details})");
    if let Some(common) = aws_failure::of_request(&error, code) {
        let message = message(common.what);
        return match code {
            Some(_) => Error::new(common.kind, message).advised(common.advice),
            None => common.into_error(&message, &error),
        };
    }
    if let Some(region) = region_of_bucket(status, code, header(REGION_HEADER)) {
        return Error::new(ErrorKind::Settings, message(&region)).with_advice();
    }
    let kind = if is_delete_marker { ErrorKind::SourceMissing } else { kind_of(status, code) };
    let reason = error.as_service_error().and_then(ProvideErrorMetadata::message).map(str::to_owned);
    match (kind, code) {
        (ErrorKind::Settings, _) => Error::new(kind, message("the bucket does not exist"))
            .advised("check the name of the bucket, and whether AWS_PROFILE is that of its account"),
        // S3's message names the identity, the permission and the resource.
        (ErrorKind::Forbidden, Some("AccessDenied")) => {
            let reason =
                reason.map_or_else(|| "access is denied".to_owned(), |reason| format!("access is denied: {reason}"));
            Error::new(kind, message(&reason)).advised(DENIED)
        }
        (ErrorKind::Forbidden, None) => {
            Error::new(kind, message("access is denied, or the object does not exist")).advised(DENIED)
        }
        _ => Error::new(kind, format!("cannot {action} ({details})")).with_source(error),
    }
}

/// The advice after a denied request.
const DENIED: &str = "aws sts get-caller-identity shows the AWS identity; it needs the permission in its policy and in the policy of the \
                      bucket, and s3:ListBucket to be told that an object does not exist";

/// Returns what is wrong with the region of a request, if S3 refuses it because of its region.
fn region_of_bucket(status: Option<u16>, code: Option<&str>, region: Option<&str>) -> Option<String> {
    let is_other_region = match code {
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => true,
        // HEAD has no body and so no code.
        None => matches!(status, Some(301 | 400)) && region.is_some(),
        Some(_) => false,
    };
    is_other_region.then(|| match region {
        Some(region) => format!("the bucket is in the region {region}; set AWS_REGION={region}"),
        None => "the bucket is in another region; set AWS_REGION to it".to_owned(),
    })
}

/// Whether a HEAD returned 404. HEAD has no body and so no code: the caller must confirm it with GET.
pub(super) fn is_not_found<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 404)
}

/// Whether S3 refused a range because the object is empty.
pub(super) fn is_empty<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("InvalidRange")
}

/// Whether the upload does not exist: it was completed or aborted before.
pub(super) fn is_no_such_upload<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("NoSuchUpload")
}

fn kind_of(status: Option<u16>, code: Option<&str>) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "NoSuchVersion" => ErrorKind::SourceMissing,
        // Glacier, or an archive tier of Intelligent-Tiering.
        "InvalidObjectState" => ErrorKind::SourceArchived,
        "NoSuchBucket" => ErrorKind::Settings,
        "PreconditionFailed" => ErrorKind::SourceChanged,
        "ConditionalRequestConflict" | "OperationAborted" => ErrorKind::Busy,
        "SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "TooManyRequests" | "KMS.ThrottlingException" => {
            ErrorKind::Throttled
        }
        // The next attempt may have new credentials or a corrected clock, so no operator has to change a policy.
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

/// Converts a timestamp of the SDK. Missing and invalid ones, which S3 does not send, become the epoch.
pub(super) fn timestamp(time: Option<&DateTime>) -> Timestamp {
    time.and_then(|time| {
        let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
        Timestamp::new(time.secs(), nanoseconds).ok()
    })
    .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Converts a size of the SDK, which is signed but never negative.
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
    #[case(Some(403), Some("InvalidObjectState"), ErrorKind::SourceArchived)]
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
    fn each_response_has_one_kind(#[case] status: Option<u16>, #[case] code: Option<&str>, #[case] kind: ErrorKind) {
        assert_eq!(kind_of(status, code), kind);
    }
}
