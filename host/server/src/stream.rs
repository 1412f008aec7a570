//! Event streams: stored events after a cursor, then every new one.
//!
//! A subscriber has no queue: it reads the events after its cursor from storage, and sleeps until there are more. So a
//! slow subscriber needs no memory, and one that reconnects with its last cursor misses nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;

use super::peer::Peer;
use ostler_engine::{Engine, EventStream};
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{AccessClass, ApiError, Event, Problem};

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

/// The next item of a stream.
pub(super) enum Step {
    /// Events in order.
    Events(Vec<Event>),
    /// No event for [`KEEP_ALIVE`].
    Quiet,
}

/// Reads the events of a stream, page by page.
pub(super) struct Follower {
    events: EventStream,
    follow: bool,
    closing: watch::Receiver<bool>,
    peer: Arc<Peer>,
}

impl Follower {
    /// Opens a stream. Reads storage, so it blocks briefly.
    ///
    /// # Errors
    /// Those of [`EventStreams::open`](ostler_engine::EventStreams::open).
    pub(super) fn open(
        engine: &Arc<Engine>,
        params: &SubscribeParams,
        follow: bool,
        closing: watch::Receiver<bool>,
        peer: Arc<Peer>,
    ) -> Result<Self, ApiError> {
        Ok(Self { events: engine.event_streams().open(params)?, follow, closing, peer })
    }

    /// The cursor after which the stream continues.
    pub(super) const fn after(&self) -> u64 {
        self.events.after()
    }

    /// The first stored event, if events after the requested cursor were deleted.
    pub(super) const fn truncated(&self) -> Option<u64> {
        self.events.truncated()
    }

    /// The next item. `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Step> {
        loop {
            let reader = self.events.page_reader();
            let page = match tokio::task::spawn_blocking(move || reader.read()).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a subscriber cannot be served");
                    return None;
                }
                Err(_) => return None,
            };
            self.events.advance(&page);
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
                more = self.events.changed() => if !more { return None },
                _ = self.closing.wait_for(|closing| *closing) => return None,
                () = self.peer.ended() => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(Step::Quiet),
            }
        }
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
    let follower = Follower::open(engine, &request.params, request.follow, closing, peer)?;
    let preface = follower.truncated().map(|first| {
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
