//! The values that the parameters of the templates accept, and alarms that a local AWS cannot evaluate.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::run;

use super::permissions::template::Template;

/// Compares values with patterns as CloudFormation does: the whole value.
const MATCH: &str = "import json, re, sys; \
                     print(json.dumps([re.fullmatch(pattern, value) is not None for pattern, value in json.loads(sys.argv[1])]))";

/// Whether the parameters of a template accept these values, of a list each item.
pub(super) fn accepted(template: &str, values: &[(&str, String)]) -> Result<Vec<bool>> {
    let template = Template::read_file(template, &[])?;
    let mut pairs = Vec::new();
    for (name, value) in values {
        let pattern = template.document()["Parameters"][*name]["AllowedPattern"].as_str();
        pairs.push((pattern.with_context(|| format!("{name} has no pattern"))?.to_owned(), value));
    }
    let output = Command::new(run::tool("python")?).args(["-c", MATCH, &json!(pairs).to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn ensure_accepted(template: &str, expected: &[(&str, &str, bool)]) -> Result<()> {
    let values: Vec<_> = expected.iter().map(|(name, value, _)| (*name, (*value).to_owned())).collect();
    for (index, is_accepted) in accepted(template, &values)?.into_iter().enumerate() {
        let (name, value, wanted) = expected[index];
        ensure!(is_accepted == wanted, "{template}: {name}={value:?} is accepted: {is_accepted}");
    }
    Ok(())
}

/// S3 compares the prefix of a notification with URL-encoded keys. With other characters it would send no events.
#[test]
fn upload_prefix_needs_no_encoding() -> Result<()> {
    ensure_accepted(
        "template.yaml",
        &[
            ("UploadPrefix", "/", true),
            ("UploadPrefix", "uploads/", true),
            ("UploadPrefix", "data/batch-1/v1.0_(new)!'/", true),
            ("UploadPrefix", "data/env=prod/", false),
            ("UploadPrefix", "new files/", false),
            ("UploadPrefix", "a+b/", false),
            ("UploadPrefix", "größe/", false),
            ("UploadPrefix", "all*/", false),
            ("UploadPrefix", "a/,b/", false),
            ("UploadPrefix", "uploads", false),
            ("MoreUploadPrefixes", "", true),
            ("MoreUploadPrefixes", "data/env=prod/", true),
            ("MoreUploadPrefixes", "new files/", true),
            ("MoreUploadPrefixes", "/", false),
            ("MoreUploadPrefixes", "*/", false),
            // IAM would replace a variable in a policy.
            ("MoreUploadPrefixes", "${aws:username}/", false),
            ("FailedPrefix", "${aws:username}/", false),
            ("ProcessedPrefix", "year=2026/done/", true),
        ],
    )
}

/// A policy that allows an action on the ARN of an alias allows nothing.
#[test]
fn key_is_no_alias() -> Result<()> {
    let keys = [
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        "",
    ];
    let others = [
        "arn:aws:kms:eu-central-1:111122223333:alias/orders",
        "alias/orders",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "*",
    ];
    for (path, count) in [("template.yaml", 4), ("templates/streaming.yaml", 3), ("templates/exports.yaml", 5)] {
        let template = Template::read_file(path, &[])?;
        let parameters = template.document()["Parameters"].as_object().context("no parameters")?;
        let names: Vec<&str> = parameters.keys().map(String::as_str).filter(|name| name.ends_with("KeyArn")).collect();
        ensure!(names.len() == count, "{path}: {names:?}");
        for name in names {
            let accepted = keys.map(|value| (name, value, true));
            ensure_accepted(path, &[&accepted[..], &others.map(|value| (name, value, false))].concat())?;
        }
    }
    Ok(())
}

const WORKGROUP_ARN: &str =
    "arn:aws:redshift-serverless:us-east-1:111122223333:workgroup/0a1b2c3d-1111-2222-3333-444455556666";

/// Rules refuse what Spillway would refuse at its start, or could never reach.
#[rstest]
#[case::workgroup(&[("RedshiftWorkgroup", "warehouse"), ("RedshiftWorkgroupArn", WORKGROUP_ARN)], "")]
#[case::workgroup_with_secret(
    &[("RedshiftWorkgroup", "warehouse"), ("RedshiftWorkgroupArn", WORKGROUP_ARN), ("DatabaseSecretName", "prod/redshift")],
    ""
)]
#[case::cluster_with_user(&[("RedshiftCluster", "main"), ("DatabaseUser", "loader"), ("LoadMode", "merge")], "")]
#[case::no_server(&[], "set either RedshiftWorkgroup or RedshiftCluster")]
#[case::both_servers(
    &[("RedshiftWorkgroup", "warehouse"), ("RedshiftWorkgroupArn", WORKGROUP_ARN), ("RedshiftCluster", "main")],
    "set either RedshiftWorkgroup or RedshiftCluster"
)]
#[case::workgroup_without_arn(&[("RedshiftWorkgroup", "warehouse")], "set RedshiftWorkgroupArn")]
#[case::arn_without_workgroup(&[("RedshiftCluster", "main"), ("RedshiftWorkgroupArn", WORKGROUP_ARN)], "set RedshiftWorkgroup")]
#[case::workgroup_with_user(
    &[("RedshiftWorkgroup", "warehouse"), ("RedshiftWorkgroupArn", WORKGROUP_ARN), ("DatabaseUser", "loader")],
    "leave DatabaseUser empty"
)]
#[case::no_database(&[("RedshiftCluster", "main"), ("DatabaseName", "")], "set DatabaseName")]
#[case::host(&[("RedshiftCluster", "main"), ("DatabaseHost", "main.example.com")], "leave DatabaseHost empty")]
#[case::mirror(&[("RedshiftCluster", "main"), ("LoadMode", "mirror")], "LoadMode is append, replace or merge")]
#[case::added_columns(&[("RedshiftCluster", "main"), ("UnknownColumns", "add")], "UnknownColumns is refuse or ignore")]
#[case::lake(&[("RedshiftCluster", "main"), ("Output", "both"), ("LakePrefix", "lake/")], "Output must be database")]
#[case::tokens(
    &[("RedshiftCluster", "main"), ("DatabaseAuthentication", "iam"), ("DatabaseUser", "loader")],
    "DatabaseAuthentication has no meaning"
)]
#[case::another_engine(&[("DatabaseEngine", "postgres"), ("RedshiftCluster", "main"), ("DatabaseSecretName", "db")], "set DatabaseEngine")]
fn combinations_for_redshift_are_checked(#[case] parameters: &[(&str, &str)], #[case] expected: &str) -> Result<()> {
    let redshift =
        [("BucketName", "data"), ("DatabaseTable", "orders"), ("DatabaseEngine", "redshift"), ("DatabaseName", "dev")];
    let broken = Template::read(&redshift)?.with(parameters)?.broken_rules()?;
    match expected {
        "" => ensure!(broken.is_empty(), "{broken:?}"),
        expected => ensure!(broken.iter().any(|text| text.contains(expected)), "{broken:?}"),
    }
    Ok(())
}

