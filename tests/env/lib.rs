//! The environment of the integration tests: database servers, a local AWS, a fault-injecting proxy, the Lambda runtime
//! emulator, the task as a process, and a check of every row.
//!
//! It uses Spillway only from outside, through binaries, settings, tables and objects. It does not depend on the core
//! crate. Every process that it starts ends with the test run (see [`keeper`]).

pub mod alarms;
pub mod athena;
pub mod attacker;
pub mod aws_json;
pub mod cloud;
pub mod database;
pub mod deploy;
pub mod event;
pub mod failpoint;
pub mod fallback;
pub mod faults;
pub mod firehose;
pub mod fixture;
pub mod http;
pub mod keeper;
pub mod lambda;
pub mod mariadb;
mod mysql_root;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod queues;
pub mod redshift;
pub mod requests;
pub mod roles;
pub mod run;
#[path = "../../crates/cli/src/sample_events.rs"]
pub mod sample_events;
pub mod server;
pub mod settings;
pub mod small_disk;
pub mod task;
mod template;
pub mod terminal;
pub mod test_env;
pub mod tls;
pub mod token_service;
pub mod wait;
pub mod wire;
