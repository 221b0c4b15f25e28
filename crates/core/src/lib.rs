//! Everything Spillway knows about data, as one road:
//!
//! event → route → open object → decompress → parse → infer schema → load, or fall back → ledger → move object → report
//!
//! Layers, from the bottom; arrows only point down, and rooms of the adapter layer never import each other:
//! words ([`error`], [`config`], [`cost`], [`pattern`], [`object`], [`report`], [`deadline`], [`failpoint`]), pure rooms ([`event`],
//! [`route`], [`mod@format`], [`schema`], [`policy`]), adapters ([`store`], [`destination`], [`catalog`], [`launch`], [`secret`],
//! [`telemetry`]) and the rooms that compose them ([`pipeline`], [`fallback`], [`replay`],
//! `reconcile`, `cleanup`, [`dispatch`], [`request`]).

pub mod aws;
pub mod catalog;
mod cleanup;
pub mod config;
pub mod cost;
pub mod deadline;
pub mod destination;
pub mod dispatch;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod fallback;
pub mod format;
pub mod launch;
pub mod object;
pub mod pattern;
pub mod pipeline;
pub mod policy;
pub mod reader;
mod reconcile;
pub mod reject;
pub mod replay;
pub mod report;
pub mod request;
pub mod route;
pub mod schema;
pub mod secret;
pub mod store;
#[cfg(test)]
mod stub_server;
pub mod telemetry;
