//! The place of an export in the bucket: `{prefix}{tenant}/{table}/{version}/{file}`, and the order of versions. Does no I/O.

use std::cmp::Ordering;

/// A version of a tenant's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExportPlace {
    pub(super) tenant: String,
    pub(super) table: String,
    pub(super) version: String,
}

impl ExportPlace {
    /// The place of the export that an object belongs to, and the name of its file; `None` for any other key.
    pub(super) fn of_key<'a>(key: &'a str, prefix: &str) -> Option<(Self, &'a str)> {
        let parts: Vec<&str> = key.strip_prefix(prefix)?.split('/').collect();
        let [tenant, table, version, file] = parts[..] else { return None };
        let is_complete = parts.iter().all(|part| !part.is_empty() && !part.chars().any(char::is_control));
        let (tenant, table, version) = (tenant.to_owned(), table.to_owned(), version.to_owned());
        is_complete.then_some((Self { tenant, table, version }, file))
    }

    /// The tenant and the table.
    pub(super) fn names(&self) -> (&str, &str) {
        (&self.tenant, &self.table)
    }

    /// The prefix of the files of this version.
    pub(super) fn folder(&self, prefix: &str) -> String {
        let Self { tenant, table, version } = self;
        format!("{prefix}{tenant}/{table}/{version}/")
    }
}

/// Whether a file is a part of an export. Names that Athena hides are not, such as a manifest.
pub(super) fn is_part(file: &str) -> bool {
    !file.is_empty() && !file.contains('/') && !file.starts_with(['_', '.'])
}

/// Compares versions as people sort them: digits by their number, other text by its bytes. `V9` is before `V10`.
pub(super) fn compare_versions(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let ((left_text, left_digits, left_rest), (right_text, right_digits, right_rest)) = (split(left), split(right));
        let texts = left_text.cmp(right_text);
        let (left_number, right_number) = (left_digits.trim_start_matches('0'), right_digits.trim_start_matches('0'));
        let numbers = (left_number.len(), left_number).cmp(&(right_number.len(), right_number));
        match texts.then(numbers) {
            Ordering::Equal if left_rest.is_empty() || right_rest.is_empty() => {
                // The same numbers with other zeros are two versions.
                return left_rest.len().cmp(&right_rest.len()).then_with(|| one.cmp(other));
            }
            Ordering::Equal => (left, right) = (left_rest, right_rest),
            different => return different,
        }
    }
}

/// The text up to the first digit, the digits after it, and the rest.
fn split(text: &str) -> (&str, &str, &str) {
    let start = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(text.len());
    let (before, after) = text.split_at(start);
    let end = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
    let (digits, rest) = after.split_at(end);
    (before, digits, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_four_parts_below_the_prefix() {
        let (place, file) = ExportPlace::of_key("exports/acme/orders/20201230_V0001/a.csv.gz", "exports/").unwrap();
        assert_eq!(
            (&*place.tenant, &*place.table, &*place.version, file),
            ("acme", "orders", "20201230_V0001", "a.csv.gz")
        );
        assert_eq!(place.folder("exports/"), "exports/acme/orders/20201230_V0001/");
        assert!(ExportPlace::of_key("acme/orders/1/a.csv.gz", "").is_some());
        for key in [
            "exports/acme/orders/a.csv.gz",
            "exports/acme/orders/1/2/a.csv",
            "other/acme/orders/1/a.csv",
            "exports/acme//1/a",
        ] {
            assert!(ExportPlace::of_key(key, "exports/").is_none(), "{key}");
        }
    }

    #[test]
    fn hidden_files_are_no_parts() {
        assert!(
            is_part("export1.csv.gz") && !is_part("_SUCCESS") && !is_part(".tmp") && !is_part("") && !is_part("a/b")
        );
    }

    #[test]
    fn versions_are_sorted_by_their_numbers() {
        let sorted = [
            "",
            "1",
            "01",
            "2",
            "9a",
            "10",
            "010",
            "20201230_V0001",
            "20201230_V0002",
            "20201231_V0001",
            "V9",
            "V10",
            "V10a",
            "V10b",
        ];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                // "1" and "01" are the same number, and so are "10" and "010": their order only has to be a fixed one.
                let is_same_number =
                    [["1", "01"], ["10", "010"]].iter().any(|pair| pair.contains(one) && pair.contains(other));
                match is_same_number && one != other {
                    true => assert_eq!(compare_versions(one, other), compare_versions(other, one).reverse()),
                    false => assert_eq!(compare_versions(one, other), index.cmp(&other_index), "{one} {other}"),
                }
            }
        }
        assert_eq!(compare_versions("99999999999999999999999999", "100000000000000000000000000"), Ordering::Less);
    }
}
