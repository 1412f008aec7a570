//! Deleting so that nothing of what was deleted stands in a file any more.
//!
//! SQLite overwrites what is deleted inside a page, but leaves whole pages that become free as they are (`secure_delete =
//! FAST`), and the write-ahead log keeps the pages as they were before. Erasing therefore takes three steps: the deletion
//! itself with free pages overwritten ([`WriteTx::erasing`]), the words in the search index ([`WriteTx::purge_texts`]),
//! and the log ([`Storage::empty_log`](super::Storage::empty_log)). Pages that became free earlier, when the search index
//! was merged for instance, go with [`WriteTx::vacuum`].

use super::StorageError;
use super::tx::WriteTx;

impl WriteTx<'_> {
    /// Deletes with free pages overwritten. The log is emptied soon after the transaction.
    ///
    /// # Errors
    /// Whatever `delete` returns, or if the database cannot be written.
    pub fn erasing<T>(&mut self, delete: impl FnOnce(&mut Self) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.conn.execute_batch("PRAGMA secure_delete = ON")?;
        let deleted = delete(self);
        self.conn.execute_batch("PRAGMA secure_delete = FAST")?;
        self.memory.scrub = true;
        deleted
    }
}
