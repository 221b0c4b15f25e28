//! Conformance tests for appending loads, which every engine runs.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use spillway_core::destination::{
    Begun, CommitResult, DoneVersion, LedgerEntry, LedgerOutcome, LedgerState, ObjectPlace, RowCounts, ScanReason,
    UnknownColumns, ValueCheck,
};
use spillway_core::error::ErrorKind;
use spillway_test_env::wait;

use crate::engines::conformance::{
    Claim, Engine, File, LoadResult, TABLE, body_with_content, claim, claim_of_size, count, expect_already_loaded,
    expect_loaded, load, load_body, load_error, open, states, wait_for_rollback, write,
};

/// Calls a macro with this module's name and the name of each of its tests.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_append:
            broken_file_stores_nothing,
            column_without_values_gets_its_default,
            content_claimed_after_its_rows_stores_once,
            duplicate_content_is_recorded,
            eight_sources_with_equal_content_load_once,
            eight_workers_create_missing_tables,
            eight_workers_load_one_file_once,
            empty_files_load,
            every_type_round_trips,
            file_loads_once,
            file_without_header_is_matched_by_position,
            large_file_leaves_no_staging_table,
            load_replaces_a_recorded_outcome,
            load_without_finalize_is_rolled_back,
            loaded_versions_are_found_by_key_and_etag,
            names_match_as_people_write_them,
            open_claim_excludes_others_until_rolled_back,
            provisional_schema_creates_no_table,
            provisional_table_appears_with_its_rows,
            unknown_columns_are_added_on_request,
            unknown_columns_are_ignored_on_request,
        );
    };
}
pub(crate) use for_each_test;

/// Calls a macro with the name of each test for engines that have staging tables.
macro_rules! for_each_staging_test {
    ($callback:ident) => {
        $callback!(conformance_append:
            cleanup_drops_stale_staging_tables,
            staged_row_that_is_missing_fails_the_load,
            staged_loads_of_one_file_store_once,
        );
    };
}
pub(crate) use for_each_staging_test;

/// A claim on a source of which only the beginning was read.
fn provisional_claim(key: &str) -> Claim {
    Claim { body: None, ..claim(key) }
}

/// A claim whose content id repeats one letter.
fn claim_with_content(key: &str, letter: char) -> Claim {
    Claim { body: Some(body_with_content(letter)), ..claim(key) }
}

/// A file loads once into a table that is created for it. The second attempt finds the ledger entry.
pub(crate) async fn file_loads_once(engine: &impl Engine) -> Result<()> {
    let (destination, claim, file) = (engine.destination(), claim("a.csv"), File::orders(2000));
    let loaded = expect_loaded(load(&destination, &claim, &file).await?)?;
    assert_eq!(loaded, RowCounts::inserted(2000));
    let entry = expect_already_loaded(load(&destination, &claim, &file).await?)?;
    assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::Loaded, 2000, 2000));
    assert_eq!(count(engine).await?, 2000);
    let sums = engine.rows(&format!("SELECT SUM(id), SUM(amount), MAX(note) FROM {TABLE}")).await?;
    assert_eq!(sums, [["2001000", "2001500.00", "note 999"].map(|text| Some(text.to_owned()))]);
    Ok(())
}

