//! The template in every combination of its conditions. Some combinations are deployed.
//!
//! An intrinsic function depends on few conditions, and these on few parameters. So every combination of the parameters that
//! matter to one function is evaluated, instead of every combination of all parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::cloud::Cloud;
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::Fixture;
use spillway_test_env::wait;

use super::permissions::template::{Template, is_intrinsic, list};

const LIMIT: Duration = Duration::from_secs(90);

/// The parameters on which conditions depend, each with a value for which they hold and one for which they do not.
const ALTERNATIVES: [(&str, [&str; 2]); 40] = [
    ("UploadPrefix", ["uploads/", "/"]),
    ("TableSettings", ["", "s3://acme/settings/tables.toml"]),
    ("DatabaseAuthentication", ["password", "iam"]),
    ("DatabaseSecretName", ["prod/orders", ""]),
    ("DatabaseEngine", ["", "redshift"]),
    ("DatabaseUser", ["", "loader"]),
    (
        "RedshiftWorkgroupArn",
        ["", "arn:aws:redshift-serverless:us-east-1:111122223333:workgroup/0a1b2c3d-1111-2222-3333-444455556666"],
    ),
    ("CreateBucket", ["true", "false"]),
    ("BucketOwner", ["", "444455556666"]),
    ("RequireTls", ["true", "false"]),
    ("ProcessedDays", ["0", "30"]),
    ("FailedDays", ["0", "30"]),
    ("SubnetIds", ["", "subnet-1,subnet-2"]),
    ("Architecture", ["x86_64", "arm64"]),
    ("TaskCapacity", ["fargate", "spot"]),
    ("DatabaseCaSecretArn", ["", "arn:aws:secretsmanager:us-east-1:111122223333:secret:ca-AbCd12"]),
    ("DatabaseCaSecretKeyArn", ["", "arn:aws:kms:us-east-1:111122223333:key/1"]),
    ("DatabaseSecretKeyArn", ["", "arn:aws:kms:us-east-1:111122223333:key/2"]),
    ("TaskImageUri", ["", "example/spillway:1"]),
    ("TaskImageRepositoryArn", ["", "arn:aws:ecr:eu-west-1:444455556666:repository/spillway"]),
    ("LogKeyArn", ["", "arn:aws:kms:us-east-1:111122223333:key/3"]),
    ("CreateDashboard", ["true", "false"]),
    ("SavedQueries", ["true", "false"]),
    ("DatabaseSecretArn", ["", "arn:aws:secretsmanager:us-east-1:111122223333:secret:db-AbCd12"]),
    ("GlueDatabase", ["", "fallback"]),
    ("LakePrefix", ["", "lake/"]),
    ("LakeDatabase", ["", "tables"]),
    ("CatalogRaw", ["false", "true"]),
    ("RawDatabase", ["", "zone"]),
    ("BucketKeyArn", ["", "arn:aws:kms:us-east-1:111122223333:key/4"]),
    ("EventBusName", ["", "default"]),
    ("PermissionsBoundaryArn", ["", "arn:aws:iam::111122223333:policy/boundary"]),
    ("AlarmTopicArn", ["", "arn:aws:sns:us-east-1:111122223333:alarms"]),
    ("NotificationEmail", ["", "ops@example.com"]),
    ("SyncSchedule", ["", "cron(15 0 * * ? *)"]),
    ("CrawlerNames", ["", "orders,refunds"]),
    ("GlueJobName", ["", "large-files"]),
    ("ExtractPrefix", ["", "data/batch/"]),
    ("ExtractSecretArns", ["", "arn:aws:secretsmanager:us-east-1:111122223333:secret:shop-AbCd12"]),
    ("ExtractSchedule", ["", "cron(0 2 * * ? *)"]),
];
/// Further ones, with more than two values.
const LEVELS: [(&str, [&str; 3]); 3] = [
    ("LogLevel", ["INFO", "WARN", "ERROR"]),
    ("ScheduleState", ["ENABLED", "DISABLED", "DISABLED"]),
    ("MoreUploadPrefixes", ["", "incoming/,late/", "a/,b/,c/,d/,e/"]),
];
const REQUIRED: [(&str, &str); 3] =
    [("BucketName", "data"), ("DatabaseSecretName", "prod/orders"), ("DatabaseTable", "orders")];

