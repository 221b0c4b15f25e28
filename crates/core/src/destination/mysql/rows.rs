//! A row of the file in a statement's form: each value checked, then written.

use crate::destination::rows::Rows;
use crate::error::Result;

use super::check::{Encoded, check};
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

/// Appends the current row in a statement's form; `false` when it is left out, and then nothing is appended. After an error
/// `out` holds half a row.
pub(super) fn write<F: Form>(rows: &mut Rows<'_, Storage>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool> {
    let start = out.len();
    let Err(error) = write_fields::<F>(rows, scratch, out) else { return Ok(true) };
    rows.reject_row(error)?;
    out.truncate(start);
    Ok(false)
}

fn write_fields<F: Form>(rows: &Rows<'_, Storage>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
    for (index, (column, field)) in rows.fields().enumerate() {
        if index > 0 {
            out.push(F::SEPARATOR);
        }
        match check(column, field, scratch, rows.position())? {
            Encoded::Null => F::null(out),
            Encoded::Bytes(bytes) => F::value(column, bytes, out),
            Encoded::Scratch => F::value(column, scratch, out),
        }
    }
    Ok(())
}
