//! Reading what a CLI prints, line by line, and what its end means where it did not say.

use ostler_plugin::provider::{ExitStatus, Failure, FailureKind, Line, OutputStream, Semantic, Step};
use ostler_plugin::vocabulary::{failures, notices};
use serde_json::{Map, Value};

use crate::events::notice;
use crate::failure::{failure, shorten};
use crate::json_lines;

/// Most lines of standard error that are kept to explain a failure.
pub const KEPT_LINES: usize = 40;

/// Most bytes of a line that is kept.
pub const KEPT_BYTES: usize = 2000;

/// Gives each line to `read`, with its stream, which adds events and says whether they have the line's whole meaning.
pub fn step(lines: &[Line], mut read: impl FnMut(OutputStream, &Line, &mut Vec<Semantic>) -> bool) -> Step {
    let mut step = Step::default();
    for (index, line) in (0_u32..).zip(lines) {
        if read(line.stream, line, &mut step.events) {
            step.covered.push(index);
        }
    }
    step
}

/// What a line of a JSON protocol was, for its transcript.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// Whether the events have the line's whole meaning.
    pub covered: bool,
    /// What is known of an object in it that is not whole: the members before the cut. Empty is nothing.
    pub lost: Option<Map<String, Value>>,
}

/// Gives each object of a line of standard output to `read`, which adds events and says whether they have its whole
/// meaning. Where something of the line cannot be read, a warning says so.
pub fn objects(
    cli: &str,
    line: &Line,
    events: &mut Vec<Semantic>,
    mut read: impl FnMut(Map<String, Value>, &mut Vec<Semantic>) -> bool,
) -> Heard {
    let reading = json_lines::read(&line.text);
    let mut covered = !reading.documents.is_empty();
    for document in reading.documents {
        covered &= match document {
            Value::Object(object) => read(object, events),
            _ => false,
        };
    }
    if reading.broken.is_none() && !line.truncated {
        return Heard { covered, lost: None };
    }
    let what = if line.truncated { "was too long to be read" } else { "could not be read" };
    events.push(Semantic::Warning(notice(notices::PROTOCOL, &format!("a line of {cli} {what}"))));
    let known = match reading.broken {
        Some(Value::Object(known)) => known,
        _ => Map::new(),
    };
    Heard { covered: false, lost: Some(known) }
}

/// The lines of standard error that can explain a failure: the first say what is wrong with a command line, the last
/// what ended a run.
#[derive(Clone, Debug, Default)]
pub struct StandardError {
    lines: Vec<String>,
}

impl StandardError {
    /// Keeps a line, cut to [`KEPT_BYTES`]. Past [`KEPT_LINES`] one from the middle goes.
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

/// The failure of a run that ended without having told its end. `early` is the end of a sentence, such as `before its
/// work was done`; `said` is what the CLI last said.
#[must_use]
pub fn ended_early(cli: &str, exit: &ExitStatus, early: &str, said: Option<&str>) -> Failure {
    let said = said.map_or_else(String::new, |line| format!(": {line}"));
    // Exit code 0 is the CLI's word that it did what it wanted; anything else is a fault that may pass.
    let (kind, code, how) = match (exit.code, exit.signal) {
        (_, Some(signal)) => (FailureKind::Unknown, failures::CRASHED, format!("was ended by signal {signal}")),
        (Some(0), None) => (FailureKind::Incomplete, failures::ENDED_EARLY, "exited with code 0".to_owned()),
        (Some(code), None) => (FailureKind::Unknown, failures::ENDED_EARLY, format!("exited with code {code}")),
        (None, None) => (FailureKind::Unknown, failures::ENDED_EARLY, "ended".to_owned()),
    };
    failure(kind, code, &format!("{cli} {how} {early}{said}"), None)
}

/// Why a line was not read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It was longer than the host's limit.
    TooLong,
    /// It is no JSON, or ends too early.
    Malformed,
}

impl Unread {
    /// Why this line was not.
    #[must_use]
    pub const fn of(line: &Line) -> Self {
        if line.truncated { Self::TooLong } else { Self::Malformed }
    }

    /// The failure of a run whose end (`what`, such as `codex's last message`) came in such a line.
    #[must_use]
    pub fn failure(self, what: &str) -> Failure {
        let (how, hint) = match self {
            Self::TooLong => (
                "was longer than a line may be, and was not read as a whole",
                Some("ask for a shorter answer, or raise `max_transcript_line_mib` of the runner"),
            ),
            Self::Malformed => ("could not be read as a whole", None),
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
    fn ends_without_a_word() {
        let of = |code: Option<i32>, signal: Option<i32>, said: Option<&str>| {
            let failure = ended_early("x", &ExitStatus { code, signal, ..ExitStatus::default() }, "too soon", said);
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
    fn line_with_several_objects_is_covered_where_each_is_understood() {
        let hear = |text: &str, truncated| {
            let line = Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated };
            let (mut events, mut seen) = (Vec::new(), Vec::new());
            let heard = objects("x", &line, &mut events, |object, _| {
                let known = object.contains_key("type");
                seen.push(object);
                known
            });
            (heard.covered, heard.lost.map(|lost| Value::Object(lost).to_string()), seen.len(), events.len())
        };
        assert_eq!(hear(r#"{"type":1}{"type":2}"#, false), (true, None, 2, 0));
        assert_eq!(hear(r#"{"type":1}{"other":2}"#, false), (false, None, 2, 0));
        assert_eq!(hear("[1]", false), (false, None, 0, 0));
        assert_eq!(hear("loading", false), (false, None, 0, 0));
        assert_eq!(hear(r#"{"type":1}{"a":"b"#, false), (false, Some(r#"{"a":"b"}"#.to_owned()), 1, 1));
        assert_eq!(hear(r#"{"type":1}"#, true), (false, Some("{}".to_owned()), 1, 1));
    }

    #[test]
    fn only_lines_with_a_meaning_are_covered() {
        let line = |text: &str| Line { stream: OutputStream::Stdout, text: text.to_owned(), truncated: false };
        let step = step(&[line("a"), line("b"), line("a")], |_, line, _| line.text == "a");
        assert_eq!(step.covered, [0, 2]);
    }
}
