//! What a transcript says, as events: redacted across deltas, trimmed, and each thing told once.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use ostler_plugin_host::types as said;
use ostler_protocol::{Payload, Semantic, Warning, warning_code};
use ostler_redaction::{RunRedactor, StreamRedactor};

/// How many texts may be under way at one time. A CLI has a handful; beyond this the oldest is ended.
const MAX_OPEN_TEXTS: usize = 64;

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// An event as it is.
    Event(Payload),
    /// A further piece of a text that is under way.
    Delta {
        /// Identifies the text.
        key: TextKey,
        /// `text_delta` and its fields.
        payload: Payload,
    },
    /// The end of a text whose pieces were all told: it refers to them instead of saying it all again. Whoever stores
    /// it adds the cursors of the first and the last piece.
    Whole {
        /// Identifies the text.
        key: TextKey,
        /// `text` or `thinking`, without the text.
        event: Semantic,
    },
}

/// Identifies a text of an attempt: its channel and its message.
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
    const fn delta_kind(self) -> &'static str {
        match self {
            Self::Text => "text_delta",
            Self::Thinking => "thinking_delta",
            Self::Tool => "tool_delta",
        }
    }

    const fn whole_kind(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Thinking => "thinking",
            Self::Tool => "tool_result",
        }
    }

    const fn id_field(self) -> &'static str {
        match self {
            Self::Tool => "id",
            Self::Text | Self::Thinking => "message",
        }
    }
}

/// A text that comes in pieces.
#[derive(Debug)]
struct OpenText {
    stream: StreamRedactor,
    /// Its id and its parent as they are told: a CLI may put anything into them.
    id: String,
    parent: Option<String>,
    /// Of what was told so far, to see whether the whole says anything else.
    told: Sha256,
    opened: u64,
}

/// Makes events of what a transcript says.
#[derive(Debug)]
pub(crate) struct EventTranslator {
    redactor: RunRedactor,
    max_tool_lines: usize,
    open: HashMap<TextKey, OpenText>,
    opened: u64,
    tool_calls: u64,
    text_told: bool,
    usage: Option<said::Usage>,
    session: Option<said::SessionInfo>,
    retry: Option<said::RetryTime>,
}

impl EventTranslator {
    /// `max_tool_lines` 0 is no limit.
    pub(crate) fn new(redactor: RunRedactor, max_tool_lines: u32) -> Self {
        Self {
            redactor,
            max_tool_lines: usize::try_from(max_tool_lines).unwrap_or(usize::MAX),
            open: HashMap::new(),
            opened: 0,
            tool_calls: 0,
            text_told: false,
            usage: None,
            session: None,
            retry: None,
        }
    }

    /// Tool uses so far.
    pub(crate) const fn tool_calls(&self) -> u64 {
        self.tool_calls
    }

    /// Whether the agent said anything.
    pub(crate) const fn text_told(&self) -> bool {
        self.text_told
    }

    /// The newest running total.
    pub(crate) const fn usage(&self) -> Option<&said::Usage> {
        self.usage.as_ref()
    }

    /// The provider's session, once it is known.
    pub(crate) const fn session(&self) -> Option<&said::SessionInfo> {
        self.session.as_ref()
    }

    /// When the provider's newest limit ends.
    pub(crate) const fn rate_limit(&self) -> Option<said::RetryTime> {
        self.retry
    }

    /// Takes in the events of one step.
    pub(crate) fn tell(&mut self, events: Vec<said::Semantic>, out: &mut Vec<Told>) {
        for event in join_deltas(events) {
            self.tell_one(event, out);
        }
    }

    /// Ends every text that is under way: what was held back is told.
    pub(crate) fn finish(&mut self, out: &mut Vec<Told>) {
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_by_key(|(_, text)| text.opened);
        for (key, text) in open {
            end_text(&key, text, out);
        }
    }

