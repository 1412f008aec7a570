//! Moves the output of a child: bytes to lines, lines to the plugin and through redaction, and all of it to storage.
//!
//! Runs on the attempt's own thread and blocks there; the writer's bounded queue slows it, and it slows the child.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::attempt::conclude::KnownSession;
use crate::attempt::event_translator::{EventTranslator, TextKey, Told};
use crate::attempt::outcome::StopReason;
use crate::attempt::tool_use::{Judged, ToolUses};
use crate::attempt::work::Work;
use crate::document::{Document, Piece, Printed};
use crate::queue::active_run::ActiveRun;
use crate::record::Recorder;
use ostler_config::Config;
use ostler_plugin_host::types as plugin;
use ostler_plugin_host::{PluginError, Transcript};
use ostler_protocol::{Chunk, CliExit, NewEvent, Payload, RunId, StreamMetrics, warning_code};
use ostler_redaction::StreamRedactor;
use ostler_runner::{
    Batch, Child, Contained, Event, Exit, ExitStatus, LineCaps, LineSplitter, StopSignal, Stream, Usage,
};
use ostler_storage::{Durability, Output, Pending, Storage, Written};
use ostler_test_hooks::failpoint;

/// Everything that a pump is given.
pub(crate) struct Parts<'a> {
    pub(crate) run: RunId,
    pub(crate) child: Child,
    pub(crate) live: &'a ActiveRun,
    pub(crate) recorder: &'a Recorder,
    pub(crate) storage: &'a Storage,
    pub(crate) config: &'a Config,
    /// Or why there is none: the child runs already, and its output is kept as it is.
    pub(crate) transcript: Result<Transcript, PluginError>,
    /// Judges what the transcript says of tools.
    pub(crate) tools: ToolUses<'a>,
    pub(crate) form: plugin::OutputForm,
    pub(crate) duplex: bool,
    pub(crate) stop: StopSignal,
    pub(crate) max_tool_lines: u32,
    pub(crate) time_limit: Duration,
}

/// What came of it.
pub(crate) struct Pumped {
    pub(crate) exit: Exit,
    pub(crate) side: StopReason,
    /// Whether the host has ended the child.
    pub(crate) cut_short: bool,
    /// Still there unless it failed.
    pub(crate) transcript: Result<Transcript, String>,
    pub(crate) narrator: EventTranslator,
    /// What standard output said, where that is the answer.
    pub(crate) printed: Option<Printed>,
    pub(crate) stdout: StreamMetrics,
    pub(crate) stderr: StreamMetrics,
    pub(crate) events: u64,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) ran: Duration,
}

struct OutputLoop<'a> {
    run: RunId,
    child: Child,
    live: &'a ActiveRun,
    recorder: &'a Recorder,
    storage: &'a Storage,
    output: Output,
    transcript: Result<Transcript, String>,
    tools: ToolUses<'a>,
    /// Until when tool uses are judged, where the run is to end.
    judged_until: Option<Instant>,
    duplex: bool,
    stop: StopSignal,
    grace: Duration,
    keep_raw: bool,
    /// Longest line that a plugin reads, and that is shown, in bytes.
    longest_read: usize,
    longest_shown: usize,
    narrator: EventTranslator,
    stdout: Lane,
    stderr: Lane,
    /// Where standard output is the answer: it takes that stream's splitter's place.
    document: Option<Document>,
    side: StopReason,
    cut_short: bool,
    work: Work,
    exit: Option<Exit>,
    started: Instant,
    deadline: Instant,
    first_byte: Option<Duration>,
    room: u64,
    trimmed: bool,
    events: u64,
    session_stored: bool,
    /// Where the first and the newest piece of a text were written.
    pieces: HashMap<TextKey, Pieces>,
}

/// The first piece of a text, and the newest where there is more than one.
type Pieces = (Pending<Vec<Written>>, Option<Pending<Vec<Written>>>);

/// One stream on its way.
struct Lane {
    splitter: LineSplitter,
    redactor: StreamRedactor,
    told_redactions: u64,
    metrics: StreamMetrics,
    cut_told: bool,
}