/// Values of every type of a new table, and every ASCII character, are read back as they were stored.
pub(crate) async fn every_type_round_trips<E: Engine>(engine: &E) -> Result<()> {
    let names = ["flag", "whole", "precise", "number", "day_", "moment", "instant_", "words"];
    let every_ascii: String = (u8::from(!E::STORES_NUL)..=127).map(char::from).collect();
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
    expect_loaded(load(&engine.destination(), &claim("types.csv"), &file).await?)?;
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

/// Of eight workers that load the same source at once, one commits. The others conflict or find the ledger entry.
pub(crate) async fn eight_workers_load_one_file_once(engine: &impl Engine) -> Result<()> {
    let (claim, file) = (claim("race.csv"), File::orders(300));
    let destination = engine.destination();
    for round in 0..3 {
        let ends = join_all((0..8).map(|_| load(&destination, &claim, &file))).await;
        let mut stored = 0;
        for end in ends {
            match end {
                Ok(LoadResult::Loaded(_)) => stored += 1,
                Ok(LoadResult::NotNeeded(entry)) => assert_eq!(entry.state, LedgerState::Loaded),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!(stored, usize::from(round == 0), "round {round}");
        assert_eq!(count(engine).await?, 300);
    }
    Ok(())
}

/// Of eight sources with equal content, one commits. The others are duplicates or conflict.
pub(crate) async fn eight_sources_with_equal_content_load_once(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(300));
    let claims: Vec<Claim> = (0..8).map(|id| claim_with_content(&format!("copy-{id}.csv"), 'c')).collect();
    let mut stored = 0;
    for _ in 0..2 {
        for end in join_all(claims.iter().map(|claim| load(&destination, claim, &file))).await {
            match end {
                Ok(LoadResult::Loaded(_)) => stored += 1,
                Ok(LoadResult::NotNeeded(_)) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
    }
    for claim in &claims {
        let entry = expect_already_loaded(load(&destination, claim, &file).await?)?;
        ensure!(entry.state.needs_no_load(), "{entry:?}");
    }
    assert_eq!((stored, count(engine).await?), (1, 300));
    let loaded = states(engine).await?.into_iter().filter(|state| state == "loaded").count();
    assert_eq!(loaded, 1);
    Ok(())
}

/// A second source with equal content is recorded as a duplicate, with the number of its parsed rows.
pub(crate) async fn duplicate_content_is_recorded(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(5));
    expect_loaded(load(&destination, &claim_with_content("a.csv", 'a'), &file).await?)?;
    let second = claim_with_content("b.csv", 'a');
    let entry = expect_already_loaded(load(&destination, &second, &file).await?)?;
    assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::Duplicate, 5, 0));
    let found = destination.look_up(&second.source.id).await?.context("no entry")?;
    let reason = found.reason.clone().unwrap_or_default();
    ensure!(found.committed_at.is_some() && reason.contains("loaded from s3://bucket/a.csv at 20"), "{found:?}");
    assert_eq!(found, LedgerEntry { committed_at: found.committed_at, ..entry });
    expect_loaded(load(&destination, &claim_with_content("c.csv", 'b'), &file).await?)?;
    assert_eq!(states(engine).await?, ["loaded", "duplicate", "loaded"]);
    Ok(())
}

/// A content id that is claimed after the rows excludes duplicates, as one that is claimed before them, and is recorded.
pub(crate) async fn content_claimed_after_its_rows_stores_once(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(300));
    expect_loaded(load(&destination, &claim("first.csv"), &file).await?)?;
    let copies: Vec<Claim> = (0..4).map(|id| provisional_claim(&format!("copy-{id}.csv"))).collect();
    let body = || body_with_content('c');
    let mut stored = 0;
    for end in join_all(copies.iter().map(|copy| load_body(&destination, copy, &file, body()))).await {
        match end {
            Ok(claimed) => stored += u64::from(expect_loaded(claimed).is_ok()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    assert_eq!((stored, count(engine).await?), (1, 600));
    let later = load_body(&destination, &provisional_claim("later.csv"), &file, body())
        .await
        .err()
        .context("the duplicate was loaded")?;
    assert_eq!(later.kind(), ErrorKind::Conflict);
    let entry = expect_already_loaded(load(&destination, &claim_with_content("later.csv", 'c'), &file).await?)?;
    assert_eq!((entry.state, entry.rows_parsed), (LedgerState::Duplicate, 300));
    let sql = "SELECT body_sha256 FROM spillway_ledger WHERE content_id IS NOT NULL";
    assert_eq!(engine.rows(sql).await?, [[Some("0".repeat(64))]]);
    Ok(())
}

/// A provisional schema creates no table unless the claim allows it.
pub(crate) async fn provisional_schema_creates_no_table(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(3));
    let (claim, schema) = (provisional_claim("a.csv"), file.schema());
    let begun = destination.begin(&claim, claim.schema(&schema)).await?;
    ensure!(matches!(begun, Begun::NeedsScan(ScanReason::TableMissing)), "the claim succeeded without a table");
    ensure!(engine.rows(&format!("SELECT * FROM {TABLE}")).await.is_err(), "the table exists");
    Ok(())
}

/// A table of a provisional schema becomes visible only together with its rows. An engine whose DDL commits the
/// transaction requires a scan instead.
pub(crate) async fn provisional_table_appears_with_its_rows(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(300));
    let provisional = |key: &str| Claim { may_create_table: true, ..provisional_claim(key) };
    let (claim, schema) = (provisional("a.csv"), file.schema());
    let table_exists = async || engine.rows(&format!("SELECT * FROM {TABLE}")).await.is_ok();
    let mut opened = match destination.begin(&claim, claim.schema(&schema)).await? {
        Begun::Open { load, value_check } => {
            assert_eq!(value_check, ValueCheck::EveryValue);
            load
        }
        Begun::NotNeeded(entry) => bail!("loaded before: {entry:?}"),
        Begun::NeedsScan(reason) => {
            assert_eq!(reason, ScanReason::TableMissing);
            ensure!(!table_exists().await, "the table exists");
            return Ok(());
        }
    };
    write(&mut *opened, file.stream()).await?;
    ensure!(!table_exists().await, "the table is visible before COMMIT");
    drop(opened);
    wait_for_rollback(&destination, &claim).await?;
    ensure!(!table_exists().await, "the table exists after ROLLBACK");
    expect_loaded(load_body(&destination, &claim, &file, body_with_content('a')).await?)?;
    expect_loaded(load_body(&destination, &provisional("b.csv"), &file, body_with_content('b')).await?)?;
    assert_eq!(count(engine).await?, 600);
    Ok(())
}

/// While a claim is open, other claims and look-ups conflict within seconds. After a rollback the file can be loaded.
pub(crate) async fn open_claim_excludes_others_until_rolled_back(engine: &impl Engine) -> Result<()> {
    let (destination, claim, file) = (engine.destination(), claim("held.csv"), File::orders(3000));
    let schema = file.schema();
    let mut open_load = open(&destination, &claim, &schema).await?;
    write(&mut *open_load, file.stream()).await?;
    let second = tokio::time::timeout(Duration::from_secs(15), load(&destination, &claim, &file)).await?;
    assert_eq!(second.err().context("the second claim succeeded")?.kind(), ErrorKind::Conflict);
    let start = std::time::Instant::now();
    let looked_up = destination.look_up(&claim.source.id).await;
    assert_eq!(looked_up.err().context("the look-up succeeded")?.kind(), ErrorKind::Conflict);
    ensure!(start.elapsed() < Duration::from_secs(2), "the look-up took {:?}", start.elapsed());
    drop(open_load);
    wait_for_rollback(&destination, &claim).await?;
    assert_eq!(count(engine).await?, 0);
    expect_loaded(load(&destination, &claim, &file).await?)?;
    assert_eq!(count(engine).await?, 3000);
    Ok(())
}

/// A file that ends within a record stores nothing, and the load returns the file's error.
pub(crate) async fn broken_file_stores_nothing(engine: &impl Engine) -> Result<()> {
    let (destination, claim, file) = (engine.destination(), claim("broken.csv"), File::orders(5000));
    let schema = file.schema();
    let mut open_load = open(&destination, &claim, &schema).await?;
    let error = write(&mut *open_load, file.broken_stream()).await.err().context("the load succeeded")?;
    assert_eq!(error.kind(), ErrorKind::FileBroken);
    assert_eq!(destination.look_up(&claim.source.id).await?, None, "the claim is released when the error is returned");
    ensure!(open_load.finalize(claim.body(), RowCounts::inserted(5000)).await.is_err(), "a failed load was finalized");
    assert_eq!(count(engine).await?, 0);
    Ok(())
}

/// Rows that were written but not finalized are rolled back.
pub(crate) async fn load_without_finalize_is_rolled_back(engine: &impl Engine) -> Result<()> {
    let (destination, claim, file) = (engine.destination(), claim("unfinalized.csv"), File::orders(10));
    let schema = file.schema();
    let mut open_load = open(&destination, &claim, &schema).await?;
    write(&mut *open_load, file.stream()).await?;
    drop(open_load);
    wait_for_rollback(&destination, &claim).await?;
    assert_eq!(count(engine).await?, 0);
    Ok(())
}

/// A recorded fallback can be claimed again. After the load, recording the fallback again changes nothing.
pub(crate) async fn load_replaces_a_recorded_outcome(engine: &impl Engine) -> Result<()> {
    let (destination, claim, file) = (engine.destination(), claim_with_content("outcome.csv", 'f'), File::orders(4));
    assert_eq!(destination.look_up(&claim.source.id).await?, None);
    let outcome = LedgerOutcome {
        state: LedgerState::FellBack,
        body_sha256: Some("0".repeat(64)),
        rows_parsed: 4,
        rows_stored: 4,
        rows_rejected: 0,
        reason: "the table was full".into(),
    };
    destination.record(&claim, &outcome).await?;
    destination.record(&claim, &outcome).await?;
    let entry = destination.look_up(&claim.source.id).await?.context("no entry")?;
    assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::FellBack, 4, 4));
    expect_loaded(load(&destination, &claim, &file).await?)?;
    destination.record(&claim, &outcome).await?;
    destination.record_move(&claim.source.id, ObjectPlace::MovedTo("processed/outcome.csv"), Some(0.012_345_6)).await?;
    let entry = destination.look_up(&claim.source.id).await?.context("no entry")?;
    assert_eq!(entry.state, LedgerState::Loaded);
    assert_eq!(entry.moved_to.as_deref(), Some("processed/outcome.csv"));
    // Recording the move without a cost keeps the known cost.
    destination.record_move(&claim.source.id, ObjectPlace::MovedTo("processed/outcome.csv"), None).await?;
    let attempts = engine.rows("SELECT attempt, rows_stored, reason, cost_usd FROM spillway_ledger").await?;
    assert_eq!(attempts, [[Some("3".to_owned()), Some("4".to_owned()), None, Some("0.012346".to_owned())]]);
    Ok(())
}

