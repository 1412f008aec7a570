//! Ends a set of processes that may fight back: freeze, then kill, until none is left.
//!
//! Killing processes one by one fails against a tree that forks faster. So everything found is stopped first; a stopped
//! process cannot fork, and when a search finds nothing new, all are killed at once.
//!
//! A search of `/proc` is not a snapshot: a listed process can fork and end before it is read, and its child was not
//! listed. So a search that finds nothing proves nothing. The proof is that the kernel knows no more children of a
//! subreaper ([`Proof::NoneLeft`]); a process that is not a subreaper must search several times.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::event::Leftover;
use super::linux::{self, Process};

/// How long a process may survive SIGKILL before it is reported instead of waited for.
pub(super) const SURVIVAL: Duration = Duration::from_secs(2);
/// How long freezing may take before the killing starts anyway.
const FREEZE: Duration = Duration::from_millis(500);
/// How long the whole operation may take. On a busy machine, a tree that keeps forking can evade the searches for long;
/// giving up early would leave it running for ever.
const TOTAL: Duration = Duration::from_secs(30);
/// The pause between two searches. It doubles each time, and is reset when a search finds something new.
const PAUSE: Duration = Duration::from_micros(250);
/// How many searches in a row must find nothing if there is no proof.
const SEARCHES: u32 = 3;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Everything that was alive when this began or was forked meanwhile.
    pub(super) killed: Vec<Leftover>,
    /// Those of them that survived SIGKILL.
    pub(super) survivors: Vec<Leftover>,
}

/// What is known about the processes without a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// None is left: the kernel confirms it.
    NoneLeft,
    /// Some are left, possibly only as zombies.
    SomeLeft,
    /// Nothing is known.
    Unknown,
}

/// Ends everything that `find` returns. `find` searches again at each call; `reap` collects this process's own dead
/// children, if it has any, and returns what that proves.
pub(super) fn end_all(mut find: impl FnMut() -> Vec<Process>, mut reap: impl FnMut() -> Proof) -> Ended {
    let mut ended = Ended::default();
    if reap() == Proof::NoneLeft {
        return ended;
    }
    let begin = Instant::now();
    let mut known: HashSet<(i32, u64)> = HashSet::new();
    let mut alive;
    loop {
        alive = find();
        let mut grown = false;
        for process in &alive {
            if known.insert((process.pid, process.start_ticks)) {
                grown = true;
                signal(process, Signal::SIGSTOP);
                ended.killed.push(leftover(process));
            }
        }
        if !grown || begin.elapsed() > FREEZE {
            break;
        }
    }
    let mut killed_at: HashMap<(i32, u64), Instant> = HashMap::new();
    let mut pause = PAUSE;
    let mut empty = u32::from(alive.is_empty());
    loop {
        for process in &alive {
            let key = (process.pid, process.start_ticks);
            signal(process, Signal::SIGKILL);
            killed_at.entry(key).or_insert_with(Instant::now);
            if known.insert(key) {
                ended.killed.push(leftover(process));
                // Something still forks: search again soon, before its next child is made.
                pause = PAUSE;
            }
        }
        match reap() {
            Proof::NoneLeft => break,
            Proof::Unknown if empty >= SEARCHES => break,
            Proof::Unknown | Proof::SomeLeft => {}
        }
        let survives = |process: &Process| {
            let at = killed_at.get(&(process.pid, process.start_ticks));
            at.is_some_and(|at| at.elapsed() >= SURVIVAL)
        };
        if begin.elapsed() >= TOTAL || (!alive.is_empty() && alive.iter().all(survives)) {
            ended.survivors = alive.iter().map(leftover).collect();
            break;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(16));
        alive = find();
        empty = if alive.is_empty() { empty + 1 } else { 0 };
    }
    ended
}

fn signal(process: &Process, signal: Signal) {
    // Found alive a moment ago; those that cannot be signalled (another user's) end up among the survivors.
    let _ = kill(Pid::from_raw(process.pid), signal);
}

pub(super) fn leftover(process: &Process) -> Leftover {
    Leftover { pid: process.pid, name: process.name.clone() }
}

/// Every living process below `roots`, without the roots. `skip` excludes whole branches.
pub(super) fn descendants(roots: &[i32], skip: &dyn Fn(i32) -> bool) -> Vec<Process> {
    below(linux::all_processes(), roots, skip)
}

fn below(all: Vec<Process>, roots: &[i32], skip: &dyn Fn(i32) -> bool) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut waiting: Vec<i32> = roots.to_vec();
    let mut found = Vec::new();
    while let Some(parent) = waiting.pop() {
        // Removal also ends the walk if the ids form a cycle.
        for process in children.remove(&parent).unwrap_or_default() {
            if !skip(process.pid) {
                waiting.push(process.pid);
                found.push(process);
            }
        }
    }
    // Only now: while the kernel moves the children of a zombie to another parent, the zombie may still be listed as
    // theirs.
    found.retain(|process| process.alive);
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn process(pid: i32, parent: i32, alive: bool) -> Process {
        Process { pid, parent, start_ticks: 1, name: String::new(), alive }
    }

    #[test]
    fn walk_passes_zombies_and_stops_at_skipped_branches() {
        let all = vec![
            process(2, 1, true),
            process(3, 2, false),
            process(4, 3, true),
            process(5, 1, true),
            process(6, 5, true),
            process(7, 99, true),
        ];
        let mut found: Vec<i32> = below(all, &[1], &|pid| pid == 5).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [2, 4]);
    }

    #[test]
    fn walk_ends_at_a_cycle_of_ids() {
        assert_eq!(below(vec![process(2, 3, true), process(3, 2, true)], &[2], &|_| false).len(), 2);
    }

    #[test]
    fn one_empty_search_without_proof_does_not_end_the_search() {
        let mut zombie = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = zombie.id() as i32;
        let mut searches = [vec![], vec![process(pid, 1, true)]].into_iter();
        let ended = end_all(|| searches.next().unwrap_or_default(), || Proof::Unknown);
        assert_eq!((ended.killed.len(), ended.survivors.len()), (1, 0));
        zombie.wait().unwrap();
    }

    #[test]
    fn empty_searches_with_children_left_do_not_end_the_search() {
        let mut zombie = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = zombie.id() as i32;
        let mut count = 0;
        let find = || {
            count += 1;
            if count == 6 { vec![process(pid, 1, true)] } else { Vec::new() }
        };
        let mut answers = 0;
        let reap = || {
            answers += 1;
            if answers < 8 { Proof::SomeLeft } else { Proof::NoneLeft }
        };
        assert_eq!(end_all(find, reap).killed.len(), 1);
        zombie.wait().unwrap();
    }

    #[test]
    fn survivor_of_sigkill_is_reported() {
        // A zombie that is reported as alive; no other process gets its id before we wait for it.
        let mut zombie = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = zombie.id() as i32;
        let ended = end_all(|| vec![process(pid, 1, true)], || Proof::Unknown);
        assert_eq!((ended.killed.len(), ended.survivors.len()), (1, 1));
        zombie.wait().unwrap();
    }
}
