//! What settings are read, and what is refused with which words.

use proptest::prelude::*;
use rstest::rstest;
use secrecy::ExposeSecret;

use super::vars;
use super::{
    CredentialSettings, DefaultRequest, Engine, Environment, FallbackFormat, IngestSettings, KeyColumn, LoadMode,
    LogFormat, LogSettings, PipelineConfig, PrefixMode, TaskSettings, Tls, TriggerSettings,
};
use crate::error::ErrorKind;
use crate::pattern::SPECIAL_NAMES;

/// The least that a task needs.
const BASE: [(&str, &str); 6] = [
    ("S3_BUCKET", "b"),
    ("RDS_TABLE", "orders"),
    ("RDS_HOST", "db.example"),
    ("RDS_USER", "loader"),
    ("RDS_PASSWORD", "pa55"),
    ("RDS_DB", "shop"),
];

const ECS: [(&str, &str); 5] = [
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
    let error = TaskSettings::read(environment).expect_err("these settings are refused");
    assert_eq!(error.kind(), ErrorKind::Settings);
    error.to_string()
}

#[test]
fn the_least_is_enough_and_defaults_are_the_documented_ones() {
    let settings = TaskSettings::read(&with(&[])).unwrap();
    let context = settings.context;
    assert_eq!(context.region, "us-east-1");
    assert_eq!((context.prefixes.upload[0].as_str(), context.prefixes.lease.as_str()), ("uploads/", "lease/"));
    assert_eq!(context.glue.table, "ingest_fallback_table");
    assert_eq!(context.glue.format, FallbackFormat::Parquet);
    assert_eq!(context.database.retry_budget.as_secs(), 150);
    assert_eq!(context.files.limits.buffer_max_bytes, 8 << 20);
    assert_eq!(
        settings.work,
        DefaultRequest::Prefix { bucket: "b".into(), prefixes: vec!["uploads/".into()], mode: PrefixMode::All }
    );
    let Tls::Verify { ca_pem } = context.database.options.tls else { panic!("TLS is verified by default") };
    assert_eq!(memchr::memmem::find_iter(&ca_pem, b"-----BEGIN CERTIFICATE-----").count(), 120);
}

#[rstest]
#[case(&[("CSV_MODE", "newest")], "CSV_MODE is \"newest\"; it takes all or latest")]
#[case(&[("RDS_PORT", "70000")], "RDS_PORT is \"70000\"; it takes a number from 1 to 65535")]
#[case(&[("RDS_PORT", "0")], "RDS_PORT is \"0\"; it takes a number from 1 to 65535")]
#[case(&[("RDS_PORT", "3306x")], "RDS_PORT is \"3306x\"; it takes a number from 1 to 65535")]
#[case(
    &[("RDS_TABLE", "")],
    "RDS_TABLE is not set, and neither is TABLE_PATTERN; set a table name of at most 64 characters, or patterns over keys \
     such as uploads/{table}/**, with blanks or commas between"
)]
#[case(
    &[("TABLE_PATTERN", "uploads/**")],
    "TABLE_PATTERN is \"uploads/**\", and uploads/** names no table; name a part {table}, or append => and a table name; \
     it takes patterns over keys such as uploads/{table}/**, with blanks or commas between"
)]
#[case(
    &[("TABLE_PATTERN", "a/** => Log"), ("LEDGER_TABLE", "log")],
    "TABLE_PATTERN is \"a/** => Log\", and the table's name \"Log\" is the name of the ledger; it takes patterns over keys such as \
     uploads/{table}/**, with blanks or commas between"
)]
#[case(&[("S3_BUCKET", "")], "S3_BUCKET is not set; it takes a bucket's name (the bucket whose objects are loaded)")]
#[case(
    &[("PROCESSED_PREFIX", "uploads/done")],
    "PROCESSED_PREFIX is \"uploads/done/\", which lies inside UPLOAD_PREFIX (\"uploads/\"); it takes a key prefix outside the other prefixes"
)]
#[case(
    &[("LEASE_PREFIX", "failed")],
    "LEASE_PREFIX is \"failed/\", which lies inside FAILED_PREFIX (\"failed/\"); it takes a key prefix outside the other prefixes"
)]
#[case(
    &[("UPLOAD_PREFIX", "/in")],
    "UPLOAD_PREFIX is \"/in/\"; no prefix starts with a slash, and it takes key prefixes with commas between, none inside \
     another, or / for the whole bucket"
)]
#[case(
    &[("UPLOAD_PREFIX", "in/, other/,in/deep")],
    "UPLOAD_PREFIX is \"in/deep/\", which lies inside UPLOAD_PREFIX (\"in/\"); it takes key prefixes with commas between, \
     none inside another, or / for the whole bucket"
)]
#[case(
    &[("UPLOAD_PREFIX", "in/,/")],
    "UPLOAD_PREFIX is \"/\"; no prefix starts with a slash, and it takes key prefixes with commas between, none inside \
     another, or / for the whole bucket"
)]
#[case(
    &[("UPLOAD_PREFIX", "in/, failed/in/")],
    "UPLOAD_PREFIX is \"failed/in/\", which lies inside FAILED_PREFIX (\"failed/\"); it takes key prefixes with commas \
     between, none inside another, or / for the whole bucket"
)]
#[case(
    &[("KEY_COLUMNS", "loaded_at, year")],
    "KEY_COLUMNS is \"loaded_at, year\", and year is no part of a pattern in TABLE_PATTERN; it takes names of a pattern's \
     parts, source_bucket, source_key, source_row or loaded_at, with commas between"
)]
#[case(
    &[("KEY_COLUMNS", "loaded_at,loaded_at")],
    "KEY_COLUMNS is \"loaded_at, loaded_at\", and loaded_at stands there twice; it takes names of a pattern's parts, \
     source_bucket, source_key, source_row or loaded_at, with commas between"
)]
#[case(&[("FALLBACK_FORMAT", "orc")], "FALLBACK_FORMAT is \"orc\"; it takes parquet or csv")]
#[case(&[("GLUE_TABLE", "a.b")], "GLUE_TABLE is \"a.b\"; it takes 1 to 255 letters, digits, _ or -")]
#[case(&[("RDS_ENGINE", "oracle")], "RDS_ENGINE is \"oracle\"; it takes mysql, mariadb, postgres or postgresql")]
#[case(&[("RDS_TLS", "false")], "RDS_TLS is \"false\"; it takes verify or off")]
#[case(&[("LOAD_MODE", "upsert")], "LOAD_MODE is \"upsert\"; it takes append, replace or merge")]
#[case(
    &[("MERGE_KEY", "id")],
    "MERGE_KEY is \"id\"; it takes column names with commas between, each once, with LOAD_MODE=merge"
)]
#[case(
    &[("LOAD_MODE", "merge"), ("MERGE_KEY", "id, ID")],
    "MERGE_KEY is \"id,ID\"; it takes column names with commas between, each once, with LOAD_MODE=merge"
)]
#[case(&[("LEASE_SECONDS", "0")], "LEASE_SECONDS is \"0\"; it takes a number from 5 to 3600")]
#[case(
    &[("RDS_CA_FILE", "/nowhere/ca.pem")],
    "RDS_CA_FILE is \"/nowhere/ca.pem\", which cannot be read; it takes the path of a PEM file"
)]
#[case(
    &[("RDS_USER", ""), ("RDS_PASSWORD", "")],
    "RDS_SECRET_NAME is not set, and neither is RDS_USER, RDS_PASSWORD; set the name or ARN of a secret, or all of \
     RDS_HOST, RDS_USER, RDS_PASSWORD and RDS_DB"
)]
fn a_wrong_setting_is_refused_by_name(#[case] wrong: &[(&str, &str)], #[case] expected: &str) {
    assert_eq!(message(&with(wrong)), expected);
}

