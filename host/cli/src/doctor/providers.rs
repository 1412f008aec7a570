//! Which agent CLIs are installed, and whether they are logged in.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::context::Context;
use super::super::environment;
use super::Check;
use ostler_client::Client;
use ostler_protocol::methods::{ListCapabilitiesParams, TokenState};
use ostler_protocol::{ApiError, CapabilitySnapshot, Support};

/// Commands that exit with 0 if the CLI is logged in.
const LOGIN_CHECKS: [(&str, &[&str]); 2] = [("codex", &["login", "status"]), ("claude", &["auth", "status"])];

/// Time limit for a CLI. A first start can be slow.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Interval between two checks whether a CLI has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Whether runs of a provider can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Login {
    /// With a token from this source: the token store or a variable.
    Token(String),
    /// The CLI itself is logged in.
    Own,
    None,
    /// The CLI has no command to check it, or the command failed to run.
    Unknown,
}

/// Checks every provider.
///
/// # Errors
/// Those of the calls to the host.
pub(super) async fn check(context: &Context<'_>, client: &Client) -> Result<Vec<Check>, ApiError> {
    let listed = client.list_plugins().await?;
    let patterns = listed.providers.iter().flat_map(|provider| provider.inherit_environment.iter().map(String::as_str));
    let params = ListCapabilitiesParams {
        refresh: Some(true),
        provider: None,
        client_environment: environment::to_send(patterns, std::env::vars_os()),
    };
    let mut snapshots = client.list_capabilities(&params).await?;
    snapshots.sort_by(|one, other| one.provider.cmp(&other.provider));
    let config = context.local.config(&context.paths).ok();
    let mut tasks = Vec::new();
    for snapshot in snapshots {
        let token = client.has_provider_token(snapshot.provider.clone()).await;
        let set = config.as_ref().and_then(|config| config.providers.get(&snapshot.provider));
        let set = set.map(|provider| provider.environment.clone()).unwrap_or_default();
        tasks.push(tokio::task::spawn_blocking(move || {
            let login = match &token {
                Ok(token) => login(&snapshot, token, &set),
                Err(_) => Login::Unknown,
            };
            let problem = token.ok().and_then(|token| token.problem);
            describe(&snapshot, &login, problem)
        }));
    }
    let mut checks = Vec::new();
    for task in tasks {
        checks.push(task.await.map_err(ApiError::internal)?);
    }
    Ok(checks)
}

fn login(snapshot: &CapabilitySnapshot, token: &TokenState, set: &BTreeMap<String, String>) -> Login {
    if snapshot.support == Support::Blocked {
        return Login::Unknown;
    }
    if token.stored {
        return Login::Token("the stored token".to_owned());
    }
    let is_set =
        |name: &&String| set.contains_key(*name) || std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(variable) = token.variable.as_ref().filter(is_set) {
        return Login::Token(variable.clone());
    }
    let Some((_, args)) = LOGIN_CHECKS.iter().find(|(plugin, _)| *plugin == snapshot.plugin) else {
        return Login::Unknown;
    };
    match snapshot.executable.as_deref().and_then(|program| succeeds(program, args, set)) {
        Some(true) => Login::Own,
        Some(false) => Login::None,
        None => Login::Unknown,
    }
}

/// Whether a command exits with 0. `None` if it cannot be started or exceeds [`TIME_LIMIT`].
fn succeeds(program: &Path, args: &[&str], set: &BTreeMap<String, String>) -> Option<bool> {
    let mut command = Command::new(program);
    command.args(args).envs(set).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + TIME_LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL_INTERVAL),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

fn describe(snapshot: &CapabilitySnapshot, login: &Login, problem: Option<String>) -> Check {
    let name = format!("provider {}", snapshot.provider);
    let version = snapshot.cli_version.as_deref().unwrap_or("unknown version");
    let program = snapshot.executable.as_deref().map(Path::display).map(|path| path.to_string()).unwrap_or_default();
    let reasons = snapshot.reasons.join("; ");
    if let Some(problem) = problem {
        return Check::broken(name, format!("its stored token cannot be used: {problem}")).hint(format!(
            "`ostler token set {0}` stores it again, `ostler token clear {0}` removes it",
            snapshot.provider
        ));
    }
    if snapshot.support == Support::Blocked {
        let check = if snapshot.executable.is_none() {
            // Few users need all providers.
            Check::warning(name, "not installed")
        } else {
            Check::broken(name, format!("{program} cannot be used: {reasons}"))
        };
        return Check { hint: snapshot.install_hint.clone(), ..check };
    }
    let found = format!("{version}, {program}");
    let check = match login {
        Login::Own => Check::ok(name, format!("{found}, logged in")),
        Login::Token(source) => Check::ok(name, format!("{found}, uses {source}")),
        Login::Unknown => Check::ok(name, found),
        Login::None => Check::warning(name, format!("{found}, not logged in"))
            .hint(format!("log in with the CLI itself, or `ostler token set {}`", snapshot.provider)),
    };
    match (snapshot.support, check.hint.is_none()) {
        (Support::Degraded, true) => Check { state: super::State::Warning, ..check }.hint(reasons),
        _ => check,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::PathBuf;

    use serde_json::json;

    use super::super::State;
    use super::*;

    fn snapshot(support: &str, executable: Option<&str>) -> CapabilitySnapshot {
        let mut snapshot = json!({
            "provider": "codex", "plugin": "codex", "pluginDigest": "00", "support": support, "cliVersion": "1.2.3",
            "features": [], "modes": [], "optionalFlags": [], "reasons": ["too old"], "installHint": "npm install codex",
            "detectedAt": "2026-03-05T12:00:00Z"
        });
        snapshot["executable"] = json!(executable);
        serde_json::from_value(snapshot).unwrap()
    }

    #[test]
    fn missing_clis_and_logins_are_warnings_and_unusable_ones_are_broken() {
        let usable = snapshot("supported", Some("/bin/codex"));
        for (snapshot, login, problem, state, message) in [
            (usable.clone(), Login::Own, None, State::Ok, "1.2.3, /bin/codex, logged in"),
            (usable.clone(), Login::None, None, State::Warning, "1.2.3, /bin/codex, not logged in"),
            (
                usable.clone(),
                Login::Token("CODEX_API_KEY".to_owned()),
                None,
                State::Ok,
                "1.2.3, /bin/codex, uses CODEX_API_KEY",
            ),
            (usable, Login::Own, Some("it is gone"), State::Broken, "its stored token cannot be used: it is gone"),
            (snapshot("blocked", None), Login::Unknown, None, State::Warning, "not installed"),
            (snapshot("blocked", Some("/x")), Login::Unknown, None, State::Broken, "/x cannot be used: too old"),
            (snapshot("degraded", Some("/x")), Login::Unknown, None, State::Warning, "1.2.3, /x"),
        ] {
            let check = describe(&snapshot, &login, problem.map(str::to_owned));
            assert_eq!((check.state, check.message.as_str()), (state, message));
            assert_eq!(check.hint.is_none(), state == State::Ok, "{check:?}");
        }
    }

    #[test]
    fn exit_code_of_cli_decides_login_state() {
        let set = BTreeMap::from([("CODE".to_owned(), "3".to_owned())]);
        let shell = PathBuf::from("/bin/sh");
        assert_eq!(succeeds(&shell, &["-c", "exit 0"], &set), Some(true));
        assert_eq!(succeeds(&shell, &["-c", "exit $CODE"], &set), Some(false), "the provider's own variables count");
        assert_eq!(succeeds(Path::new("/no/such/cli"), &[], &set), None);
    }
}
