//! Starts Fargate tasks in ECS, one per object or request.
//!
//! The client token is derived from the source id or the request, and from the launch settings, so a duplicate event starts no second
//! task. If a task has stopped and its object is still in place, another one is started. The retries are here: the SDK
//! client's own are disabled.

mod failure;
mod inspect;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::DisplayErrorContext;
use aws_sdk_ecs::operation::run_task::RunTaskOutput;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, KeyValuePair, LaunchType,
    NetworkConfiguration, PropagateTags, TaskOverride,
};
use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::object::{ObjectVersion, hash_parts};
use crate::policy;

/// The longest time spent on retries, even if more time is left.
const MAX_BUDGET: Duration = Duration::from_secs(60);

/// The number of stopped tasks of one object after which the launch fails.
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

/// The variable through which the task learns its request, instead of an object.
pub(crate) const REQUEST_VARIABLE: &str = "TASK_REQUEST";

/// The most characters of all overrides of a task. Source: the API reference of ECS, RunTask.
const MAX_OVERRIDES: usize = 8_192;

/// The characters of the overrides without the request: names and punctuation, rounded up.
const OVERRIDES_WITHOUT_REQUEST: usize = 500;

/// The capacity provider of ECS for spare capacity.
const SPOT_PROVIDER: &str = "FARGATE_SPOT";

/// The capacity that tasks run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskCapacity {
    /// Capacity that AWS does not reclaim.
    Fargate,
    /// Spare capacity, which AWS may reclaim. The task then gets SIGTERM, rolls back and releases its lease. If it is killed
    /// first, its lease expires. In both cases the next sweep starts another task.
    Spot,
}

impl TaskCapacity {
    /// The value of `TASK_CAPACITY`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fargate => "fargate",
            Self::Spot => "spot",
        }
    }
}

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
    /// `MAX_TASKS`: the largest number of tasks in the cluster.
    pub max_tasks: u64,
    /// `TASK_CAPACITY`.
    pub capacity: TaskCapacity,
}

/// Starts tasks. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    client: Client,
    settings: LaunchSettings,
}

/// What a task does.
struct Work {
    /// The id from which the client token is derived.
    id: String,
    /// The beginning of the id, which ECS shows.
    short_id: String,
    /// The variables that tell the task what to do.
    variables: Vec<(&'static str, String)>,
}

impl Work {
    /// `step` names the step after an earlier task has ended without an outcome for the object.
    fn of_object(source: &ObjectVersion, step: Option<&str>) -> Self {
        let (object, id) = (&source.object, source.id.as_str());
        Self {
            id: step.map_or_else(|| id.to_owned(), |step| hash_parts(&[id, step])),
            short_id: source.id.short().to_owned(),
            variables: vec![
                (OBJECT_VARIABLES.bucket, object.bucket.clone()),
                (OBJECT_VARIABLES.key, object.key.clone()),
                // An empty value counts as unset. It overrides a version id in the task definition, which is another
                // object's.
                (OBJECT_VARIABLES.version_id, object.version_id.clone().unwrap_or_default()),
            ],
        }
    }

    fn of_request(request: &str) -> Self {
        let id = hash_parts(&["request", request]);
        let short_id = id.chars().take(16).collect();
        Self { id, short_id, variables: vec![(REQUEST_VARIABLE, request.to_owned())] }
    }
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

