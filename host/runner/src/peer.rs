//! Finds out whether a process that connects belongs to a run.
//!
//! Everything that a run starts stays below its keeper, and what a killed keeper leaves behind below the zygote: both
//! are subreapers, and both are below the host. So a walk along the parents of a peer meets one of them exactly if the
//! peer belongs to a run. The walk ends at the first ancestor that the host has too: a host that was itself started
//! inside a run of another host serves that run.
//!
//! Where keeper and zygote were both killed, the walk leads past them; then the marker in the environment decides,
//! unless the process has replaced its environment. The containment of the run closes that gap.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::linux::{self, Process};
use ostler_protocol::MARKER_VARIABLE;

/// The names that zygotes and keepers give themselves.
const SUPERVISORS: [&str; 2] = ["ostler-keeper", "ostler-zygote"];

/// Longest chain of parents that is followed.
const MAX_DEPTH: usize = 4096;

/// How often a walk is repeated if the processes changed during it.
const TRIES: usize = 5;

/// `SO_PEERPIDFD` of Linux 6.5, which libc does not name for every target.
const SO_PEERPIDFD: libc::c_int = 77;

/// Whether a peer belongs to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It belongs to no run of this host.
    Outside,
    /// It belongs to a run, or to the host itself.
    OfRun,
    /// Not known: the process has ended, or is not visible from here.
    Unknown,
}

/// Maximum number of processes that are remembered as outside of all runs.
const MAX_REMEMBERED: usize = 1024;

/// Decides about the peers of a unix socket.
///
/// Remembers the processes that a walk has passed outside of all runs: mostly the shells of a user, from which the next
/// peers come. A process never gets into a run later: a new parent is one that was above it before, or process 1 of a PID
/// namespace that a process outside has entered.
#[derive(Debug, Default)]
pub struct Peers {
    /// Start times by process id: another process may get the id later.
    outside: Mutex<HashMap<i32, u64>>,
}

impl Peers {
    /// Whether the process at the other end of a unix socket belongs to a run. `pid` comes from `SO_PEERCRED`; None or 0
    /// means a process of another PID namespace.
    #[must_use]
    pub fn standing(&self, socket: &impl AsFd, pid: Option<i32>) -> Standing {
        let Some(pid) = pid.filter(|pid| *pid > 0) else { return Standing::Unknown };
        // Taken first: while it says that the process lives, no other process can have its id.
        let handle = peer_handle(socket);
        // An older kernel has no handle: the same id with the same start time is taken for the same process.
        let first = handle.is_none().then(|| linux::process(pid)).flatten();
        let standing = self.standing_of(pid);
        let same = match &handle {
            Some(handle) => !has_ended(handle),
            None => match (first, linux::process(pid)) {
                (Some(before), Some(now)) => before.start_ticks == now.start_ticks,
                _ => false,
            },
        };
        match standing {
            Standing::Outside if !same => Standing::Unknown,
            standing => standing,
        }
    }

    fn standing_of(&self, pid: i32) -> Standing {
        let own = std::process::id().cast_signed();
        // The peer itself must be visible; of those above it, other users' processes need not be.
        let Some(peer) = linux::process(pid) else { return Standing::Unknown };
        let walk = if self.is_child_of_outside(&peer, own, &linux::process) {
            Walk::Outside(Vec::new())
        } else {
            let walks = std::iter::repeat_with(|| {
                let above = chain(own, &look).unwrap_or_default().into_iter().skip(1);
                walk(pid, own, &above.map(|process| (process.pid, process.start_ticks)).collect(), &look)
            });
            walks.take(TRIES).find(|walk| *walk != Walk::Unknown).unwrap_or(Walk::Unknown)
        };
        match walk {
            Walk::Unknown => Standing::Unknown,
            Walk::OfRun => Standing::OfRun,
            // Checked last: a process of a run can block a reader of its environment.
            Walk::Outside(_) if carries_foreign_marker(pid) => Standing::OfRun,
            Walk::Outside(passed) => {
                self.remember(passed);
                Standing::Outside
            }
        }
    }

    /// Whether the parent of a process is remembered as outside, so that the process is outside as well.
    fn is_child_of_outside(&self, peer: &Process, own: i32, look: &dyn Fn(i32) -> Option<Process>) -> bool {
        let Some(start) = self.outside().get(&peer.parent).copied() else { return false };
        let is_same_parent = || look(peer.parent).is_some_and(|parent| parent.start_ticks == start);
        !is_supervisor(peer, own) && is_same_parent() && is_unchanged(peer, look)
    }

    fn remember(&self, passed: Vec<Process>) {
        // What is above a hidden process may be a run.
        if passed.len() > MAX_REMEMBERED || passed.iter().any(is_hidden) {
            return;
        }
        let mut outside = self.outside();
        if outside.len() + passed.len() > MAX_REMEMBERED {
            outside.clear();
        }
        outside.extend(passed.into_iter().map(|process| (process.pid, process.start_ticks)));
    }

