//! MySQL's destination on a real MariaDB, or on MySQL (`make test-mysql`): the conformance tests with LOAD DATA and with INSERT, and
//! tests of this destination alone.

use std::time::Duration;

use anyhow::{Context, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rstest::rstest;
use spillway_core::destination::{LoadMethod, LoadMode};
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::database::{Database, Engine as TestEngine, Options, Rows, Schema};

use crate::engines::conformance::{Engine, File, TABLE, claim, expect_loaded, load, load_column, load_error};
use crate::engines::{
    conformance_append, conformance_changes, conformance_contract, conformance_failures, conformance_history,
    conformance_mirror, conformance_modes, conformance_operations,
};

/// MySQL's destination on MariaDB, with one load method.
pub(crate) struct MySql {
    server: Database,
    schema: Schema,
    method: LoadMethod,
}

impl MySql {
    pub(crate) async fn new(method: LoadMethod) -> Result<Self> {
        Self::on(Database::shared(TestEngine::MariaDb).await?, method).await
    }

    /// Starts a server for this test alone.
    pub(crate) async fn start(options: Options, method: LoadMethod) -> Result<Self> {
        Self::on(Database::start(TestEngine::MariaDb, options).await?, method).await
    }

    async fn on(server: Database, method: LoadMethod) -> Result<Self> {
        let schema = server.schema().await?;
        Ok(Self { server, schema, method })
    }

    pub(crate) async fn execute(&self, statement: &str) -> Result<()> {
        self.rows(statement).await.map(drop)
    }

    /// Connects as the schema's owner.
    async fn client(&self) -> Result<Conn> {
        self.schema.connect(self.server.port()).await
    }

    /// Loads values into a new column of this type; see [`load_column`].
    async fn store(&self, definition: &str, values: &[Option<&str>]) -> Result<Result<Vec<Option<String>>, ErrorKind>> {
        self.execute(&format!("CREATE TABLE {TABLE} (n INT PRIMARY KEY AUTO_INCREMENT, c {definition})")).await?;
        load_column(self, "a.csv", values).await
    }
}

impl Engine for MySql {
    const STORES_NUL: bool = true;
    const IDENTIFIER_QUOTE: char = '`';
    const TYPED: [[&'static str; 7]; 2] = [
        [
            "1",
            "-9223372036854775808",
            "-1234567890123456.123456789012345678",
            "1e300",
            "2024-02-29",
            "2024-01-02 03:04:05.123456",
            "2024-01-02 01:04:05.000000",
        ],
        [
            "0",
            "9223372036854775807",
            "0.100000000000000000",
            "-0.5",
            "9999-12-31",
            "1000-01-01 00:00:00.000000",
            "2024-01-02 03:04:05.000000",
        ],
    ];

    fn server(&self) -> &Database {
        &self.server
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn load_method(&self) -> LoadMethod {
        self.method
    }

    async fn rows(&self, query: &str) -> Result<Rows> {
        let mut connection = self.client().await?;
        let rows: Vec<mysql_async::Row> = connection.query(query).await.with_context(|| query.to_owned())?;
        connection.disconnect().await?;
        let text = |value| match value {
            mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        };
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    const PARTITIONED: &'static [&'static str] = &["CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(20)) \
         PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (100), PARTITION high VALUES LESS THAN (200))"];

    async fn create_schema(&self) -> Result<String> {
        let (name, user) = (format!("{}_s", self.schema.name), &self.schema.user);
        self.administrate(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await?;
        self.administrate(&format!("GRANT ALL ON {name}.* TO '{user}'@'%'")).await?;
        Ok(name)
    }

    async fn revoke_ddl(&self) -> Result<()> {
        let user = &self.schema.user;
        self.administrate(&format!("REVOKE CREATE, ALTER, DROP ON {{schema}}.* FROM '{user}'@'%'")).await
    }

    async fn make_read_only(&self) -> Result<()> {
        self.administrate("SET GLOBAL read_only = 1").await
    }
}

/// Whether only MariaDB has this type, and MySQL runs in its place.
fn is_unknown(definition: &str) -> bool {
    definition == "UUID" && TestEngine::MariaDb.is_mysql()
}

/// Generates a test for each name and load method.
macro_rules! conformance_tests {
    ($list:ident: $($test:ident),+ $(,)?) => {$(
        #[rstest]
        #[case::load_data(LoadMethod::LoadData)]
        #[case::insert(LoadMethod::Insert)]
        #[tokio::test]
        async fn $test(#[case] method: LoadMethod) -> Result<()> {
            $list::$test(&MySql::new(method).await?).await
        }
    )+};
}

/// Generates a test on its own server for each name.
macro_rules! server_tests {
    ($list:ident: $($test:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $test() -> Result<()> {
            $list::$test(&MySql::start($list::server_options(), LoadMethod::LoadData).await?).await
        }
    )+};
}

conformance_append::for_each_test!(conformance_tests);
conformance_changes::for_each_test!(conformance_tests);
conformance_contract::for_each_test!(conformance_tests);
conformance_append::for_each_staging_test!(conformance_tests);
conformance_mirror::for_each_test!(conformance_tests);
conformance_modes::for_each_test!(conformance_tests);
conformance_operations::for_each_test!(conformance_tests);
conformance_failures::for_each_test!(conformance_tests);
conformance_history::for_each_test!(conformance_tests);
conformance_failures::for_each_server_test!(server_tests);

/// Existing columns store values exactly as sent.
#[rstest]
#[case("BIGINT UNSIGNED", &["18446744073709551615", "0"])]
#[case("MEDIUMINT", &["-8388608", "8388607"])]
#[case("DECIMAL(65,30)", &["12345678901234567890123456789012345.123456789012345678901234567891"])]
#[case("FLOAT", &["0.5", "-1.25"])]
#[case("DOUBLE", &["0.1", "1e300"])]
#[case("CHAR(3)", &["äöü", ""])]
#[case("VARCHAR(3)", &["ab ", "  "])]
#[case("VARCHAR(5) CHARACTER SET latin1", &["äöü"])]
#[case("VARBINARY(8)", &["a\tb\\"])]
#[case("LONGTEXT", &["NULL", "\\N", "a\r\nb\\", "'quoted\"", "\\.", "=cmd|x"])]
#[case("ENUM('a','it''s')", &["it's", "a"])]
#[case("SET('a','b','c')", &["a,c", ""])]
#[case("JSON", &["{\"a\": [1, \"\\n\"]}", "7"])]
#[case("LONGTEXT CHECK (json_valid(c))", &["[0.10]"])]
#[case("TIME(3)", &["-100:00:00.125"])]
#[case("YEAR", &["1999"])]
#[case("TIMESTAMP(6) NULL", &["2038-01-19 03:14:07.999999", "1970-01-01 00:00:01.000000"])]
#[tokio::test]
async fn existing_columns_store_values_unchanged(
    #[case] definition: &str,
    #[case] values: &[&str],
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let with_gap: Vec<Option<&str>> = values.iter().copied().map(Some).chain([None]).collect();
    let expected: Vec<Option<String>> = with_gap.iter().map(|value| value.map(str::to_owned)).collect();
    assert_eq!(engine.store(definition, &with_gap).await?, Ok(expected));
    Ok(())
}

/// A value that our checks or the server reject stores no row and does not appear in the message.
#[rstest]
#[case("TINYINT", &["1", "128"])]
#[case("INT", &["1", "secret"])]
#[case("DECIMAL(5,2)", &["1.5", "1.005"])]
#[case("VARCHAR(3)", &["abc", "secret"])]
#[case("TEXT CHARACTER SET latin1", &["x", "secret ☂"])]
#[case("VARCHAR(20) CHARACTER SET utf8mb3", &["secret 😀"])]
#[case("INT UNIQUE", &["1", "2", "1"])]
#[case("VARCHAR(20) UNIQUE", &["secret", "x", "secret"])]
#[case("INT CHECK (c < 10)", &["1", "11"])]
#[case("JSON", &["{}", "secret"])]
#[case("UUID", &["secret"])]
#[case("BIT(3)", &["8"])]
#[case("ENUM('1','2')", &["3"])]
#[case("DATE", &["2024-01-01", "2023-02-29"])]
#[tokio::test]
async fn value_that_does_not_fit_rejects_the_file(
    #[case] definition: &str,
    #[case] values: &[&str],
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    if is_unknown(definition) {
        return Ok(());
    }
    let engine = MySql::new(method).await?;
    let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
    assert_eq!(engine.store(definition, &values).await?, Err(ErrorKind::DataRefused));
    Ok(())
}

/// Nested values are stored byte for byte, in the JSON column of a new table and in an existing text column. MySQL's JSON column
/// keeps the meaning instead, and refuses a value that would lose a part of it.
#[rstest]
#[tokio::test]
async fn nested_values_are_stored_unchanged(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
    #[values(None, Some("CREATE TABLE orders (id BIGINT, tags TEXT)"))] ddl: Option<&str>,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    if let Some(ddl) = ddl {
        engine.execute(ddl).await?;
    }
    let tags = [Some("{\"b\": 0.10,\n \"a\":\t[1e400, \"\\u0000 \\\\ '\"]}"), None, Some("[]")];
    let rows = [[Some("1"), tags[0]], [Some("2"), tags[1]], [Some("3"), tags[2]]];
    let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| row.as_slice()).collect();
    let file = File::with_nested(&["id", "tags"], &rows);
    if TestEngine::MariaDb.is_mysql() && ddl.is_none() {
        let error = load_error(&engine.destination(), &claim("tags.json"), &file).await?;
        assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("tags")));
        let file = File::with_nested(
            &["id", "tags"],
            &[&[Some("1"), Some("{\"b\": 0.10,\n \"a\":\t[1, \"\\u0000 \\\\ '\"]}")]],
        );
        load(&engine.destination(), &claim("tags.json"), &file).await?;
        let stored = engine.rows("SELECT tags FROM orders").await?;
        assert_eq!(stored, [[Some("{\"a\": [1, \"\\u0000 \\\\ '\"], \"b\": 0.1}".to_owned())]]);
        return Ok(());
    }
    load(&engine.destination(), &claim("tags.json"), &file).await?;
    let stored = engine.rows("SELECT tags FROM orders ORDER BY id").await?;
    assert_eq!(stored, tags.map(|value| [value.map(str::to_owned)]));
    if TestEngine::MariaDb.is_mysql() {
        return Ok(());
    }
    let checks = "SELECT COUNT(*) FROM information_schema.CHECK_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = 'orders' AND CHECK_CLAUSE LIKE 'json_valid%'";
    let expected = if ddl.is_none() { "1" } else { "0" };
    assert_eq!(engine.rows(checks).await?, [[Some(expected.to_owned())]]);
    Ok(())
}

