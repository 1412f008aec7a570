//! The events of a run, redacted once more by the rules of today.
//!
//! A rule that is newer than the run may find a secret that was stored in two pieces: in two deltas of one text, in two
//! chunks of one stream. Pieces therefore go through one stream again. What the stream holds back at the end of a piece
//! belongs to that piece; it waits until the next piece or the end of the text shows whether it is a secret's beginning,
//! and what comes after it waits behind it.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;

use ostler_protocol::{Event, EventType, Semantic, chunk_bytes, chunk_members};
use ostler_redaction::{ByteRedactor, RunRedactor, StreamRedactor};

/// Events that wait behind a held piece, at most; then the piece is let go as it is.
const MOST_WAITING: usize = 2000;
/// Bytes of payload that wait, at most.
const MOST_BYTES: usize = 4 << 20;

/// Identifies a text that comes in pieces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Stdout,
    Stderr,
    /// A text of the agent, by its message.
    Text(String),
    /// The model's reasoning, by its message.
    Thinking(String),
    /// A tool's output, by the tool use.
    Tool(String),
}

/// The role of an event for the texts that are not complete yet.
enum Part {
    Piece(Key),
    /// The end of a text.
    Whole(Key),
    Other,
}

/// Redacts the pieces of a text, or of a stream of bytes.
#[derive(Debug)]
enum Stream {
    Text(StreamRedactor),
    Bytes(Box<ByteRedactor>),
}

impl Stream {
    /// Of standard output bytes are kept, of everything else text.
    fn new(redactor: &RunRedactor, key: &Key) -> Self {
        match key {
            Key::Stdout => Self::Bytes(Box::new(ByteRedactor::new(redactor))),
            Key::Stderr | Key::Text(_) | Key::Thinking(_) | Key::Tool(_) => Self::Text(redactor.stream()),
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Text(stream) => stream.held(),
            Self::Bytes(stream) => stream.held(),
        }
    }

    /// Puts in the place of the piece that an event holds what is ready after it.
    fn push(&mut self, payload: &mut Value) {
        match self {
            Self::Text(stream) => {
                if let Some(Value::String(piece)) = payload.get_mut("text") {
                    let mut text = String::new();
                    stream.push(piece, &mut text);
                    *piece = text;
                }
            }
            Self::Bytes(stream) => {
                let ready = stream.push(&chunk_bytes(payload));
                put(payload, ready);
            }
        }
    }

    /// Adds what was held back to the piece that an event holds.
    fn finish(&mut self, payload: &mut Value) {
        match self {
            Self::Text(stream) => {
                if let Some(Value::String(text)) = payload.get_mut("text") {
                    stream.finish(text);
                }
            }
            Self::Bytes(stream) => {
                let mut bytes = chunk_bytes(payload).into_owned();
                bytes.extend(stream.finish());
                put(payload, bytes);
            }
        }
    }
}

/// Makes these bytes the piece of a chunk.
fn put(payload: &mut Value, bytes: Vec<u8>) {
    let (text, base64) = chunk_members(Cow::Owned(bytes));
    if let Value::Object(members) = payload {
        members.shift_remove("base64");
        members.insert("text".to_owned(), text.into());
        members.extend(base64.map(|base64| ("base64".to_owned(), base64.into())));
    }
}

#[derive(Debug)]
struct Open {
    stream: Stream,
    /// The number of the event to which the held text belongs.
    last: u64,
}

/// Redacts events in their order.
pub(super) struct Rewriter {
    redactor: RunRedactor,
    open: HashMap<Key, Open>,
    waiting: VecDeque<(Event, usize)>,
    bytes: usize,
    /// The number of the first that waits.
    first: u64,
}

impl Rewriter {
    pub(super) fn new(redactor: RunRedactor) -> Self {
        Self { redactor, open: HashMap::new(), waiting: VecDeque::new(), bytes: 0, first: 0 }
    }

