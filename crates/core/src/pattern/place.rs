//! The place of a file in a table over the keys of its pattern: the table's folder, the file's partition. Does no I/O.
//!
//! A folder is a partition key if its name differs between the files of the table, and the pattern or the folder itself
//! (`year=2026`) names it.

use percent_encoding::percent_decode_str;

use super::matching::{bound, match_segment};
use super::{KeyParts, Piece, TablePattern, TablePatterns};
use crate::table_name::TableName;

/// The place of a file in a table over the files of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPlace {
    /// The prefix that all keys of the table share; empty, or with a slash at the end.
    pub(crate) root: String,
    /// The prefix of the file's partition. The same as `root` without partition keys.
    pub(crate) folder: String,
    /// The partition keys with their values, from the top.
    pub(crate) partition: Vec<(String, String)>,
}

/// What a folder of a key is for the table.
#[derive(Debug, PartialEq, Eq)]
enum Folder {
    /// Its name is the same for all files of the table.
    Fixed,
    /// It has the values of these partition keys.
    Keys(Vec<(String, String)>),
    /// Its name differs between files, and nothing names it.
    Unnamed,
}

impl TablePatterns {
    /// The place of a key, by the first pattern that matches it; `None` if none does.
    ///
    /// The error is the reason why a table cannot have this place, as the end of a sentence about the key.
    pub(crate) fn place_of(&self, key: &str) -> Option<Result<KeyPlace, String>> {
        let mut matches = self.0.iter().enumerate();
        let (index, pattern, KeyParts { table, .. }) =
            matches.find_map(|(index, pattern)| Some((index, pattern, pattern.match_key(key)?)))?;
        Some(pattern.place_of(key).and_then(|place| {
            self.check_alone(&place.folder, &table, Some(index))?;
            Ok(place)
        }))
    }

    /// The place of a key that no pattern matches: below its upload prefix, which is empty or ends with a slash.
    ///
    /// # Errors
    /// The reason why the table cannot have this place, as the end of a sentence about the key.
    pub(crate) fn place_below(&self, upload_prefix: &str, key: &str, table: &TableName) -> Result<KeyPlace, String> {
        let place = place_below(upload_prefix, key)?;
        self.check_alone(&place.folder, table, None)?;
        Ok(place)
    }
}

fn place_below(upload_prefix: &str, key: &str) -> Result<KeyPlace, String> {
    let names = folder_names(key);
    let fixed = upload_prefix.matches('/').count();
    let folders = names.iter().enumerate().map(|(index, name)| match index < fixed {
        true => Folder::Fixed,
        false => by_own_name(name),
    });
    place(&names, &folders.collect::<Vec<_>>(), 0)
}

impl TablePattern {
    fn place_of(&self, key: &str) -> Result<KeyPlace, String> {
        let names = folder_names(key);
        // The last segment is the file, unless the pattern ends with **.
        let in_pattern = self.segments.len() - usize::from(!self.has_tail);
        let mut parts: Vec<(&str, &str)> = Vec::new();
        let (mut folders, mut named_at) = (Vec::with_capacity(names.len()), 0);
        for (index, name) in names.iter().enumerate() {
            let Some(segment) = self.segments.get(index).filter(|_| index < in_pattern) else {
                folders.push(by_own_name(name));
                continue;
            };
            let known = parts.len();
            match_segment(segment, name, &mut parts);
            let (of_table, others): (Vec<_>, Vec<_>) = parts[known..].iter().partition(|part| self.names_table(part.0));
            if !of_table.is_empty() {
                named_at = index + 1;
            }
            folders.push(folder(segment, name, &others));
        }
        let is_bound = |piece: &Piece| match piece {
            Piece::Part(name) => bound(&parts, name).is_some(),
            Piece::Literal(_) | Piece::Any => true,
        };
        if !self.table.iter().chain(self.schema.iter().flatten()).all(is_bound) {
            return Err(
                "names its table only in the name of the file, so a folder has files of several tables".to_owned()
            );
        }
        if self.has_fixed_table() && !self.matches_every_file(&parts) {
            return Err(
                "matches a pattern for only some files of its folder, so the folder can have files of other tables; end the \
                 pattern with *, a part such as {file}, or **"
                    .to_owned(),
            );
        }
        place(&names, &folders, named_at)
    }

    /// Whether the table has the same name for all keys.
    fn has_fixed_table(&self) -> bool {
        self.table.iter().all(|piece| matches!(piece, Piece::Literal(_)))
    }