/// Invalid JSON is rejected before it is sent, although MariaDB's JSON is a text column with a constraint.
#[tokio::test]
async fn invalid_json_is_rejected_with_its_position() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    engine.execute("CREATE TABLE orders (id BIGINT, tags JSON)").await?;
    let file = File::new(&["id", "tags"], &[&[Some("1"), Some("{}")], &[Some("2"), Some("secret")]]);
    let error = load_error(&engine.destination(), &claim("tags.csv"), &file).await?;
    assert_eq!(
        error.to_string(),
        "the value is not JSON; the column's type is json (record 2, line 3, byte 20, column tags)"
    );
    Ok(())
}

/// Spellings that mean one value are stored as that value.
#[rstest]
#[case("BIGINT", &[("1.0", "1"), ("1e3", "1000"), ("+5", "5"), ("tRUE", "1"), ("None", "NULL")])]
#[case("BIGINT UNSIGNED", &[("18446744073709551615.0", "18446744073709551615")])]
#[case("TINYINT(1)", &[("t", "1"), ("No", "0"), ("off", "0"), ("1.0", "1")])]
#[case("DECIMAL(9,4)", &[(".5", "0.5000"), ("-.25", "-0.2500"), ("5.", "5.0000"), ("1.5e2", "150.0000"), ("nan", "NULL")])]
#[case("DOUBLE", &[("-.25", "-0.25"), ("0.10000000000000001", "0.1"), ("<NA>", "NULL")])]
#[case("DATE", &[("20240115", "2024-01-15"), ("2024/2/9", "2024-02-09"), ("2024-01-15T00:00:00.000", "2024-01-15")])]
#[case("DATETIME(3)", &[("2024/1/15 9:30", "2024-01-15 09:30:00.000"), ("2024-01-15 09:30:00.250000000 -0700", "2024-01-15 16:30:00.250")])]
#[case("TIME", &[("8:05:00", "08:05:00"), ("25:10:00", "25:10:00"), ("nil", "NULL")])]
#[case("YEAR", &[("2024.0", "2024")])]
#[case("UUID", &[("{6F9619FF-8B86-D011-B42D-00CF4FC964FF}", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ("6f9619ff8b86d011b42d00cf4fc964ff", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"), ("null", "NULL")])]
#[case("VARCHAR(9)", &[("null", "null"), (".5", ".5"), ("tRUE", "tRUE"), ("2024/2/9", "2024/2/9")])]
#[tokio::test]
async fn spellings_are_stored_as_their_value(
    #[case] definition: &str,
    #[case] values: &[(&str, &str)],
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    if is_unknown(definition) {
        return Ok(());
    }
    let engine = MySql::new(method).await?;
    let spellings: Vec<Option<&str>> = values.iter().map(|(spelling, _)| Some(*spelling)).collect();
    let expected = values.iter().map(|(_, stored)| (*stored != "NULL").then(|| (*stored).to_owned())).collect();
    assert_eq!(engine.store(definition, &spellings).await?, Ok(expected));
    Ok(())
}

