//! The host's side of a conversation: reads its lines on a thread of its own.
//!
//! | `type` | fields | answer |
//! |---|---|---|
//! | `hello` | `request` | `answer`; always the first line |
//! | `prompt` | `text` | a turn, after the one that is running |
//! | `interrupt` | `request` | `answer`; the running turn ends with status `interrupted` |
//! | `decision` | `ask`, `allow`, `message`, `input`, `stopTurn` | ignored for a question that is not open |
//! | `refused` | `request`, `message` | none: the host does not know the request |
//!
//! A line that is none of these ends the stand-in with exit code 2, so that a mistake of the host is noticed.

use super::super::{print_error, protocol::Out, shell::Running};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, BufRead},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How the stand-in answers the handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum Handshake {
    #[default]
    Answer,
    None,
    Garbage,
}

/// A line of the host.
enum Message {
    Hello { request: String },
    Prompt { text: String },
    Interrupt { request: String },
    Reply { id: String, reply: Reply },
}

impl Message {
    fn read(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |name: &str| match value.get(name).and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("it has no text `{name}`")),
        };
        let flag = |name: &str| value.get(name).and_then(Value::as_bool);
        Ok(match text("type")?.as_str() {
            "hello" => Self::Hello { request: text("request")? },
            "prompt" => Self::Prompt { text: text("text")? },
            "interrupt" => Self::Interrupt { request: text("request")? },
            "decision" => {
                let reply = match flag("allow").ok_or("it has no `allow`")? {
                    true => Reply::Allowed(value.get("input").filter(|input| !input.is_null()).cloned()),
                    false => Reply::Denied {
                        message: text("message").unwrap_or_default(),
                        stop: flag("stopTurn").unwrap_or_default(),
                    },
                };
                Self::Reply { id: text("ask")?, reply }
            }
            "refused" => {
                Self::Reply { id: text("request")?, reply: Reply::Denied { message: text("message")?, stop: false } }
            }
            other => return Err(format!("its type is `{other}`")),
        })
    }
}

/// The answer to a question or a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Allowed(Option<Value>),
    Denied {
        message: String,
        stop: bool,
    },
    /// Nobody answered in time.
    Late,
}

/// What the stand-in does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Prompt(String),
    /// A background task has ended, with the text that it was given.
    Ended(String),
    /// The host has closed its side, and nothing is left to do.
    Leave,
}

#[derive(Default)]
struct State {
    greeted: bool,
    prompts: VecDeque<String>,
    replies: HashMap<String, Reply>,
    /// Questions without an answer.
    open: Vec<String>,
    /// Whether a turn is running.
    turn: bool,
    interrupted: bool,
    deaf: bool,
    closed: bool,
    background: usize,
    ended: VecDeque<String>,
    /// The last reported state.
    reported: Option<(bool, usize)>,
}

/// The connection to the host.
pub(in super::super) struct Link {
    state: Mutex<State>,
    changed: Condvar,
    out: Out,
    running: Running,
}

/// The error that ends a turn.
pub(in super::super) fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the turn is interrupted")
}

