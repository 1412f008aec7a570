//! What the console of a session shows: the conversation, and the lines at the bottom.

use std::time::Instant;

use anstyle::{AnsiColor, Style};
use serde::Deserialize;

use super::super::clean::{self, Cleaner};
use super::super::exit::Exit;
use super::super::output::{BAD, BOLD, DIM, GOOD, WARN, paint};
use super::super::printer::{Level, Note, Printer};
use super::super::terminal::{FooterText, LineEditor, TerminalSize, wrap};
use super::super::{actors, format, printer, table};
use super::activity::{self, Activity};
use super::tool_lines::ToolLines;
use ostler_protocol::semantic::{SessionOrigin, TurnStatus};
use ostler_protocol::{Event, EventType, Semantic, SessionInput, SessionOpened};

const USER: Style = AnsiColor::Cyan.on_default();
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Rows that the footer may have, in relation to the terminal.
const SHARE_OF_ROWS: usize = 2;

/// A piece of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that continues the text before.
    Text(String),
    /// Whole lines.
    Lines(String),
}

/// The conversation, as pieces to print.
#[derive(Debug)]
pub(super) struct Conversation {
    provider: String,
    color: bool,
    prompted: bool,
    printer: Printer,
    cleaner: Cleaner,
    tools: ToolLines,
    /// The CLI has opened the session.
    opened: bool,
    activity: Activity,
    doing: String,
    since: Instant,
}

/// What an event means for the console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) pieces: Vec<Piece>,
    /// The run has ended.
    pub(super) end: Option<Exit>,
}

impl Conversation {
    pub(super) fn new(run: String, provider: &str, color: bool) -> Self {
        Self {
            provider: clean::line(provider),
            color,
            prompted: false,
            printer: Printer::new(run),
            cleaner: Cleaner::default(),
            tools: ToolLines::default(),
            opened: false,
            activity: Activity::Starting,
            doing: String::new(),
            since: Instant::now(),
        }
    }

    /// Says that the session begins with a message.
    pub(super) fn set_prompted(&mut self, prompted: bool) {
        self.prompted = prompted;
    }

    /// Whether the CLI has opened the session, which can then be resumed.
    pub(super) const fn was_opened(&self) -> bool {
        self.opened
    }

    /// Says that the agent waits for a message.
    pub(super) fn set_idle(&mut self) {
        self.activity = Activity::Idle;
    }

    pub(super) fn is_working(&self) -> bool {
        self.activity != Activity::Idle
    }

    /// Whether a turn runs that can be interrupted.
    pub(super) fn has_turn(&self) -> bool {
        self.activity == Activity::Working
    }

    /// A message was sent from here.
    pub(super) fn sent(&mut self) {
        self.set(Activity::Working);
    }

    fn set(&mut self, activity: Activity) {
        if std::mem::replace(&mut self.activity, activity) != activity {
            self.since = Instant::now();
            self.doing.clear();
        }
    }

    /// Processes an event.
    pub(super) fn take(&mut self, event: &Event, width: usize) -> Step {
        if let Some(activity) = activity::of_event(event, self.prompted) {
            self.set(activity);
            // The events of an open session may be shown from its middle on.
            self.opened |= event.kind != EventType::RunStarted;
        }
        let mut step = Step::default();
        match event.kind {
            EventType::SessionInputAccepted => {
                if let Ok(input) = SessionInput::deserialize(&event.payload)
                    && !actors::is_own(&input.actor)
                {
                    step.pieces.push(Piece::Lines(message(&input.text, Some(&input.actor), width, self.color)));
                }
                return step;
            }
            EventType::SessionOpened => {
                if let Ok(opened) = SessionOpened::deserialize(&event.payload)
                    && opened.origin == SessionOrigin::Replaced
                {
                    let text = "the earlier session could not be resumed; the agent does not remember it".to_owned();
                    step.pieces.push(self.note(&Note { level: Level::Warning, text }, width));
                }
                return step;
            }
            _ => {}
        }
        let shown = self.printer.take(event);
        if !shown.answer.is_empty() {
            let text = self.cleaner.push(&String::from_utf8_lossy(&shown.answer));
            step.pieces.push(Piece::Text(text));
        }
        let ends_badly = shown.turn.as_ref().is_some_and(|turn| *turn != TurnStatus::Completed);
        for note in shown.notes.iter().filter(|note| note.level != Level::Detail || ends_badly) {
            step.pieces.push(self.note(note, width));
        }
        if event.kind == EventType::Semantic
            && let Ok(semantic) = Semantic::deserialize(&event.payload)
        {
            let lines = self.tools.take(&semantic, width, self.color);
            if !lines.is_empty() {
                step.pieces.push(Piece::Lines(lines));
            }
        }
        if let Some(printer::Activity::Working(doing)) = shown.activity {
            self.doing = clean::line(&doing);
        }
        step.end = shown.end;
        step
    }

