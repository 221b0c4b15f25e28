//! The roles of a deployed stack, on a MiniStack that enforces them.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cloud::{Account, REGION};
use crate::deploy::Deployment;
use crate::http;
use crate::settings::Settings;

/// A role of the stack.
#[derive(Debug)]
pub struct Role<'a> {
    account: &'a Account,
    name: String,
}

impl Deployment {
    /// The role with this logical name in the template.
    pub async fn role(&self, logical_name: &str) -> Result<Role<'_>> {
        let query =
            [("Action", "DescribeStackResource"), ("StackName", &self.stack), ("LogicalResourceId", logical_name)];
        let response = call(&self.account, "cloudformation", &query).await?;
        Ok(Role { account: &self.account, name: element(&response, "PhysicalResourceId")?.to_owned() })
    }

    /// Allows the requests that MiniStack checks against the wrong resource.
    ///
    /// It checks GetDatabase against a table with the database's name, and RunTask, ListTasks and DescribeTasks against the
    /// cluster, without the key `ecs:cluster`.
    pub async fn allow_misread_requests(&self) -> Result<()> {
        let account = &self.account.id;
        let cluster = self.output("ClusterName")?;
        let database = format!("arn:aws:glue:{REGION}:{account}:table/{}", self.output("GlueDatabaseName")?);
        let cluster = format!("arn:aws:ecs:{REGION}:{account}:cluster/{cluster}");
        for name in ["TriggerRole", "IngestRole", "TaskRole"] {
            let role = self.role(name).await?;
            role.put_policy("get-database", "Allow", "glue:GetDatabase", &database).await?;
            if name != "TaskRole" {
                role.put_policy("run-task", "Allow", "ecs:RunTask", &cluster).await?;
            }
        }
        let ingest = self.role("IngestRole").await?;
        ingest.put_policy("list-tasks", "Allow", "ecs:ListTasks", &cluster).await?;
        ingest.put_policy("describe-tasks", "Allow", "ecs:DescribeTasks", &cluster).await
    }

    /// Credentials of the task's role, as ECS provides them to a task.
    pub async fn task_credentials(&self) -> Result<Settings> {
        self.role_credentials("TaskRole").await
    }

    /// Credentials of the role with this logical name.
    ///
    /// The deployed roles trust only ECS or Lambda, and MiniStack's ECS does not assume roles. So this changes the role to
    /// trust the account. The role's permissions stay as deployed.
    pub async fn role_credentials(&self, logical_name: &str) -> Result<Settings> {
        let (account, role) = (&self.account, self.role(logical_name).await?);
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": format!("arn:aws:iam::{}:root", account.id)},
            }],
        });
        role.change("UpdateAssumeRolePolicy", &[("PolicyDocument", &trust.to_string())]).await?;
        let arn = format!("arn:aws:iam::{}:role/{}", account.id, role.name);
        let query = [("Action", "AssumeRole"), ("RoleArn", arn.as_str()), ("RoleSessionName", "task")];
        let response = call(account, "sts", &query).await?;
        Ok(Settings::default()
            .with("AWS_ACCESS_KEY_ID", element(&response, "AccessKeyId")?)
            .with("AWS_SECRET_ACCESS_KEY", element(&response, "SecretAccessKey")?)
            .with("AWS_SESSION_TOKEN", element(&response, "SessionToken")?))
    }
}

impl Role<'_> {
    /// Adds a policy with one statement, or replaces the policy of this name.
    pub async fn put_policy(&self, name: &str, effect: &str, action: &str, resource: &str) -> Result<()> {
        let policy: Value = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": effect, "Action": action, "Resource": resource}],
        });
        self.change("PutRolePolicy", &[("PolicyName", name), ("PolicyDocument", &policy.to_string())]).await
    }

    /// Deletes an added policy.
    pub async fn delete_policy(&self, name: &str) -> Result<()> {
        self.change("DeleteRolePolicy", &[("PolicyName", name)]).await
    }

    async fn change(&self, action: &str, fields: &[(&str, &str)]) -> Result<()> {
        let query = [&[("Action", action), ("RoleName", &self.name)], fields].concat();
        call(self.account, "iam", &query).await.map(drop)
    }
}

/// Sends a request to an AWS query API, and returns the XML of the response.
async fn call(account: &Account, service: &str, fields: &[(&str, &str)]) -> Result<String> {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let credential = account.credential(service);
    let headers = [("Authorization", credential.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let response = http::post(account.port, "/", &headers, &fields.join("&")).await?;
    ensure!(response.status == 200, "{service} rejected {fields:?}: {}", response.body);
    Ok(response.body)
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        // Writing to a string does not fail.
        let _infallible = write!(encoded, "%{byte:02X}");
        encoded
    })
}

/// The text of the first XML element with this name.
fn element<'a>(xml: &'a str, name: &str) -> Result<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>")).with_context(|| format!("no {name} in {xml}"))?;
    Ok(rest.split('<').next().unwrap_or_default())
}
