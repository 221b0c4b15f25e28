//! One bucket, one catalog and one database for a test, and assertions on their contents.

use std::future::ready;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{FakeDatabase, Step};
use crate::catalog::{Catalog, GlueSettings};
use crate::check::{Check, Surroundings, check};
use crate::deadline::Deadline;
use crate::destination::{
    Authentication, ChangedTypes, Credentials, DestinationOptions, Engine, LedgerState, LoadMethod, LoadMode,
    MissingColumns, Output, RedshiftKeys, Tls, UnknownColumns,
};
use crate::dispatch::{BatchResult, Dispatcher, RequestResult};
use crate::error::{Error, Result};
use crate::fallback::Manifest;
use crate::glue_jobs::GlueJobs;
use crate::memory_aws::{BUCKET, MemoryAws};
use crate::object::{ObjectRef, ObjectVersion, SourceId};
use crate::pipeline::{
    AfterLoad, Context, CostMeter, DatabaseAccess, DatabaseSettings, Dedupe, KnownOutage, Operator, PipelineConfig,
    TableRules, Tables, process,
};
use crate::raw_zone::GlueOutage;
use crate::replay::{Replay, ReplaySelection, replay};
use crate::report::Report;
use crate::request::{Request, SweepRequest};
use crate::route::{self, Prefixes, TableRoutes};
use crate::secret::CredentialSettings;
use crate::status::{Status, StatusRequest, status};
use crate::store::Store;
use spillway_formats::Batch;
use spillway_formats::columns::ColumnRules;
use spillway_formats::compression::DecodedLimits;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::ReadOptions;
use spillway_formats::detect::FileFormat;
use spillway_formats::json::JsonOptions;
use spillway_formats::limits::ReadLimits;
use spillway_formats::parquet;
use spillway_formats::reject::RejectLimit;
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::fallback::FallbackFormat;

/// The key of the file that most tests load.
pub(super) const KEY: &str = "uploads/a.csv";
/// The contents of that file: two rows.
pub(super) const FILE: &str = "id,note\n1,one\n2,two\n";

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is buffered in memory, scanned, then loaded.
    Buffered,
    /// It is too large to buffer, so its rows are loaded while they are read.
    SinglePass,
}

pub(super) struct Fixture {
    pub(super) aws: MemoryAws,
    pub(super) database: FakeDatabase,
    pub(super) settings: PipelineConfig,
}

impl Fixture {
    /// A bucket with one file, an empty database, and a retry budget of some milliseconds.
    pub(super) fn new(reading: Reading) -> Self {
        let mut settings = settings();
        if reading == Reading::SinglePass {
            settings.buffer_max_bytes = 0;
        }
        let fixture = Self { aws: MemoryAws::default(), database: FakeDatabase::default(), settings };
        fixture.aws.put(KEY, FILE);
        fixture
    }

    /// Stores rows there, with the lake under `lake/`.
    pub(super) fn with_output(mut self, output: Output) -> Self {
        self.settings.database.options.output = output;
        self.settings.prefixes.lake = Some("lake/".to_owned());
        self
    }

    /// Allows this many rejected records per file.
    pub(super) fn with_max_rejects(mut self, count: u64) -> Self {
        self.settings.files.limits.rejects = RejectLimit::Count(count);
        self
    }

    /// Waits this long for the database.
    pub(super) fn with_retry_budget(mut self, budget: Duration) -> Self {
        self.settings.database.retry_budget = budget;
        self
    }

    pub(super) fn with_lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Processes the file as a new worker. Fails if rows are in the database and in the fallback afterwards.
    pub(super) async fn process(&self) -> Result<Report> {
        self.process_key(KEY).await
    }

    /// Processes the object with this key as a new worker.
    pub(super) async fn process_key(&self, key: &str) -> Result<Report> {
        self.process_until(key, no_deadline()).await
    }

    pub(super) async fn process_until(&self, key: &str, deadline: Deadline) -> Result<Report> {
        let result = process(&self.context(), &ObjectRef::new(BUCKET, key), deadline).await;
        self.assert_not_in_both_places();
        result
    }

    /// Processes the object with this key in a process that has processed others.
    pub(super) async fn process_in(&self, context: &Context, key: &str) -> Result<Report> {
        let result = process(context, &ObjectRef::new(BUCKET, key), no_deadline()).await;
        self.assert_not_in_both_places();
        result
    }

