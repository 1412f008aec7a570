//! `run_texts` and `conversation_texts`: the words by which runs and conversations are found.
//!
//! Both are full-text indexes without contents, whose row ids are the numbers of the runs and conversations. They are
//! updated late: a write that makes or changes a text only marks it (`indexed = 0`), because several index writes for
//! each run would cost more than the run's own rows. The marked texts are indexed before a search, see
//! [`Storage::index_texts`](super::Storage::index_texts).
//!
//! The tokenizer of the index takes the characters between spaces and punctuation as a word. Scripts that put no spaces
//! between words (Chinese, Japanese, Thai and others) are therefore indexed character by character, see [`segmented`]:
//! a search for some characters finds them wherever they are adjacent.

use std::borrow::Cow;

use rusqlite::{OptionalExtension, params};

use super::reader::Reader;
use super::rows::optional_json_of;
use super::tx::WriteTx;
use super::{StorageError, answers};

/// Characters of each text that are indexed; the rest is not found.
const LENGTH: usize = 256 << 10;

/// Limits of one indexing write: some milliseconds. At least one text is indexed, however long it is.
const SLICE_RUNS: usize = 200;
const SLICE_BYTES: usize = 256 << 10;

/// Bytes of text for each byte of the index. Measured: 0.44 bytes of index for each byte of source code.
const BYTES_OF_TEXT_FOR_ONE: usize = 2;

/// Indexes the texts of some runs and conversations that are new or have changed. Returns whether none are left.
///
/// # Errors
/// If the database cannot be written.
pub(super) fn index_some(tx: &mut WriteTx<'_>) -> Result<bool, StorageError> {
    let mut bytes = 0;
    for _ in 0..SLICE_RUNS {
        if bytes >= SLICE_BYTES {
            return Ok(false);
        }
        let Some(num) = first_unindexed(tx.conn, "runs")? else {
            return tx.index_titles();
        };
        bytes += tx.index_run(num)?;
    }
    Ok(false)
}

impl WriteTx<'_> {
    /// Indexes one run. Returns the bytes of its texts.
    fn index_run(&mut self, num: i64) -> Result<usize, StorageError> {
        // A row that cannot be read must not prevent the indexing of the others.
        let (prompt, end) = self
            .conn
            .prepare_cached(
                "SELECT (SELECT substr(body ->> 'prompt', 1, ?2) FROM run_bodies
                         WHERE run = runs.num AND kind = 'payload' AND json_valid(body)) AS prompt,
                     (SELECT payload FROM run_events WHERE cursor = runs.terminal_cursor AND json_valid(payload)) AS end
                 FROM runs WHERE num = ?1",
            )?
            .query_row(params![num, i64::try_from(LENGTH).unwrap_or(i64::MAX)], |row| {
                Ok((row.get::<_, Option<String>>("prompt")?.unwrap_or_default(), optional_json_of(row, "end")?))
            })?;
        let end = end.map(|end| answers::of_end(self.conn, num, end)).transpose()?;
        let answer = end.and_then(|(answer, _)| answer).unwrap_or_default();
        let answer = indexed_part(&answer);
        self.execute(
            "INSERT OR REPLACE INTO run_texts (rowid, prompt, answer) VALUES (?1, ?2, ?3)",
            params![num, segmented(&prompt), segmented(answer)],
        )?;
        let bytes = prompt.len() + answer.len();
        self.execute(
            "UPDATE runs SET stored_bytes = stored_bytes + CASE indexed WHEN 2 THEN 0 ELSE ?2 END, indexed = 1
             WHERE num = ?1",
            params![num, i64::try_from(bytes / BYTES_OF_TEXT_FOR_ONE).unwrap_or(0)],
        )?;
        Ok(bytes)
    }

    fn index_titles(&mut self) -> Result<bool, StorageError> {
        for _ in 0..SLICE_RUNS {
            let Some(num) = first_unindexed(self.conn, "conversations")? else { return Ok(true) };
            let title: Option<String> = self
                .conn
                .prepare_cached("SELECT title FROM conversations WHERE num = ?1")?
                .query_row([num], |row| row.get(0))?;
            self.execute(
                "INSERT OR REPLACE INTO conversation_texts (rowid, title) VALUES (?1, ?2)",
                params![num, segmented(&title.unwrap_or_default())],
            )?;
            self.execute("UPDATE conversations SET indexed = 1 WHERE num = ?1", [num])?;
        }
        Ok(false)
    }

    /// Rewrites a part of each index (this many pages of 4 KiB) without the words of deleted texts: until then the
    /// words stay in it, although no search finds them. Returns whether nothing is left to rewrite.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn purge_texts(&mut self, pages: u32) -> Result<bool, StorageError> {
        let before = self.conn.total_changes();
        for table in ["run_texts", "conversation_texts"] {
            // A negative number merges all segments. The statement itself counts as one change.
            self.execute(&format!("INSERT INTO {table} ({table}, rank) VALUES ('merge', -{pages})"), [])?;
        }
        Ok(self.conn.total_changes() - before <= 2)
    }

    /// Removes a deleted run from the index.
    pub(super) fn forget_run_texts(&self, num: i64) -> Result<(), StorageError> {
        self.execute("DELETE FROM run_texts WHERE rowid = ?1", [num])?;
        Ok(())
    }

    /// Removes a deleted conversation from the index.
    pub(super) fn forget_conversation_texts(&self, num: i64) -> Result<(), StorageError> {
        self.execute("DELETE FROM conversation_texts WHERE rowid = ?1", [num])?;
        Ok(())
    }
}

