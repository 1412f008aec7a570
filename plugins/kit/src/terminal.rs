//! Sessions in a terminal: the CLI shows its own screen, and the plugin only knows how they begin and end.

use ostler_plugin::provider::{
    CollectedFile, Decision, ExitStatus, Failure, FailureKind, Line, Outcome, RunRequest, Semantic, SessionInfo,
    SessionOrigin, Step,
};
use ostler_plugin::{Error, Problems, Transcript};

use crate::argument::argument_problem;
use crate::host_extra::HostExtra;
use crate::payload::Harness;
use crate::prompt;

/// The exit code of a shell whose last command was interrupted.
const INTERRUPTED: i32 = 130;

/// Whether the run is a session in a terminal. `prepare` then returns the channel `pty`.
#[must_use]
pub fn in_terminal(request: &RunRequest) -> bool {
    HostExtra::of(request).in_terminal(request)
}

/// The prompt as an argument of a CLI: none if the session begins without one. A single word is not taken for a command of the
/// CLI, because a blank follows it.
pub fn prompt_argument(
    request: &RunRequest,
    harness: &Harness,
    files: &[(&str, &str, &str)],
    problems: &mut Problems,
) -> Option<String> {
    let mut prompt = prompt::compose(&request.prompt, files, harness.piped_content.as_deref());
    if prompt.trim().is_empty() {
        return None;
    }
    if let Some(reason) = argument_problem(&prompt) {
        problems.push("/prompt", reason);
    }
    if !prompt.contains(char::is_whitespace) {
        prompt.push(' ');
    }
    Some(prompt)
}

/// Follows a session in a terminal.
#[derive(Clone, Debug)]
pub struct TerminalTranscript {
    session: Option<String>,
    resumes: bool,
    prompt: String,
    success_codes: Vec<i32>,
}

impl TerminalTranscript {
    /// A transcript. `session` is the id of the session, if it is known; `prompt` is typed at its start, unless it is blank.
    #[must_use]
    pub fn new(request: &RunRequest, session: Option<String>, prompt: String, success_codes: Vec<i32>) -> Self {
        Self { session, resumes: request.resume_session.is_some(), prompt, success_codes }
    }
}

/// A message that is typed and sent with Enter.
fn typed(message: &str) -> Step {
    Step { write: format!("{message}\r").into_bytes(), ..Step::default() }
}

impl Transcript for TerminalTranscript {
    fn open(&mut self) -> Step {
        let mut step = if self.prompt.trim().is_empty() { Step::default() } else { typed(&self.prompt) };
        if let Some(id) = self.session.take() {
            let origin = if self.resumes { SessionOrigin::Resumed } else { SessionOrigin::Fresh };
            step.events.push(Semantic::Session(SessionInfo { id, origin }));
        }
        step
    }

    fn read(&mut self, _: Vec<Line>) -> Step {
        Step::default()
    }

    fn input(&mut self, message: String) -> Result<Step, Error> {
        Ok(typed(&message))
    }

    fn finish(&mut self, exit: ExitStatus, _: Vec<CollectedFile>) -> Outcome {
        let ended = Outcome { final_text: Some(String::new()), ..Outcome::default() };
        let (code, message) = match (exit.code, exit.signal) {
            _ if exit.canceled || exit.timed_out => return Outcome::default(),
            // The session was ended on request.
            (None, None) => return ended,
            (Some(code), _) if code == INTERRUPTED || self.success_codes.contains(&code) => return ended,
            (_, Some(signal)) => (format!("signal-{signal}"), format!("the program was ended by signal {signal}")),
            (Some(code), None) => (format!("exit-{code}"), format!("the program exited with code {code}")),
        };
        let hint = Some("`get_run_events` has what it showed".to_owned());
        let failure = Failure { kind: FailureKind::Unknown, code: Some(code), message, hint, retry: None };
        Outcome { failure: Some(failure), ..Outcome::default() }
    }
}

