//! A command whose output is read while it runs.

use super::{TIMEOUT, processes};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Instant,
};

/// A running command. It is killed when this is dropped.
pub struct Follower {
    child: Child,
    lines: Receiver<String>,
    stderr: Receiver<String>,
    seen: Vec<Value>,
}

impl Follower {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (sender, stderr) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
        Self { child, lines, stderr, seen: Vec::new() }
    }

    /// The next line of standard output; `None` at its end.
    ///
    /// # Panics
    /// If no line comes in time.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(TIMEOUT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing came; so far {:#?}", self.seen),
        }
    }

    /// Reads events up to the first that matches, and gives it.
    ///
    /// # Panics
    /// If the output ends first, or the time is over.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        while let Some(line) = self.line() {
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            self.seen.push(event.clone());
            if wanted(&event) {
                return event;
            }
            assert!(start.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
        }
        let errors = self.stderr.recv_timeout(TIMEOUT).unwrap_or_default();
        panic!("{what}: the output ended first; events {:#?}\nstderr {errors}", self.seen)
    }

    /// Waits until an event of this type comes, and gives it.
    #[track_caller]
    pub fn wait_for_type(&mut self, kind: &str) -> Value {
        self.wait_for(kind, |event| event["type"] == kind)
    }

    /// Reads plain lines up to the first that contains `part`.
    #[track_caller]
    pub fn wait_for_text(&mut self, part: &str) -> String {
        while let Some(line) = self.line() {
            if line.contains(part) {
                return line;
            }
        }
        let errors = self.stderr.recv_timeout(TIMEOUT).unwrap_or_default();
        panic!("no line with {part:?} came\nstderr {errors}")
    }

    /// Events read so far.
    pub fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// The id of the run, from the first event that names one.
    pub fn run_id(&self) -> String {
        let id = self.seen.iter().find_map(|event| event["runId"].as_str());
        id.expect("no event has named the run yet").to_owned()
    }

    /// Sends a signal to the process group of the command, which must have its own, like Ctrl-C on a terminal.
    pub fn signal_group(&self, signal: Signal) {
        processes::signal(-i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: Signal) {
        processes::signal(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Waits for the end: exit code (128 and the number for a signal), the rest of standard output, standard error.
    #[track_caller]
    pub fn finish(mut self) -> (i32, Vec<String>, String) {
        let mut rest = Vec::new();
        while let Some(line) = self.line() {
            rest.push(line);
        }
        let status = self.child.wait().unwrap();
        let errors = self.stderr.recv_timeout(TIMEOUT).unwrap_or_default();
        (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), rest, errors)
    }

    /// Kills the command.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
