//! Values of settings, and messages for invalid ones.

use std::collections::BTreeSet;
use std::ffi::OsString;

use proptest::prelude::*;
use rstest::rstest;
use secrecy::ExposeSecret;

use super::{Environment, IngestSettings, TaskSettings, TriggerSettings, settings};
use crate::destination::{Engine, LoadMode, Mirror, Tls};
use crate::error::ErrorKind;
use crate::key_columns::KeyColumn;
use crate::pattern::SPECIAL_NAMES;
use crate::pipeline::{DatabaseAccess, PipelineConfig};
use crate::request::{Request, Selection};
use crate::secret::CredentialSettings;
use crate::telemetry::{LogFormat, LogSettings};
use spillway_formats::TextEncoding;

/// The settings that a task requires.
pub(super) const BASE: [(&str, &str); 6] = [
    ("S3_BUCKET", "b"),
    ("RDS_TABLE", "orders"),
    ("RDS_HOST", "db.example"),
    ("RDS_USER", "loader"),
    ("RDS_PASSWORD", "pa55"),
    ("RDS_DB", "shop"),
];

pub(super) const ECS: [(&str, &str); 5] = [
    ("ECS_CLUSTER", "c"),
    ("TASK_DEFINITION", "spillway:3"),
    ("CONTAINER_NAME", "task"),
    ("SUBNETS", " subnet-1 , subnet-2,"),
    ("SECURITY_GROUPS", "sg-1"),
];

fn with(more: &[(&str, &str)]) -> Environment {
    Environment::of(&[&BASE[..], more].concat())
}

fn message(environment: &Environment) -> String {
    let error = TaskSettings::read(environment).expect_err("these settings are invalid");
    assert_eq!(error.kind(), ErrorKind::Settings);
    error.to_string()
}

#[test]
fn glue_job_is_off_unless_it_is_named() {
    let read = |more: &[(&str, &str)]| TaskSettings::read(&with(more)).unwrap().pipeline;
    let off = read(&[("GLUE_MIN_BYTES", "5"), ("GLUE_JOB_PREFIX", "uploads/glue/")]);
    assert_eq!((off.glue_job, off.prefixes.glue_job), (None, None));
    let on = read(&[("GLUE_JOB", "large-files")]);
    let job = on.glue_job.unwrap();
    assert_eq!((job.job.as_str(), job.min_bytes, job.prefix.as_str()), ("large-files", 100 << 30, "glue/"));
    assert_eq!(on.prefixes.glue_job.as_deref(), Some("glue/"));
}

#[test]
fn required_settings_are_enough_and_defaults_apply() {
    let settings = TaskSettings::read(&with(&[])).unwrap();
    let pipeline = settings.pipeline;
    assert_eq!(pipeline.region, "us-east-1");
    assert_eq!((pipeline.prefixes.upload[0].as_str(), pipeline.prefixes.lease.as_str()), ("uploads/", "lease/"));
    assert_eq!(pipeline.glue.table, "ingest_fallback_table");
    assert_eq!(pipeline.database.retry_budget.as_secs(), 150);
    assert_eq!(pipeline.buffer_max_bytes, 8 << 20);
    assert_eq!(
        settings.request,
        Request::Prefix { bucket: "b".into(), prefixes: vec!["uploads/".into()], selection: Selection::All }
    );
    let Tls::Verify { ca_pem } = pipeline.database.options.tls else { panic!("TLS is verified by default") };
    assert_eq!(memchr::memmem::find_iter(&ca_pem, b"-----BEGIN CERTIFICATE-----").count(), 86);
}

