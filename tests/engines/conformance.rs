//! What every target keeps, whatever the engine: the list of `Destination`'s promises, each as a function that an engine's
//! module calls with its own server.

use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use futures_util::future::join_all;
use spillway_core::batch::BatchStream;
use spillway_core::destination::LoadMode;
use spillway_core::destination::{
    self, Begun, Body, CommitResult, Credentials, Destination, DestinationOptions, FileClaim, FileSchema, Guard,
    IdleConnections, LedgerEntry, LedgerOutcome, LedgerState, OpenLoad, RowCounts, ScanReason, WriteResult,
};
use spillway_core::error::{Error, ErrorKind, Position};
use spillway_core::object::{ObjectRef, ObjectVersion};
use spillway_formats::schema::Schema;
use spillway_formats::schema::infer::Inference;
use spillway_formats::{Batch, FieldKind};

/// The table that every test of the list loads into.
pub(crate) const TABLE: &str = "orders";

/// Calls a macro with the name of every promise that every engine keeps.
macro_rules! for_each_promise {
    ($callback:ident) => {
        $callback!(
            a_duplicate_is_recorded,
            a_body_is_claimed_once_its_rows_are_with_the_server,
            what_was_not_read_makes_nothing,
            a_file_loads_once,
            a_file_that_breaks_off_stores_nothing,
            a_table_of_a_watched_schema_comes_with_its_rows_or_not_at_all,
            an_open_claim_excludes_and_a_dropped_one_leaves_nothing,
            eight_claims_store_once,
            eight_sources_with_one_content_store_once,
            eight_workers_make_the_tables_together,
            empty_files_are_loaded,
            every_type_makes_the_trip,
            fates_are_recorded_and_overtaken_by_a_load,
            only_what_is_settled_is_committed,
        );
    };
}
pub(crate) use for_each_promise;

/// An engine under test, with a schema of its own.
pub(crate) trait Engine {
    /// Whether text may hold a NUL character.
    const HOLDS_NUL: bool;

    /// How it writes the typed values of [`every_type_makes_the_trip`], for two rows.
    const TYPED: [[&'static str; 7]; 2];

    /// The target for [`TABLE`].
    fn target(&self) -> Target;

    /// The target for [`TABLE`] that sends every file above this size through a staging table.
    fn target_with_staging_above(&self, size_bytes: u64) -> Target;

    /// The target for [`TABLE`] in a load mode, staging every file above this size.
    fn target_with(&self, mode: LoadMode, staging_above_bytes: Option<u64>) -> Target;

    /// One query's rows, each value as text.
    fn rows(&self, query: &str) -> impl Future<Output = Result<Vec<Vec<Option<String>>>>>;
}

/// A file: its names, and its rows as field or nothing.
#[derive(Clone)]
pub(crate) struct File {
    names: Vec<String>,
    batches: Vec<Batch>,
}

impl File {
    /// A file in one batch.
    pub(crate) fn new(names: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let rows = rows.iter().map(|row| row.iter().map(|field| field.map(str::to_owned)).collect());
        Self::large(names, rows.collect(), 1000)
    }

    /// A file in batches of `batch_rows`.
    pub(crate) fn large(names: &[&str], rows: Vec<Vec<Option<String>>>, batch_rows: usize) -> Self {
        let mut record = 0;
        let mut batches = Vec::new();
        for some in rows.chunks(batch_rows.max(1)) {
            let mut batch = Batch::new(names.len());
            for row in some {
                record += 1;
                row.iter().for_each(|field| batch.push_field(field.as_deref().map(str::as_bytes)));
                batch.end_row(Position { record, line: record + 1, byte: record * 10 });
            }
            batches.push(batch);
        }
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), batches }
    }

