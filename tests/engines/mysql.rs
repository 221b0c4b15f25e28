//! MySQL's target on a real MariaDB: the conformance list, by LOAD DATA and by INSERT, and what is the engine's own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use rstest::rstest;
use spillway_core::config::secret;
use spillway_core::destination::CommitResult;
use spillway_core::destination::Engine as Kind;
use spillway_core::destination::{Credentials, DestinationOptions, LoadMethod, LoadMode, Tls, UnknownColumns};
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::mariadb::{MariaDb, Options, Schema};
use spillway_test_env::proxy::{Mode, Proxy, Swallow};

use crate::engines::conformance::{self, Claimed, Engine, File, TABLE, Target, claim, load, open, write};
use crate::engines::conformance_modes;

/// A schema of a server.
struct MySql {
    server: MariaDb,
    schema: Schema,
    method: LoadMethod,
}

impl MySql {
    async fn new(method: LoadMethod) -> Result<Self> {
        Self::on(MariaDb::shared().await?, method).await
    }

    async fn on(server: MariaDb, method: LoadMethod) -> Result<Self> {
        let schema = server.schema().await?;
        Ok(Self { server, schema, method })
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            engine: Kind::MySql,
            host: "127.0.0.1".into(),
            port: self.server.port(),
            user: self.schema.user.clone(),
            password: secret(self.schema.password.clone()),
            database: self.schema.name.clone(),
        }
    }

    fn options(&self) -> DestinationOptions {
        let ca_pem = std::fs::read(self.server.certificates().authority()).expect("the authority's file");
        DestinationOptions {
            tls: Tls::Verify { ca_pem },
            load_method: self.method,
            load_mode: LoadMode::Append,
            unknown_columns: UnknownColumns::Refuse,
            ledger_table: "spillway_ledger".into(),
            connect_timeout: Duration::from_secs(5),
            atomic_max_bytes: u64::MAX,
        }
    }

    fn with(&self, change: impl FnOnce(&mut Credentials, &mut DestinationOptions)) -> Target {
        let (mut credentials, mut options) = (self.credentials(), self.options());
        change(&mut credentials, &mut options);
        Target::open(credentials, options)
    }

    async fn execute(&self, statement: &str) -> Result<()> {
        self.rows(statement).await.map(|_| ())
    }

    /// What becomes of a file with one column `c`, in a table with a column `c` of this type.
    async fn store(&self, definition: &str, values: &[Option<&str>]) -> Result<Result<Vec<Option<String>>, ErrorKind>> {
        self.execute(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        self.execute(&format!("CREATE TABLE {TABLE} (n INT PRIMARY KEY AUTO_INCREMENT, c {definition})")).await?;
        let rows: Vec<Vec<Option<String>>> = values.iter().map(|value| vec![value.map(str::to_owned)]).collect();
        let file = File::large(&["C"], rows, 2);
        let claim = claim(&format!("{definition}{values:?}"));
        match load(&self.target(), &claim, &file).await {
            Ok(_) => {
                let rows = self.rows(&format!("SELECT c FROM {TABLE} ORDER BY n")).await?;
                Ok(Ok(rows.into_iter().map(|mut row| row.remove(0)).collect()))
            }
            Err(error) => {
                assert_eq!(self.rows(&format!("SELECT * FROM {TABLE}")).await?.len(), 0, "{definition} {values:?}");
                ensure!(!chain(&error).contains("secret"), "a value got out: {}", chain(&error));
                Ok(Err(error.kind()))
            }
        }
    }
}

impl Engine for MySql {
    const HOLDS_NUL: bool = true;
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

    fn target(&self) -> Target {
        self.with(|_, _| {})
    }

    fn target_with_staging_above(&self, size_bytes: u64) -> Target {
        self.with(|_, options| options.atomic_max_bytes = size_bytes)
    }

    fn target_with(&self, mode: LoadMode, staging_above_bytes: Option<u64>) -> Target {
        self.with(|_, options| {
            options.load_mode = mode;
            options.atomic_max_bytes = staging_above_bytes.unwrap_or(u64::MAX);
        })
    }

