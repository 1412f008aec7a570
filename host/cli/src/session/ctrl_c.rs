//! What Ctrl-C does in a session.

use std::time::{Duration, Instant};

/// Time in which a second Ctrl-C leaves.
const AGAIN: Duration = Duration::from_secs(2);

/// Remembers the last Ctrl-C.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CtrlC {
    last: Option<Instant>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CtrlCAction {
    /// Interrupt the turn.
    Interrupt,
    /// Discard the message that is being typed.
    DiscardMessage,
    /// Leave the session, which stays open.
    Leave,
}

impl CtrlC {
    /// Processes the key. `working`: a turn runs. `typed`: a message is being typed.
    pub(super) fn press(&mut self, working: bool, typed: bool, now: Instant) -> CtrlCAction {
        let again = self.last.is_some_and(|last| now.saturating_duration_since(last) < AGAIN);
        self.last = Some(now);
        match (again, working, typed) {
            (true, ..) => CtrlCAction::Leave,
            (false, true, _) => CtrlCAction::Interrupt,
            (false, false, true) => {
                // This key does not count as the first of two.
                self.last = None;
                CtrlCAction::DiscardMessage
            }
            (false, false, false) => CtrlCAction::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_key_interrupts_and_second_one_leaves() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut keys = CtrlC::default();
        assert_eq!(keys.press(true, false, start), CtrlCAction::Interrupt);
        assert_eq!(keys.press(false, false, later(1)), CtrlCAction::Leave, "although the turn has ended");
        let mut keys = CtrlC::default();
        assert_eq!(keys.press(true, true, start), CtrlCAction::Interrupt);
        assert_eq!(keys.press(true, true, later(5)), CtrlCAction::Interrupt, "too late for a second one");
        assert_eq!(keys.press(true, true, later(6)), CtrlCAction::Leave);
    }

    #[test]
    fn idle_session_is_left_after_the_message_is_discarded() {
        let now = Instant::now();
        let mut keys = CtrlC::default();
        assert_eq!(keys.press(false, true, now), CtrlCAction::DiscardMessage);
        assert_eq!(keys.press(false, false, now), CtrlCAction::Leave);
    }
}
