//! The sections and their values. The names of the fields are the keys of the file; on the wire they are camelCase.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::sources::Sources;
use ostler_protocol::{SandboxBackend, SandboxMode, lies_in};

/// The whole configuration, read and checked. `Default` is empty; the defaults come from [`Config::builtin`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// `[host]`
    pub host: HostConfig,
    /// `[scheduler]`
    pub scheduler: SchedulerConfig,
    /// `[runner]`
    pub runner: RunnerConfig,
    /// `[storage]`
    pub storage: StorageConfig,
    /// `[retention]`
    pub retention: RetentionConfig,
    /// `[policy]`
    pub policy: PolicyConfig,
    /// `[sandbox]`
    pub sandbox: SandboxConfig,
    /// `[redaction]`
    pub redaction: RedactionConfig,
    /// `[plugins]`
    pub plugins: PluginsConfig,
    /// `[providers.NAME]`, by the name of the instance (kebab case).
    pub providers: BTreeMap<String, ProviderConfig>,
    /// `[http]`
    pub http: HttpConfig,
    /// `[tokens]`
    pub tokens: TokensConfig,
    /// `[log]`
    pub log: LogConfig,
    /// Where the values come from that are not the built-in ones.
    #[serde(skip)]
    pub(super) sources: Sources,
}

impl Config {
    /// Where the values come from that are not the built-in ones.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How many runs of a provider instance may run at a time.
    #[must_use]
    pub fn concurrency(&self, provider: &str) -> usize {
        self.providers.get(provider).and_then(|found| found.concurrency).unwrap_or(self.scheduler.per_provider)
    }
}

/// The host process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostConfig {
    /// A host that was started in the background ends after so long without anything to do.
    pub idle_seconds: u64,
}

impl HostConfig {
    /// `idle_seconds` as a duration.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

/// The API over TCP, besides the unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpConfig {
    /// Where it listens; nowhere without it.
    pub listen: Option<SocketAddr>,
    /// Whether an address that other machines reach is taken.
    pub allow_remote: bool,
    /// Names in the `Host` header besides those of the address itself.
    pub allowed_hosts: Vec<String>,
    /// Origins of pages whose scripts may call.
    pub allowed_origins: Vec<String>,
}

/// The queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerConfig {
    /// Runs at a time, in all.
    pub global: usize,
    /// Runs at a time for each provider instance that does not say otherwise; see [`Config::concurrency`].
    pub per_provider: usize,
    /// Runs that may wait, scheduled ones included.
    pub capacity: usize,
    /// Waiting this many seconds raises the priority by 1.
    pub aging_seconds: u64,
    /// Whether a run whose host died under it is queued again if it has retries left.
    pub requeue_interrupted: bool,
}

impl SchedulerConfig {
    /// `aging_seconds` as a duration.
    #[must_use]
    pub const fn aging(&self) -> Duration {
        Duration::from_secs(self.aging_seconds)
    }
}

/// Supervision of the child processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerConfig {
    /// Time limit of runs that name none.
    pub timeout_seconds: u64,
    /// From the first signal of a stop to the kill, in all.
    pub grace_seconds: u64,
    /// How long output is read on after the child's exit while a descendant holds it open.
    pub exit_grace_ms: u64,
    /// How long a CLI may go on after its work is done before it is ended.
    pub linger_seconds: u64,
    /// The same where it still waits for work in the background.
    pub background_seconds: u64,
    /// Longest line that is stored and shown, in bytes.
    pub max_line_bytes: usize,
    /// Longest line that a plugin's transcript gets, in MiB.
    pub max_transcript_line_mib: usize,
    /// Names of the variables that every child inherits; a trailing `*` is allowed.
    pub inherit_environment: Vec<String>,
    /// Resource limits of children.
    pub limits: ResourceLimits,
}

/// Resource limits of each process of a run; 0 means no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Processes and threads.
    pub processes: u64,
    /// Address space, in MiB.
    pub memory_mib: u64,
    /// Open files.
    pub open_files: u64,
    /// The largest file, in MiB.
    pub file_size_mib: u64,
}

impl RunnerConfig {
    /// `grace_seconds` as a duration.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// `exit_grace_ms` as a duration.
    #[must_use]
    pub const fn exit_grace(&self) -> Duration {
        Duration::from_millis(self.exit_grace_ms)
    }

    /// `linger_seconds` as a duration.
    #[must_use]
    pub const fn linger(&self) -> Duration {
        Duration::from_secs(self.linger_seconds)
    }

    /// `background_seconds` as a duration.
    #[must_use]
    pub const fn background(&self) -> Duration {
        Duration::from_secs(self.background_seconds)
    }

    /// `max_transcript_line_mib` in bytes.
    #[must_use]
    pub const fn max_transcript_line_bytes(&self) -> usize {
        self.max_transcript_line_mib << 20
    }
}

