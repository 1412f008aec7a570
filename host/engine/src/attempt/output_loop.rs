//! Drives a child until it has ended: moves its output (bytes to lines, lines to the plugin and through redaction, all of it to
//! storage), and ends it at its time limit, at a stop, or when a policy denies what it does.
//!
//! Runs on the attempt's own thread and blocks there; the writer's bounded queue slows it, and it slows the child.

mod approval_request;
mod approvals;
mod commands;
mod edited_call;
mod ending;
mod pending_requests;
mod protocol_requests;
mod session_state;
mod typing;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::attempt::conclude::KnownSession;
use crate::attempt::event_sink::RunEventSink;
use crate::attempt::event_translator::{self, EventTranslator};
use crate::attempt::line_decoder::LineDecoder;
use crate::attempt::outcome::StopReason;
use crate::attempt::terminal_output::TerminalOutput;
use crate::attempt::tool_use::{ToolDecision, ToolUses};
use crate::attempt::work::Work;
use crate::audit::AuditLog;
use crate::document::{Document, Piece, Printed};
use crate::queue::active_run::ActiveRun;
use crate::record::Recorder;
use crate::session::approvals::Approvals;
use ostler_config::Config;
use ostler_plugin_host::types as plugin;
use ostler_plugin_host::{PluginError, Transcript};
use ostler_protocol::{Chunk, CliExit, Payload, RunId, SessionEnd, SessionOpened, StreamMetrics, WarningCode};
use ostler_runner::{Batch, Child, Contained, Event, Exit, ExitStatus, LineCaps, StopSignal, Stream, Usage};
use ostler_storage::{Durability, Storage};
use ostler_test_hooks::failpoint;

pub(crate) use approvals::Fallback;
pub(crate) use commands::INPUT_QUEUE;
use pending_requests::PendingRequests;
use protocol_requests::ProtocolRequests;
use session_state::SessionState;
use typing::Typing;

/// How long a CLI in a terminal has to end after the key for the end of the input. Many do not end by it.
const TERMINAL_LINGER: Duration = Duration::from_secs(2);

/// What an output loop needs.
pub(crate) struct OutputLoopParts<'a> {
    pub(crate) run: RunId,
    pub(crate) child: Child,
    pub(crate) active_run: &'a Arc<ActiveRun>,
    pub(crate) recorder: &'a Recorder,
    pub(crate) storage: &'a Storage,
    pub(crate) config: &'a Config,
    /// The error, if the transcript could not be started. The child is running then, and its output is stored as it is; the
    /// CLI of a protocol is ended.
    pub(crate) transcript: Result<Transcript, PluginError>,
    /// Evaluates the tool uses that the transcript reports.
    pub(crate) tools: ToolUses<'a>,
    pub(crate) form: plugin::OutputForm,
    pub(crate) channel: plugin::Channel,
    pub(crate) stop: StopSignal,
    pub(crate) max_tool_lines: u32,
    pub(crate) time_limit: Duration,
    /// How the requests of the CLI are decided.
    pub(crate) interaction: Interaction<'a>,
}

/// How an attempt interacts with policies and users while it runs.
pub(crate) struct Interaction<'a> {
    /// The approvals of all runs.
    pub(crate) approvals: &'a Approvals,
    /// The audit trail.
    pub(crate) audit: &'a AuditLog,
    /// Provider instance.
    pub(crate) provider: &'a str,
    /// Working folder of the run.
    pub(crate) cwd: &'a Path,
    /// What happens when the CLI asks and no policy has decided.
    pub(crate) fallback: Fallback,
    /// How long a user has to answer.
    pub(crate) approval_limit: Duration,
    /// For a session, how long it may be idle.
    pub(crate) idle_limit: Option<Duration>,
}

/// What the output loop found out.
pub(crate) struct OutputResult {
    pub(crate) exit: Exit,
    pub(crate) stop_reason: StopReason,
    /// Whether the host has ended the child.
    pub(crate) cut_short: bool,
    /// The error, if the plugin failed.
    pub(crate) transcript: Result<Transcript, String>,
    pub(crate) translator: EventTranslator,
    /// Standard output, if it is the answer.
    pub(crate) printed: Option<Printed>,
    pub(crate) stdout: StreamMetrics,
    pub(crate) stderr: StreamMetrics,
    pub(crate) events: u64,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) ran: Duration,
    /// Whether a session in a terminal was ended by request: how its CLI then exits says nothing.
    pub(crate) ended_on_request: bool,
    /// Whether the run has waited for a user, which does not count towards its time limit.
    pub(crate) user_asked: bool,
}