/// The ledger returns the versions of keys that need no load, and the place of the object does not change that.
pub(crate) async fn loaded_versions_are_found_by_key_and_etag(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(2));
    let (first, other) = (claim("kept's %.csv"), claim("other.csv"));
    let keys = [first.source.object.key.as_str(), "other.csv", "missing.csv"];
    let etags = [first.source.etag.as_str(), "\"missing.csv\""];
    assert_eq!(destination.loaded_versions("bucket", &keys, &etags).await?, []);
    expect_loaded(load(&destination, &first, &file).await?)?;
    expect_loaded(load(&destination, &other, &file).await?)?;
    destination.record_move(&first.source.id, ObjectPlace::Kept, Some(0.5)).await?;
    let found = destination.loaded_versions("bucket", &keys, &etags).await?;
    let expected = DoneVersion {
        source_id: first.source.id.to_string(),
        key: first.source.object.key.clone(),
        version_id: None,
        etag: first.source.etag.clone(),
        size_bytes: first.source.size_bytes,
    };
    assert_eq!(found, [expected]);
    assert_eq!(destination.loaded_versions("elsewhere", &keys, &etags).await?, []);
    destination.record_move(&other.source.id, ObjectPlace::Deleted, None).await?;
    let moves = "SELECT moved_at IS NULL, moved_to IS NULL, cost_usd IS NULL FROM spillway_ledger ORDER BY object_key";
    let moves = engine.rows(moves).await?.concat();
    let is_null = |text: &Option<String>| matches!(text.as_deref(), Some("1" | "t" | "true"));
    assert_eq!(moves.iter().map(is_null).collect::<Vec<_>>(), [true, true, false, false, true, true]);
    Ok(())
}

