//! Shows the progress of a run on standard error: a spinner on a terminal, plain lines elsewhere, only errors if quiet.

use std::io::{self, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::clean;
use super::context::Context;
use super::format;
use super::output::{BAD, DIM, Output, StdoutKind, WARN, complain, paint};
use super::printer::{Activity, Level, Note};
use super::table;

/// Interval between two frames of the spinner.
pub(super) const TICK: Duration = Duration::from_millis(100);

const TURNS: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const SPINNER: Style = AnsiColor::Cyan.on_default();

/// Columns at the end of the line that stay free, for text that the terminal adds, such as `^C`.
const FREE: usize = 4;
/// Width in columns if the terminal does not report it.
const USUAL_WIDTH: usize = 80;
/// Minimum width of an activity, in columns. A shorter one is not shown.
const MIN_ACTIVITY: usize = 6;

/// Moves to the start of the line and erases to the end of the screen. A terminal that became narrower has wrapped the
/// line; the cursor is on its first part.
const ERASE: &str = "\r\u{1b}[J";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Only errors, and notes that put the outcome in doubt.
    Quiet,
    Plain,
    Spinner,
}

/// Shows what a run is doing.
#[derive(Debug)]
pub(super) struct Progress {
    mode: Mode,
    color: bool,
    stdout: StdoutKind,
    label: String,
    activity: Activity,
    /// The queue position that was reported last.
    reported_position: Option<u64>,
    since: Instant,
    turn: usize,
    drawn: bool,
}

impl Progress {
    /// Progress of a run; `label` names it.
    pub(super) fn new(label: &str, quiet: bool, out: &Output) -> Self {
        let mode = match (quiet, out.cursor) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Spinner,
            (false, false) => Mode::Plain,
        };
        Self {
            mode,
            color: out.stderr_color,
            stdout: out.stdout_kind,
            label: clean::line(label),
            activity: Activity::Waiting(None),
            reported_position: None,
            since: Instant::now(),
            turn: 0,
            drawn: false,
        }
    }

    /// Whether [`tick`](Self::tick) must be called every [`TICK`].
    pub(super) fn moves(&self) -> bool {
        self.mode == Mode::Spinner
    }

    /// Whether it shows more than errors.
    pub(super) fn visible(&self) -> bool {
        self.mode != Mode::Quiet
    }

    /// Whether the run still waits.
    pub(super) fn waiting(&self) -> bool {
        matches!(self.activity, Activity::Waiting(_))
    }

    /// Sets the queue position of a waiting run. Without a spinner, prints a changed position.
    pub(super) fn set_position(&mut self, position: u64) {
        if !self.waiting() {
            return;
        }
        if self.mode == Mode::Plain && self.reported_position != Some(position) {
            complain(&format!("{}: queued, position {position}", self.label));
        }
        self.reported_position = Some(position);
        self.activity = Activity::Waiting(Some(position));
    }

    pub(super) fn set(&mut self, activity: Activity) {
        let worked = matches!(self.activity, Activity::Working(_));
        if worked != matches!(activity, Activity::Working(_)) {
            self.since = Instant::now();
        }
        self.activity = activity;
    }

    /// Whether a note is shown in this mode.
    pub(super) fn wants(&self, note: &Note) -> bool {
        match self.mode {
            Mode::Quiet => matches!(note.level, Level::Error | Level::Doubt),
            Mode::Plain => true,
            // The spinner shows the detail.
            Mode::Spinner => note.level != Level::Detail,
        }
    }

    /// Prints a note above the spinner, if the mode allows it.
    pub(super) fn note(&mut self, note: &Note) {
        if !self.wants(note) {
            return;
        }
        self.hide();
        let text = clean::text(note.text.trim_end()).replace('\n', "\n  ");
        complain(&match note.level {
            Level::Detail | Level::Info => paint(self.color, DIM, &text),
            Level::Warning | Level::Doubt => format!("{} {text}", paint(self.color, WARN, "warning:")),
            Level::Error => format!("{} {text}", paint(self.color, BAD, "error:")),
        });
    }

    /// Hides the spinner before the agent's text. If standard output is a pipe, its reader may write to this terminal
    /// at any time, so only plain lines follow.
    pub(super) fn make_way(&mut self) {
        match self.stdout {
            StdoutKind::Terminal => self.hide(),
            StdoutKind::Pipe if self.mode == Mode::Spinner => {
                self.hide();
                self.mode = Mode::Plain;
            }
            StdoutKind::Pipe | StdoutKind::Other => {}
        }
    }

    /// Draws the next frame of the spinner. It stays hidden while the agent's line is unfinished.
    pub(super) fn tick(&mut self, at_line_start: bool) {
        if self.mode != Mode::Spinner || (self.stdout == StdoutKind::Terminal && !at_line_start) {
            return;
        }
        self.turn = (self.turn + 1) % TURNS.len();
        let width = terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0));
        let message = self.message(width.unwrap_or(USUAL_WIDTH));
        let spinner = paint(self.color, SPINNER, TURNS.get(self.turn).copied().unwrap_or_default());
        // The cursor returns to the start of the line, so that the next frame erases everything, even if the terminal
        // has printed text or become narrower.
        draw(&format!("{ERASE}{spinner} {}\r", paint(self.color, DIM, &message)));
        self.drawn = true;
    }

    /// Erases the spinner.
    pub(super) fn hide(&mut self) {
        if std::mem::take(&mut self.drawn) {
            draw(ERASE);
        }
    }

    /// Activity and elapsed time, cut to the columns beside the spinner.
    fn message(&self, width: usize) -> String {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Whole seconds: tenths would flicker.
        let elapsed = format::duration(elapsed).split('.').next().unwrap_or_default().to_owned();
        let elapsed = if elapsed.ends_with(['s', 'm']) { elapsed } else { format!("{elapsed}s") };
        let activity = match &self.activity {
            Activity::Waiting(Some(position)) => format!("queued, position {position}"),
            Activity::Waiting(None) => "queued".to_owned(),
            Activity::Working(what) if what.is_empty() => "working".to_owned(),
            Activity::Working(what) => clean::line(what),
        };
        // The time shows that work continues: it is never cut.
        let room = width.saturating_sub("⠋ ".width() + FREE + elapsed.width() + " · ".width());
        let label = table::cut(&self.label, room);
        let left = room.saturating_sub(label.width() + " · ".width());
        if left < MIN_ACTIVITY && activity.width() > left {
            return format!("{label} · {elapsed}");
        }
        format!("{label} · {} · {elapsed}", table::cut(&activity, left))
    }
}

