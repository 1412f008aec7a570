//! Connects to the host: compares versions, replaces an idle host of another version, starts a host.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::greeting::Greeting;
use super::http::{self, Connection, SendError};
use super::launch::{self, Launched};
use super::{ClientConfig, ClientError, Health};
use ostler_private_files::Holder;
use ostler_protocol::methods::{LINES_PROTOCOL, MethodDescriptor, PROTOCOL, StopParams, StopResult};
use ostler_protocol::{ApiError, ErrorKind};

/// Time limit for a host to end.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for the answer to `GET /healthz`.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of a call. A cancel waits for the end of the run, a start for the probes of the CLI.
const CALL_LIMIT: Duration = Duration::from_secs(300);
/// Hosts that may come and go before one accepts the client.
const MAX_HOSTS: u32 = 4;
/// First and longest pause between two attempts to start a host while another host has the lock and ends or starts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a connection without a request is kept. The host closes it after 10 s: a request that is sent at that moment
/// would break.
pub(super) const KEEP_LIMIT: Duration = Duration::from_secs(5);
/// Interval for polling.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Makes connections to one host, and keeps one for the next request.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) config: ClientConfig,
    kept: Mutex<Option<(Connection, Instant)>>,
}

impl Connector {
    pub(super) const fn new(config: ClientConfig) -> Self {
        Self { config, kept: Mutex::new(None) }
    }

    /// Identifies the host that listens. Starts none.
    pub(super) async fn health(&self) -> Result<Health, ClientError> {
        self.health_after(None).await
    }

    /// The same with the answer to a greeting, if there is one.
    async fn health_after(&self, greeting: Option<Greeting>) -> Result<Health, ClientError> {
        let answer = tokio::time::timeout(HEALTH_LIMIT, self.ask_health(greeting)).await.map_err(|_| {
            ClientError::Unreachable {
                socket: self.config.socket.clone(),
                reason: format!("it did not say who it is within {} s", HEALTH_LIMIT.as_secs()),
            }
        })?;
        let value = answer.map_err(|error| error.into_client_error(false))?;
        serde_json::from_value(value).map_err(|error| ClientError::Protocol(format!("/healthz: {error}")))
    }

    async fn ask_health(&self, greeting: Option<Greeting>) -> Result<Value, SendError> {
        if let Some(greeting) = greeting
            && let Some(answered) = greeting.answer(&self.config.socket, &self.config.version).await
        {
            let (answer, connection, sent) = answered?;
            self.keep(connection, sent);
            return Ok(answer);
        }
        // A host may have started or ended meanwhile.
        let request = http::health_request(&self.config.version)?;
        self.exchange(request).await
    }

    /// Ensures that a host with an accepted version listens. Starts one if allowed.
    pub(super) async fn ensure(&self) -> Result<Health, ClientError> {
        self.ensure_greeted(None).await
    }

