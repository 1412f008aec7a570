//! Namespaces that the system's `bwrap` makes, on systems that allow this to `bwrap` but not to other programs: `bwrap`
//! is set-user-id root there, or has its own AppArmor profile.
//!
//! `bwrap` builds the view from its arguments and then executes this program as process 1, which continues as in
//! namespaces made by this program. The arguments are paths (only new versions take descriptors): a process that can
//! change a folder on the path could redirect it. So the expected file at each path is recorded before, and process 1
//! compares it with what was mounted before it lets the program start.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{ForkResult, Pid, execve, execveat, fork, geteuid};
use serde::{Deserialize, Serialize};

use super::super::keeper::leave;
use super::super::linux;
use super::super::spawn::ChildFailure;
use super::init::{Init, control_pair};
use super::mounts::{is_folder, is_mount_root, make_all_private, open_path};
use super::view::{KERNEL, is_absent};
use super::{FileIdentity, INIT_VERB, Namespaces, Setup, SetupError, TEMPORARY_FOLDERS, View, privileges};

/// Where systems install `bwrap`. `PATH` is not searched, as it can name a folder of the user.
const BWRAP_PATHS: [&str; 4] = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap", "/run/wrappers/bin/bwrap"];

/// Bytes of shared memory (`/dev/shm`) of one child, at most.
const SHARED_MEMORY: &str = "536870912";

/// The program of the package `ostler-reaper`.
const REAPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ostler-reaper"));

/// Bytes of `bwrap`'s error output that are read.
const MAX_ERROR_TEXT: u64 = 400;

/// The largest number of arguments that `bwrap` accepts (`MAX_ARGS` in its source).
const MAX_ARGUMENTS: usize = 9000;

/// Capabilities of process 1 in its user namespace: to detach its mounts, to drop capabilities, to listen on low ports.
const OF_PROCESS_ONE: [&str; 3] = ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE"];

/// Folders that `bwrap` fills with new content: the host's files in them are not there.
const NEW: [&str; 2] = ["/proc", "/dev"];

/// The system's `bwrap`, which must belong to root and be writable by root alone.
pub(super) fn find() -> Result<&'static Path, String> {
    let mut reason = "this system has no bwrap".to_owned();
    for target in BWRAP_PATHS.map(Path::new).into_iter().filter(|target| target.exists()) {
        match ostler_private_files::ownership::check(target) {
            Ok(()) => return Ok(target),
            Err(untrusted) => reason = untrusted.to_string(),
        }
    }
    Err(reason)
}

/// Whether it is set-user-id root: then it makes no user namespace, and the child has no capability.
pub(super) fn is_set_user_id(bwrap: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    bwrap.metadata().is_ok_and(|found| found.permissions().mode() & libc::S_ISUID != 0) && !geteuid().is_root()
}

/// What `bwrap` is to mount at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mount {
    /// A file or folder of the host, at its own path except for the private temporary folder.
    Bind { source: PathBuf, write: bool, identity: FileIdentity },
    /// Something empty over the file or folder at the path.
    Cover { folder: bool, original: FileIdentity },
}

/// The mounts of a view, parents before children.
#[derive(Debug, Default)]
struct Plan {
    read_only: bool,
    mounts: BTreeMap<PathBuf, Mount>,
}

/// The file that must be at a path before the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Expected {
    /// The bytes of the path, which need not be UTF-8.
    path: Vec<u8>,
    identity: FileIdentity,
    /// Whether this file must be covered, instead of visible.
    covered: bool,
}

impl Expected {
    fn new(path: &Path, identity: FileIdentity, covered: bool) -> Self {
        Self { path: path.as_os_str().as_bytes().to_owned(), identity, covered }
    }
}

