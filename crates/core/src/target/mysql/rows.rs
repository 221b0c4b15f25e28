//! A row of the file in a statement's form: each value checked, then written.

use crate::error::Result;
use crate::target::rows::Rows;

use super::check::{Checked, check};
use super::column::{Storage, TargetColumn};

/// How a checked value is written down.
pub(super) trait Form {
    /// NULL.
    fn null(out: &mut Vec<u8>);
    /// A value, escaped.
    fn value(column: &TargetColumn, value: &[u8], out: &mut Vec<u8>);
    /// What stands between two fields.
    const SEPARATOR: u8;
}

/// Appends the current row in a statement's form. After an error `out` holds half a row.
pub(super) fn write<F: Form>(rows: &Rows<'_, Storage>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
    for (index, (column, field)) in rows.fields().enumerate() {
        if index > 0 {
            out.push(F::SEPARATOR);
        }
        match check(column, field, scratch, rows.position())? {
            Checked::Null => F::null(out),
            Checked::Bytes(bytes) => F::value(column, bytes, out),
            Checked::Scratch => F::value(column, scratch, out),
        }
    }
    Ok(())
}
