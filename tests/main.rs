//! Integration tests with real databases (MariaDB, PostgreSQL), an emulated AWS and the Lambda runtime emulator.

// The test environment: each part does what the other tests rely on.
mod env_check;
// The S3 store: reads, moves, leases, uploads.
mod store;

// Destinations: what every engine must do, and what is specific to one.
mod engines {
    // The fixture of the conformance tests, which the module of each engine runs.
    pub(crate) mod conformance;
    // Conformance tests for appending loads.
    mod conformance_append;
    // Conformance tests for the ledger column with the changes of a table.
    mod conformance_changes;
    // Conformance tests for unknown, missing and changed columns, other schemas and partitions.
    mod conformance_contract;
    // Conformance tests for failures of connections, servers and COMMIT.
    mod conformance_failures;
    // Conformance tests for the attempt history and the list of runs.
    mod conformance_history;
    // Conformance tests for the load mode mirror.
    mod conformance_mirror;
    // Conformance tests for the load modes replace and merge.
    mod conformance_modes;
    // Conformance tests for files of changes.
    mod conformance_operations;
    // Error codes, each caused on a real server.
    mod failure_codes;
    // The column types in the documentation.
    mod column_types;
    // MySQL's destination on MariaDB: conformance, column types, errors.
    pub(crate) mod mysql;
    // Tables with features of MySQL and MariaDB: reserved names, invisible columns, limits of a row, generated keys.
    mod mysql_tables;
    // Random values in random spellings, and dates with two meanings.
    mod random_values;
    // PostgreSQL's destination: conformance, column types, errors.
    pub(crate) mod postgres;
    // PostgreSQL's destination with the load modes replace and merge.
    mod postgres_modes;
    // Redshift's destination on a double of its Data API: conformance, fences, lost responses.
    pub(crate) mod redshift;
    // Redshift's destination with the load modes replace and merge.
    mod redshift_modes;
}

// Loads: from the upload to the rows.
mod load {
    // Files that stay in place or are deleted after the load.
    mod after_load;
    // Bytes of Parquet files in binary and text columns, and through the fallback.
    mod binary;
    // Files as people have them, from `tests/cases`.
    mod cases;
    // Wider types, and tables in other schemas.
    mod contract;
    // Extracts of a table into the raw zone, loaded into another database: types, kills, and cursors.
    mod extract;
    // Extracts as requests: in the function, in a task, from another database.
    mod extract_requests;
    // Imports of full exports: a chain of versions, kills at each step, takeovers, refused exports, and the published stream.
    mod exports;
    // Compressed, truncated and misnamed files, and CSV dialects.
    pub(crate) mod files;
    // Unusual and hostile files: the outcome of each, and the memory.
    mod hostile_inputs;
    // Large files that are handed to the Glue job: one run, kills, the end of a run, and what the job reads.
    mod glue_job;
    // JSON and Parquet, and the same rows in every format.
    mod formats;
    // Rows in the lake, alone or together with the database.
    mod lake;
    // The load modes replace, merge and mirror: fallback, replay, files without rows, bad records.
    mod modes;
    // Large files for a table that is created in the same transaction as its rows.
    mod new_table;
    // One file, duplicate events, and events with several files.
    mod pipeline;
    // Files of a raw zone, read in place by Athena.
    mod raw_zone;
    // Files that are copied into Redshift: kills, outage, replay, status.
    mod redshift;
    // Single-pass loads of large files.
    mod single_pass;
    // Syncs of a raw zone: windows, late files, kills, and two at once.
    pub(crate) mod sync;
    // Settings of single tables and rules for their columns.
    mod table_settings;
    // Several tables, which the key names in the database and in Glue.
    mod tables;
    // The order of day and month, the encoding, lines at the end, and archives.
    mod whole_file;
    // Workbooks in place of data files.
    mod workbooks;
}

// Rows in the fallback, and rejected records.
mod fallback {
    // Fallback writes to S3 and Glue, read with Athena.
    mod catalog;
    // Rejected records, which are written to S3, corrected and loaded.
    mod rejects;
    // Fallback rows, read with SQL and replayed.
    mod replay;
}