    /// A line about the session.
    pub(super) fn note(&self, note: &Note, width: usize) -> Piece {
        let text = clean::text(note.text.trim_end());
        let (lead, style) = match note.level {
            Level::Detail | Level::Info => ("", DIM),
            Level::Warning | Level::Doubt => ("warning: ", WARN),
            Level::Error => ("error: ", BAD),
        };
        let lines = wrap(&format!("{lead}{text}"), width);
        let lines: Vec<String> = lines.iter().map(|line| paint(self.color, style, line)).collect();
        Piece::Lines(lines.join("\n"))
    }

    /// The lines at the bottom: what the agent does, and the message that is being typed.
    pub(super) fn footer(&self, editor: &LineEditor, size: TerminalSize, frame: usize, ending: bool) -> FooterText {
        let width = size.columns.max(4);
        let mut rows = Vec::new();
        if self.is_working() || ending {
            rows.push(self.status(width, frame, ending));
        }
        let max_rows = (size.rows / SHARE_OF_ROWS).saturating_sub(rows.len() + 1).max(1);
        let view = editor.view(width.saturating_sub(2), max_rows);
        if view.hidden.0 > 0 {
            rows.push(paint(self.color, DIM, &table::cut(&format!("… {} lines above", view.hidden.0), width - 1)));
        }
        let start = rows.len();
        let mark = paint(self.color, USER, ">");
        for (index, row) in view.rows.iter().enumerate() {
            let lead = if index == 0 && view.hidden.0 == 0 { format!("{mark} ") } else { "  ".to_owned() };
            let hint = if editor.is_empty() { self.hint(width - 3) } else { String::new() };
            rows.push(format!("{lead}{row}{hint}"));
        }
        FooterText { rows, cursor: Some((start + view.cursor.0, view.cursor.1 + 2)) }
    }

    fn hint(&self, width: usize) -> String {
        let text = format!("message for {}; /help lists the keys", self.provider);
        paint(self.color, DIM, &table::cut(&text, width))
    }

    fn status(&self, width: usize, frame: usize, ending: bool) -> String {
        let doing = match (ending, self.activity, self.doing.as_str()) {
            (true, ..) => "ending the session",
            (_, Activity::Starting, "") => "starting",
            (.., "") => "working",
            (.., doing) => doing,
        };
        let seconds = self.since.elapsed().as_secs();
        // Whole seconds: tenths would flicker.
        let elapsed = if seconds < 60 { format!("{seconds}s") } else { format::duration(seconds * 1000) };
        let tail = format!(" · {elapsed}");
        let room = width.saturating_sub(3 + tail.chars().count());
        let text = table::cut(&format!("{} · {doing}", self.provider), room);
        let spinner = SPINNER.get(frame % SPINNER.len()).copied().unwrap_or_default();
        format!("{} {}", paint(self.color, USER, spinner), paint(self.color, DIM, &format!("{text}{tail}")))
    }
}

