//! The engine: its configuration, the compilation of components, and the limits of a call.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolConcurrencyLimitError, PoolingAllocationConfig, Store,
    Trap,
};

use super::bindings::provider::ostler::plugin::{log as log_interface, types as types_interface};
use super::cache::{CacheOptions, CodeCache};
use super::code::config;
use super::error::PluginErrorKind;
use super::limits::{Budget, CallLimits, INSTANCES, LimitExceeded, MAX_TABLE_ELEMENTS};
use super::log::{Level, LogGate};
use super::ticker::{TICK, Ticker};

/// Called repeatedly while a component is compiled, with a description of the step.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// The interval between two progress reports of a compilation.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// How many times longer than its limit a compilation may take if it gets little processor time.
const MAX_SLOWDOWN: u32 = 20;

/// An address space smaller than this is too small to reserve whole memories of 4 GiB each.
const SCARCE: u64 = 64 << 30;

/// Bytes by which a memory can grow in place if the address space is scarce.
const SCARCE_GROWTH: u64 = 1 << 20;

/// Stack of the thread that compiles.
const COMPILER_STACK: usize = 8 * 1024 * 1024;

/// Resources that a guest may keep handles to at once: a transcript needs one.
const HANDLES: usize = 1000;

/// Instances alive at once in one host: a transcript of each of at most 256 runs, a policy evaluation on each of their
/// threads, instances for client requests, and warm ones.
const POOL: u32 = 1024;

/// Core instances, memories and tables alive at once: a component usually has one memory, and besides its program
/// some small core instances that connect it to its imports.
const POOL_PARTS: u32 = 4 * POOL;

/// Bytes of a memory that stay mapped, zeroed, for the next instance of the same component.
const KEPT_MEMORY: usize = 128 * 1024;

/// The same for a table.
const KEPT_TABLE: usize = 16 * 1024;

/// Slots of ended instances that keep those bytes.
const KEPT_SLOTS: u32 = 32;

