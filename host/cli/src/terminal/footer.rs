//! Lines at the bottom of the output that are redrawn in place.

use std::fmt::Write as _;

/// Lines below the output. Each fits the width of the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FooterText {
    pub(crate) rows: Vec<String>,
    /// Row and column of the cursor; the start of the first row if absent.
    pub(crate) cursor: Option<(usize, usize)>,
}

/// Draws lines, and erases them before other text is written. Returns what to write to the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footer {
    /// What is drawn.
    drawn: Option<FooterText>,
}

impl Footer {
    /// Erases what is drawn. The cursor is then where it was before the first line was drawn.
    pub(crate) fn erase(&mut self) -> String {
        let Some(drawn) = self.drawn.take() else { return String::new() };
        let mut out = String::new();
        up(drawn.cursor.unwrap_or_default().0, &mut out);
        out.push_str("\r\u{1b}[J");
        out
    }

    /// Draws the lines from the start of the current line on, in place of what is drawn. Returns nothing if they are the
    /// same.
    pub(crate) fn draw(&mut self, text: &FooterText) -> String {
        if self.drawn.as_ref() == Some(text) {
            return String::new();
        }
        let mut out = self.erase();
        if text.rows.is_empty() {
            return out;
        }
        out.push_str(&text.rows.join("\n"));
        let (row, column) = text.cursor.unwrap_or_default();
        up(text.rows.len().saturating_sub(1 + row), &mut out);
        out.push('\r');
        if column > 0 {
            let _ = write!(out, "\u{1b}[{column}C");
        }
        self.drawn = Some(text.clone());
        out
    }
}

/// Moves the cursor up.
fn up(rows: usize, out: &mut String) {
    if rows > 0 {
        let _ = write!(out, "\u{1b}[{rows}A");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer(rows: &[&str], cursor: Option<(usize, usize)>) -> FooterText {
        FooterText { rows: rows.iter().map(|row| (*row).to_owned()).collect(), cursor }
    }

    #[test]
    fn erases_exactly_what_was_drawn() {
        let mut drawn = Footer::default();
        assert_eq!(drawn.erase(), "");
        assert_eq!(drawn.draw(&footer(&["one", "> two"], Some((1, 5)))), "one\n> two\r\u{1b}[5C");
        assert_eq!(drawn.draw(&footer(&["one", "> two"], Some((1, 5)))), "", "nothing changed");
        assert_eq!(drawn.draw(&footer(&["x"], None)), "\u{1b}[1A\r\u{1b}[Jx\r");
        assert_eq!(drawn.erase(), "\r\u{1b}[J");
        assert_eq!(drawn.erase(), "");
    }
}
