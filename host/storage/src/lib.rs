//! Everything that outlives the host: one SQLite file in the data folder.
//!
//! # Writing
//! All writes go through one thread. It takes whatever waits, runs it inside one transaction (each write in a savepoint
//! of its own, so that a failing one undoes only itself), commits, tells the subscribers, and resolves the promises.
//! Nothing is ever seen, by a subscriber or by the caller, before it is committed. An idle writer sleeps without a timer.
//!
//! - [`Storage::write`] runs a closure on a [`WriteTx`]; [`Durability`] says what its promise is worth. It never blocks.
//! - [`Storage::write_urgent`] goes before output that waits; for acknowledgements and commands.
//! - [`Storage::append`] and [`Output`] write events. They block while more than a few MiB wait: output comes as fast as
//!   the disk takes it, and memory stays bounded.
//!
//! A write's closure may run more than once (when a transaction fails because of *another* write, each is tried
//! again alone), but only one of its runs ever takes effect.
//!
//! # Reading
//! [`Storage::read`] runs a closure on a [`Reader`]: a connection of its own and one consistent snapshot, given back at
//! the closure's end, so that no reader holds the write-ahead log while it waits for something. Reads block their
//! thread for a moment (microseconds to milliseconds).
//!
//! # Order
//! Cursors and sequence numbers are given by the writer. `seq` has no gaps within a run; a cursor is never given twice,
//! not even when the newest events were deleted or a power failure took them back. The terminal event is the last of its
//! run, and there is exactly one: [`WriteTx::finish_run`] compares and sets.
//!
//! # What is not here
//! Texts are redacted before they come; secrets come sealed. This module does not log what it stores, and looks into it
//! only to store an answer once ([`answers`]).

mod access;
mod answers;
mod audit;
mod catalog;
mod conversations;
mod erase;
mod error;
mod events;
mod open;
mod output;
mod pauses;
mod pending;
mod plugins;
mod reader;
mod retention;
mod rows;
mod run_reads;
mod runs;
mod search;
mod tx;
mod types;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use access::StoredAccessToken;
pub use audit::{AuditFilter, AuditKey, NewAudit};
pub use error::{StorageError, StorageErrorKind};
pub use output::Output;
pub use pauses::StoredPauses;
pub use pending::Pending;
pub use plugins::PluginFileRow;
pub use reader::Reader;
pub use tx::WriteTx;
pub use types::{
    Backwards, Bounds, ConversationFilter, Counts, CursorCheck, Durability, EndedRun, EventFilter, EventPage,
    LooseEvent, NewJob, NewRun, Outcome, Place, QuietConversation, ReadLimit, Recovery, Requeued, RetentionRow,
    RetentionScope, RunFilter, SessionUsage, Sizes, Slice, SnapshotKey, Started, StoredSnapshot, Written,
};

use ostler_protocol::NewEvent;

/// How the storage is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of events that may wait for the writer before [`Storage::append`] blocks.
    pub queue_bytes: usize,
    /// The largest the database may grow, in pages of 4 KiB; None is without limit. For tests of a full disk.
    pub max_pages: Option<u32>,
    /// How long one try to lock the database waits for another program.
    pub busy_timeout: Duration,
    /// How long writes wait for another program that holds the database. Until then nothing fails: writers block, and with
    /// them the runs whose output they write.
    pub busy_patience: Duration,
}

impl Default for Options {
    /// 4 MiB may wait; no limit on the file; two minutes for other programs.
    fn default() -> Self {
        Self {
            queue_bytes: 4 << 20,
            max_pages: None,
            busy_timeout: Duration::from_secs(5),
            busy_patience: Duration::from_secs(120),
        }
    }
}

/// The host's storage. Cheap to clone; the last clone that is dropped waits for the writer and closes the file.
#[derive(Clone, Debug)]
pub struct Storage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Dropped in this order: the writer closes last, so that it can fold the write-ahead log into the file.
    readers: reader::Pool,
    writer: writer::Writer,
    committed: watch::Receiver<u64>,
    path: PathBuf,
}

