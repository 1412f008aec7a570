//! Event streams: stored events after a cursor, then every new one.
//!
//! A subscriber has no queue: it reads the events after its cursor from storage, and sleeps until there are more. So a
//! slow subscriber needs no memory, and one that reconnects with its last cursor misses nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;

use super::peer::Peer;
use ostler_engine::Engine;
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{AccessClass, ApiError, ErrorKind, Event, Problem};
use ostler_storage::{CursorCheck, EventFilter, ReadLimit};

/// Interval of keep-alive comments on an idle stream, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A request for a stream: the parameters, and whether to continue after the stored events.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) params: SubscribeParams,
    pub(super) follow: bool,
}

impl Request {
    /// Reads the query string. `last_event_id` is the last cursor of a client that reconnects; it overrides `after`.
    ///
    /// # Errors
    /// `INVALID_PARAMS` with all problems.
    pub(super) fn parse(query: &[(String, String)], last_event_id: Option<&str>) -> Result<Self, ApiError> {
        let mut problems = Vec::new();
        let mut request = Self { params: SubscribeParams::default(), follow: true };
        let mut problem = |name: &str, message: String| {
            problems.push(Problem { pointer: format!("/{name}"), message });
        };
        for (name, value) in query {
            match name.as_str() {
                "after" => match value.parse() {
                    Ok(cursor) => request.params.after = Some(cursor),
                    Err(_) => problem(name, "must be a cursor, a whole number".to_owned()),
                },
                "runId" => match value.parse() {
                    Ok(run) => request.params.run_id = Some(run),
                    Err(_) => problem(name, "must be the id of a run".to_owned()),
                },
                "conversationId" => match value.parse() {
                    Ok(conversation) => request.params.conversation_id = Some(conversation),
                    Err(_) => problem(name, "must be the id of a conversation".to_owned()),
                },
                "types" => {
                    let mut types = Vec::new();
                    for name in value.split(',').filter(|name| !name.is_empty()) {
                        match ostler_protocol::EventType::from_name(name) {
                            Some(kind) => types.push(kind),
                            None => problem("types", format!("there is no event {name:?}")),
                        }
                    }
                    request.params.types = Some(types);
                }
                "follow" => match value.as_str() {
                    "1" | "true" => request.follow = true,
                    "0" | "false" => request.follow = false,
                    _ => problem(name, "must be 1 or 0".to_owned()),
                },
                _ => {
                    let known = "unknown parameter; known are after, runId, conversationId, types, follow";
                    problem(name, known.to_owned());
                }
            }
        }
        if let Some(seen) = last_event_id {
            match seen.parse() {
                Ok(cursor) => request.params.after = Some(cursor),
                Err(_) => problem("Last-Event-ID", "must be a cursor, a whole number".to_owned()),
            }
        }
        if problems.is_empty() { Ok(request) } else { Err(ApiError::invalid(problems)) }
    }
}

/// Start of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// The cursor after which the stream starts.
    pub(super) after: u64,
    /// The first stored event, if events after the requested cursor were deleted.
    pub(super) truncated: Option<u64>,
}

/// The next item of a stream.
pub(super) enum Step {
    /// Events in order.
    Events(Vec<Event>),
    /// No event for [`KEEP_ALIVE`].
    Quiet,
}

/// Reads the events of a stream from storage, page by page.
pub(super) struct Follower {
    engine: Arc<Engine>,
    filter: EventFilter,
    after: u64,
    follow: bool,
    committed: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    peer: Arc<Peer>,
    /// Counts the subscriber while it exists.
    _subscriber: Subscriber,
}

