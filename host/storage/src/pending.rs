//! The promise of a write's result.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::StorageError;

/// A pending write. It resolves when its transaction is committed or has failed.
///
/// Threads [`wait`](Self::wait), tasks `.await` it. Dropping it does not stop the write.
#[must_use = "the result of a write must be checked"]
#[derive(Debug)]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    resolved: Condvar,
}

#[derive(Debug)]
struct State<T> {
    result: Option<Result<T, StorageError>>,
    waker: Option<Waker>,
    taken: bool,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end of a promise.
#[derive(Debug)]
pub(super) struct Resolver<T> {
    slot: Option<Arc<Slot<T>>>,
}

/// Makes a promise and its resolver.
pub(super) fn promise<T>() -> (Resolver<T>, Pending<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State { result: None, waker: None, taken: false }),
        resolved: Condvar::new(),
    });
    (Resolver { slot: Some(Arc::clone(&slot)) }, Pending { slot })
}

impl<T> Resolver<T> {
    /// Resolves the promise. Only the first call has an effect.
    pub(super) fn resolve(&mut self, result: Result<T, StorageError>) {
        let Some(slot) = self.slot.take() else {
            return;
        };
        let mut state = slot.lock();
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        slot.resolved.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        self.resolve(Err(closed()));
    }
}

impl<T> Pending<T> {
    /// A write that has failed already.
    pub(super) fn failed(error: StorageError) -> Self {
        let (mut resolver, pending) = promise();
        resolver.resolve(Err(error));
        pending
    }

    /// Blocks this thread until the write is committed. Not for async tasks: they `.await`.
    ///
    /// # Errors
    /// The error of the write's closure, or why its transaction could not be committed. Nothing was written in either
    /// case.
    pub fn wait(self) -> Result<T, StorageError> {
        let mut state = self.slot.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            if state.taken {
                return Err(closed());
            }
            state = self.slot.resolved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StorageError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        if let Some(result) = state.result.take() {
            state.taken = true;
            return Poll::Ready(result);
        }
        if state.taken {
            // Polled again after it was ready: an error, not a task that hangs for ever.
            return Poll::Ready(Err(closed()));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

pub(super) fn closed() -> StorageError {
    StorageError::new(super::StorageErrorKind::Closed, "the storage was closed")
}