    fn outside(&self) -> MutexGuard<'_, HashMap<i32, u64>> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process. One that `/proc` hides, because it belongs to another user, is returned as the end of a chain. Supervisors
/// and children of a run belong to this user.
fn look(pid: i32) -> Option<Process> {
    linux::process(pid).or_else(|| {
        let hidden = kill(Pid::from_raw(pid), None) == Err(Errno::EPERM);
        hidden.then(|| Process { pid, parent: 0, start_ticks: 0, name: String::new(), alive: true })
    })
}

/// Whether [`look`] has found no more than that the process exists. The start time of process 1 can be 0 as well.
fn is_hidden(process: &Process) -> bool {
    process.start_ticks == 0 && process.name.is_empty()
}

/// Whether everything below a process belongs to a run.
fn is_supervisor(process: &Process, own: i32) -> bool {
    process.pid == own || SUPERVISORS.contains(&process.name.as_str())
}

/// The result of a walk along the parents of a process.
#[derive(Debug, PartialEq, Eq)]
enum Walk {
    /// It met a supervisor.
    OfRun,
    /// It met none. The processes above the first one are outside as well.
    Outside(Vec<Process>),
    /// A process could not be seen, or changed meanwhile.
    Unknown,
}

/// Whether a process still is what it was, with the same parent: the parent may have ended, and another process may have
/// got its id.
fn is_unchanged(seen: &Process, look: &dyn Fn(i32) -> Option<Process>) -> bool {
    look(seen.pid).is_some_and(|now| now.start_ticks == seen.start_ticks && now.parent == seen.parent)
}

/// Walks along the parents of a process. `above` are the processes above the host, with their start times.
fn walk(pid: i32, own: i32, above: &HashSet<(i32, u64)>, look: &dyn Fn(i32) -> Option<Process>) -> Walk {
    let Some(mut chain) = chain(pid, look) else { return Walk::Unknown };
    let is_above = |process: &Process| above.contains(&(process.pid, process.start_ticks));
    let end = chain.iter().position(is_above).unwrap_or(chain.len());
    if chain.iter().take(end).any(|process| is_supervisor(process, own)) {
        return Walk::OfRun;
    }
    if !chain.iter().all(|seen| is_unchanged(seen, look)) {
        return Walk::Unknown;
    }
    // What is above the first common process may be a run of another host.
    chain.truncate(end + 1);
    chain.remove(0);
    Walk::Outside(chain)
}

/// A process and all above it; None where one of them cannot be seen.
fn chain(pid: i32, look: &dyn Fn(i32) -> Option<Process>) -> Option<Vec<Process>> {
    let (mut chain, mut next) = (Vec::new(), pid);
    while next > 0 {
        if chain.len() >= MAX_DEPTH {
            return None;
        }
        let process = look(next)?;
        next = process.parent;
        chain.push(process);
    }
    Some(chain)
}

/// Whether the process was started with the marker of a run that is not the one in which this host lives.
fn carries_foreign_marker(pid: i32) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let own = std::env::var_os(MARKER_VARIABLE);
    let own = own.as_ref().map(|own| own.as_encoded_bytes());
    marker_in(&environment).is_some_and(|marker| Some(marker) != own)
}

fn marker_in(environment: &[u8]) -> Option<&[u8]> {
    let value = |variable| <[u8]>::strip_prefix(variable, MARKER_VARIABLE.as_bytes())?.strip_prefix(b"=");
    environment.split(|byte| *byte == 0).find_map(value)
}

