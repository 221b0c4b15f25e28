//! ECS: one Fargate task for one object.
//!
//! The client token is derived from the object's identity and the launch settings, so that the same event twice starts
//! one task; a task that has stopped while its object is still in place is started anew. Retries live here alone: the
//! client makes none.

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

use crate::config::{LaunchSettings, vars};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::object::{ObjectVersion, hash_parts};
use crate::policy;

/// The longest time a launch is tried for, however much is left.
const MAX_BUDGET: Duration = Duration::from_secs(60);

/// How many stopped tasks of one object are passed over before somebody has to look.
const MAX_STOPPED: usize = 5;

/// Starts tasks. Clones share connections.
#[derive(Debug, Clone)]
pub struct Launcher {
    client: Client,
    settings: LaunchSettings,
}

/// What RunTask has answered.
enum Started {
    /// A task that runs, or will.
    Running { arn: String },
    /// The task that this token has started before, and it has stopped.
    Stopped { arn: String },
}

impl Launcher {
    /// A launcher for one task definition.
    pub fn new(config: &SdkConfig, settings: LaunchSettings) -> Self {
        let without_retries = aws_sdk_ecs::config::Builder::from(config).retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(without_retries.build()), settings }
    }

    /// Starts the task that loads this source, and answers its ARN. A busy service is asked again, within `remaining`
    /// and a minute; asking again for the same source never makes a second task while the first one lives.
    pub async fn launch(&self, source: &ObjectVersion, remaining: Option<Duration>) -> Result<String> {
        let mut token = self.token(source);
        for _ in 0..MAX_STOPPED {
            match self.run_with_retries(source, &token, remaining).await? {
                Started::Running { arn } => {
                    Failpoint::AfterRunTask.reached().await;
                    info!(task = %arn, source_id = %source.id, "a task was started for the object");
                    return Ok(arn);
                }
                Started::Stopped { arn } => {
                    warn!(task = %arn, source_id = %source.id, "the object's task has stopped without moving it");
                    token = hash_parts(&[&token, &arn]);
                }
            }
        }
        let message = format!(
            "{MAX_STOPPED} tasks for this object have stopped and it is still in place; read their logs and stop reasons"
        );
        Err(Error::new(ErrorKind::Service, message).for_object(&source.object))
    }

    async fn run_with_retries(
        &self,
        source: &ObjectVersion,
        token: &str,
        remaining: Option<Duration>,
    ) -> Result<Started> {
        let budget = remaining.map_or(MAX_BUDGET, |remaining| remaining.min(MAX_BUDGET));
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let error = match self.run(source, token).await {
                Ok(task) => return Ok(task),
                Err(error) => error.for_object(&source.object),
            };
            let delay = policy::backoff(attempt, fastrand::f64());
            let is_passing = matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Service);
            if !is_passing || started.elapsed() + delay >= budget {
                return Err(error);
            }
            warn!(error = %chain(&error), attempt, "the task could not be started; trying again");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    async fn run(&self, source: &ObjectVersion, token: &str) -> Result<Started> {
        let settings = &self.settings;
        let network = NetworkConfiguration::builder().awsvpc_configuration(self.network()?).build();
        let answer = self
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
        self.started(&answer)
    }

    fn network(&self) -> Result<AwsVpcConfiguration> {
        let public_ip = if self.settings.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
        let security_groups = Some(self.settings.security_groups.clone()).filter(|groups| !groups.is_empty());
        AwsVpcConfiguration::builder()
            .set_subnets(Some(self.settings.subnets.clone()))
            .set_security_groups(security_groups)
            .assign_public_ip(public_ip)
            .build()
            .map_err(|error| Error::new(ErrorKind::Internal, "the network of a task is incomplete").with_source(error))
    }

    fn overrides(&self, source: &ObjectVersion) -> TaskOverride {
        let object = &source.object;
        let pair = |name: &str, value: &str| KeyValuePair::builder().name(name).value(value).build();
        let container = ContainerOverride::builder()
            .name(&self.settings.container)
            .environment(pair(vars::S3_BUCKET.name, &object.bucket))
            .environment(pair(vars::CSV_KEY.name, &object.key))
            // Empty counts as unset; so a version that stands in the task definition never meets another object.
            .environment(pair(vars::CSV_VERSION_ID.name, object.version_id.as_deref().unwrap_or_default()))
            .build();
        TaskOverride::builder().container_overrides(container).build()
    }

    /// 64 hex digits, the longest token ECS takes. A changed definition or network is another request, which ECS would
    /// refuse under the old token.
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

    /// An answer that is no error may still say that nothing was started.
    fn started(&self, answer: &RunTaskOutput) -> Result<Started> {
        if let Some(failure) = answer.failures().first() {
            return Err(self.failed(failure));
        }
        let nothing = || Error::new(ErrorKind::Service, "ECS has started no task and gives no reason");
        let task = answer.tasks().first().ok_or_else(nothing)?;
        let arn = task.task_arn().unwrap_or("(no ARN)").to_owned();
        let is_stopped = matches!(task.last_status(), Some("STOPPED" | "DEPROVISIONING" | "DELETED"));
        Ok(if is_stopped { Started::Stopped { arn } } else { Started::Running { arn } })
    }

    fn failed(&self, failure: &Failure) -> Error {
        let reason = failure.reason().unwrap_or("no reason");
        let detail = failure.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let what = failure.arn().unwrap_or(&self.settings.cluster);
        let (kind, hint) = match reason {
            reason if reason.starts_with("RESOURCE") || is_capacity(reason) => (ErrorKind::Throttled, ""),
            "MISSING" => (ErrorKind::Settings, "; check ECS_CLUSTER and TASK_DEFINITION"),
            _ => (ErrorKind::Service, ""),
        };
        Error::new(kind, format!("ECS has started no task: {reason}{detail} for {what}{hint}"))
    }

    fn rejection<R>(&self, error: SdkError<RunTaskError, R>) -> Error
    where
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let settings = &self.settings;
        let service = error.as_service_error();
        let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default();
        let said = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
        let (kind, what) = match code {
            code if code.contains("Throttl") || code == "LimitExceededException" || is_capacity(said) => {
                (ErrorKind::Throttled, "ECS asks to slow down or has no capacity now".to_owned())
            }
            "AccessDeniedException" => (
                ErrorKind::Forbidden,
                "the role may not start the task; allow ecs:RunTask on the task definition and iam:PassRole on its roles"
                    .to_owned(),
            ),
            "ClusterNotFoundException" => {
                (ErrorKind::Settings, format!("there is no cluster {:?}; check ECS_CLUSTER", settings.cluster))
            }
            "ConflictException" => (
                ErrorKind::Busy,
                "another task was started for this object with other settings a short while ago".to_owned(),
            ),
            "ClientException" | "InvalidParameterException" | "PlatformTaskDefinitionIncompatibilityException"
            | "PlatformUnknownException" | "UnsupportedFeatureException" => (
                ErrorKind::Settings,
                format!(
                    "ECS does not take the task {:?}; check TASK_DEFINITION, CONTAINER_NAME, SUBNETS and SECURITY_GROUPS",
                    settings.task_definition
                ),
            ),
            _ => (ErrorKind::Service, "ECS failed or could not be reached".to_owned()),
        };
        Error::new(kind, what).with_source(error)
    }
}

