//! The transaction handle that the writer's thread passes to each write.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Params};

use ostler_protocol::{ConversationId, RunId, RunStatus};

use super::audit::ChainEnd;
use super::rows::name_of;
use super::{StorageError, StorageErrorKind};

/// How many runs the writer caches; it clears the cache when there are more.
const MAX_CACHED: usize = 4096;

/// One write inside the writer's transaction. Its methods are defined next to the tables that they write.
#[derive(Debug)]
pub struct WriteTx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) memory: &'a mut Memory,
}

/// State that the writer caches. It is reset when a write is undone.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The last assigned cursor.
    pub(super) last_cursor: i64,
    /// Whether the write-ahead log must be moved into the file after this transaction, however short it is.
    pub(super) fold: bool,
    /// The newest row of the audit trail, once this thread has appended one.
    pub(super) audit_head: Option<ChainEnd>,
    /// Whether data was deleted whose bytes may still be in the write-ahead log.
    pub(super) scrub: bool,
    /// Whether a caller waits for an empty log.
    pub(super) scrub_at_once: bool,
    runs: HashMap<RunId, RunMemory>,
    conversations: HashMap<ConversationId, i64>,
}

/// The cached data of a run that its next event needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunMemory {
    pub(super) num: i64,
    /// The conversation to which the run and its events belong.
    pub(super) conversation: Option<i64>,
    /// The last assigned sequence number.
    pub(super) last_seq: i64,
    /// The approximate size of its events and texts in the file, if all of them were counted.
    pub(super) bytes: Option<u64>,
    pub(super) ended: bool,
}

impl Memory {
    pub(super) fn new(last_cursor: i64) -> Self {
        Self { last_cursor, ..Self::default() }
    }

    /// Resets the cache after a write was undone.
    pub(super) fn forget(&mut self, last_cursor: i64) {
        self.last_cursor = last_cursor;
        self.audit_head = None;
        self.runs.clear();
        self.conversations.clear();
    }

    pub(super) fn put(&mut self, run_id: RunId, run: RunMemory) {
        if self.runs.len() >= MAX_CACHED {
            self.runs.clear();
        }
        self.runs.insert(run_id, run);
    }

    pub(super) fn drop_run(&mut self, run_id: RunId) {
        self.runs.remove(&run_id);
    }

    pub(super) fn drop_conversation(&mut self, id: ConversationId) {
        self.conversations.remove(&id);
    }
}

impl WriteTx<'_> {
    /// Runs a statement, which is prepared once and cached.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StorageError> {
        Ok(self.conn.prepare_cached(sql)?.execute(params)?)
    }

    /// The cached data of a run, read from the database if needed.
    pub(super) fn run_memory(&mut self, run_id: RunId) -> Result<RunMemory, StorageError> {
        if let Some(run) = self.memory.runs.get(&run_id) {
            return Ok(*run);
        }
        let run = self
            .conn
            .prepare_cached(
                "SELECT num, status,
                     (SELECT conversation FROM conversation_runs WHERE run = runs.num) AS conversation,
                     (SELECT coalesce(max(seq), 0) FROM run_events WHERE run = runs.num) AS last_seq
                 FROM runs WHERE run_id = ?1",
            )?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], |row| {
                Ok(RunMemory {
                    num: row.get("num")?,
                    conversation: row.get("conversation")?,
                    last_seq: row.get("last_seq")?,
                    bytes: None,
                    ended: name_of(row, "status", RunStatus::from_name)?.ended(),
                })
            })
            .optional()?
            .ok_or_else(|| StorageError::not_found("run", run_id))?;
        self.memory.put(run_id, run);
        Ok(run)
    }

    /// The internal key of a run.
    pub(super) fn run_num(&mut self, run_id: RunId) -> Result<i64, StorageError> {
        Ok(self.run_memory(run_id)?.num)
    }

    /// The internal key of a conversation.
    pub(super) fn conversation_num(&mut self, id: ConversationId) -> Result<i64, StorageError> {
        if let Some(num) = self.memory.conversations.get(&id) {
            return Ok(*num);
        }
        let num = self
            .conn
            .prepare_cached("SELECT num FROM conversations WHERE conversation_id = ?1")?
            .query_row([id.as_uuid().as_bytes().as_slice()], |row| row.get(0))
            .optional()?
            .ok_or_else(|| StorageError::not_found("conversation", id))?;
        if self.memory.conversations.len() >= MAX_CACHED {
            self.memory.conversations.clear();
        }
        self.memory.conversations.insert(id, num);
        Ok(num)
    }
}

/// The error for a write to a run that has ended.
pub(super) fn ended(run_id: RunId) -> StorageError {
    StorageError::new(StorageErrorKind::Ended, format!("the run {run_id} has ended"))
}
