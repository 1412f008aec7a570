//! What goes into the storage and what comes out of it, where `ostler_protocol` has no name for it.

use std::path::PathBuf;

use jiff::Timestamp;

use ostler_protocol::{
    CapabilitySnapshot, ConversationId, EndReason, Event, EventType, JobRecord, JobState, RunEnd, RunId, RunMode,
    RunStatus, Usage,
};

/// How sure a write must be before it counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk (`synchronous=FULL`): for what is acknowledged, and for terminal events.
    Full,
    /// In the file, as the operating system keeps it (`synchronous=NORMAL`): survives the death of the host, but the
    /// last moments may be missing after a power failure.
    Batched,
}

/// A run to be made. All texts are redacted.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
    /// Model, if one was chosen.
    pub model: Option<String>,
    /// With pipes or as a session.
    pub mode: RunMode,
    /// First line of the prompt, at most 80 characters.
    pub title: String,
    /// Where it works. UTF-8.
    pub cwd: PathBuf,
    /// Its place in the queue's order: -10 to 10.
    pub priority: i32,
    /// Who asked for it: `cli`, `rpc`, `http`, `mcp`.
    pub origin: String,
    /// The effective start payload as JSON text, redacted.
    pub payload: String,
    /// Pointers of the payload whose true values are sealed. They are kept when the seal is gone.
    pub sealed_pointers: Vec<String>,
    /// What the CLI could do when the run was made, see [`WriteTx::put_snapshot`](super::WriteTx::put_snapshot).
    pub snapshot: Option<SnapshotKey>,
    /// The provider's session that it is to resume.
    pub session_id: Option<String>,
    /// When it is acknowledged.
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
    /// As asked for.
    pub priority: i32,
    /// When it began to wait, as the queue's clock says.
    pub enqueued_at: Timestamp,
    /// It does not start before, by the wall clock.
    pub not_before: Option<Timestamp>,
    /// What the engine must remember from attempt to attempt, as JSON text of its own making; not secret.
    pub carry: Option<String>,
}

/// The start of an attempt.
#[derive(Clone, Debug)]
pub struct Started {
    /// Counts from 1.
    pub attempt: u32,
    /// When it started.
    pub at: Timestamp,
    /// By what its processes are known after the host's death, as JSON text of the runner's making.
    pub process: Option<String>,
}

/// A run goes back to the queue.
#[derive(Clone, Debug)]
pub struct Requeued {
    /// `Ready`, `Scheduled` or `Retrying`.
    pub state: JobState,
    /// The attempt that it will be. Counts from 1.
    pub attempt: u32,
    /// When it began to wait, as the queue's clock says; None leaves what is stored.
    pub enqueued_at: Option<Timestamp>,
    /// It does not start before: by the queue's clock for `Retrying`, by the wall clock for `Scheduled`.
    pub not_before: Option<Timestamp>,
    /// Why the last attempt is repeated, shown until the next one starts.
    pub reason: Option<EndReason>,
    /// The same in words.
    pub message: Option<String>,
    /// Replaces what the engine remembers; None leaves what is stored.
    pub carry: Option<String>,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One of the four that have ended.
    pub status: RunStatus,
    /// The payload of the terminal event, redacted. Its final text is stored there and nowhere else.
    pub end: RunEnd,
    /// Tokens and money of all attempts; None leaves what is stored.
    pub usage: Option<Usage>,
    /// When it ended.
    pub at: Timestamp,
}

/// Where an event was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its place among all events of the host.
    pub cursor: u64,
    /// Its place among the events of its run, from 1; None for an event without a run.
    pub seq: Option<u64>,
}

/// A stored capability snapshot, as runs refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotKey(pub(super) i64);

/// The newest snapshot of a provider instance.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSnapshot {
    /// How runs refer to it.
    pub key: SnapshotKey,
    /// What it was made of: settings, executable, plugin, in the engine's words.
    pub fingerprint: String,
    /// What the CLI can do.
    pub snapshot: CapabilitySnapshot,
}

