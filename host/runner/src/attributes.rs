//! Process attributes that are inherited: umask, niceness and limits. A host serves many callers; the attributes of the
//! shell that happened to start it must not apply to the runs of the others.

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Open files that a process may have, if its hard limit allows it. Enough for any tool, and few enough for tools that
/// iterate over all descriptors.
const OPEN_FILES: u64 = 65_536;

/// Resets inherited attributes of this process, before it starts others: its files are private to its user, its
/// niceness is 0 if the system allows that, and it may open [`OPEN_FILES`].
pub fn become_neutral() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    // SAFETY: takes numbers only. A failure leaves the old value.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
    allow_open_files(true);
}

/// Sets the attributes with which a program starts. It inherits the host's niceness.
pub(super) fn set_child_attributes() {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    allow_open_files(false);
}

/// Sets the soft limit of open files; `raise` never lowers it.
fn allow_open_files(raise: bool) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(OPEN_FILES);
    if soft < wanted || soft > wanted && !raise {
        // A failure leaves the old value.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}
