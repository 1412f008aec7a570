//! `retention_policies`, lists of ended runs from the newest to the oldest, and their deletion in slices that are short
//! enough not to delay other writes.

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use ostler_protocol::{ConversationId, RunId};

use super::reader::Reader;
use super::rows::{count_of, damaged, id_of, micros, number, path_of, path_text, time, time_of, unsigned};
use super::tx::WriteTx;
use super::{
    BackwardPage, EndedRun, LooseEvent, PageStart, QuietConversation, RetentionRow, RetentionScope, Slice,
    StorageError, StorageErrorKind,
};

/// The size of a row of `run_events` in the file without its payload: its other columns and its index entries.
pub(super) const EVENT_BYTES: u64 = 110;
/// The size of the rows of a run without its texts and events.
pub(super) const RUN_BYTES: u64 = 600;

impl WriteTx<'_> {
    /// Sets how long and how much is kept of a scope's ended runs.
    ///
    /// # Errors
    /// `Invalid` for a path that is not UTF-8.
    pub fn put_retention(&mut self, policy: &RetentionRow) -> Result<(), StorageError> {
        let (scope, name) = scope_columns(&policy.scope)?;
        self.execute(
            "INSERT INTO retention_policies (scope, name, days, megabytes, updated_us) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (scope, name) DO UPDATE SET days = excluded.days, megabytes = excluded.megabytes,
                 updated_us = excluded.updated_us",
            params![scope, name, policy.days, policy.megabytes.map(number).transpose()?, micros(policy.updated_at)],
        )?;
        Ok(())
    }

    /// The policy that the user has set for a scope.
    ///
    /// # Errors
    /// `Invalid` for a path that is not UTF-8.
    pub fn retention_of(&self, scope: &RetentionScope) -> Result<Option<RetentionRow>, StorageError> {
        let (scope, name) = scope_columns(scope)?;
        let found = self
            .conn
            .prepare_cached("SELECT * FROM retention_policies WHERE scope = ?1 AND name = ?2")?
            .query_row(params![scope, name], policy)
            .optional()?;
        Ok(found)
    }

    /// Deletes a scope's policy, so that the wider ones and the configuration apply. Returns whether there was one.
    ///
    /// # Errors
    /// `Invalid` for a path that is not UTF-8.
    pub fn delete_retention(&mut self, scope: &RetentionScope) -> Result<bool, StorageError> {
        let (scope, name) = scope_columns(scope)?;
        let changed =
            self.execute("DELETE FROM retention_policies WHERE scope = ?1 AND name = ?2", params![scope, name])?;
        Ok(changed > 0)
    }

    /// Deletes an ended run with its events, its texts and its entry in a conversation, and records that its cursors
    /// are gone. The caller deletes the files of its artifacts. Returns whether there was such a run.
    ///
    /// # Errors
    /// `Invalid` for a run that has not ended.
    pub fn delete_run(&mut self, run_id: RunId) -> Result<bool, StorageError> {
        match self.run_memory(run_id) {
            Ok(_) => {
                let mut whole = Slice::WHOLE;
                self.delete_part(run_id, &mut whole)
            }
            Err(error) if error.kind() == StorageErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes ended runs in order, up to the limit of the slice; the same call again continues. Returns how many runs
    /// at the start of the list are gone, including those that were gone before.
    ///
    /// A partly deleted run loses its oldest events first. Readers that return with a cursor get `Truncated` from the
    /// first slice on.
    ///
    /// # Errors
    /// `Invalid` for a run that has not ended.
    pub fn delete_runs(&mut self, runs: &[RunId], slice: Slice) -> Result<usize, StorageError> {
        let mut left = slice;
        for (index, run_id) in runs.iter().enumerate() {
            let gone = match self.delete_part(*run_id, &mut left) {
                Err(error) if error.kind() == StorageErrorKind::NotFound => true,
                result => result?,
            };
            if !gone {
                return Ok(index);
            }
            if left.used_up() {
                return Ok(index + 1);
            }
        }
        Ok(runs.len())
    }

    /// Deletes a run, or as many of its oldest events as the slice allows. Returns whether it is gone.
    fn delete_part(&mut self, run_id: RunId, left: &mut Slice) -> Result<bool, StorageError> {
        let run = self.run_memory(run_id)?;
        if !run.ended {
            return Err(StorageError::new(
                StorageErrorKind::Invalid,
                format!("the run {run_id} has not ended and cannot be deleted; cancel it first"),
            ));
        }
        let through = self.part_of(run.num, left)?;
        let last: Option<i64> = self
            .conn
            .prepare_cached(
                "SELECT max(cursor) FROM run_events
                 WHERE run = ?1 AND seq = (SELECT max(seq) FROM run_events WHERE run = ?1)",
            )?
            .query_row([run.num], |row| row.get(0))?;
        if let Some(last) = last {
            self.note_deleted(last)?;
        }
        match through {
            Some(seq) => {
                self.execute("DELETE FROM run_events WHERE run = ?1 AND seq <= ?2", [run.num, seq])?;
                // The cached numbers and bytes include the deleted events.
                self.memory.drop_run(run_id);
                Ok(false)
            }
            None => {
                self.execute("DELETE FROM run_events WHERE run = ?1", [run.num])?;
                self.execute("DELETE FROM runs WHERE num = ?1", [run.num])?;
                self.forget_run_texts(run.num)?;
                self.memory.drop_run(run_id);
                Ok(true)
            }
        }
    }

    /// The last sequence number within the slice, at least one event; None if the rest of the run fits.
    fn part_of(&self, run: i64, left: &mut Slice) -> Result<Option<i64>, StorageError> {
        if *left == Slice::WHOLE {
            return Ok(None);
        }
        let mut statement = self
            .conn
            .prepare_cached("SELECT seq, octet_length(payload) AS bytes FROM run_events WHERE run = ?1 ORDER BY seq")?;
        let mut rows = statement.query([run])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            if last.is_some() && left.used_up() {
                return Ok(last);
            }
            last = Some(row.get("seq")?);
            left.take(count_of(row, "bytes")?);
        }
        Ok(None)
    }

    /// Deletes at most `limit` events without a run up to a time, oldest first. Returns how many.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_loose_events(&mut self, through: Timestamp, limit: u32) -> Result<usize, StorageError> {
        let gone: Vec<i64> = self
            .conn
            .prepare_cached(
                "DELETE FROM run_events WHERE cursor IN
                     (SELECT cursor FROM run_events INDEXED BY run_events_without_run
                      WHERE run IS NULL AND at_us <= ?1 ORDER BY at_us LIMIT ?2)
                 RETURNING cursor",
            )?
            .query_map(params![micros(through), limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if let Some(last) = gone.iter().max() {
            self.note_deleted(*last)?;
        }
        Ok(gone.len())
    }

    /// Deletes a conversation and its events if it has no runs and has not changed since `before`. Returns whether it
    /// is gone.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_quiet_conversation(&mut self, id: ConversationId, before: Timestamp) -> Result<bool, StorageError> {
        let num = match self.conversation_num(id) {
            Ok(num) => num,
            Err(error) if error.kind() == StorageErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let last: Option<i64> = self
            .conn
            .prepare_cached("SELECT max(cursor) FROM run_events WHERE conversation = ?1")?
            .query_row([num], |row| row.get(0))?;
        let changed = self.execute(
            "DELETE FROM conversations WHERE num = ?1 AND updated_us < ?2
                 AND NOT EXISTS (SELECT 1 FROM conversation_runs WHERE conversation = ?1)",
            params![num, micros(before)],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        self.forget_conversation_texts(num)?;
        if let Some(last) = last {
            self.note_deleted(last)?;
        }
        self.memory.drop_conversation(id);
        Ok(true)
    }

    /// Records that an event is deleted, so that a reader that has not seen it is notified.
    fn note_deleted(&self, cursor: i64) -> Result<(), StorageError> {
        self.execute(
            "INSERT INTO deleted_events (id, through_cursor) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET through_cursor = max(through_cursor, excluded.through_cursor)",
            params![cursor],
        )?;
        Ok(())
    }
}

impl Slice {
    /// No limit.
    const WHOLE: Self = Self { events: u32::MAX, bytes: u64::MAX };

    const fn used_up(self) -> bool {
        self.events == 0 || self.bytes == 0
    }

    const fn take(&mut self, bytes: u64) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes + EVENT_BYTES);
    }
}

