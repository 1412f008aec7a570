//! Follows a run to its end: answer, progress, cancellation.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, complain};
use super::printer::{Level, Note, Printer};
use super::progress::{Progress, TICK};
use super::signals::{Detach, Signals};
use super::{format, result};
use ostler_client::{Client, ClientError, StreamItem};
use ostler_protocol::methods::{CancelResult, SubscribeParams};
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
    };
    let mut events = client.follow(SubscribeParams { run_id: Some(run_id), ..SubscribeParams::default() });
    let mut positions = watch_position(client, run_id, view.progress.visible());
    let mut tick = tokio::time::interval(TICK);
    let mut detach = Detach::listen()?;
    let mut reader_gone = pin!(context.out.reader_gone());
    let mut cancel = Cancel::NotAsked;
    if options.cancel {
        cancel = view.cancel(&mut context.out, client, run_id)?;
    }
    loop {
        tokio::select! {
            biased;
            () = detach.next(), if matches!(cancel, Cancel::NotAsked) => {
                view.progress.hide();
                let id = format::short_id(run_id);
                complain(&format!("left run {id}, which continues; `ostler attach {id}` follows it again"));
                return Ok(Exit::Detached);
            }
            () = &mut reader_gone, if options.on_interrupt == OnInterrupt::Leave => return Ok(Exit::Done),
            () = signals.next() => {
                if options.on_interrupt == OnInterrupt::Leave {
                    view.progress.hide();
                    complain(&format!("left run {}, which continues", format::short_id(run_id)));
                    return Ok(Exit::Canceled);
                }
                if !matches!(cancel, Cancel::NotAsked) {
                    view.progress.hide();
                    complain(&format!("exiting; the host is still canceling run {}", format::short_id(run_id)));
                    return Ok(Exit::Canceled);
                }
                cancel = view.cancel(&mut context.out, client, run_id)?;
            }
            // After a successful cancel the terminal event follows; only a failed cancel ends the loop here.
            result = cancel.answered() => result?,
            item = events.next() => match item {
                Ok(StreamItem::Event(event)) => {
                    if let Some(exit) = view.show(&mut context.out, &event)? {
                        if context.json_result {
                            result::print(context, client, run_id, exit).await?;
                        }
                        return Ok(exit);
                    }
                }
                Ok(StreamItem::Interrupted(_)) => {
                    let text = "lost the connection to the host; reconnecting".to_owned();
                    view.show_note(&mut context.out, &Note { level: Level::Warning, text })?;
                }
                Err(error) => return Err(error.into()),
            },
            Some(job) = positions.receiver.recv() => view.waits(&mut context.out, &job)?,
            _ = tick.tick(), if view.progress.moves() => view.progress.tick(view.printer.at_line_start()),
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
    /// The last message about a pause that blocks the run; empty if there is no pause.
    reported_pause: String,
    run: String,
    printer: Printer,
    answer: Answer,
    progress: Progress,
}

impl View {
    fn show(&mut self, out: &mut Output, event: &Event) -> Result<Option<Exit>, ApiError> {
        if self.joined_at.is_some_and(|joined| event.cursor <= joined) {
            return Ok(self.pass_over(event));
        }
        if self.json {
            if !self.json_result {
                out.json_line(event)?;
            }
            return Ok(self.printer.take(event).end);
        }
        let step = self.printer.take(event);
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
        if let Some(activity) = step.activity {
            self.progress.set(activity);
        }
        if step.end == Some(Exit::Done) && step.mixed && !self.filed && !out.stdout_terminal {
            let id = &self.run;
            let text = format!(
                "standard output holds what earlier attempts of run {id} printed as well\n\
                 hint: `ostler export {id} --format txt --output -` prints the answer alone"
            );
            self.show_note(out, &Note { level: Level::Error, text })?;
            return Ok(Some(Exit::Undelivered));
        }
        Ok(step.end)
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

    /// Processes an event from before the user joined, without showing it.
    fn pass_over(&mut self, event: &Event) -> Option<Exit> {
        let step = self.printer.take(event);
        let _ = self.printer.break_line();
        if let Some(activity) = step.activity {
            self.progress.set(activity);
        }
        step.end
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
        if self.progress.wants(note) && out.stdout_terminal {
            self.answer.write(out, self.printer.break_line().as_bytes())?;
        }
        self.progress.note(note);
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