/// Waits for work that may take seconds, and shows a spinner on a terminal.
pub(super) async fn while_waiting<T>(
    context: &Context<'_>,
    label: &str,
    activity: &str,
    work: impl Future<Output = T>,
) -> T {
    let mut progress = Progress::new(label, context.json, &context.out);
    progress.set(Activity::Working(activity.to_owned()));
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick(), if progress.moves() => progress.tick(true),
        }
    }
}

/// Writes to the terminal at once. An error is ignored, because it could not be reported anywhere.
fn draw(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn message_shows_activity() {
        let out = Output::detect();
        let mut progress = Progress::new("codex", false, &out);
        assert_eq!(progress.message(80), "codex · queued · 0s");
        progress.set(Activity::Waiting(Some(3)));
        assert_eq!(progress.message(80), "codex · queued, position 3 · 0s");
        progress.set_position(2);
        assert_eq!(progress.message(80), "codex · queued, position 2 · 0s");
        progress.set(Activity::Working("shell: \u{1b}[2Jls\nmore".to_owned()));
        assert_eq!(progress.message(80), "codex · shell: ␛[2Jls more · 0s");
        progress.set_position(1);
        assert!(!progress.waiting(), "a late answer about the queue changes nothing");
    }

    #[test]
    fn elapsed_time_is_never_cut() {
        let mut progress = Progress::new("a-provider-with-a-long-name", false, &Output::detect());
        progress
            .set(Activity::Working("shell: for i in 1 2 3; do sleep 1; echo 日本語 a very long line; done".to_owned()));
        for width in 0..120 {
            let message = progress.message(width);
            assert!(message.ends_with("· 0s"), "{width}: {message}");
            if width >= 16 {
                assert!(message.width() + "⠋ ".width() + FREE <= width, "{width}: {message}");
            }
        }
        assert_eq!(progress.message(60), "a-provider-with-a-long-name · shell: for i in 1 … · 0s");
        assert_eq!(progress.message(30), "a-provider-with-a-… · 0s");
    }
}