#[rstest]
#[case(&[("CSV_MODE", "newest")], "CSV_MODE is \"newest\"; it accepts all or latest")]
#[case(&[("RDS_PORT", "70000")], "RDS_PORT is \"70000\"; it accepts a port number from 1 to 65535")]
#[case(&[("RDS_PORT", "0")], "RDS_PORT is \"0\"; it accepts a port number from 1 to 65535")]
#[case(&[("RDS_PORT", "3306x")], "RDS_PORT is \"3306x\"; it accepts a port number from 1 to 65535")]
#[case(
    &[("RDS_TABLE", "")],
    "none of RDS_TABLE, TABLE_PATTERN and SPILLWAY_CONFIG is set; set RDS_TABLE to a table name of at most 64 characters, or schema.table, or TABLE_PATTERN to \
     patterns for keys such as uploads/{table}/**, separated by spaces or commas"
)]
#[case(
    &[("TABLE_PATTERN", "uploads/**")],
    "TABLE_PATTERN is \"uploads/**\": uploads/** names no table; name a part {table}, or append => and a table name; \
     it accepts patterns for keys such as uploads/{table}/**, separated by spaces or commas"
)]
#[case(
    &[("TABLE_PATTERN", "a/** => Log"), ("LEDGER_TABLE", "log")],
    "TABLE_PATTERN is \"a/** => Log\": the table name \"Log\" is the name of the ledger; it accepts patterns for keys such as \
     uploads/{table}/**, separated by spaces or commas"
)]
#[case(
    &[("RDS_TABLE", "Spillway_Ledger")],
    "RDS_TABLE is \"Spillway_Ledger\": it is the name of the ledger; it accepts a table name of at most 64 characters, or schema.table"
)]
#[case(&[("S3_BUCKET", "")], "S3_BUCKET is not set; it accepts the name of a bucket")]
#[case(
    &[("PROCESSED_PREFIX", "uploads/done")],
    "PROCESSED_PREFIX is \"uploads/done/\": it is inside UPLOAD_PREFIX (\"uploads/\"); it accepts a key prefix outside the \
     other prefixes"
)]
#[case(
    &[("LEASE_PREFIX", "failed")],
    "LEASE_PREFIX is \"failed/\": it is inside FAILED_PREFIX (\"failed/\"); it accepts a key prefix outside the other prefixes"
)]
#[case(
    &[("UPLOAD_PREFIX", "/in")],
    "UPLOAD_PREFIX is \"/in\": \"/in\" starts with a slash; it accepts key prefixes separated by commas, none inside \
     another prefix, or / for the whole bucket"
)]
#[case(
    &[("UPLOAD_PREFIX", "in/, other/,in/deep")],
    "UPLOAD_PREFIX is \"in/deep/\": it is inside UPLOAD_PREFIX (\"in/\"); it accepts key prefixes separated by commas, \
     none inside another prefix, or / for the whole bucket"
)]
#[case(
    &[("UPLOAD_PREFIX", "in/,/")],
    "UPLOAD_PREFIX is \"in/,/\": \"/\" starts with a slash; it accepts key prefixes separated by commas, none inside \
     another prefix, or / for the whole bucket"
)]
#[case(
    &[("UPLOAD_PREFIX", "in/, failed/in/")],
    "UPLOAD_PREFIX is \"failed/in/\": it is inside FAILED_PREFIX (\"failed/\"); it accepts key prefixes separated by \
     commas, none inside another prefix, or / for the whole bucket"
)]
#[case(
    &[("KEY_COLUMNS", "loaded_at, year")],
    "KEY_COLUMNS is \"loaded_at, year\": year is not a part of a pattern in TABLE_PATTERN; it accepts names of pattern parts, \
     source_bucket, source_key, source_row or loaded_at, separated by commas"
)]
#[case(
    &[("KEY_COLUMNS", "loaded_at,loaded_at")],
    "KEY_COLUMNS is \"loaded_at, loaded_at\": loaded_at is listed twice; it accepts names of pattern parts, source_bucket, \
     source_key, source_row or loaded_at, separated by commas"
)]
#[case(&[("OUTPUT", "both")], "OUTPUT is \"both\": it needs LAKE_PREFIX, which is not set; it accepts database, lake or both")]
#[case(
    &[("OUTPUT", "lake"), ("LAKE_PREFIX", "lake/"), ("LOAD_MODE", "replace")],
    "OUTPUT is \"lake\": the lake keeps every row, which needs LOAD_MODE=append; it accepts database, lake or both"
)]
#[case(
    &[("CATALOG_RAW", "true")],
    "CATALOG_RAW is \"true\": it needs AFTER_LOAD=keep, because the table is over the files where they are; it accepts true or false (also yes, on, 1, no, off, 0)"
)]
#[case(
    &[("RAW_DATABASE", "Spillway_Lake")],
    "RAW_DATABASE is \"spillway_lake\": it is also LAKE_DATABASE, whose tables have the same names; it accepts 1 to 255 letters, \
     digits, _ or -"
)]
#[case(
    &[("RAW_DATABASE", "one"), ("GLUE_DATABASE", "one")],
    "RAW_DATABASE is \"one\": it is also GLUE_DATABASE, whose tables have the same names; it accepts 1 to 255 letters, digits, _ \
     or -"
)]
#[case(
    &[("LAKE_PREFIX", "fallback/lake")],
    "LAKE_PREFIX is \"fallback/lake/\": it is inside GLUE_FALLBACK_PREFIX (\"fallback/\"); it accepts a key prefix outside the \
     other prefixes"
)]
#[case(
    &[("GLUE_JOB", "large-files"), ("GLUE_JOB_PREFIX", "uploads/glue")],
    "GLUE_JOB_PREFIX is \"uploads/glue/\": it is inside UPLOAD_PREFIX (\"uploads/\"); it accepts a key prefix outside the other \
     prefixes"
)]
#[case(&[("GLUE_JOB", "j"), ("GLUE_MIN_BYTES", "0")], "GLUE_MIN_BYTES is \"0\"; it accepts a number of bytes from 1")]
#[case(&[("FALLBACK_FORMAT", "orc")], "FALLBACK_FORMAT is \"orc\"; it accepts parquet")]
#[case(
    &[("FALLBACK_FORMAT", "csv")],
    "FALLBACK_FORMAT is \"csv\": Athena splits values with line breaks in CSV, so it is no longer written; it accepts parquet"
)]
#[case(&[("GLUE_TABLE", "a.b")], "GLUE_TABLE is \"a.b\"; it accepts 1 to 255 letters, digits, _ or -")]
#[case(&[("RDS_ENGINE", "oracle")], "RDS_ENGINE is \"oracle\"; it accepts mysql, mariadb, postgres, postgresql or redshift")]
#[case(&[("RDS_TLS", "false")], "RDS_TLS is \"false\"; it accepts verify or off")]
#[case(&[("LOAD_MODE", "upsert")], "LOAD_MODE is \"upsert\"; it accepts append, replace, merge, mirror or changes")]
#[case(
    &[("LOAD_MODE", "mirror"), ("MAX_REJECTS", "1")],
    "MAX_REJECTS is \"1\": with LOAD_MODE=mirror it must be 0, because a file without its bad records would delete their rows; it \
     accepts a number, or a share such as 1%"
)]
#[case(
    &[("LOAD_MODE", "merge"), ("MIRROR_SCOPE", "tenant")],
    "MIRROR_SCOPE is \"tenant\"; it accepts column names separated by commas, each once, with LOAD_MODE=mirror"
)]
#[case(&[("LOAD_MODE", "mirror"), ("MIRROR_MAX_DELETES", "101")], "MIRROR_MAX_DELETES is \"101\"; it accepts a number of percent from 0 to 100")]
#[case(
    &[("MERGE_KEY", "id")],
    "MERGE_KEY is \"id\"; it accepts column names separated by commas, each once, with LOAD_MODE=merge, mirror or changes"
)]
#[case(
    &[("LOAD_MODE", "merge"), ("MERGE_KEY", "id, ID")],
    "MERGE_KEY is \"id,ID\"; it accepts column names separated by commas, each once, with LOAD_MODE=merge, mirror or changes"
)]
#[case(&[("LEASE_SECONDS", "0")], "LEASE_SECONDS is \"0\"; it accepts a number of seconds from 5 to 3600")]
#[case(&[("CSV_DELIMITER", "\"")], "CSV_DELIMITER is \"\\\"\"; it accepts auto, comma, semicolon, tab, pipe, space, one ASCII character other than the quote, or its code, such as \\x01")]
#[case(&[("MAX_REJECTS", "101%")], "MAX_REJECTS is \"101%\"; it accepts a number, or a share such as 1%")]
#[case(&[("MAX_DECODED_BYTES", "0")], "MAX_DECODED_BYTES is \"0\"; it accepts a number of bytes from 1")]
#[case(
    &[("RDS_CA_FILE", "/nowhere/ca.pem")],
    "RDS_CA_FILE is \"/nowhere/ca.pem\": the file cannot be read; it accepts the path of a PEM file"
)]
#[case(
    &[("RDS_USER", ""), ("RDS_PASSWORD", "")],
    "RDS_SECRET_NAME is not set, and RDS_USER, RDS_PASSWORD is missing; set RDS_SECRET_NAME to the name or ARN of a secret, or \
     set all of RDS_HOST, RDS_USER, RDS_PASSWORD and RDS_DB"
)]
fn an_invalid_setting_is_rejected_by_name(#[case] wrong: &[(&str, &str)], #[case] expected: &str) {
    assert_eq!(message(&with(wrong)), expected);
}

