//! Names from headers and keys with quotes, comments, semicolons and parts of paths: they are names, in SQL, in S3 and on disk.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_test_env::database::{Engine, texts};
use spillway_test_env::run::Scratch;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::spillway;
use spillway_test_env::test_env::TestEnv;

/// Names of columns. Each of them would end the quotes of one engine, or begin a comment or a placeholder.
const COLUMNS: [&str; 9] = [
    "a`; DROP TABLE victim; --",
    "b\"; DROP TABLE victim; --",
    "c'; DROP TABLE victim; #",
    "d */ DROP TABLE victim; /*",
    "e\\`\\\"\\'",
    "f``\"\"''",
    "%s ? $1 :x @y {z}",
    "select",
    "g;h",
];
/// Names of tables in keys.
const TABLES: [&str; 6] =
    ["..", "a`; DROP TABLE victim; --", "b\"; DROP TABLE victim; --", "c'\\", "rejected%2F..", "$(d)"];

/// How the columns reach the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In the first file, which creates the table.
    Created,
    /// In a later file, which adds them, and with types that later change.
    Added,
    /// As the key of a merge.
    Merged,
    /// As the scope and the key of a mirror.
    Mirrored,
    /// With all rows replaced.
    Replaced,
    /// Through a staging table.
    Staged,
    /// Through the fallback and a replay.
    Replayed,
}

impl Way {
    fn settings(self, settings: Settings) -> Settings {
        match self {
            Self::Created | Self::Replayed => settings,
            Self::Added => settings.with("UNKNOWN_COLUMNS", "add").with("CHANGED_TYPES", "widen"),
            Self::Merged => settings.with("LOAD_MODE", "merge").with("MERGE_KEY", COLUMNS[..6].join(",")),
            Self::Mirrored => settings
                .with("LOAD_MODE", "mirror")
                .with("MERGE_KEY", format!("id,{}", COLUMNS[..4].join(",")))
                .with("MIRROR_SCOPE", COLUMNS[3])
                .with("MIRROR_MAX_DELETES", 100),
            Self::Replaced => settings.with("LOAD_MODE", "replace"),
            Self::Staged => settings.with("ATOMIC_MAX_BYTES", 1),
        }
    }
}

