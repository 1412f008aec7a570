//! Who is at the other end of a connection, and what they may do.

use std::fmt;
use std::sync::Arc;

use super::budget::Budget;
use super::slots::Slot;
use ostler_engine::ClientToken;
use ostler_protocol::{AccessClass, Actor, ApiError, ErrorKind};

/// The other end of a connection. What is checked here is checked for every call: a token can be revoked and can expire
/// while a connection lives.
pub(crate) struct Peer {
    actor: Actor,
    class: AccessClass,
    budget: Arc<Budget>,
    remote: Option<Remote>,
}

/// What is known of a peer over TCP.
struct Remote {
    token: Arc<ClientToken>,
    /// Counted as long as anything of the connection is there.
    _slot: Option<Arc<Slot>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("actor", &self.actor).field("class", &self.class).finish_non_exhaustive()
    }
}

impl Peer {
    /// The user, on the unix socket.
    pub(super) fn unix(pid: i32, uid: u32, budget: Arc<Budget>) -> Self {
        Self { actor: Actor::Unix { pid, uid }, class: AccessClass::Operate, budget, remote: None }
    }

    /// The holder of a token, over TCP.
    pub(super) fn holder(token: Arc<ClientToken>, budget: Arc<Budget>, slot: Option<Arc<Slot>>) -> Self {
        let (actor, class) = (Actor::Token(token.name().to_owned()), token.class());
        Self { actor, class, budget, remote: Some(Remote { token, _slot: slot }) }
    }

    /// Who it is, for the audit trail.
    pub(crate) const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Whether it is connected over TCP.
    pub(crate) const fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    pub(super) const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether the peer may do something that needs a class.
    ///
    /// # Errors
    /// `POLICY_DENIED` that says which class is needed, which one the peer has, and how to get it.
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

    /// Returns when the peer's token may not be used any more.
    pub(super) async fn ended(&self) {
        match &self.remote {
            None => std::future::pending().await,
            Some(remote) => remote.token.ended().await,
        }
    }
}