    /// Takes in the next event, and gives those that are ready.
    pub(super) fn push(&mut self, mut event: Event, ready: &mut Vec<Event>) {
        let number = self.first + self.waiting.len() as u64;
        match part(&event) {
            Part::Piece(key) => {
                let redactor = &self.redactor;
                let open = match self.open.entry(key) {
                    Entry::Occupied(open) => open.into_mut(),
                    Entry::Vacant(place) => {
                        let stream = Stream::new(redactor, place.key());
                        place.insert(Open { stream, last: number })
                    }
                };
                open.stream.push(&mut event.payload);
                open.last = number;
            }
            Part::Whole(key) => {
                if let Some(open) = self.open.remove(&key) {
                    self.end(open);
                }
                self.redactor.redact_json(&mut event.payload);
            }
            Part::Other => _ = self.redactor.redact_json(&mut event.payload),
        }
        let bytes = text_of(&event).map_or(64, str::len) + 64;
        self.bytes += bytes;
        self.waiting.push_back((event, bytes));
        while self.waiting.len() > MOST_WAITING || self.bytes > MOST_BYTES {
            let Some(key) = self.oldest() else { break };
            if let Some(open) = self.open.remove(&key) {
                self.end(open);
            }
            self.let_go(ready);
        }
        self.let_go(ready);
    }

    /// Ends all texts, and gives what is left.
    pub(super) fn finish(mut self, ready: &mut Vec<Event>) {
        while let Some(key) = self.oldest() {
            if let Some(open) = self.open.remove(&key) {
                self.end(open);
            }
        }
        self.open.clear();
        self.let_go(ready);
    }

    /// The text that has held something back for longest.
    fn oldest(&self) -> Option<Key> {
        let holding = self.open.iter().filter(|(_, open)| open.stream.held() > 0);
        holding.min_by_key(|(_, open)| open.last).map(|(key, _)| key.clone())
    }

    /// Adds what a stream held back to the piece that it came with.
    fn end(&mut self, mut open: Open) {
        let index = open.last.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some((event, _)) = index.and_then(|index| self.waiting.get_mut(index)) {
            open.stream.finish(&mut event.payload);
        }
    }

    fn let_go(&mut self, ready: &mut Vec<Event>) {
        let holding = self.open.values().filter(|open| open.stream.held() > 0).map(|open| open.last).min();
        while holding.is_none_or(|held| self.first < held) {
            let Some((event, bytes)) = self.waiting.pop_front() else { break };
            self.bytes -= bytes;
            self.first += 1;
            ready.push(event);
        }
    }
}

fn text_of(event: &Event) -> Option<&str> {
    event.payload.get("text")?.as_str()
}

fn part(event: &Event) -> Part {
    match event.kind {
        EventType::ChunkStdout => Part::Piece(Key::Stdout),
        EventType::ChunkStderr => Part::Piece(Key::Stderr),
        EventType::Semantic => Semantic::deserialize(&event.payload).map_or(Part::Other, semantic_part),
        _ => Part::Other,
    }
}