    /// Whether the pattern matches files with any name in the folders that contain these parts.
    fn matches_every_file(&self, parts: &[(&str, &str)]) -> bool {
        self.has_tail
            || match self.segments.last().map(Vec::as_slice) {
                Some([Piece::Any]) => true,
                Some([Piece::Part(name)]) => bound(parts, name).is_none(),
                _ => false,
            }
    }

    /// Whether a part belongs to the name of the table.
    fn names_table(&self, part: &str) -> bool {
        let mut pieces = self.table.iter().chain(self.schema.iter().flatten());
        pieces.any(|piece| matches!(piece, Piece::Part(name) if name == part))
    }
}

/// The folder of a segment in which these parts, which do not name the table, got their texts.
fn folder(segment: &[Piece], name: &str, parts: &[&(&str, &str)]) -> Folder {
    let has_any = segment.iter().any(|piece| matches!(piece, Piece::Any));
    match (parts, has_any) {
        ([], false) => Folder::Fixed,
        (_, _) if parts.len() <= 1 && hive_key(name).is_some() => by_own_name(name),
        (_, true) => Folder::Unnamed,
        (parts, false) => Folder::Keys(parts.iter().map(|part| (part.0.to_lowercase(), part.1.to_owned())).collect()),
    }
}

/// The folder by its own name, if that has the form `name=value`.
fn by_own_name(name: &str) -> Folder {
    hive_key(name).map_or(Folder::Unnamed, |key| Folder::Keys(vec![key]))
}

/// Name and value of a folder such as `year=2026`.
fn hive_key(name: &str) -> Option<(String, String)> {
    let (key, value) = name.split_once('=').filter(|(key, _)| !key.is_empty())?;
    let value = percent_decode_str(value).decode_utf8().map_or_else(|_| value.to_owned(), |value| value.into_owned());
    Some((key.to_lowercase(), value))
}

fn folder_names(key: &str) -> Vec<&str> {
    let mut names: Vec<&str> = key.split('/').collect();
    names.pop();
    names
}

/// The place of a key with these folders. The first `named_at` of them name the table.
fn place(names: &[&str], folders: &[Folder], named_at: usize) -> Result<KeyPlace, String> {
    if let Some(hidden) = names.iter().find(|name| name.starts_with(['_', '.'])) {
        return Err(format!("has the folder {hidden:?}, and Athena ignores names that begin with _ or a dot"));
    }
    let is_fixed = |folder: &&Folder| matches!(folder, Folder::Fixed);
    let root_depth = folders.iter().take_while(is_fixed).count();
    let last_key = folders.iter().rposition(|folder| matches!(folder, Folder::Keys(_)));
    let depth = match last_key {
        None => root_depth,
        Some(last) => last + 1 + folders[last + 1..].iter().take_while(is_fixed).count(),
    };
    if let Some(unnamed) = folders[..depth].iter().position(|folder| *folder == Folder::Unnamed) {
        return Err(format!(
            "has the folder {:?} without a name above its partitions; name it in the pattern, or write it as name=value",
            names[unnamed]
        ));
    }
    if named_at > depth {
        return Err("names its table below folders that have files of several tables".to_owned());
    }
    let keys = folders.iter().filter_map(|folder| match folder {
        Folder::Keys(keys) => Some(keys),
        Folder::Fixed | Folder::Unnamed => None,
    });
    let partition: Vec<(String, String)> = keys.flatten().map(|(name, value)| (plain(name), value.clone())).collect();
    check(&partition)?;
    let prefix = |depth: usize| names[..depth].iter().map(|name| format!("{name}/")).collect::<String>();
    let (root, folder) = (prefix(root_depth), prefix(depth));
    if folder.is_empty() {
        return Err("is in no folder, and a table over the whole bucket would contain every file".to_owned());
    }
    Ok(KeyPlace { root, folder, partition })
}

/// The name of a partition key as Glue and Athena accept it.
fn plain(name: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    name.chars().map(|character| if is_plain(character) { character } else { '_' }).collect()
}

