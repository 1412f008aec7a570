//! `ostler doctor`: checks everything that a run needs.

mod machine;
mod providers;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::Exit;
use super::output::{BAD, GOOD, Output, WARN, paint};
use super::{clean, config, option_names, progress};
use ostler_client::Client;
use ostler_protocol::ApiError;
use ostler_protocol::methods::Status;

const EXAMPLES: &str = "\
Examples:
  ostler doctor
  ostler doctor --json | jq '.checks[] | select(.state != \"ok\")'

It checks the configuration, folders and disk space, limits of this shell, the host and its plugins, the sandbox, keyring \
and audit trail, and which agent CLIs are installed and logged in. It starts a host if none is running, and asks the CLIs \
themselves whether they are logged in. The exit code is 1 if something is broken; a warning alone is not.";

/// Check the installation: configuration, folders, host, sandbox, agent CLIs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works with limits, or is optional.
    Warning,
    Broken,
}

/// A check and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    state: State,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, state: State, message: impl Into<String>) -> Self {
        Self { name: name.into(), state, message: message.into(), hint: None }
    }

    fn ok(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, State::Ok, message)
    }

    fn warning(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, State::Warning, message)
    }

    fn broken(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(name, State::Broken, message)
    }

    fn error(name: impl Into<String>, error: &ApiError) -> Self {
        Self { hint: error.hint.clone(), ..Self::broken(name, error.message.clone()) }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    checks: &'a [Check],
}

pub(super) async fn execute(context: &mut Context<'_>, _: &Arguments) -> Result<Exit, ApiError> {
    let mut checks = vec![configuration(context)];
    checks.extend(machine::folders(&context.paths));
    checks.push(machine::disk(&context.paths));
    checks.extend(machine::limits());
    match context.client().await {
        Ok(client) => of_host(context, &client, &mut checks).await?,
        Err(error) => checks.push(Check::error("host", &error)),
    }
    let ok = checks.iter().all(|check| check.state != State::Broken);
    if context.json {
        context.out.document(&Report { ok, checks: &checks })?;
    } else {
        let text = render(&checks, &context.out);
        context.out.write(&text)?;
    }
    Ok(if ok { Exit::Done } else { Exit::RunFailed })
}

fn configuration(context: &Context<'_>) -> Check {
    let name = "configuration";
    let path = context.paths.config_file.display().to_string();
    if !context.paths.config_file.exists() {
        return Check::ok(name, format!("{path} does not exist, so the defaults are active"));
    }
    match config::validate_own(context) {
        Ok(Ok(())) => Check::ok(name, path),
        Ok(Err(errors)) => {
            let count = errors.errors().len();
            let errors = if count == 1 { "1 error" } else { &format!("{count} errors") };
            Check::broken(name, format!("{path} has {errors}")).hint("`ostler config check` shows them")
        }
        Err(error) => Check::error(name, &error),
    }
}

/// The checks that need the host.
async fn of_host(context: &Context<'_>, client: &Client, checks: &mut Vec<Check>) -> Result<(), ApiError> {
    let status = client.get_status().await?;
    checks.push(Check::ok("host", format!("ostler {}, pid {}", status.version, status.pid)));
    checks.extend(status.problems.iter().map(|problem| Check::broken("host", option_names::message(problem))));
    checks.push(sandbox(&status));
    checks.push(keyring(&status));
    checks.push(Check::ok("seal key", status.seal_key.clone()));
    checks.push(match client.verify_audit().await {
        Ok(verdict) => match &verdict.problem {
            None => Check::ok("audit trail", format!("intact, {} records", verdict.records)),
            Some(problem) => {
                let at = verdict.broken_at.unwrap_or_default();
                Check::broken("audit trail", format!("not intact: record {at}: {problem}"))
                    .hint("see docs/security.md; `ostler audit export FILE` copies it")
            }
        },
        Err(error) => Check::error("audit trail", &error.into()),
    });
    let grants = client.list_workspace_grants().await?.len();
    checks.push(match grants {
        0 => Check::warning("grants", "agents may not work in any folder yet")
            .hint("`ostler grant add` in the folder of a project allows it"),
        1 => Check::ok("grants", "1 folder"),
        count => Check::ok("grants", format!("{count} folders")),
    });
    let detected = providers::check(context, client);
    checks.extend(progress::while_waiting(context, "agent CLIs", "checking", detected).await?);
    Ok(())
}

fn sandbox(status: &Status) -> Check {
    let name = "sandbox";
    let Some(sandbox) = &status.sandbox else { return Check::warning(name, "the host does not report it") };
    let notes: Vec<&str> = sandbox.gaps.iter().chain(&sandbox.refused).map(String::as_str).collect();
    let hint = (!notes.is_empty()).then(|| notes.join("; "));
    let check = match sandbox.backend {
        Some(backend) if sandbox.gaps.is_empty() => Check::ok(name, backend.as_str()),
        Some(backend) => Check::warning(name, format!("{} cannot enforce everything", backend.as_str())),
        None => Check::warning(name, "runs are not contained on this machine"),
    };
    let hint = hint.filter(|_| check.state != State::Ok);
    Check { hint, ..check }
}

fn keyring(status: &Status) -> Check {
    let store = status.token_store.as_str();
    if !status.tokens_storable {
        return Check::warning("keyring", format!("tokens cannot be stored: {store}"))
            .hint("set `store` in [tokens] of config.toml");
    }
    Check::ok("keyring", store)
}

fn render(checks: &[Check], out: &Output) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let (style, word) = match check.state {
            State::Ok => (GOOD, "ok"),
            State::Warning => (WARN, "warning"),
            State::Broken => (BAD, "broken"),
        };
        let state = paint(out.color, style, &format!("{word:<7}"));
        let (name, message) = (clean::line(&check.name), clean::line(&check.message));
        text.push_str(&format!("{state}  {name:<width$}  {message}\n"));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("{:7}  {:width$}  hint: {}\n", "", "", clean::line(hint)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn report_is_aligned_without_escape_sequences() {
        let checks = [
            Check::ok("disk", "12.0 GB free"),
            Check::broken("configuration", "/x\u{1b}[2J has 1 error").hint("`ostler config check` shows them"),
        ];
        let mut out = Output::detect();
        out.color = false;
        insta::assert_snapshot!(render(&checks, &out), @r"
        ok       disk           12.0 GB free
        broken   configuration  /x␛[2J has 1 error
                                hint: `ostler config check` shows them
        ");
        assert_eq!(
            serde_json::json!(checks[0]),
            serde_json::json!({"name": "disk", "state": "ok", "message": "12.0 GB free"})
        );
    }
}
