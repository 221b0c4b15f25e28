//! Files whose declared numbers of rows or values disagree.

use arrow_array::builder::{ListBuilder, StringBuilder};
use parquet::data_type::Int64Type;
use parquet::file::metadata::ParquetMetaDataWriter;
use parquet::file::properties::WriterVersion;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

/// Two columns of 6 rows. The footer declares 0 rows.
const FOOTER_WITHOUT_ROWS: &[u8] = include_bytes!("../../testdata/footer_without_rows.parquet");

/// The offsets in that file of the declared numbers of rows and values. Each is a zigzag number of one byte.
mod declared_at {
    pub(super) const FOOTER: usize = 0xe4;
    pub(super) const GROUP: usize = 0x18b;
    pub(super) const ID: usize = 0xfb;
    pub(super) const NAME: usize = 0x152;
    pub(super) const ID_PAGE: usize = 0x32;
    pub(super) const NAME_PAGE: usize = 0x98;
    pub(super) const COLUMNS: [usize; 2] = [ID, NAME];
    pub(super) const ROWS: [usize; 4] = [FOOTER, GROUP, ID, NAME];
    pub(super) const ALL: [usize; 6] = [FOOTER, GROUP, ID, NAME, ID_PAGE, NAME_PAGE];
}

/// That file with 6 in the footer, and with `count` at some offsets.
fn declaring(count: u8, offsets: &[usize]) -> Vec<u8> {
    let mut file = FOOTER_WITHOUT_ROWS.to_vec();
    for offset in declared_at::ALL {
        assert_eq!(file[offset], if offset == declared_at::FOOTER { 0 } else { 12 });
        file[offset] = if offsets.contains(&offset) { count * 2 } else { 12 };
    }
    file
}

#[test]
fn declared_counts_must_agree() {
    use declared_at::{ALL, COLUMNS, FOOTER, GROUP, ID, ID_PAGE, NAME, NAME_PAGE, ROWS};
    let (_, rows) = read(&declaring(6, &ALL)).unwrap();
    assert_eq!(rows, [["1", "a"], ["2", "b"], ["3", "c"], ["4", "d"], ["5", "e"], ["6", "f"]]);
    assert_invalid(FOOTER_WITHOUT_ROWS, "the footer declares 0 rows, but its row groups declare 6");
    for (count, offsets, words) in [
        (1, &[FOOTER][..], "the footer declares 1 rows, but its row groups declare 6"),
        (7, &[FOOTER], "the footer declares 7 rows, but its row groups declare 6"),
        (5, &[GROUP], "the footer declares 6 rows, but its row groups declare 5"),
        (0, &[FOOTER, GROUP], "row group 1 declares 0 rows, but 6 values of the column (column id)"),
        (7, &[FOOTER, GROUP], "row group 1 declares 7 rows, but 6 values of the column (column id)"),
        (5, &[ID], "row group 1 declares 6 rows, but 5 values of the column (column id)"),
        (0, &[NAME], "row group 1 declares 6 rows, but 0 values of the column (column name)"),
        (5, &COLUMNS, "row group 1 declares 6 rows, but 5 values of the column (column id)"),
        (0, &ROWS, "row group 1 declares 0 values, but the pages declare 6"),
        (5, &ROWS, "row group 1 declares 5 values, but the pages declare 6 (column id)"),
        (7, &ROWS, "row group 1 declares 7 values, but the pages declare 6 (column id)"),
        (5, &[ID_PAGE], "row group 1 declares 6 values, but the pages declare 5 (column id)"),
        (0, &[NAME_PAGE], "row group 1 declares 6 values, but the pages declare 0 (column name)"),
        (9, &ALL, ""),
    ] {
        assert_invalid(&declaring(count, offsets), words);
    }
}

/// The file with other declared numbers of rows in its row groups, and their sum in the footer.
fn with_group_rows(file: &[u8], rows: &[i64]) -> Vec<u8> {
    let tail = file.len() - 8;
    let length = u32::from_le_bytes(file[tail..tail + 4].try_into().unwrap()) as usize;
    let metadata = ParquetMetaDataReader::decode_metadata(&file[tail - length..tail]).unwrap();
    let mut builder = metadata.into_builder();
    let groups = builder.take_row_groups();
    assert_eq!(groups.len(), rows.len());
    let groups = groups.into_iter().zip(rows).map(|(group, rows)| {
        let group = group.into_builder().set_num_rows(*rows);
        group.build().unwrap()
    });
    let metadata = builder.set_row_groups(groups.collect()).build();
    let mut out = file[..tail - length].to_vec();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().unwrap();
    out
}

/// Five rows in groups of three and two. Each row is a list of two values, so a column has more values than rows.
fn lists(version: WriterVersion) -> Vec<u8> {
    let mut tags = ListBuilder::new(StringBuilder::new());
    (0..5).for_each(|row| tags.append_value([Some(format!("a{row}")), Some(format!("b{row}"))]));
    let properties =
        WriterProperties::builder().set_writer_version(version).set_max_row_group_row_count(Some(3)).build();
    written(vec![("tags", Arc::new(tags.finish()))], properties)
}

#[test]
fn rows_of_each_row_group_are_counted() {
    let version_1 = lists(WriterVersion::PARQUET_1_0);
    let version_2 = lists(WriterVersion::PARQUET_2_0);
    for file in [&version_1, &version_2] {
        assert_eq!(read(&with_group_rows(file, &[3, 2])).unwrap().1.len(), 5);
        assert_invalid(&with_group_rows(file, &[3, 0]), "row group 2 declares 0 rows, but 4 values of the column");
        assert_invalid(&with_group_rows(file, &[7, 2]), "row group 1 declares 7 rows, but 6 values of the column");
    }
    // Pages of version 1 do not declare their rows, so the rows that were read are counted.
    for (rows, words) in [
        ([2, 2], "row group 1 declares 2 rows, but 3 were read"),
        ([2, 3], "row group 1 declares 2 rows, but 3 were read"),
        ([3, 1], "row group 2 declares 1 rows, but 2 were read"),
        ([4, 2], "row group 1 declares 4 rows, but 3 were read"),
        ([3, 3], "row group 2 declares 3 rows, but 2 were read"),
    ] {
        assert_invalid(&with_group_rows(&version_1, &rows), words);
    }
    assert_invalid(&with_group_rows(&version_2, &[2, 3]), "row group 1 declares 2 rows, but the pages declare 3");
    assert_invalid(&with_group_rows(&version_2, &[3, 3]), "row group 2 declares 3 rows, but the pages declare 2");
}

#[test]
fn row_groups_without_rows_are_skipped() {
    let schema = Arc::new(parse_message_type("message m { required int64 id; }").unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    for values in [&[][..], &[1, 2, 3], &[], &[4, 5], &[]] {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    let (_, rows) = read(&writer.into_inner().unwrap()).unwrap();
    assert_eq!(rows, [["1"], ["2"], ["3"], ["4"], ["5"]]);
}
