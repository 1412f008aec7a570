//! Edits a message of several lines.

use super::keys::Key;
use super::wrap::width_of;

/// Edits a text. It has no output of its own: [`view`](LineEditor::view) says what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LineEditor {
    text: Vec<char>,
    cursor: usize,
    /// The text is a secret: it is not shown.
    secret: bool,
}

/// What a key did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineOutcome {
    /// The text or the cursor may have changed.
    Edited,
    /// The user has entered the text. The editor is empty again.
    Entered(String),
    /// Ctrl-D without a text.
    EndOfInput,
    /// Escape.
    Left,
}

/// The text as rows of the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EditorView {
    pub(crate) rows: Vec<String>,
    /// Row and column of the cursor.
    pub(crate) cursor: (usize, usize),
    /// Rows above and below that are not shown.
    pub(crate) hidden: (usize, usize),
}

impl LineEditor {
    /// An editor whose text is not shown.
    pub(crate) fn secret() -> Self {
        Self { secret: true, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Removes and returns the text.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text).into_iter().collect()
    }

    /// Puts a text that could not be sent before the current one.
    pub(crate) fn restore(&mut self, text: &str) {
        let mut restored: Vec<char> = text.chars().collect();
        if !self.text.is_empty() {
            restored.push('\n');
        }
        self.cursor += restored.len();
        restored.append(&mut self.text);
        self.text = restored;
    }

    /// Processes a key.
    pub(crate) fn key(&mut self, key: &Key) -> LineOutcome {
        match key {
            Key::Char(character) => self.insert(&[*character]),
            Key::Paste(text) => self.insert(&text.chars().collect::<Vec<_>>()),
            Key::LineBreak => self.insert(&['\n']),
            Key::Enter => return LineOutcome::Entered(self.take()),
            Key::Escape => return LineOutcome::Left,
            Key::Ctrl('d') if self.text.is_empty() => return LineOutcome::EndOfInput,
            Key::Backspace | Key::Ctrl('h') => self.remove(self.before(self.cursor)..self.cursor),
            Key::Delete | Key::Ctrl('d') => self.remove(self.cursor..self.after(self.cursor)),
            Key::Left | Key::Ctrl('b') => self.cursor = self.before(self.cursor),
            Key::Right | Key::Ctrl('f') => self.cursor = self.after(self.cursor),
            Key::Home | Key::Ctrl('a') => self.cursor = self.line_start(self.cursor),
            Key::End | Key::Ctrl('e') => self.cursor = self.line_end(self.cursor),
            Key::Up => self.move_up(),
            Key::Down => self.move_down(),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Ctrl('w') => self.remove(self.word_left()..self.cursor),
            Key::Ctrl('u') => self.remove(self.line_start(self.cursor)..self.cursor),
            Key::Ctrl('k') => self.remove(self.cursor..self.line_end(self.cursor)),
            Key::Ctrl(_) => {}
        }
        LineOutcome::Edited
    }

    fn insert(&mut self, characters: &[char]) {
        self.text.splice(self.cursor..self.cursor, characters.iter().copied());
        self.cursor += characters.len();
    }

    fn remove(&mut self, range: std::ops::Range<usize>) {
        self.cursor = range.start;
        self.text.drain(range);
    }

    /// The start of the character before, with the marks that are combined with it.
    fn before(&self, mut at: usize) -> usize {
        while at > 0 {
            at -= 1;
            if self.text.get(at).is_some_and(|character| *character == '\n' || width_of(*character) > 0) {
                break;
            }
        }
        at
    }

    fn after(&self, at: usize) -> usize {
        let mut at = (at + 1).min(self.text.len());
        while self.text.get(at).is_some_and(|character| *character != '\n' && width_of(*character) == 0) {
            at += 1;
        }
        at
    }

