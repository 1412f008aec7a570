//! Deletes so that no file contains the deleted bytes any more.
//!
//! SQLite overwrites everything that it deletes, including whole pages that become free (`secure_delete = ON` in
//! `open.rs`). With `FAST`, a page that was freed earlier, for example by a merge of the search index, would keep its
//! content, and its next use overwrites only a part. The write-ahead log, however, keeps the pages as they were before.
//! Erasing therefore takes three steps: the deletion itself ([`WriteTx::erasing`]), the words in the search index
//! ([`WriteTx::purge_texts`]), and the log ([`Storage::empty_log`](super::Storage::empty_log)).

use super::StorageError;
use super::tx::WriteTx;

impl WriteTx<'_> {
    /// Deletes, and makes the writer truncate the log soon after the transaction.
    ///
    /// # Errors
    /// The error of `delete`.
    pub fn erasing<T>(&mut self, delete: impl FnOnce(&mut Self) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.memory.scrub = true;
        delete(self)
    }
}