    fn assert_not_in_both_places(&self) {
        for key in self.fallback_keys() {
            let name = key.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
            let id = SourceId::parse(name).expect("the name of a fallback object is a source id");
            assert!(!self.database.has_rows_of(&id), "the rows are in the database and in the fallback: {key}");
        }
    }

    /// Runs the request for one object in a new process.
    pub(super) async fn run_one(&self, key: &str) -> Result<RequestResult> {
        let request = Request::Object(ObjectRef::new(BUCKET, key));
        Dispatcher::of_context(self.context()).run(request, &no_deadline()).await
    }

    /// Sweeps as a new worker.
    pub(super) async fn sweep(&self) -> BatchResult {
        let sweep = SweepRequest { older_than_seconds: Some(0) };
        let request = Request::Sweep { bucket: BUCKET.to_owned(), sweep };
        Dispatcher::of_context(self.context()).run(request, &no_deadline()).await.unwrap().results
    }

    /// Runs a request in a new process, and returns the result.
    pub(super) async fn run(&self, request: &Value) -> Value {
        serde_json::to_value(self.run_until(request, &no_deadline()).await).unwrap()
    }

    /// Runs a request in a new process with this deadline.
    pub(super) async fn run_until(&self, request: &Value, deadline: &Deadline) -> RequestResult {
        let request = Request::parse(request, BUCKET, None).unwrap();
        Box::pin(Dispatcher::of_context(self.context()).run(request, deadline)).await.unwrap()
    }

    /// Processes a batch of messages, one for each of these keys, as a new worker.
    pub(super) async fn receive(&self, keys: &[&str], receive_count: u32) -> Value {
        self.receive_until(keys, receive_count, &no_deadline()).await
    }

    /// The same with this deadline.
    pub(super) async fn receive_until(&self, keys: &[&str], receive_count: u32, deadline: &Deadline) -> Value {
        let message = |key: &&str| {
            let event = json!({"Records": [{
                "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}},
            }]});
            json!({
                "messageId": key, "receiptHandle": "handle", "eventSource": "aws:sqs", "body": event.to_string(),
                "attributes": {"ApproximateReceiveCount": receive_count.to_string()},
            })
        };
        let batch = json!({"Records": keys.iter().map(message).collect::<Vec<_>>()});
        Box::pin(Dispatcher::of_context(self.context()).respond(&batch, deadline)).await.unwrap()
    }

    /// Replays the fallback as a new worker.
    pub(super) async fn replay(&self) -> Vec<Result<Report>> {
        self.replay_in(&self.context()).await
    }

    /// Replays the fallback in a process that has processed other objects.
    pub(super) async fn replay_in(&self, context: &Context) -> Vec<Result<Report>> {
        match Box::pin(replay(context, BUCKET, &ReplaySelection::default(), &no_deadline())).await.unwrap() {
            Replay::Done(results) => results,
            Replay::Postponed(postponed) => panic!("the replay was postponed: {}", postponed.reason),
        }
    }

    /// Replays the whole fallback if the database is available.
    pub(super) async fn try_replay(&self) -> Replay {
        Box::pin(replay(&self.context(), BUCKET, &ReplaySelection::default(), &no_deadline())).await.unwrap()
    }

    /// The status of a key, or of everything that waits.
    pub(super) async fn status(&self, key: Option<&str>) -> Result<Status> {
        let request = StatusRequest { key: key.map(str::to_owned) };
        // Boxed, as in the dispatcher: unoptimized futures of this depth exceed the stack of a test's thread.
        Box::pin(status(&self.context(), BUCKET, &request, &no_deadline())).await
    }

    /// The result of a check, without queue and tasks.
    pub(super) async fn check(&self) -> Check {
        Box::pin(check(&self.context(), Surroundings::default(), BUCKET, &no_deadline())).await
    }

    /// The current version of the object with this key.
    pub(super) async fn version(&self, key: &str) -> ObjectVersion {
        Store::new(&self.aws.config()).head(&ObjectRef::new(BUCKET, key)).await.unwrap()
    }

