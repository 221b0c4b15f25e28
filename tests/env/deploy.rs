//! Deploys the template to the local AWS with `scripts/deploy-local`. Tests use the stack through S3 and Lambda.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::aws_json::call;
use crate::cloud::{Account, Cloud};
use crate::database::{Database, Schema};
use crate::settings::Settings;
use crate::task::{Finished, Task};
use crate::{fixture, http, run, wait};

/// The name of the stack, in tests with one stack.
const STACK: &str = "spillway";
/// The name of its secret with the database's credentials.
pub const SECRET: &str = "spillway/database";

/// The number of log lines that explain an error.
const LOG_TAIL: usize = 20;

/// A deployed stack.
#[derive(Debug)]
pub struct Deployment {
    /// The account, with the bucket of the stack.
    pub account: Account,
    /// The name of the stack.
    pub stack: String,
    outputs: Value,
}

/// Runs `scripts/deploy-local`, and returns the outputs of the stack.
async fn deploy_template(
    template: &str,
    account: &Account,
    stack: &str,
    parameters: &BTreeMap<&str, &str>,
) -> Result<Value> {
    let output = Command::new(run::workspace().join("scripts/deploy-local"))
        .arg(stack)
        // SAM accepts no empty value. The parameters that may be empty have no other default.
        .args(parameters.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={value}")))
        .env("TEMPLATE", template)
        .env("AWS_ENDPOINT_URL", account.endpoint())
        .env("AWS_ACCESS_KEY_ID", &account.id)
        .output()
        .await
        .context("cannot run scripts/deploy-local")?;
    ensure!(output.status.success(), "the deployment failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("scripts/deploy-local printed no JSON")
}

impl Deployment {
    /// Deploys the template for this schema into an account of its own, with additional parameters as `Name=Value`.
    pub async fn deploy(cloud: &Cloud, server: &Database, schema: &Schema, parameters: &[&str]) -> Result<Self> {
        let mut account = cloud.account_without_bucket().await?;
        account.bucket = format!("spillway-demo-{}", account.id);
        let glue_database = format!("GlueDatabase={}", fixture::GLUE_DATABASE);
        let parameters = [&[glue_database.as_str()], parameters].concat();
        Self::deploy_into(account, STACK, server, schema, &parameters).await
    }

    /// Deploys the template as a stack of this name, with the account's bucket.
    pub async fn deploy_into(
        account: Account,
        stack: &str,
        server: &Database,
        schema: &Schema,
        parameters: &[&str],
    ) -> Result<Self> {
        let secret_name = format!("{stack}/database");
        let secret = json!({
            "username": schema.user, "password": schema.password, "host": "127.0.0.1", "port": server.port(), "dbname": schema.name,
            "engine": schema.engine.name(),
        });
        account.secrets.create_secret().name(&secret_name).secret_string(secret.to_string()).send().await?;
        let authority = server.certificates().authority().display().to_string();
        let mut values = BTreeMap::from([
            ("BucketName", account.bucket.as_str()),
            ("DatabaseSecretName", secret_name.as_str()),
            ("DatabaseTable", fixture::TABLE),
            ("DatabaseCaFile", authority.as_str()),
            ("ScheduleState", "DISABLED"),
            ("SubnetIds", "subnet-0123456789abcdef0"),
            ("SecurityGroupIds", "sg-0123456789abcdef0"),
        ]);
        for parameter in parameters {
            let (name, value) = parameter.split_once('=').context("a parameter is not Name=Value")?;
            values.insert(name, value);
        }
        let outputs = deploy_template("template.yaml", &account, stack, &values).await?;
        Ok(Self { account, stack: stack.to_owned(), outputs })
    }

    /// Deploys another template of the workspace into the account, as a further stack of this name. Returns its outputs.
    pub async fn deploy_beside(&self, template: &str, stack: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        deploy_template(template, &self.account, stack, &parameters.iter().copied().collect()).await
    }

    /// Deploys another template of the workspace into an account, without the stack of Spillway. Returns its outputs.
    pub async fn deploy_alone(
        account: &Account,
        template: &str,
        stack: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value> {
        deploy_template(template, account, stack, &parameters.iter().copied().collect()).await
    }

    /// Adds variables to the environment of both functions, for tests that need shorter times or failpoints.
    pub async fn set_variables(&self, variables: &Settings) -> Result<()> {
        for output in ["TriggerFunctionName", "IngestFunctionName"] {
            let path = format!("/2015-03-31/functions/{}/configuration", self.output(output)?);
            let credential = self.account.credential("lambda");
            let headers = [("Authorization", credential.as_str()), ("Content-Type", "application/json")];
            let found = http::request("GET", self.account.port, &path, &headers, "").await?;
            let found: Value = serde_json::from_str(&found.body).context("the configuration is not JSON")?;
            let mut environment = found["Environment"]["Variables"].clone();
            ensure!(environment.is_object(), "the function has no variables: {found}");
            for (name, value) in variables.iter() {
                environment[name] = value.into();
            }
            let change = json!({"Environment": {"Variables": environment}});
            let changed = http::request("PUT", self.account.port, &path, &headers, &change.to_string()).await?;
            ensure!(changed.status == 200, "the configuration was not changed: {}", changed.body);
        }
        Ok(())
    }

    /// Invokes the stack's ingest function and returns the body of its response.
    pub async fn invoke_ingest(&self, request: &Value) -> Result<Value> {
        let path = format!("/2015-03-31/functions/{}/invocations", self.output("IngestFunctionName")?);
        let credential = self.account.credential("lambda");
        let response =
            http::post(self.account.port, &path, &[("Authorization", &credential)], &request.to_string()).await?;
        let response: Value = serde_json::from_str(&response.body).context("the function's response is not JSON")?;
        ensure!(response["errorType"].is_null(), "the ingest function failed: {response}");
        let body = response["body"].as_str().context("the response has no body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// The settings of the stack's ingest function.
    pub async fn ingest_settings(&self) -> Result<Settings> {
        let path = format!("/2015-03-31/functions/{}/configuration", self.output("IngestFunctionName")?);
        let credential = self.account.credential("lambda");
        let response = http::get_with(self.account.port, &path, &[("Authorization", &credential)]).await?;
        let response: Value = serde_json::from_str(&response.body).context("the configuration is not JSON")?;
        let variables = response["Environment"]["Variables"].as_object().context("the function has no variables")?;
        Ok(variables.iter().fold(Settings::default(), |settings, (name, value)| {
            settings.with(name, value.as_str().unwrap_or_default())
        }))
    }

    /// Waits for this number of RunTask requests, and returns the settings of each task: its definition with overrides.
    pub async fn recorded_tasks(&self, count: usize, timeout: Duration) -> Result<Vec<Settings>> {
        let cluster = self.output("ClusterName")?;
        let tasks = async || self.account.tasks(cluster).await;
        wait::until("the trigger to start tasks", timeout, async || Ok(tasks().await?.len() >= count)).await?;
        let definition = self.output("TaskDefinitionArn")?;
        let described = self.account.ecs.describe_task_definition().task_definition(definition).send().await?;
        let containers = described.task_definition().map(|task| task.container_definitions()).unwrap_or_default();
        let environment = containers.first().context("the task definition has no container")?.environment();
        let defaults = environment.iter().fold(self.account.settings(), |settings, pair| {
            settings.with(pair.name().unwrap_or_default(), pair.value().unwrap_or_default())
        });
        Ok(tasks().await?.iter().map(|overrides| defaults.clone().and(overrides)).collect())
    }

    /// Runs the deployed task binary with these settings, as Fargate would.
    pub async fn run_task(&self, settings: &Settings, timeout: Duration) -> Result<Finished> {
        Task::start_binary(&PathBuf::from(self.output("TaskBinary")?), settings)?.finish(timeout).await
    }

    /// The lines in a log group, which an output of the stack names.
    pub async fn log_lines(&self, output: &str) -> Result<Vec<String>> {
        let request = json!({"logGroupName": self.output(output)?, "limit": 10_000});
        let events = call(&self.account, "logs", "Logs_20140328.FilterLogEvents", &request).await?;
        let lines = events["events"].as_array().into_iter().flatten();
        Ok(lines.filter_map(|event| Some(event["message"].as_str()?.trim().to_owned())).collect())
    }

    /// Adds the end of the functions' logs to an error.
    ///
    /// # Errors
    /// That error.
    pub async fn with_logs<T>(&self, result: Result<T>) -> Result<T> {
        let Err(mut error) = result else { return result };
        for output in ["TriggerLogGroupName", "IngestLogGroupName"] {
            let lines = self.log_lines(output).await?;
            let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
            error = error.context(format!("{output}:\n{tail}"));
        }
        Err(error)
    }

    /// An output of the stack.
    pub fn output(&self, name: &str) -> Result<&str> {
        self.outputs[name].as_str().with_context(|| format!("the stack has no output {name}"))
    }
}
