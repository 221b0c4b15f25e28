//! The real parts that Spillway is proved against: a private MariaDB, a local AWS, a proxy that misbehaves on demand,
//! the Lambda runtime emulator, the task as a process, and a ledger of truth that counts rows.
//!
//! It knows Spillway only from outside: binaries, settings, tables and objects. Nothing here reaches into the core,
//! and nothing that it starts outlives the test run (see [`keeper`]).

pub mod athena;
pub mod cloud;
pub mod database;
pub mod deploy;
pub mod event;
pub mod failpoint;
pub mod fallback;
pub mod fixture;
pub mod http;
pub mod keeper;
pub mod lambda;
pub mod mariadb;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod roles;
pub mod run;
pub mod sample_events;
pub mod settings;
pub mod task;
pub mod test_env;
pub mod tls;
pub mod wait;
pub mod wire;
