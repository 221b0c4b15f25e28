//! Starts Fargate tasks in ECS, one per object.
//!
//! The client token is derived from the source id and the launch settings, so a duplicate event starts no second task.
//! If a task has stopped and its object is still in place, another one is started. The retries are here: the SDK
//! client's own are disabled.

use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::run_task::{RunTaskError, RunTaskOutput};
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, ContainerOverride, Failure, KeyValuePair, LaunchType, NetworkConfiguration,
    TaskOverride,
};
use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::object::{ObjectVersion, hash_parts};
use crate::policy;

/// Upper bound for the time spent on retries, whatever time is left.
const MAX_BUDGET: Duration = Duration::from_secs(60);

/// Number of stopped tasks of one object after which the launch fails.
const MAX_STOPPED: usize = 5;

/// The variables through which the task learns its object.
pub(crate) struct ObjectVariables {
    pub(crate) bucket: &'static str,
    pub(crate) key: &'static str,
    pub(crate) version_id: &'static str,
}

/// The names under which the task reads them; a test compares them with the declared settings.
pub(crate) const OBJECT_VARIABLES: ObjectVariables =
    ObjectVariables { bucket: "S3_BUCKET", key: "CSV_KEY", version_id: "CSV_VERSION_ID" };

/// How a Fargate task is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSettings {
    /// `ECS_CLUSTER`.
    pub cluster: String,
    /// `TASK_DEFINITION`: `family:revision` or an ARN.
    pub task_definition: String,
    /// `CONTAINER_NAME`.
    pub container: String,
    /// `SUBNETS`; Fargate rejects a task without one.
    pub subnets: Vec<String>,
    /// `SECURITY_GROUPS`; empty for the default group of the VPC.
    pub security_groups: Vec<String>,
    /// Whether `ASSIGN_PUBLIC_IP` is `ENABLED`.
    pub assign_public_ip: bool,
}

/// Starts tasks. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    client: Client,
    settings: LaunchSettings,
}

/// The task that RunTask returned.
enum StartedTask {
    /// A task that runs or is about to.
    Running { arn: String },
    /// A task that an earlier request with the same token started, and that has stopped.
    Stopped { arn: String },
}

