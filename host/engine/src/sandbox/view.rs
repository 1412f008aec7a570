//! The file system of a contained child: its folders, the files that its CLI needs, and what is hidden.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::decide::{Containment, Reach};
use super::paths::resolve;
use super::worktree;
use ostler_config::{Paths, ResourceLimits as LimitsConfig, SandboxConfig};
use ostler_plugin_host::Containment as Needs;
use ostler_protocol::SandboxMode;
use ostler_runner::{
    Backend, FileIdentity, Filter, Landlock, Maker, Namespaces, Network, OpenPath, Placeholder, ResourceLimits,
    Sandbox, TEMPORARY_FOLDERS, View,
};

/// Maximum number of entries of the folders around hidden ones that a Landlock domain names.
const MAX_READABLE: usize = 20_000;

/// A folder that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedFolder {
    pub(crate) path: PathBuf,
    pub(crate) identity: FileIdentity,
}

/// The inputs of the view of one run.
pub(crate) struct Sources<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) config: &'a SandboxConfig,
    pub(crate) limits: &'a LimitsConfig,
    /// The operator's plugin folder.
    pub(crate) plugins: &'a Path,
    pub(crate) needs: &'a Needs,
    /// The declarations of other providers, with the variables that are configured for them.
    pub(crate) others: Vec<(&'a Needs, &'a BTreeMap<String, String>)>,
    /// The host's own variables, which locate the user's folders independently of the child's variables.
    pub(crate) host: &'a BTreeMap<String, String>,
    /// All variables of the child.
    pub(crate) variables: &'a BTreeMap<String, String>,
    pub(crate) cwd: &'a CheckedFolder,
    pub(crate) additional: &'a [CheckedFolder],
    /// The private folder of the attempt.
    pub(crate) private: &'a Path,
    /// The provider's program, with its installation folder.
    pub(crate) programs: Vec<PathBuf>,
    /// Files and folders that the payload and the search path name. They do not make hidden files visible.
    pub(crate) named: Vec<PathBuf>,
}

