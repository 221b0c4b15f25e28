//! Why records are not delivered.

use std::borrow::Cow;

/// Why a record is not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The kind, for metrics.
    pub(super) reason: Reason,
    /// A sentence without values and names of the record.
    pub(super) detail: Cow<'static, str>,
}

/// The kinds of records that are not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It is not a sequence of JSON objects.
    NotJson,
    /// An event has no field with the table, or it is `null`.
    NoTable,
    /// The field is not a valid table name.
    InvalidTable,
    /// The table is not one of `STREAM_TABLES`.
    UnknownTable,
    /// The events belong to several tables. A record gets one place in S3.
    SeveralTables,
    /// An event lacks one of `STREAM_KEY_FIELDS`, or it is `null`.
    NoKey,
    /// A text or a name in an event contains U+0000.
    NulCharacter,
    /// Two names in an event would be the same column, such as `id` and `ID`.
    SimilarNames,
    /// An event has more fields than the limit.
    TooManyFields,
    /// The result does not fit into a response.
    TooLarge,
}

impl Reason {
    /// The name in metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NoTable => "no_table",
            Self::InvalidTable => "invalid_table",
            Self::UnknownTable => "unknown_table",
            Self::SeveralTables => "several_tables",
            Self::NoKey => "no_key",
            Self::NulCharacter => "nul_character",
            Self::SimilarNames => "similar_names",
            Self::TooManyFields => "too_many_fields",
            Self::TooLarge => "too_large",
        }
    }
}

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
