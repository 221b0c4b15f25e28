//! Table settings in S3: read before the first file, read again after a change, kept when a change is invalid.

use rstest::rstest;
use spillway_formats::columns::{ColumnAction, ColumnRule, ColumnRules};

use super::{FILE, Fixture, KEY, Reading, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::memory_aws::BUCKET;
use crate::object::ObjectRef;
use crate::pattern::TablePatterns;
use crate::pipeline::{Refresh, TableConfig, TableEntry, TableRules, Tables};
use crate::report::Outcome;
use crate::route::TableRoutes;
use crate::table_name::TableName;

const SETTINGS: &str = "settings/tables.toml";
/// A text that is not valid. Every other text is the table of all uploads.
const INVALID: &str = "invalid";

/// A fixture whose settings are in the bucket. The column `note` of each table is ignored.
fn fixture(reading: Reading) -> Fixture {
    let mut fixture = Fixture::new(reading);
    let defaults = fixture.settings.table_defaults(&TableName::default());
    let initial = TableRules::of_routes(TableRoutes { patterns: TablePatterns::default(), default: None });
    let parse = move |text: &str| rules(text, &defaults);
    fixture.settings.database.tables = Tables::in_s3(ObjectRef::new(BUCKET, SETTINGS), initial, parse);
    fixture
}

fn rules(text: &str, defaults: &TableConfig) -> Result<TableRules> {
    if text == INVALID {
        return Err(Error::new(ErrorKind::Settings, "the text is not valid"));
    }
    let patterns = TablePatterns::parse(&format!("uploads/* => {text}")).unwrap();
    let ignored = ColumnRule { name: "note".to_owned(), source: "note".to_owned(), action: ColumnAction::Ignore };
    let mut config = defaults.clone();
    config.files.columns = ColumnRules::new(vec![ignored]);
    let entry = TableEntry { patterns: patterns.clone(), name: Some(text.into()), config };
    Ok(TableRules { routes: TableRoutes { patterns, default: None }, entries: vec![entry] })
}

#[tokio::test]
async fn new_version_applies_to_later_files() {
    let fixture = fixture(Reading::Buffered);
    fixture.aws.put(SETTINGS, "clients");
    let context = fixture.context();
    let tables = &context.settings.database.tables;
    assert!(matches!(tables.refresh(&context.store).await.unwrap(), Refresh::Current));
    let report = fixture.process_in(&context, KEY).await.unwrap();
    assert_eq!((report.outcome, report.table.as_deref()), (Outcome::Loaded, Some("clients")));

    fixture.aws.put(SETTINGS, "customers");
    fixture.aws.put("uploads/b.csv", FILE);
    assert!(matches!(tables.refresh(&context.store).await.unwrap(), Refresh::Current));
    let report = fixture.process_in(&context, "uploads/b.csv").await.unwrap();
    assert_eq!(report.table.as_deref(), Some("customers"));
}

#[tokio::test]
async fn invalid_version_leaves_the_last_valid_one_in_use() {
    let fixture = fixture(Reading::Buffered);
    fixture.aws.put(SETTINGS, "clients");
    let context = fixture.context();
    let tables = &context.settings.database.tables;
    tables.refresh(&context.store).await.unwrap();
    fixture.aws.put(SETTINGS, INVALID);
    let Refresh::KeptLast(error) = tables.refresh(&context.store).await.unwrap() else { panic!("the file is invalid") };
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert_eq!(fixture.process_in(&context, KEY).await.unwrap().table.as_deref(), Some("clients"));
    fixture.aws.put(SETTINGS, "clients");
    assert!(matches!(tables.refresh(&context.store).await.unwrap(), Refresh::Current));
}

#[tokio::test]
async fn without_a_valid_version_nothing_is_processed() {
    let fixture = fixture(Reading::Buffered);
    let missing = fixture.run_one(KEY).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Settings, "{missing}");
    fixture.aws.put(SETTINGS, INVALID);
    assert_eq!(fixture.run_one(KEY).await.unwrap_err().kind(), ErrorKind::Settings);
    assert_eq!(fixture.objects(), "other upload", "the file waits");
    let check = fixture.check().await;
    let item = check.items.iter().find(|item| item.name == "table_settings").unwrap();
    assert!(!item.ok && item.reason.as_ref().is_some_and(|reason| reason.contains("not valid")), "{item:?}");
}

#[rstest]
#[tokio::test]
async fn rules_for_columns_apply_in_every_pass(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(Outcome::Loaded, Outcome::FellBack)] outcome: Outcome,
) {
    let fixture = fixture(reading);
    fixture.aws.put(SETTINGS, "clients");
    if outcome == Outcome::FellBack {
        fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    }
    fixture.run_one(KEY).await.unwrap();
    let rows = if outcome == Outcome::Loaded { fixture.database.rows() } else { fixture.fallback_rows() };
    assert_eq!(rows, ["1", "2"]);
}
