//! Parameters and results of the storage that are not types of `ostler_protocol`.

use std::path::PathBuf;

use jiff::Timestamp;

use ostler_protocol::{
    CapabilitySnapshot, ConversationId, EndReason, Event, EventType, JobRecord, JobState, RunEnd, RunId, RunMode,
    RunStatus, Usage,
};

/// How durable a write must be before its promise resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk (`synchronous=FULL`): for acknowledged writes and terminal events.
    Full,
    /// In the operating system's cache (`synchronous=NORMAL`): survives the death of the host, but the newest writes
    /// may be lost in a power failure.
    Batched,
}

/// A new run. All texts are redacted.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
    /// Model, if one was chosen.
    pub model: Option<String>,
    /// Interactive or not.
    pub mode: RunMode,
    /// First line of the prompt, at most 80 characters.
    pub title: String,
    /// Its working folder. UTF-8.
    pub cwd: PathBuf,
    /// Its priority in the queue: -10 to 10.
    pub priority: i32,
    /// The client that submitted it: `cli`, `rpc`, `http`, `mcp`.
    pub origin: String,
    /// The effective start payload as JSON text, redacted.
    pub payload: String,
    /// Pointers of the payload whose original values are sealed. They are kept after the seal is deleted.
    pub sealed_pointers: Vec<String>,
    /// The capabilities of the CLI at submission, see [`WriteTx::put_snapshot`](super::WriteTx::put_snapshot).
    pub snapshot: Option<SnapshotKey>,
    /// The provider's session to resume.
    pub session_id: Option<String>,
    /// When it was submitted.
    pub created_at: Timestamp,
}

/// The job of a new run.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The run.
    pub run_id: RunId,
    /// The lane that it waits in: its provider instance.
    pub provider: String,
    /// `Ready` or `Scheduled`.
    pub state: JobState,
    /// The requested priority.
    pub priority: i32,
    /// When it began to wait, by the queue's clock.
    pub enqueued_at: Timestamp,
    /// It does not start before, by the wall clock.
    pub not_before: Option<Timestamp>,
    /// Data that the engine keeps between attempts, as JSON text in the engine's own format; not secret.
    pub carry: Option<String>,
}

/// The start of an attempt.
#[derive(Clone, Debug)]
pub struct Started {
    /// Counts from 1.
    pub attempt: u32,
    /// When it started.
    pub at: Timestamp,
    /// The identity of its processes, for a later host, as JSON text in the runner's format.
    pub process: Option<String>,
}

/// A run that returns to the queue.
#[derive(Clone, Debug)]
pub struct Requeued {
    /// `Ready`, `Scheduled` or `Retrying`.
    pub state: JobState,
    /// The number of the next attempt, from 1.
    pub attempt: u32,
    /// When it began to wait, by the queue's clock; None keeps the stored time.
    pub enqueued_at: Option<Timestamp>,
    /// It does not start before: by the queue's clock for `Retrying`, by the wall clock for `Scheduled`.
    pub not_before: Option<Timestamp>,
    /// Why the last attempt is repeated, shown until the next one starts.
    pub reason: Option<EndReason>,
    /// The same in words.
    pub message: Option<String>,
    /// Replaces the engine's data; None keeps the stored data.
    pub carry: Option<String>,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One of the four terminal statuses.
    pub status: RunStatus,
    /// The payload of the terminal event, redacted. Its final text is stored there and nowhere else.
    pub end: RunEnd,
    /// Tokens and cost of all attempts; None keeps the stored usage.
    pub usage: Option<Usage>,
    /// When it ended.
    pub at: Timestamp,
}

/// The position of a stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its number among all events of the host.
    pub cursor: u64,
    /// Its number among the events of its run, from 1; None for an event without a run.
    pub seq: Option<u64>,
}

/// A stored capability snapshot, as runs refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotKey(pub(super) i64);

/// The newest snapshot of a provider instance.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSnapshot {
    /// The key by which runs refer to it.
    pub key: SnapshotKey,
    /// Identifies the settings, executable and plugin that were probed, in the engine's format.
    pub fingerprint: String,
    /// What the CLI can do.
    pub snapshot: CapabilitySnapshot,
}

/// Which runs to list. The default lists all.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Provider instance.
    pub provider: Option<String>,
    /// Their status.
    pub status: Option<RunStatus>,
    /// The conversation that they belong to. An unknown conversation has no runs.
    pub conversation_id: Option<ConversationId>,
    /// They work in this folder or below it: an absolute path without links. UTF-8.
    pub cwd: Option<PathBuf>,
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made before this time.
    pub until: Option<Timestamp>,
    /// All these words are in the prompt and the answer; see [`index_texts`](super::Storage::index_texts).
    pub search: Option<String>,
}

