//! Options of a start payload that several verbs share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::context::absolute;
use super::input;
use super::payload::{self, Given};
use crate::model::{ApiError, ErrorKind};

/// Where the prompt comes from.
#[derive(Debug, Args)]
pub(super) struct PromptArguments {
    /// What the agent is told; `-` reads it from standard input
    #[arg(conflicts_with = "file")]
    prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl PromptArguments {
    /// Reads it, if there is one. `payload` is a file that is read, too.
    ///
    /// # Errors
    /// Where it cannot be read, or standard input would have to be read twice.
    pub(super) fn read(&self, payload: Option<&Path>) -> Result<Option<String>, ApiError> {
        let dash = Path::new("-");
        let here = self.prompt.as_deref() == Some("-") || self.file.as_deref() == Some(dash);
        if here && payload == Some(dash) {
            let message = "the prompt and the payload cannot both come from standard input";
            return Err(ApiError::new(ErrorKind::InvalidParams, message));
        }
        match (&self.prompt, self.file.as_deref()) {
            _ if here => input::stdin_text("prompt").map(Some),
            (Some(prompt), _) => Ok(Some(prompt.clone())),
            (None, Some(path)) => input::file_text("prompt", path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Fields of the payload that have an option of their own.
#[derive(Debug, Args)]
pub(super) struct PayloadOptions {
    /// Folder in which the agent works
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Model, in the CLI's own terms
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Place in the queue's order: -10 (last) to 10 (first)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Time limit from the agent's start: 90s, 10m, 2h [default: 300s]
    #[arg(long, value_name = "TIME", value_parser = payload::parse_seconds)]
    timeout: Option<u64>,
    /// Further attempts after a failure that may pass
    #[arg(long, value_name = "N")]
    retries: Option<u64>,
    /// JSON Schema that the answer must fit
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// What the run may change and reach; without it, as `sandbox.mode` in the configuration says
    #[arg(long, value_name = "MODE", value_parser = ["read-only", "workspace-write", "full-access"])]
    sandbox: Option<String>,
    /// The whole network (on), or the hosts of the model and those that you allow (off)
    #[arg(long, value_name = "WHICH", value_parser = ["on", "off"])]
    network: Option<String>,
    /// The only tools that the agent may use, one for each option
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// Host that a contained run may reach besides the model's, HOST or HOST:PORT; for a port of this machine localhost:PORT
    #[arg(long = "allow-host", value_name = "HOST")]
    allow_hosts: Vec<String>,
    /// Let the agent act without asking, as far as its sandbox goes
    #[arg(long)]
    auto_approve: bool,
    /// MCP servers for the agent, as JSON: what `harness.mcp` takes, or a list of servers
    #[arg(long, value_name = "FILE")]
    mcp: Option<PathBuf>,
    /// Text that goes behind the CLI's own system prompt
    #[arg(long, value_name = "TEXT")]
    append_system_prompt: Option<String>,
    /// Variable for the agent; NAME alone passes your own value on
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
}

/// What every verb takes that starts a run.
#[derive(Debug, Args)]
pub(super) struct StartArguments {
    #[command(flatten)]
    prompt: PromptArguments,
    #[command(flatten)]
    options: PayloadOptions,
    /// Take what is not said otherwise from a profile
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Start payload, or a part of it, as JSON (`-`: standard input); other options go over it
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
}

impl StartArguments {
    /// Reads what they point to.
    ///
    /// # Errors
    /// Where something cannot be read.
    pub(super) fn gather(&self) -> Result<Given, ApiError> {
        let base = self.payload.as_deref();
        let given = Given { prompt: self.prompt.read(base)?, ..self.options.gather(base)? };
        Ok(Given { profile: self.profile.clone(), ..given })
    }
}

impl PayloadOptions {
    /// What they say, over the payload in a file (`-`: standard input).
    ///
    /// # Errors
    /// Where a file cannot be read, or a variable is not set.
    pub(super) fn gather(&self, base: Option<&Path>) -> Result<Given, ApiError> {
        Ok(Given {
            base: base.map(|path| input::json("payload", path)).transpose()?,
            cwd: self.cwd.as_deref().map(absolute).transpose()?,
            model: self.model.clone(),
            priority: self.priority,
            timeout_seconds: self.timeout,
            retries: self.retries,
            schema: self.schema.as_deref().map(|path| input::json("schema", path)).transpose()?,
            sandbox: self.sandbox.clone(),
            tools: (!self.tools.is_empty()).then(|| self.tools.clone()),
            network: self.network.as_deref().map(|which| which == "on"),
            allow_hosts: (!self.allow_hosts.is_empty()).then(|| self.allow_hosts.clone()),
            auto_approve: self.auto_approve.then_some(true),
            mcp: self.mcp.as_deref().map(|path| input::json("mcp", path)).transpose()?,
            append_system_prompt: self.append_system_prompt.clone(),
            env: payload::parse_env(&self.env, |name| std::env::var(name))?,
            ..Given::default()
        })
    }
}
