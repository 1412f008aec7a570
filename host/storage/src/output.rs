//! Output of an attempt: appended without waiting, and stopped at the first failure.

use std::sync::{Arc, OnceLock};

use ostler_protocol::NewEvent;

use super::{Pending, Storage, StorageError, Written};

/// Appends the events of one source. Once a batch has failed (because the disk is full, for example), every later one
/// fails with the same error, so that the stored output has no gap.
///
/// Clones share the failure.
#[derive(Clone, Debug)]
pub struct Output {
    storage: Storage,
    failure: Failure,
}

/// The first failure of a source.
pub(super) type Failure = Arc<OnceLock<StorageError>>;

impl Output {
    pub(super) fn new(storage: Storage) -> Self {
        Self { storage, failure: Arc::default() }
    }

    /// Passes events to the writer, and blocks while too many bytes wait there.
    ///
    /// # Errors
    /// The failure of an earlier batch. A failure of this one shows in the next call, or in [`finish`](Self::finish).
    pub fn append(&self, events: Vec<NewEvent>) -> Result<(), StorageError> {
        self.check()?;
        if !events.is_empty() {
            drop(self.append_tracked(events));
        }
        Ok(())
    }

    /// Like [`append`](Self::append), but returns a promise of the positions of the events.
    pub fn append_tracked(&self, events: Vec<NewEvent>) -> Pending<Vec<Written>> {
        if let Err(error) = self.check() {
            return Pending::failed(error);
        }
        self.storage.shared.writer.append(events, Some(Arc::clone(&self.failure)))
    }

    /// A promise that everything handed over so far is stored.
    pub fn finish(&self) -> Pending<()> {
        let failure = Arc::clone(&self.failure);
        self.storage
            .write(super::Durability::Batched, move |_| failure.get().map_or(Ok(()), |error| Err(error.clone())))
    }

    /// The failure so far.
    ///
    /// # Errors
    /// The failure of an earlier batch.
    pub fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}