/// Runs the child to its end.
pub(crate) fn pump(parts: Parts<'_>) -> Pumped {
    let runner = &parts.config.runner;
    let caps = LineCaps { transcript: runner.max_transcript_line_bytes(), shown: runner.max_line_bytes };
    let lane = || Lane {
        splitter: LineSplitter::new(caps),
        redactor: parts.recorder.redactor().stream(),
        told_redactions: 0,
        metrics: StreamMetrics::default(),
        cut_told: false,
    };
    let (transcript, failed) = match parts.transcript {
        Ok(transcript) => (Ok(transcript), None),
        Err(error) => (Err(error.to_string()), Some(error)),
    };
    let started = Instant::now();
    let document = (parts.form == plugin::OutputForm::Text).then(|| Document::new(parts.recorder.redactor()));
    let mut pump = OutputLoop {
        run: parts.run,
        live: parts.live,
        recorder: parts.recorder,
        storage: parts.storage,
        output: parts.storage.output(),
        transcript,
        tools: parts.tools,
        judged_until: None,
        duplex: parts.duplex,
        stop: parts.stop,
        grace: runner.grace(),
        keep_raw: parts.config.storage.raw,
        longest_read: runner.max_transcript_line_bytes(),
        longest_shown: runner.max_line_bytes,
        narrator: EventTranslator::new(parts.recorder.redactor().clone(), parts.max_tool_lines),
        stdout: lane(),
        stderr: lane(),
        document,
        side: StopReason::Nothing,
        cut_short: false,
        work: Work::new(runner),
        exit: None,
        started,
        deadline: started + parts.time_limit,
        first_byte: None,
        room: parts.config.storage.max_stored_bytes(),
        trimmed: false,
        events: 0,
        session_stored: false,
        pieces: HashMap::new(),
        child: parts.child,
    };
    if let Some(error) = failed {
        pump.give_up("the output cannot be understood", &error);
    }
    let contained = pump.drive();
    pump.close(&contained);
    Pumped {
        exit: pump.exit.unwrap_or(Exit { status: ExitStatus::Unknown, usage: Usage::default() }),
        side: pump.side,
        cut_short: pump.cut_short,
        transcript: pump.transcript,
        narrator: pump.narrator,
        printed: pump.document.map(Document::into_printed),
        stdout: pump.stdout.metrics,
        stderr: pump.stderr.metrics,
        events: pump.events,
        first_byte: pump.first_byte,
        ran: started.elapsed(),
    }
}

