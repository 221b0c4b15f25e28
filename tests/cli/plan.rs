//! `spillway plan`: says what a load then does, and writes nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Running, spillway};

use crate::cli::site::{Site, TABLE, error, report};

const ORDERS: &str = "id,price,note\n1,9.50,first\n2,100,\n3,7.125,third\n";

#[rstest]
#[case("mysql", "`price` DECIMAL(18,3) NULL")]
#[case("mariadb", "`price` DECIMAL(18,3) NULL")]
#[case("postgres", "\"price\" numeric(18,3) NULL")]
#[tokio::test]
async fn plan_needs_neither_database_nor_aws(#[case] engine: &str, #[case] column: &str) -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    let path = site.file("Shop Orders.csv", ORDERS)?;
    let none = Settings::default();
    let plan = spillway(&none, &["plan", &path, "--json", "--engine", engine]).await?.ensure_code(0)?.json()?;
    assert_eq!((&plan["outcome"], &plan["rows_parsed"]), (&json!("loaded"), &json!(3)), "{plan}");
    assert_eq!(plan["format"]["csv"]["delimiter"], json!(","));
    let price = &plan["columns"][1];
    assert_eq!((&price["type"], &price["decided_by_record"]), (&json!("decimal(6,3)"), &json!(1)), "{price}");
    let sql = plan["table"]["sql"][0].as_str().context("a statement")?;
    ensure!(sql.contains(column) && sql.contains("shop_orders"), "{sql}");
    let text = spillway(&none, &["plan", &path, "--engine", engine]).await?.ensure_code(0)?;
    ensure!(text.stdout.contains("would load 3 rows") && text.stdout.contains(column), "{}", text.stdout);
    ensure!(!text.stdout.contains('\u{1b}'), "a pipe gets no colors");
    assert_eq!(site.tables().await?, 0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn plan_writes_nothing(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    let path = site.file("orders.csv", ORDERS)?;
    let plan = site.plan(&site.settings(), &[&path]).await?.ensure_code(0)?.json()?;
    assert_eq!((&plan["outcome"], &plan["table"]["exists"]), (&json!("loaded"), &json!(false)), "{plan}");
    assert_eq!(site.tables().await?, 0, "neither the table nor the ledger is created");
    site.load(&site.settings(), &[&path]).await?.ensure_code(0)?;
    let wider = site.file("wider.csv", "id,price,note,color\n4,1,x,red\n")?;
    let refused = site.plan(&site.settings(), &[&wider]).await?.ensure_code(2)?.json()?;
    assert_eq!(refused["error"]["kind"], json!("table_mismatch"), "{refused}");
    let settings = site.settings().with("UNKNOWN_COLUMNS", "add");
    let added = site.plan(&settings, &[&wider]).await?.ensure_code(0)?.json()?;
    ensure!(added["table"]["sql"][0].as_str().is_some_and(|sql| sql.contains("ADD COLUMN")), "{added}");
    assert_eq!((site.rows().await?, site.states().await?), (3, vec!["loaded".to_owned()]));
    site.load(&settings, &[&wider]).await?.ensure_code(0)?;
    assert_eq!(site.rows().await?, 4);
    Ok(())
}

#[tokio::test]
async fn standard_input_is_planned() -> Result<()> {
    let plan = Running::start(&Settings::default(), &["plan", "-", "--json"])?.finish(ORDERS.as_bytes()).await?;
    let plan = plan.ensure_code(0)?.json()?;
    assert_eq!((&plan["file"], &plan["rows_parsed"]), (&json!("-"), &json!(3)), "{plan}");
    let none = Running::start(&Settings::default(), &["plan", "-", "--json"])?.finish(b"").await?.ensure_code(0)?;
    assert_eq!(none.json()?["rows_parsed"], json!(0));
    Ok(())
}

#[rstest]
#[case("mysql", "mysql://")]
#[case("mariadb", "mariadb://")]
#[case("postgres", "postgres://")]
#[tokio::test]
async fn next_command_fits_engine_and_table(#[case] engine: &str, #[case] scheme: &str) -> Result<()> {
    let none = Settings::default();
    let plan = async |arguments: &[&str]| -> Result<String> {
        let all = [&["plan", "-", "--engine", engine], arguments].concat();
        let ended = Running::start(&none, &all)?.finish(ORDERS.as_bytes()).await?.ensure_code(0)?;
        Ok(ended.stderr)
    };
    let start = format!("next: spillway plan - --to {scheme}USER@HOST/DATABASE --table ");
    let hint = plan(&[]).await?;
    ensure!(hint.contains(&format!("{start}NAME (standard input names no table)")), "{hint}");
    assert_eq!(plan(&["--table", "orders"]).await?, format!("{start}orders\n"));
    Ok(())
}

#[tokio::test]
async fn file_that_would_not_load_exits_with_2() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    let path = site.file("bad.csv", "a,b\n1,2\n3\n")?;
    let ended = spillway(&Settings::default(), &["plan", &path, "--json"]).await?.ensure_code(2)?;
    let plan = ended.json()?;
    assert_eq!((&plan["outcome"], &plan["error"]["record"]), (&json!("failed"), &json!(2)), "{plan}");
    let rejecting = ["plan", &path, "--json", "--set", "MAX_REJECTS=1"];
    let plan = spillway(&Settings::default(), &rejecting).await?.ensure_code(0)?.json()?;
    assert_eq!((&plan["rows_parsed"], &plan["rows_rejected"]), (&json!(2), &json!(1)), "{plan}");
    assert_eq!(plan["rejects"]["first"][0]["record"], json!(2), "{plan}");
    let missing = spillway(&Settings::default(), &["plan", "/no/such/file.csv", "--json"]).await?.ensure_code(1)?;
    assert_eq!(missing.json()?["error"]["kind"], json!("source_missing"));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn values_that_do_not_fit_are_counted(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let site = Site::on(engine).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, qty SMALLINT NULL, code VARCHAR(3) NULL)"))
        .await?;
    let path = site.file("orders.csv", "id,qty,code\n1,70000,abcd\n2,5,abc\nx,6,secret\n4,7,d\n")?;
    let ended = site.plan(&site.settings(), &[&path]).await?.ensure_code(2)?;
    let plan = ended.json()?;
    assert_eq!(plan["values"]["by_column"], json!({"code": 2, "id": 1, "qty": 1}), "{plan}");
    assert_eq!((&plan["values"]["rows"], &plan["values"]["values"]), (&json!(2), &json!(4)));
    assert_eq!(plan["values"]["first"][0]["column"], json!("qty"));
    ensure!(!ended.stdout.contains("secret") && !ended.stderr.contains("secret"), "{ended:?}");
    let settings = site.settings().with("MAX_REJECTS", 2);
    let plan = site.plan(&settings, &[&path]).await?.ensure_code(0)?.json()?;
    let loaded = report(&site.load(&settings, &[&path]).await?.ensure_code(0)?)?;
    assert_eq!((&plan["rows_parsed"], &plan["rows_rejected"]), (&loaded["rows_parsed"], &loaded["rows_rejected"]));
    assert_eq!(site.rows().await?, 2);
    Ok(())
}

/// The heading of the list counts values and records, with a plural only where it belongs.
#[tokio::test]
async fn values_that_do_not_fit_have_a_readable_heading() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, qty SMALLINT NULL)")).await?;
    for (rows, heading) in [
        ("1,a\n2,3\n", "  1 value that does not fit, in 1 record (qty 1)\n"),
        ("x,a\n2,3\n", "  2 values that do not fit, in 1 record (id 1, qty 1)\n"),
        ("x,1\n2,a\n", "  2 values that do not fit, in 2 records (id 1, qty 1)\n"),
    ] {
        let path = site.file("orders.csv", format!("id,qty\n{rows}"))?;
        let ended = spillway(&site.settings(), &["plan", &path, "--table", TABLE]).await?.ensure_code(2)?;
        ensure!(ended.stdout.contains(heading), "{}", ended.stdout);
    }
    let bad = site.file("bad.csv", "id,qty\n1\n2,3\n")?;
    let arguments = ["plan", &bad, "--table", TABLE, "--set", "MAX_REJECTS=1"];
    let ended = spillway(&site.settings(), &arguments).await?.ensure_code(0)?;
    ensure!(ended.stdout.contains("  1 bad record\n"), "{}", ended.stdout);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn table_of_another_letter_case_is_named(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("8388608", "0")] buffer_bytes: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let settings = site.settings().with("BUFFER_MAX_BYTES", buffer_bytes);
    site.sql("CREATE TABLE {schema}.invoices (id INT NULL)").await?;
    let path = site.file("in.csv", "id\n1\n")?;
    let names = |hint: &Value| {
        hint.as_str().is_some_and(|hint| hint.contains("table Invoices is new") && hint.contains("the table invoices,"))
    };
    let plan = spillway(&settings, &["plan", &path, "--json", "--table", "Invoices"]).await?.ensure_code(0)?.json()?;
    ensure!(names(&plan["hint"]), "{plan}");
    let loaded = spillway(&settings, &["load", &path, "--json", "--table", "Invoices"]).await?.ensure_code(0)?;
    ensure!(names(&report(&loaded)?["hint"]), "{loaded:?}");
    // The table exists now, and the user has been told.
    let more = site.file("more.csv", "id\n2\n")?;
    let plan = spillway(&settings, &["plan", &more, "--json", "--table", "Invoices"]).await?.ensure_code(0)?.json()?;
    assert_eq!(plan["hint"], Value::Null, "{plan}");
    let other = spillway(&settings, &["plan", &more, "--json", "--table", "others"]).await?.ensure_code(0)?.json()?;
    assert_eq!(other["hint"], Value::Null, "{other}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn wider_type_that_does_not_exist_names_the_record_that_needs_it(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let site = Site::on(engine).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, day DATE NULL)")).await?;
    let settings = site.settings().with("CHANGED_TYPES", "widen");
    let cases = [
        (
            "id,day\n1,2024-01-01 10:00:00\n2,2024-01-02 11:00:00\n3,soon\n",
            "the value in record 3 is not a date with a time of day",
        ),
        ("id,day\n3000000000,2024-01-01\n,2024-01-02\n", "keeps the type of a NOT NULL column"),
    ];
    for (body, reason) in cases {
        let path = site.file("orders.csv", body)?;
        let ended = site.load(&settings, &[&path]).await?.ensure_code(1)?;
        ensure!(ended.stderr.contains(reason), "{}", ended.stderr);
        let plan = site.plan(&settings, &[&path]).await?.ensure_code(2)?.json()?;
        ensure!(plan["error"]["message"].as_str().is_some_and(|message| message.contains(reason)), "{plan}");
    }
    assert_eq!(site.rows().await?, 0);
    Ok(())
}

