mod encoder;

use futures_util::TryStreamExt;
use proptest::prelude::*;

use super::*;
use encoder::CsvEncoder;

type Row = Vec<Option<String>>;

fn column(name: &str, file_type: ColumnType, place: usize) -> FallbackColumn {
    FallbackColumn { name: name.to_owned(), file_type, stored_type: ColumnType::Text, place }
}

/// Two columns in another order than in the table, which has a column of other files between them.
fn columns() -> Vec<FallbackColumn> {
    vec![column("note", ColumnType::Text, 3), column("id", ColumnType::Integer, 1)]
}

fn row(fields: &[Option<&str>]) -> Row {
    fields.iter().map(|field| field.map(str::to_owned)).collect()
}

fn batch(rows: &[Row]) -> Batch {
    let mut batch = Batch::new(rows.first().map_or(0, Vec::len));
    for (index, row) in rows.iter().enumerate() {
        row.iter().for_each(|field| batch.push_field(field.as_deref().map(str::as_bytes)));
        batch.end_row(Position { record: index as u64 + 1, line: 0, byte: 0 });
    }
    batch
}

async fn encoded(columns: &[FallbackColumn], rows: &[Row]) -> Result<Vec<u8>> {
    let mut encoder = CsvEncoder::new(columns);
    let mut bytes = Vec::new();
    for rows in rows.chunks(3) {
        encoder.write(&batch(rows)).await?;
        bytes.extend(encoder.take_bytes());
    }
    bytes.extend(encoder.finish());
    Ok(bytes)
}

async fn decoded(columns: &[FallbackColumn], bytes: &[u8], chunk_bytes: usize) -> Result<Vec<Row>> {
    let chunks: Vec<Result<Bytes>> = bytes.chunks(chunk_bytes).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let batches: Vec<Batch> = decode(columns, stream::iter(chunks)).try_collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.rows() {
            assert_eq!(batch.position(row).record, rows.len() as u64 + 1);
            let text = |column| batch.field(row, column).map(|field| String::from_utf8(field.to_vec()).unwrap());
            rows.push((0..batch.width()).map(text).collect());
        }
    }
    Ok(rows)
}

/// Reads a line as OpenCSVSerDe does: quotes around fields, and the escape character before a quote or itself.
fn read_as_serde(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut in_quotes) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_quotes => field.extend(characters.next_if(|next| matches!(next, '"' | '\\'))),
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[tokio::test]
async fn record_has_the_columns_of_the_table_in_its_order() {
    let rows = [row(&[Some("a \"b\" \\ c"), Some("1")]), row(&[Some(""), None]), row(&[None, Some("N/A")])];
    let text = String::from_utf8(encoded(&columns(), &rows).await.unwrap()).unwrap();
    assert_eq!(
        text,
        concat!(
            "\"3\",\"1\",\"\",\"a \\\"b\\\" \\\\ c\"\n",
            "\"2;3\",\"\",\"\",\"\"\n",
            // A null token in a numeric column is NULL.
            "\"2;3;4\",\"\",\"\",\"\"\n",
        )
    );
    let fields = read_as_serde(text.lines().next().unwrap());
    assert_eq!(fields, ["3", "1", "", "a \"b\" \\ c"]);
}

#[tokio::test]
async fn value_of_another_type_is_an_error_with_its_position() {
    let error = encoded(&columns(), &[row(&[None, Some("secret")])]).await.unwrap_err();
    assert_eq!((error.kind(), error.position().unwrap().record, error.column()), (ErrorKind::Internal, 1, Some("id")));
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn error_of_a_read_is_returned_unchanged() {
    let chunks = [Ok(Bytes::from("\"\",\"1\"")), Err(io::Error::other("gone"))];
    let error = decode(&columns(), stream::iter(chunks)).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Read);
    assert_eq!(error.into_source().unwrap().downcast::<io::Error>().unwrap().to_string(), "gone");
}

#[tokio::test]
async fn another_file_is_an_error() {
    for bytes in ["id,note\n1,2\n", "\"\",\"1\"\n", "\"x\",\"1\",\"\",\"n\"\n"] {
        assert_eq!(decoded(&columns(), bytes.as_bytes(), 64).await.unwrap_err().kind(), ErrorKind::Internal, "{bytes}");
    }
}

#[tokio::test]
async fn bytes_are_stored_in_hex() {
    let columns = [column("raw", ColumnType::Binary, 1)];
    let mut values: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    values.extend([Vec::new(), b"\\x41".to_vec(), b"\"\n\r,;\\N".to_vec(), (0..=255).collect()]);
    let mut batch = Batch::new(1);
    for (index, value) in values.iter().enumerate() {
        batch.push_field(Some(value));
        batch.end_row(Position { record: index as u64 + 1, line: 0, byte: 0 });
    }
    let mut encoder = CsvEncoder::new(&columns);
    encoder.write(&batch).await.unwrap();
    let bytes = encoder.finish();
    assert!(bytes.starts_with(b"\"\",\"00\"\n\"\",\"01\"\n") && bytes.is_ascii());
    let batches: Vec<Batch> =
        decode(&columns, stream::iter([Ok::<_, Error>(Bytes::from(bytes))])).try_collect().await.unwrap();
    let restored: Vec<Vec<u8>> =
        batches.iter().flat_map(|batch| (0..batch.rows()).map(|row| batch.field(row, 0).unwrap().to_vec())).collect();
    assert_eq!(restored, values);
    for broken in ["\"\",\"0\"\n", "\"\",\"0g\"\n"] {
        let error = decoded(&columns, broken.as_bytes(), 64).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{broken}");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\"\\\\,;a\n\r ]{0,8}",
        prop::sample::select(vec!["", "NULL", "\\N", "\\", "\\\"", "\"", "\n", "\r\n", "\\."]).prop_map_into(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_text_and_null_survives_a_round_trip(
        rows in prop::collection::vec(
            (prop::option::of(text()), prop::option::of(any::<i64>())).prop_map(|(note, id)| vec![note, id.map(|id| id.to_string())]),
            0..12,
        ),
        chunk_bytes in 1..40usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (bytes, restored) = runtime.block_on(async {
            let bytes = encoded(&columns(), &rows).await.unwrap();
            let restored = decoded(&columns(), &bytes, chunk_bytes).await.unwrap();
            (bytes, restored)
        });
        prop_assert_eq!(&restored, &rows);
        // Without line breaks within fields, each line is a record, and OpenCSVSerDe must read the same text.
        if rows.iter().flatten().flatten().all(|text| !text.contains('\n')) {
            let text = String::from_utf8(bytes).unwrap();
            for (line, row) in text.split_terminator('\n').zip(&rows) {
                let fields = read_as_serde(line);
                prop_assert_eq!(fields.len(), 4);
                prop_assert_eq!(&fields[3], row[0].as_deref().unwrap_or_default());
            }
        }
    }
}
