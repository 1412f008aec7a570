//! Starts a host in the background.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::{ClientError, http};
use ostler_protocol::{ApiError, ErrorKind};

/// The line that a background host writes to its standard error when its socket accepts connections.
pub const READY_LINE: &str = "ostler: ready";

/// Prefix of a line with the current step of a background host that is starting. Each new step extends the time limit.
pub const PROGRESS: &str = "ostler: starting: ";

/// Maximum size of the report that is kept of a starting host, in bytes.
const MAX_REPORT: usize = 64 * 1024;

/// The command that starts a host: a program that outlives its starter, and reports on standard error until it is
/// ready.
///
/// The report has lines that begin with [`PROGRESS`]. It ends with the line [`READY_LINE`], or with the line `{"error":
/// …}` that contains an [`ApiError`] before the program exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCommand {
    /// The program: an absolute path, or a name in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables in addition to those of the caller.
    pub environment: Vec<(OsString, OsString)>,
}

impl HostCommand {
    /// The command of `ostler` that starts a host in the background. `program` is its path, or a name in `PATH`.
    #[must_use]
    pub fn ostler(program: PathBuf) -> Self {
        let args = ["serve", "--background", "--json"].into_iter().map(OsString::from).collect();
        Self { program, args, environment: Vec::new() }
    }
}

/// The outcome of a start.
#[derive(Debug)]
pub(super) enum Launched {
    /// The host accepts connections.
    Ready,
    /// Another host has the lock.
    LockTaken(ApiError),
}

/// Starts a host and waits until it is ready or has failed. Fails if it reports no new step for longer than `limit`.
pub(super) async fn start(
    command: &HostCommand,
    limit: Duration,
    mut progress: impl FnMut(&str),
) -> Result<Launched, ClientError> {
    let failed = |error: io::Error| {
        let message = format!("{}: {error}", command.program.display());
        ClientError::Start(Box::new(ApiError::new(ErrorKind::Io, message)))
    };
    let mut child = spawn(command).map_err(failed)?;
    let pipe = child.stderr.take().ok_or_else(|| failed(io::Error::other("its standard error is closed")))?;
    let mut pipe = Receiver::from_owned_fd(OwnedFd::from(pipe)).map_err(failed)?;
    let mut report = Vec::new();
    let mut open = true;
    let (mut deadline, mut heard) = (Instant::now() + limit, 0);
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    loop {
        let mut buffer = [0; 4096];
        tokio::select! {
            read = pipe.read(&mut buffer), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(count) => keep(&mut report, buffer.get(..count).unwrap_or_default()),
            },
            _ = poll.tick() => {
                // A child of the host may keep the pipe open after the host has ended.
                if let Some(status) = child.try_wait().map_err(failed)? {
                    drain(&pipe, &mut report);
                    return explain_exit(status, &report);
                }
                if Instant::now() >= deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    let seconds = limit.as_secs();
                    let message = format!("it was not ready in time: no progress for {seconds} s{}", quote(&report));
                    let error = ApiError::new(ErrorKind::Internal, message)
                        .hint("try again: the host continues where it was (compiled plugins are kept), and its log has more");
                    return Err(ClientError::Start(Box::new(error)));
                }
            }
        }
        if is_ready(&report) {
            return Ok(Launched::Ready);
        }
        // A repeated step extends the deadline, too: the host repeats it only for a bounded time.
        let steps = steps(&report);
        if steps.len() != heard {
            heard = steps.len();
            deadline = Instant::now() + limit;
            if let Some(step) = steps.last() {
                progress(step);
            }
        }
    }
}

fn spawn(command: &HostCommand) -> io::Result<Child> {
    let mut start = Command::new(&command.program);
    start.args(&command.args).envs(command.environment.iter().map(|(name, value)| (name, value)));
    // Leave the caller's folder, which may be removed or unmounted, and its terminal.
    start.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: between fork and exec only `setsid` and `close_range` are called, which are async-signal-safe and touch
    // no memory.
    unsafe {
        start.pre_exec(|| {
            nix::unistd::setsid()?;
            close_inherited();
            Ok(())
        });
    }
    start.spawn()
}

/// Marks inherited descriptors as close-on-exec, such as those that a build tool left open in the caller. Otherwise the
/// host would keep them open. Standard input, output and error stay.
#[cfg(target_os = "linux")]
fn close_inherited() {
    // SAFETY: no pointer is passed, and marking descriptors close-on-exec in the forked child affects nobody else. An
    // old kernel answers with an error, and they stay open.
    unsafe {
        let _ = nix::libc::close_range(3, nix::libc::c_uint::MAX, nix::libc::CLOSE_RANGE_CLOEXEC as nix::libc::c_int);
    }
}

#[cfg(not(target_os = "linux"))]
fn close_inherited() {}

fn keep(report: &mut Vec<u8>, bytes: &[u8]) {
    report.extend_from_slice(bytes);
    if report.len() > MAX_REPORT {
        // The last lines contain the reason for a failure.
        report.drain(..report.len() - MAX_REPORT);
    }
}

fn drain(pipe: &Receiver, report: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.try_read(&mut buffer) {
        keep(report, buffer.get(..count).unwrap_or_default());
    }
}

/// The steps that the host has reported.
fn steps(report: &[u8]) -> Vec<String> {
    // Only complete lines.
    let end = report.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
    let lines = report.get(..end).unwrap_or_default().split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| Some(String::from_utf8_lossy(line.strip_prefix(PROGRESS.as_bytes())?).into_owned()))
        .collect()
}

fn is_ready(report: &[u8]) -> bool {
    report.split(|byte| *byte == b'\n').any(|line| line == READY_LINE.as_bytes())
}

/// The outcome for a host that ended before it was ready.
fn explain_exit(status: ExitStatus, report: &[u8]) -> Result<Launched, ClientError> {
    let text = String::from_utf8_lossy(report);
    let stated = text.lines().rev().find_map(|line| {
        let document = serde_json::from_str(line).ok()?;
        http::api_error(&document)
    });
    let error = stated
        .unwrap_or_else(|| ApiError::new(ErrorKind::Internal, format!("it ended with {status}{}", quote(report))));
    if error.kind == ErrorKind::Conflict {
        return Ok(Launched::LockTaken(error));
    }
    Err(ClientError::Start(Box::new(error)))
}

/// The last lines of a host that reported no error in the agreed form.
fn quote(report: &[u8]) -> String {
    let text = String::from_utf8_lossy(report);
    let is_text = |line: &&str| !line.trim().is_empty() && !line.starts_with(PROGRESS);
    let tail: Vec<&str> = text.lines().filter(is_text).rev().take(8).collect();
    if tail.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = tail.into_iter().rev().collect();
    format!(": {}", lines.join(" / "))
}
