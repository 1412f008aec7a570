//! What a run is doing, on standard error: a spinner on a terminal, plain lines elsewhere, nothing if it is not wanted.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clean;
use super::format;
use super::output::{BAD, DIM, Output, WARN, complain, paint};
use super::printer::{Activity, Level, Note};

/// Between two turns of the spinner.
pub(super) const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Errors only, and what leaves the outcome in doubt.
    Quiet,
    Plain,
    Spinner,
}

/// Shows what a run is doing.
#[derive(Debug)]
pub(super) struct Progress {
    mode: Mode,
    color: bool,
    /// Answer and spinner are on the same terminal, so that the spinner must give way to an unfinished line.
    shared: bool,
    label: String,
    activity: Activity,
    /// The place in the queue that got a line.
    told: Option<u64>,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For a run of a provider.
    pub(super) fn new(label: &str, quiet: bool, out: &Output) -> Self {
        let mode = match (quiet, out.stderr_terminal) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Spinner,
            (false, false) => Mode::Plain,
        };
        Self {
            mode,
            color: out.stderr_color,
            shared: out.stdout_terminal,
            label: clean::line(label),
            activity: Activity::Waiting(None),
            told: None,
            since: Instant::now(),
            bar: None,
        }
    }

    /// Whether it moves by itself and wants [`tick`](Self::tick) every [`TICK`].
    pub(super) fn moves(&self) -> bool {
        self.mode == Mode::Spinner
    }

    /// Whether anybody sees what it shows.
    pub(super) fn visible(&self) -> bool {
        self.mode != Mode::Quiet
    }

    /// Whether the run still waits.
    pub(super) fn waiting(&self) -> bool {
        matches!(self.activity, Activity::Waiting(_))
    }

    /// The run waits at this place now. Where there is no spinner, a new place gets a line.
    pub(super) fn place(&mut self, place: u64) {
        if !self.waiting() {
            return;
        }
        if self.mode == Mode::Plain && self.told != Some(place) {
            complain(&format!("{} waits at place {place}", self.label));
        }
        self.told = Some(place);
        self.activity = Activity::Waiting(Some(place));
    }

    pub(super) fn set(&mut self, activity: Activity) {
        let worked = matches!(self.activity, Activity::Working(_));
        if worked != matches!(activity, Activity::Working(_)) {
            self.since = Instant::now();
        }
        self.activity = activity;
    }

    /// Whether a note is to be shown.
    pub(super) fn wants(&self, note: &Note) -> bool {
        match self.mode {
            Mode::Quiet => matches!(note.level, Level::Error | Level::Doubt),
            Mode::Plain => true,
            // The spinner itself says it.
            Mode::Spinner => note.level != Level::Detail,
        }
    }

    /// A line above the spinner, if it is wanted.
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

    /// Gives way to the agent's text.
    pub(super) fn make_way(&mut self) {
        if self.shared {
            self.hide();
        }
    }

    /// Moves the spinner on; where it would stand in the middle of the agent's line, it stays hidden.
    pub(super) fn tick(&mut self, at_line_start: bool) {
        if self.mode != Mode::Spinner || (self.shared && !at_line_start) {
            return;
        }
        let message = self.message();
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = if self.color { "{spinner:.cyan} {wide_msg:.dim}" } else { "{spinner} {wide_msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(message);
        bar.tick();
    }

    /// Takes the spinner away.
    pub(super) fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn message(&self) -> String {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Whole seconds: tenths would flicker.
        let elapsed = format::duration(elapsed).split('.').next().unwrap_or_default().to_owned();
        let elapsed = if elapsed.ends_with(['s', 'm']) { elapsed } else { format!("{elapsed}s") };
        match &self.activity {
            Activity::Waiting(Some(place)) => format!("{} · waits at place {place} · {elapsed}", self.label),
            Activity::Waiting(None) => format!("{} · waits · {elapsed}", self.label),
            Activity::Working(what) if what.is_empty() => format!("{} · works · {elapsed}", self.label),
            Activity::Working(what) => format!("{} · {} · {elapsed}", self.label, clean::line(what)),
        }
    }
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
    fn the_message_says_what_goes_on() {
        let out = Output::detect();
        let mut progress = Progress::new("codex", false, &out);
        assert_eq!(progress.message(), "codex · waits · 0s");
        progress.set(Activity::Waiting(Some(3)));
        assert_eq!(progress.message(), "codex · waits at place 3 · 0s");
        progress.place(2);
        assert_eq!(progress.message(), "codex · waits at place 2 · 0s");
        progress.set(Activity::Working("shell: \u{1b}[2Jls\nmore".to_owned()));
        assert_eq!(progress.message(), "codex · shell: ␛[2Jls more · 0s");
        progress.place(1);
        assert!(!progress.waiting(), "a late answer about the queue changes nothing");
    }
}
