//! The start payload: the request for a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RunId;

/// What a run is asked to do. Missing fields take their default from the profile, the plugin or the table of the
/// contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartPayload {
    /// Provider instance: `codex`, or a name from the configuration.
    #[schemars(length(min = 1, max = 64))]
    pub provider: String,
    /// The prompt for the agent. Must not be blank. Empty for a session that waits for input.
    #[schemars(length(max = 8_388_608), regex(pattern = r"\S"))]
    pub prompt: String,
    /// Title in lists, one line; by default the first line of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"\S"))]
    pub title: Option<String>,
    /// Model name in the CLI's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,
    /// With pipes and one prompt, or as a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<RunMode>,
    /// Runs the CLI in a terminal of its own, in which it shows its usual screen. Only with the mode `interactive`. The
    /// host does not understand what the CLI shows there: no tool uses, no approvals, no usage. A CLI without a protocol
    /// gets a terminal also without this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// What the CLI prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<OutputFormat>,
    /// Absolute path of the work folder, inside an active grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub cwd: Option<PathBuf>,
    /// Flags of the CLI, from the list of the plugin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub optional_flags: BTreeMap<String, FlagValue>,
    /// Profile to merge under this payload: an id or a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<String>,
    /// Jobs with a higher priority start first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -10, max = 10))]
    pub queue_priority: Option<i32>,
    /// Time limit in seconds from the start of the CLI, at most 7 days. The default is the setting
    /// `runner.timeoutSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 604_800))]
    pub timeout_seconds: Option<u64>,
    /// Not before this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub scheduled_at: Option<Timestamp>,
    /// Runs that must end before this one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_after: Option<StartAfter>,
    /// Maximum number of retries after a temporary failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: Option<u32>,
    /// Delay before the first retry in milliseconds; doubles with each retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 600_000))]
    pub retry_backoff_ms: Option<u64>,
    /// What the agent may use, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness: Option<Harness>,
}

impl StartPayload {
    /// Time limit of runs without one in their record, which an earlier version created. In seconds.
    pub const DEFAULT_TIMEOUT_SECONDS: u64 = 300;
    /// Default delay before the first retry, in milliseconds.
    pub const DEFAULT_RETRY_BACKOFF_MS: u64 = 1_000;

    /// The harness block; empty if the payload has none.
    #[must_use]
    pub fn harness(&self) -> Harness {
        self.harness.clone().unwrap_or_default()
    }

    /// The time limit of an attempt in milliseconds: the smaller of the two limits of a payload.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        let whole = self.timeout_seconds.unwrap_or(Self::DEFAULT_TIMEOUT_SECONDS) * 1000;
        let limit = self.harness.as_ref().and_then(|harness| harness.limits.as_ref()?.timeout_ms);
        limit.map_or(whole, |limit| limit.min(whole))
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TerminalSize {
    /// Lines.
    #[schemars(range(min = 1, max = 1000))]
    pub rows: u16,
    /// Characters in a line.
    #[schemars(range(min = 1, max = 1000))]
    pub columns: u16,
}

impl Default for TerminalSize {
    /// 30 rows of 120 columns.
    fn default() -> Self {
        Self { rows: 30, columns: 120 }
    }
}

/// Runs that must end before another one starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartAfter {
    /// The runs. If one of them does not complete, the run that waits for it is canceled.
    #[schemars(length(min = 1, max = 32))]
    pub run_ids: Vec<RunId>,
    /// Whether to start even if one of them failed or was canceled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub even_if_failed: bool,
}

/// The value of an optional flag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum FlagValue {
    /// The flag without a value; `false` omits it.
    Switch(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// One value.
    Text(String),
    /// The flag once for each value.
    List(Vec<String>),
}

/// How a run communicates with its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunMode {
    /// One prompt, one answer.
    #[default]
    NonInteractive,
    /// A session that accepts more input.
    Interactive,
}

/// What the CLI prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutputFormat {
    /// The answer as plain text.
    Text,
    /// One JSON document at the end.
    Json,
    /// JSON lines while the run progresses.
    StreamJson,
}

/// What the CLI reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputFormat {
    /// The prompt as plain text.
    Text,
    /// JSON lines.
    StreamJson,
}

/// What the agent may use, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Harness {
    /// Provider session to resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub resume_session_id: Option<String>,
    /// Resume the newest session of the work folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_session: Option<bool>,
    /// What the CLI reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_format: Option<InputFormat>,
    /// Additional folders that the agent may work in, each inside a grant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub additional_directories: Vec<PathBuf>,
    /// The only tools that the agent may use. None is 'no restriction', an empty list is 'no tool'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// What the agent may do without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Limits of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Servers of the Model Context Protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Mcp>,
    /// The required structure of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_output: Option<StructuredOutputSpec>,
    /// Replaces the CLI's own system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Is appended to the CLI's system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_system_prompt: Option<String>,
    /// Text that the agent gets in addition to the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub piped_content: Option<String>,
    /// Images for the model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub images: Vec<Attachment>,
    /// Files for the model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub files: Vec<Attachment>,
    /// Variables of the child's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub process_env: BTreeMap<String, String>,
    /// The only programs on the child's PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cli_allowlist: Option<CliAllowlist>,
    /// Script that every shell of the child runs first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell_prelude: Option<ShellPrelude>,
}