struct OutputLoop<'a> {
    run: RunId,
    child: Child,
    active_run: &'a Arc<ActiveRun>,
    recorder: &'a Recorder,
    storage: &'a Storage,
    sink: RunEventSink<'a>,
    transcript: Result<Transcript, String>,
    tools: ToolUses<'a>,
    /// Until when tool uses are evaluated, once the run is being ended.
    evaluated_until: Option<Instant>,
    channel: plugin::Channel,
    approvals: &'a Approvals,
    audit: &'a AuditLog,
    provider: &'a str,
    cwd: &'a Path,
    fallback: Fallback,
    approval_limit: Duration,
    /// Requests of the CLI that were not handled yet, and whether one is being handled.
    asked: VecDeque<plugin::Semantic>,
    deciding: bool,
    /// Decisions so far that no user has made.
    decisions: u64,
    /// Requests of the CLI that wait for a user.
    pending: PendingRequests,
    /// Requests to the CLI that it has not answered.
    requests: ProtocolRequests,
    session: Option<SessionState>,
    stop: StopSignal,
    grace: Duration,
    linger: Duration,
    keep_raw: bool,
    caps: LineCaps,
    translator: EventTranslator,
    stdout: Lane,
    stderr: Lane,
    /// If standard output is the answer: it decodes that stream instead of the lane.
    document: Option<Document>,
    /// If the child has a terminal: what it shows there. The lane only makes lines for the plugin.
    terminal: Option<TerminalOutput>,
    typing: Typing,
    stop_reason: StopReason,
    cut_short: bool,
    work: Work,
    exit: Option<Exit>,
    started: Instant,
    deadline: Instant,
    first_byte: Option<Duration>,
    session_stored: bool,
}

/// One stream of the child.
struct Lane {
    decoder: LineDecoder,
    /// Whether it was reported that a line was cut.
    cut_reported: bool,
}

/// Handles the output of a child until the child and all its descendants have ended.
pub(crate) fn run(parts: OutputLoopParts<'_>) -> OutputResult {
    let runner = &parts.config.runner;
    let caps = LineCaps { transcript: runner.max_transcript_line_bytes(), shown: runner.max_line_bytes };
    let lane = || Lane { decoder: LineDecoder::new(caps, parts.recorder.redactor()), cut_reported: false };
    let (transcript, failed) = match parts.transcript {
        Ok(transcript) => (Ok(transcript), None),
        Err(error) => (Err(error.to_string()), Some(error)),
    };
    let started = Instant::now();
    let document = (parts.form == plugin::OutputForm::Text).then(|| Document::new(parts.recorder.redactor()));
    let in_terminal = parts.channel == plugin::Channel::Pty;
    let terminal = in_terminal.then(|| TerminalOutput::new(parts.recorder.redactor()));
    let session = if in_terminal { SessionState::in_terminal } else { SessionState::new };
    let quota = parts.config.storage.max_stored_bytes();
    let mut output_loop = OutputLoop {
        run: parts.run,
        active_run: parts.active_run,
        recorder: parts.recorder,
        storage: parts.storage,
        sink: RunEventSink::new(parts.run, parts.recorder, parts.storage.output(), quota),
        transcript,
        tools: parts.tools,
        evaluated_until: None,
        channel: parts.channel,
        approvals: parts.interaction.approvals,
        audit: parts.interaction.audit,
        provider: parts.interaction.provider,
        cwd: parts.interaction.cwd,
        fallback: parts.interaction.fallback,
        approval_limit: parts.interaction.approval_limit,
        asked: VecDeque::new(),
        deciding: false,
        decisions: 0,
        pending: PendingRequests::default(),
        requests: ProtocolRequests::default(),
        session: parts.interaction.idle_limit.map(|limit| session(limit, started)),
        stop: parts.stop,
        grace: runner.grace(),
        linger: if in_terminal { runner.linger().min(TERMINAL_LINGER) } else { runner.linger() },
        keep_raw: parts.config.storage.raw,
        caps,
        translator: EventTranslator::new(parts.recorder.redactor().clone(), parts.max_tool_lines),
        stdout: lane(),
        stderr: lane(),
        document,
        terminal,
        typing: Typing::default(),
        stop_reason: StopReason::Nothing,
        cut_short: false,
        work: Work::new(runner),
        exit: None,
        started,
        deadline: started + parts.time_limit,
        first_byte: None,
        session_stored: false,
        child: parts.child,
    };
    if let Some(error) = failed {
        output_loop.give_up("the output cannot be understood", &error);
    }
    let contained = output_loop.drive();
    output_loop.close(&contained);
    OutputResult {
        exit: output_loop.exit.unwrap_or(Exit { status: ExitStatus::Unknown, usage: Usage::default() }),
        stop_reason: output_loop.stop_reason,
        cut_short: output_loop.cut_short,
        transcript: output_loop.transcript,
        translator: output_loop.translator,
        printed: output_loop.document.map(Document::into_printed),
        stdout: output_loop.stdout.decoder.metrics(),
        stderr: output_loop.stderr.decoder.metrics(),
        events: output_loop.sink.events(),
        first_byte: output_loop.first_byte,
        ran: started.elapsed(),
        ended_on_request: output_loop.terminal.is_some()
            && output_loop.session.is_some_and(|session| session.ending().is_some()),
        user_asked: output_loop.deadline != started + parts.time_limit,
    }
}