impl Sources<'_> {
    /// The sandbox of the runner. `network` is that of a child with an allow list.
    pub(crate) fn sandbox(&self, containment: &Containment, network: Option<Network>) -> Sandbox {
        let limits = self.resource_limits();
        let bounded = containment.bounds_files();
        match containment.backend {
            None => Sandbox { limits, ..Sandbox::default() },
            Some(backend @ (Backend::Namespaces | Backend::Bwrap)) => {
                let guarded = self.guarded(containment.mode);
                let view = self.view(containment.mode, &guarded);
                let maker = if backend == Backend::Bwrap { Maker::Bwrap } else { Maker::Own };
                let landlock = bounded.then(|| Landlock {
                    write: writable(&view, &[&TEMPORARY_FOLDERS[..], &["/dev", "/proc"]].concat()),
                    bound_writes: true,
                    ..Landlock::default()
                });
                Sandbox {
                    placeholders: self.placeholders(guarded),
                    namespaces: Some(Namespaces { maker, view: Some(view), network }),
                    landlock,
                    filter: if bounded { Filter::Strict } else { Filter::Basic },
                    limits,
                }
            }
            Some(Backend::Landlock) => {
                let view = self.view(containment.mode, &[]);
                let read = readable(&view);
                let connect =
                    network.map(|network| std::iter::once(network.proxy_port).chain(network.forwards).collect());
                let closed = containment.reach == Reach::Listed;
                Sandbox {
                    namespaces: None,
                    landlock: Some(Landlock {
                        read,
                        write: writable(&view, &["/dev"]),
                        bound_writes: bounded,
                        connect,
                    }),
                    filter: match (closed, bounded) {
                        (true, _) => Filter::StrictWithoutSockets,
                        (false, true) => Filter::StrictWithoutUnix,
                        (false, false) => Filter::Basic,
                    },
                    placeholders: Vec::new(),
                    limits,
                }
            }
        }
    }

    fn resource_limits(&self) -> ResourceLimits {
        let set = |value: u64| Some(value).filter(|value| *value > 0);
        ResourceLimits {
            processes: set(self.limits.processes),
            memory: set(self.limits.memory_mib).map(|mib| mib << 20),
            open_files: set(self.limits.open_files),
            file_size: set(self.limits.file_size_mib).map(|mib| mib << 20),
        }
    }

    /// The folders of the run.
    fn folders(&self) -> impl Iterator<Item = &CheckedFolder> {
        std::iter::once(self.cwd).chain(self.additional)
    }

    /// Whether a path is in a folder of the run.
    fn is_inside(&self, path: &Path) -> bool {
        self.folders().any(|folder| path.starts_with(&folder.path))
    }

    fn view(&self, mode: SandboxMode, guarded: &[(PathBuf, bool)]) -> View {
        let full = mode == SandboxMode::FullAccess;
        let mut open: BTreeMap<PathBuf, OpenPath> = BTreeMap::new();
        let mut add = |path: PathBuf, write, identity, required| {
            let entry = open.entry(path.clone()).or_insert(OpenPath { path, write, identity, required });
            entry.write |= write;
        };
        for folder in self.folders() {
            let write = mode == SandboxMode::WorkspaceWrite;
            add(folder.path.clone(), write, Some(folder.identity), true);
            if write {
                for (path, write) in worktree::parts(&folder.path) {
                    if !self.is_inside(&path) {
                        add(path, write, None, false);
                    }
                }
            }
        }
        add(self.private.to_owned(), true, None, true);
        for path in existing(self.needs.write.iter().chain(&self.config.write), self.variables) {
            add(path, true, None, false);
        }
        for path in existing(self.needs.read.iter().chain(&self.config.read), self.variables) {
            add(path, false, None, false);
        }
        let (mut hide, more) = (self.own_folders(), self.hidden());
        let own = resolved(&hide);
        let hidden: Vec<PathBuf> = own.iter().cloned().chain(resolved(&more)).collect();
        for path in resolved(&self.programs) {
            if !hidden.iter().any(|hidden| hidden.starts_with(&path)) {
                add(path, false, None, false);
            }
        }
        for path in resolved(&self.agents()) {
            add(path, false, None, false);
        }
        // Only the private temporary folder covers them; other files that are not hidden can be read anyway.
        for path in resolved(&self.named) {
            let below = |folder: &&str| path.starts_with(folder) && path != Path::new(*folder);
            let temporary = TEMPORARY_FOLDERS.iter().any(below);
            if temporary && !hidden.iter().any(|hidden| path.starts_with(hidden) || hidden.starts_with(&path)) {
                add(path, false, None, false);
            }
        }
        // A working folder that is the root of the file system cannot be mounted on itself: then only the other rules apply.
        let read_only = !full && !open.get(Path::new("/")).is_some_and(|root| root.write);
        open.remove(Path::new("/"));
        let protect = guarded.iter().map(|(path, _)| path.clone()).collect();
        if !full {
            hide.extend(more);
        }
        // The host's own folders stay hidden even if other rules open a path below them, except the private folder.
        open.retain(|path, _| path.starts_with(self.private) || !own.iter().any(|own| path.starts_with(own)));
        View {
            read_only,
            open: open.into_values().collect(),
            protect,
            hide,
            tmp: (!full).then(|| self.private.join(TEMPORARY)),
            minimal_dev: !full,
        }
    }

    /// The files and folders of the host itself.
    fn own_folders(&self) -> Vec<PathBuf> {
        let paths = self.paths;
        let mut own = paths.own_folders().map(PathBuf::clone).to_vec();
        own.extend([&paths.plugins_dir, &paths.socket, &paths.config_file].map(PathBuf::clone));
        own.push(self.plugins.to_owned());
        if let Some(folder) = paths.config_file.parent().filter(|_| paths.home.is_none()) {
            // The run could create one that is missing.
            let _ = fs::create_dir_all(folder);
            own.push(folder.to_owned());
        }
        own
    }

    fn hidden(&self) -> Vec<PathBuf> {
        let places = [self.host, self.variables];
        let mut hidden: Vec<PathBuf> =
            self.config.hide.iter().flat_map(|path| places.map(|place| resolve(path, place))).flatten().collect();
        for (needs, configured) in &self.others {
            let mut variables = self.host.clone();
            variables.extend((*configured).clone());
            hidden.extend(needs.write.iter().filter_map(|path| resolve(path, &variables)));
        }
        hidden
    }

    /// Sockets of agents that the operator lets runs use.
    fn agents(&self) -> Vec<PathBuf> {
        let variable = |name: &str| self.variables.get(name).map(PathBuf::from);
        let runtime = variable("XDG_RUNTIME_DIR");
        let mut sockets = Vec::new();
        if self.config.ssh_agent {
            sockets.extend(variable("SSH_AUTH_SOCK"));
        }
        if self.config.gpg_agent {
            sockets.extend(runtime.as_ref().map(|folder| folder.join("gnupg")));
            sockets.extend(resolve("~/.gnupg", self.variables));
        }
        if self.config.dbus {
            sockets.extend(runtime.map(|folder| folder.join("bus")));
        }
        sockets
    }

    /// Files with which a run could make later programs of the user run its code, and whether each is a folder.
    fn guarded(&self, mode: SandboxMode) -> Vec<(PathBuf, bool)> {
        let own =
            self.needs.protect.iter().filter_map(|path| Some((resolve(path, self.variables)?, path.ends_with('/'))));
        let mut guarded: Vec<(PathBuf, bool)> = own.collect();
        if mode == SandboxMode::WorkspaceWrite {
            for folder in self.folders() {
                let names = self.config.protect.iter();
                guarded.extend(names.map(|name| (folder.path.join(name.trim_end_matches('/')), name.ends_with('/'))));
                // In a linked worktree it is a file that names the repository.
                if folder.path.join(".git").is_file() {
                    guarded.push((folder.path.join(".git"), false));
                }
                guarded.extend(worktree::pointers(&folder.path).into_iter().map(|path| (path, false)));
            }
        }
        guarded
    }

    /// A hidden path below a folder that the run may use. Without mounts it cannot be covered, so that Landlock alone cannot
    /// contain the run.
    pub(crate) fn uncoverable(&self) -> Option<PathBuf> {
        let all: Vec<PathBuf> = self.own_folders().into_iter().chain(self.hidden()).collect();
        resolved(&all).into_iter().find(|path| self.is_inside(path))
    }

    /// The missing ones for which an empty placeholder can be mounted. Not for files in a working folder: tools would obey an
    /// empty one, too.
    fn placeholders(&self, guarded: Vec<(PathBuf, bool)>) -> Vec<Placeholder> {
        let of_cli: Vec<PathBuf> = self.needs.protect.iter().filter_map(|path| resolve(path, self.variables)).collect();
        let emptied = guarded.into_iter().filter(|(path, folder)| *folder || of_cli.contains(path));
        let wanted = emptied.map(|(path, folder)| Placeholder { path, folder });
        wanted.filter(|wanted| can_be_made(&wanted.path) || wanted.is_there()).collect()
    }

    /// Protected files that a run can create or replace, each with the current target of its link: a mount needs an existing
    /// file that is not a link. `placeholders` are those of the run's sandbox.
    pub(crate) fn unprotected(
        &self,
        mode: SandboxMode,
        placeholders: &[Placeholder],
    ) -> Vec<(PathBuf, Option<PathBuf>)> {
        let open = |path: &PathBuf| !placeholders.iter().any(|placeholder| placeholder.path == *path);
        let guarded = self.guarded(mode).into_iter().map(|(path, _)| path).filter(open);
        guarded
            .filter_map(|path| match fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => Some((path.clone(), fs::read_link(&path).ok())),
                Ok(_) => None,
                Err(_) => Some((path, None)),
            })
            .collect()
    }
}