/// The transcript of a CLI that can run in a terminal, too.
#[derive(Debug)]
pub enum TerminalOr<T> {
    /// The session runs in a terminal.
    Terminal(TerminalTranscript),
    /// The run uses the output, or a protocol, of the CLI.
    Other(Box<T>),
}

impl<T> TerminalOr<T> {
    /// The transcript of an agent CLI: `other`, unless the session runs in a terminal. `session` is the id of a session in a
    /// terminal, if it is known before the CLI starts; its prompt is an argument of the CLI.
    pub fn of_agent(request: &RunRequest, session: impl FnOnce() -> Option<String>, other: impl FnOnce() -> T) -> Self {
        if in_terminal(request) {
            return Self::Terminal(TerminalTranscript::new(request, session(), String::new(), vec![0]));
        }
        Self::Other(Box::new(other()))
    }
}

impl<T: Transcript> Transcript for TerminalOr<T> {
    fn open(&mut self) -> Step {
        match self {
            Self::Terminal(transcript) => transcript.open(),
            Self::Other(transcript) => transcript.open(),
        }
    }

    fn read(&mut self, lines: Vec<Line>) -> Step {
        match self {
            Self::Terminal(transcript) => transcript.read(lines),
            Self::Other(transcript) => transcript.read(lines),
        }
    }

    fn input(&mut self, message: String) -> Result<Step, Error> {
        match self {
            Self::Terminal(transcript) => transcript.input(message),
            Self::Other(transcript) => transcript.input(message),
        }
    }

    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        match self {
            Self::Terminal(transcript) => transcript.decide(request_id, decision),
            Self::Other(transcript) => transcript.decide(request_id, decision),
        }
    }

    fn interrupt(&mut self) -> Result<Step, Error> {
        match self {
            Self::Terminal(transcript) => transcript.interrupt(),
            Self::Other(transcript) => transcript.interrupt(),
        }
    }

    fn finish(&mut self, exit: ExitStatus, files: Vec<CollectedFile>) -> Outcome {
        match self {
            Self::Terminal(transcript) => transcript.finish(exit, files),
            Self::Other(transcript) => transcript.finish(exit, files),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_plugin::provider::RunMode;

    use super::*;

    fn request(extra: &str) -> RunRequest {
        let mut request = RunRequest { mode: RunMode::Interactive, ..RunRequest::default() };
        request.host.extra = Some(extra.to_owned());
        request
    }

    #[test]
    fn prompt_is_typed_and_the_known_session_is_reported_once() {
        let mut transcript = TerminalTranscript::new(&request("{}"), Some("s".to_owned()), "go on".to_owned(), vec![0]);
        let step = transcript.open();
        assert_eq!(step.write, b"go on\r");
        assert!(matches!(&step.events[..], [Semantic::Session(session)] if session.id == "s"));
        assert_eq!(transcript.input("next".to_owned()).unwrap().write, b"next\r");
        let mut silent = TerminalTranscript::new(&request("{}"), None, " ".to_owned(), vec![0]);
        let step = silent.open();
        assert!(step.write.is_empty() && step.events.is_empty());
    }

    #[test]
    fn exit_of_the_program_counts_unless_the_session_was_ended() {
        let mut transcript = TerminalTranscript::new(&request("{}"), None, String::new(), vec![0, 3]);
        let mut finish = |code, signal| {
            let exit = ExitStatus { code, signal, timed_out: false, canceled: false };
            transcript.finish(exit, Vec::new()).failure.and_then(|failure| failure.code)
        };
        assert_eq!((finish(None, None), finish(Some(3), None), finish(Some(130), None)), (None, None, None));
        assert_eq!(finish(Some(1), None).as_deref(), Some("exit-1"));
        assert_eq!(finish(None, Some(11)).as_deref(), Some("signal-11"));
    }

    #[test]
    fn only_a_session_of_a_host_that_says_so_is_in_a_terminal() {
        assert!(in_terminal(&request(r#"{"terminal": true}"#)));
        assert!(!in_terminal(&request("{}")));
        let single = RunRequest { mode: RunMode::NonInteractive, ..request(r#"{"terminal": true}"#) };
        assert!(!in_terminal(&single));
    }
}
