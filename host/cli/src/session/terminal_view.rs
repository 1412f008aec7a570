//! A session that runs in a terminal, shown in the user's own terminal: keys go to the CLI, and what it shows is shown.

use std::collections::VecDeque;
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
use ostler_protocol::{ApiError, Event, EventType, RunId, RunRecord, control_sequence_length};

/// The key that leaves, Ctrl-\: as a byte, and as the sequences of terminals in which a CLI has enabled other codes for
/// keys (kitty's protocol with and without the kind of event, and xterm's `modifyOtherKeys`).
const LEAVE: [&[u8]; 4] = [b"\x1c", b"\x1b[92;5u", b"\x1b[92;5:1u", b"\x1b[27;5;92~"];
/// How a terminal marks a paste.
const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
/// Bytes that may wait to be sent. More is discarded: the host does not answer.
const MAX_TYPED: usize = 4 << 20;
/// Bytes of a call with keys.
const MAX_CALL: usize = 256 << 10;
/// Bytes of earlier output that are shown.
const MAX_HISTORY: usize = 64 << 10;
/// Time limit for the keys before the one that leaves.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Largest size that the host accepts.
const MAX_SIZE: usize = 1000;

/// Undoes what full-screen programs do to a terminal: mouse and focus reports, marked pastes, codes for keys, synchronized
/// updates, no line wrap, inserting, inverse video, another cursor, another character set, and colors. [`LEAVE_SCREEN`] and
/// [`WHOLE_SCREEN`] are for those with a screen of their own.
const RESET: &str = "\x1b[?2026l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1007l\x1b[?1015l\
    \x1b[?2004l\x1b[?2031l\x1b[<u\x1b[>4;0m\x1b[?1l\x1b>\x1b[?5l\x1b[?6l\x1b[?7h\x1b[4l\x0f\x1b[?25h\x1b[0 q\x1b(B\x1b[0m";
/// The sequence with which programs switch to their second screen, and the one that leaves it.
const ENTER_SCREEN: &str = "\x1b[?1049h";
const LEAVE_SCREEN: &str = "\x1b[?1049l";
/// Resets the scroll region. It also moves the cursor, so it is only for programs with a screen of their own.
const WHOLE_SCREEN: &str = "\x1b[r";

/// Whether a session runs in a terminal.
pub(super) fn has_terminal(run: &RunRecord) -> bool {
    run.payload.get("terminal").is_some_and(|terminal| !terminal.is_null())
}

/// The size of a terminal, as the API takes it.
pub(super) fn api_size(size: TerminalSize) -> ostler_protocol::TerminalSize {
    let number = |value: usize| u16::try_from(value.clamp(1, MAX_SIZE)).unwrap_or(1);
    ostler_protocol::TerminalSize { rows: number(size.rows), columns: number(size.columns) }
}

/// How the view ends.
enum ViewEnd {
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
    /// Sizes to set, one after the other.
    sizes: VecDeque<TerminalSize>,
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
        if let Some(size) = self.sizes.pop_front() {
            self.call.spawn(async move { client.resize_terminal(run_id, api_size(size)).await.map(drop) });
        } else if let Some(keys) = self.typed.take() {
            self.call.spawn(async move { client.send_keys(run_id, keys).await.map(drop) });
        }
    }
}

/// Bytes that were typed. The last character can be incomplete.
#[derive(Debug, Default)]
struct Typed {
    bytes: Vec<u8>,
    /// A paste has begun that the terminal marks, and has not ended.
    in_paste: bool,
}

impl Typed {
    /// Adds bytes. Returns whether the key to leave is among them; what follows it is dropped. In a marked paste, there are no
    /// keys.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let mut at = 0;
        let mut leave = None;
        while leave.is_none() {
            let rest = bytes.get(at..).unwrap_or_default();
            let mark = if self.in_paste { PASTE_END } else { PASTE_START };
            let mark = memmem(rest, mark).map(|found| (found, mark.len()));
            let key = LEAVE.iter().filter_map(|key| memmem(rest, key)).min().filter(|_| !self.in_paste);
            match (mark, key) {
                (Some((found, length)), key) if key.is_none_or(|key| found < key) => {
                    self.in_paste = !self.in_paste;
                    at += found + length;
                }
                (_, Some(key)) => leave = Some(at + key),
                _ => break,
            }
        }
        let typed = bytes.get(..leave.unwrap_or(bytes.len())).unwrap_or_default();
        if self.bytes.len() + typed.len() <= MAX_TYPED {
            self.bytes.extend_from_slice(typed);
        }
        leave.is_some()
    }

    /// Takes the complete characters. Bytes that are not UTF-8 are dropped: the API has no place for them.
    fn take(&mut self) -> Option<String> {
        let later = self.bytes.split_off(self.bytes.len().min(MAX_CALL));
        let mut text = String::new();
        let mut rest = 0;
        for chunk in self.bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            rest = chunk.invalid().len();
        }
        let incomplete = self.bytes.split_off(self.bytes.len() - rest);
        // A sequence can only be continued if it is at the end and shorter than a character.
        let continued = matches!(std::str::from_utf8(&incomplete), Err(error) if error.error_len().is_none());
        self.bytes = if continued { incomplete } else { Vec::new() };
        self.bytes.extend(later);
        Some(text).filter(|text| !text.is_empty())
    }
}