impl OutputLoop<'_> {
    fn drive(&mut self) -> Contained {
        let waker = self.child.waker();
        self.active_run.attach(move || waker.wake());
        if self.channel != plugin::Channel::Pipes {
            let step = self.guest(Transcript::open);
            self.take(step);
        }
        if self.terminal.is_some() {
            // No event of the plugin may report that the session is open.
            self.open_session(None);
        }
        loop {
            let until = self.next_deadline();
            match self.child.next(until) {
                Event::Output { stream, bytes } => self.on_output(stream, &bytes),
                Event::EndOfStream(stream) => self.on_end(stream),
                Event::Exited(exit) => self.on_exit(exit),
                Event::StdinClosed => {}
                Event::StdinFailed { unwritten } => self.on_unread_input(unwritten),
                Event::Woken => {
                    if let Some(cause) = self.active_run.stop_cause() {
                        self.end_child(cause.into());
                    }
                    self.on_commands();
                }
                Event::Deadline => self.on_deadline(),
                Event::Contained(contained) => {
                    self.active_run.detach();
                    return contained;
                }
            }
            if self.stop_reason == StopReason::Nothing && self.sink.failed() {
                self.end_child(StopReason::StorageFailed);
            }
        }
    }

    fn on_output(&mut self, stream: Stream, bytes: &[u8]) {
        let first = self.first_byte.is_none();
        if first {
            self.first_byte = Some(self.started.elapsed());
            failpoint::reach("chunk.before");
        }
        self.lane(stream).decoder.count_bytes(bytes.len() as u64);
        if let Some(document) = self.document.as_mut().filter(|_| stream == Stream::Stdout) {
            let piece = document.push(bytes);
            self.store_answer(piece);
        } else if self.terminal.is_some() {
            self.on_terminal_output(stream, bytes);
        } else if let Some(batch) = self.lane(stream).decoder.push(bytes) {
            self.on_lines(stream, &batch);
        }
        if first {
            failpoint::reach("chunk.after");
        }
    }

    /// Stores what the terminal shows, and lets the plugin read the lines of it.
    fn on_terminal_output(&mut self, stream: Stream, bytes: &[u8]) {
        let now = Instant::now();
        let chunk = self.terminal.as_mut().and_then(|terminal| terminal.push(bytes, now));
        self.store_chunk(stream, chunk);
        if let Some(session) = &mut self.session {
            session.on_output(now);
        }
        if self.sink.is_trimmed() {
            // Nobody would see what the CLI shows.
            self.end_session(SessionEnd::StorageLimit);
        }
        if let Some(batch) = self.lane(stream).decoder.push(bytes) {
            self.read(stream, &batch);
        }
    }

    fn on_end(&mut self, stream: Stream) {
        if let Some(document) = self.document.as_mut().filter(|_| stream == Stream::Stdout) {
            let piece = document.finish();
            self.stdout.decoder.set_lines(document.lines());
            self.store_answer(piece);
            return;
        }
        if let Some(terminal) = self.terminal.as_mut().filter(|_| stream == Stream::Stdout) {
            let rest = terminal.finish();
            self.store_chunk(stream, rest);
            if let Some(batch) = self.lane(stream).decoder.finish() {
                self.read(stream, &batch);
            }
            return;
        }
        if let Some(batch) = self.lane(stream).decoder.finish() {
            self.on_lines(stream, &batch);
        }
        let rest = self.lane(stream).decoder.flush();
        self.store_chunk(stream, rest);
    }

    fn on_exit(&mut self, exit: Exit) {
        let (code, signal) = match exit.status {
            ExitStatus::Code(code) => (Some(code), None),
            ExitStatus::Signal(signal) => (None, Some(signal)),
            ExitStatus::Unknown => (None, None),
        };
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let event = self.recorder.event(&Payload::CliExit(CliExit { code, signal, duration_ms }));
        failpoint::reach("exit.before");
        self.sink.store(event);
        self.exit = Some(exit);
        failpoint::reach("exit.after");
    }

    fn on_unread_input(&mut self, unwritten: usize) {
        if unwritten > 0 && self.stop_reason == StopReason::Nothing {
            let message = format!("the CLI did not read all of its input; bytes left: {unwritten}");
            self.sink.warn(WarningCode::InputUnread, message, json!({"bytes": unwritten}));
        }
    }

    /// Stores a piece of the answer. No plugin reads it, and nothing of it is cut.
    fn store_answer(&mut self, piece: Option<Piece>) {
        let Some(piece) = piece else { return };
        let written = self.sink.store_piece(&Payload::ChunkStdout(piece.chunk.clone()));
        let Some(document) = &mut self.document else { return };
        match written {
            Some(written) => document.kept(&piece, written),
            None => document.lost(&piece),
        }
    }

    fn on_lines(&mut self, stream: Stream, batch: &Batch) {
        let covered = self.read(stream, batch);
        let decoded = self.lane(stream).decoder.redact(batch, &covered);
        // A line that a plugin has read as a whole is not shown, and nothing of it is missing.
        self.report_cut(stream, batch.truncated(), decoded.cut);
        self.store_chunk(stream, decoded.chunk);
    }

    /// Lets the transcript read lines, unless it has failed. Returns for each line whether an event stands for it; empty
    /// means none.
    fn read(&mut self, stream: Stream, batch: &Batch) -> Vec<bool> {
        if self.transcript.is_err() {
            return Vec::new();
        }
        let name = match stream {
            Stream::Stdout => plugin::OutputStream::Stdout,
            Stream::Stderr => plugin::OutputStream::Stderr,
        };
        let lines: Vec<plugin::Line> = batch
            .lines()
            .map(|line| plugin::Line { stream: name, text: line.text.to_owned(), truncated: line.truncated })
            .collect();
        let count = lines.len();
        if self.stop_reason == StopReason::WorkDone {
            // The outcome is known: what the CLI reports about its own end does not change it.
            return vec![stream == Stream::Stdout && !self.keep_raw; count];
        }
        let unread = lines.iter().filter(|line| line.truncated && stream == Stream::Stdout).count();
        let step = self.guest(|transcript| transcript.read(&lines));
        let indexes = self.take(step);
        for _ in 0..unread {
            if let Some(decision) = self.tools.unread_line() {
                self.act_on(decision);
            }
        }
        if self.keep_raw || indexes.is_empty() {
            return Vec::new();
        }
        let mut covered = vec![false; count];
        for index in indexes {
            if let Some(flag) = usize::try_from(index).ok().and_then(|index| covered.get_mut(index)) {
                *flag = true;
            }
        }
        covered
    }

    /// Calls the plugin. If it fails, this is reported once, and the output is stored as it is.
    fn guest<T>(&mut self, call: impl FnOnce(&mut Transcript) -> Result<T, PluginError>) -> Option<T> {
        let transcript = self.transcript.as_mut().ok()?;
        match call(transcript) {
            Ok(value) => Some(value),
            Err(error) => {
                self.give_up("the output cannot be understood any more", &error);
                None
            }
        }
    }

    /// Reports that the plugin has failed. Continues without it, unless it is needed.
    fn give_up(&mut self, what: &str, error: &PluginError) {
        let facts = json!({"plugin": error.plugin});
        self.sink.warn(WarningCode::PluginFailed, format!("{what}: {error}"), facts);
        self.transcript = Err(error.to_string());
        // The CLI of a protocol would wait for messages that only the plugin can make.
        if self.channel == plugin::Channel::Duplex || self.tools.end_unseen() {
            self.end_child(StopReason::Unreadable);
        }
    }

    /// Carries out a step of the plugin. Returns the indexes of the lines for which events stand.
    fn take(&mut self, step: Option<plugin::Step>) -> Vec<u32> {
        let Some(mut step) = step else { return Vec::new() };
        self.work.hear(&mut step.events);
        if self.work.stopped() {
            self.end_child(StopReason::WorkDone);
        }
        let now = Instant::now();
        self.requests.take(&mut step.events, now);
        if let Some(session) = &mut self.session {
            session.take(&mut step.events, now);
        }
        let (requests, events): (Vec<_>, Vec<_>) = step.events.into_iter().partition(|event| {
            matches!(event, plugin::Semantic::ApprovalRequested(_) | plugin::Semantic::ApprovalWithdrawn(_))
        });
        let tool_uses = self.tools.new_uses(&events);
        let mut translated = Vec::new();
        self.translator.translate(events, &mut translated);
        // Before the events of the step, which can include the end of the first turn.
        self.store_session();
        translated.into_iter().for_each(|event| self.sink.emit(event));
        for tool_use in tool_uses {
            // A step can report many tool uses, and each policy takes time.
            let in_time = self.may_evaluate();
            let decision = self.tools.evaluate(tool_use, in_time);
            self.act_on(decision);
        }
        if self.channel != plugin::Channel::Pipes {
            let written = self.typed(step.write);
            if !written.is_empty()
                && let Err(refused) = self.child.write(written)
                && self.exit.is_none()
            {
                // Without the message, both sides would wait for ever.
                self.end_child(StopReason::Unresponsive(format!("a message could not be sent to the CLI: {refused}")));
            }
            if step.end_input {
                self.child.close_stdin();
            }
        }
        self.on_requests(requests);
        self.advance_session();
        step.covered
    }

    fn act_on(&mut self, decision: ToolDecision) {
        match decision {
            ToolDecision::NoFindings => {}
            ToolDecision::Recorded(event) => self.sink.store_within_quota(event),
            ToolDecision::Denied { events, end } => {
                self.sink.store_all(events);
                if let Some(denial) = end {
                    self.end_child(StopReason::Denied(denial));
                }
            }
        }
    }

    /// Stores the session as soon as it is known: the host may be killed before the run ends.
    fn store_session(&mut self) {
        if self.session_stored {
            return;
        }
        let Some(session) = self.translator.session().cloned() else { return };
        let (run, known) = (self.run, KnownSession::new(&session.id, self.recorder));
        self.session_stored = true;
        self.open_session(Some(&session));
        drop(self.storage.write(Durability::Batched, move |tx| known.write(tx, run)));
    }

    /// Reports that the session is open, once.
    fn open_session(&mut self, session: Option<&plugin::SessionInfo>) {
        let Some(state) = &mut self.session else { return };
        if !state.open() {
            return;
        }
        let session_id = session.map(|session| session.id.clone());
        let origin = session.map_or(plugin::SessionOrigin::Fresh, |session| session.origin);
        let cleaned = session_id.as_deref().map(|id| self.recorder.clean(id));
        let opened = SessionOpened { session_id, origin: event_translator::origin(origin) };
        self.sink.store(self.recorder.event(&Payload::SessionOpened(opened)));
        self.active_run.open_session(cleaned);
    }

    fn store_chunk(&mut self, stream: Stream, chunk: Option<Chunk>) {
        let Some(chunk) = chunk else { return };
        self.sink.store_output(&match stream {
            Stream::Stdout => Payload::ChunkStdout(chunk),
            Stream::Stderr => Payload::ChunkStderr(chunk),
        });
    }

    /// Reports that a line was cut, once for each stream.
    fn report_cut(&mut self, stream: Stream, truncated: bool, cut: bool) {
        if self.lane(stream).cut_reported || !(truncated || cut) {
            return;
        }
        self.lane(stream).cut_reported = true;
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let limit = if truncated { self.caps.transcript } else { self.caps.shown };
        let message = format!("output truncated: a line of {name} exceeded {limit} bytes");
        self.sink.warn(WarningCode::LineTruncated, message, json!({"stream": name}));
    }

    fn close(&mut self, contained: &Contained) {
        let mut events = Vec::new();
        self.translator.finish(&mut events);
        events.into_iter().for_each(|event| self.sink.emit(event));
        for tool_use in self.tools.undecided() {
            let in_time = self.may_evaluate();
            let decision = self.tools.evaluate(tool_use, in_time);
            self.act_on(decision);
        }
        self.close_approvals();
        self.close_session();
        if let Some(event) = self.tools.left_out() {
            self.sink.store(event);
        }
        // After a stop, the host ends all descendants on purpose; otherwise the CLI has left them behind.
        if contained.killed_total > 0 && matches!(self.stop_reason, StopReason::Nothing | StopReason::WorkDone) {
            let count = contained.killed_total;
            let processes = if count == 1 { "1 process" } else { &format!("{count} processes") };
            let message = format!("the CLI left {processes} behind, which the host ended");
            self.sink.warn_of_processes(WarningCode::ProcessesEnded, message, Some(count), &contained.killed);
        }
        if !contained.survivors.is_empty() {
            let message = "processes of the run survived SIGKILL";
            self.sink.warn_of_processes(WarningCode::LeftoverProcess, message, None, &contained.survivors);
        }
        if self.sink.failed() {
            self.end_child(StopReason::StorageFailed);
        }
    }

    const fn lane(&mut self, stream: Stream) -> &mut Lane {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}