    async fn rows(&self, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut connection = self.schema.connect(self.server.port()).await?;
        let rows: Vec<mysql_async::Row> = connection.query(query).await.with_context(|| query.to_owned())?;
        connection.disconnect().await?;
        let text = |value| match value {
            mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        };
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }
}

/// One test per promise and method.
macro_rules! conforms {
    ($($promise:ident),+ $(,)?) => { conforms!(conformance: $($promise),+); };
    ($list:ident: $($promise:ident),+ $(,)?) => {$(
        #[rstest]
        #[case::load_data(LoadMethod::LoadData)]
        #[case::insert(LoadMethod::Insert)]
        #[tokio::test]
        async fn $promise(#[case] method: LoadMethod) -> Result<()> {
            $list::$promise(&MySql::new(method).await?).await
        }
    )+};
}

conformance::for_each_promise!(conforms);

// Those of an engine with staging tables.
conforms!(a_large_file_is_staged, the_sweep_drops_dead_staging_tables, two_staged_loads_store_once);

conformance_modes::for_each_promise!(conforms);

/// What existing columns store, exactly as sent.
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
async fn existing_columns_store_what_was_sent(
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

/// What is refused, before it is sent or by the server, always with zero rows and no value in the message.
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
async fn data_that_does_not_fit_is_refused_whole(
    #[case] definition: &str,
    #[case] values: &[&str],
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
    assert_eq!(engine.store(definition, &values).await?, Err(ErrorKind::DataRefused));
    Ok(())
}

/// Nested values get a JSON column in a new table, and any text column takes them, byte for byte.
#[rstest]
#[tokio::test]
async fn nested_values_are_stored_as_they_stand(
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
    load(&engine.target(), &claim("tags.json"), &File::with_nested(&["id", "tags"], &rows)).await?;
    let stored = engine.rows("SELECT tags FROM orders ORDER BY id").await?;
    assert_eq!(stored, tags.map(|value| [value.map(str::to_owned)]));
    let checks = "SELECT COUNT(*) FROM information_schema.CHECK_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = 'orders' AND CHECK_CLAUSE LIKE 'json_valid%'";
    let expected = if ddl.is_none() { "1" } else { "0" };
    assert_eq!(engine.rows(checks).await?, [[Some(expected.to_owned())]]);
    Ok(())
}

/// What is no JSON is found before it is sent, in MariaDB's JSON too, which is a text with a constraint.
#[tokio::test]
async fn a_text_that_is_no_json_is_refused_with_its_place() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    engine.execute("CREATE TABLE orders (id BIGINT, tags JSON)").await?;
    let file = File::new(&["id", "tags"], &[&[Some("1"), Some("{}")], &[Some("2"), Some("secret")]]);
    let error = load(&engine.target(), &claim("tags.csv"), &file).await.err().context("loaded")?;
    assert_eq!(
        error.to_string(),
        "the value is not JSON; the column's type is json (record 2, line 3, byte 20, column tags)"
    );
    Ok(())
}

#[rstest]
#[tokio::test]
async fn bits_and_zeros_in_auto_increment_columns_are_kept(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY AUTO_INCREMENT, bits BIT(8))")).await?;
    let file = File::new(&["id", "bits"], &[&[Some("0"), Some("5")], &[Some("7"), None]]);
    load(&engine.target(), &claim("bits.csv"), &file).await?;
    let rows = engine.rows(&format!("SELECT id, bits + 0 FROM {TABLE} ORDER BY id")).await?;
    assert_eq!(rows, [[Some("0".to_owned()), Some("5".to_owned())], [Some("7".to_owned()), None]]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn the_server_s_refusal_names_the_record(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (c TEXT CHARACTER SET latin1)")).await?;
    let rows = (1..=5000).map(|row| vec![Some(if row == 4321 { "☂".to_owned() } else { row.to_string() })]);
    let file = File::large(&["c"], rows.collect(), 500);
    let error = load(&engine.target(), &claim("umbrella.csv"), &file).await.err().context("loaded")?;
    assert_eq!((error.position().map(|at| at.record), error.column()), (Some(4321), Some("c")), "{}", chain(&error));
    Ok(())
}

/// The protocol counts warnings in 16 bits; more of them than fit must not look like none.
#[tokio::test]
async fn a_refusal_of_every_row_is_seen() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (c VARCHAR(9) CHARACTER SET latin1)")).await?;
    let file = File::large(&["c"], vec![vec![Some("☂".to_owned())]; 65_536], 8192);
    let error = load(&engine.target(), &claim("umbrellas.csv"), &file).await.err().context("loaded")?;
    assert_eq!((error.kind(), error.position().map(|at| at.record)), (ErrorKind::DataRefused, Some(1)));
    assert_eq!(engine.rows(&format!("SELECT * FROM {TABLE}")).await?.len(), 0);
    Ok(())
}

