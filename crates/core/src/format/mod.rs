//! Other names for [`spillway_formats`].

pub use crate::batch::BatchStream;
pub use spillway_formats::{Batch, FieldKind, compression, decoder, detect, fallback_csv, parquet};
