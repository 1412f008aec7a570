//! Transcript of the stand-in's output.

mod event;
mod talk;

use event::{Event, Last};
use ostler_plugin::{
    Error,
    provider::{
        CollectedFile, Decision, ExitStatus, Failure, FailureKind, Line, Notice, Outcome, OutputStream, RateLimit,
        RetryTime, RunRequest, Semantic, SessionInfo, SessionOrigin, Step, TextPiece, ToolOutput, ToolPiece, TurnEnd,
        TurnStatus, Usage,
    },
    vocabulary::failures,
};
use ostler_provider_kit::{
    events::work_done,
    transcript::{Unread, objects},
};
use serde_json::Value;
use talk::Talk;

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
    /// The two-way protocol, if the run uses it.
    talk: Option<Talk>,
}

/// Prefix of the stand-in's own messages on standard error.
const PREFIX: &str = "rehearsal: ";
/// Maximum length of a message in bytes.
const MAX_ERROR_LINE: usize = 4_096;

impl Transcript {
    pub(crate) fn new(request: &RunRequest) -> Self {
        let payload: Value = serde_json::from_str(&request.payload).unwrap_or_default();
        let talk = Talk::new(request, crate::prepare::whole_prompt(request));
        Self {
            wanted: request.resume_session.clone(),
            plain: talk.is_none() && payload.get("outputFormat").and_then(Value::as_str) == Some("text"),
            session: None,
            spoke: false,
            last: None,
            unread: None,
            error_line: None,
            talk,
        }
    }

    /// Reads a line of standard output. Returns whether the events contain its complete content.
    fn stdout(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let parsed = objects("the rehearsal", line, events, |object, events| {
            self.protocol(Value::Object(object)).map(|translated| events.extend(translated)).is_some()
        });
        if let (Some(known), Some(talk)) = (&parsed.partial, &mut self.talk) {
            talk.partial(known);
        }
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
            Event::ToolStart(about) => vec![Semantic::ToolStart(about.call())],
            Event::ToolDelta { tool, text } => {
                vec![Semantic::ToolDelta(ToolPiece { id: tool, text })]
            }
            Event::ToolResult { tool, output, error, exit_code } => {
                vec![Semantic::ToolResult(ToolOutput { id: tool, output, is_error: error, exit_code, extra: None })]
            }
            Event::Usage { input_tokens, output_tokens } if self.talk.is_some() => {
                let talk = self.talk.as_mut()?;
                vec![Semantic::Usage(talk.usage(input_tokens, output_tokens))]
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
            Event::Turn(last) => self.turn(last)?,
            Event::Answer { request } => self.talk.as_mut()?.answered(&request),
            Event::Ask(ask) => self.talk.as_mut()?.asked(*ask),
            Event::Withdraw { ask } => self.talk.as_mut()?.withdrawn(ask).into_iter().collect(),
            Event::Request { request, what } => self.talk.as_mut()?.unknown(&request, &what),
            Event::State { state, background } => self.talk.as_mut()?.state(&state, background),
        })
    }

    /// The end of a turn of a conversation.
    fn turn(&mut self, last: Last) -> Option<Vec<Semantic>> {
        let mut events = self.talk.as_mut()?.turn_ended(&last);
        events.push(turn_complete(&last));
        self.last = Some(last);
        Some(events)
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
        events.push(turn_complete(&last));
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

impl Transcript {
    /// Runs `act` in a conversation, and takes what it writes.
    fn converse(&mut self, act: impl FnOnce(&mut Talk) -> Result<Vec<Semantic>, Error>) -> Result<Step, Error> {
        let Some(talk) = &mut self.talk else {
            return Err(Error::Unsupported("this run of the rehearsal is not a conversation".to_owned()));
        };
        let mut step = Step { events: act(talk)?, ..Step::default() };
        talk.flush(&mut step);
        Ok(step)
    }

    /// The failure of a conversation that ended in the middle of a turn.
    fn broken_off(&self, exit: &ExitStatus) -> Option<Failure> {
        if !self.talk.as_ref().is_some_and(Talk::broken_off) {
            return None;
        }
        let how = match (exit.code, exit.signal) {
            (_, Some(signal)) => format!("by signal {signal}"),
            (Some(code), None) => format!("with exit code {code}"),
            (None, None) => "for an unknown reason".to_owned(),
        };
        Some(Failure {
            kind: FailureKind::Incomplete,
            code: Some(failures::ENDED_EARLY.to_owned()),
            message: format!("the rehearsal ended in the middle of a turn, {how}"),
            hint: None,
            retry: None,
        })
    }
}

impl ostler_plugin::Transcript for Transcript {
    fn open(&mut self) -> Step {
        self.converse(|talk| Ok(talk.open())).unwrap_or_default()
    }

    fn input(&mut self, message: String) -> Result<Step, Error> {
        self.converse(|talk| {
            talk.input(message);
            Ok(Vec::new())
        })
    }

    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        self.converse(|talk| talk.decide(&request_id, &decision).map(|()| Vec::new()))
    }

    fn interrupt(&mut self) -> Result<Step, Error> {
        self.converse(|talk| Ok(talk.interrupt()))
    }

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
        if let Some(talk) = &mut self.talk {
            talk.flush(&mut step);
        }
        step
    }

    fn finish(&mut self, exit: ExitStatus, _: Vec<CollectedFile>) -> Outcome {
        if let Some(text) = self.talk.as_ref().and_then(|talk| talk.in_order(&exit)) {
            return Outcome { final_text: Some(text), ..Outcome::default() };
        }
        if let Some(failure) = self.broken_off(&exit) {
            return Outcome { failure: Some(failure), ..Outcome::default() };
        }
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

fn turn_complete(last: &Last) -> Semantic {
    Semantic::TurnComplete(TurnEnd {
        status: match last.status.as_str() {
            "completed" => TurnStatus::Completed,
            "interrupted" => TurnStatus::Interrupted,
            _ => TurnStatus::Failed,
        },
        text: last.text.clone(),
        message: last.failure.as_ref().map(|failure| failure.message.clone()),
    })
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
mod talk_tests;
#[cfg(test)]
mod tests;
