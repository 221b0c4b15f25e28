//! Everything Spillway knows about data, as one road:
//!
//! event → route → open object → decompress → parse → infer schema → load, or fall back → ledger → move object → report
//!
//! Layers, from the bottom; arrows only point down, and rooms of the adapter layer never import each other:
//! words ([`error`], [`config`], [`cost`], [`pattern`], [`object`], [`report`], [`deadline`], [`fault`]), pure rooms ([`event`],
//! [`route`], [`mod@format`], [`schema`], [`policy`]), adapters ([`store`], [`target`], [`catalog`], [`launch`], [`secret`],
//! [`telemetry`]) and the rooms that compose them ([`pipeline`], [`fallback`], [`replay`],
//! [`sweep`], [`dispatch`], [`request`]).

pub mod aws;
#[cfg(test)]
mod canned;
pub mod catalog;
pub mod config;
pub mod cost;
pub mod deadline;
pub mod dispatch;
pub mod error;
pub mod event;
pub mod fallback;
pub mod fault;
pub mod format;
pub mod launch;
pub mod object;
pub mod pattern;
pub mod pipeline;
pub mod policy;
pub mod reject;
pub mod replay;
pub mod report;
pub mod request;
pub mod route;
pub mod schema;
pub mod secret;
pub mod store;
pub mod sweep;
pub mod target;
pub mod telemetry;
