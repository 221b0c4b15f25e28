//! Sends requests of the ingest function: to this process, or to a deployed function. Both return the same body.

use clap::Args;
use serde_json::{Value, json};
use spillway_core::config::{CommandSettings, DatabaseChoice, Environment, IngestSettings};
use spillway_core::destination::RunPlaces;
use spillway_core::dispatch::{DispatchSettings, Dispatcher, Tasks};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::function::IngestFunction;
use spillway_core::listing::ListRequest;
use spillway_core::policy::Purpose;
use spillway_core::request::Request;

use crate::database::DatabaseOptions;
use crate::exit;
use crate::output::ErrorDocument;
use crate::session::Session;

/// The name of this process in logs.
const SERVICE: &str = "terminal";

/// The field of a body with the errors of objects that have no outcome, if others have one. A deployed function fails instead.
pub(crate) const FAILURES: &str = "failures";

/// The setting with the bucket of a request that does not name one.
const BUCKET: &str = "S3_BUCKET";

/// Where a request runs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where the request runs")]
pub(crate) struct Target {
    /// Run in the ingest function of this stack; by default in this process
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    stack: Option<String>,
    /// Run in the ingest function with this name
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Use this bucket instead of S3_BUCKET
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
}

impl Target {
    /// Whether a deployed function runs the request.
    pub(crate) fn is_deployed(&self) -> bool {
        self.stack.is_some() || self.function.is_some()
    }

    /// This target with the bucket of an address, if there is one.
    pub(crate) fn in_bucket(&self, bucket: Option<&str>) -> Self {
        Self { bucket: bucket.map(str::to_owned).or_else(|| self.bucket.clone()), ..self.clone() }
    }

    /// Whether the request has a bucket: its own, that of the function, or that of the settings.
    ///
    /// # Errors
    /// When `S3_BUCKET` is invalid.
    pub(crate) fn names_bucket(&self, environment: &Environment) -> Result<bool> {
        Ok(self.is_deployed() || self.bucket.is_some() || environment.bucket()?.is_some())
    }
}

/// Where a request runs that needs a database, and which database.
#[derive(Debug, Clone, Args)]
pub(crate) struct RequestOptions {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) database: DatabaseOptions,
}

impl RequestOptions {
    /// Sends a request, and returns the body of the response.
    ///
    /// # Errors
    /// When the request or an option is invalid, or when an object of the request failed.
    pub(crate) async fn send(&self, session: &Session, request: Value) -> Result<Value> {
        send_in(&with_database(session, &self.target, &self.database)?, &self.target, request).await
    }
}

/// Sends a request, which runs with the settings of `environment` if it runs in this process.
///
/// # Errors
/// When the request is invalid, or when an object of it failed.
pub(crate) async fn send_in(environment: &Environment, target: &Target, mut request: Value) -> Result<Value> {
    if let Some(bucket) = &target.bucket {
        request["bucket"] = Value::from(bucket.as_str());
    }
    match (&target.stack, &target.function) {
        (Some(stack), _) => IngestFunction::of_stack(&environment.region()?, stack).await?.invoke(&request).await,
        (None, Some(name)) => IngestFunction::named(&environment.region()?, name).await.invoke(&request).await,
        (None, None) => run_here(environment, &request).await,
    }
}

/// What a request that only reads needs when it runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A bucket.
    Bucket,
    /// A bucket and a database.
    BucketAndDatabase,
}

/// Sends a request that only reads. In this process it needs no table, and no database unless `needs` says so.
///
/// # Errors
/// As [`send_in`], and when no option or setting names the bucket or the database.
pub(crate) async fn send_reading(
    environment: &Environment,
    target: &Target,
    needs: Needs,
    request: Value,
) -> Result<Value> {
    if target.is_deployed() {
        return send_in(environment, target, request).await;
    }
    let settings = CommandSettings::read(environment)?;
    let bucket = target.bucket.as_ref().or(settings.bucket.as_ref());
    let lacks_database = needs == Needs::BucketAndDatabase && settings.database == DatabaseChoice::Missing;
    let bucket = match (bucket, lacks_database) {
        (Some(bucket), false) => bucket,
        (Some(_), true) => return Err(no_database()),
        (None, false) => return Err(not_named(&[NO_BUCKET])),
        (None, true) => return Err(not_named(&[NO_BUCKET, NO_DATABASE])),
    };
    let request = Request::parse(&request, bucket, None)?;
    let pipeline = settings.pipeline;
    run(DispatchSettings { service: SERVICE, pipeline, tasks: None, upload_queue_url: None }, request).await
}

