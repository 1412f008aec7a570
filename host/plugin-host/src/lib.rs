//! The plugin runtime: WebAssembly components of three kinds, each in one file that describes itself.
//!
//! A guest has no files, no network, no environment and no clock: a component may import only the log. Every call is
//! bounded in time (epochs, see `ticker`), memory (`limits`) and answer (`runtime`). If a guest traps or exceeds a
//! limit, its call fails; its instance is dropped and a new one is made for the next call. A plugin that fails
//! repeatedly is disabled (`health`): every later use fails with an error that names it.
//!
//! [`Registry`] loads the plugins. The code of the bundled ones is compiled when the host is built (`code`); other code
//! is cached on disk (`cache`). A registry makes configured instances: [`ProviderInstance`] keeps a warm guest for its
//! calls and makes a separate one for each [`Transcript`], [`PolicyInstance`] uses a new one for each evaluation, and
//! [`RedactorInstance`] keeps warm ones. Instances keep their code, so that the registry can be replaced.
//!
//! All calls block, and take up to 1 MiB of the calling thread's stack. Do not make them from an async worker.

// The generated bindings have more public items than the host uses.
mod admission;
mod bindings;
mod bundled;
mod cache;
mod code;
mod containment;
mod error;
mod folder;
mod health;
mod inspect;
mod limits;
mod log;
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
pub use containment::{Containment, HostContainment};
pub use error::{Kind, PluginError, PluginErrorKind};
pub use folder::is_component_name;
pub use inspect::PACKAGE_VERSION;
pub use limits::{CallLimits, Limits};
pub use log::{Level, LogEntry, NoLog, PluginLog};
pub use policy::PolicyInstance;
pub use precompile::{bundled_are_compiled, compile_bundled};
pub use provider::{PluginIdentity, ProviderInstance, Transcript};
pub use redactor::RedactorInstance;
pub use registry::{
    PluginChange, PluginChangeKind, PluginDescription, PluginProblem, PluginSource, PluginState, Registry,
    RegistryOptions,
};
pub use runtime::Progress;
