//! Follows a run to its end: answer, progress, cancellation.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::approval::{Change, Handled, InlineApprovals};
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, complain};
use super::printer::{Level, Note, Printer};
use super::progress::{Progress, TICK};
use super::signals::{Detach, Signals};
use super::{format, result};
use ostler_client::{Client, ClientError, StreamItem};
use ostler_protocol::methods::{CancelResult, SubscribeParams};
use ostler_protocol::semantic::TurnStatus;
use ostler_protocol::{ApiError, Event, JobRecord, RunId, WaitReason};

/// Interval between two queries for the queue position of a waiting run.
const POSITION_INTERVAL: Duration = Duration::from_secs(2);

/// What Ctrl-C and SIGTERM do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnInterrupt {
    /// The first signal cancels the run; the second one detaches.
    Cancel,
    /// They detach from the run, which continues.
    Leave,
}

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    /// Name of the run beside the spinner.
    pub(super) label: &'a str,
    pub(super) quiet: bool,
    /// Cancel the run at once: the user asked for that before its id was known.
    pub(super) cancel: bool,
    /// The answer is also written to a file, so standard output may contain more than the answer.
    pub(super) filed: bool,
    pub(super) on_interrupt: OnInterrupt,
    /// Events up to this cursor are processed but not shown: the user joins the run there.
    pub(super) joined_at: Option<u64>,
    /// The approvals of events up to this cursor are history. Those that are still open then are asked about.
    pub(super) history_to: Option<u64>,
    /// Follow only the turn that begins after this cursor.
    pub(super) turn_after: Option<u64>,
}

impl<'a> Options<'a> {
    /// Follows a new run to its end; Ctrl-C cancels it.
    pub(super) const fn new(label: &'a str, quiet: bool) -> Self {
        Self {
            label,
            quiet,
            cancel: false,
            filed: false,
            on_interrupt: OnInterrupt::Cancel,
            joined_at: None,
            history_to: None,
            turn_after: None,
        }
    }
}

/// Shows a run until it has ended. Returns its outcome.
pub(super) async fn follow(
    context: &mut Context<'_>,
    client: &Client,
    run_id: RunId,
    signals: &mut Signals,
    options: Options<'_>,
) -> Result<Exit, ApiError> {
    let quiet = options.quiet || context.json;
    let mut view = View {
        json: context.json,
        json_result: context.json_result,
        filed: options.filed,
        joined_at: options.joined_at,
        reported_pause: String::new(),
        run: format::short_id(run_id),
        printer: Printer::new(format::short_id(run_id)),
        answer: Answer::default(),
        progress: Progress::new(options.label, quiet, &context.out),
        approvals: InlineApprovals::new(client, &context.out, context.json && !context.json_result, context.json),
        history_to: options.history_to,
        held: VecDeque::new(),
        ended: false,
    };
    let after = options.turn_after;
    let mut events = client.follow(SubscribeParams { run_id: Some(run_id), after, ..SubscribeParams::default() });
    let mut positions = watch_position(client, run_id, view.progress.visible());
    let mut tick = tokio::time::interval(TICK);
    let mut detach = Detach::listen()?;
    let mut reader_gone = pin!(context.out.reader_gone());
    let mut cancel = Cancel::NotAsked;
    if options.cancel {
        cancel = view.cancel(&mut context.out, client, run_id)?;
    }
    loop {
        let mut shown = Shown::Nothing;
        tokio::select! {
            biased;
            () = detach.next(), if matches!(cancel, Cancel::NotAsked) => {
                view.close(&mut context.out)?;
                let id = format::short_id(run_id);
                complain(&format!("left run {id}, which continues; `ostler attach {id}` follows it again"));
                return Ok(Exit::Detached);
            }
            () = &mut reader_gone, if options.on_interrupt == OnInterrupt::Leave => return Ok(Exit::Done),
            () = signals.next() => {
                if options.on_interrupt == OnInterrupt::Leave {
                    view.close(&mut context.out)?;
                    complain(&format!("left run {}, which continues", format::short_id(run_id)));
                    return Ok(Exit::Canceled);
                }
                if !matches!(cancel, Cancel::NotAsked) {
                    view.close(&mut context.out)?;
                    complain(&format!("exiting; the host is still canceling run {}", format::short_id(run_id)));
                    return Ok(Exit::Canceled);
                }
                cancel = view.cancel(&mut context.out, client, run_id)?;
            }
            // After a successful cancel the terminal event follows; only a failed cancel ends the loop here.
            result = cancel.answered() => result?,
            event = view.approvals.next() => match view.approvals.handle(event, signals).await {
                Handled::Nothing => shown = view.resume(&mut context.out)?,
                Handled::Line(line) => {
                    view.held.push_front(Held::Line(line));
                    shown = view.resume(&mut context.out)?;
                }
                Handled::Gone => return Ok(Exit::Detached),
            },
            item = events.next() => match item {
                Ok(StreamItem::Event(event)) => shown = view.show(&mut context.out, event)?,
                Ok(StreamItem::Interrupted(_)) => {
                    let text = "lost the connection to the host; reconnecting".to_owned();
                    view.show_note(&mut context.out, &Note { level: Level::Warning, text })?;
                }
                Err(error) => return Err(error.into()),
            },
            Some(job) = positions.receiver.recv() => view.waits(&mut context.out, &job)?,
            _ = tick.tick(), if view.progress.moves() || view.approvals.is_asking() => view.tick(),
        }
        match shown {
            Shown::Turn(status) if options.turn_after.is_some() => {
                view.close(&mut context.out)?;
                return view.end_turn(context, run_id, &status);
            }
            Shown::End(exit) => {
                if context.json_result {
                    result::print(context, client, run_id, exit).await?;
                }
                return Ok(exit);
            }
            Shown::Turn(_) | Shown::Nothing => {}
        }
        if !view.progress.waiting() {
            positions.end();
        }
    }
}

