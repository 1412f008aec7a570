//! `open_failures`: failed and interrupted runs that nobody has acknowledged.

use rusqlite::{Connection, params};

use ostler_protocol::{Page, RunId, RunSummary};

use super::StorageError;
use super::reader::Reader;
use super::rows::{number, unsigned};
use super::run_reads::{SUMMARY, summary};
use super::tx::WriteTx;

impl WriteTx<'_> {
    /// Acknowledges the failure of a run. Returns false if it did not fail or was acknowledged before.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn acknowledge_failure(&mut self, run_id: RunId) -> Result<bool, StorageError> {
        let num = self.run_num(run_id)?;
        Ok(self.execute("DELETE FROM open_failures WHERE run = ?1", [num])? > 0)
    }

    /// Acknowledges all failures. Returns their number.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn acknowledge_all_failures(&mut self) -> Result<u64, StorageError> {
        let count = open_failures(self.conn)?;
        self.execute("DELETE FROM open_failures", [])?;
        Ok(count)
    }
}

impl Reader {
    /// Failed and interrupted runs that nobody has acknowledged, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn open_failures(&self, limit: u64) -> Result<Page<RunSummary>, StorageError> {
        let items = self
            .conn
            .prepare_cached(&format!(
                "SELECT {SUMMARY} FROM open_failures f JOIN runs r ON r.num = f.run ORDER BY f.run DESC LIMIT ?1"
            ))?
            .query_map(params![number(limit)?], summary)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Page { items, total: open_failures(&self.conn)? })
    }
}

fn open_failures(conn: &Connection) -> Result<u64, StorageError> {
    let count: i64 = conn.prepare_cached("SELECT count(*) FROM open_failures")?.query_row([], |row| row.get(0))?;
    Ok(unsigned(count))
}