/// An empty field in an AUTO_INCREMENT column requests a number. A staging table would number the rows itself.
#[rstest]
#[tokio::test]
async fn empty_auto_increment_is_numbered_by_the_server(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
    #[values("VARCHAR(9)", "BIT(8)")] definition: &str,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let ddl = format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY AUTO_INCREMENT, c {definition}) AUTO_INCREMENT = 100");
    engine.execute(&ddl).await?;
    let file = File::new(
        &["id", "c"],
        &[&[None, Some("1")], &[Some("12"), Some("2")], &[Some("NA"), Some("3")], &[None, Some("4")]],
    );
    load(&engine.destination(), &claim("a.csv"), &file).await?;
    let query = format!("SELECT c + 0, id = 12, id >= 100 FROM {TABLE} ORDER BY c + 0");
    let expected = [["1", "0", "1"], ["2", "1", "0"], ["3", "0", "1"], ["4", "0", "1"]];
    assert_eq!(engine.rows(&query).await?, expected.map(|row| row.map(|text| Some(text.to_owned()))));
    let error = load_error(&engine.destination_with_staging_above(1), &claim("b.csv"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("id")));
    let file = File::new(&["id", "c"], &[&[None, Some("5")], &[None, Some("6")]]);
    load(&engine.destination_with_staging_above(1), &claim("c.csv"), &file).await?;
    let count = engine.rows(&format!("SELECT COUNT(DISTINCT id), MIN(id) FROM {TABLE} WHERE id >= 100")).await?;
    assert_eq!(count, [[Some("5".to_owned()), Some("100".to_owned())]]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn bits_and_auto_increment_zeros_are_stored(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY AUTO_INCREMENT, bits BIT(8))")).await?;
    let file = File::new(&["id", "bits"], &[&[Some("0"), Some("5")], &[Some("7"), None]]);
    load(&engine.destination(), &claim("bits.csv"), &file).await?;
    let rows = engine.rows(&format!("SELECT id, bits + 0 FROM {TABLE} ORDER BY id")).await?;
    assert_eq!(rows, [[Some("0".to_owned()), Some("5".to_owned())], [Some("7".to_owned()), None]]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn server_rejection_names_the_record(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (c TEXT CHARACTER SET latin1)")).await?;
    let rows = (1..=5000).map(|row| vec![Some(if row == 4321 { "☂".to_owned() } else { row.to_string() })]);
    let file = File::large(&["c"], rows.collect(), 500);
    let error = load_error(&engine.destination(), &claim("umbrella.csv"), &file).await?;
    assert_eq!((error.position().map(|at| at.record), error.column()), (Some(4321), Some("c")), "{}", chain(&error));
    Ok(())
}

/// The protocol counts warnings in 16 bits, so 65,536 of them must not look like none.
#[tokio::test]
async fn rejection_of_65536_rows_is_noticed() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (c VARCHAR(9) CHARACTER SET latin1)")).await?;
    let file = File::large(&["c"], vec![vec![Some("☂".to_owned())]; 65_536], 8192);
    let error = load_error(&engine.destination(), &claim("umbrellas.csv"), &file).await?;
    assert_eq!((error.kind(), error.position().map(|at| at.record)), (ErrorKind::DataRefused, Some(1)));
    assert_eq!(engine.rows(&format!("SELECT * FROM {TABLE}")).await?.len(), 0);
    Ok(())
}

/// A staged load of long values commits several chunks.
#[tokio::test]
async fn staged_load_commits_in_chunks() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    let long = "0123456789abcde\t".repeat(60_000);
    let rows = (0..72).map(|id| vec![Some(id.to_string()), Some(long.clone())]).collect();
    load(&engine.destination_with_staging_above(1), &claim("long.csv"), &File::large(&["id", "note"], rows, 8)).await?;
    let query = "SELECT COUNT(DISTINCT id), COUNT(*), MIN(LENGTH(note)), COUNT(DISTINCT SHA2(note, 256)) FROM orders";
    let expected = ["72", "72", &long.len().to_string(), "1"].map(|text| Some(text.to_owned()));
    assert_eq!(engine.rows(query).await?, [expected]);
    Ok(())
}

/// A value larger than `max_allowed_packet` is stored whole or rejected, but never truncated.
#[rstest]
#[tokio::test]
async fn value_larger_than_a_packet_is_stored_whole_or_rejected(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let huge = "x".repeat(20 * 1024 * 1024);
    let file = File::new(&["id", "note"], &[&[Some("1"), Some("small")], &[Some("2"), Some(&huge)]]);
    match load(&engine.destination(), &claim("huge.csv"), &file).await {
        Ok(_) => {
            let lengths = engine.rows("SELECT LENGTH(note) FROM orders ORDER BY id").await?;
            assert_eq!(lengths, [[Some("5".to_owned())], [Some(huge.len().to_string())]]);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{}", chain(&error));
            assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 0);
        }
    }
    Ok(())
}