    /// Rows in which what begins as an object or an array is one.
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
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), batches: vec![batch] }
    }

    /// `count` rows of an id, an amount and a note.
    pub(crate) fn orders(count: u64) -> Self {
        let row = |id: u64| vec![Some(id.to_string()), Some(format!("{id}.25")), Some(format!("note {id}"))];
        Self::large(&["id", "amount", "note"], (1..=count).map(row).collect(), 777)
    }

    /// The schema that the road would choose.
    pub(crate) fn schema(&self) -> Schema {
        let mut inference = Inference::new(self.names.clone());
        self.batches.iter().for_each(|batch| inference.observe(batch));
        inference.finish()
    }

    /// The rows.
    pub(crate) fn stream(&self) -> BatchStream<'_> {
        futures_util::stream::iter(self.batches.iter().cloned().map(Ok)).boxed()
    }

    /// The rows, and then an error where the file's end should be.
    pub(crate) fn broken_stream(&self) -> BatchStream<'_> {
        let broken = || Err(Error::new(ErrorKind::FileBroken, "the file ends within a record"));
        self.stream().chain(futures_util::stream::iter(std::iter::once_with(broken))).boxed()
    }
}

/// A destination under test.
pub(crate) struct Target(Box<dyn Destination>);

impl Target {
    /// The database of these credentials.
    pub(crate) fn open(credentials: Credentials, options: DestinationOptions) -> Self {
        Self(destination::open(credentials, options, &IdleConnections::default()))
    }
}

impl Deref for Target {
    type Target = dyn Destination;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

/// A file's claim, and its body where it was scanned.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) file: FileClaim,
    body: Option<Body>,
    may_create_table: bool,
}

impl Deref for Claim {
    type Target = FileClaim;

    fn deref(&self) -> &Self::Target {
        &self.file
    }
}

impl Claim {
    /// The body that the load is finalized with.
    pub(crate) fn body(&self) -> Body {
        self.body.clone().unwrap_or_else(|| body_with_content('u'))
    }

    fn schema<'a>(&'a self, schema: &'a Schema) -> FileSchema<'a> {
        match &self.body {
            Some(body) => FileSchema::Final { schema, body },
            None => FileSchema::Provisional { schema, may_create_table: self.may_create_table },
        }
    }
}

/// The result of a whole load.
#[derive(Debug)]
pub(crate) enum Claimed<Value> {
    /// This worker has loaded the file.
    Ours(Value),
    /// The file was loaded before.
    Ended(LedgerEntry),
}

/// A claim on a source of this name.
pub(crate) fn claim(key: &str) -> Claim {
    claim_of_size(key, 100)
}

/// The same of an object of this size.
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
    };
    let body = Body { sha256: "0".repeat(64), content_id: None, decoded_bytes: size_bytes };
    Claim { file, body: Some(body), may_create_table: false }
}

/// A body with a content id made of one letter.
fn body_with_content(letter: char) -> Body {
    Body { sha256: "0".repeat(64), content_id: Some(letter.to_string().repeat(64)), decoded_bytes: 100 }
}

/// A claim on a source of which only the beginning was read.
fn unread(key: &str) -> Claim {
    Claim { body: None, ..claim(key) }
}

/// A claim with a content id made of one letter.
fn claim_with_content(key: &str, letter: char) -> Claim {
    Claim { body: Some(body_with_content(letter)), ..claim(key) }
}

