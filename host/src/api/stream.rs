//! `GET /events`: stored events from a cursor on, and then every new one.
//!
//! A subscriber has no queue: it reads from storage what lies after its cursor, and sleeps until there is more. A slow
//! one therefore costs nothing, and one that comes back with its last cursor misses nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;

use super::types::SubscribeParams;
use crate::engine::Engine;
use crate::model::{ApiError, ErrorKind, Problem};
use crate::storage::{CursorCheck, EventFilter, ReadLimit};

/// How often a silent stream says that it is alive, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a request asks for: the parameters, and whether to go on after what is stored.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) params: SubscribeParams,
    pub(super) follow: bool,
}

impl Request {
    /// Reads the query string. `last_event_id` is what a client that comes back has seen.
    ///
    /// # Errors
    /// `INVALID_PARAMS` with every problem.
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
                        match crate::model::EventType::from_name(name) {
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

/// Where a stream stands.
struct Position {
    engine: Arc<Engine>,
    filter: EventFilter,
    after: u64,
    follow: bool,
    /// Something to say before the first event.
    preface: Option<Bytes>,
    committed: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
}

/// Opens a stream. Blocks for a moment.
///
/// # Errors
/// `CONFLICT` for a cursor that the host never gave, `NOT_FOUND` for a run that does not exist.
pub(super) fn open(
    engine: &Arc<Engine>,
    request: Request,
    closing: watch::Receiver<bool>,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>, ApiError> {
    let Request { params, follow } = request;
    let storage = engine.storage();
    let committed = storage.events_watch();
    if let Some(run) = params.run_id {
        let known = storage.read(|reader| reader.run_status(run))?;
        known.ok_or_else(|| ApiError::not_found("run", run))?;
    }
    let mut preface = None;
    let after = match params.after {
        // A run's story is told from its start; of everything else, only what is new.
        None if params.run_id.is_some() || params.conversation_id.is_some() => 0,
        None => *committed.borrow(),
        Some(after) => {
            match storage.read(|reader| reader.check_cursor(after, params.run_id)).map_err(ApiError::from)? {
                CursorCheck::Complete => {}
                CursorCheck::Truncated { first } => {
                    let note = json!({"truncated": true, "first": first});
                    preface = Some(Bytes::from(format!("event: truncated\ndata: {note}\n\n")));
                }
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
        types: params.types.unwrap_or_default(),
    };
    let position = Position { engine: Arc::clone(engine), filter, after, follow, preface, committed, closing };
    Ok(stream::unfold(position, |mut position| async move {
        let bytes = next(&mut position).await?;
        Some((Ok(bytes), position))
    }))
}

/// The next piece of a stream; none at its end.
async fn next(position: &mut Position) -> Option<Bytes> {
    if let Some(preface) = position.preface.take() {
        return Some(preface);
    }
    loop {
        position.committed.mark_unchanged();
        let (engine, filter, after) = (Arc::clone(&position.engine), position.filter.clone(), position.after);
        let read = move || engine.storage().read(|reader| reader.events_after(after, &filter, ReadLimit::default()));
        let page = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                tracing::error!(%error, "a subscriber cannot be served");
                return None;
            }
            Err(_) => return None,
        };
        position.after = page.next;
        if !page.events.is_empty() {
            let mut text = String::new();
            for event in page.events {
                // Every part of an event can be written as JSON: it has come from JSON.
                let Ok(data) = serde_json::to_string(&event) else { continue };
                text.push_str(&format!("id: {}\nevent: run_event\ndata: {data}\n\n", event.cursor));
            }
            return Some(Bytes::from(text));
        }
        if page.more {
            continue;
        }
        if !position.follow {
            return None;
        }
        tokio::select! {
            changed = position.committed.changed() => changed.ok()?,
            _ = position.closing.wait_for(|closing| *closing) => return None,
            () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b": alive\n\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_client_has_seen_goes_before_where_it_once_began() {
        let request =
            Request::parse(&query(&[("after", "3"), ("types", "run.started,run.failed")]), Some("9")).unwrap();
        assert_eq!(request.params.after, Some(9));
        assert_eq!(request.params.types.unwrap().len(), 2);
        assert!(request.follow);
    }

    #[test]
    fn every_problem_of_a_query_is_told() {
        let wrong =
            query(&[("after", "x"), ("runId", "y"), ("types", "run.begun"), ("colour", "red"), ("follow", "2")]);
        let error = Request::parse(&wrong, Some("z")).unwrap_err();
        assert_eq!(error.problems.len(), 6, "{error:?}");
    }
}
