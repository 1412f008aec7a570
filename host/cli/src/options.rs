//! Options of a start payload that several commands share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::attachments;
use super::context::absolute;
use super::input;
use super::numbers;
use super::payload::{self, PayloadArgs};
use super::piped::{PipedArguments, Situation};
use super::times;
use ostler_protocol::{ApiError, ErrorKind};

/// Where the prompt comes from.
#[derive(Debug, Args)]
pub(super) struct PromptArguments {
    /// The task for the agent; `-` reads it from standard input
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

    /// Takes `argument` as the prompt if there is no prompt yet.
    pub(super) fn set_if_missing(&mut self, argument: &mut Option<String>) {
        if self.prompt.is_none() && self.file.is_none() {
            self.prompt = argument.take();
        }
    }
}

/// Fields of the payload that have an option of their own.
#[derive(Debug, Args)]
pub(super) struct PayloadOptions {
    /// Title of the run in lists [default: first line of the prompt]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Working folder of the agent
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Further folder that the agent may work in (repeatable)
    #[arg(long = "add-dir", value_name = "DIR")]
    add_dirs: Vec<PathBuf>,
    /// Model, as the CLI names it
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Queue priority from -10 (last) to 10 (first) [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = numbers::integer)]
    priority: Option<i64>,
    /// Time limit from the agent's start, 5s to 7d: 90s, 10m, 2h, 1d [default: see `runner.timeout_seconds`]
    #[arg(long, value_name = "TIME", value_parser = times::parse_seconds)]
    timeout: Option<u64>,
    /// Retry up to N times, at most 10, after a temporary failure [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = numbers::integer)]
    retries: Option<i64>,
    /// Maximum number of turns of the model, 1 to 100000
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = numbers::integer)]
    max_turns: Option<i64>,
    /// Maximum cost in US dollars: 2.5
    #[arg(long, value_name = "USD", allow_negative_numbers = true, value_parser = numbers::amount)]
    max_budget: Option<f64>,
    /// JSON Schema that the answer must match
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// What the run may change and reach [default: see `sandbox.mode`]
    #[arg(long, value_name = "MODE", value_parser = ["read-only", "workspace-write", "full-access"])]
    sandbox: Option<String>,
    /// Network access: `on` for all hosts, `off` for the model's hosts only
    #[arg(long, value_name = "ACCESS", value_parser = ["on", "off"])]
    network: Option<String>,
    /// Allow only this tool (repeatable): file_read, file_write, file_edit, file_search, content_search, shell,
    /// web_fetch, web_search, mcp, task
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// Let a contained run reach this host, HOST or HOST:PORT, or localhost:PORT on this machine (repeatable)
    #[arg(long = "allow-host", value_name = "HOST")]
    allow_hosts: Vec<String>,
    /// Let the agent act without asking, within its sandbox
    #[arg(long)]
    auto_approve: bool,
    /// When the agent asks you before it acts: `untrusted` before everything that is not known to be harmless,
    /// `on-request` when it wants to, `never`
    #[arg(long, value_name = "WHEN", value_parser = ["untrusted", "on-request", "on-failure", "never"],
        hide_possible_values = true)]
    ask: Option<String>,
    /// Image for the model: PNG, JPEG, GIF or WebP, in a granted folder (repeatable)
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// File for the model, in a granted folder (repeatable)
    #[arg(long = "attach", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// MCP servers for the agent as JSON: an object like `harness.mcp`, or an array of servers
    #[arg(long, value_name = "FILE")]
    mcp: Option<PathBuf>,
    /// Replace the CLI's system prompt
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Append to the CLI's system prompt
    #[arg(long, value_name = "TEXT")]
    append_system_prompt: Option<String>,
    /// Flag for the CLI itself, of those that `ostler capabilities PROVIDER` lists (repeatable)
    #[arg(long = "flag", value_name = "FLAG[=VALUE]", allow_hyphen_values = true)]
    flags: Vec<String>,
    /// Environment variable for the agent; NAME alone passes your own value (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
}

/// Options of every command that starts a run.
#[derive(Debug, Args)]
pub(super) struct StartArguments {
    #[command(flatten)]
    pub(super) prompt: PromptArguments,
    #[command(flatten)]
    piped: PipedArguments,
    #[command(flatten)]
    options: PayloadOptions,
    /// Use this profile for options not given
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Start payload, or a part of it, as JSON (`-`: standard input); other options override it
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
}

impl StartArguments {
    /// Reads the options, with all files and standard input. `prompted`: the run has a prompt even if these options
    /// have none. `quiet`: only the answer and errors are shown.
    ///
    /// # Errors
    /// If a file or standard input cannot be read.
    pub(super) fn gather(&self, prompted: bool, quiet: bool) -> Result<PayloadArgs, ApiError> {
        let base = self.payload.as_deref();
        let taken = self.options.reads_stdin(&self.prompt, base)?;
        let payload_args = PayloadArgs { prompt: self.prompt.read()?, ..self.options.gather(base)? };
        let has = |pointer: &str| {
            payload_args.base.as_ref().and_then(|base| base.pointer(pointer)).is_some_and(|value| !value.is_null())
        };
        let prompted = prompted || payload_args.prompt.is_some() || self.profile.is_some() || has("/prompt");
        let fits = prompted && !has("/harness/pipedContent");
        let piped = self.piped.read(Situation { taken, fits, quiet })?;
        Ok(PayloadArgs { profile: self.profile.clone(), piped, ..payload_args })
    }
}

impl PayloadOptions {
    /// Name of the input that is read from standard input, if any. `base` is the path of a payload or a part of one.
    ///
    /// # Errors
    /// `INVALID_PARAMS` if two inputs need standard input.
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

    /// Reads the options, with the payload in the file `base` (`-`: standard input).
    ///
    /// # Errors
    /// If a file cannot be read, or a variable is not set.
    pub(super) fn gather(&self, base: Option<&Path>) -> Result<PayloadArgs, ApiError> {
        Ok(PayloadArgs {
            base: base.map(|path| input::json("payload", path)).transpose()?,
            title: self.title.clone(),
            cwd: self.cwd.as_deref().map(absolute).transpose()?,
            add_dirs: some(self.add_dirs.iter().map(|folder| absolute(folder)).collect::<Result<_, _>>()?),
            model: self.model.clone(),
            priority: self.priority,
            timeout_seconds: self.timeout,
            retries: self.retries,
            max_turns: self.max_turns,
            max_budget: self.max_budget,
            schema: self.schema.as_deref().map(|path| input::json("schema", path)).transpose()?,
            sandbox: self.sandbox.clone(),
            tools: some(self.tools.clone()),
            network: self.network.as_deref().map(|which| which == "on"),
            allow_hosts: some(self.allow_hosts.clone()),
            auto_approve: self.auto_approve.then_some(true),
            ask: self.ask.clone(),
            mcp: self.mcp.as_deref().map(|path| input::json("MCP configuration", path)).transpose()?,
            images: some(attachments::read_images(&self.images)?),
            files: some(attachments::read("--attach", &self.files)?),
            system_prompt: self.system_prompt.clone(),
            append_system_prompt: self.append_system_prompt.clone(),
            flags: payload::parse_flags(&self.flags)?,
            env: payload::parse_env(&self.env, |name| std::env::var(name))?,
            ..PayloadArgs::default()
        })
    }
}

/// `None` for an empty list, so that an absent option omits its field.
fn some<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}
