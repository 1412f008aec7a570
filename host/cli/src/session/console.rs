//! The console of a session: shows what the agent does, takes messages, and asks about approvals.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::task::JoinSet;

use super::super::approval::{Change, Desk, DeskRequest, Look};
use super::super::context::Context;
use super::super::exit::Exit;
use super::super::output::{Output, complain};
use super::super::printer::{Level, Note};
use super::super::progress::TICK;
use super::super::signals::{self, Detach, Request, Signals};
use super::super::terminal::{FooterText, Input, Key, Keyboard, LineEditor, LineOutcome, Screen, TerminalSize};
use super::super::{clean, format, option_names, times};
use super::attach::History;
use super::console_view::{self, Conversation, Piece};
use super::ctrl_c::{CtrlC, CtrlCAction};
use ostler_client::{Client, ClientError, StreamItem};
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{ApiError, Event, RunId, RunSummary};

/// The state of the console.
pub(super) struct Console {
    client: Client,
    run_id: RunId,
    id: String,
    provider: String,
    color: bool,
    size: TerminalSize,
    screen: Screen,
    conversation: Conversation,
    editor: LineEditor,
    last_key: Option<Instant>,
    desk: Desk,
    /// What happened while a dialog about an approval is open. It is shown afterwards, so that the command or the diff
    /// stays in view.
    held: VecDeque<Piece>,
    ctrl_c: CtrlC,
    /// The user has ended the session.
    ending: bool,
    /// Events up to this cursor are history.
    history_to: Option<u64>,
    frame: usize,
    calls: JoinSet<Call>,
}

/// A call that has ended.
enum Call {
    /// A message was sent.
    Sent {
        text: String,
        result: Result<(), ApiError>,
    },
    Interrupted(Result<bool, ApiError>),
    Ended(Result<(), ApiError>),
}

/// How the console is left.
enum Left {
    /// The run has ended.
    Ended(Exit),
    /// The user leaves; the session stays open.
    Open(Exit),
    /// The terminal is gone.
    Gone,
}

impl Console {
    pub(super) fn new(context: &Context<'_>, client: &Client, run: &RunSummary, size: TerminalSize) -> Self {
        let (id, color) = (format::short_id(run.run_id), context.out.color);
        Self {
            client: client.clone(),
            run_id: run.run_id,
            provider: run.provider.clone(),
            color,
            size,
            screen: Screen::new(size.columns),
            conversation: Conversation::new(id.clone(), &run.provider, color),
            editor: LineEditor::default(),
            last_key: None,
            desk: Desk::new(client.clone(), color),
            held: VecDeque::new(),
            ctrl_c: CtrlC::default(),
            ending: false,
            history_to: None,
            frame: 0,
            calls: JoinSet::new(),
            id,
        }
    }

    fn look(&self) -> Look {
        Look { width: self.size.columns, color: self.color, whole: false, more: "d shows all" }
    }

    fn footer(&self) -> FooterText {
        if self.desk.is_asking() {
            return self.desk.footer(self.look(), times::now());
        }
        self.conversation.footer(&self.editor, self.size, self.frame, self.ending)
    }

    /// Adds a piece of the conversation.
    fn push(&mut self, piece: Piece) {
        self.held.push_back(piece);
    }

    fn say(&mut self, level: Level, text: impl Into<String>) {
        let note = self.conversation.note(&Note { level, text: text.into() }, self.size.columns);
        self.push(note);
    }

    fn report(&mut self, error: ApiError) {
        let error = option_names::of_error(error);
        let hint = error.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        self.say(Level::Error, format!("{}{hint}", error.message));
    }

    /// Shows what has happened, opens the next dialog, and redraws the footer.
    fn settle(&mut self, out: &mut Output) -> Result<(), ApiError> {
        if !self.desk.is_asking() {
            self.flush(out)?;
            if self.history_to.is_none() && self.desk.waits() {
                let typing = self.last_key.filter(|_| !self.editor.is_empty());
                let look = self.look();
                self.desk.ask(look, typing);
            }
        }
        let dialog = self.desk.take_output();
        let footer = self.footer();
        let text =
            if dialog.is_empty() { self.screen.redraw(&footer) } else { self.screen.write_lines(&dialog, &footer) };
        if text.is_empty() { Ok(()) } else { out.write(&text) }
    }

    fn flush(&mut self, out: &mut Output) -> Result<(), ApiError> {
        let footer = self.footer();
        while let Some(piece) = self.held.pop_front() {
            let text = match piece {
                Piece::Text(text) => self.screen.write(&text, &footer),
                Piece::Lines(lines) => self.screen.write_lines(&lines, &footer),
            };
            out.write(&text)?;
        }
        Ok(())
    }

    /// Processes an event. Returns the exit code if the run has ended.
    fn on_event(&mut self, event: &Event) -> Option<Exit> {
        let history = self.history_to.is_some_and(|last| event.cursor <= last);
        let step = self.conversation.take(event, self.size.columns);
        step.pieces.into_iter().for_each(|piece| self.push(piece));
        if let Some(change) = Change::of_event(event)
            && let Some(line) = self.desk.take(&change).filter(|_| !history)
        {
            self.push(Piece::Lines(line));
        }
        if self.history_to.is_some_and(|last| event.cursor >= last) {
            self.history_to = None;
        }
        step.end
    }

