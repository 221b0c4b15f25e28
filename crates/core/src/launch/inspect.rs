//! Why the last task did not start, for a check.

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::types::{DesiredStatus, Task, TaskStopCode};

use super::Launcher;
use crate::error::{Error, ErrorKind, Result};

/// The starts of stop reasons that name the image or the network of a task.
const START_FAILURES: [&str; 3] = ["CannotPull", "ResourceInitializationError", "CannotStartContainer"];

impl Launcher {
    /// Returns the stop reason of the last task that stopped, if that task did not start. ECS keeps it for an hour.
    ///
    /// # Errors
    /// When the cluster does not exist, the role may not read its tasks, or ECS fails.
    pub(crate) async fn last_start_failure(&self) -> Result<Option<String>> {
        let cluster = &self.settings.cluster;
        let stopped = self.client.list_tasks().cluster(cluster).desired_status(DesiredStatus::Stopped);
        let listed = stopped.send().await.map_err(|error| self.failure(error))?;
        if listed.task_arns().is_empty() {
            return Ok(None);
        }
        let described = self.client.describe_tasks().cluster(cluster).set_tasks(listed.task_arns);
        let described = described.send().await.map_err(|error| self.failure(error))?;
        let last = described.tasks().iter().max_by_key(|task| task.stopped_at().map(|time| time.secs()));
        Ok(last.and_then(start_failure))
    }

    fn failure<E, R>(&self, error: SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
        let cluster = &self.settings.cluster;
        let (kind, what) = match code {
            "AccessDeniedException" => (ErrorKind::Forbidden, "the role may not read the tasks of the cluster"),
            "ClusterNotFoundException" => (ErrorKind::Settings, "ECS_CLUSTER names no existing cluster"),
            code if code.contains("Throttl") => (ErrorKind::Throttled, "ECS throttled the request for the cluster"),
            _ => (ErrorKind::Service, "ECS failed or could not be reached, for the cluster"),
        };
        Error::new(kind, format!("{what} {cluster:?}")).with_source(error)
    }
}

/// The stop reason of a task that did not start.
fn start_failure(task: &Task) -> Option<String> {
    let reason = task.stopped_reason().unwrap_or_default();
    let is_start_failure = task.stop_code() == Some(&TaskStopCode::TaskFailedToStart)
        || START_FAILURES.iter().any(|start| reason.starts_with(start));
    is_start_failure.then(|| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tasks_that_did_not_start_count() {
        let task = |code: TaskStopCode, reason: &str| Task::builder().stop_code(code).stopped_reason(reason).build();
        let missing = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
        assert_eq!(start_failure(&task(TaskStopCode::TaskFailedToStart, missing)), Some(missing.to_owned()));
        assert_eq!(start_failure(&task(TaskStopCode::UserInitiated, missing)), Some(missing.to_owned()));
        let ended = "Essential container in task exited";
        assert_eq!(start_failure(&task(TaskStopCode::EssentialContainerExited, ended)), None);
    }
}