/// A message of a user. `actor`: who sent it, if it was another client.
pub(super) fn message(text: &str, actor: Option<&str>, width: usize, color: bool) -> String {
    let from = actor.map(|actor| format!("[{}] ", actors::name(actor))).unwrap_or_default();
    let text = format!("{from}{}", clean::text(text.trim_end()));
    let mut out = String::from("\n");
    for (index, line) in wrap(&text, width.saturating_sub(2)).iter().enumerate() {
        let lead = if index == 0 { "> " } else { "  " };
        out.push_str(&format!("{}{}\n", paint(color, USER, lead), paint(color, BOLD, line)));
    }
    out.push('\n');
    out
}

/// What `/help` shows.
pub(super) fn help(color: bool) -> String {
    let keys = [
        ("Enter", "send the message; during a turn, it steers the agent or is the next one"),
        ("Alt-Enter, Ctrl-J", "begin a new line; pasted lines are one message"),
        ("Ctrl-C", "interrupt the turn; again within two seconds: leave"),
        ("Ctrl-D, Ctrl-\\", "leave; the session stays open"),
        ("/end", "end the session"),
        ("/help", "show this list"),
    ];
    keys.iter().map(|(key, what)| format!("{}{what}\n", paint(color, GOOD, &format!("{key:<19}")))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;
    use crate::terminal::Key;
    use crate::tests::event;

    fn conversation() -> Conversation {
        Conversation::new("1a2b3c4d".to_owned(), "codex", false)
    }

    fn semantic(kind: &str, mut fields: Value) -> Event {
        fields["kind"] = kind.into();
        event(EventType::Semantic, fields)
    }

    fn shown(conversation: &mut Conversation, events: &[Event]) -> String {
        let mut text = String::new();
        for event in events {
            for piece in conversation.take(event, 60).pieces {
                match piece {
                    Piece::Text(piece) => text.push_str(&piece),
                    Piece::Lines(lines) => text.push_str(&format!("<{}>", lines.trim())),
                }
            }
        }
        text
    }

    #[test]
    fn shows_text_tools_and_messages_of_others() {
        let own = format!("unix pid={} uid=0", std::process::id());
        let input = |actor: &str, text: &str| {
            event(EventType::SessionInputAccepted, json!({"bytes": 1, "text": text, "actor": actor}))
        };
        let text = shown(
            &mut conversation(),
            &[
                input(&own, "mine"),
                semantic("text_delta", json!({"message": "m", "text": "I \u{1b}[2Jlook"})),
                semantic("tool_start", json!({"id": "t", "tool": "shell", "commands": ["ls"]})),
                semantic("tool_result", json!({"id": "t", "isError": false, "exitCode": 0, "output": "a.rs"})),
                input("token phone", "and the tests"),
                semantic("turn_complete", json!({"status": "interrupted"})),
                event(EventType::SessionClosed, json!({"reason": "idle"})),
            ],
        );
        assert_eq!(
            text,
            "I ␛[2Jlook\n<● shell: ls><a.rs><> [token phone] and the tests><the turn was interrupted>\
             <the session was closed: it was idle for too long>"
        );
    }

    #[test]
    fn footer_shows_activity_and_message() {
        let mut one = conversation();
        let mut editor = LineEditor::default();
        let size = TerminalSize { columns: 40, rows: 24 };
        assert_eq!(one.footer(&editor, size, 0, false).rows[0], "⠋ codex · starting · 0s");
        one.take(&semantic("turn_complete", json!({"status": "completed"})), 40);
        let wide = TerminalSize { columns: 60, ..size };
        assert_eq!(one.footer(&editor, wide, 0, false).rows, ["> message for codex; /help lists the keys"]);
        one.take(
            &semantic("tool_start", json!({"id": "t", "tool": "shell", "commands": ["cargo test --workspace"]})),
            40,
        );
        editor.key(&Key::Paste("one\ntwo".to_owned()));
        let footer = one.footer(&editor, size, 1, false);
        assert_eq!(footer.rows, ["⠙ codex · shell: cargo test --wor… · 0s", "> one", "  two"]);
        assert_eq!(footer.cursor, Some((2, 5)));
        editor.key(&Key::Paste("\n".repeat(100)));
        assert!(one.footer(&editor, size, 1, false).rows.len() <= 13);
    }
}