    /// Processes a key. Returns how the console is left, if it is, and the text for the editor.
    fn on_key(&mut self, key: &Key) -> (Option<Left>, Option<String>) {
        if self.desk.is_asking() {
            if *key == Key::Ctrl('d') && !self.desk.is_typing() {
                return (Some(Left::Open(Exit::Done)), None);
            }
            let look = self.look();
            return match self.desk.key(key, look) {
                DeskRequest::Nothing => (None, None),
                DeskRequest::Edit(text) => (None, Some(text)),
            };
        }
        self.last_key = Some(Instant::now());
        let left = match self.editor.key(key) {
            LineOutcome::Edited | LineOutcome::Left => None,
            LineOutcome::EndOfInput => Some(Left::Open(Exit::Done)),
            LineOutcome::Entered(text) => {
                self.on_message(text);
                None
            }
        };
        (left, None)
    }

    fn on_message(&mut self, text: String) {
        match text.trim() {
            "" => {}
            "/help" => self.push(Piece::Lines(console_view::help(self.color))),
            "/end" => self.end(),
            _ => self.send(text),
        }
    }

    fn send(&mut self, text: String) {
        self.push(Piece::Lines(console_view::message(&text, None, self.size.columns, self.color)));
        let (client, run_id) = (self.client.clone(), self.run_id);
        self.calls.spawn(async move {
            let sent = client.send_session_input(run_id, text.clone()).await;
            Call::Sent { text, result: sent.map(|_| ()).map_err(ApiError::from) }
        });
    }

    fn end(&mut self) {
        self.ending = true;
        let (client, run_id) = (self.client.clone(), self.run_id);
        self.calls
            .spawn(async move { Call::Ended(client.end_session(run_id).await.map(|_| ()).map_err(ApiError::from)) });
    }

    fn interrupt(&mut self) {
        self.say(Level::Info, "interrupting the turn (Ctrl-C again leaves)");
        let (client, run_id) = (self.client.clone(), self.run_id);
        self.calls.spawn(async move {
            let result: Result<_, ClientError> = client.interrupt_turn(run_id).await;
            Call::Interrupted(result.map(|result| result.interrupting).map_err(ApiError::from))
        });
    }

    fn on_call(&mut self, call: Call) {
        match call {
            Call::Sent { result: Ok(()), .. } => self.conversation.sent(),
            Call::Sent { text, result: Err(error) } => {
                self.editor.restore(&text);
                self.report(error);
            }
            Call::Interrupted(Ok(true)) | Call::Ended(Ok(())) => {}
            Call::Interrupted(Ok(false)) => self.say(Level::Info, "no turn is running"),
            Call::Interrupted(Err(error)) => self.report(error),
            Call::Ended(Err(error)) => {
                self.ending = false;
                self.report(error);
            }
        }
    }

    fn on_ctrl_c(&mut self) -> Option<Left> {
        let working = self.conversation.has_turn() || self.ending;
        match self.ctrl_c.press(working, !self.editor.is_empty(), Instant::now()) {
            CtrlCAction::Interrupt => self.interrupt(),
            CtrlCAction::DiscardMessage => _ = self.editor.take(),
            CtrlCAction::Leave => {
                signals::set_interrupted();
                return Some(Left::Open(Exit::Canceled));
            }
        }
        None
    }

    fn resize(&mut self, out: &mut Output, size: TerminalSize) -> Result<(), ApiError> {
        self.size = size;
        let footer = self.footer();
        let text = self.screen.resize(size.columns, &footer);
        out.write(&text)
    }

    /// Shows the rest, and removes the footer.
    fn close(&mut self, out: &mut Output) -> Result<(), ApiError> {
        let none = FooterText::default();
        while let Some(piece) = self.held.pop_front() {
            let text = match piece {
                Piece::Text(text) => self.screen.write(&text, &none),
                Piece::Lines(lines) => self.screen.write_lines(&lines, &none),
            };
            out.write(&text)?;
        }
        let text = self.screen.leave();
        out.write(&text)
    }
}

/// Runs the console until the user leaves or the session ends.
pub(super) async fn run(
    mut console: Console,
    context: &mut Context<'_>,
    mut keyboard: Keyboard,
    signals: &mut Signals,
    history: History,
) -> Result<Exit, ApiError> {
    let started = keyboard.start(false);
    started.map_err(|error| ApiError::internal(format!("the terminal cannot be read: {error}")))?;
    let left = converse(&mut console, context, &mut keyboard, signals, history).await;
    let closed = if matches!(left, Ok(Left::Gone)) { Ok(()) } else { console.close(&mut context.out) };
    keyboard.stop();
    let (left, id) = (left?, &console.id);
    closed?;
    match left {
        Left::Ended(exit) if !console.conversation.was_opened() => Ok(exit),
        Left::Ended(exit) => {
            complain(&format!("session {id} has ended; `ostler session resume {id}` continues it"));
            Ok(exit)
        }
        Left::Open(exit) => {
            complain(&format!(
                "left session {id}, which stays open; `ostler session attach {id}` comes back, \
                 `ostler session end {id}` ends it"
            ));
            Ok(exit)
        }
        Left::Gone => Ok(Exit::Detached),
    }
}

