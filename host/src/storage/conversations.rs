//! `conversations` and `conversation_runs`: threads of runs.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use crate::model::{ConversationId, Page, RunId};

use super::reader::Reader;
use super::rows::{count_of, id_of, json_of, micros, optional_time_of, path_text, text, time_of, unsigned};
use super::tx::WriteTx;
use super::{ConversationFilter, ConversationRow, StorageError};

const COLUMNS: &str =
    "conversation_id, provider, title, metadata, session_id, cwd, archived_us, created_us, updated_us";

impl WriteTx<'_> {
    /// Makes a conversation.
    ///
    /// # Errors
    /// `Exists` where the id is taken, `Invalid` for a folder that is no UTF-8.
    pub fn insert_conversation(&mut self, row: &ConversationRow) -> Result<(), StorageError> {
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

    /// Puts a run at the end of a conversation, whose folder becomes the run's. Returns its place, from 1.
    ///
    /// # Errors
    /// `NotFound` for an unknown run or conversation, `Exists` where the run is in a conversation already.
    pub fn link_conversation(&mut self, id: ConversationId, run_id: RunId, at: Timestamp) -> Result<u64, StorageError> {
        let conversation = self.conversation_num(id)?;
        let run = self.run_num(run_id)?;
        let position: i64 = self
            .conn
            .prepare_cached(
                "INSERT INTO conversation_runs (conversation, position, run)
                 SELECT ?1, coalesce(max(position), 0) + 1, ?2 FROM conversation_runs WHERE conversation = ?1
                 RETURNING position",
            )?
            .query_row([conversation, run], |row| row.get(0))?;
        self.execute(
            "UPDATE conversations SET cwd = (SELECT cwd FROM runs WHERE num = ?2), updated_us = ?3 WHERE num = ?1",
            params![conversation, run, micros(at)],
        )?;
        Ok(unsigned(position))
    }

    /// The provider session that a conversation's next message resumes, or that there is none.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn set_conversation_session(
        &mut self,
        id: ConversationId,
        session: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        let num = self.conversation_num(id)?;
        self.execute(
            "UPDATE conversations SET session_id = ?2, updated_us = ?3 WHERE num = ?1",
            params![num, session, micros(at)],
        )?;
        Ok(())
    }

    /// A conversation's title, redacted.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn rename_conversation(&mut self, id: ConversationId, title: &str, at: Timestamp) -> Result<(), StorageError> {
        let num = self.conversation_num(id)?;
        self.execute(
            "UPDATE conversations SET title = ?2, updated_us = ?3 WHERE num = ?1",
            params![num, title, micros(at)],
        )?;
        Ok(())
    }

    /// Archives a conversation, or takes it back.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn archive_conversation(
        &mut self,
        id: ConversationId,
        archived: bool,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        let num = self.conversation_num(id)?;
        self.execute(
            "UPDATE conversations SET archived_us = iif(?2, coalesce(archived_us, ?3), NULL), updated_us = ?3
             WHERE num = ?1",
            params![num, archived, micros(at)],
        )?;
        Ok(())
    }

    /// What the client keeps with a conversation, redacted.
    ///
    /// # Errors
    /// `NotFound` for an unknown conversation.
    pub fn set_conversation_metadata(
        &mut self,
        id: ConversationId,
        metadata: &Value,
        at: Timestamp,
    ) -> Result<(), StorageError> {
        let num = self.conversation_num(id)?;
        self.execute(
            "UPDATE conversations SET metadata = ?2, updated_us = ?3 WHERE num = ?1",
            params![num, text(metadata)?, micros(at)],
        )?;
        Ok(())
    }
}

fn conversation(row: &Row<'_>) -> rusqlite::Result<ConversationRow> {
    Ok(ConversationRow {
        conversation_id: id_of(row, "conversation_id")?,
        provider: row.get("provider")?,
        title: row.get("title")?,
        metadata: json_of(row, "metadata")?,
        session_id: row.get("session_id")?,
        cwd: row.get::<_, Option<String>>("cwd")?.map(|path| Path::new(&path).to_owned()),
        archived_at: optional_time_of(row, "archived_us")?,
        created_at: time_of(row, "created_us")?,
        updated_at: time_of(row, "updated_us")?,
    })
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
    /// Where the database cannot be read.
    pub fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRow>, StorageError> {
        let found = self
            .conn
            .prepare_cached(&format!("SELECT {COLUMNS} FROM conversations WHERE conversation_id = ?1"))?
            .query_row([id.as_uuid().as_bytes().as_slice()], conversation)
            .optional()?;
        Ok(found)
    }

    /// Conversations, the last changed first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn conversations(
        &self,
        filter: &ConversationFilter,
        limit: u64,
        offset: u64,
    ) -> Result<Page<ConversationRow>, StorageError> {
        let condition = "(?1 IS NULL OR provider = ?1) AND (?2 OR archived_us IS NULL)";
        let total = self
            .conn
            .prepare_cached(&format!("SELECT count(*) AS total FROM conversations WHERE {condition}"))?
            .query_row(params![filter.provider, filter.include_archived], |row| count_of(row, "total"))?;
        let items = self
            .conn
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM conversations WHERE {condition}
                 ORDER BY updated_us DESC, num DESC LIMIT ?3 OFFSET ?4"
            ))?
            .query_map(
                params![
                    filter.provider,
                    filter.include_archived,
                    i64::try_from(limit).unwrap_or(i64::MAX),
                    i64::try_from(offset).unwrap_or(i64::MAX),
                ],
                conversation,
            )?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Page { items, total })
    }

    /// The runs of a conversation, in order.
    ///
    /// # Errors
    /// Where the database cannot be read.
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
}