/// A staged load of several committed chunks, with long values.
#[tokio::test]
async fn a_staged_load_goes_in_chunks() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    let long = "0123456789abcde\t".repeat(60_000);
    let rows = (0..72).map(|id| vec![Some(id.to_string()), Some(long.clone())]).collect();
    load(&engine.target_with_staging_above(1), &claim("long.csv"), &File::large(&["id", "note"], rows, 8)).await?;
    let query = "SELECT COUNT(DISTINCT id), COUNT(*), MIN(LENGTH(note)), COUNT(DISTINCT MD5(note)) FROM orders";
    let expected = ["72", "72", &long.len().to_string(), "1"].map(|text| Some(text.to_owned()));
    assert_eq!(engine.rows(query).await?, [expected]);
    Ok(())
}

/// A value larger than `max_allowed_packet` is stored whole or refused, never cut.
#[rstest]
#[tokio::test]
async fn a_value_larger_than_a_packet_is_whole_or_refused(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let huge = "x".repeat(20 * 1024 * 1024);
    let file = File::new(&["id", "note"], &[&[Some("1"), Some("small")], &[Some("2"), Some(&huge)]]);
    match load(&engine.target(), &claim("huge.csv"), &file).await {
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

/// Tables that cannot take the file, found before anything is sent.
#[rstest]
#[case::no_such_column("CREATE TABLE orders (id BIGINT)")]
#[case::demanded_column("CREATE TABLE orders (id BIGINT, amount DOUBLE, note TEXT, more INT NOT NULL)")]
#[case::generated("CREATE TABLE orders (id BIGINT, amount DOUBLE AS (id) STORED, note TEXT)")]
#[case::no_transactions("CREATE TABLE orders (id BIGINT, amount DOUBLE, note TEXT) ENGINE = MyISAM")]
#[case::view("CREATE VIEW orders AS SELECT 1 AS id, 2 AS amount, 3 AS note")]
#[tokio::test]
async fn a_table_that_does_not_fit_is_a_mismatch(#[case] ddl: &str) -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    engine.execute(ddl).await?;
    let error = load(&engine.target(), &claim("a.csv"), &File::orders(2)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn missing_columns_are_added_when_asked_for() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    engine.execute("CREATE TABLE orders (ID BIGINT)").await?;
    let target = engine.with(|_, options| options.unknown_columns = UnknownColumns::Add);
    let (one, other) = (claim("a.csv"), claim("b.csv"));
    let file = File::orders(2);
    let (first, second) = tokio::join!(load(&target, &one, &file), load(&target, &other, &file));
    first?;
    second?;
    let rows = engine.rows("SELECT ID, amount, note FROM orders").await?;
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0], ["1", "1.25", "note 1"].map(|text| Some(text.to_owned())));
    Ok(())
}

#[tokio::test]
async fn columns_of_the_table_that_the_file_lacks_get_their_defaults_in_a_staged_load_too() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let ddl = "CREATE TABLE orders (n INT PRIMARY KEY AUTO_INCREMENT, note TEXT, amount DOUBLE, id BIGINT, \
               twice BIGINT AS (id * 2) STORED, kind VARCHAR(9) NOT NULL DEFAULT 'x', UNIQUE (id))";
    engine.execute(ddl).await?;
    load(&engine.target_with_staging_above(1), &claim("a.csv"), &File::orders(2)).await?;
    let rows = engine.rows("SELECT n, twice, kind FROM orders ORDER BY n").await?;
    assert_eq!(rows, [["1", "2", "x"], ["2", "4", "x"]].map(|row| row.map(|text| Some(text.to_owned()))));
    // What staging cannot see, a row that is in the target already, is refused as the rows move over.
    let error = load(&engine.target_with_staging_above(1), &claim("b.csv"), &File::orders(2)).await;
    assert_eq!(error.err().context("loaded")?.kind(), ErrorKind::DataRefused);
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 2);
    assert_eq!(engine.rows("SHOW TABLES LIKE 'spillway_staging%'").await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn foreign_keys_and_triggers_refuse_the_whole_file() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    engine.execute("CREATE TABLE parent (id BIGINT PRIMARY KEY)").await?;
    engine.execute("INSERT INTO parent VALUES (1)").await?;
    let ddl = "CREATE TABLE orders (id BIGINT, amount DOUBLE, note TEXT, FOREIGN KEY (id) REFERENCES parent (id))";
    engine.execute(ddl).await?;
    let error = load(&engine.target(), &claim("a.csv"), &File::orders(2)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::DataRefused, "{}", chain(&error));
    engine.execute("INSERT INTO parent VALUES (2)").await?;
    let trigger = "CREATE TRIGGER guard BEFORE INSERT ON orders FOR EACH ROW \
                   IF NEW.id = 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret'; END IF";
    engine.execute(trigger).await?;
    let error = load(&engine.target(), &claim("a.csv"), &File::orders(2)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::DataRefused, "{}", chain(&error));
    assert!(!chain(&error).contains("secret"), "{}", chain(&error));
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 0);
    Ok(())
}

