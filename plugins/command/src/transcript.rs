//! Transcript of a program whose output is its answer.

use ostler_plugin::provider::{CollectedFile, ExitStatus, Failure, FailureKind, Line, Outcome, OutputStream, Step};
use ostler_plugin::{Transcript, strip_ansi};
use ostler_provider_kit::failure::shorten;

use crate::settings::Silence;

/// Maximum number of bytes of a line in a message.
const MAX_MESSAGE: usize = 2000;

/// Follows one attempt. The host shows and stores the output; only the last line of standard error is needed here.
#[derive(Debug)]
pub struct CommandTranscript {
    success_codes: Vec<i32>,
    silence: Silence,
    last: Option<String>,
}

impl CommandTranscript {
    pub(crate) fn new(success_codes: Vec<i32>, silence: Silence) -> Self {
        Self { success_codes, silence, last: None }
    }
}

impl Transcript for CommandTranscript {
    fn read(&mut self, lines: Vec<Line>) -> Step {
        // Only the last line that is not blank matters: search from the end.
        let errors = lines.iter().rev().filter(|line| line.stream == OutputStream::Stderr);
        for line in errors {
            let text = strip_ansi(&line.text);
            if !text.trim().is_empty() {
                self.last = Some(shorten(text.trim(), MAX_MESSAGE));
                break;
            }
        }
        Step::default()
    }

    fn finish(&mut self, exit: ExitStatus, _files: Vec<CollectedFile>) -> Outcome {
        if exit.canceled || exit.timed_out {
            return Outcome::default();
        }
        let (code, ended) = match (exit.code, exit.signal) {
            (Some(code), None) if self.success_codes.contains(&code) => {
                // The host has the answer. An empty text means that it may be empty.
                let final_text = (self.silence == Silence::Fine).then(String::new);
                return Outcome { final_text, ..Outcome::default() };
            }
            (_, Some(signal)) => (format!("signal-{signal}"), format!("the program was ended by signal {signal}")),
            (Some(code), None) => (format!("exit-{code}"), format!("the program exited with code {code}")),
            (None, None) => ("no-exit".to_owned(), "the program ended without an exit code".to_owned()),
        };
        Outcome {
            failure: Some(Failure {
                kind: FailureKind::Unknown,
                code: Some(code),
                message: self.last.take().unwrap_or(ended),
                hint: None,
                retry: None,
            }),
            ..Outcome::default()
        }
    }
}
