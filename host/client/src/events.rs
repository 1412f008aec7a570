//! Following events: one stream over any number of connections.

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

/// The host sends a comment at least every 15 s; a connection that is silent for longer than this is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long a host that has ended of its own accord is given to come back by somebody else's doing.
const RETURN_LIMIT: Duration = Duration::from_secs(3);
/// Reconnects in a row that bring no event.
const MAX_FRUITLESS: u32 = 5;
/// Events that wait for a slow reader; then the connection is read no further.
const BUFFERED: usize = 64;

/// What a followed stream gives.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// The next event, each once and in order.
    Event(Box<Event>),
    /// The connection broke, for this reason; the stream goes on by itself.
    Interrupted(String),
}

/// The events of a run or of the host, reconnecting by itself.
#[derive(Debug)]
pub struct EventStream {
    items: mpsc::Receiver<Result<StreamItem, ClientError>>,
}

impl EventStream {
    /// Starts to follow. What reconnects is a task of its own, so that dropping a waiting [`next`](Self::next) never
    /// breaks off a connect or a host's start.
    pub(super) fn open(connector: Arc<Connector>, params: SubscribeParams) -> Self {
        let (sender, items) = mpsc::channel(BUFFERED);
        let follower = Follower { connector, last: params.after, params, sender, fruitless: 0 };
        tokio::spawn(follower.run());
        Self { items }
    }

    /// The next item. Cancel-safe.
    ///
    /// # Errors
    /// Once, when there is no more hope: the host refuses the subscription or is gone for good.
    pub async fn next(&mut self) -> Result<StreamItem, ClientError> {
        match self.items.recv().await {
            Some(item) => item,
            None => Err(ClientError::Lost { reason: "the event stream has ended".to_owned() }),
        }
    }
}

/// How a connection ended.
enum End {
    /// The reader has gone.
    Unread,
    /// The host ended the stream in good order: it stops.
    Stopped,
    /// It broke: the host died, or hangs.
    Broken(String),
}

struct Follower {
    connector: Arc<Connector>,
    params: SubscribeParams,
    /// Cursor of the last event that was handed on.
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
                if !self.hand_on(frame).await? {
                    return Ok(End::Unread);
                }
            }
        }
    }

    /// Hands an event on, once. False if nobody wants it any more.
    async fn hand_on(&mut self, frame: Frame) -> Result<bool, ClientError> {
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

    /// The host stopped on purpose: it is not started again behind its user's back.
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

    /// The host died or hangs: it is brought back where that is allowed.
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
