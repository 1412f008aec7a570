//! What processes have from whoever started their first ancestor: a host serves many callers, and none of them is to
//! decide for the others.

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Open files that a process may have, where its hard limit allows so many. Enough for any tool, and few enough for those
/// that go through all.
const OPEN_FILES: u64 = 65_536;

/// Makes this process, before it makes others, as if nobody in particular had started it: its files are its user's alone,
/// its niceness is 0 where the system lets it go back to that, and it may open [`OPEN_FILES`].
pub fn become_neutral() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    // SAFETY: takes numbers only. A refusal leaves what there is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
    allow_open_files(true);
}

/// What a program begins with. Its niceness is the host's.
pub(super) fn be_as_usual() {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    allow_open_files(false);
}

/// Sets the soft limit of open files; `raise` never lowers it.
fn allow_open_files(raise: bool) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(OPEN_FILES);
    if soft < wanted || soft > wanted && !raise {
        // A refusal leaves what there is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}