thread_local! {
    /// Whether this thread is inside a guest's call.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Guard: while it lives, this thread is inside a guest's call.
struct Inside;

impl Inside {
    /// None if the thread is in one already. A guest calls the host only to log, and log messages are redacted,
    /// possibly by a redactor plugin. If nested calls were allowed, a redactor that logs its input would call itself
    /// recursively on one stack.
    fn enter() -> Option<Self> {
        (!INSIDE.replace(true)).then_some(Self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// The host's state of an instance.
pub(super) struct HostState {
    budget: Budget,
    log: Arc<LogGate>,
}

impl log_interface::Host for HostState {
    fn write(&mut self, level: Level, message: String) {
        self.log.write(level, &message);
    }
}

impl types_interface::Host for HostState {}

/// A call that failed without an answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: PluginErrorKind,
    pub(super) message: String,
}

/// One engine for all plugins.
pub(super) struct Runtime {
    engine: Engine,
    pub(super) linker: Linker<HostState>,
    ticker: Ticker,
    pub(super) cache: Option<CodeCache>,
    slot: Arc<CompileSlot>,
    compiled: AtomicU64,
    progress: Progress,
}

impl Runtime {
    /// Sets up the engine. The second value is the error if the cache cannot be used.
    ///
    /// # Errors
    /// If wasmtime does not support this machine, or no thread can be started.
    pub(super) fn new(cache: Option<&CacheOptions>, progress: Progress) -> Result<(Arc<Self>, Option<String>), String> {
        // The pool may not fit for another reason than a limit.
        let engine = if address_space().is_some() { Err(()) } else { Engine::new(&pooled()).map_err(drop) };
        let engine = engine
            .or_else(|()| single_engine())
            .map_err(|error| format!("failed to set up the plugin engine: {error:#}"))?;
        let mut linker = Linker::new(&engine);
        log_interface::add_to_linker::<HostState, HasSelf<HostState>>(&mut linker, |state| state)
            .and_then(|()| types_interface::add_to_linker::<HostState, HasSelf<HostState>>(&mut linker, |state| state))
            .map_err(|error| format!("failed to set up the plugin engine: {error:#}"))?;
        let ticker =
            Ticker::start(engine.clone()).map_err(|error| format!("failed to start the plugin clock: {error}"))?;
        let (cache, problem) = match cache.map(|options| CodeCache::open(options, &engine)) {
            None => (None, None),
            Some(Ok(cache)) => (Some(cache), None),
            Some(Err(problem)) => (None, Some(problem)),
        };
        let slot = Arc::default();
        Ok((Arc::new(Self { engine, linker, ticker, cache, slot, compiled: AtomicU64::new(0), progress }), problem))
    }

    /// How many components this engine has compiled, not counting those from the cache.
    pub(super) fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// The component's code: built into this program, from the cache, or compiled. `what` names it in progress reports.
    ///
    /// # Errors
    /// If it is not valid, or takes longer than `time`.
    pub(super) fn load(
        &self,
        bytes: &Arc<[u8]>,
        embedded: &'static [u8],
        digest: &str,
        time: Duration,
        what: &str,
    ) -> Result<Component, String> {
        if let Some(component) = embedded_code(&self.engine, embedded).or_else(|| self.cached(digest)) {
            return Ok(component);
        }
        let turn = CompileSlot::acquire(&self.slot, time).ok_or_else(|| {
            format!("it could not be compiled within {} seconds: another compilation is under way", time.as_secs())
        })?;
        // Another thread may have compiled the same component meanwhile.
        if let Some(component) = self.cached(digest) {
            return Ok(component);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let engine = self.engine.clone();
        let bytes = Arc::clone(bytes);
        let compile = move || {
            let component =
                Component::from_binary(&engine, &bytes).map_err(|error| format!("it is not valid: {error:#}"));
            drop(turn);
            // There is no receiver if it took too long.
            let _ = sender.send(component);
        };
        thread::Builder::new()
            .name("plugin-compiler".into())
            .stack_size(COMPILER_STACK)
            .spawn(compile)
            .map_err(|error| format!("failed to start a thread to compile it: {error}"))?;
        let component = self.wait_for(&receiver, time, what)??;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(digest, &component)
        {
            tracing::warn!(%error, "failed to keep a compiled plugin; the next start compiles it again");
        }
        Ok(component)
    }

    /// Waits for a compilation. Processor time counts, so that a slow or busy machine does not reject a plugin.
    fn wait_for<T>(&self, receiver: &mpsc::Receiver<T>, time: Duration, what: &str) -> Result<T, String> {
        let (began, used_before) = (Instant::now(), processor_time());
        loop {
            (self.progress)(&format!("compiling {what}"));
            match receiver.recv_timeout(PROGRESS_INTERVAL.min(time)) {
                Ok(compiled) => return Ok(compiled),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("its compilation failed".to_owned()),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let (passed, used) = (began.elapsed(), processor_time().saturating_sub(used_before));
            if passed >= time && (used >= time || passed >= time * MAX_SLOWDOWN) {
                return Err(format!("it took longer than {} seconds to compile", time.as_secs()));
            }
        }
    }

    fn cached(&self, digest: &str) -> Option<Component> {
        self.cache.as_ref()?.load(&self.engine, digest)
    }

    /// A store for one instance.
    pub(super) fn store(&self, limits: &CallLimits, log: &Arc<LogGate>) -> Store<HostState> {
        let mut store = Store::new(&self.engine, HostState { budget: Budget::new(limits), log: Arc::clone(log) });
        store.limiter(|state| &mut state.budget);
        store.epoch_deadline_trap();
        store.set_hostcall_fuel(limits.output);
        store.set_max_component_handles(HANDLES);
        store
    }

    /// Runs guest code in the store, within the time of a call. After a fault the store must not be used again.
    /// Fails inside of another guest's call.
    pub(super) fn enter<T>(
        &self,
        store: &mut Store<HostState>,
        limits: &CallLimits,
        call: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let Some(_inside) = Inside::enter() else {
            let message = "it is not called from within the call of a plugin".to_owned();
            return Err(Fault { kind: PluginErrorKind::Host, message });
        };
        // The current tick is partly over.
        store.set_epoch_deadline(ticks(limits.time) + 1);
        let _in_flight = self.ticker.call();
        call(store).map_err(|error| classify(&error, limits))
    }

    #[cfg(test)]
    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    #[cfg(test)]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Like [`config`], with instances in a pool of slots that are mapped once: mapping and unmapping memory for each
/// instance takes longer than most calls, and stops the other threads. Compiled code is the same with and without a
/// pool.
fn pooled() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let parts = u32::try_from(INSTANCES).unwrap_or(u32::MAX);
    pool.total_component_instances(POOL)
        .total_core_instances(POOL_PARTS)
        .total_memories(POOL_PARTS)
        .total_tables(POOL_PARTS)
        // The budget of an instance is the effective limit: these are not lower than any budget.
        .max_core_instances_per_component(parts)
        .max_memories_per_component(parts)
        .max_tables_per_component(parts)
        .max_memories_per_module(parts)
        .max_tables_per_module(parts)
        .max_memory_size(1 << 32)
        .table_elements(MAX_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE)
        .max_unused_warm_slots(KEPT_SLOTS)
        .pagemap_scan(Enabled::Auto);
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// An engine without a pool. Its code works in engines with one.
pub(super) fn single_engine() -> wasmtime::Result<Engine> {
    Engine::new(&address_space().map_or_else(config, |_| scarce()))
}

/// The limit on the address space, in bytes, if it is low (`ulimit -v`).
pub(super) fn address_space() -> Option<u64> {
    let (limit, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_AS).ok()?;
    (limit < SCARCE).then_some(limit)
}

/// Like [`config`], for a scarce address space: a memory takes only what it uses, and code checks its bounds.
fn scarce() -> Config {
    let mut config = config();
    config
        .memory_reservation(0)
        .memory_reservation_for_growth(SCARCE_GROWTH)
        .memory_guard_size(0)
        .memory_may_move(true);
    config
}

/// Code that the build script has compiled, if it fits this engine and this processor.
pub(super) fn embedded_code(engine: &Engine, code: &'static [u8]) -> Option<Component> {
    if code.is_empty() {
        return None;
    }
    // SAFETY: the bytes were made by the build script with `Engine::precompile_component`, and are a part of this
    // program. wasmtime itself refuses code of another version, with other settings, or for another processor.
    let loaded = unsafe { Component::deserialize(engine, code) };
    loaded.inspect_err(|error| tracing::debug!(%error, "the embedded code does not fit this machine")).ok()
}

/// The processor time of this process.
fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2).clamp(1, u64::MAX / 2)
}

/// wasmtime's message if an answer is larger than its fuel; there is no error type for that.
const FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls has been exhausted";

fn classify(error: &wasmtime::Error, limits: &CallLimits) -> Fault {
    if let Some(exceeded) = error.downcast_ref::<LimitExceeded>() {
        return Fault { kind: PluginErrorKind::Memory, message: format!("it was stopped because it {exceeded}") };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        let message = "too many plugins are at work at once; try again".to_owned();
        return Fault { kind: PluginErrorKind::Host, message };
    }
    let text = format!("{error:#}");
    if let Some(limit) = address_space().filter(|_| text.contains("mmap") || text.contains("os error 12")) {
        let message =
            format!("out of address space: ulimit -v is {} KiB; Ostler needs about 1 GiB ({text})", limit / 1024);
        return Fault { kind: PluginErrorKind::Host, message };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Fault {
            kind: PluginErrorKind::Timeout,
            message: format!("it was stopped because it ran longer than {} ms", limits.time.as_millis()),
        },
        Some(Trap::StackOverflow) => Fault {
            kind: PluginErrorKind::Trap,
            message: "it was stopped because its calls nest too deeply".to_owned(),
        },
        Some(trap) => Fault { kind: PluginErrorKind::Trap, message: format!("it trapped: {trap}") },
        None if text.contains(FUEL_EXHAUSTED) => Fault {
            kind: PluginErrorKind::Output,
            message: format!("it was stopped because its answer is larger than {} bytes", limits.output),
        },
        None => Fault { kind: PluginErrorKind::Trap, message: format!("it broke the rules of the interface: {text}") },
    }
}

/// Allows one compilation at a time. The permit belongs to the compiling thread, which may outlive its caller.
#[derive(Debug, Default)]
struct CompileSlot {
    taken: Mutex<bool>,
    freed: Condvar,
}

struct CompilePermit(Arc<CompileSlot>);

impl CompileSlot {
    fn acquire(slot: &Arc<Self>, timeout: Duration) -> Option<CompilePermit> {
        let deadline = Instant::now() + timeout;
        let mut taken = slot.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            let left = deadline.checked_duration_since(Instant::now())?;
            taken = slot.freed.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(CompilePermit(Arc::clone(slot)))
    }
}

impl Drop for CompilePermit {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}