impl Plan {
    fn of(view: &View) -> Setup<Self> {
        let mut plan = Self { read_only: view.read_only, mounts: BTreeMap::new() };
        let is_new = |path: &Path| {
            let new = if view.minimal_dev { &NEW[..] } else { &NEW[..1] };
            new.iter().any(|new| path.starts_with(new))
        };
        let hidden = view.hide.iter().filter_map(|path| path.canonicalize().ok());
        for path in hidden.filter(|path| !is_new(path)) {
            let Ok(target) = open_path(&path) else { continue };
            let looked = |errno| SetupError::on("look at", &path)(errno);
            let (folder, original) = (is_folder(&target).map_err(looked)?, FileIdentity::of(&target).map_err(looked)?);
            plan.mounts.insert(path, Mount::Cover { folder, original });
        }
        if let Some(folder) = &view.tmp {
            let identity = identity_of(folder)?;
            for target in TEMPORARY_FOLDERS.iter().filter_map(|target| Path::new(target).canonicalize().ok()) {
                plan.mounts.insert(target, Mount::Bind { source: folder.clone(), write: true, identity });
            }
        }
        let covers: Vec<PathBuf> = plan.mounts.keys().cloned().collect();
        for open in &view.open {
            let identity = match identity_of(&open.path) {
                Ok(identity) => identity,
                Err(error) if !open.required && is_absent(error.errno) => continue,
                Err(error) => return Err(error),
            };
            if open.identity.is_some_and(|checked| checked != identity) {
                return Err(SetupError::on("find the folder that was checked at", &open.path)(Errno::ESTALE));
            }
            if is_new(&open.path) {
                continue;
            }
            // What nothing covers is there already, and as readable as before.
            let shown = !covers.iter().any(|cover| open.path.starts_with(cover));
            if !shown || (open.write && view.read_only) {
                plan.bind(&open.path, open.write, identity);
            }
        }
        plan.drop_needless_covers();
        plan.protect(view)?;
        Ok(plan)
    }

    fn bind(&mut self, path: &Path, write: bool, identity: FileIdentity) {
        self.mounts.insert(path.to_owned(), Mount::Bind { source: path.to_owned(), write, identity });
    }

    /// The innermost mount above a path, without the path's own.
    fn above(&self, path: &Path) -> Option<(&Path, &Mount)> {
        let above = |above: &Path| self.mounts.get_key_value(above).map(|(path, mount)| (path.as_path(), mount));
        path.ancestors().skip(1).find_map(above)
    }

    /// Whether the child sees the host's file at a path.
    fn is_shown(&self, path: &Path) -> bool {
        match self.above(path) {
            None => true,
            Some((above, Mount::Bind { source, .. })) => above == source,
            Some((_, Mount::Cover { .. })) => false,
        }
    }

    /// Whether the child may change the file at a path.
    fn is_writable(&self, path: &Path) -> bool {
        match self.above(path) {
            None => !self.read_only,
            Some((_, Mount::Bind { write, .. })) => *write,
            Some((_, Mount::Cover { .. })) => false,
        }
    }

    /// Removes covers of paths that the child does not see anyway.
    fn drop_needless_covers(&mut self) {
        let covers = self.mounts.iter().filter(|(_, mount)| matches!(mount, Mount::Cover { .. }));
        let needless: Vec<PathBuf> =
            covers.filter(|(path, _)| !self.is_shown(path)).map(|(path, _)| path.clone()).collect();
        for path in needless {
            self.mounts.remove(&path);
        }
    }

    /// Makes protected files and folders read-only, and mounts the folders above them, and above covers, on themselves:
    /// the kernel does not rename a mount point, so the path cannot be replaced.
    fn protect(&mut self, view: &View) -> Setup {
        let covers = self.mounts.iter().filter(|(_, mount)| matches!(mount, Mount::Cover { .. }));
        let pinned: Vec<PathBuf> = covers.map(|(path, _)| path.clone()).collect();
        for path in &pinned {
            self.pin(path)?;
        }
        for path in &view.protect {
            let identity = match open_path(path) {
                // Nothing can be mounted on a link; the engine checks whether such a path is replaced.
                Ok(target) if is_link(&target).map_err(SetupError::on("look at", path))? => continue,
                Ok(target) => FileIdentity::of(&target).map_err(SetupError::on("look at", path))?,
                Err(errno) if is_absent(errno) || errno == Errno::ELOOP => continue,
                Err(errno) => return Err(SetupError::on("open", path)(errno)),
            };
            if !self.is_shown(path) || matches!(self.mounts.get(path), Some(Mount::Cover { .. })) {
                continue;
            }
            self.pin(path)?;
            self.bind(path, false, identity);
        }
        // Last: mounts below a protected folder become read-only like the folder.
        for (path, mount) in &mut self.mounts {
            if let Mount::Bind { write, .. } = mount {
                *write &= !view.protect.iter().any(|protected| path.starts_with(protected));
            }
        }
        Ok(())
    }

