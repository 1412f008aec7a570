//! `conversations` and `conversation_runs`: threads of runs.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use ostler_protocol::{Conversation, ConversationId, ConversationSummary, LastRun, Page, RunId, RunStatus, RunSummary};

use super::reader::Reader;
use super::rows::{
    count_of, id_of, json_of, micros, name_of, optional_id_of, optional_time_of, path_text, text, time_of, unsigned,
};
use super::run_reads::{SUMMARY, summary};
use super::tx::WriteTx;
use super::{ConversationFilter, StorageError, search};

/// Columns in the names that [`conversation`] reads.
const COLUMNS: &str = "c.conversation_id, c.provider, c.title, c.metadata, c.session_id, c.cwd, c.archived_us, \
     c.created_us, c.updated_us";

impl WriteTx<'_> {
    /// Creates a conversation.
    ///
    /// # Errors
    /// `Exists` if the id is taken, `Invalid` for a folder that is not UTF-8.
    pub fn insert_conversation(&mut self, row: &Conversation) -> Result<(), StorageError> {
        self.execute(
            "INSERT INTO conversations
                 (conversation_id, provider, title, metadata, session_id, cwd, archived_us, created_us, updated_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                row.conversation_id.as_uuid().as_bytes().as_slice(),
                row.provider,
                row.title,
                text(&row.metadata)?,
                row.session_id,
                row.cwd.as_deref().map(path_text).transpose()?,
                row.archived_at.map(micros),
                micros(row.created_at),
                micros(row.updated_at),
            ],
        )?;
        Ok(())
    }

    /// Changes a conversation: title, metadata, session, whether it is archived, and when it last changed. Its folder
    /// is set by its runs.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn update_conversation(&mut self, row: &Conversation) -> Result<(), StorageError> {
        let num = self.conversation_num(row.conversation_id)?;
        self.execute(
            "UPDATE conversations SET title = ?2, metadata = ?3, session_id = ?4, archived_us = ?5, updated_us = ?6,
                 indexed = CASE WHEN title IS ?2 THEN indexed ELSE 0 END
             WHERE num = ?1",
            params![
                num,
                row.title,
                text(&row.metadata)?,
                row.session_id,
                row.archived_at.map(micros),
                micros(row.updated_at),
            ],
        )?;
        Ok(())
    }

    /// Adds a run at the end of a conversation, whose folder becomes the run's. From here on the run's events also
    /// belong to the conversation. Returns the run's position, from 1.
    ///
    /// # Errors
    /// `NotFound` for an unknown run or conversation, `Exists` if the run is in a conversation already.
    pub fn link_conversation(&mut self, id: ConversationId, run_id: RunId, at: Timestamp) -> Result<u64, StorageError> {
        let conversation = self.conversation_num(id)?;
        let mut run = self.run_memory(run_id)?;
        let position: i64 = self
            .conn
            .prepare_cached(
                "INSERT INTO conversation_runs (conversation, position, run)
                 SELECT ?1, coalesce(max(position), 0) + 1, ?2 FROM conversation_runs WHERE conversation = ?1
                 RETURNING position",
            )?
            .query_row([conversation, run.num], |row| row.get(0))?;
        self.execute(
            "UPDATE conversations SET cwd = (SELECT cwd FROM runs WHERE num = ?2), updated_us = ?3 WHERE num = ?1",
            params![conversation, run.num, micros(at)],
        )?;
        run.conversation = Some(conversation);
        self.memory.put(run_id, run);
        Ok(unsigned(position))
    }

    /// A conversation, including the effect of earlier writes of this transaction.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn conversation(&mut self, id: ConversationId) -> Result<Conversation, StorageError> {
        one(self.conn, id)?.ok_or_else(|| StorageError::not_found("conversation", id))
    }

    /// The conversation that a run belongs to.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn conversation_of(&mut self, run_id: RunId) -> Result<Option<Conversation>, StorageError> {
        let Some(num) = self.run_memory(run_id)?.conversation else { return Ok(None) };
        let found = self
            .conn
            .prepare_cached(&format!("SELECT {COLUMNS} FROM conversations c WHERE c.num = ?1"))?
            .query_row([num], conversation)
            .optional()?;
        Ok(found)
    }

    /// Whether a run of the conversation has not ended yet.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn conversation_works(&mut self, id: ConversationId) -> Result<bool, StorageError> {
        let num = self.conversation_num(id)?;
        let works = self
            .conn
            .prepare_cached(
                // Starts from the few open jobs, not from the conversation's many runs.
                "SELECT EXISTS (SELECT 1 FROM scheduler_jobs j INDEXED BY scheduler_jobs_open
                                CROSS JOIN conversation_runs l ON l.run = j.run
                                WHERE j.state <> 'done' AND l.conversation = ?1)",
            )?
            .query_row([num], |row| row.get(0))?;
        Ok(works)
    }
}

fn conversation(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        conversation_id: id_of(row, "conversation_id")?,
        provider: row.get("provider")?,
        title: row.get("title")?,
        metadata: json_of(row, "metadata")?,
        session_id: row.get("session_id")?,
        cwd: row.get::<_, Option<String>>("cwd")?.map(Into::into),
        archived_at: optional_time_of(row, "archived_us")?,
        created_at: time_of(row, "created_us")?,
        updated_at: time_of(row, "updated_us")?,
    })
}