    /// Creates the expired lease of an earlier attempt at the file.
    pub(super) async fn leave_lease(&self, commit_may_be_sent: bool, fallback_may_be_written: bool) {
        self.leave_lease_with(json!({
            "commit_may_be_sent": commit_may_be_sent, "fallback_may_be_written": fallback_may_be_written,
        }))
        .await;
    }

    /// Creates the expired lease of an earlier attempt at the file, with these fields.
    pub(super) async fn leave_lease_with(&self, fields: Value) {
        let expires_at = Timestamp::now() - SignedDuration::from_secs(60);
        self.put_lease(&self.version(KEY).await, expires_at, fields);
    }

    /// Creates the live lease of another worker for this version.
    pub(super) fn put_live_lease(&self, version: &ObjectVersion) {
        self.put_lease(version, Timestamp::now() + SignedDuration::from_secs(60), json!({}));
    }

    fn put_lease(&self, version: &ObjectVersion, expires_at: Timestamp, fields: Value) {
        let mut document = json!({
            "worker": "other", "token": "other", "acquired_at": expires_at, "expires_at": expires_at,
            "commit_may_be_sent": false, "object": version.object,
        });
        for (name, value) in fields.as_object().expect("the fields are an object") {
            document[name] = value.clone();
        }
        let key = route::lease_key(&self.settings.prefixes, &version.id);
        self.aws.put(&key, serde_json::to_vec(&document).unwrap());
    }

