//! Errors of a user's Parquet file. Every fault of the file is [`ErrorKind::Invalid`], also a panic of the Parquet crate.

use std::panic::AssertUnwindSafe;

use parquet::errors::ParquetError;

use crate::error::BoxError;
use crate::{Error, ErrorKind, Result};

/// The error for an invalid file.
pub(super) fn invalid(reason: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Invalid, format!("the file is not valid Parquet: {}", reason.as_ref()))
}

/// Runs code of the Parquet crate, which may panic on a corrupt file.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(decode_error),
        Err(_) => Err(panicked()),
    }
}

/// The error for a panic of the Parquet crate.
pub(super) fn panicked() -> Error {
    invalid("its content does not match its footer")
}

/// Wraps an error of this crate, so that it passes through the Parquet crate. [`decode_error`] unwraps it.
pub(super) fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// The error of this crate in `error`, or else an invalid file. The messages of the Parquet crate contain no values.
pub(super) fn decode_error(error: ParquetError) -> Error {
    unwrap_external(error, |source| invalid("it cannot be decoded").with_source(source))
}

/// The error of this crate in `error`, or else the result of `other`.
pub(super) fn unwrap_external(error: ParquetError, other: impl FnOnce(BoxError) -> Error) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => other(source),
        },
        error => other(Box::new(error)),
    }
}