impl Launcher {
    /// Returns a launcher for one task definition.
    pub(crate) fn new(config: &SdkConfig, settings: LaunchSettings) -> Self {
        let without_retries = aws_sdk_ecs::config::Builder::from(config).retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(without_retries.build()), settings }
    }

    /// Starts the task that loads this source, and returns its ARN.
    ///
    /// Retries while ECS throttles or fails, for at most `remaining` and a minute. A repeated call for the same source
    /// starts no second task while the first one runs.
    pub(crate) async fn launch(&self, source: &ObjectVersion, remaining: Option<Duration>) -> Result<String> {
        let mut token = self.token(source);
        for _ in 0..MAX_STOPPED {
            match self.run_with_retries(source, &token, remaining).await? {
                StartedTask::Running { arn } => {
                    Failpoint::AfterRunTask.reached().await;
                    info!(task = %arn, source_id = %source.id, "started a task for the object");
                    return Ok(arn);
                }
                StartedTask::Stopped { arn } => {
                    warn!(task = %arn, source_id = %source.id, "the object's task has stopped, starting another one");
                    token = hash_parts(&[&token, &arn]);
                }
            }
        }
        let message = format!(
            "{MAX_STOPPED} tasks for this object have stopped and it is still in place; check their logs and stop reasons"
        );
        Err(Error::new(ErrorKind::Service, message).for_object(&source.object))
    }

    async fn run_with_retries(
        &self,
        source: &ObjectVersion,
        token: &str,
        remaining: Option<Duration>,
    ) -> Result<StartedTask> {
        let budget = remaining.map_or(MAX_BUDGET, |remaining| remaining.min(MAX_BUDGET));
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let error = match self.run(source, token).await {
                Ok(task) => return Ok(task),
                Err(error) => error.for_object(&source.object),
            };
            let delay = policy::backoff(attempt, fastrand::f64());
            let is_transient = matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Service);
            if !is_transient || started.elapsed() + delay >= budget {
                return Err(error);
            }
            warn!(error = %chain(&error), attempt, "failed to start the task, retrying");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    async fn run(&self, source: &ObjectVersion, token: &str) -> Result<StartedTask> {
        let settings = &self.settings;
        let network = NetworkConfiguration::builder().awsvpc_configuration(self.network()?).build();
        let response = self
            .client
            .run_task()
            .cluster(&settings.cluster)
            .task_definition(&settings.task_definition)
            .launch_type(LaunchType::Fargate)
            .platform_version("LATEST")
            .count(1)
            .network_configuration(network)
            .overrides(self.overrides(source))
            .started_by(format!("spillway-{}", source.id.short()))
            .client_token(token)
            .send()
            .await
            .map_err(|error| self.rejection(error))?;
        self.started(&response)
    }

    fn network(&self) -> Result<AwsVpcConfiguration> {
        let public_ip = if self.settings.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
        let security_groups = Some(self.settings.security_groups.clone()).filter(|groups| !groups.is_empty());
        AwsVpcConfiguration::builder()
            .set_subnets(Some(self.settings.subnets.clone()))
            .set_security_groups(security_groups)
            .assign_public_ip(public_ip)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot build the network configuration of a task").with_source(error)
            })
    }

    fn overrides(&self, source: &ObjectVersion) -> TaskOverride {
        let object = &source.object;
        let pair = |name: &str, value: &str| KeyValuePair::builder().name(name).value(value).build();
        let container = ContainerOverride::builder()
            .name(&self.settings.container)
            .environment(pair(OBJECT_VARIABLES.bucket, &object.bucket))
            .environment(pair(OBJECT_VARIABLES.key, &object.key))
            // An empty value counts as unset. It overrides a version id in the task definition, which is another
            // object's.
            .environment(pair(OBJECT_VARIABLES.version_id, object.version_id.as_deref().unwrap_or_default()))
            .build();
        TaskOverride::builder().container_overrides(container).build()
    }

    /// The client token: 64 hex digits, the longest that ECS accepts.
    ///
    /// Contains the settings too: ECS refuses a token that was used with other parameters.
    fn token(&self, source: &ObjectVersion) -> String {
        let settings = &self.settings;
        let (subnets, groups) = (settings.subnets.join(","), settings.security_groups.join(","));
        let public_ip = settings.assign_public_ip.to_string();
        hash_parts(&[
            source.id.as_str(),
            &settings.cluster,
            &settings.task_definition,
            &settings.container,
            &subnets,
            &groups,
            &public_ip,
        ])
    }

    /// The started task. A successful response may report a failure and contain no task.
    fn started(&self, response: &RunTaskOutput) -> Result<StartedTask> {
        if let Some(failure) = response.failures().first() {
            return Err(self.failure(failure));
        }
        let nothing = || Error::new(ErrorKind::Service, "ECS started no task and returned no reason");
        let task = response.tasks().first().ok_or_else(nothing)?;
        let arn = task.task_arn().unwrap_or("(no ARN)").to_owned();
        let is_stopped = matches!(task.last_status(), Some("STOPPED" | "DEPROVISIONING" | "DELETED"));
        Ok(if is_stopped { StartedTask::Stopped { arn } } else { StartedTask::Running { arn } })
    }

    fn failure(&self, failure: &Failure) -> Error {
        let reason = failure.reason().unwrap_or("no reason");
        let detail = failure.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let what = failure.arn().unwrap_or(&self.settings.cluster);
        let (kind, hint) = match reason {
            reason if reason.starts_with("RESOURCE") || is_capacity(reason) => (ErrorKind::Throttled, ""),
            "MISSING" => (ErrorKind::Settings, "; check ECS_CLUSTER and TASK_DEFINITION"),
            _ => (ErrorKind::Service, ""),
        };
        Error::new(kind, format!("ECS started no task: {reason}{detail} for {what}{hint}"))
    }

    fn rejection<R>(&self, error: SdkError<RunTaskError, R>) -> Error
    where
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let settings = &self.settings;
        let service = error.as_service_error();
        let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default();
        let message = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
        let (kind, what) = match code {
            code if code.contains("Throttl") || code == "LimitExceededException" || is_capacity(message) => {
                (ErrorKind::Throttled, "ECS throttled the request or has no capacity".to_owned())
            }
            "AccessDeniedException" => (
                ErrorKind::Forbidden,
                "the role may not start the task; allow ecs:RunTask on the task definition and iam:PassRole on its roles"
                    .to_owned(),
            ),
            "ClusterNotFoundException" => {
                (ErrorKind::Settings, format!("the cluster {:?} does not exist; check ECS_CLUSTER", settings.cluster))
            }
            "ConflictException" => (
                ErrorKind::Busy,
                "another task was started for this object with other settings a moment ago".to_owned(),
            ),
            "ClientException" | "InvalidParameterException" | "PlatformTaskDefinitionIncompatibilityException"
            | "PlatformUnknownException" | "UnsupportedFeatureException" => (
                ErrorKind::Settings,
                format!(
                    "ECS rejected the task {:?}; check TASK_DEFINITION, CONTAINER_NAME, SUBNETS and SECURITY_GROUPS",
                    settings.task_definition
                ),
            ),
            _ => (ErrorKind::Service, "ECS failed or could not be reached".to_owned()),
        };
        Error::new(kind, what).with_source(error)
    }
}