    /// The same with the answer to a greeting, if there is one.
    pub(super) async fn ensure_greeted(&self, mut greeting: Option<Greeting>) -> Result<Health, ClientError> {
        let mut deadline = Instant::now() + self.config.start_limit;
        let mut step = None;
        let mut pause = FIRST_PAUSE;
        let mut hosts = 0;
        loop {
            if hosts > MAX_HOSTS {
                let message = "hosts start and end again, or are replaced by those of another version";
                let error = ApiError::new(ErrorKind::Internal, message).hint("the log of the host has the reason");
                return Err(ClientError::Start(Box::new(error)));
            }
            let health = match self.health_after(greeting.take()).await {
                Ok(health) if self.accepts(&health) => return Ok(health),
                other => other,
            };
            // Another program may have started a host.
            let now = self.starting();
            if now != step {
                deadline = Instant::now() + self.config.start_limit;
                if let Some(now) = &now {
                    self.report_progress(now);
                }
                step = now;
            }
            let trouble = match health {
                Ok(health) => {
                    self.retire(&health, deadline).await?;
                    hosts += 1;
                    continue;
                }
                Err(error @ ClientError::NotRunning { .. }) => match &self.config.start {
                    None => return Err(error),
                    // A host is starting. Another one could not get the lock of the data folder.
                    Some(_) if step.is_some() => {
                        let step = step.as_deref().unwrap_or_default();
                        let message =
                            format!("the host that another program has started was not ready in time: {step}");
                        ClientError::Start(Box::new(ApiError::new(ErrorKind::Internal, message).hint("try again")))
                    }
                    Some(command) => {
                        match launch::start(command, self.config.start_limit, |step| self.report_progress(step)).await?
                        {
                            Launched::Ready => {
                                hosts += 1;
                                continue;
                            }
                            // Another host has the lock. It will answer soon, or end.
                            Launched::LockTaken(reason) => ClientError::Start(Box::new(reason)),
                        }
                    }
                },
                // The host was ending when it was asked.
                Err(error @ ClientError::Broken { .. }) => error,
                Err(error) => return Err(error),
            };
            if Instant::now() >= deadline {
                return Err(trouble);
            }
            self.wait_for_answer(deadline.min(Instant::now() + pause)).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// The current step of a host that is starting: it has the data folder but accepts no connections yet.
    pub(super) fn starting(&self) -> Option<String> {
        self.holder()?.starting
    }

    fn report_progress(&self, step: &str) {
        if let Some(progress) = self.config.progress {
            progress(step);
        }
    }

    /// Waits until `until` for a host that is starting to answer. Returns early if no host has the data folder any
    /// more, so that another one can be started.
    async fn wait_for_answer(&self, until: Instant) {
        while Instant::now() < until {
            tokio::time::sleep(POLL_INTERVAL).await;
            if self.health().await.is_ok() || self.holder().is_none() {
                return;
            }
        }
    }

    /// The host that has the data folder.
    fn holder(&self) -> Option<Holder> {
        Holder::of(self.config.socket.parent()?)
    }

    fn accepts(&self, health: &Health) -> bool {
        self.config.any_version || (health.version == self.config.version && health.protocol == PROTOCOL)
    }

    /// Asks an idle host of another version to end, and waits until it has ended.
    async fn retire(&self, health: &Health, deadline: Instant) -> Result<(), ClientError> {
        let stays = |state| ClientError::OtherVersion {
            theirs: health.version.clone(),
            ours: self.config.version.clone(),
            pid: health.pid,
            state,
        };
        if self.config.start.is_none() {
            return Err(stays("none may be started in its place"));
        }
        match self.call::<_, StopResult>("stop", &StopParams { if_idle: true }).await {
            Ok(result) if result.stopping => {}
            // It has already ended.
            Err(ClientError::NotRunning { .. } | ClientError::Broken { .. }) => {}
            Ok(_) => return Err(stays("busy")),
            Err(ClientError::Api(error)) if error.kind == ErrorKind::Conflict => return Err(stays("busy")),
            Err(error) => return Err(error),
        }
        if self.is_gone_by(health.pid, deadline).await {
            return Ok(());
        }
        Err(stays("does not end although it was asked to"))
    }

    /// Waits until the host with this process id neither answers nor has the data folder, because only then another
    /// host can start. `false` if the deadline passes first.
    pub(super) async fn is_gone_by(&self, pid: u32, deadline: Instant) -> bool {
        let is_there = || self.holder().is_some_and(|holder| holder.pid == pid);
        while self.health().await.is_ok_and(|now| now.pid == pid) || is_there() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }

    /// After a refused call: whether the host was ending, and another one answers now.
    pub(super) async fn is_replaced(&self) -> Result<bool, ClientError> {
        if self.config.start.is_none() {
            return Ok(false);
        }
        match self.health().await {
            Ok(health) if !health.ending => return Ok(false),
            Ok(health) if !self.is_gone_by(health.pid, Instant::now() + END_LIMIT).await => return Ok(false),
            // It has ended.
            _ => {}
        }
        self.ensure().await.map(|_| true)
    }

    /// A connection that is upgraded to the line protocol.
    pub(super) async fn lines(&self) -> Result<TokioIo<Upgraded>, ClientError> {
        let headers = [("connection", "upgrade".to_owned()), ("upgrade", LINES_PROTOCOL.to_owned())];
        let answer = self.send("GET", "/lines", &headers, Bytes::new()).await;
        let response = answer.map_err(|error| error.into_client_error(false))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            return Err(match http::read_json(response).await {
                Ok(_) => ClientError::Protocol(format!("/lines: status {status}")),
                Err(error) => error.into_client_error(false),
            });
        }
        let upgraded = hyper::upgrade::on(response).await;
        let broken = |error: hyper::Error| ClientError::Broken { reason: http::describe(&error), uncertain: false };
        Ok(TokioIo::new(upgraded.map_err(broken)?))
    }

    /// Makes a JSON-RPC call. Does not repeat it.
    pub(super) async fn call<P: Serialize + Sync, R: DeserializeOwned>(
        &self,
        method: &str,
        params: &P,
    ) -> Result<R, ClientError> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let body = serde_json::to_vec(&request)
            .map_err(|error| ClientError::Protocol(format!("the parameters cannot be written: {error}")))?;
        let ask = async {
            let request = http::request(&self.config.version, "POST", "/rpc", &[], Bytes::from(body))?;
            self.exchange(request).await
        };
        // An unknown method of a newer host is not repeated, either.
        let uncertain = !MethodDescriptor::of(method).is_some_and(|method| method.idempotent);
        let answer = tokio::time::timeout(CALL_LIMIT, ask)
            .await
            .map_err(|_| ClientError::Broken {
                reason: format!("no answer within {} s", CALL_LIMIT.as_secs()),
                uncertain,
            })?
            .map_err(|error| error.into_client_error(uncertain))?;
        read_answer(method, answer)
    }

    /// Sends a request and reads its answer. Keeps the connection.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Value, SendError> {
        let (response, connection) = self.request(request).await?;
        let answer = http::read_json(response).await?;
        self.keep(connection, Instant::now());
        Ok(answer)
    }

    /// Sends a request and waits for the headers of its answer. The connection ends with the answer.
    pub(super) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Response<Incoming>, SendError> {
        let request = http::request(&self.config.version, method, target, headers, body)?;
        self.request(request).await.map(|(response, _)| response)
    }

    async fn request(&self, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Connection), SendError> {
        let kept = self.kept().take().filter(|(_, since)| since.elapsed() < KEEP_LIMIT);
        http::send(&self.config.socket, kept.map(|(connection, _)| connection), request).await
    }

    /// Keeps a connection for the next request. It has been without one since `since`.
    fn keep(&self, connection: Connection, since: Instant) {
        *self.kept() = Some((connection, since));
    }

    fn kept(&self) -> MutexGuard<'_, Option<(Connection, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Extracts the result of a JSON-RPC response.
fn read_answer<R: DeserializeOwned>(method: &str, mut answer: Value) -> Result<R, ClientError> {
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        let error = http::api_error(&answer).unwrap_or_else(|| {
            ApiError::new(ErrorKind::Internal, format!("the host refused {method} without a reason"))
        });
        return Err(error.into());
    }
    let result = answer
        .get_mut("result")
        .map(Value::take)
        .ok_or_else(|| ClientError::Protocol(format!("{method}: neither a result nor an error")))?;
    serde_json::from_value(result).map_err(|error| ClientError::Protocol(format!("{method}: {error}")))
}
