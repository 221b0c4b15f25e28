//! Generates the files to load. Their bytes are the same on every machine and in every run.

use std::io::Write;
use std::path::Path;

use anyhow::Result;

/// The kind of rows in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// Four integers, about 32 bytes per row.
    Orders,
    /// Twenty columns, some with values that other loaders change; see [`SPECIALS`].
    Wide,
}

/// A column of [`Data::Wide`] whose values are compared one by one with the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Special {
    /// The column's name.
    pub(crate) column: &'static str,
    /// The difficult values in it, for the report.
    pub(crate) contents: &'static str,
    /// Whether the values are numbers, whose spelling is ignored.
    pub(crate) is_number: bool,
    value: fn(u64) -> Option<String>,
}

impl Special {
    /// The value in this row; `None` for NULL.
    pub(crate) fn value(&self, row: u64) -> Option<String> {
        (self.value)(row)
    }
}

/// The columns that other loaders load incorrectly.
pub(crate) const SPECIALS: [Special; 5] = [
    Special { column: "zip", contents: "leading zeros", is_number: false, value: |row| Some(zip(row)) },
    Special { column: "country", contents: "`NA` among the codes", is_number: false, value: |row| Some(country(row)) },
    Special { column: "account", contents: "whole numbers beyond 2^53, and NULL", is_number: true, value: account },
    Special { column: "balance", contents: "decimals of 24 digits, and NULL", is_number: true, value: balance },
    Special { column: "note", contents: "NULL and the empty string", is_number: false, value: note },
];

const COUNTRIES: [&str; 12] = ["DE", "NA", "US", "FR", "IN", "BR", "JP", "ZA", "SE", "AT", "NG", "PL"];
const STATES: [&str; 4] = ["open", "paid", "shipped", "returned"];

impl Data {
    /// The names of the columns.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Orders => &["id", "customer", "product", "cents"],
            Self::Wide => &[
                "id",
                "zip",
                "country",
                "account",
                "balance",
                "amount",
                "quantity",
                "score",
                "is_active",
                "is_member",
                "born_on",
                "ordered_on",
                "created_at",
                "updated_at",
                "name",
                "comment",
                "note",
                "email",
                "ratio",
                "state",
            ],
        }
    }

    /// The columns that are wrong if a loader does not distinguish a quoted empty field from an unquoted one.
    pub(crate) fn ambiguous_columns(self) -> &'static [&'static str] {
        match self {
            Self::Orders => &[],
            Self::Wide => &["note"],
        }
    }

    /// Writes a file with these rows, counted from 1; returns its size in bytes.
    pub(crate) fn write_file(self, path: &Path, rows: std::ops::Range<u64>) -> Result<u64> {
        let mut file = std::fs::File::create(path)?;
        let (mut block, mut written) = (self.header(), 0);
        for row in rows {
            self.append_row(row, &mut block);
            if block.len() > 1 << 20 {
                file.write_all(&block)?;
                written += block.len() as u64;
                block.clear();
            }
        }
        file.write_all(&block)?;
        Ok(written + block.len() as u64)
    }

    /// The bytes of a file with these rows.
    pub(crate) fn file(self, rows: std::ops::Range<u64>) -> Vec<u8> {
        let mut file = self.header();
        rows.for_each(|row| self.append_row(row, &mut file));
        file
    }

    fn header(self) -> Vec<u8> {
        (self.columns().join(",") + "\n").into_bytes()
    }

    fn append_row(self, row: u64, out: &mut Vec<u8>) {
        match self {
            Self::Orders => {
                let random = mixed(row, 0);
                append_number(10_000_000 + row, b',', out);
                append_number(1_000_000 + random % 9_000_000, b',', out);
                append_number(100_000 + (random >> 24) % 900_000, b',', out);
                append_number((random >> 40) % 10_000_000, b'\n', out);
            }
            Self::Wide => append_wide(row, out),
        }
    }
}

