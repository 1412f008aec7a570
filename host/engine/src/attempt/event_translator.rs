//! Translates what a plugin's transcript reports into events: redacted across pieces, trimmed, and each text stored once.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use ostler_plugin_host::types as plugin;
use ostler_protocol::semantic::{
    FileEffect, FileUse, McpTool, Notice, OtherSemantic, PieceRange, RateLimit, Session, SessionOrigin, TextPiece,
    ToolPiece, ToolResult, ToolUse, TurnEnd, TurnStatus, UsageReport, WholeText,
};
use ostler_protocol::{Payload, Semantic, Warning, WarningCode};
use ostler_redaction::{RunRedactor, StreamRedactor};

/// Maximum number of texts whose end has not come. A CLI has a handful; beyond this, the oldest is ended.
const MAX_OPEN_TEXTS: usize = 64;

/// An event that is ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TranslatedEvent {
    /// An event of its own.
    Event(Payload),
    /// A further piece of a text.
    Piece {
        /// Identifies the text.
        key: TextKey,
        /// The piece.
        payload: Payload,
    },
    /// The end of a text that equals its pieces: it refers to them instead of repeating them. Whoever stores it adds the
    /// cursors of the first and the last piece.
    Whole {
        /// Identifies the text.
        key: TextKey,
        /// The text or tool result, without its text.
        event: Semantic,
    },
}

/// Identifies a text of an attempt: its channel and its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TextKey {
    channel: Channel,
    id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Channel {
    Text,
    Thinking,
    Tool,
}

impl Channel {
    /// The field that holds the id of a text.
    const fn id_field(self) -> &'static str {
        match self {
            Self::Tool => "id",
            Self::Text | Self::Thinking => "message",
        }
    }
}

/// A text that arrives in pieces.
#[derive(Debug)]
struct OpenText {
    stream: StreamRedactor,
    /// Its id and its parent, redacted: a CLI may put anything into them.
    id: String,
    parent: Option<String>,
    /// Digest of all pieces so far, to see whether the whole differs from them.
    digest: Sha256,
    opened: u64,
}

/// Translates the events of one attempt.
#[derive(Debug)]
pub(crate) struct EventTranslator {
    redactor: RunRedactor,
    max_tool_lines: usize,
    open: HashMap<TextKey, OpenText>,
    opened: u64,
    tool_calls: u64,
    has_text: bool,
    usage: Option<plugin::Usage>,
    session: Option<plugin::SessionInfo>,
    retry: Option<plugin::RetryTime>,
}

impl EventTranslator {
    /// `max_tool_lines` 0 means no limit.
    pub(crate) fn new(redactor: RunRedactor, max_tool_lines: u32) -> Self {
        Self {
            redactor,
            max_tool_lines: usize::try_from(max_tool_lines).unwrap_or(usize::MAX),
            open: HashMap::new(),
            opened: 0,
            tool_calls: 0,
            has_text: false,
            usage: None,
            session: None,
            retry: None,
        }
    }

    /// Number of tool uses so far.
    pub(crate) const fn tool_calls(&self) -> u64 {
        self.tool_calls
    }

    /// Whether there was any text of the agent.
    pub(crate) const fn has_text(&self) -> bool {
        self.has_text
    }

    /// The newest running total.
    pub(crate) const fn usage(&self) -> Option<&plugin::Usage> {
        self.usage.as_ref()
    }

    /// The provider's session, once it is known.
    pub(crate) const fn session(&self) -> Option<&plugin::SessionInfo> {
        self.session.as_ref()
    }

    /// When the provider's newest limit ends.
    pub(crate) const fn rate_limit(&self) -> Option<plugin::RetryTime> {
        self.retry
    }

    /// Translates the events of one step.
    pub(crate) fn translate(&mut self, events: Vec<plugin::Semantic>, out: &mut Vec<TranslatedEvent>) {
        for event in join_pieces(events) {
            self.translate_one(event, out);
        }
    }