    /// Mounts the folders above a path on themselves, up to the outermost that the child may change.
    fn pin(&mut self, path: &Path) -> Setup {
        for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("/")) {
            if self.mounts.contains_key(folder) || !self.is_writable(folder) {
                continue;
            }
            if !self.is_shown(folder) {
                break;
            }
            self.bind(folder, true, identity_of(folder)?);
        }
        Ok(())
    }

    fn expected(&self) -> Vec<Expected> {
        let expected = self.mounts.iter().map(|(path, mount)| match mount {
            Mount::Bind { identity, .. } => Expected::new(path, *identity, false),
            Mount::Cover { original, .. } => Expected::new(path, *original, true),
        });
        expected.collect()
    }
}

fn identity_of(path: &Path) -> Setup<FileIdentity> {
    let target = open_path(path).map_err(SetupError::on("open", path))?;
    FileIdentity::of(&target).map_err(SetupError::on("look at", path))
}

fn is_link(target: &OwnedFd) -> nix::Result<bool> {
    Ok(fstat(target)?.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

/// Detaches the mounts of this namespace from those made elsewhere, if `bwrap` has left the right to do that. Otherwise
/// later mounts of the system appear in the run, too; the probe checks for that.
pub(super) fn detach_mounts() {
    let _ = make_all_private();
}

/// Verifies that the expected file is mounted at each path, in the namespaces that `bwrap` has made.
pub(super) fn verify(expected: &[Expected]) -> Setup {
    for Expected { path, identity, covered } in expected {
        let path = Path::new(OsStr::from_bytes(path));
        let target = open_path(path).map_err(SetupError::on("find what was mounted at", path))?;
        let looked = SetupError::on("look at", path);
        let found = FileIdentity::of(&target).and_then(|found| Ok((found, is_mount_root(&target)?))).map_err(looked)?;
        // For a cover, only the file that it must not show is known.
        if found.1 && (found.0 == *identity) != *covered {
            continue;
        }
        return Err(SetupError::on("find what was checked at", path)(Errno::ESTALE));
    }
    Ok(())
}

/// The arguments of `bwrap`, and the descriptors that they name.
struct Arguments {
    words: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Arguments {
    fn of(bwrap: &Path, namespaces: &Namespaces, plan: &Plan) -> Setup<Self> {
        let mut arguments = Self { words: Vec::new(), fds: Vec::new() };
        let set_user_id = is_set_user_id(bwrap);
        arguments.add(["--unshare-ipc", "--unshare-pid", "--die-with-parent", "--as-pid-1"]);
        if namespaces.network.is_some() {
            arguments.add(["--unshare-net"]);
        }
        arguments.add(["--cap-drop", "ALL"]);
        // For others `bwrap` makes a user namespace by itself, unless it is set-user-id root and needs none.
        if geteuid().is_root() {
            arguments.add(["--unshare-user"]);
            for name in privileges::names_of_root() {
                arguments.add(["--cap-add", name]);
            }
        }
        for name in OF_PROCESS_ONE.iter().filter(|_| !set_user_id) {
            arguments.add(["--cap-add", name]);
        }
        match &namespaces.view {
            Some(view) => arguments.add_view(view, plan, set_user_id)?,
            None => arguments.add(["--dev-bind", "/", "/"]),
        }
        // Its files ask for the owner, not for a capability. The rest of them `bwrap` itself makes read-only.
        arguments.add(["--proc", "/proc"]);
        for name in KERNEL {
            let path = format!("/proc/{name}");
            arguments.add(["--ro-bind-try", &path, &path]);
        }
        let count = arguments.words.iter().filter(|byte| **byte == 0).count();
        if count + 16 > MAX_ARGUMENTS {
            let step = format!("use bwrap (too many paths are hidden, protected or open: {count} arguments)");
            return Err(SetupError { step, errno: Errno::E2BIG });
        }
        Ok(arguments)
    }

    fn add_view(&mut self, view: &View, plan: &Plan, set_user_id: bool) -> Setup {
        self.add([if view.read_only { "--ro-bind" } else { "--bind" }, "/", "/"]);
        if view.minimal_dev {
            self.add(["--dev", "/dev"]);
            if !set_user_id {
                self.add(["--size", SHARED_MEMORY]);
            }
            self.add(["--tmpfs", "/dev/shm"]);
        } else {
            self.add(["--dev-bind", "/dev", "/dev"]);
        }
        for (path, mount) in &plan.mounts {
            match mount {
                Mount::Bind { source, write, .. } => {
                    self.add([if *write { "--bind" } else { "--ro-bind" }]);
                    self.add_paths([source, path]);
                }
                Mount::Cover { folder: true, .. } => {
                    self.add(["--perms", "0755", "--tmpfs"]);
                    self.add_paths([path]);
                }
                Mount::Cover { folder: false, .. } => {
                    let empty = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                        .map_err(SetupError::at("open /dev/null"))?;
                    self.add(["--perms", "0444", "--ro-bind-data", &empty.as_raw_fd().to_string()]);
                    self.add_paths([path]);
                    self.fds.push(empty);
                }
            }
        }
        // Only now, after the mounts inside them.
        for (path, mount) in &plan.mounts {
            if matches!(mount, Mount::Cover { folder: true, .. }) {
                self.add(["--remount-ro"]);
                self.add_paths([path]);
            }
        }
        if view.minimal_dev {
            self.add(["--remount-ro", "/dev"]);
        }
        Ok(())
    }

    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.add_paths(words);
    }

    fn add_paths<const N: usize>(&mut self, paths: [impl AsRef<Path>; N]) {
        for path in paths {
            self.words.extend_from_slice(path.as_ref().as_os_str().as_bytes());
            self.words.push(0);
        }
    }
}

/// What process 1 gets besides its socket to the keeper, in this order.
pub(in super::super) struct Handover<'a> {
    /// The frame that describes the program.
    pub(in super::super) frame: &'a [u8],
    /// Descriptors for the program's process.
    pub(in super::super) fds: [&'a OwnedFd; 5],
    /// The environment variable that marks processes of the run.
    pub(in super::super) marker: Option<&'a CString>,
}

/// Lets `bwrap` make namespaces with this program as their process 1. `fail` sends the failure of the process that was
/// to become `bwrap` to the keeper.
pub(in super::super) fn start(
    namespaces: &Namespaces,
    handover: &Handover<'_>,
    fail: impl Fn(ChildFailure),
) -> Setup<Init> {
    let at = |errno| SetupError::at("prepare bwrap")(errno);
    let bwrap = find().map_err(|reason| SetupError { step: format!("use bwrap ({reason})"), errno: Errno::ENOENT })?;
    let plan = namespaces.view.as_ref().map(Plan::of).transpose()?.unwrap_or_default();
    let arguments = Arguments::of(bwrap, namespaces, &plan)?;
    let words = in_memory(c"bwrap-arguments", &[&arguments.words])?;
    let expected = serde_json::to_vec(&plan.expected()).map_err(|_| at(Errno::EINVAL))?;
    let length = u64::try_from(expected.len()).unwrap_or(0).to_le_bytes();
    let program = in_memory(c"program", &[&length, &expected, handover.frame])?;
    let stderr = in_memory(c"bwrap-stderr", &[])?;
    // Through `/proc`, because the file may have been replaced.
    let own = open("/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(at)?;
    let (control, theirs) = control_pair().map_err(at)?;

    let handed: Vec<RawFd> = [&theirs, &program].into_iter().chain(handover.fds).map(AsRawFd::as_raw_fd).collect();
    let own_path = format!("/proc/self/fd/{}", own.as_raw_fd());
    let argv = [bwrap.display().to_string(), "--args".into(), words.as_raw_fd().to_string(), "--".into(), own_path]
        .into_iter()
        .chain([INIT_VERB.to_owned()])
        .chain(handed.iter().map(ToString::to_string));
    let argv: Vec<CString> = argv.map(CString::new).collect::<Result<_, _>>().map_err(|_| at(Errno::EINVAL))?;
    let mut kept = handed;
    kept.extend([own.as_raw_fd(), words.as_raw_fd()]);
    kept.extend(arguments.fds.iter().map(AsRawFd::as_raw_fd));

    // SAFETY: this process has one thread, so that the copy may do the same as this one.
    match unsafe { fork() }.map_err(at)? {
        ForkResult::Child => {
            linux::close_all_but(&[&kept[..], &[stderr.as_raw_fd()]].concat());
            let ready = nix::unistd::dup2_stderr(&stderr)
                .and_then(|()| kept.iter().try_for_each(|fd| keep_on_exec(*fd)))
                .and_then(|()| nix::unistd::chdir("/"));
            let path = argv.first().map_or(c"", CString::as_c_str);
            let executed = ready.and_then(|()| execve(path, &argv, handover.marker.as_slice()));
            match executed {
                Ok(never) => match never {},
                Err(errno) => fail(SetupError::at("execute bwrap")(errno).into()),
            }
            leave()
        }
        ForkResult::Parent { child } => Ok(Init::made_by(child, control, stderr)),
    }
}

/// The reaper, to be executed.
pub(super) fn reaper() -> Setup<OwnedFd> {
    in_memory(c"ostler-reaper", &[REAPER])
}

/// Executes the reaper in place of this process. The reaper closes `opaque`, the end of a pipe, when no other
/// process can read its memory any more.
pub(super) fn execute_reaper(reaper: &OwnedFd, control: &OwnedFd, program: Pid, opaque: &OwnedFd) -> Setup<Infallible> {
    let at = |errno| SetupError::at("execute the reaper")(errno);
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| at(Errno::EINVAL));
    let numbers = [control.as_raw_fd(), program.as_raw(), opaque.as_raw_fd()].map(|number| number.to_string());
    let argv = std::iter::once("ostler-init".to_owned()).chain(numbers).map(|word| text(word.into_bytes()));
    let argv = argv.collect::<Setup<Vec<_>>>()?;
    let envp = std::env::vars_os().map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let envp = envp.collect::<Setup<Vec<_>>>()?;
    [control, opaque].iter().try_for_each(|fd| keep_on_exec(fd.as_raw_fd())).map_err(at)?;
    execveat(reaper, c"", &argv, &envp, AtFlags::AT_EMPTY_PATH).map_err(at)
}

fn keep_on_exec(fd: RawFd) -> nix::Result<()> {
    // SAFETY: a descriptor that this process owns and keeps open.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

/// A file in memory with that content, to be read from its beginning.
fn in_memory(name: &std::ffi::CStr, parts: &[&[u8]]) -> Setup<OwnedFd> {
    let at = |errno| SetupError::at("prepare bwrap")(errno);
    let io = |error: std::io::Error| at(linux::errno_of(&error));
    let mut file = std::fs::File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(at)?);
    parts.iter().try_for_each(|part| file.write_all(part)).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(file.into())
}

/// The error output of `bwrap`, in one line.
pub(super) fn error_text(stderr: &OwnedFd) -> String {
    let mut text = Vec::new();
    if let Ok(copy) = stderr.as_fd().try_clone_to_owned() {
        let mut file = std::fs::File::from(copy);
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(MAX_ERROR_TEXT).read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

/// Reads what process 1 was given: the expected files, and the frame that describes the program.
pub(in super::super) fn take_over(program: OwnedFd) -> Option<(Vec<Expected>, Vec<u8>)> {
    let mut content = Vec::new();
    std::fs::File::from(program).read_to_end(&mut content).ok()?;
    let (length, rest) = content.split_first_chunk::<8>()?;
    let (expected, frame) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((serde_json::from_slice(expected).ok()?, frame.to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::OpenPath;
    use super::*;

    /// A folder with those folders in it, links resolved.
    fn folder_with(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in names {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        (folder, root)
    }

    fn open(path: PathBuf, write: bool) -> OpenPath {
        OpenPath { path, write, identity: None, required: true }
    }

    /// The mounts of a view below a folder: `+` is writable, `-` is read-only, `0` is a cover.
    fn mounts(view: &View, root: &Path) -> Vec<String> {
        let plan = Plan::of(view).unwrap();
        let below = plan.mounts.iter().filter_map(|(path, mount)| Some((path.strip_prefix(root).ok()?, mount)));
        let shown = below.map(|(path, mount)| match mount {
            Mount::Bind { write: true, .. } => format!("+{}", path.display()),
            Mount::Bind { write: false, .. } => format!("-{}", path.display()),
            Mount::Cover { .. } => format!("0{}", path.display()),
        });
        shown.collect()
    }

    #[test]
    fn protected_path_is_read_only_and_folders_above_it_are_pinned() {
        let (_folder, root) = folder_with(&["work/.git/hooks", "work/sub"]);
        let view = View {
            read_only: true,
            open: vec![open(root.join("work"), true)],
            protect: vec![root.join("work/.git/hooks"), root.join("work/absent")],
            ..View::default()
        };
        assert_eq!(mounts(&view, &root), ["+work", "+work/.git", "-work/.git/hooks"]);
    }

    #[test]
    fn paths_below_a_protected_path_are_read_only_in_any_order() {
        let (_folder, root) = folder_with(&["work/.vscode/a/b/secret", "work/.vscode/ext"]);
        let mut view = View {
            read_only: true,
            open: vec![open(root.join("work"), true), open(root.join("work/.vscode/ext"), true)],
            protect: vec![root.join("work/.vscode/a/b"), root.join("work/.vscode")],
            hide: vec![root.join("work/.vscode/a/b/secret")],
            ..View::default()
        };
        let expected = [
            "+work",
            "-work/.vscode",
            "-work/.vscode/a",
            "-work/.vscode/a/b",
            "0work/.vscode/a/b/secret",
            "-work/.vscode/ext",
        ];
        assert_eq!(mounts(&view, &root), expected);
        view.protect.reverse();
        assert_eq!(mounts(&view, &root), expected);
    }

    #[test]
    fn folders_between_nested_open_folders_are_pinned() {
        let (_folder, root) = folder_with(&["work/p/q/a/.vscode"]);
        let view = View {
            read_only: true,
            open: vec![open(root.join("work"), true), open(root.join("work/p/q/a"), true)],
            protect: vec![root.join("work/p/q/a/.vscode")],
            ..View::default()
        };
        assert_eq!(mounts(&view, &root), ["+work", "+work/p", "+work/p/q", "+work/p/q/a", "-work/p/q/a/.vscode"]);
    }

    #[test]
    fn expected_path_that_is_not_utf8_survives_serialization() {
        let path = Path::new(OsStr::from_bytes(b"/\xff"));
        let expected = Expected::new(path, FileIdentity { device: 1, inode: 2 }, true);
        let read: Expected = serde_json::from_slice(&serde_json::to_vec(&expected).unwrap()).unwrap();
        assert_eq!(read, expected);
    }

    #[test]
    fn below_a_cover_only_open_paths_are_mounted() {
        let (_folder, root) = folder_with(&["home/.cli/settings", "home/.cli/own/deep"]);
        let view = View {
            read_only: true,
            open: vec![open(root.join("home/.cli/own"), true)],
            protect: vec![root.join("home/.cli/settings"), root.join("home/.cli/own/deep")],
            hide: vec![root.join("home/.cli"), root.join("home/.cli/settings")],
            ..View::default()
        };
        assert_eq!(mounts(&view, &root), ["0home/.cli", "+home/.cli/own", "-home/.cli/own/deep"]);
    }

    #[test]
    fn folders_above_a_cover_are_pinned_if_writable() {
        let (_folder, root) = folder_with(&["a/b/secret"]);
        let view = View { hide: vec![root.join("a/b/secret")], ..View::default() };
        let own = mounts(&view, &root);
        assert_eq!(own, ["+", "+a", "+a/b", "0a/b/secret"]);
        let bounded = View { read_only: true, ..view };
        assert_eq!(mounts(&bounded, &root), ["0a/b/secret"]);
    }

    #[test]
    fn verify_rejects_a_path_without_a_mount() {
        let (_folder, root) = folder_with(&["work"]);
        let identity = identity_of(&root.join("work")).unwrap();
        // It is the right folder, but it is not a mount point.
        let expected = Expected::new(&root.join("work"), identity, false);
        assert_eq!(verify(&[expected]).unwrap_err().errno, Errno::ESTALE);
        let mounted = Path::new("/proc");
        let identity = identity_of(mounted).unwrap();
        let expected = |covered| [Expected::new(mounted, identity, covered)];
        assert_eq!(verify(&expected(false)), Ok(()));
        // A cover that shows the file that it should hide.
        assert_eq!(verify(&expected(true)).unwrap_err().errno, Errno::ESTALE);
    }
}