/// Each failure on the way to a session, forced for real, and its kind.
#[tokio::test]
async fn failures_to_connect_have_their_kinds() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let stranger = std::fs::read(engine.server.certificates().stranger())?;
    let closed_port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let silent_port = silent.local_addr()?.port();
    let id = claim("a.csv").file.source.id;
    let targets = [
        (ErrorKind::Credentials, engine.with(|credentials, _| credentials.password = secret("wrong"))),
        (ErrorKind::Credentials, engine.with(|credentials, _| credentials.user = "nobody".into())),
        (ErrorKind::Privilege, engine.with(|credentials, _| credentials.database = "mysql".into())),
        (ErrorKind::Unreachable, engine.with(|credentials, _| credentials.port = closed_port)),
        (ErrorKind::Unreachable, engine.with(|credentials, _| credentials.host = "no-such-host.invalid".into())),
        (ErrorKind::TlsRefused, engine.with(|_, options| options.tls = Tls::Verify { ca_pem: stranger })),
        (
            ErrorKind::Unreachable,
            engine.with(|credentials, options| {
                credentials.port = silent_port;
                options.connect_timeout = Duration::from_millis(300);
            }),
        ),
    ];
    for (kind, target) in targets {
        let error = target.look_up(&id).await.err().context("connected")?;
        assert_eq!(error.kind(), kind, "{}", chain(&error));
    }
    let plain = engine.with(|_, options| options.tls = Tls::Off);
    assert_eq!(plain.look_up(&id).await?, None, "plain text works when a setting says so");
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    // 127.0.0.2 reaches a server on 127.0.0.1 only through a listener of its own.
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await?;
    let port = listener.local_addr()?.port();
    let server_port = engine.server.port();
    let relay = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await?;
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    });
    let target = engine.with(|credentials, _| (credentials.host, credentials.port) = ("127.0.0.2".into(), port));
    let error = target.look_up(&claim("a.csv").source.id).await.err().context("connected")?;
    assert_eq!(error.kind(), ErrorKind::TlsRefused, "{}", chain(&error));
    relay.abort();
    Ok(())
}

