//! Memory limits per peer, so that no peer can exhaust the host's memory.
//!
//! A large frame uses memory while it is received, and several times as much while it is processed. Both are limited
//! for all peers together, and for each peer to a part of that. A large frame that stalls is dropped.
//!
//! Answers stay in memory until the peer has read them. Each peer may have a limited number of unanswered calls, and a
//! smaller number of batches, whose answers are large.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use ostler_test_hooks::clock::client_time_limit;

/// A frame with more bytes than this is large.
const LARGE_FRAME: usize = 256 << 10;

/// Maximum number of large frames of one peer that are received or processed at a time.
const LARGE_OF_PEER: usize = 2;

/// Maximum number of large frames of all peers that are received at a time.
const READING: usize = 8;

/// Maximum number of large frames of all peers that are processed at a time.
const WORKING: usize = 4;

/// Maximum number of calls of one peer on persistent connections that are in progress or whose answers are unread.
const CALLS_OF_PEER: usize = 64;

/// Maximum number of batches of one peer that are in progress or whose answers are unread.
const BATCHES_OF_PEER: usize = 4;

/// Time limit for a large frame to get a permit to be received.
const TURN_TIME: Duration = Duration::from_secs(20);

/// Maximum pause between two parts of a large frame.
pub(super) const STALL_TIME: Duration = Duration::from_secs(5);

/// Time limit for a batch to get a permit.
const BATCH_TIME: Duration = Duration::from_secs(30);

/// The peer that a budget belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PeerKey {
    /// A process on the unix socket.
    Process(i32),
    /// All clients with this access token.
    Token(String),
}

/// The budgets of all connected peers.
#[derive(Debug)]
pub(super) struct Budgets {
    peers: Mutex<HashMap<PeerKey, Weak<Budget>>>,
    reading: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// The budget of one peer, shared by all of its connections.
#[derive(Debug)]
pub(super) struct Budget {
    own: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    working: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    calls: Arc<Semaphore>,
}

/// Permit to receive a large frame.
#[derive(Debug)]
pub(super) struct ReadPermit {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
    working: Arc<Semaphore>,
}

/// Permit to process a large frame.
#[derive(Debug)]
pub(super) struct WorkPermit {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// The peer has used its budget, and no permit became free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Default for Budgets {
    fn default() -> Self {
        Self {
            peers: Mutex::default(),
            reading: Arc::new(Semaphore::new(READING)),
            working: Arc::new(Semaphore::new(WORKING)),
        }
    }
}

impl Budgets {
    /// The budget of a peer, the same for all of its connections.
    pub(super) fn of(&self, key: PeerKey) -> Arc<Budget> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = peers.get(&key).and_then(Weak::upgrade) {
            return budget;
        }
        peers.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::new(Budget {
            own: Arc::new(Semaphore::new(LARGE_OF_PEER)),
            reading: Arc::clone(&self.reading),
            working: Arc::clone(&self.working),
            batches: Arc::new(Semaphore::new(BATCHES_OF_PEER)),
            calls: Arc::new(Semaphore::new(CALLS_OF_PEER)),
        });
        peers.insert(key, Arc::downgrade(&budget));
        budget
    }
}

impl Budget {
    /// Waits for a permit to receive more of a frame that already has `bytes` bytes. `None` if the frame is not large.
    ///
    /// # Errors
    /// If no permit is free within [`TURN_TIME`].
    pub(super) async fn read(&self, bytes: usize) -> Result<Option<ReadPermit>, Exhausted> {
        if bytes <= LARGE_FRAME {
            return Ok(None);
        }
        let turn = async {
            // Acquire the peer's own permit first: while waiting for it, the peer reserves no shared permit.
            let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
            let all = Arc::clone(&self.reading).acquire_owned().await.ok()?;
            Some(ReadPermit { own, all, working: Arc::clone(&self.working) })
        };
        match tokio::time::timeout(client_time_limit(TURN_TIME), turn).await {
            Ok(Some(reading)) => Ok(Some(reading)),
            Ok(None) | Err(_) => Err(Exhausted),
        }
    }

    /// Waits for a permit to process a batch of `bytes` bytes. The permit must live until the answer is read.
    ///
    /// # Errors
    /// If no permit is free within [`BATCH_TIME`], because the peer does not read its answers. A large batch does not
    /// wait, because it occupies a shared permit.
    pub(super) async fn batch(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Exhausted> {
        let batches = Arc::clone(&self.batches);
        if bytes > LARGE_FRAME {
            return batches.try_acquire_owned().map_err(|_| Exhausted);
        }
        match tokio::time::timeout(client_time_limit(BATCH_TIME), batches.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }

    /// Waits for a permit to process a call of a persistent connection. The permit must live until the answer is read.
    pub(super) async fn call(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.calls).acquire_owned().await.ok()
    }
}

impl ReadPermit {
    /// Call it when the frame is complete. Waits for a permit to process it, and releases the permit to receive.
    pub(super) async fn finish(self) -> Option<WorkPermit> {
        let Self { own, all, working } = self;
        let permit = working.acquire_owned().await.ok()?;
        drop(all);
        Some(WorkPermit { _own: own, _all: permit })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::future::Future;

    use super::*;

    const LARGE: usize = LARGE_FRAME + 1;

    /// Whether a future does not complete at once.
    async fn waits<T>(turn: impl Future<Output = T>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), turn).await.is_err()
    }

    #[tokio::test]
    async fn stalled_frames_of_one_peer_leave_room_for_another() {
        let budgets = Budgets::default();
        let (one, other) = (budgets.of(PeerKey::Token("one".to_owned())), budgets.of(PeerKey::Process(7)));
        let mut stalled = Vec::new();
        for _ in 0..LARGE_OF_PEER {
            stalled.push(one.read(LARGE).await.unwrap());
        }
        assert!(waits(one.read(LARGE)).await);
        // Connections of the same peer share its budget.
        assert!(waits(budgets.of(PeerKey::Token("one".to_owned())).read(LARGE)).await);
        let reading = other.read(LARGE).await.unwrap().unwrap();
        let working = reading.finish().await.unwrap();
        // A frame that is processed counts, too.
        let _second = other.read(LARGE).await.unwrap();
        assert!(waits(other.read(LARGE)).await);
        drop(working);
        assert!(other.read(LARGE).await.unwrap().is_some());
        stalled.pop();
        assert!(one.read(LARGE).await.unwrap().is_some());
        assert!(one.read(LARGE_FRAME).await.unwrap().is_none(), "small frames never wait");
    }

    #[tokio::test]
    async fn unread_answers_block_only_their_peer() {
        let budgets = Budgets::default();
        let (one, other) = (budgets.of(PeerKey::Process(1)), budgets.of(PeerKey::Process(2)));
        let mut unread = Vec::new();
        for _ in 0..BATCHES_OF_PEER {
            unread.push(one.batch(1).await.unwrap());
        }
        assert!(waits(one.batch(1)).await);
        assert_eq!(one.batch(LARGE).await.unwrap_err(), Exhausted, "at once");
        assert!(other.batch(1).await.is_ok());
        unread.pop();
        assert!(one.batch(1).await.is_ok());
    }

    #[test]
    fn removes_budgets_of_disconnected_peers() {
        let budgets = Budgets::default();
        for pid in 0..100 {
            drop(budgets.of(PeerKey::Process(pid)));
        }
        assert!(budgets.peers.lock().unwrap().len() <= 1);
    }
}