impl Link {
    /// Starts to read the host's lines.
    pub(in super::super) fn start(
        out: Out,
        running: Running,
        handshake: Handshake,
        input: impl BufRead + Send + 'static,
    ) -> Arc<Self> {
        let link = Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), out, running });
        let reader = Arc::clone(&link);
        thread::spawn(move || reader.listen(input, handshake));
        link
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn listen(&self, mut input: impl BufRead, handshake: Handshake) {
        let mut line = String::new();
        loop {
            line.clear();
            match input.read_line(&mut line) {
                Ok(0) => break,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => match Message::read(&line) {
                    Ok(message) => self.receive(message, handshake),
                    Err(error) => refuse(&format!("a line of the host is not a message: {error}")),
                },
                Err(error) => refuse(&format!("failed to read the host's messages: {error}")),
            }
        }
        self.change(|state| state.closed = true);
    }

    fn receive(&self, message: Message, handshake: Handshake) {
        if !matches!(message, Message::Hello { .. }) && !self.state().greeted {
            refuse("the first line of the host is not hello");
        }
        match message {
            Message::Hello { request } => match handshake {
                Handshake::Answer => {
                    self.answer(&request);
                    self.change(|state| state.greeted = true);
                }
                Handshake::None => {}
                Handshake::Garbage => {
                    let _ = self.out.bytes(b"{\"type\":\"answer\",\"request\":[[[\nthis is not the handshake\n");
                }
            },
            Message::Prompt { text } => self.change(|state| state.prompts.push_back(text)),
            Message::Interrupt { request } => {
                if self.state().deaf {
                    return;
                }
                self.answer(&request);
                self.change(|state| state.interrupted = state.turn);
                self.running.stop();
            }
            Message::Reply { id, reply } => self.reply(&id, reply),
        }
    }

    fn reply(&self, id: &str, reply: Reply) {
        self.change(|state| {
            if let Some(at) = state.open.iter().position(|open| open == id) {
                state.open.remove(at);
                state.replies.insert(id.to_owned(), reply);
            }
        });
    }

    fn answer(&self, request: &str) {
        let _ = self.out.event("answer", &json!({ "request": request }));
    }

    /// Waits until `ready` gives something, the turn is interrupted, or the time is over.
    fn wait<T>(
        &self,
        limit: Option<Duration>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut state = self.state();
        loop {
            if let Some(value) = ready(&mut state) {
                return Ok(Some(value));
            }
            if state.turn && state.interrupted {
                return Err(interrupted());
            }
            state = match end {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Waits for the handshake. False if the host closed its side instead.
    pub(super) fn greeted(&self) -> io::Result<bool> {
        let ready = |state: &mut State| (state.greeted || state.closed).then_some(state.greeted);
        Ok(self.wait(None, ready)?.unwrap_or_default())
    }

    pub(super) fn next(&self) -> io::Result<Next> {
        let next = self.wait(None, |state| {
            if let Some(text) = state.ended.pop_front() {
                return Some(Next::Ended(text));
            }
            if let Some(text) = state.prompts.pop_front() {
                return Some(Next::Prompt(text));
            }
            (state.closed && state.background == 0).then_some(Next::Leave)
        })?;
        Ok(next.unwrap_or(Next::Leave))
    }

    /// A turn begins.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.change(|state| (state.turn, state.interrupted) = (true, false));
        self.report()
    }

    /// A turn has ended. Its open questions are withdrawn.
    pub(super) fn end(&self) -> io::Result<()> {
        let mut open = Vec::new();
        self.change(|state| {
            (state.turn, state.interrupted) = (false, false);
            open = std::mem::take(&mut state.open);
            state.replies.clear();
        });
        open.iter().try_for_each(|ask| self.out.event("withdraw", &json!({ "ask": ask })))
    }

    /// Reports the state if it has changed. It stays `running` between two turns that follow each other.
    pub(super) fn report(&self) -> io::Result<()> {
        let (running, background) = {
            let mut state = self.state();
            let now = (state.turn || !state.prompts.is_empty() || !state.ended.is_empty(), state.background);
            if state.reported.replace(now) == Some(now) {
                return Ok(());
            }
            now
        };
        let word = if running { "running" } else { "idle" };
        self.out.event("state", &json!({ "state": word, "background": background }))
    }

    /// Sleeps, unless the turn is interrupted.
    pub(in super::super) fn pause(&self, time: Duration) -> io::Result<()> {
        self.wait(Some(time), |_| None::<()>).map(drop)
    }

    /// Fails if the turn is interrupted.
    pub(in super::super) fn check(&self) -> io::Result<()> {
        let state = self.state();
        if state.turn && state.interrupted { Err(interrupted()) } else { Ok(()) }
    }

    /// Notes that a question with this id is open.
    pub(super) fn opened(&self, id: &str) {
        self.change(|state| state.open.push(id.to_owned()));
    }

    /// Waits for the answer to a question. A host that closes its side has answered no.
    pub(super) fn answered(&self, id: &str, limit: Option<Duration>) -> io::Result<Reply> {
        let reply = self.wait(limit, |state| {
            let nobody = || Reply::Denied { message: "nobody answers".to_owned(), stop: false };
            state.replies.remove(id).or_else(|| state.closed.then(nobody))
        })?;
        Ok(reply.unwrap_or(Reply::Late))
    }

    /// Withdraws a question.
    pub(super) fn withdraw(&self, id: &str) -> io::Result<()> {
        self.change(|state| state.open.retain(|open| open != id));
        self.out.event("withdraw", &json!({ "ask": id }))
    }

    /// Waits for a message of the user. None if the host closed its side.
    pub(super) fn message(&self) -> io::Result<Option<String>> {
        let ready = |state: &mut State| match state.prompts.pop_front() {
            Some(text) => Some(Some(text)),
            None => state.closed.then_some(None),
        };
        Ok(self.wait(None, ready)?.flatten())
    }

    /// Whether interrupts are ignored from now on.
    pub(super) fn deaf(&self, deaf: bool) {
        self.change(|state| state.deaf = deaf);
    }

    /// Starts a background task.
    pub(super) fn background(self: &Arc<Self>, time: Duration, text: String) {
        self.change(|state| state.background += 1);
        let link = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(time);
            link.change(|state| {
                state.background -= 1;
                state.ended.push_back(text);
            });
        });
    }
}

