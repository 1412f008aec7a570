//! The bundled plugins, compiled ahead of their use by a process that ends with it.
//!
//! Usually there is nothing to compile: the build script has done it, see [`Bundled::code`](super::Bundled). Where that code
//! does not fit, the host compiles. Compiling takes tens of MiB that an allocator does not give back, and leaves its threads
//! behind. A host that stays for days should have neither.

use std::sync::Arc;

use super::bundled::BUNDLED;
use super::cache::{CacheOptions, CodeCache, sha256_hex};
use super::error::{PluginError, PluginErrorKind};
use super::limits::Limits;
use super::runtime::{Progress, Runtime, made_with_this_program, single_engine};

/// Whether there is compiled code of every bundled plugin for this build and this machine: in the program, or in the folder.
/// `true` also where no code can be kept there.
#[must_use]
pub fn bundled_are_compiled(cache: &CacheOptions) -> bool {
    let Ok(engine) = single_engine() else { return true };
    // All of it was made with the same settings: what holds for the smallest one holds for all.
    let smallest = BUNDLED.iter().map(|plugin| plugin.code).min_by_key(|code| code.len()).unwrap_or_default();
    if made_with_this_program(&engine, smallest).is_some() {
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
        // What is wrong with it is told by the host that loads it.
        let _ = runtime.load(&Arc::from(plugin.component), &[], &sha256_hex(plugin.component), time, &what);
    }
    Ok(())
}
