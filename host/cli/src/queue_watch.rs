//! `ostler queue --watch`

use std::pin::pin;
use std::time::Duration;

use super::context::Context;
use super::exit::Exit;
use super::queue::{self, Waiting};
use super::{format, times};
use ostler_client::Client;
use ostler_protocol::methods::ListJobsParams;
use ostler_protocol::{ApiError, JobRecord};

/// Interval between two queries of the queue.
const PERIOD: Duration = Duration::from_secs(1);
/// Height in rows if the terminal does not report it.
const ROWS: usize = 24;

/// Shows the queue, and again after each change. On a terminal, each frame replaces the previous one.
pub(super) async fn watch(
    context: &mut Context<'_>,
    client: &Client,
    params: &ListJobsParams,
) -> Result<Exit, ApiError> {
    let redraws = context.out.stdout_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let mut screen = Screen::default();
    let mut before: Option<(Vec<JobRecord>, Waiting)> = None;
    let mut reader_gone = pin!(context.out.reader_gone());
    loop {
        let jobs = client.list_queue_jobs(params).await?;
        let waiting = if context.json { Waiting::new() } else { queue::waiting(client).await? };
        let changed = before.as_ref().is_none_or(|(before, waited)| differ(before, &jobs) || *waited != waiting);
        if context.json {
            if changed {
                context.out.json_line(&jobs)?;
            }
        } else if redraws {
            // Redraw without a change, too, because the waiting times grow.
            let paused = queue::pauses(client).await?;
            let text = frame(context, &jobs, &waiting, paused.as_deref());
            let size = terminal_size::terminal_size().map(|(_, height)| usize::from(height.0));
            context.out.width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
            context.out.write(&screen.draw(&text, size.unwrap_or(ROWS)))?;
        } else if changed {
            let paused = queue::pauses(client).await?;
            let time = format::local(times::now());
            let text = format!("{time}\n{}\n", frame(context, &jobs, &waiting, paused.as_deref()));
            context.out.write(&text)?;
        }
        if context.out.closed() {
            return Ok(Exit::Done);
        }
        before = Some((jobs, waiting));
        tokio::select! {
            () = &mut reader_gone => return Ok(Exit::Done),
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Whether the jobs differ in more than values that grow with time.
fn differ(before: &[JobRecord], after: &[JobRecord]) -> bool {
    let still = |job: &JobRecord| JobRecord { effective_priority: None, ..job.clone() };
    before.len() != after.len() || before.iter().zip(after).any(|(before, after)| still(before) != still(after))
}

fn frame(context: &Context<'_>, jobs: &[JobRecord], waiting: &Waiting, paused: Option<&str>) -> String {
    let mut text = if jobs.is_empty() {
        "the queue is empty\n".to_owned()
    } else {
        let table = queue::table(jobs, waiting, context.out.stdout_terminal, times::now());
        table.render(context.out.width, context.out.color)
    };
    if let Some(paused) = paused {
        text.push_str(paused);
        text.push('\n');
    }
    text
}

/// The frame on the terminal.
#[derive(Debug, Default)]
struct Screen {
    rows: usize,
}

impl Screen {
    /// Output that replaces the previous frame. The text is cut to the height of the terminal, because lines that have
    /// scrolled away cannot be replaced.
    fn draw(&mut self, text: &str, height: usize) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let room = height.saturating_sub(1).max(2);
        let shown = if lines.len() > room { room - 1 } else { lines.len() };
        let mut drawn = match self.rows {
            0 => String::new(),
            rows => format!("\u{1b}[{rows}A\r"),
        };
        for line in lines.iter().take(shown) {
            drawn.push_str(&format!("{line}\u{1b}[K\n"));
        }
        self.rows = shown;
        if shown < lines.len() {
            drawn.push_str(&format!("and {} more\u{1b}[K\n", lines.len() - shown));
            self.rows += 1;
        }
        drawn.push_str("\u{1b}[J");
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tests::job;
    use ostler_protocol::JobState;

    #[test]
    fn each_frame_replaces_the_previous_one() {
        let mut screen = Screen::default();
        assert_eq!(screen.draw("a\nb\n", 24), "a\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        assert_eq!(screen.draw("c\n", 24), "\u{1b}[2A\rc\u{1b}[K\n\u{1b}[J");
        assert_eq!(screen.draw("d\n", 24), "\u{1b}[1A\rd\u{1b}[K\n\u{1b}[J");
    }

    #[test]
    fn counts_rows_that_do_not_fit() {
        let mut screen = Screen::default();
        let text: String = (0..10).map(|number| format!("{number}\n")).collect();
        let drawn = screen.draw(&text, 4);
        assert_eq!(drawn, "0\u{1b}[K\n1\u{1b}[K\nand 8 more\u{1b}[K\n\u{1b}[J");
        assert!(screen.draw(&text, 4).starts_with("\u{1b}[3A"));
    }

    #[test]
    fn ignores_growing_effective_priority() {
        let before = job("00000001", JobState::Ready, None, "x");
        let older = JobRecord { effective_priority: Some(3.0), ..before.clone() };
        assert!(!differ(std::slice::from_ref(&before), &[older]));
        let moved = JobRecord { priority: 5, ..before.clone() };
        assert!(differ(std::slice::from_ref(&before), &[moved]));
        assert!(differ(&[], &[before]));
    }
}
