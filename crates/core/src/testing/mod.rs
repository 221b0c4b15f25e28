//! For unit tests: S3 and Glue in memory, behind the SDK's own clients.

pub(crate) mod memory_aws;