/// A file without columns is loaded. A file with only a header is loaded and creates its table.
pub(crate) async fn empty_files_load(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination();
    let nothing = RowCounts::default();
    assert_eq!(expect_loaded(load(&destination, &claim("nothing.csv"), &File::new(&[], &[])).await?)?, nothing);
    assert_eq!(
        expect_loaded(load(&destination, &claim("header.csv"), &File::new(&["id", "note"], &[])).await?)?,
        nothing
    );
    assert_eq!(count(engine).await?, 0);
    assert_eq!(states(engine).await?, ["loaded", "loaded"]);
    Ok(())
}

/// Neither a completed load nor a broken file leaves a staging table, whether or not the engine stages large files.
pub(crate) async fn large_file_leaves_no_staging_table(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with_staging_above(1000);
    let (claim, file) = (claim_of_size("large.csv", 100_000), File::orders(5000));
    let schema = file.schema();
    let mut open_load = open(&destination, &claim, &schema).await?;
    ensure!(write(&mut *open_load, file.broken_stream()).await.is_err(), "the load succeeded");
    drop(open_load);
    assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    let loaded = expect_loaded(load(&destination, &claim, &file).await?)?;
    assert_eq!(loaded.rows_stored, 5000);
    assert_eq!(count(engine).await?, 5000);
    expect_already_loaded(load(&destination, &claim, &file).await?)?;
    assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    Ok(())
}

