//! The local AWS: one MiniStack for the whole run. Each test has its own account, so that tests do not affect each other.
//!
//! `docs/testing.md` lists the differences between MiniStack and AWS.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use crate::keeper::{self, Owner};
use crate::settings::Settings;
use crate::{http, run, wait};

/// The region of every account.
pub const REGION: &str = "us-east-1";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether MiniStack checks a request against the policies of its caller's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Every request is allowed.
    Ignored,
    /// Requests are checked as on AWS, with the exceptions in `docs/testing.md`.
    Enforced,
}

/// A MiniStack process.
#[derive(Debug)]
pub struct Cloud {
    folder: PathBuf,
    port: u16,
    owner: Owner,
    roles: Roles,
}

impl Cloud {
    /// The MiniStack that all tests of this run share.
    pub async fn shared() -> Result<Self> {
        let folder =
            keeper::shared("cloud", async |folder| Self::launch(folder, Owner::Run, Roles::Ignored).await.map(drop))
                .await?;
        Ok(Self { port: keeper::port(&folder)?, folder, owner: Owner::Run, roles: Roles::Ignored })
    }

    /// Starts a MiniStack for this test alone. It stops when the value is dropped.
    pub async fn start() -> Result<Self> {
        Self::start_with(Roles::Ignored).await
    }

    /// Like [`Cloud::start`], with roles ignored or enforced.
    pub async fn start_with(roles: Roles) -> Result<Self> {
        Self::launch(run::folder()?.join(run::unique("cloud")), Owner::Test, roles).await
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// MiniStack's process.
    pub fn pid(&self) -> Result<u32> {
        keeper::pid(&self.folder)
    }

    /// The value of `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The last log lines of MiniStack and of the functions that it runs.
    pub fn log_tail(&self) -> String {
        keeper::log_tail(&self.folder)
    }

    /// The number of batches of queue messages with which a function has failed. MiniStack has no metric for them.
    pub fn failed_batches(&self, function: &str) -> Result<usize> {
        let path = self.folder.join("log");
        let log = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let failed = format!("ESM: Lambda {function} failed processing");
        Ok(String::from_utf8_lossy(&log).matches(&failed).count())
    }

    /// Creates an account with an empty bucket.
    pub async fn account(&self) -> Result<Account> {
        let account = self.account_without_bucket().await?;
        account.s3.create_bucket().bucket(&account.bucket).send().await.context("cannot create the test's bucket")?;
        Ok(account)
    }

    /// The account with this number, which several tests share. Names of buckets are global.
    pub async fn shared_account(&self, number: u64) -> Account {
        Account::new(self.port, self.endpoint(), format!("{number:012}")).await
    }

    /// Creates an account without a bucket.
    pub async fn account_without_bucket(&self) -> Result<Account> {
        let mut hasher = DefaultHasher::new();
        run::unique("account").hash(&mut hasher);
        // An account id has twelve digits.
        let number = hasher.finish() % 1_000_000_000_000;
        Ok(Account::new(self.port, self.endpoint(), format!("{number:012}")).await)
    }

    async fn launch(folder: PathBuf, owner: Owner, roles: Roles) -> Result<Self> {
        std::fs::create_dir_all(folder.join("tmp"))?;
        let port = keeper::reserve_port(&folder)?;
        let cloud = Self { folder, port, owner, roles };
        let command = [run::tool("ministack")?.display().to_string()];
        keeper::start(owner, &cloud.folder, &command, &cloud.environment()).await?;
        wait::until("MiniStack to respond", START_TIMEOUT, async || {
            keeper::ensure_alive(&cloud.folder)?;
            Ok(http::get(port, "/_ministack/health").await.is_ok_and(|health| health.status == 200))
        })
        .await?;
        Ok(cloud)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let folder = self.folder.display();
        [
            ("AUTH", (self.roles == Roles::Enforced).to_string()),
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("BIND_HOST", "127.0.0.1".to_owned()),
            ("GATEWAY_PORT", self.port.to_string()),
            ("HOME", folder.to_string()),
            ("IOT_MTLS_ENABLED", "0".to_owned()),
            ("S3_DATA_DIR", format!("{folder}/s3")),
            ("TMPDIR", format!("{folder}/tmp")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if self.owner == Owner::Test {
            keeper::remove(&self.folder);
        }
    }
}

/// An account of the local AWS, with one bucket and clients.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account id.
    pub id: String,
    /// The account's bucket: the value of `S3_BUCKET`.
    pub bucket: String,
    /// The S3 client.
    pub s3: aws_sdk_s3::Client,
    /// The Glue client.
    pub glue: aws_sdk_glue::Client,
    /// The ECS client.
    pub ecs: aws_sdk_ecs::Client,
    /// The Secrets Manager client.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// MiniStack's port.
    pub port: u16,
    endpoint: String,
}

impl Account {
    /// The settings of a binary that uses this account and bucket.
    pub fn settings(&self) -> Settings {
        Settings::default()
            .with("AWS_ACCESS_KEY_ID", &self.id)
            .with("AWS_SECRET_ACCESS_KEY", "test")
            .with("AWS_REGION", REGION)
            .with("AWS_ENDPOINT_URL", &self.endpoint)
            .with("AWS_EC2_METADATA_DISABLED", "true")
            .with("S3_BUCKET", &self.bucket)
    }

    /// The value of `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The configuration of a client in this process.
    pub async fn configuration(&self) -> SdkConfig {
        configuration(&self.endpoint, &self.id).await
    }

    /// The `Authorization` header for this account. MiniStack does not check the signature.
    pub fn credential(&self, service: &str) -> String {
        let scope = format!("{}/20260101/{REGION}/{service}/aws4_request", self.id);
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none")
    }

    /// Turns versioning of the bucket on.
    pub async fn keep_versions(&self) -> Result<()> {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        self.s3.put_bucket_versioning().bucket(&self.bucket).versioning_configuration(enabled).send().await?;
        Ok(())
    }

    /// Stores an object, and returns it as S3 describes it.
    pub async fn put(&self, key: &str, body: impl Into<bytes::Bytes>) -> Result<Object> {
        let body = body.into();
        let size_bytes = body.len() as u64;
        let put = self.s3.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(body)).send();
        let response = put.await.with_context(|| format!("cannot put {key}"))?;
        let etag = response.e_tag().context("the response of PutObject has no ETag")?.trim_matches('"').to_owned();
        Ok(Object { key: key.to_owned(), size_bytes, etag })
    }

    /// Reads an object.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let response = self
            .s3
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .with_context(|| format!("cannot get {key}"))?;
        Ok(response.body.collect().await?.to_vec())
    }

