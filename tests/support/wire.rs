//! JSON-RPC over the socket of the host: a client that shares no code with the host.

use super::TIMEOUT;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// Where a host listens.
#[derive(Clone, Copy)]
pub enum Endpoint<'a> {
    /// Its socket.
    Socket(&'a Path),
    /// Its port, and an access token.
    Port { address: &'a str, token: &'a str },
}

impl<'a> From<&'a PathBuf> for Endpoint<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::Socket(path)
    }
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Endpoint<'_> {
    fn connect(self) -> io::Result<Box<dyn Stream>> {
        // Both kinds of stream have these methods, but no common trait.
        macro_rules! with_time_limit {
            ($stream:expr) => {{
                let stream = $stream?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Box::new(stream))
            }};
        }
        match self {
            Self::Socket(path) => with_time_limit!(UnixStream::connect(path)),
            Self::Port { address, .. } => with_time_limit!(TcpStream::connect(address)),
        }
    }

    /// The header lines that the host requires.
    fn headers(self) -> String {
        match self {
            Self::Socket(_) => "host: localhost\r\n".to_owned(),
            Self::Port { address, token } => format!("host: {address}\r\nauthorization: Bearer {token}\r\n"),
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// No host, or a broken connection.
    Io(io::Error),
    /// The error in the answer.
    Answer(Value),
}

impl CallError {
    /// The kind of an application error: `NOT_FOUND`.
    pub fn kind(&self) -> &str {
        match self {
            Self::Answer(error) => error["data"]["kind"].as_str().unwrap_or("?"),
            Self::Io(_) => "no answer",
        }
    }

    /// The whole error as text.
    pub fn text(&self) -> String {
        match self {
            Self::Answer(error) => error.to_string(),
            Self::Io(error) => error.to_string(),
        }
    }

    /// The `data` of the error.
    pub fn data(&self) -> &Value {
        match self {
            Self::Answer(error) => &error["data"],
            Self::Io(_) => &Value::Null,
        }
    }
}

/// Calls a method by name.
///
/// # Errors
/// See [`CallError`].
pub fn call<'a>(endpoint: impl Into<Endpoint<'a>>, method: &str, params: &Value) -> Result<Value, CallError> {
    let frame = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let (_, body) = post(endpoint, frame.as_bytes()).map_err(CallError::Io)?;
    let mut answer: Value = serde_json::from_slice(&body)
        .map_err(|error| CallError::Io(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(CallError::Answer(answer["error"].take())) }
}

/// Sends any frame and gives the status and the body of the answer.
///
/// # Errors
/// If there is no host, or the connection breaks.
pub fn post<'a>(endpoint: impl Into<Endpoint<'a>>, frame: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let head = format!("POST /rpc HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", frame.len());
    ask(endpoint.into(), &head, frame)
}

/// The answer of the health check.
///
/// # Errors
/// If there is no host, or the connection breaks.
pub(super) fn health<'a>(endpoint: impl Into<Endpoint<'a>>) -> io::Result<Value> {
    let (_, body) = ask(endpoint.into(), "GET /healthz HTTP/1.1\r\n", &[])?;
    Ok(serde_json::from_slice(&body)?)
}

/// The event stream of a query (`after=3&follow=0`), as text, to its end.
///
/// # Panics
/// If the host does not answer, or refuses the request.
#[track_caller]
pub fn events<'a>(endpoint: impl Into<Endpoint<'a>>, query: &str) -> String {
    let (status, body) = ask(endpoint.into(), &format!("GET /events?{query} HTTP/1.1\r\n"), &[]).unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

/// Every stored event that matches the query: `conversationId=…`.
#[track_caller]
pub fn stored_events<'a>(endpoint: impl Into<Endpoint<'a>>, query: &str) -> Vec<Value> {
    let text = events(endpoint, &format!("follow=0&{query}"));
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let events = lines.filter_map(|line| serde_json::from_str::<Value>(line.trim_start()).ok());
    events.filter(|event| event["cursor"].is_u64() && event["type"].is_string()).collect()
}

/// One request on a new connection: status and body of the answer.
fn ask(endpoint: Endpoint<'_>, head: &str, frame: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = endpoint.connect()?;
    stream.write_all(format!("{head}{}connection: close\r\n\r\n", endpoint.headers()).as_bytes())?;
    // A host that refuses a frame for its size answers before it has read it all.
    let sent = stream.write_all(frame);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        sent?;
        read?;
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    let body = &answer[split + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_vec() };
    Ok((status, body))
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&body[..end]);
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(part) = body.get(end + 2..end + 2 + size).filter(|part| !part.is_empty()) else { break };
        whole.extend_from_slice(part);
        body = body.get(end + 4 + size..).unwrap_or_default();
    }
    whole
}