/// Of three workers that stage the same source, one commits. The others fail with a conflict, after which nothing is written to the
/// fallback: one while the first transaction is open, and one after its COMMIT.
pub(crate) async fn staged_loads_of_one_file_store_once(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with_staging_above(1000);
    let (claim, file) = (claim_of_size("large.csv", 100_000), File::orders(500));
    let schema = file.schema();
    let mut first = open(&destination, &claim, &schema).await?;
    let mut second = open(&destination, &claim, &schema).await?;
    let loaded = write(&mut *first, file.stream()).await?;
    let mut third = open(&destination, &claim, &schema).await?;
    for load in [&mut second, &mut third] {
        write(&mut **load, file.stream()).await?;
    }
    let ready = first.finalize(claim.body(), loaded).await?;
    let error = second.finalize(claim.body(), loaded).await.err().context("both loads were finalized")?;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    ensure!(matches!(ready.commit().await, CommitResult::Committed), "not committed");
    let error = third.finalize(claim.body(), loaded).await.err().context("two loads were committed")?;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(count(engine).await?, 500);
    assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    Ok(())
}

/// Nothing is committed if the staging table has fewer rows than were sent. The server gives no warning then.
pub(crate) async fn staged_row_that_is_missing_fails_the_load(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with_staging_above(1000);
    let (claim, file) = (claim_of_size("large.csv", 100_000), File::orders(500));
    let mut load = open(&destination, &claim, &file.schema()).await?;
    let loaded = write(&mut *load, file.stream()).await?;
    let staging = engine.rows("SHOW TABLES LIKE 'spillway_staging%'").await?;
    let staging = staging[0][0].clone().context("no staging table")?;
    engine.rows(&format!("DELETE FROM {staging} LIMIT 1")).await?;
    let error = load.finalize(claim.body(), loaded).await.err().context("the load was finalized")?;
    assert_eq!(error.kind(), ErrorKind::DataRefused);
    assert_eq!(count(engine).await?, 0);
    Ok(())
}

/// Cleanup drops staging tables of dead attempts. It keeps recent tables, those of active sources and connections, and tables of
/// users.
pub(crate) async fn cleanup_drops_stale_staging_tables(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with_staging_above(1000);
    let (claim, schema) = (claim_of_size("large.csv", 100_000), File::orders(5).schema());
    let attempt = open(&destination, &claim, &schema).await?;
    // A load without a lease, such as that of a local file.
    assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    drop(attempt);
    engine.rows(&format!("CREATE TABLE spillway_staging_of_mine LIKE {TABLE}")).await?;
    let day = Duration::from_secs(86_400);
    assert_eq!(destination.drop_stale_staging(day, &[]).await?, Vec::<String>::new());
    assert_eq!(
        destination.drop_stale_staging(Duration::ZERO, std::slice::from_ref(&claim.source.id)).await?,
        Vec::<String>::new()
    );
    // The server needs a moment to notice that the connection has ended.
    wait::until("the staging table to be dropped", Duration::from_secs(30), async || {
        let dropped = destination.drop_stale_staging(Duration::ZERO, &[]).await?;
        Ok(matches!(dropped.as_slice(), [name] if name.contains(claim.source.id.short())))
    })
    .await?;
    engine.rows("SELECT * FROM spillway_staging_of_mine").await?;
    Ok(())
}

