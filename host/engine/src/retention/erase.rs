//! Deletes a run or a conversation on request, so that nothing of it stays in the host's files.
//!
//! The database records that a deletion has begun until it is complete. A deletion that was interrupted, by an error or by
//! the end of the host, is completed at the next start, after an hour, or by the next deletion.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;

use super::{BATCH, Deletion, INDEX_PAGES, RetentionService, VACUUM_PAGES};
use crate::record::now;
use ostler_protocol::methods::{DeletedConversation, DeletedRun};
use ostler_protocol::{ApiError, ConversationId, ErrorKind, RunId, RunStatus};
use ostler_storage::{Durability, PendingErasure, StorageErrorKind, WriteTx};
use ostler_test_hooks::failpoint;

/// Longest time for which a reader may prevent the write-ahead log from being emptied. Then the deletion returns without that.
const LOG_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Pages whose unused part is overwritten in one write: a few milliseconds, for which other writes wait.
const CLEAR_PAGES: u32 = 1024;

impl RetentionService {
    /// Deletes an ended run: its rows, events, files in the host's folders and words in the search index, also from free
    /// pages and the write-ahead log. Returns when that is done.
    ///
    /// # Errors
    /// `NOT_FOUND`, and `CONFLICT` for a run that has not ended.
    pub fn delete_run(&self, run: RunId) -> Result<DeletedRun, ApiError> {
        let _one = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete_pending()?;
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
        let _one = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete_pending()?;
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
            tx.begin_erasure(PendingErasure::Conversation(id))?;
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
        let mut files_left = Vec::new();
        let (runs, deleted) = self.erase_conversation(id, &mut files_left)?;
        self.erase_remains()?;
        if !deleted {
            let message = format!("a message was sent to the conversation {id} while it was deleted");
            return Err(ApiError::new(ErrorKind::Conflict, message).hint("try again when it has been answered"));
        }
        Ok(DeletedConversation { conversation_id: id, runs: runs as u64, files_left })
    }

    /// Completes deletions that were interrupted.
    pub(super) fn finish_erasing(&self) -> Result<(), ApiError> {
        let _one = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete_pending()
    }

    /// The same for a caller that holds the lock.
    fn complete_pending(&self) -> Result<(), ApiError> {
        let pending = self.storage.read(ostler_storage::Reader::pending_erasures)?;
        if pending.is_empty() {
            return Ok(());
        }
        tracing::info!(count = pending.len(), "completing deletions that were interrupted");
        for erasure in pending {
            // The deletion itself reports files that could not be deleted in the log.
            match erasure {
                PendingErasure::Run(run) => self.erase_runs(&[run], &mut Vec::new())?,
                PendingErasure::Conversation(id) => _ = self.erase_conversation(id, &mut Vec::new())?,
            }
        }
        self.erase_remains()
    }