#[test]
fn a_value_that_is_not_text_is_rejected_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let environment = Environment::with_lookup(|name| (name == "S3_BUCKET").then(|| OsString::from_vec(vec![0xff])));
    assert_eq!(message(&environment), "S3_BUCKET is not valid UTF-8; it accepts the name of a bucket");
}

#[test]
fn a_merge_key_is_named_or_left_to_the_table() {
    let mode =
        |more: &[(&str, &str)]| PipelineConfig::read(&with(more)).map(|pipeline| pipeline.database.options.load_mode);
    assert_eq!(mode(&[]).unwrap(), LoadMode::Append);
    assert_eq!(mode(&[("LOAD_MODE", "Merge")]).unwrap(), LoadMode::Merge { key: vec![] });
    let key = vec!["tenant".to_owned(), "id".to_owned()];
    let named = ("MERGE_KEY", "tenant, id");
    assert_eq!(mode(&[("LOAD_MODE", "merge"), named]).unwrap(), LoadMode::Merge { key: key.clone() });
    let mirror = Mirror { key: key.clone(), scope: vec![], max_deletes_percent: 10 };
    assert_eq!(mode(&[("LOAD_MODE", "mirror"), named]).unwrap(), LoadMode::Mirror(mirror));
    let more = [("LOAD_MODE", "mirror"), named, ("MIRROR_SCOPE", "tenant"), ("MIRROR_MAX_DELETES", "0")];
    let mirror = Mirror { key, scope: vec!["tenant".to_owned()], max_deletes_percent: 0 };
    assert_eq!(mode(&more).unwrap(), LoadMode::Mirror(mirror));
}

