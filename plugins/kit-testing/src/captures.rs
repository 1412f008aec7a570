//! Captured runs of a CLI: for each case, files with the command, its output, and its exit code.

use std::path::PathBuf;

use ostler_plugin::Transcript;
use ostler_plugin::provider::{ExitStatus, Line, Outcome, OutputStream, Step};

/// Longer lines are not part of [`Captures::corpus`]: they make random tests slow, but not better.
const CORPUS_LINE: usize = 3000;

/// The captures of one version of a CLI.
#[derive(Clone, Debug)]
pub struct Captures {
    folder: PathBuf,
}

impl Captures {
    /// The captures in this folder of `tests/transcripts`, such as `codex-0.169.0`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts").join(name) }
    }

    /// One part of a capture: `stdout`, `stderr`, `cmd` or `exit`.
    #[must_use]
    pub fn part(&self, case: &str, part: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{case}.{part}")))
            .unwrap_or_else(|error| panic!("{case}.{part}: {error}"))
    }

    /// The names of all captures, sorted.
    #[must_use]
    pub fn cases(&self) -> Vec<String> {
        let mut cases: Vec<String> = std::fs::read_dir(&self.folder)
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().into_string().unwrap().strip_suffix(".cmd").map(str::to_owned)
            })
            .collect();
        cases.sort();
        cases
    }

    /// The command line.
    #[must_use]
    pub fn command(&self, case: &str) -> String {
        self.part(case, "cmd").lines().last().unwrap().to_owned()
    }

    /// The whole output: standard error, then standard output.
    #[must_use]
    pub fn lines(&self, case: &str) -> Vec<Line> {
        let of = |part: &str, stream: OutputStream| {
            let text = self.part(case, part);
            text.lines().map(|line| Line { stream, text: line.to_owned(), truncated: false }).collect::<Vec<_>>()
        };
        let mut lines = of("stderr", OutputStream::Stderr);
        lines.extend(of("stdout", OutputStream::Stdout));
        lines
    }

    /// How the process ended. The file contains the exit code, or the signal as a negative number.
    #[must_use]
    pub fn exit(&self, case: &str) -> ExitStatus {
        let code: i32 = self.part(case, "exit").trim().parse().unwrap();
        if code < 0 {
            ExitStatus { signal: Some(-code), ..ExitStatus::default() }
        } else {
            ExitStatus { code: Some(code), ..ExitStatus::default() }
        }
    }

    /// Reads a capture with a transcript.
    #[must_use]
    pub fn replay(&self, case: &str, mut transcript: impl Transcript) -> (Step, Outcome) {
        let step = transcript.read(self.lines(case));
        (step, transcript.finish(self.exit(case), Vec::new()))
    }

    /// The lines of these cases, without long ones.
    #[must_use]
    pub fn corpus(&self, cases: &[String]) -> Vec<Line> {
        cases.iter().flat_map(|case| self.lines(case)).filter(|line| line.text.len() < CORPUS_LINE).collect()
    }
}

/// Passes one complete line to a transcript.
pub fn read_one(transcript: &mut impl Transcript, stream: OutputStream, text: &str) -> Step {
    transcript.read(vec![Line { stream, text: text.to_owned(), truncated: false }])
}
