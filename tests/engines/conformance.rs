//! The fixture of the conformance tests, which every engine runs: an engine, a destination, files and claims.
//!
//! The tests are in [`conformance_append`](crate::engines::conformance_append),
//! [`conformance_changes`](crate::engines::conformance_changes),
//! [`conformance_contract`](crate::engines::conformance_contract),
//! [`conformance_mirror`](crate::engines::conformance_mirror),
//! [`conformance_modes`](crate::engines::conformance_modes),
//! [`conformance_operations`](crate::engines::conformance_operations) and
//! [`conformance_failures`](crate::engines::conformance_failures). Each of them has a list, from which the module of an
//! engine generates its tests.

use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use spillway_core::batch::BatchStream;
use spillway_core::config::secret;
use spillway_core::destination::{
    self, Authentication, Begun, Body, ChangedTypes, CommitResult, Credentials, Destination, DestinationOptions,
    FileClaim, FileSchema, IdleConnections, LedgerEntry, LoadMethod, LoadMode, MissingColumns, OpenLoad, Output,
    ReadyLoad, RedshiftKeys, RowCounts, TableChanges, Tls, UnknownColumns, WriteResult,
};
use spillway_core::error::{Error, ErrorKind, Position, chain};
use spillway_core::object::{ObjectRef, ObjectVersion};
use spillway_formats::schema::Schema;
use spillway_formats::schema::infer::Inference;
use spillway_formats::{Batch, FieldKind};
use spillway_test_env::database::{self, Database, Rows};

/// The destination table of every conformance test.
pub(crate) const TABLE: &str = "orders";

/// An engine under test, with its own schema.
pub(crate) trait Engine {
    /// Whether a text column can store the NUL character.
    const STORES_NUL: bool;

    /// Whether the counts of a merge are known before COMMIT.
    const COUNTS_BEFORE_COMMIT: bool = true;

    /// The quote character of identifiers.
    const IDENTIFIER_QUOTE: char;

