//! Asks about approvals while a run is followed: the dialog is drawn on standard error.

use std::io::{self, Write as _};

use super::super::output::Output;
use super::super::signals::Signals;
use super::super::terminal::{Footer, Input, Keyboard};
use super::super::times;
use super::desk::{Answered, Change, Desk, DeskRequest};
use super::render::{Look, notice};
use ostler_client::Client;
use ostler_protocol::Approval;

/// The dialogs of a run that is followed. Without a terminal, it prints which commands answer.
#[derive(Debug)]
pub(crate) struct InlineApprovals {
    desk: Desk,
    mode: Mode,
    color: bool,
    keyboard: Option<Keyboard>,
    footer: Footer,
}

/// How a user learns of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// By the events, which are printed.
    Silent,
    /// By a line on standard error.
    Announce,
    /// By a dialog.
    Ask,
}

/// Something that happened to a dialog.
#[derive(Debug)]
pub(crate) enum InlineEvent {
    Input(Input),
    Answered(Answered),
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    Nothing,
    /// A line to print.
    Line(String),
    /// The terminal is gone.
    Gone,
}

impl InlineApprovals {
    /// `events`: the events of the run are printed, so nothing else is.
    pub(crate) fn new(client: &Client, out: &Output, events: bool, json: bool) -> Self {
        let mode = match (events, !json && out.cursor) {
            (true, _) => Mode::Silent,
            (false, true) => Mode::Ask,
            (false, false) => Mode::Announce,
        };
        let color = out.stderr_color;
        Self { desk: Desk::new(client.clone(), color), mode, color, keyboard: None, footer: Footer::default() }
    }

    /// Takes a change. Returns a line about it, if there is something to say.
    pub(crate) fn take(&mut self, change: &Change) -> Option<String> {
        let line = self.desk.take(change);
        if !self.desk.is_asking() {
            self.close();
        }
        line.filter(|_| self.mode != Mode::Silent)
    }

    /// Whether a dialog is open.
    pub(crate) const fn is_asking(&self) -> bool {
        self.desk.is_asking()
    }

    /// Whether an approval waits for a dialog, or for its line.
    pub(crate) fn waits(&self) -> bool {
        self.desk.waits()
    }

    /// Opens the dialog about the oldest approval. The cursor is at the start of a line. If there is no terminal to ask
    /// at, returns the lines to print instead.
    pub(crate) fn ask(&mut self) -> Vec<String> {
        if self.mode == Mode::Ask && self.keyboard.is_none() {
            self.keyboard = Keyboard::open();
        }
        let asks =
            self.mode == Mode::Ask && self.keyboard.as_mut().is_some_and(|keyboard| keyboard.start(true).is_ok());
        if asks {
            let look = self.look();
            self.desk.ask(look, None);
            self.redraw();
            return Vec::new();
        }
        let waiting = self.desk.announce();
        let announced = if self.mode == Mode::Silent { Vec::new() } else { waiting };
        announced.iter().map(|approval: &Approval| notice(approval)).collect()
    }

    /// What happens next. Never returns if there is nothing to wait for. Cancel-safe.
    pub(crate) async fn next(&mut self) -> InlineEvent {
        tokio::select! {
            answered = self.desk.answered() => InlineEvent::Answered(answered),
            input = next_input(&mut self.keyboard) => InlineEvent::Input(input),
        }
    }

    /// Processes an event. Runs the user's editor if the user wants it; `signals` forgets what was meant for it.
    pub(crate) async fn handle(&mut self, event: InlineEvent, signals: &mut Signals) -> Handled {
        match event {
            InlineEvent::Answered(answered) => {
                let line = self.desk.finish(answered);
                if self.desk.is_asking() {
                    self.redraw();
                } else {
                    self.close();
                }
                return line.map_or(Handled::Nothing, Handled::Line);
            }
            InlineEvent::Input(Input::Gone) => return Handled::Gone,
            InlineEvent::Input(Input::Suspended) => {
                self.erase();
                if let Some(keyboard) = &mut self.keyboard {
                    keyboard.suspend();
                }
            }
            InlineEvent::Input(Input::Resized) => self.erase(),
            InlineEvent::Input(Input::Keys(keys)) => {
                for key in keys {
                    let look = self.look();
                    let DeskRequest::Edit(text) = self.desk.key(&key, look) else { continue };
                    self.erase();
                    if let Some(keyboard) = &mut self.keyboard {
                        self.desk.edit(keyboard, text).await;
                    }
                    signals.discard_interrupts();
                    break;
                }
            }
        }
        if self.is_asking() {
            self.redraw();
        }
        Handled::Nothing
    }

    /// Draws the dialog.
    pub(crate) fn redraw(&mut self) {
        let look = self.look();
        let output = self.desk.take_output();
        if !output.is_empty() {
            self.erase();
            draw(&output);
        }
        let text = self.desk.footer(look, times::now());
        let text = self.footer.draw(&text);
        draw(&text);
    }

    /// Erases the dialog, so that a line can be printed.
    pub(crate) fn erase(&mut self) {
        let text = self.footer.erase();
        draw(&text);
    }

    /// Erases the dialog, and restores the terminal.
    pub(crate) fn close(&mut self) {
        self.erase();
        if let Some(keyboard) = &mut self.keyboard {
            keyboard.stop();
        }
    }

    fn look(&self) -> Look {
        let width = self.keyboard.as_ref().map_or(80, |keyboard| keyboard.size().columns);
        Look { width, color: self.color, whole: false, more: "d shows all" }
    }
}

impl Drop for InlineApprovals {
    fn drop(&mut self) {
        self.close();
    }
}

async fn next_input(keyboard: &mut Option<Keyboard>) -> Input {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}

/// Writes to the terminal at once. An error is ignored, because it could not be reported anywhere.
fn draw(text: &str) {
    if !text.is_empty() {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}
