//! How a run ended.

use ostler_plugin::provider::{ExitStatus, Failure, FailureKind, Outcome, RetryTime};
use ostler_plugin::vocabulary::failures;
use ostler_provider_kit::answer;
use ostler_provider_kit::failure::failure;
use ostler_provider_kit::transcript;

use super::turns::LastTurn;
use super::{AppServerTranscript, Phase};
use crate::failure as messages;

impl AppServerTranscript {
    pub(super) fn outcome(&mut self, exit: &ExitStatus) -> Outcome {
        let completed = self.turns.last == LastTurn::Completed;
        let structured = self.answer.as_deref().filter(|_| self.setup.wants_structure() && completed);
        let structured_output = structured.and_then(answer::json);
        let failure = self.failure(exit);
        let text = self.answer.take().or_else(|| self.final_text.take());
        // A session may end without an answer.
        let final_text = text.or_else(|| (self.setup.interactive && failure.is_none()).then(String::new));
        Outcome { final_text, structured_output, failure, extra: None }
    }

    fn failure(&self, exit: &ExitStatus) -> Option<Failure> {
        // The host knows the reason if it has ended the run.
        if exit.canceled || exit.timed_out {
            return None;
        }
        if let Phase::Failed(failure) = &self.phase {
            return Some(failure.clone());
        }
        let ready = matches!(self.phase, Phase::Ready | Phase::Done);
        let in_order = exit.code == Some(0) || exit.signal.or(exit.code).is_none();
        if ready && !self.is_running() {
            if self.setup.interactive {
                return if in_order { None } else { Some(self.died(exit, "while it was idle")) };
            }
            return self.last_turn();
        }
        let mut failure = self.died(exit, "before its turn was done");
        if ready && failure.kind == FailureKind::Unknown {
            failure.kind = FailureKind::Incomplete;
        }
        Some(failure)
    }

    /// The failure of the only turn of a run.
    fn last_turn(&self) -> Option<Failure> {
        match &self.turns.last {
            LastTurn::Failed(error) => {
                let mut failure = messages::turn_error(&error.message, &error.info);
                if failure.kind == FailureKind::Limit && failure.retry.is_none() {
                    failure.retry = self.quota_renewal.map(RetryTime::AtUnixMs);
                }
                Some(failure)
            }
            LastTurn::Interrupted => {
                Some(failure(FailureKind::Incomplete, failures::INTERRUPTED, "the turn was interrupted", None))
            }
            LastTurn::Completed | LastTurn::None => self.unread_message.map(|why| why.failure("codex's last message")),
        }
    }

    /// Why codex ended although it had more to do.
    fn died(&self, exit: &ExitStatus, when: &str) -> Failure {
        if exit.code != Some(0)
            && let Some(failure) = messages::from_stderr(self.stderr.lines(), false)
        {
            return failure;
        }
        if exit.code == Some(0)
            && let Some(why) = self.unread
        {
            return why.failure("a line of codex, which may have been its last,");
        }
        let last_line = self.retrying.as_deref().or(self.stderr.last());
        transcript::ended_early("codex", exit, when, last_line)
    }
}
