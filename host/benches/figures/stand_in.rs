//! The stand-in agent without a host: its two-way protocol over the pipes of a child.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::client::TIMEOUT;

/// The times of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// From the message to the first piece of the answer.
    pub(crate) first_delta: Duration,
    /// From the first use of a tool to the end of the turn.
    pub(crate) tools: Duration,
    /// Number of uses that were allowed, and of those that were denied.
    pub(crate) allowed: usize,
    pub(crate) denied: usize,
}

/// The times at which the parts of a turn arrive.
pub(crate) struct Watch {
    begun: Instant,
    first_delta: Option<Instant>,
    first_tool: Option<Instant>,
    allowed: usize,
    denied: usize,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), first_delta: None, first_tool: None, allowed: 0, denied: 0 }
    }

    /// A piece of the answer has arrived.
    pub(crate) fn delta(&mut self, at: Instant) {
        self.first_delta.get_or_insert(at);
    }

    /// The use of a tool was announced.
    pub(crate) fn tool(&mut self, at: Instant) {
        self.first_tool.get_or_insert(at);
    }

    /// A use of a tool has ended.
    pub(crate) fn result(&mut self, denied: bool) {
        if denied {
            self.denied += 1;
        } else {
            self.allowed += 1;
        }
    }

    /// The turn has ended.
    pub(crate) fn end(self, at: Instant) -> Turn {
        let first_delta = self.first_delta.expect("a piece of the answer").duration_since(self.begun);
        let tools = self.first_tool.map(|first| at.duration_since(first)).unwrap_or_default();
        Turn { first_delta, tools, allowed: self.allowed, denied: self.denied }
    }
}

/// A conversation with the stand-in. The child is ended when this is dropped.
pub(crate) struct StandIn {
    child: Child,
    input: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl StandIn {
    /// Starts it as the plugin does: `program` is the binary of the host, `args` are further options.
    pub(crate) fn start(program: &Path, sessions: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(["__rehearse", "--talk", "--ask"]).arg("--sessions").arg(sessions).args(args);
        command.current_dir(sessions).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stand_in = Self { child, input, lines: BufReader::new(output) };
        stand_in.send(&json!({"type": "hello", "request": "hello"}));
        while stand_in.line().1["type"] != "answer" {}
        stand_in
    }

    /// Sends a message, answers everything that the stand-in asks at once, and waits until it is idle again.
    pub(crate) fn turn(&mut self, prompt: &str, allow: bool) -> Turn {
        let mut watch = Watch::start();
        self.send(&json!({"type": "prompt", "text": prompt}));
        let mut ended = None;
        loop {
            let (at, line) = self.line();
            match line["type"].as_str().unwrap_or_default() {
                "text.delta" => watch.delta(at),
                "tool.start" => watch.tool(at),
                "tool.result" => watch.result(line["error"] == true),
                "ask" => self.send(&json!({"type": "decision", "ask": line["ask"], "allow": allow})),
                "turn" => {
                    assert_eq!(line["status"], "completed", "{line}");
                    ended = Some(at);
                }
                "state" if line["state"] == "idle" => return watch.end(ended.expect("the end of the turn")),
                _ => {}
            }
        }
    }

    fn send(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    /// The next line, and the time of its arrival.
    fn line(&mut self) -> (Instant, Value) {
        if self.lines.buffer().is_empty() {
            let limit = PollTimeout::try_from(TIMEOUT).unwrap();
            let mut output = [PollFd::new(self.lines.get_ref().as_fd(), PollFlags::POLLIN)];
            assert!(poll(&mut output, limit).unwrap() > 0, "the stand-in is silent");
        }
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stand-in has ended");
        (Instant::now(), serde_json::from_str(&line).unwrap())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
