//! Event streams on persistent connections.

use std::sync::Arc;

use super::super::duplex::PendingSubscriptions;
use super::super::rpc::Caller;
use ostler_engine::Engine;
use ostler_protocol::methods::{SubscribeParams, SubscribeResult, UnsubscribeParams, UnsubscribeResult};
use ostler_protocol::{ApiError, ErrorKind};

pub(super) fn subscribe(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &SubscribeParams,
) -> Result<SubscribeResult, ApiError> {
    pending_subscriptions(caller)?.subscribe(engine, params, &caller.peer)
}

pub(super) fn unsubscribe(
    _: &Arc<Engine>,
    caller: &Caller,
    params: &UnsubscribeParams,
) -> Result<UnsubscribeResult, ApiError> {
    pending_subscriptions(caller)?.unsubscribe(params.subscription_id)?;
    Ok(UnsubscribeResult { subscription_id: params.subscription_id })
}

fn pending_subscriptions(caller: &Caller) -> Result<&PendingSubscriptions, ApiError> {
    caller.streams.as_deref().ok_or_else(|| {
        ApiError::new(ErrorKind::Conflict, "this connection ends with the answer and can carry no events")
            .hint("use `GET /events`, or call over the WebSocket `/ws` or `ostler rpc --stdio`")
    })
}
