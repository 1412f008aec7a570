//! Transcript of the stand-in's output.

use ostler_plugin::{
    provider::{
        CollectedFile, ExitStatus, Failure, FailureKind, Line, Notice, Outcome, OutputStream, RateLimit, RetryTime,
        RunRequest, Semantic, SessionInfo, SessionOrigin, Step, TextPiece, ToolCall, ToolOutput, ToolPiece, TurnEnd,
        TurnStatus, Usage,
    },
    vocabulary::{failures, tools},
};
use ostler_provider_kit::{
    events::work_done,
    transcript::{Unread, objects},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// One line of the protocol. Unknown kinds and fields are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Event {
    Session {
        session: String,
        #[serde(default)]
        resumed: bool,
    },
    Notice {
        code: String,
        message: String,
    },
    Warning {
        code: String,
        message: String,
    },
    #[serde(rename = "thinking.delta")]
    ThinkingDelta {
        message: String,
        text: String,
    },
    Thinking {
        message: String,
        text: String,
    },
    #[serde(rename = "text.delta")]
    TextDelta {
        message: String,
        text: String,
    },
    Text {
        message: String,
        text: String,
    },
    #[serde(rename = "tool.start")]
    ToolStart {
        tool: String,
        name: String,
        command: String,
        cwd: Option<String>,
    },
    #[serde(rename = "tool.delta")]
    ToolDelta {
        tool: String,
        text: String,
    },
    #[serde(rename = "tool.result")]
    ToolResult {
        tool: String,
        output: String,
        #[serde(default)]
        error: bool,
        exit_code: Option<i32>,
    },
    Usage {
        input_tokens: Option<u64>,
        output_tokens: Option<u64>,
    },
    RateLimited {
        message: String,
        retry_after_ms: Option<u64>,
    },
    Result(Last),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Last {
    session: String,
    status: String,
    text: Option<String>,
    structured: Option<Value>,
    failure: Option<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reason {
    class: String,
    code: Option<String>,
    message: String,
    hint: Option<String>,
    retry_after_ms: Option<u64>,
}

/// Follows one attempt.
#[derive(Debug)]
pub struct Transcript {
    /// The session to resume.
    wanted: Option<String>,
    /// Whether the answer is plain text, which the host reads itself.
    plain: bool,
    session: Option<String>,
    /// Whether the answer contains any text so far.
    spoke: bool,
    last: Option<Last>,
    /// Why a line could not be read, which may have been the last one.
    unread: Option<Unread>,
    /// The last message on standard error.
    error_line: Option<String>,
}

/// Prefix of the stand-in's own messages on standard error.
const PREFIX: &str = "rehearsal: ";
/// Maximum length of a message in bytes.
const MAX_ERROR_LINE: usize = 4_096;

impl Transcript {
    pub(crate) fn new(request: &RunRequest) -> Self {
        let payload: Value = serde_json::from_str(&request.payload).unwrap_or_default();
        Self {
            wanted: request.resume_session.clone(),
            plain: payload.get("outputFormat").and_then(Value::as_str) == Some("text"),
            session: None,
            spoke: false,
            last: None,
            unread: None,
            error_line: None,
        }
    }

    /// Reads a line of standard output. Returns whether the events contain its complete content.
    fn stdout(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let parsed = objects("the rehearsal", line, events, |object, events| {
            self.protocol(Value::Object(object)).map(|translated| events.extend(translated)).is_some()
        });
        if parsed.partial.is_some() {
            self.unread = Some(Unread::of(line));
        }
        parsed.covered
    }

    /// The events of an object of the protocol; `None` for any other object.
    fn protocol(&mut self, object: Value) -> Option<Vec<Semantic>> {
        let piece = |message, text| TextPiece { message, text, parent: None };
        let event: Event = serde_json::from_value(object).ok()?;
        Some(match event {
            Event::Session { session, resumed } => vec![self.session(session, resumed)],
            Event::Notice { code, message } => {
                vec![Semantic::Progress(Notice { code, message, facts: None })]
            }
            Event::Warning { code, message } => {
                vec![Semantic::Warning(Notice { code, message, facts: None })]
            }
            Event::ThinkingDelta { message, text } => {
                vec![Semantic::ThinkingDelta(piece(message, text))]
            }
            Event::Thinking { message, text } => vec![Semantic::Thinking(piece(message, text))],
            Event::TextDelta { message, text } => {
                self.spoke = true;
                vec![Semantic::TextDelta(piece(message, text))]
            }
            Event::Text { message, text } => {
                self.spoke = true;
                vec![Semantic::Text(piece(message, text))]
            }
            Event::ToolStart { tool, name, command, cwd } => vec![Semantic::ToolStart(ToolCall {
                id: tool,
                kind: tools::SHELL.to_owned(),
                name,
                input: json!({ "command": command }).to_string(),
                commands: vec![command],
                cwd,
                ..ToolCall::default()
            })],
            Event::ToolDelta { tool, text } => {
                vec![Semantic::ToolDelta(ToolPiece { id: tool, text })]
            }
            Event::ToolResult { tool, output, error, exit_code } => {
                vec![Semantic::ToolResult(ToolOutput { id: tool, output, is_error: error, exit_code, extra: None })]
            }
            Event::Usage { input_tokens, output_tokens } => vec![Semantic::Usage(Usage {
                input_tokens,
                output_tokens,
                cost_micro_usd: Some(0),
                ..Usage::default()
            })],
            Event::RateLimited { message, retry_after_ms } => {
                let retry = retry_after_ms.map(RetryTime::AfterMs);
                vec![Semantic::RateLimited(RateLimit { message, retry })]
            }
            Event::Result(last) => self.result(last),
        })
    }

    fn session(&mut self, id: String, resumed: bool) -> Semantic {
        let origin = match &self.wanted {
            Some(wanted) if *wanted != id => SessionOrigin::Replaced,
            _ if resumed => SessionOrigin::Resumed,
            Some(_) => SessionOrigin::Replaced,
            None => SessionOrigin::Fresh,
        };
        self.session = Some(id.clone());
        Semantic::Session(SessionInfo { id, origin })
    }

    /// Reads the last line. In the form `json` it is the only one, and also contains the session and the answer.
    fn result(&mut self, last: Last) -> Vec<Semantic> {
        let mut events = Vec::new();
        if self.session.is_none() {
            let resumed = self.wanted.as_ref() == Some(&last.session);
            events.push(self.session(last.session.clone(), resumed));
        }
        if let (false, Some(text)) = (self.spoke, &last.text) {
            events.push(Semantic::Text(TextPiece { message: "answer".to_owned(), text: text.clone(), parent: None }));
        }
        events.push(Semantic::TurnComplete(TurnEnd {
            status: match last.status.as_str() {
                "completed" => TurnStatus::Completed,
                "interrupted" => TurnStatus::Interrupted,
                _ => TurnStatus::Failed,
            },
            text: last.text.clone(),
            message: last.failure.as_ref().map(|failure| failure.message.clone()),
        }));
        self.last = Some(last);
        events.push(work_done(&[]));
        events
    }

    /// Reads a line of standard error, and keeps it if it is a message of the stand-in. Returns whether the events contain
    /// its complete content.
    fn stderr(&mut self, text: &str, events: &mut Vec<Semantic>) -> bool {
        let Some(own) = text.strip_prefix(PREFIX) else { return false };
        if let (true, Some(id)) = (self.plain, own.strip_prefix("session ")) {
            // Resumed or not: in this form, only the id is printed.
            let resumed = self.wanted.as_deref() == Some(id);
            events.push(self.session(id.to_owned(), resumed));
            return true;
        }
        if !own.starts_with("see ") {
            let end = own.floor_char_boundary(own.len().min(MAX_ERROR_LINE));
            self.error_line = Some(own.get(..end).unwrap_or_default().to_owned());
        }
        false
    }

    /// The failure of a run without a last line.
    fn failure_without_result(&self, exit: &ExitStatus) -> Option<Failure> {
        let error_line = self.error_line.as_deref().unwrap_or_default();
        let message = error_line.strip_prefix("error: ").unwrap_or(error_line);
        if exit.code == Some(0)
            && let Some(unread) = self.unread
        {
            return Some(unread.failure("a line of the rehearsal, which may have been its last,"));
        }
        let (kind, code, fallback) = match (exit.code, exit.signal) {
            (Some(0), _) if self.plain => return None,
            (Some(0), _) => (
                FailureKind::Incomplete,
                Some(failures::ENDED_EARLY),
                "the rehearsal ended without a result".to_owned(),
            ),
            (_, Some(signal)) => {
                (FailureKind::Unknown, Some(failures::CRASHED), format!("the rehearsal was ended by signal {signal}"))
            }
            (Some(1), None) if message.starts_with("no session with id") => {
                (FailureKind::ResumeInvalid, Some(failures::SESSION_NOT_FOUND), message.to_owned())
            }
            (Some(1), None) if self.plain && error_line.starts_with("failed (") => {
                return Some(plain_failure(error_line));
            }
            (Some(2), None) => (
                FailureKind::Usage,
                message.starts_with("unknown option").then_some(failures::UNKNOWN_OPTION),
                "the rehearsal refused its command line".to_owned(),
            ),
            (Some(code), None) => (FailureKind::Unknown, None, format!("the rehearsal ended with exit code {code}")),
            (_, _) => (FailureKind::Unknown, None, "the rehearsal ended for an unknown reason".to_owned()),
        };
        // A message explains an exit code, but not a signal or exit code 0.
        let explained = !message.is_empty() && exit.signal.is_none() && exit.code != Some(0);
        Some(Failure {
            kind,
            code: code.map(str::to_owned),
            message: if explained { message.to_owned() } else { fallback },
            hint: None,
            retry: None,
        })
    }
}

impl ostler_plugin::Transcript for Transcript {
    fn read(&mut self, lines: Vec<Line>) -> Step {
        let mut step = Step::default();
        for (index, line) in (0_u32..).zip(lines) {
            let covered = match line.stream {
                OutputStream::Stdout if self.plain => false,
                OutputStream::Stdout => self.stdout(&line, &mut step.events),
                OutputStream::Stderr => self.stderr(&line.text, &mut step.events),
            };
            if covered {
                step.covered.push(index);
            }
        }
        step
    }

    fn finish(&mut self, exit: ExitStatus, _: Vec<CollectedFile>) -> Outcome {
        let Some(last) = self.last.take() else {
            return Outcome { failure: self.failure_without_result(&exit), ..Outcome::default() };
        };
        let failure = match (last.failure, last.status.as_str()) {
            (Some(reason), _) => Some(Failure {
                kind: kind(&reason.class),
                code: reason.code,
                message: reason.message,
                hint: reason.hint,
                retry: reason.retry_after_ms.map(RetryTime::AfterMs),
            }),
            (None, "completed") => None,
            (None, "interrupted") => Some(Failure {
                kind: FailureKind::Incomplete,
                code: Some(failures::INTERRUPTED.to_owned()),
                message: "the rehearsal was interrupted".to_owned(),
                hint: None,
                retry: None,
            }),
            (None, status) => Some(Failure {
                kind: FailureKind::Unknown,
                code: None,
                message: format!("the rehearsal ended with status {status}"),
                hint: None,
                retry: None,
            }),
        };
        Outcome {
            final_text: last.text,
            structured_output: last.structured.map(|value| value.to_string()),
            failure,
            extra: None,
        }
    }
}

/// Parses `failed (class): message`, the form of failures if the answer is plain text.
fn plain_failure(error_line: &str) -> Failure {
    let (class, message) =
        error_line.strip_prefix("failed (").and_then(|rest| rest.split_once("): ")).unwrap_or(("unknown", error_line));
    Failure { kind: kind(class), code: None, message: message.to_owned(), hint: None, retry: None }
}

fn kind(class: &str) -> FailureKind {
    match class {
        "authentication" => FailureKind::Authentication,
        "transient" => FailureKind::Transient,
        "rate-limited" => FailureKind::RateLimited,
        "resume-invalid" => FailureKind::ResumeInvalid,
        "usage" => FailureKind::Usage,
        "limit" => FailureKind::Limit,
        "incomplete" => FailureKind::Incomplete,
        _ => FailureKind::Unknown,
    }
}

#[cfg(test)]
mod tests;
