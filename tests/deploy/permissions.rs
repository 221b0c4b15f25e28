//! The template's roles allow every AWS operation that the code calls, and nothing else.
//!
//! [`CODE`] and [`SERVICES`] list the actions that each role needs on each resource. The tests compare them with the
//! operations in the source and with the policies in `template.yaml`.
//!
//! IAM's rules for the actions of a request:
//!
//! - A request with a version needs `GetObjectVersion`.
//! - A copy reads its source and the tags of its source.
//! - A conditional write needs `PutObject`.
//! - S3 returns 404 instead of 403 for a missing key only to callers that may list the bucket.

mod calls;
mod exports;
mod policy;
mod size;
mod streaming;
mod targets;
pub(crate) mod template;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};

use policy::{Role, Target};
use targets::{S3_RESOURCES, targets};
use template::{Template, list};

/// The operations that the code calls.
const CODE: &str = "
operation               | roles               | resources                         | actions
HeadObject              | trigger ingest task | uploads rejected                  | s3:GetObject s3:GetObjectVersion
HeadObject              | trigger ingest task | processed failed fallback lake    | s3:GetObject
HeadObject              | ingest              | failed                            | s3:GetObjectVersion
HeadObject              | ingest task         | extracts                          | s3:GetObject
GetObject               | ingest task         | extracts                          | s3:GetObject
PutObject               | ingest task         | extracts                          | s3:PutObject
CreateMultipartUpload   | ingest task         | extracts                          | s3:PutObject
UploadPart              | ingest task         | extracts                          | s3:PutObject
CompleteMultipartUpload | ingest task         | extracts                          | s3:PutObject
AbortMultipartUpload    | ingest task         | extracts                          | s3:AbortMultipartUpload
GetSecretValue          | ingest task         | source-secrets                    | secretsmanager:GetSecretValue
GetObject               | trigger ingest task | uploads rejected                  | s3:GetObject s3:GetObjectVersion
GetObject               | trigger ingest task | fallback lake lease               | s3:GetObject
GetObject               | ingest              | fallback lake failed              | s3:GetObject s3:GetObjectVersion
GetObject               | trigger ingest task | bucket                            | s3:ListBucket
PutObject               | trigger ingest task | failed fallback lake lease copied | s3:PutObject
DeleteObject            | trigger ingest task | uploads rejected                  | s3:DeleteObject s3:DeleteObjectVersion s3:GetObject
DeleteObject            | trigger ingest task | lease                             | s3:DeleteObject s3:GetObject
DeleteObject            | trigger ingest task | fallback lake copied              | s3:DeleteObject
DeleteObject            | ingest              | failed                            | s3:DeleteObject s3:DeleteObjectVersion s3:GetObject
CopyObject              | trigger ingest task | uploads rejected                  | s3:GetObject s3:GetObjectVersion s3:GetObjectTagging s3:GetObjectVersionTagging
CopyObject              | ingest              | failed                            | s3:GetObject s3:GetObjectVersion s3:GetObjectTagging s3:GetObjectVersionTagging
CopyObject              | trigger ingest task | processed failed                  | s3:PutObject s3:PutObjectTagging
CreateMultipartUpload   | trigger ingest task | processed failed fallback lake rejected copied | s3:PutObject
UploadPart              | trigger ingest task | fallback lake rejected copied     | s3:PutObject
UploadPartCopy          | trigger ingest task | uploads rejected                  | s3:GetObject s3:GetObjectVersion
UploadPartCopy          | ingest              | failed                            | s3:GetObject s3:GetObjectVersion
UploadPartCopy          | trigger ingest task | processed failed                  | s3:PutObject
CompleteMultipartUpload | trigger ingest task | processed failed fallback lake rejected copied | s3:PutObject
AbortMultipartUpload    | trigger ingest task | processed failed fallback lake rejected copied | s3:AbortMultipartUpload
ListObjectsV2           | trigger ingest task | bucket                            | s3:ListBucket
ListMultipartUploads    | trigger ingest task | bucket                            | s3:ListBucketMultipartUploads
GetDatabase             | trigger ingest task | glue-database lake-database raw-database | glue:GetDatabase
CreateDatabase          | trigger ingest task | glue-database lake-database raw-database | glue:CreateDatabase
GetTable                | trigger ingest task | glue-table lake-table raw-table   | glue:GetTable
CreateTable             | trigger ingest task | glue-table lake-table raw-table   | glue:CreateTable
UpdateTable             | trigger ingest task | glue-table lake-table raw-table   | glue:UpdateTable
GetPartition            | trigger ingest task | glue-table lake-table raw-table   | glue:GetPartition
CreatePartition         | trigger ingest task | glue-table lake-table raw-table   | glue:CreatePartition
BatchUpdatePartition    | trigger ingest task | glue-table lake-table raw-table   | glue:BatchUpdatePartition
DeletePartition         | trigger ingest task | glue-table lake-table             | glue:DeletePartition
GetSecretValue          | trigger ingest task | secret                            | secretsmanager:GetSecretValue
GetSecretValue          | trigger ingest task | secret-key                        | kms:Decrypt
GetObject               | trigger ingest task | bucket-key                        | kms:Decrypt
PutObject               | trigger ingest task | bucket-key                        | kms:GenerateDataKey
GetObject               | trigger ingest task | glue-runs                         | s3:GetObject
PutObject               | task                | glue-plans glue-runs              | s3:PutObject
DeleteObject            | task                | glue-plans glue-runs              | s3:DeleteObject
GetJobRun               | trigger ingest task | glue-job                          | glue:GetJobRun
GetJobRuns              | task                | glue-job                          | glue:GetJobRuns
GetJob                  | trigger ingest task | glue-job                          | glue:GetJob
StartJobRun             | task                | glue-job                          | glue:StartJobRun
PutEvents               | trigger ingest task | event-bus                         | events:PutEvents
ChangeMessageVisibility | trigger             | upload-queue                      | sqs:ChangeMessageVisibility
GetQueueAttributes      | ingest              | upload-queue                      | sqs:GetQueueAttributes
GetBucketNotificationConfiguration | ingest   | bucket                            | s3:GetBucketNotification
ListTasks               | ingest              | container-instances               | ecs:ListTasks
DescribeTasks           | ingest              | task-of-cluster                   | ecs:DescribeTasks
GetSecretValue          | trigger ingest task | ca-secret                         | secretsmanager:GetSecretValue
GetSecretValue          | trigger ingest task | ca-secret-key                     | kms:Decrypt
DescribeClusters        | trigger ingest      | cluster                           | ecs:DescribeClusters
RunTask                 | trigger ingest      | task-definition                   | ecs:RunTask
RunTask                 | trigger ingest      | task-roles                        | iam:PassRole
RunTask                 | trigger ingest      | tasks                             | ecs:TagResource
BatchExecuteStatement   | trigger ingest task | redshift                          | redshift-data:BatchExecuteStatement
BatchExecuteStatement   | trigger ingest task | redshift-workgroup-login          | redshift-serverless:GetCredentials
BatchExecuteStatement   | trigger ingest task | redshift-user-login               | redshift:GetClusterCredentials
BatchExecuteStatement   | trigger ingest task | redshift-role-login               | redshift:GetClusterCredentialsWithIAM
DescribeStatement       | trigger ingest task | own-statements                    | redshift-data:DescribeStatement
GetStatementResult      | trigger ingest task | own-statements                    | redshift-data:GetStatementResult
";