    /// Ends every open text: what was held back for redaction is emitted.
    pub(crate) fn finish(&mut self, out: &mut Vec<TranslatedEvent>) {
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_by_key(|(_, text)| text.opened);
        for (key, text) in open {
            end_text(&key, text, out);
        }
    }

    fn translate_one(&mut self, event: plugin::Semantic, out: &mut Vec<TranslatedEvent>) {
        let event = match event {
            plugin::Semantic::TextDelta(piece) => {
                return self.piece(Channel::Text, piece.message, &piece.text, piece.parent, out);
            }
            plugin::Semantic::ThinkingDelta(piece) => {
                return self.piece(Channel::Thinking, piece.message, &piece.text, piece.parent, out);
            }
            plugin::Semantic::ToolDelta(piece) => return self.piece(Channel::Tool, piece.id, &piece.text, None, out),
            plugin::Semantic::Text(piece) => {
                self.has_text |= !piece.text.trim().is_empty();
                return self.whole(Channel::Text, piece, out);
            }
            plugin::Semantic::Thinking(piece) => return self.whole(Channel::Thinking, piece, out),
            plugin::Semantic::ToolResult(result) => return self.tool_result(result, out),
            plugin::Semantic::Session(session) => {
                let event = Session { session_id: session.id.clone(), origin: origin(session.origin) };
                self.session = Some(session);
                Semantic::Session(event)
            }
            plugin::Semantic::ToolStart(call) => {
                self.tool_calls += 1;
                Semantic::ToolStart(tool_use(call))
            }
            // The output loop decides about requests, and reports them itself.
            plugin::Semantic::ApprovalRequested(_) | plugin::Semantic::ApprovalWithdrawn(_) => return,
            plugin::Semantic::Usage(usage) => {
                let event = usage_report(&usage);
                self.usage = Some(usage);
                Semantic::Usage(event)
            }
            // The turn's text was an event of its own.
            plugin::Semantic::TurnComplete(end) => {
                Semantic::TurnComplete(TurnEnd { status: turn_status(end.status), message: end.message })
            }
            plugin::Semantic::Progress(message) => Semantic::Progress(notice(message)),
            plugin::Semantic::Warning(message) => Semantic::Warning(notice(message)),
            plugin::Semantic::Error(message) => Semantic::Error(notice(message)),
            plugin::Semantic::RateLimited(limit) => {
                self.retry = limit.retry.or(self.retry);
                let (retry_after_ms, retry_at_unix_ms) = match limit.retry {
                    Some(plugin::RetryTime::AfterMs(ms)) => (Some(ms), None),
                    Some(plugin::RetryTime::AtUnixMs(ms)) => (None, Some(ms)),
                    None => (None, None),
                };
                Semantic::RateLimited(RateLimit { message: limit.message, retry_after_ms, retry_at_unix_ms })
            }
            plugin::Semantic::Other(other) => {
                let event = Semantic::Other(self.other(&other.kind, other.fields));
                return out.push(TranslatedEvent::Event(Payload::Semantic(event)));
            }
        };
        out.push(TranslatedEvent::Event(Payload::Semantic(self.redacted(event))));
    }

    fn piece(
        &mut self,
        channel: Channel,
        id: String,
        text: &str,
        parent: Option<String>,
        out: &mut Vec<TranslatedEvent>,
    ) {
        if channel == Channel::Text {
            self.has_text |= !text.trim().is_empty();
        }
        let key = TextKey { channel, id };
        if !self.open.contains_key(&key) {
            self.make_room(out);
            self.opened += 1;
            let text = OpenText {
                stream: self.redactor.stream(),
                id: self.identifier(channel.id_field(), &key.id),
                parent: parent.map(|parent| self.identifier("parent", &parent)),
                digest: Sha256::new(),
                opened: self.opened,
            };
            self.open.insert(key.clone(), text);
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        let mut ready = String::new();
        open.stream.push(text, &mut ready);
        emit_piece(&key, open, ready, out);
    }

    fn make_room(&mut self, out: &mut Vec<TranslatedEvent>) {
        if self.open.len() < MAX_OPEN_TEXTS {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, text)| text.opened).map(|(key, _)| key.clone());
        if let Some((key, text)) = oldest.and_then(|key| self.open.remove_entry(&key)) {
            end_text(&key, text, out);
        }
    }

