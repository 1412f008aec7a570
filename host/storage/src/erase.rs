//! Deleting so that nothing of what was deleted stands in a file any more.
//!
//! SQLite overwrites everything that it deletes, whole pages that become free too (`secure_delete = ON` in `open.rs`). With
//! `FAST`, a page that was freed earlier, by a merge of the search index for instance, would keep its content, and whatever
//! uses it next overwrites only a part. The write-ahead log, however, keeps the pages as they were before. Erasing therefore
//! takes three steps: the deletion itself ([`WriteTx::erasing`]), the words in the search index ([`WriteTx::purge_texts`]),
//! and the log ([`Storage::empty_log`](super::Storage::empty_log)).

use super::StorageError;
use super::tx::WriteTx;

impl WriteTx<'_> {
    /// Deletes, and has the log emptied soon after the transaction.
    ///
    /// # Errors
    /// Whatever `delete` returns.
    pub fn erasing<T>(&mut self, delete: impl FnOnce(&mut Self) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.memory.scrub = true;
        delete(self)
    }
}