// The command line, as a process.
mod cli {
    // A folder with files and a schema of a database.
    mod site;
    // `spillway load`: files of this machine, each once.
    mod load;
    // The ledger and the attempt history of local files.
    mod history;
    // `spillway plan`: what a load would do.
    mod plan;
    // Random files: a plan and a load have the same result.
    mod plan_random;
    // A chain of exports: deltas applied one by one, and mirrored exports.
    mod changes;
    // Load modes: counts, predictions, and the settings that errors name.
    mod modes;
    // A missing privilege: the error has the statement that grants it.
    mod privileges;
    // What a new user does wrong: the message, the hint and the exit code.
    mod mistakes;
    // The report page in a browser.
    mod browser;
    // Names of files and options: not UTF-8, pipes, patterns, empty values.
    mod names;
    // Commands that only read, with as few settings as they need.
    mod requests;
    // Mistakes are found before an object is claimed; connections, privileges and languages of the server.
    mod terminal;
    // `spillway diff`: two exports compared by key.
    mod diff;
    // `spillway publish`: the changes of a delta in a Kinesis stream, and a consumer that applies them.
    mod publish;
    // The other commands, and exit codes.
    mod commands;
}

// Outages, crashes and stalls.
mod crash {
    // COMMIT without a response: the rows are stored once.
    mod commit_in_doubt;
    // Each database failure has the outcome that the retry policy names.
    mod failures;
    // A slice of `make faults`: panics, stop signals, stalls, broken links and many workers at once.
    mod faults;
    // `kill -9` at every failpoint that a test can reach, in the function and in the task.
    mod kill;
    // Files with which workers die again and again, and many files during one outage.
    mod poison;
    // A worker that stalls until another one has taken over its lease.
    mod stall;
}

// Attackers: servers, files and names that must not get, show or run anything.
mod security {
    // A server that requests files of the client.
    mod local_files;
    // Names from headers and keys, in SQL, in S3 and on disk.
    mod names;
    // Passwords and values of rows, which no log, message or catalog may contain.
    mod secrets;
    // Servers that cannot prove who they are.
    mod tls;
}

// The deployed functions, the task and the stack.
mod deploy {
    // Outcomes that need an operator: metrics, alarms and events, and no failed invocation.
    mod attention;
    // A burst of uploads waits in the queue, not for database connections.
    mod burst;
    // The check request on good and broken set-ups.
    mod check;
    // The rule that starts the ingest function after a Glue crawler has succeeded.
    mod crawler;
    // The rule that continues with a file after a run of the Glue job has ended.
    mod glue_job;
    // Extracts in a deployed stack, in the function and in a task.
    mod extract;
    // Imports of full exports by the deployed state machine: many tenants and versions at once.
    mod exports;
    // The deployed template, used through S3 and Lambda.
    mod e2e;
    // The values that the parameters of the templates accept, and the alarm on missing sweeps.
    mod parameters;
    // A night with the database down, on a simulated clock: files, alarms, status, queues and the replay.
    mod night;
    // The roles of the template allow what the code calls, and nothing else.
    mod permissions;
    // A stack for Redshift, with a double of its Data API.
    mod redshift;
    // Lists of runs, fallbacks and rejects, by request and by the command line.
    mod runs;
    // The sample events in events/, sent to the functions.
    mod samples;
    // Five kinds of database secrets, with a server that checks tokens of IAM database authentication.
    mod secrets;
    // Two stacks in one account: neither may use what belongs to the other.
    mod stacks;
    // Status of files, with the server up and down.
    mod status;
    // Streams: events from Kinesis through Firehose and the transform function into tables.
    mod streaming;
    // A sync of many files that is killed again and again, and the cost of a sync that finds nothing.
    mod sync;
    // The task as a process: modes, exit codes and signals.
    mod task;
    // Scripts for a real AWS account, as far as they run without one.
    mod scripts;
    // The template in every combination of its conditions, and some of them deployed.
    mod template;
}