    fn whole(&mut self, channel: Channel, piece: plugin::TextPiece, out: &mut Vec<TranslatedEvent>) {
        let key = TextKey { channel, id: piece.message };
        let redacted = self.redactor.redact(&piece.text);
        let text = WholeText {
            message: self.identifier(channel.id_field(), &key.id),
            parent: piece.parent.map(|parent| self.identifier("parent", &parent)),
            ..WholeText::default()
        };
        let event = |text: WholeText| match channel {
            Channel::Thinking => Semantic::Thinking(text),
            Channel::Text | Channel::Tool => Semantic::Text(text),
        };
        let digest = self.open.remove(&key).map(|open| end_text(&key, open, out));
        out.push(if equals(digest, &redacted.text) {
            TranslatedEvent::Whole { key, event: event(text) }
        } else {
            let text = WholeText { text: Some(redacted.text.into_owned()), ..text };
            TranslatedEvent::Event(Payload::Semantic(event(text)))
        });
    }

    fn tool_result(&mut self, result: plugin::ToolOutput, out: &mut Vec<TranslatedEvent>) {
        let key = TextKey { channel: Channel::Tool, id: result.id };
        let digest = self.open.remove(&key).map(|open| end_text(&key, open, out));
        let redacted = self.redactor.redact(&result.output);
        // Redaction first: a cut could remove the line by which a key is recognized.
        let (kept, left_out) = first_lines(&redacted.text, self.max_tool_lines);
        let event = self.redacted(Semantic::ToolResult(ToolResult {
            id: key.id.clone(),
            is_error: result.is_error,
            exit_code: result.exit_code,
            extra: result.extra.and_then(|extra| serde_json::from_str(&extra).ok()),
            ..ToolResult::default()
        }));
        if left_out == 0 && equals(digest, &redacted.text) {
            out.push(TranslatedEvent::Whole { key, event });
            return;
        }
        let note = if left_out > 0 { format!("\n[{left_out} more lines left out]") } else { String::new() };
        let output = format!("{kept}{note}");
        let event = match event {
            Semantic::ToolResult(result) => Semantic::ToolResult(ToolResult { output: Some(output), ..result }),
            other => other,
        };
        out.push(TranslatedEvent::Event(Payload::Semantic(event)));
        if left_out > 0 {
            let id = self.identifier("id", &key.id);
            let facts = Map::from_iter([("id".to_owned(), id.into()), ("lines".to_owned(), left_out.into())]);
            out.push(TranslatedEvent::Event(Payload::Warning(Warning {
                code: WarningCode::ToolResultTrimmed,
                message: format!("{left_out} lines of a tool's result were left out"),
                facts,
            })));
        }
    }

    /// An id as it is stored: redacted as in [`redacted`](Self::redacted), so that it is the same in each event.
    fn identifier(&self, field: &str, id: &str) -> String {
        let mut fields = serde_json::json!({ field: id });
        if self.redactor.redact_json(&mut fields) == 0 {
            return id.to_owned();
        }
        fields[field].as_str().unwrap_or_default().to_owned()
    }

    /// An event of a kind of the plugin. Its kind and its fields are redacted apart: a field can be called `kind`, too.
    fn other(&self, kind: &str, fields: String) -> OtherSemantic {
        let mut fields = json_or_text(fields);
        self.redactor.redact_json(&mut fields);
        let mut fields = match fields {
            Value::Object(fields) => fields,
            value => Map::from_iter([("value".to_owned(), value)]),
        };
        fields.retain(|_, value| !value.is_null());
        if let Some(own) = fields.shift_remove("kind") {
            fields.insert("originalKind".to_owned(), own);
        }
        OtherSemantic { kind: self.redactor.redact(kind).text.into_owned(), fields }
    }

