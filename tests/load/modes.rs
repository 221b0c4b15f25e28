//! The load modes replace, merge and mirror in the whole pipeline: fallback and replay, files without rows, bad records, and
//! killed workers.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::cloud::Object;
use spillway_test_env::database::{Engine, Rows, texts};
use spillway_test_env::fixture::Counted;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

/// Uploads and loads an object. Returns it and its report.
pub(super) async fn upload(test_env: &TestEnv, settings: &Settings, key: &str, body: &str) -> Result<(Object, Value)> {
    let object = test_env.fixture.account.put(key, body.to_owned()).await?;
    let response = test_env.deliver_until_accepted(settings, &[&object]).await?;
    Ok((object, response.body["reports"][0].clone()))
}

/// The ids and notes in the table, with a dash for NULL.
async fn orders(test_env: &TestEnv) -> Result<Rows> {
    test_env.rows("SELECT CONCAT(id, ''), COALESCE(note, '-') FROM {schema}.orders ORDER BY id").await
}

async fn ensure_no_fallback(test_env: &TestEnv, settings: &Settings) -> Result<()> {
    ensure!(test_env.replay(settings).await?.is_empty(), "a second replay found files");
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());
    Ok(())
}

/// A replayed file replaces the table, unless a newer file has replaced it. In both cases it leaves the fallback.
#[rstest]
#[tokio::test]
async fn replay_replaces_unless_a_newer_file_was_loaded(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "replace");
    test_env.sql("CREATE TABLE {schema}.orders (nothing INT)").await?;
    let late = test_env.fixture.upload("uploads/1-late.csv", 30).await?;
    test_env.deliver_until_accepted(&settings, &[&late]).await?;
    assert_eq!(test_env.count().await?, Counted { database: 0, fallback: 30 });
    test_env.sql("DROP TABLE {schema}.orders").await?;
    // S3 stores times in whole seconds. Of two files with the same time, the later key is newer.
    let newer = test_env.fixture.upload("uploads/2-newer.csv", 40).await?;
    test_env.deliver_until_accepted(&settings, &[&newer]).await?;
    let reports = test_env.replay(&settings).await?;
    assert_eq!((&reports[0]["outcome"], &reports[0]["rows_stored"]), (&json!("replayed"), &json!(0)), "{reports:?}");
    assert_eq!(test_env.count().await?, Counted { database: 40, fallback: 0 });
    assert_eq!(test_env.ledger(&late.key).await?.map(|(state, _)| state).as_deref(), Some("superseded"));
    ensure_no_fallback(&test_env, &settings).await?;

    test_env.sql("ALTER TABLE {schema}.orders DROP COLUMN note").await?;
    let newest = test_env.fixture.upload("uploads/3-newest.csv", 50).await?;
    test_env.deliver_until_accepted(&settings, &[&newest]).await?;
    ensure!(test_env.fallback_reasons().await?.len() == 1, "the file did not fall back");
    test_env.sql("ALTER TABLE {schema}.orders ADD COLUMN note TEXT").await?;
    let reports = test_env.replay(&settings).await?;
    assert_eq!((&reports[0]["outcome"], &reports[0]["rows_stored"]), (&json!("replayed"), &json!(50)), "{reports:?}");
    assert_eq!(test_env.count().await?, Counted { database: 50, fallback: 0 });
    ensure_no_fallback(&test_env, &settings).await?;
    test_env.fixture.expect_replaced(&newer);
    test_env
        .fixture
        .inputs
        .iter_mut()
        .filter(|input| input.object.key == late.key)
        .for_each(|input| input.rows.clear());
    test_env.ensure_exactly_once().await
}

/// A replayed file is merged in its own order, so the last row of each key is stored.
#[rstest]
#[tokio::test]
async fn replay_merges_in_file_order(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "merge").with("MERGE_KEY", "id");
    let (_, report) = upload(&test_env, &settings, "uploads/a.csv", "id,note\n1,one\n2,two\n3,three\n").await?;
    assert_eq!((&report["rows_stored"], &report["rows_updated"]), (&json!(3), &Value::Null), "{report}");
    let body = "id,note,more\n2,first,1\n4,first,1\n3,three,\n2,last,2\n4,last,2\n";
    let (object, report) = upload(&test_env, &settings, "uploads/b.csv", body).await?;
    assert_eq!(report["outcome"], "fell_back", "{report}");
    assert_eq!(orders(&test_env).await?, texts(&[["1", "one"], ["2", "two"], ["3", "three"]]));

    test_env.sql("ALTER TABLE {schema}.orders ADD COLUMN more INT").await?;
    let reports = test_env.replay(&settings).await?;
    let report = reports.first().context("nothing was replayed")?;
    let counts = ["rows_stored", "rows_updated", "rows_unchanged"].map(|name| report[name].clone());
    assert_eq!((&report["outcome"], counts), (&json!("replayed"), [3, 1, 1].map(Value::from)), "{report}");
    assert_eq!(orders(&test_env).await?, texts(&[["1", "one"], ["2", "last"], ["3", "three"], ["4", "last"]]));
    assert_eq!(test_env.ledger(&object.key).await?.map(|(state, _)| state).as_deref(), Some("loaded"));
    ensure_no_fallback(&test_env, &settings).await
}

