//! The agent's words on standard output.

use super::clean::Cleaner;
use super::output::Output;
use crate::model::ApiError;

/// Writes the agent's text as it comes: cleaned for a terminal, unchanged for everything else.
#[derive(Debug, Default)]
pub(super) struct Answer {
    cleaner: Cleaner,
}

impl Answer {
    pub(super) fn write(&mut self, out: &mut Output, text: &str) -> Result<(), ApiError> {
        if out.stdout_terminal {
            let shown = self.cleaner.push(text);
            return out.write(&shown);
        }
        out.write(text)
    }

    pub(super) fn finish(&mut self, out: &mut Output) -> Result<(), ApiError> {
        let rest = self.cleaner.finish();
        out.write(&rest)
    }
}