    /// An event whose every text is redacted by itself.
    fn redacted(&self, event: Semantic) -> Semantic {
        let Ok(mut document) = serde_json::to_value(&event) else { return unreadable() };
        if self.redactor.redact_json(&mut document) == 0 {
            return event;
        }
        serde_json::from_value(document).unwrap_or_else(|_| unreadable())
    }
}

/// What takes the place of an event that cannot be redacted.
fn unreadable() -> Semantic {
    Semantic::Other(OtherSemantic { kind: "unreadable".to_owned(), fields: Map::new() })
}

/// Whether a text equals its pieces, of which this is the digest.
fn equals(pieces: Option<Vec<u8>>, text: &str) -> bool {
    pieces.is_some_and(|digest| digest == Sha256::digest(text.as_bytes()).as_slice())
}

/// Pieces of one text that follow one another directly become one: a CLI may send a word at a time.
fn join_pieces(events: Vec<plugin::Semantic>) -> Vec<plugin::Semantic> {
    let mut joined: Vec<plugin::Semantic> = Vec::with_capacity(events.len());
    for event in events {
        match (joined.last_mut(), &event) {
            (Some(plugin::Semantic::TextDelta(last)), plugin::Semantic::TextDelta(next))
            | (Some(plugin::Semantic::ThinkingDelta(last)), plugin::Semantic::ThinkingDelta(next))
                if last.message == next.message =>
            {
                last.text.push_str(&next.text);
            }
            (Some(plugin::Semantic::ToolDelta(last)), plugin::Semantic::ToolDelta(next)) if last.id == next.id => {
                last.text.push_str(&next.text);
            }
            _ => joined.push(event),
        }
    }
    joined
}

fn emit_piece(key: &TextKey, open: &mut OpenText, text: String, out: &mut Vec<TranslatedEvent>) {
    if text.is_empty() {
        return;
    }
    open.digest.update(text.as_bytes());
    let (id, parent) = (open.id.clone(), open.parent.clone());
    let event = match key.channel {
        Channel::Text => Semantic::TextDelta(TextPiece { message: id, text, parent }),
        Channel::Thinking => Semantic::ThinkingDelta(TextPiece { message: id, text, parent }),
        Channel::Tool => Semantic::ToolDelta(ToolPiece { id, text }),
    };
    out.push(TranslatedEvent::Piece { key: key.clone(), payload: Payload::Semantic(event) });
}

/// Emits what is left of a text, and gives the digest of all its pieces.
fn end_text(key: &TextKey, mut open: OpenText, out: &mut Vec<TranslatedEvent>) -> Vec<u8> {
    let mut rest = String::new();
    open.stream.finish(&mut rest);
    emit_piece(key, &mut open, rest, out);
    open.digest.finalize().to_vec()
}

/// Adds to the end of a text where its pieces are stored.
pub(crate) fn refer_to_pieces(event: &mut Semantic, range: PieceRange) {
    match event {
        Semantic::Text(text) | Semantic::Thinking(text) => text.pieces = range,
        Semantic::ToolResult(result) => result.pieces = range,
        _ => {}
    }
}

/// The first lines of a text, and how many lines follow; 0 is no limit.
fn first_lines(text: &str, limit: usize) -> (&str, usize) {
    if limit == 0 {
        return (text, 0);
    }
    match memchr::memchr_iter(b'\n', text.as_bytes()).nth(limit - 1) {
        Some(end) if end + 1 < text.len() => {
            let (kept, rest) = text.split_at(end);
            (kept, rest.trim_end_matches('\n').lines().count().saturating_sub(1).max(1))
        }
        _ => (text, 0),
    }
}

pub(crate) const fn origin(origin: plugin::SessionOrigin) -> SessionOrigin {
    match origin {
        plugin::SessionOrigin::Fresh => SessionOrigin::Fresh,
        plugin::SessionOrigin::Resumed => SessionOrigin::Resumed,
        plugin::SessionOrigin::Forked => SessionOrigin::Forked,
        plugin::SessionOrigin::Replaced => SessionOrigin::Replaced,
    }
}

