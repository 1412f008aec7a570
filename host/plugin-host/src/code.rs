//! The configuration for compiling components to machine code. The build script uses this file, too, so that its code
//! fits the host.

use wasmtime::Config;

/// Stack of a guest, taken from the calling thread, whose own must be larger.
const GUEST_STACK: usize = 1024 * 1024;

/// Processor features that code of the build script may use: x86-64-v2, which every processor since about 2009 has. If
/// one is missing, the code does not load, and the host compiles the component itself.
#[allow(dead_code, reason = "the build script uses it")]
pub(crate) const BASELINE_X86_64: &[&str] =
    &["has_cmpxchg16b", "has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];

/// The configuration of every engine of this build. Compiled code fits all engines with the same memory layout.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        // Deterministic on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Backtraces and debuggers are not used for guests.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_memory64(false);
    config
}
