//! The sections and their values. The names of the fields are the keys of the file; in the API they are camelCase.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::sources::Sources;
use ostler_protocol::{SandboxBackend, SandboxMode, lies_in};

/// The complete, validated configuration. `Default` is empty; the defaults come from [`Config::builtin`].
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
    /// Origins of the values that are not defaults.
    #[serde(skip)]
    pub(super) sources: Sources,
}

impl Config {
    /// Origins of the values that are not defaults.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Maximum number of concurrent runs of a provider instance.
    #[must_use]
    pub fn concurrency(&self, provider: &str) -> usize {
        self.providers.get(provider).and_then(|found| found.concurrency).unwrap_or(self.scheduler.per_provider)
    }
}

/// The host process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostConfig {
    /// Idle time after which a background host ends, in seconds.
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
    /// Address to listen on; `None` disables TCP.
    pub listen: Option<SocketAddr>,
    /// Whether `listen` may be an address that other machines can reach.
    pub allow_remote: bool,
    /// Accepted `Host` headers in addition to the address itself.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the API.
    pub allowed_origins: Vec<String>,
}

/// The queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerConfig {
    /// Maximum number of concurrent runs.
    pub global: usize,
    /// Default maximum of concurrent runs per provider instance; see [`Config::concurrency`].
    pub per_provider: usize,
    /// Maximum number of waiting runs, including scheduled ones.
    pub capacity: usize,
    /// Waiting time that raises a run's effective priority by one, in seconds.
    pub aging_seconds: u64,
    /// Whether a run that was interrupted by the death of its host is queued again, if it has retries left.
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
    /// Default time limit of runs, in seconds.
    pub timeout_seconds: u64,
    /// Time from the first signal to SIGKILL when a run is stopped, in seconds.
    pub grace_seconds: u64,
    /// Time to read output after the child's exit while a descendant keeps it open, in milliseconds.
    pub exit_grace_ms: u64,
    /// Time that a CLI may continue after its work is done before it is stopped, in seconds.
    pub linger_seconds: u64,
    /// The same while the CLI waits for background work, in seconds.
    pub background_seconds: u64,
    /// Time after which a session without a turn, an input or an open approval ends, in seconds.
    pub session_idle_seconds: u64,
    /// Time limit of a session in all, in seconds.
    pub session_seconds: u64,
    /// Maximum length of a line that is stored and shown, in bytes.
    pub max_line_bytes: usize,
    /// Maximum length of a line that is passed to a plugin's transcript, in MiB.
    pub max_transcript_line_mib: usize,
    /// Names of the variables that every child inherits; a trailing `*` is allowed.
    pub inherit_environment: Vec<String>,
    /// Resource limits of children.
    pub limits: ResourceLimits,
}

/// Resource limits of each process of a run; 0 sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Maximum number of processes and threads.
    pub processes: u64,
    /// Maximum address space, in MiB.
    pub memory_mib: u64,
    /// Maximum number of open files.
    pub open_files: u64,
    /// Maximum size of a file, in MiB.
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
    /// Whether the lines of the CLI's protocol are stored in addition to the events that the plugin extracts.
    pub raw: bool,
    /// Maximum stored output of a run, in MiB.
    pub max_stored_mib: u64,
    /// Absolute path of the folder of exports; the default is `exports` in the data folder.
    pub exports: Option<PathBuf>,
}

impl StorageConfig {
    /// `max_stored_mib` in bytes.
    #[must_use]
    pub const fn max_stored_bytes(&self) -> u64 {
        self.max_stored_mib << 20
    }
}

/// Retention limits of finished runs. Limits that were set at run time override them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionConfig {
    /// Days to keep a run after its end; 0 means forever.
    pub days: u32,
    /// Megabytes (10^6 bytes) to keep of all runs together; 0 means no limit.
    pub megabytes: u64,
    /// Limits for the runs of provider instances.
    pub providers: BTreeMap<String, RetentionLimits>,
    /// Limits for the runs in and below folders (absolute paths).
    pub workspaces: BTreeMap<PathBuf, RetentionLimits>,
}

/// Limits of one scope. An unset limit is that of the wider scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionLimits {
    /// Days to keep a run after its end; 0 means forever.
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes) to keep of the scope's runs together; 0 means no limit.
    pub megabytes: Option<u64>,
}

/// What agents may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyConfig {
    /// Whether runs may set flags that a provider plugin declares as advanced.
    pub allow_advanced: bool,
    /// JSON pointers into the start payload; see [`PolicyConfig::allows_unenforced`].
    pub allow_unenforced: Vec<String>,
    /// Variables that a run may set for its child; `*` is allowed at the start or the end. A variable that loads code,
    /// selects a configuration or redirects requests is allowed only by its complete name.
    pub allow_environment: Vec<String>,
    /// Whether a run may define MCP servers that are commands.
    pub mcp_commands: CommandRule,
    /// Whether a run may define a prelude for its shells.
    pub shell_preludes: CommandRule,
    /// The reaction to a reported tool use that a policy denies.
    pub reported_tools: ReportedTools,
    /// Time for a user to decide an approval, in seconds; then it is denied.
    pub approval_timeout_seconds: u64,
}

