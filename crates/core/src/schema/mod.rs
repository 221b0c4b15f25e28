//! Columns that the object's key adds, and other names for [`spillway_formats::schema`].

pub mod key_columns;

pub use spillway_formats::schema::*;
