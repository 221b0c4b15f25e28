//! Where a Redshift database is, and how rows are copied into it.

/// A Redshift database, and what COPY needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedshiftSettings {
    /// The server of the database.
    pub server: RedshiftServer,
    /// The database with the tables and the ledger.
    pub database: String,
    /// The user of the database.
    pub login: RedshiftLogin,
    /// The ARN of the role with which COPY reads S3, or `default` for the server's default role.
    pub copy_role: String,
    /// The prefix in the bucket for the rows that COPY reads.
    pub copy_prefix: String,
}

/// A Redshift server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedshiftServer {
    /// A workgroup of Redshift Serverless.
    Workgroup(String),
    /// A provisioned cluster.
    Cluster(String),
}

/// The database user of the Data API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedshiftLogin {
    /// The user that belongs to the caller's IAM role.
    Caller,
    /// A user of a cluster, for which the Data API gets temporary credentials.
    User(String),
    /// The user in a secret with this name or ARN.
    Secret(String),
}

/// The keys of a table that Spillway creates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedshiftKeys {
    /// The column by which the rows are distributed; `None` leaves this to Redshift.
    pub distribution: Option<String>,
    /// The columns by which the rows are sorted; none leaves this to Redshift.
    pub sort: Vec<String>,
}
