//! `ostler token`

use std::io::{self, IsTerminal, Read};

use clap::{Args, Subcommand};

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::output::{BAD, DIM, GOOD, complain};
use super::table::{Cell, Table};
use ostler_client::Client;
use ostler_protocol::methods::{ProviderTokenParams, TokenState};
use ostler_protocol::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler token set codex               asks for it without showing it
  pass show codex | ostler token set codex
  ostler token status
  ostler token clear codex

Runs of the provider get the token in an environment variable that the plugin names; it overrides the one of your shell. \
The token is stored in the desktop keyring, the kernel keyring or a private file ([tokens] store in config.toml), and is \
masked in everything that is stored, shown or logged. If the token cannot be read, runs do not start.";

/// Maximum number of bytes to read. Longer than any valid token; the host rejects a token that is too long.
const MAX_READ: u64 = 64 << 10;

/// Manage the tokens of providers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Store a token and replace an earlier one; it is typed on a terminal or read from standard input
    #[command(after_help = "Examples:\n  ostler token set codex\n  ostler token set codex-work < token.txt")]
    Set {
        /// Provider: claude, codex, or a name from the configuration
        provider: String,
    },
    /// Delete a token; later runs start without one
    #[command(after_help = "Examples:\n  ostler token clear codex")]
    Clear {
        /// Provider
        provider: String,
    },
    /// Show which providers have a token
    #[command(after_help = "Examples:\n  ostler token status\n  ostler token status codex --json")]
    Status {
        /// Show only this provider
        provider: Option<String>,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::Set { provider } => {
            let client = context.client().await?;
            // Reject a provider without tokens before the user types a secret.
            let state = client.has_provider_token(provider.clone()).await?;
            if state.variable.is_none() {
                let message = format!("{} takes no token: its plugin names no variable for one", clean::line(provider));
                return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/provider"));
            }
            let params = ProviderTokenParams { provider: provider.clone(), token: read_token(provider)? };
            let state = client.save_provider_token(&params).await?;
            if context.json {
                context.out.document(&state)?;
            } else {
                let store = state.store.as_deref().unwrap_or_default();
                let variable = state.variable.as_deref().unwrap_or_default();
                context.out.line(format!(
                    "stored in {}; runs of {} get it as {}",
                    store_text(store),
                    clean::line(provider),
                    clean::line(variable)
                ))?;
                if store == "keyutils" {
                    complain("the kernel keyring is emptied when the machine restarts");
                }
            }
        }
        Action::Clear { provider } => {
            let state = context.client().await?.clear_provider_token(provider.clone()).await?;
            if context.json {
                context.out.document(&state)?;
            } else {
                context.out.line(format!("{} has no stored token any more", clean::line(provider)))?;
            }
        }
        Action::Status { provider } => return status(context, provider.as_deref()).await,
    }
    Ok(Exit::Done)
}

async fn status(context: &mut Context<'_>, only: Option<&str>) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let states = match only {
        Some(provider) => vec![(provider.to_owned(), client.has_provider_token(provider.to_owned()).await?)],
        None => all(&client).await?,
    };
    if context.json {
        let document = states.iter().map(|(provider, state)| (provider.clone(), serde_json::json!(state)));
        context.out.document(&document.collect::<serde_json::Map<_, _>>())?;
    } else {
        table(&states).print(&mut context.out)?;
    }
    Ok(Exit::Done)
}

/// Every provider that can have a token.
async fn all(client: &Client) -> Result<Vec<(String, TokenState)>, ApiError> {
    let mut states = Vec::new();
    for provider in client.list_plugins().await?.providers.into_iter().filter(|provider| provider.problem.is_none()) {
        let state = client.has_provider_token(provider.name.clone()).await?;
        if state.variable.is_some() || state.store.is_some() {
            states.push((provider.name, state));
        }
    }
    Ok(states)
}

fn table(states: &[(String, TokenState)]) -> Table {
    let mut table = Table::new(&["PROVIDER", "TOKEN", "STORE", "VARIABLE", "PROBLEM"], 4);
    for (provider, state) in states {
        let (style, token) = match (state.stored, &state.problem) {
            (true, _) => (GOOD, "stored"),
            (false, Some(_)) => (BAD, "missing"),
            (false, None) => (DIM, "none"),
        };
        table.row(vec![
            provider.as_str().into(),
            Cell::styled(style, token),
            state.store.as_deref().unwrap_or_default().into(),
            state.variable.as_deref().unwrap_or_default().into(),
            state.problem.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

/// A description of a token store.
fn store_text(store: &str) -> String {
    match store {
        "keyutils" => "the kernel keyring".to_owned(),
        "secret-service" => "the desktop keyring".to_owned(),
        "file" => "a private file".to_owned(),
        other => clean::line(other),
    }
}

/// Reads the token: typed without echo, or all of standard input without its line end.
fn read_token(provider: &str) -> Result<String, ApiError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => {
            ApiError::new(ErrorKind::InvalidParams, "no token was given")
        }
        _ => ApiError::new(ErrorKind::Io, format!("failed to read the token: {error}")),
    };
    let text = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Token of {} (not shown): ", clean::line(provider))).map_err(failed)?
    } else {
        let mut text = String::new();
        io::stdin().lock().take(MAX_READ).read_to_string(&mut text).map_err(failed)?;
        text
    };
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let token = token.strip_suffix('\r').unwrap_or(token);
    if token.is_empty() {
        return Err(
            ApiError::new(ErrorKind::InvalidParams, "no token was given").hint("type it, or pass it on standard input")
        );
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn table_distinguishes_stored_and_missing_tokens() {
        let state = |stored, store: Option<&str>, problem: Option<&str>| TokenState {
            stored,
            store: store.map(str::to_owned),
            variable: Some("CODEX_API_KEY".to_owned()),
            problem: problem.map(str::to_owned),
        };
        let states = [
            ("codex".to_owned(), state(true, Some("file"), None)),
            ("codex-work".to_owned(), state(false, Some("keyutils"), Some("it is gone"))),
            ("other".to_owned(), state(false, None, None)),
        ];
        insta::assert_snapshot!(table(&states).render(None, false), @r"
        PROVIDER    TOKEN    STORE     VARIABLE       PROBLEM
        codex       stored   file      CODEX_API_KEY
        codex-work  missing  keyutils  CODEX_API_KEY  it is gone
        other       none               CODEX_API_KEY
        ");
    }
}
