//! File formats of Spillway: bytes in, batches of rows out, and the other way round.
//!
//! Decoders turn the bytes of CSV, JSON and Parquet files into [`Batch`]es. [`schema`] infers column types from them, and
//! encoders write them as Parquet or CSV. The crate uses no client, database, environment or clock: the caller reads the bytes
//! and passes them in, and settings arrive as [`decoder::ReadOptions`].

pub mod batch;
pub mod columns;
pub mod compression;
pub mod csv;
pub mod decoder;
pub mod detect;
pub mod encoding;
mod end_mark;
pub mod error;
pub mod extract;
pub mod fallback_csv;
pub mod json;
pub mod limits;
pub mod numbers;
pub mod parquet;
pub mod reject;
pub mod schema;
mod text;

pub use batch::{Batch, FieldKind, Position};
pub use error::{Error, ErrorKind, Result};
pub use text::TextEncoding;