#[test]
fn a_prefix_gets_a_slash_and_a_glue_name_lower_case() {
    let pipeline = PipelineConfig::read(&with(&[("UPLOAD_PREFIX", "in"), ("GLUE_TABLE", "Fall_Back")])).unwrap();
    assert_eq!((pipeline.prefixes.upload[0].as_str(), pipeline.glue.table.as_str()), ("in/", "fall_back"));
}

#[test]
fn tables_come_from_patterns_a_setting_or_both() {
    let tables =
        |more: &[(&str, &str)]| PipelineConfig::read(&with(more)).unwrap().database.tables.current().routes.clone();
    assert!(tables(&[]).patterns.is_empty());
    let both = tables(&[("TABLE_PATTERN", "uploads/{table}/**")]);
    assert_eq!((both.patterns.to_string().as_str(), both.default.as_deref()), ("uploads/{table}/**", Some("orders")));
    assert_eq!(tables(&[("TABLE_PATTERN", "uploads/{table}/**"), ("RDS_TABLE", "")]).default, None);
}

#[test]
fn dot_in_rds_table_separates_the_schema() {
    let table = |text: &str| {
        let read = PipelineConfig::read(&with(&[("RDS_TABLE", text)]));
        read.map(|pipeline| pipeline.database.tables.current().routes.default.clone().unwrap())
    };
    let found = table("sales.Orders").unwrap();
    assert_eq!((found.schema(), found.own_name()), (Some("sales"), "Orders"));
    for text in ["a.b.c", "a.", ".b", "public.spillway_ledger"] {
        assert!(table(text).is_err(), "{text}");
    }
}

