//! The template of imports on the local AWS: an upload starts the state machine, whose steps import it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_s3::types::{EventBridgeConfiguration, NotificationConfiguration};
use serde_json::{Value, json};
use spillway_formats::compression::Compressor;
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::run::random_numbers;
use spillway_test_env::wait;

const TEMPLATE: &str = "templates/exports.yaml";
const STACK: &str = "exports";
const TIMEOUT: Duration = Duration::from_secs(300);
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const TABLES: [&str; 2] = ["orders", "items"];
const VERSIONS: [&str; 3] = ["20201230_V0001", "20201230_V0002", "20201231_V0001"];

/// Note of each row, by its id.
type Rows = BTreeMap<u64, String>;

/// A stack of imports, and its database.
struct Site {
    server: Database,
    schema: Schema,
    cloud: Cloud,
    account: Account,
    outputs: Value,
}

impl Site {
    async fn deploy(engine: Engine) -> Result<Self> {
        let cloud = Cloud::start().await?;
        let server = Database::start(engine, Options::default()).await?;
        let schema = server.schema().await?;
        let account = cloud.account().await?;
        let events = NotificationConfiguration::builder()
            .event_bridge_configuration(EventBridgeConfiguration::builder().build())
            .build();
        let request = account.s3.put_bucket_notification_configuration().bucket(&account.bucket);
        request.notification_configuration(events).send().await.context("cannot switch on EventBridge")?;
        let secret = json!({
            "username": schema.user, "password": schema.password, "host": "127.0.0.1", "port": server.port(), "dbname": schema.name,
            "engine": schema.engine.name(),
        });
        let created =
            account.secrets.create_secret().name("exports/database").secret_string(secret.to_string()).send().await?;
        let arn = created.arn().context("the secret has no ARN")?.to_owned();
        let authority = server.certificates().authority().display().to_string();
        let parameters = [
            ("BucketName", account.bucket.as_str()),
            ("DatabaseSecretArn", &arn),
            ("DatabaseCaFile", &authority),
            ("ExportKey", "id"),
            ("QuietSeconds", "0"),
            ("FunctionSeconds", "60"),
        ];
        let outputs = Deployment::deploy_alone(&account, TEMPLATE, STACK, &parameters).await?;
        let site = Self { server, schema, cloud, account, outputs };
        for tenant in TENANTS {
            for table in TABLES {
                let create =
                    format!("CREATE TABLE {{schema}}.{tenant}_{table} (id bigint PRIMARY KEY, note varchar(100))");
                site.server.execute(&site.schema, &create).await?;
            }
        }
        Ok(site)
    }

    async fn upload(&self, tenant: &str, table: &str, version: &str, rows: &Rows) -> Result<()> {
        let key = format!("exports/{tenant}/{table}/{version}/export1.csv.gz");
        self.account.put(&key, gzip(&csv(rows))?).await?;
        Ok(())
    }

    /// The executions of the state machine that have this status.
    async fn executions(&self, status: &str) -> Result<Vec<Value>> {
        let request = json!({"stateMachineArn": self.outputs["ImportArn"], "statusFilter": status, "maxResults": 1000});
        let found = call(&self.account, "states", "AWSStepFunctions.ListExecutions", &request).await?;
        Ok(found["executions"].as_array().cloned().unwrap_or_default())
    }

    async fn rows(&self, tenant: &str, table: &str) -> Result<Rows> {
        let query = format!("SELECT id, note FROM {{schema}}.{tenant}_{table}");
        let mut rows = Rows::new();
        for row in self.server.query(&self.schema, &query).await? {
            rows.insert(row[0].as_deref().context("a NULL")?.parse()?, row[1].clone().unwrap_or_default());
        }
        Ok(rows)
    }

    async fn record(&self, tenant: &str, table: &str, version: &str) -> Result<Value> {
        let key = format!("export-registry/{tenant}/{table}/versions/{version}.json");
        Ok(serde_json::from_slice(&self.account.get(&key).await?)?)
    }

    /// Waits until this many executions have succeeded, and none runs.
    async fn wait_for(&self, succeeded: usize) -> Result<()> {
        let waited = wait::until("the imports to end", TIMEOUT, async || {
            let failed = self.executions("FAILED").await?;
            ensure!(failed.is_empty(), "executions have failed: {failed:?}");
            Ok(self.executions("SUCCEEDED").await?.len() >= succeeded && self.executions("RUNNING").await?.is_empty())
        })
        .await;
        waited.with_context(|| self.cloud.log_tail())
    }
}

fn csv(rows: &Rows) -> String {
    let lines = rows.iter().map(|(id, note)| format!("{id},\"{note}\"\n"));
    format!("id,note\n{}", lines.collect::<String>())
}

fn gzip(text: &str) -> Result<Vec<u8>> {
    let (mut compressor, mut bytes) = (Compressor::gzip(), Vec::new());
    compressor.push(text.as_bytes(), &mut bytes)?;
    compressor.finish(&mut bytes)?;
    Ok(bytes)
}

