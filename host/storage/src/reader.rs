//! Connections that only read.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StorageError;

/// Idle connections that stay open.
const IDLE: usize = 4;
/// Connections in use at a time; further readers wait.
const MAX_LENT: usize = 16;
/// Statements that each connection keeps prepared.
const STATEMENTS: usize = 64;

/// One consistent snapshot of the database. Its methods are defined next to the tables that they read.
#[derive(Debug)]
pub struct Reader {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
}

impl Reader {
    /// Runs a closure on a snapshot of a database without a [`Storage`](super::Storage), also while a host has it open.
    /// Changes nothing. None if there is no database yet.
    ///
    /// # Errors
    /// The error of the closure, or why the database cannot be opened.
    pub fn glance<T>(
        path: &Path,
        work: impl FnOnce(&Self) -> Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        if !path.exists() {
            return Ok(None);
        }
        let read = connect(path).map_err(StorageError::from).and_then(|reader| work(&reader));
        read.map(Some).map_err(|error| error.at("read", path))
    }
}

/// A pool of read-only connections.
#[derive(Debug)]
pub(super) struct Pool {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Reader>,
    lent: usize,
}

impl Pool {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), state: Mutex::default(), returned: Condvar::new() }
    }

    /// Runs a closure on a connection, inside a read transaction that ends with it.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let lent = self.lend()?;
        let Some(reader) = &lent.reader else {
            return Err(super::pending::closed());
        };
        // Dropping the transaction ends it, however the closure returns.
        let transaction = reader.conn.unchecked_transaction().map_err(|error| self.failed(error.into()))?;
        let result = work(reader).map_err(|error| self.failed(error));
        drop(transaction);
        result
    }

    fn failed(&self, error: StorageError) -> StorageError {
        error.at("read", &self.path)
    }

    fn lend(&self) -> Result<Lent<'_>, StorageError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.lent >= MAX_LENT {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.lent += 1;
        let reader = state.idle.pop();
        drop(state);
        // From here on dropping `lent` returns the connection, also if opening fails.
        let mut lent = Lent { pool: self, reader };
        if lent.reader.is_none() {
            lent.reader = Some(connect(&self.path).map_err(|error| self.failed(error.into()))?);
        }
        Ok(lent)
    }
}

struct Lent<'a> {
    pool: &'a Pool,
    reader: Option<Reader>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // A connection that is stuck in a transaction would keep its snapshot.
        let reader = self.reader.take().filter(|reader| reader.conn.is_autocommit());
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        let surplus = match reader {
            Some(reader) if state.idle.len() < IDLE => {
                state.idle.push(reader);
                None
            }
            other => other,
        };
        drop(state);
        self.pool.returned.notify_one();
        drop(surplus);
    }
}

fn connect(path: &Path) -> rusqlite::Result<Reader> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -4096)?;
    Ok(Reader { conn, path: path.to_owned() })
}
