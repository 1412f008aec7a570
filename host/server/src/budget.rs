//! What one peer may take of the host's memory at a time, so that none can take what the others need.
//!
//! A large frame costs memory while it comes in, and several times as much while it is worked on. Both are limited for all
//! peers together, and for each peer to less than all; a large frame that does not go on is given up.
//!
//! Answers stay in memory until they are read: each peer may have some, and of those to batches, which are large, a few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use ostler_test_hooks::clock::patience;

/// A frame of more bytes than this is large.
const LARGE_FRAME: usize = 256 << 10;

/// Large frames of one peer that are read or worked on at a time.
const LARGE_OF_PEER: usize = 2;

/// Large frames of all peers that are read at a time.
const READING: usize = 8;

/// Large frames of all peers that are worked on at a time.
const WORKING: usize = 4;

/// Calls of one peer on connections that stay, which are worked on, or whose answers are not read yet.
const CALLS_OF_PEER: usize = 64;

/// Batches of one peer that are worked on, or whose answers are not read yet.
const BATCHES_OF_PEER: usize = 4;

/// How long a large frame may wait for its turn to be read.
const TURN_TIME: Duration = Duration::from_secs(20);

/// How long nothing may come of a large frame that is being read.
pub(super) const STALL_TIME: Duration = Duration::from_secs(5);

/// How long a batch may wait for its turn.
const BATCH_TIME: Duration = Duration::from_secs(30);

/// Whose budget it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PeerKey {
    /// A process on the unix socket.
    Process(i32),
    /// The holders of an access token.
    Token(String),
}

/// The budgets of all peers that are connected.
#[derive(Debug)]
pub(super) struct Budgets {
    peers: Mutex<HashMap<PeerKey, Weak<Budget>>>,
    reading: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// The budget of one peer, over all of its connections.
#[derive(Debug)]
pub(super) struct Budget {
    own: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    working: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    calls: Arc<Semaphore>,
}

/// Held while a large frame is read.
#[derive(Debug)]
pub(super) struct Reading {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
    working: Arc<Semaphore>,
}

/// Held while a large frame is worked on.
#[derive(Debug)]
pub(super) struct Working {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Too much of a peer waits.
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
    /// The budget of a peer: the same one for all of its connections.
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
    /// Waits until a frame that has so many bytes already may go on, if it is large.
    ///
    /// # Errors
    /// If its turn does not come in time.
    pub(super) async fn read(&self, bytes: usize) -> Result<Option<Reading>, Exhausted> {
        if bytes <= LARGE_FRAME {
            return Ok(None);
        }
        let turn = async {
            // The peer's own place first: whoever waits for that holds nothing of the others.
            let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
            let all = Arc::clone(&self.reading).acquire_owned().await.ok()?;
            Some(Reading { own, all, working: Arc::clone(&self.working) })
        };
        match tokio::time::timeout(patience(TURN_TIME), turn).await {
            Ok(Some(reading)) => Ok(Some(reading)),
            Ok(None) | Err(_) => Err(Exhausted),
        }
    }

    /// Waits until a batch of so many bytes may be worked on. What this gives is held until the answer is read.
    ///
    /// # Errors
    /// If its turn does not come in time: the peer does not read its answers. A large one does not wait: it has a place
    /// that others want.
    pub(super) async fn batch(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Exhausted> {
        let batches = Arc::clone(&self.batches);
        if bytes > LARGE_FRAME {
            return batches.try_acquire_owned().map_err(|_| Exhausted);
        }
        match tokio::time::timeout(patience(BATCH_TIME), batches.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }

    /// Waits until one more call of a connection that stays may be worked on. What this gives is held until the answer is
    /// read.
    pub(super) async fn call(&self) -> Option<OwnedSemaphorePermit> {
        // It is closed by nobody.
        Arc::clone(&self.calls).acquire_owned().await.ok()
    }
}

impl Reading {
    /// The frame is whole: waits until it may be worked on, and then lets the next one be read.
    pub(super) async fn finish(self) -> Option<Working> {
        let Self { own, all, working } = self;
        let permit = working.acquire_owned().await.ok()?;
        drop(all);
        Some(Working { _own: own, _all: permit })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::future::Future;

    use super::*;

    const LARGE: usize = LARGE_FRAME + 1;

    /// Whether something has to wait.
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
        // What is worked on counts, too.
        let _second = other.read(LARGE).await.unwrap();
        assert!(waits(other.read(LARGE)).await);
        drop(working);
        assert!(other.read(LARGE).await.unwrap().is_some());
        stalled.pop();
        assert!(one.read(LARGE).await.unwrap().is_some());
        assert!(one.read(LARGE_FRAME).await.unwrap().is_none(), "small frames never wait");
    }

    #[tokio::test]
    async fn answers_that_are_not_read_stop_the_peer_alone() {
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
    fn budgets_of_peers_that_are_gone_are_forgotten() {
        let budgets = Budgets::default();
        for pid in 0..100 {
            drop(budgets.of(PeerKey::Process(pid)));
        }
        assert!(budgets.peers.lock().unwrap().len() <= 1);
    }
}