/// Which events to read. The default reads all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Events of one run.
    pub run_id: Option<RunId>,
    /// Events of one conversation and its runs.
    pub conversation_id: Option<ConversationId>,
    /// Events of these types; empty means all.
    pub types: Vec<EventType>,
}

/// Where a bounded read stops: at the first limit that is reached. At least one event is read, however large it is.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Number of events.
    pub events: usize,
    /// Bytes of payload text.
    pub bytes: usize,
}

impl Default for ReadLimit {
    /// 500 events, 1 MiB.
    fn default() -> Self {
        Self { events: 500, bytes: 1 << 20 }
    }
}

/// A page of events, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The cursor at which to continue: everything up to it was read. Not lower than the cursor in the call.
    pub next: u64,
    /// Whether there may be more events already. If not, wait for the watch to exceed `next`.
    pub more: bool,
}

/// The range of valid cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest cursor that is still stored; `last + 1` if there is none.
    pub first: u64,
    /// The highest cursor that was ever assigned; 0 if none was.
    pub last: u64,
    /// The highest cursor whose event retention has deleted; 0 if none was.
    pub deleted_through: u64,
}

/// Whether a reader can continue after its cursor without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorCheck {
    /// No event after it was deleted.
    Complete,
    /// Events after it were deleted; the first remaining one is `first`.
    Truncated {
        /// The lowest cursor after the reader's that is still stored, or the next one to be assigned.
        first: u64,
    },
    /// The host never assigned it.
    Unknown,
}

/// A job that the host resumes when it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// The job. `Running` means that its host died during the attempt.
    pub job: JobRecord,
    /// Its arrival number from [`WriteTx::insert_run`](super::WriteTx::insert_run).
    pub arrival: u64,
    /// The conversation that the run belongs to.
    pub conversation_id: Option<ConversationId>,
    /// The identity of its processes, if it was running.
    pub process: Option<String>,
    /// The data that the engine keeps between attempts.
    pub carry: Option<String>,
}

/// The usage of a run of a provider session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionUsage {
    /// The run.
    pub run_id: RunId,
    /// Its usage, if known.
    pub usage: Option<Usage>,
}

/// Which conversations to list. The default lists all that are not archived.
#[derive(Clone, Debug, Default)]
pub struct ConversationFilter {
    /// Provider instance.
    pub provider: Option<String>,
    /// Also archived ones.
    pub include_archived: bool,
    /// All these words are in the title, or in the prompt and the answer of one of the runs.
    pub search: Option<String>,
}

/// The scope of a retention policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionScope {
    /// Everything.
    Global,
    /// The runs of a provider instance.
    Provider(String),
    /// The runs in a folder and below.
    Workspace(PathBuf),
}

/// A retention policy that the user has set: how long and how much is kept of a scope's ended runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRow {
    /// The runs to which it applies.
    pub scope: RetentionScope,
    /// Days after the end; 0 means for ever, None means the value of the wider scope or the configuration.
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes); 0 means no limit, None means the value of the wider scope or the configuration.
    pub megabytes: Option<u64>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A position in a list that is read from the newest item to the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageStart(pub(super) i64, pub(super) i64);

/// A page of a list that is read from the newest item to the oldest.
#[derive(Clone, Debug, PartialEq)]
pub struct BackwardPage<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts, if there may be one.
    pub next: Option<PageStart>,
}

/// An ended run, as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// The run.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
    /// Its working folder.
    pub cwd: PathBuf,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its approximate size: its rows in the file, and its artifacts in the host's folders.
    pub bytes: u64,
}

/// An event without a run, as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LooseEvent {
    /// When it happened.
    pub at: Timestamp,
    /// Its approximate size in the file.
    pub bytes: u64,
}

/// A conversation that has not changed for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietConversation {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Provider instance.
    pub provider: String,
    /// The folder of its last run, if it ever had one.
    pub cwd: Option<PathBuf>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Its runs, in order.
    pub runs: Vec<RunId>,
}

/// How much one write may delete, until the first limit is reached. At least one event is deleted, however large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Events.
    pub events: u32,
    /// Bytes of their rows.
    pub bytes: u64,
}

/// How large the database is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The main file.
    pub database: u64,
    /// The write-ahead log beside it.
    pub wal: u64,
    /// The part of the main file that is free for new rows.
    pub free: u64,
}

/// Numbers of runs and conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs by status; a status without runs is missing.
    pub runs: Vec<(RunStatus, u64)>,
    /// Conversations.
    pub conversations: u64,
}
