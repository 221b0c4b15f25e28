use std::future::ready;

use bytes::Bytes;

use jiff::Timestamp;

use super::*;
use crate::error::Position;
use crate::memory_aws::{BUCKET, MemoryAws};
use spillway_formats::Batch;
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::fallback::FallbackColumn;

fn columns() -> Vec<FallbackColumn> {
    let (file_type, stored_type) = (ColumnType::Text, ColumnType::Text);
    vec![FallbackColumn { name: "c".to_owned(), file_type, stored_type, place: 1 }]
}

fn three_rows() -> Batch {
    let mut batch = Batch::new(1);
    for record in 1..=3 {
        batch.push_field(Some(b"x"));
        batch.end_row(Position { record, line: 0, byte: 0 });
    }
    batch
}

fn as_parquet() -> Vec<u8> {
    let mut encoder = ParquetEncoder::new(&columns()).unwrap();
    encoder.write(&three_rows()).unwrap();
    let mut bytes = encoder.take_bytes();
    bytes.extend(encoder.finish().unwrap());
    bytes
}

fn decode_parquet(bytes: Vec<u8>) -> BatchStream<'static> {
    let bytes = Bytes::from(bytes);
    let size_bytes = bytes.len() as u64;
    let read = move |range: Range<u64>| ready(Ok::<_, Error>(bytes.slice(range.start as usize..range.end as usize)));
    parquet::decode(&columns(), size_bytes, read).map_err(Error::from).boxed()
}

fn decode_csv(kept_bytes: usize) -> BatchStream<'static> {
    let mut bytes = b"\"\",\"x\"\n".repeat(3);
    bytes.truncate(bytes.len().min(kept_bytes));
    fallback_csv::decode(&columns(), stream::iter([Ok::<_, Error>(Bytes::from(bytes))])).map_err(Error::from).boxed()
}

async fn rows_of(rows: BatchStream<'static>, declared: u64) -> Result<usize> {
    let batches: Vec<Batch> = counted(rows, declared).try_collect().await?;
    Ok(batches.iter().map(Batch::rows).sum())
}

#[tokio::test]
async fn row_object_must_have_the_rows_of_its_manifest() {
    for declared in [0, 2, 3, 4] {
        for rows in [decode_parquet(as_parquet()), decode_csv(usize::MAX)] {
            match rows_of(rows, declared).await {
                Ok(rows) => assert_eq!((rows, declared), (3, 3)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::FileBroken);
                    let expected = format!("the object with the rows has 3 rows, but its manifest declares {declared}");
                    assert_eq!(error.message(), expected);
                    assert_ne!(declared, 3);
                }
            }
        }
    }
}

#[tokio::test]
async fn row_object_without_its_last_rows_is_an_error() {
    // Each record is `"","x"` and its line end.
    let error = rows_of(decode_csv(14), 3).await.unwrap_err();
    assert_eq!(error.message(), "the object with the rows has 2 rows, but its manifest declares 3");
}

/// The second pass over a file may lose or find a row only by a bug. Then the object is not completed.
#[tokio::test]
async fn other_rows_than_the_manifest_declares_are_an_error() {
    let aws = MemoryAws::default();
    aws.put("uploads/a.csv", "c\nx\nx\nx\n");
    let store = Store::new(&aws.config());
    let source = store.head(&ObjectRef::new(BUCKET, "uploads/a.csv")).await.unwrap();
    for rows in [2, 3, 4] {
        let manifest = Manifest {
            source: source.clone(),
            body_sha256: String::new(),
            target_table: "orders".into(),
            original_key: None,
            glue_table: None,
            schema: Schema::default(),
            columns: columns(),
            rows,
            rows_rejected: 0,
            reason: String::new(),
            needs_attention: false,
            format: FallbackFormat::Parquet,
            key: "fallback/orders/a.parquet".to_owned(),
            dt: String::new(),
            written_at: Timestamp::UNIX_EPOCH,
        };
        let mut upload = store.upload(BUCKET, &manifest.key, CONTENT_TYPE);
        let sent = send(&mut upload, &manifest, stream::iter([Ok(three_rows())]).boxed()).await;
        let expected = match rows {
            3 => None,
            _ => Some(format!("3 rows were written, the manifest declares {rows}")),
        };
        assert_eq!(sent.err().map(|error| error.message().to_owned()), expected);
    }
}

/// The reader treats such an object as empty.
#[tokio::test]
async fn row_object_whose_footer_has_no_rows_is_an_error() {
    let mut bytes = as_parquet();
    // `FileMetaData.num_rows`, which is 3, before the list of row groups.
    let num_rows: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, four)| four == b"\x16\x06\x19\x1c").map(|(place, _)| place).collect();
    assert_eq!(num_rows.len(), 1);
    bytes[num_rows[0] + 1] = 0;
    let error = rows_of(decode_parquet(bytes), 3).await.unwrap_err();
    assert_eq!(error.message(), "the object with the rows has 0 rows, but its manifest declares 3");
}