/// Other databases need no parameter of Redshift, and have the rules that they had.
#[test]
fn database_needs_a_secret() -> Result<()> {
    let template = Template::read(&[("BucketName", "data"), ("DatabaseTable", "orders")])?;
    assert_eq!(template.broken_rules()?, ["Set DatabaseSecretName or DatabaseSecretArn"]);
    assert!(template.with(&[("DatabaseSecretName", "db")])?.broken_rules()?.is_empty());
    Ok(())
}

/// A task starts the Glue job, which loads into MySQL, MariaDB and PostgreSQL.
#[test]
fn glue_job_needs_tasks() -> Result<()> {
    let required =
        [("BucketName", "data"), ("DatabaseTable", "orders"), ("DatabaseSecretName", "db"), ("GlueJobName", "large")];
    let template = Template::read(&required)?;
    let broken = template.broken_rules()?;
    ensure!(broken.iter().any(|text| text.contains("With GlueJobName, set SubnetIds")), "{broken:?}");
    let template = template.with(&[("SubnetIds", "subnet-1"), ("SecurityGroupIds", "sg-1")])?;
    assert_eq!(template.broken_rules()?, Vec::<String>::new());
    let broken = template.with(&[("DatabaseEngine", "redshift")])?.broken_rules()?;
    ensure!(broken.iter().any(|text| text.contains("cannot load into Redshift")), "{broken:?}");
    Ok(())
}

/// CloudWatch would replace a period without data by an older one, so the expression counts it as 0 sweeps.
#[test]
fn alarm_on_sweeps_counts_periods_without_data() -> Result<()> {
    let required = [("BucketName", "data"), ("AlarmTopicArn", "arn:aws:sns:us-east-1:111122223333:alarms")];
    let template = Template::read(&required)?.with(&[("SweepAlarmPeriods", "6")])?;
    let alarm =
        template.resolve(&template.document()["Resources"]["NoSweepAlarm"]["Properties"])?.context("no alarm")?;
    let [result, metric] = alarm["Metrics"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        anyhow::bail!("an expression and its metric were expected: {alarm}")
    };
    let id = metric["Id"].as_str().context("the metric has no id")?;
    assert_eq!(result["Expression"], format!("FILL({id}, 0)"));
    assert_eq!((&result["ReturnData"], &metric["ReturnData"]), (&Value::Null, &json!(false)));
    assert_eq!((&metric["MetricStat"]["Period"], &metric["MetricStat"]["Stat"]), (&json!(900), &json!("Sum")));
    assert_eq!((&alarm["EvaluationPeriods"], &alarm["DatapointsToAlarm"]), (&json!("6"), &json!("6")));
    assert_eq!((&alarm["ComparisonOperator"], &alarm["Threshold"]), (&json!("LessThanThreshold"), &json!(1)));
    Ok(())
}