/// Opens a load of a source that was not loaded before.
pub(crate) async fn open(target: &Target, claim: &Claim, schema: &Schema) -> Result<Box<dyn OpenLoad>> {
    match target.begin(claim, claim.schema(schema)).await? {
        Begun::Open { load, .. } => Ok(load),
        Begun::AlreadyLoaded(entry) => bail!("ended before: {entry:?}"),
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

/// Takes a file through the whole road of a target.
pub(crate) async fn load(
    target: &Target,
    claim: &Claim,
    file: &File,
) -> spillway_core::error::Result<Claimed<RowCounts>> {
    load_body(target, claim, file, claim.body()).await
}

/// The same, with this body.
async fn load_body(
    target: &Target,
    claim: &Claim,
    file: &File,
    body: Body,
) -> spillway_core::error::Result<Claimed<RowCounts>> {
    let schema = file.schema();
    let mut open = match target.begin(claim, claim.schema(&schema)).await? {
        Begun::Open { load, .. } => load,
        Begun::AlreadyLoaded(entry) => return Ok(Claimed::Ended(entry)),
        Begun::NeedsScan(reason) => panic!("not scanned: {reason}"),
    };
    let counts = write(&mut *open, file.stream()).await?;
    let ready = open.finalize(body, counts).await?;
    let counts = ready.counts();
    match ready.commit().await {
        CommitResult::Committed => Ok(Claimed::Ours(counts)),
        CommitResult::NotCommitted(error) | CommitResult::Unknown(error) => Err(error),
    }
}

/// What a granted claim came to.
pub(crate) fn ours<Value>(claimed: Claimed<Value>) -> Result<Value> {
    match claimed {
        Claimed::Ours(value) => Ok(value),
        Claimed::Ended(entry) => bail!("ended before: {entry:?}"),
    }
}

/// What the ledger answered instead.
pub(crate) fn ended<Value>(claimed: Claimed<Value>) -> Result<LedgerEntry> {
    match claimed {
        Claimed::Ours(_) => bail!("the claim was granted"),
        Claimed::Ended(entry) => Ok(entry),
    }
}

/// The rows of [`TABLE`].
pub(crate) async fn count(engine: &impl Engine) -> Result<u64> {
    let rows = engine.rows(&format!("SELECT COUNT(*) FROM {TABLE}")).await?;
    let text = rows.first().and_then(|row| row[0].clone()).context("no count")?;
    Ok(text.parse()?)
}

/// The ledger's states, by key.
pub(crate) async fn states(engine: &impl Engine) -> Result<Vec<String>> {
    let rows = engine.rows("SELECT state FROM spillway_ledger ORDER BY object_key").await?;
    Ok(rows.into_iter().filter_map(|mut row| row.remove(0)).collect())
}

/// A file loads once, byte for byte, in a table made for it; the second time the ledger answers.
pub(crate) async fn a_file_loads_once(engine: &impl Engine) -> Result<()> {
    let (target, claim, file) = (engine.target(), claim("a.csv"), File::orders(2000));
    let loaded = ours(load(&target, &claim, &file).await?)?;
    assert_eq!(loaded, RowCounts::inserted(2000));
    let entry = ended(load(&target, &claim, &file).await?)?;
    assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::Loaded, 2000, 2000));
    assert_eq!(count(engine).await?, 2000);
    let sums = engine.rows(&format!("SELECT SUM(id), SUM(amount), MAX(note) FROM {TABLE}")).await?;
    assert_eq!(sums, [["2001000", "2001500.00", "note 999"].map(|text| Some(text.to_owned()))]);
    Ok(())
}

