//! Detects the delimiter of a CSV file from its first records, and rejects the file if more than one is likely.
//!
//! Also rejects a header that another common delimiter divides into more columns, if the records agree; see
//! [`check_header`].

use memchr::memchr_iter;

use super::dialect::ExtraField;
use super::division::{Division, Sample, Syntax};
use crate::{Error, ErrorKind, Result};

/// The delimiters that are detected, with their names.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "pipe")];

/// The most text that is used.
pub(super) const SAMPLE_BYTES: usize = 64 * 1024;
/// The most records that are used.
const SAMPLE_RECORDS: usize = 100;

/// Returns the delimiter of a file that starts with `sample`. The delimiter of `syntax` does not matter.
///
/// The candidates are the delimiters that divide the first record. Four filters follow. Each keeps the candidates for
/// which its condition holds, or all of them if it holds for none:
///
/// 1. every record has the same number of fields, and all quotes are where RFC 4180 allows them
/// 2. one of these two
/// 3. at least one other record has as many fields as the first
/// 4. every record but the first has one more field than the first, which is empty
///
/// If no delimiter divides the first record, the file has one column.
///
/// # Errors
/// When more than one candidate remains. The number of fields does not decide: a text column may contain any character.
pub(super) fn detect(sample: Sample<'_>, syntax: Syntax) -> Result<u8> {
    let is_free = |delimiter: u8| ![syntax.quote, syntax.escape, syntax.comment].contains(&delimiter);
    let mut candidates: Vec<Candidate> = DELIMITERS
        .into_iter()
        .filter(|(delimiter, _)| is_free(*delimiter))
        .map(|(delimiter, name)| Candidate::of(sample, Syntax { delimiter, ..syntax }, name))
        .collect();
    candidates.retain(|candidate| candidate.fields > 1);
    keep_better(&mut candidates, |candidate| candidate.is_uniform && candidate.is_quoted_well);
    keep_better(&mut candidates, |candidate| candidate.is_uniform || candidate.is_quoted_well);
    keep_better(&mut candidates, |candidate| candidate.records_as_wide_as_first > 1);
    keep_better(&mut candidates, |candidate| candidate.extra_field == ExtraField::Empty);
    match &candidates[..] {
        [] => Ok(b','),
        [only] => Ok(only.delimiter),
        _ => {
            let names: Vec<String> = candidates.iter().map(|candidate| format!("the {}", candidate.name)).collect();
            let message = format!(
                "the delimiter may be {}, and each results in different columns; set CSV_DELIMITER to the right one",
                names.join(" or ")
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// Keeps the candidates for which the condition holds, or all candidates if it holds for none.
fn keep_better(candidates: &mut Vec<Candidate>, is_better: impl Fn(&Candidate) -> bool) {
    if candidates.iter().any(&is_better) {
        candidates.retain(is_better);
    }
}

/// A delimiter, and what dividing the sample by it shows.
struct Candidate {
    delimiter: u8,
    name: &'static str,
    /// Number of fields in the first record; 0 if the sample has none.
    fields: usize,
    /// Number of records with as many fields as the first record, including the first.
    records_as_wide_as_first: usize,
    is_uniform: bool,
    is_quoted_well: bool,
    extra_field: ExtraField,
}

impl Candidate {
    fn of(sample: Sample<'_>, syntax: Syntax, name: &'static str) -> Self {
        let division = Division::of(sample, syntax, SAMPLE_RECORDS);
        let fields = division.first_width();
        Self {
            delimiter: syntax.delimiter,
            name,
            fields,
            records_as_wide_as_first: division.widths().filter(|width| *width == fields).count(),
            is_uniform: division.is_uniform(),
            is_quoted_well: division.is_quoted_well(),
            extra_field: division.extra_field(),
        }
    }
}

/// How the delimiter of a file became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DelimiterSource {
    Setting,
    /// The line `sep=` above the header.
    SepLine,
    Detected,
}

/// Rejects a header that another delimiter would divide into more columns, if it divides the records as evenly.
///
/// Delimiters in quoted fields do not count. A delimiter that the user has set is used if it divides the header at all.
pub(super) fn check_header(
    sample: Sample<'_>,
    syntax: Syntax,
    division: &Division<'_>,
    source: DelimiterSource,
) -> Result<()> {
    let width = division.first_width();
    if source != DelimiterSource::Detected && width > 1 {
        return Ok(());
    }
    let unquoted = |other: u8| -> usize {
        let fields = division.rows().next().into_iter().flatten().filter(|field| !field.is_quoted);
        fields.map(|field| memchr_iter(other, field.text).count()).sum()
    };
    // There is one delimiter less than there are fields.
    let is_likely = |other: u8| other != syntax.delimiter && width > 0 && unquoted(other) >= width;
    let divides_records = |other: u8| {
        let by_other = Division::of(sample, Syntax { delimiter: other, ..syntax }, SAMPLE_RECORDS);
        by_other.is_uniform() || by_other.extra_field() == ExtraField::Empty
    };
    match DELIMITERS.into_iter().find(|(other, _)| is_likely(*other) && divides_records(*other)) {
        None => Ok(()),
        Some((_, name)) => {
            let message = format!(
                "the header looks {name}-separated, but the delimiter is {}; set CSV_DELIMITER, or quote the column \
                 names that contain a {name}",
                name_of(syntax.delimiter)
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// The name of a delimiter in messages.
pub(super) fn name_of(delimiter: u8) -> String {
    let name = DELIMITERS.iter().find(|(known, _)| *known == delimiter).map(|(_, name)| format!("the {name}"));
    name.unwrap_or_else(|| "another character".to_owned())
}
