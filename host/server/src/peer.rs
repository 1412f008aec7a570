//! The peer of a connection and its permissions.

use std::fmt;
use std::sync::Arc;

use super::budget::Budget;
use super::slots::Slot;
use ostler_engine::ClientToken;
use ostler_protocol::{AccessClass, Actor, ApiError, ErrorKind};

/// The peer of a connection. Its permissions are checked for every call, because a token can be revoked or expire while
/// the connection is open.
pub(crate) struct Peer {
    actor: Actor,
    class: AccessClass,
    budget: Arc<Budget>,
    remote: Option<Remote>,
}

/// Data of a peer over TCP.
struct Remote {
    token: Arc<ClientToken>,
    /// Counts the connection while any part of it exists.
    _slot: Option<Arc<Slot>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("actor", &self.actor).field("class", &self.class).finish_non_exhaustive()
    }
}

impl Peer {
    /// A process of the user on the unix socket.
    pub(super) fn unix(pid: i32, uid: u32, budget: Arc<Budget>) -> Self {
        Self { actor: Actor::Unix { pid, uid }, class: AccessClass::Operate, budget, remote: None }
    }

    /// A client with a token over TCP.
    pub(super) fn holder(token: Arc<ClientToken>, budget: Arc<Budget>, slot: Option<Arc<Slot>>) -> Self {
        let (actor, class) = (Actor::Token(token.name().to_owned()), token.class());
        Self { actor, class, budget, remote: Some(Remote { token, _slot: slot }) }
    }

    /// The actor for the audit trail.
    pub(crate) const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Whether the peer is connected over TCP.
    pub(crate) const fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    pub(super) const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Checks that the peer has a class. `what` names the operation in the error.
    ///
    /// # Errors
    /// `POLICY_DENIED` with the required class, the class of the peer, and a hint.
    pub(crate) fn require(&self, class: AccessClass, what: &str) -> Result<(), ApiError> {
        if let Some(remote) = &self.remote {
            remote.token.check()?;
        }
        if self.class >= class {
            return Ok(());
        }
        let message = format!("{what} needs the class {class}, and {} has the class {}", self.actor, self.class);
        Err(ApiError::new(ErrorKind::PolicyDenied, message).hint(format!(
            "call over the unix socket, or create a token with `ostler access add NAME --class {class}`"
        )))
    }

    /// Returns when the peer's token is revoked or expires. Never returns on the unix socket.
    pub(super) async fn ended(&self) {
        match &self.remote {
            None => std::future::pending().await,
            Some(remote) => remote.token.ended().await,
        }
    }
}