/// Whether a text reports missing capacity, for which ECS has no error code.
fn is_capacity(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["capacity is unavailable", "reached the limit", "rate exceeded", "limit exceeded"]
        .into_iter()
        .any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::object::ObjectRef;
    use crate::stub_server::{StubResponse, StubServer, response};

    const ARN: &str = "arn:aws:ecs:us-east-1:123456789012:task/c/1";

    fn settings() -> LaunchSettings {
        LaunchSettings {
            cluster: "c".into(),
            task_definition: "spillway:3".into(),
            container: "task".into(),
            subnets: vec!["subnet-1".into(), "subnet-2".into()],
            security_groups: vec!["sg-1".into()],
            assign_public_ip: false,
        }
    }

    fn source(version: Option<&str>) -> ObjectVersion {
        let object =
            ObjectRef { bucket: "b".into(), key: "uploads/a b+é.csv".into(), version_id: version.map(str::to_owned) };
        ObjectVersion::new(object, "\"e\"".into(), 11 << 20, Timestamp::UNIX_EPOCH, None)
    }

    fn task(arn: &str, status: &str) -> StubResponse {
        response(200, json!({"tasks": [{"taskArn": arn, "lastStatus": status}], "failures": []}))
    }

    fn failures(reason: &str) -> StubResponse {
        response(200, json!({"tasks": [], "failures": [{"arn": "arn:x", "reason": reason, "detail": "why"}]}))
    }

    fn rejection(code: &str, message: &str) -> StubResponse {
        response(400, json!({"__type": code, "message": message}))
    }

    async fn launch(responses: Vec<StubResponse>, budget_ms: u64) -> (Result<String>, Vec<Value>) {
        let aws = StubServer::start(responses).await;
        let launcher = Launcher::new(&aws.config(), settings());
        let result = launcher.launch(&source(Some("v1")), Some(Duration::from_millis(budget_ms))).await;
        (result, aws.request_bodies())
    }

    #[tokio::test]
    async fn the_request_names_the_object_and_every_launch_setting() {
        let (result, requests) = launch(vec![task(ARN, "PROVISIONING")], 0).await;
        assert_eq!(result.unwrap(), ARN);
        let token = requests[0]["clientToken"].as_str().unwrap().to_owned();
        assert_eq!((token.len(), token.bytes().all(|byte| byte.is_ascii_hexdigit())), (64, true));
        let expected = json!({
            "cluster": "c",
            "taskDefinition": "spillway:3",
            "launchType": "FARGATE",
            "platformVersion": "LATEST",
            "count": 1,
            "clientToken": token,
            "startedBy": format!("spillway-{}", source(Some("v1")).id.short()),
            "networkConfiguration": {"awsvpcConfiguration": {
                "subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED",
            }},
            "overrides": {"containerOverrides": [{"name": "task", "environment": [
                {"name": "S3_BUCKET", "value": "b"},
                {"name": "CSV_KEY", "value": "uploads/a b+é.csv"},
                {"name": "CSV_VERSION_ID", "value": "v1"},
            ]}]},
        });
        assert_eq!(requests, [expected]);
    }

    #[tokio::test]
    async fn the_token_depends_on_the_object_and_the_settings() {
        let aws = StubServer::start(vec![task(ARN, "RUNNING")]).await;
        let token = |settings: LaunchSettings, version| Launcher::new(&aws.config(), settings).token(&source(version));
        let base = token(settings(), Some("v1"));
        assert_eq!(base, token(settings(), Some("v1")));
        assert_ne!(base, token(settings(), Some("v2")));
        assert_ne!(base, token(LaunchSettings { task_definition: "spillway:4".into(), ..settings() }, Some("v1")));
    }

    #[rstest]
    #[case(vec![rejection("ThrottlingException", "Rate exceeded"), task(ARN, "PENDING")])]
    #[case(vec![rejection("ClientException", "You've reached the limit on the number of tasks you can run concurrently"), task(ARN, "PENDING")])]
    #[case(vec![failures("RESOURCE:FARGATE"), failures("Capacity is unavailable at this time."), task(ARN, "PENDING")])]
    #[case(vec![response(500, json!({"__type": "ServerException"})), task(ARN, "PENDING")])]
    #[tokio::test]
    async fn transient_failures_are_retried_with_the_same_token(#[case] responses: Vec<StubResponse>) {
        let attempts = responses.len();
        let (result, requests) = launch(responses, 30_000).await;
        assert_eq!(result.unwrap(), ARN);
        assert_eq!(requests.len(), attempts);
        assert!(requests.iter().all(|request| request["clientToken"] == requests[0]["clientToken"]));
    }

    #[tokio::test]
    async fn retries_end_with_the_budget() {
        let (result, requests) = launch(vec![rejection("ThrottlingException", "Rate exceeded")], 300).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert!(error.to_string().starts_with("s3://b/uploads/a b+é.csv: "), "{error}");
        assert!(!requests.is_empty());
    }

    #[rstest]
    #[case(failures("MISSING"), ErrorKind::Settings, "MISSING (why) for arn:x")]
    #[case(rejection("ClusterNotFoundException", "Cluster not found."), ErrorKind::Settings, "ECS_CLUSTER")]
    #[case(rejection("InvalidParameterException", "subnets can not be empty."), ErrorKind::Settings, "SUBNETS")]
    #[case(rejection("ClientException", "TaskDefinition is inactive"), ErrorKind::Settings, "TASK_DEFINITION")]
    #[case(rejection("AccessDeniedException", "no"), ErrorKind::Forbidden, "iam:PassRole")]
    #[case(rejection("ConflictException", "token in use"), ErrorKind::Busy, "another task")]
    #[tokio::test]
    async fn permanent_failures_are_returned_at_once(
        #[case] response: StubResponse,
        #[case] kind: ErrorKind,
        #[case] expected: &str,
    ) {
        let (result, requests) = launch(vec![response], 30_000).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), requests.len()), (kind, 1), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[rstest]
    #[case(response(200, json!({"tasks": [], "failures": []})), "ECS started no task and returned no reason")]
    #[case(failures("ATTRIBUTE"), "ECS started no task: ATTRIBUTE (why) for arn:x")]
    #[tokio::test]
    async fn a_response_without_a_task_is_a_failure(#[case] response: StubResponse, #[case] expected: &str) {
        let (result, _) = launch(vec![response], 0).await;
        assert!(result.unwrap_err().to_string().ends_with(expected));
    }

    #[tokio::test]
    async fn a_stopped_task_is_replaced_until_the_limit() {
        let (result, requests) = launch(vec![task("arn:old", "STOPPED"), task(ARN, "PROVISIONING")], 30_000).await;
        assert_eq!(result.unwrap(), ARN);
        assert_ne!(requests[0]["clientToken"], requests[1]["clientToken"]);
        let (result, requests) = launch(vec![task("arn:old", "STOPPED")], 30_000).await;
        assert_eq!((result.unwrap_err().kind(), requests.len()), (ErrorKind::Service, MAX_STOPPED));
    }
}
