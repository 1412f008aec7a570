//! Finds out by trial which containment works on this machine.
//!
//! Each back end starts this program as a child, in a folder of its own. The child tries both what it must be able to do
//! and what must be denied.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::event::ExitStatus;
use super::super::probe::{ProbeOutcome, ProbeSpec, run_probe};
use super::super::zygote::Zygote;
use super::bwrap;
use super::{Backend, Filter, Landlock, Maker, Namespaces, Network, OpenPath, Sandbox, View};

/// How long one back end may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Far more than a child prints.
const MAX_OUTPUT: usize = 64 << 10;

/// A back end that does not work here, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBackend {
    /// The back end.
    pub backend: Backend,
    /// The reason, for people.
    pub reason: String,
}

impl std::fmt::Display for RefusedBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.backend.as_str(), self.reason)
    }
}

/// The result of the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The first back end that works.
    pub backend: Option<Backend>,
    /// The back ends that were tried before it.
    pub refused: Vec<RefusedBackend>,
    /// What the back end cannot enforce, for people.
    pub gaps: Vec<String>,
}

/// The observations of a probe's child.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Observations {
    wrote_inside: bool,
    wrote_outside: bool,
    read_hidden: bool,
    own_proc: bool,
    /// Whether mounts that are made elsewhere appear.
    mounts_appear: bool,
}

/// Tries the back ends in `wanted`, in order. `program args… FOLDER` must call [`run_probe_child`]. The folder belongs
/// to the host, and is left empty.
pub fn available(zygote: &Zygote, program: &Path, args: &[OsString], folder: &Path, wanted: &[Backend]) -> ProbeReport {
    let mut refused = Vec::new();
    for backend in wanted.iter().copied() {
        let attempt = || try_out(zygote, program, args, folder, backend);
        // Try twice: the cause may be temporary, and later runs would be without containment.
        match attempt().or_else(|_| attempt()) {
            Ok(found) => return ProbeReport { backend: Some(backend), refused, gaps: gaps(backend, &found) },
            Err(reason) => refused.push(RefusedBackend { backend, reason }),
        }
    }
    ProbeReport { backend: None, refused, gaps: Vec::new() }
}

fn gaps(backend: Backend, found: &Observations) -> Vec<String> {
    match backend {
        Backend::Namespaces | Backend::Bwrap if !found.own_proc => {
            vec!["/proc names processes outside of the run, because this system refuses a new /proc".to_owned()]
        }
        Backend::Namespaces => Vec::new(),
        Backend::Bwrap => gaps_of_bwrap(found),
        Backend::Landlock => vec![
            "files below a writable folder cannot be kept read-only one by one".to_owned(),
            "processes of the run share the process list of the system".to_owned(),
            "a port of this machine that is allowed is allowed on every host".to_owned(),
            "unix sockets cannot be used, and the run cannot listen for connections".to_owned(),
            "modes, owners and times of files outside can be changed where the user may".to_owned(),
            "programs of the run cannot open terminals of their own".to_owned(),
        ],
    }
}

fn gaps_of_bwrap(found: &Observations) -> Vec<String> {
    let set_user_id = bwrap::find().is_ok_and(bwrap::is_set_user_id);
    let gaps = [
        (nix::unistd::geteuid().is_root(), "files of other users and groups belong to nobody"),
        (found.mounts_appear, "what the system mounts while a run goes on appears in it, and can be read"),
        (set_user_id, "ports of this machine below 1024 cannot be forwarded"),
        (set_user_id, "shared memory (/dev/shm) has no limit of its own"),
    ];
    gaps.into_iter().filter(|(applies, _)| *applies).map(|(_, gap)| gap.to_owned()).collect()
}

/// Folders of a probe.
struct ProbeFolders {
    inside: PathBuf,
    outside: PathBuf,
    hidden: PathBuf,
}

impl ProbeFolders {
    fn below(folder: &Path) -> Self {
        Self { inside: folder.join("inside"), outside: folder.join("outside"), hidden: folder.join("hidden") }
    }

    fn make(&self) -> std::io::Result<()> {
        for folder in [&self.inside, &self.outside, &self.hidden] {
            fs::create_dir_all(folder)?;
        }
        fs::write(self.hidden.join("secret"), "secret")
    }
}

