//! Rules for single columns: rename, ignore, fill, convert, or set the type.
//!
//! All but the type apply to each batch, before types are inferred. The type applies to the inferred schema.
//!
//! A rule finds its column by its name in the file, after that was trimmed and made unique (see [`crate::schema::header`]). An
//! exact match comes before one in another letter case. The columns of rules with a default value come first, in the order of the
//! rules, because every file then has them at the same place.

mod format;

use std::borrow::Cow;

use crate::batch::FieldKind;
use crate::schema::header::loose_name;
use crate::schema::value::{is_null_token, parse_boolean, spelling};
use crate::schema::{ColumnType, Schema};
use crate::{Batch, Error, ErrorKind, Position, Result};

pub use format::{NumberFormat, ValueFormat};

/// The rules for the columns of a file; none by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnRules(Vec<ColumnRule>);

/// A rule for one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRule {
    /// The name of the column in the table.
    pub name: String,
    /// The name of the column in the file.
    pub source: String,
    /// Whether and how the column is loaded.
    pub action: ColumnAction,
}

/// Whether and how a column is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnAction {
    /// The column is not loaded.
    Ignore,
    /// The column is loaded.
    Load {
        /// The type of the column in a new table and in the fallback; inferred if `None`.
        column_type: Option<ColumnType>,
        /// The spelling of the values in the file. `None` if no conversion is needed.
        format: Option<ValueFormat>,
        /// The value of a missing field, and of a column that the file does not have.
        default: Option<String>,
    },
}

/// How a file writes its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileValues {
    /// Every value is a text, as in CSV.
    Texts,
    /// Numbers have a spelling of their own, as in JSON and Parquet.
    Typed,
}

/// Why a column has its type, if a rule names it.
const SETTINGS_NAME_IT: &str = "the table settings name it";

impl ColumnRule {
    fn default_value(&self) -> Option<&str> {
        match &self.action {
            ColumnAction::Ignore => None,
            ColumnAction::Load { default, .. } => default.as_deref(),
        }
    }

    /// Whether the values are booleans in any spelling that a boolean column of a table accepts.
    fn reads_booleans(&self) -> bool {
        matches!(&self.action, ColumnAction::Load { column_type: Some(ColumnType::Boolean), format: None, .. })
    }

    fn format(&self) -> Option<&ValueFormat> {
        match &self.action {
            ColumnAction::Ignore => None,
            ColumnAction::Load { format, .. } => format.as_ref(),
        }
    }
}