/// An empty object is rejected, and the table keeps its rows. A header without rows empties the table.
#[rstest]
#[tokio::test]
async fn empty_file_keeps_rows_and_header_alone_deletes_them(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "replace");
    upload(&test_env, &settings, "uploads/a.csv", "id,note\n1,one\n2,two\n").await?;
    for empty in ["", "\u{feff}"] {
        let (object, report) = upload(&test_env, &settings, "uploads/b.csv", empty).await?;
        assert_eq!(report["outcome"], "rejected", "{report}");
        assert_eq!(test_env.ledger(&object.key).await?.map(|(state, _)| state).as_deref(), Some("rejected"));
        assert_eq!(orders(&test_env).await?, texts(&[["1", "one"], ["2", "two"]]));
    }
    let (_, report) = upload(&test_env, &settings, "uploads/c.csv", "id,note\n").await?;
    assert_eq!((&report["outcome"], &report["rows_stored"]), (&json!("loaded"), &json!(0)), "{report}");
    assert_eq!(orders(&test_env).await?, Rows::new());
    Ok(())
}

/// A merge rejects bad records, including those without a key, and loads them once they are corrected. With replace they
/// are not loaded, because they would become the whole table.
#[rstest]
#[tokio::test]
async fn corrected_rejects_merge_but_never_replace(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "merge").with("MERGE_KEY", "id").with("MAX_REJECTS", 2);
    upload(&test_env, &settings, "uploads/a.csv", "id,note\n1,one\n2,two\n").await?;
    let (_, report) = upload(&test_env, &settings, "uploads/b.csv", "id,note\n3,three\n2,TWO\n,no key\n1\n").await?;
    let counts = ["rows_parsed", "rows_stored", "rows_updated", "rows_rejected"].map(|name| report[name].clone());
    assert_eq!(counts, [4, 2, 1, 2].map(Value::from), "{report}");
    assert_eq!(orders(&test_env).await?, texts(&[["1", "one"], ["2", "TWO"], ["3", "three"]]));

    let rejects = report["rejects"].as_str().context("no rejects")?;
    let records = String::from_utf8(test_env.fixture.account.get(rejects).await?)?;
    assert_eq!(records, "id,note\n,no key\n1\n");
    test_env.fixture.account.put(rejects, "id,note\n4,no key\n1,ONE\n").await?;
    let request = json!({ "rejects": rejects });
    let refused =
        test_env.invoke_ingest(&settings.clone().with("LOAD_MODE", "replace").without("MERGE_KEY"), &request).await?;
    ensure!(refused.is_failure(), "two records replaced the table: {}", refused.body);
    assert_eq!(orders(&test_env).await?.len(), 3);
    let response = test_env.invoke_ingest(&settings, &request).await?;
    response.ensure_success()?;
    assert_eq!(orders(&test_env).await?, texts(&[["1", "ONE"], ["2", "TWO"], ["3", "three"], ["4", "no key"]]));
    Ok(())
}

/// A merge that is killed has changed no row or all rows, also if it is staged. The next worker completes it once, and the
/// sweep deletes leftovers.
#[rstest]
#[tokio::test]
async fn killed_merge_completes_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("RowsAll", "BeforeLedgerEnd", "AfterCommit")] point: &str,
) -> Result<()> {
    let mut test_env = TestEnv::on(engine).await?;
    let settings =
        test_env.settings().with("LOAD_MODE", "merge").with("MERGE_KEY", "record,file").with("ATOMIC_MAX_BYTES", 1);
    // Rows contain the last part of the key, so the second file repeats the rows of the first.
    let first = test_env.fixture.upload("uploads/1/orders.csv", 120).await?;
    test_env.deliver_until_accepted(&settings, &[&first]).await?;
    let second = test_env.fixture.upload("uploads/2/orders.csv", 200).await?;
    let (call, _pause) = test_env.pause_trigger(&settings, point, &second).await?;
    ensure!(call.kill().await?.was_killed(), "the function was not killed");
    let rows = if point == "AfterCommit" { 200 } else { 120 };
    assert_eq!(test_env.count().await?, Counted { database: rows, fallback: 0 });

    test_env.deliver_until_accepted(&settings, &[&second]).await?;
    test_env.fixture.expect_replaced(&first);
    let counts = "SELECT CONCAT(rows_stored, ''), CONCAT(rows_updated, ''), CONCAT(rows_unchanged, '') \
                  FROM {schema}.spillway_ledger WHERE object_key = 'uploads/2/orders.csv'";
    assert_eq!(test_env.rows(counts).await?, texts(&[["200", "0", "120"]]));
    test_env.sweep(&settings).await?;
    test_env.ensure_exactly_once().await
}