    fn tell_one(&mut self, event: said::Semantic, out: &mut Vec<Told>) {
        match event {
            said::Semantic::Session(session) => {
                out.push(self.plain("session", json!({"sessionId": session.id, "origin": origin(session.origin)})));
                self.session = Some(session);
            }
            said::Semantic::TextDelta(piece) => {
                self.delta(Channel::Text, piece.message, &piece.text, piece.parent, out);
            }
            said::Semantic::ThinkingDelta(piece) => {
                self.delta(Channel::Thinking, piece.message, &piece.text, piece.parent, out);
            }
            said::Semantic::Text(piece) => {
                self.text_told |= !piece.text.trim().is_empty();
                self.whole(Channel::Text, piece, out);
            }
            said::Semantic::Thinking(piece) => self.whole(Channel::Thinking, piece, out),
            said::Semantic::ToolStart(call) => {
                self.tool_calls += 1;
                out.push(self.plain("tool_start", tool_call(&call)));
            }
            said::Semantic::ToolDelta(piece) => self.delta(Channel::Tool, piece.id, &piece.text, None, out),
            said::Semantic::ToolResult(result) => self.tool_result(result, out),
            said::Semantic::ApprovalRequested(request) => {
                let fields =
                    json!({"requestId": request.id, "call": tool_call(&request.call), "reason": request.reason});
                out.push(self.plain("approval_requested", fields));
            }
            said::Semantic::ApprovalWithdrawn(id) => {
                out.push(self.plain("approval_withdrawn", json!({"requestId": id})));
            }
            said::Semantic::Usage(usage) => {
                out.push(self.plain("usage", usage_fields(&usage)));
                self.usage = Some(usage);
            }
            said::Semantic::TurnComplete(end) => {
                // The turn's text has been told as a text already; it is not said a second time.
                let fields = json!({"status": turn_status(end.status), "message": end.message});
                out.push(self.plain("turn_complete", fields));
            }
            said::Semantic::Progress(notice) => out.push(self.plain("progress", notice_fields(notice))),
            said::Semantic::Warning(notice) => out.push(self.plain("warning", notice_fields(notice))),
            said::Semantic::Error(notice) => out.push(self.plain("error", notice_fields(notice))),
            said::Semantic::RateLimited(limit) => {
                let mut fields = json!({"message": limit.message});
                match limit.retry {
                    Some(said::RetryTime::AfterMs(ms)) => fields["retryAfterMs"] = ms.into(),
                    Some(said::RetryTime::AtUnixMs(ms)) => fields["retryAtUnixMs"] = ms.into(),
                    None => {}
                }
                self.retry = limit.retry.or(self.retry);
                out.push(self.plain("rate_limited", fields));
            }
            said::Semantic::Other(other) => {
                let fields = serde_json::from_str(&other.fields).unwrap_or(Value::String(other.fields));
                let fields = if fields.is_object() { fields } else { json!({"value": fields}) };
                out.push(self.plain(&other.kind, fields));
            }
        }
    }

    fn delta(&mut self, channel: Channel, id: String, text: &str, parent: Option<String>, out: &mut Vec<Told>) {
        if channel == Channel::Text {
            self.text_told |= !text.trim().is_empty();
        }
        let key = TextKey { channel, id };
        if !self.open.contains_key(&key) {
            self.make_room(out);
            self.opened += 1;
            let text = OpenText {
                stream: self.redactor.stream(),
                id: self.identifier(channel.id_field(), &key.id),
                parent: parent.map(|parent| self.identifier("parent", &parent)),
                told: Sha256::new(),
                opened: self.opened,
            };
            self.open.insert(key.clone(), text);
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        let mut ready = String::new();
        open.stream.push(text, &mut ready);
        tell_piece(&key, open, ready, out);
    }

    fn make_room(&mut self, out: &mut Vec<Told>) {
        if self.open.len() < MAX_OPEN_TEXTS {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, text)| text.opened).map(|(key, _)| key.clone());
        if let Some((key, text)) = oldest.and_then(|key| self.open.remove_entry(&key)) {
            end_text(&key, text, out);
        }
    }

    fn whole(&mut self, channel: Channel, piece: said::TextPiece, out: &mut Vec<Told>) {
        let key = TextKey { channel, id: piece.message };
        let redacted = self.redactor.redact(&piece.text);
        let mut fields = Map::new();
        fields.insert(channel.id_field().to_owned(), self.identifier(channel.id_field(), &key.id).into());
        if let Some(parent) = piece.parent {
            fields.insert("parent".to_owned(), self.identifier("parent", &parent).into());
        }
        if let Some(open) = self.open.remove(&key) {
            let told = end_text(&key, open, out);
            if told == Sha256::digest(redacted.text.as_bytes()).as_slice() {
                let event = Semantic { kind: channel.whole_kind().to_owned(), fields };
                out.push(Told::Whole { key, event });
                return;
            }
        }
        fields.insert("text".to_owned(), redacted.text.into());
        out.push(Told::Event(Payload::Semantic(Semantic { kind: channel.whole_kind().to_owned(), fields })));
    }