impl Follower {
    /// Finds the start of a stream. Reads storage, so it blocks briefly.
    ///
    /// # Errors
    /// `CONFLICT` for a cursor that the host never gave, `NOT_FOUND` for a run or a conversation that does not exist.
    pub(super) fn open(
        engine: &Arc<Engine>,
        params: &SubscribeParams,
        follow: bool,
        closing: watch::Receiver<bool>,
        peer: Arc<Peer>,
    ) -> Result<(Self, Opened), ApiError> {
        let storage = engine.storage();
        let committed = storage.events_watch();
        if let Some(run) = params.run_id {
            let known = storage.read(|reader| reader.run_status(run))?;
            known.ok_or_else(|| ApiError::not_found("run", run))?;
        }
        if let Some(conversation) = params.conversation_id {
            let known = storage.read(|reader| reader.conversation(conversation))?;
            known.ok_or_else(|| ApiError::not_found("conversation", conversation))?;
        }
        let mut truncated = None;
        let after = match params.after {
            // The stream of a run or conversation starts at its first event, any other stream at the newest event.
            None if params.run_id.is_some() || params.conversation_id.is_some() => 0,
            None => *committed.borrow(),
            Some(after) => {
                match storage.read(|reader| reader.check_cursor(after, params.run_id)).map_err(ApiError::from)? {
                    CursorCheck::Complete => {}
                    CursorCheck::Truncated { first } => truncated = Some(first),
                    CursorCheck::Unknown => {
                        let message = format!("the host never gave the cursor {after}");
                        let hint = "subscribe without a cursor, or from 0 to get everything that is kept";
                        return Err(ApiError::new(ErrorKind::Conflict, message).hint(hint));
                    }
                }
                after
            }
        };
        let filter = EventFilter {
            run_id: params.run_id,
            conversation_id: params.conversation_id,
            types: params.types.clone().unwrap_or_default(),
        };
        let subscriber = Subscriber::new(engine.status().subscriber_count());
        let follower = Self {
            engine: Arc::clone(engine),
            filter,
            after,
            follow,
            committed,
            closing,
            peer,
            _subscriber: subscriber,
        };
        Ok((follower, Opened { after, truncated }))
    }

    /// The next item. `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Step> {
        loop {
            self.committed.mark_unchanged();
            let (engine, filter, after) = (Arc::clone(&self.engine), self.filter.clone(), self.after);
            let read =
                move || engine.storage().read(|reader| reader.events_after(after, &filter, ReadLimit::default()));
            let page = match tokio::task::spawn_blocking(read).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a subscriber cannot be served");
                    return None;
                }
                Err(_) => return None,
            };
            self.after = page.next;
            // Check again, because the stream outlives the request that opened it.
            self.peer.require(AccessClass::Read, "an event stream").ok()?;
            if !page.events.is_empty() {
                return Some(Step::Events(page.events));
            }
            if page.more {
                continue;
            }
            if !self.follow {
                return None;
            }
            tokio::select! {
                changed = self.committed.changed() => changed.ok()?,
                _ = self.closing.wait_for(|closing| *closing) => return None,
                () = self.peer.ended() => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(Step::Quiet),
            }
        }
    }
}

struct Subscriber(Arc<AtomicUsize>);

impl Subscriber {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens a stream of server-sent events. Reads storage, so it blocks briefly.
///
/// # Errors
/// Those of [`Follower::open`].
pub(super) fn open(
    engine: &Arc<Engine>,
    request: &Request,
    closing: watch::Receiver<bool>,
    peer: Arc<Peer>,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>, ApiError> {
    let (follower, opened) = Follower::open(engine, &request.params, request.follow, closing, peer)?;
    let preface = opened.truncated.map(|first| {
        let note = json!({"truncated": true, "first": first});
        Bytes::from(format!("event: truncated\ndata: {note}\n\n"))
    });
    Ok(stream::unfold((preface, follower), |(mut preface, mut follower)| async move {
        let bytes = match preface.take() {
            Some(preface) => preface,
            None => sse(follower.next().await?),
        };
        Some((Ok(bytes), (preface, follower)))
    }))
}

fn sse(step: Step) -> Bytes {
    let Step::Events(events) = step else { return Bytes::from_static(b": alive\n\n") };
    let mut text = String::new();
    for event in events {
        // An event can always be written as JSON, because it was read from JSON.
        let Ok(data) = serde_json::to_string(&event) else { continue };
        text.push_str(&format!("id: {}\nevent: run_event\ndata: {data}\n\n", event.cursor));
    }
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn last_event_id_overrides_after() {
        let request =
            Request::parse(&query(&[("after", "3"), ("types", "run.started,run.failed")]), Some("9")).unwrap();
        assert_eq!(request.params.after, Some(9));
        assert_eq!(request.params.types.unwrap().len(), 2);
        assert!(request.follow);
    }

    #[test]
    fn reports_all_problems_of_a_query() {
        let wrong =
            query(&[("after", "x"), ("runId", "y"), ("types", "run.begun"), ("colour", "red"), ("follow", "2")]);
        let error = Request::parse(&wrong, Some("z")).unwrap_err();
        assert_eq!(error.problems.len(), 6, "{error:?}");
    }
}