    /// Deletes the rows of a conversation. Returns the number of its runs, and false if a message has arrived meanwhile.
    fn erase_conversation(&self, id: ConversationId, files_left: &mut Vec<PathBuf>) -> Result<(usize, bool), ApiError> {
        let runs = self.storage.read(|reader| reader.conversation_runs(id))?;
        self.erase_runs(&runs, files_left)?;
        let write = self
            .storage
            .write(Durability::Full, move |tx| tx.erasing(|tx| tx.delete_quiet_conversation(id, Timestamp::MAX)));
        Ok((runs.len(), write.wait()?))
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
        failpoint::reach("erase.deleted");
        let purge =
            || self.storage.write(Durability::Batched, |tx| tx.erasing(|tx| tx.purge_texts(INDEX_PAGES))).wait();
        let vacuum = || Ok(self.storage.write(Durability::Batched, |tx| tx.vacuum(VACUUM_PAGES)).wait()? == 0);
        // Two passes: while the first one works, other writes can give a page a number that it has passed.
        let (mut cleared, mut passes) = (0, 0);
        let clear = || {
            let after = cleared;
            let write =
                self.storage.write(Durability::Batched, move |tx| tx.erasing(|tx| tx.clear_unused(after, CLEAR_PAGES)));
            let last = write.wait()?;
            passes += u32::from(last.is_none());
            cleared = last.unwrap_or(0);
            Ok(passes == 2)
        };
        if !self.until_done(purge)? || !self.until_done(vacuum)? || !self.until_done(clear)? {
            return Err(ending());
        }
        if !self.storage.empty_log(LOG_TIME_LIMIT)? {
            tracing::warn!("a reader keeps deleted data in the write-ahead log; it is emptied later");
            return Ok(());
        }
        let write = self.storage.write(Durability::Full, |tx| tx.erasing(WriteTx::end_erasures));
        Ok(write.wait()?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::test_support::Fixture;
    use ostler_protocol::{Artifact, ArtifactId, Conversation};

    fn service(fixture: &Fixture) -> RetentionService {
        RetentionService::new(fixture.storage.clone(), fixture.config.clone())
    }

    fn insert_conversation(fixture: &Fixture) -> ConversationId {
        let (conversation_id, now) = (ConversationId::generate(), now());
        let conversation = Conversation {
            conversation_id,
            provider: "codex".to_owned(),
            title: None,
            metadata: json!({}),
            session_id: None,
            cwd: None,
            archived_at: None,
            created_at: now,
            updated_at: now,
        };
        fixture.write(move |tx| tx.insert_conversation(&conversation));
        conversation_id
    }

    #[test]
    fn deleting_a_run_that_has_not_ended_is_a_conflict_and_keeps_it() {
        let fixture = Fixture::new();
        let (service, run) = (service(&fixture), fixture.insert_run("codex"));
        assert_eq!(service.delete_run(run).unwrap_err().kind, ErrorKind::Conflict);
        fixture.end_run(run, now(), None);
        assert_eq!(service.delete_run(run).unwrap(), DeletedRun { run_id: run, files_left: Vec::new() });
        assert_eq!(service.delete_run(run).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn answer_of_a_deleted_run_is_in_no_file_of_the_database() {
        let fixture = Fixture::new();
        let (service, run) = (service(&fixture), fixture.insert_run("codex"));
        fixture.end_run(run, now(), Some("an unmistakable answer"));
        let found = || {
            let files = std::fs::read_dir(fixture.folder()).unwrap().map(|file| file.unwrap().path());
            files.filter(|file| memchr::memmem::find(&std::fs::read(file).unwrap(), b"unmistakable").is_some()).count()
        };
        assert!(found() > 0);
        service.delete_run(run).unwrap();
        assert_eq!(found(), 0);
    }

    #[test]
    fn deletion_that_was_interrupted_is_completed_by_the_next_service() {
        let fixture = Fixture::new();
        let [run, of_chat] = [(); 2].map(|()| fixture.insert_run("codex"));
        let id = insert_conversation(&fixture);
        fixture.write(move |tx| tx.link_conversation(id, of_chat, now()));
        for run in [run, of_chat] {
            fixture.end_run(run, now(), Some("an unmistakable answer"));
        }
        // As if the host had died after the transaction that begins the deletion.
        for erasure in [PendingErasure::Run(run), PendingErasure::Conversation(id)] {
            fixture.write(move |tx| tx.begin_erasure(erasure));
        }
        service(&fixture).finish_erasing().unwrap();
        let files = std::fs::read_dir(fixture.folder()).unwrap().map(|file| file.unwrap().path());
        let with_text =
            files.filter(|file| memchr::memmem::find(&std::fs::read(file).unwrap(), b"unmistakable").is_some());
        assert_eq!(with_text.count(), 0);
        assert_eq!((fixture.status_of(run), fixture.status_of(of_chat)), (None, None));
        assert!(fixture.storage.read(|reader| reader.conversation(id)).unwrap().is_none());
        assert_eq!(fixture.storage.read(ostler_storage::Reader::pending_erasures).unwrap(), []);
    }

    #[test]
    fn kept_files_of_a_deleted_run_go_and_those_elsewhere_stay() {
        let fixture = Fixture::new();
        let (service, run) = (service(&fixture), fixture.insert_run("codex"));
        fixture.end_run(run, now(), None);
        let files = [("kept.md", true), ("elsewhere.md", false)].map(|(name, kept)| {
            let path = fixture.folder().join(name);
            std::fs::write(&path, "text").unwrap();
            let (artifact_id, created_at) = (ArtifactId::generate(), now());
            let artifact = Artifact { artifact_id, kind: "md".to_owned(), path: path.clone(), bytes: 4, created_at };
            fixture.write(move |tx| tx.insert_artifact(run, &artifact, kept));
            path
        });
        service.delete_run(run).unwrap();
        assert_eq!(files.map(|file| file.exists()), [false, true]);
    }

    #[test]
    fn conversation_with_a_run_that_has_not_ended_is_left_unchanged() {
        let fixture = Fixture::new();
        let (service, id, run) = (service(&fixture), insert_conversation(&fixture), fixture.insert_run("codex"));
        fixture.write(move |tx| tx.link_conversation(id, run, now()));
        assert_eq!(service.delete_conversation(id).unwrap_err().kind, ErrorKind::Conflict);
        let archived = fixture.storage.read(|reader| reader.conversation(id)).unwrap().unwrap().archived_at;
        assert_eq!(archived, None);
        fixture.end_run(run, now(), None);
        assert_eq!(service.delete_conversation(id).unwrap().runs, 1);
        assert_eq!(service.delete_conversation(id).unwrap_err().kind, ErrorKind::NotFound);
    }
}
