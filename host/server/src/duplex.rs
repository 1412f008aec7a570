//! JSON-RPC over a persistent connection: concurrent calls, and event streams between their answers.
//!
//! The modules `websocket` and `lines` transport the frames.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::http::Shared;
use super::peer::Peer;
use super::rpc::{self, Answer, Caller};
use super::stream::{Follower, Step};
use ostler_engine::Engine;
use ostler_protocol::methods::{SubscribeParams, SubscribeResult};
use ostler_protocol::{ApiError, ErrorKind, Event};

/// Maximum number of concurrent calls of one connection. The next call is read when one is done.
const MAX_CALLS: usize = 32;

/// Maximum number of event streams of one connection.
const MAX_STREAMS: usize = 64;

/// Capacity of the queue of answers and events to send. Senders wait while it is full, which bounds the memory.
const MAX_WAITING: usize = 4;

/// Time limit to send the queued texts when a connection ends.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Waits up to [`CLOSE_TIME`] for the task that sends the queued texts, then aborts it.
pub(super) async fn finish_writing(mut writer: JoinHandle<()>) {
    if tokio::time::timeout(CLOSE_TIME, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// One connection.
pub(super) struct Session {
    engine: Arc<Engine>,
    origin: String,
    peer: Arc<Peer>,
    calls: Arc<Semaphore>,
    streams: Arc<Streams>,
}

impl Session {
    /// Opens a session. Returns the queue of texts to send.
    pub(super) fn open(shared: &Shared, origin: String, peer: Arc<Peer>) -> (Self, mpsc::Receiver<Answer>) {
        let (out, waiting) = mpsc::channel(MAX_WAITING);
        let streams =
            Arc::new(Streams { closing: shared.closing.clone(), out, open: Mutex::default(), last: AtomicU64::new(0) });
        let calls = Arc::new(Semaphore::new(MAX_CALLS));
        (Self { engine: Arc::clone(&shared.engine), origin, peer, calls, streams }, waiting)
    }

    /// Processes a frame in a task of its own, which sends the answer. Returns when the next frame can be read. The
    /// task drops `work_permit` when the answer is built.
    pub(super) async fn take<P: Send + 'static>(&self, frame: Vec<u8>, work_permit: P) {
        let Ok(permit) = Arc::clone(&self.calls).acquire_owned().await else { return };
        // After the permit of the connection, so that one connection cannot use up the calls of its peer.
        let call = self.peer.budget().call().await;
        let pending = Arc::new(PendingSubscriptions { streams: Arc::clone(&self.streams), begun: Mutex::default() });
        let caller =
            Caller { origin: self.origin.clone(), peer: Arc::clone(&self.peer), streams: Some(Arc::clone(&pending)) };
        let (engine, out) = (Arc::clone(&self.engine), self.streams.out.clone());
        tokio::spawn(async move {
            let answer = rpc::answer(&engine, &caller, &frame).await;
            drop((frame, work_permit));
            if let Some(mut answer) = answer {
                answer.permits.extend(call);
                // This fails only if the connection has ended.
                let _ = out.send(answer).await;
            }
            // After the answer, so that the client knows the number of a stream before its first event.
            pending.follow();
            drop(permit);
        });
    }

    /// Answers a frame that could not be read.
    pub(super) async fn refuse(&self, message: &str) {
        let _ = self.streams.out.send(rpc::unreadable(message).into()).await;
    }

    /// Waits until every call has been answered, and ends the event streams.
    pub(super) async fn finish(self) {
        let all = u32::try_from(MAX_CALLS).unwrap_or(u32::MAX);
        let _ = self.calls.acquire_many(all).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.streams.end();
    }
}

/// The event streams of a connection.
#[derive(Debug)]
struct Streams {
    closing: watch::Receiver<bool>,
    out: mpsc::Sender<Answer>,
    /// Streams by number. `None` if the stream has not started yet.
    open: Mutex<HashMap<u64, Option<AbortHandle>>>,
    last: AtomicU64,
}

impl Streams {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Option<AbortHandle>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.open().drain().filter_map(|(_, stream)| stream).for_each(|stream| stream.abort());
    }
}

/// Streams that were opened by the calls of one frame. They send no events before the frame is answered.
pub(crate) struct PendingSubscriptions {
    streams: Arc<Streams>,
    begun: Mutex<Vec<(u64, Follower)>>,
}

impl fmt::Debug for PendingSubscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSubscriptions").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl PendingSubscriptions {
    /// Opens a stream.
    ///
    /// # Errors
    /// Those of [`Follower::open`], and `CONFLICT` if the connection already has [`MAX_STREAMS`] streams.
    pub(super) fn subscribe(
        &self,
        engine: &Arc<Engine>,
        params: &SubscribeParams,
        peer: &Arc<Peer>,
    ) -> Result<SubscribeResult, ApiError> {
        let follower = Follower::open(engine, params, true, self.streams.closing.clone(), Arc::clone(peer))?;
        let (after, truncated) = (follower.after(), follower.truncated());
        let id = self.streams.last.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut open = self.streams.open();
            if open.len() >= MAX_STREAMS {
                let message = format!("a connection has at most {MAX_STREAMS} subscriptions");
                return Err(ApiError::new(ErrorKind::Conflict, message).hint("end one with `unsubscribe`"));
            }
            open.insert(id, None);
        }
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push((id, follower));
        Ok(SubscribeResult { subscription_id: id, cursor: after, truncated })
    }

    /// Ends a stream. Events that are already queued may still be sent.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is no stream with this number.
    pub(super) fn unsubscribe(&self, id: u64) -> Result<(), ApiError> {
        match self.streams.open().remove(&id) {
            Some(stream) => {
                stream.inspect(AbortHandle::abort);
                Ok(())
            }
            None => Err(ApiError::not_found("subscription", id)),
        }
    }

    /// Starts to send the events of the streams.
    fn follow(&self) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, follower) in begun {
            let mut open = self.streams.open();
            // A call of the same frame may have ended the stream.
            if let Some(handle) = open.get_mut(&id) {
                let task = tokio::spawn(send_events(id, follower, self.streams.out.clone()));
                *handle = Some(task.abort_handle());
            }
        }
    }
}

/// Sends the events of one stream. Reads the next page when the previous one is queued.
async fn send_events(id: u64, mut follower: Follower, out: mpsc::Sender<Answer>) {
    while let Some(step) = follower.next().await {
        let Step::Events(events) = step else { continue };
        for event in &events {
            if out.send(notification(id, event).into()).await.is_err() {
                return;
            }
        }
    }
    let ended = json!({"jsonrpc": "2.0", "method": "subscription_ended", "params": {"subscriptionId": id}});
    let _ = out.send(ended.to_string().into()).await;
}

/// The notification for an event, with the number of its stream.
fn notification(id: u64, event: &Event) -> String {
    let mut params = serde_json::to_value(event).unwrap_or_default();
    if let Value::Object(members) = &mut params {
        members.insert("subscriptionId".to_owned(), id.into());
    }
    json!({"jsonrpc": "2.0", "method": "run_event", "params": params}).to_string()
}
