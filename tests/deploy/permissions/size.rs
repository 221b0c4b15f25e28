//! The managed policies with the longest values that the parameters allow.

use anyhow::{Context, Result, ensure};

use super::template::Template;
use crate::deploy::parameters::accepted;

/// The most characters of a managed policy, without white space (quotas of IAM).
const LIMIT: usize = 6_144;
/// How much longer an ARN or a host name is in the partition and the region with the longest names.
const LONGER_REGION: usize = 16;
/// How much longer a generated name is than the logical name that the evaluation returns.
const LONGER_NAME: usize = 255;

/// The parameters in policies, each with the longest value that its pattern accepts.
fn longest_values() -> Vec<(&'static str, String)> {
    let prefix = |first: char| format!("{first}{}/", "p".repeat(126));
    let key = format!("arn:{}:kms:{}:111122223333:key/{}", "p".repeat(20), "r".repeat(30), "k".repeat(64));
    let secret = format!("arn:{}", "s".repeat(600));
    let database = "d".repeat(255);
    let mut values = vec![
        ("BucketName", "b".repeat(63)),
        ("TableSettings", format!("s3://{}/{}", "b".repeat(63), "k".repeat(256))),
        ("EventBusName", "e".repeat(256)),
        ("DatabaseUser", "u".repeat(63)),
        ("DatabaseName", "d".repeat(64)),
        ("RedshiftCluster", "c".repeat(63)),
        ("RedshiftCopyPrefix", prefix('p')),
        ("GlueJobPrefix", prefix('p')),
        ("GlueJobName", "j".repeat(255)),
        ("MoreUploadPrefixes", prefix('m')),
    ];
    for (names, value) in [
        (
            &[
                "UploadPrefix",
                "ProcessedPrefix",
                "FailedPrefix",
                "FallbackPrefix",
                "LeasePrefix",
                "RejectedPrefix",
                "LakePrefix",
                "ExtractPrefix",
            ][..],
            prefix('p'),
        ),
        (&["GlueDatabase", "LakeDatabase", "RawDatabase"], database),
        (&["BucketKeyArn", "DatabaseSecretKeyArn", "DatabaseCaSecretKeyArn"], key),
        (&["DatabaseSecretArn", "DatabaseCaSecretArn"], secret),
    ] {
        values.extend(names.iter().map(|name| (*name, value.clone())));
    }
    values
}

fn template(authentication: &str) -> Result<Template> {
    let longest = longest_values();
    let values: Vec<(&str, &str)> = longest.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let prefixes = ["a", "b", "c", "d"].map(|first| format!("{first}{}/", "p".repeat(126))).join(",");
    let template = Template::read(&values)?.with(&[("MoreUploadPrefixes", &prefixes), ("CreateBucket", "false")])?;
    let network =
        [("SubnetIds", "subnet-1"), ("SecurityGroupIds", "sg-1"), ("CatalogRaw", "true"), ("DatabaseTable", "orders")];
    // Eight secrets of other databases, with names of usual length.
    let secrets =
        vec![format!("arn:aws:secretsmanager:us-east-1:111122223333:secret:{}-AbCd12", "s".repeat(128)); 8].join(",");
    let template = template.with(&[("ExtractSecretArns", secrets.as_str())])?;
    template.with(&network)?.with(&[("BucketOwner", "444455556666"), ("DatabaseAuthentication", authentication)])
}

/// One character more is refused, so no stack has longer values than those of the next test.
#[test]
fn longest_values_are_the_longest() -> Result<()> {
    let mut pairs = Vec::new();
    for (name, value) in longest_values() {
        let (start, end) = value.split_at(value.len() - 1);
        pairs.push((name, value.clone()));
        pairs.push((name, format!("{start}x{end}")));
    }
    let found = accepted("template.yaml", &pairs)?;
    for (index, (name, value)) in pairs.iter().enumerate() {
        ensure!(found[index] == (index % 2 == 0), "{name} with {} characters: {}", value.len(), found[index]);
    }
    Ok(())
}

#[test]
fn no_managed_policy_exceeds_the_limit_of_iam() -> Result<()> {
    for (authentication, engine) in [("password", "postgres"), ("iam", "postgres"), ("password", "redshift")] {
        let template = template(authentication)?.with(&[("DatabaseEngine", engine)])?;
        let resources = template.document()["Resources"].as_object().context("the template has no resources")?;
        let mut policies = 0;
        for (name, resource) in resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::IAM::ManagedPolicy") {
            let document = template.resolve(&resource["Properties"]["PolicyDocument"])?.context("an empty policy")?;
            let text = document.to_string();
            let regions = text.matches("arn:aws:").count() + text.matches(".amazonaws.com").count();
            let generated = text.matches(".Arn").count()
                + text.matches("task/Cluster").count()
                + text.matches("/spillway-").count();
            let length = text.len() + regions * LONGER_REGION + generated * LONGER_NAME;
            println!("{name}: {length} characters with {authentication} and {engine}");
            ensure!(length <= LIMIT, "{name} has up to {length} characters, above the limit {LIMIT}");
            policies += 1;
        }
        ensure!(policies == 8, "the template has {policies} managed policies");
    }
    Ok(())
}