    /// The typed values of `every_type_round_trips` as this engine prints them, for two rows.
    const TYPED: [[&'static str; 7]; 2];

    /// The server.
    fn server(&self) -> &Database;

    /// The schema of the test.
    fn schema(&self) -> &database::Schema;

    /// The method with which destinations send rows.
    fn load_method(&self) -> LoadMethod {
        LoadMethod::Auto
    }

    /// The statements that create [`TABLE`] with partitions for the ids below 100 and below 200, and a text `note`.
    const PARTITIONED: &'static [&'static str];

    /// Creates another schema that the owner may use, and returns its name.
    fn create_schema(&self) -> impl Future<Output = Result<String>>;

    /// Runs one query as the schema's owner.
    fn rows(&self, query: &str) -> impl Future<Output = Result<Rows>>;

    /// Revokes the owner's privilege to create, change and drop tables.
    fn revoke_ddl(&self) -> impl Future<Output = Result<()>>;

    /// Makes the server read-only for the schema's owner. Only for a server that no other test uses.
    fn make_read_only(&self) -> impl Future<Output = Result<()>>;

    /// Statements of the administrator that drop the ledger's indexes for look-ups.
    fn ledger_indexes(&self) -> [String; 3] {
        match self.schema().engine {
            database::Engine::MariaDb => ["object", "history", "state"]
                .map(|index| format!("ALTER TABLE {{schema}}.spillway_ledger DROP INDEX {index}")),
            database::Engine::Postgres => ["object_key", "started_at", "state"]
                .map(|index| format!("DROP INDEX {{schema}}.spillway_ledger_{index}")),
        }
    }

    /// The number of indexes of ledger and history, without those of their keys.
    async fn index_count(&self) -> Result<usize> {
        let query = match self.schema().engine {
            database::Engine::MariaDb => {
                "SELECT DISTINCT TABLE_NAME, INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
                 AND NON_UNIQUE = 1 AND TABLE_NAME LIKE 'spillway%'"
            }
            database::Engine::Postgres => {
                "SELECT indexname::text FROM pg_indexes WHERE tablename LIKE 'spillway%' AND indexdef NOT LIKE '%UNIQUE%'"
            }
        };
        Ok(self.rows(query).await?.len())
    }

    /// Runs a statement as the administrator.
    async fn administrate(&self, statement: &str) -> Result<()> {
        self.server().execute(self.schema(), statement).await
    }

    /// The destination for [`TABLE`] with changed credentials or options.
    fn with(&self, change: impl FnOnce(&mut Credentials, &mut DestinationOptions)) -> TestDestination {
        let schema = self.schema();
        let mut credentials = Credentials {
            engine: match schema.engine {
                database::Engine::MariaDb => destination::Engine::MySql,
                database::Engine::Postgres => destination::Engine::Postgres,
            },
            host: "127.0.0.1".into(),
            port: schema.port,
            user: schema.user.clone(),
            password: secret(schema.password.clone()),
            database: schema.name.clone(),
            authentication: Authentication::Password,
        };
        let ca_pem = std::fs::read(&schema.authority).expect("the authority's file");
        let mut options = DestinationOptions {
            output: Output::Database,
            redshift_keys: RedshiftKeys::default(),
            tls: Tls::Verify { ca_pem: ca_pem.into() },
            load_method: self.load_method(),
            load_mode: LoadMode::Append,
            unknown_columns: UnknownColumns::Refuse,
            extra_column: "extra".into(),
            missing_columns: MissingColumns::Default,
            changed_types: ChangedTypes::Refuse,
            ledger_table: "spillway_ledger".into(),
            // Long enough for eight connections at once on a busy machine.
            connect_timeout: Duration::from_secs(20),
            atomic_max_bytes: u64::MAX,
        };
        change(&mut credentials, &mut options);
        self.open(credentials, options)
    }

    /// Opens the destination with these credentials and options.
    fn open(&self, credentials: Credentials, options: DestinationOptions) -> TestDestination {
        TestDestination::new(destination::open(credentials, options, &IdleConnections::default()))
    }

    /// The destination for [`TABLE`].
    fn destination(&self) -> TestDestination {
        self.with(|_, _| {})
    }

    /// The destination for [`TABLE`] that stages every file above this size.
    fn destination_with_staging_above(&self, size_bytes: u64) -> TestDestination {
        self.with(|_, options| options.atomic_max_bytes = size_bytes)
    }

    /// The destination for [`TABLE`] in a load mode, which stages every file above this size.
    fn destination_with(&self, mode: LoadMode, staging_above_bytes: Option<u64>) -> TestDestination {
        self.with(|_, options| {
            options.load_mode = mode;
            options.atomic_max_bytes = staging_above_bytes.unwrap_or(u64::MAX);
        })
    }
}

/// A file: column names, and rows of optional fields.
#[derive(Clone)]
pub(crate) struct File {
    names: Vec<String>,
    has_header: bool,
    batches: Vec<Batch>,
}

impl File {
    /// A file in one batch.
    pub(crate) fn new(names: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let rows = rows.iter().map(|row| row.iter().map(|field| field.map(str::to_owned)).collect());
        Self::large(names, rows.collect(), 1000)
    }

    /// A file in batches of `batch_rows` rows.
    pub(crate) fn large(names: &[&str], rows: Rows, batch_rows: usize) -> Self {
        let mut record = 0;
        let mut batches = Vec::new();
        for chunk in rows.chunks(batch_rows.max(1)) {
            let mut batch = Batch::new(names.len());
            for row in chunk {
                record += 1;
                row.iter().for_each(|field| batch.push_field(field.as_deref().map(str::as_bytes)));
                batch.end_row(Position { record, line: record + 1, byte: record * 10 });
            }
            batches.push(batch);
        }
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), has_header: true, batches }
    }

    /// A file in which fields that begin like an object or an array are nested values.
    pub(crate) fn with_nested(names: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let mut batch = Batch::new(names.len());
        for (index, row) in rows.iter().enumerate() {
            for field in *row {
                match field {
                    Some(text) if text.starts_with(['{', '[']) => {
                        batch.push_kind(FieldKind::Nested, text.as_bytes());
                    }
                    field => batch.push_field(field.map(str::as_bytes)),
                }
            }
            batch.end_row(Position { record: index as u64 + 1, ..Position::default() });
        }
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), has_header: true, batches: vec![batch] }
    }

    /// `count` rows with an id, an amount and a note.
    pub(crate) fn orders(count: u64) -> Self {
        let row = |id: u64| vec![Some(id.to_string()), Some(format!("{id}.25")), Some(format!("note {id}"))];
        Self::large(&["id", "amount", "note"], (1..=count).map(row).collect(), 777)
    }

    /// The same file without a header, so that its names only count positions.
    pub(crate) fn without_header(self) -> Self {
        Self { has_header: false, ..self }
    }

    /// The inferred schema.
    pub(crate) fn schema(&self) -> Schema {
        let mut inference = Inference::new(self.names.clone());
        if !self.has_header {
            inference = inference.without_header();
        }
        self.batches.iter().for_each(|batch| inference.observe(batch));
        inference.finish()
    }

    /// The rows.
    pub(crate) fn stream(&self) -> BatchStream<'_> {
        futures_util::stream::iter(self.batches.iter().cloned().map(Ok)).boxed()
    }

    /// The rows, followed by an error instead of the end of the file.
    pub(crate) fn broken_stream(&self) -> BatchStream<'_> {
        let broken = || Err(Error::new(ErrorKind::FileBroken, "the file ends within a record"));
        self.stream().chain(futures_util::stream::iter(std::iter::once_with(broken))).boxed()
    }
}