/// Eight workers that need the same missing table and ledger all load their files.
pub(crate) async fn eight_workers_create_missing_tables(engine: &impl Engine) -> Result<()> {
    let (destination, file) = (engine.destination(), File::orders(20));
    let claims: Vec<Claim> = (0..8).map(|id| claim(&format!("new-{id}.csv"))).collect();
    for end in join_all(claims.iter().map(|claim| load(&destination, claim, &file))).await {
        expect_loaded(end?)?;
    }
    assert_eq!(count(engine).await?, 160);
    Ok(())
}

/// Columns that the table lacks are not loaded, but a name that may mean a column of the table is not ignored.
pub(crate) async fn unknown_columns_are_ignored_on_request<E: Engine>(engine: &E) -> Result<()> {
    engine.rows(&format!("CREATE TABLE {TABLE} (note VARCHAR(20), id BIGINT)")).await?;
    let destination = engine.with(|_, options| options.unknown_columns = UnknownColumns::Ignore);
    expect_loaded(load(&destination, &claim("a.csv"), &File::orders(2)).await?)?;
    let rows = engine.rows(&format!("SELECT id FROM {TABLE} WHERE note IS NOT NULL ORDER BY id")).await?;
    assert_eq!(rows.len(), 2);

    engine.rows(&format!("DROP TABLE {TABLE}")).await?;
    engine.rows(&format!("CREATE TABLE {TABLE} (other BIGINT)")).await?;
    let refused = load(&destination, &claim("b.csv"), &File::orders(2)).await;
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::TableMismatch), "no column is known");
    Ok(())
}

/// A column of the file that differs from a table's column only in letter case is the same column. Missing columns are
/// added, also by two workers at once.
pub(crate) async fn unknown_columns_are_added_on_request<E: Engine>(engine: &E) -> Result<()> {
    let id = format!("{quote}ID{quote}", quote = E::IDENTIFIER_QUOTE);
    engine.rows(&format!("CREATE TABLE {TABLE} ({id} BIGINT)")).await?;
    let destination = engine.with(|_, options| options.unknown_columns = UnknownColumns::Add);
    let (first, second, file) = (claim("a.csv"), claim("b.csv"), File::orders(2));
    let (first, second) = tokio::join!(load(&destination, &first, &file), load(&destination, &second, &file));
    expect_loaded(first?)?;
    expect_loaded(second?)?;
    let rows = engine.rows(&format!("SELECT {id}, amount, note FROM {TABLE} ORDER BY 1")).await?;
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0], ["1", "1.25", "note 1"].map(|text| Some(text.to_owned())));
    Ok(())
}

/// Without a header the fields are stored in the order of the table's columns, also before the file is read to its end.
pub(crate) async fn file_without_header_is_matched_by_position(engine: &impl Engine) -> Result<()> {
    let ddl =
        format!("CREATE TABLE {TABLE} (number BIGINT NOT NULL, total DECIMAL(10,2) NOT NULL, remark VARCHAR(20))");
    engine.rows(&ddl).await?;
    let destination = engine.destination();
    let first = File::new(&["col_1", "col_2", "col_3"], &[&[Some("1"), Some("19.90"), Some("a")]]).without_header();
    expect_loaded(load(&destination, &claim("a.csv"), &first).await?)?;
    let second = File::new(&["col_1", "col_2", "col_3"], &[&[Some("2.0"), Some(".5"), None]]).without_header();
    expect_loaded(load(&destination, &provisional_claim("b.csv"), &second).await?)?;
    let rows = engine.rows(&format!("SELECT number, total, remark FROM {TABLE} ORDER BY number")).await?;
    assert_eq!(
        rows,
        [[Some("1"), Some("19.90"), Some("a")], [Some("2"), Some("0.50"), None]]
            .map(|row| row.map(|value| value.map(str::to_owned)).to_vec())
    );
    let narrow = File::new(&["col_1", "col_2"], &[&[Some("3"), Some("1.00")]]);
    for file in [narrow.clone().without_header(), narrow] {
        let error = load_error(&destination, &claim("c.csv"), &file).await?;
        assert_eq!(error.kind(), ErrorKind::TableMismatch);
    }
    let words = File::new(&["col_1", "col_2", "col_3"], &[&[Some("3"), Some("x"), None]]).without_header();
    let error = load_error(&destination, &claim("d.csv"), &words).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("total")));
    assert_eq!(count(engine).await?, 2);
    Ok(())
}