impl OutputLoop<'_> {
    fn drive(&mut self) -> Contained {
        self.live.attach(self.child.waker());
        if self.duplex {
            let step = self.guest(Transcript::open);
            self.take(step);
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
                    if let Some(cause) = self.live.stop_cause() {
                        self.end_child(cause.into());
                    }
                }
                Event::Deadline => self.on_deadline(),
                Event::Contained(contained) => {
                    self.live.detach();
                    return contained;
                }
            }
            if self.side == StopReason::Nothing && self.output.check().is_err() {
                self.end_child(StopReason::StorageFailed);
            }
        }
    }

    /// When something is to be done although nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let lingering = self.work.until().filter(|_| self.exit.is_none());
        (self.side == StopReason::Nothing).then(|| lingering.map_or(self.deadline, |until| until.min(self.deadline)))
    }

    /// The time limit of the run, or of a CLI whose work is done. The work that is done counts, though its CLI waits for
    /// the limit.
    fn on_deadline(&mut self) {
        let now = Instant::now();
        let late = now >= self.deadline;
        if self.exit.is_none() && self.work.until().is_some_and(|until| late || now >= until) {
            self.end_finished();
        } else if late {
            self.end_child(StopReason::TimedOut);
        }
    }

    /// Ends a CLI whose work is done, and says so.
    fn end_finished(&mut self) {
        if self.work.stopped() {
            // Why, the outcome says.
            return self.end_child(StopReason::WorkDone);
        }
        let Some((lingered, background)) = self.work.lingered() else { return };
        let seconds = lingered.as_secs();
        let waits = match background.len() {
            0 => String::new(),
            1 => ", waiting for a task in the background".to_owned(),
            count => format!(", waiting for {count} tasks in the background"),
        };
        let message = format!("the CLI still ran {seconds} s after its work was done{waits}; it was ended");
        let facts = json!({"lingeredMs": u64::try_from(lingered.as_millis()).ok(), "background": background});
        let event = self.recorder.warning(warning_code::CLI_ENDED, message, facts);
        self.store(vec![event]);
        self.end_child(StopReason::WorkDone);
    }

    /// The first cause counts. A child that has ended by itself is left to its own end, unless what it said cannot stand.
    fn end_child(&mut self, side: StopReason) {
        let even_after_exit =
            matches!(side, StopReason::StorageFailed | StopReason::Denied(_) | StopReason::Unreadable);
        if self.side == StopReason::Nothing && (self.exit.is_none() || even_after_exit) {
            self.side = side;
            self.cut_short = self.exit.is_none();
            self.child.stop(self.stop, self.grace);
        }
    }

    fn on_output(&mut self, stream: Stream, bytes: &[u8]) {
        let first = self.first_byte.is_none();
        if first {
            self.first_byte = Some(self.started.elapsed());
            failpoint::reach("chunk.before");
        }
        self.lane(stream).metrics.bytes += bytes.len() as u64;
        if let Some(document) = self.document.as_mut().filter(|_| stream == Stream::Stdout) {
            let piece = document.push(bytes);
            self.tell_piece(piece);
        } else if let Some(batch) = self.lane(stream).splitter.push(bytes) {
            self.on_lines(stream, &batch);
        }
        if first {
            failpoint::reach("chunk.after");
        }
    }

    fn on_end(&mut self, stream: Stream) {
        if let Some(document) = self.document.as_mut().filter(|_| stream == Stream::Stdout) {
            let piece = document.finish();
            self.stdout.metrics.lines = document.lines();
            self.tell_piece(piece);
            return;
        }
        if let Some(batch) = self.lane(stream).splitter.finish() {
            self.on_lines(stream, &batch);
        }
        let mut rest = String::new();
        self.lane(stream).redactor.finish(&mut rest);
        self.tell_chunk(stream, rest, false, false);
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
        self.store(vec![event]);
        self.exit = Some(exit);
        failpoint::reach("exit.after");
    }

    fn on_unread_input(&mut self, unwritten: usize) {
        if unwritten > 0 && self.side == StopReason::Nothing {
            let message = format!("the CLI did not read all of its input; bytes left: {unwritten}");
            let event = self.recorder.warning(warning_code::INPUT_UNREAD, message, json!({"bytes": unwritten}));
            self.store(vec![event]);
        }
    }

    /// Stores a piece of the answer: no guest reads it, and nothing of it is cut.
    fn tell_piece(&mut self, piece: Option<Piece>) {
        let Some(piece) = piece else { return };
        let event = self.recorder.redacted(&Payload::ChunkStdout(piece.chunk.clone()));
        let room = self.take_room(&event);
        let Some(document) = &mut self.document else { return };
        if room {
            self.events += 1;
            document.kept(&piece, self.output.append_tracked(vec![event]));
        } else {
            document.lost(&piece);
        }
    }

    fn on_lines(&mut self, stream: Stream, batch: &Batch) {
        let count = batch.lines().len();
        self.lane(stream).metrics.lines += count as u64;
        let covered = if self.transcript.is_err() { Vec::new() } else { self.read(stream, batch) };
        let lane = self.lane(stream);
        let mut ready = String::new();
        let mut cut = false;
        if covered.is_empty() && !batch.exceeds_shown() {
            lane.redactor.push(batch.text(), &mut ready);
        } else {
            for (index, line) in batch.lines().enumerate() {
                if covered.get(index).copied().unwrap_or(false) {
                    continue;
                }
                lane.redactor.push(line.shown, &mut ready);
                lane.redactor.push("\n", &mut ready);
                cut |= line.is_cut();
            }
        }
        // A line that a plugin has read as a whole is not shown, and nothing of it is missing.
        self.tell_cut(stream, batch.truncated(), cut);
        self.tell_chunk(stream, ready, cut, batch.lossy());
    }

    /// Lets the transcript read; returns which lines it has covered, by index. Empty is none.
    fn read(&mut self, stream: Stream, batch: &Batch) -> Vec<bool> {
        let name = match stream {
            Stream::Stdout => plugin::OutputStream::Stdout,
            Stream::Stderr => plugin::OutputStream::Stderr,
        };
        let lines: Vec<plugin::Line> = batch
            .lines()
            .map(|line| plugin::Line { stream: name, text: line.text.to_owned(), truncated: line.truncated })
            .collect();
        let count = lines.len();
        if self.side == StopReason::WorkDone {
            // The outcome is settled: what a protocol says of its own end is no part of it.
            return vec![stream == Stream::Stdout && !self.keep_raw; count];
        }
        let unread = lines.iter().filter(|line| line.truncated && stream == Stream::Stdout).count();
        let step = self.guest(|transcript| transcript.read(&lines));
        let indexes = self.take(step);
        for _ in 0..unread {
            if let Some(judged) = self.tools.unread_line() {
                self.act_on(judged);
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

    /// Calls the plugin. If it fails, that is told once, and the output goes on as it is, unread.
    fn guest<T>(&mut self, call: impl FnOnce(&mut Transcript) -> Result<T, PluginError>) -> Option<T> {
        let transcript = self.transcript.as_mut().ok()?;
        match call(transcript) {
            Ok(value) => Some(value),
            Err(error) => {
                self.give_up("the output is not understood any more", &error);
                None
            }
        }
    }

    /// Goes on without the plugin, and says why.
    fn give_up(&mut self, what: &str, error: &PluginError) {
        let facts = json!({"plugin": error.plugin});
        let event = self.recorder.warning(warning_code::PLUGIN_FAILED, format!("{what}: {error}"), facts);
        self.transcript = Err(error.to_string());
        self.store(vec![event]);
        if self.tools.end_unseen() {
            self.end_child(StopReason::Unreadable);
        }
    }

    /// Does what a step says; returns the indexes of the lines that it has covered.
    fn take(&mut self, step: Option<plugin::Step>) -> Vec<u32> {
        let Some(mut step) = step else { return Vec::new() };
        self.work.hear(&mut step.events);
        if self.work.stopped() {
            self.end_child(StopReason::WorkDone);
        }
        let asked: Vec<String> = step
            .events
            .iter()
            .filter_map(|event| match event {
                plugin::Semantic::ApprovalRequested(request) => Some(request.id.clone()),
                _ => None,
            })
            .collect();
        let tool_uses = self.tools.news(&step.events);
        let mut told = Vec::new();
        self.narrator.tell(step.events, &mut told);
        self.tell(told);
        for tool_use in tool_uses {
            // A step can report many, and each policy may take its time.
            let in_time = self.may_judge();
            let judged = self.tools.judge(tool_use, in_time);
            self.act_on(judged);
        }
        if self.duplex {
            if !step.write.is_empty()
                && let Err(refused) = self.child.write(step.write)
            {
                tracing::debug!(run = %self.run, %refused, "a protocol message was not written");
            }
            if step.end_input {
                self.child.close_stdin();
            }
        }
        // Nobody can be asked in a non-interactive run, and an unanswered question would hold it for ever.
        for id in asked {
            let decision = plugin::Decision {
                allow: false,
                message: Some("nobody can be asked in this run".to_owned()),
                input: None,
                stop_turn: false,
            };
            let step = self.guest(|transcript| transcript.decide(&id, &decision));
            self.take(step);
        }
        self.store_session();
        step.covered
    }

    /// Whether there is time to ask the policies. While the run is ended, there is for as long as that may take.
    fn may_judge(&mut self) -> bool {
        let late = || (Instant::now() >= self.deadline).then_some(StopReason::TimedOut);
        let Some(side) = self.live.stop_cause().map(StopReason::from).or_else(late) else { return true };
        self.end_child(side);
        let until = *self.judged_until.get_or_insert_with(|| Instant::now() + self.grace);
        Instant::now() < until
    }

    fn act_on(&mut self, judged: Judged) {
        match judged {
            Judged::Nothing => {}
            Judged::Noted(event) => {
                if self.take_room(&event) {
                    self.store(vec![event]);
                }
            }
            Judged::Denied { events, end } => {
                if !events.is_empty() {
                    self.store(events);
                }
                if let Some(denial) = end {
                    self.end_child(StopReason::Denied(denial));
                }
            }
        }
    }

    /// The session is worth keeping as soon as it is known: the host may die before the run ends.
    fn store_session(&mut self) {
        if self.session_stored {
            return;
        }
        let Some(session) = self.narrator.session() else { return };
        let (run, known) = (self.run, KnownSession::new(&session.id, self.recorder));
        self.session_stored = true;
        drop(self.storage.write(Durability::Batched, move |tx| known.write(tx, run)));
    }

    fn tell(&mut self, told: Vec<Told>) {
        for one in told {
            match one {
                Told::Event(payload) => self.store_counted(&payload),
                Told::Delta { key, payload } => {
                    let event = self.recorder.redacted(&payload);
                    if self.take_room(&event) {
                        self.events += 1;
                        let written = self.output.append_tracked(vec![event]);
                        match self.pieces.get_mut(&key) {
                            Some((_, newest)) => *newest = Some(written),
                            None => _ = self.pieces.insert(key, (written, None)),
                        }
                    }
                }
                Told::Whole { key, mut event } => {
                    if let Some((first, last)) = self.pieces.remove(&key).and_then(|(first, newest)| {
                        let first = first.wait().ok()?.first()?.cursor;
                        let last = newest.map_or(Some(first), |newest| Some(newest.wait().ok()?.last()?.cursor));
                        Some((first, last?))
                    }) {
                        event.fields.insert("fromCursor".to_owned(), first.into());
                        event.fields.insert("toCursor".to_owned(), last.into());
                    }
                    self.store_counted(&Payload::Semantic(event));
                }
            }
        }
    }

    fn store_counted(&mut self, payload: &Payload) {
        let event = self.recorder.redacted(payload);
        if self.take_room(&event) {
            self.store(vec![event]);
        }
    }

    fn tell_chunk(&mut self, stream: Stream, text: String, truncated: bool, lossy: bool) {
        if text.is_empty() {
            return;
        }
        let redactions = self.lane(stream).new_redactions();
        let chunk = Chunk { text, redactions, truncated, lossy, base64: None };
        let payload = match stream {
            Stream::Stdout => Payload::ChunkStdout(chunk),
            Stream::Stderr => Payload::ChunkStderr(chunk),
        };
        self.store_counted(&payload);
    }

    fn tell_cut(&mut self, stream: Stream, truncated: bool, cut: bool) {
        if self.lane(stream).cut_told || !(truncated || cut) {
            return;
        }
        self.lane(stream).cut_told = true;
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let limit = if truncated { self.longest_read } else { self.longest_shown };
        let message = format!("output truncated: a line of {name} exceeded {limit} bytes");
        let event = self.recorder.warning(warning_code::LINE_TRUNCATED, message, json!({"stream": name}));
        self.store(vec![event]);
    }

    /// Whether an event still fits into what a run may store. The first that does not is told.
    fn take_room(&mut self, event: &NewEvent) -> bool {
        let size = event.payload.len() as u64;
        if size <= self.room {
            self.room -= size;
            return true;
        }
        self.room = 0;
        if !self.trimmed {
            self.trimmed = true;
            let message = "the run reached the limit of stored output (`max_stored_mib`); further output is not kept";
            let event = self.recorder.warning(warning_code::BUFFER_TRIMMED, message, Value::Null);
            self.store(vec![event]);
        }
        false
    }

    fn store(&mut self, events: Vec<NewEvent>) {
        self.events += events.len() as u64;
        if let Err(error) = self.output.append(events) {
            tracing::error!(run = %self.run, %error, "output was not stored");
            self.end_child(StopReason::StorageFailed);
        }
    }

    fn close(&mut self, contained: &Contained) {
        let mut told = Vec::new();
        self.narrator.finish(&mut told);
        self.tell(told);
        if let Some(event) = self.tools.left_out() {
            self.store(vec![event]);
        }
        let named = |list: &[ostler_runner::Leftover]| -> Value {
            list.iter().map(|process| json!({"pid": process.pid, "name": process.name})).collect()
        };
        // After a stop, ending the descendants is what was asked for; otherwise the CLI has left them behind.
        if contained.killed_total > 0 && matches!(self.side, StopReason::Nothing | StopReason::WorkDone) {
            let count = contained.killed_total;
            let processes = if count == 1 { "1 process" } else { &format!("{count} processes") };
            let message = format!("the CLI left {processes} behind, which the host ended");
            let facts = json!({"count": contained.killed_total, "processes": named(&contained.killed)});
            let event = self.recorder.warning(warning_code::PROCESSES_ENDED, message, facts);
            self.store(vec![event]);
        }
        if !contained.survivors.is_empty() {
            let message = "processes of the run survived SIGKILL";
            let facts = json!({"processes": named(&contained.survivors)});
            let event = self.recorder.warning(warning_code::LEFTOVER_PROCESS, message, facts);
            self.store(vec![event]);
        }
    }

    const fn lane(&mut self, stream: Stream) -> &mut Lane {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Lane {
    /// How many secrets were taken out since this was asked last.
    fn new_redactions(&mut self) -> u64 {
        let count = self.redactor.count();
        count - std::mem::replace(&mut self.told_redactions, count)
    }
}