fn scope_columns(scope: &RetentionScope) -> Result<(&'static str, &str), StorageError> {
    Ok(match scope {
        RetentionScope::Global => ("global", ""),
        RetentionScope::Provider(name) => ("provider", name),
        RetentionScope::Workspace(path) => ("workspace", path_text(path)?),
    })
}

fn policy(row: &Row<'_>) -> rusqlite::Result<RetentionRow> {
    let name: String = row.get("name")?;
    let scope = match row.get_ref("scope")?.as_str() {
        Ok("global") => RetentionScope::Global,
        Ok("provider") => RetentionScope::Provider(name),
        Ok("workspace") => RetentionScope::Workspace(PathBuf::from(name)),
        _ => return Err(damaged("a scope")),
    };
    Ok(RetentionRow {
        scope,
        days: row.get("days")?,
        megabytes: row.get::<_, Option<i64>>("megabytes")?.map(unsigned),
        updated_at: time(row.get("updated_us")?)?,
    })
}

/// Reads a page of rows, newest first, with the start of the next page if there may be one.
fn backwards<T>(
    mut rows: rusqlite::Rows<'_>,
    limit: u32,
    item: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<BackwardPage<T>, StorageError> {
    let mut page = BackwardPage { items: Vec::new(), next: None };
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(PageStart(row.get("at")?, row.get("key")?));
        page.items.push(item(row)?);
    }
    page.next = last.filter(|_| page.items.len() >= limit as usize);
    Ok(page)
}