fn semantic_part(event: Semantic) -> Part {
    match event {
        Semantic::TextDelta(piece) => Part::Piece(Key::Text(piece.message)),
        Semantic::ThinkingDelta(piece) => Part::Piece(Key::Thinking(piece.message)),
        Semantic::ToolDelta(piece) => Part::Piece(Key::Tool(piece.id)),
        Semantic::Text(text) => Part::Whole(Key::Text(text.message)),
        Semantic::Thinking(text) => Part::Whole(Key::Thinking(text.message)),
        Semantic::ToolResult(result) => Part::Whole(Key::Tool(result.id)),
        _ => Part::Other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::test_support::redactor_masking;

    const SECRET: &str = "xq7-plain-words-of-a-secret";

    fn redactor() -> RunRedactor {
        redactor_masking(&[SECRET])
    }

    fn rewrite(events: Vec<Event>) -> Vec<Event> {
        let mut rewriter = Rewriter::new(redactor());
        let mut ready = Vec::new();
        for event in events {
            rewriter.push(event, &mut ready);
        }
        rewriter.finish(&mut ready);
        ready
    }

    fn delta(cursor: u64, message: &str, text: &str) -> Event {
        Event::sample(cursor, EventType::Semantic, json!({"kind": "text_delta", "message": message, "text": text}))
    }

    #[test]
    fn a_secret_in_two_pieces_is_found_and_every_event_keeps_its_place() {
        let (head, tail) = SECRET.split_at(9);
        let events = vec![
            delta(1, "a", &format!("it is {head}")),
            Event::sample(2, EventType::Warning, json!({"code": "X", "message": format!("or {SECRET}?")})),
            delta(3, "b", "another"),
            delta(4, "a", &format!("{tail}, they say")),
            Event::sample(5, EventType::Semantic, json!({"kind": "text", "message": "a"})),
        ];
        let out = rewrite(events);
        assert_eq!(out.iter().map(|event| event.cursor).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let text: String = [0, 3].iter().filter_map(|index| text_of(&out[*index])).collect();
        assert_eq!(text, "it is [REDACTED:thing], they say");
        assert_eq!(text_of(&out[2]), Some("another"));
        assert_eq!(out[1].payload["message"], "or [REDACTED:thing]?");
    }

    #[test]
    fn bytes_that_are_no_text_come_through_and_a_secret_beside_them_does_not() {
        let (head, tail) = SECRET.split_at(9);
        let (text, base64) = chunk_members(Cow::Owned([b"\xff\r", head.as_bytes()].concat()));
        let events = vec![
            Event::sample(
                1,
                EventType::ChunkStdout,
                json!({"text": text, "redactions": 0, "lossy": true, "base64": base64}),
            ),
            Event::sample(2, EventType::ChunkStdout, json!({"text": format!("{tail}\r"), "redactions": 0})),
        ];
        let out = rewrite(events);
        let bytes: Vec<u8> = out.iter().flat_map(|event| chunk_bytes(&event.payload).into_owned()).collect();
        assert_eq!(bytes, b"\xff\r[REDACTED:thing]\r");
    }

    #[test]
    fn one_that_waits_for_ever_does_not_fill_the_memory() {
        let (head, _) = SECRET.split_at(9);
        let mut rewriter = Rewriter::new(redactor());
        let mut ready = Vec::new();
        rewriter.push(delta(0, "a", head), &mut ready);
        for cursor in 1..10_000 {
            rewriter.push(Event::sample(cursor, EventType::Progress, json!({"stage": "queued"})), &mut ready);
            assert!(rewriter.waiting.len() <= MOST_WAITING);
        }
        assert_eq!(text_of(&ready[0]), Some(head));
    }

    proptest! {
        /// However a text was cut, and whatever comes in between: the same text comes out, and no event is lost.
        #[test]
        fn cuts_change_nothing(words in proptest::collection::vec("[ a-z\n]{0,12}|xq7-plain-words-of-a-secret", 1..12),
                               cuts in proptest::collection::vec(0_usize..200, 0..12), between in any::<bool>()) {
            let text = words.concat();
            let whole = redactor().redact(&text).text.into_owned();
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
            places.extend([0, text.len()]);
            places.sort_unstable();
            let mut events = Vec::new();
            for pair in places.windows(2) {
                events.push(Event::sample(0, EventType::ChunkStdout, json!({"text": text[pair[0]..pair[1]], "redactions": 0})));
                if between {
                    events.push(Event::sample(0, EventType::Progress, json!({"stage": "x"})));
                }
            }
            let count = events.len();
            let out = rewrite(events);
            prop_assert_eq!(out.len(), count);
            prop_assert_eq!(out.iter().filter_map(text_of).collect::<String>(), whole);
        }
    }
}