#[tokio::test]
async fn a_full_and_a_read_only_server_have_their_kinds() -> Result<()> {
    let id = claim("a.csv").file.source.id;
    let full =
        MySql::on(MariaDb::start(Options { max_connections: 10, ..Options::default() }).await?, LoadMethod::Auto)
            .await?;
    let mut others = Vec::new();
    // A place may still become free: the server notices late who has left.
    let error = loop {
        while let Ok(connection) = full.schema.connect(full.server.port()).await {
            others.push(connection);
        }
        if let Err(error) = full.target().look_up(&id).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Capacity, "{}", chain(&error));
    drop(others);

    full.server.execute("SET GLOBAL read_only = 1").await?;
    let error = load(&full.target(), &claim("a.csv"), &File::orders(1)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::Failover, "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn without_local_infile_rows_are_inserted() -> Result<()> {
    let server = MariaDb::start(Options { local_infile: false, ..Options::default() }).await?;
    let mut engine = MySql::on(server, LoadMethod::Auto).await?;
    load(&engine.target(), &claim("a.csv"), &File::orders(1000)).await?;
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 1000);
    engine.method = LoadMethod::LoadData;
    let error = load(&engine.target(), &claim("b.csv"), &File::orders(10)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn a_user_without_grants_is_a_matter_of_privileges() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let (schema, user) = (&engine.schema.name, &engine.schema.user);
    engine.server.execute(&format!("REVOKE CREATE ON {schema}.* FROM '{user}'@'%'")).await?;
    let error = load(&engine.target(), &claim("a.csv"), &File::orders(1)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::Privilege, "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn a_server_that_dies_under_a_load_is_a_failover_and_stores_nothing() -> Result<()> {
    let engine = MySql::on(MariaDb::start(Options::default()).await?, LoadMethod::LoadData).await?;
    let (target, claim, file) = (engine.target(), claim("a.csv"), File::orders(2000));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    write(&mut *session, file.stream()).await?;
    engine.server.kill().await?;
    let error = session.finalize(claim.body(), Default::default()).await.err().context("settled")?;
    assert_eq!(error.kind(), ErrorKind::Failover, "{}", chain(&error));
    let error = target.look_up(&claim.source.id).await.err().context("answered")?;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", chain(&error));
    engine.server.start_again().await?;
    assert_eq!(target.look_up(&claim.source.id).await?, None);
    load(&target, &claim, &file).await?;
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 2000);
    Ok(())
}

/// A table whose rows other tables depend on is not emptied: neither are they deleted with it, nor left behind.
#[tokio::test]
async fn a_replace_leaves_other_tables_alone() -> Result<()> {
    let engine = MySql::new(LoadMethod::Auto).await?;
    let target = engine.target_with(LoadMode::Replace, None);
    engine.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY, amount DECIMAL(18,2), note VARCHAR(50))").await?;
    engine.execute("INSERT INTO orders VALUES (1, 1.25, 'old')").await?;
    for (rule, kind) in [("CASCADE", ErrorKind::TableMismatch), ("RESTRICT", ErrorKind::DataRefused)] {
        let ddl = format!(
            "CREATE TABLE line (order_id BIGINT, CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE {rule})"
        );
        engine.execute(&ddl).await?;
        engine.execute("INSERT INTO line VALUES (1)").await?;
        let error = load(&target, &claim(rule), &File::orders(3)).await.err().context("replaced")?;
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert_eq!(engine.rows("SELECT note FROM orders JOIN line ON order_id = id").await?.len(), 1, "{rule}");
        engine.execute("DROP TABLE line").await?;
    }
    Ok(())
}

