//! Event streams: the stored events after a cursor, and then every new one.
//!
//! A stream has no queue. Its reader remembers the cursor of the last event, reads the next page from the database, and
//! waits for the number of committed events to change. A slow reader therefore needs no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{ApiError, ErrorKind};
use ostler_storage::{CursorCheck, EventFilter, EventPage, ReadLimit, Storage};

/// Opens event streams, and counts them.
#[derive(Clone, Debug)]
pub struct EventStreams {
    storage: Storage,
    open: Arc<AtomicUsize>,
}

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    storage: Storage,
    filter: EventFilter,
    /// The cursor of the last event that was read.
    after: u64,
    committed: watch::Receiver<u64>,
    truncated: Option<u64>,
    /// Number of open streams.
    open: Arc<AtomicUsize>,
}

/// Reads the next page of a stream. It is independent of the stream, so that it can be moved to another thread.
#[derive(Debug)]
pub struct PageReader {
    storage: Storage,
    filter: EventFilter,
    after: u64,
}

impl EventStreams {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage, open: Arc::default() }
    }

    /// Number of open streams.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Opens a stream. Reads the database.
    ///
    /// # Errors
    /// `CONFLICT` for a cursor that the host never gave, `NOT_FOUND` for a run or a conversation that does not exist.
    pub fn open(&self, params: &SubscribeParams) -> Result<EventStream, ApiError> {
        let storage = &self.storage;
        let committed = storage.events_watch();
        if let Some(run) = params.run_id {
            let known = storage.read(|reader| reader.run_status(run))?;
            known.ok_or_else(|| ApiError::not_found("run", run))?;
        }
        if let Some(conversation) = params.conversation_id {
            let known = storage.read(|reader| reader.conversation(conversation))?;
            known.ok_or_else(|| ApiError::not_found("conversation", conversation))?;
        }
        let mut truncated = None;
        let after = match params.after {
            // The stream of a run or conversation starts at its first event, any other stream at the newest event.
            None if params.run_id.is_some() || params.conversation_id.is_some() => 0,
            None => *committed.borrow(),
            Some(after) => {
                match storage.read(|reader| reader.check_cursor(after, params.run_id)).map_err(ApiError::from)? {
                    CursorCheck::Complete => {}
                    CursorCheck::Truncated { first } => truncated = Some(first),
                    CursorCheck::Unknown => {
                        let message = format!("the host never gave the cursor {after}");
                        let hint = "subscribe without a cursor, or from 0 to get everything that is kept";
                        return Err(ApiError::new(ErrorKind::Conflict, message).hint(hint));
                    }
                }
                after
            }
        };
        let filter = EventFilter {
            run_id: params.run_id,
            conversation_id: params.conversation_id,
            types: params.types.clone().unwrap_or_default(),
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        let (storage, open) = (storage.clone(), Arc::clone(&self.open));
        Ok(EventStream { storage, filter, after, committed, truncated, open })
    }
}

impl EventStream {
    /// The cursor after which the next page starts.
    #[must_use]
    pub const fn after(&self) -> u64 {
        self.after
    }

    /// The first stored event, if events after the requested cursor were deleted.
    #[must_use]
    pub const fn truncated(&self) -> Option<u64> {
        self.truncated
    }

    /// The reader of the next page. Commits from now on wake [`Self::changed`].
    pub fn page_reader(&mut self) -> PageReader {
        self.committed.mark_unchanged();
        PageReader { storage: self.storage.clone(), filter: self.filter.clone(), after: self.after }
    }

    /// Continues after this page.
    pub const fn advance(&mut self, page: &EventPage) {
        self.after = page.next;
    }

    /// Waits for further events. `false` when the host has closed its database.
    pub async fn changed(&mut self) -> bool {
        self.committed.changed().await.is_ok()
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PageReader {
    /// Reads the page. Blocks.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn read(&self) -> Result<EventPage, ApiError> {
        Ok(self.storage.read(|reader| reader.events_after(self.after, &self.filter, ReadLimit::default()))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::record::Recorder;
    use crate::test_support::{Fixture, redactor_masking};
    use ostler_protocol::{RunId, WarningCode};

    fn warn(fixture: &Fixture, run: RunId) {
        let recorder = Recorder::new(Some(run), None, redactor_masking(&[]));
        let event = recorder.warning(WarningCode::InputUnread, "unread", serde_json::Value::Null);
        fixture.write(move |tx| tx.append_event(&event));
    }

    #[test]
    fn stream_of_a_run_starts_at_its_first_event_and_any_other_one_at_the_newest() {
        let fixture = Fixture::new();
        let (streams, run) = (EventStreams::new(fixture.storage.clone()), fixture.insert_run("codex"));
        warn(&fixture, run);
        let mut of_run = streams.open(&SubscribeParams { run_id: Some(run), ..SubscribeParams::default() }).unwrap();
        let mut of_all = streams.open(&SubscribeParams::default()).unwrap();
        assert_eq!(streams.count(), 2);
        let page = of_run.page_reader().read().unwrap();
        assert!(page.events.iter().all(|event| event.run_id == Some(run)) && !page.events.is_empty());
        of_run.advance(&page);
        assert!(of_all.page_reader().read().unwrap().events.is_empty());
        warn(&fixture, run);
        for stream in [&mut of_run, &mut of_all] {
            assert_eq!(stream.page_reader().read().unwrap().events.len(), 1);
        }
        drop((of_run, of_all));
        assert_eq!(streams.count(), 0);
    }

    #[test]
    fn unknown_cursor_is_a_conflict_and_an_unknown_run_is_not_found() {
        let fixture = Fixture::new();
        let streams = EventStreams::new(fixture.storage.clone());
        let kind = |params: &SubscribeParams| streams.open(params).err().map(|error| error.kind);
        let cursor = SubscribeParams { after: Some(1 << 40), ..SubscribeParams::default() };
        assert_eq!(kind(&cursor), Some(ErrorKind::Conflict));
        let run = SubscribeParams { run_id: Some(RunId::generate()), ..SubscribeParams::default() };
        assert_eq!(kind(&run), Some(ErrorKind::NotFound));
        assert_eq!(streams.count(), 0);
    }
}