#[test]
fn uploads_have_several_prefixes_or_the_whole_bucket() {
    let upload = |text: &str| PipelineConfig::read(&with(&[("UPLOAD_PREFIX", text)])).unwrap().prefixes.upload;
    assert_eq!(upload(" sale_events , inventory_events/,"), ["sale_events/", "inventory_events/"]);
    assert_eq!(upload("/"), [""]);
    let several = TaskSettings::read(&with(&[("UPLOAD_PREFIX", "a,b")])).unwrap().request;
    let Request::Prefix { prefixes, .. } = several else { panic!("no key is named") };
    assert_eq!(prefixes, ["a/", "b/"]);
}

#[test]
fn special_column_names_are_not_parts_of_a_key() {
    for name in SPECIAL_NAMES {
        let column = KeyColumn::of(name);
        assert!(!matches!(column, KeyColumn::Part(_)) && column.name() == name, "{name}");
    }
}

#[test]
fn prefixes_with_a_common_start_are_different() {
    assert!(PipelineConfig::read(&with(&[("PROCESSED_PREFIX", "uploads-done")])).is_ok());
}

#[test]
fn inline_credentials_take_precedence_over_a_secret() {
    let pipeline = PipelineConfig::read(&with(&[("RDS_SECRET_NAME", "prod/db")])).unwrap();
    let DatabaseAccess::Login(CredentialSettings::Inline(credentials)) = pipeline.database.access else {
        panic!("inline credentials take precedence")
    };
    assert_eq!(
        (credentials.host.as_str(), credentials.port, credentials.user.as_str()),
        ("db.example", 3306, "loader")
    );
    assert_eq!(credentials.password.expose_secret(), "pa55");
}

#[rstest]
#[case(&[("RDS_PORT", "5432")], (Engine::Postgres, 5432))]
#[case(&[("RDS_ENGINE", "PostgreSQL")], (Engine::Postgres, 5432))]
#[case(&[("RDS_ENGINE", "mariadb"), ("RDS_PORT", "5432")], (Engine::MySql, 5432))]
#[case(&[("RDS_PORT", "3307")], (Engine::MySql, 3307))]
fn the_engine_is_named_or_follows_from_the_port(#[case] set: &[(&str, &str)], #[case] expected: (Engine, u16)) {
    let pipeline = PipelineConfig::read(&with(set)).unwrap();
    let DatabaseAccess::Login(CredentialSettings::Inline(credentials)) = pipeline.database.access else {
        panic!("inline")
    };
    assert_eq!((credentials.engine, credentials.port), expected);
}

#[test]
fn settings_complete_a_secret() {
    let pipeline = PipelineConfig::read(&with(&[("RDS_SECRET_NAME", "prod/db"), ("RDS_PASSWORD", "")])).unwrap();
    let DatabaseAccess::Login(CredentialSettings::Secret(secret)) = pipeline.database.access else {
        panic!("the secret is used")
    };
    assert_eq!((secret.name.as_str(), secret.host.as_deref(), secret.port), ("prod/db", Some("db.example"), None));
}

#[test]
fn a_key_takes_precedence_over_a_prefix() {
    let named = [("CSV_KEY", "in/a b.csv"), ("CSV_VERSION_ID", "v1"), ("CSV_PREFIX", "in/"), ("CSV_MODE", "Latest")];
    let Request::Object(object) = TaskSettings::read(&with(&named)).unwrap().request else {
        panic!("the key takes precedence")
    };
    assert_eq!((object.key.as_str(), object.version_id.as_deref()), ("in/a b.csv", Some("v1")));
    let Request::Prefix { prefixes, selection, .. } = TaskSettings::read(&with(&named[2..])).unwrap().request else {
        panic!("the prefix is next")
    };
    assert_eq!((prefixes, selection), (vec!["in/".to_owned()], Selection::Latest));
}