fn try_out(
    zygote: &Zygote,
    program: &Path,
    args: &[OsString],
    folder: &Path,
    backend: Backend,
) -> Result<Observations, String> {
    let folder = folder.join(format!("sandbox-probe-{}", backend.as_str()));
    let result = ProbeFolders::below(&folder)
        .make()
        .map_err(|error| format!("failed to prepare the probe: {error}"))
        .and_then(|()| {
            let folder = folder.canonicalize().map_err(|error| format!("failed to prepare the probe: {error}"))?;
            evaluate(&run(zygote, program, args, &folder, backend))
        });
    let _ = fs::remove_dir_all(&folder);
    result
}

fn run(zygote: &Zygote, program: &Path, args: &[OsString], folder: &Path, backend: Backend) -> ProbeOutcome {
    let folders = ProbeFolders::below(folder);
    let sandbox = match backend {
        Backend::Namespaces | Backend::Bwrap => Sandbox {
            namespaces: Some(Namespaces {
                maker: if backend == Backend::Bwrap { Maker::Bwrap } else { Maker::Own },
                view: Some(View {
                    read_only: true,
                    open: vec![OpenPath { path: folders.inside.clone(), write: true, identity: None, required: true }],
                    hide: vec![folders.hidden.clone()],
                    minimal_dev: true,
                    ..View::default()
                }),
                network: Some(Network { proxy_port: 1080, forwards: Vec::new() }),
            }),
            filter: Filter::Strict,
            ..Sandbox::default()
        },
        Backend::Landlock => Sandbox {
            landlock: Some(Landlock {
                read: ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/dev", "/sys"]
                    .map(PathBuf::from)
                    .into_iter()
                    .chain(std::env::current_exe().ok())
                    .collect(),
                write: vec![folders.inside.clone(), "/dev".into()],
                bound_writes: true,
                connect: Some(Vec::new()),
            }),
            filter: Filter::StrictWithoutSockets,
            ..Sandbox::default()
        },
    };
    run_probe(
        zygote,
        &ProbeSpec {
            executable: program.to_owned(),
            args: args.iter().cloned().chain([folder.as_os_str().to_owned()]).collect(),
            environment: Vec::new(),
            cwd: "/".into(),
            marker: format!("sandbox-probe-{}", backend.as_str()),
            timeout: TIMEOUT,
            max_output: MAX_OUTPUT,
            sandbox,
        },
    )
}

fn evaluate(outcome: &ProbeOutcome) -> Result<Observations, String> {
    let stdout = match outcome {
        ProbeOutcome::Finished { status: ExitStatus::Code(0), stdout, .. } => stdout,
        ProbeOutcome::Finished { status, .. } => return Err(format!("the probe failed: {status:?}")),
        ProbeOutcome::TimedOut { .. } => return Err("the probe took too long".to_owned()),
        ProbeOutcome::NotFound => return Err("the probe's program is missing".to_owned()),
        ProbeOutcome::Failed(error) => return Err(error.to_string()),
    };
    let found: Observations =
        serde_json::from_slice(stdout).map_err(|error| format!("the probe's answer cannot be read: {error}"))?;
    if !found.wrote_inside {
        return Err("the probe could not write where it may".to_owned());
    }
    if found.wrote_outside || found.read_hidden {
        return Err("the probe could write or read where it must not".to_owned());
    }
    Ok(found)
}

/// The child of a probe: tries each access and prints the result as JSON. Returns false if it cannot print.
#[must_use]
pub fn run_probe_child(folder: &Path) -> bool {
    let folders = ProbeFolders::below(folder);
    let found = Observations {
        wrote_inside: fs::write(folders.inside.join("file"), "x").is_ok(),
        wrote_outside: fs::write(folders.outside.join("file"), "x").is_ok(),
        read_hidden: fs::read(folders.hidden.join("secret")).is_ok(),
        mounts_appear: fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mounts.contains(" master:")),
        own_proc: fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&std::process::id().to_string())),
    };
    serde_json::to_vec(&found).is_ok_and(|text| std::io::stdout().write_all(&text).is_ok())
}
