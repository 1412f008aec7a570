//! The one thread that writes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use ostler_protocol::NewEvent;
use ostler_test_hooks::failpoint;

use super::open::Opened;
use super::output::Failure;
use super::pending::{Resolver, closed, promise};
use super::rows::unsigned;
use super::tx::{Memory, WriteTx};
use super::{Durability, Options, Pending, StorageError, StorageErrorKind, Written};

/// Bytes of events in one transaction: some milliseconds, so that an urgent write does not wait longer.
const GROUP_BYTES: usize = 512 << 10;
/// Writes in one transaction.
const GROUP_WRITES: usize = 1024;
/// The memory that an event takes beside its payload.
const EVENT_BYTES: usize = 128;
/// Pages of the write-ahead log after which its contents are moved into the file (16 MiB).
const CHECKPOINT_PAGES: u32 = 4096;
/// Pages after which the writer waits for readers to finish, so that the log can be truncated (64 MiB).
const RESTART_PAGES: u32 = 16_384;

/// The idle time before the log is truncated to erase a deleted seal.
const SCRUB_QUIET: Duration = Duration::from_millis(200);
/// The latest time for that if the writer is never idle.
const SCRUB_LATEST: Duration = Duration::from_secs(5);
/// How long that waits for readers.
const SCRUB_TIMEOUT: Duration = Duration::from_millis(20);
/// When it is tried again if readers prevented it.
const SCRUB_RETRY: Duration = Duration::from_secs(1);

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread's connection.
    static WAL_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The handle of the writer's thread. Dropping it waits until all submitted writes are done.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Notified when there is a request.
    work: Condvar,
    /// Notified when a request is done.
    room: Condvar,
    limit: usize,
    /// Attempted commits, successful or not.
    commits: AtomicU64,
    /// How often the log was truncated.
    scrubs: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    urgent: VecDeque<Request>,
    ordered: VecDeque<Request>,
    /// Bytes of the requests that wait or are being written.
    bytes: usize,
    asleep: bool,
    closed: bool,
    trouble: Option<StorageError>,
}

struct Request {
    durability: Durability,
    bytes: usize,
    settled: bool,
    task: Box<dyn Task>,
}

impl Request {
    fn new(durability: Durability, bytes: usize, task: Box<dyn Task>) -> Self {
        Self { durability, bytes, settled: false, task }
    }

    /// Returns the result to the caller; only the first call has an effect.
    fn settle(&mut self, result: Result<(), StorageError>) {
        if !std::mem::replace(&mut self.settled, true) {
            self.task.settle(result);
        }
    }
}

fn fail(group: &mut [Request], error: &StorageError) {
    for request in group {
        request.settle(Err(error.clone()));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("durability", &self.durability)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A write with its result type erased.
trait Task: Send {
    /// Runs it inside the transaction. May be called again if the attempt was undone.
    fn attempt(&mut self, tx: &mut WriteTx<'_>) -> Result<(), StorageError>;
    /// Returns the result to the caller. Called once.
    fn settle(&mut self, result: Result<(), StorageError>);
}

struct Work<T, F> {
    work: F,
    value: Option<T>,
    resolver: Resolver<T>,
    failure: Option<Failure>,
}

impl<T, F> Task for Work<T, F>
where
    T: Send,
    F: FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send,
{
    fn attempt(&mut self, tx: &mut WriteTx<'_>) -> Result<(), StorageError> {
        if let Some(error) = self.failure.as_ref().and_then(|failure| failure.get()) {
            return Err(error.clone());
        }
        // A closure that panics undoes only its own write.
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)(tx)))
            .unwrap_or_else(|_| Err(StorageError::new(StorageErrorKind::Internal, "a write panicked; it was undone")));
        self.value = Some(result?);
        Ok(())
    }

    fn settle(&mut self, result: Result<(), StorageError>) {
        let value = self.value.take();
        let result = result.and_then(|()| value.ok_or_else(closed));
        if let (Err(error), Some(failure)) = (&result, &self.failure) {
            // Only the first failure is kept.
            let _ = failure.set(error.clone());
        }
        self.resolver.resolve(result);
    }
}