/// The start of the list.
const NEWEST: PageStart = PageStart(i64::MAX, i64::MAX);

impl Reader {
    /// The policies that the user has set, the global one first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn retention(&self) -> Result<Vec<RetentionRow>, StorageError> {
        let found = self
            .conn
            .prepare_cached("SELECT * FROM retention_policies ORDER BY scope, name")?
            .query_map([], policy)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// Ended runs, the last ended first, from a position on.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn ended_runs(&self, from: Option<PageStart>, limit: u32) -> Result<BackwardPage<EndedRun>, StorageError> {
        let PageStart(at, key) = from.unwrap_or(NEWEST);
        let mut statement = self.conn.prepare_cached(
            "SELECT r.ended_us AS at, r.num AS key, r.run_id, r.provider, r.cwd, r.stored_bytes
                 + (SELECT coalesce(sum(a.bytes), 0) FROM run_artifacts a WHERE a.run = r.num AND a.kept) AS bytes
             FROM runs r INDEXED BY runs_by_end
             WHERE r.ended_us IS NOT NULL AND (r.ended_us, r.num) < (?1, ?2)
             ORDER BY r.ended_us DESC, r.num DESC LIMIT ?3",
        )?;
        backwards(statement.query(params![at, key, limit])?, limit, |row| {
            Ok(EndedRun {
                run_id: id_of(row, "run_id")?,
                provider: row.get("provider")?,
                cwd: path_of(row, "cwd")?,
                ended_at: time_of(row, "at")?,
                bytes: count_of(row, "bytes")?,
            })
        })
    }

    /// Events without a run, the last first, from a position on.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn loose_events(&self, from: Option<PageStart>, limit: u32) -> Result<BackwardPage<LooseEvent>, StorageError> {
        let PageStart(at, key) = from.unwrap_or(NEWEST);
        let mut statement = self.conn.prepare_cached(
            "SELECT at_us AS at, cursor AS key, octet_length(payload) AS bytes
             FROM run_events INDEXED BY run_events_without_run
             WHERE run IS NULL AND (at_us, cursor) < (?1, ?2) ORDER BY at_us DESC, cursor DESC LIMIT ?3",
        )?;
        backwards(statement.query(params![at, key, limit])?, limit, |row| {
            Ok(LooseEvent { at: time_of(row, "at")?, bytes: count_of(row, "bytes")? + EVENT_BYTES })
        })
    }

    /// Conversations that have not changed since `before`, the longest unchanged first, with their runs.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn quiet_conversations(&self, before: Timestamp, limit: u32) -> Result<Vec<QuietConversation>, StorageError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT conversation_id, provider, cwd, updated_us FROM conversations
             WHERE updated_us < ?1 ORDER BY updated_us LIMIT ?2",
        )?;
        let mut rows = statement.query(params![micros(before), limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let conversation_id = id_of(row, "conversation_id")?;
            found.push(QuietConversation {
                conversation_id,
                provider: row.get("provider")?,
                cwd: row.get::<_, Option<String>>("cwd")?.map(PathBuf::from),
                updated_at: time_of(row, "updated_us")?,
                runs: self.conversation_runs(conversation_id)?,
            });
        }
        Ok(found)
    }

    /// The files of a run that are in a folder of the host and are deleted with the run.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn kept_files(&self, run_id: RunId) -> Result<Vec<PathBuf>, StorageError> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT a.path FROM runs r JOIN run_artifacts a ON a.run = r.num WHERE r.run_id = ?1 AND a.kept",
            )?
            .query_map([run_id.as_uuid().as_bytes().as_slice()], |row| path_of(row, "path"))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }
}
