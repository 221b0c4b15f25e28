//! Requests, retries and failures, with a stub server.

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
        max_tasks: 2,
        capacity: TaskCapacity::Fargate,
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
    launch_with(settings(), responses, budget_ms).await
}

async fn launch_with(
    settings: LaunchSettings,
    responses: Vec<StubResponse>,
    budget_ms: u64,
) -> (Result<String>, Vec<Value>) {
    let aws = StubServer::start(responses).await;
    let launcher = Launcher::new(&aws.config(), settings);
    let result = launcher.launch(&source(Some("v1")), None, Some(Duration::from_millis(budget_ms))).await;
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
        "propagateTags": "TASK_DEFINITION",
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

/// A request is one task, however often it is sent.
#[tokio::test]
async fn task_of_a_request_gets_it_in_a_variable() {
    let aws = StubServer::start(vec![task(ARN, "PENDING"), task(ARN, "STOPPED")]).await;
    let launcher = Launcher::new(&aws.config(), settings());
    for _ in 0..2 {
        assert_eq!(launcher.launch_request(r#"{"sync": {}}"#, None).await.unwrap(), ARN);
    }
    let requests = aws.request_bodies();
    let variables = &requests[0]["overrides"]["containerOverrides"][0]["environment"];
    assert_eq!(variables, &json!([{"name": "TASK_REQUEST", "value": "{\"sync\": {}}"}]));
    assert_eq!(requests[0]["clientToken"], requests[1]["clientToken"]);
    let error = launcher.launch_request(&"x".repeat(8_000), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EventInvalid);
}

/// ECS rejects a request with a launch type and a strategy.
#[tokio::test]
async fn spot_tasks_have_a_strategy_instead_of_a_launch_type() {
    let spot = LaunchSettings { capacity: TaskCapacity::Spot, ..settings() };
    let (result, requests) = launch_with(spot, vec![task(ARN, "PROVISIONING")], 0).await;
    assert_eq!(result.unwrap(), ARN);
    assert_eq!(requests[0]["launchType"], Value::Null);
    let strategy = &requests[0]["capacityProviderStrategy"][0];
    assert_eq!((&strategy["capacityProvider"], &strategy["weight"]), (&json!("FARGATE_SPOT"), &json!(1)));
}

#[tokio::test]
async fn the_token_depends_on_the_object_and_the_settings() {
    let aws = StubServer::start(vec![task(ARN, "RUNNING")]).await;
    let token =
        |settings: LaunchSettings, version| Launcher::new(&aws.config(), settings).token(source(version).id.as_str());
    let base = token(settings(), Some("v1"));
    assert_eq!(base, token(settings(), Some("v1")));
    assert_ne!(base, token(settings(), Some("v2")));
    assert_ne!(base, token(LaunchSettings { task_definition: "spillway:4".into(), ..settings() }, Some("v1")));
    assert_ne!(base, token(LaunchSettings { capacity: TaskCapacity::Spot, ..settings() }, Some("v1")));
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

#[rstest]
#[case(response(200, json!({"clusters": [{"runningTasksCount": 1, "pendingTasksCount": 0}]})), true)]
#[case(response(200, json!({"clusters": [{"runningTasksCount": 1, "pendingTasksCount": 1}]})), false)]
#[case(response(200, json!({"clusters": []})), true)]
#[case(rejection("AccessDeniedException", "no"), true)]
#[tokio::test]
async fn objects_wait_at_the_limit_of_tasks(#[case] response: StubResponse, #[case] may_start: bool) {
    let aws = StubServer::start(vec![response]).await;
    let result = Launcher::new(&aws.config(), settings()).ensure_capacity().await;
    assert_eq!(result.map_err(|error| error.kind()), if may_start { Ok(()) } else { Err(ErrorKind::Throttled) });
}

/// A task that has handed the object to the Glue job has stopped. The next step needs another task, and each duplicate of it none.
#[test]
fn each_step_of_an_object_has_its_own_task() {
    let source = source(None);
    let id = |step| Work::of_object(&source, step).id;
    assert_eq!(id(None), source.id.as_str());
    assert_eq!(id(Some("etag-1")), id(Some("etag-1")));
    assert_ne!(id(Some("etag-1")), id(Some("etag-2")));
    assert_ne!(id(Some("etag-1")), id(None));
}
