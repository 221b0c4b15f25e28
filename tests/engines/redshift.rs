//! Redshift's destination on a double of its Data API over PostgreSQL: the conformance tests that apply, and its own.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use spillway_core::destination::{
    CommitResult, Credentials, DestinationOptions, LedgerProbe, LedgerState, RedshiftDatabase, RedshiftKeys,
    RedshiftLogin, RedshiftServer, RedshiftSettings, RowCounts,
};
use spillway_core::error::{ErrorKind, chain};
use spillway_core::store::Store;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine as TestEngine, Rows, Schema};
use spillway_test_env::redshift::{DataApi, WORKGROUP};
use spillway_test_env::{postgres, run};

use crate::engines::conformance::{
    Engine, File, TABLE, TestDestination, claim, count, expect_loaded, load, load_error, open, prepare, write,
};
use crate::engines::postgres::Postgres;
use crate::engines::{conformance_append, conformance_contract, conformance_history, conformance_modes};

/// The account of the bucket.
const ACCOUNT: u64 = 424_242;

/// Redshift's destination, with a database of PostgreSQL behind the double.
pub(crate) struct Redshift {
    server: Database,
    schema: Schema,
    account: Account,
    /// The prefix of this test in the bucket that all tests share.
    copy_prefix: String,
    pub(crate) api: DataApi,
    database: RedshiftDatabase,
}

impl Redshift {
    pub(crate) async fn new() -> Result<Self> {
        let server = Database::shared(TestEngine::Postgres).await?;
        let schema = server.schema().await?;
        // The bucket of the claims.
        let mut account = Cloud::shared().await?.shared_account(ACCOUNT).await;
        account.bucket = "bucket".into();
        // Another test may have created it.
        let created = account.s3.create_bucket().bucket(&account.bucket).send().await;
        let exists = account.s3.head_bucket().bucket(&account.bucket).send().await;
        ensure!(created.is_ok() || exists.is_ok(), "the bucket cannot be created: {created:?}");
        let copy_prefix = format!("{}/", run::unique("copy"));
        let api = DataApi::start(&schema, &account).await?;
        let settings = RedshiftSettings {
            server: RedshiftServer::Workgroup(WORKGROUP.into()),
            database: schema.name.clone(),
            login: RedshiftLogin::Caller,
            copy_role: "default".into(),
            copy_prefix: copy_prefix.clone(),
        };
        let store = Store::new(&account.configuration().await);
        let database = RedshiftDatabase::new(&api.config().await, store, settings);
        Ok(Self { server, schema, account, copy_prefix, api, database })
    }

    /// Fails if an object is left that COPY has read.
    pub(crate) async fn ensure_no_copies(&self) -> Result<()> {
        let keys = self.account.keys(&self.copy_prefix).await?;
        ensure!(keys.is_empty(), "left over: {keys:?}");
        Ok(())
    }
}

