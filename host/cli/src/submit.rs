//! Submits a request and follows its run: shared by `run`, `rerun` and `chat send`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::destination::Destination;
use super::exit::Exit;
use super::output::complain;
use super::printer::Activity;
use super::progress::{Progress, TICK};
use super::signals::Signals;
use super::{ask, clean, environment, export, follow, schedule};
use ostler_client::Client;
use ostler_protocol::methods::ResumeSessionParams;
use ostler_protocol::{ApiError, ErrorKind, RunId};

/// How a run is submitted and followed.
#[derive(Debug, Args)]
pub(super) struct SubmitOptions {
    /// Allow agents to work in the run's folder, now and later
    #[arg(long)]
    grant: bool,
    /// Show no progress, only the answer and errors
    #[arg(long, short)]
    quiet: bool,
    /// Also write the answer to a file, when the run is done
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    output: Option<PathBuf>,
    /// Let --output replace a read-only file
    #[arg(long, requires = "output")]
    force: bool,
    /// Print the run id and return
    #[arg(long, short)]
    detach: bool,
}

impl SubmitOptions {
    /// Whether only the answer and errors are shown.
    pub(super) const fn is_quiet(&self, context: &Context<'_>) -> bool {
        self.quiet || context.json
    }

    /// The destination of the answer in addition to standard output. Checked before the run is submitted.
    ///
    /// # Errors
    /// Those of [`Destination::prepare`], and `INVALID_PARAMS` if both the answer and JSON go to standard output.
    pub(super) fn output(&self, context: &Context<'_>) -> Result<Option<Destination>, ApiError> {
        let Some(path) = &self.output else { return Ok(None) };
        let destination = Destination::prepare(path, self.force).map_err(|error| error.at("--output"))?;
        if !destination.is_stdout() {
            return Ok(Some(destination));
        }
        if context.json {
            let message = "with --json, standard output is for the JSON; name a file for the answer";
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at("--output"));
        }
        // The answer is printed to standard output anyway.
        Ok(None)
    }
}

/// A call that starts a run.
pub(super) struct Request {
    /// The API method.
    pub(super) method: &'static str,
    /// The parameters, without the caller's variables.
    pub(super) params: Value,
    /// The provider instance, which decides the variables to send.
    pub(super) provider: String,
    /// The working folder of the run, if known here. `--grant` grants it.
    pub(super) folder: Option<PathBuf>,
}

/// Builds a request with `make`, submits it, and follows its run to the end. `output` is that of
/// [`SubmitOptions::output`].
pub(super) async fn execute(
    context: &mut Context<'_>,
    options: &SubmitOptions,
    output: Option<Destination>,
    make: impl AsyncFnOnce(&Client) -> Result<Request, ApiError>,
) -> Result<Exit, ApiError> {
    let quiet = options.is_quiet(context);
    let mut signals = Signals::listen()?;
    let opened = open(context, options.grant, quiet, &mut signals, make).await?;
    let Some(Opened { client, request, submitted }) = opened else { return Ok(Exit::Canceled) };
    let Submitted { run_id, result, cancel } = submitted;
    if options.detach && !cancel {
        if context.json {
            context.out.document(&result)?;
        } else {
            context.out.line(run_id)?;
            schedule::announce(&request.params, quiet);
        }
        return Ok(Exit::Done);
    }
    let follow_options =
        follow::Options { cancel, filed: output.is_some(), ..follow::Options::new(&request.provider, options.quiet) };
    let exit = follow::follow(context, &client, run_id, &mut signals, follow_options).await?;
    match (exit, output) {
        (Exit::Done, Some(output)) => export::write_answer(&client, run_id, output, &mut signals).await,
        _ => Ok(exit),
    }
}

/// A run that the host has acknowledged, and how it was submitted.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) request: Request,
    pub(super) submitted: Submitted,
}

/// A run that the host has acknowledged.
pub(super) struct Submitted {
    pub(super) run_id: RunId,
    /// What the method returned.
    pub(super) result: Value,
    /// The user canceled before the acknowledgement arrived.
    pub(super) cancel: bool,
}

/// Builds a request with `make`, and submits it. `grant`: grants its folder first. `None` if the user canceled before.
pub(super) async fn open(
    context: &Context<'_>,
    grants: bool,
    quiet: bool,
    signals: &mut Signals,
    make: impl AsyncFnOnce(&Client) -> Result<Request, ApiError>,
) -> Result<Option<Opened>, ApiError> {
    let prepare = async {
        let client = context.client().await?;
        let mut request = make(&client).await?;
        if let Some(folder) = request.folder.as_deref().filter(|_| grants) {
            grant(&client, folder, quiet).await?;
        }
        let variables = caller_environment(&client, &request.provider).await?;
        if let Some(params) = request.params.as_object_mut() {
            params.insert("clientEnvironment".to_owned(), json!(variables));
        }
        Ok::<_, ApiError>((client, request))
    };
    let (client, request) = tokio::select! {
        prepared = prepare => prepared?,
        // Nothing has been submitted yet.
        () = signals.next() => return Ok(None),
    };
    let submitted = submit(context, &client, &request, quiet, signals).await?;
    Ok(submitted.map(|submitted| Opened { client, request, submitted }))
}

