//! How the kernel schedules the thread of an attempt when it is woken for its next attempt.

use std::cell::Cell;

use nix::libc;

thread_local! {
    /// Whether this thread gives way.
    static GIVES_WAY: Cell<bool> = const { Cell::new(false) };
}

/// When this thread is woken for the next time, it does not preempt others: whoever has submitted a run gets the answer
/// before the run starts, also where there are few processors. Children inherit the class, so that it must not be in
/// force during an attempt.
pub(super) fn give_way() {
    // SAFETY: 0 is the calling thread.
    let class = unsafe { libc::sched_getscheduler(0) };
    // Any other class was chosen by whoever has started the host.
    if class == libc::SCHED_OTHER && set(libc::SCHED_BATCH) {
        GIVES_WAY.set(true);
    }
}

/// The thread is scheduled as the others of the host are.
pub(super) fn restore() {
    if GIVES_WAY.take() {
        set(libc::SCHED_OTHER);
    }
}

/// False if the kernel, or the C library, does not support it.
fn set(class: libc::c_int) -> bool {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the pointer is to a live value.
    unsafe { libc::sched_setscheduler(0, class, &raw const param) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> libc::c_int {
        // SAFETY: 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn thread_gives_way_until_it_is_restored_and_others_do_not() {
        let before = class();
        let changed = std::thread::spawn(move || {
            give_way();
            let first = class();
            restore();
            (first, class())
        });
        let expected = if before == libc::SCHED_OTHER { libc::SCHED_BATCH } else { before };
        assert_eq!(changed.join().ok(), Some((expected, before)));
        assert_eq!(class(), before);
    }

    #[test]
    fn class_that_was_chosen_for_the_host_stays() {
        let changed = std::thread::spawn(|| {
            set(libc::SCHED_BATCH);
            give_way();
            restore();
            class()
        });
        assert_eq!(changed.join().ok(), Some(libc::SCHED_BATCH));
    }
}
