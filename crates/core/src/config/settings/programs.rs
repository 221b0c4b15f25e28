//! Tasks, outcomes, the default request, logs, and values from the platform.

use tracing_subscriber::filter::LevelFilter;

use super::storage::PREFIX;
use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Setting, Template, Value, settings};
use crate::launch::TaskCapacity;
use crate::request::PrefixMode;
use crate::telemetry::LogFormat;

settings! { Tasks TASKS {
    /// Larger objects go to a Fargate task, if tasks are set up. A compressed object counts as ten times its size.
    INLINE_MAX_BYTES: u64 = Value::number("number of bytes", 0, u64::MAX),
        Trigger, Template::Parameter("InlineMaxBytes"), default "104857600";

    /// ECS cluster of the task. If it is unset, no task is started.
    ECS_CLUSTER: String = Value::text("the name or ARN of a cluster"), Functions, Template::Fixed;

    /// Task definition. Required with `ECS_CLUSTER`.
    TASK_DEFINITION: String = Value::text("family:revision or an ARN"), Functions, Template::Fixed;

    /// Container that gets the object in its environment. Required with `ECS_CLUSTER`.
    CONTAINER_NAME: String = Value::text("the name of a container"), Functions, Template::Fixed;

    /// Subnets of the task. Fargate rejects a task without a subnet.
    SUBNETS: Vec<String> =
        Value::list("subnet ids separated by commas"), Functions, Template::Parameter("SubnetIds");

    /// Security groups of the task. Defaults to the default group of the VPC.
    SECURITY_GROUPS: Vec<String> =
        Value::list("security group ids separated by commas"), Functions, Template::Parameter("SecurityGroupIds");

    /// Largest number of tasks in the cluster. At the limit, further large objects wait. Tasks that start at the same moment
    /// can exceed it.
    MAX_TASKS: u64 = Value::number("number of tasks", 1, 5_000), Functions, Template::Parameter("MaxTasks"), default "20";

    /// `fargate` runs tasks on capacity that AWS does not reclaim. `spot` runs them on spare capacity, which costs about a third.
    /// The next sweep starts an interrupted load again.
    TASK_CAPACITY: TaskCapacity = Value::Choice(&[
        Choice::new("fargate", TaskCapacity::Fargate),
        Choice::new("spot", TaskCapacity::Spot),
    ]), Functions, Template::Parameter("TaskCapacity"), default "fargate";

    /// Whether the task gets a public IP address.
    ASSIGN_PUBLIC_IP: bool = Value::Choice(&[Choice::new("DISABLED", false), Choice::new("ENABLED", true)]),
        Functions, Template::Parameter("AssignPublicIp"), default "DISABLED";

    /// Glue job that loads the largest files (`templates/glue.yaml`), if it can read them. If it is unset, tasks load all files
    /// above `INLINE_MAX_BYTES`. See [tiers](tiers.md#hand-files-to-the-job).
    GLUE_JOB: String = Value::text("the name of a job"), All, Template::Parameter("GlueJobName");

    /// Smallest size, as stored, of the files for `GLUE_JOB`.
    GLUE_MIN_BYTES: u64 = Value::number("number of bytes", 1, u64::MAX),
        All, Template::Parameter("GlueMinBytes"), default "107374182400";

    /// Destination of the plans for `GLUE_JOB`, and of small objects with the ids of its runs. The job must be able to read it.
    GLUE_JOB_PREFIX: String = PREFIX, All, Template::Parameter("GlueJobPrefix"), default "glue/";
}}

settings! { Outcomes OUTCOMES {
    /// EventBridge bus for events about outcomes, such as `default`. If it is unset, no events are published.
    EVENT_BUS: String = Value::text("the name or ARN of an event bus"), All, Template::Parameter("EventBusName");

    /// Name in metrics and events, which tells the stacks of one account apart.
    STACK_NAME: String = Value::text("the name of a stack"), All, Template::Fixed, default "spillway";

    /// SQS queue whose messages the trigger function receives. With it, a failed message is received again after one minute,
    /// then after two, up to 15. Without it, the message waits for the visibility timeout of its queue. A check tests the
    /// queue and the events of the bucket.
    UPLOAD_QUEUE_URL: String = Value::text("the URL of a queue"), Functions, Template::Fixed;
}}

