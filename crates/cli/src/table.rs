//! Text tables: columns that are as wide as their values.

use crate::output::{Style, Styles};

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a heading.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

/// A row: its cells, the style of one of them, and the lines below it.
struct Row {
    cells: Vec<String>,
    styled: Option<(usize, Style)>,
    below: Vec<String>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Control characters of a cell are shown as escapes, because a terminal would obey them.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cells = cells.iter().map(|cell| printable(cell)).collect();
        self.rows.push(Row { cells, styled: None, below: Vec::new() });
    }

    /// Paints a cell of the last row.
    pub(crate) fn paint(&mut self, column: usize, style: Style) {
        if let Some(row) = self.rows.last_mut() {
            row.styled = Some((column, style));
        }
    }

    /// Adds a line below the last row.
    pub(crate) fn below(&mut self, text: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.below.push(printable(text));
        }
    }

    /// The table as text.
    pub(crate) fn text(&self, styles: Styles) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.columns[column].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut text = styles.paint(Style::Bold, &self.line(&heading, &widths, None, styles));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&self.line(&row.cells, &widths, row.styled, styles));
            text.push('\n');
            for below in &row.below {
                text.push_str(&format!("  {}\n", styles.paint(Style::Dim, below)));
            }
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize], styled: Option<(usize, Style)>, styles: Styles) -> String {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let missing = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let painted = match styled {
                Some((index, style)) if index == column => styles.paint(style, cell),
                _ => cell.clone(),
            };
            match self.columns[column].1 {
                Align::Right => line.push_str(&format!("{missing}{painted}")),
                Align::Left if column + 1 == cells.len() => line.push_str(&painted),
                Align::Left => line.push_str(&format!("{painted}{missing}")),
            }
            if column + 1 < cells.len() {
                line.push_str("  ");
            }
        }
        line
    }
}

/// A text in which control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped: Box<dyn Iterator<Item = char>> = match character.is_control() {
                true => Box::new(character.escape_default()),
                false => Box::new(std::iter::once(character)),
            };
            escaped
        })
        .collect()
}

/// A size with a unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut size = count as f64 / 1000.0;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(size < 99.95);
    format!("{size:.digits$} {}", UNITS[unit])
}

/// A duration with its largest unit.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..=59 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let mut table = Table::new(&[("key", Align::Left), ("rows", Align::Right), ("note", Align::Left)]);
        table.row(vec!["uploads/a.csv".into(), "12".into(), "x".into()]);
        table.row(vec!["b\u{1b}[2J".into(), "1000000".into(), String::new()]);
        table.below("why\n");
        let text = table.text(Styles(Color::Off));
        let expected = "\
key               rows  note
uploads/a.csv       12  x
b\\u{1b}[2J     1000000  
  why\\n
";
        assert_eq!(text, expected);
    }

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(
            [0, 999, 1000, 99_949, 999_500, 1_234_567_890].map(bytes),
            ["0 B", "999 B", "1.0 kB", "99.9 kB", "1.0 MB", "1.2 GB"]
        );
        assert_eq!(
            [5, 1_250, 61_000, 3_660_000, 90_000_000].map(duration),
            ["5 ms", "1.2 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
    }
}
