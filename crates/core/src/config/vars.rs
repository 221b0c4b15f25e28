//! Each environment variable once: its name, who reads it, what it takes, its default and what it means.
//!
//! The readers in `read` take names and defaults from here, error messages take what a variable takes, and the
//! README's table is this list. A variable that is not here is not read.

/// Who reads a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Both functions and the task.
    Everyone,
    /// The trigger function. Those about tasks also the ingest function, for objects it has no time for.
    Trigger,
    /// The task, and the ingest function for a request that names nothing.
    Task,
    /// Everyone, but it is the platform that sets it.
    Platform,
    /// Builds with the feature `failpoints` only.
    Tests,
}

/// One environment variable. An empty value counts as unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// Who reads it.
    pub reader: Reader,
    /// What stands when it is unset.
    pub default: Option<&'static str>,
    /// What it takes, for error messages and the table.
    pub takes: &'static str,
    /// What it means.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($name:ident, $reader:ident, $default:expr, $takes:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub const $name: Variable = Variable {
                name: stringify!($name),
                reader: Reader::$reader,
                default: $default,
                takes: $takes,
                doc: $doc,
            };
        )*
        /// Every variable, in the order of the README's table.
        pub const ALL: &[Variable] = &[$($name),*];
    };
}

variables! {
    AWS_REGION, Everyone, Some("us-east-1"), "a region", "The region of every AWS service.";
    AWS_ENDPOINT_URL, Everyone, None, "a URL", "Another endpoint for every AWS service, read by the SDK; S3 is then addressed path-style.";
    S3_BUCKET, Everyone, None, "a bucket's name", "The bucket of requests that name none. The task and the ingest function need it.";
    UPLOAD_PREFIX, Everyone, Some("uploads/"), "key prefixes with commas between, none inside another, or / for the whole bucket", "Where files arrive.";
    PROCESSED_PREFIX, Everyone, Some("processed/"), "a key prefix outside the other prefixes", "Where loaded files go.";
    FAILED_PREFIX, Everyone, Some("failed/"), "a key prefix outside the other prefixes", "Where files go that fell back or are broken.";
    GLUE_FALLBACK_PREFIX, Everyone, Some("fallback/"), "a key prefix outside the other prefixes", "Where rows go that the database did not take.";
    LEASE_PREFIX, Everyone, Some("lease/"), "a key prefix outside the other prefixes", "Where workers note which file they hold.";
    REJECTED_PREFIX, Everyone, Some("rejected/"), "a key prefix outside the other prefixes", "Where bad records go that were left out of a load.";
    GLUE_DATABASE, Everyone, Some("ingest_fallback_db"), "1 to 255 letters, digits, _ or -", "The Glue database of the fallback table; lower-cased.";
    GLUE_TABLE, Everyone, Some("ingest_fallback_table"), "1 to 255 letters, digits, _ or -", "The Glue table of what was meant for RDS_TABLE; lower-cased. Tables that TABLE_PATTERN names have Glue tables of their own name.";
    FALLBACK_FORMAT, Everyone, Some("parquet"), "parquet or csv", "The form of fallback objects: typed and exact, or all columns as strings.";
    RDS_ENGINE, Everyone, None, "mysql, mariadb, postgres or postgresql", "What the database is; when unset, what the secret says, else PostgreSQL on port 5432 and MySQL on any other.";
    RDS_HOST, Everyone, None, "a host name or address", "The database's host. With a secret: fills in what the secret lacks.";
    RDS_PORT, Everyone, None, "a number from 1 to 65535", "The database's port; 3306, or 5432 for PostgreSQL. With a secret: fills in what the secret lacks.";
    RDS_USER, Everyone, None, "a user name", "The database user. Inline credentials win when host, user, password and database are all set.";
    RDS_PASSWORD, Everyone, None, "a password that is not empty", "The database user's password.";
    RDS_DB, Everyone, None, "a database name", "The database that holds target and ledger. With a secret: fills in what the secret lacks.";
    RDS_SECRET_NAME, Everyone, None, "the name or ARN of a secret", "A secret with username, password, host, port, dbname and engine as JSON.";
    RDS_TABLE, Everyone, None, "a table name of at most 64 characters", "The target table; with TABLE_PATTERN, that of keys which no pattern matches.";
    TABLE_PATTERN, Everyone, None, "patterns over keys such as uploads/{table}/**, with blanks or commas between", "Which table a key's rows go to; the first pattern that matches wins.";
    KEY_COLUMNS, Everyone, None, "names of a pattern's parts, source_bucket, source_key, source_row or loaded_at, with commas between", "Columns from the key and of where a row comes from, behind the file's own.";
    RDS_TLS, Everyone, Some("verify"), "verify or off", "Verify the server's certificate and name, or send plain text.";
    RDS_CA_FILE, Everyone, None, "the path of a PEM file", "The certificates to verify the server with; by default the RDS bundle that is built in.";
    RDS_RETRY_SECONDS, Everyone, Some("150"), "a number from 0 to 3600", "How long an outage is waited for before a file falls back.";
    RDS_LOAD_METHOD, Everyone, Some("auto"), "auto, load-data or insert", "How rows are sent to MySQL; auto is LOAD DATA LOCAL where the server allows it, else INSERT. PostgreSQL gets COPY.";
    LOAD_MODE, Everyone, Some("append"), "append, replace or merge", "What a file's rows do to those in the table: come besides, take their place, or update the row with the same key.";
    MERGE_KEY, Everyone, None, "column names with commas between, each once, with LOAD_MODE=merge", "The columns by which rows are merged; by default the table's primary key. A table that is made gets them as its primary key.";
    LEDGER_TABLE, Everyone, Some("spillway_ledger"), "a table name of at most 64 characters", "The ledger's table, beside the target.";
    LEASE_SECONDS, Everyone, Some("60"), "a number from 5 to 3600", "How long a worker that has died holds a file.";
    DEDUPE, Everyone, Some("content"), "content or version", "Whether the same bytes under the same key load once, or every version does.";
    UNKNOWN_COLUMNS, Everyone, Some("refuse"), "refuse or add", "What happens to columns the table lacks.";
    BUFFER_MAX_BYTES, Everyone, Some("8388608"), "a number from 0 to 1073741824", "Objects up to this size, as stored, are read once and held in memory.";
    MAX_CONCURRENT_FILES, Everyone, Some("4"), "a number from 1 to 64", "How many small files of a prefix, window or sweep are under way at once, together as much as BUFFER_MAX_BYTES; only with LOAD_MODE=append and UNKNOWN_COLUMNS=refuse.";
    ATOMIC_MAX_BYTES, Everyone, Some("10737418240"), "a number", "Files that are larger, decoded, go through a staging table; not with PostgreSQL, which needs none.";
    MAX_RECORD_BYTES, Everyone, Some("33554432"), "a number from 1024 to 1073741824", "The longest record, header included; a longer one makes the file broken.";
    MAX_COLUMNS, Everyone, Some("4096"), "a number from 1 to 65535", "The most columns; more make the file broken.";
    FILE_FORMAT, Everyone, Some("auto"), "auto, csv, json or parquet", "What files are; auto looks at each of them.";
    CSV_DELIMITER, Everyone, Some("auto"), "auto, tab or one ASCII character other than the quote", "What divides the fields of CSV; auto finds comma, semicolon, tab or pipe in each file.";
    CSV_QUOTE, Everyone, Some("\""), "a double quote, a single quote or none", "What stands around a field that holds marks.";
    CSV_HEADER, Everyone, Some("true"), "true or false", "Whether the first record names the columns; if not, they are called `col_1` and so on.";
    CSV_ENCODING, Everyone, Some("utf-8"), "the name of an encoding, such as utf-8, windows-1252, shift_jis or utf-16le", "The encoding of CSV files without a byte order mark.";
    NULL_VALUES, Everyone, None, "tokens with commas between", "Fields of CSV that mean NULL in every column unless they are quoted; they replace the usual null tokens.";
    MAX_DECODED_BYTES, Everyone, Some("107374182400"), "a number", "The most bytes that come out of a compressed file; more make it broken.";
    MAX_DECODED_RATIO, Everyone, Some("200"), "a number from 1 to 1000000", "The most decoded bytes for each stored one, once 64 MiB have come out; more make the file broken.";
    MAX_REJECTS, Everyone, Some("0"), "a number, or a share such as 1%", "How many bad records a file may have, set aside one by one; with more, the whole file is refused.";
    LOG_LEVEL, Everyone, Some("info"), "trace, debug, info, warn, error or off", "What is logged. AWS_LAMBDA_LOG_LEVEL, then RUST_LOG, win over it.";
    LOG_FORMAT, Everyone, Some("json"), "json or text", "The form of log lines. AWS_LAMBDA_LOG_FORMAT counts when it is unset.";
    AWS_LAMBDA_LOG_LEVEL, Everyone, None, "trace, debug, info, warn, error or fatal", "Set by Lambda from the function's logging configuration.";
    AWS_LAMBDA_LOG_FORMAT, Everyone, None, "JSON or Text", "Set by Lambda from the function's logging configuration.";
    AWS_LAMBDA_LOG_STREAM_NAME, Platform, None, "a log stream's name", "Set by Lambda; names the worker in leases and ledger.";
    HOSTNAME, Platform, None, "a host name", "Names the worker in leases and ledger outside Lambda.";
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE, Platform, None, "megabytes", "Set by Lambda; says what a run costs.";
    TASK_CPU, Task, None, "a number of CPU units, of which 1024 are a vCPU", "What the task runs on, with TASK_MEMORY; says what a run costs.";
    TASK_MEMORY, Task, None, "megabytes", "The task's memory; says what a run costs.";
    RUST_LOG, Everyone, None, "targets with levels, such as warn,spillway=debug", "What is logged, module by module.";
    INLINE_MAX_BYTES, Trigger, Some("10485760"), "a number", "Larger objects go to a Fargate task; a compressed one counts ten times its size.";
    ECS_CLUSTER, Trigger, None, "a cluster's name or ARN", "The cluster of the task; when unset, no task is ever started.";
    TASK_DEFINITION, Trigger, None, "family:revision or an ARN", "The task definition; needed with ECS_CLUSTER.";
    CONTAINER_NAME, Trigger, None, "a container's name", "The container that gets the object in its environment; needed with ECS_CLUSTER.";
    SUBNETS, Trigger, None, "subnet ids with commas between", "The task's subnets; Fargate refuses a task without one.";
    SECURITY_GROUPS, Trigger, None, "security group ids with commas between", "The task's security groups; the VPC's default one when unset.";
    ASSIGN_PUBLIC_IP, Trigger, Some("DISABLED"), "DISABLED or ENABLED", "Whether the task gets a public address.";
    CSV_KEY, Task, None, "a key", "The one object to load; wins over CSV_PREFIX.";
    CSV_VERSION_ID, Task, None, "a version id", "The version of CSV_KEY that the event named.";
    CSV_PREFIX, Task, None, "a key prefix", "Load the objects below it; by default below each UPLOAD_PREFIX.";
    CSV_MODE, Task, Some("all"), "all or latest", "Every object below the prefix, oldest first, or the most recently modified one.";
    SPILLWAY_FAILPOINT, Tests, None, "a fault point's name", "Where the process stands still.";
    SPILLWAY_FAILPOINT_FILE, Tests, None, "a path", "The file that says it does; it goes on when the file is gone.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_declared_twice() {
        let mut names: Vec<&str> = ALL.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_readme_lists_each_variable_that_people_set() {
        let readme = include_str!("../../../../README.md");
        for variable in ALL.iter().filter(|variable| !matches!(variable.reader, Reader::Platform | Reader::Tests)) {
            let default = variable.default.map(|text| format!("`{text}`")).unwrap_or_default();
            let row = format!("| `{}` | {default} | {} |", variable.name, variable.doc);
            assert!(readme.contains(&row), "the README lacks this row: {row}");
        }
    }

    #[test]
    fn a_default_is_never_empty() {
        assert!(ALL.iter().all(|variable| variable.default != Some("")));
    }
}