/// The server shows such values with escapes.
#[rstest]
#[tokio::test]
async fn enum_and_set_values_may_contain_backslashes(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(r"CREATE TABLE orders (e ENUM('a\\b', 'x\ny'), s SET('c\\', 'd''e'))").await?;
    let file = File::new(&["e", "s"], &[&[Some(r"a\b"), Some(r"c\,d'e")], &[Some("x\ny"), Some(r"c\")]]);
    load(&engine.destination(), &claim("a.csv"), &file).await?;
    let rows = engine.rows("SELECT HEX(e), HEX(s) FROM orders ORDER BY 1").await?;
    let expected = [["615C62", "635C2C642765"], ["780A79", "635C"]];
    assert_eq!(rows, expected.map(|row| row.map(|text| Some(text.to_owned()))));
    Ok(())
}

/// A table that cannot store the file's rows is a mismatch before any row is sent.
#[rstest]
#[case::no_such_column("CREATE TABLE orders (id BIGINT)")]
#[case::required_column("CREATE TABLE orders (id BIGINT, amount DOUBLE, note TEXT, more INT NOT NULL)")]
#[case::generated("CREATE TABLE orders (id BIGINT, amount DOUBLE AS (id) STORED, note TEXT)")]
#[case::no_transactions("CREATE TABLE orders (id BIGINT, amount DOUBLE, note TEXT) ENGINE = MyISAM")]
#[case::view("CREATE VIEW orders AS SELECT 1 AS id, 2 AS amount, 3 AS note")]
#[tokio::test]
async fn unsuitable_table_is_a_mismatch(#[case] ddl: &str) -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    engine.execute(ddl).await?;
    let error = load_error(&engine.destination(), &claim("a.csv"), &File::orders(2)).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn staged_load_fills_missing_columns_with_defaults() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let ddl = "CREATE TABLE orders (n INT PRIMARY KEY AUTO_INCREMENT, note TEXT, amount DOUBLE, id BIGINT, \
               twice BIGINT AS (id * 2) STORED, kind VARCHAR(9) NOT NULL DEFAULT 'x', UNIQUE (id))";
    engine.execute(ddl).await?;
    load(&engine.destination_with_staging_above(1), &claim("a.csv"), &File::orders(2)).await?;
    let rows = engine.rows("SELECT n, twice, kind FROM orders ORDER BY n").await?;
    assert_eq!(rows, [["1", "2", "x"], ["2", "4", "x"]].map(|row| row.map(|text| Some(text.to_owned()))));
    // The staging table cannot detect duplicates of existing rows. They are rejected when the rows are copied.
    let error = load_error(&engine.destination_with_staging_above(1), &claim("b.csv"), &File::orders(2)).await?;
    assert_eq!(error.kind(), ErrorKind::DataRefused);
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 2);
    assert_eq!(engine.rows("SHOW TABLES LIKE 'spillway_staging%'").await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn foreign_key_or_trigger_rejects_the_file() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    engine.execute("CREATE TABLE parent (id BIGINT PRIMARY KEY)").await?;
    engine.execute("INSERT INTO parent VALUES (1)").await?;
    let ddl = "CREATE TABLE orders (id BIGINT, amount DOUBLE, note TEXT, FOREIGN KEY (id) REFERENCES parent (id))";
    engine.execute(ddl).await?;
    let error = load_error(&engine.destination(), &claim("a.csv"), &File::orders(2)).await?;
    assert_eq!(error.kind(), ErrorKind::DataRefused, "{}", chain(&error));
    engine.execute("INSERT INTO parent VALUES (2)").await?;
    let trigger = "CREATE TRIGGER guard BEFORE INSERT ON orders FOR EACH ROW \
                   IF NEW.id = 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret'; END IF";
    engine.execute(trigger).await?;
    let error = load_error(&engine.destination(), &claim("a.csv"), &File::orders(2)).await?;
    assert_eq!(error.kind(), ErrorKind::DataRefused, "{}", chain(&error));
    assert!(!chain(&error).contains("secret"), "{}", chain(&error));
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn database_without_grants_is_a_privilege_error() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let destination = engine.with(|credentials, _| credentials.database = "mysql".into());
    let error = destination.look_up(&claim("a.csv").source.id).await.err().context("it connected")?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn rows_are_inserted_when_local_infile_is_off() -> Result<()> {
    let options = Options { local_infile: false, ..Options::default() };
    let mut engine = MySql::start(options, LoadMethod::Auto).await?;
    load(&engine.destination(), &claim("a.csv"), &File::orders(1000)).await?;
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 1000);
    engine.method = LoadMethod::LoadData;
    let error = load_error(&engine.destination(), &claim("b.csv"), &File::orders(10)).await?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    Ok(())
}

/// A replace that would delete rows of other tables, or remove the rows that they reference, fails.
#[tokio::test]
async fn replace_keeps_rows_of_referencing_tables() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let destination = engine.destination_with(LoadMode::Replace, None);
    engine.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY, amount DECIMAL(18,2), note VARCHAR(50))").await?;
    engine.execute("INSERT INTO orders VALUES (1, 1.25, 'old')").await?;
    for (rule, kind) in [("CASCADE", ErrorKind::TableMismatch), ("RESTRICT", ErrorKind::DataRefused)] {
        let ddl = format!(
            "CREATE TABLE line (order_id BIGINT, CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE {rule})"
        );
        engine.execute(&ddl).await?;
        engine.execute("INSERT INTO line VALUES (1)").await?;
        let error = load(&destination, &claim(rule), &File::orders(3)).await.err().context("the table was replaced")?;
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert_eq!(engine.rows("SELECT note FROM orders JOIN line ON order_id = id").await?.len(), 1, "{rule}");
        engine.execute("DROP TABLE line").await?;
    }
    Ok(())
}

/// A row that is deleted while a merge waits for a lock is inserted again, and not counted as existing.
#[tokio::test]
async fn merge_inserts_a_row_deleted_meanwhile() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    let destination = engine.destination_with(LoadMode::Merge { key: vec!["id".into()] }, None);
    load(&destination, &claim("a.csv"), &File::orders(9)).await?;
    let mut other = engine.client().await?;
    other.query_drop("BEGIN").await?;
    other.query_drop("SELECT * FROM orders WHERE id = 3 FOR UPDATE").await?;
    let deleting = async {
        let waiting = format!(
            "SELECT 1 FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id \
             WHERE user = '{}' AND trx_state = 'LOCK WAIT'",
            engine.schema.user
        );
        while engine.server.query(&engine.schema, &waiting).await?.is_empty() {
            // The server refreshes this table only if it was not read for 100 ms.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        engine.execute("DELETE FROM orders WHERE id = 7").await?;
        anyhow::Ok(other.query_drop("ROLLBACK").await?)
    };
    let (claim, file) = (claim("b.csv"), File::orders(9));
    let deleting = tokio::time::timeout(Duration::from_secs(30), deleting);
    let (loaded, deleted) = tokio::join!(load(&destination, &claim, &file), deleting);
    deleted??;
    let counts = expect_loaded(loaded?)?;
    assert_eq!((counts.rows_stored, counts.rows_unchanged), (9, 8));
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 9);
    Ok(())
}

/// A metadata lock of another connection is a conflict within seconds.
#[tokio::test]
async fn locked_table_is_a_conflict() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    load(&engine.destination(), &claim("a.csv"), &File::orders(1)).await?;
    let mut other = engine.client().await?;
    other.query_drop("LOCK TABLES orders WRITE").await?;
    let error = load_error(&engine.destination(), &claim("b.csv"), &File::orders(1)).await?;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    Ok(())
}

