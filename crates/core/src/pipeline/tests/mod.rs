//! Tests of the whole pipeline in memory: every branch of what happened before, what the database says, and what fails.
//!
//! S3 and Glue are [`crate::memory_aws`], the database is [`FakeDatabase`]. Each test states the outcome, the objects in
//! the bucket, and the contents of table and ledger afterwards. The drivers and SDK clients are tested elsewhere, against
//! real servers.

/// Which answers of the database to the start of a load lead where.
mod begin;
/// COMMIT with a known and with an unknown result.
mod commit;
/// Leases and fallback objects that an earlier attempt has left.
mod earlier_attempt;
/// Each row of the failure table, and its retries.
mod failure_table;
/// Fallback writes that fail halfway.
mod fallback;
/// A database that follows a script.
mod fake_database;
/// A bucket, a catalog and a database for one test.
mod fixture;
/// Moves that fail halfway.
mod moves;
/// Objects that are missing, unreadable, or overwritten while they are read.
mod object;
/// Rejected files and rejected records.
mod rejects;
/// Rows that return from the fallback to the database.
mod replay;

use fake_database::{CommitFault, FakeDatabase, Step};
use fixture::{FILE, Fixture, KEY, Reading};