/// Points between thousands are in the hint, also if the file is read once.
#[rstest]
#[tokio::test]
async fn numbers_that_may_be_thousands_have_a_hint(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("8388608", "0")] buffer_bytes: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, price DECIMAL(9,3) NULL)")).await?;
    let settings = site.settings().with("BUFFER_MAX_BYTES", buffer_bytes);
    let hint = async |name: &str, body: &str| -> Result<Value> {
        let path = site.file(name, body)?;
        Ok(report(&site.load(&settings, &[&path]).await?.ensure_code(0)?)?["hint"].clone())
    };
    let found = hint("thousands.csv", "id;price\n1;1.500\n2;12\n3;2.750\n").await?;
    let expected = "all numbers with a point in price have three digits after it";
    assert_eq!(found.as_str().map(|hint| hint.matches(expected).count()), Some(1), "{found}");
    assert_eq!(hint("prices.csv", "id;price\n1;1.500\n2;12\n3;2.75\n").await?, Value::Null);
    assert_eq!(hint("weights.csv", "id,price\n1,1.500\n2,12\n3,2.750\n").await?, Value::Null);
    Ok(())
}

#[tokio::test]
async fn hint_names_the_setting_that_may_be_wrong() -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} (id INT NOT NULL, qty INT NULL, day DATE NULL)")).await?;
    for (body, arguments, expected) in [
        (
            "id,qty,day\n1,2,2024-01-01\n",
            &["--set", "CSV_DELIMITER=semicolon"][..],
            "correct the setting that the message names",
        ),
        ("id~qty~day\n1~2~2024-01-01\n", &[], "correct CSV_DELIMITER"),
        ("id,qty,day\n1,-,2024-01-01\n", &[], "set NULL_VALUES"),
        ("id,qty,day\n1,2,01/02/2024\n", &[], "make the change that the message names"),
    ] {
        let path = site.file("orders.csv", body)?;
        let ended = site.load(&site.settings(), &[&[&*path], arguments].concat()).await?.ensure_code(1)?;
        ensure!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
    }
    Ok(())
}

