//! Stores the events of an attempt, within what a run may store.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::attempt::event_translator::{TextKey, TranslatedEvent, refer_to_pieces};
use crate::record::Recorder;
use ostler_protocol::semantic::PieceRange;
use ostler_protocol::{NewEvent, Payload, RunId, WarningCode};
use ostler_storage::{Output, Pending, Written};

/// Stores events without waiting for each; the writer's bounded queue slows the caller down. After the first failure nothing
/// more is stored, so that the events of a run have no gap.
pub(crate) struct RunEventSink<'a> {
    run: RunId,
    recorder: &'a Recorder,
    output: Output,
    /// Bytes of output that the run may still store.
    quota: u64,
    trimmed: bool,
    events: u64,
    /// Where the first and the newest piece of a text are written.
    pieces: HashMap<TextKey, Pieces>,
}

/// The first piece of a text, and the newest if there are several.
type Pieces = (Pending<Vec<Written>>, Option<Pending<Vec<Written>>>);

impl<'a> RunEventSink<'a> {
    /// `quota` is the number of bytes of output that the run may store.
    pub(crate) fn new(run: RunId, recorder: &'a Recorder, output: Output, quota: u64) -> Self {
        Self { run, recorder, output, quota, trimmed: false, events: 0, pieces: HashMap::new() }
    }

    /// Number of events so far.
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// Whether storing an event has failed.
    pub(crate) fn failed(&self) -> bool {
        self.output.check().is_err()
    }

    /// Whether output was not stored, because the run has reached its limit.
    pub(crate) const fn is_trimmed(&self) -> bool {
        self.trimmed
    }

    /// Stores an event of the host itself. The quota does not apply to these few.
    pub(crate) fn store(&mut self, event: NewEvent) {
        self.store_all(vec![event]);
    }

    /// Stores several events, all or none.
    pub(crate) fn store_all(&mut self, events: Vec<NewEvent>) {
        self.events += events.len() as u64;
        if let Err(error) = self.output.append(events) {
            tracing::error!(run = %self.run, %error, "output was not stored");
        }
    }

    /// Stores a warning of the host.
    pub(crate) fn warn(&mut self, code: WarningCode, message: impl Into<String>, facts: Value) {
        let event = self.recorder.warning(code, message, facts);
        self.store(event);
    }

    /// Stores an event if the quota allows it.
    pub(crate) fn store_within_quota(&mut self, event: NewEvent) {
        if self.reserve(&event) {
            self.store(event);
        }
    }

    /// Stores output of the child, redacted already, if the quota allows it.
    pub(crate) fn store_output(&mut self, payload: &Payload) {
        self.store_within_quota(self.recorder.redacted(payload));
    }

    /// Stores a piece of output if the quota allows it, and returns the pending cursor.
    pub(crate) fn store_piece(&mut self, payload: &Payload) -> Option<Pending<Vec<Written>>> {
        let event = self.recorder.redacted(payload);
        self.reserve(&event).then(|| {
            self.events += 1;
            self.output.append_tracked(vec![event])
        })
    }

    /// Stores a translated event if the quota allows it.
    pub(crate) fn emit(&mut self, event: TranslatedEvent) {
        match event {
            TranslatedEvent::Event(payload) => self.store_output(&payload),
            TranslatedEvent::Piece { key, payload } => {
                let Some(written) = self.store_piece(&payload) else { return };
                match self.pieces.get_mut(&key) {
                    Some((_, newest)) => *newest = Some(written),
                    None => _ = self.pieces.insert(key, (written, None)),
                }
            }
            TranslatedEvent::Whole { key, mut event } => {
                if let Some(range) = self.pieces.remove(&key).and_then(range) {
                    refer_to_pieces(&mut event, range);
                }
                self.store_output(&Payload::Semantic(event));
            }
        }
    }

    /// Takes the size of an event from the quota. The first event that does not fit is reported.
    fn reserve(&mut self, event: &NewEvent) -> bool {
        let size = event.payload.len() as u64;
        if size <= self.quota {
            self.quota -= size;
            return true;
        }
        self.quota = 0;
        if !std::mem::replace(&mut self.trimmed, true) {
            let message = "the run reached the limit of stored output (`max_stored_mib`); further output is not kept";
            self.warn(WarningCode::BufferTrimmed, message, Value::Null);
        }
        false
    }

