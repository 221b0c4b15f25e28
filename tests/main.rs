//! Spillway against real servers: MariaDB, PostgreSQL, a local AWS, the Lambda runtime emulator, and processes that are killed.

// The environment itself: each part does what the tests rely on.
mod env_check;
// The S3 store alone: reads, moves, leases, uploads.
mod store;

// What every engine promises.
mod engines {
    // The list of tests that each engine's module runs.
    mod conformance;
    // The same list for the load modes other than append.
    mod conformance_modes;
    // MariaDB: the lists, every error class, every column type.
    mod mysql;
    // PostgreSQL: the lists, every error class, every column type.
    mod postgres;
    // What only PostgreSQL does when rows are replaced or merged.
    mod postgres_modes;
}

// From the upload to the rows.
mod load {
    // Files as people have them: compressed, truncated, misnamed.
    mod files;
    // JSON and Parquet in the whole pipeline, and the same rows in every format.
    mod formats;
    // The load modes other than append: fallback, replay, files without rows, bad records.
    mod modes;
    // Large files for a table that is created in the transaction of its rows.
    mod new_table;
    // One file, and the same event many times.
    mod pipeline;
    // Files that are loaded while they are read.
    mod single_pass;
    // Many tables: their names come from the key, in the database and in Glue.
    mod tables;
}

// Rows that are not in the database.
mod fallback {
    // Rows in S3 and Glue, as Athena reads them.
    mod catalog;
    // Rejected records: kept apart, corrected, loaded.
    mod rejects;
    // Everything that fell back is readable by SQL, and can be replayed.
    mod replay;
}

// Outages, crashes and stalls.
mod crash {
    // COMMIT without an answer: the rows are stored once, and never in two places.
    mod commit_in_doubt;
    // Each database failure has the outcome that the failure table names.
    mod failures;
    // kill -9 at every failpoint, in the function and in the task.
    mod kill;
    // A worker that stalls until another one has taken over must not finish its work.
    mod stall;
}

// The functions, the task and the stack.
mod deploy {
    // The deployed template: files are uploaded, and the stack does the rest.
    mod e2e;
    // The roles of the template allow what the code calls, and nothing else.
    mod permissions;
    // The sample events in events/, each through the real functions.
    mod samples;
    // The task as a process: its modes, exit codes and signals.
    mod task;
}