/// Files with every kind of value, a bad record, other formats, and values that only some databases store.
const FILES: [(&str, &[u8]); 13] = [
    ("types.csv", b"i,d,f,b,day,at,seen,t\n1,1.50,1e300,true,2024-01-02,2024-01-02 03:04:05,2024-01-02T03:04:05Z,x\n"),
    ("days.csv", b"a,b\n13/02/2024,1.2.2024 9:30\n01/02/2024,28.2.2024 17:00\n"),
    ("late.csv", b"a,b\n1,2024-01-01\n2,2024-01-02\nx,yesterday\n"),
    ("nulls.csv", b"a,b,c\n,NULL,\n1,N/A,\n"),
    ("tab.tsv", b"a\tb\n1\t2\n"),
    ("semicolon.csv", b"a;b\n1,5;2\n2,5;3\n"),
    ("events.jsonl", b"{\"id\":1,\"tags\":[1,2]}\n{\"id\":2,\"tags\":{\"a\":null}}\n"),
    ("numbers.jsonl", b"{\"id\":1,\"tags\":[1e400]}\n{\"id\":2,\"tags\":[123456789012345678901234567890.10]}\n"),
    ("array.json", b"[{\"a\":1},{\"a\":2,\"b\":\"x\"}]\n"),
    ("short.csv", b"a,b\n1,2\n3\n4,5\n"),
    ("quote.csv", b"a,b\n1,\"never closed\n2,3\n"),
    ("header.csv", b"a,b\n"),
    ("nul.csv", b"a,b\n1,x\0y\n2,z\n"),
];