    /// Reports processes that the run has left behind.
    pub(crate) fn warn_of_processes(
        &mut self,
        code: WarningCode,
        message: impl Into<String>,
        count: Option<usize>,
        processes: &[ostler_runner::Leftover],
    ) {
        let named: Value = processes.iter().map(|process| json!({"pid": process.pid, "name": process.name})).collect();
        self.warn(code, message, json!({"count": count, "processes": named}));
    }
}

/// Waits until the pieces of a text are written, and returns their cursors.
fn range((first, newest): Pieces) -> Option<PieceRange> {
    let first = first.wait().ok()?.first()?.cursor;
    let last = newest.map_or(Some(first), |newest| Some(newest.wait().ok()?.last()?.cursor));
    Some(PieceRange { from_cursor: Some(first), to_cursor: Some(last?) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::attempt::event_translator::EventTranslator;
    use crate::test_support::{Fixture, redactor_masking};
    use ostler_plugin_host::types as plugin;
    use ostler_protocol::{Chunk, Event};
    use ostler_storage::{EventFilter, Options};

    fn recorder() -> Recorder {
        Recorder::new(None, None, redactor_masking(&[]))
    }

    fn sink<'a>(fixture: &Fixture, recorder: &'a Recorder, quota: u64) -> RunEventSink<'a> {
        RunEventSink::new(RunId::generate(), recorder, fixture.storage.output(), quota)
    }

    fn stored(fixture: &Fixture) -> Vec<Event> {
        fixture.storage.output().finish().wait().unwrap();
        fixture.events(&EventFilter::default())
    }

    fn output(text: &str) -> Payload {
        Payload::ChunkStdout(Chunk { text: text.to_owned(), ..Chunk::default() })
    }

    #[test]
    fn output_beyond_the_quota_is_dropped_and_reported_once() {
        let (fixture, recorder) = (Fixture::new(), recorder());
        let mut sink = sink(&fixture, &recorder, 100);
        sink.store_output(&output("fits"));
        sink.store_output(&output(&"x".repeat(100)));
        assert!(sink.store_piece(&output("fits no more")).is_none());
        sink.warn(WarningCode::InputUnread, "an event of the host", Value::Null);
        assert_eq!(sink.events(), 3);
        let stored: Vec<Value> = stored(&fixture).into_iter().map(|event| event.payload).collect();
        assert_eq!(stored[0]["text"], "fits");
        let codes: Vec<&Value> = stored.iter().skip(1).map(|event| &event["code"]).collect();
        assert_eq!(codes, ["BUFFER_TRIMMED", "INPUT_UNREAD"]);
    }

    #[test]
    fn whole_text_has_the_cursors_of_its_pieces() {
        let (fixture, recorder) = (Fixture::new(), recorder());
        let mut sink = sink(&fixture, &recorder, 1 << 20);
        let mut translator = EventTranslator::new(redactor_masking(&[]), 0);
        let piece = |text: &str| plugin::TextPiece { message: "m".to_owned(), text: text.to_owned(), parent: None };
        // Each step has one event, so that the pieces are not joined.
        for event in [
            plugin::Semantic::TextDelta(piece("one\n")),
            plugin::Semantic::TextDelta(piece("two\n")),
            plugin::Semantic::Text(piece("one\ntwo\n")),
        ] {
            let mut events = Vec::new();
            translator.translate(vec![event], &mut events);
            events.into_iter().for_each(|event| sink.emit(event));
        }
        let stored = stored(&fixture);
        let [first, .., last, whole] = stored.as_slice() else { panic!("{stored:?}") };
        let expected = json!({"kind": "text", "message": "m", "fromCursor": first.cursor, "toCursor": last.cursor});
        assert_eq!(whole.payload, expected);
    }

    #[test]
    fn nothing_is_stored_after_a_failure() {
        let fixture = Fixture::with_storage(&Options { max_pages: Some(400), ..Options::default() });
        let recorder = recorder();
        let mut sink = sink(&fixture, &recorder, u64::MAX);
        while !sink.failed() {
            sink.store_output(&output(&"x".repeat(100_000)));
        }
        let before = stored(&fixture).len();
        sink.warn(WarningCode::InputUnread, "small enough", Value::Null);
        assert_eq!(stored(&fixture).len(), before);
    }
}
