//! Reading the output of a CLI line by line, and describing runs that end unexpectedly.

use ostler_plugin::provider::{ExitStatus, Failure, FailureKind, Line, OutputStream, Semantic, Step};
use ostler_plugin::vocabulary::{failures, notices};
use serde_json::{Map, Value};

use crate::events::notice;
use crate::failure::{failure, shorten};
use crate::json_lines;

/// Maximum number of lines of standard error that are kept to explain a failure.
pub const KEPT_LINES: usize = 40;

/// Maximum number of bytes of each of these lines.
pub const KEPT_BYTES: usize = 2000;

/// Passes each line and its stream to `read`, which adds events and returns whether they contain the complete content
/// of the line.
pub fn step(lines: &[Line], mut read: impl FnMut(OutputStream, &Line, &mut Vec<Semantic>) -> bool) -> Step {
    let mut step = Step::default();
    for (index, line) in (0_u32..).zip(lines) {
        if read(line.stream, line, &mut step.events) {
            step.covered.push(index);
        }
    }
    step
}

/// The result of parsing a line of a JSON protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedLine {
    /// Whether the events contain the complete content of the line.
    pub covered: bool,
    /// The known members of an incomplete object; none if all objects are complete.
    pub partial: Option<Map<String, Value>>,
}

/// Passes each object in a line of standard output to `read`, which adds events and returns whether they contain its
/// complete content. If a part of the line cannot be parsed, a warning is added.
pub fn objects(
    cli: &str,
    line: &Line,
    events: &mut Vec<Semantic>,
    mut read: impl FnMut(Map<String, Value>, &mut Vec<Semantic>) -> bool,
) -> ParsedLine {
    let reading = json_lines::read(&line.text);
    let mut covered = !reading.documents.is_empty();
    for document in reading.documents {
        covered &= match document {
            Value::Object(object) => read(object, events),
            _ => false,
        };
    }
    if reading.broken.is_none() && !line.truncated {
        return ParsedLine { covered, partial: None };
    }
    let what = if line.truncated { "was too long to be read" } else { "could not be read" };
    events.push(Semantic::Warning(notice(notices::PROTOCOL, &format!("a line of {cli} {what}"))));
    let known = match reading.broken {
        Some(Value::Object(known)) => known,
        _ => Map::new(),
    };
    ParsedLine { covered: false, partial: Some(known) }
}

/// The lines of standard error that can explain a failure: the first ones say what is wrong with a command line, the
/// last ones what ended a run.
#[derive(Clone, Debug, Default)]
pub struct StandardError {
    lines: Vec<String>,
}

impl StandardError {
    /// Adds a line, cut to [`KEPT_BYTES`]. If there are more than [`KEPT_LINES`], a line in the middle is removed.
    pub fn keep(&mut self, text: &str) {
        if self.lines.len() >= KEPT_LINES {
            self.lines.remove(KEPT_LINES / 2);
        }
        self.lines.push(shorten(text, KEPT_BYTES));
    }

    /// The lines, in order.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The last line.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.lines.last().map(String::as_str)
    }
}

/// The failure of a run whose output does not show how it ended. `early` is the end of a sentence, such as `before its
/// work was done`; `last_line` is the last line of output.
#[must_use]
pub fn ended_early(cli: &str, exit: &ExitStatus, early: &str, last_line: Option<&str>) -> Failure {
    let last_line = last_line.map_or_else(String::new, |line| format!(": {line}"));
    // With exit code 0, the CLI considers the run successful. Any other end can be a temporary failure.
    let (kind, code, how) = match (exit.code, exit.signal) {
        (_, Some(signal)) => (FailureKind::Unknown, failures::CRASHED, format!("was ended by signal {signal}")),
        (Some(0), None) => (FailureKind::Incomplete, failures::ENDED_EARLY, "exited with code 0".to_owned()),
        (Some(code), None) => (FailureKind::Unknown, failures::ENDED_EARLY, format!("exited with code {code}")),
        (None, None) => (FailureKind::Unknown, failures::ENDED_EARLY, "ended".to_owned()),
    };
    failure(kind, code, &format!("{cli} {how} {early}{last_line}"), None)
}