impl Engine for Redshift {
    const STORES_NUL: bool = false;
    const COUNTS_BEFORE_COMMIT: bool = false;
    const IDENTIFIER_QUOTE: char = '"';
    const TYPED: [[&'static str; 7]; 2] = <Postgres as Engine>::TYPED;
    const PARTITIONED: &'static [&'static str] = &[];

    fn server(&self) -> &Database {
        &self.server
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn open(&self, _: Credentials, options: DestinationOptions) -> TestDestination {
        TestDestination::new(self.database.open(options))
    }

    async fn create_schema(&self) -> Result<String> {
        self.rows("CREATE SCHEMA sales").await?;
        Ok("sales".to_owned())
    }

    async fn rows(&self, query: &str) -> Result<Rows> {
        let Schema { user, password, name, port, .. } = &self.schema;
        let client = postgres::connect(*port, user, password, name).await?;
        // The default of Redshift.
        client.batch_execute("SET TIME ZONE 'UTC'").await?;
        postgres::rows(&client, query).await
    }

    async fn revoke_ddl(&self) -> Result<()> {
        bail!("no test revokes privileges")
    }

    async fn make_read_only(&self) -> Result<()> {
        bail!("no test makes the server read-only")
    }
}

/// Generates a test for each name. After it, no object for COPY is left.
macro_rules! conformance_tests {
    ($list:ident: $($test:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $test() -> Result<()> {
            let engine = Redshift::new().await?;
            $list::$test(&engine).await?;
            engine.ensure_no_copies().await
        }
    )+};
}

// The others need a claim that is an open transaction, a table that exists after a failed load, or names with upper-case
// letters.
conformance_tests!(conformance_append:
    duplicate_content_is_recorded,
    eight_sources_with_equal_content_load_once,
    eight_workers_create_missing_tables,
    eight_workers_load_one_file_once,
    empty_files_load,
    every_type_round_trips,
    file_loads_once,
    load_replaces_a_recorded_outcome,
    loaded_versions_are_found_by_key_and_etag,
    unknown_columns_are_ignored_on_request,
);

// The others are about privileges, or about indexes, which Redshift does not have.
conformance_tests!(conformance_history:
    attempts_that_end_in_the_same_way_share_a_row,
    load_writes_nothing_to_the_history,
    runs_are_filtered,
    runs_are_listed_page_by_page,
    watermark_never_moves_back,
);

// The others add or change columns, or need partitions.
conformance_tests!(conformance_contract:
    dot_in_a_name_makes_no_table_in_a_schema,
    missing_columns_are_refused_on_request,
);

// The others need a claim that is an open transaction, an index, or an older version of the ledger.
conformance_tests!(conformance_modes:
    eight_concurrent_replaces_leave_the_newest,
    eight_merges_of_same_keys_all_complete,
    eight_workers_merge_one_file_once,
    empty_files_merge,
    every_type_merges_as_unchanged,
    file_replaces_the_table,
    keys_of_new_table_compare_exactly,
    last_row_of_a_key_wins,
    merge_inserts_and_updates,
    merge_keeps_other_columns,
    older_file_does_not_replace_newer_one,
    reader_sees_old_rows_or_new_rows,
    row_without_a_key_is_rejected,
);

/// A merge that fails or is dropped changes nothing. The parts of a dropped load are left to the cleanup.
#[tokio::test]
async fn unfinished_merge_changes_nothing() -> Result<()> {
    conformance_modes::unfinished_merge_changes_nothing(&Redshift::new().await?).await
}

/// A replace that fails or is dropped keeps the old rows. The parts of a dropped load are left to the cleanup.
#[tokio::test]
async fn unfinished_replace_keeps_old_rows() -> Result<()> {
    conformance_modes::unfinished_replace_keeps_old_rows(&Redshift::new().await?).await
}

/// Whether the table exists.
async fn has_table(engine: &Redshift) -> bool {
    engine.rows(&format!("SELECT 1 FROM {TABLE}")).await.is_ok()
}

/// A broken file creates no table, stores nothing, and leaves no objects.
#[tokio::test]
async fn broken_file_leaves_nothing() -> Result<()> {
    let engine = Redshift::new().await?;
    let (destination, claim, file) = (engine.destination(), claim("broken.csv"), File::orders(5000));
    let mut open_load = open(&destination, &claim, &file.schema()).await?;
    let error = write(&mut *open_load, file.broken_stream()).await.err().context("the load succeeded")?;
    assert_eq!(error.kind(), ErrorKind::FileBroken);
    ensure!(open_load.finalize(claim.body(), RowCounts::inserted(5000)).await.is_err(), "a failed load was finalized");
    ensure!(!has_table(&engine).await, "the table exists");
    engine.ensure_no_copies().await
}

/// A transaction that is sent before a look-up and runs after it is rolled back. So the look-up has decided.
#[tokio::test]
async fn look_up_ends_the_claims_before_it() -> Result<()> {
    let engine = Redshift::new().await?;
    let (destination, claim, file) = (engine.destination(), claim("held.csv"), File::orders(300));
    let ready = prepare(&destination, &claim, &file).await?;
    engine.api.hold_loads(true);
    let commit = tokio::spawn(ready.commit());
    while engine.api.loads() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(destination.look_up(&claim.source.id).await?, None);
    engine.api.hold_loads(false);
    let CommitResult::NotCommitted(error) = commit.await? else { bail!("the transaction was committed") };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    ensure!(!has_table(&engine).await, "the table exists");
    // The next claim reads the new fence.
    expect_loaded(load(&destination, &claim, &file).await?)?;
    assert_eq!(count(&engine).await?, 300);
    assert_eq!(engine.rows("SELECT * FROM spillway_ledger_fences").await?, Rows::new());
    engine.ensure_no_copies().await
}

/// Two loads of one source are written at the same time. The transaction that comes second is rolled back.
#[tokio::test]
async fn second_transaction_of_a_source_is_rolled_back() -> Result<()> {
    let engine = Redshift::new().await?;
    let (destination, claim, file) = (engine.destination(), claim("twice.csv"), File::orders(300));
    let first = prepare(&destination, &claim, &file).await?;
    let second = prepare(&destination, &claim, &file).await?;
    ensure!(matches!(first.commit().await, CommitResult::Committed), "the first was not committed");
    let CommitResult::NotCommitted(error) = second.commit().await else { bail!("the second was committed") };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    assert_eq!(count(&engine).await?, 300);
    engine.ensure_no_copies().await
}

/// A call without a response is repeated with its token, and its transaction runs once.
#[tokio::test]
async fn call_without_response_is_repeated() -> Result<()> {
    let engine = Redshift::new().await?;
    let (destination, claim, file) = (engine.destination(), claim("lost.csv"), File::orders(300));
    engine.api.lose_responses(6);
    assert_eq!(expect_loaded(load(&destination, &claim, &file).await?)?, RowCounts::inserted(300));
    assert_eq!((engine.api.loads(), count(&engine).await?), (1, 300));
    Ok(())
}

/// A part that is missing or has another size fails the whole load.
#[tokio::test]
async fn missing_part_stores_nothing() -> Result<()> {
    let engine = Redshift::new().await?;
    let (destination, claim, file) = (engine.destination(), claim("missing.csv"), File::orders(300));
    let ready = prepare(&destination, &claim, &file).await?;
    let keys = engine.account.keys(&engine.copy_prefix).await?;
    let part = keys.iter().find(|key| key.ends_with(".parquet")).context("no part")?;
    engine.account.s3.delete_object().bucket("bucket").key(part).send().await?;
    ensure!(matches!(ready.commit().await, CommitResult::NotCommitted(_)), "the load was committed");
    ensure!(!has_table(&engine).await, "the table exists");
    expect_loaded(load(&destination, &claim, &file).await?)?;
    engine.ensure_no_copies().await
}

/// Values are checked against the table before they are copied: sizes of text in bytes, ranges of numbers, NULL.
#[tokio::test]
async fn value_that_does_not_fit_is_refused_with_its_place() -> Result<()> {
    let engine = Redshift::new().await?;
    let ddl =
        format!("CREATE TABLE {TABLE} (id SMALLINT NOT NULL, note VARCHAR(4), price NUMERIC(5,2), at_ TIMESTAMPTZ)");
    engine.rows(&ddl).await?;
    let names = ["id", "note", "price", "at_"];
    let good: &[Option<&str>] = &[Some("1"), Some("\u{e4}\u{e4}"), Some("999.99"), Some("2024-01-02T03:04:05+02:00")];
    for (bad, column) in [
        ([Some("32768"), None, None, None], "id"),
        ([None, None, None, None], "id"),
        ([Some("2"), Some("\u{e4}\u{e4}\u{e4}"), None, None], "note"),
        ([Some("2"), None, Some("1000"), None], "price"),
        ([Some("2"), None, None, Some("soon")], "at_"),
    ] {
        let error = load_error(&engine.destination(), &claim("bad.csv"), &File::new(&names, &[good, &bad])).await?;
        assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some(column)), "{error}");
        assert_eq!(error.position().map(|position| position.record), Some(2));
    }
    expect_loaded(load(&engine.destination(), &claim("good.csv"), &File::new(&names, &[good])).await?)?;
    let rows = engine.rows(&format!("SELECT id, note, price, at_ FROM {TABLE}")).await?;
    let expected = ["1", "\u{e4}\u{e4}", "999.99", "2024-01-02 01:04:05+00"];
    assert_eq!(rows, [expected.map(|text| Some(text.to_owned()))]);
    engine.ensure_no_copies().await
}