/// A BEFORE INSERT trigger may fill a NOT NULL column, also if the file lacks the column. Otherwise the server rejects it.
#[rstest]
#[tokio::test]
async fn trigger_fills_required_columns(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine
        .execute(&format!("CREATE TABLE {TABLE} (id INT, owner VARCHAR(9) NOT NULL, note VARCHAR(9) NOT NULL)"))
        .await?;
    let names = ["id", "owner", "note"];
    let file = File::new(&names, &[&[Some("1"), None, Some("x")], &[Some("2"), None, None]]);
    let error = load_error(&engine.destination(), &claim("a.csv"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("owner")));
    engine
        .execute(
            "CREATE TRIGGER fill BEFORE INSERT ON orders FOR EACH ROW \
             SET NEW.owner = COALESCE(NULLIF(NEW.owner, ''), 'nobody'), NEW.note = COALESCE(NEW.note, 'none')",
        )
        .await?;
    let expected = [["1", "nobody", "x"], ["2", "nobody", "none"]];
    expect_loaded(load(&engine.destination(), &claim("b.csv"), &file).await?)?;
    let rows = engine.rows(&format!("SELECT id, owner, note FROM {TABLE} ORDER BY id")).await?;
    assert_eq!(rows, expected.map(|row| row.map(|text| Some(text.to_owned()))));
    // The server warns about a column that is not sent, so the file must have it.
    let without = File::new(&["id", "note"], &[&[Some("3"), Some("x")]]);
    let error = load_error(&engine.destination(), &claim("c.csv"), &without).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("owner")));
    Ok(())
}