settings! { Request REQUEST {
    /// The one object to load. Takes precedence over `CSV_PREFIX`.
    CSV_KEY: String = Value::text("an object key"), IngestAndTask, Template::NotSet;

    /// Version of `CSV_KEY` to load. Defaults to the latest version.
    CSV_VERSION_ID: String = Value::text("a version id"), IngestAndTask, Template::NotSet;

    /// Loads the objects under this prefix. The task defaults to every prefix in `UPLOAD_PREFIX`.
    CSV_PREFIX: String = Value::text("a key prefix"), IngestAndTask, Template::NotSet;

    /// `all` loads every object under the prefix, oldest first. `latest` loads the most recently modified object.
    CSV_MODE: PrefixMode = Value::Choice(&[Choice::new("all", PrefixMode::All), Choice::new("latest", PrefixMode::Latest)]),
        IngestAndTask, Template::NotSet, default "all";

    /// Any request of the ingest function, such as `{"sync": {}}`. The task runs it instead of loading an object.
    TASK_REQUEST: String = Value::text("a request as JSON"), Task, Template::NotSet;
}}

settings! { Logs LOGS {
    /// Least important messages to log. In a function, the less verbose of this and `AWS_LAMBDA_LOG_LEVEL` counts.
    LOG_LEVEL: LevelFilter = LEVELS, All, Template::Parameter("LogLevel"), default "info";

    /// Format of log lines. Takes precedence over `AWS_LAMBDA_LOG_FORMAT`.
    LOG_FORMAT: LogFormat = FORMATS, All, Template::Fixed, default "json";

    /// Log level for each module. Takes precedence over `LOG_LEVEL` outside functions.
    RUST_LOG: String =
        Value::text("modules with levels, such as warn,spillway=debug"), All, Template::NotSet;

    /// Any value turns off the colors of commands in a terminal.
    NO_COLOR: String = Value::text("any text"), CommandLine, Template::NotSet;
}}

settings! { Platform PLATFORM {
    /// Log level of the function. Set by AWS Lambda.
    AWS_LAMBDA_LOG_LEVEL: LevelFilter = LEVELS, Functions, Template::NotSet;

    /// Log format of the function. Set by AWS Lambda.
    AWS_LAMBDA_LOG_FORMAT: LogFormat = FORMATS, Functions, Template::NotSet;

    /// Name of the worker in leases and the ledger. Set by AWS Lambda.
    AWS_LAMBDA_LOG_STREAM_NAME: String = Value::text("the name of a log stream"), Functions, Template::NotSet;

    /// Memory of the function, to compute the cost of a load. Set by AWS Lambda.
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: u32 = MEGABYTES, Functions, Template::NotSet;

    /// Name of the worker in leases and the ledger, outside AWS Lambda. Without it, the system's host name is used.
    HOSTNAME: String = Value::text("a host name"), Task, Template::NotSet;

    /// CPU units of the task, to compute the cost of a load. 1024 units are one vCPU.
    TASK_CPU: u32 = Value::number("number of CPU units", 1, 1_000_000), Task, Template::Parameter("TaskCpu");

    /// Memory of the task, to compute the cost of a load.
    TASK_MEMORY: u32 = MEGABYTES, Task, Template::Parameter("TaskMemory");
}}

settings! { Testing TESTING {
    /// Failpoint at which the process waits, or panics (`NAME:panic`). With `every:trace`, the file lists each failpoint that was reached.
    SPILLWAY_FAILPOINT: String = Value::text("the name of a failpoint"), TestBuilds, Template::NotSet;

    /// File that the process creates at the failpoint. It continues when the file is deleted.
    SPILLWAY_FAILPOINT_FILE: String = Value::text("a path"), TestBuilds, Template::NotSet;
}}

const MEGABYTES: Value<u32> = Value::number("number of megabytes", 1, 1_000_000);

const FORMATS: Value<LogFormat> =
    Value::Choice(&[Choice::new("json", LogFormat::Json), Choice::new("text", LogFormat::Text)]);

const LEVELS: Value<LevelFilter> = Value::Choice(&[
    Choice::new("trace", LevelFilter::TRACE),
    Choice::new("debug", LevelFilter::DEBUG),
    Choice::new("info", LevelFilter::INFO),
    Choice { name: "warn", aliases: &["warning"], value: LevelFilter::WARN },
    Choice { name: "error", aliases: &["fatal", "critical"], value: LevelFilter::ERROR },
    Choice::new("off", LevelFilter::OFF),
]);
