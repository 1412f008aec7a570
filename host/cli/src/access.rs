//! `ostler access`

use clap::{Args, Subcommand};

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::format;
use super::output::{BAD, DIM, GOOD, complain};
use super::table::{Cell, Table};
use super::times;
use ostler_protocol::methods::CreateAccessTokenParams;
use ostler_protocol::{AccessClass, AccessToken, ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler access list
  ostler access add dashboard --class read
  ostler access add ci --expires 30d > token.txt
  ostler access revoke ci

Access tokens are for clients over TCP ([http] listen in config.toml); the unix socket needs none. The class `read` allows \
reading, `run` also starting and canceling runs, `operate` everything that you may do. The token named `default` has the \
class `run` and is in the file that `ostler status` names; if revoked, it is replaced at the next start of the host.";

/// Manage access over TCP
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the access tokens, without the tokens themselves
    #[command(after_help = "Examples:\n  ostler access list --json")]
    List,
    /// Create an access token and print it once
    #[command(
        after_help = "Examples:\n  ostler access add dashboard --class read\n  ostler access add ci --expires 30d"
    )]
    Add {
        /// Name: letters, digits, hyphens, underscores, dots
        name: String,
        /// What the token allows
        #[arg(long, value_parser = ["read", "run", "operate"], default_value = "run")]
        class: String,
        /// Validity: 90s, 15m, 12h, 30d [default: until it is revoked]
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        expires: Option<u64>,
    },
    /// Revoke an access token, effective at once
    #[command(after_help = "Examples:\n  ostler access revoke ci")]
    Revoke {
        /// Name
        name: String,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    match &arguments.action {
        Action::List => {
            let tokens = client.list_access_tokens().await?;
            if context.json {
                context.out.document(&tokens)?;
            } else if tokens.is_empty() {
                complain("no access tokens; `ostler access add NAME` creates one");
            } else {
                table(&tokens).print(&mut context.out)?;
            }
        }
        Action::Add { name, class, expires } => {
            let class = AccessClass::from_name(class)
                .ok_or_else(|| ApiError::new(ErrorKind::InvalidParams, "this class does not exist").at("--class"))?;
            let params = CreateAccessTokenParams { name: name.clone(), class, expires_in_seconds: *expires };
            let created = client.create_access_token(&params).await?;
            if context.json {
                context.out.document(&created)?;
            } else {
                // Alone on standard output, so that it can be sent to a file.
                context.out.line(&created.token)?;
                let name = clean::line(&created.access_token.name);
                complain(&format!("this is the token {name} (class {class}); it is not shown again"));
            }
        }
        Action::Revoke { name } => {
            let revoked = client.revoke_access_token(name.clone()).await?;
            if context.json {
                context.out.document(&revoked)?;
            } else {
                context.out.line(format!("the access token {} is revoked", clean::line(&revoked.name)))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn table(tokens: &[AccessToken]) -> Table {
    let mut table = Table::new(&["NAME", "CLASS", "STATE", "CREATED", "EXPIRES", "LAST USED"], 0);
    for token in tokens {
        let time = |at: Option<jiff::Timestamp>| match at {
            Some(at) => Cell::styled(DIM, &format::local(at)),
            None => Cell::styled(DIM, "never"),
        };
        let state = if token.valid { Cell::styled(GOOD, "valid") } else { Cell::styled(BAD, "expired") };
        table.row(vec![
            token.name.as_str().into(),
            token.class.name().into(),
            state,
            time(Some(token.created_at)),
            time(token.expires_at),
            time(token.last_used_at),
        ]);
    }
    table
}

/// The lifetime of a token in seconds. A number without a unit is refused: it could be meant as days.
fn seconds(text: &str) -> Result<u64, String> {
    if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit: use s, m, h or d, for example 30d"));
    }
    match times::parse_seconds(text)? {
        seconds if (1..=315_360_000).contains(&seconds) => Ok(seconds),
        _ => Err("must be between 1s and 3650d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn reads_durations_with_a_unit() {
        assert_eq!((seconds("90s"), seconds("12h"), seconds("30d")), (Ok(90), Ok(43_200), Ok(2_592_000)));
        for wrong in ["", "d", "30", "-1d", "1.5h", "3 d", "0s", "3651d", "99999999999999999999d", "1ä"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
