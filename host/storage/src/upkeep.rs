//! Sizes, counts and the release of free pages.

use ostler_protocol::RunStatus;

use super::reader::Reader;
use super::rows::{count_of, name_of, unsigned};
use super::tx::WriteTx;
use super::{Counts, Sizes, StorageError};

impl WriteTx<'_> {
    /// Returns up to `pages` free pages of 4 KiB (0 for all) to the file system. Returns how many are left; at zero,
    /// the file itself is shortened right after the transaction.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn vacuum(&mut self, pages: u32) -> Result<u64, StorageError> {
        let mut statement = self.conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let left = unsigned(self.conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?);
        self.memory.fold |= left == 0;
        Ok(left)
    }
}

impl Reader {
    /// How large the database is.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn sizes(&self) -> Result<Sizes, StorageError> {
        let value = |name| self.conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let page = unsigned(value("page_size")?);
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        Ok(Sizes {
            database: page * unsigned(value("page_count")?),
            wal: std::fs::metadata(wal).map_or(0, |file| file.len()),
            free: page * unsigned(value("freelist_count")?),
        })
    }

    /// How many runs and conversations there are.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn counts(&self) -> Result<Counts, StorageError> {
        let runs = self
            .conn
            .prepare_cached("SELECT status, count(*) AS total FROM runs GROUP BY status")?
            .query_map([], |row| Ok((name_of(row, "status", RunStatus::from_name)?, count_of(row, "total")?)))?
            .collect::<rusqlite::Result<_>>()?;
        let conversations = self
            .conn
            .prepare_cached("SELECT count(*) AS total FROM conversations")?
            .query_row([], |row| count_of(row, "total"))?;
        Ok(Counts { runs, conversations })
    }
}