/// The rows of a version, which differ for each tenant and table.
fn rows(tenant: &str, table: &str, version: usize) -> Rows {
    let first = version as u64 * 7;
    (first..first + 200)
        .map(|id| (id, format!("{tenant} {table} {id} {}", if id % 4 == 0 { version } else { 0 })))
        .collect()
}

/// Three tenants with two tables each, whose versions are uploaded at once in random order.
#[tokio::test]
async fn each_table_has_its_newest_export() -> Result<()> {
    println!("{}", import_many(Engine::Postgres).await?);
    Ok(())
}

#[tokio::test]
#[ignore = "takes minutes; part of `make test-stack`"]
async fn each_table_of_mariadb_has_its_newest_export() -> Result<()> {
    println!("{}", import_many(Engine::MariaDb).await?);
    Ok(())
}

/// Returns the numbers of imports.
async fn import_many(engine: Engine) -> Result<String> {
    let site = Site::deploy(engine).await?;
    let mut uploads = Vec::new();
    for tenant in TENANTS {
        for table in TABLES {
            uploads.extend((0..VERSIONS.len()).map(|version| (tenant, table, version)));
        }
    }
    let (mut random, seed) = random_numbers();
    for index in (1..uploads.len()).rev() {
        uploads.swap(index, random.usize(0..=index));
    }
    for (tenant, table, version) in &uploads {
        site.upload(tenant, table, VERSIONS[*version], &rows(tenant, table, *version)).await?;
    }
    site.wait_for(uploads.len()).await.with_context(|| format!("seed {seed}, order of the uploads: {uploads:?}"))?;

    let mut periods = Vec::new();
    for tenant in TENANTS {
        for table in TABLES {
            ensure!(site.rows(tenant, table).await? == rows(tenant, table, 2), "{tenant} {table} has other rows");
            let mut of_table = Vec::new();
            for version in VERSIONS {
                let record = site.record(tenant, table, version).await?;
                match record["state"].as_str() {
                    Some("done") => of_table.push(period(&record)?),
                    Some("stale") => {}
                    _ => bail!("{record}"),
                }
            }
            of_table.sort_unstable();
            for pair in of_table.windows(2) {
                ensure!(pair[0].1 <= pair[1].0, "two imports of {tenant} {table} at once: {pair:?}");
            }
            periods.push(of_table);
        }
    }
    let overlaps = |one: &(String, String), other: &(String, String)| one.0 < other.1 && other.0 < one.1;
    let mut parallel = 0;
    for (index, one) in periods.iter().enumerate() {
        for other in &periods[index + 1..] {
            parallel += one.iter().filter(|one| other.iter().any(|other| overlaps(one, other))).count();
        }
    }
    ensure!(parallel > 0, "no two tables were imported at the same time: {periods:?}");
    let imported: usize = periods.iter().map(Vec::len).sum();
    let summary = format!(
        "seed {seed}: {} uploads, {imported} imported, {} stale, {parallel} pairs at the same time",
        uploads.len(),
        uploads.len() - imported
    );

    // The same event again, and an older version.
    site.upload("acme", "orders", VERSIONS[2], &rows("acme", "orders", 2)).await?;
    site.upload("acme", "orders", "20201230_V0003", &rows("acme", "orders", 9)).await?;
    site.wait_for(uploads.len() + 2).await?;
    ensure!(site.rows("acme", "orders").await? == rows("acme", "orders", 2));
    assert_eq!(site.record("acme", "orders", "20201230_V0003").await?["state"], "stale");
    refused_export_fails_its_execution(&site).await?;
    Ok(summary)
}

/// From the lock to the end of an import.
fn period(record: &Value) -> Result<(String, String)> {
    let time = |name: &str| record[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {record}"));
    Ok((time("started_at")?, time("ended_at")?))
}

/// An export that was cut off: its execution fails, and the next version is imported.
async fn refused_export_fails_its_execution(site: &Site) -> Result<()> {
    let cut: Rows = rows("acme", "items", 3).into_iter().take(20).collect();
    site.upload("acme", "items", "20210101_V0001", &cut).await?;
    wait::until("the import to fail", TIMEOUT, async || Ok(site.executions("FAILED").await?.len() == 1)).await?;
    let record = site.record("acme", "items", "20210101_V0001").await?;
    ensure!(record["state"] == "failed" && record["error_kind"] == "export_refused", "{record}");
    ensure!(site.rows("acme", "items").await? == rows("acme", "items", 2));
    site.upload("acme", "items", "20210101_V0002", &rows("acme", "items", 3)).await?;
    wait::until(
        "the next version",
        TIMEOUT,
        async || Ok(site.rows("acme", "items").await? == rows("acme", "items", 3)),
    )
    .await?;
    Ok(())
}
