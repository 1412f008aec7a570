//! A session that runs in a terminal, shown in the user's own terminal: keys go to the CLI, and what it shows is shown.

use std::time::Duration;

use tokio::task::JoinSet;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::format;
use super::super::output::{Output, complain};
use super::super::printer::{Level, Note, Printer};
use super::super::signals::{Request, Signals};
use super::super::terminal::{Keyboard, RawInput, TerminalSize};
use super::attach::History;
use ostler_client::{Client, ClientError, StreamItem};
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{ApiError, Event, EventType, RunId, RunRecord};

/// The key that leaves: Ctrl-\.
const LEAVE: u8 = 0x1c;
/// Bytes that may wait to be sent. More is left in the terminal's own queue.
const MAX_TYPED: usize = 64 << 10;
/// Time limit for the keys before the one that leaves.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Largest size that the host accepts.
const MAX_SIZE: usize = 1000;

/// Undoes what a full-screen program does to a terminal: its second screen, a hidden cursor, mouse reports, marked pastes,
/// special keypads, and colors.
const RESET: &str = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[0m";

/// Whether a session runs in a terminal.
pub(super) fn has_terminal(run: &RunRecord) -> bool {
    run.payload.get("terminal").is_some_and(|terminal| !terminal.is_null())
}

/// The size of a terminal, as the API takes it.
pub(super) fn api_size(size: TerminalSize) -> ostler_protocol::TerminalSize {
    let number = |value: usize| u16::try_from(value.clamp(1, MAX_SIZE)).unwrap_or(1);
    ostler_protocol::TerminalSize { rows: number(size.rows), columns: number(size.columns) }
}

/// How the view is left.
enum Left {
    /// The run has ended.
    Ended(Exit),
    /// The user leaves; the session stays open.
    Open(Exit),
    /// The user's terminal is gone.
    Gone,
}

/// What waits to be sent to the host. One call runs at a time, so that keys stay in their order.
struct Outbox {
    client: Client,
    run_id: RunId,
    typed: Typed,
    size: Option<TerminalSize>,
    call: JoinSet<Result<(), ClientError>>,
}

impl Outbox {
    /// Sends the rest, as long as the host takes it.
    async fn flush(&mut self) {
        let sent = async {
            self.send();
            while self.call.join_next().await.is_some() {
                self.send();
            }
        };
        let _ = tokio::time::timeout(FLUSH_LIMIT, sent).await;
    }

    /// Sends what waits, if no call runs.
    fn send(&mut self) {
        if !self.call.is_empty() {
            return;
        }
        let (client, run_id) = (self.client.clone(), self.run_id);
        if let Some(size) = self.size.take() {
            self.call.spawn(async move { client.resize_terminal(run_id, api_size(size)).await.map(drop) });
        } else if let Some(keys) = self.typed.take() {
            self.call.spawn(async move { client.send_keys(run_id, keys).await.map(drop) });
        }
    }
}

/// Bytes that were typed. The last character can be incomplete.
#[derive(Debug, Default)]
struct Typed(Vec<u8>);

impl Typed {
    fn has_room(&self) -> bool {
        self.0.len() < MAX_TYPED
    }

    /// Adds bytes. Returns whether the key to leave is among them; what follows it is dropped.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let leave = bytes.iter().position(|byte| *byte == LEAVE);
        self.0.extend_from_slice(bytes.get(..leave.unwrap_or(bytes.len())).unwrap_or_default());
        leave.is_some()
    }

    /// Takes the complete characters. Bytes that are not UTF-8 are dropped: the API has no place for them.
    fn take(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut rest = 0;
        for chunk in self.0.utf8_chunks() {
            text.push_str(chunk.valid());
            rest = chunk.invalid().len();
        }
        let incomplete = self.0.split_off(self.0.len() - rest);
        // A sequence can only be continued if it is at the end and shorter than a character.
        let continued = matches!(std::str::from_utf8(&incomplete), Err(error) if error.error_len().is_none());
        self.0 = if continued { incomplete } else { Vec::new() };
        Some(text).filter(|text| !text.is_empty())
    }
}