/// Where a text begins in another.
fn memmem(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// Earlier output without the sequences that a terminal answers: the answers would be typed into the CLI.
fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\u{1b}', '\u{5}']) {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let (sequence, after) = from.split_at(control_sequence_length(from));
        if !is_query(sequence) {
            out.push_str(sequence);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a terminal answers this sequence.
fn is_query(sequence: &str) -> bool {
    if sequence == "\u{5}" || sequence.starts_with("\u{1b}P") || sequence == "\u{1b}Z" {
        return true;
    }
    if sequence.starts_with("\u{1b}]") {
        return sequence.contains('?');
    }
    let Some(parameters) = sequence.strip_prefix("\u{1b}[") else { return false };
    match parameters.as_bytes().last() {
        // Device status, device attributes, modes, key codes, window reports, terminal version.
        Some(b'n' | b'c' | b't' | b'x' | b'q') => !parameters.ends_with(" q"),
        Some(b'p') => parameters.contains('$'),
        Some(b'u') => parameters.starts_with('?'),
        _ => false,
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
    // A size that differs makes a program with a screen of its own draw it again.
    let size = keyboard.size();
    let other = TerminalSize { rows: size.rows.saturating_sub(1), ..size };
    let sizes = [other, size].into();
    let call = JoinSet::new();
    let mut outbox = Outbox { client: client.clone(), run_id, typed: Typed::default(), sizes, call };
    let mut view = View { printer: Printer::new(id.clone()), own_screen: false, notes: Vec::new() };
    let left = show(&mut view, &mut context.out, &mut outbox, &mut keyboard, signals, history).await;
    let closed = if matches!(left, Ok(ViewEnd::Gone)) { Ok(()) } else { view.close(&mut context.out) };
    keyboard.stop();
    closed?;
    let left = left?;
    if !matches!(left, ViewEnd::Gone) {
        context.out.write("\n")?;
    }
    for note in view.notes.iter().filter(|note| !matches!(note.level, Level::Detail)) {
        complain(&note.text);
    }
    Ok(match left {
        ViewEnd::Ended(exit) => {
            complain(&format!("session {id} has ended"));
            exit
        }
        ViewEnd::Open(exit) => {
            complain(&format!(
                "left session {id}, which stays open; `ostler session attach {id}` comes back, \
                 `ostler session end {id}` ends it"
            ));
            exit
        }
        ViewEnd::Gone => Exit::Detached,
    })
}

/// What is shown.
struct View {
    /// For what is said about the run.
    printer: Printer,
    /// The CLI uses the second screen of the terminal.
    own_screen: bool,
    /// Shown after the terminal was restored.
    notes: Vec<Note>,
}

impl View {
    /// Shows the end of the earlier output.
    fn history(&mut self, out: &mut Output, events: &[Event]) -> Result<(), ApiError> {
        let shown: String = events.iter().filter_map(output_of).collect();
        self.note_screen(&shown);
        let start = shown.ceil_char_boundary(shown.len().saturating_sub(MAX_HISTORY));
        // Not from the middle of a control sequence.
        let tail = shown.get(start..).unwrap_or_default();
        let tail = if start == 0 { tail } else { tail.split_once('\n').map_or("", |(_, tail)| tail) };
        out.write(&without_queries(tail))
    }

    /// Shows an event. Returns the exit code if the run has ended.
    fn event(&mut self, out: &mut Output, event: &Event) -> Result<Option<Exit>, ApiError> {
        if let Some(shown) = output_of(event) {
            self.note_screen(shown);
            out.write(shown)?;
            return Ok(None);
        }
        let step = self.printer.take(event);
        self.notes.extend(step.notes);
        Ok(step.end)
    }

    fn note_screen(&mut self, shown: &str) {
        match (shown.rfind(ENTER_SCREEN), shown.rfind(LEAVE_SCREEN)) {
            (None, None) => {}
            (enter, leave) => self.own_screen = enter > leave,
        }
    }

    /// Restores the terminal.
    fn close(&self, out: &mut Output) -> Result<(), ApiError> {
        let screen = if self.own_screen { [WHOLE_SCREEN, LEAVE_SCREEN] } else { [""; 2] };
        out.write(&[screen.concat().as_str(), RESET].concat())
    }
}

/// What the terminal shows, according to an event.
fn output_of(event: &Event) -> Option<&str> {
    let text = || event.payload.get("text")?.as_str();
    if event.kind == EventType::ChunkStdout { text() } else { None }
}

async fn show(
    view: &mut View,
    out: &mut Output,
    outbox: &mut Outbox,
    keyboard: &mut Keyboard,
    signals: &mut Signals,
    history: History,
) -> Result<ViewEnd, ApiError> {
    view.history(out, &history.events)?;
    let params = SubscribeParams { run_id: Some(outbox.run_id), after: history.after, ..SubscribeParams::default() };
    let client = outbox.client.clone();
    let mut events = client.follow(params);
    loop {
        outbox.send();
        tokio::select! {
            biased;
            request = signals.next_kind() => match request {
                Request::Terminate | Request::Interrupt => return Ok(ViewEnd::Open(Exit::Canceled)),
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
            input = keyboard.next_raw() => match input {
                RawInput::Gone => return Ok(ViewEnd::Gone),
                RawInput::Resized => outbox.sizes = [keyboard.size()].into(),
                RawInput::Bytes(bytes) => {
                    if outbox.typed.push(&bytes) {
                        outbox.flush().await;
                        return Ok(ViewEnd::Open(Exit::Detached));
                    }
                }
                // Ctrl-Z is a key of the CLI, and another program has sent the signal.
                RawInput::Suspended => {}
            },
            item = events.next() => match item {
                Ok(StreamItem::Event(event)) => {
                    if let Some(exit) = view.event(out, &event)? {
                        return Ok(ViewEnd::Ended(exit));
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
    fn key_to_leave_is_known_in_the_codes_of_other_protocols() {
        for key in LEAVE {
            let mut typed = Typed::default();
            assert!(typed.push(&[b"a", key, b"b"].concat()), "{key:?}");
            assert_eq!(typed.take().as_deref(), Some("a"));
        }
        assert!(!Typed::default().push(b"\x1b[92;2u"));
    }

    #[test]
    fn key_to_leave_in_a_marked_paste_is_text() {
        let mut typed = Typed::default();
        assert!(!typed.push(b"\x1b[200~a\x1cb"));
        assert!(!typed.push(b"\x1c\x1b[201~"));
        assert_eq!(typed.take().as_deref(), Some("\x1b[200~a\x1cb\x1c\x1b[201~"));
        assert!(typed.push(b"\x1c"));
    }

    #[test]
    fn long_paste_is_sent_in_calls_of_bounded_size() {
        let mut typed = Typed::default();
        typed.push(&vec![b'x'; MAX_CALL + 1]);
        assert_eq!(typed.take().map(|text| text.len()), Some(MAX_CALL));
        assert_eq!(typed.take().map(|text| text.len()), Some(1));
    }

    #[test]
    fn earlier_output_is_shown_without_queries() {
        let asked = "a\u{1b}[6n\u{1b}[c\u{1b}[>0q\u{1b}[?u\u{1b}[?1007$p\u{1b}]11;?\u{7}\u{1b}]10;?\u{1b}\\\u{1b}P+q\u{1b}\\\u{5}b";
        assert_eq!(without_queries(asked), "ab");
        let kept = "\u{1b}[2J\u{1b}[1;31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{1b}[>1u\u{1b}[4 q\u{1b}(B\u{1b}[?25h";
        assert_eq!(without_queries(kept), kept);
        assert_eq!(without_queries("cut \u{1b}[3"), "cut \u{1b}[3");
    }

    #[test]
    fn second_screen_is_left_only_if_the_cli_uses_it() {
        let mut view = View { printer: Printer::new(String::new()), own_screen: false, notes: Vec::new() };
        view.note_screen("\u{1b}[?1049hdrawn");
        view.note_screen("more");
        assert!(view.own_screen);
        view.note_screen("\u{1b}[?1049h\u{1b}[?1049l");
        assert!(!view.own_screen);
    }

    #[test]
    fn size_is_what_the_host_accepts() {
        let size = api_size(TerminalSize { columns: 5000, rows: 0 });
        assert_eq!((size.columns, size.rows), (1000, 1));
    }
}
