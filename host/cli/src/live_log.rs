//! The log of a run while it is running: texts appear piece by piece.

use std::collections::HashMap;

use super::clean::Cleaner;
use super::logs::{Line, Log, StreamId, head, indent, render};
use super::output::Output;
use ostler_protocol::{Event, EventType, Semantic};

/// Turns events into text as they arrive. A text that arrives in pieces is an entry that grows.
#[derive(Debug)]
pub(super) struct LiveLog {
    log: Log,
    /// Number of bytes that were shown of each unfinished text.
    shown: HashMap<StreamId, usize>,
    /// The entry that grows.
    current: Option<Growing>,
}

/// An entry whose line has not ended.
#[derive(Debug)]
struct Growing {
    stream: StreamId,
    cleaner: Cleaner,
    /// Prefix of the lines after the first.
    indent: String,
    at_line_start: bool,
    /// Blank lines that are shown only if something follows.
    blank_lines: usize,
}

impl Growing {
    fn push(&mut self, text: &str, shown: &mut String) {
        let text = self.cleaner.push(text);
        self.append(&text, shown);
    }

    fn append(&mut self, text: &str, shown: &mut String) {
        for character in text.chars() {
            if character == '\n' && self.at_line_start {
                self.blank_lines += 1;
                continue;
            }
            if std::mem::replace(&mut self.at_line_start, character == '\n') {
                (0..std::mem::take(&mut self.blank_lines)).for_each(|_| shown.push('\n'));
                shown.push_str(&self.indent);
            }
            shown.push(character);
        }
    }

    fn finish(mut self, shown: &mut String) {
        let rest = self.cleaner.finish();
        self.append(&rest, shown);
        if !self.at_line_start {
            shown.push('\n');
        }
    }
}

impl LiveLog {
    /// Continues a log. Its unfinished texts count as not shown.
    pub(super) fn new(log: Log) -> Self {
        Self { log, shown: HashMap::new(), current: None }
    }

    /// Processes an event. Returns the text to print.
    pub(super) fn take(&mut self, out: &Output, event: &Event) -> String {
        let mut text = String::new();
        let semantic = match event.kind {
            EventType::Semantic => serde_json::from_value::<Semantic>(event.payload.clone()).ok(),
            _ => None,
        };
        let stream = semantic.as_ref().and_then(StreamId::of);
        match (semantic, stream) {
            (Some(Semantic::TextDelta(_) | Semantic::ThinkingDelta(_) | Semantic::ToolDelta(_)), Some(stream)) => {
                self.log.line(event);
                self.piece(out, event, &stream, &mut text);
            }
            (Some(_), Some(stream)) if self.shown.contains_key(&stream) => {
                self.complete(out, event, &stream, &mut text);
            }
            _ => {
                if let Some(line) = self.log.line(event) {
                    self.entry(out, event, &line, &mut text);
                }
            }
        }
        if event.kind.terminal() {
            for stream in self.shown.keys() {
                self.log.open.remove(stream);
            }
            text.push_str(&self.log.unfinished(out));
        }
        text
    }

    /// Shows the part of a text that was not shown yet.
    fn piece(&mut self, out: &Output, event: &Event, stream: &StreamId, text: &mut String) {
        let Some(joined) = self.log.open.get(stream).map(|open| &open.text) else { return };
        let shown = self.shown.entry(stream.clone()).or_default();
        let Some(rest) = joined.get(*shown..).filter(|rest| !rest.is_empty()) else { return };
        *shown = joined.len();
        let rest = rest.to_owned();
        self.grow(out, event, stream.channel.heading(), stream, text).push(&rest, text);
    }

    /// The growing entry of a stream. Closes the entry of another stream first.
    fn grow(&mut self, out: &Output, event: &Event, what: &str, stream: &StreamId, text: &mut String) -> &mut Growing {
        if self.current.as_ref().is_none_or(|current| current.stream != *stream) {
            self.close(text);
            text.push_str(&head(out, event.timestamp, what));
        }
        self.current.get_or_insert_with(|| Growing {
            stream: stream.clone(),
            cleaner: Cleaner::default(),
            indent: indent(event.timestamp),
            at_line_start: false,
            blank_lines: 0,
        })
    }

    fn close(&mut self, text: &mut String) {
        if let Some(current) = self.current.take() {
            current.finish(text);
        }
    }

