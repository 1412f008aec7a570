//! What one peer may take of the host's memory at a time, so that none can take what the others need.
//!
//! A large frame costs memory while it comes in, and several times as much while it is worked on. What a peer can stretch
//! is only the first: reading is limited for each peer and for all together, and a large frame that does not go on is
//! given up. Work on large frames is limited for all together; nobody can stretch that.
//!
//! Answers of batches are large, too, and stay in memory until they are read: each peer may have a few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::patience;

/// A frame of more bytes than this is large.
const LARGE_FRAME: usize = 256 << 10;

/// Large frames of one peer that are read at a time.
const READING_OF_PEER: usize = 3;

/// Large frames of all peers that are read at a time.
const READING: usize = 8;

/// Large frames that are worked on at a time.
const WORKING: usize = 3;

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
}

/// Held while a large frame is read.
#[derive(Debug)]
pub(super) struct Reading {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    working: Arc<Semaphore>,
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
            own: Arc::new(Semaphore::new(READING_OF_PEER)),
            reading: Arc::clone(&self.reading),
            working: Arc::clone(&self.working),
            batches: Arc::new(Semaphore::new(BATCHES_OF_PEER)),
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
            Some(Reading { _own: own, _all: all, working: Arc::clone(&self.working) })
        };
        match tokio::time::timeout(patience(TURN_TIME), turn).await {
            Ok(Some(reading)) => Ok(Some(reading)),
            Ok(None) | Err(_) => Err(Exhausted),
        }
    }

    /// Waits until a batch may be worked on. What this gives is held until the answer is read.
    ///
    /// # Errors
    /// If its turn does not come in time: the peer does not read its answers.
    pub(super) async fn batch(&self) -> Result<OwnedSemaphorePermit, Exhausted> {
        let turn = Arc::clone(&self.batches).acquire_owned();
        match tokio::time::timeout(patience(BATCH_TIME), turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }
}

impl Reading {
    /// The frame is whole: lets the next one be read, and waits until this one may be worked on.
    pub(super) async fn finish(self) -> Option<OwnedSemaphorePermit> {
        let Self { _own: own, _all: all, working } = self;
        // Held until then, so that no more frames lie in memory than may be read and worked on.
        let permit = working.acquire_owned().await.ok();
        drop((own, all));
        permit
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
        for _ in 0..READING_OF_PEER {
            stalled.push(one.read(LARGE).await.unwrap());
        }
        assert!(waits(one.read(LARGE)).await);
        // Connections of the same peer share its budget.
        assert!(waits(budgets.of(PeerKey::Token("one".to_owned())).read(LARGE)).await);
        let reading = other.read(LARGE).await.unwrap().unwrap();
        assert!(reading.finish().await.is_some());
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
            unread.push(one.batch().await.unwrap());
        }
        assert!(waits(one.batch()).await);
        assert!(other.batch().await.is_ok());
        unread.pop();
        assert!(one.batch().await.is_ok());
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