async fn converse(
    console: &mut Console,
    context: &mut Context<'_>,
    keyboard: &mut Keyboard,
    signals: &mut Signals,
    history: History,
) -> Result<Left, ApiError> {
    let out = &mut context.out;
    let provider = clean::line(&console.provider);
    let id = console.id.clone();
    console.say(Level::Info, format!("session {id} of {provider}; /help lists the keys"));
    console.conversation.set_prompted(history.prompted);
    if let Some(text) = &history.message {
        console.push(Piece::Lines(console_view::message(text, None, console.size.columns, console.color)));
    }
    console.history_to = Some(u64::MAX);
    for event in &history.events {
        let _ = console.on_event(event);
    }
    console.history_to = history.until;
    for approval in history.approvals {
        let _ = console.desk.take(&Change::Opened(Box::new(approval)));
    }
    let params = SubscribeParams { run_id: Some(console.run_id), after: history.after, ..SubscribeParams::default() };
    let mut events = console.client.follow(params);
    let mut detach = Detach::listen_on_terminal()?;
    let mut tick = tokio::time::interval(TICK);
    loop {
        console.settle(out)?;
        tokio::select! {
            biased;
            () = detach.next() => return Ok(Left::Open(Exit::Detached)),
            request = signals.next_kind() => match request {
                Request::Terminate => return Ok(Left::Open(Exit::Canceled)),
                Request::Interrupt => {
                    if let Some(left) = console.on_ctrl_c() {
                        return Ok(left);
                    }
                }
            },
            input = keyboard.next() => match input {
                Input::Gone => return Ok(Left::Gone),
                Input::Resized => console.resize(out, keyboard.size())?,
                Input::Suspended => {
                    let text = console.screen.leave();
                    out.write(&text)?;
                    keyboard.suspend();
                    console.resize(out, keyboard.size())?;
                }
                Input::Keys(keys) => {
                    for key in keys {
                        let (left, text) = console.on_key(&key);
                        if let Some(left) = left {
                            return Ok(left);
                        }
                        // What was typed after the key is for the editor.
                        let Some(text) = text else { continue };
                        let erased = console.screen.leave();
                        out.write(&erased)?;
                        console.desk.edit(keyboard, text).await;
                        signals.discard_interrupts();
                        console.resize(out, keyboard.size())?;
                        break;
                    }
                }
            },
            answered = console.desk.answered() => {
                if let Some(line) = console.desk.finish(answered) {
                    console.held.push_front(Piece::Lines(line));
                }
            }
            Some(call) = console.calls.join_next(), if !console.calls.is_empty() => {
                if let Ok(call) = call {
                    console.on_call(call);
                }
            }
            item = events.next() => match item {
                Ok(StreamItem::Event(event)) => {
                    if let Some(exit) = console.on_event(&event) {
                        return Ok(Left::Ended(exit));
                    }
                }
                Ok(StreamItem::Interrupted(_)) => {
                    console.say(Level::Warning, "lost the connection to the host; reconnecting");
                }
                Err(error) => return Err(error.into()),
            },
            _ = tick.tick() => console.frame += 1,
        }
    }
}

/// Asks for the first message of a session. `None` if the user leaves.
pub(super) async fn first_message(context: &mut Context<'_>, provider: &str) -> Result<Option<String>, ApiError> {
    let Some(mut keyboard) = Keyboard::open() else { return Ok(None) };
    let mut signals = Signals::listen_on_terminal()?;
    let mut conversation = Conversation::new(String::new(), provider, context.out.color);
    conversation.set_idle();
    let mut editor = LineEditor::default();
    let mut screen = Screen::new(keyboard.size().columns);
    let started = keyboard.start(false);
    started.map_err(|error| ApiError::internal(format!("the terminal cannot be read: {error}")))?;
    let message = 'asked: loop {
        let text = screen.redraw(&conversation.footer(&editor, keyboard.size(), 0, false));
        context.out.write(&text)?;
        tokio::select! {
            () = signals.next() => break None,
            input = keyboard.next() => match input {
                Input::Gone => break None,
                Input::Suspended => {
                    let text = screen.leave();
                    context.out.write(&text)?;
                    keyboard.suspend();
                }
                Input::Resized => {
                    let size = keyboard.size();
                    let text = screen.resize(size.columns, &conversation.footer(&editor, size, 0, false));
                    context.out.write(&text)?;
                }
                Input::Keys(keys) => {
                    for key in keys {
                        match editor.key(&key) {
                            LineOutcome::EndOfInput => break 'asked None,
                            LineOutcome::Entered(text) if !text.trim().is_empty() => break 'asked Some(text),
                            LineOutcome::Entered(_) | LineOutcome::Edited | LineOutcome::Left => {}
                        }
                    }
                }
            },
        }
    };
    let text = screen.leave();
    context.out.write(&text)?;
    Ok(message)
}
