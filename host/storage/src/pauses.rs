//! The paused parts of the queue, which survive a restart of the host.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::StorageError;
use super::reader::Reader;
use super::rows::unsigned;
use super::tx::WriteTx;

/// The paused parts of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub fn set_paused(&mut self, provider: Option<&str>, paused: bool) -> Result<StoredPauses, StorageError> {
        self.execute(
            "INSERT INTO queue_state (id, paused, changes) VALUES (1, ?1, 1)
             ON CONFLICT (id) DO UPDATE SET paused = iif(?2, excluded.paused, paused), changes = changes + 1",
            params![provider.is_none() && paused, provider.is_none()],
        )?;
        match provider {
            None => {}
            Some(name) if paused => {
                self.execute("INSERT OR IGNORE INTO paused_providers (provider) VALUES (?1)", [name])?;
            }
            Some(name) => _ = self.execute("DELETE FROM paused_providers WHERE provider = ?1", [name])?,
        }
        stored(self.conn)
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
    let state: Option<(bool, i64)> = conn
        .prepare_cached("SELECT paused, changes FROM queue_state")?
        .query_row([], |row| Ok((row.get("paused")?, row.get("changes")?)))
        .optional()?;
    let (all, changes) = state.unwrap_or_default();
    let providers = conn
        .prepare_cached("SELECT provider FROM paused_providers")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<BTreeSet<String>>>()?;
    Ok(StoredPauses { all, providers, change: unsigned(changes) })
}