/// A quoted name.
fn quoted(engine: Engine, name: &str) -> String {
    match engine {
        Engine::MariaDb => format!("`{}`", name.replace('`', "``")),
        Engine::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A CSV file with these columns after `id`, and this value in each of them.
fn csv(columns: &[&str], ids: std::ops::Range<u32>, value: &str) -> String {
    let header: String = columns.iter().map(|name| format!(",\"{}\"", name.replace('"', "\"\""))).collect();
    let row: String = columns.iter().map(|_| format!(",{value}")).collect();
    let rows: String = ids.map(|id| format!("{id}{row}\n")).collect();
    format!("id{header}\n{rows}")
}

async fn create_victim(test_env: &TestEnv) -> Result<()> {
    test_env.sql("CREATE TABLE {schema}.victim (id INT)").await?;
    test_env.sql("INSERT INTO {schema}.victim VALUES (7)").await
}

async fn ensure_victim_is_unchanged(test_env: &TestEnv) -> Result<()> {
    assert_eq!(test_env.rows("SELECT CONCAT(id, '') FROM {schema}.victim").await?, texts(&[["7"]]));
    Ok(())
}

async fn deliver(test_env: &TestEnv, settings: &Settings, key: &str, body: String, outcome: &str) -> Result<()> {
    let object = test_env.fixture.account.put(key, body).await?;
    let response = test_env.deliver(settings, &[&object]).await?;
    let found = response.body["reports"][0]["outcome"].as_str();
    ensure!(found == Some(outcome), "{key}: {found:?}: {} {}", response.body, response.logs);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn column_names_never_run_as_sql(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values(Way::Created, Way::Added, Way::Merged, Way::Mirrored, Way::Replaced, Way::Staged, Way::Replayed)] way: Way,
    #[values("auto", "insert")] method: &str,
) -> Result<()> {
    if engine == Engine::Postgres && method == "insert" {
        return Ok(());
    }
    let test_env = TestEnv::on(engine).await?;
    create_victim(&test_env).await?;
    let settings = way.settings(test_env.settings()).with("RDS_LOAD_METHOD", method);
    let (first, value) = match way {
        Way::Added => (csv(&[], 0..3, ""), "text"),
        _ => (csv(&COLUMNS, 0..3, "1"), "1"),
    };
    if way == Way::Replayed {
        test_env.sql("CREATE TABLE {schema}.orders (nothing INT)").await?;
    }
    let outcome = if way == Way::Replayed { "fell_back" } else { "loaded" };
    deliver(&test_env, &settings, "uploads/1.csv", first, outcome).await?;
    if way == Way::Added {
        deliver(&test_env, &settings, "uploads/2.csv", csv(&COLUMNS, 3..6, "1"), outcome).await?;
    }
    deliver(&test_env, &settings, "uploads/3.csv", csv(&COLUMNS, 6..9, value), outcome).await?;
    if way == Way::Replayed {
        let account = &test_env.fixture.account;
        test_env.sql("DROP TABLE {schema}.orders").await?;
        test_env.replay(&settings).await?;
        assert_eq!(account.keys("fallback/").await?, Vec::<String>::new());
    }
    let query =
        "SELECT column_name FROM information_schema.columns WHERE table_schema = '{schema}' AND table_name = 'orders'";
    let mut found: Vec<String> = test_env.rows(query).await?.into_iter().flatten().flatten().collect();
    let mut expected: Vec<String> = ["id"].iter().chain(&COLUMNS).map(|name| (*name).to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for name in COLUMNS {
        let last = format!("SELECT CONCAT({}, '') FROM {{schema}}.orders WHERE id = 8", quoted(engine, name));
        assert_eq!(test_env.rows(&last).await?, texts(&[[value]]), "{name}");
    }
    ensure_victim_is_unchanged(&test_env).await
}

/// The objects of a table are in its own folders, whatever its name: fallback, manifests, and rejected records.
#[rstest]
#[tokio::test]
async fn table_names_stay_in_their_folders(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    create_victim(&test_env).await?;
    let settings =
        test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", "uploads/{table}/*").with("MAX_REJECTS", 5);
    let account = &test_env.fixture.account;
    for name in TABLES {
        let table = quoted(engine, &name.to_lowercase());
        deliver(&test_env, &settings, &format!("uploads/{name}/a.csv"), "id,n\n1,2\n3\n".to_owned(), "loaded").await?;
        test_env.sql(&format!("DROP TABLE {{schema}}.{table}")).await?;
        test_env.sql(&format!("CREATE TABLE {{schema}}.{table} (nothing INT)")).await?;
        deliver(&test_env, &settings, &format!("uploads/{name}/b.csv"), "id,n\n4,5\n6\n".to_owned(), "fell_back")
            .await?;
    }
    let mut folders = std::collections::BTreeSet::new();
    for key in account.keys("").await? {
        let parts: Vec<&str> = key.split('/').collect();
        match parts[..] {
            ["processed" | "failed", name, file] => {
                ensure!(TABLES.contains(&name) && file.starts_with(['a', 'b']), "{key}");
            }
            ["fallback", "_manifests", file] => ensure!(is_identity(file, &[".json"]), "{key}"),
            ["fallback", folder, day, file] => {
                ensure!(day.starts_with("dt=") && is_identity(file, &[".parquet"]), "{key}");
                ensure!(!folder.contains(['.', '%', '`', '"', '\'', '\\', '$']), "{key}");
                folders.insert(format!("fallback/{folder}"));
            }
            ["rejected", folder, file] => {
                ensure!(is_identity(file, &[".csv", ".jsonl"]) && !folder.contains(['.', '`', '"', '\\']), "{key}");
                folders.insert(format!("rejected/{folder}"));
            }
            _ => anyhow::bail!("an object at an unexpected key: {key}"),
        }
    }
    assert_eq!(folders.len(), 2 * TABLES.len(), "{folders:#?}");
    ensure_victim_is_unchanged(&test_env).await
}

/// Whether a name is the identity of a source with one of these endings.
fn is_identity(name: &str, endings: &[&str]) -> bool {
    let stem = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or_default();
    stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The tables into which each local file is loaded.
const TABLES_OF_FILES: [&str; 2] = ["orders", "/x`\"'; --"];

/// The rejected records of a local file are beside it, whatever the names of file and table.
#[rstest]
#[tokio::test]
async fn rejected_records_are_beside_their_file(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let test_env = TestEnv::on(engine).await?;
    create_victim(&test_env).await?;
    let folder = Scratch::new("names")?;
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner)?;
    let files = ["..a.csv", "b`; DROP TABLE victim; --.csv", "c\"; $(touch d).csv", "-e.csv", "f\\..\\g.csv", "h'.csv"];
    let settings = test_env.fixture.schema.settings().with("MAX_REJECTS", 5);
    for (index, name) in files.iter().enumerate() {
        let path = inner.join(name).display().to_string();
        std::fs::write(&path, format!("id,n\n{index},2\n3\n"))?;
        for table in TABLES_OF_FILES {
            let ended = spillway(&settings, &["load", "--table", table, "--", &path]).await?;
            ended.ensure_code(0).with_context(|| format!("{name} {table:?}"))?;
        }
    }
    let names = |folder: &std::path::Path| -> Result<Vec<String>> {
        let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    assert_eq!(names(folder.path())?, ["inner"]);
    for name in names(&inner)? {
        ensure!(files.iter().any(|file| name.starts_with(file)), "{name}");
    }
    // Each file, and for each table its rejected record and the record's error.
    assert_eq!(names(&inner)?.len(), (1 + 2 * TABLES_OF_FILES.len()) * files.len());
    ensure_victim_is_unchanged(&test_env).await
}