    fn line_start(&self, at: usize) -> usize {
        self.text.iter().take(at).rposition(|character| *character == '\n').map_or(0, |found| found + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        self.text.iter().skip(at).position(|character| *character == '\n').map_or(self.text.len(), |found| at + found)
    }

    fn move_up(&mut self) {
        let start = self.line_start(self.cursor);
        if start > 0 {
            let above = self.line_start(start - 1);
            self.cursor = (above + self.cursor - start).min(start - 1);
        }
    }

    fn move_down(&mut self) {
        let end = self.line_end(self.cursor);
        if end < self.text.len() {
            let column = self.cursor - self.line_start(self.cursor);
            self.cursor = (end + 1 + column).min(self.line_end(end + 1));
        }
    }

    fn word_left(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or_default();
        let word = before.iter().rposition(|character| !character.is_whitespace()).map_or(0, |found| found + 1);
        before.iter().take(word).rposition(|character| character.is_whitespace()).map_or(0, |found| found + 1)
    }

    fn word_right(&self) -> usize {
        let after = self.text.get(self.cursor..).unwrap_or_default();
        let word = after.iter().position(|character| !character.is_whitespace()).unwrap_or(after.len());
        let end = after.iter().skip(word).position(|character| character.is_whitespace());
        self.cursor + end.map_or(after.len(), |end| word + end)
    }

    /// The text in at most `max_rows` rows of `width` columns, those around the cursor.
    pub(crate) fn view(&self, width: usize, max_rows: usize) -> EditorView {
        if self.secret {
            return EditorView { rows: vec![String::new()], cursor: (0, 0), hidden: (0, 0) };
        }
        // The cursor needs a column after the last character.
        let width = width.saturating_sub(1).max(2);
        let mut rows = vec![String::new()];
        let (mut column, mut cursor) = (0, (0, 0));
        for (at, character) in self.text.iter().copied().chain([' ']).enumerate() {
            let shown = match character {
                '\t' => "    ".to_owned(),
                other if other.is_control() && other != '\n' => "\u{fffd}".to_owned(),
                other => other.to_string(),
            };
            let columns = if character == '\n' { 0 } else { shown.chars().map(width_of).sum() };
            if column + columns > width && at < self.text.len() {
                rows.push(String::new());
                column = 0;
            }
            if at == self.cursor {
                cursor = (rows.len() - 1, column);
            }
            if at == self.text.len() {
                break;
            }
            if character == '\n' {
                rows.push(String::new());
                column = 0;
            } else if let Some(row) = rows.last_mut() {
                row.push_str(&shown);
                column += columns;
            }
        }
        let max_rows = max_rows.max(1);
        let above = cursor.0.saturating_sub(max_rows / 2).min(rows.len().saturating_sub(max_rows));
        let below = rows.len().saturating_sub(above + max_rows);
        let rows: Vec<String> = rows.into_iter().skip(above).take(max_rows).collect();
        EditorView { rows, cursor: (cursor.0 - above, cursor.1), hidden: (above, below) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(keys: &[Key]) -> LineEditor {
        let mut editor = LineEditor::default();
        for key in keys {
            editor.key(key);
        }
        editor
    }

    fn text(text: &str) -> Vec<Key> {
        text.chars().map(|character| if character == '\n' { Key::LineBreak } else { Key::Char(character) }).collect()
    }

    fn after(start: &str, keys: &[Key]) -> String {
        typed(&[text(start), keys.to_vec()].concat()).take()
    }

    #[test]
    fn edits_at_the_cursor() {
        assert_eq!(after("abd", &[Key::Left, Key::Char('c')]), "abcd");
        assert_eq!(after("abc", &[Key::Home, Key::Delete]), "bc");
        assert_eq!(after("abc", &[Key::Backspace]), "ab");
        assert_eq!(after("e\u{301}", &[Key::Backspace]), "", "a letter with its mark");
        assert_eq!(after("one two  ", &[Key::Ctrl('w')]), "one ");
        assert_eq!(after("one two", &[Key::WordLeft, Key::Char('x')]), "one xtwo");
        assert_eq!(after("one two", &[Key::Home, Key::WordRight, Key::Char('x')]), "onex two");
        assert_eq!(after("one\ntwo", &[Key::Ctrl('u')]), "one\n");
        assert_eq!(after("one\ntwo", &[Key::Up, Key::Ctrl('k')]), "one\ntwo");
        assert_eq!(after("one\ntwo", &[Key::Up, Key::Home, Key::Down, Key::Char('x')]), "one\nxtwo");
        assert_eq!(after("", &[Key::Backspace, Key::Delete, Key::Up, Key::Down, Key::WordLeft, Key::WordRight]), "");
    }

    #[test]
    fn paste_with_lines_is_one_message() {
        let mut editor = typed(&[Key::Paste("one\ntwo\n".to_owned())]);
        assert_eq!(editor.key(&Key::Enter), LineOutcome::Entered("one\ntwo\n".to_owned()));
        assert_eq!(editor.key(&Key::Ctrl('d')), LineOutcome::EndOfInput);
    }

    #[test]
    fn view_follows_the_cursor() {
        let view = typed(&text("hello")).view(20, 5);
        assert_eq!((view.rows, view.cursor), (vec!["hello".to_owned()], (0, 5)));
        let view = typed(&text("hello world")).view(7, 5);
        assert_eq!((view.rows, view.cursor), (vec!["hello ".to_owned(), "world".to_owned()], (1, 5)));
        let view = typed(&text("a\nb\nc\nd\ne")).view(20, 2);
        assert_eq!((view.rows, view.cursor, view.hidden), (vec!["d".to_owned(), "e".to_owned()], (1, 1), (3, 0)));
        let mut secret = LineEditor::secret();
        secret.key(&Key::Paste("hunter2".to_owned()));
        assert_eq!(secret.view(20, 2).rows, [""]);
        assert_eq!(secret.take(), "hunter2");
    }

    #[test]
    fn text_that_could_not_be_sent_comes_before_a_newer_one() {
        let mut editor = typed(&text("newer"));
        editor.restore("older");
        assert_eq!(editor.take(), "older\nnewer");
        editor.restore("alone");
        assert_eq!(editor.take(), "alone");
    }

    proptest! {
        #[test]
        fn no_key_breaks_the_editor(keys in prop::collection::vec(prop_oneof![
            "[a日\n\t\u{301}]".prop_map(|text| text.chars().next().map_or(Key::Home, Key::Char)),
            prop::sample::select(vec![Key::Left, Key::Right, Key::Up, Key::Down, Key::Home, Key::End, Key::Backspace,
                Key::Delete, Key::WordLeft, Key::WordRight, Key::Ctrl('w'), Key::Ctrl('u'), Key::Ctrl('k'), Key::LineBreak,
                Key::Paste("x\ny".to_owned())]),
        ], 0..40), width in 0_usize..12, rows in 0_usize..4) {
            let editor = typed(&keys);
            prop_assert!(editor.cursor <= editor.text.len());
            let view = editor.view(width, rows);
            prop_assert!(view.cursor.0 < view.rows.len() && view.rows.len() <= rows.max(1), "{:?}", view);
        }
    }
}
