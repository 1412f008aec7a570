//! `ostler run`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, absolute, current_folder};
use super::exit::Exit;
use super::output::complain;
use super::payload::{self, Given};
use super::signals::Signals;
use super::{ask, clean, environment, export, follow, input};
use crate::api::client::Client;
use crate::api::types::StartRunResult;
use crate::model::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler run rehearsal --grant \"SAY hello\"             a scripted stand-in, no agent needed
  ostler run codex \"explain this repository\"
  ostler run codex --file task.md --sandbox workspace-write --timeout 20m
  git diff | ostler run codex -                        the prompt comes from standard input
  ostler run codex --schema answer.json \"list the crates\" | jq .
  ostler run codex --detach \"run the tests\"            prints the run id and returns
  ostler run --payload job.json --json                 a whole start payload; events as JSON lines
  ostler run codex -- \"--verbose does nothing, why?\"   a prompt that begins with a dash

The answer goes to standard output, progress to standard error.
Ctrl-C cancels the run and waits for its end; a second one leaves at once.";

/// Submit a run and follow it to its end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Provider: claude, codex, rehearsal, or a name from the configuration
    #[arg(required_unless_present = "payload")]
    provider: Option<String>,
    /// What the agent is told; `-` reads it from standard input
    #[arg(conflicts_with = "file")]
    prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Folder in which the agent works, instead of the current one
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Let agents work in that folder, now and later
    #[arg(long)]
    grant: bool,
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
    /// How far the CLI's own sandbox lets the agent go
    #[arg(long, value_name = "MODE", value_parser = ["read-only", "workspace-write", "full-access"])]
    sandbox: Option<String>,
    /// Variable for the agent; NAME alone passes your own value on
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Go on from a session of the provider
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    /// Whole start payload as JSON (`-`: standard input); other options go over it
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// No progress: only the answer and errors
    #[arg(long, short)]
    quiet: bool,
    /// Write the answer to a file as well, once the run is done
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    output: Option<PathBuf>,
    /// Print the run id and return
    #[arg(long, short)]
    detach: bool,
}

impl Arguments {
    /// Reads what the arguments point to.
    fn gather(&self) -> Result<Given, ApiError> {
        let from_stdin = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
        let readers = [self.prompt.as_deref() == Some("-"), from_stdin(&self.file), from_stdin(&self.payload)];
        if readers.into_iter().filter(|reads| *reads).count() > 1 {
            let message = "the prompt and the payload cannot both come from standard input";
            return Err(ApiError::new(ErrorKind::InvalidParams, message));
        }
        let prompt = match (&self.prompt, &self.file) {
            (Some(prompt), _) if prompt == "-" => Some(input::stdin_text("prompt")?),
            (Some(prompt), _) => Some(prompt.clone()),
            (None, Some(path)) if path == Path::new("-") => Some(input::stdin_text("prompt")?),
            (None, Some(path)) => Some(input::file_text("prompt", path)?),
            (None, None) => None,
        };
        Ok(Given {
            base: self.payload.as_deref().map(|path| input::json("payload", path)).transpose()?,
            provider: self.provider.clone(),
            prompt,
            cwd: self.cwd.as_deref().map(absolute).transpose()?,
            model: self.model.clone(),
            priority: self.priority,
            timeout_seconds: self.timeout,
            retries: self.retries,
            schema: self.schema.as_deref().map(|path| input::json("schema", path)).transpose()?,
            sandbox: self.sandbox.clone(),
            env: payload::parse_env(&self.env, |name| std::env::var(name))?,
            resume: self.resume.clone(),
        })
    }
}

/// What was asked for, ready to be sent.
struct Request {
    payload: Value,
    provider: String,
    folder: PathBuf,
    quiet: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let payload = payload::build(arguments.gather()?, &current_folder()?)?;
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (provider, folder) = (text("provider"), PathBuf::from(text("cwd")));
    let output = arguments.output.as_deref().map(export::answer_file).transpose()?;
    let mut request = Request { payload, provider, folder, quiet: arguments.quiet || context.json };