/// A kind of tool, independent of the CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Tool {
    FileRead,
    FileWrite,
    FileEdit,
    FileSearch,
    ContentSearch,
    Shell,
    WebFetch,
    WebSearch,
    Mcp,
    Task,
}

/// What the run can change and reach. The host enforces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxMode {
    /// It can change only its own temporary files and reach only allowed hosts.
    ReadOnly,
    /// It can change the work folder and additional folders, and reach only allowed hosts.
    WorkspaceWrite,
    /// It has the permissions of the user, but cannot see the host's own files.
    FullAccess,
}

impl SandboxMode {
    /// Its name in payloads and settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::FullAccess => "full-access",
        }
    }
}

/// When the CLI asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalPolicy {
    /// Before every action that is not known to be harmless.
    Untrusted,
    /// When something failed inside the sandbox. No CLI of today has it (codex until 0.142): it is used as `on-request`, with
    /// a compatibility warning.
    OnFailure,
    /// When the model wants to.
    OnRequest,
    /// Never; actions that are not allowed are refused.
    Never,
}

/// What the agent may do without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Permissions {
    /// What the run can change and reach. Without it, the setting `sandbox.mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_mode: Option<SandboxMode>,
    /// Tools run without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_approve: Option<bool>,
    /// Whether the run can reach the whole network. Default: only with full access; otherwise only the allowed hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_access: Option<bool>,
    /// When the CLI asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_policy: Option<ApprovalPolicy>,
    /// Hosts that a sandboxed run may reach, in addition to those of the model and of the configuration:
    /// `api.example.com`,
    /// `*.example.com`, `git.example.com:8443`, or `localhost:8080` for one port of this machine. The default port is
    /// 443.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 300)))]
    pub allow_hosts: Vec<String>,
}

/// Limits of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub max_budget_usd: Option<f64>,
    /// Turns of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_turns: Option<u32>,
    /// Milliseconds from the spawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5_000, max = 604_800_000))]
    pub timeout_ms: Option<u64>,
    /// Number of lines of a tool's result to keep; 0 means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20_000))]
    pub max_tool_result_lines: Option<u32>,
}

/// Servers of the Model Context Protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mcp {
    /// The servers.
    #[schemars(length(max = 64))]
    pub servers: Vec<McpServer>,
}

/// The transport of an MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum McpTransport {
    /// A program with pipes.
    Stdio,
    /// Streamable HTTP.
    Http,
    /// Server-sent events.
    Sse,
}

/// One MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct McpServer {
    /// Its name, unique in the list.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub name: String,
    /// Its transport. Default: `stdio` with a command, `http` with a URL.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<McpTransport>,
    /// The program (stdio).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its URL (http, sse).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// HTTP headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Allow only these tools of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled_tools: Option<Vec<String>>,
    /// Tools of the server that are not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_tools: Option<Vec<String>>,
    /// `false` omits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// The required structure of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StructuredOutputSpec {
    /// JSON Schema of the answer.
    pub schema: Value,
    /// Whether the run fails if the answer does not match; default `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// An image or a file for the model: its bytes or its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// File name, without folders.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its media type.
    #[schemars(length(min = 1, max = 255))]
    pub mime_type: String,
    /// `data:` URL with its bytes. Either this or `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_url: Option<String>,
    /// Absolute path, inside an active grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// The only programs on the child's PATH. It limits names and is not a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CliAllowlist {
    /// The programs.
    #[schemars(length(max = 512))]
    pub entries: Vec<AllowlistEntry>,
    /// A shim for each, or one wrapper that takes the name as its first argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<AllowlistMode>,
    /// Name of the wrapper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapper_name: Option<String>,
    /// Path of the folder. By default, it is private to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<PathBuf>,
    /// Whether `binDir` is kept after the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_bin_dir: Option<bool>,
}

/// How the allowed programs appear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AllowlistMode {
    /// A file for each program.
    #[default]
    Shims,
    /// One file that takes the name of the program as an argument.
    Wrapper,
}

/// One program that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowlistEntry {
    /// The name under which it is called.
    pub name: String,
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments that are inserted before the caller's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Additional variables for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Script that every shell of the child runs first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShellPrelude {
    /// The text of the script.
    pub content: String,
    /// Whether bash (`BASH_ENV`) and zsh (`ZDOTDIR`) run it; default `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bash_env: Option<bool>,
    /// Whether `ENV` names it; default `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sh_env: Option<bool>,
}
