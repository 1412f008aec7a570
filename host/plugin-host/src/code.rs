//! How machine code is made of components. The build script uses this file too: what it compiles must fit the host.

use wasmtime::Config;

/// Stack of a guest, taken from the calling thread, whose own must be larger.
const GUEST_STACK: usize = 1024 * 1024;

/// Features of the processor that code of the build script may use: x86-64-v2, what every processor since about 2009 has.
/// Where one is missing, the code does not load, and the host compiles the component itself.
#[allow(dead_code, reason = "the build script uses it")]
pub(crate) const BASELINE_X86_64: &[&str] =
    &["has_cmpxchg16b", "has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];

/// How every engine of this build is set up: compiled code fits all of them that have the same layout of memory.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        // The same answer on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Neither backtraces nor debuggers look into guests.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_memory64(false);
    config
}
