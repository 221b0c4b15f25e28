//! The local AWS: one MiniStack for the whole run, and an account of its own for each test, so that tests never meet.
//!
//! What MiniStack does differently from AWS, and so cannot prove, is listed in `scripts/README.md`.

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
const START_BOUND: Duration = Duration::from_secs(60);

/// Whether MiniStack checks a request against the policies of its caller's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Every caller may do everything.
    Ignored,
    /// As on AWS, with the exceptions in `docs/testing.md`.
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
        let port = std::fs::read_to_string(folder.join("port"))?.trim().parse().context("the port file is broken")?;
        Ok(Self { folder, port, owner: Owner::Run, roles: Roles::Ignored })
    }

    /// A MiniStack for this test alone; it ends with the value.
    pub async fn start() -> Result<Self> {
        Self::start_with(Roles::Ignored).await
    }

    /// The same, with roles ignored or enforced.
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

    /// What MiniStack and the functions that it runs wrote last.
    pub fn log_tail(&self) -> String {
        keeper::log_tail(&self.folder)
    }

    /// A new account with an empty bucket.
    pub async fn account(&self) -> Result<Account> {
        let account = self.account_without_bucket().await?;
        account.s3.create_bucket().bucket(&account.bucket).send().await.context("cannot make the test's bucket")?;
        Ok(account)
    }

    /// A new account; its bucket is still to be made.
    pub async fn account_without_bucket(&self) -> Result<Account> {
        let mut hasher = DefaultHasher::new();
        run::unique("account").hash(&mut hasher);
        // An account's number has twelve digits.
        let number = hasher.finish() % 1_000_000_000_000;
        Ok(Account::new(self.port, self.endpoint(), format!("{number:012}")).await)
    }

    async fn launch(folder: PathBuf, owner: Owner, roles: Roles) -> Result<Self> {
        std::fs::create_dir_all(folder.join("tmp"))?;
        let port = run::free_port()?;
        std::fs::write(folder.join("port"), port.to_string())?;
        let cloud = Self { folder, port, owner, roles };
        let command = [run::tool("ministack")?.display().to_string()];
        keeper::start(owner, &cloud.folder, &command, &cloud.environment()).await?;
        wait::until("MiniStack to answer", START_BOUND, async || {
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

/// An account of the local AWS, with one bucket and the clients to look at it.
#[derive(Debug, Clone)]
pub struct Account {
    /// The twelve digits.
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
    /// The settings by which a binary under test reaches this account and bucket.
    pub fn settings(&self) -> Settings {
        Settings::default()
            .with("AWS_ACCESS_KEY_ID", &self.id)
            .with("AWS_SECRET_ACCESS_KEY", "test")
            .with("AWS_REGION", REGION)
            .with("AWS_ENDPOINT_URL", &self.endpoint)
            .with("AWS_EC2_METADATA_DISABLED", "true")
            .with("S3_BUCKET", &self.bucket)
    }

    /// The header that names this account to MiniStack, which checks no signature.
    pub fn credential(&self, service: &str) -> String {
        let scope = format!("{}/20260101/{REGION}/{service}/aws4_request", self.id);
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none")
    }

    /// Keeps every version of an object from now on.
    pub async fn keep_versions(&self) -> Result<()> {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        self.s3.put_bucket_versioning().bucket(&self.bucket).versioning_configuration(enabled).send().await?;
        Ok(())
    }

    /// Stores an object; the answer is what S3 knows about it.
    pub async fn put(&self, key: &str, body: impl Into<bytes::Bytes>) -> Result<Object> {
        let body = body.into();
        let size_bytes = body.len() as u64;
        let put = self.s3.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(body)).send();
        let answer = put.await.with_context(|| format!("cannot put {key}"))?;
        let etag = answer.e_tag().context("PutObject answered without an ETag")?.trim_matches('"').to_owned();
        Ok(Object { key: key.to_owned(), size_bytes, etag })
    }

    /// Reads an object whole.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let answer = self
            .s3
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .with_context(|| format!("cannot get {key}"))?;
        Ok(answer.body.collect().await?.to_vec())
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

    /// The keys of multipart uploads that nobody completed or aborted.
    pub async fn open_uploads(&self) -> Result<Vec<String>> {
        let answer = self.s3.list_multipart_uploads().bucket(&self.bucket).send().await?;
        Ok(answer.uploads().iter().filter_map(|upload| upload.key().map(str::to_owned)).collect())
    }

    /// What was handed to Fargate: for each recorded RunTask of the cluster, the environment of its container.
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

/// An object as S3 lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The whole key.
    pub key: String,
    /// The size.
    pub size_bytes: u64,
    /// The ETag without its quotes.
    pub etag: String,
}

async fn configuration(endpoint: &str, account: &str) -> SdkConfig {
    let credentials = aws_sdk_s3::config::Credentials::new(account, "test", None, None, "the test's own account");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(credentials))
        .load()
        .await
}