/// A CSV file with the ids of a range.
fn export(ids: std::ops::Range<u32>, note: &str) -> String {
    ids.fold("id,note\n".to_owned(), |text, id| text + &format!("{id},{note}\n"))
}

/// A truncated export falls back and leaves the table as it is. A replay loads it once the limit allows its deletions, unless a newer
/// export was loaded.
#[rstest]
#[tokio::test]
async fn implausible_export_waits_in_the_fallback(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "mirror").with("MERGE_KEY", "id");
    let notes = "SELECT CONCAT(COUNT(*), ''), MIN(note), MAX(note) FROM {schema}.orders";
    upload(&test_env, &settings, "uploads/1.csv", &export(0..1_000, "first")).await?;
    let (cut, report) = upload(&test_env, &settings, "uploads/2.csv", &export(0..500, "cut")).await?;
    assert_eq!((&report["outcome"], &report["rows_stored"]), (&json!("fell_back"), &json!(500)), "{report}");
    let reason = report["reason"].as_str().context("no reason")?;
    ensure!(reason.contains("export_refused") && reason.contains("MIRROR_MAX_DELETES=10"), "{reason}");
    assert_eq!(test_env.rows(notes).await?, texts(&[["1000", "first", "first"]]));
    let refused = test_env.invoke_ingest(&settings, &json!({"replay": {}})).await?;
    assert_eq!(refused.error_type(), Some("export_refused"), "{}", refused.body);
    assert_eq!(test_env.rows(notes).await?, texts(&[["1000", "first", "first"]]));

    let bold = settings.clone().with("MIRROR_MAX_DELETES", 50);
    let replayed = test_env.replay(&bold).await?;
    let counts = ["rows_stored", "rows_updated", "rows_deleted"].map(|name| replayed[0][name].clone());
    assert_eq!((&replayed[0]["outcome"], counts), (&json!("replayed"), [500, 500, 500].map(Value::from)));
    assert_eq!(test_env.rows(notes).await?, texts(&[["500", "cut", "cut"]]));

    upload(&test_env, &settings, "uploads/3.csv", &export(0..10, "cut again")).await?;
    upload(&test_env, &settings, "uploads/4.csv", &export(0..450, "newest")).await?;
    let replayed = test_env.replay(&bold.with("MIRROR_MAX_DELETES", 100)).await?;
    assert_eq!((&replayed[0]["outcome"], &replayed[0]["rows_stored"]), (&json!("replayed"), &json!(0)), "{replayed:?}");
    assert_eq!(test_env.rows(notes).await?, texts(&[["450", "newest", "newest"]]));
    assert_eq!(test_env.ledger(&cut.key).await?.map(|(state, _)| state).as_deref(), Some("loaded"));
    assert_eq!(test_env.ledger("uploads/3.csv").await?.map(|(state, _)| state).as_deref(), Some("superseded"));
    ensure_no_fallback(&test_env, &settings).await
}

/// An export with only a header falls back, although it has no rows. A replay with a higher limit empties the table.
#[rstest]
#[tokio::test]
async fn header_alone_does_not_empty_a_mirrored_table(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("LOAD_MODE", "mirror").with("MERGE_KEY", "id");
    upload(&test_env, &settings, "uploads/1.csv", &export(0..200, "first")).await?;
    let (_, report) = upload(&test_env, &settings, "uploads/2.csv", "id,note\n").await?;
    assert_eq!((&report["outcome"], &report["rows_stored"]), (&json!("fell_back"), &json!(0)), "{report}");
    assert_eq!(orders(&test_env).await?.len(), 200);
    let replayed = test_env.replay(&settings.clone().with("MIRROR_MAX_DELETES", 100)).await?;
    let counts = ["rows_stored", "rows_deleted"].map(|name| replayed[0][name].clone());
    assert_eq!((&replayed[0]["outcome"], counts), (&json!("replayed"), [0, 200].map(Value::from)), "{replayed:?}");
    assert_eq!(orders(&test_env).await?, Rows::new());
    ensure_no_fallback(&test_env, &settings).await
}
