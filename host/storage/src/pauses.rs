//! What of the queue is paused: one of the storage's own settings, so that it outlives the host.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::StorageError;
use super::reader::Reader;
use super::rows::{micros, text};
use super::tx::WriteTx;

/// The paused parts of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredPauses {
    /// The whole queue.
    pub all: bool,
    /// Single provider instances.
    pub providers: BTreeSet<String>,
    /// Counts the changes: the state with the higher number is the later one.
    pub change: u64,
}

impl WriteTx<'_> {
    /// Pauses or resumes the queue or a provider. Returns the new state.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn set_paused(
        &mut self,
        provider: Option<&str>,
        paused: bool,
        at: Timestamp,
    ) -> Result<StoredPauses, StorageError> {
        let mut pauses = stored(self.conn)?;
        match provider {
            None => pauses.all = paused,
            Some(name) if paused => _ = pauses.providers.insert(name.to_owned()),
            Some(name) => _ = pauses.providers.remove(name),
        }
        pauses.change += 1;
        self.execute(
            "INSERT INTO settings (key, value, updated_us) VALUES ('.queue_paused', ?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_us = excluded.updated_us",
            params![text(&pauses)?, micros(at)],
        )?;
        Ok(pauses)
    }
}

impl Reader {
    /// The paused parts of the queue.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn pauses(&self) -> Result<StoredPauses, StorageError> {
        stored(&self.conn)
    }
}

fn stored(conn: &Connection) -> Result<StoredPauses, StorageError> {
    let value: Option<String> = conn
        .prepare_cached("SELECT value FROM settings WHERE key = '.queue_paused'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    // An unreadable value pauses nothing: otherwise the queue would stop without a visible reason.
    Ok(value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default())
}