/// Shows the session until the user leaves or it ends.
pub(super) async fn run(
    context: &mut Context<'_>,
    client: &Client,
    run: &RunRecord,
    mut keyboard: Keyboard,
    signals: &mut Signals,
    history: History,
) -> Result<Exit, ApiError> {
    let run_id = run.summary.run_id;
    let id = format::short_id(run_id);
    complain(&format!("session {id} in a terminal; Ctrl-\\ leaves, and the session stays open"));
    let started = keyboard.start_raw();
    started.map_err(|error| ApiError::internal(format!("the terminal cannot be read: {error}")))?;
    let size = Some(keyboard.size());
    let call = JoinSet::new();
    let mut outbox = Outbox { client: client.clone(), run_id, typed: Typed::default(), size, call };
    let mut view = View { printer: Printer::new(id.clone()), notes: Vec::new() };
    let left = show(&mut view, &mut context.out, &mut outbox, &mut keyboard, signals, history).await;
    let closed = if matches!(left, Ok(Left::Gone)) { Ok(()) } else { context.out.write(RESET) };
    keyboard.stop();
    closed?;
    let left = left?;
    if !matches!(left, Left::Gone) {
        context.out.write("\n")?;
    }
    for note in view.notes.iter().filter(|note| !matches!(note.level, Level::Detail)) {
        complain(&note.text);
    }
    Ok(match left {
        Left::Ended(exit) => {
            complain(&format!("session {id} has ended"));
            exit
        }
        Left::Open(exit) => {
            complain(&format!(
                "left session {id}, which stays open; `ostler session attach {id}` comes back, \
                 `ostler session end {id}` ends it"
            ));
            exit
        }
        Left::Gone => Exit::Detached,
    })
}

/// What is shown.
struct View {
    printer: Printer,
    /// Shown after the terminal was restored.
    notes: Vec<Note>,
}

impl View {
    /// Shows an event. Returns the exit code if the run has ended.
    fn event(&mut self, out: &mut Output, event: &Event) -> Result<Option<Exit>, ApiError> {
        let step = self.printer.take(event);
        if event.kind == EventType::ChunkStdout {
            out.write_bytes(&step.answer)?;
        }
        self.notes.extend(step.notes);
        Ok(step.end)
    }
}

async fn show(
    view: &mut View,
    out: &mut Output,
    outbox: &mut Outbox,
    keyboard: &mut Keyboard,
    signals: &mut Signals,
    history: History,
) -> Result<Left, ApiError> {
    for event in &history.events {
        let _ = view.event(out, event)?;
    }
    view.notes.clear();
    let params = SubscribeParams { run_id: Some(outbox.run_id), after: history.after, ..SubscribeParams::default() };
    let client = outbox.client.clone();
    let mut events = client.follow(params);
    loop {
        outbox.send();
        tokio::select! {
            biased;
            request = signals.next_kind() => match request {
                Request::Terminate | Request::Interrupt => return Ok(Left::Open(Exit::Canceled)),
            },
            Some(done) = outbox.call.join_next(), if !outbox.call.is_empty() => match done {
                Ok(Err(ClientError::Api(error))) => {
                    // Shown later: the screen belongs to the CLI. Each key can have the same error.
                    let note = Note { level: Level::Warning, text: error.message };
                    if !view.notes.contains(&note) {
                        view.notes.push(note);
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(())) | Err(_) => {}
            },
            input = keyboard.next_raw(), if outbox.typed.has_room() => match input {
                RawInput::Gone => return Ok(Left::Gone),
                RawInput::Resized => outbox.size = Some(keyboard.size()),
                RawInput::Bytes(bytes) => {
                    if outbox.typed.push(&bytes) {
                        outbox.flush().await;
                        return Ok(Left::Open(Exit::Detached));
                    }
                }
                // Ctrl-Z is a key of the CLI, and another program has sent the signal.
                RawInput::Suspended => {}
            },
            item = events.next() => match item {
                Ok(StreamItem::Event(event)) => {
                    if let Some(exit) = view.event(out, &event)? {
                        return Ok(Left::Ended(exit));
                    }
                }
                // What was missed follows when the connection is back.
                Ok(StreamItem::Interrupted(_)) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn typed_character_in_two_reads_is_sent_once_and_other_bytes_are_dropped() {
        let mut typed = Typed::default();
        assert!(!typed.push(b"a\xc3"));
        assert_eq!(typed.take().as_deref(), Some("a"));
        assert!(!typed.push(b"\xa4"));
        assert_eq!(typed.take().as_deref(), Some("ä"));
        assert!(!typed.push(b"\xff\xfeb"));
        assert_eq!(typed.take().as_deref(), Some("b"));
        assert_eq!(typed.take(), None);
    }

    #[test]
    fn ctrl_backslash_leaves_after_what_was_typed_before_it() {
        let mut typed = Typed::default();
        assert!(typed.push(b"ls\r\x1cgone"));
        assert_eq!(typed.take().as_deref(), Some("ls\r"));
    }

    #[test]
    fn size_is_what_the_host_accepts() {
        let size = api_size(TerminalSize { columns: 5000, rows: 0 });
        assert_eq!((size.columns, size.rows), (1000, 1));
    }
}