/// A handle of the process that connected; None where the kernel does not support it.
fn peer_handle(socket: &impl AsFd) -> Option<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).ok()?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: both pointers are to live values, and the length is that of the first.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut length) };
    // SAFETY: the kernel has made this descriptor for the caller, and nothing else owns it.
    (result == 0 && fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process behind a handle has ended.
fn has_ended(handle: &OwnedFd) -> bool {
    !matches!(poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO), Ok(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::cell::Cell;
    use std::os::unix::net::UnixStream;

    use super::*;

    const HOST: i32 = 50;

    fn table(rows: &[(i32, i32, &str)]) -> HashMap<i32, Process> {
        let process = |(pid, parent, name): &(i32, i32, &str)| {
            (*pid, Process { pid: *pid, parent: *parent, start_ticks: 1, name: (*name).to_owned(), alive: true })
        };
        rows.iter().map(process).collect()
    }

    fn walked(pid: i32, rows: &[(i32, i32, &str)], above: &[i32]) -> Walk {
        let table = table(rows);
        walk(pid, HOST, &above.iter().map(|pid| (*pid, 1)).collect(), &|pid| table.get(&pid).cloned())
    }

    /// The processes above one that is outside.
    fn passed(pid: i32, rows: &[(i32, i32, &str)], above: &[i32]) -> Vec<i32> {
        match walked(pid, rows, above) {
            Walk::Outside(passed) => passed.into_iter().map(|process| process.pid).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn descendants_of_keeper_zygote_or_host_belong_to_a_run() {
        let rows = [
            (1, 0, "init"),
            (40, 1, "bash"),
            (HOST, 40, "ostler"),
            (51, HOST, "ostler-zygote"),
            (52, 51, "ostler-keeper"),
            (53, 52, "codex"),
            (54, 53, "curl"),
            (55, 51, "orphan"),
            (56, HOST, "helper"),
            // The zygote that made it has died.
            (60, 1, "ostler-keeper"),
            (61, 60, "curl"),
            (70, 40, "ostler"),
        ];
        for pid in [53, 54, 55, 56, 61] {
            assert_eq!(walked(pid, &rows, &[40, 1]), Walk::OfRun, "{pid}");
        }
        for (pid, above) in [(70, &[40][..]), (40, &[]), (1, &[])] {
            assert_eq!(passed(pid, &rows, &[40, 1]), above, "{pid}");
        }
    }

    #[test]
    fn host_inside_a_foreign_run_treats_its_siblings_as_outside() {
        let rows =
            [(1, 0, "init"), (30, 1, "ostler-keeper"), (31, 30, "bash"), (HOST, 31, "ostler"), (70, 31, "ostler")];
        assert_eq!(passed(70, &rows, &[31, 30, 1]), [31], "not the keeper of the other run");
    }

    #[test]
    fn process_with_invisible_parents_is_unknown() {
        assert_eq!(walked(70, &[(70, 60, "curl")], &[]), Walk::Unknown);
        assert_eq!(walked(70, &[(70, 71, "a"), (71, 70, "b")], &[]), Walk::Unknown, "a cycle");
    }

    #[test]
    fn walk_during_which_a_process_changed_is_unknown() {
        let (before, after) = (table(&[(70, 60, "curl"), (60, 0, "sh")]), table(&[(70, 51, "curl"), (60, 0, "other")]));
        let looks = Cell::new(0);
        let look = |pid: i32| {
            looks.set(looks.get() + 1);
            if looks.get() <= 2 { before.get(&pid).cloned() } else { after.get(&pid).cloned() }
        };
        assert_eq!(walk(70, HOST, &HashSet::new(), &look), Walk::Unknown);
    }

    #[test]
    fn child_of_a_remembered_process_is_outside_unless_it_is_a_supervisor_or_the_parent_is_another_process() {
        let rows = [
            (1, 0, "init"),
            (40, 1, "bash"),
            (41, 1, "zsh"),
            (70, 40, "ostler"),
            (71, 40, "ostler-keeper"),
            (72, 41, "ostler"),
        ];
        let processes = table(&rows);
        let peers = Peers::default();
        let outside = |pid: i32| peers.is_child_of_outside(&processes[&pid], HOST, &|pid| processes.get(&pid).cloned());
        assert!(!outside(70), "nothing is remembered yet");
        let hidden = Process { start_ticks: 0, name: String::new(), ..processes[&1].clone() };
        peers.remember(vec![processes[&41].clone(), hidden]);
        let first = Process { start_ticks: 0, ..processes[&1].clone() };
        peers.remember(vec![processes[&40].clone(), first]);
        assert_eq!([70, 71, 72].map(outside), [true, false, false]);
        let other = |pid: i32| processes.get(&pid).cloned().map(|process| Process { start_ticks: 2, ..process });
        assert!(!peers.is_child_of_outside(&processes[&70], HOST, &other));
        assert!(!peers.is_child_of_outside(&processes[&70], HOST, &|_| None));
        let moved = |pid: i32| processes.get(&pid).cloned().map(|process| Process { parent: 41, ..process });
        assert!(!peers.is_child_of_outside(&processes[&70], HOST, &moved), "its parent has ended");
    }

    #[test]
    fn remembered_processes_are_limited_in_number() {
        let peers = Peers::default();
        for pid in 1..5000 {
            peers.remember(vec![Process { pid, parent: 1, start_ticks: 1, name: String::new(), alive: true }]);
            assert!(peers.outside().len() <= MAX_REMEMBERED);
        }
        assert!(peers.outside().contains_key(&4999));
    }

    #[test]
    fn marker_is_found_in_an_environment() {
        assert_eq!(marker_in(b"A=1\0OSTLER_RUN_MARKER=x-1\0"), Some(&b"x-1"[..]));
        assert_eq!(marker_in(b"NOT_OSTLER_RUN_MARKER=x\0OSTLER_RUN_MARKERS=y\0"), None);
    }

    #[test]
    fn peer_without_a_visible_process_is_unknown() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peers = Peers::default();
        assert_eq!(peers.standing(&ours, Some(0)), Standing::Unknown);
        assert_eq!(peers.standing(&ours, None), Standing::Unknown);
    }
}
