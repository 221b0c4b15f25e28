//! `spillway extract`: writes a table or a query of a database into a raw zone in S3.

use std::fmt;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use spillway_core::config::DatabaseChoice;
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::extract::{
    ExtractRequest, ExtractResult, ExtractStatus, Extractor, PartCompression, PartLimits, SourceSettings,
};
use spillway_core::pipeline::DatabaseAccess;
use spillway_core::progress::Progress;
use spillway_core::request::{extract_relation, time};

use crate::database::{DatabaseOptions, LoginOptions};
use crate::exit::{self, Exit};
use crate::numbers::{count, counted};
use crate::session::Session;
use crate::table::printable;
use crate::table_options::check_unquoted;

/// The arguments of the command.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  spillway extract postgres://me@db/shop --table orders --to s3://lake/data/batch/\n  \
                  spillway extract --secret prod/shop --table orders --cursor updated_at --to s3://lake/data/batch/"
)]
pub(crate) struct Arguments {
    /// Database, as postgres://user@host/database, mysql://… or mariadb://…
    ///
    /// The password may be in the URL, in RDS_PASSWORD or in --password-file. Other processes can see a password in the URL.
    #[arg(value_name = "URL", id = "source")]
    source: Option<String>,
    /// Table or view, with its schema if needed
    #[arg(long, value_name = "NAME", required_unless_present = "query", conflicts_with = "query")]
    table: Option<String>,
    /// SELECT statement; needs --name
    #[arg(long, value_name = "SQL", requires = "name")]
    query: Option<String>,
    /// Raw zone, as s3://bucket/prefix/
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Name in the raw zone; by default that of the table
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Column that only grows: extract only rows above the last run's
    #[arg(long, value_name = "COLUMN")]
    cursor: Option<String>,
    /// Time in the name of the folder, in UTC; by default now
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The most rows in a part
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    batch_size: Option<u64>,
    /// The most bytes of CSV in a part; a part may exceed it by one row
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    part_bytes: Option<u64>,
    /// Write .csv instead of .csv.gz
    #[arg(long)]
    uncompressed: bool,
    #[command(flatten)]
    login: LoginOptions,
}

/// Prints no password, which may be in the URL.
impl fmt::Debug for Arguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Arguments").field("table", &self.table).field("to", &self.to).finish_non_exhaustive()
    }
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct ExtractDocument {
    #[serde(flatten)]
    result: ExtractResult,
    seconds: f64,
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<Exit> {
    let (bucket, request) = arguments.request()?;
    let options = DatabaseOptions::of_url(arguments.source, arguments.login);
    let settings = session.settings(options.settings()?)?;
    if settings.database == DatabaseChoice::Missing {
        let message = "neither an argument nor a setting names the database; write its URL, or use --secret";
        return Err(Error::new(ErrorKind::Settings, message));
    }
    let (started, progress) = (Instant::now(), Progress::default());
    let deadline = exit::until_signal()?;
    let database = settings.pipeline.database;
    let DatabaseAccess::Login(credentials) = database.access else {
        let message = "an extract reads PostgreSQL, MySQL or MariaDB; Redshift writes files to S3 itself, with UNLOAD";
        return Err(Error::new(ErrorKind::Settings, message));
    };
    let source = SourceSettings {
        region: settings.pipeline.region,
        credentials,
        ca_secret: database.ca_secret,
        options: database.options,
    };
    let extractor = Box::pin(Extractor::new(source)).await;
    let result = Box::pin(extractor.run(&bucket, &request, &progress, &deadline)).await?;
    let document = ExtractDocument { result, seconds: started.elapsed().as_secs_f64() };
    session.output.result(&document, |_| document.text());
    Ok(Exit::Done)
}

impl Arguments {
    fn request(&self) -> Result<(String, ExtractRequest)> {
        let invalid = |message: String| Error::new(ErrorKind::EventInvalid, message);
        let address = self.to.strip_prefix("s3://").and_then(|address| address.split_once('/'));
        let Some((bucket, prefix)) = address.filter(|(bucket, _)| !bucket.is_empty()) else {
            return Err(invalid(format!("--to {}: write s3://bucket/prefix/", self.to)));
        };
        let prefix = if prefix.is_empty() || prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
        self.table.as_deref().map(check_unquoted).transpose()?;
        let (relation, name) = extract_relation(self.table.as_deref(), self.query.as_deref(), self.name.as_deref())?;
        let defaults = PartLimits::default();
        let limits = PartLimits {
            rows: self.batch_size.unwrap_or(defaults.rows),
            bytes: self.part_bytes.unwrap_or(defaults.bytes),
        };
        let request = ExtractRequest {
            relation,
            name,
            prefix,
            cursor: self.cursor.clone(),
            slot: self.at.as_deref().map(|at| time("--at", at)).transpose()?,
            limits,
            compression: if self.uncompressed { PartCompression::None } else { PartCompression::Gzip },
        };
        Ok((bucket.to_owned(), request))
    }
}

impl ExtractDocument {
    fn text(&self) -> String {
        let ExtractResult { status, bucket, folder, finished_before, manifest } = &self.result;
        let size = format!("{} in {}", counted(manifest.rows, "row"), counted(manifest.parts.len() as u64, "part"));
        let what = match status {
            ExtractStatus::Extracted => format!("{size}, {} bytes, in {:.1} s", count(manifest.bytes), self.seconds),
            ExtractStatus::Finished => format!("{size}, read by an earlier run and made visible now"),
            ExtractStatus::AlreadyExtracted => format!("{size}, already extracted; nothing was read"),
        };
        let mut lines = vec![format!("{}: {what}", printable(&format!("s3://{bucket}/{folder}")))];
        lines.extend(
            finished_before.as_ref().map(|folder| format!("finished an earlier run first: {}", printable(folder))),
        );
        if let Some(cursor) = &manifest.cursor {
            let reached = cursor.up_to.as_deref().unwrap_or("nothing");
            lines.push(format!("{} has reached {}", printable(&cursor.column), printable(reached)));
            if cursor.rows_without_value > 0 {
                let rows = counted(cursor.rows_without_value, "row");
                lines.push(format!("{rows} without a value in {} not extracted", printable(&cursor.column)));
            }
        }
        lines.join("\n") + "\n"
    }
}