    fn entry(&mut self, out: &Output, event: &Event, line: &Line, text: &mut String) {
        self.close(text);
        text.push_str(&render(out, event.timestamp, line));
    }

    /// Completes a text that was partly shown.
    fn complete(&mut self, out: &Output, event: &Event, stream: &StreamId, text: &mut String) {
        let shown = self.shown.remove(stream).unwrap_or_default();
        let joined = self.log.open.get(stream).map(|open| open.text.clone()).unwrap_or_default();
        let before = joined.get(..shown).unwrap_or_default();
        let Some(mut line) = self.log.line(event) else { return };
        if let Some(code) = line.text.strip_suffix(before).filter(|_| line.what == "result") {
            line.text = code.trim_end().to_owned();
            // The output is already shown above.
            if line.text.is_empty() {
                self.close(text);
            } else {
                self.entry(out, event, &line, text);
            }
            return;
        }
        match line.text.strip_prefix(before) {
            Some(rest) if !rest.trim().is_empty() => {
                self.grow(out, event, &line.what, stream, text).push(rest, text);
                self.close(text);
            }
            Some(_) => self.close(text),
            None if line.text.trim() == before.trim() => self.close(text),
            // The complete text differs from its pieces and is authoritative.
            None => self.entry(out, event, &line, text),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;
    use crate::tests::event;

    fn play(events: &[Value]) -> Vec<String> {
        let mut live = LiveLog::new(Log::default());
        let out = Output::plain();
        let time = crate::format::local(event(EventType::Semantic, json!({})).timestamp);
        let take = |payload: &Value| {
            let kind = if payload.get("reason").is_some() { EventType::RunFailed } else { EventType::Semantic };
            live.take(&out, &event(kind, payload.clone())).replace(&format!("{time} "), "")
        };
        events.iter().map(take).collect()
    }

    fn delta(message: &str, text: &str) -> Value {
        json!({"kind": "text_delta", "message": message, "text": text})
    }

    #[test]
    fn shows_each_piece_once() {
        let shown = play(&[
            delta("m", "Hel"),
            delta("m", "lo\n"),
            delta("m", "\nyou"),
            delta("m", "\n\n"),
            json!({"kind": "text", "message": "m", "text": "Hello\n\nyou\n\n"}),
            json!({"kind": "text", "message": "n", "text": "whole"}),
        ]);
        let indented = format!("\n{}you", indent(event(EventType::Semantic, json!({})).timestamp));
        let expected = ["says      Hel", "lo\n", &indented, "\n", "", "says      whole\n"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn interleaved_entries_get_their_own_lines() {
        let shown = play(&[
            delta("m", "one"),
            json!({"kind": "tool_start", "id": "t", "tool": "shell", "commands": ["ls"]}),
            json!({"kind": "tool_delta", "id": "t", "text": "a.rs\n"}),
            json!({"kind": "tool_result", "id": "t", "isError": false, "exitCode": 0, "output": "a.rs\n"}),
            delta("m", " two"),
            json!({"kind": "text", "message": "m", "deltas": [1, 5]}),
        ]);
        let expected = [
            "says      one",
            "\ntool      shell: ls\n",
            "output    a.rs\n",
            "result    [exit 0]\n",
            "says       two",
            "\n",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn whole_text_completes_and_corrects_its_pieces() {
        let whole = |text: &str| json!({"kind": "text", "message": "m", "text": text});
        assert_eq!(play(&[delta("m", "Hel"), whole("Hello")]), ["says      Hel", "lo\n"]);
        assert_eq!(play(&[delta("m", "Hel"), whole("Goodbye")]), ["says      Hel", "\nsays      Goodbye\n"]);
    }

    #[test]
    fn run_end_closes_unfinished_text() {
        let end = json!({"reason": "timeout", "message": "too long"});
        assert_eq!(play(&[delta("m", "half\u{1b}["), end]), ["says      half", "␛[\nfailed    timeout: too long\n"]);
    }

    #[test]
    fn shows_earlier_text_with_the_next_piece() {
        let mut log = Log::default();
        assert_eq!(log.line(&event(EventType::Semantic, delta("m", "Hel"))), None);
        let mut live = LiveLog::new(log);
        let shown = live.take(&Output::plain(), &event(EventType::Semantic, delta("m", "lo")));
        assert!(shown.ends_with("says      Hello"), "{shown}");
    }
}