#[test]
fn task_runs_any_request() {
    let read = |text: &str| {
        TaskSettings::read(&with(&[("TASK_REQUEST", text), ("CSV_KEY", "in/a.csv")])).map(|settings| settings.request)
    };
    assert!(matches!(read(r#"{"sync": {}}"#).unwrap(), Request::Sync { .. }));
    assert!(matches!(read("").unwrap(), Request::Object(_)));
    for (text, expected) in
        [("{", "TASK_REQUEST is not a JSON document"), (r#"{"load": 1}"#, "TASK_REQUEST is not a valid request")]
    {
        let error = read(text).unwrap_err();
        assert!(error.kind() == ErrorKind::Settings && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_ingest_function_has_a_default_request_only_if_one_is_set() {
    assert_eq!(IngestSettings::read(&with(&[])).unwrap().default_request, None);
    assert!(IngestSettings::read(&with(&[("CSV_PREFIX", "in/")])).unwrap().default_request.is_some());
}

#[test]
fn a_cluster_needs_a_task_definition_and_lists_may_have_spaces() {
    assert_eq!(TriggerSettings::read(&with(&[])).unwrap().launch, None);
    let launch = TriggerSettings::read(&with(&ECS)).unwrap().launch.unwrap();
    assert_eq!(launch.subnets, ["subnet-1", "subnet-2"]);
    assert!(!launch.assign_public_ip);
    for missing in [1, 2] {
        let mut settings = ECS;
        settings[missing].1 = "";
        let error = TriggerSettings::read(&with(&settings)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} is not set", settings[missing].0)), "{error}");
    }
    let commas = with(&[&ECS[..], &[("SUBNETS", " , ")]].concat());
    assert!(TriggerSettings::read(&commas).unwrap_err().to_string().contains("SUBNETS"));
}

#[rstest]
#[case(&[], "warn,spillway=info", LogFormat::Json)]
#[case(&[("LOG_LEVEL", "WARNING"), ("LOG_FORMAT", "Text")], "warn,spillway=warn", LogFormat::Text)]
#[case(&[("LOG_LEVEL", "ERROR")], "error,spillway=error", LogFormat::Json)]
#[case(&[("LOG_LEVEL", "debug"), ("RUST_LOG", "aws=trace")], "aws=trace", LogFormat::Json)]
#[case(&[("AWS_LAMBDA_LOG_LEVEL", "INFO"), ("LOG_LEVEL", "WARN")], "warn,spillway=warn", LogFormat::Json)]
#[case(&[("AWS_LAMBDA_LOG_LEVEL", "INFO"), ("LOG_LEVEL", "TRACE")], "warn,spillway=info", LogFormat::Json)]
#[case(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG"), ("RUST_LOG", "aws=trace")], "warn,spillway=debug", LogFormat::Json)]
#[case(&[("AWS_LAMBDA_LOG_FORMAT", "Text")], "warn,spillway=info", LogFormat::Text)]
#[case(&[("AWS_LAMBDA_LOG_FORMAT", "Text"), ("LOG_FORMAT", "json")], "warn,spillway=info", LogFormat::Json)]
fn log_settings(#[case] set: &[(&str, &str)], #[case] filter: &str, #[case] format: LogFormat) {
    assert_eq!(LogSettings::read(&Environment::of(set)).unwrap(), LogSettings { filter: filter.into(), format });
}

#[test]
fn the_host_is_the_log_stream_or_the_host_name() {
    let host = |set: &[(&str, &str)]| Environment::of(set).host();
    let of_system = std::process::Command::new("uname").arg("-n").output().unwrap();
    assert_eq!(host(&[]), String::from_utf8(of_system.stdout).unwrap().trim_end());
    assert_eq!(host(&[("HOSTNAME", "h")]), "h");
    assert_eq!(
        host(&[("HOSTNAME", "h"), ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/20/[$LATEST]1")]),
        "2026/11/20/[$LATEST]1"
    );
}

#[test]
fn a_table_has_the_settings_of_the_environment() {
    let set = [
        ("TABLE_PATTERN", "in/{table}/**"),
        ("GLUE_TABLE", "spare"),
        ("LOAD_MODE", "merge"),
        ("MERGE_KEY", "id"),
        ("MAX_REJECTS", "5"),
    ];
    let pipeline = PipelineConfig::read(&with(&set)).unwrap();
    let table = pipeline.table(&"events".into(), "events/1.csv");
    assert_eq!((table.name.as_str(), table.glue.table.as_str()), ("events", "events"));
    assert_eq!(table.destination.load_mode, LoadMode::Merge { key: vec!["id".to_owned()] });
    assert_eq!(table.files, pipeline.files);
    assert_eq!(pipeline.table(&"orders".into(), "orders/1.csv").glue.table, "spare");
    assert_eq!(pipeline.key_parts("in/events/a.csv").unwrap().table, "events");
}

#[test]
fn an_unknown_log_level_is_rejected() {
    let error = LogSettings::read(&Environment::of(&[("LOG_LEVEL", "loud")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "LOG_LEVEL is \"loud\"; it accepts trace, debug, info, warn, error or off (also warning, fatal, critical)"
    );
}

#[test]
fn the_built_in_certificates_cover_the_documented_regions() {
    let (bundle, readme) = (include_str!("../../certs/rds-ca-bundle.pem"), include_str!("../../certs/README.md"));
    let name_of =
        |line: &str| line.strip_prefix("# Amazon RDS ").and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    let covered: BTreeSet<String> = bundle.lines().filter_map(name_of).collect();
    let listed = readme.split("Regions: ").nth(1).and_then(|rest| rest.split('.').next()).unwrap();
    let listed: BTreeSet<String> = listed.split(',').map(|region| region.trim().replace('\n', "")).collect();
    assert_eq!(covered, listed);
    let certificates = bundle.matches("-----BEGIN CERTIFICATE-----").count();
    assert_eq!(bundle.lines().filter(|line| line.starts_with("# ")).count(), certificates);
    let expired: Vec<&str> = bundle
        .lines()
        .filter_map(|line| line.rsplit_once(", until "))
        .filter(|(_, day)| *day < "2026-12")
        .map(|(name, _)| name)
        .collect();
    assert!(expired.is_empty(), "{expired:?}");
}

proptest! {
    #[test]
    fn no_value_of_any_setting_panics_or_shows_the_password(
        index in 0..settings::all().count(), value in "\\PC{0,40}", password in "[a-z]{12}",
    ) {
        let name = settings::all().nth(index).unwrap().info().name;
        let environment = with(&[&ECS[..], &[("RDS_PASSWORD", &password), (name, &value)]].concat());
        let shown = [
            format!("{:?}", TaskSettings::read(&environment).map(|settings| settings.pipeline.database.access)),
            format!("{:?}", TriggerSettings::read(&environment).map(|settings| settings.launch)),
        ];
        prop_assert!(value.contains(&password) || !shown.concat().contains(&password));
    }
}

#[rstest]
#[case::detected(&[], (None, None, None))]
#[case::only_doubled_quotes(&[("CSV_ESCAPE", "none")], (Some(b'"'), None, None))]
#[case::backslash(&[("CSV_ESCAPE", "\\"), ("CSV_COMMENT", "#"), ("CSV_SKIP_LINES", "3")], (Some(b'\\'), Some(b'#'), Some(3)))]
#[case::words_in_any_case(&[("CSV_ESCAPE", "Auto"), ("CSV_COMMENT", "AUTO"), ("CSV_SKIP_LINES", " auto ")], (None, None, None))]
fn csv_details_are_detected_or_set(
    #[case] more: &[(&str, &str)],
    #[case] expected: (Option<u8>, Option<u8>, Option<usize>),
) {
    let csv = PipelineConfig::read(&with(more)).unwrap().files.csv;
    assert_eq!((csv.escape, csv.comment, csv.skip_lines), expected);
}

#[test]
fn encodings_are_detected_or_named() {
    let encoding = |name: &str| PipelineConfig::read(&with(&[("CSV_ENCODING", name)])).unwrap().files.csv.encoding;
    assert_eq!((encoding("Auto"), encoding("UTF8")), (TextEncoding::Auto, TextEncoding::Utf8));
    assert!(matches!(encoding("latin1"), TextEncoding::Named(western) if western.name() == "windows-1252"));
    assert!(message(&with(&[("CSV_ENCODING", "latin")])).starts_with("CSV_ENCODING"));
}

#[rstest]
#[case(&[("CSV_ESCAPE", ";"), ("CSV_DELIMITER", ";")], "CSV_ESCAPE")]
#[case(&[("CSV_COMMENT", "\"")], "CSV_COMMENT")]
#[case(&[("CSV_COMMENT", "//")], "CSV_COMMENT")]
#[case(&[("CSV_SKIP_LINES", "-1")], "CSV_SKIP_LINES")]
fn csv_characters_must_differ(#[case] more: &[(&str, &str)], #[case] name: &str) {
    let message = message(&with(more));
    assert!(message.starts_with(name), "{message}");
}
