//! Stores the answer of a run once: if earlier events contain it already, the terminal event refers to them.
//!
//! The row of such a terminal event has [`MEMBER`] instead of `finalText`. Only this module sees that: readers of the
//! event get the text as if it were stored there. Of a long text they get the start, and a reference to the whole.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use ostler_protocol::{AnswerRange, EventType, MAX_FINAL_TEXT, Output, RunEnd};

use super::StorageError;
use super::rows::{json_of, text, unsigned};

/// Answers of fewer bytes are stored without a reference.
const MIN_REFERENCED: usize = 256;
/// How many events are searched for the answer, from the newest.
const SEARCHED: i64 = 4096;
/// The member of a stored terminal event that holds a [`Reference`].
const MEMBER: &str = "finalTextIn";
/// The member that readers get.
const SHOWN: &str = "finalText";
/// The member that says where the whole answer is.
const PLACE: &str = "answer";

/// Events of the same run that contain the answer together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    /// Cursor of the first.
    from: i64,
    /// Cursor of the last.
    to: i64,
    /// The message whose deltas they are; None for a whole text, or for output that is the answer itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The stored form of the end of a run.
pub(super) fn stored(conn: &Connection, run: i64, end: &RunEnd) -> Result<String, StorageError> {
    let answer = end.final_text.as_deref().filter(|answer| answer.len() >= MIN_REFERENCED);
    // A failed look-up is not an error: storing the end must not fail because of an earlier event.
    let found = answer.and_then(|answer| match &end.answer {
        Some(place) => Some((Reference::of(place)?, Some(place.clone()))),
        None => {
            let (reference, output) = find(conn, run, answer).ok().flatten()?;
            let place = (answer.len() > MAX_FINAL_TEXT).then(|| reference.place(output, answer.len()));
            Some((reference, place))
        }
    });
    let Some((reference, place)) = found else {
        return text(end);
    };
    let mut document =
        serde_json::to_value(RunEnd { final_text: None, answer: place, ..end.clone() }).unwrap_or_default();
    if let Value::Object(members) = &mut document {
        members.insert(MEMBER.to_owned(), serde_json::to_value(reference).unwrap_or_default());
    }
    Ok(document.to_string())
}

/// Puts the answer back into a stored end. Returns its length in bytes.
pub(super) fn restore(conn: &Connection, run: i64, end: &mut Value) -> Result<usize, StorageError> {
    let Some(reference) = end.as_object_mut().and_then(|members| members.shift_remove(MEMBER)) else { return Ok(0) };
    let Ok(reference) = serde_json::from_value::<Reference>(reference) else { return Ok(0) };
    let answer = text_of(conn, run, &reference, MAX_FINAL_TEXT)?;
    let length = answer.len();
    if let Value::Object(members) = end {
        members.insert(SHOWN.to_owned(), answer.into());
    }
    Ok(length)
}

/// The answer that a stored end contains or refers to, and where the whole answer is.
pub(super) fn of_end(
    conn: &Connection,
    run: i64,
    mut end: Value,
) -> Result<(Option<String>, Option<AnswerRange>), StorageError> {
    restore(conn, run, &mut end)?;
    let place = end.get_mut(PLACE).map(Value::take).and_then(|place| serde_json::from_value(place).ok());
    let answer = match end.get_mut(SHOWN) {
        Some(Value::String(answer)) => Some(std::mem::take(answer)),
        _ => None,
    };
    Ok((answer, place))
}

impl Reference {
    /// The reference for a place; `None` if its cursors are out of range.
    fn of(place: &AnswerRange) -> Option<Self> {
        let number = |cursor| i64::try_from(cursor).ok();
        let (from, to) = (number(place.from_cursor)?, number(place.to_cursor)?);
        Some(Self { from, to, message: place.message.clone() })
    }

    /// The place for readers, who get only the start of a long answer.
    fn place(&self, output: Output, bytes: usize) -> AnswerRange {
        let message = self.message.clone();
        let (from_cursor, to_cursor) = (unsigned(self.from), unsigned(self.to));
        AnswerRange { output, bytes: bytes as u64, from_cursor, to_cursor, message, lost_bytes: 0 }
    }
}

