//! How the kernel schedules the thread of an attempt among the other threads of the host.

use nix::libc;

/// From now on, this thread does not preempt others when it wakes up. For what precedes and follows a child: whoever has
/// submitted a run gets the answer first, also where there are few processors.
pub(super) fn give_way() {
    set(libc::SCHED_BATCH);
}

/// From now on, this thread is scheduled like any other. For the output of a child, which somebody may be watching.
pub(super) fn be_prompt() {
    set(libc::SCHED_OTHER);
}

/// A kernel that does not allow it schedules the thread as before.
fn set(policy: libc::c_int) {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the pointer is to a live value.
    unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_of_the_thread_changes_and_that_of_others_does_not() {
        // SAFETY: 0 is the calling thread.
        let class = || unsafe { libc::sched_getscheduler(0) };
        let before = class();
        let changed = std::thread::spawn(move || {
            give_way();
            let first = class();
            be_prompt();
            (first, class())
        });
        assert_eq!(changed.join().ok(), Some((libc::SCHED_BATCH, libc::SCHED_OTHER)));
        assert_eq!(class(), before);
    }
}
