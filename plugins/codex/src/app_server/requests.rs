//! The requests to codex that it has not answered yet.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::output::Output;

/// Time that codex has to start.
const INITIALIZE_MS: u64 = 30_000;
/// Time that codex has to load a thread. Servers that the run requires start in it.
const THREAD_MS: u64 = 60_000;
const TURN_MS: u64 = 60_000;
const INTERRUPT_MS: u64 = 5_000;
const OTHER_MS: u64 = 30_000;

/// A request, with what is needed when the answer arrives.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Initialize,
    /// The newest thread of the folder.
    List,
    Start,
    Resume,
    Turn,
    /// A message of the user during a turn. It is kept: if the turn has just ended, it starts the next one.
    Steer(String),
    /// The reason of a denial. It has no use once the turn has ended.
    Reason,
    Interrupt,
    /// The commands that still run, to end those of these items.
    Terminals(Vec<String>),
    Terminate,
}

impl Request {
    const fn method(&self) -> (&'static str, u64) {
        match self {
            Self::Initialize => ("initialize", INITIALIZE_MS),
            Self::List => ("thread/list", THREAD_MS),
            Self::Start => ("thread/start", THREAD_MS),
            Self::Resume => ("thread/resume", THREAD_MS),
            Self::Turn => ("turn/start", TURN_MS),
            Self::Steer(_) | Self::Reason => ("turn/steer", OTHER_MS),
            Self::Interrupt => ("turn/interrupt", INTERRUPT_MS),
            Self::Terminals(_) => ("thread/backgroundTerminals/list", OTHER_MS),
            Self::Terminate => ("thread/backgroundTerminals/terminate", OTHER_MS),
        }
    }
}

/// The open requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: u64,
    open: BTreeMap<u64, Request>,
}

impl Requests {
    pub(super) fn send(&mut self, request: Request, params: &Value, out: &mut Output) {
        self.last += 1;
        let (method, timeout_ms) = request.method();
        out.request(self.last, method, params, timeout_ms);
        self.open.insert(self.last, request);
    }

    /// The request that this is the answer to.
    pub(super) fn take(&mut self, id: &Value) -> Option<(u64, Request)> {
        let id = id.as_u64().or_else(|| id.as_str()?.parse().ok())?;
        self.open.remove(&id).map(|request| (id, request))
    }

    pub(super) fn has(&self, matches: impl Fn(&Request) -> bool) -> bool {
        self.open.values().any(matches)
    }
}

/// A text as input of a turn.
pub(super) fn text_input(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}