/// Every type of a new table makes the trip there and back, and so does every byte of text.
pub(crate) async fn every_type_makes_the_trip<E: Engine>(engine: &E) -> Result<()> {
    let names = ["flag", "whole", "precise", "number", "day_", "moment", "instant_", "words"];
    let every_ascii: String = (u8::from(!E::HOLDS_NUL)..=127).map(char::from).collect();
    let file = File::new(
        &names,
        &[
            &[
                Some("true"),
                Some("-9223372036854775808"),
                Some("-1234567890123456.123456789012345678"),
                Some("1e300"),
                Some("2024-02-29"),
                Some("2024-01-02 03:04:05.123456"),
                Some("2024-01-02T03:04:05+02:00"),
                Some(&every_ascii),
            ],
            &[
                Some("false"),
                Some("9223372036854775807"),
                Some("0.1"),
                Some("-0.5"),
                Some("9999-12-31"),
                Some("1000-01-01T00:00:00"),
                Some("2024-01-02T03:04:05Z"),
                Some(""),
            ],
            &[None, None, Some("NA"), Some("NaN"), None, None, None, None],
            &[Some("true"), Some("0"), None, Some("3"), None, None, None, Some("NULL")],
            &[Some("true"), Some("0"), None, Some("3"), None, None, None, Some("\\N")],
            &[Some("true"), Some("0"), None, Some("3"), None, None, None, Some("ÿ😀 \u{a0} ")],
        ],
    );
    ours(load(&engine.target(), &claim("types.csv"), &file).await?)?;
    let rows = engine.rows(&format!("SELECT {} FROM {TABLE}", names.join(", "))).await?;
    let typed = |row: usize, text| {
        let values = E::TYPED[row].into_iter().chain([text]);
        values.map(|value: &str| Some(value.to_owned())).collect::<Vec<_>>()
    };
    let untyped = |text: &str| {
        let mut row = vec![None; 8];
        (row[0], row[1]) = (Some(E::TYPED[0][0].to_owned()), Some("0".to_owned()));
        (row[3], row[7]) = (Some("3".to_owned()), Some(text.to_owned()));
        row
    };
    let expected = [
        typed(0, every_ascii.as_str()),
        typed(1, ""),
        vec![None; 8],
        untyped("NULL"),
        untyped("\\N"),
        untyped("ÿ😀 \u{a0} "),
    ];
    assert_eq!(rows, expected);
    Ok(())
}

