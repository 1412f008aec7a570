//! Tables that fit the terminal.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::clean;
use super::output::{BOLD, Output, paint};
use ostler_protocol::ApiError;

/// Spaces between two columns.
const GAP: usize = 2;
/// Minimum width of the flexible column.
const MIN_FLEXIBLE: usize = 12;

/// A cell: its cleaned text and style.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(super) fn styled(style: Style, text: &str) -> Self {
        Self { text: clean::line(text), style }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::styled(Style::new(), text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// A table with one column that shrinks on a narrow terminal.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<&'static str>,
    flexible: usize,
    /// Columns that are dropped on a narrow terminal, in this order.
    optional: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings; `flexible` is the index of the column that is cut first.
    pub(super) fn new(head: &[&'static str], flexible: usize) -> Self {
        Self { head: head.to_vec(), flexible, optional: Vec::new(), rows: Vec::new() }
    }

    /// Sets the columns that are dropped on a narrow terminal, in this order, until the others fit.
    pub(super) fn optional(mut self, columns: &[usize]) -> Self {
        self.optional = columns.to_vec();
        self
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(super) fn print(&self, out: &mut Output) -> Result<(), ApiError> {
        out.write(&self.render(out.width, out.color))
    }

    /// The table as text, cut to `width` columns if given.
    pub(super) fn render(&self, width: Option<usize>, color: bool) -> String {
        let columns = self.columns(width);
        let head: Vec<Cell> = self.head.iter().map(|name| Cell::styled(BOLD, name)).collect();
        let row = |cells: &Vec<Cell>| {
            let shown = columns.iter().filter_map(|(column, width)| Some((cells.get(*column)?, *width)));
            render_row(&shown.collect::<Vec<_>>(), width, color)
        };
        std::iter::once(&head).chain(&self.rows).map(row).collect()
    }

    /// Indexes and widths of the columns that are shown.
    fn columns(&self, limit: Option<usize>) -> Vec<(usize, usize)> {
        let mut columns: Vec<(usize, usize)> = self.widths().into_iter().enumerate().collect();
        let Some(limit) = limit else { return columns };
        let total = |columns: &[(usize, usize)]| {
            columns.iter().map(|(_, width)| width).sum::<usize>() + GAP * columns.len().saturating_sub(1)
        };
        let shrink = |columns: &mut Vec<(usize, usize)>| {
            let excess = total(columns).saturating_sub(limit);
            if let Some((_, width)) = columns.iter_mut().find(|(column, _)| *column == self.flexible) {
                *width = width.saturating_sub(excess).max(MIN_FLEXIBLE.min(*width));
            }
        };
        for dropped in &self.optional {
            let mut tried = columns.clone();
            shrink(&mut tried);
            if total(&tried) <= limit {
                break;
            }
            columns.retain(|(column, _)| column != dropped);
        }
        shrink(&mut columns);
        columns
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|name| name.width()).collect();
        for row in &self.rows {
            for (at, cell) in widths.iter_mut().zip(row) {
                *at = (*at).max(cell.text.width());
            }
        }
        widths
    }
}

fn render_row(cells: &[(&Cell, usize)], limit: Option<usize>, color: bool) -> String {
    let mut line = String::new();
    let mut column = 0;
    for (index, (cell, width)) in cells.iter().enumerate() {
        let room = limit.map_or(*width, |limit| (*width).min(limit.saturating_sub(column)));
        let text = cut(&cell.text, room);
        let used = text.width();
        line.push_str(&if text.is_empty() { text } else { paint(color, cell.style, &text) });
        let last = cells.iter().skip(index + 1).all(|(cell, _)| cell.text.is_empty());
        if last || limit.is_some_and(|limit| column + width + GAP >= limit) {
            break;
        }
        line.push_str(&" ".repeat(width - used.min(*width) + GAP));
        column += width + GAP;
    }
    line.push('\n');
    line
}

/// Cuts a text to `width` columns. A cut text ends with `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        out.push(character);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["RUN", "TITLE", "TOOK"], 1);
        table.row(vec!["1a2b3c4d".into(), "Explain the whole repository, please".into(), "1.2s".into()]);
        table.row(vec!["99999999".into(), "日本語のテキスト\nzweite Zeile".into(), "".into()]);
        table
    }

    #[test]
    fn shrinks_flexible_column() {
        insta::assert_snapshot!(table().render(Some(36), false), @r"
        RUN       TITLE                 TOOK
        1a2b3c4d  Explain the whole r…  1.2s
        99999999  日本語のテキスト zw…
        ");
        insta::assert_snapshot!(table().render(None, false), @r"
        RUN       TITLE                                 TOOK
        1a2b3c4d  Explain the whole repository, please  1.2s
        99999999  日本語のテキスト zweite Zeile
        ");
    }

    #[test]
    fn narrow_terminal_drops_optional_columns() {
        let table = table().optional(&[2]);
        insta::assert_snapshot!(table.render(Some(24), false), @r"
        RUN       TITLE
        1a2b3c4d  Explain the w…
        99999999  日本語のテキ…
        ");
        assert!(table.render(Some(30), false).contains("TOOK"), "there is room");
    }

    #[test]
    fn colors_do_not_count_as_width() {
        let mut table = Table::new(&["A", "B"], 0);
        table.row(vec![Cell::styled(super::super::output::GOOD, "ok"), "x".into()]);
        assert!(table.render(None, true).contains("\u{1b}[32mok\u{1b}[0m  x\n"));
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(width in 0usize..60, cells in proptest::collection::vec("\\PC{0,30}", 3)) {
            let mut table = Table::new(&["ONE", "TWO", "THREE"], 1);
            table.row(cells.iter().map(|text| Cell::from(text.as_str())).collect());
            for line in table.render(Some(width), false).lines() {
                prop_assert!(line.trim_end().width() <= width, "{line:?} {width}");
            }
        }
    }
}
