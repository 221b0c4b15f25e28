//! Spillway against real servers: MariaDB, a local AWS, the Lambda runtime emulator, and processes that are killed.

// COMMIT without an answer: the rows are stored once, and never in both places.
mod commit_unknown;
// What every target promises, as a list that each engine's module runs.
mod conformance;
// The same for the load modes beside append.
mod conformance_modes;
// The deployed template: files are uploaded, and the stack does the rest.
mod e2e;
// Each failure of the database goes where the failure table says, with its reason.
mod failures;
// What fell back is readable by SQL, nothing hides anything, and all of it comes back.
mod fallback;
// The spillway: rows in S3 and the catalog as Athena reads them, and the way back.
mod fallback_catalog;
// Files as people have them: compressed, cut off, misnamed.
mod files;
// JSON and Parquet on the whole road, and the same rows in every format.
mod formats;
// The harness itself: each part does what the other tests rely on.
mod harness_check;
// kill -9 at every named point of the road, for both ways down it.
mod kill;
// The load modes beside append on the whole road: the fallback and the way back, files without rows, bad records.
mod load_modes;
// The MySQL target, on MariaDB: the conformance list, every failure class, every column type.
mod mysql;
// Large files for a table that is made in the transaction of its rows.
mod new_table;
// The roles of the template allow what the code calls, and nothing else.
mod permissions;
// Files that are loaded while they are read.
mod single_pass;
// The PostgreSQL target: the conformance list, every failure class, every column type.
mod postgres;
// What is PostgreSQL's own when rows are replaced or merged.
mod postgres_modes;
// Bad records are set aside one by one, and come back corrected.
mod rejects;
// From the upload to the rows, and the same event many times.
mod pipeline;
// The sample events in events/, each through the real functions.
mod samples;
// A worker that stands still until another has taken over, and then goes on: it must not finish too.
mod stall;
// The store alone: S3 as it answers on good days.
mod store;
// Many tables beside one: named by the key, in the database and in Glue.
mod tables;
// The task as a process: its modes, exit codes and signals.
mod task;