#[test]
fn a_merge_has_its_key_s_columns_or_the_table_s_own() {
    let mode =
        |more: &[(&str, &str)]| PipelineConfig::read(&with(more)).map(|context| context.database.options.load_mode);
    assert_eq!(mode(&[]).unwrap(), LoadMode::Append);
    assert_eq!(mode(&[("LOAD_MODE", "Merge")]).unwrap(), LoadMode::Merge { key: vec![] });
    let key = vec!["tenant".to_owned(), "id".to_owned()];
    assert_eq!(mode(&[("LOAD_MODE", "merge"), ("MERGE_KEY", "tenant, id")]).unwrap(), LoadMode::Merge { key });
}

#[test]
fn a_prefix_gets_its_slash_and_a_glue_name_its_case() {
    let context = PipelineConfig::read(&with(&[("UPLOAD_PREFIX", "in"), ("GLUE_TABLE", "Fall_Back")])).unwrap();
    assert_eq!((context.prefixes.upload[0].as_str(), context.glue.table.as_str()), ("in/", "fall_back"));
}

#[test]
fn tables_are_named_by_a_pattern_by_a_setting_or_by_both() {
    let tables = |more: &[(&str, &str)]| PipelineConfig::read(&with(more)).unwrap().database.tables;
    assert!(tables(&[]).patterns.is_empty());
    let both = tables(&[("TABLE_PATTERN", "uploads/{table}/**")]);
    assert_eq!((both.patterns.to_string().as_str(), both.default.as_deref()), ("uploads/{table}/**", Some("orders")));
    assert_eq!(tables(&[("TABLE_PATTERN", "uploads/{table}/**"), ("RDS_TABLE", "")]).default, None);
}

#[test]
fn files_may_arrive_in_several_places_or_in_the_whole_bucket() {
    let upload = |text: &str| PipelineConfig::read(&with(&[("UPLOAD_PREFIX", text)])).unwrap().prefixes.upload;
    assert_eq!(upload(" sale_events , inventory_events/,"), ["sale_events/", "inventory_events/"]);
    assert_eq!(upload("/"), [""]);
    let several = TaskSettings::read(&with(&[("UPLOAD_PREFIX", "a,b")])).unwrap().work;
    let DefaultRequest::Prefix { prefixes, .. } = several else { panic!("no key is named") };
    assert_eq!(prefixes, ["a/", "b/"]);
}

