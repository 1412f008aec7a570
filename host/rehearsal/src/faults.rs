//! Misbehaviour with helper processes or raw output.
//!
//! The helper processes run this program with `--extra`: so nothing is forked, and each of them has the environment by
//! which its owner finds it.

use super::{VERB, protocol::Out};
use nix::unistd::{getpid, setsid};
use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// The role of a helper process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Starts an idle process and exits, so that the idle process loses its parent.
    Daemonize { seconds: u64 },
    /// Leaves its session, prints its pid, keeps standard error open and sleeps.
    Idle { seconds: u64 },
    /// Node of a tree of `processes`; prints the pids of all of them, one per line, then sleeps.
    Tree { processes: u64, seconds: u64 },
}

impl Role {
    /// Reads `kind:number[:number]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let numbers: Option<Vec<u64>> = parts.map(|part| part.parse().ok()).collect();
        match (kind, numbers.as_deref()) {
            ("daemonize", Some([seconds])) => Ok(Self::Daemonize { seconds: *seconds }),
            ("idle", Some([seconds])) => Ok(Self::Idle { seconds: *seconds }),
            ("tree", Some([processes, seconds])) => Ok(Self::Tree { processes: *processes, seconds: *seconds }),
            _ => Err(format!("'--extra {text}' is not a role")),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Daemonize { seconds } => format!("daemonize:{seconds}"),
            Self::Idle { seconds } => format!("idle:{seconds}"),
            Self::Tree { processes, seconds } => format!("tree:{processes}:{seconds}"),
        }
    }
}

/// Runs a role and returns the exit code.
pub(super) fn act_as(role: Role) -> u8 {
    let done = match role {
        Role::Daemonize { seconds } => daemonize(seconds),
        Role::Idle { seconds } => idle(seconds),
        Role::Tree { processes, seconds } => tree_node(processes, seconds),
    };
    u8::from(done.is_err())
}

/// Starts this program again, with a pipe to read its pids from. Standard error stays the parent's; `stdin` is only kept
/// open.
fn start(role: Role, stdin: Stdio) -> io::Result<Child> {
    // The link works even if the file has been replaced since.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() { own.to_path_buf() } else { env::current_exe().unwrap_or_else(|_| PathBuf::new()) };
    Command::new(program).arg(VERB).arg(format!("--extra={}", role.name())).stdin(stdin).stdout(Stdio::piped()).spawn()
}

fn lines(child: &mut Child) -> io::Result<Vec<String>> {
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe to the new process"))?;
    BufReader::new(stdout).lines().collect()
}

/// Prints a text on standard output and closes it, so that the reader sees the end although this process continues.
fn report(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

fn daemonize(seconds: u64) -> io::Result<()> {
    let pids = lines(&mut start(Role::Idle { seconds }, Stdio::inherit())?)?;
    report(&format!("{}\n", pids.join("\n")))
}

fn idle(seconds: u64) -> io::Result<()> {
    setsid()?;
    report(&format!("{}\n", getpid()))?;
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn tree_node(processes: u64, seconds: u64) -> io::Result<()> {
    // Every other process leaves group and session, as tools' shells do.
    if processes.is_multiple_of(2) {
        setsid()?;
    }
    let mut children = start_below(processes, seconds)?;
    let mut text = format!("{}\n", getpid());
    for child in &mut children {
        for pid in lines(child)? {
            text.push_str(&pid);
            text.push('\n');
        }
    }
    report(&text)?;
    for mut child in children {
        child.wait()?;
    }
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

/// Starts the processes below a node that is itself one of `processes`.
fn start_below(processes: u64, seconds: u64) -> io::Result<Vec<Child>> {
    let below = processes.saturating_sub(1);
    [below.div_ceil(2), below / 2]
        .into_iter()
        .filter(|size| *size > 0)
        .map(|processes| start(Role::Tree { processes, seconds }, Stdio::null()))
        .collect()
}

/// Leaves a daemon that keeps this process's output open. Returns its pid once it runs.
pub(super) fn orphan(seconds: u64) -> io::Result<String> {
    // Passed as standard input, which is not read, only to keep the pipe open.
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let mut middle = start(Role::Daemonize { seconds }, output.into())?;
    let pids = lines(&mut middle)?;
    middle.wait()?;
    Ok(pids.join(" "))
}

/// A tree of processes below this one, which is its root.
pub(super) struct Tree {
    children: Vec<Child>,
    pub(super) pids: Vec<String>,
}

impl Tree {
    /// Returns when all of them run.
    pub(super) fn start(processes: u64, seconds: u64) -> io::Result<Self> {
        let mut children = start_below(processes, seconds)?;
        let mut pids = vec![getpid().to_string()];
        for child in &mut children {
            pids.extend(lines(child)?);
        }
        Ok(Self { children, pids })
    }

    /// Waits until all of them have ended.
    pub(super) fn wait(self) -> io::Result<()> {
        for mut child in self.children {
            child.wait()?;
        }
        Ok(())
    }
}

/// Writes one protocol line with a text of `kib` KiB, without building it in memory.
pub(super) fn long_line(out: &Out, kib: u64) -> io::Result<()> {
    let block = "0123456789abcdef".repeat(64);
    out.streamed(|writer| {
        writer.write_all(br#"{"type":"text","message":"line","text":""#)?;
        for _ in 0..kib {
            writer.write_all(block.as_bytes())?;
        }
        writer.write_all(b"\"}\n")
    })
}

/// Writes `mib` MiB of plain lines of 100 bytes.
pub(super) fn flood(out: &Out, mib: u64) -> io::Result<()> {
    let mut number: u64 = 0;
    let mut block = String::new();
    let mut left = mib.saturating_mul(1024 * 1024);
    while left > 0 {
        block.clear();
        while block.len() < 64 * 1024 {
            number += 1;
            block.push_str(&format!("line {number:010} "));
            block.push_str("of a build that goes on and on and says nothing that anyone would want to read,..");
            block.push('\n');
        }
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        out.bytes(block.as_bytes().get(..take).unwrap_or_default())?;
        left -= take as u64;
    }
    out.bytes(b"\n")
}

/// Writes bytes that are not UTF-8: in a plain line, in a protocol line, and on standard error; lone bytes, a character
/// cut short, an over-long form and a surrogate.
pub(super) fn raw(out: &Out) -> io::Result<()> {
    const INVALID: &[u8] = b"lone \xff\xfe cut \xe2\x82 long \xc0\xaf surrogate \xed\xa0\x80 end";
    let line = |before: &[u8], after: &[u8]| [before, INVALID, after].concat();
    out.bytes(&line(b"raw: ", b"\n"))?;
    out.bytes(&line(br#"{"type":"text.delta","message":"raw","text":""#, b"\"}\n"))?;
    io::stderr().write_all(&line(b"raw: ", b"\n"))
}

/// Waits until this process is killed, at most this long.
pub(super) fn linger(seconds: u64) {
    // In one sleep: an ignored signal does not even wake it.
    thread::sleep(Duration::from_secs(seconds));
}