/// A name in the file matches a column that differs in spaces, hyphens and dots, unless two columns are possible.
pub(crate) async fn names_match_as_people_write_them<E: Engine>(engine: &E) -> Result<()> {
    let name = |name: &str| format!("{quote}{name}{quote}", quote = E::IDENTIFIER_QUOTE);
    let ddl =
        format!("CREATE TABLE {TABLE} (order_id BIGINT, {} DECIMAL(10,2), remark VARCHAR(20))", name("Net Total"));
    engine.rows(&ddl).await?;
    let file = File::new(
        &["net-total", "Order\u{a0}ID", "\u{200b}Remark"],
        &[&[Some("1.25"), Some("1"), Some("one")], &[Some("2.25"), Some("2"), None]],
    );
    expect_loaded(load(&engine.destination(), &claim("a.csv"), &file).await?)?;
    let rows = engine.rows(&format!("SELECT order_id, {}, remark FROM {TABLE} ORDER BY 1", name("Net Total"))).await?;
    assert_eq!(
        rows,
        [[Some("1"), Some("1.25"), Some("one")], [Some("2"), Some("2.25"), None]]
            .map(|row| row.map(|value| value.map(str::to_owned)).to_vec())
    );
    let file = File::new(&["Order ID", "order-id"], &[&[Some("3"), Some("4")]]);
    let error = load_error(&engine.destination(), &claim("b.csv"), &file).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    ensure!(error.message().contains("Order ID") && error.message().contains("order-id"), "{error}");
    Ok(())
}

/// A NOT NULL column gets its default if no row has a value in it. If only some rows have one, the others are rejected.
pub(crate) async fn column_without_values_gets_its_default(engine: &impl Engine) -> Result<()> {
    let ddl = format!(
        "CREATE TABLE {TABLE} (id BIGINT NOT NULL, level BIGINT NOT NULL DEFAULT 7, note VARCHAR(20) NOT NULL DEFAULT 'new')"
    );
    engine.rows(&ddl).await?;
    let destination = engine.destination();
    let names = ["level", "id", "note"];
    let file = File::new(&names, &[&[None, Some("1"), None], &[None, Some("2"), None]]);
    match destination.begin(&provisional_claim("a.csv"), provisional_claim("a.csv").schema(&file.schema())).await? {
        Begun::NeedsScan(reason) => assert_eq!(reason, ScanReason::ColumnEmpty),
        Begun::Open { .. } | Begun::NotNeeded(_) => bail!("the first rows were not enough to know"),
    }
    expect_loaded(load(&destination, &claim("a.csv"), &file).await?)?;
    let file = File::new(&names, &[&[None, Some("3"), Some("")], &[None, Some("4"), Some("x")]]);
    expect_loaded(load(&destination, &claim("b.csv"), &file).await?)?;
    let rows = engine.rows(&format!("SELECT id, level, note FROM {TABLE} ORDER BY id")).await?;
    let expected = [["1", "7", "new"], ["2", "7", "new"], ["3", "7", ""], ["4", "7", "x"]];
    assert_eq!(rows, expected.map(|row| row.map(|text| Some(text.to_owned())).to_vec()));
    let file = File::new(&names, &[&[Some("1"), Some("5"), Some("x")], &[None, Some("6"), Some("x")]]);
    let error = load_error(&destination, &claim("c.csv"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("level")));
    assert_eq!(error.position().map(|position| position.record), Some(2));
    ensure!(error.message().contains("its default"), "{error}");
    Ok(())
}