/// The operations of Lambda, ECS and the scheduler with the same roles, or with roles of their own.
const SERVICES: &str = "
operation               | roles               | resources                         | actions
write the log           | trigger             | trigger-log                       | logs:CreateLogStream logs:PutLogEvents
write the log           | ingest              | ingest-log                        | logs:CreateLogStream logs:PutLogEvents
write the log           | execution           | task-log                          | logs:CreateLogStream logs:PutLogEvents
receive uploads         | trigger             | upload-queue                      | sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes
report a failed event   | trigger ingest      | failure-queue                     | sqs:SendMessage
attach to the VPC       | trigger ingest      | interfaces                        | ec2:CreateNetworkInterface ec2:DescribeNetworkInterfaces ec2:DescribeSubnets ec2:DeleteNetworkInterface ec2:AssignPrivateIpAddresses ec2:UnassignPrivateIpAddresses
start a request         | schedule            | ingest-function                   | lambda:InvokeFunction
report a failed start   | schedule            | failure-queue                     | sqs:SendMessage
pull the image          | execution           | registry                          | ecr:GetAuthorizationToken
pull the image          | execution           | image                             | ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer
";

/// The ARN of a workgroup of Redshift Serverless.
const WORKGROUP_ARN: &str =
    "arn:aws:redshift-serverless:us-east-1:111122223333:workgroup/0a1b2c3d-1111-2222-3333-444455556666";