/// Submits the run. If a grant is missing, asks for it on a terminal. `None` if the user canceled.
async fn submit(
    context: &Context<'_>,
    client: &Client,
    request: &Request,
    quiet: bool,
    signals: &mut Signals,
) -> Result<Option<Submitted>, ApiError> {
    let mut asked = false;
    loop {
        let mut cancel = false;
        let call = call(client, request);
        tokio::pin!(call);
        // The host answers at once, unless it waits for a CLI to open a session.
        let mut progress = Progress::new(&request.provider, quiet, &context.out);
        progress.set(Activity::Working("opening the session".to_owned()));
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        let outcome = loop {
            tokio::select! {
                outcome = &mut call => break outcome,
                _ = tick.tick(), if progress.moves() && opens_session(request) => progress.tick(true),
                () = signals.next() => {
                    if std::mem::replace(&mut cancel, true) {
                        complain("exiting; the run may have been submitted, see `ostler runs`");
                        return Ok(None);
                    }
                }
            }
        };
        drop(progress);
        let error: ApiError = match outcome {
            Ok((run_id, result)) => return Ok(Some(Submitted { run_id, result, cancel })),
            Err(error) => error,
        };
        let Some(folder) = request.folder.as_deref().filter(|_| ask::lacks_only_grant(&error)) else {
            return Err(error);
        };
        if cancel {
            return Ok(None);
        }
        if asked || quiet || !ask::can_ask() {
            let hint = format!("`{}`, or repeat the command with --grant", ask::grant_command(folder));
            return Err(ask::with_hint(error, hint));
        }
        asked = true;
        let wanted = folder.to_owned();
        let answer = tokio::task::spawn_blocking(move || ask::may_work_in(&wanted));
        let allowed = tokio::select! {
            answer = answer => answer.unwrap_or(false),
            () = signals.next() => {
                complain("");
                return Ok(None);
            }
        };
        if !allowed {
            return Err(ask::with_hint(error, format!("`{}` grants it later", ask::grant_command(folder))));
        }
        grant(client, folder, quiet).await?;
    }
}

fn opens_session(request: &Request) -> bool {
    matches!(request.method, "start_interactive_session" | "resume_session")
}

/// Calls the method. Returns the run and the whole result.
async fn call(client: &Client, request: &Request) -> Result<(RunId, Value), ApiError> {
    let params = &request.params;
    match request.method {
        "start_interactive_session" => {
            let result = client.start_session(params).await?;
            Ok((result.run_id, json!(result)))
        }
        "resume_session" => {
            let params = ResumeSessionParams::deserialize(params);
            let params = params.map_err(|error| ApiError::internal(format!("invalid parameters: {error}")))?;
            let result = client.resume_session(&params).await?;
            Ok((result.run_id, json!(result)))
        }
        method => {
            let result = client.start(method, params).await?;
            Ok((result.run_id, json!(result)))
        }
    }
}

async fn grant(client: &Client, folder: &Path, quiet: bool) -> Result<(), ApiError> {
    let granted = client.grant_workspace(folder.to_owned(), None).await?;
    if !quiet {
        let command = ask::revoke_command(&granted.path);
        let folder = clean::line(&granted.path.display().to_string());
        complain(&format!("granted: agents may work in {folder} (`{}` revokes it)", clean::line(&command)));
    }
    Ok(())
}

/// The caller's variables that the provider's CLI needs. The host rejects an unknown provider.
async fn caller_environment(client: &Client, provider: &str) -> Result<BTreeMap<String, String>, ApiError> {
    if let Some(patterns) = client.host().inherit_environment.get(provider) {
        return Ok(environment::to_send(patterns.iter().map(String::as_str), std::env::vars_os()));
    }
    let mut listed = client.list_plugins().await?;
    if !provider.is_empty() && !listed.providers.iter().any(|info| info.name == provider) {
        // The configuration may have been saved just now, and the host may not have noticed it yet.
        if let Err(error) = client.reload().await {
            let error = ApiError::from(error);
            let message = format!("there is no provider {:?} in the active configuration", clean::line(provider));
            let hint = "config.toml has errors, so its last valid version stays active; see `ostler config check`";
            if error.kind == ErrorKind::InvalidParams {
                return Err(ApiError::new(ErrorKind::NotFound, message).at("/provider").hint(hint));
            }
        }
        listed = client.list_plugins().await?;
    }
    let found = listed.providers.iter().find(|info| info.name == provider);
    let patterns = found.map(|info| info.inherit_environment.as_slice()).unwrap_or_default();
    Ok(environment::to_send(patterns.iter().map(String::as_str), std::env::vars_os()))
}
