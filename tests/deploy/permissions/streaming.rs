//! The roles of `templates/streaming.yaml`, written out.

use std::collections::BTreeMap;

use anyhow::Result;

use super::template::Template;

const TEMPLATE: &str = "templates/streaming.yaml";

/// The roles of the template, each with its actions and the resources that they are for.
#[test]
fn roles_of_the_streaming_template_are_narrow() -> Result<()> {
    let keys = [
        ("StreamKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1"),
        ("BucketKeyArn", "arn:aws:kms:us-east-1:111122223333:key/2"),
    ];
    let template = Template::read_file(TEMPLATE, &[("BucketName", "data")])?.with(&keys)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for role in template.roles()? {
        for statement in role.statements {
            let line = format!("{} on {}", statement.actions.join(" "), statement.resources.join(" "));
            found.entry(role.name.clone()).or_default().push(line);
        }
    }
    let delivery = [
        "kinesis:DescribeStream kinesis:GetShardIterator kinesis:GetRecords kinesis:ListShards on Stream.Arn",
        "lambda:InvokeFunction lambda:GetFunctionConfiguration on TransformFunction.Arn TransformFunction.Arn:*",
        "s3:PutObject s3:AbortMultipartUpload on arn:aws:s3:::data/stream/* arn:aws:s3:::data/failed/stream-errors/*",
        "s3:GetBucketLocation s3:ListBucket s3:ListBucketMultipartUploads on arn:aws:s3:::data",
        "logs:PutLogEvents on arn:aws:logs:us-east-1:111122223333:log-group:DeliveryLogGroup:log-stream:*",
        "kms:Decrypt on arn:aws:kms:us-east-1:111122223333:key/1",
        "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:us-east-1:111122223333:key/2",
    ];
    let transform = [
        "logs:CreateLogStream logs:PutLogEvents on TransformLogGroup.Arn",
        "kinesis:PutRecords on Stream.Arn",
        "kms:GenerateDataKey on arn:aws:kms:us-east-1:111122223333:key/1",
    ];
    let expected = BTreeMap::from([
        ("DeliveryRole".to_owned(), delivery.map(str::to_owned).to_vec()),
        ("TransformRole".to_owned(), transform.map(str::to_owned).to_vec()),
    ]);
    assert_eq!(found, expected);
    Ok(())
}
