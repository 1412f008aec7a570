//! The state of an interactive session: whether a turn runs, when it has been idle for too long, and how it ends.

use std::time::{Duration, Instant};

use serde::Deserialize;

use ostler_plugin_host::types::Semantic;
use ostler_protocol::SessionEnd;

const STATE: &str = "session-state";

/// Time after which an interrupt that has not ended the turn is repeated.
const INTERRUPT_AGAIN: Duration = Duration::from_secs(1);

/// Time limit for a turn to end after it was interrupted. The protocol's own answer has an earlier deadline.
pub(crate) const INTERRUPT_LIMIT: Duration = Duration::from_secs(10);

/// A session of an attempt.
#[derive(Debug)]
pub(crate) struct SessionState {
    activity: Activity,
    /// It has a terminal: the host cannot see turns, and it is idle while nothing is typed or shown.
    terminal: bool,
    idle_limit: Duration,
    /// Since when the session is idle.
    idle_since: Instant,
    interrupt: Option<Interrupt>,
    end: Option<Ending>,
    opened: bool,
}

/// A turn that is being interrupted.
#[derive(Debug)]
struct Interrupt {
    /// When the plugin is asked again: a message may have been sent whose turn has not begun. Not after a further message of
    /// the user, whose turn is not the one to interrupt.
    again: Option<Instant>,
    /// Until when the turn must end.
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// The CLI starts, or a turn runs.
    Running,
    /// No turn runs. Tasks in the background may.
    Idle {
        /// Number of tasks in the background.
        background: u32,
    },
}

/// The end of a session that has begun.
#[derive(Debug)]
struct Ending {
    reason: SessionEnd,
    /// Whether the input was closed.
    input_closed: bool,
    /// When the CLI is ended with signals.
    until: Instant,
}

/// What the output loop must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionAction {
    /// Interrupt the turn.
    Interrupt,
    /// Close the input of the CLI.
    CloseInput,
    /// End the CLI with signals, because the session has ended.
    Stop,
    /// End the CLI with signals, because it does not end its turn.
    Unresponsive,
}

/// Members of `session-state`.
#[derive(Deserialize)]
struct StateFields {
    state: String,
    #[serde(default)]
    background: u32,
}

impl SessionState {
    /// A session that is being opened.
    pub(crate) const fn new(idle_limit: Duration, now: Instant) -> Self {
        Self {
            activity: Activity::Running,
            terminal: false,
            idle_limit,
            idle_since: now,
            interrupt: None,
            end: None,
            opened: false,
        }
    }

    /// A session in a terminal.
    pub(crate) fn in_terminal(idle_limit: Duration, now: Instant) -> Self {
        let activity = Activity::Idle { background: 0 };
        Self { activity, terminal: true, ..Self::new(idle_limit, now) }
    }

    /// The CLI has opened it. Returns whether it was not open before.
    pub(crate) const fn open(&mut self) -> bool {
        !std::mem::replace(&mut self.opened, true)
    }

    /// Something was shown on its terminal.
    pub(crate) const fn on_output(&mut self, now: Instant) {
        if self.terminal {
            self.idle_since = now;
        }
    }

    /// Takes the events about the state out of a step.
    pub(crate) fn take(&mut self, events: &mut Vec<Semantic>, now: Instant) {
        events.retain(|event| {
            if matches!(event, Semantic::TurnComplete(_)) {
                self.interrupt = None;
            }
            let Semantic::Other(other) = event else { return true };
            if other.kind != STATE {
                return true;
            }
            if let Ok(fields) = serde_json::from_str::<StateFields>(&other.fields) {
                self.set(fields.state == "idle", fields.background, now);
            }
            false
        });
    }

    fn set(&mut self, idle: bool, background: u32, now: Instant) {
        if idle {
            if !matches!(self.activity, Activity::Idle { .. }) {
                self.idle_since = now;
            }
            self.activity = Activity::Idle { background };
            self.interrupt = None;
        } else {
            self.activity = Activity::Running;
        }
    }

    /// A message of the user was passed on.
    pub(crate) const fn on_input(&mut self, now: Instant) {
        if self.terminal {
            self.idle_since = now;
            return;
        }
        self.activity = Activity::Running;
        if let Some(interrupt) = &mut self.interrupt {
            interrupt.again = None;
        }
    }

