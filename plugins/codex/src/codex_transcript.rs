//! The transcript of a run, whichever command of codex it uses.

use ostler_plugin::provider::{Capabilities, CollectedFile, Decision, ExitStatus, Line, Outcome, RunRequest, Step};
use ostler_plugin::{Error, Transcript};

use crate::app_server::AppServerTranscript;
use crate::detect::Detected;
use crate::prepare::uses_app_server;
use crate::transcript::ExecTranscript;

/// Follows one attempt.
#[derive(Debug)]
pub enum CodexTranscript {
    /// Of `codex exec`.
    Exec(Box<ExecTranscript>),
    /// Of `codex app-server`.
    AppServer(Box<AppServerTranscript>),
}

impl CodexTranscript {
    pub(crate) fn new(request: &RunRequest, capabilities: &Capabilities) -> Self {
        let detected = Detected::of(capabilities).unwrap_or_default();
        if uses_app_server(request, &detected) {
            Self::AppServer(Box::new(AppServerTranscript::new(request)))
        } else {
            Self::Exec(Box::new(ExecTranscript::new(request)))
        }
    }

    fn inner(&mut self) -> &mut dyn Transcript {
        match self {
            Self::Exec(transcript) => transcript.as_mut(),
            Self::AppServer(transcript) => transcript.as_mut(),
        }
    }
}

impl Transcript for CodexTranscript {
    fn open(&mut self) -> Step {
        self.inner().open()
    }

    fn read(&mut self, lines: Vec<Line>) -> Step {
        self.inner().read(lines)
    }

    fn input(&mut self, message: String) -> Result<Step, Error> {
        self.inner().input(message)
    }

    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        self.inner().decide(request_id, decision)
    }

    fn interrupt(&mut self) -> Result<Step, Error> {
        self.inner().interrupt()
    }

    fn finish(&mut self, exit: ExitStatus, files: Vec<CollectedFile>) -> Outcome {
        self.inner().finish(exit, files)
    }
}
