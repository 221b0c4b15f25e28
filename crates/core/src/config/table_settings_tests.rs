//! Table settings: values, routing, and messages for invalid ones.

use rstest::rstest;
use spillway_formats::columns::{ColumnAction, ValueFormat};
use spillway_formats::schema::ColumnType;

use super::Environment;
use super::tests::BASE;
use crate::destination::{LoadMode, UnknownColumns};
use crate::error::ErrorKind;
use crate::pipeline::{Dedupe, PipelineConfig};

const ORDERS: &str = r#"
[[table]]
pattern = "uploads/{tenant}/orders/**"
name = "orders"
load_mode = "merge"
merge_key = ["tenant", "id"]
key_columns = ["tenant"]
csv_delimiter = ";"
csv_header = false
max_rejects = 5

[table.columns.order_no]
source = "Order ID"
type = "text"

[table.columns.ordered_on]
format = "%d/%m/%Y"

[table.columns.note]
ignore = true

[[table]]
pattern = "uploads/{table}/raw/*"
name = "{table}_raw"

[[table]]
name = "customers"
unknown_columns = "add"
dedupe = "version"
"#;

fn config(text: &str) -> Result<PipelineConfig, String> {
    let environment = Environment::of(&[&BASE[..], &[("SPILLWAY_CONFIG", text)]].concat());
    PipelineConfig::read(&environment).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Settings);
        error.to_string()
    })
}

fn table_of(config: &PipelineConfig, key: &str) -> String {
    config.key_parts(key).unwrap().table.to_string()
}

#[test]
fn entry_replaces_the_settings_of_its_table() {
    let config = config(ORDERS).unwrap();
    let orders = config.table(&"orders".into(), "uploads/nordic/orders/1.csv");
    let key = vec!["tenant".to_owned(), "id".to_owned()];
    assert_eq!(orders.destination.load_mode, LoadMode::Merge { key });
    assert_eq!((orders.files.csv.delimiter, orders.files.csv.has_header), (Some(b';'), false));
    assert_eq!(orders.files.limits.rejects.max_of(100), 5);
    assert_eq!((orders.name.as_str(), orders.key_columns.len()), ("orders", 1));
    let customers = config.table(&"customers".into(), "anything.csv");
    assert_eq!((customers.destination.unknown_columns, customers.dedupe), (UnknownColumns::Add, Dedupe::Version));
    assert_eq!(customers.files.csv.delimiter, None, "other settings keep their values");
    let other = config.table(&"other".into(), "uploads/other/1.csv");
    assert_eq!((other.destination.load_mode, other.dedupe), (LoadMode::Append, Dedupe::Content));
}

#[test]
fn only_files_that_stay_in_place_are_in_the_catalog() {
    let entries = "[[table]]\nname = \"a\"\nafter_load = \"move\"\n[[table]]\nname = \"b\"\n";
    let raw = [("SPILLWAY_CONFIG", entries), ("AFTER_LOAD", "keep"), ("CATALOG_RAW", "true")];
    let config = PipelineConfig::read(&Environment::of(&[&BASE[..], &raw].concat())).unwrap();
    let has_catalog = |name: &str| config.table(&name.into(), "uploads/x.csv").catalog_raw;
    assert_eq!(["a", "b", "c"].map(has_catalog), [false, true, true]);
    let own = entries.replace("\"move\"", "\"move\"\ncatalog_raw = true");
    let raw = [("SPILLWAY_CONFIG", own.as_str()), ("AFTER_LOAD", "keep"), ("CATALOG_RAW", "true")];
    let error = PipelineConfig::read(&Environment::of(&[&BASE[..], &raw].concat())).unwrap_err();
    assert!(error.to_string().contains("needs after_load=keep"), "{error}");
}

