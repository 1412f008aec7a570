//! Real processes under a real zygote.
//!
//! The zygote may not be forked from a test: the harness has threads. So each test launches its own by executing this
//! very test binary with an argument that is handled before the harness starts, while there is one thread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod descendants;
mod files;
mod host_death;
mod life;
mod measure;
mod sandbox;
mod start;
mod streams;
mod terminal;
mod terminal_sandbox;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// The arguments that make this test binary run only the test of that name, in its main thread.
pub(super) fn only(name: &str) -> Vec<OsString> {
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = format!("{module}::{name}");
    [&test, "--exact", "--ignored", "--nocapture", "--test-threads=1"].iter().map(OsString::from).collect()
}

/// The argument that makes this binary a zygote.
pub(super) const SERVE: &str = "--as-zygote";
/// The argument that makes this binary a host that forks its zygote.
pub(super) const FORK: &str = "--as-forking-host";

/// Runs before `main` and its threads.
#[used]
// SAFETY: a list of functions that the C library calls with a set-up process; this one has the right type.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let arguments = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let asked = arguments.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    if asked == SERVE.as_bytes() {
        serve_zygote();
    }
    if asked == INIT_VERB.as_bytes() {
        let args = arguments.split(|byte| *byte == 0).skip(2).filter(|argument| !argument.is_empty());
        serve_as_init(args.map(|argument| OsStr::from_bytes(argument).to_owned()));
    }
    if asked == FORK.as_bytes() {
        start::run_forking_host();
        std::process::exit(0);
    }
}

/// A zygote for a test; used by tests of other modules, too.
pub(crate) fn zygote() -> Zygote {
    let program = std::env::current_exe().unwrap();
    Zygote::launch(&program, &[SERVE.into()]).unwrap()
}

pub(super) fn marker() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A shell that runs `script`, in `/`, with a small environment.
pub(super) fn shell(script: &str) -> SpawnSpec {
    SpawnSpec {
        executable: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        environment: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        cwd: PathBuf::from("/"),
        cwd_identity: None,
        sandbox: Sandbox::default(),
        marker: marker(),
        stdin: Stdin::Bytes(Vec::new()),
        terminal: None,
        limits: SpawnLimits { linger: Duration::from_millis(200), ..SpawnLimits::default() },
    }
}

pub(super) fn start(zygote: &Zygote, spec: &SpawnSpec) -> Child {
    zygote.prepare(spec).unwrap().start().unwrap()
}

/// Everything that a child reported.
#[derive(Debug, Default)]
pub(super) struct Reported {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) exits: Vec<Exit>,
    pub(super) ends: Vec<Stream>,
    pub(super) stdin: Vec<Event>,
    pub(super) contained: Contained,
}

impl Reported {
    pub(super) fn status(&self) -> ExitStatus {
        let [exit] = self.exits.as_slice() else { panic!("not exactly one exit: {self:?}") };
        exit.status
    }

    pub(super) fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Output { stream: Stream::Stdout, bytes } => self.stdout.extend(bytes),
            Event::Output { stream: Stream::Stderr, bytes } => self.stderr.extend(bytes),
            Event::Exited(exit) => self.exits.push(exit),
            Event::EndOfStream(stream) => self.ends.push(stream),
            event @ (Event::StdinClosed | Event::StdinFailed { .. }) => self.stdin.push(event),
            Event::Contained(contained) => {
                self.contained = contained;
                return true;
            }
            Event::Woken | Event::Deadline => panic!("unexpected {event:?}"),
        }
        false
    }
}

/// Follows a child with pipes to its end, which must come within ten seconds.
pub(super) fn follow(child: &mut Child) -> Reported {
    let reported = follow_streams(child);
    assert_eq!(reported.ends.len(), 2, "{reported:?}");
    reported
}

/// Follows a child to its end, which must come within ten seconds.
pub(super) fn follow_streams(child: &mut Child) -> Reported {
    let mut reported = Reported::default();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let event = child.next(Some(deadline));
        assert_ne!(event, Event::Deadline, "the child does not end: {reported:?}");
        if reported.take(event) {
            break;
        }
    }
    assert_eq!(reported.exits.len(), 1, "{reported:?}");
    reported
}

pub(super) fn run(zygote: &Zygote, script: &str) -> Reported {
    follow(&mut start(zygote, &shell(script)))
}

/// Reads standard output until it holds `count` whole lines.
pub(super) fn lines(child: &mut Child, count: usize) -> Vec<String> {
    let mut text = String::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while text.matches('\n').count() < count {
        match child.next(Some(deadline)) {
            Event::Output { stream: Stream::Stdout, bytes } => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Event::StdinClosed => {}
            other => panic!("waiting for {count} lines, having {text:?}: {other:?}"),
        }
    }
    text.lines().map(str::to_owned).collect()
}

pub(super) fn marked(marker: &str) -> Vec<i32> {
    let all = linux::all_processes().into_iter();
    all.filter(|process| process.alive && linux::has_marker(process.pid, marker)).map(|process| process.pid).collect()
}

/// Waits until no process carries the marker.
pub(super) fn expect_none(marker: &str, within: Duration) {
    let deadline = Instant::now() + within;
    while !marked(marker).is_empty() {
        assert!(Instant::now() < deadline, "still alive: {:?}", marked(marker));
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn write_file(path: &Path, content: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
