//! How uploads reach this deployment: the queue, the notification of the bucket, and the tasks for large files.

use super::{CheckItem, reason};
use crate::error::Result;
use crate::launch::{LaunchSettings, Launcher};
use crate::pipeline::Context;
use crate::queue::UploadQueue;

const QUEUE: &str = "queue";
const NOTIFICATION: &str = "notification";
const TASKS: &str = "tasks";
const TRIED_NOTIFICATION: &str = "read where the bucket sends the events of new objects";
const TRIED_TASKS: &str = "read the settings of tasks and why the last one stopped; nothing was started";

/// The parts of a deployment around the pipeline. Each may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Surroundings<'a> {
    /// The queue of uploads.
    pub(crate) queue: Option<&'a UploadQueue>,
    /// Starts tasks.
    pub(crate) launcher: Option<&'a Launcher>,
}

/// The items of the queue and of the notification; none without `UPLOAD_QUEUE_URL`.
pub(super) async fn uploads(context: &Context, queue: Option<&UploadQueue>, bucket: &str) -> Vec<CheckItem> {
    const TRIED: &str = "read the attributes of the upload queue";
    let Some(queue) = queue else { return Vec::new() };
    match queue.arn().await {
        Ok(arn) => {
            let notification = notification(context, bucket, &arn).await;
            vec![CheckItem::passed(QUEUE, TRIED, None), notification]
        }
        Err(error) => {
            let fix =
                "deploy the stack again, so that it has a queue and the functions have its URL (UPLOAD_QUEUE_URL)";
            vec![
                CheckItem::failed(QUEUE, TRIED, reason(&error), fix),
                CheckItem::not_tried(NOTIFICATION, TRIED_NOTIFICATION, QUEUE),
            ]
        }
    }
}

async fn notification(context: &Context, bucket: &str, queue: &str) -> CheckItem {
    let notifications = match context.store.notifications(bucket).await {
        Ok(notifications) => notifications,
        Err(error) => return CheckItem::of(NOTIFICATION, TRIED_NOTIFICATION, Err(error)),
    };
    let targets = &notifications.targets;
    let found = match targets.first() {
        _ if targets.iter().any(|target| target == queue) => "the events go to the upload queue".to_owned(),
        _ if notifications.to_event_bridge => "the events go to EventBridge".to_owned(),
        Some(other) => format!("the events go to {other}, which must pass them to the upload queue"),
        None => {
            let reason = format!("the bucket {bucket} sends no events of new objects, so only sweeps find its files");
            let fix = "switch on EventBridge notifications in the properties of the bucket, or deploy the stack again if it \
                       created the bucket";
            return CheckItem::failed(NOTIFICATION, TRIED_NOTIFICATION, reason, fix);
        }
    };
    CheckItem::passed(NOTIFICATION, TRIED_NOTIFICATION, Some(found))
}

/// The item of the tasks: their settings, and whether the last task that stopped has started before.
pub(super) async fn tasks(launcher: Option<&Launcher>) -> CheckItem {
    let Some(launcher) = launcher else {
        let found = "ECS_CLUSTER is not set, so a file that needs a Fargate task fails";
        return CheckItem::passed(TASKS, TRIED_TASKS, Some(found.to_owned()));
    };
    let LaunchSettings { cluster, task_definition, subnets, .. } = launcher.settings();
    if subnets.is_empty() {
        let reason = "SUBNETS is empty, and Fargate does not start a task without a subnet".to_owned();
        return CheckItem::failed(TASKS, TRIED_TASKS, reason, "set SUBNETS (SubnetIds in the template)");
    }
    let found = format!("cluster {cluster}, task definition {task_definition}, {} subnets", subnets.len());
    of_last_task(launcher.last_start_failure().await, found)
}

/// The item of the Glue job; none without `GLUE_JOB`. Only a run could test whether a task may start it.
pub(super) async fn glue_job(context: &Context) -> Option<CheckItem> {
    let jobs = context.glue_jobs.as_ref()?;
    let min_bytes = jobs.settings().min_bytes;
    let tried = "read the Glue job for files that outgrow a task; no run was started";
    let found = jobs.describe().await.map(|job| Some(format!("{job}; it gets files of {min_bytes} bytes and more")));
    Some(CheckItem::of("glue_job", tried, found))
}

fn of_last_task(last: Result<Option<String>>, found: String) -> CheckItem {
    match last {
        Ok(None) => CheckItem::passed(TASKS, TRIED_TASKS, Some(found)),
        Ok(Some(stopped)) => {
            let fix = fix_of_start(&stopped);
            CheckItem::failed(TASKS, TRIED_TASKS, format!("the last task did not start: {stopped}"), fix)
        }
        Err(error) => CheckItem::of(TASKS, TRIED_TASKS, Err(error)),
    }
}

/// What to do about a task that did not start.
fn fix_of_start(reason: &str) -> &'static str {
    if reason.starts_with("CannotPull") {
        return "push the image of the task (make image) or correct TaskImageUri; if the image exists, give the subnets a way \
                to ECR and S3 (NAT or VPC endpoints)";
    }
    if reason.starts_with("ResourceInitializationError") {
        return "give the subnets a way to ECR and CloudWatch Logs (NAT or VPC endpoints)";
    }
    "read the section \"failures\" of the runbook"
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("CannotPullContainerError: not found", "push the image")]
    #[case("ResourceInitializationError: unable to pull secrets or registry auth", "CloudWatch Logs")]
    #[case("Unexpected EC2 error", "runbook")]
    fn each_reason_of_a_task_that_did_not_start_has_its_fix(#[case] reason: &str, #[case] fix: &str) {
        let item = of_last_task(Ok(Some(reason.to_owned())), "cluster".to_owned());
        assert!(!item.ok && item.reason.is_some_and(|text| text.ends_with(reason)));
        assert!(item.fix.is_some_and(|text| text.contains(fix)));
        assert!(of_last_task(Ok(None), "cluster".to_owned()).ok);
    }
}