/// The environment's columns belong to its load mode. An empty list turns a list of the environment off.
#[test]
fn entry_does_without_columns_of_the_environment() {
    let entries = "[[table]]\nname = \"a\"\nload_mode = \"append\"\nkey_columns = []\n\
                   [[table]]\nname = \"b\"\nload_mode = \"merge\"\n\
                   [[table]]\nname = \"c\"\nmirror_scope = []\n";
    let mirror = [
        ("SPILLWAY_CONFIG", entries),
        ("LOAD_MODE", "mirror"),
        ("MERGE_KEY", "tenant,id"),
        ("MIRROR_SCOPE", "tenant"),
        ("KEY_COLUMNS", "source_key"),
    ];
    let config = PipelineConfig::read(&Environment::of(&[&BASE[..], &mirror].concat())).unwrap();
    let table = |name: &str| config.table(&name.into(), "uploads/x.csv");
    assert_eq!((table("a").destination.load_mode.clone(), table("a").key_columns.len()), (LoadMode::Append, 0));
    let key = vec!["tenant".to_owned(), "id".to_owned()];
    assert_eq!((table("b").destination.load_mode.clone(), table("b").key_columns.len()), (LoadMode::Merge { key }, 1));
    let scope = |name: &str| match &table(name).destination.load_mode {
        LoadMode::Mirror(mirror) => mirror.scope.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((scope("c"), scope("d")), (Vec::new(), vec!["tenant".to_owned()]));
}

#[test]
fn patterns_of_entries_come_before_the_setting() {
    let config = config(ORDERS).unwrap();
    assert_eq!(table_of(&config, "uploads/nordic/orders/2024/1.csv"), "orders");
    assert_eq!(table_of(&config, "uploads/stock/raw/1.csv"), "stock_raw");
    assert_eq!(table_of(&config, "uploads/1.csv"), "orders", "RDS_TABLE is the table of all other keys");
    assert_eq!(config.key_parts("uploads/nordic/orders/1.csv").unwrap().part("tenant"), Some("nordic"));
    // A replay knows the table and the original key; an entry applies by its name too.
    let by_name = config.table(&"orders".into(), "uploads/1.csv");
    assert!(matches!(by_name.destination.load_mode, LoadMode::Merge { .. }));
    assert_eq!(config.glue_table(&"stock_raw".into()), "stock_raw", "each table of a pattern has its own Glue table");
}

#[test]
fn dot_in_the_name_of_an_entry_separates_the_schema() {
    let text = "[[table]]\npattern = \"in/{tenant}/{table}/*\"\nname = \"{tenant}.{table}\"\n\n\
                [[table]]\nname = \"sales.orders\"\nload_mode = \"replace\"\n";
    let config = config(text).unwrap();
    let table = config.key_parts("in/Sales/a.b/1.csv").unwrap().table;
    assert_eq!((table.schema(), table.own_name()), (Some("sales"), "a.b"));
    let orders = config.key_parts("in/sales/orders/1.csv").unwrap().table;
    assert_eq!(config.table(&orders, "elsewhere").destination.load_mode, LoadMode::Replace);
    // A table of that name without a schema is another one.
    assert_eq!(config.table(&"sales.orders".into(), "elsewhere").destination.load_mode, LoadMode::Append);
    assert!(self::config("[[table]]\nname = \"a.b.c\"\n").unwrap_err().contains("more than one dot"));
}

/// A table name from a key is in lower case.
#[rstest]
#[case::from_the_key("[[table]]\npattern = \"in/{table}/**\"\nload_mode = \"replace\"\n", "in/Orders/1.csv")]
#[case::in_the_entry("[[table]]\npattern = \"in/*\"\nname = \"Orders\"\nload_mode = \"replace\"\n", "in/1.csv")]
fn entry_applies_in_any_letter_case(#[case] text: &str, #[case] key: &str) {
    let config = config(text).unwrap();
    let table = table_of(&config, key);
    assert_eq!(
        (table.as_str(), config.table(&table.as_str().into(), key).destination.load_mode),
        ("orders", LoadMode::Replace)
    );
}

#[test]
fn tables_need_no_other_setting() {
    let environment: Vec<(&str, &str)> = BASE.into_iter().filter(|(name, _)| *name != "RDS_TABLE").collect();
    let environment = Environment::of(&[&environment[..], &[("SPILLWAY_CONFIG", ORDERS)]].concat());
    let config = PipelineConfig::read(&environment).unwrap();
    assert_eq!(table_of(&config, "uploads/nordic/orders/1.csv"), "orders");
    assert_eq!(config.key_parts("uploads/1.csv").unwrap_err().kind(), ErrorKind::KeyRefused);
}

#[test]
fn columns_have_rules() {
    let config = config(ORDERS).unwrap();
    let rules = config.table(&"orders".into(), "uploads/nordic/orders/1.csv").files.columns;
    let names: Vec<String> = ["Order ID", "ordered_on", "note", "total"].map(str::to_owned).to_vec();
    assert_eq!(rules.names(&names).unwrap(), ["order_no", "ordered_on", "total"]);
    assert!(config.table(&"customers".into(), "a.csv").files.columns.is_empty());
}

#[rstest]
#[case::dates("format = \"%d/%m/%Y\"", Some(ValueFormat::time("%d/%m/%Y").unwrap()), None)]
#[case::epoch("format = \"epoch-milliseconds\"", Some(ValueFormat::EpochMilliseconds), None)]
#[case::decimal("type = \"decimal(12,2)\"", None, Some(ColumnType::Decimal { precision: 12, scale: 2 }))]
fn rule_has_format_and_type(
    #[case] rule: &str,
    #[case] format: Option<ValueFormat>,
    #[case] column_type: Option<ColumnType>,
) {
    let value = format!("[c]\n{rule}\n").parse::<toml::Table>().unwrap();
    let rules = super::table_settings::columns::rule_of("c", &value["c"]).unwrap();
    assert_eq!(rules.action, ColumnAction::Load { column_type, format, default: None });
}

#[rstest]
#[case::syntax("[[table]]\nname = \n", &["not valid TOML", "(line 2, column 8)"])]
#[case::unknown_key("[[table]]\nname = \"orders\"\nload_mod = \"merge\"\n", &["[[table]] 1 (orders)", "load_mod", "did you mean load_mode?"])]
#[case::unknown_section("[defaults]\nload_mode = \"merge\"\n", &["no key defaults", "table"])]
#[case::wrong_value("[[table]]\nname = \"orders\"\nload_mode = \"upsert\"\n", &["load_mode is \"upsert\"", "append, replace, merge, mirror or changes"])]
#[case::contradiction("[[table]]\nname = \"orders\"\nmerge_key = [\"id\"]\n", &["merge_key is \"id\""])]
#[case::second_entry("[[table]]\nname = \"a\"\n[[table]]\nname = \"b\"\nmax_rejects = \"many\"\n", &["[[table]] 2 (b)", "max_rejects"])]
#[case::no_name("[[table]]\nload_mode = \"append\"\n", &["name is missing"])]
#[case::parts_without_pattern("[[table]]\nname = \"{tenant}_orders\"\n", &["pattern is missing"])]
#[case::pattern_without_table("[[table]]\npattern = \"uploads/*\"\n", &["pattern is \"uploads/*\""])]
#[case::no_lake("[[table]]\nname = \"a\"\noutput = \"both\"\n", &["output is \"both\"", "needs LAKE_PREFIX"])]
#[case::raw_zone_that_moves("[[table]]\nname = \"a\"\ncatalog_raw = true\n", &["catalog_raw is \"true\"", "needs after_load=keep"])]
#[case::ledger("[[table]]\nname = \"spillway_ledger\"\n", &["spillway_ledger"])]
#[case::number_of_a_float("[[table]]\nname = \"a\"\nmax_rejects = 1.5\n", &["max_rejects is a TOML float"])]
#[case::empty("[[table]]\nname = \"a\"\ncsv_quote = \"\"\n", &["csv_quote is empty"])]
#[case::part_of_no_pattern("[[table]]\nname = \"a\"\nkey_columns = [\"tenant\"]\n", &["key_columns", "tenant is not a part of a pattern"])]
#[case::unknown_column_key("[[table]]\nname = \"a\"\n[table.columns.b]\nformats = \"%d\"\n", &["column b", "did you mean format?"])]
#[case::unknown_type("[[table]]\nname = \"a\"\n[table.columns.b]\ntype = \"number\"\n", &["column b", "type is \"number\"", "decimal(P,S)"])]
#[case::wrong_format("[[table]]\nname = \"a\"\n[table.columns.b]\nformat = \"dd/mm/yyyy\"\n", &["format is \"dd/mm/yyyy\"", "%d/%m/%Y"])]
#[case::two_formats("[[table]]\nname = \"a\"\n[table.columns.b]\nformat = \"%d/%m/%Y\"\ndecimal = \",\"\n", &["format is for dates"])]
#[case::same_separators("[[table]]\nname = \"a\"\n[table.columns.b]\ndecimal = \",\"\nthousands = \",\"\n", &["must differ"])]
#[case::sign_to_remove("[[table]]\nname = \"a\"\n[table.columns.b]\nremove = [\"€\", \"-\"]\n", &["remove contains \"-\"", "parentheses"])]
#[case::ignored_with_type("[[table]]\nname = \"a\"\n[table.columns.b]\nignore = true\ntype = \"text\"\n", &["an ignored column"])]
#[case::same_source("[[table]]\nname = \"a\"\n[table.columns.b]\nsource = \"x\"\n[table.columns.c]\nsource = \"X\"\n", &["columns b and c", "source"])]
fn invalid_settings_name_the_place_and_what_is_accepted(#[case] text: &str, #[case] expected: &[&str]) {
    let message = config(text).unwrap_err();
    for part in expected {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn settings_are_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables.toml");
    std::fs::write(&path, ORDERS).unwrap();
    let config = config(path.to_str().unwrap()).unwrap();
    assert_eq!(table_of(&config, "uploads/nordic/orders/1.csv"), "orders");
    let missing = self::config("/nowhere/tables.toml").unwrap_err();
    assert!(missing.contains("SPILLWAY_CONFIG") && missing.contains("cannot be read"), "{missing}");
}

/// Only its address is known before the first event.
#[rstest]
#[case("s3://bucket/settings/tables.toml", true)]
#[case("s3://bucket", false)]
#[case("s3:///tables.toml", false)]
fn object_in_s3_is_read_later(#[case] location: &str, #[case] is_valid: bool) {
    let result = config(location).map(|config| config.database.tables.object().unwrap().to_string());
    assert_eq!(result.ok().as_deref(), is_valid.then_some(location));
}