/// The settings of a command, in which the options of a database replace variables.
///
/// # Errors
/// When a deployed function runs the request, which has its own database, or the options are invalid.
pub(crate) fn with_database(session: &Session, target: &Target, database: &DatabaseOptions) -> Result<Environment> {
    if target.is_deployed() && database.is_used() {
        let message = "a deployed function uses its own database; name either a function or a database";
        return Err(Error::new(ErrorKind::EventInvalid, message));
    }
    Ok(session.environment.fixed(database.settings()?))
}

/// Sends a request for runs. In this process it needs only a database: without a bucket it lists the runs of all buckets.
///
/// # Errors
/// As [`send_in`], and when no option or setting names the database.
pub(crate) async fn send_runs(environment: &Environment, target: &Target, request: Value) -> Result<Value> {
    if target.is_deployed() {
        return send_in(environment, target, request).await;
    }
    let settings = CommandSettings::read(environment)?;
    if settings.database == DatabaseChoice::Missing {
        return Err(no_database());
    }
    let bucket = target.bucket.as_ref().or(settings.bucket.as_ref());
    let mut request = Request::parse(&request, bucket.map_or("", String::as_str), None)?;
    if let (Request::List { list: ListRequest::Runs(filter), .. }, is_explicit) =
        (&mut request, target.bucket.is_some())
    {
        filter.places = match bucket.cloned() {
            Some(bucket) if is_explicit => RunPlaces::Bucket(bucket),
            Some(bucket) => RunPlaces::BucketOrLocal(bucket),
            None => RunPlaces::All,
        };
    }
    let pipeline = settings.pipeline;
    run(DispatchSettings { service: SERVICE, pipeline, tasks: None, upload_queue_url: None }, request).await
}

/// What names a database.
const NO_DATABASE: &str = "no option or setting names the database; use --to URL, --secret NAME, or the settings RDS_HOST, \
                           RDS_USER, RDS_PASSWORD and RDS_DB";

/// What names a bucket.
const NO_BUCKET: &str = "no option or setting names the bucket; use --bucket NAME or the setting S3_BUCKET";

/// The error of a command that needs a database.
pub(crate) fn no_database() -> Error {
    not_named(&[NO_DATABASE])
}

fn not_named(missing: &[&str]) -> Error {
    Error::new(ErrorKind::Settings, missing.join("; ")).with_advice()
}

/// Runs the request in this process, as the ingest function does, until a signal stops it.
async fn run_here(environment: &Environment, request: &Value) -> Result<Value> {
    // The bucket of the request is enough.
    let bucket = request["bucket"].as_str().map(|bucket| (BUCKET, bucket.to_owned()));
    let environment = environment.or(bucket.into_iter().collect());
    if environment.bucket()?.is_none() {
        return Err(not_named(&[NO_BUCKET]));
    }
    let settings = IngestSettings::read(&environment)?;
    let request = Request::parse(request, &settings.bucket, None)?;
    let tasks = Some(Tasks { above_bytes: u64::MAX, launch: settings.launch });
    run(DispatchSettings { service: SERVICE, pipeline: settings.pipeline, tasks, upload_queue_url: None }, request)
        .await
}

async fn run(dispatch: DispatchSettings, request: Request) -> Result<Value> {
    let dispatcher = Box::pin(Dispatcher::connect(dispatch)).await.for_terminal();
    let deadline = exit::until_signal()?;
    let (mut body, failures) = Box::pin(dispatcher.run(request, &deadline)).await?.into_body_and_failures()?;
    if !failures.is_empty() {
        let documents: Vec<_> = failures.iter().map(|error| ErrorDocument::of(error, Purpose::Load)).collect();
        body[FAILURES] = json!(documents);
    }
    Ok(body)
}