/// Geometries are written as WKT. MariaDB stores NULL for a text that it cannot read, so it must not get one.
#[rstest]
#[case("POINT(1.5 2)", true)]
#[case("polygon ((0 0, 4 0, 4 4, 0 0))", true)]
#[case("MULTIPOINT((1 2),(3 4))", true)]
#[case("GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))", true)]
#[case("secret", false)]
#[case("POINT(1 2 3)", false)]
#[case("POLYGON((0 0,1 0,1 1))", false)]
#[case("SRID=4326;POINT(1 2)", false)]
#[tokio::test]
async fn geometry_is_read_from_wkt(
    #[case] text: &str,
    #[case] is_stored: bool,
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (n INT, c GEOMETRY)")).await?;
    let file = File::new(&["n", "c"], &[&[Some("1"), Some(text)], &[Some("2"), None]]);
    match load(&engine.destination(), &claim("a.csv"), &file).await {
        Ok(_) => {
            // MariaDB's own function does not read points in parentheses.
            let known = text.replace("((1 2),(3 4))", "(1 2,3 4)");
            let query = format!("SELECT ST_Equals(c, ST_GeomFromText('{known}')), c IS NULL FROM {TABLE} ORDER BY n");
            let expected = [[Some("1".to_owned()), Some("0".to_owned())], [None, Some("1".to_owned())]];
            assert_eq!((engine.rows(&query).await?, is_stored), (expected.map(|row| row.to_vec()).to_vec(), true));
        }
        Err(error) => assert_eq!((error.kind(), is_stored), (ErrorKind::DataRefused, false), "{}", chain(&error)),
    }
    Ok(())
}