/// Which runs to list. Nothing set is all.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Provider instance.
    pub provider: Option<String>,
    /// Where they stand.
    pub status: Option<RunStatus>,
    /// The conversation that they belong to. One that does not exist has none.
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

/// Which events to read. Nothing set is all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Those of one run.
    pub run_id: Option<RunId>,
    /// Those of one conversation, and of its runs.
    pub conversation_id: Option<ConversationId>,
    /// Those of these types; empty is all.
    pub types: Vec<EventType>,
}

/// Where a bounded read stops: whichever comes first. At least one event is read, however large it is.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Events.
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

/// Some events, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Where to go on: everything up to here was looked at. Not lower than what was asked for.
    pub next: u64,
    /// Whether there may be more at once. If not, wait for the watch to show more than `next`.
    pub more: bool,
}

/// Which cursors mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest cursor that is still stored; `last + 1` if there is none.
    pub first: u64,
    /// The highest cursor that was ever given; 0 if none was.
    pub last: u64,
    /// The highest cursor whose event retention has deleted; 0 if none was.
    pub deleted_through: u64,
}

/// What a reader's cursor is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorCheck {
    /// Everything after it is there.
    Complete,
    /// Something after it was deleted; what is there begins with `first`.
    Truncated {
        /// The lowest cursor after the reader's that is still stored, or would be next.
        first: u64,
    },
    /// The host never gave it.
    Unknown,
}

/// A job to be taken up again when the host starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// The job. `Running` means that its host died under it.
    pub job: JobRecord,
    /// Its place in the order of arrival, as [`WriteTx::insert_run`](super::WriteTx::insert_run) gave it.
    pub arrival: u64,
    /// The conversation that the run belongs to.
    pub conversation_id: Option<ConversationId>,
    /// By what its processes are known, if it was running.
    pub process: Option<String>,
    /// What the engine remembers.
    pub carry: Option<String>,
}

/// What a run of a provider session is known to have used.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionUsage {
    /// The run.
    pub run_id: RunId,
    /// What it used, if it is known.
    pub usage: Option<Usage>,
}

/// Which conversations to list. Archived ones only on request.
#[derive(Clone, Debug, Default)]
pub struct ConversationFilter {
    /// Provider instance.
    pub provider: Option<String>,
    /// Archived ones too.
    pub include_archived: bool,
    /// All these words are in the title, or in the prompt and the answer of one of the runs.
    pub search: Option<String>,
}

/// What a retention policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionScope {
    /// Everything.
    Global,
    /// The runs of a provider instance.
    Provider(String),
    /// The runs in a folder and below.
    Workspace(PathBuf),
}

/// How long and how much is kept of a scope's ended runs, as far as the user has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRow {
    /// What it is about.
    pub scope: RetentionScope,
    /// Days after the end, 0 is for ever; None leaves it to the configuration's file or the wider scope.
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes), 0 is without limit; None leaves it to the configuration's file or the wider scope.
    pub megabytes: Option<u64>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A place in a list that is read from the newest back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub(super) i64, pub(super) i64);

/// Some of a list that is read from the newest back.
#[derive(Clone, Debug, PartialEq)]
pub struct Backwards<T> {
    /// They.
    pub items: Vec<T>,
    /// Where to go on, if there may be more.
    pub next: Option<Place>,
}

/// An ended run, as retention looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// The run.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
    /// Where it worked.
    pub cwd: PathBuf,
    /// When it ended.
    pub ended_at: Timestamp,
    /// About what it takes: its rows in the file, and its artifacts in the host's folders.
    pub bytes: u64,
}

/// An event without a run, as retention looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LooseEvent {
    /// When it happened.
    pub at: Timestamp,
    /// About what it takes in the file.
    pub bytes: u64,
}

/// A conversation in which nothing has happened for long.
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

/// How much one write may delete: whichever comes first. At least one event goes, however large it is.
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

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs by status; a status without runs is missing.
    pub runs: Vec<(RunStatus, u64)>,
    /// Conversations.
    pub conversations: u64,
}
