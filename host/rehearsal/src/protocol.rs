//! The output of the stand-in: one JSON object per line on standard output.
//!
//! | `type` | fields |
//! |---|---|
//! | `session` | `session`, `resumed`, `model`, `version`, `cwd`; always the first line |
//! | `notice` | `code`, `message` |
//! | `warning` | `code`, `message` |
//! | `thinking.delta`, `thinking` | `message`, `text` |
//! | `text.delta`, `text` | `message`, `text`; the whole text repeats its deltas |
//! | `tool.start` | `tool`, `name`, `command`, `cwd` |
//! | `tool.delta` | `tool`, `text` |
//! | `tool.result` | `tool`, `output`, `error`, `exitCode` |
//! | `usage` | `inputTokens`, `outputTokens` |
//! | `rate-limited` | `message`, `retryAfterMs` |
//! | `result` | `session`, `status` (`completed`, `failed`, `interrupted`), `text`, `structured`, `turns`, `failure` (`class`, `code`, `message`, `hint`, `retryAfterMs`); always the last line |
//!
//! A field without a value is left out.

use super::args::Format;
use serde_json::{Map, Value, json};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Standard output, shared with the thread that handles an interrupt.
#[derive(Clone)]
pub(super) struct Out {
    format: Format,
    sink: Arc<Mutex<Sink>>,
}

struct Sink {
    writer: Box<dyn Write + Send>,
    /// The last line has been written.
    ended: bool,
}

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Completed,
    Failed,
    Interrupted,
}

/// The last line.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) session: String,
    pub(super) status: Status,
    pub(super) text: Option<&'a str>,
    pub(super) structured: Option<&'a Value>,
    pub(super) turns: u64,
    /// A JSON object.
    pub(super) failure: Option<Value>,
}

impl Out {
    pub(super) fn new(format: Format, sink: Box<dyn Write + Send>) -> Self {
        Self { format, sink: Arc::new(Mutex::new(Sink { writer: sink, ended: false })) }
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one event, and flushes it at once.
    pub(super) fn event(&self, kind: &str, fields: &Value) -> io::Result<()> {
        match self.format {
            Format::StreamJson => self.json_line(kind, fields),
            Format::Json => Ok(()),
            Format::Text => self.plain(kind, fields),
        }
    }

    fn json_line(&self, kind: &str, fields: &Value) -> io::Result<()> {
        self.bytes(line(kind, fields).as_bytes())
    }

    /// The text form: deltas are the answer, other events go to standard error.
    fn plain(&self, kind: &str, fields: &Value) -> io::Result<()> {
        let field = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match kind {
            "text.delta" => self.bytes(field("text").as_bytes()),
            "text" => self.bytes(b"\n"),
            "notice" | "warning" | "rate-limited" => {
                writeln!(io::stderr(), "rehearsal: {}", field("message"))
            }
            "thinking" => writeln!(io::stderr(), "rehearsal: thinking: {}", field("text")),
            "tool.start" => writeln!(io::stderr(), "rehearsal: {}: {}", field("name"), field("command")),
            "tool.delta" => write!(io::stderr(), "{}", field("text")),
            "session" => writeln!(io::stderr(), "rehearsal: session {}", field("session")),
            "result" => {
                let Some(failure) = fields.get("failure").filter(|failure| failure.is_object()) else {
                    return Ok(());
                };
                let part = |name: &str| failure.get(name).and_then(Value::as_str).unwrap_or_default();
                writeln!(io::stderr(), "rehearsal: failed ({}): {}", part("class"), part("message"))
            }
            _ => Ok(()),
        }
    }

    /// Writes raw bytes, for the words that break the protocol.
    pub(super) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sink = self.sink();
        sink.writer.write_all(bytes)?;
        sink.writer.flush()
    }

    /// The last line.
    pub(super) fn result(&self, outcome: &Outcome<'_>) -> io::Result<()> {
        let fields = outcome.fields();
        if self.format == Format::Text {
            self.sink().ended = true;
            return self.plain("result", &fields);
        }
        let mut sink = self.sink();
        sink.ended = true;
        sink.writer.write_all(line("result", &fields).as_bytes())?;
        sink.writer.flush()
    }

    /// The end of a turn of a conversation.
    pub(super) fn turn(&self, outcome: &Outcome<'_>) -> io::Result<()> {
        self.event("turn", &outcome.fields())
    }

    /// Writes a long line piece by piece. Nothing else is written in between.
    pub(super) fn streamed(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut sink = self.sink();
        write(&mut sink.writer)?;
        sink.writer.flush()
    }

    /// The last line of an interrupted run, unless there has been one. Ends the process with its output still locked,
    /// so that nothing can follow.
    pub(super) fn break_off(&self, outcome: &Outcome<'_>, stop: impl FnOnce()) -> ! {
        let mut sink = self.sink();
        stop();
        if !sink.ended && self.format != Format::Text {
            // Exit even if the output has no reader any more.
            let _ = sink.writer.write_all(line("result", &outcome.fields()).as_bytes());
            let _ = sink.writer.flush();
        }
        std::process::exit(1)
    }
}

impl Outcome<'_> {
    fn fields(&self) -> Value {
        let status = match self.status {
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
        };
        json!({
            "session": self.session,
            "status": status,
            "text": self.text,
            "structured": self.structured,
            "turns": self.turns,
            "failure": self.failure,
        })
    }
}

/// An event as a line, without the fields that have no value.
fn line(kind: &str, fields: &Value) -> String {
    let mut line = Map::new();
    line.insert("type".to_owned(), json!(kind));
    if let Value::Object(fields) = fields {
        let present = fields.iter().filter(|(_, value)| !value.is_null());
        line.extend(present.map(|(name, value)| (name.clone(), value.clone())));
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}
