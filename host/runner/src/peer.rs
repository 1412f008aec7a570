//! Finds out whether a process that connects belongs to a run.
//!
//! Everything that a run starts stays below its keeper, and what a killed keeper leaves behind below the zygote: both
//! are subreapers, and both are below the host. So a walk along the parents of a peer meets one of them exactly if the
//! peer belongs to a run. The walk ends at the first ancestor that the host has too: a host that was itself started
//! inside a run of another host serves that run.
//!
//! Where keeper and zygote were both killed, the walk leads past them; then the marker in the environment decides,
//! unless the process has replaced its environment. The containment of the run closes that gap.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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

/// Whether the process at the other end of a unix socket belongs to a run. `pid` comes from `SO_PEERCRED`; None or 0
/// means a process of another PID namespace.
#[must_use]
pub fn standing_of_peer(socket: &impl AsFd, pid: Option<i32>) -> Standing {
    let Some(pid) = pid.filter(|pid| *pid > 0) else { return Standing::Unknown };
    // Taken first: while it says that the process lives, no other process can have its id.
    let handle = peer_handle(socket);
    let first = linux::process(pid);
    let standing = standing(pid);
    let same = match &handle {
        Some(handle) => !has_ended(handle),
        // An older kernel: the same id with the same start time is taken for the same process.
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

fn standing(pid: i32) -> Standing {
    let own = std::process::id().cast_signed();
    // The peer itself must be visible; of those above it, other users' processes need not be.
    if linux::process(pid).is_none() {
        return Standing::Unknown;
    }
    let above = chain(own, &look).unwrap_or_default().into_iter().skip(1).map(|process| process.pid).collect();
    for _ in 0..TRIES {
        match judge(pid, own, &above, &look) {
            Standing::Unknown => {}
            // Checked last: a process of a run can block a reader of its environment.
            Standing::Outside if carries_foreign_marker(pid) => return Standing::OfRun,
            known => return known,
        }
    }
    Standing::Unknown
}

/// A process. One that `/proc` hides, because it belongs to another user, is returned as the end of a chain. Supervisors
/// and children of a run belong to this user.
fn look(pid: i32) -> Option<Process> {
    linux::process(pid).or_else(|| {
        let hidden = kill(Pid::from_raw(pid), None) == Err(Errno::EPERM);
        hidden.then(|| Process { pid, parent: 0, start_ticks: 0, name: String::new(), alive: true })
    })
}

/// Walks along the parents of a process and decides.
fn judge(pid: i32, own: i32, above: &HashSet<i32>, look: &dyn Fn(i32) -> Option<Process>) -> Standing {
    let Some(chain) = chain(pid, look) else { return Standing::Unknown };
    for process in &chain {
        if above.contains(&process.pid) {
            break;
        }
        if process.pid == own || SUPERVISORS.contains(&process.name.as_str()) {
            return Standing::OfRun;
        }
    }
    // A parent may have ended during the walk, and another process may have got its id: the walk is valid only if every
    // step is unchanged.
    let unchanged = chain
        .iter()
        .all(|seen| look(seen.pid).is_some_and(|now| now.start_ticks == seen.start_ticks && now.parent == seen.parent));
    if unchanged { Standing::Outside } else { Standing::Unknown }
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
    use std::collections::HashMap;
    use std::os::unix::net::UnixStream;

    use super::*;

    const HOST: i32 = 50;

    fn table(rows: &[(i32, i32, &str)]) -> HashMap<i32, Process> {
        let process = |(pid, parent, name): &(i32, i32, &str)| {
            (*pid, Process { pid: *pid, parent: *parent, start_ticks: 1, name: (*name).to_owned(), alive: true })
        };
        rows.iter().map(process).collect()
    }

    fn judged(pid: i32, rows: &[(i32, i32, &str)], above: &[i32]) -> Standing {
        let table = table(rows);
        judge(pid, HOST, &above.iter().copied().collect(), &|pid| table.get(&pid).cloned())
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
        for (pid, expected) in [
            (53, Standing::OfRun),
            (54, Standing::OfRun),
            (55, Standing::OfRun),
            (56, Standing::OfRun),
            (61, Standing::OfRun),
            (70, Standing::Outside),
            (40, Standing::Outside),
            (1, Standing::Outside),
        ] {
            assert_eq!(judged(pid, &rows, &[40, 1]), expected, "{pid}");
        }
    }

    #[test]
    fn host_inside_a_foreign_run_treats_its_siblings_as_outside() {
        let rows =
            [(1, 0, "init"), (30, 1, "ostler-keeper"), (31, 30, "bash"), (HOST, 31, "ostler"), (70, 31, "ostler")];
        assert_eq!(judged(70, &rows, &[31, 30, 1]), Standing::Outside);
    }

    #[test]
    fn process_with_invisible_parents_is_unknown() {
        assert_eq!(judged(70, &[(70, 60, "curl")], &[]), Standing::Unknown);
        assert_eq!(judged(70, &[(70, 71, "a"), (71, 70, "b")], &[]), Standing::Unknown, "a cycle");
    }

    #[test]
    fn walk_during_which_a_process_changed_is_unknown() {
        let (before, after) = (table(&[(70, 60, "curl"), (60, 0, "sh")]), table(&[(70, 51, "curl"), (60, 0, "other")]));
        let looks = Cell::new(0);
        let look = |pid: i32| {
            looks.set(looks.get() + 1);
            if looks.get() <= 2 { before.get(&pid).cloned() } else { after.get(&pid).cloned() }
        };
        assert_eq!(judge(70, HOST, &HashSet::new(), &look), Standing::Unknown);
    }

    #[test]
    fn marker_is_found_in_an_environment() {
        assert_eq!(marker_in(b"A=1\0OSTLER_RUN_MARKER=x-1\0"), Some(&b"x-1"[..]));
        assert_eq!(marker_in(b"NOT_OSTLER_RUN_MARKER=x\0OSTLER_RUN_MARKERS=y\0"), None);
    }

    #[test]
    fn peer_without_a_visible_process_is_unknown() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(standing_of_peer(&ours, Some(0)), Standing::Unknown);
        assert_eq!(standing_of_peer(&ours, None), Standing::Unknown);
    }
}