impl ColumnRules {
    /// Rules with distinct names and distinct sources.
    pub fn new(rules: Vec<ColumnRule>) -> Self {
        Self(rules)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all columns keep their names and their order.
    pub fn keep_columns(&self) -> bool {
        self.0.iter().all(|rule| match &rule.action {
            ColumnAction::Ignore => false,
            ColumnAction::Load { default, .. } => default.is_none() && rule.name == rule.source,
        })
    }

    /// Whether a rule says which type the column with this name has, or how its values are written.
    pub fn decide_type(&self, name: &str) -> bool {
        let decides = |rule: &ColumnRule| match &rule.action {
            ColumnAction::Ignore => false,
            ColumnAction::Load { column_type, format, .. } => column_type.is_some() || format.is_some(),
        };
        self.0.iter().any(|rule| rule.name == name && decides(rule))
    }

    /// Whether a rule says that a column has decimal commas.
    pub fn have_decimal_comma(&self) -> bool {
        let has_comma =
            |rule: &ColumnRule| matches!(rule.format(), Some(ValueFormat::Number(format)) if format.decimal == ',');
        self.0.iter().any(has_comma)
    }

    /// Checks the rules for a file without a header, whose names only count positions.
    ///
    /// # Errors
    /// When a rule has another source than such a name, or when rules change the columns and another column has no rule.
    pub fn check_positions(&self, file: &[String]) -> Result<()> {
        let is_lost = |rule: &&ColumnRule| rule.default_value().is_none() && position_of(&rule.source, file).is_none();
        if let Some(rule) = self.0.iter().find(is_lost) {
            let message = format!(
                "the file has no header, so its columns are col_1 to col_{}, but the rule in the table settings has the \
                 source {}",
                file.len(),
                rule.source
            );
            return Err(Error::new(ErrorKind::Invalid, message).in_column(&rule.name));
        }
        if self.keep_columns() {
            return Ok(());
        }
        match self.plan(file)?.into_iter().find(|column| column.rule.is_none()) {
            None => Ok(()),
            Some(unnamed) => {
                let message = "the file has no header, and the table settings have a rule for other columns but not for this \
                               one; add a rule with this source, which names the column or ignores it";
                Err(Error::new(ErrorKind::Invalid, message).in_column(unnamed.name))
            }
        }
    }

    /// The names of the columns after the rules. `file` contains the names of the file's columns.
    ///
    /// # Errors
    /// When two columns get the same name.
    pub fn names(&self, file: &[String]) -> Result<Vec<String>> {
        Ok(self.plan(file)?.into_iter().map(|column| column.name).collect())
    }

    /// Returns one batch after the rules. `file` contains the names of its columns.
    ///
    /// # Errors
    /// When two columns get the same name, or when a value does not have the format of its rule.
    pub fn apply(&self, file: &[String], batch: &Batch, values: FileValues) -> Result<Batch> {
        RuledBatches::new(self.clone(), values).apply(batch, file.len(), || file.to_vec())
    }

    /// The columns after the rules with the types that the file declares, as Parquet does. A filled or converted column has none.
    ///
    /// # Errors
    /// When two columns get the same name.
    pub fn declared(&self, file: &[(String, ColumnType)]) -> Result<Vec<(String, Option<ColumnType>)>> {
        let names: Vec<String> = file.iter().map(|(name, _)| name.clone()).collect();
        let declared = |column: PlannedColumn| {
            let is_as_in_file = column
                .rule
                .as_ref()
                .is_none_or(|rule| rule.format().is_none() && rule.default_value().is_none() && !rule.reads_booleans());
            let column_type = column.source.filter(|_| is_as_in_file).map(|source| file[source].1);
            (column.name, column_type)
        };
        Ok(self.plan(&names)?.into_iter().map(declared).collect())
    }

    /// Sets the columns' types to those of their rules. Numbers whose rule says how they are written leave no doubt.
    ///
    /// # Errors
    /// When a value of a column does not have the type.
    pub fn set_types(&self, schema: &mut Schema) -> Result<()> {
        for rule in &self.0 {
            let ColumnAction::Load { column_type, default, .. } = &rule.action else { continue };
            let Some(column) = schema.columns.iter_mut().find(|column| column.name == rule.name) else { continue };
            let own_reason = column.type_reason.reason.clone();
            if let (ColumnType::Text, Some(ValueFormat::Number(_)), Some(number_type)) =
                (column.column_type, rule.format(), column.candidates.number())
            {
                column.column_type = number_type;
                column.type_reason.reason = "the table settings say how its numbers are written".to_owned();
            }
            // Null tokens would be text, and so would the dates of later files.
            if let (None, true, Some(implied)) =
                (column_type, column.candidates.are_open(), rule.format().and_then(ValueFormat::column_type))
            {
                column.column_type = implied;
                column.has_nulls = true;
                column.type_reason.reason = format!("{own_reason}, and the table settings have a format");
                continue;
            }
            let Some(wanted) = column_type else {
                if rule.format().is_some() && column.type_reason.reason == own_reason {
                    column.type_reason.reason = format!("{own_reason}, with the format in the table settings");
                } else if default.is_some() {
                    column.type_reason.reason = format!("{own_reason}, with the default in the table settings");
                }
                continue;
            };
            if column.column_type == *wanted {
                column.type_reason.reason = SETTINGS_NAME_IT.to_owned();
                column.type_reason.forced_by_record = None;
                continue;
            }
            if column.column_type == ColumnType::Binary || !column.candidates.hold(*wanted) {
                let message = format!(
                    "the table settings give the column a type that its values do not have: {}",
                    column.type_reason.reason
                );
                return Err(Error::new(ErrorKind::Invalid, message).in_column(&rule.name));
            }
            column.column_type = *wanted;
            column.type_reason.reason = SETTINGS_NAME_IT.to_owned();
            column.type_reason.forced_by_record = None;
        }
        Ok(())
    }

    /// The names of the rules without a column among `columns`, which are those after the rules. A rule that ignores a column, or fills
    /// one, needs none.
    pub fn unmatched(&self, columns: &[String]) -> Vec<&str> {
        let is_unmatched = |rule: &&ColumnRule| match &rule.action {
            ColumnAction::Ignore => false,
            ColumnAction::Load { default, .. } => default.is_none() && !columns.contains(&rule.name),
        };
        self.0.iter().filter(is_unmatched).map(|rule| rule.name.as_str()).collect()
    }

    /// The columns after the rules, in order.
    fn plan(&self, file: &[String]) -> Result<Vec<PlannedColumn>> {
        let sources: Vec<Option<usize>> = self.0.iter().map(|rule| position_of(&rule.source, file)).collect();
        let filled = self.0.iter().zip(&sources).filter(|(rule, _)| rule.default_value().is_some());
        let filled = filled.map(|(rule, source)| PlannedColumn::of_rule(rule, *source));
        let others = file.iter().enumerate().filter_map(|(index, name)| {
            let rule = sources.iter().position(|source| *source == Some(index)).map(|rule| &self.0[rule]);
            match rule {
                None => Some(PlannedColumn { name: name.clone(), source: Some(index), rule: None }),
                Some(ColumnRule { action: ColumnAction::Ignore, .. }) => None,
                Some(rule) if rule.default_value().is_some() => None,
                Some(rule) => Some(PlannedColumn::of_rule(rule, Some(index))),
            }
        });
        let plan: Vec<PlannedColumn> = filled.chain(others).collect();
        check_names(&plan)?;
        Ok(plan)
    }
}

/// The index of a name: exactly, or else in any letter case, or else as people write it, if only one name is meant.
pub fn position_of(wanted: &str, names: &[String]) -> Option<usize> {
    let exact = names.iter().position(|name| name == wanted);
    let in_any_case = || names.iter().position(|name| name.to_lowercase() == wanted.to_lowercase());
    exact.or_else(in_any_case).or_else(|| {
        let wanted = loose_name(wanted)?;
        let mut meant = names.iter().enumerate().filter(|(_, name)| loose_name(name).as_ref() == Some(&wanted));
        meant.next().map(|(index, _)| index).filter(|_| meant.next().is_none())
    })
}

fn check_names(plan: &[PlannedColumn]) -> Result<()> {
    for (index, column) in plan.iter().enumerate().filter(|(_, column)| column.rule.is_some()) {
        let is_same = |(other, planned): (usize, &PlannedColumn)| {
            other != index && planned.name.to_lowercase() == column.name.to_lowercase()
        };
        if plan.iter().enumerate().any(is_same) {
            let message =
                "two columns of the file get the same name by the table settings; ignore or rename one of them";
            return Err(Error::new(ErrorKind::Invalid, message).in_column(&column.name));
        }
    }
    Ok(())
}

/// A column after the rules.
#[derive(Debug)]
struct PlannedColumn {
    name: String,
    /// Its index in the file; `None` if the file does not have it.
    source: Option<usize>,
    rule: Option<ColumnRule>,
}

/// Applies the rules to the batches of one file, in order.
#[derive(Debug)]
pub struct RuledBatches {
    rules: ColumnRules,
    values: FileValues,
    /// The columns after the rules, for batches of one width and this number of known columns.
    plan: Vec<PlannedColumn>,
    planned_for: Option<(usize, usize)>,
}

impl RuledBatches {
    /// Rules for a file that writes its values in this way.
    pub fn new(rules: ColumnRules, values: FileValues) -> Self {
        Self { rules, values, plan: Vec::new(), planned_for: None }
    }

