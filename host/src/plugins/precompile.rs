//! The bundled plugins, compiled ahead of their use by a process that ends with it.
//!
//! Compiling takes tens of MiB that an allocator does not give back, and leaves its threads behind. A host that stays
//! for days should have neither.

use wasmtime::Engine;

use super::bundled::BUNDLED;
use super::cache::{CacheOptions, CodeCache, sha256_hex};
use super::error::PluginError;
use super::registry::{Registry, RegistryOptions};
use super::runtime::config;

/// Whether the folder has the compiled code of every bundled plugin, as this build and this machine need it. `true` also
/// where no code can be kept there.
#[must_use]
pub fn bundled_are_compiled(cache: &CacheOptions) -> bool {
    let Ok(engine) = Engine::new(&config()) else { return true };
    let Ok(cache) = CodeCache::open(cache, &engine) else { return true };
    BUNDLED.iter().all(|plugin| cache.path(&sha256_hex(plugin.component)).exists())
}

/// Compiles the bundled plugins into the folder.
///
/// # Errors
/// If the engine cannot be set up on this machine.
pub fn compile_bundled(cache: CacheOptions) -> Result<(), PluginError> {
    let options = RegistryOptions { cache: Some(cache), ..RegistryOptions::default() };
    Registry::open(&options).map(drop)
}
