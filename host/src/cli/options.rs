//! Options of a start payload that several verbs share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::context::absolute;
use super::input;
use super::payload::{self, Given};
use super::piped::{PipedArguments, Situation};
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
    /// Whether it is read from standard input.
    fn reads_stdin(&self) -> bool {
        self.prompt.as_deref() == Some("-") || self.file.as_deref().is_some_and(input::is_stdin)
    }

    /// Reads it, if there is one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn read(&self) -> Result<Option<String>, ApiError> {
        match (&self.prompt, self.file.as_deref()) {
            _ if self.reads_stdin() => input::stdin_text("prompt").map(Some),
            (Some(prompt), _) => Ok(Some(prompt.clone())),
            (None, Some(path)) => input::file_text("prompt", path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Puts an argument in the place of the prompt, if none was given.
    pub(super) fn set_if_missing(&mut self, argument: &mut Option<String>) {
        if self.prompt.is_none() && self.file.is_none() {
            self.prompt = argument.take();
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
    pub(super) prompt: PromptArguments,
    #[command(flatten)]
    piped: PipedArguments,
    #[command(flatten)]
    options: PayloadOptions,
    /// Take what is not said otherwise from a profile
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Start payload, or a part of it, as JSON (`-`: standard input); other options go over it
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
}

impl StartArguments {
    /// Reads what they point to. `prompted` says that the run has a prompt even where none is given here, and `quiet` that
    /// only the answer and errors are shown.
    ///
    /// # Errors
    /// Where something cannot be read.
    pub(super) fn gather(&self, prompted: bool, quiet: bool) -> Result<Given, ApiError> {
        let base = self.payload.as_deref();
        let taken = self.options.reads_stdin(&self.prompt, base)?;
        let given = Given { prompt: self.prompt.read()?, ..self.options.gather(base)? };
        let has = |pointer: &str| {
            given.base.as_ref().and_then(|base| base.pointer(pointer)).is_some_and(|value| !value.is_null())
        };
        let prompted = prompted || given.prompt.is_some() || self.profile.is_some() || has("/prompt");
        let fits = prompted && !has("/harness/pipedContent");
        let piped = self.piped.read(Situation { taken, fits, quiet })?;
        Ok(Given { profile: self.profile.clone(), piped, ..given })
    }
}

impl PayloadOptions {
    /// What comes from standard input, if anything; `base` is a payload or a part of one.
    ///
    /// # Errors
    /// `INVALID_PARAMS` where it would have to be read twice.
    pub(super) fn reads_stdin(
        &self,
        prompt: &PromptArguments,
        base: Option<&Path>,
    ) -> Result<Option<&'static str>, ApiError> {
        let named = |path: Option<&Path>| path.is_some_and(input::is_stdin);
        let sources = [
            ("prompt", prompt.reads_stdin()),
            ("payload", named(base)),
            ("schema", named(self.schema.as_deref())),
            ("mcp", named(self.mcp.as_deref())),
        ];
        let mut wanted = sources.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name);
        let first = wanted.next();
        if let (Some(first), Some(second)) = (first, wanted.next()) {
            let message = format!("the {first} and the {second} cannot both come from standard input");
            return Err(ApiError::new(ErrorKind::InvalidParams, message));
        }
        Ok(first)
    }

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
