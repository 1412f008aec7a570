//! Deleting a run or a conversation because somebody asks for it: nothing of it stays in the host's files.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;

use super::{BATCH, Deletion, INDEX_PAGES, VACUUM_PAGES};
use crate::Engine;
use crate::record::now;
use ostler_protocol::methods::{DeletedConversation, DeletedRun};
use ostler_protocol::{ApiError, ConversationId, ErrorKind, RunId, RunStatus};
use ostler_storage::{Durability, StorageErrorKind};

/// How long a reader may keep the write-ahead log from being emptied before the answer goes out without that.
const LOG_PATIENCE: Duration = Duration::from_secs(10);
/// Pages whose unused part is overwritten in one write: a few milliseconds, for which other writes wait.
const CLEAR_PAGES: u32 = 1024;

impl Engine {
    /// Deletes an ended run: its rows, events, files in the host's folders and words in the search index, also from free
    /// pages and the write-ahead log. Returns when that is done.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `CONFLICT` for a run that has not ended.
    pub fn delete_run(&self, run: RunId) -> Result<DeletedRun, ApiError> {
        let _one = self.retention.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let status = self.storage.read(|reader| reader.run_status(run))?;
        let status = status.ok_or_else(|| unknown_run(run))?;
        if !status.ended() {
            return Err(lives(run, status));
        }
        let mut files_left = Vec::new();
        self.erase_runs(&[run], &mut files_left)?;
        self.erase_remains()?;
        Ok(DeletedRun { run_id: run, files_left })
    }

    /// Deletes a conversation with all its runs in the same way. It takes no messages from the first moment on.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `CONFLICT` where one of its runs has not ended; then nothing has changed.
    pub fn delete_conversation(&self, id: ConversationId) -> Result<DeletedConversation, ApiError> {
        let _one = self.retention.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let at = now();
        let write = self.storage.write_urgent(Durability::Full, move |tx| {
            let mut conversation = tx.conversation(id)?;
            if tx.conversation_works(id)? {
                return Ok(false);
            }
            if conversation.archived_at.is_none() {
                conversation.archived_at = Some(at);
                tx.update_conversation(&conversation)?;
            }
            Ok(true)
        });
        let closed = write.wait().map_err(|error| match error.kind() {
            StorageErrorKind::NotFound => {
                ApiError::not_found("conversation", id).hint("`list_conversations` lists the conversations")
            }
            _ => error.into(),
        })?;
        if !closed {
            return Err(ApiError::new(ErrorKind::Conflict, format!("a run of the conversation {id} has not ended"))
                .hint(format!("`get_conversation({id})` shows it, `cancel_run` cancels it")));
        }
        let runs = self.storage.read(|reader| reader.conversation_runs(id))?;
        let mut files_left = Vec::new();
        self.erase_runs(&runs, &mut files_left)?;
        let write = self
            .storage
            .write(Durability::Full, move |tx| tx.erasing(|tx| tx.delete_quiet_conversation(id, Timestamp::MAX)));
        if !write.wait()? {
            let message = format!("somebody has sent a message to the conversation {id} while it was deleted");
            return Err(ApiError::new(ErrorKind::Conflict, message).hint("try again when it has been answered"));
        }
        self.erase_remains()?;
        Ok(DeletedConversation { conversation_id: id, runs: runs.len() as u64, files_left })
    }

    fn erase_runs(&self, runs: &[RunId], files_left: &mut Vec<PathBuf>) -> Result<(), ApiError> {
        for runs in runs.chunks(BATCH) {
            if !self.delete_runs(runs, Deletion::Erasing, files_left)? {
                return Err(ending());
            }
        }
        Ok(())
    }

    /// What deleted rows leave behind: words in the search index, free pages, copies in the unused part of pages, the
    /// write-ahead log.
    fn erase_remains(&self) -> Result<(), ApiError> {
        let purge =
            || self.storage.write(Durability::Batched, |tx| tx.erasing(|tx| tx.purge_texts(INDEX_PAGES))).wait();
        let vacuum = || Ok(self.storage.write(Durability::Batched, |tx| tx.vacuum(VACUUM_PAGES)).wait()? == 0);
        let mut cleared = Some(0);
        let clear = || {
            let after = cleared.unwrap_or_default();
            let write =
                self.storage.write(Durability::Batched, move |tx| tx.erasing(|tx| tx.clear_unused(after, CLEAR_PAGES)));
            cleared = write.wait()?;
            Ok(cleared.is_none())
        };
        if !self.until_done(purge)? || !self.until_done(vacuum)? || !self.until_done(clear)? {
            return Err(ending());
        }
        if !self.storage.empty_log(LOG_PATIENCE)? {
            tracing::warn!("the write-ahead log could not be emptied of what was deleted yet; it is tried again");
        }
        Ok(())
    }
}

fn unknown_run(run: RunId) -> ApiError {
    ApiError::not_found("run", run).hint("`list_runs` lists the runs")
}

fn lives(run: RunId, status: RunStatus) -> ApiError {
    ApiError::new(ErrorKind::Conflict, format!("the run {run} is {status}: only ended runs can be deleted"))
        .hint(format!("`cancel_run({run})` cancels it"))
}

fn ending() -> ApiError {
    ApiError::new(ErrorKind::Conflict, "the host is about to end; not everything was deleted")
        .hint("try again")
        .retryable(true)
}