/// Ends the process: the host does not keep to the protocol.
fn refuse(problem: &str) -> ! {
    print_error(&format!("error: {problem}"));
    std::process::exit(2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::super::args::Format;
    use super::*;
    use std::io::{BufReader, PipeWriter, Write};

    /// Standard output, as a channel of lines.
    struct Lines(std::sync::mpsc::Sender<Value>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(serde_json::from_slice(bytes).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn link() -> (Arc<Link>, PipeWriter, std::sync::mpsc::Receiver<Value>) {
        let (reader, writer) = io::pipe().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let out = Out::new(Format::StreamJson, Box::new(Lines(sender)));
        let link = Link::start(out, Running::default(), Handshake::Answer, BufReader::new(reader));
        (link, writer, lines)
    }

    #[test]
    fn prompts_are_taken_in_order_and_the_end_after_the_last() {
        let (link, mut host, lines) = link();
        writeln!(host, "{}", json!({ "type": "hello", "request": "h" })).unwrap();
        assert!(link.greeted().unwrap());
        assert_eq!(lines.recv().unwrap(), json!({ "type": "answer", "request": "h" }));
        for text in ["one", "two"] {
            writeln!(host, "{}", json!({ "type": "prompt", "text": text })).unwrap();
        }
        drop(host);
        let order: Vec<Next> = (0..3).map(|_| link.next().unwrap()).collect();
        assert_eq!(order, [Next::Prompt("one".to_owned()), Next::Prompt("two".to_owned()), Next::Leave]);
    }

    #[test]
    fn interrupt_ends_a_wait_and_withdraws_what_is_open() {
        let (link, mut host, lines) = link();
        writeln!(host, "{}", json!({ "type": "hello", "request": "h" })).unwrap();
        assert!(link.greeted().unwrap());
        link.begin().unwrap();
        link.opened("q");
        writeln!(host, "{}", json!({ "type": "interrupt", "request": "i" })).unwrap();
        assert_eq!(link.answered("q", None).unwrap_err().kind(), io::ErrorKind::Interrupted);
        link.end().unwrap();
        link.pause(Duration::from_millis(1)).unwrap();
        let kinds: Vec<Value> = lines.try_iter().map(|line| line["type"].clone()).collect();
        assert_eq!(kinds, ["answer", "state", "answer", "withdraw"]);
    }

    #[test]
    fn question_is_answered_once_and_by_a_closed_input() {
        let (link, mut host, _lines) = link();
        writeln!(host, "{}", json!({ "type": "hello", "request": "h" })).unwrap();
        link.opened("q");
        for message in ["no", "too late"] {
            writeln!(host, "{}", json!({ "type": "decision", "ask": "q", "allow": false, "message": message }))
                .unwrap();
        }
        assert!(matches!(link.answered("q", None).unwrap(), Reply::Denied { message, .. } if message == "no"));
        link.opened("r");
        assert!(matches!(link.answered("r", Some(Duration::from_millis(1))).unwrap(), Reply::Late));
        drop(host);
        assert!(
            matches!(link.answered("r", None).unwrap(), Reply::Denied { message, .. } if message == "nobody answers")
        );
    }
}
