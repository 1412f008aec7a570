//! Limits the number of TCP connections: few and short ones without a token, and a number per token.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use ostler_test_hooks::clock::client_time_limit;

/// Maximum number of connections without an authenticated request. A further one closes the oldest.
const MAX_UNKNOWN: usize = 64;

/// Maximum number of connections of one token.
const MAX_OF_TOKEN: usize = 64;

/// Time limit for the first authenticated request of a connection.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);

/// The slots of all TCP connections.
#[derive(Default)]
pub(super) struct Slots {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections without an authenticated request, oldest first.
    unknown: VecDeque<Weak<Slot>>,
    tokens: HashMap<String, usize>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

/// The slot of one connection. It lives as long as any part of the connection.
pub(super) struct Slot {
    slots: Arc<Slots>,
    holder: Mutex<Option<String>>,
    close: Notify,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("holder", &self.holder()).finish_non_exhaustive()
    }
}

impl Slots {
    /// A slot for a new connection. Returns whether an older connection was closed for it.
    pub(super) fn enter(self: &Arc<Self>) -> (Arc<Slot>, bool) {
        let slot = Arc::new(Slot { slots: Arc::clone(self), holder: Mutex::default(), close: Notify::new() });
        let mut dropped = false;
        let mut state = self.lock();
        state.unknown.retain(|slot| slot.strong_count() > 0);
        while state.unknown.len() >= MAX_UNKNOWN {
            if let Some(oldest) = state.unknown.pop_front().and_then(|slot| slot.upgrade()) {
                oldest.close.notify_one();
                dropped = true;
            }
        }
        state.unknown.push_back(Arc::downgrade(&slot));
        (slot, dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Assigns the connection to a token. `false` if the token already has [`MAX_OF_TOKEN`] connections. A connection
    /// stays with its first token.
    pub(super) fn authenticated(self: &Arc<Self>, token: &str) -> bool {
        let mut holder = self.holder();
        if holder.is_some() {
            return true;
        }
        let mut state = self.slots.lock();
        let count = state.tokens.entry(token.to_owned()).or_default();
        if *count >= MAX_OF_TOKEN {
            return false;
        }
        *count += 1;
        *holder = Some(token.to_owned());
        state.unknown.retain(|slot| slot.as_ptr() != Arc::as_ptr(self));
        true
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.holder().is_none()
    }

    /// Returns when the connection must close: for a newer one, or after [`UNKNOWN_TIME`] without a token.
    pub(super) async fn closed(&self) {
        self.closed_within(client_time_limit(UNKNOWN_TIME)).await;
    }

    async fn closed_within(&self, limit: Duration) {
        let outlived = async {
            tokio::time::sleep(limit).await;
            if !self.is_unknown() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.close.notified() => {}
            () = outlived => {}
        }
    }

    fn holder(&self) -> MutexGuard<'_, Option<String>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let holder = self.holder().take();
        let mut state = self.slots.lock();
        let Some(token) = holder else { return };
        if let Some(count) = state.tokens.get_mut(&token) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.tokens.remove(&token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn new_connection_closes_the_oldest_without_token() {
        let slots = Arc::new(Slots::default());
        let mut open: Vec<_> = (0..MAX_UNKNOWN).map(|_| slots.enter().0).collect();
        assert!(open[0].authenticated("ci"), "this one counts among the token's");
        let (new, dropped) = slots.enter();
        assert!(!dropped);
        open.push(new);
        let (_newest, dropped) = slots.enter();
        assert!(dropped);
        open[1].closed().await;
        assert!(tokio::time::timeout(SHORT, open[2].closed()).await.is_err());
    }

    #[tokio::test]
    async fn closes_connection_without_token_after_time_limit() {
        let slots = Arc::new(Slots::default());
        let (slot, _) = slots.enter();
        slot.closed_within(SHORT).await;
        let (slot, _) = slots.enter();
        assert!(slot.authenticated("ci"));
        assert!(tokio::time::timeout(SHORT * 5, slot.closed_within(SHORT)).await.is_err());
    }

    #[test]
    fn limits_connections_of_each_token() {
        let slots = Arc::new(Slots::default());
        let mut open = Vec::new();
        for _ in 0..MAX_OF_TOKEN {
            let (slot, _) = slots.enter();
            assert!(slot.authenticated("one"));
            open.push(slot);
        }
        let (slot, _) = slots.enter();
        assert!(!slot.authenticated("one"));
        assert!(slot.authenticated("other"));
        assert!(slot.authenticated("one"), "a connection keeps its slot");
        open.pop();
        assert!(slots.enter().0.authenticated("one"));
        drop((open, slot));
        assert!(slots.lock().tokens.is_empty());
    }
}
