//! Error codes, each caused on a real server: by a limit, a missing right, a locked account, a full disk, or by a trigger that
//! raises the code. No row is stored, and the error has the kind of the retry policy's table.

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use spillway_core::destination::LoadMethod;
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::database::Options;

use crate::engines::conformance::{Engine, File, claim, count, load, load_error};
use crate::engines::mysql::MySql;
use crate::engines::postgres::Postgres;

/// Loads a file, runs the statements as the administrator, and returns the error of the next load, which must store nothing.
/// `{user}` and `{database}` become those of the schema.
async fn kind_after(engine: &impl Engine, statements: &[&str]) -> Result<(ErrorKind, String)> {
    load(&engine.destination(), &claim("first.csv"), &File::orders(1)).await?;
    let schema = engine.schema();
    for statement in statements {
        let statement = statement.replace("{user}", &schema.user).replace("{database}", &schema.name);
        engine.administrate(&statement).await?;
    }
    let error = load_error(&engine.destination(), &claim("second.csv"), &File::orders(2)).await?;
    let text = chain(&error);
    ensure!(
        !text.contains(&schema.password) && !text.contains("note 1"),
        "a secret or a value is in the message: {text}"
    );
    Ok((error.kind(), text))
}

#[rstest]
#[case::limit_of_queries(ErrorKind::Capacity, "1226", &["ALTER USER '{user}'@'%' WITH MAX_QUERIES_PER_HOUR 1"])]
#[case::other_password(ErrorKind::Credentials, "1045", &["ALTER USER '{user}'@'%' IDENTIFIED BY 'other'"])]
#[case::account_is_gone(ErrorKind::Credentials, "1045", &["DROP USER '{user}'@'%'"])]
#[case::account_is_locked(ErrorKind::Credentials, "4151", &["ALTER USER '{user}'@'%' ACCOUNT LOCK"])]
#[case::other_authentication(ErrorKind::Credentials, "1698", &["ALTER USER '{user}'@'%' IDENTIFIED VIA unix_socket"])]
#[case::client_certificate(ErrorKind::Credentials, "1045", &["ALTER USER '{user}'@'%' REQUIRE X509"])]
#[case::database_is_gone(ErrorKind::Privilege, "1049", &["DROP DATABASE {schema}"])]
#[case::no_right_in_database(ErrorKind::Privilege, "1044", &["REVOKE ALL ON {schema}.* FROM '{user}'@'%'"])]
#[case::no_right_to_insert(ErrorKind::Privilege, "1142", &["REVOKE INSERT ON {schema}.* FROM '{user}'@'%'",
    "GRANT INSERT ON {schema}.spillway_ledger TO '{user}'@'%'"])]
#[case::no_right_on_a_column(ErrorKind::Privilege, "1143", &["REVOKE INSERT ON {schema}.* FROM '{user}'@'%'",
    "GRANT INSERT ON {schema}.spillway_ledger TO '{user}'@'%'", "GRANT INSERT (id) ON {schema}.orders TO '{user}'@'%'"])]
#[tokio::test]
async fn cause_on_mariadb_has_its_code_and_kind(
    #[case] kind: ErrorKind,
    #[case] code: &str,
    #[case] statements: &[&str],
) -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    if engine.schema().engine.is_mysql() {
        // MySQL has other codes for accounts, and other plugins.
        return Ok(());
    }
    let (found, text) = kind_after(&engine, statements).await?;
    assert_eq!(found, kind, "{text}");
    ensure!(text.contains(code), "not {code}: {text}");
    Ok(())
}

#[rstest]
#[case::limit_of_the_role(ErrorKind::Capacity, "53300", &["ALTER ROLE {user} CONNECTION LIMIT 0"])]
#[case::limit_of_the_database(ErrorKind::Capacity, "53300", &["ALTER DATABASE {database} CONNECTION LIMIT 0"])]
#[case::other_password(ErrorKind::Credentials, "28P01", &["ALTER ROLE {user} PASSWORD 'other'"])]
#[case::expired_password(ErrorKind::Credentials, "28P01", &["ALTER ROLE {user} VALID UNTIL '2000-01-01'"])]
#[case::no_login(ErrorKind::Credentials, "28000", &["ALTER ROLE {user} NOLOGIN"])]
#[case::read_only(ErrorKind::Failover, "25006", &["ALTER ROLE {user} SET default_transaction_read_only = on"])]
#[case::no_right_to_connect(ErrorKind::Privilege, "42501", &["ALTER DATABASE {database} OWNER TO postgres",
    "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC, {user}"])]
#[case::no_right_on_the_table(ErrorKind::Privilege, "42501", &["ALTER TABLE orders OWNER TO postgres",
    "REVOKE INSERT ON orders FROM {user}"])]
#[tokio::test]
async fn cause_on_postgres_has_its_code_and_kind(
    #[case] kind: ErrorKind,
    #[case] code: &str,
    #[case] statements: &[&str],
) -> Result<()> {
    let (found, text) = kind_after(&Postgres::new().await?, statements).await?;
    assert_eq!(found, kind, "{text}");
    ensure!(text.contains(code) || found == ErrorKind::Failover, "not {code}: {text}");
    Ok(())
}

