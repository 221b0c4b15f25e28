//! The data sets that can be selected.

use anyhow::{Result, bail};

use crate::data::Data;

/// Files of one kind that every contender loads.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// The name for `SET=`.
    pub(crate) name: &'static str,
    /// A description of the data, for the report.
    pub(crate) about: &'static str,
    /// The kind of rows.
    pub(crate) data: Data,
    /// The number of files.
    pub(crate) files: u64,
    /// The number of rows in each file.
    pub(crate) rows_each: u64,
    /// Whether pandas loads it too.
    pub(crate) has_pandas: bool,
    /// Whether it is measured if no set is named.
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

/// The sets with these names, separated by commas; every set for `all`; the default sets for `None`. `rows` limits the
/// number of rows.
pub(crate) fn select(names: Option<&str>, rows: Option<u64>) -> Result<Vec<Set>> {
    let mut selected: Vec<Set> = match names {
        None => SETS.into_iter().filter(|set| set.is_default).collect(),
        Some("all") => SETS.to_vec(),
        Some(names) => {
            let named = names.split(',').map(|name| match SETS.iter().find(|set| set.name == name.trim()) {
                Some(set) => Ok(set.clone()),
                None => bail!("unknown set {name:?}; accepted are all and {}", self::names().join(", ")),
            });
            named.collect::<Result<_>>()?
        }
    };
    for set in &mut selected {
        match (rows, set.files) {
            (None, _) => {}
            (Some(rows), 1) => set.rows_each = rows,
            (Some(rows), _) => set.files = rows.div_ceil(set.rows_each),
        }
    }
    Ok(selected)
}
