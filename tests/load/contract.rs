//! The schema contract in the whole pipeline: wider types for small and large files, with rejects and in a replay, and a
//! table in another schema that falls back.

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

const TABLE: &str = "CREATE TABLE {schema}.orders (id SMALLINT, amount DECIMAL(4,1), note VARCHAR(3))";
const FILE: &str = "id,amount,note\n1,0.5,abc\n9000000000,12345.678,longer\n";

async fn upload(test_env: &TestEnv, settings: &Settings, key: &str, body: &str) -> Result<serde_json::Value> {
    let object = test_env.fixture.account.put(key, body.to_owned()).await?;
    Ok(test_env.deliver_until_accepted(settings, &[&object]).await?.body["reports"][0].clone())
}

async fn rows(test_env: &TestEnv) -> Result<Vec<String>> {
    let query = "SELECT CONCAT(id, ' ', amount, ' ', note) FROM {schema}.orders ORDER BY id";
    Ok(test_env.rows(query).await?.concat().into_iter().flatten().collect())
}

/// The columns get wider types whether or not the file was read first, and the report lists them.
#[rstest]
#[tokio::test]
async fn columns_become_wider_for_small_and_large_files(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values(8_388_608, 0)] buffer_max_bytes: u64,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    test_env.sql(TABLE).await?;
    if engine == Engine::Postgres {
        // Only the owner of a table may change its types.
        test_env.sql(&format!("ALTER TABLE {{schema}}.orders OWNER TO {}", test_env.fixture.schema.user)).await?;
    }
    let settings = test_env.settings().with("BUFFER_MAX_BYTES", buffer_max_bytes);
    let refused = upload(&test_env, &settings, "uploads/refused.csv", FILE).await?;
    assert_eq!(refused["outcome"], "fell_back", "{refused}");
    let settings = settings.with("CHANGED_TYPES", "widen");
    let report = upload(&test_env, &settings, "uploads/a.csv", FILE).await?;
    assert_eq!(report["outcome"], "loaded", "{report}");
    ensure!(report["table_changes"].as_array().is_some_and(|changes| changes.len() == 3), "{report}");
    let expected = ["1 0.500 abc", "9000000000 12345.678 longer"];
    assert_eq!(rows(&test_env).await?, expected);
    // The fallback of the same rows fits now.
    let replayed = test_env.replay(&settings).await?;
    assert_eq!(replayed[0]["outcome"], "replayed", "{replayed:?}");
    assert_eq!(rows(&test_env).await?.len(), 4);
    Ok(())
}

/// The ledger row of the load lists the changes of its attempt. A column that a killed worker has added stays in the table, and
/// the attempt that finds it there lists no change.
#[rstest]
#[tokio::test]
async fn ledger_lists_the_changes_of_the_attempt_that_loads(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values(true, false)] first_worker_dies: bool,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let settings = test_env.settings().with("UNKNOWN_COLUMNS", "add");
    upload(&test_env, &settings, "uploads/a.csv", "id\n1\n").await?;
    let object = test_env.fixture.account.put("uploads/b.csv", "id,size\n2,7\n").await?;
    if first_worker_dies {
        let (call, _pause) = test_env.pause_trigger(&settings, "BeforeCommit", &object).await?;
        ensure!(call.kill().await?.was_killed(), "the function was not killed");
    }
    let response = test_env.deliver_until_accepted(&settings, &[&object]).await?;
    let report = &response.body["reports"][0];
    assert_eq!(report["outcome"], "loaded", "{report}");
    let query = "SELECT table_changes FROM {schema}.spillway_ledger WHERE object_key = 'uploads/b.csv'";
    let changes = test_env.rows(query).await?.concat().remove(0);
    match first_worker_dies {
        true => assert_eq!((&report["table_changes"], changes), (&json!(null), None)),
        false => {
            ensure!(changes.as_ref().is_some_and(|text| text.starts_with("added the column size ")), "{changes:?}");
            assert_eq!(report["table_changes"], json!([changes]));
        }
    }
    assert_eq!(test_env.rows("SELECT CONCAT(size, '') FROM {schema}.orders WHERE id = 2").await?.concat().len(), 1);
    Ok(())
}

/// A few refused values are set aside as usual. Only more of them change the column.
#[tokio::test]
async fn rejects_come_before_a_wider_type() -> Result<()> {
    let test_env = TestEnv::new().await?;
    test_env.sql(TABLE).await?;
    let settings = test_env.settings().with("CHANGED_TYPES", "widen").with("MAX_REJECTS", 1);
    let report = upload(&test_env, &settings, "uploads/a.csv", "id,note\n1,a\nx,b\n2,c\n").await?;
    assert_eq!((&report["rows_rejected"], &report["table_changes"]), (&json!(1), &json!(null)), "{report}");
    let report = upload(&test_env, &settings, "uploads/b.csv", "id,note\n3,a\nx,b\ny,c\n").await?;
    assert_eq!((&report["outcome"], &report["rows_stored"]), (&json!("loaded"), &json!(3)), "{report}");
    ensure!(report["table_changes"].to_string().contains("from smallint"), "{report}");
    Ok(())
}

/// Rows for a table in a schema that does not exist yet fall back with their own Glue table, and are replayed.
#[rstest]
#[tokio::test]
async fn table_in_another_schema_falls_back_and_is_replayed(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    let schema = format!("{}_s", test_env.fixture.schema.name);
    let settings = test_env.settings().with("TABLE_PATTERN", format!("uploads/{{table}}/* => {schema}.{{table}}"));
    let report = upload(&test_env, &settings, "uploads/a.b/1.csv", "id\n1\n").await?;
    assert_eq!(
        (&report["outcome"], &report["table"]),
        (&json!("fell_back"), &json!(format!("{schema}.a.b"))),
        "{report}"
    );
    let user = &test_env.fixture.schema.user;
    match engine {
        Engine::MariaDb => {
            test_env.sql(&format!("CREATE DATABASE {schema}")).await?;
            test_env.sql(&format!("GRANT ALL ON {schema}.* TO '{user}'@'%'")).await?;
        }
        Engine::Postgres => test_env.sql(&format!("CREATE SCHEMA {schema} AUTHORIZATION {user}")).await?,
    }
    let replayed = test_env.replay(&settings).await?;
    assert_eq!(replayed[0]["outcome"], "replayed", "{replayed:?}");
    let quote = if engine == Engine::MariaDb { '`' } else { '"' };
    let rows = test_env.rows(&format!("SELECT CONCAT(id, '') FROM {schema}.{quote}a.b{quote}")).await?;
    assert_eq!(rows, [[Some("1".to_owned())]]);
    assert_eq!(test_env.fixture.account.keys("fallback/").await?, Vec::<String>::new());
    Ok(())
}