#[test]
fn a_part_of_a_key_is_never_called_like_a_column_of_another_meaning() {
    for name in SPECIAL_NAMES {
        let column = KeyColumn::of(name);
        assert!(!matches!(column, KeyColumn::Part(_)) && column.name() == name, "{name}");
    }
}

#[test]
fn prefixes_that_only_start_alike_are_two() {
    assert!(PipelineConfig::read(&with(&[("PROCESSED_PREFIX", "uploads-done")])).is_ok());
}

#[test]
fn inline_credentials_win_over_a_secret() {
    let context = PipelineConfig::read(&with(&[("RDS_SECRET_NAME", "prod/db")])).unwrap();
    let CredentialSettings::Inline(credentials) = context.database.credentials else { panic!("inline wins") };
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
fn the_engine_is_named_or_known_by_its_port(#[case] set: &[(&str, &str)], #[case] expected: (Engine, u16)) {
    let context = PipelineConfig::read(&with(set)).unwrap();
    let CredentialSettings::Inline(credentials) = context.database.credentials else { panic!("inline") };
    assert_eq!((credentials.engine, credentials.port), expected);
}

#[test]
fn a_secret_keeps_what_fills_in_for_its_fields() {
    let context = PipelineConfig::read(&with(&[("RDS_SECRET_NAME", "prod/db"), ("RDS_PASSWORD", "")])).unwrap();
    let CredentialSettings::Secret(secret) = context.database.credentials else { panic!("the secret is read") };
    assert_eq!((secret.name.as_str(), secret.host.as_deref(), secret.port), ("prod/db", Some("db.example"), None));
}

#[test]
fn a_key_wins_over_a_prefix() {
    let named = [("CSV_KEY", "in/a b.csv"), ("CSV_VERSION_ID", "v1"), ("CSV_PREFIX", "in/"), ("CSV_MODE", "Latest")];
    let DefaultRequest::Object(object) = TaskSettings::read(&with(&named)).unwrap().work else {
        panic!("the key wins")
    };
    assert_eq!((object.key.as_str(), object.version_id.as_deref()), ("in/a b.csv", Some("v1")));
    let DefaultRequest::Prefix { prefixes, mode, .. } = TaskSettings::read(&with(&named[2..])).unwrap().work else {
        panic!("the prefix is next")
    };
    assert_eq!((prefixes, mode), (vec!["in/".to_owned()], PrefixMode::Latest));
}

#[test]
fn the_ingest_function_has_standing_work_only_when_it_is_named() {
    assert_eq!(IngestSettings::read(&with(&[])).unwrap().standing_work, None);
    assert!(IngestSettings::read(&with(&[("CSV_PREFIX", "in/")])).unwrap().standing_work.is_some());
}

#[test]
fn a_cluster_needs_the_rest_and_lists_may_have_blanks() {
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
#[case(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG"), ("RUST_LOG", "aws=trace")], "warn,spillway=debug", LogFormat::Json)]
#[case(&[("AWS_LAMBDA_LOG_FORMAT", "Text")], "warn,spillway=info", LogFormat::Text)]
#[case(&[("AWS_LAMBDA_LOG_FORMAT", "Text"), ("LOG_FORMAT", "json")], "warn,spillway=info", LogFormat::Json)]
fn log_settings(#[case] set: &[(&str, &str)], #[case] filter: &str, #[case] format: LogFormat) {
    assert_eq!(LogSettings::read(&Environment::of(set)).unwrap(), LogSettings { filter: filter.into(), format });
}

#[test]
fn a_worker_is_named_by_where_it_runs() {
    let name = |set: &[(&str, &str)]| Environment::of(set).worker("task");
    let process = std::process::id();
    assert_eq!(name(&[]), format!("task on local, process {process}"));
    let both = [("HOSTNAME", "h"), ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/20/[$LATEST]1")];
    assert_eq!(name(&both), format!("task on 2026/11/20/[$LATEST]1, process {process}"));
}

#[test]
fn an_unknown_log_level_is_refused() {
    let error = LogSettings::read(&Environment::of(&[("LOG_LEVEL", "loud")])).unwrap_err();
    assert_eq!(error.to_string(), "LOG_LEVEL is \"loud\"; it takes trace, debug, info, warn, error or off");
}

proptest! {
    #[test]
    fn no_value_of_any_variable_panics_or_shows_the_password(
        index in 0..vars::ALL.len(), value in "\\PC{0,40}", password in "[a-z]{12}",
    ) {
        let name = vars::ALL[index].name;
        let environment = with(&[&ECS[..], &[("RDS_PASSWORD", &password), (name, &value)]].concat());
        let shown = [
            format!("{:?}", TaskSettings::read(&environment).map(|settings| settings.context.database.credentials)),
            format!("{:?}", TriggerSettings::read(&environment).map(|settings| settings.launch)),
        ];
        prop_assert!(value.contains(&password) || !shown.concat().contains(&password));
    }
}