/// Parameters without defaults.
const REQUIRED: [(&str, &str); 3] =
    [("BucketName", "data"), ("DatabaseSecretName", "prod/orders"), ("DatabaseTable", "orders")];

/// A line of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    operation: &'static str,
    roles: Vec<&'static str>,
    resources: Vec<&'static str>,
    actions: Vec<&'static str>,
}

impl Need {
    fn read(table: &'static str) -> Result<Vec<Self>> {
        let lines = table.trim().lines().skip(1);
        let words = |column: &'static str| column.split_whitespace().collect();
        lines
            .map(|line| {
                let columns: Vec<&'static str> = line.split('|').map(str::trim).collect();
                let [operation, roles, resources, actions] = columns[..] else {
                    anyhow::bail!("not four columns: {line}")
                };
                Ok(Self { operation, roles: words(roles), resources: words(resources), actions: words(actions) })
            })
            .collect()
    }

    fn all() -> Result<Vec<Self>> {
        Ok([Self::read(CODE)?, Self::read(SERVICES)?].concat())
    }

    fn concerns(&self, role: &Role) -> Result<bool> {
        self.roles.iter().try_fold(false, |found, name| Ok(found || role_name(name)? == role.name))
    }

    fn targets(&self, template: &Template) -> Result<Vec<Target>> {
        let targets: Result<Vec<_>> = self.resources.iter().map(|name| targets(name, template)).collect();
        Ok(targets?.concat())
    }
}

/// The logical name of a role.
fn role_name(name: &str) -> Result<&'static str> {
    Ok(match name {
        "trigger" => "TriggerRole",
        "ingest" => "IngestRole",
        "task" => "TaskRole",
        "execution" => "TaskExecutionRole",
        "schedule" => "SchedulerRole",
        _ => anyhow::bail!("the tables name an unknown role: {name}"),
    })
}

fn template(parameters: &[(&str, &str)]) -> Result<Template> {
    Template::read(&[&REQUIRED, parameters].concat())
}

#[test]
fn table_lists_every_operation_in_the_source() -> Result<()> {
    let called: BTreeSet<String> = calls::operations()?.into_keys().collect();
    let named: BTreeSet<String> = Need::read(CODE)?.iter().map(|need| need.operation.to_owned()).collect();
    let difference: Vec<_> = called.symmetric_difference(&named).collect();
    ensure!(difference.is_empty(), "only in the source or only in the table: {difference:?}; called: {called:?}");
    Ok(())
}

