//! Follows events: one stream over any number of connections.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::ClientError;
use super::connect::Connector;
use super::http::{self, SendError};
use super::sse::{Frame, Parser};
use ostler_protocol::Event;
use ostler_protocol::methods::SubscribeParams;

/// Time without data after which a connection counts as broken. The host sends a comment at least every 15 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Time to wait for another program to start the host again after it has stopped.
const RETURN_LIMIT: Duration = Duration::from_secs(3);
/// Maximum number of consecutive reconnects without an event.
const MAX_FRUITLESS: u32 = 5;
/// Number of events that are buffered for a slow reader. While the buffer is full, the connection is not read.
const BUFFERED: usize = 64;

/// An item of an event stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// The next event. Each is returned once, in order.
    Event(Box<Event>),
    /// The connection broke, for this reason. The stream reconnects by itself.
    Interrupted(String),
}

/// The events of a run or of the host. Reconnects by itself.
#[derive(Debug)]
pub struct EventStream {
    items: mpsc::Receiver<Result<StreamItem, ClientError>>,
}

impl EventStream {
    /// Starts to follow. A separate task reconnects, so that dropping a pending [`next`](Self::next) does not interrupt
    /// a connect or the start of a host.
    pub(super) fn open(connector: Arc<Connector>, params: SubscribeParams) -> Self {
        let (sender, items) = mpsc::channel(BUFFERED);
        let follower = Follower { connector, last: params.after, params, sender, fruitless: 0 };
        tokio::spawn(follower.run());
        Self { items }
    }

    /// The next item. Cancel-safe.
    ///
    /// # Errors
    /// When the stream cannot continue: the host refuses the subscription, or cannot be reached any more. This is the
    /// last item.
    pub async fn next(&mut self) -> Result<StreamItem, ClientError> {
        match self.items.recv().await {
            Some(item) => item,
            None => Err(ClientError::Lost { reason: "the event stream has ended".to_owned() }),
        }
    }
}

/// How a connection ended.
enum End {
    /// The reader has dropped the stream.
    Unread,
    /// The host ended the stream normally, because it stops.
    Stopped,
    /// The connection broke: the host died or hangs.
    Broken(String),
}

struct Follower {
    connector: Arc<Connector>,
    params: SubscribeParams,
    /// Cursor of the last event that was delivered.
    last: Option<u64>,
    sender: mpsc::Sender<Result<StreamItem, ClientError>>,
    fruitless: u32,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let outcome = match self.subscribe().await {
                Ok(body) => self.read(body).await,
                Err(SendError::Broken(reason)) => Ok(End::Broken(reason)),
                Err(SendError::Unsent(ClientError::NotRunning { .. })) => {
                    Ok(End::Broken("it is not running".to_owned()))
                }
                Err(SendError::Unsent(error)) => Err(error),
            };
            let next = match outcome {
                Ok(End::Unread) => return,
                Ok(End::Stopped) => self.wait_for_return().await,
                Ok(End::Broken(reason)) => self.restore(reason).await,
                Err(error) => Err(error),
            };
            if let Err(error) = next {
                let _ = self.sender.send(Err(error)).await;
                return;
            }
        }
    }

    async fn subscribe(&self) -> Result<Incoming, SendError> {
        let mut target = "/events?".to_owned();
        if let Some(run) = self.params.run_id {
            let _ = write!(target, "runId={run}&");
        }
        if let Some(conversation) = self.params.conversation_id {
            let _ = write!(target, "conversationId={conversation}&");
        }
        if let Some(types) = &self.params.types {
            let names: Vec<&str> = types.iter().map(|kind| kind.name()).collect();
            let _ = write!(target, "types={}&", names.join(","));
        }
        if let Some(after) = self.params.after {
            let _ = write!(target, "after={after}&");
        }
        target.pop();
        let mut headers = vec![("accept", "text/event-stream".to_owned())];
        if let Some(last) = self.last {
            headers.push(("last-event-id", last.to_string()));
        }
        let response = self.connector.send("GET", &target, &headers, Bytes::new()).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        match http::read_json(response).await {
            Err(error) => Err(error),
            Ok(_) => Err(SendError::Unsent(ClientError::Protocol("/events: no event stream".to_owned()))),
        }
    }

    async fn read(&mut self, mut body: Incoming) -> Result<End, ClientError> {
        let mut parser = Parser::default();
        let mut frames = Vec::new();
        loop {
            let frame = tokio::select! {
                frame = tokio::time::timeout(SILENCE_LIMIT, body.frame()) => frame,
                () = self.sender.closed() => return Ok(End::Unread),
            };
            let data = match frame {
                Err(_) => return Ok(End::Broken(format!("it was silent for {} s", SILENCE_LIMIT.as_secs()))),
                Ok(None) => return Ok(End::Stopped),
                Ok(Some(Err(error))) => return Ok(End::Broken(http::describe(&error))),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            parser
                .push(&data, &mut frames)
                .map_err(|_| ClientError::Protocol("an event is longer than is read".to_owned()))?;
            for frame in frames.drain(..) {
                if !self.deliver(frame).await? {
                    return Ok(End::Unread);
                }
            }
        }
    }

    /// Delivers an event, unless it was delivered before. `false` if the reader has dropped the stream.
    async fn deliver(&mut self, frame: Frame) -> Result<bool, ClientError> {
        if frame.event == "error" {
            let document = serde_json::from_str(&frame.data).unwrap_or_default();
            let error = http::api_error(&document).map_or_else(|| ClientError::Protocol(frame.data), Into::into);
            return Err(error);
        }
        if frame.event != "run_event" {
            return Ok(true);
        }
        let event: Event = serde_json::from_str(&frame.data)
            .map_err(|error| ClientError::Protocol(format!("an event cannot be read: {error}")))?;
        if self.last.is_some_and(|last| event.cursor <= last) {
            return Ok(true);
        }
        self.last = Some(event.cursor);
        self.fruitless = 0;
        Ok(self.sender.send(Ok(StreamItem::Event(Box::new(event)))).await.is_ok())
    }

    /// The host was stopped on purpose: waits for another program to start it again.
    async fn wait_for_return(&mut self) -> Result<(), ClientError> {
        self.count("the host has ended")?;
        let until = Instant::now() + RETURN_LIMIT;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.connector.health().await.is_ok() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(ClientError::Lost { reason: "it was stopped".to_owned() });
            }
        }
    }

    /// The host died or hangs: starts it again if allowed.
    async fn restore(&mut self, reason: String) -> Result<(), ClientError> {
        self.count(&reason)?;
        if self.sender.send(Ok(StreamItem::Interrupted(reason.clone()))).await.is_err() {
            return Ok(());
        }
        let pause = Duration::from_millis(50 << self.fruitless.min(6));
        tokio::time::sleep(pause).await;
        if self.connector.config.start.is_some() {
            return self.connector.ensure().await.map(drop);
        }
        let until = Instant::now() + RETURN_LIMIT;
        while let Err(error) = self.connector.health().await {
            if Instant::now() >= until {
                return Err(ClientError::Lost { reason: format!("{reason}; {error}") });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn count(&mut self, reason: &str) -> Result<(), ClientError> {
        self.fruitless += 1;
        if self.fruitless > MAX_FRUITLESS {
            return Err(ClientError::Lost { reason: format!("{reason}, {MAX_FRUITLESS} times in a row") });
        }
        Ok(())
    }
}