fn one(conn: &Connection, id: ConversationId) -> Result<Option<Conversation>, StorageError> {
    let found = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM conversations c WHERE c.conversation_id = ?1"))?
        .query_row([id.as_uuid().as_bytes().as_slice()], conversation)
        .optional()?;
    Ok(found)
}

fn conversation_summary(row: &Row<'_>) -> rusqlite::Result<ConversationSummary> {
    let last_run = match optional_id_of(row, "last_run")? {
        Some(run_id) => Some(LastRun { run_id, status: name_of(row, "last_status", RunStatus::from_name)? }),
        None => None,
    };
    Ok(ConversationSummary { conversation: conversation(row)?, runs: count_of(row, "runs")?, last_run })
}

impl Reader {
    pub(super) fn conversation_num(&self, id: ConversationId) -> Result<Option<i64>, StorageError> {
        let num = self
            .conn
            .prepare_cached("SELECT num FROM conversations WHERE conversation_id = ?1")?
            .query_row([id.as_uuid().as_bytes().as_slice()], |row| row.get(0))
            .optional()?;
        Ok(num)
    }

    /// A conversation.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, StorageError> {
        one(&self.conn, id)
    }

    /// Conversations, the last changed first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn conversations(
        &self,
        filter: &ConversationFilter,
        limit: u64,
        offset: u64,
    ) -> Result<Page<ConversationSummary>, StorageError> {
        let condition = "(?1 IS NULL OR provider = ?1) AND (?2 OR archived_us IS NULL)
            AND (?3 IS NULL OR num IN (
                SELECT rowid FROM conversation_texts WHERE conversation_texts MATCH ?3
                UNION SELECT l.conversation FROM run_texts t JOIN conversation_runs l ON l.run = t.rowid
                      WHERE run_texts MATCH ?3))";
        let search = filter.search.as_deref().map(search::expression);
        let total = self
            .conn
            .prepare_cached(&format!("SELECT count(*) AS total FROM conversations WHERE {condition}"))?
            .query_row(params![filter.provider, filter.include_archived, search], |row| count_of(row, "total"))?;
        // First select the rows; then count and look up for those few alone.
        let items = self
            .conn
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, r.run_id AS last_run, r.status AS last_status,
                     (SELECT count(*) FROM conversation_runs WHERE conversation = c.num) AS runs
                 FROM (SELECT * FROM conversations WHERE {condition}
                       ORDER BY updated_us DESC, num DESC LIMIT ?4 OFFSET ?5) c
                 LEFT JOIN runs r ON r.num = (SELECT run FROM conversation_runs WHERE conversation = c.num
                                              ORDER BY position DESC LIMIT 1)
                 ORDER BY c.updated_us DESC, c.num DESC"
            ))?
            .query_map(
                params![
                    filter.provider,
                    filter.include_archived,
                    search,
                    i64::try_from(limit).unwrap_or(i64::MAX),
                    i64::try_from(offset).unwrap_or(i64::MAX),
                ],
                conversation_summary,
            )?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Page { items, total })
    }

    /// A run's position in its conversation, from 1; None if it is in none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn position_in_conversation(&self, run_id: RunId) -> Result<Option<u64>, StorageError> {
        let position = self
            .conn
            .prepare_cached(
                "SELECT l.position FROM conversation_runs l JOIN runs r ON r.num = l.run WHERE r.run_id = ?1",
            )?
            .query_row([run_id.as_uuid().as_bytes().as_slice()], |row| count_of(row, "position"))
            .optional()?;
        Ok(position)
    }

    /// The ids of a conversation's runs, in order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn conversation_runs(&self, id: ConversationId) -> Result<Vec<RunId>, StorageError> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT r.run_id FROM conversations c JOIN conversation_runs l ON l.conversation = c.num
                 JOIN runs r ON r.num = l.run WHERE c.conversation_id = ?1 ORDER BY l.position",
            )?
            .query_map([id.as_uuid().as_bytes().as_slice()], |row| id_of(row, "run_id"))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// The newest runs of a conversation, oldest first. `offset` counts from the newest.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn runs_of_conversation(
        &self,
        id: ConversationId,
        limit: u64,
        offset: u64,
    ) -> Result<Page<RunSummary>, StorageError> {
        let Some(num) = self.conversation_num(id)? else { return Ok(Page { items: Vec::new(), total: 0 }) };
        let total = self
            .conn
            .prepare_cached("SELECT count(*) AS total FROM conversation_runs WHERE conversation = ?1")?
            .query_row([num], |row| count_of(row, "total"))?;
        let mut items: Vec<RunSummary> = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SUMMARY} FROM conversation_runs t JOIN runs r ON r.num = t.run
                 WHERE t.conversation = ?1 ORDER BY t.position DESC LIMIT ?2 OFFSET ?3"
            ))?
            .query_map(
                params![num, i64::try_from(limit).unwrap_or(i64::MAX), i64::try_from(offset).unwrap_or(i64::MAX)],
                summary,
            )?
            .collect::<rusqlite::Result<_>>()?;
        items.reverse();
        Ok(Page { items, total })
    }
}
