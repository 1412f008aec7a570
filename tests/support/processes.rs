//! Who is alive, as `/proc` tells it.

use nix::{sys::signal::Signal, unistd::Pid};
use std::{fs, os::unix::ffi::OsStrExt, path::Path};

/// A live process.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub command: String,
    /// Whether it belongs to a run: the host marks the environment of everything that it starts for one.
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

/// Sends a signal; a process that has gone already is no error.
pub fn signal(pid: i32, signal: Signal) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
