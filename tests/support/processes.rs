//! Live processes, from `/proc`.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;
use std::os::unix::{ffi::OsStrExt, process::CommandExt};
use std::{fs, path::Path, process::Command};

/// A live process.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub command: String,
    /// Whether it belongs to a run: the host sets a variable in the environment of every process of a run.
    pub of_run: bool,
}

/// Every live process whose environment names `root` or something below it.
pub fn carrying(root: &Path) -> Vec<Process> {
    let needle = root.as_os_str().as_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            if !contains(&environment, needle) || is_zombie(pid) {
                return None;
            }
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            Some(Process {
                pid,
                command: String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned(),
                of_run: contains(&environment, b"OSTLER_RUN_MARKER="),
            })
        })
        .collect()
}

/// Lets a command obey Ctrl-C and Ctrl-\, also if the tests themselves were started in the background of a script, where a
/// shell ignores both.
pub fn obey_keyboard(command: &mut Command) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: between fork and exec only system calls are made, and the default action is no handler.
    unsafe {
        command.pre_exec(move || {
            sigaction(Signal::SIGINT, &default)?;
            sigaction(Signal::SIGQUIT, &default)?;
            Ok(())
        });
    }
}

/// Sends a signal. A process that has already ended is no error.
pub fn signal(pid: i32, signal: Signal) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

/// The live descendants of a process, with their names.
pub fn below(pid: i32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let all: Vec<(i32, i32, Process)> = entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            let parent: i32 = rest.split(' ').nth(1)?.parse().ok()?;
            (!rest.starts_with(['Z', 'X']))
                .then(|| (pid, parent, Process { pid, command: name.to_owned(), of_run: false }))
        })
        .collect();
    let mut found = Vec::new();
    let mut wanted = vec![pid];
    while let Some(parent) = wanted.pop() {
        for (pid, _, process) in all.iter().filter(|(_, above, _)| *above == parent) {
            wanted.push(*pid);
            found.push(process.clone());
        }
    }
    found
}

/// The peak memory of a process, in bytes.
pub fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The targets of the open descriptors of a process; for sockets and pipes, only their kind.
pub fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()));
    targets.map(|target| target.split(":[").next().unwrap_or_default().to_owned()).collect()
}

/// The names of a process's threads.
pub fn threads(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