/// Every code of the table, and five that it lacks, raised by a trigger of the ledger when a load records its end.
#[rstest]
#[case(ErrorKind::Conflict, &[1213, 1205, 3572])]
#[case(ErrorKind::Failover, &[1290, 1792, 1836, 1053, 1927])]
#[case(ErrorKind::Capacity, &[1040, 1203, 1226])]
#[case(ErrorKind::Credentials, &[1045, 1698, 1130, 3159])]
#[case(ErrorKind::Privilege, &[1044, 1142, 1143, 1049])]
#[case(ErrorKind::TableMismatch, &[1054, 1136, 1364, 1118, 1166, 1059, 1060, 1117])]
#[case(ErrorKind::DataRefused, &[1264, 1265, 1292, 1366, 1406, 1048, 1451, 1452, 3819, 4025, 1690])]
#[case(ErrorKind::DatabaseFull, &[1114, 1021, 1197, 1153])]
#[case(ErrorKind::Internal, &[1064, 1210, 1295])]
#[case::unlisted(ErrorKind::Internal, &[1011, 1999, 4999, 29_999, 65_000])]
#[tokio::test]
async fn code_of_mysql_has_its_kind(#[case] kind: ErrorKind, #[case] codes: &[u16]) -> Result<()> {
    let engine = MySql::new(LoadMethod::LoadData).await?;
    load(&engine.destination(), &claim("first.csv"), &File::orders(1)).await?;
    for code in codes {
        engine.administrate("DROP TRIGGER IF EXISTS {schema}.forced").await?;
        let trigger = format!(
            "CREATE TRIGGER {{schema}}.forced BEFORE UPDATE ON {{schema}}.spillway_ledger FOR EACH ROW \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'forced'"
        );
        engine.administrate(&trigger).await?;
        let error = load_error(&engine.destination(), &claim(&format!("{code}.csv")), &File::orders(2)).await?;
        assert_eq!(error.kind(), kind, "{code}: {}", chain(&error));
        ensure!(chain(&error).contains(&code.to_string()), "{}", chain(&error));
        assert_eq!(count(&engine).await?, 1, "{code}");
    }
    Ok(())
}

/// Codes that the table lacks, raised by a trigger of the ledger: an error that stores nothing.
#[tokio::test]
async fn unlisted_code_of_postgres_is_an_error() -> Result<()> {
    let engine = Postgres::new().await?;
    load(&engine.destination(), &claim("first.csv"), &File::orders(1)).await?;
    for state in ["XX001", "ZZ123", "U0001", "HV000", "99999"] {
        let trigger = format!(
            "CREATE OR REPLACE FUNCTION forced() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'forced' USING ERRCODE = '{state}'; END $$; \
             CREATE OR REPLACE TRIGGER forced BEFORE UPDATE ON spillway_ledger FOR EACH ROW EXECUTE FUNCTION forced()"
        );
        engine.administrate(&trigger).await?;
        let error = load_error(&engine.destination(), &claim(&format!("{state}.csv")), &File::orders(2)).await?;
        assert_eq!(error.kind(), ErrorKind::Internal, "{state}: {}", chain(&error));
        assert_eq!(count(&engine).await?, 1, "{state}");
    }
    Ok(())
}

/// The server's limit for the binary log of a transaction. With a full data file, MariaDB 10.11 may stop.
#[tokio::test]
async fn full_mariadb_stores_nothing() -> Result<()> {
    let engine = MySql::start(Options { binary_log: true, ..Options::default() }, LoadMethod::LoadData).await?;
    if engine.schema().engine.is_mysql() {
        return Ok(());
    }
    load(&engine.destination(), &claim("first.csv"), &File::orders(1)).await?;
    engine.administrate("SET GLOBAL max_binlog_cache_size = 4096").await?;
    let long = "0123456789abcdef".repeat(4000);
    let rows = (0..200).map(|id| vec![Some(id.to_string()), Some("1.25".to_owned()), Some(long.clone())]).collect();
    let error =
        load_error(&engine.destination(), &claim("large.csv"), &File::large(&["id", "amount", "note"], rows, 8))
            .await?;
    assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{}", chain(&error));
    ensure!(chain(&error).contains("1197"), "{}", chain(&error));
    assert_eq!(count(&engine).await?, 1);
    Ok(())
}

/// A full disk: a tablespace in a small file system. Mounting it needs root.
#[tokio::test]
async fn full_disk_of_postgres_stores_nothing() -> Result<()> {
    let engine = Postgres::new().await?;
    let folder = spillway_test_env::run::Scratch::new("small-disk")?;
    let Some(disk) = spillway_test_env::small_disk::SmallDisk::mount(folder.path(), 8)? else { return Ok(()) };
    let space = &engine.schema().name;
    engine.administrate(&format!("CREATE TABLESPACE {space} LOCATION '{}'", disk.path().display())).await?;
    engine.administrate(&format!("GRANT CREATE ON TABLESPACE {space} TO {}", engine.schema().user)).await?;
    engine.execute(&format!("CREATE TABLE orders (id bigint, amount numeric, note text) TABLESPACE {space}")).await?;
    let rows =
        (0..200_000).map(|id| vec![Some(id.to_string()), Some("1.25".to_owned()), Some("x".repeat(99))]).collect();
    let file = File::large(&["id", "amount", "note"], rows, 1000);
    let error = load_error(&engine.destination(), &claim("large.csv"), &file).await?;
    assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{}", chain(&error));
    ensure!(chain(&error).contains("53100"), "{}", chain(&error));
    assert_eq!(count(&engine).await?, 0);
    engine.execute("DROP TABLE orders").await?;
    engine.administrate(&format!("DROP TABLESPACE {space}")).await.context("the tablespace stays")
}