/// Finds the events that contain exactly this answer: texts of the agent, or standard output.
fn find(conn: &Connection, run: i64, answer: &str) -> Result<Option<(Reference, Output)>, StorageError> {
    // One byte more, to notice a longer text.
    let limit = answer.len() + 1;
    if let Some(reference) = in_text(conn, run)?
        && text_of(conn, run, &reference, limit)? == answer
    {
        return Ok(Some((reference, Output::Lines)));
    }
    match in_output(conn, run, answer.len())? {
        Some(reference) if text_of(conn, run, &reference, limit)? == answer => Ok(Some((reference, Output::Text))),
        _ => Ok(None),
    }
}

/// The newest text of the main agent, or the deltas to which it refers.
fn in_text(conn: &Connection, run: i64) -> Result<Option<Reference>, StorageError> {
    let newest: Option<(i64, Value)> = conn
        .prepare_cached(
            "SELECT cursor, payload FROM run_events
             WHERE run = ?1 AND seq > (SELECT max(seq) FROM run_events WHERE run = ?1) - ?2 AND type = ?3
                 AND payload ->> 'kind' = 'text' AND payload ->> 'parent' IS NULL
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![run, SEARCHED, EventType::Semantic.name()], |row| {
            Ok((row.get("cursor")?, json_of(row, "payload")?))
        })
        .optional()?;
    let Some((cursor, whole)) = newest else { return Ok(None) };
    let cursor_of = |key: &str| whole.get(key).and_then(Value::as_i64);
    Ok(Some(match (cursor_of("fromCursor"), cursor_of("toCursor"), whole.get("message").and_then(Value::as_str)) {
        (Some(from), Some(to), Some(message)) => Reference { from, to, message: Some(message.to_owned()) },
        _ => Reference { from: cursor, to: cursor, message: None },
    }))
}

/// The newest pieces of standard output whose total length is this.
fn in_output(conn: &Connection, run: i64, length: usize) -> Result<Option<Reference>, StorageError> {
    let mut statement = conn.prepare_cached(
        "SELECT cursor, octet_length(payload ->> 'text') AS bytes FROM run_events
         WHERE run = ?1 AND seq > (SELECT max(seq) FROM run_events WHERE run = ?1) - ?2 AND type = ?3
         ORDER BY seq DESC",
    )?;
    let mut rows = statement.query(params![run, SEARCHED, EventType::ChunkStdout.name()])?;
    let (mut last, mut found) = (None, 0);
    while let Some(row) = rows.next()? {
        let cursor: i64 = row.get("cursor")?;
        let to = *last.get_or_insert(cursor);
        found += usize::try_from(row.get::<_, i64>("bytes")?).unwrap_or(0);
        if found >= length {
            return Ok((found == length).then_some(Reference { from: cursor, to, message: None }));
        }
    }
    Ok(None)
}

/// The text of the referenced events, up to a limit of bytes.
fn text_of(conn: &Connection, run: i64, reference: &Reference, limit: usize) -> Result<String, StorageError> {
    let mut statement = conn.prepare_cached(
        "SELECT payload ->> 'text' AS piece FROM run_events
         WHERE cursor BETWEEN ?2 AND ?3 AND +run = ?1
             AND CASE WHEN ?4 IS NULL THEN type = ?5 OR (?2 = ?3 AND type = ?6 AND payload ->> 'kind' = 'text')
                 ELSE type = ?6 AND payload ->> 'kind' = 'text_delta' AND payload ->> 'message' = ?4 END
         ORDER BY cursor",
    )?;
    let Reference { from, to, message } = reference;
    let (output, semantic) = (EventType::ChunkStdout.name(), EventType::Semantic.name());
    let mut rows = statement.query(params![run, from, to, message, output, semantic])?;
    let mut answer = String::new();
    while answer.len() <= limit
        && let Some(row) = rows.next()?
    {
        let piece = row.get_ref("piece")?.as_str_or_null().ok().flatten().unwrap_or_default();
        answer.push_str(piece);
    }
    answer.truncate(answer.floor_char_boundary(limit));
    Ok(answer)
}
