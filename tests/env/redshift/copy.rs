//! COPY of Parquet: reads the manifest and its parts, and inserts their rows.

use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tokio_postgres::Client;

const DAY_MICROS: i64 = 86_400_000_000;
/// Rows in one INSERT.
const ROWS: usize = 500;

/// Runs a COPY. Returns the number of rows.
pub(super) async fn copy(client: &Client, s3: &aws_sdk_s3::Client, sql: &str) -> Result<u64> {
    let rest = sql.strip_prefix("COPY ").context("no COPY")?;
    let (table, rest) = rest.split_once(" FROM 's3://").context("COPY has no source")?;
    let (url, options) = rest.split_once('\'').context("the source has no end")?;
    ensure!(options.ends_with(" FORMAT AS PARQUET MANIFEST"), "other options: {options}");
    ensure!(options.starts_with(" IAM_ROLE "), "no role: {options}");
    let manifest: Value = serde_json::from_slice(&get(s3, url).await?)?;
    let mut rows = 0;
    for entry in manifest["entries"].as_array().context("the manifest has no entries")? {
        let url = entry["url"].as_str().and_then(|url| url.strip_prefix("s3://")).context("an entry has no URL")?;
        let part = get(s3, url).await?;
        let length = entry["meta"]["content_length"].as_u64().context("an entry has no length")?;
        ensure!(part.len() as u64 == length, "the part has {} bytes, the manifest says {length}", part.len());
        for batch in ParquetRecordBatchReaderBuilder::try_new(part)?.build()? {
            rows += insert(client, table, &batch?).await?;
        }
    }
    Ok(rows)
}

async fn get(s3: &aws_sdk_s3::Client, url: &str) -> Result<Bytes> {
    let (bucket, key) = url.split_once('/').context("a URL has no key")?;
    let found = s3.get_object().bucket(bucket).key(key).send().await;
    let object = found.with_context(|| format!("The specified S3 prefix '{key}' does not exist"))?;
    Ok(object.body.collect().await?.into_bytes())
}

async fn insert(client: &Client, table: &str, batch: &RecordBatch) -> Result<u64> {
    let mut inserted = 0;
    for start in (0..batch.num_rows()).step_by(ROWS) {
        let mut values = Vec::new();
        for row in start..(start + ROWS).min(batch.num_rows()) {
            let fields = batch.columns().iter().map(|column| literal(column, row)).collect::<Result<Vec<_>>>()?;
            values.push(format!("({})", fields.join(", ")));
        }
        client.batch_execute(&format!("INSERT INTO {table} VALUES {}", values.join(", "))).await?;
        inserted += values.len() as u64;
    }
    Ok(inserted)
}

/// A value as a literal of PostgreSQL.
fn literal(column: &dyn Array, row: usize) -> Result<String> {
    if column.is_null(row) {
        return Ok("NULL".to_owned());
    }
    let text = match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Date32 => date(i64::from(column.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let (days, rest) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
            let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            format!("{} {hours:02}:{minutes:02}:{:02}.{fraction:06}", date(days), seconds % 60)
        }
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        other => bail!("Redshift does not copy the type {other}"),
    };
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// A date from days since 1970-01-01, by the algorithm `civil_from_days` of Howard Hinnant.
fn date(days: i64) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