/// What is stored of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageConfig {
    /// Whether protocol lines are stored besides what the plugin made of them.
    pub raw: bool,
    /// Output that one run may store, in MiB.
    pub max_stored_mib: u64,
    /// Absolute path of the folder of exports; none is `exports` in the data folder.
    pub exports: Option<PathBuf>,
}

impl StorageConfig {
    /// `max_stored_mib` in bytes.
    #[must_use]
    pub const fn max_stored_bytes(&self) -> u64 {
        self.max_stored_mib << 20
    }
}

/// How long and how much is kept of ended runs, where the user's own policies do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionConfig {
    /// Days after a run's end; 0 is for ever.
    pub days: u32,
    /// Megabytes (10^6 bytes) of all runs together; 0 is without limit.
    pub megabytes: u64,
    /// Limits of their own for the runs of provider instances.
    pub providers: BTreeMap<String, RetentionLimits>,
    /// Limits of their own for the runs in folders (absolute paths) and below.
    pub workspaces: BTreeMap<PathBuf, RetentionLimits>,
}

/// Limits of one scope. What it does not say is as in the wider scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionLimits {
    /// Days after a run's end; 0 is for ever.
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes) of the scope's runs together; 0 is without limit.
    pub megabytes: Option<u64>,
}

/// What agents may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyConfig {
    /// Whether flags that a provider plugin calls advanced may be set.
    pub allow_advanced: bool,
    /// JSON pointers into the start payload; see [`PolicyConfig::allows_unenforced`].
    pub allow_unenforced: Vec<String>,
    /// Variables that a run may set for its child; `*` may stand at the beginning or at the end. Only a whole name allows
    /// a variable that loads code, chooses a configuration or moves requests.
    pub allow_environment: Vec<String>,
    /// Whether a run may bring MCP servers that are commands.
    pub mcp_commands: CommandRule,
    /// Whether a run may bring a prelude for its shells.
    pub shell_preludes: CommandRule,
    /// What follows where a policy denies a tool use that a CLI has reported.
    pub reported_tools: ReportedTools,
}

/// What follows where a policy denies a tool use that a CLI reports without asking. The use is not prevented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportedTools {
    /// The run warns and goes on.
    #[default]
    Warn,
    /// The run is ended and fails.
    End,
}

impl ReportedTools {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 2] = [Self::Warn, Self::End];

    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::End => "end",
        }
    }
}

/// Whether a run may bring commands of its own, which run beside the CLI's own sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandRule {
    /// Where the host contains the run, and where the run may write.
    #[default]
    Sandboxed,
    /// In every run.
    Always,
    /// In none.
    Never,
}

impl CommandRule {
    /// Every rule, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Sandboxed, Self::Always, Self::Never];

    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandboxed => "sandboxed",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

impl PolicyConfig {
    /// Whether a run may ask for the restriction at `pointer` although nothing can enforce it: the pointer, or one
    /// above it, stands in the list.
    #[must_use]
    pub fn allows_unenforced(&self, pointer: &str) -> bool {
        self.allow_unenforced.iter().any(|allowed| lies_in(pointer, allowed))
    }
}

/// What bounds runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxConfig {
    /// The mode of runs that do not say one.
    pub mode: SandboxMode,
    /// Whether a run is refused where this machine cannot hold its mode, also where that is only the default.
    pub require: bool,
    /// Back ends that may be used, the best first.
    pub backends: Vec<SandboxBackend>,
    /// Paths that look empty to runs, unless they have full access: `~/x`, `$NAME/x`, or absolute.
    pub hide: Vec<String>,
    /// Paths below a work folder that are read-only in it. One that ends with `/` is a folder.
    pub protect: Vec<String>,
    /// Paths that stay readable although something hides them.
    pub read: Vec<String>,
    /// Paths outside of the work folder that runs may change.
    pub write: Vec<String>,
    /// Whether runs reach the user's ssh-agent.
    pub ssh_agent: bool,
    /// Whether runs reach the user's gpg-agent and `~/.gnupg`.
    pub gpg_agent: bool,
    /// Whether runs reach the user's session bus.
    pub dbus: bool,
    /// Hosts that every run may reach, each a valid [`HostRule`](ostler_protocol::HostRule).
    pub allow_hosts: Vec<String>,
}

impl Default for SandboxConfig {
    /// Full access and no back end: what the built-in file says is put over it.
    fn default() -> Self {
        Self {
            mode: SandboxMode::FullAccess,
            require: false,
            backends: Vec::new(),
            hide: Vec::new(),
            protect: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            ssh_agent: false,
            gpg_agent: false,
            dbus: false,
            allow_hosts: Vec::new(),
        }
    }
}

/// The operator's own redaction rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedactionConfig {
    /// Rules besides those of the redactor plugins. Their patterns compile.
    pub rules: Vec<RedactionRule>,
    /// Exceptions. Their patterns compile.
    pub allow: Vec<RedactionAllow>,
}