/// Ledger, status and probe work through the Data API.
#[tokio::test]
async fn probe_finds_what_a_load_needs() -> Result<()> {
    let engine = Redshift::new().await?;
    let destination = engine.with(|_, options| {
        options.redshift_keys = RedshiftKeys { distribution: Some("id".into()), sort: vec!["id".into()] };
    });
    let before = destination.probe().await?;
    ensure!(before.load_statement.is_ok() && before.temporary_table.is_ok() && before.table.is_empty(), "{before:?}");
    ensure!(before.ledger? == LedgerProbe::Missing && before.history?.is_none(), "a ledger was found");
    expect_loaded(load(&destination, &claim("a.csv"), &File::orders(2)).await?)?;
    let after = destination.probe().await?;
    ensure!(after.ledger? == LedgerProbe::Usable && after.history?.is_some_and(|history| history.exists), "no ledger");
    let history = destination.history(&claim("a.csv").source.object).await?;
    assert_eq!((history.len(), history[0].state, history[0].rows_stored), (1, LedgerState::Loaded, 2));
    Ok(())
}

/// Without Redshift a load fails as an outage, which leads to the fallback.
#[tokio::test]
async fn outage_is_known_as_one() -> Result<()> {
    let engine = Redshift::new().await?;
    let destination = engine.destination();
    expect_loaded(load(&destination, &claim("a.csv"), &File::orders(2)).await?)?;
    let answered = destination.look_up(&claim("b.csv").source.id).await?;
    assert_eq!(answered, None);
    engine.api.set_down(true);
    let looked_up =
        tokio::time::timeout(Duration::from_secs(100), destination.look_up(&claim("b.csv").source.id)).await?;
    assert_eq!(looked_up.err().context("there was a response")?.kind(), ErrorKind::Unreachable);
    Ok(())
}
