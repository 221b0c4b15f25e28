//! The sets of data that can be chosen.

use anyhow::{Result, bail};

use crate::data::Data;

/// Files of one kind, loaded by everybody.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// The name for `SET=`.
    pub(crate) name: &'static str,
    /// What the data are.
    pub(crate) about: &'static str,
    /// What the rows are.
    pub(crate) data: Data,
    /// How many files.
    pub(crate) files: u64,
    /// How many rows in each.
    pub(crate) rows_each: u64,
    /// Whether pandas loads the whole of it.
    pub(crate) has_pandas: bool,
    is_default: bool,
}

const SETS: [Set; 5] = [
    ORDERS,
    Set { name: "orders-5m", rows_each: 5_000_000, has_pandas: false, ..ORDERS },
    // One gigabyte.
    Set { name: "orders-32m", rows_each: 32_000_000, has_pandas: false, is_default: false, ..ORDERS },
    Set { name: "wide-1m", about: "twenty columns of every kind", data: Data::Wide, has_pandas: false, ..ORDERS },
    Set { name: "small", files: 1_000, rows_each: 100, has_pandas: false, ..ORDERS },
];

const ORDERS: Set = Set {
    name: "orders-1m",
    about: "four whole numbers",
    data: Data::Orders,
    files: 1,
    rows_each: 1_000_000,
    has_pandas: true,
    is_default: true,
};

/// The names of all sets, in the order of the report.
pub(crate) fn names() -> Vec<&'static str> {
    SETS.iter().map(|set| set.name).collect()
}

/// The sets with these names, with commas between; `all` of them; none named: those that everybody can afford. `rows` makes
/// each of them that small.
pub(crate) fn chosen(names: Option<&str>, rows: Option<u64>) -> Result<Vec<Set>> {
    let mut chosen: Vec<Set> = match names {
        None => SETS.into_iter().filter(|set| set.is_default).collect(),
        Some("all") => SETS.to_vec(),
        Some(names) => {
            let named = names.split(',').map(|name| match SETS.iter().find(|set| set.name == name.trim()) {
                Some(set) => Ok(set.clone()),
                None => bail!("{name:?} is no set; there are {}, and all", self::names().join(", ")),
            });
            named.collect::<Result<_>>()?
        }
    };
    for set in &mut chosen {
        match (rows, set.files) {
            (None, _) => {}
            (Some(rows), 1) => set.rows_each = rows,
            (Some(rows), _) => set.files = rows.div_ceil(set.rows_each),
        }
    }
    Ok(chosen)
}