/// State of a request to cancel.
enum Cancel {
    NotAsked,
    Asked(JoinHandle<Result<CancelResult, ClientError>>),
    Answered,
}

impl Cancel {
    /// Waits for the host's answer, once. Never returns if there is no pending request. Cancel-safe.
    async fn answered(&mut self) -> Result<(), ApiError> {
        let Self::Asked(call) = self else { return std::future::pending().await };
        let outcome = call.await;
        *self = Self::Answered;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(ApiError::internal(format!("the call to cancel broke off: {error}"))),
        }
    }
}

/// The view of a run that is followed.
struct View {
    json: bool,
    json_result: bool,
    filed: bool,
    joined_at: Option<u64>,
    history_to: Option<u64>,
    /// The last message about a pause that blocks the run; empty if there is no pause.
    reported_pause: String,
    run: String,
    printer: Printer,
    answer: Answer,
    progress: Progress,
    approvals: InlineApprovals,
    /// What has happened while a dialog about an approval is open. It is shown afterwards, so that the command or the diff
    /// stays in view.
    held: VecDeque<Held>,
    /// The run or the view has ended: nothing is held back any more.
    ended: bool,
}

/// Something that is shown later.
enum Held {
    Event(Box<Event>),
    /// A line about an approval.
    Line(String),
}

/// What an event means for the loop.
enum Shown {
    Nothing,
    /// A turn has ended.
    Turn(TurnStatus),
    /// The run has ended.
    End(Exit),
}

impl View {
    fn show(&mut self, out: &mut Output, event: Box<Event>) -> Result<Shown, ApiError> {
        if self.json && !self.json_result && !self.is_before_join(&event) {
            out.json_line(&event)?;
        }
        let history = self.history_to.is_some_and(|last| event.cursor <= last);
        let line = Change::of_event(&event).and_then(|change| self.approvals.take(&change));
        self.ended |= event.kind.terminal();
        if self.history_to.is_some_and(|last| event.cursor >= last) {
            self.history_to = None;
        }
        self.held.push_back(Held::Event(event));
        if let Some(line) = line.filter(|_| !history) {
            self.held.push_back(Held::Line(line));
        }
        if self.ended {
            self.approvals.close();
        }
        self.resume(out)
    }

    fn is_before_join(&self, event: &Event) -> bool {
        self.joined_at.is_some_and(|joined| event.cursor <= joined)
    }

    /// Shows what was held back, and opens the next dialog.
    fn resume(&mut self, out: &mut Output) -> Result<Shown, ApiError> {
        while self.ended || !self.approvals.is_asking() {
            let shown = match self.held.pop_front() {
                None => break,
                Some(Held::Event(event)) => self.show_event(out, &event)?,
                Some(Held::Line(text)) => {
                    self.show_note(out, &Note { level: Level::Info, text })?;
                    Shown::Nothing
                }
            };
            if !matches!(shown, Shown::Nothing) {
                return Ok(shown);
            }
        }
        if self.history_to.is_none() && self.approvals.waits() && !self.ended {
            self.progress.hide();
            if out.stdout_terminal {
                self.answer.write(out, self.printer.break_line().as_bytes())?;
            }
            for text in self.approvals.ask() {
                self.show_note(out, &Note { level: Level::Doubt, text })?;
            }
        }
        Ok(Shown::Nothing)
    }

