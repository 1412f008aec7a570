//! Resource limits of guests.

use std::time::Duration;

use super::error::Kind;

/// Limits of one instance and of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Time of one call, `configure` and instantiation included; measured in ticks of 10 ms.
    pub time: Duration,
    /// All linear memories of an instance together, in bytes.
    pub memory: usize,
    /// All table elements of an instance together.
    pub table_elements: usize,
    /// The largest answer, in bytes of the host's memory.
    pub output: usize,
}

/// Limits for all plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Limits of providers. Their transcripts parse lines of many megabytes.
    pub provider: CallLimits,
    /// Limits of redactors.
    pub redactor: CallLimits,
    /// Limits of policies.
    pub policy: CallLimits,
    /// Size of a component file, in bytes. Python's are about 18 MB.
    pub component_size: u64,
    /// Time of one compilation. It cannot be stopped, only abandoned; until it ends, nothing else is compiled.
    pub compile_time: Duration,
    /// Size of a settings document or schema, in bytes.
    pub settings_size: usize,
    /// One message to the log, in bytes; the rest is cut.
    pub log_message: usize,
    /// Messages that a plugin may log each second, and in one burst.
    pub log_rate: u32,
    /// Calls after which a warm instance is replaced by a fresh one.
    pub warm_calls: u32,
    /// Consecutive faults after which a plugin is disabled.
    pub faults_in_a_row: u32,
    /// Faults within [`fault_window`](Self::fault_window) after which a plugin is disabled.
    pub faults_in_window: u32,
    /// See [`faults_in_window`](Self::faults_in_window).
    pub fault_window: Duration,
}

const MIB: usize = 1024 * 1024;

/// Table elements of an instance, unless its limits allow fewer. wasmtime's documentation mentions a module in C# with
/// more than 10,000.
pub(super) const MAX_TABLE_ELEMENTS: usize = 100_000;

impl Default for Limits {
    fn default() -> Self {
        let call = |output| CallLimits {
            time: Duration::from_secs(5),
            memory: 256 * MIB,
            table_elements: MAX_TABLE_ELEMENTS,
            output,
        };
        Self {
            provider: call(64 * MIB),
            redactor: call(16 * MIB),
            policy: call(4 * MIB),
            component_size: 64 * MIB as u64,
            compile_time: Duration::from_secs(120),
            settings_size: MIB,
            log_message: 4096,
            log_rate: 50,
            warm_calls: 10_000,
            faults_in_a_row: 3,
            faults_in_window: 5,
            fault_window: Duration::from_secs(600),
        }
    }
}

impl Limits {
    /// The limits of calls of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &CallLimits {
        match kind {
            Kind::Provider => &self.provider,
            Kind::Redactor => &self.redactor,
            Kind::Policy => &self.policy,
        }
    }
}

/// A guest requested more than its limit. The text completes 'it was stopped because it …'.
#[derive(Debug, thiserror::Error)]
#[error("wanted {wanted} {what}, where {limit} are allowed")]
pub(super) struct LimitExceeded {
    what: &'static str,
    wanted: usize,
    limit: usize,
}

/// Counts what one instance uses. Linear memories are counted together: a component may have many.
#[derive(Debug)]
pub(super) struct Budget {
    memory: usize,
    memory_limit: usize,
    elements: usize,
    elements_limit: usize,
}

/// Core modules, memories and tables in one component. A component of one language toolchain has a handful.
pub(super) const INSTANCES: usize = 64;

impl Budget {
    pub(super) fn new(limits: &CallLimits) -> Self {
        Self { memory: 0, memory_limit: limits.memory, elements: 0, elements_limit: limits.table_elements }
    }
}

impl wasmtime::ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory.saturating_add(desired.saturating_sub(current));
        if wanted > self.memory_limit {
            return Err(LimitExceeded { what: "bytes of memory", wanted, limit: self.memory_limit }.into());
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.elements.saturating_add(desired.saturating_sub(current));
        if wanted > self.elements_limit {
            return Err(LimitExceeded { what: "table elements", wanted, limit: self.elements_limit }.into());
        }
        self.elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        INSTANCES
    }
}
