//! Ends a set of processes that may fight back: freeze, then kill, until none is left.
//!
//! Killing one by one loses against a tree that forks faster. So everything found is stopped first; a stopped process
//! cannot fork, and when a search finds nothing new, all are killed at once.
//!
//! A search of `/proc` is never one moment's picture: a process that was listed can fork and end before it is looked
//! at, and its child was not listed. So a search that finds nothing proves nothing. What does is that the kernel knows
//! no more children of a subreaper ([`Proof::NoneLeft`]); who is none must search several times.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::event::Leftover;
use super::linux::{self, Process};

/// How long a process may survive SIGKILL before it is reported instead of waited for.
pub(super) const SURVIVAL: Duration = Duration::from_secs(2);
/// How long freezing may take before the killing begins regardless.
const FREEZE: Duration = Duration::from_millis(500);
/// How long all of it may take. A tree that keeps forking can hide from the searches of a busy machine for long, and
/// whoever gives up leaves it to fork for ever.
const ALL: Duration = Duration::from_secs(30);
/// Between two searches: this long where the last one found something new, and then longer each time.
const PAUSE: Duration = Duration::from_micros(250);
/// How many searches in a row must find nothing where there is no proof.
const SEARCHES: u32 = 3;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Everything that was alive when this began or was forked meanwhile.
    pub(super) killed: Vec<Leftover>,
    /// Those of them that would not die.
    pub(super) survivors: Vec<Leftover>,
}

/// What is known of the processes without a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// None is left: the kernel says so.
    NoneLeft,
    /// Some are left, be it only as zombies.
    SomeLeft,
    /// Nothing is known.
    Unknown,
}

/// Ends everything that `find` finds, which it is to look up anew at each call; `reap` collects this process's own
/// dead children, where it has some, and tells what that proves.
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
                // Something still forks: a search that waits comes too late for its next child.
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
        if begin.elapsed() >= ALL || (!alive.is_empty() && alive.iter().all(survives)) {
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

/// Everything alive below `roots`, without them. `skip` cuts whole branches off.
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
        // Removal also ends the walk, should ids ever form a circle.
        for process in children.remove(&parent).unwrap_or_default() {
            if !skip(process.pid) {
                waiting.push(process.pid);
                found.push(process);
            }
        }
    }
    // The children of a zombie have been handed on, yet while they are it may still look like their parent.
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
    fn the_walk_goes_through_zombies_and_stops_at_skipped_branches() {
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
    fn a_circle_of_ids_ends_the_walk() {
        assert_eq!(below(vec![process(2, 3, true), process(3, 2, true)], &[2], &|_| false).len(), 2);
    }

    #[test]
    fn without_proof_one_empty_search_is_not_believed() {
        let mut zombie = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = zombie.id() as i32;
        let mut searches = [vec![], vec![process(pid, 1, true)]].into_iter();
        let ended = end_all(|| searches.next().unwrap_or_default(), || Proof::Unknown);
        assert_eq!((ended.killed.len(), ended.survivors.len()), (1, 0));
        zombie.wait().unwrap();
    }

    #[test]
    fn with_children_left_empty_searches_are_not_believed() {
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
    fn what_will_not_die_is_reported() {
        // A zombie, claimed to be alive for ever; its id is ours until we wait for it.
        let mut zombie = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = zombie.id() as i32;
        let ended = end_all(|| vec![process(pid, 1, true)], || Proof::Unknown);
        assert_eq!((ended.killed.len(), ended.survivors.len()), (1, 1));
        zombie.wait().unwrap();
    }
}
