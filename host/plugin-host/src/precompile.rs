//! Compiles the bundled plugins ahead of their use, in a process that then exits.
//!
//! Usually there is nothing to compile: the build script has done it, see [`Bundled::code`](super::Bundled). If that
//! code does not fit the machine, the host compiles. Compilation takes tens of MiB that an allocator does not return,
//! and leaves threads behind, which a host that runs for days should not have.

use std::sync::Arc;

use super::bundled::BUNDLED;
use super::cache::{CacheOptions, CodeCache, sha256_hex};
use super::error::{PluginError, PluginErrorKind};
use super::limits::Limits;
use super::runtime::{Progress, Runtime, embedded_code, single_engine};

/// Whether there is compiled code of every bundled plugin for this build and this machine: in the program, or in the
/// folder. Also true if no code can be stored in the folder.
#[must_use]
pub fn bundled_are_compiled(cache: &CacheOptions) -> bool {
    let Ok(engine) = single_engine() else { return true };
    // All code was compiled with the same settings: it is enough to check the smallest one.
    let smallest = BUNDLED.iter().map(|plugin| plugin.code).min_by_key(|code| code.len()).unwrap_or_default();
    if embedded_code(&engine, smallest).is_some() {
        return true;
    }
    let Ok(cache) = CodeCache::open(cache, &engine) else { return true };
    BUNDLED.iter().all(|plugin| cache.path(&sha256_hex(plugin.component)).exists())
}

/// Compiles the bundled plugins into the folder.
///
/// # Errors
/// If the engine cannot be set up on this machine.
pub fn compile_bundled(cache: &CacheOptions, progress: Progress) -> Result<(), PluginError> {
    let (runtime, _) = Runtime::new(Some(cache), progress)
        .map_err(|message| PluginError::new("engine", PluginErrorKind::Host, message))?;
    let time = Limits::default().compile_time;
    for (index, plugin) in BUNDLED.iter().enumerate() {
        let what = format!("plugins ({} of {})", index + 1, BUNDLED.len());
        // The host that loads the plugin reports the error.
        let _ = runtime.load(&Arc::from(plugin.component), &[], &sha256_hex(plugin.component), time, &what);
    }
    Ok(())
}
