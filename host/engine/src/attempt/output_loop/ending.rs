//! When and why the host ends the child.

use std::time::Instant;

use serde_json::json;

use super::OutputLoop;
use crate::attempt::outcome::StopReason;
use crate::attempt::terminal_output::TerminalOutput;
use ostler_protocol::{SessionEnd, WarningCode};
use ostler_runner::{StopSignal, Stream};

impl OutputLoop<'_> {
    /// When the loop must act although nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.stop_reason != StopReason::Nothing {
            return None;
        }
        let user_asked = !self.pending.is_empty();
        // The time limit does not count while a user is asked.
        let deadline = (!user_asked).then_some(self.deadline);
        let session = self.session.as_ref().and_then(|session| session.deadline(user_asked));
        let shown = self.terminal.as_ref().and_then(TerminalOutput::due);
        let typing = self.typing.due();
        let protocol = [self.work.until(), self.pending.deadline(), self.requests.deadline(), session, shown, typing];
        let protocol = protocol.into_iter().flatten().filter(|_| self.exit.is_none());
        protocol.chain(deadline).min()
    }

    /// A deadline has passed: that of the run, of a CLI whose work is complete, of a request, or of the session. Complete work
    /// counts, even if the CLI waits until the time limit of the run.
    pub(super) fn on_deadline(&mut self) {
        let now = Instant::now();
        if let Some(terminal) = &mut self.terminal {
            let chunk = terminal.show_held(now);
            self.store_chunk(Stream::Stdout, chunk);
            self.on_typing(now);
        }
        let late = now >= self.deadline && self.pending.is_empty();
        if self.exit.is_none() {
            self.deny_expired(now);
            let user_asked = !self.pending.is_empty();
            if self.session.as_ref().is_some_and(|session| session.is_idle_too_long(now, user_asked)) {
                self.end_session(SessionEnd::Idle);
            }
            self.advance_session();
            if let Some(message) = self.requests.overdue(now) {
                self.end_child(StopReason::Unresponsive(message));
            }
        }
        if self.exit.is_none() && self.work.until().is_some_and(|until| late || now >= until) {
            self.end_finished();
        } else if late {
            self.end_child(StopReason::TimedOut);
        }
    }

    /// Ends a CLI whose work is complete, and reports it.
    fn end_finished(&mut self) {
        if self.work.stopped() {
            // The outcome has the reason.
            return self.end_child(StopReason::WorkDone);
        }
        let Some((lingered, background)) = self.work.lingered() else { return };
        let seconds = lingered.as_secs();
        let waits = match background.len() {
            0 => String::new(),
            1 => ", waiting for a task in the background".to_owned(),
            count => format!(", waiting for {count} tasks in the background"),
        };
        let message = format!("the CLI still ran {seconds} s after its work was done{waits}; it was ended");
        let facts = json!({"lingeredMs": u64::try_from(lingered.as_millis()).ok(), "background": background});
        self.sink.warn(WarningCode::CliEnded, message, facts);
        self.end_child(StopReason::WorkDone);
    }

    /// Ends the child, if the reason counts; see [`reason_to_end`].
    pub(super) fn end_child(&mut self, requested: StopReason) {
        let exited = self.exit.is_some();
        let Some(reason) = reason_to_end(&self.stop_reason, requested, exited, self.sink.failed()) else { return };
        if std::mem::replace(&mut self.stop_reason, reason) == StopReason::Nothing {
            self.cut_short = !exited;
            // A terminal is closed. Shells ignore other signals.
            let first = if self.terminal.is_some() { StopSignal::Hangup } else { self.stop };
            self.child.stop(first, self.grace);
        }
    }

    /// Whether there is time to ask the policies. While the run is being ended, there is as much as ending may take.
    pub(super) fn may_evaluate(&mut self) -> bool {
        let late = || (Instant::now() >= self.deadline).then_some(StopReason::TimedOut);
        let Some(reason) = self.active_run.stop_cause().map(StopReason::from).or_else(late) else { return true };
        self.end_child(reason);
        let until = *self.evaluated_until.get_or_insert_with(|| Instant::now() + self.grace);
        Instant::now() < until
    }
}

/// The reason for which the run ends, if it changes. The first reason counts. A child that has exited keeps its own outcome,
/// unless the reason makes that outcome invalid. Lost output counts more than any other reason, because a run whose output
/// is lost must not succeed.
fn reason_to_end(
    current: &StopReason,
    requested: StopReason,
    exited: bool,
    storage_failed: bool,
) -> Option<StopReason> {
    let reason = if storage_failed { StopReason::StorageFailed } else { requested };
    let invalidates_exit = matches!(reason, StopReason::StorageFailed | StopReason::Denied(_) | StopReason::Unreadable);
    let counts = match current {
        StopReason::Nothing => !exited || invalidates_exit,
        // With these, the run can still succeed.
        StopReason::WorkDone | StopReason::SessionEnded => reason == StopReason::StorageFailed,
        _ => false,
    };
    counts.then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_output_replaces_every_reason_for_which_the_child_is_ended_at_that_moment() {
        let requested = [StopReason::Canceled, StopReason::TimedOut, StopReason::WorkDone, StopReason::HostStops];
        for (reason, exited) in requested.into_iter().zip([false, true, false, true]) {
            let ended = reason_to_end(&StopReason::Nothing, reason, exited, true);
            assert_eq!(ended, Some(StopReason::StorageFailed));
        }
    }

    #[test]
    fn output_that_is_lost_after_the_work_fails_the_run_and_other_ends_stay() {
        let later = |current: StopReason| reason_to_end(&current, StopReason::StorageFailed, false, true);
        assert_eq!(later(StopReason::WorkDone), Some(StopReason::StorageFailed));
        assert_eq!(later(StopReason::SessionEnded), Some(StopReason::StorageFailed));
        assert_eq!(later(StopReason::Canceled), None);
        assert_eq!(later(StopReason::StorageFailed), None);
    }

    #[test]
    fn first_reason_counts_and_an_exit_is_only_replaced_by_what_makes_it_invalid() {
        let end = |current: &StopReason, requested, exited| reason_to_end(current, requested, exited, false);
        assert_eq!(end(&StopReason::Nothing, StopReason::Canceled, false), Some(StopReason::Canceled));
        assert_eq!(end(&StopReason::TimedOut, StopReason::Canceled, false), None);
        assert_eq!(end(&StopReason::Nothing, StopReason::Canceled, true), None);
        assert_eq!(end(&StopReason::Nothing, StopReason::Unreadable, true), Some(StopReason::Unreadable));
    }
}
