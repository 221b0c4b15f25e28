//! The resources of the tables, as requests name them.

use std::collections::BTreeMap;

use anyhow::Result;

use super::policy::Target;
use super::template::{ACCOUNT, REGION, Template};

/// The resources in the bucket. A request for them contains the owner of the bucket.
pub(super) const S3_RESOURCES: [&str; 12] = [
    "uploads",
    "processed",
    "failed",
    "fallback",
    "lake",
    "lease",
    "rejected",
    "copied",
    "bucket",
    "extracts",
    "glue-plans",
    "glue-runs",
];

/// Examples of a resource, as requests name it; none if the parameters do not use it.
pub(super) fn targets(name: &str, template: &Template) -> Result<Vec<Target>> {
    let bucket = format!("arn:aws:s3:::{}", template.parameter("BucketName")?);
    let below = |parameter: &str| {
        Ok::<_, anyhow::Error>(vec![format!("{bucket}/{}2026/a.csv", template.parameter(parameter)?)])
    };
    let glue = |resource: &str| format!("arn:aws:glue:{REGION}:{ACCOUNT}:{resource}");
    let table = template.parameter("GlueTable")?;
    // The default name contains the first part of the stack's id.
    let database = Some(template.parameter("GlueDatabase")?).filter(|name| !name.is_empty());
    let database = database.unwrap_or("ingest_fallback_0a1b2c3d");
    let lake_database = Some(template.parameter("LakeDatabase")?).filter(|name| !name.is_empty());
    let lake_database = lake_database.unwrap_or("spillway_lake_0a1b2c3d");
    let raw_database = Some(template.parameter("RawDatabase")?).filter(|name| !name.is_empty());
    let raw_database = raw_database.unwrap_or("spillway_raw_0a1b2c3d");
    let service = |name: &str| format!("{name}.{REGION}.amazonaws.com");
    let mut context = S3_RESOURCES.contains(&name).then(|| bucket_owner(template)).transpose()?;
    let arns = match name {
        "uploads" => uploads(&bucket, template)?,
        "processed" => below("ProcessedPrefix")?,
        "failed" => below("FailedPrefix")?,
        "fallback" => below("FallbackPrefix")?,
        "lake" | "lake-database" | "lake-table" if !template.holds("HasLake")? => vec![],
        "lake" => below("LakePrefix")?,
        "lake-database" => vec![glue("catalog"), glue(&format!("database/{lake_database}"))],
        "lake-table" => {
            let resources =
                ["catalog".to_owned(), format!("database/{lake_database}"), format!("table/{lake_database}/a")];
            resources.iter().map(|resource| glue(resource)).collect()
        }
        "raw-database" | "raw-table" if !template.holds("HasRawCatalog")? => vec![],
        "raw-database" => vec![glue("catalog"), glue(&format!("database/{raw_database}"))],
        "raw-table" => {
            let resources =
                ["catalog".to_owned(), format!("database/{raw_database}"), format!("table/{raw_database}/a")];
            resources.iter().map(|resource| glue(resource)).collect()
        }
        "extracts" if !template.holds("Extracts")? => vec![],
        "extracts" => below("ExtractPrefix")?,
        "source-secrets" if !template.holds("Extracts")? || !template.holds("ExtractsOthers")? => vec![],
        "source-secrets" => vec![template.parameter("ExtractSecretArns")?.to_owned()],
        "glue-plans" | "glue-runs" | "glue-job" if !template.holds("HasGlueJob")? => vec![],
        "glue-plans" | "glue-runs" => {
            let folder = name.trim_start_matches("glue-");
            vec![format!("{bucket}/{}{folder}/0123.json", template.parameter("GlueJobPrefix")?)]
        }
        "glue-job" => vec![glue(&format!("job/{}", template.parameter("GlueJobName")?))],
        "lease" => below("LeasePrefix")?,
        "rejected" => below("RejectedPrefix")?,
        "copied"
        | "redshift"
        | "redshift-workgroup-login"
        | "redshift-user-login"
        | "redshift-role-login"
        | "own-statements"
            if !template.holds("IsRedshift")? =>
        {
            vec![]
        }
        "copied" => below("RedshiftCopyPrefix")?,
        "redshift" | "redshift-workgroup-login" | "redshift-user-login" | "redshift-role-login" => {
            redshift(name, template)?
        }
        "own-statements" => {
            // IAM replaces the variable with the id of the caller, which owns the statement.
            context = Some(("redshift-data:statement-owner-iam-userid", "${aws:userid}".to_owned()));
            vec!["*".to_owned()]
        }
        "bucket" => vec![bucket],
        // Glue also checks an action on the catalog and the database of the resource.
        "glue-database" => vec![glue("catalog"), glue(&format!("database/{database}"))],
        "glue-table" => {
            // Rows that wait can be in the table of an earlier GlueTable, whatever the parameters are now.
            let tables = [format!("table/{database}/{table}"), format!("table/{database}/other")];
            let parents = ["catalog".to_owned(), format!("database/{database}")];
            parents.iter().chain(&tables).map(|resource| glue(resource)).collect()
        }
        "secret" if !template.holds("HasPassword")? => vec![],
        "secret" => {
            let (secret, arn) = (template.parameter("DatabaseSecretName")?, template.parameter("DatabaseSecretArn")?);
            vec![if arn.is_empty() {
                format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{secret}-AbCd12")
            } else {
                arn.to_owned()
            }]
        }
        "ca-secret" if !template.holds("HasCaSecret")? => vec![],
        "ca-secret" => vec![template.parameter("DatabaseCaSecretArn")?.to_owned()],
        "cluster" => vec!["Cluster.Arn".to_owned()],
        "secret-key" | "ca-secret-key" => {
            context = Some(("kms:ViaService", service("secretsmanager")));
            let (condition, parameter) = match name {
                "secret-key" => ("HasSecretKey", "DatabaseSecretKeyArn"),
                _ => ("HasCaSecretKey", "DatabaseCaSecretKeyArn"),
            };
            if template.holds(condition)? { vec![template.parameter(parameter)?.to_owned()] } else { vec![] }
        }
        "bucket-key" => {
            context = Some(("kms:ViaService", service("s3")));
            if template.holds("HasBucketKey")? { vec![template.parameter("BucketKeyArn")?.to_owned()] } else { vec![] }
        }
        "event-bus" if !template.holds("HasEventBus")? => vec![],
        "event-bus" => {
            vec![format!("arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{}", template.parameter("EventBusName")?)]
        }
        "upload-queue" => vec!["UploadQueue.Arn".to_owned()],
        "task-definition" => {
            context = Some(("ecs:cluster", "Cluster.Arn".to_owned()));
            // A function still starts the former revision while a deployment replaces it.
            [4, 5]
                .map(|revision| format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/spillway-task:{revision}"))
                .to_vec()
        }
        "task-roles" => {
            context = Some(("iam:PassedToService", "ecs-tasks.amazonaws.com".to_owned()));
            vec!["TaskRole.Arn".to_owned(), "TaskExecutionRole.Arn".to_owned()]
        }
        "container-instances" => {
            context = Some(("ecs:cluster", "Cluster.Arn".to_owned()));
            vec![format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/Cluster/*")]
        }
        "task-of-cluster" => vec![format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/Cluster/0123456789abcdef")],
        "tasks" => {
            context = Some(("ecs:CreateAction", "RunTask".to_owned()));
            vec![format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/Cluster/0123456789abcdef")]
        }
        "trigger-log" => vec!["TriggerLogGroup.Arn".to_owned()],
        "ingest-log" => vec!["IngestLogGroup.Arn".to_owned()],
        "task-log" => vec!["TaskLogGroup.Arn".to_owned()],
        "ingest-function" => vec!["IngestFunction.Arn".to_owned()],
        "failure-queue" => vec!["FailureQueue.Arn".to_owned()],
        "interfaces" if !template.holds("FunctionsInVpc")? => vec![],
        // AWS checks these actions on no narrower resource.
        "interfaces" | "registry" => vec!["*".to_owned()],
        "image" if template.holds("HasImageRepository")? => {
            vec![template.parameter("TaskImageRepositoryArn")?.to_owned()]
        }
        "image" if template.holds("HasImage")? => vec![format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/spillway")],
        "image" => vec!["Repository.Arn".to_owned()],
        _ => anyhow::bail!("the tables name an unknown resource: {name}"),
    };
    let context: BTreeMap<_, _> = context.into_iter().collect();
    Ok(arns.into_iter().map(|arn| Target { arn, context: context.clone() }).collect())
}

/// What a call of the Data API uses, by the parameters for the server and the user.
fn redshift(name: &str, template: &Template) -> Result<Vec<String>> {
    let (workgroup, cluster) = (template.parameter("RedshiftWorkgroupArn")?, template.parameter("RedshiftCluster")?);
    let (user, database) = (template.parameter("DatabaseUser")?, template.parameter("DatabaseName")?);
    let of_cluster = |resource: &str| format!("arn:aws:redshift:{REGION}:{ACCOUNT}:{resource}");
    let database = of_cluster(&format!("dbname:{cluster}/{database}"));
    let has_secret = template.holds("HasPassword")?;
    Ok(match name {
        "redshift" if cluster.is_empty() => vec![workgroup.to_owned()],
        "redshift" => vec![of_cluster(&format!("cluster:{cluster}"))],
        "redshift-workgroup-login" if cluster.is_empty() && !has_secret => vec![workgroup.to_owned()],
        "redshift-user-login" if !cluster.is_empty() && !has_secret && !user.is_empty() => {
            vec![of_cluster(&format!("dbuser:{cluster}/{user}")), database]
        }
        "redshift-role-login" if !cluster.is_empty() && !has_secret && user.is_empty() => vec![database],
        _ => vec![],
    })
}

/// The account that S3 reports as the owner of the bucket.
fn bucket_owner(template: &Template) -> Result<(&'static str, String)> {
    let owner = template.parameter("BucketOwner")?;
    Ok(("aws:ResourceAccount", if owner.is_empty() { ACCOUNT } else { owner }.to_owned()))
}

/// An object below each upload prefix.
fn uploads(bucket: &str, template: &Template) -> Result<Vec<String>> {
    let more = template.parameter("MoreUploadPrefixes")?.split(',').map(str::trim).filter(|prefix| !prefix.is_empty());
    let prefixes = [template.parameter("UploadPrefix")?].into_iter().chain(more);
    Ok(prefixes.map(|prefix| format!("{bucket}/{}2026/a.csv", prefix.trim_start_matches('/'))).collect())
}
