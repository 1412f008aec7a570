//! The command line, before it is spawned.

use ostler_plugin::policy::{Context, LaunchSummary};
use serde_json::Value;

use crate::document::shown;
use crate::findings::Findings;
use crate::flags::{self, Capabilities};
use crate::paths::{contains, is_granted};
use crate::permissions::Permissions;
use crate::text;
use crate::widening::{self, CheckContext};

pub(crate) fn check(launch: &LaunchSummary, context: &Context, findings: &mut Findings) {
    let mut facts: Value = serde_json::from_str(&context.facts).unwrap_or_default();
    let payload = facts.get_mut("payload").map(Value::take).filter(Value::is_object);
    let permissions = payload.as_ref().map(|payload| Permissions::read(payload, findings));
    match (&payload, &permissions) {
        // The installed CLI and the settings may have changed while the run was queued.
        (Some(payload), Some(permissions)) => flags::check(payload, permissions, context, findings),
        _ => {
            let message =
                "the payload of the run is unknown, so the command line is checked as if the payload were empty";
            findings.warn("payload-unknown", "", message, "");
        }
    }
    executable(launch, context, findings);
    folder(launch, context, findings);
    text::check_launch(launch, findings);
    let own_folders = launch.files.iter().filter_map(|file| file.path.rsplit_once('/')).map(|(folder, _)| folder);
    let own_folders = own_folders.filter(|folder| !folder.is_empty()).collect();
    let checked = CheckContext::spawn(permissions.as_ref(), context, &facts["sandbox"], own_folders);
    let mut effects = widening::of_arguments(&context.plugin, &launch.args);
    for file in &launch.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        match (name.rsplit_once('.').map(|(_, kind)| kind), &file.text) {
            (Some("json"), Some(text)) => effects.extend(widening::of_json(text, name)),
            (Some("toml"), Some(text)) => effects.extend(widening::of_toml(text)),
            (Some("json" | "toml"), None) => {
                let message = format!("{} is too long to be checked, or not text", shown(name));
                findings.warn("file-unread", "", message, "");
            }
            _ => {}
        }
    }
    widening::check(&effects, &checked, findings);
}

/// The program must be the one that the host has verified for the provider.
fn executable(launch: &LaunchSummary, context: &Context, findings: &mut Findings) {
    let check = "executable-verified";
    let path = &launch.executable;
    if !path.starts_with('/') || path.split('/').any(|part| matches!(part, "." | "..")) {
        let message = format!("the path of the program {} is not absolute", shown(path));
        findings.deny(check, "", message, "set an absolute path without . and .. as the executable of the provider");
        return;
    }
    match Capabilities::read(context).and_then(|capabilities| capabilities.executable) {
        Some(verified) if verified == *path => {}
        Some(verified) => {
            let message = format!(
                "the program {} is not the one that was verified for provider {}: {}",
                shown(path),
                context.provider,
                shown(&verified)
            );
            findings.deny(check, "", message, "ask the CLI again with `list_capabilities`, and submit the run again");
        }
        None => {
            let message = format!("no program was verified for provider {}", context.provider);
            findings.deny(check, "", message, "ask the CLI again with `list_capabilities`");
        }
    }
}

/// The grants may have changed while the run was queued.
fn folder(launch: &LaunchSummary, context: &Context, findings: &mut Findings) {
    let cwd = &launch.cwd;
    let granted = context.workspace_grant.as_ref().is_some_and(|grant| *cwd == context.cwd && contains(grant, cwd))
        || context.paths.iter().any(|path| (path.path == *cwd || path.resolved == *cwd) && is_granted(path));
    let hint = "grant it with `grant_workspace` and submit the run again";
    if !granted {
        let message = format!("the working folder {} is not inside an active grant", shown(cwd));
        findings.deny("cwd-in-grant", "/cwd", message, hint);
    }
    for path in context.paths.iter().filter(|path| path.pointer != "/cwd" && !is_granted(path)) {
        let message = format!("{} is not inside an active grant", shown(&path.path));
        findings.deny("directory-in-grant", &path.pointer, message, hint);
    }
}
