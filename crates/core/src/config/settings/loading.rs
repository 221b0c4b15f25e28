//! Tables, load modes and the ledger.

use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};
use crate::destination::{ChangedTypes, Changes, LoadMethod, LoadMode, Mirror, MissingColumns, Output, UnknownColumns};
use crate::pattern::TablePatterns;
use crate::pipeline::{AfterLoad, Dedupe};
use crate::table_name::TableName;

settings! { Loading LOADING {
    /// Table to load rows into; created from the first file if missing. With `TABLE_PATTERN`, the table of keys that no
    /// pattern matches. A dot separates a schema (in MySQL and MariaDB a database) from the table.
    RDS_TABLE: TableName = Value::Text {
        form: "a table name of at most 64 characters, or schema.table",
        parse: |text| TableName::parse(&table_name(text)?).map_err(|why| Reason::Because(format!("it {why}"))),
    }, All, Template::Parameter("DatabaseTable");

    /// Patterns that read the table from the object key. The first match wins.
    TABLE_PATTERN: TablePatterns = Value::Text {
        form: "patterns for keys such as uploads/{table}/**, separated by spaces or commas",
        parse: |text| TablePatterns::parse(text).map_err(Reason::Because),
    }, All, Template::Parameter("TablePattern");

    /// Settings of single tables, as TOML: the path of a file, an object `s3://bucket/key`, or the text itself. See
    /// `docs/table-settings.md`.
    SPILLWAY_CONFIG: String = Value::text("a path, s3://bucket/key, or TOML"), All, Template::Parameter("TableSettings");

    /// Columns to add after the file's own columns: parts of the key, and where a row comes from.
    KEY_COLUMNS: Vec<String> = Value::list(
        "names of pattern parts, source_bucket, source_key, source_row or loaded_at, separated by commas",
    ), All, Template::Parameter("KeyColumns");

    /// How a file changes its table. `append` adds rows, `replace` replaces all rows, `merge` updates rows with the same
    /// key and adds the others. `mirror` does the same as `merge`, and deletes the rows that the file does not have.
    /// `changes` inserts, updates or deletes by key, as `OPERATION_COLUMN` says.
    LOAD_MODE: LoadMode = Value::Choice(&[
        Choice::new("append", LoadMode::Append),
        Choice::new("replace", LoadMode::Replace),
        Choice::new("merge", LoadMode::Merge { key: Vec::new() }),
        Choice::new("mirror", LoadMode::Mirror(Mirror { key: Vec::new(), scope: Vec::new(), max_deletes_percent: 0 })),
        Choice::new("changes", LoadMode::Changes(Changes { key: Vec::new(), operation_column: String::new() })),
    ]), All, Template::Parameter("LoadMode"), default "append";

    /// Key columns of a merge, a mirror or changes. Defaults to the table's primary key. A new table gets them as its primary key.
    MERGE_KEY: Vec<String> = Value::list("column names separated by commas, each once, with LOAD_MODE=merge, mirror or changes"),
        All, Template::Parameter("MergeKey");

    /// Column of a file of changes that says what a row does: `c`, `r`, `i`, `insert`, `create`, `read` and `load` insert it or update the
    /// row with its key, `u` and `update` do the same, `d` and `delete` delete it. The table does not have this column.
    OPERATION_COLUMN: String = Value::text("a column name"), All, Template::NotSet, default "op";

    /// Columns with a single value in each mirrored file, such as a tenant. The file then has all rows of the table with these
    /// values, and deletes no others. Without it, a mirrored file has all rows of the table.
    MIRROR_SCOPE: Vec<String> = Value::list("column names separated by commas, each once, with LOAD_MODE=mirror"),
        All, Template::NotSet;

    /// Share of the rows that a mirrored file may delete, in percent. 100 rows are always allowed, unless it is 0. A file that would
    /// delete more falls back, because an incomplete export looks the same.
    MIRROR_MAX_DELETES: u8 = Value::number("number of percent", 0, 100), All, Template::NotSet, default "10";

    /// Columns that identify a row when two full exports of a table are compared. See `docs/exports.md`.
    EXPORT_KEY: Vec<String> = Value::list("column names separated by commas, each once"), All, Template::NotSet;

    /// Action for a file with columns that the table does not have. `refuse` sends its rows to the fallback, `add` adds
    /// nullable columns to the table, `ignore` does not load these columns, `json` keeps them in `EXTRA_COLUMN`.
    UNKNOWN_COLUMNS: UnknownColumns = Value::Choice(&[
        Choice::new("refuse", UnknownColumns::Refuse),
        Choice::new("add", UnknownColumns::Add),
        Choice::new("ignore", UnknownColumns::Ignore),
        Choice::new("json", UnknownColumns::Json),
    ]), All, Template::Parameter("UnknownColumns"), default "refuse";

    /// JSON column that keeps columns that the table does not have, as an object by column name, with `UNKNOWN_COLUMNS=json`.
    /// Added to the table if it is missing.
    EXTRA_COLUMN: String = Value::Text {
        form: "a column name of at most 63 bytes",
        parse: |text| if text.len() <= 63 && text.trim() == text { Ok(text.to_owned()) } else { Err(Reason::Form) },
    }, All, Template::NotSet, default "extra";

    /// Action for a file without a column that the table has. `default` lets the database fill it, `refuse` sends the rows of
    /// the file to the fallback.
    MISSING_COLUMNS: MissingColumns = Value::Choice(&[
        Choice::new("default", MissingColumns::Default),
        Choice::new("refuse", MissingColumns::Refuse),
    ]), All, Template::NotSet, default "default";

    /// Action for a file with values that do not fit the type of their column. `refuse` sends its rows to the fallback, `widen`
    /// changes the column to a type that holds the old and the new values: larger whole numbers, decimals, or longer text.
    CHANGED_TYPES: ChangedTypes = Value::Choice(&[
        Choice::new("refuse", ChangedTypes::Refuse),
        Choice::new("widen", ChangedTypes::Widen),
    ]), All, Template::NotSet, default "refuse";

    /// `content` loads the same bytes under the same key once. `version` loads every upload.
    DEDUPE: Dedupe =
        Value::Choice(&[Choice::new("content", Dedupe::Content), Choice::new("version", Dedupe::Version)]),
        All, Template::Parameter("Dedupe"), default "content";

    /// What happens to a file after its rows are in the table. `move` moves it to `PROCESSED_PREFIX`. `keep` leaves it in place:
    /// the ledger shows that it is loaded, and files wait for a database that is down. `delete` deletes it.
    AFTER_LOAD: AfterLoad = Value::Choice(&[
        Choice::new("move", AfterLoad::Move),
        Choice::new("keep", AfterLoad::Keep),
        Choice::new("delete", AfterLoad::Delete),
    ]), All, Template::Parameter("AfterLoad"), default "move";

    /// `true` registers files that stay in place (`AFTER_LOAD=keep`) in Glue as they are loaded: a table over each raw zone in
    /// `RAW_DATABASE`, with its folders as partitions. See `docs/raw-zone.md`.
    CATALOG_RAW: bool = Value::boolean(),
        All, Template::Parameter("CatalogRaw"), default "false";

    /// Where the rows of loaded files are stored. `database` is the table, `lake` is Parquet in S3 under `LAKE_PREFIX`, `both` means
    /// the table and the lake. `lake` needs the ledger in the database, and `LOAD_MODE=append`.
    OUTPUT: Output = Value::Choice(&[
        Choice::new("database", Output::Database),
        Choice::new("lake", Output::Lake),
        Choice::new("both", Output::Both),
    ]), All, Template::Parameter("Output"), default "database";

    /// How rows are sent to MySQL and MariaDB. `auto` uses LOAD DATA LOCAL if the server allows it, else INSERT.
    /// PostgreSQL always uses COPY.
    RDS_LOAD_METHOD: LoadMethod = Value::Choice(&[
        Choice::new("auto", LoadMethod::Auto),
        Choice::new("load-data", LoadMethod::LoadData),
        Choice::new("insert", LoadMethod::Insert),
    ]), All, Template::NotSet, default "auto";

    /// Larger files, measured after decompression, go through a staging table in MySQL and MariaDB. PostgreSQL loads
    /// files of any size in one transaction.
    ATOMIC_MAX_BYTES: u64 =
        Value::number("number of bytes", 0, u64::MAX), All, Template::NotSet, default "10737418240";

    /// Table of the ledger, in the same database as the tables.
    LEDGER_TABLE: String = TABLE_NAME, All, Template::NotSet, default "spillway_ledger";

    /// How long the attempt history beside the ledger keeps an attempt. Each sweep deletes older ones. The ledger keeps
    /// every file.
    HISTORY_DAYS: u64 = Value::number("number of days", 1, 36_500), All, Template::NotSet, default "90";

    /// How far before the watermark of a table a sync begins. Files that arrive more than this after the time in their key, or
    /// after the start of their upload, are found only by a sync with a window. See `docs/sync.md`.
    SYNC_OVERLAP_HOURS: u64 = Value::number("number of hours", 1, 87_600),
        All, Template::Parameter("SyncOverlapHours"), default "72";
}}

const TABLE_NAME: Value<String> = Value::Text { form: "a table name of at most 64 characters", parse: table_name };

/// A name that MySQL allows within quotes. Spaces at the ends are not accepted, since two names would look alike.
fn table_name(text: &str) -> Result<String, Reason> {
    let is_name = text.chars().count() <= 64 && !text.contains('\0') && text.trim() == text;
    if is_name { Ok(text.to_owned()) } else { Err(Reason::Form) }
}
