//! Collects the processes that end in a PID namespace, and reports the end of one of them.
//!
//! Process 1 of a namespace inherits every orphan in it, and the namespace lives as long as process 1. So process 1 of
//! a run has two jobs left once the program exists: to collect every process that ends, and to report to the keeper,
//! over a socket, when the program has ended. A copy of the keeper can do that in place ([`collect`]). If `bwrap` has
//! made the namespaces, process 1 is a new process of the whole host program, which would keep two megabytes of
//! relocated data for each run; it executes the small program of this package instead.

use std::io;
use std::os::fd::RawFd;

/// First byte of the message that [`collect`] sends.
pub const REPORT: u8 = b'x';

/// How a process ended, and what it used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// The status as `wait` returns it.
    pub status: i32,
    /// CPU time in user mode, in microseconds, with the descendants that it waited for.
    pub user_micros: u64,
    /// CPU time in the kernel, in microseconds, with the descendants that it waited for.
    pub system_micros: u64,
    /// Largest resident set, in KiB.
    pub peak_rss_kib: u64,
}

impl Reaped {
    /// Bytes of a message.
    pub const MESSAGE: usize = 29;

    /// Encodes it as a message.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::MESSAGE] {
        let mut message = [REPORT; Self::MESSAGE];
        let fields = [
            &self.status.to_le_bytes()[..],
            &self.user_micros.to_le_bytes(),
            &self.system_micros.to_le_bytes(),
            &self.peak_rss_kib.to_le_bytes(),
        ];
        for (to, from) in message.iter_mut().skip(1).zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        message
    }

    /// Decodes a message without its first byte. `None` if the length is wrong.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (status, rest) = body.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (system, rest) = rest.split_first_chunk()?;
        Some(Self {
            status: i32::from_le_bytes(*status),
            user_micros: u64::from_le_bytes(*user),
            system_micros: u64::from_le_bytes(*system),
            peak_rss_kib: u64::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// Collects a child that has ended. If none has, waits for one (`block`) or returns `None`.
///
/// # Errors
/// `ECHILD` if there is no child; `EINTR` if a signal came first.
pub fn wait_any(block: bool) -> io::Result<Option<(i32, Reaped)>> {
    let mut status = 0;
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let options = if block { 0 } else { libc::WNOHANG };
    // SAFETY: both pointers are to live, writable values of the right types.
    let pid = unsafe { libc::wait4(-1, &raw mut status, options, &raw mut usage) };
    let micros = |time: libc::timeval| {
        let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
        seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(micros.unwrap_or(0))
    };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some((
            pid,
            Reaped {
                status,
                user_micros: micros(usage.ru_utime),
                system_micros: micros(usage.ru_stime),
                peak_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
            },
        ))),
    }
}

/// The main loop of process 1: collects processes that end, and reports the end of `program` over `control`, a
/// sequential packet socket. Returns when no child is left, or when the keeper no longer reads.
pub fn collect(control: RawFd, program: i32) {
    loop {
        match wait_any(true) {
            Ok(Some((pid, ended))) if pid == program => {
                let message = ended.encode();
                // SAFETY: a live buffer and its length.
                let sent = unsafe { libc::send(control, message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
                if sent < 0 {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn decode_returns_what_was_encoded() {
        let ended = Reaped { status: -7, user_micros: u64::MAX, system_micros: 1, peak_rss_kib: 1 << 40 };
        let message = ended.encode();
        assert_eq!(message[0], REPORT);
        assert_eq!(Reaped::decode(&message[1..]), Some(ended));
    }

    #[test]
    fn decode_rejects_every_other_length() {
        let message = [0; Reaped::MESSAGE + 1];
        for length in (0..message.len()).filter(|length| *length != Reaped::MESSAGE - 1) {
            assert_eq!(Reaped::decode(&message[..length]), None, "{length} bytes");
        }
    }
}