/// Capacity has no code of its own: it comes as a text, in a failure's reason or an error's message.
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
    use crate::stub_server::{Answer, StubServer, answer};

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

    fn task(arn: &str, status: &str) -> Answer {
        answer(200, json!({"tasks": [{"taskArn": arn, "lastStatus": status}], "failures": []}))
    }

    fn failures(reason: &str) -> Answer {
        answer(200, json!({"tasks": [], "failures": [{"arn": "arn:x", "reason": reason, "detail": "why"}]}))
    }

    fn rejection(code: &str, message: &str) -> Answer {
        answer(400, json!({"__type": code, "message": message}))
    }

    async fn launch(answers: Vec<Answer>, budget_ms: u64) -> (Result<String>, Vec<Value>) {
        let aws = StubServer::start(answers).await;
        let launcher = Launcher::new(&aws.config(), settings());
        let result = launcher.launch(&source(Some("v1")), Some(Duration::from_millis(budget_ms))).await;
        (result, aws.requests().into_iter().map(|request| request.body).collect())
    }

    #[tokio::test]
    async fn the_request_names_the_object_and_nothing_is_left_to_defaults() {
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
    async fn the_token_is_the_same_for_the_same_object_and_settings_only() {
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
    #[case(vec![answer(500, json!({"__type": "ServerException"})), task(ARN, "PENDING")])]
    #[tokio::test]
    async fn what_passes_is_tried_again_with_the_same_token(#[case] answers: Vec<Answer>) {
        let tries = answers.len();
        let (result, requests) = launch(answers, 30_000).await;
        assert_eq!(result.unwrap(), ARN);
        assert_eq!(requests.len(), tries);
        assert!(requests.iter().all(|request| request["clientToken"] == requests[0]["clientToken"]));
    }

    #[tokio::test]
    async fn a_busy_service_is_asked_within_the_budget_only() {
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
    async fn what_does_not_pass_is_named_at_once(#[case] answer: Answer, #[case] kind: ErrorKind, #[case] says: &str) {
        let (result, requests) = launch(vec![answer], 30_000).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), requests.len()), (kind, 1), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[rstest]
    #[case(answer(200, json!({"tasks": [], "failures": []})), "ECS has started no task and gives no reason")]
    #[case(failures("ATTRIBUTE"), "ECS has started no task: ATTRIBUTE (why) for arn:x")]
    #[tokio::test]
    async fn a_successful_answer_without_a_task_is_a_failure(#[case] answer: Answer, #[case] says: &str) {
        let (result, _) = launch(vec![answer], 0).await;
        assert!(result.unwrap_err().to_string().ends_with(says));
    }

    #[tokio::test]
    async fn a_task_that_has_stopped_is_started_anew() {
        let (result, requests) = launch(vec![task("arn:old", "STOPPED"), task(ARN, "PROVISIONING")], 30_000).await;
        assert_eq!(result.unwrap(), ARN);
        assert_ne!(requests[0]["clientToken"], requests[1]["clientToken"]);
        let (result, requests) = launch(vec![task("arn:old", "STOPPED")], 30_000).await;
        assert_eq!((result.unwrap_err().kind(), requests.len()), (ErrorKind::Service, MAX_STOPPED));
    }
}