    /// Every object whose key begins with the prefix.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let mut pages = self.s3.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            for object in page?.contents.unwrap_or_default() {
                objects.push(Object {
                    key: object.key.context("a listed object has no key")?,
                    size_bytes: u64::try_from(object.size.unwrap_or_default())?,
                    etag: object.e_tag.context("a listed object has no ETag")?.trim_matches('"').to_owned(),
                });
            }
        }
        Ok(objects)
    }

    /// The keys that begin with the prefix.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.list(prefix).await?.into_iter().map(|object| object.key).collect())
    }

    /// The keys of unfinished multipart uploads.
    pub async fn open_uploads(&self) -> Result<Vec<String>> {
        let response = self.s3.list_multipart_uploads().bucket(&self.bucket).send().await?;
        Ok(response.uploads().iter().filter_map(|upload| upload.key().map(str::to_owned)).collect())
    }

    /// The container's environment in each RunTask request that MiniStack has recorded for the cluster.
    pub async fn tasks(&self, cluster: &str) -> Result<Vec<Settings>> {
        let listed = self.ecs.list_tasks().cluster(cluster).send().await?;
        if listed.task_arns().is_empty() {
            return Ok(Vec::new());
        }
        let described = self.ecs.describe_tasks().cluster(cluster).set_tasks(listed.task_arns).send().await?;
        let environment = |task: &aws_sdk_ecs::types::Task| {
            let overrides = task.overrides().map(|all| all.container_overrides()).unwrap_or_default();
            overrides
                .iter()
                .flat_map(|container| container.environment())
                .fold(Settings::default(), |settings, pair| {
                    settings.with(pair.name().unwrap_or_default(), pair.value().unwrap_or_default())
                })
        };
        Ok(described.tasks().iter().map(environment).collect())
    }

    async fn new(port: u16, endpoint: String, id: String) -> Self {
        let configuration = configuration(&endpoint, &id).await;
        let s3 = aws_sdk_s3::config::Builder::from(&configuration).force_path_style(true).build();
        Self {
            bucket: format!("spillway-{id}"),
            s3: aws_sdk_s3::Client::from_conf(s3),
            glue: aws_sdk_glue::Client::new(&configuration),
            ecs: aws_sdk_ecs::Client::new(&configuration),
            secrets: aws_sdk_secretsmanager::Client::new(&configuration),
            id,
            port,
            endpoint,
        }
    }
}

/// An object, as S3 lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The key.
    pub key: String,
    /// The size.
    pub size_bytes: u64,
    /// The ETag without its quotes.
    pub etag: String,
}

async fn configuration(endpoint: &str, account: &str) -> SdkConfig {
    let credentials = aws_sdk_s3::config::Credentials::new(account, "test", None, None, "test account");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(credentials))
        .load()
        .await
}