/// A destination under test.
pub(crate) struct TestDestination(Box<dyn Destination>);

impl TestDestination {
    pub(crate) fn new(destination: Box<dyn Destination>) -> Self {
        Self(destination)
    }
}

impl Deref for TestDestination {
    type Target = dyn Destination;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

/// A file's claim, and the body if the file was scanned.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) file: FileClaim,
    pub(crate) body: Option<Body>,
    pub(crate) may_create_table: bool,
}

impl Deref for Claim {
    type Target = FileClaim;

    fn deref(&self) -> &Self::Target {
        &self.file
    }
}

impl Claim {
    /// The body with which the load is finalized.
    pub(crate) fn body(&self) -> Body {
        self.body.clone().unwrap_or_else(|| body_with_content('u'))
    }

    pub(crate) fn schema<'a>(&'a self, schema: &'a Schema) -> FileSchema<'a> {
        match &self.body {
            Some(body) => FileSchema::Final { schema, body },
            None => FileSchema::Provisional { schema, may_create_table: self.may_create_table },
        }
    }
}

/// The result of a load from claim to commit.
#[derive(Debug)]
pub(crate) enum LoadResult {
    /// This worker has loaded the file.
    Loaded(RowCounts),
    /// The ledger had an entry for the file.
    NotNeeded(LedgerEntry),
}

/// A claim on a source with this key.
pub(crate) fn claim(key: &str) -> Claim {
    claim_of_size(key, 100)
}

/// A claim on a source with this key and size.
pub(crate) fn claim_of_size(key: &str, size_bytes: u64) -> Claim {
    let last_modified = "2026-11-20T12:00:00Z".parse().expect("a time");
    let source =
        ObjectVersion::new(ObjectRef::new("bucket", key), format!("\"{key}\""), size_bytes, last_modified, None);
    let file = FileClaim {
        source,
        table: TABLE.into(),
        worker: "conformance".into(),
        started_at: last_modified,
        value_rejects: None,
        table_changes: TableChanges::default(),
        succession: None,
    };
    let body = Body { sha256: "0".repeat(64), content_id: None, decoded_bytes: size_bytes, lake_key: None };
    Claim { file, body: Some(body), may_create_table: false }
}

/// A body whose content id repeats one letter.
pub(crate) fn body_with_content(letter: char) -> Body {
    Body { sha256: "0".repeat(64), content_id: Some(letter.to_string().repeat(64)), decoded_bytes: 100, lake_key: None }
}

/// Opens a load of a source that was not loaded before.
pub(crate) async fn open(destination: &TestDestination, claim: &Claim, schema: &Schema) -> Result<Box<dyn OpenLoad>> {
    match destination.begin(claim, claim.schema(schema)).await? {
        Begun::Open { load, .. } => Ok(load),
        Begun::NotNeeded(entry) => bail!("loaded before: {entry:?}"),
        Begun::NeedsScan(reason) => bail!("not scanned: {reason}"),
    }
}

/// Sends rows through an open load.
pub(crate) async fn write(load: &mut dyn OpenLoad, rows: BatchStream<'_>) -> spillway_core::error::Result<RowCounts> {
    match load.write(rows).await? {
        WriteResult::Written(counts) => Ok(counts),
        WriteResult::NeedsScan(reason) => panic!("not scanned: {reason}"),
    }
}