/// One rule, as in the plugin interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedactionRule {
    /// Kebab name that stands in the placeholder; unique in the file.
    pub id: String,
    /// One line for listings; empty where none was given.
    pub description: String,
    /// Regular expression.
    pub pattern: String,
    /// Capture groups that hold the secret; empty is the whole match. Each exists in the pattern.
    pub secret_groups: Vec<u32>,
    /// Literals of which one is inside every match.
    pub keywords: Vec<String>,
    /// Whether the match must not continue a word.
    pub whole_word: bool,
    /// Least Shannon entropy of the secret, in bits per character.
    pub min_entropy: Option<f32>,
    /// Longest match in bytes.
    pub max_length: u32,
    /// Whether decoded text is searched too.
    pub decoded: bool,
}

/// One exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedactionAllow {
    /// Rules that it belongs to; empty means all of them.
    pub rules: Vec<String>,
    /// What the pattern is held against.
    pub target: AllowTarget,
    /// Regular expression.
    pub pattern: String,
}

/// What an exception's pattern is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowTarget {
    /// The secret.
    Secret,
    /// The whole match.
    Match,
    /// The line around the match.
    Line,
}

/// The plugins and their bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginsConfig {
    /// Absolute path of the operator's plugin folder; none is the one in [`super::Paths`].
    pub folder: Option<PathBuf>,
    /// Memory of one instance, in MiB.
    pub memory_mib: usize,
    /// Longest time for one call, in milliseconds.
    pub call_timeout_ms: u64,
    /// Largest component that is loaded, in MiB.
    pub max_component_mib: usize,
    /// Redactor plugins by name.
    pub redactor: BTreeMap<String, PluginConfig>,
    /// Policy plugins by name.
    pub policy: BTreeMap<String, PluginConfig>,
    /// Which files of provider plugins may run something.
    pub trust: PluginTrust,
    /// Provider plugins by name; their settings stand with the providers that they make.
    pub provider: BTreeMap<String, PluginPin>,
}

impl PluginsConfig {
    /// `call_timeout_ms` as a duration.
    #[must_use]
    pub const fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    /// `memory_mib` in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.memory_mib << 20
    }

    /// `max_component_mib` in bytes.
    #[must_use]
    pub const fn max_component_bytes(&self) -> usize {
        self.max_component_mib << 20
    }
}

/// One redactor or policy plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginConfig {
    /// What `configure` gets, checked by the host against the plugin's own schema.
    pub settings: Map<String, Value>,
    /// Whether a file of this name may take the place of the bundled policy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// The only component of this name that is loaded, by its SHA-256 in lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One provider plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginPin {
    /// The only component of this name that is loaded, by its SHA-256 in lower-case hex. It counts as approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Which files of provider plugins may run something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginTrust {
    /// Those whose digest somebody has approved.
    #[default]
    Approved,
    /// All of the plugin folder: for work on plugins.
    Folder,
}

/// One provider instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderConfig {
    /// Name of the provider plugin; by default that of the instance.
    pub plugin: String,
    /// The program to use instead of the one that the plugin looks for.
    pub executable: Option<Executable>,
    /// Variables that its children get, besides those they inherit. Values may be secret.
    pub environment: BTreeMap<String, String>,
    /// What `configure` gets, checked by the host against the plugin's own schema.
    pub settings: Map<String, Value>,
    /// Hosts that its runs may reach, each a valid [`HostRule`](ostler_protocol::HostRule).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_hosts: Vec<String>,
    /// Runs at a time; none is the `per_provider` of the scheduler.
    pub concurrency: Option<usize>,
}

/// A program that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Executable {
    /// An absolute path.
    Path(PathBuf),
    /// A file name to look for on PATH.
    Name(String),
}

/// Where provider tokens lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokensConfig {
    /// The store that new tokens go to.
    pub store: TokenStoreChoice,
}

/// A store for tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenStoreChoice {
    /// The Secret Service where there is one, else the kernel's keyring.
    #[default]
    Auto,
    /// The desktop's Secret Service.
    SecretService,
    /// The kernel's keyring.
    Keyutils,
    /// A file in the data folder, readable for its owner alone.
    File,
}

impl TokenStoreChoice {
    /// Every choice, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Auto, Self::SecretService, Self::Keyutils, Self::File];

    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::SecretService => "secret-service",
            Self::Keyutils => "keyutils",
            Self::File => "file",
        }
    }
}

/// The host's own log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogConfig {
    /// The least severe messages that are written.
    pub level: LogLevel,
    /// Daily files that are kept.
    pub keep_files: usize,
}

/// Severity of a log message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What the host does.
    #[default]
    Info,
    /// How it does it.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The name in the file, which `tracing` understands too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
