//! The roles of `templates/exports.yaml`, written out.

use std::collections::BTreeMap;

use anyhow::Result;

use super::template::Template;

const TEMPLATE: &str = "templates/exports.yaml";

/// The statements of each role, as actions and resources.
fn roles(parameters: &[(&str, &str)]) -> Result<BTreeMap<String, Vec<String>>> {
    let template = Template::read_file(TEMPLATE, &[("BucketName", "data")])?.with(parameters)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for role in template.roles()? {
        for statement in role.statements {
            let line = format!("{} on {}", statement.actions.join(" "), statement.resources.join(" "));
            found.entry(role.name.clone()).or_default().push(line);
        }
    }
    Ok(found)
}

/// Reading and writing the bucket, as each target needs them.
const BUCKET: [&str; 5] = [
    "logs:CreateLogStream logs:PutLogEvents on ExportsLogGroup.Arn",
    "s3:ListBucket on arn:aws:s3:::data",
    "s3:GetObject s3:GetObjectVersion on arn:aws:s3:::data/exports/*",
    "s3:GetObject s3:PutObject on arn:aws:s3:::data/export-registry/*",
    "s3:GetObject s3:GetObjectVersion s3:PutObject s3:DeleteObject s3:AbortMultipartUpload on arn:aws:s3:::data/delta/*",
];

fn expected(function: &[&str]) -> BTreeMap<String, Vec<String>> {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    BTreeMap::from([
        ("StartRole".to_owned(), lines(&["states:StartExecution on Import"])),
        ("ImportRole".to_owned(), lines(&["lambda:InvokeFunction on ExportsFunction.Arn"])),
        ("ExportsRole".to_owned(), lines(&[&BUCKET[..], function].concat())),
    ])
}

#[test]
fn roles_of_the_exports_template_are_narrow() -> Result<()> {
    let secret = "arn:aws:secretsmanager:us-east-1:111122223333:secret:prod/orders-AbCdEf";
    let read_secret = format!("secretsmanager:GetSecretValue on {secret}");
    assert_eq!(roles(&[("DatabaseSecretArn", secret)])?, expected(&[read_secret.as_str()]));

    let stream = "arn:aws:kinesis:us-east-1:111122223333:stream/changes";
    let publish = format!("kinesis:PutRecords on {stream}");
    assert_eq!(roles(&[("Target", "stream"), ("StreamArn", stream)])?, expected(&[publish.as_str()]));

    let everything = [
        ("Target", "both"),
        ("StreamArn", stream),
        ("DatabaseSecretArn", secret),
        ("TableSettings", "s3://data/settings/tables.toml"),
        ("BucketKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1"),
        ("DatabaseSecretKeyArn", "arn:aws:kms:us-east-1:111122223333:key/2"),
        ("StreamKeyArn", "arn:aws:kms:us-east-1:111122223333:key/3"),
        ("ConsumedStreamArn", "arn:aws:kinesis:us-east-1:111122223333:stream/others"),
        ("ConsumedStreamKeyArn", "arn:aws:kms:us-east-1:111122223333:key/4"),
        ("SubnetIds", "subnet-1"),
        ("SecurityGroupIds", "sg-1"),
    ];
    let function = [
        "s3:GetObject on arn:aws:s3:::data/settings/tables.toml",
        "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:us-east-1:111122223333:key/1",
        read_secret.as_str(),
        "kms:Decrypt on arn:aws:kms:us-east-1:111122223333:key/2",
        publish.as_str(),
        "kms:GenerateDataKey on arn:aws:kms:us-east-1:111122223333:key/3",
        "kinesis:DescribeStream kinesis:DescribeStreamSummary kinesis:GetRecords kinesis:GetShardIterator kinesis:ListShards on \
         arn:aws:kinesis:us-east-1:111122223333:stream/others",
        "kms:Decrypt on arn:aws:kms:us-east-1:111122223333:key/4",
        "ec2:CreateNetworkInterface ec2:DescribeNetworkInterfaces ec2:DescribeSubnets ec2:DeleteNetworkInterface \
         ec2:AssignPrivateIpAddresses ec2:UnassignPrivateIpAddresses on *",
    ];
    assert_eq!(roles(&everything)?, expected(&function));
    Ok(())
}