    /// An action that makes another worker take over the lease.
    pub(super) fn steal_lease(&self) -> impl FnOnce() + Send + 'static {
        let aws = self.aws.clone();
        move || {
            let key = aws.keys().into_iter().find(|key| key.starts_with("lease/")).expect("a lease is held");
            let mut document: Value = serde_json::from_slice(&aws.get(&key).unwrap()).unwrap();
            document["token"] = json!("successor");
            aws.put(&key, serde_json::to_vec(&document).unwrap());
        }
    }

    /// Whether the lease in the bucket notes a COMMIT and a fallback; `None` without a lease.
    pub(super) fn lease_notes(&self) -> Option<(bool, bool)> {
        let key = self.aws.keys().into_iter().find(|key| key.starts_with("lease/"))?;
        let document: Value = serde_json::from_slice(&self.aws.get(&key)?).unwrap();
        Some((document["commit_may_be_sent"] == true, document["fallback_may_be_written"] == true))
    }

    /// The number of acquisitions that have not ended, according to the lease in the bucket; `None` without a lease.
    pub(super) fn unended_acquisitions(&self) -> Option<u64> {
        let key = self.aws.keys().into_iter().find(|key| key.starts_with("lease/"))?;
        let document: Value = serde_json::from_slice(&self.aws.get(&key)?).unwrap();
        document["unended_acquisitions"].as_u64()
    }

    /// The lease in the bucket expires, as if its holder had died.
    pub(super) fn expire_lease(&self) {
        let key = self.aws.keys().into_iter().find(|key| key.starts_with("lease/")).expect("a lease exists");
        let mut document: Value = serde_json::from_slice(&self.aws.get(&key).unwrap()).unwrap();
        document["expires_at"] = json!(Timestamp::now() - SignedDuration::from_secs(60));
        self.aws.put(&key, serde_json::to_vec(&document).unwrap());
    }

    /// The kinds of objects in the bucket, by key, separated by spaces.
    pub(super) fn objects(&self) -> String {
        self.aws.keys().iter().map(|key| kind_of(key)).collect::<Vec<_>>().join(" ")
    }

    /// The rows of the lake objects, in the order of their keys, read as files.
    pub(super) async fn lake_rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for key in self.aws.keys().into_iter().filter(|key| kind_of(key) == "lake") {
            let reader = Self::new(Reading::Buffered);
            reader.aws.put("uploads/copy.parquet", self.aws.get(&key).unwrap());
            reader.process_key("uploads/copy.parquet").await.unwrap();
            rows.extend(reader.database.rows());
        }
        rows
    }

    /// The rows in the fallback, fields joined by commas.
    pub(super) fn fallback_rows(&self) -> Vec<String> {
        self.fallback_keys().iter().flat_map(|key| self.rows_at(key)).collect()
    }

    fn rows_at(&self, key: &str) -> Vec<String> {
        let bytes = Bytes::from(self.aws.get(key).unwrap());
        let columns = self.manifest_of(key).columns;
        let size_bytes = bytes.len() as u64;
        let read =
            move |range: Range<u64>| ready(Ok::<_, Error>(bytes.slice(range.start as usize..range.end as usize)));
        let batches = parquet::decode(&columns, size_bytes, read).try_collect::<Vec<Batch>>();
        let batches = batches.now_or_never().expect("all bytes are in memory").unwrap();
        let field = |batch: &Batch, row, column| {
            String::from_utf8_lossy(batch.field(row, column).unwrap_or_default()).into_owned()
        };
        let row = |batch: &Batch, row| {
            (0..batch.width()).map(|column| field(batch, row, column)).collect::<Vec<_>>().join(",")
        };
        batches.iter().flat_map(|batch| (0..batch.rows()).map(|at| row(batch, at))).collect()
    }

    /// The manifest of a fallback object.
    fn manifest_of(&self, key: &str) -> Manifest {
        let id = key.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        serde_json::from_slice(&self.aws.get(&format!("fallback/_manifests/{id}.json")).unwrap()).unwrap()
    }

    /// Replaces the only fallback object by the CSV that an earlier version would have written.
    pub(super) fn rewrite_fallback_as_csv(&self) {
        let key = self.fallback_keys().remove(0);
        let mut manifest = self.manifest_of(&key);
        let line = |row: &String| format!("\"\",\"{}\"\n", row.replace(',', "\",\""));
        let csv: String = self.rows_at(&key).iter().map(line).collect();
        manifest.format = FallbackFormat::Csv;
        manifest.key = key.replace(".parquet", ".csv");
        for (index, column) in manifest.columns.iter_mut().enumerate() {
            (column.stored_type, column.place) = (ColumnType::Text, index + 1);
        }
        self.aws.delete(&key);
        self.aws.put(&manifest.key, csv);
        let manifest_key = format!("fallback/_manifests/{}.json", manifest.source.id);
        self.aws.put(&manifest_key, serde_json::to_vec(&manifest).unwrap());
    }

    fn fallback_keys(&self) -> Vec<String> {
        self.aws.keys().into_iter().filter(|key| kind_of(key) == "fallback").collect()
    }

    /// The state of the only ledger row, if there is one.
    pub(super) fn ledger_state(&self) -> Option<LedgerState> {
        let ledger = self.database.ledger();
        assert!(ledger.len() <= 1, "more than one ledger row: {ledger:?}");
        ledger.first().map(|row| row.entry.state)
    }

    /// Asserts that the file's rows are in the table once, and that only the moved object is left in the bucket.
    pub(super) fn assert_loaded(&self) {
        assert_eq!(self.objects(), "processed");
        assert_eq!(self.database.rows(), ["1,one", "2,two"]);
        assert_eq!(self.ledger_state(), Some(LedgerState::Loaded));
    }

    /// Asserts that the file's rows are in the fallback once, and not in the table.
    pub(super) fn assert_fell_back(&self) {
        assert_eq!(self.objects(), "failed manifest fallback");
        assert_eq!((self.database.rows().len(), self.fallback_rows().len()), (0, 2));
        assert_eq!(self.aws.partitions(), 1);
    }

    /// Asserts that no row is stored, and that the bucket contains exactly these kinds of objects.
    pub(super) fn assert_waits(&self, objects: &str) {
        assert_eq!(self.objects(), objects);
        assert!(self.database.rows().is_empty() && self.fallback_rows().is_empty());
    }

    /// Starts an attempt at the file by a worker that dies while it sends rows.
    pub(super) async fn die_while_writing(&self) {
        self.die_at(Step::Write).await;
    }

    /// Starts an attempt at the file by a worker that dies at this step.
    pub(super) async fn die_at(&self, step: Step) {
        self.database.hang_at(step);
        let (context, object) = (self.context(), ObjectRef::new(BUCKET, KEY));
        let attempt = process(&context, &object, no_deadline());
        tokio::select! {
            result = attempt => panic!("the worker has not died: {result:?}"),
            () = self.database.until_hanging() => {}
        }
        self.database.heal();
        self.expire_lease();
    }

    pub(super) fn context(&self) -> Context {
        let config = self.aws.config();
        Context {
            store: Store::new(&config),
            catalog: Catalog::new(&config, self.settings.glue.clone()),
            destinations: Arc::new(self.database.clone()),
            glue_jobs: self.settings.glue_job.clone().map(|settings| GlueJobs::new(&config, settings)),
            outage: KnownOutage::default(),
            glue_outage: GlueOutage::default(),
            cost_meter: CostMeter::default(),
            operator: Operator::Absent,
            settings: self.settings.clone(),
            worker: "worker".to_owned(),
        }
    }
}

