//! The settings of Redshift, and those that it does not support.

use rstest::rstest;

use super::{Environment, TaskSettings};
use crate::destination::{LoadMode, RedshiftKeys, RedshiftLogin, RedshiftServer, RedshiftSettings};
use crate::pipeline::{DatabaseAccess, PipelineConfig};

const REQUIRED: [(&str, &str); 5] = [
    ("S3_BUCKET", "b"),
    ("RDS_TABLE", "orders"),
    ("RDS_ENGINE", "Redshift"),
    ("REDSHIFT_WORKGROUP", "warehouse"),
    ("RDS_DB", "dev"),
];

fn read(more: &[(&str, &str)]) -> Result<PipelineConfig, String> {
    let environment = Environment::of(&[&REQUIRED[..], more].concat());
    TaskSettings::read(&environment).map(|settings| settings.pipeline).map_err(|error| error.to_string())
}

fn access(more: &[(&str, &str)]) -> RedshiftSettings {
    match read(more).unwrap().database.access {
        DatabaseAccess::Redshift(settings) => settings,
        DatabaseAccess::Login(_) => panic!("not Redshift"),
    }
}

#[test]
fn workgroup_and_database_are_enough() {
    let expected = RedshiftSettings {
        server: RedshiftServer::Workgroup("warehouse".into()),
        database: "dev".into(),
        login: RedshiftLogin::Caller,
        copy_role: "default".into(),
        copy_prefix: "copy/".into(),
    };
    assert_eq!(access(&[]), expected);
    let config = read(&[]).unwrap();
    assert_eq!(config.prefixes.copy.as_deref(), Some("copy/"));
    assert_eq!(config.database.options.redshift_keys, RedshiftKeys::default());
}

#[test]
fn cluster_has_a_user_and_a_secret_takes_precedence() {
    let cluster = [("REDSHIFT_WORKGROUP", ""), ("REDSHIFT_CLUSTER", "main"), ("RDS_USER", "loader")];
    let settings = access(&cluster);
    assert_eq!(settings.server, RedshiftServer::Cluster("main".into()));
    assert_eq!(settings.login, RedshiftLogin::User("loader".into()));
    let with_secret = [&cluster[..], &[("RDS_SECRET_NAME", "prod/redshift")]].concat();
    assert_eq!(access(&with_secret).login, RedshiftLogin::Secret("prod/redshift".into()));
}

#[test]
fn files_can_replace_a_table_or_be_merged() {
    let mode = |more: &[(&str, &str)]| read(more).unwrap().database.options.load_mode;
    assert_eq!(mode(&[("LOAD_MODE", "replace")]), LoadMode::Replace);
    let merge = [("LOAD_MODE", "merge"), ("MERGE_KEY", "id")];
    assert_eq!(mode(&merge), LoadMode::Merge { key: vec!["id".into()] });
}

#[test]
fn table_has_keys_of_its_own() {
    let config = read(&[(
        "SPILLWAY_CONFIG",
        "[[table]]\nname = \"orders\"\nredshift_dist_key = \"id\"\nredshift_sort_key = [\"day\", \"id\"]\n",
    )]);
    let options = config.unwrap().table(&"orders".into(), "uploads/a.csv").destination;
    let keys = RedshiftKeys { distribution: Some("id".into()), sort: vec!["day".into(), "id".into()] };
    assert_eq!(options.redshift_keys, keys);
}

#[test]
fn other_engines_have_no_prefix_for_copies() {
    let more = [("RDS_ENGINE", "mysql"), ("REDSHIFT_WORKGROUP", ""), ("RDS_SECRET_NAME", "secret")];
    assert_eq!(read(&more).unwrap().prefixes.copy, None);
}

#[rstest]
#[case(&[("REDSHIFT_WORKGROUP", "")], "RDS_ENGINE is redshift, and neither REDSHIFT_WORKGROUP nor REDSHIFT_CLUSTER is set")]
#[case(&[("RDS_DB", "")], "RDS_ENGINE is redshift, and RDS_DB is not set")]
#[case(&[("REDSHIFT_CLUSTER", "main")], "REDSHIFT_CLUSTER is \"main\": REDSHIFT_WORKGROUP is also set")]
#[case(&[("RDS_USER", "loader")], "RDS_USER is \"loader\": a workgroup has the user of the caller's role")]
#[case(&[("RDS_ENGINE", "postgres")], "REDSHIFT_WORKGROUP is \"warehouse\": it needs RDS_ENGINE=redshift")]
#[case(&[("LOAD_MODE", "mirror")], "LOAD_MODE is \"mirror\": Spillway does not mirror tables and applies no changes with RDS_ENGINE=redshift")]
#[case(&[("LOAD_MODE", "changes")], "LOAD_MODE is \"changes\": Spillway does not mirror tables and applies no changes")]
#[case(&[("OUTPUT", "both"), ("LAKE_PREFIX", "lake/")], "OUTPUT is \"both\": Spillway has no lake beside it")]
#[case(&[("UNKNOWN_COLUMNS", "add")], "UNKNOWN_COLUMNS is \"add\": Spillway adds no columns to tables")]
#[case(&[("CHANGED_TYPES", "widen")], "CHANGED_TYPES is \"widen\": Spillway changes no columns of tables")]
#[case(&[("REDSHIFT_COPY_ROLE", "copy's role")], "REDSHIFT_COPY_ROLE is \"copy's role\"; it accepts default, or the ARN of a role")]
#[case(&[("REDSHIFT_COPY_PREFIX", "fallback/copy")], "REDSHIFT_COPY_PREFIX is \"fallback/copy/\": it is inside GLUE_FALLBACK_PREFIX")]
#[case(&[("REDSHIFT_COPY_PREFIX", "it's/")], "REDSHIFT_COPY_PREFIX is \"it's/\"; it accepts a key prefix outside the other prefixes")]
#[case(
    &[("SPILLWAY_CONFIG", "[[table]]\nname = \"orders\"\nload_mode = \"mirror\"\n")],
    "(orders) of the table settings: load_mode is \"mirror\": Spillway does not mirror tables and applies no changes with RDS_ENGINE=redshift"
)]
fn setting_that_redshift_cannot_have_stops_the_start(#[case] more: &[(&str, &str)], #[case] expected: &str) {
    let message = read(more).unwrap_err();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn glue_job_cannot_load_into_redshift() {
    let error = read(&[("GLUE_JOB", "large-files")]).unwrap_err();
    assert!(error.contains("GLUE_JOB is \"large-files\": the job cannot load into Redshift"), "{error}");
}
