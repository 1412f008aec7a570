//! A private home with its own host.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ostler_plugin_host::{CODE_KEY_BYTES, CacheOptions, Registry, RegistryOptions};
use serde_json::json;

use crate::client::{Connection, TIMEOUT};

/// The folder for all files of this program. It is on a disk, which is not certain for a temporary folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("figures-{}", std::process::id()))
}

/// Removes all files when it is dropped, even if a measurement fails.
pub(crate) struct Root;

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(root());
    }
}

/// A folder below the root that only this user can access.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = root().join(name);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
    path.canonicalize().unwrap()
}

/// Compiled plugins, for every home.
pub(crate) fn plugin_cache() -> CacheOptions {
    let cache = CacheOptions { folder: folder("compiled"), key: [7; CODE_KEY_BYTES] };
    if fs::read_dir(&cache.folder).unwrap().next().is_none() {
        let options = RegistryOptions { cache: Some(cache.clone()), ..RegistryOptions::default() };
        let (_, problems) = Registry::open(&options).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }
    cache
}

/// One `OSTLER_HOME`.
pub(crate) struct Home {
    path: PathBuf,
    work: PathBuf,
}

impl Home {
    /// A home with this configuration and nothing else.
    pub(crate) fn bare(name: &str, config: &str) -> Self {
        let (path, work) = (folder(name), folder(&format!("{name}-work")));
        fs::write(path.join("config.toml"), config).unwrap();
        Self { path, work }
    }

    /// A home with this configuration and the compiled plugins.
    pub(crate) fn new(name: &str, config: &str) -> Self {
        let home = Self::bare(name, config);
        let cache = folder(&format!("{name}/cache/plugins"));
        let compiled = plugin_cache();
        for entry in fs::read_dir(&compiled.folder).unwrap().flatten() {
            fs::copy(entry.path(), cache.join(entry.file_name())).unwrap();
        }
        let key = folder(&format!("{name}/data")).join("code.key");
        fs::write(&key, compiled.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        home
    }

    /// The working folder of runs. [`Home::start`] grants it.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("data/host.sock")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("data/ostler.db")
    }

    /// `ostler` with these arguments and a small environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
        command
            .args(args)
            .current_dir(&self.work)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.path)
            .env("LANG", "C.UTF-8")
            .env("OSTLER_HOME", &self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Starts a host and waits until it answers. Gives the time until then, too.
    pub(crate) fn serve(&self) -> (Host, Duration) {
        let begun = Instant::now();
        let child = self.command(&["serve"]).spawn().unwrap();
        let host = Host { child, socket: self.socket() };
        loop {
            if let Ok(mut connection) = Connection::open(&host.socket) {
                connection.call("get_status", &json!({}));
                return (host, begun.elapsed());
            }
            assert!(begun.elapsed() < TIMEOUT, "the host does not answer at {}", host.socket.display());
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Starts a host, and waits until it has compiled its plugins and detected the CLIs. Grants the working folder.
    pub(crate) fn start(&self) -> Host {
        let (host, _) = self.serve();
        let mut connection = host.connect();
        connection.call("grant_workspace", &json!({"path": self.work}));
        connection.call("list_capabilities", &json!({}));
        host
    }
}

/// A running host. It is stopped when this is dropped.
pub(crate) struct Host {
    child: Child,
    socket: PathBuf,
}

impl Host {
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.socket).unwrap()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the host and waits until it has ended.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Ok(mut connection) = Connection::open(&self.socket) {
            connection.call("stop", &json!({}));
        }
        let _ = self.child.wait();
    }

    /// The host and its descendants, from `/proc`.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.pid()];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            for task in tasks(pid) {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
                found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            at += 1;
        }
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// The threads of a process.
pub(crate) fn tasks(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A field of `/proc/PID/status` or the like, as a number.
pub(crate) fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Resident memory of a process in MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/status"), "VmRSS") as f64 / 1024.0
}

/// Memory of a process in MiB; memory that it shares with other processes counts in parts.
pub(crate) fn proportional(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss") as f64 / 1024.0
}