/// Why a line could not be read completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It was longer than the host's limit.
    TooLong,
    /// It is not JSON, or incomplete.
    Malformed,
}

impl Unread {
    /// The reason for this line.
    #[must_use]
    pub const fn of(line: &Line) -> Self {
        if line.truncated { Self::TooLong } else { Self::Malformed }
    }

    /// The failure of a run whose result (`what`, such as `codex's last message`) was in such a line.
    #[must_use]
    pub fn failure(self, what: &str) -> Failure {
        let (how, hint) = match self {
            Self::TooLong => (
                "was longer than the line limit and could not be read completely",
                Some("ask for a shorter answer, or increase `runner.max_transcript_line_mib`"),
            ),
            Self::Malformed => ("could not be read completely", None),
        };
        failure(FailureKind::Incomplete, failures::PROTOCOL, &format!("{what} {how}"), hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_keeps_its_first_and_last_lines() {
        let mut kept = StandardError::default();
        assert_eq!(kept.last(), None);
        for number in 0..1000 {
            kept.keep(&format!("{number} {}", "x".repeat(5000)));
        }
        assert_eq!(kept.lines().len(), KEPT_LINES);
        assert!(kept.lines().iter().all(|line| line.len() <= KEPT_BYTES));
        assert!(kept.lines()[0].starts_with("0 ") && kept.last().is_some_and(|line| line.starts_with("999 ")));
    }

    #[test]
    fn unexpected_end_is_described_by_exit_code_or_signal() {
        let of = |code: Option<i32>, signal: Option<i32>, last_line: Option<&str>| {
            let failure =
                ended_early("x", &ExitStatus { code, signal, ..ExitStatus::default() }, "too soon", last_line);
            (failure.kind, failure.code.unwrap_or_default(), failure.message)
        };
        let early = || "ended-early".to_owned();
        assert_eq!(
            of(Some(0), None, None),
            (FailureKind::Incomplete, early(), "x exited with code 0 too soon".to_owned())
        );
        assert_eq!(
            of(Some(3), None, Some("why")),
            (FailureKind::Unknown, early(), "x exited with code 3 too soon: why".to_owned())
        );
        assert_eq!(
            of(None, Some(9), None),
            (FailureKind::Unknown, "crashed".to_owned(), "x was ended by signal 9 too soon".to_owned())
        );
        assert_eq!(of(None, None, None), (FailureKind::Unknown, early(), "x ended too soon".to_owned()));
    }

    #[test]
    fn line_with_several_objects_is_covered_if_all_are_understood() {
        let parse = |text: &str, truncated| {
            let line = Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated };
            let (mut events, mut seen) = (Vec::new(), Vec::new());
            let parsed = objects("x", &line, &mut events, |object, _| {
                let known = object.contains_key("type");
                seen.push(object);
                known
            });
            (parsed.covered, parsed.partial.map(|partial| Value::Object(partial).to_string()), seen.len(), events.len())
        };
        assert_eq!(parse(r#"{"type":1}{"type":2}"#, false), (true, None, 2, 0));
        assert_eq!(parse(r#"{"type":1}{"other":2}"#, false), (false, None, 2, 0));
        assert_eq!(parse("[1]", false), (false, None, 0, 0));
        assert_eq!(parse("loading", false), (false, None, 0, 0));
        assert_eq!(parse(r#"{"type":1}{"a":"b"#, false), (false, Some(r#"{"a":"b"}"#.to_owned()), 1, 1));
        assert_eq!(parse(r#"{"type":1}"#, true), (false, Some("{}".to_owned()), 1, 1));
    }

    #[test]
    fn only_understood_lines_are_covered() {
        let line = |text: &str| Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated: false };
        let step = step(&[line("a"), line("b"), line("a")], |_, line, _| line.text == "a");
        assert_eq!(step.covered, [0, 2]);
    }
}
