//! Fallback writes to S3 and the Glue catalog of the local AWS. Athena and replay read the same rows back.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use futures_util::{TryStreamExt, future, stream};
use jiff::Timestamp;
use spillway_core::batch::BatchStream;
use spillway_core::catalog::Catalog;
use spillway_core::config::{Environment, TaskSettings};
use spillway_core::error::{Error, ErrorKind, Position};
use spillway_core::fallback::{self, Manifest, RowWrite};
use spillway_core::object::{ObjectRef, ObjectVersion};
use spillway_core::pipeline::PipelineConfig;
use spillway_core::store::Store;
use spillway_core::table_name::TableName;
use spillway_formats::Batch;
use spillway_formats::schema::fallback::FallbackFormat;
use spillway_formats::schema::infer::Inference;
use spillway_formats::schema::{ColumnType, Schema};
use spillway_test_env::athena;
use spillway_test_env::cloud::{Account, Cloud};

type Row = Vec<Option<String>>;

/// The default day on which a source was written.
const DAY: &str = "2026-11-20";
const DATABASE: &str = "lake";
const TABLE: &str = "orders_fallback";

/// An account with a bucket, and the store and the catalog under test.
struct Fixture {
    account: Account,
    store: Store,
    catalog: Catalog,
    settings: PipelineConfig,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let account = Cloud::shared().await?.account().await?;
        Self::at(account).await
    }

    async fn at(account: Account) -> Result<Self> {
        let settings = settings(&account, "orders")?;
        let config = config(&format!("http://127.0.0.1:{}", account.port), &account.id).await;
        let (store, catalog) = (Store::new(&config), Catalog::new(&config, settings.glue.clone()));
        Ok(Self { account, store, catalog, settings })
    }

    /// Writes a file to the fallback and returns its manifest.
    async fn fallback_write(&self, file: &File) -> Result<Manifest> {
        self.write(file).await?;
        fallback::find(&self.store, &self.settings, &file.source).await?.context("the written object is not found")
    }

    async fn write(&self, file: &File) -> Result<(), Error> {
        let schema = file.schema();
        let fallback_write = file.as_fallback_write(&schema);
        fallback::write(&self.store, &self.catalog, &self.settings, &fallback_write, file.stream(), async || Ok(()))
            .await
    }

    /// The rows of a fallback object, as replay reads them.
    async fn rows_of(&self, manifest: &Manifest) -> Result<Vec<Row>> {
        let batches: Vec<Batch> = fallback::open_rows(&self.store, manifest).await?.try_collect().await?;
        Ok(batches.iter().flat_map(rows_of).collect())
    }

    async fn athena(&self, query: &str) -> Result<Vec<Row>> {
        athena::query(&self.account, DATABASE, query).await
    }

    /// The table's columns as `name type`.
    async fn table_columns(&self) -> Result<Vec<String>> {
        let response = self.account.glue.get_table().database_name(DATABASE).name(TABLE).send().await?;
        let table = response.table.context("no table")?;
        Ok(columns_of(table.storage_descriptor()))
    }

    /// The location and the columns of each registered partition.
    async fn partitions(&self) -> Result<BTreeMap<String, (String, Vec<String>)>> {
        let response = self.account.glue.get_partitions().database_name(DATABASE).table_name(TABLE).send().await?;
        let partition = |partition: &aws_sdk_glue::types::Partition| {
            let storage = partition.storage_descriptor();
            let location = storage.and_then(|storage| storage.location()).unwrap_or_default().to_owned();
            (partition.values().join("/"), (location, columns_of(storage)))
        };
        Ok(response.partitions().iter().map(partition).collect())
    }

    async fn fallback_keys(&self) -> Result<Vec<String>> {
        self.account.keys("fallback/").await
    }
}