    /// Whether a turn runs.
    pub(crate) fn is_running(&self) -> bool {
        self.activity == Activity::Running
    }

    /// A turn is being interrupted.
    pub(crate) fn on_interrupt(&mut self, now: Instant) {
        let again = Some(now + INTERRUPT_AGAIN);
        self.interrupt.get_or_insert(Interrupt { again, until: now + INTERRUPT_LIMIT }).again = again;
    }

    /// Why the session ends, if its end has begun.
    pub(crate) fn ending(&self) -> Option<SessionEnd> {
        self.end.as_ref().map(|ending| ending.reason.clone())
    }

    /// Begins the end of the session. The first reason counts. Call [`advance`](Self::advance) afterwards.
    pub(crate) fn end(&mut self, reason: SessionEnd, now: Instant) {
        let until = now + INTERRUPT_LIMIT;
        self.end.get_or_insert(Ending { reason, input_closed: false, until });
    }

    /// When [`advance`](Self::advance) has something to do although nothing happens. While a user is asked, the session is
    /// not idle.
    pub(crate) fn deadline(&self, user_asked: bool) -> Option<Instant> {
        let idle = match (&self.end, self.activity) {
            (None, Activity::Idle { background: 0 }) if !user_asked => self.idle_since.checked_add(self.idle_limit),
            _ => None,
        };
        let ending = self.end.as_ref().map(|ending| ending.until);
        let interrupt = self
            .interrupt
            .as_ref()
            .map(|interrupt| interrupt.again.map_or(interrupt.until, |again| again.min(interrupt.until)));
        [idle, ending, interrupt].into_iter().flatten().min()
    }

    /// The next step: at a deadline, and whenever the state may have changed. `linger` is the time that the CLI has to end
    /// by itself after its input was closed.
    pub(crate) fn advance(&mut self, now: Instant, linger: Duration) -> Option<SessionAction> {
        let running = self.is_running();
        let interrupt_again = running
            && self.interrupt.as_ref().is_none_or(|interrupt| interrupt.again.is_some_and(|again| now >= again));
        let Some(ending) = &mut self.end else {
            let interrupt = self.interrupt.as_ref()?;
            if now >= interrupt.until {
                return Some(SessionAction::Unresponsive);
            }
            return interrupt_again.then_some(SessionAction::Interrupt);
        };
        let late = now >= ending.until;
        let close_input = match self.activity {
            Activity::Idle { background } => !ending.input_closed && (background == 0 || late),
            Activity::Running => false,
        };
        if close_input {
            ending.input_closed = true;
            ending.until = now + linger;
            return Some(SessionAction::CloseInput);
        }
        if late {
            return Some(SessionAction::Stop);
        }
        (interrupt_again && !ending.input_closed).then_some(SessionAction::Interrupt)
    }

