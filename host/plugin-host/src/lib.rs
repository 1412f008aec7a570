//! The plugin runtime: WebAssembly components of three kinds, each made of one file that describes itself.
//!
//! A guest has no files, no network, no environment and no clock: a component may import nothing but the log. Every call
//! is bounded in time (epochs, see `ticker`), memory (`limits`) and answer (`runtime`). A guest that traps or overruns
//! fails its call; its instance is dropped and a fresh one is made for the next. One that fails again and again is set
//! aside (`health`) and every later use is refused with an error that names it.
//!
//! [`Registry`] loads the plugins. The code of the bundled ones is made when the host is built (`code`); other code is kept
//! on disk (`cache`). From it come configured instances:
//! [`ProviderInstance`] keeps a warm guest for its questions and makes one of its own for each [`Transcript`],
//! [`PolicyInstance`] takes a fresh one for each evaluation, [`RedactorInstance`] keeps warm ones. Those keep the code
//! that they were made of, so that another registry can take the place of theirs.
//!
//! All calls block, and take up to 1 MiB of the calling thread's stack. No async worker makes them.

// The generated bindings have more public items than the host uses.
mod admission;
mod bindings;
mod bundled;
mod cache;
mod code;
mod error;
mod folder;
mod health;
mod inspect;
mod limits;
mod log;
mod needs;
mod plugin;
mod policy;
mod precompile;
mod provider;
mod redactor;
mod registry;
mod runtime;
mod settings;
mod ticker;
pub mod types;

#[cfg(test)]
mod tests;

pub use admission::{Admission, KnownFile};
pub use bundled::{BUNDLED, Bundled};
pub use cache::{CODE_KEY_BYTES, CacheOptions};
pub use error::{Kind, PluginError, PluginErrorKind};
pub use folder::is_component_name;
pub use inspect::PACKAGE_VERSION;
pub use limits::{CallLimits, Limits};
pub use log::{Level, LogEntry, NoLog, PluginLog};
pub use needs::{Containment, HostContainment};
pub use policy::PolicyInstance;
pub use precompile::{bundled_are_compiled, compile_bundled};
pub use provider::{PluginIdentity, ProviderInstance, Transcript};
pub use redactor::RedactorInstance;
pub use registry::{
    PluginChange, PluginChangeKind, PluginDescription, PluginProblem, PluginSource, PluginState, Registry,
    RegistryOptions,
};
pub use runtime::Progress;
