//! A run's process, seen from the host.

use std::time::{Duration, Instant};

use super::event::{Event, StopSignal};
use super::identity::ProcessIdentity;
use super::spec::SpawnError;

/// A child that exists, with its keeper, and waits before it executes the program.
#[derive(Debug)]
pub struct Prepared {}

impl Prepared {
    /// Who the child is; record it before [`Prepared::start`].
    pub fn identity(&self) -> &ProcessIdentity {
        todo!()
    }

    /// Lets the child execute its program; returns when it has. On an error, and when dropped, nothing is left.
    pub fn start(self) -> Result<Child, SpawnError> {
        todo!()
    }
}

/// A running child. Belongs to one thread, which calls [`Child::next`] until [`Event::Contained`].
///
/// Dropping it early ends the whole tree and waits for that (at most a few seconds).
#[derive(Debug)]
pub struct Child {}

impl Child {
    /// Who the child is.
    pub fn identity(&self) -> &ProcessIdentity {
        todo!()
    }

    /// Blocks until something happens, at most until `until`. Also moves standard input meanwhile.
    pub fn next(&mut self, until: Option<Instant>) -> Event {
        todo!()
    }

    /// Adds input. It is written while [`Child::next`] runs.
    ///
    /// # Errors
    /// [`WriteRefused::Closed`] after the input was closed or failed, [`WriteRefused::Full`] where more than
    /// [`SpawnLimits::stdin_queue`](super::SpawnLimits) would wait; nothing of `bytes` is queued then.
    pub fn write(&mut self, bytes: Vec<u8>) -> Result<(), WriteRefused> {
        todo!()
    }

    /// Ends the input after what is queued.
    pub fn close_stdin(&mut self) {
        todo!()
    }

    /// A handle that wakes this child's thread from any other.
    pub fn waker(&self) -> Waker {
        todo!()
    }

    /// Begins to end the tree: `first`, then SIGTERM, then SIGKILL, with `grace` split between. Returns at once;
    /// events go on. Further calls change nothing, but for a zero `grace`, which kills at once.
    pub fn stop(&mut self, first: StopSignal, grace: Duration) {
        todo!()
    }
}

/// Why input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefused {
    /// The child's input is closed.
    #[error("the input is closed: the child has ended, closed it, or was told that no more follows")]
    Closed,
    /// The child does not read fast enough.
    #[error("{waiting} bytes already wait for the child to read them, at most {limit} may: try again later")]
    Full {
        /// Bytes that wait.
        waiting: usize,
        /// The limit.
        limit: usize,
    },
}

/// Wakes [`Child::next`], which then returns [`Event::Woken`]. Outlives the child harmlessly.
#[derive(Debug, Clone)]
pub struct Waker {}

impl Waker {
    /// Wakes the child's thread. Several calls before it looks count as one.
    pub fn wake(&self) {
        todo!()
    }
}