    fn show_event(&mut self, out: &mut Output, event: &Event) -> Result<Shown, ApiError> {
        let joins = self.is_before_join(event);
        let mut step = self.printer.take(event);
        if joins || self.json {
            let _ = self.printer.break_line();
        }
        if let Some(activity) = step.activity.take() {
            self.progress.set(activity);
        }
        let shown = match (step.end, step.turn.take()) {
            (Some(exit), _) => Shown::End(exit),
            (None, Some(turn)) => Shown::Turn(turn),
            (None, None) => Shown::Nothing,
        };
        if joins || self.json {
            return Ok(shown);
        }
        if !step.answer.is_empty() {
            self.progress.make_way();
            self.answer.write(out, &step.answer)?;
        }
        if step.end.is_some() {
            if out.stdout_terminal {
                self.answer.write(out, self.printer.break_line().as_bytes())?;
            }
            self.answer.finish(out)?;
            self.progress.hide();
        }
        for note in &step.notes {
            self.show_note(out, note)?;
        }
        if step.end == Some(Exit::Done) && step.mixed && !self.filed && !out.stdout_terminal {
            let id = &self.run;
            let text = format!(
                "standard output holds what earlier attempts of run {id} printed as well\n\
                 hint: `ostler export {id} --format txt --output -` prints the answer alone"
            );
            self.show_note(out, &Note { level: Level::Error, text })?;
            return Ok(Shown::End(Exit::Undelivered));
        }
        Ok(shown)
    }

    /// Ends the view before the run has ended.
    fn close(&mut self, out: &mut Output) -> Result<(), ApiError> {
        self.approvals.close();
        self.ended = true;
        while !self.held.is_empty() {
            self.resume(out)?;
        }
        self.progress.hide();
        Ok(())
    }

    /// The outcome of a turn. Prints it if JSON is wanted.
    fn end_turn(&mut self, context: &mut Context<'_>, run_id: RunId, status: &TurnStatus) -> Result<Exit, ApiError> {
        let exit = match status {
            TurnStatus::Interrupted => Exit::Canceled,
            TurnStatus::Failed => Exit::RunFailed,
            _ => Exit::Done,
        };
        if context.json_result {
            let text = self.printer.last_text();
            let result = json!({"runId": run_id, "turn": status.name(), "text": text, "exitCode": exit.code()});
            context.out.document(&result)?;
        } else if !context.json {
            self.answer.finish(&mut context.out)?;
            let note = match exit {
                Exit::RunFailed => Some((Level::Error, "the turn failed")),
                Exit::Canceled => Some((Level::Doubt, "the turn was interrupted")),
                _ => None,
            };
            if let Some((level, text)) = note {
                self.show_note(&mut context.out, &Note { level, text: text.to_owned() })?;
            }
        }
        Ok(exit)
    }

    fn tick(&mut self) {
        if self.approvals.is_asking() {
            self.approvals.redraw();
        } else {
            self.progress.tick(self.printer.at_line_start());
        }
    }

    /// Updates the queue position of a waiting run, and reports a paused queue.
    fn waits(&mut self, out: &mut Output, job: &JobRecord) -> Result<(), ApiError> {
        if let Some(position) = job.position {
            self.progress.set_position(position);
        }
        let paused = match job.reason {
            Some(WaitReason::Paused) => "the queue is paused; `ostler queue resume` resumes it".to_owned(),
            Some(WaitReason::ProviderPaused) => {
                format!("{0} is paused; `ostler queue resume {0}` resumes it", job.provider)
            }
            _ => String::new(),
        };
        if paused != self.reported_pause {
            self.reported_pause.clone_from(&paused);
            if !paused.is_empty() {
                self.show_note(out, &Note { level: Level::Warning, text: paused })?;
            }
        }
        Ok(())
    }

    fn cancel(&mut self, out: &mut Output, client: &Client, run_id: RunId) -> Result<Cancel, ApiError> {
        let id = format::short_id(run_id);
        let text = format!("canceling run {id} (press Ctrl-C again to exit without waiting)");
        self.show_note(out, &Note { level: Level::Info, text })?;
        let client = client.clone();
        Ok(Cancel::Asked(tokio::spawn(async move { client.cancel_run(run_id).await })))
    }

    /// Shows a note on a line of its own, even if the agent's text is on the same terminal.
    fn show_note(&mut self, out: &mut Output, note: &Note) -> Result<(), ApiError> {
        self.approvals.erase();
        // While a dialog is open, the cursor is at the start of a line.
        if self.progress.wants(note) && out.stdout_terminal && !self.approvals.is_asking() {
            self.answer.write(out, self.printer.break_line().as_bytes())?;
        }
        self.progress.note(note);
        if self.approvals.is_asking() {
            self.approvals.redraw();
        }
        Ok(())
    }
}

/// Polls the queue position of a waiting run.
struct PositionWatch {
    receiver: mpsc::Receiver<JobRecord>,
    task: Option<JoinHandle<()>>,
}

impl PositionWatch {
    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for PositionWatch {
    fn drop(&mut self) {
        self.end();
    }
}

fn watch_position(client: &Client, run_id: RunId, wanted: bool) -> PositionWatch {
    let (sender, receiver) = mpsc::channel(1);
    let client = client.clone();
    let task = wanted.then(|| {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(POSITION_INTERVAL).await;
                let Ok(jobs) = client.try_list_queue().await else { continue };
                let job = jobs.into_iter().find(|job| job.run_id == run_id);
                if let Some(job) = job
                    && sender.send(job).await.is_err()
                {
                    return;
                }
            }
        })
    });
    PositionWatch { receiver, task }
}
