//! The merge key: the columns of a unique index, and how that index compares them.
//!
//! Keys are equal if the index finds them equal, with the collation and operator of the index. The collation of the
//! column and the search path have no effect.

use tokio_postgres::Row;
use tokio_postgres::error::DbError;
use tokio_postgres::types::Type;

use super::connect::{Connection, value};
use super::ledger::PostgresDialect;
use super::table::{quoted, quoted_table};
use crate::destination::column::quoted_list;
use crate::destination::merge::{UniqueIndex, key_indexes};
use crate::error::Result;
use crate::table_name::TableName;

/// The columns of each unique index that applies to every row and is not deferred.
///
/// About the index: its name, whether it belongs to the primary key, and the names of the index and of its partitions'
/// indexes, as errors spell them. About the column: its name, its collation and equality operator in the index, and
/// whether GROUP BY uses the same equality.
const UNIQUE_INDEXES_SQL: &str = "\
    SELECT CAST(x.relname AS text), i.indisprimary, \
        ARRAY(WITH RECURSIVE tree AS (SELECT i.indexrelid AS id \
                UNION ALL SELECT h.inhrelid FROM tree p JOIN pg_catalog.pg_inherits h ON h.inhparent = p.id) \
            SELECT CAST(CAST(s.nspname AS text) || '.' || CAST(r.relname AS text) AS text) FROM tree p \
            JOIN pg_catalog.pg_class r ON r.oid = p.id JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace), \
        CAST(a.attname AS text), \
        (SELECT pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(l.collname) \
            FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace s ON s.oid = l.collnamespace \
            WHERE l.oid = i.indcollation[k.place]), \
        'OPERATOR(' || pg_catalog.quote_ident(s.nspname) || '.' || CAST(o.oprname AS text) || ')', \
        EXISTS (SELECT FROM pg_catalog.pg_opclass d JOIN pg_catalog.pg_amop f ON f.amopfamily = d.opcfamily \
            AND f.amoplefttype = d.opcintype AND f.amoprighttype = d.opcintype AND f.amopstrategy = 3 \
            WHERE d.opcmethod = c.opcmethod AND d.opcdefault AND d.opcintype = c.opcintype AND f.amopopr = e.amopopr) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
        CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS k (place) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place] \
        JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[k.place] \
        JOIN pg_catalog.pg_amop e ON e.amopfamily = c.opcfamily AND e.amoplefttype = c.opcintype \
            AND e.amoprighttype = c.opcintype AND e.amopstrategy = 3 \
        JOIN pg_catalog.pg_operator o ON o.oid = e.amopopr JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace \
    WHERE i.indrelid = CAST(CAST($1 AS text) AS regclass) AND i.indisunique AND i.indisvalid AND i.indimmediate \
        AND i.indpred IS NULL AND i.indexprs IS NULL \
    ORDER BY i.indexrelid, k.place";

/// How an index compares one of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    /// The collation in SQL, for types that have one.
    collation: Option<String>,
    /// The equality operator in SQL.
    equals: String,
    /// Whether GROUP BY and PARTITION BY use the same equality.
    is_default: bool,
}

/// PostgreSQL's details of a unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    /// How the index compares each of its columns.
    comparisons: Vec<Comparison>,
    /// Schema and name of the index and of its partitions' indexes.
    names: Vec<String>,
}

/// The merge key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::destination) struct MergeKey {
    /// The columns' names, as the table spells them.
    pub(super) columns: Vec<String>,
    comparisons: Vec<Comparison>,
    /// The names of the unique indexes over exactly these columns with the same comparisons.
    names: Vec<String>,
}

impl MergeKey {
    /// Reads the key of an existing table over the wanted columns, or the primary key where none are wanted.
    pub(super) async fn of_table(connection: &mut Connection, table: &TableName, wanted: &[String]) -> Result<Self> {
        let (context, relation) = ("cannot read the table's indexes", quoted_table(table));
        let rows = connection.rows(context, UNIQUE_INDEXES_SQL, &[(&relation, Type::TEXT)]).await?;
        let mut indexes: Vec<UniqueIndex<Detail>> = Vec::new();
        for row in &rows {
            add(&mut indexes, row)?;
        }
        indexes.retain(|index| index.detail.comparisons.iter().all(|comparison| comparison.is_default));
        let matching = key_indexes(table, wanted, indexes, || {
            format!("CREATE UNIQUE INDEX ON {relation} ({})", quoted_list::<PostgresDialect>(wanted))
        })?;
        Ok(Self::of_indexes(matching))
    }