/// What the writer does next.
enum Taken {
    /// Write these, in one transaction.
    Writes(Vec<Request>),
    /// Nothing arrived before the wake-up time.
    Nothing,
    /// End.
    Closed,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut state: MutexGuard<'_, State>, request: Request, urgent: bool) {
        if state.closed {
            // Dropping the request resolves its promise with `Closed`.
            return;
        }
        state.bytes += request.bytes;
        if urgent {
            state.urgent.push_back(request);
        } else {
            state.ordered.push_back(request);
        }
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// The next transaction's writes; sleeps while there are none, until `wake` if that is given.
    fn take(&self, wake: Option<Instant>) -> Taken {
        let mut state = self.lock();
        while state.urgent.is_empty() && state.ordered.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            state.asleep = true;
            let Some(wake) = wake else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = wake.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.asleep = false;
                return Taken::Nothing;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.asleep = false;
        let mut group: Vec<Request> = Vec::new();
        let mut bytes = 0;
        while group.len() < GROUP_WRITES && bytes < GROUP_BYTES {
            let Some(request) = state.urgent.pop_front().or_else(|| state.ordered.pop_front()) else {
                break;
            };
            bytes += request.bytes;
            group.push(request);
        }
        Taken::Writes(group)
    }

    fn done(&self, bytes: usize) {
        if bytes > 0 {
            let mut state = self.lock();
            state.bytes = state.bytes.saturating_sub(bytes);
            drop(state);
            self.room.notify_all();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }
}

impl Writer {
    pub(super) fn start(
        opened: Opened,
        path: &Path,
        options: &Options,
        committed: watch::Sender<u64>,
    ) -> Result<Self, StorageError> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            limit: options.queue_bytes.max(1),
            commits: AtomicU64::new(0),
            scrubs: AtomicU64::new(0),
        });
        let mut worker = Worker {
            conn: opened.conn,
            memory: Memory::new(i64::try_from(opened.last_cursor).unwrap_or(i64::MAX)),
            queue: Arc::clone(&queue),
            committed,
            path: path.to_owned(),
            busy_timeout: options.busy_timeout,
            busy_limit: options.busy_limit,
            // SQLite's default, not set yet.
            synchronous: None,
            next_checkpoint: CHECKPOINT_PAGES,
            scrub_at: None,
            scrub_latest: None,
            troubled: false,
        };
        let thread = std::thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| {
                StorageError::new(
                    StorageErrorKind::Io,
                    format!("failed to start the thread that writes the database: {error}"),
                )
            })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn submit<T, F>(&self, durability: Durability, urgent: bool, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    {
        let (resolver, pending) = promise();
        let task = Box::new(Work { work, value: None, resolver, failure: None });
        self.queue.put(self.queue.lock(), Request::new(durability, 0, task), urgent);
        pending
    }

    /// Blocks while too many bytes wait.
    pub(super) fn append(&self, events: Vec<NewEvent>, failure: Option<Failure>) -> Pending<Vec<Written>> {
        let bytes = events.iter().map(|event| event.payload.len() + EVENT_BYTES).sum();
        let (resolver, pending) = promise();
        let task = Box::new(Work {
            work: move |tx: &mut WriteTx<'_>| tx.append_events(&events),
            value: None,
            resolver,
            failure,
        });
        let mut state = self.queue.lock();
        // A batch that is larger than the limit is accepted when nothing else waits.
        while state.bytes > 0 && state.bytes + bytes > self.queue.limit && !state.closed {
            state = self.queue.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.queue.put(state, Request::new(Durability::Batched, bytes, task), false);
        pending
    }

    pub(super) fn empty_log(&self, timeout: Duration) -> Result<bool, StorageError> {
        let until = Instant::now() + timeout;
        let queue = Arc::clone(&self.queue);
        // Read on the writer's thread: only a truncation after this request counts.
        let submitted = self.submit(Durability::Batched, true, move |tx| {
            tx.memory.scrub_at_once = true;
            Ok(queue.scrubs.load(Ordering::SeqCst))
        });
        let before = submitted.wait()?;
        let mut state = self.queue.lock();
        while self.queue.scrubs.load(Ordering::SeqCst) == before {
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return Ok(false);
            }
            state = self.queue.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(true)
    }

    pub(super) fn commits(&self) -> u64 {
        self.queue.commits.load(Ordering::SeqCst)
    }

    pub(super) fn trouble(&self) -> Option<StorageError> {
        self.queue.lock().trouble.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A write may own the last handle of the storage: its thread cannot join itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

struct Worker {
    conn: Connection,
    memory: Memory,
    queue: Arc<Queue>,
    committed: watch::Sender<u64>,
    path: PathBuf,
    busy_timeout: Duration,
    busy_limit: Duration,
    synchronous: Option<Durability>,
    next_checkpoint: u32,
    /// When the log is truncated to erase a deleted seal, if no write comes before.
    scrub_at: Option<Instant>,
    /// When it is truncated in any case.
    scrub_latest: Option<Instant>,
    /// Whether an error is set in the queue.
    troubled: bool,
}

/// A transaction that was rolled back as a whole.
struct RolledBack {
    error: StorageError,
    /// It failed before any write: the file itself cannot be written now.
    at_once: bool,
}

impl Worker {
    fn run(&mut self) {
        // However this thread ends, all waiting callers get a result.
        let guard = CloseOnDrop(Arc::clone(&self.queue));
        self.conn.wal_hook(Some(|_, pages| {
            WAL_PAGES.set(u32::try_from(pages).unwrap_or(0));
            Ok(())
        }));
        loop {
            match self.queue.take(self.scrub_at) {
                Taken::Writes(mut group) => {
                    let bytes = group.iter().map(|request| request.bytes).sum();
                    self.write(&mut group);
                    drop(group);
                    self.queue.done(bytes);
                    self.checkpoint();
                    self.plan_scrub();
                }
                Taken::Nothing => self.scrub(),
                Taken::Closed => break,
            }
        }
        drop(guard);
        // A short log makes the next start quick; if it cannot be truncated now, the next start reads it.
        let _ = self.conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    fn write(&mut self, group: &mut [Request]) {
        let began = Instant::now();
        let failed = loop {
            let Err(failed) = self.transaction(group) else {
                return self.settle(group);
            };
            // Another program has the database locked: temporary. The queue is bounded, so that its callers wait as
            // well.
            let temporary = failed.at_once && failed.error.kind() == StorageErrorKind::Busy;
            if !temporary || began.elapsed() >= self.busy_limit || self.queue.lock().closed {
                break failed;
            }
        };
        if failed.at_once || group.len() == 1 {
            return fail(group, &failed.error);
        }
        // One of the writes failed the whole transaction. Run each alone, so that the others succeed.
        for request in group.iter_mut().filter(|request| !request.settled) {
            let alone = std::slice::from_mut(request);
            match self.transaction(alone) {
                Ok(()) => self.settle(alone),
                Err(failed) => fail(alone, &failed.error),
            }
        }
    }

    /// After a commit: notifies the subscribers first, then the callers, so that an acknowledged write is announced
    /// already.
    fn settle(&self, group: &mut [Request]) {
        let cursor = unsigned(self.memory.last_cursor);
        self.committed.send_if_modified(|last| {
            let grew = cursor > *last;
            *last = cursor.max(*last);
            grew
        });
        for request in group {
            request.settle(Ok(()));
        }
    }

    /// Runs writes in one transaction. Those that fail by themselves are settled at once.
    fn transaction(&mut self, group: &mut [Request]) -> Result<(), RolledBack> {
        let before = self.memory.last_cursor;
        let result = self.try_transaction(group);
        match &result {
            Ok(()) => self.set_trouble(None),
            Err(failed) => {
                if !self.conn.is_autocommit() {
                    let _ = self.conn.execute_batch("ROLLBACK");
                }
                self.memory.forget(before);
                if failed.error.of_the_file() {
                    self.set_trouble(Some(failed.error.clone()));
                }
            }
        }
        result
    }

    /// Set before the writes are settled, so that a caller that gets an error can read it.
    fn set_trouble(&mut self, trouble: Option<StorageError>) {
        if self.troubled || trouble.is_some() {
            self.troubled = trouble.is_some();
            self.queue.lock().trouble = trouble;
        }
    }

    fn try_transaction(&mut self, group: &mut [Request]) -> Result<(), RolledBack> {
        let start = self.set_synchronous(group).and_then(|()| self.statement("BEGIN IMMEDIATE"));
        start.map_err(|error| RolledBack { error, at_once: true })?;
        self.try_writes(group).map_err(|error| RolledBack { error, at_once: false })
    }

    fn try_writes(&mut self, group: &mut [Request]) -> Result<(), StorageError> {
        let single = group.len() == 1;
        for request in group.iter_mut().filter(|request| !request.settled) {
            if !single {
                self.statement("SAVEPOINT one")?;
            }
            let before = self.memory.last_cursor;
            let mut tx = WriteTx { conn: &self.conn, memory: &mut self.memory };
            let Err(error) = request.task.attempt(&mut tx) else {
                if !single {
                    self.statement("RELEASE one")?;
                }
                continue;
            };
            let error = error.at("write", &self.path);
            if single || self.conn.is_autocommit() {
                return Err(error);
            }
            self.statement("ROLLBACK TO one")?;
            self.statement("RELEASE one")?;
            self.memory.forget(before);
            request.settle(Err(error));
        }
        failpoint::reach("commit.before");
        let committed = self.statement("COMMIT");
        self.queue.commits.fetch_add(1, Ordering::SeqCst);
        committed?;
        failpoint::reach("commit.after");
        Ok(())
    }

    fn set_synchronous(&mut self, group: &[Request]) -> Result<(), StorageError> {
        let full = group.iter().any(|request| request.durability == Durability::Full);
        let wanted = if full { Durability::Full } else { Durability::Batched };
        if self.synchronous != Some(wanted) {
            self.statement(if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
            self.synchronous = Some(wanted);
        }
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<(), StorageError> {
        self.conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.raw_execute())
            .map(|_| ())
            .map_err(|error| StorageError::from(error).at("write", &self.path))
    }

    /// Keeps the write-ahead log short. Waits for readers only if it has become very long.
    fn checkpoint(&mut self) {
        let pages = WAL_PAGES.get();
        if pages < CHECKPOINT_PAGES {
            self.next_checkpoint = CHECKPOINT_PAGES;
        }
        if pages < self.next_checkpoint && !std::mem::take(&mut self.memory.fold) {
            return;
        }
        let sql =
            if pages < RESTART_PAGES { "PRAGMA wal_checkpoint(PASSIVE)" } else { "PRAGMA wal_checkpoint(TRUNCATE)" };
        // Pages that cannot be moved now (a reader, a full disk) stay safely in the log until the next checkpoint.
        let complete = self
            .conn
            .query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
            .is_ok_and(|(busy, log, moved)| busy == 0 && log == moved);
        self.next_checkpoint = if complete { CHECKPOINT_PAGES } else { pages.saturating_add(CHECKPOINT_PAGES) };
        if complete {
            // The next commit restarts the log, and the hook reports its length.
            WAL_PAGES.set(0);
        }
    }

    /// After a transaction: plans to truncate the log, if a seal was deleted, when the writer is next idle, or at the
    /// latest after [`SCRUB_LATEST`].
    fn plan_scrub(&mut self) {
        if std::mem::take(&mut self.memory.scrub) {
            let now = Instant::now();
            self.scrub_at = Some(now + SCRUB_QUIET);
            self.scrub_latest.get_or_insert(now + SCRUB_LATEST);
        }
        let at_once = std::mem::take(&mut self.memory.scrub_at_once);
        if at_once || self.scrub_latest.is_some_and(|latest| latest <= Instant::now()) {
            self.scrub();
        }
    }

    /// Moves the log into the file and truncates it, so that deleted bytes are in no file any more.
    fn scrub(&mut self) {
        let _ = self.conn.busy_timeout(SCRUB_TIMEOUT);
        let busy = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let _ = self.conn.busy_timeout(self.busy_timeout);
        if busy.is_ok_and(|busy| busy == 0) {
            (self.scrub_at, self.scrub_latest) = (None, None);
            self.next_checkpoint = CHECKPOINT_PAGES;
            WAL_PAGES.set(0);
            // Counted under the lock, so that a waiting caller cannot miss the notification.
            let state = self.queue.lock();
            self.queue.scrubs.fetch_add(1, Ordering::SeqCst);
            drop(state);
            self.queue.room.notify_all();
        } else {
            // A reader uses the log, or the disk is full.
            let again = Instant::now() + SCRUB_RETRY;
            (self.scrub_at, self.scrub_latest) = (Some(again), Some(again));
        }
    }
}

struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let left: Vec<Request> =
            std::mem::take(&mut state.urgent).into_iter().chain(std::mem::take(&mut state.ordered)).collect();
        state.bytes = 0;
        drop(state);
        self.0.room.notify_all();
        // Their promises resolve with `Closed`.
        drop(left);
    }
}