/// Of eight workers that load the same source at once one commits; the others conflict or find it done.
pub(crate) async fn eight_claims_store_once(engine: &impl Engine) -> Result<()> {
    let (claim, file) = (claim("race.csv"), File::orders(300));
    let target = engine.target();
    for round in 0..3 {
        let ends = join_all((0..8).map(|_| load(&target, &claim, &file))).await;
        let mut stored = 0;
        for end in ends {
            match end {
                Ok(Claimed::Ours(_)) => stored += 1,
                Ok(Claimed::Ended(entry)) => assert_eq!(entry.state, LedgerState::Loaded),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!(stored, usize::from(round == 0), "round {round}");
        assert_eq!(count(engine).await?, 300);
    }
    Ok(())
}

/// Of eight workers with the same content under eight ids, one commits; the others end as duplicates or conflict.
pub(crate) async fn eight_sources_with_one_content_store_once(engine: &impl Engine) -> Result<()> {
    let (target, file) = (engine.target(), File::orders(300));
    let claims: Vec<Claim> = (0..8).map(|id| claim_with_content(&format!("copy-{id}.csv"), 'c')).collect();
    let mut stored = 0;
    for _ in 0..2 {
        for end in join_all(claims.iter().map(|claim| load(&target, claim, &file))).await {
            match end {
                Ok(Claimed::Ours(_)) => stored += 1,
                Ok(Claimed::Ended(_)) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
    }
    for claim in &claims {
        let entry = ended(load(&target, claim, &file).await?)?;
        ensure!(entry.state.is_in_target(), "{entry:?}");
    }
    assert_eq!((stored, count(engine).await?), (1, 300));
    let loaded = states(engine).await?.into_iter().filter(|state| state == "loaded").count();
    assert_eq!(loaded, 1);
    Ok(())
}

/// The same content under a second id is a duplicate, and says so with the rows it would have had.
pub(crate) async fn a_duplicate_is_recorded(engine: &impl Engine) -> Result<()> {
    let (target, file) = (engine.target(), File::orders(5));
    ours(load(&target, &claim_with_content("a.csv", 'a'), &file).await?)?;
    let second = claim_with_content("b.csv", 'a');
    let entry = ended(load(&target, &second, &file).await?)?;
    assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::Duplicate, 5, 0));
    assert_eq!(target.look_up(&second.source.id).await?, Some(entry));
    ours(load(&target, &claim_with_content("c.csv", 'b'), &file).await?)?;
    assert_eq!(states(engine).await?, ["loaded", "duplicate", "loaded"]);
    Ok(())
}

/// A body that is claimed after the rows keeps out its like as one that is claimed before, and is in the ledger; without
/// it nothing is committed.
pub(crate) async fn a_body_is_claimed_once_its_rows_are_with_the_server(engine: &impl Engine) -> Result<()> {
    let (target, file) = (engine.target(), File::orders(300));
    ours(load(&target, &claim("first.csv"), &file).await?)?;
    let copies: Vec<Claim> = (0..4).map(|id| unread(&format!("copy-{id}.csv"))).collect();
    let body = || body_with_content('c');
    let mut stored = 0;
    for end in join_all(copies.iter().map(|copy| load_body(&target, copy, &file, body()))).await {
        match end {
            Ok(claimed) => stored += u64::from(ours(claimed).is_ok()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    assert_eq!((stored, count(engine).await?), (1, 600));
    let later = load_body(&target, &unread("later.csv"), &file, body()).await.err().context("loaded twice")?;
    assert_eq!(later.kind(), ErrorKind::Conflict);
    let entry = ended(load(&target, &claim_with_content("later.csv", 'c'), &file).await?)?;
    assert_eq!((entry.state, entry.rows_parsed), (LedgerState::Duplicate, 300));
    let sql = "SELECT body_sha256 FROM spillway_ledger WHERE content_id IS NOT NULL";
    assert_eq!(engine.rows(sql).await?, [[Some("0".repeat(64))]]);
    Ok(())
}

/// Neither a table nor a column is made for a file that was not read to its end.
pub(crate) async fn what_was_not_read_makes_nothing(engine: &impl Engine) -> Result<()> {
    let (target, file) = (engine.target(), File::orders(3));
    let (claim, schema) = (unread("a.csv"), file.schema());
    let begun = target.begin(&claim, claim.schema(&schema)).await?;
    ensure!(matches!(begun, Begun::NeedsScan(ScanReason::TableMissing)), "claimed without a table");
    ensure!(engine.rows(&format!("SELECT * FROM {TABLE}")).await.is_err(), "the table is there");
    Ok(())
}

/// What the beginning of a file makes is there for nobody before its rows, and not at all without them. An engine that ends its
/// transaction by DDL has the file read first.
pub(crate) async fn a_table_of_a_watched_schema_comes_with_its_rows_or_not_at_all(engine: &impl Engine) -> Result<()> {
    let (target, file) = (engine.target(), File::orders(300));
    let provisional = |key: &str| Claim { may_create_table: true, ..unread(key) };
    let (claim, schema) = (provisional("a.csv"), file.schema());
    let is_there = async || engine.rows(&format!("SELECT * FROM {TABLE}")).await.is_ok();
    let mut opened = match target.begin(&claim, claim.schema(&schema)).await? {
        Begun::Open { load, guard } => {
            assert_eq!(guard, Guard::EveryValue);
            load
        }
        Begun::AlreadyLoaded(entry) => bail!("ended before: {entry:?}"),
        Begun::NeedsScan(reason) => {
            assert_eq!(reason, ScanReason::TableMissing);
            ensure!(!is_there().await, "the table is there");
            return Ok(());
        }
    };
    write(&mut *opened, file.stream()).await?;
    ensure!(!is_there().await, "the table is there before its rows");
    drop(opened);
    until_rolled_back(&target, &claim).await?;
    ensure!(!is_there().await, "the table is there without its rows");
    ours(load_body(&target, &claim, &file, body_with_content('a')).await?)?;
    ours(load_body(&target, &provisional("b.csv"), &file, body_with_content('b')).await?)?;
    assert_eq!(count(engine).await?, 600);
    Ok(())
}

/// While a claim is open, others neither get it nor wait long, and a look-up does not answer. Once it is dropped
/// everything is as before.
pub(crate) async fn an_open_claim_excludes_and_a_dropped_one_leaves_nothing(engine: &impl Engine) -> Result<()> {
    let (target, claim, file) = (engine.target(), claim("held.csv"), File::orders(3000));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    write(&mut *session, file.stream()).await?;
    let second = tokio::time::timeout(Duration::from_secs(15), load(&target, &claim, &file)).await?;
    assert_eq!(second.err().context("claimed twice")?.kind(), ErrorKind::Conflict);
    let asked = std::time::Instant::now();
    let looked_up = target.look_up(&claim.source.id).await;
    assert_eq!(looked_up.err().context("looked up while held")?.kind(), ErrorKind::Conflict);
    ensure!(asked.elapsed() < Duration::from_secs(2), "a look-up waits");
    drop(session);
    until_rolled_back(&target, &claim).await?;
    assert_eq!(count(engine).await?, 0);
    ours(load(&target, &claim, &file).await?)?;
    assert_eq!(count(engine).await?, 3000);
    Ok(())
}

/// Waits until a dropped session's claim is gone.
pub(crate) async fn until_rolled_back(target: &Target, claim: &Claim) -> Result<()> {
    for _ in 0..100 {
        match target.look_up(&claim.source.id).await {
            Ok(None) => return Ok(()),
            Ok(Some(entry)) => bail!("the ledger has {entry:?}"),
            Err(error) if error.kind() == ErrorKind::Conflict => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the claim was not let go of")
}

/// A file that breaks off stores nothing, and its own error comes out.
pub(crate) async fn a_file_that_breaks_off_stores_nothing(engine: &impl Engine) -> Result<()> {
    let (target, claim, file) = (engine.target(), claim("broken.csv"), File::orders(5000));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    let error = write(&mut *session, file.broken_stream()).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::FileBroken);
    assert_eq!(target.look_up(&claim.source.id).await?, None, "the claim is let go of when the error is out");
    ensure!(session.finalize(claim.body(), RowCounts::inserted(5000)).await.is_err(), "a failed load was finalized");
    assert_eq!(count(engine).await?, 0);
    Ok(())
}

/// Rows that were written, and not finalized, are not committed.
pub(crate) async fn only_what_is_settled_is_committed(engine: &impl Engine) -> Result<()> {
    let (target, claim, file) = (engine.target(), claim("unsettled.csv"), File::orders(10));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    write(&mut *session, file.stream()).await?;
    drop(session);
    until_rolled_back(&target, &claim).await?;
    assert_eq!(count(engine).await?, 0);
    Ok(())
}

/// What fell back or was rejected is recorded, can be claimed again, and a loaded source stays loaded.
pub(crate) async fn fates_are_recorded_and_overtaken_by_a_load(engine: &impl Engine) -> Result<()> {
    let (target, claim, file) = (engine.target(), claim_with_content("fate.csv", 'f'), File::orders(4));
    assert_eq!(target.look_up(&claim.source.id).await?, None);
    let outcome = LedgerOutcome {
        state: LedgerState::FellBack,
        body_sha256: Some("0".repeat(64)),
        rows_parsed: 4,
        rows_stored: 4,
        rows_rejected: 0,
        reason: "the table was full".into(),
    };
    target.record(&claim, &outcome).await?;
    target.record(&claim, &outcome).await?;
    let entry = target.look_up(&claim.source.id).await?.context("no entry")?;
    assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::FellBack, 4, 4));
    ours(load(&target, &claim, &file).await?)?;
    target.record(&claim, &outcome).await?;
    target.record_move(&claim.source.id, "processed/fate.csv", Some(0.012_345_6)).await?;
    let entry = target.look_up(&claim.source.id).await?.context("no entry")?;
    assert_eq!(entry.state, LedgerState::Loaded);
    assert_eq!(entry.moved_to.as_deref(), Some("processed/fate.csv"));
    // Noted once more by somebody who does not know the cost.
    target.record_move(&claim.source.id, "processed/fate.csv", None).await?;
    let attempts = engine.rows("SELECT attempt, rows_stored, reason, cost_usd FROM spillway_ledger").await?;
    assert_eq!(attempts, [[Some("3".to_owned()), Some("4".to_owned()), None, Some("0.012346".to_owned())]]);
    Ok(())
}

/// A file without rows makes its table and is loaded; a file without columns is loaded as well.
pub(crate) async fn empty_files_are_loaded(engine: &impl Engine) -> Result<()> {
    let target = engine.target();
    let nothing = RowCounts::default();
    assert_eq!(ours(load(&target, &claim("nothing.csv"), &File::new(&[], &[])).await?)?, nothing);
    assert_eq!(ours(load(&target, &claim("header.csv"), &File::new(&["id", "note"], &[])).await?)?, nothing);
    assert_eq!(count(engine).await?, 0);
    assert_eq!(states(engine).await?, ["loaded", "loaded"]);
    Ok(())
}

/// A large file goes through a staging table that is gone afterwards; what breaks off leaves none either.
pub(crate) async fn a_large_file_is_staged(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with_staging_above(1000);
    let (claim, file) = (claim_of_size("large.csv", 100_000), File::orders(5000));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    ensure!(write(&mut *session, file.broken_stream()).await.is_err(), "loaded");
    drop(session);
    assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    let loaded = ours(load(&target, &claim, &file).await?)?;
    assert_eq!(loaded.rows_stored, 5000);
    assert_eq!(count(engine).await?, 5000);
    ended(load(&target, &claim, &file).await?)?;
    assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    Ok(())
}

/// Of two workers that stage the same source one commits.
pub(crate) async fn two_staged_loads_store_once(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with_staging_above(1000);
    let (claim, file) = (claim_of_size("large.csv", 100_000), File::orders(500));
    let schema = file.schema();
    let mut first = open(&target, &claim, &schema).await?;
    let mut second = open(&target, &claim, &schema).await?;
    let loaded = write(&mut *first, file.stream()).await?;
    write(&mut *second, file.stream()).await?;
    let ready = first.finalize(claim.body(), loaded).await?;
    let error = second.finalize(claim.body(), loaded).await.err().context("finalized twice")?;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    ensure!(matches!(ready.commit().await, CommitResult::Committed), "not committed");
    assert_eq!(count(engine).await?, 500);
    assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    Ok(())
}

/// The sweep drops staging tables of dead attempts, not of live sources, not young ones, and nothing that only looks alike.
pub(crate) async fn the_sweep_drops_dead_staging_tables(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with_staging_above(1000);
    let (claim, schema) = (claim_of_size("large.csv", 100_000), File::orders(5).schema());
    drop(open(&target, &claim, &schema).await?);
    engine.rows(&format!("CREATE TABLE spillway_staging_of_mine LIKE {TABLE}")).await?;
    let day = Duration::from_secs(86_400);
    assert_eq!(target.drop_stale_staging(day, &[]).await?, Vec::<String>::new());
    assert_eq!(
        target.drop_stale_staging(Duration::ZERO, std::slice::from_ref(&claim.source.id)).await?,
        Vec::<String>::new()
    );
    let dropped = target.drop_stale_staging(Duration::ZERO, &[]).await?;
    assert_eq!(dropped.len(), 1);
    ensure!(dropped[0].contains(claim.source.id.short()), "{dropped:?}");
    engine.rows("SELECT * FROM spillway_staging_of_mine").await?;
    Ok(())
}

/// Eight workers that need the same missing table and ledger make them together.
pub(crate) async fn eight_workers_make_the_tables_together(engine: &impl Engine) -> Result<()> {
    let (target, file) = (engine.target(), File::orders(20));
    let claims: Vec<Claim> = (0..8).map(|id| claim(&format!("new-{id}.csv"))).collect();
    for end in join_all(claims.iter().map(|claim| load(&target, claim, &file))).await {
        ours(end?)?;
    }
    assert_eq!(count(engine).await?, 160);
    Ok(())
}
