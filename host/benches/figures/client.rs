//! A fast client on the socket of the host: requests over one connection, and an event stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

/// The longest wait for an answer or an event.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection that is kept open between calls.
pub(crate) struct Connection {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> std::io::Result<Self> {
        let writer = UnixStream::connect(socket)?;
        writer.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { reader: BufReader::new(writer.try_clone()?), writer })
    }

    /// Calls a method and gives its result.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let frame = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let request = format!(
            "POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{frame}",
            frame.len()
        );
        self.writer.write_all(request.as_bytes()).unwrap();
        let length = read_head(&mut self.reader).expect("an answer with a length");
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// Submits a run of a provider and gives its id.
    pub(crate) fn submit(&mut self, provider: &str, prompt: &str, cwd: &Path) -> String {
        let result = self.call("start_run", &json!({"provider": provider, "prompt": prompt, "cwd": cwd}));
        result["runId"].as_str().unwrap().to_owned()
    }
}

/// Reads the head of an answer; returns the length of its body if the head contains it.
fn read_head(reader: &mut impl BufRead) -> Option<usize> {
    let mut length = None;
    let mut line = String::new();
    loop {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the host closed the connection");
        let line = line.trim_end();
        if line.is_empty() {
            return length;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
}

/// An event, and the time of its arrival.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) clock: SystemTime,
    pub(crate) event: Value,
}

impl Seen {
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.event["type"] == kind
    }

    pub(crate) fn run(&self) -> &str {
        self.event["runId"].as_str().unwrap_or_default()
    }

    /// Whether it is the terminal event of its run.
    pub(crate) fn ends(&self) -> bool {
        ["run.completed", "run.failed", "run.canceled"].iter().any(|kind| self.is(kind))
    }
}

/// Follows the events from now on; `query` filters them. The thread ends with the host.
pub(crate) fn subscribe(socket: &Path, query: &str) -> Receiver<Seen> {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET /events{query} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    assert_eq!(read_head(&mut reader), None, "the stream has an end");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let (mut line, mut chunk, mut pending) = (String::new(), Vec::new(), Vec::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            chunk.resize(size + 2, 0);
            if size == 0 || reader.read_exact(&mut chunk).is_err() {
                return;
            }
            let (at, clock) = (Instant::now(), SystemTime::now());
            pending.extend_from_slice(&chunk[..size]);
            while let Some(end) = pending.windows(2).position(|window| window == b"\n\n") {
                let record: Vec<u8> = pending.drain(..end + 2).collect();
                let data = record.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
                let Some(data) = data else { continue };
                let event = serde_json::from_slice(data).unwrap();
                if sender.send(Seen { at, clock, event }).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// Events up to the one that `last` accepts, that one included.
pub(crate) fn events_until(events: &Receiver<Seen>, mut last: impl FnMut(&Seen) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let event = events.recv_timeout(TIMEOUT).expect("an event");
        let done = last(&event);
        seen.push(event);
        if done {
            return seen;
        }
    }
}