/// The reaction to a denied tool use that a CLI reports without asking. The tool use itself is not prevented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportedTools {
    /// The run gets a warning and continues.
    #[default]
    Warn,
    /// The run is stopped and fails.
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

/// Whether a run may define commands, which run outside of the CLI's own sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandRule {
    /// Only if the host sandboxes the run, or the run's mode is not read-only.
    #[default]
    Sandboxed,
    /// In every run.
    Always,
    /// In no run.
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
    /// Whether a run may request the restriction at `pointer` although it cannot be enforced: whether the list contains
    /// the pointer or a parent of it.
    #[must_use]
    pub fn allows_unenforced(&self, pointer: &str) -> bool {
        self.allow_unenforced.iter().any(|allowed| lies_in(pointer, allowed))
    }
}

/// Containment of runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxConfig {
    /// Default mode of runs.
    pub mode: SandboxMode,
    /// Whether a run is rejected if this machine cannot enforce its mode, even if the mode is only the default.
    pub require: bool,
    /// Allowed back ends, in order of preference.
    pub backends: Vec<SandboxBackend>,
    /// Paths that are empty for runs without full access: `~/x`, `$NAME/x`, or absolute.
    pub hide: Vec<String>,
    /// Paths below a work folder that are read-only. A path that ends with `/` is a folder.
    pub protect: Vec<String>,
    /// Paths that stay readable although `hide` contains them or a parent.
    pub read: Vec<String>,
    /// Paths outside of the work folder that are writable for runs.
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
    /// Full access and no back end. The built-in text overrides both.
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
    /// Rules in addition to those of the redactor plugins. Their patterns are valid.
    pub rules: Vec<RedactionRule>,
    /// Exceptions. Their patterns are valid.
    pub allow: Vec<RedactionAllow>,
}

/// One rule, as in the plugin interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedactionRule {
    /// Kebab-case name in the placeholder; unique in the file.
    pub id: String,
    /// One line for listings; may be empty.
    pub description: String,
    /// Regular expression.
    pub pattern: String,
    /// Capture groups with the secret; empty means the whole match. Each exists in the pattern.
    pub secret_groups: Vec<u32>,
    /// Literals; every match contains at least one of them.
    pub keywords: Vec<String>,
    /// Whether the match must not continue a word.
    pub whole_word: bool,
    /// Minimum Shannon entropy of the secret, in bits per character.
    pub min_entropy: Option<f32>,
    /// Maximum length of a match, in bytes.
    pub max_length: u32,
    /// Whether decoded text is searched, too.
    pub decoded: bool,
}

/// One exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedactionAllow {
    /// Rules to which it applies; empty means all rules.
    pub rules: Vec<String>,
    /// The text that the pattern is matched against.
    pub target: AllowTarget,
    /// Regular expression.
    pub pattern: String,
}

/// The text that the pattern of an exception is matched against.
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

/// The plugins and their limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginsConfig {
    /// Absolute path of the operator's plugin folder; the default is the one in [`super::Paths`].
    pub folder: Option<PathBuf>,
    /// Maximum memory of one instance, in MiB.
    pub memory_mib: usize,
    /// Time limit of one call, in milliseconds.
    pub call_timeout_ms: u64,
    /// Maximum size of a component, in MiB.
    pub max_component_mib: usize,
    /// Redactor plugins by name.
    pub redactor: BTreeMap<String, PluginConfig>,
    /// Policy plugins by name.
    pub policy: BTreeMap<String, PluginConfig>,
    /// Which files of provider plugins may run something.
    pub trust: PluginTrust,
    /// Provider plugins by name. Their settings are in `providers`.
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
    /// Whether a file with this name may replace the bundled policy.
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
    /// Those whose digest was approved.
    #[default]
    Approved,
    /// All files of the plugin folder: for plugin development.
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
    /// Variables for its children in addition to inherited ones. Values may be secret.
    pub environment: BTreeMap<String, String>,
    /// What `configure` gets, checked by the host against the plugin's own schema.
    pub settings: Map<String, Value>,
    /// Hosts that its runs may reach, each a valid [`HostRule`](ostler_protocol::HostRule).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_hosts: Vec<String>,
    /// Maximum number of concurrent runs; the default is `per_provider` of the scheduler.
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

/// Storage of provider tokens.
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
    /// The Secret Service if there is one, else the kernel's keyring.
    #[default]
    Auto,
    /// The desktop's Secret Service.
    SecretService,
    /// The kernel's keyring.
    Keyutils,
    /// A file in the data folder that only its owner can read.
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
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Number of log files to keep.
    pub keep_files: usize,
}

/// Severity of a log message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is wrong but the host continues.
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
