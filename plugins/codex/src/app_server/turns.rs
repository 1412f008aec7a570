//! The turns of the main thread, and messages that wait for one.

use std::collections::VecDeque;

use serde_json::Value;

/// The turn that is running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    #[default]
    Idle,
    /// codex has not sent the id yet.
    Starting,
    Running {
        id: String,
        /// Whether codex has reported its start, and not only accepted the request.
        started: bool,
    },
}

/// Why a turn failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TurnError {
    pub message: String,
    /// `codexErrorInfo`: a word, or an object with the word and the status.
    pub info: Value,
}

/// How the last turn ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum LastTurn {
    /// There was none.
    #[default]
    None,
    Completed,
    Interrupted,
    Failed(TurnError),
}

/// State of the turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub turn: Turn,
    pub last: LastTurn,
    /// Id of the last turn that has ended.
    pub ended: Option<String>,
    /// Messages of the user that wait until codex can take them.
    pub mailbox: VecDeque<String>,
    /// An interrupt that waits until codex reports the turn.
    pub interrupt: bool,
}

impl Turns {
    /// The id of the running turn, if codex has sent it.
    pub(super) fn id(&self) -> Option<&str> {
        match &self.turn {
            Turn::Running { id, .. } => Some(id),
            Turn::Idle | Turn::Starting => None,
        }
    }

    /// Whether this is the running turn. Its id may not be known yet.
    pub(super) fn is_current(&self, id: &str) -> bool {
        match &self.turn {
            Turn::Idle => false,
            Turn::Starting => self.ended.as_deref() != Some(id),
            Turn::Running { id: current, .. } => current == id || id.is_empty(),
        }
    }

    /// codex has accepted a turn, or reports its start.
    pub(super) fn began(&mut self, id: &str, started: bool) {
        if id.is_empty() || self.ended.as_deref() == Some(id) {
            return;
        }
        let was_started = matches!(&self.turn, Turn::Running { id: current, started: true } if current == id);
        self.turn = Turn::Running { id: id.to_owned(), started: started || was_started };
    }

    pub(super) fn end(&mut self, last: LastTurn) {
        if let Turn::Running { id, .. } = std::mem::take(&mut self.turn) {
            self.ended = Some(id);
        }
        self.last = last;
        self.interrupt = false;
    }
}