#[rstest]
#[tokio::test]
async fn plan_says_what_load_does(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[values("", "MAX_REJECTS=1")] setting: &str,
) -> Result<()> {
    let set: Vec<&str> = if setting.is_empty() { Vec::new() } else { vec!["--set", setting] };
    for (name, content) in FILES {
        let site = Site::on(engine).await?;
        let path = site.file(name, content)?;
        ensure_load_is_planned(&site, &site.settings(), &[&[path.as_str()], set.as_slice()].concat())
            .await
            .with_context(|| format!("{name} {setting}"))?;
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn plan_says_what_load_does_with_cases(
    #[files("cases/*/case.json")] case: PathBuf,
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let folder = case.parent().context("a case has a folder")?;
    let case: Value = serde_json::from_slice(&std::fs::read(&case)?)?;
    let input = folder.join(case["input"].as_str().context("a case has an input")?);
    let site = Site::on(engine).await?;
    let setup = if engine == Engine::MariaDb { "setup.mysql.sql" } else { "setup.pg.sql" };
    set_up(&site, &folder.join(setup)).await?;
    let mut settings = site.settings();
    for line in std::fs::read_to_string(folder.join("settings.env")).unwrap_or_default().lines() {
        let (name, value) = line.split_once('=').context("a setting is NAME=VALUE")?;
        settings = settings.with(name, value);
    }
    ensure_load_is_planned(&site, &settings, &[&input.display().to_string()]).await
}

/// A load that would widen columns is planned with the statements for it; columns that cannot be wider fail as in a load.
#[rstest]
#[case::every_column(
    "id,amount,note,code\n7,0.5,abc,1\n9000000000,12345.678,longer,A-1\n",
    "",
    &["id", "amount", "note", "code"]
)]
#[case::one_column("id,note\n1,abc\n2,longer\n", "", &["note"])]
#[case::new_column("id,note,size\n70000,abc,1\n", "UNKNOWN_COLUMNS=add", &["id"])]
#[case::few_refused_values("id,note\n1,a\nx,b\n", "MAX_REJECTS=1", &[])]
#[case::more_refused_values("id,note\n1,a\nx,b\ny,longer\n", "MAX_REJECTS=1", &["id"])]
#[case::type_without_a_wider_one("id,day\n70000,2024-01-01\n2,yesterday\n", "", &["id"])]
#[tokio::test]
async fn plan_shows_the_types_that_a_load_widens(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] file: &str,
    #[case] setting: &str,
    #[case] wider: &[&str],
) -> Result<()> {
    let site = Site::on(engine).await?;
    let columns = "id SMALLINT NOT NULL, amount DECIMAL(4,1) DEFAULT 1.5, note VARCHAR(3), code INT, day DATE";
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} ({columns})")).await?;
    if engine == Engine::Postgres {
        site.sql(&format!("ALTER TABLE {{schema}}.{TABLE} OWNER TO {}", site.schema.user)).await?;
    }
    let path = site.file("wide.csv", file)?;
    let mut settings = site.settings().with("CHANGED_TYPES", "widen");
    if let Some((name, value)) = setting.split_once('=') {
        settings = settings.with(name, value);
    }
    let plan = site.plan(&settings, &[&path]).await?.json()?;
    let planned: Vec<&str> =
        plan["table"]["wider_columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(planned, wider, "{plan}");
    let statements = plan["table"]["sql"].as_array().context("statements")?;
    for (column, statement) in wider.iter().zip(statements) {
        ensure!(statement.as_str().is_some_and(|sql| sql.contains("COLUMN") && sql.contains(column)), "{statement}");
    }
    let text = spillway(&settings, &["plan", "--table", TABLE, &path]).await?.stdout;
    ensure!(text.contains("wider") != wider.is_empty(), "{text}");
    ensure_load_is_planned(&site, &settings, &[&path]).await
}

