//! Process supervision: starts a child, moves its bytes, and makes sure that nothing of it stays behind.
//!
//! This crate knows nothing of providers, storage or events of the host. It needs no async runtime: the caller gives
//! each child a thread and calls [`Child::next`] in a loop.
//!
//! # Processes
//! ```text
//! host ──control socket──▶ zygote            one for each host, single-threaded, forked before the host grows
//!   │                        └─ keeper       one for each run: subreaper, ends everything below it
//!   └──lifeline socket────────▶ └─ child     own session and process group; its descendants stay below the keeper
//! ```
//! The lifeline's other end lives in the host alone. When the host ends in any way, SIGKILL included, it closes; the
//! keeper then freezes and kills everything below itself and exits. The zygote exits when its control socket closes. A
//! keeper that is killed is noticed twice: the host sees the lifeline close and ends what it can identify, and the
//! zygote, a subreaper too, inherits the orphans and ends them.
//!
//! # Three separate ends
//! A child's exit, the end of its streams and the end of its tree are three events, in any order:
//! [`Event::Exited`], [`Event::EndOfStream`] (one for each stream) and, always last, [`Event::Contained`]. After the
//! exit there is a bounded wait ([`SpawnLimits::linger`]) for the streams; then the keeper ends what is left and the
//! streams are closed, so that a descendant that holds a pipe open cannot hang the run.
//!
//! # Pipes or a terminal
//! A child has three pipes, or, with [`SpawnSpec::terminal`], a terminal of its own as its standard streams: a PTY, of
//! which the host has the master. `terminal` explains it. A terminal has one stream of output, [`Stream::Stdout`].
//!
//! # Starting the zygote
//! `main` calls [`start_zygote`] before it starts any thread. For the hidden verb that [`Zygote::respawn_with`] names,
//! it calls [`serve_zygote`]; `/proc/self/exe` as the program still works when the binary has been replaced. A process
//! with threads must not fork, so tests start theirs with [`Zygote::launch`]: unit tests with the test binary itself
//! (`tests::zygote` here), integration tests with `CARGO_BIN_EXE_ostler` and the hidden verb.

mod attributes;
mod child;
mod containment;
mod entry;
mod event;
mod identity;
mod input;
mod keeper;
mod leftover;
mod lines;
mod link;
#[cfg(target_os = "linux")]
mod linux;
mod lookup;
mod peer;
mod placeholders;
mod prelude;
mod private;
mod probe;
mod remove;
mod sandbox;
mod shims;
mod spawn;
mod spec;
mod terminal;
#[cfg(test)]
pub(crate) mod tests;
mod wire;
mod zygote;

pub use attributes::become_neutral;
pub use child::{Child, Prepared, Waker, WriteRefused};
pub use entry::{serve_zygote, start_zygote};
pub use event::{Contained, Event, Exit, ExitStatus, Leftover, StopSignal, Stream, Usage};
pub use identity::ProcessIdentity;
pub use leftover::{LeftoverReport, end_leftovers};
pub use lines::{Batch, Line, LineCaps, LineSplitter};
pub use lookup::{Executable, Launch, LaunchError, Lookup, find_executable, inspect_executable, resolve_launch};
pub use peer::{Peers, Standing};
pub use prelude::{PreludePlan, ShellPrelude, plan_prelude};
pub use private::{Access, Collected, PrivateDir, PrivateError, SweepReport, sweep};
pub use probe::{ProbeOutcome, ProbeSpec, run_probe};
pub use sandbox::{
    Backend, FileIdentity, Filter, INIT_VERB, Landlock, Maker, Namespaces, Network, OpenPath, Placeholder, ProbeReport,
    RefusedBackend, ResourceLimits, Sandbox, TEMPORARY_FOLDERS, View, available as available_sandbox, be_opaque,
    run_probe_child,
};
pub use shims::{
    CliAllowlist, Problem as ShellProblem, Problem, ShimEntry, ShimError, ShimMode, ShimPlan, Shims, plan_shims,
};
pub use spawn::serve_as_init;
pub use spec::{RunnerError, SpawnError, SpawnErrorKind, SpawnLimits, SpawnSpec, Stdin, is_transient};
pub use terminal::{ResizeRefused, TerminalSize};
pub use zygote::Zygote;

#[cfg(not(target_os = "linux"))]
compile_error!("the runner has no port for this system yet: write a counterpart of runner/linux.rs");