/// Whether a path is missing in an existing folder.
fn can_be_made(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err() && path.parent().is_some_and(Path::is_dir)
}

/// The folder in the private folder that is mounted as the child's `/tmp`.
pub(crate) const TEMPORARY: &str = "tmp";

/// The existing paths, with links resolved.
fn resolved(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// The same for paths as settings and plugins write them. A missing folder whose path ends with `/` is created.
fn existing<'a>(paths: impl Iterator<Item = &'a String>, variables: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let found = paths.filter_map(|text| {
        let path = resolve(text, variables)?;
        if text.ends_with('/') && fs::symlink_metadata(&path).is_err() {
            use std::os::unix::fs::DirBuilderExt;
            let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        }
        path.canonicalize().ok()
    });
    found.collect()
}

/// The paths that a Landlock domain lets the child change.
fn writable(view: &View, more: &[&str]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = view.open.iter().filter(|open| open.write).map(|open| open.path.clone()).collect();
    paths.extend(more.iter().map(PathBuf::from));
    paths
}

/// The paths that a Landlock domain lets the child read, if mounts cannot hide files: all that are not hidden. Folders that
/// contain hidden paths are opened entry by entry.
fn readable(view: &View) -> Vec<PathBuf> {
    let mut hidden = resolved(&view.hide);
    if view.tmp.is_some() {
        hidden.extend(TEMPORARY_FOLDERS.map(PathBuf::from));
    }
    let mut found: Vec<PathBuf> = view.open.iter().map(|open| open.path.clone()).collect();
    let mut waiting = vec![PathBuf::from("/")];
    while let Some(path) = waiting.pop() {
        if hidden.contains(&path) || found.len() >= MAX_READABLE {
            continue;
        }
        if !hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            found.push(path);
            continue;
        }
        let Ok(entries) = fs::read_dir(&path) else { continue };
        waiting.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
                .map(|entry| entry.path()),
        );
    }
    found
}
