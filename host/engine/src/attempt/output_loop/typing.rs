//! Input for a terminal: keys, and messages that are typed.

use std::time::{Duration, Instant};

use super::OutputLoop;
use crate::attempt::terminal_output::runner_size;
use crate::session::command::Client;
use ostler_protocol::{ApiError, ErrorKind, Payload, SessionInput, TerminalSize};

/// The key that sends a message.
const ENTER: u8 = b'\r';
/// The key that interrupts what runs in a terminal.
const CTRL_C: &str = "\u{3}";

/// Pause between a message and the key that sends it. Programs take what comes faster for a paste, in which the key begins a new
/// line: codex does up to 120 ms after the last character.
const ENTER_PAUSE: Duration = Duration::from_millis(200);
/// Keys are recorded together for this time.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// What is being typed.
#[derive(Debug, Default)]
pub(super) struct Typing {
    /// When the key that sends the message is due.
    enter_at: Option<Instant>,
    /// Keys that were sent and not recorded.
    keys: Option<TypedKeys>,
}

#[derive(Debug)]
struct TypedKeys {
    bytes: u64,
    actor: String,
    since: Instant,
}

impl Typing {
    /// When something is due although nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let record = self.keys.as_ref().map(|keys| keys.since + RECORD_INTERVAL);
        [self.enter_at, record].into_iter().flatten().min()
    }

    /// Splits what a plugin types: the key that sends a message follows later.
    fn hold_enter(&mut self, bytes: &mut Vec<u8>, now: Instant) {
        if bytes.len() > 1 && bytes.last() == Some(&ENTER) {
            bytes.pop();
            self.enter_at = Some(now + ENTER_PAUSE);
        }
    }

    /// Adds keys. Returns the record of earlier ones, if another client has typed them.
    fn add(&mut self, bytes: u64, client: &Client, now: Instant) -> Option<SessionInput> {
        let other = self.keys.as_ref().is_some_and(|keys| keys.actor != client.actor);
        let earlier = if other { self.record() } else { None };
        let keys = self.keys.get_or_insert_with(|| TypedKeys { bytes: 0, actor: client.actor.clone(), since: now });
        keys.bytes += bytes;
        earlier
    }

    /// The record of the keys so far. Not the keys themselves: a password that is not shown may be among them.
    fn record(&mut self) -> Option<SessionInput> {
        let keys = self.keys.take()?;
        Some(SessionInput { bytes: keys.bytes, text: String::new(), keys: true, actor: keys.actor })
    }
}

impl OutputLoop<'_> {
    /// Types keys into the terminal. The policies judge messages, and are not asked about single keys.
    pub(super) fn on_keys(&mut self, keys: &str, client: &Client) -> Result<u64, ApiError> {
        self.check_session()?;
        self.check_terminal()?;
        self.check_space(keys.len())?;
        self.type_keys(keys)?;
        let (bytes, now) = (keys.len() as u64, Instant::now());
        let earlier = self.typing.add(bytes, client, now);
        self.record_keys(earlier);
        if let Some(session) = &mut self.session {
            session.on_input(now);
        }
        Ok(bytes)
    }

    /// Types Ctrl-C. If earlier input was not read, the key would wait behind it, and the signal is sent instead.
    pub(super) fn interrupt_terminal(&mut self) -> Result<(), ApiError> {
        if self.child.input_waiting() > 0 && self.child.interrupt_terminal() {
            return Ok(());
        }
        self.type_keys(CTRL_C)
    }

    pub(super) fn on_resize(&mut self, size: TerminalSize) -> Result<(), ApiError> {
        self.check_session()?;
        self.check_terminal()?;
        let resized = self.child.resize(runner_size(size));
        resized.map_err(|error| ApiError::new(ErrorKind::Conflict, error.to_string()))
    }

    /// What a plugin writes, without what is due later.
    pub(super) fn typed(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.terminal.is_some() && !bytes.is_empty() {
            self.press_enter();
            self.typing.hold_enter(&mut bytes, Instant::now());
        }
        bytes
    }

    /// Does what is due.
    pub(super) fn on_typing(&mut self, now: Instant) {
        if self.typing.enter_at.is_some_and(|due| now >= due) {
            self.press_enter();
        }
        if self.typing.keys.as_ref().is_some_and(|keys| now >= keys.since + RECORD_INTERVAL) {
            self.finish_record();
        }
    }

    /// Records the keys so far.
    pub(super) fn finish_record(&mut self) {
        let record = self.typing.record();
        self.record_keys(record);
    }

    fn record_keys(&mut self, record: Option<SessionInput>) {
        if let Some(record) = record {
            self.sink.store_within_quota(self.recorder.event(&Payload::SessionInputAccepted(record)));
        }
    }

    fn type_keys(&mut self, keys: &str) -> Result<(), ApiError> {
        self.press_enter();
        let written = self.child.write(keys.as_bytes().to_vec());
        written.map_err(|refused| ApiError::new(ErrorKind::Conflict, format!("nothing can be typed: {refused}")))
    }

    /// Sends the message that was typed before.
    fn press_enter(&mut self) {
        if self.typing.enter_at.take().is_some() {
            // If the CLI has ended, nobody reads it.
            let _ = self.child.write(vec![ENTER]);
        }
    }

    fn check_terminal(&self) -> Result<(), ApiError> {
        if self.terminal.is_some() {
            return Ok(());
        }
        let message = "the session has no terminal";
        let hint = "set `terminal` in the payload of `start_interactive_session`";
        Err(ApiError::new(ErrorKind::Conflict, message).at("/runId").hint(hint))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn client(actor: &str) -> Client {
        Client { actor: actor.to_owned(), interface: "rpc".to_owned() }
    }

    #[test]
    fn keys_of_one_client_are_recorded_together_and_those_of_another_separately() {
        let now = Instant::now();
        let mut typing = Typing::default();
        assert_eq!(typing.add(1, &client("a"), now), None);
        assert_eq!(typing.add(2, &client("a"), now + RECORD_INTERVAL / 2), None);
        assert_eq!(typing.due(), Some(now + RECORD_INTERVAL));
        let earlier = typing.add(5, &client("b"), now).unwrap();
        assert_eq!((earlier.bytes, earlier.actor.as_str(), earlier.keys), (3, "a", true));
        assert_eq!(typing.record().unwrap().bytes, 5);
        assert_eq!((typing.record(), typing.due()), (None, None));
    }

    #[test]
    fn enter_follows_a_message_later_and_a_single_key_at_once() {
        let now = Instant::now();
        let mut typing = Typing::default();
        let mut message = b"go on\r".to_vec();
        typing.hold_enter(&mut message, now);
        assert_eq!((message.as_slice(), typing.due()), (&b"go on"[..], Some(now + ENTER_PAUSE)));
        let mut typing = Typing::default();
        let mut key = b"\r".to_vec();
        typing.hold_enter(&mut key, now);
        assert_eq!((key.as_slice(), typing.due()), (&b"\r"[..], None));
    }
}
