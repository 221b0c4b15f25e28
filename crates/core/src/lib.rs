//! Loads files from S3 into MySQL, MariaDB or PostgreSQL, each exactly once.
//!
//! The pipeline: event → route → open object → decompress → parse → infer schema → load, or fall back → ledger → move
//! object → report.
//!
//! The modules by layer, from the bottom:
//!
//! - core types: [`error`], `cost`, `pattern`, [`object`], [`report`], [`deadline`], [`failpoint`], [`progress`], [`batch`]
//! - pure modules: `event`, `route`, [`policy`], `key_columns`, and the crate `spillway-formats`
//! - adapters of one external system each: `aws`, [`store`], `ledger`, [`destination`], [`catalog`], `launch`, [`local_file`], `queue`, [`function`], [`kinesis`], `outcome_events`, `secret`, [`telemetry`], `metrics`
//! - composition: `reader`, `pipeline`, `row_objects`, [`fallback`], [`local_load`], [`plan`], `replay`, `lake_recovery`, `raw_zone`, `reconcile`, `cleanup`, [`sync`], [`extract`], [`exports`], [`listing`], [`status`], [`check`], [`request`], [`dispatch`], [`stream`]
//! - top: [`config`], which builds the settings of all layers
//!
//! Public are only the modules that the binaries and the integration tests use.

mod aws;
mod aws_failure;
pub mod batch;
pub mod catalog;
pub mod check;
mod cleanup;
pub mod config;
mod cost;
pub mod deadline;
pub mod destination;
pub mod dispatch;
pub mod error;
mod event;
pub mod exports;
pub mod extract;
pub mod failpoint;
pub mod fallback;
pub mod function;
mod glue_jobs;
mod key_columns;
pub mod kinesis;
mod lake_recovery;
mod launch;
mod ledger;
pub mod listing;
pub mod local_file;
pub mod local_load;
#[cfg(test)]
mod memory_aws;
mod metrics;
pub mod object;
mod outcome_events;
mod pattern;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod progress;
mod queue;
mod raw_zone;
mod reader;
mod reconcile;
mod replay;
pub mod report;
pub mod request;
pub mod route;
mod row_objects;
mod secret;
pub mod status;
pub mod store;
pub mod stream;
#[cfg(test)]
mod stub_server;
pub mod sync;
pub mod table_name;
pub mod telemetry;