fn check(partition: &[(String, String)]) -> Result<(), String> {
    for (index, (name, value)) in partition.iter().enumerate() {
        if value.is_empty() {
            return Err(format!("has no value for the partition key {name}"));
        }
        if partition[..index].iter().any(|other| other.0 == *name) {
            return Err(format!("has the partition key {name} twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shown(place: Result<KeyPlace, String>) -> String {
        match place {
            Ok(KeyPlace { root, folder, partition }) => {
                let keys: Vec<String> = partition.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{root} {folder} {}", keys.join(","))
            }
            Err(why) => format!("! {why}"),
        }
    }

    #[rstest]
    #[case::hive(
        "data/{table}/year={year}/day={day}/{table}_part{n}.csv",
        "data/orders/year=2026/day=07/orders_part1.csv",
        "data/orders/ data/orders/year=2026/day=07/ year=2026,day=07"
    )]
    #[case::parts(
        "data/{table}/{year}/{month}/**",
        "data/orders/2026/11/x/a.csv",
        "data/orders/ data/orders/2026/11/ year=2026,month=11"
    )]
    #[case::table_below(
        "{tenant}/{table}/{version}/{file}.csv",
        "acme/orders/42/a.csv",
        " acme/orders/42/ tenant=acme,version=42"
    )]
    #[case::two_parts("in/{table}/{a}-{b}/**", "in/t/1-2/x.csv", "in/t/ in/t/1-2/ a=1,b=2")]
    #[case::table_of_two_parts("in/{a}/{b}/** => {a}_{b}", "in/x/y/1.csv", "in/x/y/ in/x/y/ ")]
    #[case::flat("uploads/{table}/**", "uploads/orders/2026/11/a.csv", "uploads/orders/ uploads/orders/ ")]
    #[case::hive_in_tail(
        "uploads/{table}/**",
        "uploads/orders/Year=2026/a%20b=c%20d/x.csv",
        "uploads/orders/ uploads/orders/Year=2026/a%20b=c%20d/ year=2026,a_20b=c d"
    )]
    #[case::fixed_below("in/{table}/dt={dt}/raw/{file}.csv", "in/t/dt=1/raw/x.csv", "in/t/ in/t/dt=1/raw/ dt=1")]
    #[case::any_with_a_name("in/*/* => t", "in/dt=7/x.csv", "in/ in/dt=7/ dt=7")]
    #[case::fixed_table("in/dt={dt}/{file} => t", "in/dt=7/x.csv", "in/ in/dt=7/ dt=7")]
    #[case::fixed_table_of_some_files(
        "data/dt={dt}/orders_*.csv => orders",
        "data/dt=7/orders_1.csv",
        "! matches a pattern for only some files of its folder, so the folder can have files of other tables; end the pattern with *, \
         a part such as {file}, or **"
    )]
    #[case::any_below("in/{table}/*/x.csv", "in/t/7/x.csv", "in/t/ in/t/ ")]
    #[case::folder_names_the_key("in/{table}/dt={day}/x.csv", "in/t/dt=7/x.csv", "in/t/ in/t/dt=7/ dt=7")]
    #[case::table_in_the_file(
        "in/{table}.csv",
        "in/t.csv",
        "! names its table only in the name of the file, so a folder has files of several tables"
    )]
    #[case::unnamed_above(
        "in/{table}/*/dt={dt}/x.csv",
        "in/t/7/dt=1/x.csv",
        "! has the folder \"7\" without a name above its partitions; name it in the pattern, or write it as name=value"
    )]
    #[case::table_below_unnamed(
        "in/*/{table}/x.csv",
        "in/7/t/x.csv",
        "! names its table below folders that have files of several tables"
    )]
    #[case::hidden(
        "in/{table}/**",
        "in/t/_tmp/x.csv",
        "! has the folder \"_tmp\", and Athena ignores names that begin with _ or a dot"
    )]
    #[case::whole_bucket(
        "{file} => t",
        "a.csv",
        "! is in no folder, and a table over the whole bucket would contain every file"
    )]
    #[case::no_value("in/{table}/**", "in/t/dt=/x.csv", "! has no value for the partition key dt")]
    #[case::twice("in/{table}/**", "in/t/a=1/A=2/x.csv", "! has the partition key a twice")]
    fn keys_have_a_place(#[case] pattern: &str, #[case] key: &str, #[case] expected: &str) {
        let patterns = TablePatterns::parse(pattern).unwrap();
        assert_eq!(shown(patterns.place_of(key).unwrap()), expected);
    }

    #[test]
    fn key_without_a_pattern_is_below_its_upload_prefix() {
        assert_eq!(shown(place_below("uploads/", "uploads/x/a.csv")), "uploads/ uploads/ ");
        assert_eq!(shown(place_below("a/b/", "a/b/dt=1/x.csv")), "a/b/ a/b/dt=1/ dt=1");
        assert!(place_below("", "a.csv").is_err());
        assert_eq!(shown(place_below("", "dt=1/a.csv")), " dt=1/ dt=1");
        assert!(TablePatterns::parse("in/{table}/**").unwrap().place_of("out/x.csv").is_none());
    }
}