    let mut signals = Signals::listen()?;
    let prepare = async {
        let client = context.client().await?;
        if arguments.grant {
            grant(&client, &request).await?;
        }
        let variables = caller_environment(&client, &request.provider).await?;
        Ok::<_, ApiError>((client, variables))
    };
    let (client, variables) = tokio::select! {
        prepared = prepare => prepared?,
        // Nothing was submitted.
        () = signals.next() => return Ok(Exit::Canceled),
    };
    if let Some(payload) = request.payload.as_object_mut() {
        payload.insert("clientEnvironment".to_owned(), json!(variables));
    }

    let Some(Submitted { started, cancel }) = submit(&client, &request, &mut signals).await? else {
        return Ok(Exit::Canceled);
    };
    if arguments.detach && !cancel {
        if context.json {
            context.out.document(&started)?;
        } else {
            context.out.line(started.run_id)?;
        }
        return Ok(Exit::Done);
    }
    let options = follow::Options { label: &request.provider, quiet: arguments.quiet, cancel };
    let exit = follow::follow(context, &client, started.run_id, &mut signals, options).await?;
    if let (Exit::Done, Some(path)) = (exit, output) {
        export::write_answer(&client, started.run_id, &path).await?;
    }
    Ok(exit)
}

/// A run that the host has acknowledged.
struct Submitted {
    started: StartRunResult,
    /// The user wanted to cancel before the acknowledgement was here.
    cancel: bool,
}

/// Submits the run, and asks for the grant that lacks where there is somebody to ask. `None` if the user left.
async fn submit(client: &Client, request: &Request, signals: &mut Signals) -> Result<Option<Submitted>, ApiError> {
    let mut asked = false;
    loop {
        let mut cancel = false;
        let call = client.start_run(&request.payload);
        tokio::pin!(call);
        let outcome = loop {
            tokio::select! {
                outcome = &mut call => break outcome,
                () = signals.next() => {
                    if std::mem::replace(&mut cancel, true) {
                        complain("left; the run may have been submitted, see `ostler runs`");
                        return Ok(None);
                    }
                }
            }
        };
        let error: ApiError = match outcome {
            Ok(started) => return Ok(Some(Submitted { started, cancel })),
            Err(error) => error.into(),
        };
        if !ask::lacks_only_grant(&error) {
            return Err(error);
        }
        if cancel {
            return Ok(None);
        }
        if asked || request.quiet || !ask::can_ask() {
            let hint = format!("`{}`, or repeat the command with --grant", ask::grant_command(&request.folder));
            return Err(ask::with_hint(error, hint));
        }
        asked = true;
        let folder = request.folder.clone();
        let answer = tokio::task::spawn_blocking(move || ask::may_work_in(&folder));
        let allowed = tokio::select! {
            answer = answer => answer.unwrap_or(false),
            () = signals.next() => {
                complain("");
                return Ok(None);
            }
        };
        if !allowed {
            return Err(ask::with_hint(error, format!("`{}` grants it later", ask::grant_command(&request.folder))));
        }
        grant(client, request).await?;
    }
}

async fn grant(client: &Client, request: &Request) -> Result<(), ApiError> {
    let granted = client.grant_workspace(request.folder.clone()).await?;
    if !request.quiet {
        let command = ask::revoke_command(&granted.path);
        let folder = clean::line(&granted.path.display().to_string());
        complain(&format!("granted: agents may work in {folder} (`{}` takes it back)", clean::line(&command)));
    }
    Ok(())
}

/// The caller's variables that the provider's CLI needs. An unknown provider is the host's to refuse.
async fn caller_environment(
    client: &Client,
    provider: &str,
) -> Result<std::collections::BTreeMap<String, String>, ApiError> {
    let listed = client.list_plugins().await?;
    let found = listed.providers.iter().find(|info| info.name == provider);
    let patterns = found.map(|info| info.inherit_environment.as_slice()).unwrap_or_default();
    Ok(environment::to_send(patterns.iter().map(String::as_str), std::env::vars_os()))
}