impl Storage {
    /// Opens the database, makes it if there is none, and brings an older one up to date.
    ///
    /// The folder must exist, belong to this user and be closed to others. The caller holds the folder's `DataLock`.
    /// A host that was killed leaves nothing to mend: what was committed is there.
    ///
    /// # Errors
    /// One clear error with its [`StorageErrorKind`]; a database that is newer, damaged or somebody else's is left
    /// exactly as it was.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StorageError> {
        let opened = open::open(path, options)?;
        let (sender, committed) = watch::channel(opened.last_cursor);
        let readers = reader::Pool::new(path);
        let writer = writer::Writer::start(opened, path, options, sender)?;
        Ok(Self { shared: Arc::new(Shared { readers, writer, committed, path: path.to_owned() }) })
    }

    /// Runs a closure on the writer's thread. Never blocks. Writes take effect in the order in which they were asked for,
    /// [`append`](Self::append) included.
    ///
    /// The closure should do nothing but write: everybody else waits for it. It may be called again after a call whose
    /// effect was undone.
    pub fn write<T, F>(&self, durability: Durability, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        self.shared.writer.submit(durability, false, work)
    }

    /// The same, but it goes before everything that waits and is not urgent: for acknowledgements and commands, which
    /// should not stand behind megabytes of output. Not for what must come after events of the same caller.
    pub fn write_urgent<T, F>(&self, durability: Durability, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        self.shared.writer.submit(durability, true, work)
    }

    /// Stores events in their order, all or none. Blocks the calling thread while too many bytes wait, see
    /// [`Options::queue_bytes`]: for plain threads, not for async tasks.
    pub fn append(&self, events: Vec<NewEvent>) -> Pending<Vec<Written>> {
        self.shared.writer.append(events, None)
    }

    /// A way to append events without waiting for each, that remembers the first failure.
    #[must_use]
    pub fn output(&self) -> Output {
        Output::new(self.clone())
    }

    /// The highest committed cursor, and word of each change: subscribers wait here and read from storage.
    #[must_use]
    pub fn events_watch(&self) -> watch::Receiver<u64> {
        self.shared.committed.clone()
    }

    /// Runs a closure on one consistent snapshot of the database. Blocks the thread while it runs; everything that was
    /// committed before the call is seen.
    ///
    /// # Errors
    /// Whatever the closure returns, or why no connection could be had.
    pub fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.shared.readers.read(work)
    }

    /// Reads all that no search would find yet. Blocks until that is done.
    ///
    /// # Errors
    /// As [`index_some`](Self::index_some).
    pub fn index_texts(&self) -> Result<(), StorageError> {
        while !self.index_some()? {}
        Ok(())
    }

    /// Reads some of what no search would find yet, in one write that is short enough for everybody else. Returns whether
    /// nothing is left.
    ///
    /// # Errors
    /// Where the database cannot be read or written.
    pub fn index_some(&self) -> Result<bool, StorageError> {
        // Most searches find everything read already, and need no write to know it.
        if !self.read(Reader::has_unindexed)? {
            return Ok(true);
        }
        self.write(Durability::Batched, search::index_some).wait()
    }

    /// Moves the write-ahead log into the file and cuts it to nothing, so that what was erased stands nowhere any more.
    /// Blocks until that is done, `patience` at most; then the writer goes on trying. Returns whether it is done.
    ///
    /// # Errors
    /// Where the database cannot be written.
    pub fn empty_log(&self, patience: Duration) -> Result<bool, StorageError> {
        self.shared.writer.empty_log(patience)
    }

    /// A number that is another one after every write: what was read before is still true while it is the same.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.writer.commits()
    }

    /// The last failure of the disk or the file that a write ran into, until a write succeeds again.
    #[must_use]
    pub fn trouble(&self) -> Option<StorageError> {
        self.shared.writer.trouble()
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}
