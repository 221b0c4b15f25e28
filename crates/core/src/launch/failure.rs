//! Maps failures of RunTask to error kinds.

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_sdk_ecs::types::Failure;

use super::LaunchSettings;
use crate::error::{Error, ErrorKind};

/// Whether the role may not send a request.
pub(super) fn is_denied<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("AccessDeniedException")
}

/// The error for a failure in a successful response.
pub(super) fn of_response(failure: &Failure, settings: &LaunchSettings) -> Error {
    let reason = failure.reason().unwrap_or("no reason");
    let detail = failure.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let what = failure.arn().unwrap_or(&settings.cluster);
    let (kind, hint) = match reason {
        reason if reason.starts_with("RESOURCE") || is_capacity(reason) => (ErrorKind::Throttled, ""),
        "MISSING" => (ErrorKind::Settings, "; check ECS_CLUSTER and TASK_DEFINITION"),
        _ => (ErrorKind::Service, ""),
    };
    Error::new(kind, format!("ECS started no task: {reason}{detail} for {what}{hint}"))
}

/// The error for a failed call.
pub(super) fn of_call<R>(error: SdkError<RunTaskError, R>, settings: &LaunchSettings) -> Error
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let message = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
    let (kind, what) = match code {
        code if code.contains("Throttl") || code == "LimitExceededException" || is_capacity(message) => {
            (ErrorKind::Throttled, "ECS throttled the request or has no capacity".to_owned())
        }
        "AccessDeniedException" => (
            ErrorKind::Forbidden,
            "the role may not start the task; allow ecs:RunTask on the task definition, ecs:TagResource \
             on tasks and iam:PassRole on its roles"
                .to_owned(),
        ),
        "ClusterNotFoundException" => {
            (ErrorKind::Settings, format!("the cluster {:?} does not exist; check ECS_CLUSTER", settings.cluster))
        }
        "ConflictException" => {
            (ErrorKind::Busy, "another task was started for this object with other settings a moment ago".to_owned())
        }
        "ClientException"
        | "InvalidParameterException"
        | "PlatformTaskDefinitionIncompatibilityException"
        | "PlatformUnknownException"
        | "UnsupportedFeatureException" => (
            ErrorKind::Settings,
            format!(
                "ECS rejected the task {:?}; check TASK_DEFINITION, CONTAINER_NAME, SUBNETS, SECURITY_GROUPS and TASK_CAPACITY",
                settings.task_definition
            ),
        ),
        _ => (ErrorKind::Service, "ECS failed or could not be reached".to_owned()),
    };
    Error::new(kind, what).with_source(error)
}

/// Whether a text reports missing capacity, for which ECS has no error code.
fn is_capacity(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["capacity is unavailable", "reached the limit", "rate exceeded", "limit exceeded"]
        .into_iter()
        .any(|phrase| text.contains(phrase))
}