/// Loads a file up to, but not including, COMMIT.
pub(crate) async fn prepare(destination: &TestDestination, claim: &Claim, file: &File) -> Result<Box<dyn ReadyLoad>> {
    let schema = file.schema();
    let mut open_load = open(destination, claim, &schema).await?;
    let counts = write(&mut *open_load, file.stream()).await?;
    Ok(open_load.finalize(claim.body(), counts).await?)
}

/// Loads a file from claim to commit.
pub(crate) async fn load(
    destination: &TestDestination,
    claim: &Claim,
    file: &File,
) -> spillway_core::error::Result<LoadResult> {
    load_body(destination, claim, file, claim.body()).await
}

/// Loads a file that is finalized with this body.
pub(crate) async fn load_body(
    destination: &TestDestination,
    claim: &Claim,
    file: &File,
    body: Body,
) -> spillway_core::error::Result<LoadResult> {
    let schema = file.schema();
    let mut open_load = match destination.begin(claim, claim.schema(&schema)).await? {
        Begun::Open { load, .. } => load,
        Begun::NotNeeded(entry) => return Ok(LoadResult::NotNeeded(entry)),
        Begun::NeedsScan(reason) => panic!("not scanned: {reason}"),
    };
    let counts = write(&mut *open_load, file.stream()).await?;
    let ready = open_load.finalize(body, counts).await?;
    let counts = ready.counts();
    match ready.commit().await {
        CommitResult::Committed => Ok(LoadResult::Loaded(counts)),
        CommitResult::Merged(counts) => Ok(LoadResult::Loaded(counts)),
        CommitResult::NotCommitted(error) | CommitResult::Unknown(error) => Err(error),
    }
}

/// The error of a load that must fail.
pub(crate) async fn load_error(destination: &TestDestination, claim: &Claim, file: &File) -> Result<Error> {
    load(destination, claim, file).await.err().context("the load succeeded")
}

/// Loads `values` into the column `c` of the existing table, and returns the stored values in the order of the column
/// `n`. If the load fails, returns the error kind, after a check that no row is stored and no value is in the message.
pub(crate) async fn load_column(
    engine: &impl Engine,
    key: &str,
    values: &[Option<&str>],
) -> Result<Result<Vec<Option<String>>, ErrorKind>> {
    let rows = values.iter().map(|value| vec![value.map(str::to_owned)]).collect();
    match load(&engine.destination(), &claim(key), &File::large(&["C"], rows, 2)).await {
        Ok(_) => Ok(Ok(engine.rows(&format!("SELECT c FROM {TABLE} ORDER BY n")).await?.concat())),
        Err(error) => {
            assert_eq!(count(engine).await?, 0, "{values:?}");
            ensure!(!chain(&error).contains("secret"), "a value is in the message: {}", chain(&error));
            Ok(Err(error.kind()))
        }
    }
}

/// The counts of a load that must succeed.
pub(crate) fn expect_loaded(result: LoadResult) -> Result<RowCounts> {
    match result {
        LoadResult::Loaded(counts) => Ok(counts),
        LoadResult::NotNeeded(entry) => bail!("loaded before: {entry:?}"),
    }
}

/// The ledger entry of a load that must find one.
pub(crate) fn expect_already_loaded(result: LoadResult) -> Result<LedgerEntry> {
    match result {
        LoadResult::Loaded(_) => bail!("the file was loaded again"),
        LoadResult::NotNeeded(entry) => Ok(entry),
    }
}

/// The number of rows in [`TABLE`].
pub(crate) async fn count(engine: &impl Engine) -> Result<u64> {
    let rows = engine.rows(&format!("SELECT COUNT(*) FROM {TABLE}")).await?;
    let text = rows.first().and_then(|row| row[0].clone()).context("no count")?;
    Ok(text.parse()?)
}

/// The ledger's states, in the order of the keys.
pub(crate) async fn states(engine: &impl Engine) -> Result<Vec<String>> {
    let rows = engine.rows("SELECT state FROM spillway_ledger ORDER BY object_key").await?;
    Ok(rows.into_iter().filter_map(|mut row| row.remove(0)).collect())
}

/// Waits until the claim of a dropped load is rolled back.
pub(crate) async fn wait_for_rollback(destination: &TestDestination, claim: &Claim) -> Result<()> {
    for _ in 0..100 {
        match destination.look_up(&claim.source.id).await {
            Ok(None) => return Ok(()),
            Ok(Some(entry)) => bail!("the ledger has {entry:?}"),
            Err(error) if error.kind() == ErrorKind::Conflict => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the claim was not rolled back")
}