    /// Whether the session has been idle for too long.
    pub(crate) fn is_idle_too_long(&self, now: Instant, user_asked: bool) -> bool {
        self.end.is_none()
            && !user_asked
            && self.activity == Activity::Idle { background: 0 }
            && now.saturating_duration_since(self.idle_since) >= self.idle_limit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_plugin_host::types::{OtherEvent, TurnEnd, TurnStatus};
    use serde_json::json;

    use super::*;

    const IDLE: Duration = Duration::from_secs(1800);
    const LINGER: Duration = Duration::from_secs(10);

    fn idle(session: &mut SessionState, background: u32, now: Instant) {
        let fields = json!({"state": "idle", "background": background}).to_string();
        let mut events = vec![Semantic::Other(OtherEvent { kind: STATE.to_owned(), fields })];
        session.take(&mut events, now);
        assert!(events.is_empty());
    }

    #[test]
    fn session_in_a_terminal_is_idle_while_nothing_is_typed_or_shown() {
        let now = Instant::now();
        let mut session = SessionState::in_terminal(IDLE, now);
        assert_eq!((session.is_running(), session.deadline(false)), (false, Some(now + IDLE)));
        session.on_output(now + Duration::from_secs(1));
        session.on_input(now + Duration::from_secs(2));
        assert_eq!(session.deadline(false), Some(now + Duration::from_secs(2) + IDLE));
        session.end(SessionEnd::Ended, now);
        assert_eq!(session.advance(now, LINGER), Some(SessionAction::CloseInput));
        assert_eq!(session.advance(now + LINGER, LINGER), Some(SessionAction::Stop));
    }

    #[test]
    fn session_is_idle_too_long_only_without_turn_input_background_task_and_open_approval() {
        let now = Instant::now();
        let mut session = SessionState::new(IDLE, now);
        let later = now + IDLE;
        assert_eq!((session.deadline(false), session.is_idle_too_long(later, false)), (None, false), "it is opening");
        idle(&mut session, 0, now);
        assert_eq!(session.deadline(false), Some(later));
        assert!(session.is_idle_too_long(later, false));
        assert_eq!((session.deadline(true), session.is_idle_too_long(later, true)), (None, false));
        idle(&mut session, 1, later);
        assert_eq!(session.deadline(false), None);
        session.on_input(now);
        assert!(session.is_running() && !session.is_idle_too_long(later, false));
        idle(&mut session, 0, later);
        assert_eq!(session.deadline(false), Some(later + IDLE), "counted from the end of the turn");
    }

    #[test]
    fn end_of_an_idle_session_closes_the_input_and_stops_a_cli_that_stays() {
        let now = Instant::now();
        let mut session = SessionState::new(IDLE, now);
        idle(&mut session, 0, now);
        session.end(SessionEnd::Ended, now);
        session.end(SessionEnd::Idle, now);
        assert_eq!(session.ending(), Some(SessionEnd::Ended), "the first reason counts");
        assert_eq!(session.advance(now, LINGER), Some(SessionAction::CloseInput));
        assert_eq!(session.advance(now, LINGER), None);
        assert_eq!(session.deadline(false), Some(now + LINGER));
        assert_eq!(session.advance(now + LINGER, LINGER), Some(SessionAction::Stop));
    }

    #[test]
    fn end_during_a_turn_interrupts_it_first() {
        let now = Instant::now();
        let mut session = SessionState::new(IDLE, now);
        session.end(SessionEnd::Ended, now);
        assert_eq!(session.advance(now, LINGER), Some(SessionAction::Interrupt));
        session.on_interrupt(now);
        assert_eq!(session.advance(now, LINGER), None);
        let later = now + INTERRUPT_AGAIN;
        assert_eq!(session.deadline(false), Some(later));
        assert_eq!(session.advance(later, LINGER), Some(SessionAction::Interrupt), "the turn may have begun just now");
        let mut hanging = SessionState::new(IDLE, now);
        hanging.end(SessionEnd::Ended, now);
        assert_eq!(hanging.advance(now + INTERRUPT_LIMIT, LINGER), Some(SessionAction::Stop));
        idle(&mut session, 1, now);
        assert_eq!(session.advance(now, LINGER), None, "a task in the background may end");
        assert_eq!(session.advance(now + INTERRUPT_LIMIT, LINGER), Some(SessionAction::CloseInput));
    }

    #[test]
    fn interrupted_turn_that_does_not_end_is_reported() {
        let now = Instant::now();
        let mut session = SessionState::new(IDLE, now);
        session.on_interrupt(now);
        assert_eq!(session.deadline(false), Some(now + INTERRUPT_AGAIN));
        assert_eq!(session.advance(now, LINGER), None);
        let again = now + INTERRUPT_AGAIN;
        assert_eq!(session.advance(again, LINGER), Some(SessionAction::Interrupt));
        session.on_interrupt(again);
        assert_eq!(session.advance(again, LINGER), None);
        assert_eq!(session.advance(now + INTERRUPT_LIMIT, LINGER), Some(SessionAction::Unresponsive));
        idle(&mut session, 0, now);
        assert_eq!(session.advance(now + INTERRUPT_LIMIT, LINGER), None);
    }

    #[test]
    fn message_after_an_interrupt_is_not_interrupted() {
        let now = Instant::now();
        let mut session = SessionState::new(IDLE, now);
        session.on_interrupt(now);
        session.on_input(now);
        assert_eq!(session.advance(now + INTERRUPT_AGAIN, LINGER), None);
        assert_eq!(session.deadline(false), Some(now + INTERRUPT_LIMIT), "the interrupted turn must still end");
        let end = TurnEnd { status: TurnStatus::Interrupted, text: None, message: None };
        session.take(&mut vec![Semantic::TurnComplete(end)], now);
        assert_eq!((session.deadline(false), session.advance(now + INTERRUPT_LIMIT, LINGER)), (None, None));
    }
}