fn columns_of(storage: Option<&aws_sdk_glue::types::StorageDescriptor>) -> Vec<String> {
    let columns = storage.map(|storage| storage.columns()).unwrap_or_default();
    columns.iter().map(|column| format!("{} {}", column.name(), column.r#type().unwrap_or_default())).collect()
}

fn settings(account: &Account, table: &str) -> Result<PipelineConfig> {
    let environment = Environment::of(&[
        ("S3_BUCKET", &account.bucket),
        ("CSV_KEY", "uploads/x.csv"),
        ("RDS_HOST", "127.0.0.1"),
        ("RDS_USER", "unused"),
        ("RDS_PASSWORD", "x"),
        ("RDS_DB", "unused"),
        ("RDS_TABLE", table),
        ("GLUE_DATABASE", DATABASE),
        ("GLUE_TABLE", TABLE),
    ]);
    Ok(TaskSettings::read(&environment)?.pipeline)
}

async fn config(endpoint: &str, account: &str) -> SdkConfig {
    let credentials = Credentials::new(account, "test", None, None, "test account");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}

/// A file that is written to the fallback.
struct File {
    source: ObjectVersion,
    names: Vec<String>,
    rows: Vec<Row>,
}

impl File {
    fn new(account: &Account, key: &str, names: &[&str], rows: &[&[Option<&str>]]) -> Self {
        Self::written_on(DAY, account, key, names, rows)
    }

    fn written_on(day: &str, account: &Account, key: &str, names: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let last_modified: Timestamp = format!("{day}T10:00:00Z").parse().expect("a day");
        let object = ObjectRef::new(&account.bucket, key);
        let row = |row: &&[Option<&str>]| row.iter().map(|field| field.map(str::to_owned)).collect();
        Self {
            source: ObjectVersion::new(object, format!("\"etag of {key}\""), 100, last_modified, None),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            rows: rows.iter().map(row).collect(),
        }
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::new(self.names.len());
        for (index, row) in self.rows.iter().enumerate() {
            row.iter().for_each(|field| batch.push_field(field.as_deref().map(str::as_bytes)));
            batch.end_row(Position { record: index as u64 + 1, line: index as u64 + 2, byte: 0 });
        }
        batch
    }

    fn schema(&self) -> Schema {
        let mut inference = Inference::new(self.names.clone());
        inference.observe(&self.batch());
        inference.finish()
    }

    fn stream(&self) -> BatchStream<'_> {
        Box::pin(stream::once(future::ready(Ok(self.batch()))))
    }

    fn as_fallback_write<'a>(&'a self, schema: &'a Schema) -> RowWrite<'a> {
        static TABLE: LazyLock<TableName> = LazyLock::new(|| "orders".into());
        let rows = self.rows.len() as u64;
        let reason = "unreachable: for the test";
        RowWrite {
            source: &self.source,
            table: &TABLE,
            original_key: &self.source.object.key,
            body_sha256: "0f",
            schema,
            rows,
            rows_rejected: 0,
            reason,
            needs_attention: false,
        }
    }
}

fn rows_of(batch: &Batch) -> Vec<Row> {
    let field = |row, column| batch.field(row, column).map(|field| String::from_utf8_lossy(field).into_owned());
    (0..batch.rows()).map(|row| (0..batch.width()).map(|column| field(row, column)).collect()).collect()
}

fn row(fields: &[Option<&str>]) -> Row {
    fields.iter().map(|field| field.map(str::to_owned)).collect()
}

/// The kind and the message of the error of a call that must fail.
fn kind<T>(result: Result<T, Error>) -> Result<(ErrorKind, String)> {
    match result {
        Ok(_) => bail!("the call succeeded"),
        Err(error) => Ok((error.kind(), error.to_string())),
    }
}

/// A file with every type, quotes, line breaks, NULL and the empty string.
fn orders(account: &Account) -> File {
    File::new(
        account,
        "uploads/orders.csv",
        &["Id", "note", "price", "weight", "paid", "day", "seen_at", "sent_at"],
        &[
            &[
                Some("1"),
                Some("a \"quoted\" word, and\na line \\ with\r\nbreaks"),
                Some("10.50"),
                Some("1.5e300"),
                Some("true"),
                Some("2026-02-28"),
                Some("2026-02-28 23:59:59.123456"),
                Some("2026-02-28T23:59:59.5+02:00"),
            ],
            &[Some("-9223372036854775808"), Some(""), Some("-0.01"), None, Some("FALSE"), None, None, None],
            &[None, None, None, Some("0.1"), None, Some("1000-01-01"), None, Some("2026-01-01T00:00:00Z")],
            &[Some("7"), Some("NULL"), Some("99999999.99"), Some("2"), None, None, None, None],
        ],
    )
}

#[tokio::test]
async fn athena_and_replay_read_same_rows() -> Result<()> {
    let fixture = Fixture::new().await?;
    let file = orders(&fixture.account);
    let manifest = fixture.fallback_write(&file).await?;

    let table = fixture.account.glue.get_table().database_name(DATABASE).name(TABLE).send().await?;
    let table = table.table.context("no table")?;
    let location = format!("s3://{}/fallback/orders/", fixture.account.bucket);
    assert_eq!(table.table_type(), Some("EXTERNAL_TABLE"));
    assert_eq!(table.storage_descriptor().and_then(|storage| storage.location()), Some(location.as_str()));
    let expected = [
        "id bigint",
        "note string",
        "price decimal(18,2)",
        "weight double",
        "paid boolean",
        "day date",
        "seen_at timestamp",
        "sent_at timestamp",
    ];
    assert_eq!(fixture.table_columns().await?, expected);
    let partitions = fixture.partitions().await?;
    let (folder, columns) = partitions.get(DAY).context("no partition")?;
    assert_eq!((folder.as_str(), columns.len()), (format!("{location}dt={DAY}/").as_str(), 8));
    assert_eq!(manifest.key, format!("fallback/orders/dt={DAY}/{}.parquet", file.source.id));

    let query =
        format!("SELECT id, note, price, weight, paid, day, seen_at, sent_at, dt FROM {TABLE} ORDER BY dt, price");
    let rows = fixture.athena(&query).await?;
    let by_id = |id: Option<&str>| {
        rows.iter().find(|row| row[0].as_deref() == id).cloned().with_context(|| format!("no row {id:?}"))
    };
    let first = by_id(Some("1"))?;
    assert_eq!(first[1].as_deref(), Some("a \"quoted\" word, and\na line \\ with\r\nbreaks"));
    assert_eq!(
        (first[2].as_deref(), first[4].as_deref(), first[5].as_deref()),
        (Some("10.50"), Some("true"), Some("2026-02-28"))
    );
    assert_eq!(first[3].as_deref().map(str::parse::<f64>), Some(Ok(1.5e300)));
    assert_eq!(first[6].as_deref(), Some("2026-02-28 23:59:59.123456"));
    let sent_at = first[7].as_deref().unwrap_or_default();
    assert!(sent_at.starts_with("2026-02-28 21:59:59.5"), "{sent_at} is not the instant in UTC");
    assert_eq!(by_id(Some("-9223372036854775808"))?[1..6], row(&[Some(""), Some("-0.01"), None, Some("false"), None]));
    assert_eq!(by_id(None)?[1..3], row(&[None, None]));
    assert_eq!(by_id(Some("7"))?[1].as_deref(), Some("NULL"));
    assert_eq!(rows.len(), 4);

    let mut expected = file.rows.clone();
    expected[0][7] = Some("2026-02-28 21:59:59.500000Z".to_owned());
    expected[1][4] = Some("false".to_owned());
    expected[2][7] = Some("2026-01-01 00:00:00Z".to_owned());
    let mut back = fixture.rows_of(&manifest).await?;
    // The spelling of an exponent may change.
    let weight = back[0][3].take().context("the weight is lost")?;
    assert_eq!((weight.parse::<f64>(), expected[0][3].take()), (Ok(1.5e300), Some("1.5e300".to_owned())));
    assert_eq!(back, expected);
    Ok(())
}

#[tokio::test]
async fn three_concurrent_writers_register_in_new_table() -> Result<()> {
    let fixture = Fixture::new().await?;
    let files = [
        File::new(&fixture.account, "uploads/a.csv", &["id", "a"], &[&[Some("1"), Some("x")], &[Some("2"), Some("y")]]),
        File::new(&fixture.account, "uploads/b.csv", &["b", "id"], &[&[Some("2026-01-01"), Some("3")]]),
        File::new(&fixture.account, "uploads/c.csv", &["id", "c"], &[&[Some("4"), Some("0.5")]]),
    ];
    future::try_join_all(files.iter().map(|file| fixture.write(file))).await?;

    let mut columns = fixture.table_columns().await?;
    let partitions = fixture.partitions().await?;
    assert_eq!(partitions.get(DAY).context("no partition")?.1, columns, "the partition lacks columns of the table");
    columns.sort();
    assert_eq!(columns, ["a string", "b date", "c decimal(18,1)", "id bigint"]);
    let rows = fixture.athena(&format!("SELECT id, a, b, c FROM {TABLE} ORDER BY id")).await?;
    let expected = [
        row(&[Some("1"), Some("x"), None, None]),
        row(&[Some("2"), Some("y"), None, None]),
        row(&[Some("3"), None, Some("2026-01-01"), None]),
        row(&[Some("4"), None, None, Some("0.5")]),
    ];
    assert_eq!(rows, expected);
    for file in &files {
        let manifest = fallback::find(&fixture.store, &fixture.settings, &file.source).await?.context("not found")?;
        assert_eq!(fixture.rows_of(&manifest).await?, file.rows);
    }
    Ok(())
}

#[tokio::test]
async fn files_with_different_types_stay_readable() -> Result<()> {
    let fixture = Fixture::new().await?;
    let files = [
        File::new(&fixture.account, "uploads/1.csv", &["id", "amount"], &[&[Some("1"), Some("5")]]),
        File::new(&fixture.account, "uploads/2.csv", &["id", "amount"], &[&[Some("2"), Some("five")]]),
        File::new(&fixture.account, "uploads/3.csv", &["id", "amount"], &[&[Some("3"), Some("6.25")]]),
        File::written_on("2026-11-21", &fixture.account, "uploads/4.csv", &["amount", "id"], &[&[None, Some("4")]]),
    ];
    let mut manifests = Vec::new();
    for file in &files {
        manifests.push(fixture.fallback_write(file).await?);
    }
    // Values that are not integers use the existing string column. A column without values uses the first column.
    assert_eq!(fixture.table_columns().await?, ["id bigint", "amount bigint", "amount__string string"]);
    let rows = fixture.athena(&format!("SELECT id, amount, amount__string, dt FROM {TABLE} ORDER BY id")).await?;
    let expected = [
        row(&[Some("1"), Some("5"), None, Some(DAY)]),
        row(&[Some("2"), None, Some("five"), Some(DAY)]),
        row(&[Some("3"), None, Some("6.25"), Some(DAY)]),
        row(&[Some("4"), None, None, Some("2026-11-21")]),
    ];
    assert_eq!(rows, expected);
    for (file, manifest) in files.iter().zip(&manifests) {
        assert_eq!(fixture.rows_of(manifest).await?, file.rows);
    }
    assert_eq!(fixture.partitions().await?.into_keys().collect::<Vec<_>>(), [DAY, "2026-11-21"]);
    let listed = fallback::list(&fixture.store, &fixture.account.bucket, &fixture.settings, Some("orders")).await?;
    assert_eq!(listed, manifests, "not sorted by age");
    Ok(())
}

#[tokio::test]
async fn writing_and_registering_twice_changes_nothing() -> Result<()> {
    let fixture = Fixture::new().await?;
    let file = orders(&fixture.account);
    assert_eq!(fallback::find(&fixture.store, &fixture.settings, &file.source).await?, None);
    let first = fixture.fallback_write(&file).await?;
    let objects = fixture.account.list("fallback/").await?;
    assert_eq!(fixture.fallback_write(&file).await?, first);
    assert_eq!(fixture.account.list("fallback/").await?, objects);
    assert_eq!(fixture.account.open_uploads().await?, Vec::<String>::new());

    // Registering again restores a deleted partition and a deleted table.
    let glue = &fixture.account.glue;
    glue.delete_partition().database_name(DATABASE).table_name(TABLE).partition_values(DAY).send().await?;
    fallback::register_found(&fixture.catalog, &fixture.settings, &first).await?;
    assert_eq!(fixture.partitions().await?.len(), 1);
    glue.delete_table().database_name(DATABASE).name(TABLE).send().await?;
    fallback::register_found(&fixture.catalog, &fixture.settings, &first).await?;
    assert_eq!((fixture.partitions().await?.len(), fixture.table_columns().await?.len()), (1, 8));
    Ok(())
}

#[tokio::test]
async fn removing_last_file_removes_its_partition() -> Result<()> {
    let fixture = Fixture::new().await?;
    let first = fixture.fallback_write(&orders(&fixture.account)).await?;
    let second =
        fixture.fallback_write(&File::new(&fixture.account, "uploads/2.csv", &["id"], &[&[Some("2")]])).await?;
    let remove = |manifest| fallback::remove(&fixture.store, &fixture.catalog, &fixture.settings, manifest);

    remove(&first).await?;
    assert_eq!(fixture.partitions().await?.len(), 1, "the partition still contains the other file");
    assert_eq!(fallback::find(&fixture.store, &fixture.settings, &first.source).await?, None);
    assert_eq!(fixture.athena(&format!("SELECT id FROM {TABLE}")).await?, [row(&[Some("2")])]);
    assert_eq!(kind(fallback::open_rows(&fixture.store, &first).await)?.0, ErrorKind::SourceMissing);

    remove(&second).await?;
    assert!(fixture.partitions().await?.is_empty());
    assert_eq!(fixture.fallback_keys().await?, Vec::<String>::new());
    remove(&second).await?;
    Ok(())
}

#[tokio::test]
async fn stopped_writer_leaves_no_visible_object() -> Result<()> {
    let fixture = Fixture::new().await?;
    let file = orders(&fixture.account);
    let schema = file.schema();
    let fallback_write = file.as_fallback_write(&schema);
    let lost = async || Err(Error::new(ErrorKind::LeaseLost, "another worker has taken over"));
    let end =
        fallback::write(&fixture.store, &fixture.catalog, &fixture.settings, &fallback_write, file.stream(), lost)
            .await;
    assert_eq!(kind(end)?.0, ErrorKind::LeaseLost);
    let fewer = RowWrite { rows: 5, ..fallback_write };
    let end =
        fallback::write(&fixture.store, &fixture.catalog, &fixture.settings, &fewer, file.stream(), async || Ok(()))
            .await;
    assert_eq!(kind(end)?.0, ErrorKind::Internal);

    let manifest_key = format!("fallback/_manifests/{}.json", file.source.id);
    assert_eq!(fixture.fallback_keys().await?, [manifest_key], "only the manifest may exist");
    assert_eq!(fixture.account.open_uploads().await?, Vec::<String>::new());
    assert_eq!(fallback::find(&fixture.store, &fixture.settings, &file.source).await?, None);
    // The next attempt succeeds.
    assert_eq!(fixture.fallback_write(&file).await?.rows, 4);
    Ok(())
}

#[tokio::test]
async fn object_without_manifest_is_an_error() -> Result<()> {
    let fixture = Fixture::new().await?;
    let file = orders(&fixture.account);
    let manifest = fixture.fallback_write(&file).await?;
    let manifest_key = format!("fallback/_manifests/{}.json", file.source.id);
    let delete =
        async |key: &str| fixture.account.s3.delete_object().bucket(&fixture.account.bucket).key(key).send().await;
    delete(&manifest_key).await?;
    // Also the CSV of an earlier version.
    for ending in [".parquet", ".csv"] {
        let (kind, message) = kind(fallback::find(&fixture.store, &fixture.settings, &file.source).await)?;
        assert_eq!(kind, ErrorKind::Service, "{ending}");
        assert!(message.contains(&manifest_key), "{message}");
        delete(&manifest.key).await?;
        fixture.account.put(&manifest.key.replace(".parquet", ".csv"), "\"\",\"1\"\n").await?;
    }
    Ok(())
}

#[tokio::test]
async fn unreachable_catalog_stops_fallback_before_writing() -> Result<()> {
    let fixture = Fixture::new().await?;
    let file = orders(&fixture.account);
    let closed_port = config("http://127.0.0.1:9", &fixture.account.id).await;
    let fixture = Fixture { catalog: Catalog::new(&closed_port, fixture.settings.glue.clone()), ..fixture };
    assert_eq!(kind(fixture.write(&file).await)?.0, ErrorKind::Service);
    assert_eq!(fixture.fallback_keys().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn table_with_other_format_or_location_is_rejected() -> Result<()> {
    let fixture = Fixture::new().await?;
    let manifest = fixture.fallback_write(&orders(&fixture.account)).await?;
    let other = File::new(&fixture.account, "uploads/2.csv", &["id"], &[&[Some("2")]]);

    // The table of a CSV object of an earlier version.
    let csv = Manifest { format: FallbackFormat::Csv, ..manifest.clone() };
    let (refused, message) = kind(fallback::register_found(&fixture.catalog, &fixture.settings, &csv).await)?;
    assert_eq!(refused, ErrorKind::Settings);
    assert!(message.contains("lake.orders_fallback") && message.contains("another GLUE_TABLE"), "{message}");

    let mut elsewhere = Fixture::at(fixture.account.clone()).await?;
    elsewhere.settings = settings(&fixture.account, "customers")?;
    let schema = other.schema();
    let table = TableName::from("customers");
    let fallback_write = RowWrite { table: &table, ..other.as_fallback_write(&schema) };
    let Fixture { store, catalog, settings, .. } = &elsewhere;
    let written = fallback::write(store, catalog, settings, &fallback_write, other.stream(), async || Ok(())).await;
    let (refused, message) = kind(written)?;
    assert_eq!(refused, ErrorKind::Settings);
    assert!(message.contains("its own GLUE_TABLE"), "{message}");
    Ok(())
}

/// An object that an earlier version wrote as CSV, with a table of its own.
#[tokio::test]
async fn csv_of_an_earlier_version_replays_and_keeps_others_out() -> Result<()> {
    let fixture = Fixture::new().await?;
    let file = File::new(
        &fixture.account,
        "uploads/1.csv",
        &["id", "note"],
        &[&[Some("1"), Some("a \"b\",\nc")], &[Some("2"), None], &[Some("3"), Some("")]],
    );
    let manifest = fixture.fallback_write(&file).await?;
    let bucket = &fixture.account.bucket;
    fixture.account.s3.delete_object().bucket(bucket).key(&manifest.key).send().await?;
    fixture.account.glue.delete_table().database_name(DATABASE).name(TABLE).send().await?;
    let mut csv = Manifest { format: FallbackFormat::Csv, key: manifest.key.replace(".parquet", ".csv"), ..manifest };
    for (index, column) in csv.columns.iter_mut().enumerate() {
        (column.stored_type, column.place) = (ColumnType::Text, index + 1);
    }
    let body = "\"\",\"1\",\"a \\\"b\\\",\nc\"\n\"3\",\"2\",\"\"\n\"\",\"3\",\"\"\n";
    fixture.account.put(&csv.key, body).await?;
    let manifest_key = format!("fallback/_manifests/{}.json", file.source.id);
    fixture.account.put(&manifest_key, serde_json::to_vec(&csv)?).await?;

    let found = fallback::find(&fixture.store, &fixture.settings, &file.source).await?.context("not found")?;
    fallback::register_found(&fixture.catalog, &fixture.settings, &found).await?;
    assert_eq!(fixture.table_columns().await?, ["spillway_nulls string", "id string", "note string"]);
    assert_eq!(fixture.rows_of(&found).await?, file.rows);
    let other = File::new(&fixture.account, "uploads/2.csv", &["id"], &[&[Some("2")]]);
    let (refused, message) = kind(fixture.write(&other).await)?;
    assert_eq!(refused, ErrorKind::Settings);
    assert!(message.contains("replay the fallback and drop the table"), "{message}");

    // As a replay does at its end. Then Parquet gets a new table.
    fallback::remove(&fixture.store, &fixture.catalog, &fixture.settings, &found).await?;
    fixture.account.glue.delete_table().database_name(DATABASE).name(TABLE).send().await?;
    assert_eq!(fixture.fallback_write(&other).await?.format, FallbackFormat::Parquet);
    Ok(())
}