#[rstest]
#[case::defaults(&[])]
#[case::network_key_and_image(&[
    ("SubnetIds", "subnet-1"), ("SecurityGroupIds", "sg-1"), ("TaskImageUri", "example/spillway:1"),
    ("DatabaseSecretKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1"),
])]
#[case::secret_by_arn(&[("DatabaseSecretArn", "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-1-AbCd12")])]
#[case::certificates_in_a_secret(&[("DatabaseCaSecretArn", "arn:aws:secretsmanager:us-east-1:111122223333:secret:ca-AbCd12")])]
#[case::certificates_with_a_key(&[
    ("DatabaseCaSecretArn", "arn:aws:secretsmanager:us-east-1:111122223333:secret:ca-AbCd12"),
    ("DatabaseCaSecretKeyArn", "arn:aws:kms:us-east-1:111122223333:key/3"),
])]
#[case::image_of_another_account(&[
    ("TaskImageUri", "444455556666.dkr.ecr.eu-west-1.amazonaws.com/spillway:1"),
    ("TaskImageRepositoryArn", "arn:aws:ecr:eu-west-1:444455556666:repository/spillway"),
])]
#[case::bucket_of_another_account(&[("CreateBucket", "false"), ("BucketOwner", "444455556666")])]
#[case::own_glue_database(&[("GlueDatabase", "fallback")])]
#[case::bucket_key_and_events(&[("BucketKeyArn", "arn:aws:kms:us-east-1:111122223333:key/2"), ("EventBusName", "default")])]
#[case::several_upload_prefixes(&[("MoreUploadPrefixes", "incoming/,late/")])]
#[case::many_upload_prefixes(&[("MoreUploadPrefixes", "a/,b/,c/,d/,e/")])]
#[case::whole_bucket(&[("UploadPrefix", "/")])]
#[case::table_pattern(&[("TablePattern", "uploads/{table}/**")])]
#[case::lake(&[("LakePrefix", "lake/"), ("Output", "both")])]
#[case::raw_zone(&[("AfterLoad", "keep"), ("CatalogRaw", "true")])]
#[case::own_raw_database(&[("RawDatabase", "zone")])]
#[case::own_lake_database(&[("LakePrefix", "lake/"), ("LakeDatabase", "tables")])]
#[case::extracts(&[
    ("ExtractPrefix", "data/batch/"),
    ("ExtractSecretArns", "arn:aws:secretsmanager:us-east-1:111122223333:secret:shop-AbCd12"),
])]
#[case::glue_job(&[("GlueJobName", "large-files"), ("SubnetIds", "subnet-1"), ("SecurityGroupIds", "sg-1")])]
#[case::redshift_workgroup(&[
    ("DatabaseEngine", "redshift"), ("RedshiftWorkgroup", "warehouse"), ("RedshiftWorkgroupArn", WORKGROUP_ARN),
    ("DatabaseName", "dev"), ("DatabaseSecretName", ""),
])]
#[case::redshift_workgroup_with_secret_and_tasks(&[
    ("DatabaseEngine", "redshift"), ("RedshiftWorkgroup", "warehouse"), ("RedshiftWorkgroupArn", WORKGROUP_ARN),
    ("DatabaseName", "dev"), ("SubnetIds", "subnet-1"), ("SecurityGroupIds", "sg-1"), ("RedshiftCopyPrefix", "to-redshift/"),
])]
#[case::redshift_cluster_with_user(&[
    ("DatabaseEngine", "redshift"), ("RedshiftCluster", "main"), ("DatabaseName", "dev"), ("DatabaseUser", "loader"),
    ("DatabaseSecretName", ""),
])]
#[case::redshift_cluster_with_role(&[
    ("DatabaseEngine", "redshift"), ("RedshiftCluster", "main"), ("DatabaseName", "dev"), ("DatabaseSecretName", ""),
    ("RedshiftCopyRole", "arn:aws:iam::111122223333:role/copy"),
])]
#[case::redshift_cluster_with_secret(&[("DatabaseEngine", "redshift"), ("RedshiftCluster", "main"), ("DatabaseName", "dev")])]
#[case::other_prefixes(&[("UploadPrefix", "in/"), ("ProcessedPrefix", "done/"), ("FailedPrefix", "bad/"), ("FallbackPrefix", "fb/")])]
fn roles_allow_exactly_the_table(#[case] parameters: &[(&str, &str)]) -> Result<()> {
    let template = template(parameters)?;
    let (roles, needs) = (template.roles()?, Need::all()?);
    let mut problems = missing_permissions(&template, &roles, &needs)?;
    problems.extend(unused_permissions(&template, &roles, &needs)?);
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The actions that the table needs and a role does not allow.
fn missing_permissions(template: &Template, roles: &[Role], needs: &[Need]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for need in needs {
        for name in &need.roles {
            let wanted = role_name(name)?;
            let role = roles.iter().find(|role| role.name == wanted).with_context(|| format!("no role {wanted}"))?;
            for target in need.targets(template)? {
                let missing = need.actions.iter().filter(|action| !role.allows(action, &target));
                problems.extend(missing.map(|action| {
                    format!("{} may not {action} on {}, which {} needs", role.name, target.arn, need.operation)
                }));
            }
        }
    }
    Ok(problems)
}

/// The actions that a statement allows and no role with the statement needs.
fn unused_permissions(template: &Template, roles: &[Role], needs: &[Need]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let statements: Vec<(&Role, _)> =
        roles.iter().flat_map(|role| role.statements.iter().map(move |statement| (role, statement))).collect();
    for (index, (_, statement)) in statements.iter().enumerate() {
        // A managed policy is in several roles, and is checked once.
        if statements[..index].iter().any(|(_, earlier)| earlier == statement) {
            continue;
        }
        let mut needed = BTreeSet::new();
        for need in needs {
            let mut holders = statements.iter().filter(|(_, other)| other == statement).map(|(role, _)| role);
            if !holders.try_fold(false, |found, role| Ok::<_, anyhow::Error>(found || need.concerns(role)?))? {
                continue;
            }
            let targets = need.targets(template)?;
            let resources = statement
                .resources
                .iter()
                .filter(|resource| targets.iter().any(|target| statement.applies(resource, target)));
            needed.extend(
                resources.flat_map(|resource| need.actions.iter().map(move |action| (*action, resource.as_str()))),
            );
        }
        let allowed = statement
            .actions
            .iter()
            .flat_map(|action| statement.resources.iter().map(move |resource| (action.as_str(), resource.as_str())));
        problems.extend(allowed.filter(|pair| !needed.contains(pair)).map(|(action, resource)| {
            format!("{} allows {action} on {resource}, which no operation needs", statement.name)
        }));
    }
    Ok(problems)
}

#[test]
fn only_ingest_function_may_replay() -> Result<()> {
    let template = template(&[])?;
    let replay = [
        ("fallback", vec!["s3:GetObjectVersion"]),
        (
            "failed",
            vec![
                "s3:GetObjectVersion",
                "s3:GetObjectTagging",
                "s3:GetObjectVersionTagging",
                "s3:DeleteObject",
                "s3:DeleteObjectVersion",
            ],
        ),
    ];
    for role in template.roles()? {
        for (resource, actions) in &replay {
            for target in targets(resource, &template)? {
                for action in actions {
                    let is_allowed = role.allows(action, &target);
                    ensure!(
                        is_allowed == (role.name == "IngestRole"),
                        "{} {action} on {}: {is_allowed}",
                        role.name,
                        target.arn
                    );
                }
            }
        }
    }
    Ok(())
}

/// Up to four more prefixes are listed one by one. With a fifth one, the policy would need a longer list than the template has.
#[rstest]
#[case::one_prefix("uploads/", "", false)]
#[case::two_prefixes("uploads/", "data/env=prod/", false)]
#[case::five_prefixes("uploads/", "a/,b/,c/,d/", false)]
#[case::six_prefixes("uploads/", "a/,b/,c/,d/,e/", true)]
#[case::whole_bucket("/", "", true)]
#[case::whole_bucket_and_prefixes("/", "a/,b/", true)]
fn roles_read_only_below_upload_prefixes(
    #[case] first: &str,
    #[case] more: &str,
    #[case] anywhere: bool,
) -> Result<()> {
    let template = template(&[("UploadPrefix", first), ("MoreUploadPrefixes", more)])?;
    let [upload, ..] = &targets("uploads", &template)?[..] else { anyhow::bail!("no upload prefix") };
    let elsewhere = Target { arn: "arn:aws:s3:::data/elsewhere/a.csv".to_owned(), ..upload.clone() };
    for role in template.roles()?.iter().filter(|role| ["TriggerRole", "IngestRole", "TaskRole"].contains(&&*role.name))
    {
        for action in ["s3:GetObject", "s3:DeleteObject"] {
            ensure!(role.allows(action, &elsewhere) == anywhere, "{} {action} on {}", role.name, elsewhere.arn);
            for target in targets("uploads", &template)? {
                ensure!(role.allows(action, &target), "{} {action} on {}", role.name, target.arn);
            }
        }
    }
    Ok(())
}

/// A bucket name that another account owns gives no access: a wrong name reads and writes nothing.
#[test]
fn no_role_may_use_a_bucket_of_another_account() -> Result<()> {
    let template = template(&[])?;
    for role in template.roles()? {
        for name in S3_RESOURCES {
            for target in targets(name, &template)? {
                let foreign = Target { context: [("aws:ResourceAccount", "444455556666".to_owned())].into(), ..target };
                for need in Need::all()?.iter().filter(|need| need.resources.contains(&name)) {
                    let mut s3 = need.actions.iter().filter(|action| action.starts_with("s3:"));
                    ensure!(!s3.any(|action| role.allows(action, &foreign)), "{} on {}", role.name, foreign.arn);
                }
            }
        }
    }
    Ok(())
}

/// The bucket, the queues and the topic of the stack refuse plain HTTP.
#[test]
fn stack_refuses_requests_without_tls() -> Result<()> {
    let with_email = [("NotificationEmail", "ops@example.com")];
    let policies = template(&with_email)?.resource_policies()?;
    let protected = ["Bucket", "UploadQueue", "DeadLetterQueue", "FailureQueue", "AlarmTopic"];
    for name in protected {
        let policy = policies.get(name).with_context(|| format!("{name} has no policy"))?;
        let refuses = |statement: &Value| {
            statement["Effect"] == "Deny"
                && statement["Principal"] == "*"
                && statement["Condition"] == json!({"Bool": {"aws:SecureTransport": "false"}})
        };
        ensure!(list(&policy["Statement"]).iter().any(refuses), "{name} accepts plain HTTP: {policy}");
    }
    ensure!(policies.len() == protected.len(), "policies of other resources: {policies:?}");
    let without = template(&[("RequireTls", "false"), with_email[0]])?.resource_policies()?;
    ensure!(without.keys().collect::<Vec<_>>() == ["FailureQueue", "UploadQueue"], "{without:?}");
    Ok(())
}
