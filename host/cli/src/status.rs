//! `ostler status`

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::context::Context;
use super::exit::Exit;
use super::output::{DIM, Output, WARN};
use super::{clean, format, option_names, times};
use ostler_private_files::Holder;
use ostler_protocol::ApiError;
use ostler_protocol::methods::Status;

const EXAMPLES: &str = "\
Examples:
  ostler status
  ostler status --json | jq .logFile

It starts no host. If none is running, or one is still starting, the exit code is 5.";

/// Show whether a host is running, and its state
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {}

pub(super) async fn execute(context: &mut Context<'_>, _: &Arguments) -> Result<Exit, ApiError> {
    let Some(client) = context.client_of_running().await? else {
        let holder = Holder::of(&context.paths.data_dir);
        if context.json {
            let mut document = json!({"running": false, "socket": context.paths.socket});
            if let Some(Holder { pid, starting, .. }) = holder {
                document["pid"] = pid.into();
                document["state"] = if starting.is_some() { "starting" } else { "ending" }.into();
                document["doing"] = starting.into();
            }
            context.out.document(&document)?;
        } else {
            let line = match holder {
                None => "no host is running".to_owned(),
                Some(Holder { pid, starting: Some(step), .. }) => format!("a host is starting (process {pid}): {step}"),
                Some(Holder { pid, .. }) => format!("a host is ending (process {pid})"),
            };
            context.out.line(clean::line(&line))?;
        }
        return Ok(Exit::NotFound);
    };
    let status = client.get_status().await?;
    if context.json {
        context.out.document(&status)?;
    } else {
        let text = render(&status, &context.out, times::now());
        context.out.write(&text)?;
    }
    Ok(Exit::Done)
}

fn waiting(status: &Status) -> String {
    let held = if status.held == 0 { String::new() } else { format!("{} held, ", status.held) };
    let paused = match (status.queue_paused, status.paused_providers.as_slice()) {
        (true, _) => "; the queue is paused (`ostler queue resume`)".to_owned(),
        (false, []) => String::new(),
        (false, providers) => format!("; paused: {} (`ostler queue resume PROVIDER`)", providers.join(", ")),
    };
    format!("{} ready, {} scheduled, {held}of at most {}{paused}", status.ready, status.scheduled, status.capacity)
}

fn sandbox(status: &Status) -> String {
    let Some(sandbox) = &status.sandbox else { return "unknown: the host is older than this command".to_owned() };
    let notes: Vec<&str> = sandbox.gaps.iter().chain(&sandbox.refused).map(String::as_str).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    match sandbox.backend {
        Some(backend) => format!("{}, {} by default{notes}", backend.as_str(), sandbox.default_mode.as_str()),
        None => format!("none: runs are not contained{notes}"),
    }
}

fn render(status: &Status, out: &Output, now: Timestamp) -> String {
    let path = |path: &std::path::Path| path.display().to_string();
    let kind = if status.background { "in the background, stops when idle" } else { "stays" };
    let fields = [
        ("host", format!("ostler {}, pid {}, {kind}", status.version, status.pid)),
        ("up", format::between(status.started_at, now)),
        ("running", format!("{} of at most {}", status.running, status.global_limit)),
        ("waiting", waiting(status)),
        ("subscribers", status.subscribers.to_string()),
        ("data", path(&status.data_folder)),
        ("socket", path(&status.socket)),
        ("config", path(&status.config_file)),
        ("log", path(&status.log_file)),
        ("seal key", status.seal_key.clone()),
        ("token store", status.token_store.clone()),
        ("sandbox", sandbox(status)),
    ];
    let http = status.http.iter().flat_map(|http| [("http", http.url.clone()), ("token", path(&http.token_file))]);
    let mut text = String::new();
    for (name, value) in fields.into_iter().chain(http) {
        text.push_str(&format!("{}{}\n", out.styled(DIM, &format!("{name:<13}")), clean::line(&value)));
    }
    if let Some(reload) = status.reloads.first() {
        let outcome = match (reload.ok, format::reload(reload)) {
            (false, _) => "failed, see below".to_owned(),
            (true, changed) if changed.is_empty() => "nothing changed".to_owned(),
            (true, changed) => changed.join(", "),
        };
        let ago = format::between(reload.at, now);
        let line = match reload.ok {
            true => format!("{ago} ago ({}): {outcome}", reload.trigger.name()),
            false => format!("{outcome} ({ago} ago, {})", reload.trigger.name()),
        };
        let line = clean::line(&line);
        text.push_str(&format!("{}{line}\n", out.styled(DIM, &format!("{:<13}", "reloaded"))));
    }
    for problem in &status.problems {
        text.push_str(&format!("{} {}\n", out.styled(WARN, "problem:"), clean::line(&option_names::message(problem))));
    }
    text
}