fn first_unindexed(conn: &rusqlite::Connection, table: &str) -> Result<Option<i64>, StorageError> {
    let found = conn
        .prepare_cached(&format!(
            "SELECT num FROM {table} INDEXED BY {table}_to_index WHERE indexed <> 1 ORDER BY num LIMIT 1"
        ))?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(found)
}

impl Reader {
    /// Whether there are texts that are not indexed yet.
    pub(super) fn has_unindexed(&self) -> Result<bool, StorageError> {
        let any = |table| first_unindexed(&self.conn, table).map(|found| found.is_some());
        Ok(any("runs")? || any("conversations")?)
    }
}

/// The first [`LENGTH`] bytes of a text, in whole characters.
fn indexed_part(text: &str) -> &str {
    &text[..text.floor_char_boundary(LENGTH)]
}

/// A text with spaces around each character of a script that has none.
fn segmented(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(has_no_spaces) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    for character in text.chars() {
        if has_no_spaces(character) {
            out.extend([' ', character, ' ']);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Whether a character is of a script that puts no spaces between words. Hangul counts, too: its particles and compounds
/// are written together with the word that a user searches for.
const fn has_no_spaces(character: char) -> bool {
    matches!(character,
        // Thai, Lao, Tibetan, Burmese, Khmer
        '\u{0e00}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        // Hiragana, katakana, Bopomofo, Han, Yi
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{312f}' | '\u{31a0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{a000}'..='\u{a4cf}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}'
        // Hangul
        | '\u{ac00}'..='\u{d7a3}')
}

/// Translates a user's search into an FTS5 query. All words must occur, in any order, as prefixes (`auth` finds
/// `authentication`). Text in quotation marks must occur exactly, except for case, accents and punctuation. A search
/// without letter or digit becomes an empty phrase, which finds nothing.
pub(super) fn expression(search: &str) -> String {
    let mut parts = Vec::new();
    // Every second piece is quoted; the last may lack the closing mark.
    for (index, piece) in search.split('"').enumerate() {
        let quoted = index % 2 == 1;
        let pieces: Vec<&str> = if quoted { vec![piece] } else { piece.split_whitespace().collect() };
        for piece in pieces.into_iter().filter(|piece| piece.contains(char::is_alphanumeric)) {
            // SQLite reads a text only up to a zero byte.
            let piece = segmented(piece).replace('\0', " ");
            parts.push(format!("\"{piece}\"{}", if quoted { "" } else { " *" }));
        }
    }
    if parts.is_empty() { "\"\"".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_prefixes_and_quotations_phrases() {
        assert_eq!(expression("fix auth"), "\"fix\" * \"auth\" *");
        assert_eq!(expression("say \"hello  world\" now"), "\"say\" * \"hello  world\" \"now\" *");
        assert_eq!(expression("an \"open end"), "\"an\" * \"open end\"");
        assert_eq!(expression("部署auth \"方案\""), "\" 部  署 auth\" * \" 方  案 \"");
        // Operators of FTS5 are quoted.
        assert_eq!(expression("a OR b* -c ^d"), "\"a\" * \"OR\" * \"b*\" * \"-c\" * \"^d\" *");
        for nothing in ["", "  ", "\"", "\"\"", "- * ()", "\0"] {
            assert_eq!(expression(nothing), "\"\"", "{nothing:?}");
        }
    }
}
