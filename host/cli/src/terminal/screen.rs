//! Output with lines below it: text that grows, and a footer that stays at the bottom.

use std::fmt::Write as _;

use super::footer::{Footer, FooterText};
use super::wrap::{TAB, width_of};

/// Writes text above a footer. A line of the text may be unfinished: the footer is then on the next line, and the text
/// continues where it ended. Returns what to write to the terminal.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    width: usize,
    /// Column at which the text ends.
    column: usize,
    footer: Footer,
    /// The footer is below an unfinished line.
    below: bool,
}

impl Screen {
    /// A screen with this number of columns, whose cursor is at the start of a line.
    pub(crate) fn new(width: usize) -> Self {
        Self { width: width.max(2), column: 0, footer: Footer::default(), below: false }
    }

    /// Whether the text ends with a line end.
    pub(crate) const fn at_line_start(&self) -> bool {
        self.column == 0
    }

    /// Writes text. It is clean but for colors.
    pub(crate) fn write(&mut self, text: &str, footer: &FooterText) -> String {
        let mut out = self.lift();
        out.push_str(text);
        self.advance(text);
        out.push_str(&self.lower(footer));
        out
    }

    /// Writes lines that do not continue the text.
    pub(crate) fn write_lines(&mut self, text: &str, footer: &FooterText) -> String {
        let start = if self.at_line_start() { "" } else { "\n" };
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        self.write(&format!("{start}{text}{end}"), footer)
    }

    /// Redraws the footer.
    pub(crate) fn redraw(&mut self, footer: &FooterText) -> String {
        if footer.rows.is_empty() {
            return self.lift();
        }
        if self.below || self.column == 0 { self.footer.draw(footer) } else { self.lower(footer) }
    }

    /// Removes the footer, and ends an unfinished line.
    pub(crate) fn leave(&mut self) -> String {
        let mut out = self.lift();
        if std::mem::take(&mut self.column) > 0 {
            out.push('\n');
        }
        out
    }

    /// The terminal has another width. Its lines may have moved, so the text continues on a new line.
    pub(crate) fn resize(&mut self, width: usize, footer: &FooterText) -> String {
        let mut out = self.footer.erase();
        if !self.below && self.column > 0 {
            out.push('\n');
        }
        self.below = false;
        self.column = 0;
        self.width = width.max(2);
        out.push_str(&self.lower(footer));
        out
    }

    /// Erases the footer and returns to the end of the text.
    fn lift(&mut self) -> String {
        let mut out = self.footer.erase();
        if std::mem::take(&mut self.below) {
            let _ = write!(out, "\u{1b}[A\u{1b}[{}G", self.column + 1);
        }
        out
    }

    /// Draws the footer after the text.
    fn lower(&mut self, footer: &FooterText) -> String {
        if footer.rows.is_empty() {
            return String::new();
        }
        let mut out = String::new();
        if self.column > 0 {
            out.push('\n');
            // After the last column, the text continues on the next line anyway.
            self.below = self.column < self.width;
            if !self.below {
                self.column = 0;
            }
        }
        out.push_str(&self.footer.draw(footer));
        out
    }

    fn advance(&mut self, text: &str) {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\n' | '\r' => self.column = 0,
                '\t' => self.column = ((self.column / TAB + 1) * TAB).min(self.width - 1),
                // A color.
                '\u{1b}' => while characters.next().is_some_and(|next| next != 'm') {},
                other => {
                    let columns = width_of(other);
                    self.column = if self.column + columns > self.width { columns } else { self.column + columns };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that understands what the screen writes.
    struct Emulator {
        width: usize,
        rows: Vec<Vec<char>>,
        cursor: (usize, usize),
    }

    impl Emulator {
        fn new(width: usize) -> Self {
            Self { width, rows: vec![Vec::new()], cursor: (0, 0) }
        }

        fn show(&mut self, text: &str) {
            let mut characters = text.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\n' => self.cursor = (self.cursor.0 + 1, 0),
                    '\r' => self.cursor.1 = 0,
                    '\u{1b}' => {
                        assert_eq!(characters.next(), Some('['));
                        let mut number = String::new();
                        let command = loop {
                            match characters.next() {
                                Some(digit) if digit.is_ascii_digit() => number.push(digit),
                                other => break other,
                            }
                        };
                        let number = number.parse().unwrap_or(1);
                        match command {
                            Some('A') => self.cursor.0 -= number,
                            Some('C') => self.cursor.1 += number,
                            Some('G') => self.cursor.1 = number - 1,
                            Some('J') => {
                                self.rows.truncate(self.cursor.0 + 1);
                                if let Some(row) = self.rows.get_mut(self.cursor.0) {
                                    row.truncate(self.cursor.1);
                                }
                            }
                            other => assert_eq!(other, Some('m')),
                        }
                    }
                    other => {
                        if self.cursor.1 == self.width {
                            self.cursor = (self.cursor.0 + 1, 0);
                        }
                        self.grow();
                        let row = &mut self.rows[self.cursor.0];
                        row.resize(row.len().max(self.cursor.1 + 1), ' ');
                        row[self.cursor.1] = other;
                        self.cursor.1 += 1;
                    }
                }
                self.grow();
            }
        }

        fn grow(&mut self) {
            self.rows.resize(self.rows.len().max(self.cursor.0 + 1), Vec::new());
        }

        fn text(&self) -> Vec<String> {
            self.rows.iter().map(|row| row.iter().collect()).collect()
        }
    }

    fn footer(text: &str) -> FooterText {
        FooterText { rows: vec!["status".to_owned(), format!("> {text}")], cursor: Some((1, 2 + text.len())) }
    }

    #[test]
    fn text_in_pieces_is_the_same_as_without_footer() {
        let text = "The quick brown fox\njumps over\n\nthe lazy dog, and again over the lazy dog.";
        for width in [6, 7, 9, 10, 19, 40] {
            for size in 1..7 {
                let (mut screen, mut emulator, mut plain) =
                    (Screen::new(width), Emulator::new(width), Emulator::new(width));
                let pieces: Vec<String> =
                    text.chars().collect::<Vec<_>>().chunks(size).map(|piece| piece.iter().collect()).collect();
                for (number, piece) in pieces.iter().enumerate() {
                    let shown = footer(&number.to_string()[..1]);
                    emulator.show(&screen.write(piece, &shown));
                    emulator.show(&screen.redraw(&footer("a")));
                }
                emulator.show(&screen.leave());
                plain.show(text);
                plain.show("\n");
                let shown = emulator.text();
                let shown: Vec<&str> = shown.iter().map(String::as_str).filter(|row| !row.is_empty()).collect();
                let expected = plain.text();
                let expected: Vec<&str> = expected.iter().map(String::as_str).filter(|row| !row.is_empty()).collect();
                assert_eq!(shown, expected, "{width} {size}");
            }
        }
    }

    #[test]
    fn lines_do_not_continue_the_text() {
        let (mut screen, mut emulator) = (Screen::new(20), Emulator::new(20));
        emulator.show(&screen.write("half", &footer("")));
        emulator.show(&screen.write_lines("\u{1b}[1mnote\u{1b}[0m", &footer("x")));
        emulator.show(&screen.write("rest", &footer("x")));
        assert_eq!(emulator.text(), ["half", "note", "rest", "status", "> x"]);
        assert_eq!(emulator.cursor, (4, 3));
        emulator.show(&screen.resize(10, &footer("x")));
        emulator.show(&screen.write("more", &FooterText::default()));
        assert_eq!(emulator.text(), ["half", "note", "rest", "more"]);
    }
}
