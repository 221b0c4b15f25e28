//! Spillway against real servers: MariaDB, a local AWS, the Lambda runtime emulator, and processes that are killed.

// What every target promises, as a list that each engine's module runs.
mod conformance;
// The spillway: rows in S3 and the catalog as Athena reads them, and the way back.
mod fallback_catalog;
// The harness itself: each part does what the other tests rely on.
mod harness_check;
// The MySQL target, on MariaDB: the conformance list, every failure class, every column type.
mod mysql;
// The store alone: S3 as it answers on good days.
mod store;
