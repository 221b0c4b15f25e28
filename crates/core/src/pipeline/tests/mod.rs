//! Tests of the whole pipeline in memory: every branch of what happened before, what the database says, and what fails.
//!
//! S3 and Glue are [`crate::memory_aws`], the database is [`FakeDatabase`]. Each test states the outcome, the objects
//! in the bucket, and the contents of table and ledger afterwards. The drivers and SDK clients are tested elsewhere,
//! against real servers.

/// Files that stay in place or are deleted after the load.
mod after_load;
/// Each result of begin, duplicates, and files without rows.
mod begin;
/// COMMIT with a known and with an unknown result, and COMMIT that is never sent.
mod commit;
/// Leases, uploads and fallback objects of an earlier attempt.
mod earlier_attempt;
/// Imports of full exports, step by step.
mod exports;
/// Each entry of the retry policy, and its retries.
mod failure_table;
/// A database that follows a script.
mod fake_database;
/// Fallback writes that fail halfway.
mod fallback;
/// A bucket, a catalog and a database for one test.
mod fixture;
/// Files that are handed to the Glue job.
mod glue_job;
/// The attempt history, and lists of runs, fallbacks and rejects.
mod history;
/// Rows in the lake, alone or together with the database.
mod lake;
/// Moves that fail halfway.
mod moves;
/// Objects that are missing, unreadable, or overwritten while they are read.
mod object;
/// Outages that the process knows of from another file.
mod outage;
/// Files with which workers have died.
mod poison;
/// Files of raw zones in the Glue catalog.
mod raw_catalog;
/// Rejected files and rejected records.
mod rejects;
/// Replay of fallback objects.
mod replay;
/// Status and check.
mod status;
/// Syncs of time windows.
mod sync;
/// Table settings in S3.
mod table_settings;
/// Requests and messages that run out of time.
mod time;

use fake_database::{CommitFault, FakeDatabase, Step};
use fixture::{FILE, Fixture, KEY, Reading};