/// The values of a parameter that conditions tell apart.
fn alternatives(parameter: &str) -> Result<&'static [&'static str]> {
    let two = ALTERNATIVES.iter().find(|(name, _)| *name == parameter).map(|(_, values)| &values[..]);
    let more = || LEVELS.iter().find(|(name, _)| *name == parameter).map(|(_, values)| &values[..]);
    two.or_else(more).with_context(|| format!("a condition depends on {parameter}, of which this test knows no values"))
}

/// A part of the template whose value depends on conditions: where it is, the condition of its resource, and its value.
struct Part<'a> {
    place: String,
    condition: Option<&'a str>,
    value: &'a Value,
}

/// The intrinsic functions of a value, outermost first. Each is evaluated with everything inside it.
fn add_parts<'a>(value: &'a Value, place: &str, condition: Option<&'a str>, parts: &mut Vec<Part<'a>>) {
    match value {
        Value::Object(fields) if fields.len() == 1 && fields.keys().all(|name| is_intrinsic(name)) => {
            parts.push(Part { place: place.to_owned(), condition, value });
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                add_parts(field, &format!("{place}.{name}"), condition, parts);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add_parts(item, &format!("{place}[{index}]"), condition, parts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every part of the resources and outputs.
fn parts(template: &Template) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    for section in ["Resources", "Outputs"] {
        let entries = template.document()[section].as_object().with_context(|| format!("no {section}"))?;
        for (name, entry) in entries {
            let condition = entry["Condition"].as_str();
            let content = if section == "Outputs" { &entry["Value"] } else { &entry["Properties"] };
            add_parts(content, &format!("{section}.{name}"), condition, &mut parts);
        }
    }
    Ok(parts)
}

/// The parameters on which the conditions in a part depend, also those of the resources that it names.
fn parameters_of(template: &Template, part: &Part<'_>) -> Result<BTreeSet<String>> {
    let mut conditions: BTreeSet<String> = part.condition.into_iter().map(str::to_owned).collect();
    add_conditions(template, part.value, &mut conditions);
    let mut parameters = BTreeSet::new();
    for condition in conditions {
        let definition = &template.document()["Conditions"][&condition];
        ensure!(!definition.is_null(), "{} uses the unknown condition {condition}", part.place);
        add_parameters(template, definition, &mut parameters);
    }
    Ok(parameters)
}

fn add_conditions(template: &Template, value: &Value, conditions: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            // The names in a text of Sub.
            let names = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
            conditions.extend(names.filter_map(|name| condition_of(template, name)));
        }
        Value::Array(items) => items.iter().for_each(|item| add_conditions(template, item, conditions)),
        Value::Object(fields) => {
            for (name, argument) in fields {
                match (name.as_str(), list(argument)) {
                    ("Ref" | "Fn::GetAtt", [Value::String(name), ..]) => {
                        conditions.extend(condition_of(template, name));
                    }
                    ("Fn::If", [Value::String(condition), ..]) => {
                        conditions.insert(condition.clone());
                    }
                    _ => {}
                }
                add_conditions(template, argument, conditions);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The condition of the resource that a reference names, such as `Bucket` or `Bucket.Arn`.
fn condition_of(template: &Template, reference: &str) -> Option<String> {
    let resource = reference.split('.').next().unwrap_or_default();
    template.document()["Resources"][resource]["Condition"].as_str().map(str::to_owned)
}

fn add_parameters(template: &Template, condition: &Value, parameters: &mut BTreeSet<String>) {
    match condition {
        Value::Object(fields) => {
            for (name, argument) in fields {
                match (name.as_str(), argument.as_str()) {
                    ("Ref", Some(parameter)) => {
                        parameters.insert(parameter.to_owned());
                    }
                    ("Condition", Some(other)) => {
                        add_parameters(template, &template.document()["Conditions"][other], parameters);
                    }
                    _ => add_parameters(template, argument, parameters),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| add_parameters(template, item, parameters)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every combination of the values of these parameters.
fn combinations(parameters: &BTreeSet<String>) -> Result<Vec<Vec<(&str, &'static str)>>> {
    let mut all = vec![Vec::new()];
    for parameter in parameters {
        let mut longer = Vec::new();
        for combination in &all {
            for value in alternatives(parameter)? {
                longer.push([&combination[..], &[(parameter.as_str(), *value)]].concat());
            }
        }
        all = longer;
    }
    Ok(all)
}

/// Evaluates every part in every combination. Returns the number of parts and of evaluations.
fn resolve_all(template: &Template) -> Result<(usize, usize)> {
    let mut evaluated = 0;
    let parts = parts(template)?;
    let mut known: BTreeMap<BTreeSet<String>, Vec<Template>> = BTreeMap::new();
    for part in &parts {
        let parameters = parameters_of(template, part)?;
        if !known.contains_key(&parameters) {
            let combinations = combinations(&parameters)?;
            let templates: Result<Vec<_>> =
                combinations.iter().map(|combination| template.clone().with(combination)).collect();
            known.insert(parameters.clone(), templates?);
        }
        for template in &known[&parameters] {
            if part.condition.map_or(Ok(true), |condition| template.holds(condition))? {
                template.resolve(part.value).with_context(|| format!("{} with {parameters:?}", part.place))?;
                evaluated += 1;
            }
        }
    }
    Ok((parts.len(), evaluated))
}

#[test]
fn every_combination_of_conditions_resolves() -> Result<()> {
    let template = Template::read(&REQUIRED)?;
    let conditions = template.document()["Conditions"].as_object().context("no conditions")?;
    let mut parameters = BTreeSet::new();
    conditions.values().for_each(|condition| add_parameters(&template, condition, &mut parameters));
    let known = ALTERNATIVES.iter().map(|(name, _)| *name).chain(LEVELS.iter().map(|(name, _)| *name));
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    ensure!(parameters == known, "only in the template or only here: {:?}", parameters.symmetric_difference(&known));
    let (parts, evaluated) = resolve_all(&template)?;
    println!("{} conditions, {parts} parts, {evaluated} evaluations", conditions.len());
    ensure!(parts > 200 && evaluated > parts, "{parts} parts, {evaluated} evaluations");
    Ok(())
}

/// The example with network and database.
#[test]
fn complete_example_resolves() -> Result<()> {
    let template = Template::read_file("examples/complete.yaml", &[("BucketName", "data")])?;
    for engine in ["postgres", "mysql"] {
        for email in ["", "ops@example.com"] {
            let template = template.clone().with(&[("Engine", engine), ("NotificationEmail", email)])?;
            for part in parts(&template)? {
                template.resolve(part.value).with_context(|| format!("{} with {engine}", part.place))?;
            }
        }
    }
    Ok(())
}

#[test]
fn dangling_reference_is_found() -> Result<()> {
    let template = Template::read(&REQUIRED)?;
    let value = json!({"Fn::If": ["UsesOwnBucket", {"Ref": "Bucket"}, ""]});
    let part = Part { place: "test".to_owned(), condition: None, value: &value };
    let parameters = parameters_of(&template, &part)?;
    assert_eq!(parameters.iter().collect::<Vec<_>>(), ["CreateBucket"]);
    let results: Vec<bool> = combinations(&parameters)?
        .iter()
        .map(|combination| template.clone().with(combination).and_then(|template| template.resolve(&value)).is_ok())
        .collect();
    assert_eq!(results, [true, false]);
    Ok(())
}

/// Deploys combinations that no other test deploys, and loads a file where the parameters name a database.
#[rstest]
#[case::bucket_that_exists(&["CreateBucket=false", "SubnetIds=", "SecurityGroupIds=", "CreateDashboard=false"])]
#[ignore = "deploys three more stacks; part of `make test-stack`"]
#[case::whole_bucket_and_patterns(&[
    "UploadPrefix=/", "TablePattern=*/{table}.csv", "DatabaseTable=", "Architecture=arm64", "LogLevel=ERROR",
    "AlarmTopicArn=arn:aws:sns:us-east-1:111122223333:alarms", "EventBusName=default", "ProcessedDays=30", "FailedDays=30",
])]
#[ignore = "deploys three more stacks; part of `make test-stack`"]
#[case::several_prefixes_and_own_image(&[
    "MoreUploadPrefixes=incoming/,late/", "TaskImageUri=example/spillway:1", "TaskCapacity=spot", "GlueDatabase=own",
    "NotificationEmail=ops@example.com", "ScheduleState=ENABLED", "BucketVersioning=Suspended", "LakePrefix=lake/", "Output=both",
    "SyncSchedule=cron(15 0 * * ? *)", "SyncTimeZone=Australia/Sydney",
])]
#[ignore = "deploys three more stacks; part of `make test-stack`"]
#[case::tokens_certificates_and_keys(&[
    "DatabaseAuthentication=iam", "DatabaseUser=loader", "DatabaseHost=db.example.com", "DatabaseName=shop",
    "DatabaseEngine=postgres", "DatabaseSecretName=", "DatabaseCaFile=", "GlueDatabase=",
    "DatabaseCaSecretArn=arn:aws:secretsmanager:us-east-1:111122223333:secret:ca-AbCd12",
    "DatabaseCaSecretKeyArn=arn:aws:kms:us-east-1:111122223333:key/1", "BucketKeyArn=arn:aws:kms:us-east-1:111122223333:key/2",
    "LogKeyArn=arn:aws:kms:us-east-1:111122223333:key/3", "PermissionsBoundaryArn=arn:aws:iam::aws:policy/AdministratorAccess",
])]
#[tokio::test]
async fn combination_of_parameters_is_deployed(#[case] parameters: &[&str]) -> Result<()> {
    let (server, cloud) = (Database::start(Engine::MariaDb, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let mut account = cloud.account_without_bucket().await?;
    account.bucket = format!("spillway-combination-{}", account.id);
    let is_existing = parameters.contains(&"CreateBucket=false");
    if is_existing {
        create_bucket_with_events(&account).await?;
    }
    let stack = Deployment::deploy_into(account, "combination", &server, &schema, parameters).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);
    if parameters.contains(&"DatabaseAuthentication=iam") {
        return Ok(());
    }
    fixture.upload("uploads/orders.csv", 20).await?;
    let loaded = wait::until("the file to be loaded", LIMIT, async || {
        Ok(fixture.account.keys("uploads/").await?.is_empty() && fixture.account.keys("lease/").await?.is_empty())
    });
    stack.with_logs(loaded.await).await?;
    fixture.glue_database = stack.output("GlueDatabaseName")?.to_owned();
    assert_eq!(fixture.count(&server).await?.database, 20);
    fixture.ensure_exactly_once(&server).await
}

/// A bucket that sends its events to EventBridge.
async fn create_bucket_with_events(account: &spillway_test_env::cloud::Account) -> Result<()> {
    use aws_sdk_s3::types::{EventBridgeConfiguration, NotificationConfiguration};
    let events = NotificationConfiguration::builder();
    let events = events.event_bridge_configuration(EventBridgeConfiguration::builder().build()).build();
    account.s3.create_bucket().bucket(&account.bucket).send().await?;
    let change = account.s3.put_bucket_notification_configuration().bucket(&account.bucket);
    change.notification_configuration(events).send().await?;
    Ok(())
}