    /// The first index is the key. The names of other indexes are added if they compare the columns in the same way.
    fn of_indexes(indexes: Vec<UniqueIndex<Detail>>) -> Self {
        let mut key = Self { columns: Vec::new(), comparisons: Vec::new(), names: Vec::new() };
        for UniqueIndex { columns, detail, .. } in indexes {
            if key.columns.is_empty() {
                (key.columns, key.comparisons) = (columns, detail.comparisons);
            } else if !columns.iter().zip(&detail.comparisons).all(|column| key.has(column)) {
                continue;
            }
            key.names.extend(detail.names);
        }
        key
    }

    fn has(&self, column: (&String, &Comparison)) -> bool {
        self.columns.iter().zip(&self.comparisons).any(|own| own == column)
    }

    /// Returns the columns of a row, for GROUP BY and ORDER BY.
    pub(super) fn of_row(&self, row: &str) -> String {
        let column = |(name, comparison): (&String, &Comparison)| collated(row, name, comparison);
        self.columns.iter().zip(&self.comparisons).map(column).collect::<Vec<_>>().join(", ")
    }

    /// Returns the condition that two rows have the same key.
    pub(super) fn is_same(&self, left: &str, right: &str) -> String {
        let same = |(name, comparison): (&String, &Comparison)| {
            let (left, right) = (collated(left, name, comparison), collated(right, name, comparison));
            format!("{left} {} {right}", comparison.equals)
        };
        self.columns.iter().zip(&self.comparisons).map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether a unique violation is about this key.
    pub(super) fn is_named_by(&self, violation: &DbError) -> bool {
        let Some((schema, index)) = violation.schema().zip(violation.constraint()) else { return false };
        let name = format!("{schema}.{index}");
        self.names.contains(&name)
    }
}

fn collated(row: &str, name: &str, comparison: &Comparison) -> String {
    let collation = comparison.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    format!("{row}.{}{collation}", quoted(name))
}

/// Adds a column to its index, which is the last one or a new one.
fn add(indexes: &mut Vec<UniqueIndex<Detail>>, row: &Row) -> Result<()> {
    let name: String = value(row, 0)?;
    let comparison = Comparison { collation: value(row, 4)?, equals: value(row, 5)?, is_default: value(row, 6)? };
    match indexes.last_mut() {
        Some(index) if index.name == name => {
            index.columns.push(value(row, 3)?);
            index.detail.comparisons.push(comparison);
        }
        Some(_) | None => indexes.push(UniqueIndex {
            name,
            is_primary: value(row, 1)?,
            columns: vec![value(row, 3)?],
            detail: Detail { comparisons: vec![comparison], names: value(row, 2)? },
        }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str, collation: &str) -> UniqueIndex<Detail> {
        let comparison = |collation: Option<&str>| Comparison {
            collation: collation.map(str::to_owned),
            equals: "OPERATOR(pg_catalog.=)".into(),
            is_default: true,
        };
        let comparisons = vec![comparison(None), comparison(Some(collation))];
        let detail = Detail { comparisons, names: vec![format!("public.{name}")] };
        UniqueIndex { name: name.into(), is_primary: false, columns: vec!["id".into(), "a\"b".into()], detail }
    }

    #[test]
    fn rows_are_compared_like_index() {
        let mut turned = index("y", "public.ci");
        turned.columns.reverse();
        turned.detail.comparisons.reverse();
        let key = MergeKey::of_indexes(vec![index("x", "public.ci"), turned, index("z", "other")]);
        assert_eq!(key.names, ["public.x", "public.y"]);
        assert_eq!(
            key.is_same("t", "s"),
            "t.\"id\" OPERATOR(pg_catalog.=) s.\"id\" AND \
             t.\"a\"\"b\" COLLATE public.ci OPERATOR(pg_catalog.=) s.\"a\"\"b\" COLLATE public.ci"
        );
        assert_eq!(key.of_row("s"), "s.\"id\", s.\"a\"\"b\" COLLATE public.ci");
    }
}
