//! Location of an answer that the record of its run does not contain completely, and how to read it from the events.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Event, EventType, Output, Semantic};

/// Maximum size of the answer in the record and in the terminal event of a run, in bytes.
pub const MAX_FINAL_TEXT: usize = 1 << 20;

/// The location of an answer that `finalText` does not contain exactly: because it is the child's standard output, byte
/// for byte, or because it is longer than the limit of `finalText`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerRange {
    /// `text`: the pieces are in `run.chunk.stdout`. `lines`: they are in `run.semantic` of kind `text_delta`, or in a
    /// single one of kind `text`.
    pub output: Output,
    /// Bytes of all pieces.
    pub bytes: u64,
    /// Cursor of the first piece; 0 if none was stored.
    pub from_cursor: u64,
    /// Cursor of the last piece.
    pub to_cursor: u64,
    /// The message whose `text_delta` the pieces are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Bytes after the last piece that were not stored, because the run had reached its storage limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl AnswerRange {
    /// Whether the answer is longer than `final_text`, its first part, or may be.
    #[must_use]
    pub const fn exceeds(&self, final_text: &str) -> bool {
        let shown = final_text.len();
        // U+FFFD can be longer than the invalid bytes it replaces. A text that was cut ends less than a character
        // before the limit.
        self.bytes + self.lost_bytes > shown as u64 || shown + 4 > MAX_FINAL_TEXT
    }

    /// The piece of the answer in an event of the run. `None` for other events.
    #[must_use]
    pub fn piece<'a>(&self, event: &'a Event) -> Option<Cow<'a, [u8]>> {
        if !(self.from_cursor..=self.to_cursor).contains(&event.cursor) {
            return None;
        }
        match (self.output, event.kind) {
            (Output::Text, EventType::ChunkStdout) => Some(chunk_bytes(&event.payload)),
            (Output::Lines, EventType::Semantic) => {
                let text = match (&self.message, Semantic::deserialize(&event.payload).ok()?) {
                    (Some(message), Semantic::TextDelta(piece)) if piece.message == *message => piece.text,
                    (None, Semantic::Text(text)) => text.text.unwrap_or_default(),
                    _ => return None,
                };
                Some(Cow::Owned(text.into_bytes()))
            }
            _ => None,
        }
    }
}

/// The bytes of a `run.chunk.stdout`, as the child wrote them, but redacted.
#[must_use]
pub fn chunk_bytes(payload: &Value) -> Cow<'_, [u8]> {
    let member = |name: &str| payload.get(name).and_then(Value::as_str);
    match member("base64").and_then(|encoded| STANDARD.decode(encoded).ok()) {
        Some(bytes) => Cow::Owned(bytes),
        None => Cow::Borrowed(member("text").unwrap_or_default().as_bytes()),
    }
}

/// Bytes as the members `text` and `base64` of a chunk. The latter is present only if the bytes are not UTF-8.
#[must_use]
pub fn chunk_members(bytes: Cow<'_, [u8]>) -> (String, Option<String>) {
    match String::from_utf8(bytes.into_owned()) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.as_bytes();
            (String::from_utf8_lossy(bytes).into_owned(), Some(STANDARD.encode(bytes)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn location(output: Output, message: Option<&str>) -> AnswerRange {
        let message = message.map(str::to_owned);
        AnswerRange { output, bytes: 0, from_cursor: 2, to_cursor: 8, message, lost_bytes: 0 }
    }

    fn read(location: &AnswerRange, events: &[Event]) -> Vec<u8> {
        events.iter().filter_map(|event| location.piece(event)).flat_map(Cow::into_owned).collect()
    }

    #[test]
    fn reads_only_the_pieces_of_the_answer() {
        let delta = |message: &str, text: &str| json!({"kind": "text_delta", "message": message, "text": text});
        let events = [
            Event::sample(1, EventType::ChunkStdout, json!({"text": "an attempt before"})),
            Event::sample(2, EventType::ChunkStdout, json!({"text": "a\r\n"})),
            Event::sample(3, EventType::ChunkStderr, json!({"text": "trouble"})),
            Event::sample(4, EventType::Semantic, delta("m", "one ")),
            Event::sample(5, EventType::Semantic, delta("n", "aside")),
            Event::sample(6, EventType::Semantic, json!({"kind": "text", "message": "m", "text": "whole"})),
            Event::sample(7, EventType::Semantic, delta("m", "two")),
            Event::sample(8, EventType::ChunkStdout, json!({"text": "\u{fffd}b", "base64": "/2I="})),
            Event::sample(9, EventType::ChunkStdout, json!({"text": "later"})),
        ];
        assert_eq!(read(&location(Output::Text, None), &events), b"a\r\n\xffb");
        assert_eq!(read(&location(Output::Lines, Some("m")), &events), b"one two");
        assert_eq!(read(&location(Output::Lines, None), &events), b"whole");
    }

    #[test]
    fn answer_exceeds_a_full_final_text() {
        let of = |bytes, lost_bytes| AnswerRange { bytes, lost_bytes, ..location(Output::Text, None) };
        assert!(!of(5, 0).exceeds("whole"));
        assert!(!of(1, 0).exceeds("\u{fffd}"));
        assert!(of(6, 0).exceeds("begin"));
        assert!(of(5, 1).exceeds("begin"));
        assert!(of(900_000, 0).exceeds(&"\u{fffd}".repeat(MAX_FINAL_TEXT / 3)));
    }

    proptest! {
        #[test]
        fn chunk_round_trips_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let (text, base64) = chunk_members(Cow::Borrowed(&bytes));
            prop_assert_eq!(base64.is_none(), std::str::from_utf8(&bytes).is_ok());
            let payload = json!({"text": text, "base64": base64});
            prop_assert_eq!(chunk_bytes(&payload).into_owned(), bytes);
        }
    }
}
