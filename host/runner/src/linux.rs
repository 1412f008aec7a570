//! What only Linux has: `/proc`, subreapers, `close_range`, descriptors for signals and events.
//!
//! A port to another system writes a counterpart with the same functions.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use ostler_protocol::MARKER_VARIABLE;

/// The number of an error of the standard library.
pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A process, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Clock ticks since boot.
    pub(super) start_ticks: u64,
    pub(super) name: String,
    /// Whether any of its threads still exists; a zombie's does not.
    pub(super) alive: bool,
}

/// The size of `/proc/PID/stat`, in bytes, at most: 51 numbers of up to 20 digits, and a name.
const MAX_STAT: usize = 2048;

/// Describes one process; None if no process has that id.
pub(super) fn process(pid: i32) -> Option<Process> {
    let mut stat = [0; MAX_STAT];
    // The kernel writes the line into one read, if it fits. Every connection to the host needs several of these lines.
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    parse_stat(stat.get(..length)?)
}

/// All processes that this one may see. Not a snapshot: processes start and end while the list is read.
pub(super) fn all_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// Parses `pid (name) state ppid …`; the name may contain any character, parentheses included.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.get(..open)?).ok()?.trim().parse().ok()?;
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    // The fields after the name, beginning with the third of the manual page, `state`.
    let fields: Vec<&str> = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    let threads: u64 = fields.get(17)?.parse().ok()?;
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        name,
        // A leader that ended before its threads looks like a zombie, too.
        alive: !matches!(state, "Z" | "X" | "x") || threads > 1,
    })
}

/// Whether the process was started with this run's marker. False where its environment cannot be read.
pub(super) fn has_marker(pid: i32, marker: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let wanted = format!("{MARKER_VARIABLE}={marker}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// Identifies the current boot; empty if it cannot be read.
pub(super) fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}

/// How many threads this process has.
pub(super) fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Orphaned descendants become this process's children from now on.
pub(super) fn become_subreaper() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// The name that `ps` and `top` show.
pub(super) fn set_process_name(name: &std::ffi::CStr) {
    let _ = nix::sys::prctl::set_name(name);
}

/// Closes every descriptor from 3 on but those of `keep`.
pub(super) fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= 3).collect();
    keep.sort_unstable();
    let mut first: RawFd = 3;
    for fd in keep.into_iter().chain([RawFd::MAX]) {
        if fd > first {
            close_between(first, fd - 1);
        }
        first = fd.saturating_add(1);
    }
}

fn close_between(first: RawFd, last: RawFd) {
    // SAFETY: takes numbers only. The caller is a process just forked that never uses the owners of these descriptors.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed == 0 {
        return;
    }
    // A kernel before 5.9, or a filter on system calls.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: as above; closing what `read_dir` itself had open merely fails.
        unsafe { libc::close(fd) };
    }
}

/// Enlarges a pipe, so that a busy writer and its reader switch less often. A failure is ignored.
pub(super) fn enlarge_pipe(pipe: impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(super::child::READ_SIZE as i32));
}

/// SIGCHLD as a descriptor: blocks the signal and becomes readable when a child has ended.
#[derive(Debug)]
pub(super) struct ChildWatch(SignalFd);

impl ChildWatch {
    pub(super) fn new() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// Discards the pending signals.
    pub(super) fn drain(&self) {
        while matches!(self.0.read_signal(), Ok(Some(_))) {}
    }
}

impl AsFd for ChildWatch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor by which one thread wakes another that polls.
#[derive(Debug)]
pub(super) struct WakeFd(EventFd);

impl WakeFd {
    pub(super) fn new() -> nix::Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    pub(super) fn wake(&self) {
        // A full counter means that a wake-up is pending already.
        let _ = self.0.write(1);
    }

    pub(super) fn drain(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A handle of one process that no later process of the same id can take over.
#[derive(Debug)]
pub(super) struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// Opens the process if it is the one that started at `start_ticks`.
    pub(super) fn open(pid: i32, start_ticks: u64) -> Option<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: takes numbers only and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(Errno::result(fd).ok()?).ok()?;
        // SAFETY: the descriptor is new and has no other owner.
        let handle = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // Checked after opening: the handle refers to the process that had the id at that moment.
        process(pid).filter(|process| process.start_ticks == start_ticks).map(|_| handle)
    }

    pub(super) fn signal(&self, signal: Signal) -> nix::Result<()> {
        use std::os::fd::AsRawFd;
        let info = std::ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: a valid descriptor, a signal's number, no info.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, info, 0) };
        Errno::result(sent).map(drop)
    }
}

/// Signals the process only if it is the one that started at `start_ticks`.
pub(super) fn signal_exactly(pid: i32, start_ticks: u64, signal: Signal) -> nix::Result<()> {
    match ProcessHandle::open(pid, start_ticks) {
        Some(handle) => handle.signal(signal),
        None => Err(Errno::ESRCH),
    }
}

/// Reads what is in a file, at most `limit` bytes and one more.
pub(super) fn read_limited(file: fs::File, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn stat_with_parentheses_and_spaces_in_the_name_is_parsed() {
        let stat = b"12 (a) b (c)) S 7 1 1 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 998877 1 2 3";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.start_ticks), (12, 7, 998_877));
        assert_eq!((process.name.as_str(), process.alive), ("a) b (c)", true));
    }

    #[test]
    fn own_process_is_found() {
        let pid = std::process::id() as i32;
        let found = process(pid).unwrap();
        assert!(found.alive);
        assert!(all_processes().iter().any(|other| other.pid == pid && other.start_ticks == found.start_ticks));
        assert!(ProcessHandle::open(pid, found.start_ticks).is_some());
        assert!(ProcessHandle::open(pid, found.start_ticks + 1).is_none());
    }

    #[test]
    fn zombie_leader_with_threads_is_alive() {
        let line =
            |state: &str, threads: u32| format!("1 (x) {state} 0 1 1 0 -1 0 1 0 0 0 3 4 0 0 20 0 {threads} 0 5 1");
        assert!(!parse_stat(line("Z", 1).as_bytes()).unwrap().alive);
        assert!(parse_stat(line("Z", 2).as_bytes()).unwrap().alive);
    }
}