    /// The rules.
    pub fn rules(&self) -> &ColumnRules {
        &self.rules
    }

    /// Returns a batch after the rules.
    ///
    /// `names` returns the names of the file's columns, of which so many are known. It is called only if their number has changed.
    ///
    /// # Errors
    /// When two columns get the same name, or when a value does not have the format of its rule.
    pub fn apply(&mut self, batch: &Batch, known: usize, names: impl FnOnce() -> Vec<String>) -> Result<Batch> {
        let width = batch.width().min(known);
        if self.planned_for != Some((width, known)) {
            self.plan = self.rules.plan(&names()[..width])?;
            self.planned_for = Some((width, known));
        }
        let mut ruled = Batch::new(self.plan.len());
        for row in 0..batch.rows() {
            let position = batch.position(row);
            for column in &self.plan {
                column.push(batch, (row, position), self.values, &mut ruled)?;
            }
            ruled.end_row(position);
        }
        Ok(ruled)
    }
}

impl PlannedColumn {
    fn of_rule(rule: &ColumnRule, source: Option<usize>) -> Self {
        Self { name: rule.name.clone(), source, rule: Some(rule.clone()) }
    }

    fn push(
        &self,
        batch: &Batch,
        (row, position): (usize, Position),
        values: FileValues,
        out: &mut Batch,
    ) -> Result<()> {
        let field = self.source.and_then(|source| batch.field(row, source).map(|field| (source, field)));
        let default = self.rule.as_ref().and_then(ColumnRule::default_value);
        let Some((source, field)) = field else {
            out.push_field(default.map(str::as_bytes));
            return Ok(());
        };
        let kind = batch.kind(row, source);
        match self.rule.as_ref().and_then(ColumnRule::format) {
            Some(format) if format.applies_to(kind, values) && !is_null_token(field) => {
                let converted = format.convert(field).ok_or_else(|| self.misfit(format, position))?;
                out.push_kind(FieldKind::Plain, &converted);
            }
            Some(_) | None => self.push_unformatted(kind, field, out),
        }
        Ok(())
    }

    fn push_unformatted(&self, kind: FieldKind, field: &[u8], out: &mut Batch) {
        let reads_booleans = self.rule.as_ref().is_some_and(ColumnRule::reads_booleans);
        let is_other_spelling = reads_booleans
            && kind != FieldKind::Nested
            && (kind == FieldKind::String || parse_boolean(field).is_none());
        match if is_other_spelling { spelling::boolean(field) } else { None } {
            Some(true) => out.push_kind(FieldKind::Plain, b"true"),
            Some(false) => out.push_kind(FieldKind::Plain, b"false"),
            None => out.push_kind(kind, field),
        }
    }

    fn misfit(&self, format: &ValueFormat, position: Position) -> Error {
        let message = format!("the value does not have the format {format} of the table settings");
        Error::new(ErrorKind::Invalid, message).at(position).in_column(&self.name)
    }
}

/// The bytes of a field after a conversion.
type Converted<'a> = Cow<'a, [u8]>;

#[cfg(test)]
mod tests;