    fn tool_result(&mut self, result: said::ToolOutput, out: &mut Vec<Told>) {
        let key = TextKey { channel: Channel::Tool, id: result.id };
        let told = self.open.remove(&key).map(|open| end_text(&key, open, out));
        let redacted = self.redactor.redact(&result.output);
        // Redaction first: a cut could take away the line by which a key is recognized.
        let (kept, left_out) = first_lines(&redacted.text, self.max_tool_lines);
        let mut fields = json!({"id": key.id, "isError": result.is_error});
        if let Some(code) = result.exit_code {
            fields["exitCode"] = code.into();
        }
        if let Some(extra) = result.extra.and_then(|extra| serde_json::from_str::<Value>(&extra).ok()) {
            fields["extra"] = extra;
        }
        self.redactor.redact_json(&mut fields);
        let Value::Object(mut fields) = fields else { return };
        let kind = Channel::Tool.whole_kind().to_owned();
        let same = told.is_some_and(|told| told == Sha256::digest(redacted.text.as_bytes()).as_slice());
        if same && left_out == 0 {
            out.push(Told::Whole { key, event: Semantic { kind, fields } });
            return;
        }
        let note = if left_out > 0 { format!("\n[{left_out} more lines left out]") } else { String::new() };
        fields.insert("output".to_owned(), format!("{kept}{note}").into());
        out.push(Told::Event(Payload::Semantic(Semantic { kind, fields })));
        if left_out > 0 {
            let id = self.identifier("id", &key.id);
            let facts = Map::from_iter([("id".to_owned(), id.into()), ("lines".to_owned(), left_out.into())]);
            out.push(Told::Event(Payload::Warning(Warning {
                code: warning_code::TOOL_RESULT_TRIMMED.to_owned(),
                message: format!("{left_out} lines of a tool's result were left out"),
                facts,
            })));
        }
    }

    /// An id as it is told: redacted as in [`plain`](Self::plain), so that it is the same in each event.
    fn identifier(&self, field: &str, id: &str) -> String {
        let mut fields = json!({ field: id });
        if self.redactor.redact_json(&mut fields) == 0 {
            return id.to_owned();
        }
        fields[field].as_str().unwrap_or_default().to_owned()
    }

    /// An event whose every text is redacted by itself.
    fn plain(&self, kind: &str, mut fields: Value) -> Told {
        if let Value::Object(members) = &mut fields {
            members.retain(|_, value| !value.is_null());
        }
        self.redactor.redact_json(&mut fields);
        let kind = self.redactor.redact(kind).text.into_owned();
        let fields = match fields {
            Value::Object(fields) => fields,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Told::Event(Payload::Semantic(Semantic { kind, fields }))
    }
}

/// Deltas of one text that follow one another directly become one: a CLI may send a word at a time.
fn join_deltas(events: Vec<said::Semantic>) -> Vec<said::Semantic> {
    let mut joined: Vec<said::Semantic> = Vec::with_capacity(events.len());
    for event in events {
        match (joined.last_mut(), &event) {
            (Some(said::Semantic::TextDelta(last)), said::Semantic::TextDelta(next))
            | (Some(said::Semantic::ThinkingDelta(last)), said::Semantic::ThinkingDelta(next))
                if last.message == next.message =>
            {
                last.text.push_str(&next.text);
            }
            (Some(said::Semantic::ToolDelta(last)), said::Semantic::ToolDelta(next)) if last.id == next.id => {
                last.text.push_str(&next.text);
            }
            _ => joined.push(event),
        }
    }
    joined
}

fn tell_piece(key: &TextKey, open: &mut OpenText, ready: String, out: &mut Vec<Told>) {
    if ready.is_empty() {
        return;
    }
    open.told.update(ready.as_bytes());
    let mut fields = Map::new();
    fields.insert(key.channel.id_field().to_owned(), open.id.clone().into());
    fields.insert("text".to_owned(), ready.into());
    if let Some(parent) = &open.parent {
        fields.insert("parent".to_owned(), parent.clone().into());
    }
    let payload = Payload::Semantic(Semantic { kind: key.channel.delta_kind().to_owned(), fields });
    out.push(Told::Delta { key: key.clone(), payload });
}

/// Tells what is left of a text and gives the digest of all that was told of it.
fn end_text(key: &TextKey, mut open: OpenText, out: &mut Vec<Told>) -> Vec<u8> {
    let mut rest = String::new();
    open.stream.finish(&mut rest);
    tell_piece(key, &mut open, rest, out);
    open.told.finalize().to_vec()
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

const fn origin(origin: said::SessionOrigin) -> &'static str {
    match origin {
        said::SessionOrigin::Fresh => "fresh",
        said::SessionOrigin::Resumed => "resumed",
        said::SessionOrigin::Forked => "forked",
        said::SessionOrigin::Replaced => "replaced",
    }
}

const fn turn_status(status: said::TurnStatus) -> &'static str {
    match status {
        said::TurnStatus::Completed => "completed",
        said::TurnStatus::Interrupted => "interrupted",
        said::TurnStatus::Failed => "failed",
    }
}

