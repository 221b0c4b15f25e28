//! Extracts of a table into the raw zone: loaded into another database of the same engine, each cell is equal. Kills between all
//! steps lose and repeat no row.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use spillway_test_env::database::{Engine, Rows, Schema};
use spillway_test_env::failpoint::Pause;
use spillway_test_env::process::Signal;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Ended, Running, spillway};
use spillway_test_env::test_env::TestEnv;

const PATTERN: &str = "data/batch/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv*";
const AT: &str = "2026-11-30T08:30:00Z";
const FOLDER: &str = "data/batch/items/year=2026/month=11/day=30/hhmm=0830/";
const TIMEOUT: Duration = Duration::from_secs(60);

/// A source database and another one of the same engine, and a raw zone between them.
struct Transfer {
    test_env: TestEnv,
    source: Schema,
}

impl Transfer {
    async fn new(engine: Engine, table: &str) -> Result<Self> {
        let test_env = TestEnv::on(engine).await?;
        let source = test_env.server.schema().await?;
        let copy = Self { test_env, source };
        for schema in [&copy.source, &copy.test_env.fixture.schema] {
            copy.execute_in(schema, table).await?;
        }
        Ok(copy)
    }

    /// Runs statements in a schema, as its owner.
    async fn execute_in(&self, schema: &Schema, statements: &str) -> Result<()> {
        let mut client = schema.client(schema.port).await?;
        for statement in statements.split(";\n").filter(|statement| !statement.trim().is_empty()) {
            client.execute(statement).await.with_context(|| statement.to_owned())?;
        }
        Ok(())
    }

    async fn insert(&self, statements: &str) -> Result<()> {
        self.execute_in(&self.source, statements).await
    }

    fn extract_settings(&self) -> Settings {
        let account = &self.test_env.fixture.account;
        account.settings().and(&self.source.settings())
    }

    fn arguments<'a>(&self, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["extract", "--table", "items", "--at", AT, "--to", to, "--json"], more].concat()
    }

    fn zone(&self) -> String {
        format!("s3://{}/data/batch/", self.test_env.fixture.account.bucket)
    }

    async fn extract(&self, more: &[&str]) -> Result<Value> {
        let zone = self.zone();
        spillway(&self.extract_settings(), &self.arguments(&zone, more)).await?.ensure_code(0)?.json()
    }

    async fn extract_at(&self, at: &str, more: &[&str]) -> Result<Ended> {
        let zone = self.zone();
        let arguments = [&["extract", "--table", "items", "--at", at, "--to", &zone, "--json"], more].concat();
        spillway(&self.extract_settings(), &arguments).await
    }

    /// Loads the whole raw zone into the other database, by a sync.
    async fn sync(&self) -> Result<Value> {
        let settings =
            self.test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", PATTERN).with("AFTER_LOAD", "keep");
        let ended = spillway(&settings, &["sync", "--from", "0001-01-01", "--json"]).await?;
        ensure!(ended.code == Some(0), "the sync failed: {ended:#?}");
        ended.json()
    }

    /// Fails unless this query returns the same rows in both databases. Returns them.
    async fn ensure_equal(&self, query: &str) -> Result<Rows> {
        let source = self.test_env.server.query(&self.source, query).await?;
        let target = self.test_env.server.query(&self.test_env.fixture.schema, query).await?;
        ensure!(source.len() == target.len(), "{} rows in the source, {} in the copy", source.len(), target.len());
        for (source, target) in source.iter().zip(&target) {
            ensure!(source == target, "source {source:?}\ncopy   {target:?}");
        }
        Ok(source)
    }

    async fn keys(&self) -> Result<Vec<String>> {
        self.test_env.fixture.account.keys("data/").await
    }

    /// The keys of the parts.
    async fn parts(&self) -> Result<Vec<String>> {
        Ok(self.keys().await?.into_iter().filter(|key| key.contains("_part")).collect())
    }

    /// Kills an extract at a failpoint.
    async fn kill_at(&self, point: &str, more: &[&str]) -> Result<()> {
        let pause = Pause::at(point)?;
        let zone = self.zone();
        let settings = self.extract_settings().and(&pause.settings());
        let running = Running::start(&settings, &self.arguments(&zone, more))?;
        pause.wait_until_reached(TIMEOUT).await?;
        running.signal(Signal::Kill)?;
        let ended = running.finish(b"").await?;
        ensure!(ended.code.is_none(), "the extract was not killed: {ended:?}");
        Ok(())
    }
}

const ITEMS: &str = "CREATE TABLE items (id bigint PRIMARY KEY, note varchar(200))";