fn append_wide(row: u64, out: &mut Vec<u8>) {
    let random = mixed(row, 1);
    let optional = |one_in: u64, text: String| if random.is_multiple_of(one_in) { String::new() } else { text };
    let day = |seed: u64| format!("{:04}-{:02}-{:02}", 1950 + seed % 77, 1 + seed / 77 % 12, 1 + seed / 924 % 28);
    let time = |seed: u64| format!("{:02}:{:02}:{:02}", seed % 24, seed / 24 % 60, seed / 1_440 % 60);
    let bit = |index: u32| random >> index & 1 == 1;
    let fields = [
        row.to_string(),
        zip(row),
        country(row),
        account(row).unwrap_or_default(),
        balance(row).unwrap_or_default(),
        format!("{}.{:02}", random % 100_000, random >> 20 & 63),
        optional(7, (random >> 8 & 1_023).to_string()),
        ((random >> 30 & 255) as i64 - 128).to_string(),
        bit(3).to_string(),
        optional(5, bit(4).to_string()),
        optional(11, day(random >> 5)),
        day(random >> 9),
        format!("{}T{}", day(random >> 13), time(random >> 17)),
        optional(13, format!("{} {}.{:06}", day(random >> 21), time(random >> 25), random >> 29 & 0x7_ffff)),
        format!("\"Customer {}, Ltd.\"", random % 500_000),
        format!("\"He said \"\"{}\"\",\nand {} left\"", STATES[(random >> 7 & 3) as usize], random >> 44),
        match note(row) {
            None => String::new(),
            Some(text) if text.is_empty() => "\"\"".to_owned(),
            Some(text) => text,
        },
        format!("user{}@example.com", random >> 36 & 0xf_ffff),
        format!("{}.{}e-{}", 1 + random % 9, 1 + (random >> 11) % 9, 1 + (random >> 19) % 9),
        STATES[(random >> 33 & 3) as usize].to_owned(),
    ];
    out.extend_from_slice(fields.join(",").as_bytes());
    out.push(b'\n');
}

fn zip(row: u64) -> String {
    format!("{:05}", mixed(row, 2) % 100_000)
}

fn country(row: u64) -> String {
    COUNTRIES[(mixed(row, 3) % 12) as usize].to_owned()
}

fn account(row: u64) -> Option<String> {
    let random = mixed(row, 4);
    (!random.is_multiple_of(10)).then(|| (9_007_199_254_740_993 + random % 1_000_000_000_000_000).to_string())
}

fn balance(row: u64) -> Option<String> {
    let random = mixed(row, 5);
    let whole = 100_000_000_000_000_000 + random % 900_000_000_000_000_000;
    (!random.is_multiple_of(20)).then(|| format!("{whole}.{:06}", 1 + (random >> 7) % 999_999))
}

fn note(row: u64) -> Option<String> {
    match mixed(row, 6) % 3 {
        0 => None,
        1 => Some(String::new()),
        _ => Some(format!("note {row}")),
    }
}

/// A pseudorandom number that depends only on the row and the stream: the finalizer of SplitMix64.
fn mixed(row: u64, stream: u64) -> u64 {
    let mut state = row.wrapping_mul(8).wrapping_add(stream).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Writes a number without the formatter, which is too slow for the 128 million numbers of a large file.
fn append_number(mut number: u64, end: u8, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
    out.push(end);
}

#[cfg(test)]
mod tests {
    use super::{Data, SPECIALS};

    #[test]
    fn rows_do_not_depend_on_the_length_of_the_file() {
        for data in [Data::Orders, Data::Wide] {
            let (short, long) = (data.file(1..11), data.file(1..21));
            assert!(long.starts_with(&short), "{data:?}");
        }
    }

    #[test]
    fn orders_are_four_numbers() {
        let file = String::from_utf8(Data::Orders.file(1..1_001)).unwrap();
        assert_eq!(file.lines().count(), 1_001);
        for line in file.lines().skip(1) {
            let numbers: Vec<u64> = line.split(',').map(|field| field.parse().unwrap()).collect();
            assert_eq!(numbers.len(), 4);
        }
        assert!(file.contains("\n10000001,"), "rows are counted from 1");
    }

    #[test]
    fn special_values_are_those_in_the_file() {
        let columns = Data::Wide.columns();
        let file = String::from_utf8(Data::Wide.file(1..501)).unwrap();
        let body = file.split_once('\n').unwrap().1;
        for (index, record) in body.replace(",\nand", ", and").lines().enumerate() {
            // Two quoted texts contain commas. All special columns are before them, except the note.
            let front: Vec<&str> = record.splitn(15, ',').collect();
            let back: Vec<&str> = record.rsplitn(5, ',').collect();
            for special in SPECIALS {
                let column = columns.iter().position(|&name| name == special.column).unwrap();
                let written = if column < 14 { front[column] } else { back[columns.len() - 1 - column] };
                let expected = match special.value(index as u64 + 1) {
                    None => String::new(),
                    Some(text) if text.is_empty() => "\"\"".to_owned(),
                    Some(text) => text,
                };
                assert_eq!(written, expected, "{} in row {}", special.column, index + 1);
            }
        }
    }

    #[test]
    fn a_thousand_rows_contain_all_difficult_values() {
        let values = |column: usize| -> Vec<_> { (1..1_001).map(|row| SPECIALS[column].value(row)).collect() };
        assert!(values(0).iter().flatten().any(|zip| zip.starts_with('0')));
        assert!(values(1).contains(&Some("NA".into())));
        assert!(values(2).contains(&None) && values(3).contains(&None));
        assert!(values(2).iter().flatten().any(|account| account.parse::<u64>().unwrap() % 2 == 1));
        assert!(values(4).contains(&None) && values(4).contains(&Some(String::new())));
    }
}