const fn turn_status(status: plugin::TurnStatus) -> TurnStatus {
    match status {
        plugin::TurnStatus::Completed => TurnStatus::Completed,
        plugin::TurnStatus::Interrupted => TurnStatus::Interrupted,
        plugin::TurnStatus::Failed => TurnStatus::Failed,
    }
}

/// A text that should be JSON; what is not is a string.
fn json_or_text(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn notice(notice: plugin::Notice) -> Notice {
    let facts = notice.facts.map(json_or_text).filter(|facts| !facts.is_null());
    Notice { code: notice.code, message: notice.message, facts }
}

fn usage_report(usage: &plugin::Usage) -> UsageReport {
    UsageReport {
        whole_session: usage.whole_session,
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        output_tokens: usage.output_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        cost_micro_usd: usage.cost_micro_usd,
        others: usage.others.iter().map(|counter| (counter.name.clone(), counter.value.into())).collect(),
    }
}

pub(crate) fn tool_use(call: plugin::ToolCall) -> ToolUse {
    let file = |file: plugin::FileAccess| FileUse {
        path: file.path,
        effect: match file.effect {
            plugin::FileEffect::Read => FileEffect::Read,
            plugin::FileEffect::Create => FileEffect::Create,
            plugin::FileEffect::Modify => FileEffect::Modify,
            plugin::FileEffect::Delete => FileEffect::Delete,
        },
        change: file.change,
    };
    ToolUse {
        id: call.id,
        tool: call.kind,
        name: call.name,
        input: json_or_text(call.input),
        commands: call.commands,
        files: call.files.into_iter().map(file).collect(),
        urls: call.urls,
        mcp: call.mcp.map(|mcp| McpTool { server: mcp.server, tool: mcp.tool }),
        cwd: call.cwd,
        parent: call.parent,
        extra: call.extra.map(json_or_text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::test_support::redactor_masking;

    fn translate(max_tool_lines: u32, events: Vec<plugin::Semantic>) -> Vec<TranslatedEvent> {
        let mut translator = EventTranslator::new(redactor_masking(&[]), max_tool_lines);
        let mut out = Vec::new();
        translator.translate(events, &mut out);
        translator.finish(&mut out);
        out
    }

    fn text(text: &str) -> plugin::TextPiece {
        plugin::TextPiece { message: "m".to_owned(), text: text.to_owned(), parent: None }
    }

    #[test]
    fn text_that_equals_its_pieces_refers_to_them_and_another_one_is_kept() {
        let pieces = || vec![plugin::Semantic::TextDelta(text("Hel")), plugin::Semantic::TextDelta(text("lo"))];
        for (whole, refers) in [("Hello", true), ("Hello!", false)] {
            let events = translate(0, [pieces(), vec![plugin::Semantic::Text(text(whole))]].concat());
            let [.., last] = events.as_slice() else { panic!("{events:?}") };
            assert_eq!(matches!(last, TranslatedEvent::Whole { .. }), refers, "{last:?}");
        }
    }

    #[test]
    fn long_tool_result_is_trimmed_and_reported() {
        let result = plugin::ToolOutput {
            id: "t".to_owned(),
            output: "1\n2\n3\n".to_owned(),
            is_error: false,
            exit_code: Some(0),
            extra: None,
        };
        let events = translate(1, vec![plugin::Semantic::ToolResult(result)]);
        let [TranslatedEvent::Event(Payload::Semantic(event)), TranslatedEvent::Event(Payload::Warning(warning))] =
            events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert!(matches!(event, Semantic::ToolResult(result)
            if result.output.as_deref() == Some("1\n[2 more lines left out]") && result.exit_code == Some(0)));
        assert_eq!((&warning.code, &warning.facts["lines"]), (&WarningCode::ToolResultTrimmed, &2.into()));
    }

    #[test]
    fn event_of_the_plugin_keeps_its_kind_and_fields() {
        let other = |fields: &str| {
            plugin::Semantic::Other(plugin::OtherEvent { kind: "codex.x".to_owned(), fields: fields.to_owned() })
        };
        let own_kind = r#"{"kind": "y", "a": 2}"#;
        let events =
            translate(0, vec![other(r#"{"a": 1, "b": null}"#), other("[1]"), other("no JSON"), other(own_kind)]);
        let shown: Vec<Value> = events
            .iter()
            .filter_map(|event| match event {
                TranslatedEvent::Event(payload) => serde_json::to_value(payload).ok(),
                _ => None,
            })
            .collect();
        let kind = "codex.x";
        let expected = [
            serde_json::json!({"kind": kind, "a": 1}),
            serde_json::json!({"kind": kind, "value": [1]}),
            serde_json::json!({"kind": kind, "value": "no JSON"}),
            serde_json::json!({"kind": kind, "a": 2, "originalKind": "y"}),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn secret_in_the_kind_of_a_plugin_event_is_redacted() {
        let mut translator = EventTranslator::new(redactor_masking(&["hunter2-hunter2"]), 0);
        let mut out = Vec::new();
        let fields = r#"{"kind": "y", "message": "hunter2-hunter2", "extra": 1}"#.to_owned();
        for kind in ["x.hunter2-hunter2", "progress"] {
            let event = plugin::OtherEvent { kind: kind.to_owned(), fields: fields.clone() };
            translator.translate(vec![plugin::Semantic::Other(event)], &mut out);
        }
        for event in &out {
            let TranslatedEvent::Event(payload) = event else { panic!("{event:?}") };
            let text = serde_json::to_string(payload).unwrap();
            assert!(!text.contains("hunter2") && text.contains(r#""extra":1"#), "{text}");
        }
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn ids_are_redacted_alike_in_every_event() {
        const SECRET: &str = "hunter2-hunter2";
        let mut translator = EventTranslator::new(redactor_masking(&[SECRET]), 1);
        let piece = |text: &str| plugin::TextPiece {
            message: format!("msg {SECRET}"),
            text: text.to_owned(),
            parent: Some(format!("p {SECRET}")),
        };
        let mut out = Vec::new();
        let id = || format!("tool {SECRET}");
        translator.translate(
            vec![
                plugin::Semantic::TextDelta(piece("one\n")),
                plugin::Semantic::Text(piece("one\n")),
                plugin::Semantic::Thinking(piece("another")),
                plugin::Semantic::ToolDelta(plugin::ToolPiece { id: id(), text: "out\nput\n".to_owned() }),
                plugin::Semantic::ToolResult(plugin::ToolOutput {
                    id: id(),
                    output: "out\nput\nmore\n".to_owned(),
                    is_error: false,
                    exit_code: None,
                    extra: None,
                }),
            ],
            &mut out,
        );
        translator.finish(&mut out);
        let shown: Vec<Value> = out
            .iter()
            .map(|event| match event {
                TranslatedEvent::Event(payload) | TranslatedEvent::Piece { payload, .. } => {
                    serde_json::to_value(payload).unwrap()
                }
                TranslatedEvent::Whole { event, .. } => serde_json::to_value(event).unwrap(),
            })
            .collect();
        assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
        let all = |field: &str| shown.iter().filter_map(|event| event[field].as_str()).collect::<Vec<_>>();
        assert_eq!(all("parent"), ["p [REDACTED:thing]"; 3]);
        let ids: Vec<&str> = shown.iter().filter_map(|event| event["id"].as_str()).collect();
        assert!(ids.len() >= 3 && ids.iter().all(|id| *id == "tool [REDACTED:thing]"), "{shown:?}");
        let messages: Vec<&str> = all("message").into_iter().filter(|text| text.starts_with("msg")).collect();
        assert_eq!(messages, ["msg [REDACTED:thing]"; 3]);
    }
}