/// A row that is deleted while a merge looks for its key is inserted anew, and not taken for one that is there.
#[tokio::test]
async fn a_merge_misses_no_row_that_is_deleted_meanwhile() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    let target = engine.target_with(LoadMode::Merge { key: vec!["id".into()] }, None);
    load(&target, &claim("a.csv"), &File::orders(9)).await?;
    let mut other = engine.schema.connect(engine.server.port()).await?;
    other.query_drop("BEGIN").await?;
    other.query_drop("SELECT * FROM orders WHERE id = 3 FOR UPDATE").await?;
    let deleting = async {
        let waiting = format!(
            "SELECT 1 FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id \
             WHERE user = '{}' AND trx_state = 'LOCK WAIT'",
            engine.schema.user
        );
        while engine.server.query(&waiting).await?.is_empty() {
            // The server answers this from a copy that is made anew only when nobody asked for a tenth of a second.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        engine.execute("DELETE FROM orders WHERE id = 7").await?;
        anyhow::Ok(other.query_drop("ROLLBACK").await?)
    };
    let (claim, file) = (claim("b.csv"), File::orders(9));
    let deleting = tokio::time::timeout(Duration::from_secs(30), deleting);
    let (loaded, deleted) = tokio::join!(load(&target, &claim, &file), deleting);
    deleted??;
    let Claimed::Ours(loaded) = loaded? else { anyhow::bail!("ended") };
    assert_eq!((loaded.rows_stored, loaded.rows_unchanged), (9, 8));
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 9);
    Ok(())
}

/// COMMIT without an answer: unknown, and the ledger tells.
#[rstest]
#[tokio::test]
async fn a_swallowed_commit_is_unknown_and_the_ledger_tells() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    let proxy = Proxy::start(engine.server.port()).await?;
    let target = engine.with(|credentials, options| {
        credentials.port = proxy.port();
        // The proxy reads the protocol to find the COMMIT.
        options.tls = Tls::Off;
    });
    let (claim, file) = (claim("a.csv"), File::orders(50));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    let loaded = write(&mut *session, file.stream()).await?;
    let ready = session.finalize(claim.body(), loaded).await?;
    proxy.swallow_next_commit(Swallow::ThenCut);
    let end = ready.commit().await;
    ensure!(matches!(end, CommitResult::Unknown(_)), "{end:?}");
    proxy.swallowed(Duration::from_secs(5)).await?;
    proxy.set(Mode::Pass).await?;
    let entry = target.look_up(&claim.source.id).await?.context("no entry")?;
    assert!(entry.state.is_in_target());
    Ok(())
}

/// A server that stalls at COMMIT does not hold us for ever; whatever became of it, ledger and rows agree.
#[tokio::test]
async fn a_stalled_commit_is_unknown_in_time() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    let proxy = Proxy::start(engine.server.port()).await?;
    let target = engine.with(|credentials, _| credentials.port = proxy.port());
    let (claim, file) = (claim("a.csv"), File::orders(50));
    let schema = file.schema();
    let mut session = open(&target, &claim, &schema).await?;
    let loaded = write(&mut *session, file.stream()).await?;
    let ready = session.finalize(claim.body(), loaded).await?;
    proxy.set(Mode::Stall).await?;
    let end = tokio::time::timeout(Duration::from_secs(30), ready.commit()).await?;
    ensure!(matches!(end, CommitResult::Unknown(_)), "{end:?}");
    proxy.set(Mode::Pass).await?;
    let direct = engine.target();
    let mut entry = direct.look_up(&claim.source.id).await;
    while entry.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        entry = direct.look_up(&claim.source.id).await;
    }
    let rows = engine.rows("SELECT * FROM orders").await?.len();
    assert_eq!(rows, if entry?.is_some() { 50 } else { 0 });
    Ok(())
}

/// A metadata lock that somebody holds is a conflict within seconds.
#[tokio::test]
async fn a_locked_table_is_a_conflict() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    load(&engine.target(), &claim("a.csv"), &File::orders(1)).await?;
    let mut other = engine.schema.connect(engine.server.port()).await?;
    other.query_drop("LOCK TABLES orders WRITE").await?;
    let error = load(&engine.target(), &claim("b.csv"), &File::orders(1)).await.err().context("loaded")?;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    Ok(())
}

/// Once everything is in place, a load sends no DDL.
#[tokio::test]
async fn the_steady_state_has_no_ddl() -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    load(&engine.target(), &claim("a.csv"), &File::orders(1)).await?;
    let (schema, user) = (&engine.schema.name, &engine.schema.user);
    engine.server.execute(&format!("REVOKE CREATE, ALTER, DROP ON {schema}.* FROM '{user}'@'%'")).await?;
    load(&engine.target(), &claim("b.csv"), &File::orders(1)).await?;
    Ok(())
}
