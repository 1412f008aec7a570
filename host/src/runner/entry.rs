//! How the zygote begins: by fork at the start of `main`, or in a program of its own.

use super::spec::RunnerError;
use super::zygote::Zygote;

/// Forks the zygote. To be called first thing in `main`, before any thread exists; returns in the host only.
///
/// # Errors
/// [`RunnerError::Threads`] where threads exist already; otherwise what the system refused.
pub fn start_zygote() -> Result<Zygote, RunnerError> {
    todo!()
}

/// Serves as zygote on standard input until the host is gone, for [`Zygote::launch`]; never returns.
pub fn serve_zygote() -> ! {
    todo!()
}