/// Columns that only the file or only the table has are planned as they are loaded.
#[rstest]
#[case::required_column("id INT NOT NULL", "size,color\n1,red\n", "add")]
#[case::new_columns("id INT", "size,color\n1,red\n", "add")]
#[case::json_column("id INT, extra TEXT", "id,size\n1,5\n2,6\n", "json")]
#[tokio::test]
async fn unknown_columns_are_planned_as_they_are_loaded(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
    #[case] columns: &str,
    #[case] file: &str,
    #[case] unknown: &str,
) -> Result<()> {
    let site = Site::on(engine).await?;
    let json = if engine == Engine::Postgres { "JSONB" } else { "JSON" };
    site.sql(&format!("CREATE TABLE {{schema}}.{TABLE} ({})", columns.replace("TEXT", json))).await?;
    if engine == Engine::Postgres {
        site.sql(&format!("ALTER TABLE {{schema}}.{TABLE} OWNER TO {}", site.schema.user)).await?;
    }
    let path = site.file("unknown.csv", file)?;
    ensure_load_is_planned(&site, &site.settings().with("UNKNOWN_COLUMNS", unknown), &[&path]).await
}

/// Creates the table of a case, if it has one.
async fn set_up(site: &Site, setup: &Path) -> Result<()> {
    let text = std::fs::read_to_string(setup).unwrap_or_default();
    for statement in text.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        site.sql(&statement.replace("CREATE TABLE t ", &format!("CREATE TABLE {{schema}}.{TABLE} "))).await?;
    }
    Ok(())
}

