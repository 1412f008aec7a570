//! Everything that outlives the host: one SQLite file in the data folder.
//!
//! # Writing
//! All writes go through one thread. It takes the waiting writes, runs them inside one transaction (each in a savepoint
//! of its own, so that a failing write undoes only itself), commits, notifies the subscribers, and resolves the
//! promises. Neither a subscriber nor the caller sees a write before it is committed. An idle writer sleeps without a
//! timer.
//!
//! - [`Storage::write`] runs a closure on a [`WriteTx`]; [`Durability`] says how safely it is stored when its promise
//!   resolves. It never blocks.
//! - [`Storage::write_urgent`] runs before waiting output; for acknowledgements and commands.
//! - [`Storage::append`] and [`Output`] write events. They block while more than a few MiB wait, so that output is no
//!   faster than the disk and memory stays bounded.
//!
//! A write's closure may run more than once (when a transaction fails because of *another* write, each is tried
//! again alone), but only one of its runs ever takes effect.
//!
//! # Reading
//! [`Storage::read`] runs a closure on a [`Reader`]: a connection of its own and one consistent snapshot, which ends
//! with the closure, so that no reader keeps the write-ahead log while it waits for something else. Reads block their
//! thread for a moment (microseconds to milliseconds).
//!
//! # Order
//! The writer assigns cursors and sequence numbers. `seq` has no gaps within a run; a cursor is never assigned twice,
//! not even when the newest events were deleted or lost in a power failure. The terminal event is the last of its run,
//! and there is exactly one: [`WriteTx::finish_run`] compares and sets.
//!
//! # Secrets
//! The caller redacts texts and seals secrets before it writes them. This crate does not log what it stores, and reads
//! it only to store an answer once ([`answers`]).

mod access;
mod answers;
mod audit;
mod catalog;
mod conversations;
mod erase;
mod error;
mod events;
mod failures;
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
pub use erase::PendingErasure;
pub use error::{StorageError, StorageErrorKind};
pub use output::Output;
pub use pauses::StoredPauses;
pub use pending::Pending;
pub use plugins::PluginFileRow;
pub use reader::Reader;
pub use tx::WriteTx;
pub use types::{
    BackwardPage, Bounds, ConversationFilter, Counts, CursorCheck, Durability, EndedRun, EventFilter, EventPage,
    LooseEvent, NewJob, NewRun, Outcome, PageStart, QuietConversation, ReadLimit, Recovery, Requeued, RetentionRow,
    RetentionScope, RunFilter, SessionUsage, Sizes, Slice, SnapshotKey, Started, StoredSnapshot, Written,
};

use ostler_protocol::NewEvent;

/// How the storage is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of events that may wait for the writer before [`Storage::append`] blocks.
    pub queue_bytes: usize,
    /// The largest the database may grow, in pages of 4 KiB; None means no limit. For tests of a full disk.
    pub max_pages: Option<u32>,
    /// How long one attempt to lock the database waits for another program.
    pub busy_timeout: Duration,
    /// How long writes wait while another program has the database locked. Until then nothing fails: writers block, and
    /// so do the runs whose output they write.
    pub busy_limit: Duration,
}

impl Default for Options {
    /// 4 MiB may wait; no limit on the file; two minutes for other programs.
    fn default() -> Self {
        Self {
            queue_bytes: 4 << 20,
            max_pages: None,
            busy_timeout: Duration::from_secs(5),
            busy_limit: Duration::from_secs(120),
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
    // Dropped in this order: the writer closes last, so that it can move the write-ahead log into the file.
    readers: reader::Pool,
    writer: writer::Writer,
    committed: watch::Receiver<u64>,
    path: PathBuf,
}

impl Storage {
    /// Opens the database. Creates it if there is none, and migrates an older one.
    ///
    /// The folder must exist, belong to this user and be inaccessible to others. The caller holds the folder's
    /// `DataLock`. After a killed host no repair is needed: everything that was committed is there.
    ///
    /// # Errors
    /// The error has a [`StorageErrorKind`]. A database that is newer, damaged or of another program is not changed.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StorageError> {
        let opened = open::open(path, options)?;
        let (sender, committed) = watch::channel(opened.last_cursor);
        let readers = reader::Pool::new(path);
        let writer = writer::Writer::start(opened, path, options, sender)?;
        Ok(Self { shared: Arc::new(Shared { readers, writer, committed, path: path.to_owned() }) })
    }

    /// Runs a closure on the writer's thread. Never blocks. Writes take effect in the order of the calls,
    /// [`append`](Self::append) included.
    ///
    /// The closure should only write, because all other writes wait for it. It may be called again if the effect of a
    /// call was undone.
    pub fn write<T, F>(&self, durability: Durability, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        self.shared.writer.submit(durability, false, work)
    }

    /// Like [`write`](Self::write), but runs before all waiting writes that are not urgent: for acknowledgements and
    /// commands, which should not wait for megabytes of output. Not for writes that must follow events of the same
    /// caller.
    pub fn write_urgent<T, F>(&self, durability: Durability, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        self.shared.writer.submit(durability, true, work)
    }

    /// Stores events in their order, all or none. Blocks the calling thread while too many bytes wait, see
    /// [`Options::queue_bytes`]: for threads, not for async tasks.
    pub fn append(&self, events: Vec<NewEvent>) -> Pending<Vec<Written>> {
        self.shared.writer.append(events, None)
    }

    /// Returns a handle that appends events without waiting for each, and remembers the first failure.
    #[must_use]
    pub fn output(&self) -> Output {
        Output::new(self.clone())
    }

    /// A watch on the highest committed cursor: subscribers wait for a change and then read from storage.
    #[must_use]
    pub fn events_watch(&self) -> watch::Receiver<u64> {
        self.shared.committed.clone()
    }

    /// Runs a closure on one consistent snapshot of the database. Blocks the thread while it runs; everything that was
    /// committed before the call is seen.
    ///
    /// # Errors
    /// The error of the closure, or why no connection could be opened.
    pub fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.shared.readers.read(work)
    }

    /// Adds all new and changed texts to the search index. Blocks until that is done.
    ///
    /// # Errors
    /// As [`index_some`](Self::index_some).
    pub fn index_texts(&self) -> Result<(), StorageError> {
        while !self.index_some()? {}
        Ok(())
    }

    /// Adds some new and changed texts to the search index, in one write that is short enough not to delay others.
    /// Returns whether none is left.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub fn index_some(&self) -> Result<bool, StorageError> {
        // Usually everything is indexed already, and a read is enough to know that.
        if !self.read(Reader::has_unindexed)? {
            return Ok(true);
        }
        self.write(Durability::Batched, search::index_some).wait()
    }

    /// Moves the write-ahead log into the file and truncates it, so that erased bytes are in no file any more. Blocks
    /// until that is done, at most for `timeout`; the writer continues to try after that. Returns whether it is done.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn empty_log(&self, timeout: Duration) -> Result<bool, StorageError> {
        self.shared.writer.empty_log(timeout)
    }

    /// A number that changes with every write: data that was read before is up to date while the number is the same.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.writer.commits()
    }

    /// The last error of the disk or the file in a write; None after a write has succeeded again.
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