    /// Checks that the cluster has fewer tasks than `MAX_TASKS`.
    ///
    /// The check and the start are two requests, so tasks that start at the same moment can exceed the limit by their number.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] at the limit, and if ECS does not return the number of tasks: the object waits in place, and its
    /// event is received again. It does not wait if the role may not read the number.
    pub(crate) async fn ensure_capacity(&self) -> Result<()> {
        let response = match self.client.describe_clusters().clusters(&self.settings.cluster).send().await {
            Ok(response) => response,
            Err(error) if failure::is_denied(&error) => {
                warn!(error = %DisplayErrorContext(error), "the tasks of the cluster may not be counted, starting another one");
                return Ok(());
            }
            Err(error) => {
                let message = "the tasks of the cluster could not be counted; the object waits";
                return Err(Error::new(ErrorKind::Throttled, message).with_source(error));
            }
        };
        let tasks: i32 = response
            .clusters()
            .iter()
            .map(|cluster| cluster.running_tasks_count().saturating_add(cluster.pending_tasks_count()))
            .sum();
        let max_tasks = self.settings.max_tasks;
        if u64::try_from(tasks).is_ok_and(|tasks| tasks >= max_tasks) {
            let message = format!("{tasks} tasks are running, and MAX_TASKS is {max_tasks}; the object waits");
            return Err(Error::new(ErrorKind::Throttled, message));
        }
        Ok(())
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &LaunchSettings {
        &self.settings
    }

    /// Starts the task that loads this source, and returns its ARN.
    ///
    /// Retries while ECS throttles or fails, for at most `remaining` and a minute. A repeated call for the same source
    /// starts no second task while the first one runs. Each `step` has a task of its own: a task that has handed the object to the
    /// Glue job has stopped, and another one must finish the object later.
    pub(crate) async fn launch(
        &self,
        source: &ObjectVersion,
        step: Option<&str>,
        remaining: Option<Duration>,
    ) -> Result<String> {
        let work = Work::of_object(source, step);
        let mut token = self.token(&work.id);
        for _ in 0..MAX_STOPPED {
            let started = self.run_with_retries(&work, &token, remaining).await;
            match started.map_err(|error| error.for_object(&source.object))? {
                StartedTask::Running { arn } => {
                    Failpoint::AfterRunTask.reached().await?;
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

    /// Starts a task that runs this request, and returns its ARN. A repeated call for the same request starts no second task within
    /// a day, also if the first one has stopped.
    ///
    /// # Errors
    /// Also when the request is too long for ECS.
    pub(crate) async fn launch_request(&self, request: &str, remaining: Option<Duration>) -> Result<String> {
        // The overrides contain the request as a JSON string, with escaped quotes.
        let characters = request.chars().count() + request.matches(['"', '\\']).count();
        if characters > MAX_OVERRIDES - OVERRIDES_WITHOUT_REQUEST {
            let message =
                format!("the request is too long for a task: {characters} characters, and ECS accepts about 7,600");
            return Err(Error::new(ErrorKind::EventInvalid, message));
        }
        let work = Work::of_request(request);
        let token = self.token(&work.id);
        match self.run_with_retries(&work, &token, remaining).await? {
            StartedTask::Running { arn } => {
                info!(task = %arn, "started a task for a request");
                Ok(arn)
            }
            StartedTask::Stopped { arn } => {
                info!(task = %arn, "the task of this request has stopped before; its log shows the result");
                Ok(arn)
            }
        }
    }

    async fn run_with_retries(&self, work: &Work, token: &str, remaining: Option<Duration>) -> Result<StartedTask> {
        let budget = remaining.map_or(MAX_BUDGET, |remaining| remaining.min(MAX_BUDGET));
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let error = match self.run(work, token).await {
                Ok(task) => return Ok(task),
                Err(error) => error,
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

    async fn run(&self, work: &Work, token: &str) -> Result<StartedTask> {
        let settings = &self.settings;
        let network = NetworkConfiguration::builder().awsvpc_configuration(self.network()?).build();
        let request = self
            .client
            .run_task()
            .cluster(&settings.cluster)
            .task_definition(&settings.task_definition)
            .platform_version("LATEST")
            .count(1)
            .network_configuration(network)
            .overrides(self.overrides(work))
            .started_by(format!("spillway-{}", work.short_id))
            .propagate_tags(PropagateTags::TaskDefinition)
            .client_token(token);
        // ECS accepts either a launch type or a strategy.
        let request = match settings.capacity {
            TaskCapacity::Fargate => request.launch_type(LaunchType::Fargate),
            TaskCapacity::Spot => request.capacity_provider_strategy(spot()?),
        };
        let response = request.send().await.map_err(|error| failure::of_call(error, &self.settings))?;
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

    fn overrides(&self, work: &Work) -> TaskOverride {
        let pair = |(name, value): &(&str, String)| KeyValuePair::builder().name(*name).value(value).build();
        let container = ContainerOverride::builder()
            .name(&self.settings.container)
            .set_environment(Some(work.variables.iter().map(pair).collect()))
            .build();
        TaskOverride::builder().container_overrides(container).build()
    }

    /// The client token: 64 hex digits, the longest that ECS accepts.
    ///
    /// Contains the settings too: ECS rejects a token that was used with other parameters.
    fn token(&self, id: &str) -> String {
        let settings = &self.settings;
        let (subnets, groups) = (settings.subnets.join(","), settings.security_groups.join(","));
        let public_ip = settings.assign_public_ip.to_string();
        hash_parts(&[
            id,
            &settings.cluster,
            &settings.task_definition,
            &settings.container,
            &subnets,
            &groups,
            &public_ip,
            settings.capacity.name(),
        ])
    }

    /// The started task. A successful response may report a failure and contain no task.
    fn started(&self, response: &RunTaskOutput) -> Result<StartedTask> {
        if let Some(failure) = response.failures().first() {
            return Err(failure::of_response(failure, &self.settings));
        }
        let nothing = || Error::new(ErrorKind::Service, "ECS started no task and returned no reason");
        let task = response.tasks().first().ok_or_else(nothing)?;
        let arn = task.task_arn().unwrap_or("(no ARN)").to_owned();
        let is_stopped = matches!(task.last_status(), Some("STOPPED" | "DEPROVISIONING" | "DELETED"));
        Ok(if is_stopped { StartedTask::Stopped { arn } } else { StartedTask::Running { arn } })
    }
}

/// The strategy that places a task on spare capacity.
fn spot() -> Result<CapacityProviderStrategyItem> {
    CapacityProviderStrategyItem::builder().capacity_provider(SPOT_PROVIDER).weight(1).build().map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot build the capacity strategy of a task").with_source(error)
    })
}
