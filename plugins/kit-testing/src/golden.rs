//! Compares what transcripts read from all captures with a reviewed file.

use std::fmt::Write as _;
use std::path::Path;

use ostler_plugin::provider::{Outcome, Semantic, Step};

use crate::captures::Captures;
use ostler_provider_kit::failure::shorten;

/// Maximum number of bytes of a text in an event.
const EVENT_TEXT: usize = 90;

/// A text on one line, cut to the length that an event shows.
#[must_use]
pub fn short(text: &str) -> String {
    shorten(&text.escape_debug().to_string(), EVENT_TEXT)
}

/// ` of PARENT` for events of a sub-agent, nothing for the main agent.
#[must_use]
pub fn of(parent: Option<&str>) -> String {
    parent.map_or_else(String::new, |parent| format!(" of {parent}"))
}

/// An event on one line. Tools and usage are shown in full; a plugin may describe them itself.
#[must_use]
pub fn describe(event: &Semantic) -> String {
    match event {
        Semantic::Session(session) => format!("session {} {:?}", session.id, session.origin),
        Semantic::Text(piece) => {
            format!("text {}{} {}", piece.message, of(piece.parent.as_deref()), short(&piece.text))
        }
        Semantic::TextDelta(piece) => {
            format!("text-delta {}{} {}", piece.message, of(piece.parent.as_deref()), short(&piece.text))
        }
        Semantic::Thinking(piece) => format!("thinking {} {}", piece.message, short(&piece.text)),
        Semantic::ThinkingDelta(piece) => format!("thinking-delta {} {}", piece.message, short(&piece.text)),
        Semantic::ToolResult(result) => format!(
            "tool-result {} error={} exit={:?} {}",
            result.id,
            result.is_error,
            result.exit_code,
            short(&result.output)
        ),
        Semantic::TurnComplete(end) => {
            format!("turn-complete {:?} {}", end.status, short(end.message.as_deref().unwrap_or("")))
        }
        Semantic::Progress(notice) => format!("progress {} {}", notice.code, short(&notice.message)),
        Semantic::Warning(notice) => format!("warning {} {}", notice.code, short(&notice.message)),
        Semantic::Error(notice) => format!("error {} {}", notice.code, short(&notice.message)),
        Semantic::Other(event) => format!("other {} {}", event.kind, short(&event.fields)),
        other => format!("{other:?}"),
    }
}

/// The captures to read.
#[derive(Clone, Copy, Debug)]
pub struct Golden<'a> {
    /// The captures of the CLI.
    pub captures: &'a Captures,
    /// The names of the cases.
    pub cases: &'a [String],
    /// Maximum number of bytes of a command line.
    pub command_bytes: usize,
}

/// Compares the result with the file `approved`. `UPDATE_GOLDEN=1` writes the file.
pub fn check(
    approved: &Path,
    golden: Golden<'_>,
    replay: impl Fn(&str) -> (Step, Outcome),
    describe: impl Fn(&Semantic) -> String,
) {
    let mut all = String::new();
    for case in golden.cases {
        let command = shorten(&golden.captures.command(case), golden.command_bytes);
        let _ = writeln!(all, "== {case}: {command}");
        reading(&mut all, golden.captures, case, replay(case), &describe);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(approved.parent().unwrap()).unwrap();
        std::fs::write(approved, &all).unwrap();
    }
    let text = std::fs::read_to_string(approved).unwrap_or_else(|error| panic!("{}: {error}", approved.display()));
    for (number, (line, approved_line)) in all.lines().zip(text.lines()).enumerate() {
        assert_eq!(line, approved_line, "line {} of {}", number + 1, approved.display());
    }
    assert_eq!(all.lines().count(), text.lines().count());
}

/// Writes one capture: its events, the lines that remain raw, and how it ended.
fn reading(
    all: &mut String,
    captures: &Captures,
    case: &str,
    (step, outcome): (Step, Outcome),
    describe: impl Fn(&Semantic) -> String,
) {
    for event in &step.events {
        let _ = writeln!(all, "{}", describe(event));
    }
    let lines = captures.lines(case);
    for (index, line) in (0_u32..).zip(&lines).filter(|(index, _)| !step.covered.contains(index)) {
        let _ = writeln!(all, "raw {index} {:?} {}", line.stream, shorten(&line.text, EVENT_TEXT));
    }
    let failure = outcome.failure.map(|failure| {
        format!("{:?} {} {}", failure.kind, failure.code.unwrap_or_default(), shorten(&failure.message, 200))
    });
    let text = outcome.final_text.map(|text| shorten(&text.escape_debug().to_string(), 60));
    let _ = writeln!(
        all,
        "-> exit {} failure={failure:?} text={text:?} structured={:?}\n",
        captures.part(case, "exit").trim(),
        outcome.structured_output
    );
}
