//! What claude is doing: turns, messages that it has not begun with, and how a session ends.

use ostler_plugin::provider::{ExitStatus, Failure, FailureKind, Semantic, TurnEnd, TurnStatus};
use ostler_plugin::vocabulary::failures;
use ostler_provider_kit::duplex::session_state;
use ostler_provider_kit::failure::failure;

use crate::transcript::PrintTranscript;

/// Maximum number of messages whose fate is followed.
const MESSAGES: usize = 1024;

/// A message that was sent and is not known to be over.
#[derive(Debug)]
struct Sent {
    uuid: String,
    /// Whether claude has read it.
    seen: bool,
}

/// The state of the turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether claude reports its state itself. Otherwise the turns tell.
    speaks: bool,
    busy: bool,
    /// A background task has ended between two turns, after which claude begins a turn by itself.
    waking: bool,
    /// Messages can be queued, or become part of a turn that is already running.
    sent: Vec<Sent>,
    reported: Option<(bool, usize)>,
    results: u64,
    /// The last turn did not complete.
    failed: bool,
    /// The text of the last turn that has one.
    text: Option<String>,
    /// Number of the model's turns in all turns.
    model_turns: f64,
}

impl Turns {
    /// Whether a turn is running, or will run without another message.
    pub(super) fn running(&self) -> bool {
        self.busy || self.waking || !self.sent.is_empty()
    }

    /// Whether nothing is running, and claude is expected to begin a turn by itself.
    pub(super) fn waking(&self) -> bool {
        self.waking && !self.busy && self.sent.is_empty()
    }

    /// A background task has ended.
    pub(super) fn task_ended(&mut self, status: &str) {
        // One that was stopped starts no turn.
        self.waking |= self.speaks && !self.busy && matches!(status, "completed" | "failed");
    }

    pub(super) fn has_result(&self) -> bool {
        self.results > 0
    }

    /// The text of the session.
    pub(super) fn text(&self) -> String {
        self.text.clone().unwrap_or_default()
    }

    /// A message was sent.
    pub(super) fn sent(&mut self, uuid: String) {
        if self.sent.len() < MESSAGES {
            self.sent.push(Sent { uuid, seen: false });
        }
    }

    /// claude reports what becomes of a message.
    pub(super) fn lifecycle(&mut self, uuid: &str, state: &str) {
        match state {
            "completed" | "cancelled" => self.sent.retain(|sent| sent.uuid != uuid),
            _ => self.sent.iter_mut().filter(|sent| sent.uuid == uuid).for_each(|sent| sent.seen = true),
        }
    }

    /// claude reports its state.
    pub(super) fn state(&mut self, state: &str) {
        self.speaks = true;
        self.waking = false;
        self.busy = state != "idle";
        if !self.busy {
            // Its queue is empty.
            self.sent.retain(|sent| !sent.seen);
        }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self) {
        if !self.speaks {
            self.busy = true;
        }
    }

    /// Takes from the events of a line what it tells about a turn that has ended.
    pub(super) fn result<'a>(&mut self, events: impl Iterator<Item = &'a mut Semantic>) {
        for event in events {
            match event {
                Semantic::TurnComplete(end) => self.ended(end),
                // The counters are totals, except for this one.
                Semantic::Usage(usage) => {
                    for counter in usage.others.iter_mut().filter(|counter| counter.name == "turns") {
                        self.model_turns += counter.value;
                        counter.value = self.model_turns;
                    }
                }
                _ => {}
            }
        }
    }

    fn ended(&mut self, end: &TurnEnd) {
        self.results += 1;
        self.failed = end.status != TurnStatus::Completed;
        if end.text.is_some() {
            self.text.clone_from(&end.text);
        }
        if !self.speaks {
            // A version that does not report its state does not report the fate of messages either.
            self.busy = false;
            self.sent.clear();
        }
    }

    /// The event for the state, if it has changed.
    pub(super) fn changed(&mut self, background: usize) -> Option<Semantic> {
        let now = (self.running(), background);
        let changed = self.reported.replace(now) != Some(now);
        changed.then(|| session_state(now.0, now.1))
    }

    /// Whether a session ended between two turns. claude exits with code 1 if the last turn was interrupted or failed.
    pub(super) fn ended_in_order(&self, exit: &ExitStatus) -> bool {
        let code = match exit.code {
            None | Some(0) => true,
            Some(code) => code == 1 && self.failed,
        };
        code && exit.signal.is_none() && !self.running()
    }
}

impl PrintTranscript {
    /// The failure of an attempt that ended in the middle of a turn.
    pub(super) fn broken_off(&self, exit: &ExitStatus) -> Failure {
        let how = match (exit.code, exit.signal) {
            (_, Some(signal)) => format!("was ended by signal {signal}"),
            (Some(code), None) => format!("exited with code {code}"),
            (None, None) => "ended".to_owned(),
        };
        let last_line = self.last_line().map_or_else(String::new, |line| format!(": {line}"));
        let message = format!("claude {how} in the middle of a turn{last_line}");
        failure(FailureKind::Incomplete, failures::ENDED_EARLY, &message, None)
    }
}