fn notice_fields(notice: said::Notice) -> Value {
    let facts = notice.facts.map(|facts| serde_json::from_str(&facts).unwrap_or(Value::String(facts)));
    json!({"code": notice.code, "message": notice.message, "facts": facts})
}

fn usage_fields(usage: &said::Usage) -> Value {
    let others: Map<String, Value> =
        usage.others.iter().map(|counter| (counter.name.clone(), counter.value.into())).collect();
    json!({
        "wholeSession": usage.whole_session,
        "inputTokens": usage.input_tokens,
        "cachedInputTokens": usage.cached_input_tokens,
        "cacheWriteTokens": usage.cache_write_tokens,
        "outputTokens": usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "costMicroUsd": usage.cost_micro_usd,
        "others": if others.is_empty() { Value::Null } else { Value::Object(others) },
    })
}

fn tool_call(call: &said::ToolCall) -> Value {
    let parse = |text: &String| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.as_str().into());
    let files: Vec<Value> = call
        .files
        .iter()
        .map(|file| {
            let effect = match file.effect {
                said::FileEffect::Read => "read",
                said::FileEffect::Create => "create",
                said::FileEffect::Modify => "modify",
                said::FileEffect::Delete => "delete",
            };
            json!({"path": file.path, "effect": effect, "change": file.change})
        })
        .collect();
    let mut fields = json!({"id": call.id, "tool": call.kind, "name": call.name, "input": parse(&call.input)});
    if !call.commands.is_empty() {
        fields["commands"] = call.commands.clone().into();
    }
    if !files.is_empty() {
        fields["files"] = files.into();
    }
    if !call.urls.is_empty() {
        fields["urls"] = call.urls.clone().into();
    }
    if let Some(mcp) = &call.mcp {
        fields["mcp"] = json!({"server": mcp.server, "tool": mcp.tool});
    }
    for (name, value) in [("cwd", &call.cwd), ("parent", &call.parent)] {
        if let Some(value) = value {
            fields[name] = value.as_str().into();
        }
    }
    if let Some(extra) = &call.extra {
        fields["extra"] = parse(extra);
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use super::*;
    use ostler_redaction::{IgnoreFaults, KnownSecret, Masks, OperatorRules, Redactor};

    #[test]
    fn ids_are_redacted_alike_in_every_event() {
        const SECRET: &str = "hunter2-hunter2";
        let redactor = Arc::new(Redactor::compile(Vec::new(), OperatorRules::default()).unwrap());
        let masks = Masks::new([KnownSecret { name: "thing".to_owned(), value: SECRET.to_owned() }]);
        let mut narrator = EventTranslator::new(RunRedactor::new(redactor, Arc::new(masks), Arc::new(IgnoreFaults)), 1);
        let piece = |text: &str| said::TextPiece {
            message: format!("msg {SECRET}"),
            text: text.to_owned(),
            parent: Some(format!("p {SECRET}")),
        };
        let mut out = Vec::new();
        let id = || format!("tool {SECRET}");
        narrator.tell(
            vec![
                said::Semantic::TextDelta(piece("one\n")),
                said::Semantic::Text(piece("one\n")),
                said::Semantic::Thinking(piece("another")),
                said::Semantic::ToolDelta(said::ToolPiece { id: id(), text: "out\nput\n".to_owned() }),
                said::Semantic::ToolResult(said::ToolOutput {
                    id: id(),
                    output: "out\nput\nmore\n".to_owned(),
                    is_error: false,
                    exit_code: None,
                    extra: None,
                }),
            ],
            &mut out,
        );
        narrator.finish(&mut out);
        let shown: Vec<Value> = out
            .iter()
            .map(|told| match told {
                Told::Event(payload) | Told::Delta { payload, .. } => serde_json::to_value(payload).unwrap(),
                Told::Whole { event, .. } => serde_json::to_value(event).unwrap(),
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