/// A deadline that is never reached.
pub(super) fn no_deadline() -> Deadline {
    Deadline::until_stopped(tokio::sync::watch::channel(false).1)
}

fn kind_of(key: &str) -> &'static str {
    match key.split_once('/').map_or("", |(prefix, _)| prefix) {
        "failed" if key.ends_with(".reason.json") => "reason",
        "failed" => "failed",
        "fallback" if key.starts_with("fallback/_manifests/") => "manifest",
        "fallback" if key.starts_with("fallback/_registrations/") => "registration",
        "fallback" => "fallback",
        "lake" if key.starts_with("lake/_manifests/") => "lake-manifest",
        "lake" => "lake",
        "lease" => "lease",
        "processed" => "processed",
        "rejected" if key.ends_with(".jsonl") => "reject-errors",
        "rejected" => "rejects",
        "uploads" => "upload",
        _ => "other",
    }
}

fn settings() -> PipelineConfig {
    let options = DestinationOptions {
        tls: Tls::Off,
        load_method: LoadMethod::Auto,
        load_mode: LoadMode::Append,
        unknown_columns: UnknownColumns::Refuse,
        extra_column: "extra".to_owned(),
        missing_columns: MissingColumns::Default,
        changed_types: ChangedTypes::Refuse,
        output: Output::Database,
        redshift_keys: RedshiftKeys::default(),
        ledger_table: "spillway_ledger".to_owned(),
        connect_timeout: Duration::from_secs(1),
        atomic_max_bytes: 1 << 30,
    };
    let credentials = Credentials {
        engine: Engine::MySql,
        host: "localhost".to_owned(),
        port: 3306,
        user: "user".to_owned(),
        password: SecretString::from(String::new()),
        authentication: Authentication::Password,
        database: "database".to_owned(),
    };
    let csv = CsvDialect { delimiter: None, ..CsvDialect::default() };
    let decoded = DecodedLimits { max_bytes: 1 << 30, max_ratio: 1000 };
    let limits = ReadLimits {
        max_record_bytes: 1 << 20,
        max_columns: 100,
        max_memory_bytes: 1 << 30,
        decoded,
        rejects: RejectLimit::Count(0),
    };
    PipelineConfig {
        stack: "test".into(),
        event_bus: None,
        region: "us-east-1".to_owned(),
        prefixes: Prefixes {
            upload: vec!["uploads/".to_owned()],
            processed: "processed/".to_owned(),
            failed: "failed/".to_owned(),
            fallback: "fallback/".to_owned(),
            lease: "lease/".to_owned(),
            rejected: "rejected/".to_owned(),
            lake: None,
            glue_job: None,
            copy: None,
        },
        glue_job: None,
        glue: GlueSettings { database: "lake".to_owned(), table: "spare".to_owned() },
        database: DatabaseSettings {
            ca_secret: None,
            access: DatabaseAccess::Login(CredentialSettings::Inline(credentials)),
            tables: Tables::fixed(TableRules::of_routes(TableRoutes {
                patterns: Default::default(),
                default: Some("orders".into()),
            })),
            options,
            history_days: 90,
            retry_budget: Duration::from_millis(5),
        },
        key_columns: Vec::new(),
        dedupe: Dedupe::Content,
        after_load: AfterLoad::Move,
        catalog_raw: false,
        raw_database: "raw".to_owned(),
        lake_database: "lake_tables".to_owned(),
        files: ReadOptions {
            format: FileFormat::Auto,
            csv,
            json: JsonOptions::default(),
            columns: ColumnRules::default(),
            limits,
        },
        buffer_max_bytes: 1 << 20,
        max_concurrent_files: 1,
        export_key: Vec::new(),
        lease: Duration::from_secs(60),
        sync_overlap: Duration::from_secs(3600),
        compute: None,
        host: "host".to_owned(),
    }
}
