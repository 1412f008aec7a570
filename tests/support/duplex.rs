//! Clients with open connections: `ostler rpc --stdio` and the WebSocket, without code of the host.

use super::{TIMEOUT, TestHost};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::{Child, ChildStdin, ChildStdout, ExitStatus},
    time::Instant,
};
use tungstenite::{Error, Message, WebSocket, client::IntoClientRequest, error::ProtocolError};

/// A connection that carries JSON-RPC in both directions.
pub trait Duplex {
    /// Sends one message.
    fn send(&mut self, message: &Value);
    /// The next message; `None` at the end.
    fn receive(&mut self) -> Option<Value>;
}

/// Calls over a [`Duplex`], and the events between their answers.
pub struct Peer<D> {
    pub connection: D,
    last: u64,
    events: VecDeque<Value>,
    answers: Vec<Value>,
}

impl<D: Duplex> Peer<D> {
    pub fn new(connection: D) -> Self {
        Self { connection, last: 0, events: VecDeque::new(), answers: Vec::new() }
    }

    /// Sends a call and gives its id.
    pub fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.last += 1;
        self.connection.send(&json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}));
        self.last
    }

    /// Waits for the answer to a call.
    ///
    /// # Panics
    /// If the connection ends before.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(index) = self.answers.iter().position(|answer| answer["id"] == id) {
                return self.answers.remove(index);
            }
            let message = self.connection.receive().expect("the connection ended before the answer");
            self.sort(message);
        }
    }

    /// Calls and gives the result.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let mut answer = self.answer(id);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// Calls and gives the error.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let mut answer = self.answer(id);
        assert!(answer["result"].is_null(), "{method}: {answer}");
        answer["error"].take()
    }

    /// The next event; `None` at the end.
    pub fn event(&mut self) -> Option<Value> {
        while self.events.is_empty() {
            let message = self.connection.receive()?;
            self.sort(message);
        }
        self.events.pop_front()
    }

    /// Events up to the first of a type, that one included.
    #[track_caller]
    pub fn events_until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let event = self.event().unwrap_or_else(|| panic!("no {kind} in {seen:#?}"));
            let found = event["type"] == kind;
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    fn sort(&mut self, mut message: Value) {
        match message["method"].as_str() {
            Some("run_event") => self.events.push_back(message["params"].take()),
            Some(_) => {}
            None => self.answers.push(message),
        }
    }
}

/// `ostler rpc --stdio`
pub struct Stdio {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Stdio {
    pub fn open(host: &TestHost) -> Peer<Self> {
        let mut child = host.command(&["rpc", "--stdio"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Peer::new(Self { child, requests, answers })
    }

    /// Ends standard input.
    pub fn close(&mut self) {
        self.requests = None;
    }

    /// Waits for the end of the command.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Duplex for Stdio {
    fn send(&mut self, message: &Value) {
        writeln!(self.requests.as_mut().unwrap(), "{message}").unwrap();
    }

    fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// A WebSocket over a stream of either kind.
pub struct Web<S>(pub WebSocket<S>);

impl Web<UnixStream> {
    /// Over the host's socket.
    pub fn over_socket(host: &TestHost) -> Peer<Self> {
        Self::try_over_socket(host).expect("the host accepts a WebSocket")
    }

    /// The same; `None` if no host listens, or if it ends in the meantime.
    pub fn try_over_socket(host: &TestHost) -> Option<Peer<Self>> {
        let stream = UnixStream::connect(host.socket()).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request = "ws://ostler/ws".into_client_request().unwrap();
        Some(Peer::new(Self(tungstenite::client(request, stream).ok()?.0)))
    }
}

impl Web<TcpStream> {
    /// Over TCP, with the token.
    pub fn over_tcp(address: &str, token: &str) -> Peer<Self> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Peer::new(Self(tungstenite::client(request, stream).unwrap().0))
    }
}

/// Whether the error means that the other side has closed the connection.
fn is_gone(error: &std::io::Error) -> bool {
    [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind())
}

impl<S: Read + Write> Duplex for Web<S> {
    fn send(&mut self, message: &Value) {
        match self.0.send(Message::text(message.to_string())) {
            // The host was killed: the next read returns the end.
            Err(Error::Io(error)) if is_gone(&error) => {}
            sent => sent.unwrap(),
        }
    }

    fn receive(&mut self) -> Option<Value> {
        let start = Instant::now();
        loop {
            // A host sends pings forever.
            assert!(start.elapsed() < TIMEOUT, "nothing but pings");
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_))
                | Err(
                    Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                ) => return None,
                // The host was killed.
                Err(Error::Io(error)) if is_gone(&error) => return None,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