/// Inserts rows, whose notes have quotes, line ends and commas.
async fn insert_items(copy: &Transfer, ids: std::ops::RangeInclusive<u32>) -> Result<()> {
    let rows: Vec<String> = ids.map(|id| format!("({id}, 'a \"{id}\",\n b')")).collect();
    copy.insert(&format!("INSERT INTO items VALUES {}", rows.join(", "))).await
}

const ALL_ITEMS: &str = "SELECT CONCAT(id, ''), note FROM {schema}.items ORDER BY id";

/// The types of PostgreSQL, with their extreme values. The rows are compared as text of the whole row.
const POSTGRES_TYPES: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'ok, "fine"', '');
CREATE DOMAIN price AS numeric(9,2) CHECK (VALUE >= 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE items (id int PRIMARY KEY, i2 smallint, i8 bigint, n numeric, n2 numeric(12,4), r real, d double precision,
  b boolean, da date, t time(3), tz timetz, ts timestamp, tsz timestamptz(3), iv interval, tx text, vc varchar(20), ch char(5),
  u uuid, j json, jb jsonb, by bytea, bi bit(3), vb varbit(9), ip inet, ci cidr, ma macaddr, po point, pa polygon, tv tsvector,
  ir int4range, tr tstzrange, ia int[], ta text[], ba bytea[], ja jsonb[], m mood, p price, co pair, x xml, lsn pg_lsn)
"#;

const POSTGRES_ROWS: &str = r#"
INSERT INTO items (id) VALUES (1);
INSERT INTO items VALUES (2, -32768, 9223372036854775807, 12345678901234567890.123456789012345678901234567890, -1.5000, 0.1, 0.1,
  true, '1000-01-01', '23:59:59.999', '13:05:00.123456+05:30', '9999-12-31 23:59:59.999999', '2024-02-29 13:05:00.25+02',
  '1 year -2 mons 3 days -04:05:06.789', '', '', 'ab', '6f9619ff-8b86-d011-b42d-00cf4fc964ff', ' {"a" : 1}', '{"b":[null,1.0]}',
  '\x00ff2261', B'101', B'1', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '(1.5,-2)', '((0,0),(1,0),(1,1))', '''a'':1 ''b,c''',
  '[1,5)', '[2024-01-01 00:00:00+00,)', '{1,NULL,3}', '{"a,b","c\"d",NULL,"",null}', '{"\\x00ff"}', '{"{\"a\": 1}"}', 'sad', 12.30, '(1,"x, y")',
  '<a>1</a>', '16/B374D848');
INSERT INTO items VALUES (3, 0, -9223372036854775808, 0, 0, -3.4028235e38, 2.2250738585072014e-308, false, '2024-02-29', '00:00',
  '00:00+00', '2024-02-29 13:05:00', '1970-01-01 00:00:00Z', '-1 days +02:03:00', E'line\nend, "quote" \\ \\. \r\n tab\t é 漢 🙂', 'NULL',
  'N/A', NULL, 'null', '"text"', '', B'000', B'', '::1', '::/0', NULL, NULL, NULL, '', 'empty', 'empty', '{}', '{}', '{}', '{}',
  'ok, "fine"', 0, '(,)', '', '0/0');
INSERT INTO items (id, tx, vc, m, d, r, j) VALUES (4, '\.', ' spaces ', '', 1e300, 1.17549435e-38, '[]');
INSERT INTO items (id, tx, ia) VALUES (5, 'NaN', '[0:1]={1,2}')
"#;

/// The types of MariaDB.
const MARIADB_TYPES: &str = "
CREATE TABLE items (id int PRIMARY KEY, ti tinyint unsigned, fl tinyint(1), i8 bigint unsigned, n decimal(38,10), r float, d double,
  bi bit(12), da date, dt datetime(6), ts timestamp(6) NULL, t time(3), y year, c char(5), v varchar(40), tx text, bl blob, bn binary(3),
  vb varbinary(9), e enum('sad','ok, \"fine\"','') , s set('a','b','c'), j json, u uuid, ip inet6, l1 varchar(20) CHARACTER SET latin1)
";

const MARIADB_ROWS: &str = r#"
INSERT INTO items (id) VALUES (1);
INSERT INTO items VALUES (2, 255, 1, 18446744073709551615, -1234567890123456789012345678.0123456789, 0.1, 0.1, b'101010101010', '2024-02-29',
  '9999-12-31 23:59:59.999999', '2037-12-31 23:59:59.25', '-837:59:59.999', 2155, 'ab', '', 'line\nend, "quote" \\ \r\n tab\t é 漢 🙂', 'abc', 'xyz',
  '', 'sad', 'a,c', '{"a" : 1.0}', '6f9619ff-8b86-d011-b42d-00cf4fc964ff', '::1', 'é');
INSERT INTO items VALUES (3, 0, 0, 0, 0, -3.4028e38, 2.2250738585072014e-308, 0, '1000-01-01', '1000-01-01', '1970-01-02', '00:00', 1901,
  'NULL', 'N/A', '', '', ' \n\t', '"', 'ok, "fine"', '', 'null', NULL, NULL, 'NULL');
INSERT INTO items (id, tx, v, d, r, e) VALUES (4, '\\N', ' spaces ', 1e300, 16777216, '')
"#;

/// Each column as text, with NULL as ~.
fn mariadb_cells() -> String {
    let columns = "ti fl i8 n d da dt ts t y c v tx bl bn vb e s j u ip l1";
    let cell = |column: &str| format!("COALESCE(HEX(CAST({column} AS CHAR CHARACTER SET utf8mb4)), '~')");
    let cells: Vec<String> = columns.split(' ').map(cell).collect();
    format!(
        "SELECT CONCAT(id, ''), {}, COALESCE(HEX(CAST(bi + 0 AS CHAR)), '~'), COALESCE(HEX(CAST(r + 0.0e0 AS CHAR)), '~') \
         FROM {{schema}}.items ORDER BY id",
        cells.join(", ")
    )
}

#[tokio::test]
async fn types_of_postgresql_survive() -> Result<()> {
    let copy = Transfer::new(Engine::Postgres, POSTGRES_TYPES).await?;
    copy.insert(POSTGRES_ROWS).await?;
    let result = copy.extract(&["--uncompressed", "--batch-size", "2"]).await?;
    ensure!(result["rows"] == 5 && result["parts"].as_array().map(Vec::len) == Some(3), "{result:#}");
    copy.sync().await?;
    let rows = copy.ensure_equal("SELECT CAST(items AS text) FROM {schema}.items ORDER BY id").await?;
    ensure!(rows.len() == 5, "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn types_of_mariadb_survive() -> Result<()> {
    let table = match Engine::MariaDb.is_mysql() {
        true => MARIADB_TYPES.replace("u uuid, ip inet6", "u char(36), ip varchar(45)"),
        false => MARIADB_TYPES.to_owned(),
    };
    let copy = Transfer::new(Engine::MariaDb, &table).await?;
    copy.insert(MARIADB_ROWS).await?;
    let result = copy.extract(&["--uncompressed", "--batch-size", "2"]).await?;
    ensure!(result["rows"] == 4 && result["parts"].as_array().map(Vec::len) == Some(2), "{result:#}");
    copy.sync().await?;
    let rows = copy.ensure_equal(&mariadb_cells()).await?;
    ensure!(rows.len() == 4, "{rows:?}");
    Ok(())
}

/// A killed extract leaves nothing visible before its plan, and is finished after it. A rerun of a complete one reads nothing.
#[rstest]
#[tokio::test]
async fn killed_extract_loses_and_repeats_no_row(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values(
        ("ExtractPartSent", 0, "extracted"),
        ("ExtractPlanned", 0, "finished"),
        ("ExtractPartVisible", 1, "finished"),
        ("ExtractPartsVisible", 3, "finished"),
        ("ExtractManifestWritten", 3, "finished")
    )]
    (point, visible, status): (&str, usize, &str),
) -> Result<()> {
    let copy = Transfer::new(engine, ITEMS).await?;
    insert_items(&copy, 1..=25).await?;
    copy.kill_at(point, &["--batch-size", "10"]).await?;
    assert_eq!(copy.parts().await?.len(), visible);
    // A loader that does not wait for the manifest sees the rows of the first snapshot.
    copy.sync().await?;
    let change = "UPDATE items SET note = 'changed' WHERE id > 5";
    if status == "finished" {
        // The rerun must not read these.
        copy.insert(change).await?;
    }
    let again = copy.extract(&["--batch-size", "10"]).await?;
    assert_eq!((&again["status"], &again["rows"]), (&Value::from(status), &Value::from(25)), "{again:#}");
    assert_eq!(copy.parts().await?, [1, 2, 3].map(|number| format!("{FOLDER}items_part{number}.csv.gz")));
    copy.sync().await?;
    let copied = copy.test_env.server.query(&copy.test_env.fixture.schema, ALL_ITEMS).await?;
    ensure!(copied.len() == 25 && copied.iter().all(|row| row[1].as_deref() != Some("changed")), "{copied:?}");
    // A complete run needs no source.
    copy.insert("DROP TABLE items").await?;
    let complete = copy.extract(&[]).await?;
    assert_eq!(complete["status"], "already_extracted", "{complete:#}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn cursor_extracts_only_new_rows(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let table = "CREATE TABLE items (id int PRIMARY KEY, note varchar(200), at timestamp(6) NULL)";
    let copy = Transfer::new(engine, table).await?;
    let at = |minute: u32| format!("2026-11-30T08:{minute:02}:00Z");
    copy.insert("INSERT INTO items VALUES (1, 'a', '2026-11-01 00:00:00.000001'), (2, 'b', '2026-11-01 00:00:00.000002'), (3, 'c', NULL)")
        .await?;
    let cursor = ["--cursor", "at"];
    let first = copy.extract_at(&at(1), &cursor).await?.ensure_code(0)?.json()?;
    assert_eq!(
        (&first["rows"], &first["cursor"]["rows_without_value"]),
        (&Value::from(2), &Value::from(1)),
        "{first:#}"
    );
    let nothing = copy.extract_at(&at(2), &cursor).await?.ensure_code(0)?.json()?;
    assert_eq!(
        (&nothing["rows"], nothing["parts"].as_array().map(Vec::len)),
        (&Value::from(0), Some(0)),
        "{nothing:#}"
    );
    copy.insert(
        "INSERT INTO items VALUES (4, 'd', '2026-11-01 00:00:00.000002'), (5, 'e', '2026-11-01 00:00:00.000003')",
    )
    .await?;
    let next = copy.extract_at(&at(3), &cursor).await?.ensure_code(0)?.json()?;
    // Row 4 has the value that the first run has reached.
    assert_eq!((&next["rows"], &next["cursor"]["after"]), (&Value::from(1), &first["cursor"]["up_to"]), "{next:#}");
    copy.sync().await?;
    let rows = "SELECT CONCAT(id, '') FROM {schema}.items ORDER BY id";
    let copied = copy.test_env.server.query(&copy.test_env.fixture.schema, rows).await?;
    assert_eq!(copied.iter().flatten().flatten().collect::<Vec<_>>(), ["1", "2", "5"]);
    let other = copy.extract_at(&at(4), &["--cursor", "id"]).await?.ensure_code(64)?;
    ensure!(other.stderr.contains("is the column \"at\", not \"id\""), "{other:?}");
    let text = copy.extract_at(&at(5), &["--cursor", "note", "--name", "other"]).await?.ensure_code(1)?;
    ensure!(
        text.stderr.contains("the column \"note\" has the type") && text.stderr.contains("cannot be the cursor"),
        "{text:?}"
    );
    Ok(())
}

#[rstest]
#[tokio::test]
async fn two_extracts_at_once_write_one_run(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let copy = Transfer::new(engine, ITEMS).await?;
    insert_items(&copy, 1..=25).await?;
    let more = ["--batch-size", "10"];
    let (one, other) = tokio::join!(copy.extract_at(AT, &more), copy.extract_at(AT, &more));
    let codes = [one?, other?].map(|ended| ended.code);
    ensure!(codes.contains(&Some(0)), "{codes:?}");
    copy.extract(&more).await?;
    assert_eq!(copy.parts().await?.len(), 3);
    ensure!(copy.test_env.fixture.account.open_uploads().await?.is_empty(), "uploads are left");
    copy.sync().await?;
    assert_eq!(copy.ensure_equal(ALL_ITEMS).await?.len(), 25);
    Ok(())
}

/// While one extract publishes a run of a dead process, another one publishes it too, plans the next run, and dies. The first one
/// finishes that run before its own.
#[tokio::test]
async fn run_that_was_planned_meanwhile_is_finished() -> Result<()> {
    let copy = Transfer::new(Engine::Postgres, ITEMS).await?;
    insert_items(&copy, 1..=5).await?;
    copy.kill_at("ExtractPlanned", &[]).await?;
    let (pause, zone) = (Pause::at("ExtractManifestWritten")?, copy.zone());
    let at = |at: &'static str| ["extract", "--table", "items", "--at", at, "--to", &zone, "--json"];
    let first = Running::start(&copy.extract_settings().and(&pause.settings()), &at("2026-11-30T10:30:00Z"))?;
    pause.wait_until_reached(TIMEOUT).await?;

    let other = Pause::at("ExtractPlanned")?;
    let killed = Running::start(&copy.extract_settings().and(&other.settings()), &at("2026-11-30T09:30:00Z"))?;
    other.wait_until_reached(TIMEOUT).await?;
    killed.signal(Signal::Kill)?;
    killed.finish(b"").await?;
    pause.release()?;
    // It publishes the run of the other one, and then its own.
    for _ in 0..2 {
        pause.wait_until_reached(TIMEOUT).await?;
        pause.release()?;
    }

    let result = first.finish(b"").await?.ensure_code(0)?.json()?;
    ensure!(result["finished_before"].to_string().contains("hhmm=0930"), "{result:#}");
    let parts = copy.parts().await?;
    for hour in ["hhmm=0830", "hhmm=0930", "hhmm=1030"] {
        ensure!(parts.iter().any(|part| part.contains(hour)), "{parts:?}");
    }
    ensure!(copy.test_env.fixture.account.open_uploads().await?.is_empty(), "uploads are left");
    Ok(())
}

/// An empty table gives a part with only the header, so that a replace empties the other table. No record is cut.
#[rstest]
#[tokio::test]
async fn parts_have_headers_and_whole_records(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let copy = Transfer::new(engine, ITEMS).await?;
    let empty = copy.extract_at("2026-11-30T07:00:00Z", &["--uncompressed"]).await?.ensure_code(0)?.json()?;
    let key = empty["parts"][0]["key"].as_str().context("no part")?;
    assert_eq!(copy.test_env.fixture.account.get(key).await?, b"\"id\",\"note\"\n");
    insert_items(&copy, 1..=7).await?;
    let result = copy.extract(&["--uncompressed", "--part-bytes", "30"]).await?;
    for part in result["parts"].as_array().context("no parts")? {
        let body = copy.test_env.fixture.account.get(part["key"].as_str().context("no key")?).await?;
        let text = String::from_utf8(body)?;
        ensure!(text.starts_with("\"id\",\"note\"\n1,") || text.starts_with("\"id\",\"note\"\n"), "{text}");
        ensure!(text.matches('"').count() % 2 == 0 && text.ends_with("b\"\n"), "{text}");
        assert_eq!(part["bytes"], text.len(), "{part}");
    }
    let rows: u64 = result["parts"].as_array().into_iter().flatten().filter_map(|part| part["rows"].as_u64()).sum();
    assert_eq!(rows, 7);
    copy.sync().await?;
    assert_eq!(copy.ensure_equal(ALL_ITEMS).await?.len(), 7);
    Ok(())
}

#[tokio::test]
async fn values_that_a_load_would_change_are_refused() -> Result<()> {
    let copy = Transfer::new(Engine::Postgres, "CREATE TABLE items (id int, d double precision)").await?;
    copy.insert("INSERT INTO items VALUES (1, 1.5), (2, 'NaN')").await?;
    let ended = copy.extract_at(AT, &[]).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("row 2 of the result cannot be extracted: the column \"d\""), "{ended:?}");
    ensure!(copy.keys().await?.is_empty() && copy.test_env.fixture.account.open_uploads().await?.is_empty());
    let zone = copy.zone();
    let query = ["extract", "--query", "SELECT id, 1::money AS m FROM items -- all", "--name", "x", "--to", &zone];
    let ended = spillway(&copy.extract_settings(), &query).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("the column \"m\" has the type money, which cannot be extracted"), "{ended:?}");
    let query = ["extract", "--query", "SELECT id FROM items -- all", "--name", "x", "--to", &zone];
    spillway(&copy.extract_settings(), &query).await?.ensure_code(0)?;
    let query = ["extract", "--query", "SELECT NULLIF(id, 2) AS id FROM items", "--name", "y", "--to", &zone];
    let ended = spillway(&copy.extract_settings(), &query).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("the column \"id\" is NULL and the only column"), "{ended:?}");
    let query = ["extract", "--query", "SELECT id + 1 AS id FROM items", "--name", "x", "--to", &zone];
    let ended = spillway(&copy.extract_settings(), &query).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("use another name, or delete"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn bytes_and_zero_dates_of_mariadb_are_refused() -> Result<()> {
    let copy = Transfer::new(Engine::MariaDb, "CREATE TABLE items (id int, b blob, d date)").await?;
    copy.insert("SET sql_mode = '';\nINSERT INTO items VALUES (1, x'ff', NULL)").await?;
    let ended = copy.extract_at(AT, &[]).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("the column \"b\" has bytes that are not UTF-8"), "{ended:?}");
    copy.insert("SET sql_mode = '';\nDELETE FROM items;\nINSERT INTO items VALUES (1, 'a', '0000-00-00')").await?;
    let ended = copy.extract_at(AT, &[]).await?.ensure_code(1)?;
    ensure!(ended.stderr.contains("the column \"d\" has a date with a zero"), "{ended:?}");
    Ok(())
}