/// Plans a load, loads, and compares the outcome, the counts and the types of the table.
pub(crate) async fn ensure_load_is_planned(site: &Site, settings: &Settings, arguments: &[&str]) -> Result<()> {
    let planned = site.plan(settings, arguments).await?;
    let plan = planned.json()?;
    let loaded = site.load(settings, arguments).await?;
    match plan["outcome"].as_str() {
        Some("loaded") => {
            let report = report(&loaded)?;
            ensure!(planned.code == Some(0) && loaded.code == Some(0), "{planned:?} {loaded:?}");
            for count in ["rows_parsed", "rows_rejected"] {
                ensure!(plan[count] == report[count], "{count}: {planned:?} {loaded:?}");
            }
        }
        Some("failed") => {
            ensure!(planned.code == Some(2) && loaded.code == Some(1), "{planned:?} {loaded:?}");
            for part in ["kind", "record", "column"] {
                ensure!(plan["error"][part] == error(&loaded)?[part], "{part}: {planned:?} {loaded:?}");
            }
            return Ok(());
        }
        _ => anyhow::bail!("another outcome: {planned:?}"),
    }
    // After the load, a plan describes the columns of the live table.
    let live = site.plan(settings, arguments).await?.json()?;
    for (column, other) in
        plan["columns"].as_array().into_iter().flatten().zip(live["columns"].as_array().into_iter().flatten())
    {
        let (planned, live) = (sql_type(&column["table_type"]), sql_type(&other["table_type"]));
        ensure!(live.starts_with(&planned), "{column} {other}");
    }
    if !plan["columns"].as_array().is_none_or(Vec::is_empty) {
        ensure!(live["outcome"] == json!("already_loaded"), "{live}");
    }
    Ok(())
}

/// A type in SQL, in the words of the server.
fn sql_type(kind: &Value) -> String {
    let text = kind.as_str().unwrap_or_default().to_lowercase();
    let text = text.split(" character set ").next().unwrap_or_default().to_owned();
    match text.strip_prefix("timestamptz(6)") {
        Some(_) => "timestamp(6) with time zone".to_owned(),
        None => text,
    }
}

/// A workbook that openpyxl has written, and an archive that contains it.
const WORKBOOK: &[u8] = include_bytes!("../../crates/formats/src/detect/testdata/openpyxl.xlsx");
const ARCHIVE: &[u8] = include_bytes!("../../crates/formats/src/detect/testdata/openpyxl.zip");

const SAVE_SHEETS: &str = "save each sheet as CSV in UTF-8";

#[rstest]
#[case::workbook("orders.csv", WORKBOOK, "the object is an Excel workbook", SAVE_SHEETS)]
#[case::own_name("orders.xlsx", WORKBOOK, "the object is an Excel workbook", SAVE_SHEETS)]
#[case::archive("orders.zip", ARCHIVE, "the object is an Excel workbook", SAVE_SHEETS)]
#[case::pdf("orders.csv", b"%PDF-1.7\n1 0 obj\n", "the object is a PDF document", "upload the data as CSV")]
#[case::image("orders.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "the object is a PNG image", "upload the data as CSV")]
#[tokio::test]
async fn plan_and_load_reject_a_file_that_is_not_data(
    #[case] name: &str,
    #[case] body: &[u8],
    #[case] reason: &str,
    #[case] advice: &str,
) -> Result<()> {
    let site = Site::on(Engine::MariaDb).await?;
    let path = site.file(name, body)?;
    let plan = site.plan(&site.settings(), &[&path]).await?.ensure_code(2)?.json()?;
    let message = plan["error"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains(reason) && message.contains(advice), "{plan}");
    assert_eq!(site.tables().await?, 0);
    let loaded = site.load(&site.settings(), &[&path]).await?;
    ensure!(loaded.stdout.contains(reason), "{}", loaded.stdout);
    assert_eq!((site.tables().await?, site.states().await?.len()), (2, 0), "an empty ledger, and the attempt history");
    Ok(())
}
