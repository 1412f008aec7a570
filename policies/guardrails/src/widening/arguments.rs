//! Parsing of command lines.

use super::config::{of_json, of_setting};
use super::{Effect, Gives};

/// The value that an argument requires.
enum Value<'a> {
    /// `--flag=value`, or the next argument.
    Joined(&'a str),
    Next,
}

/// The permissions that arguments give. Arguments after `--` are not flags.
pub(crate) fn of_arguments(plugin: &str, arguments: &[String]) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut rest = arguments.iter().map(String::as_str).take_while(|argument| *argument != "--").peekable();
    while let Some(argument) = rest.next() {
        let argument = long_form(plugin, argument);
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Value::Joined(value)),
            _ => (argument.as_ref(), Value::Next),
        };
        if !flag.starts_with("--") {
            continue;
        }
        if let Some(gives) = alone(plugin, flag) {
            // Some parsers accept `--flag=false` to turn a flag off.
            let off = matches!(value, Value::Joined("false" | "0" | "off" | "no"));
            effects.extend(gives.into_iter().filter(|_| !off).map(|gives| Effect::new(gives, flag)));
            continue;
        }
        if !takes_value(flag) {
            continue;
        }
        let first = match value {
            Value::Joined(value) => Some(value),
            Value::Next => rest.next_if(|next| !next.starts_with('-')),
        };
        with_value(flag, first.unwrap_or_default(), &mut effects);
        // Some flags take all words up to the next flag.
        if is_list(plugin, flag) {
            while let Some(more) = rest.next_if(|next| !next.starts_with('-')) {
                with_value(flag, more, &mut effects);
            }
        }
    }
    effects
}

/// Replaces short flags by long ones; a letter has a different meaning in every CLI.
fn long_form<'a>(plugin: &str, argument: &'a str) -> std::borrow::Cow<'a, str> {
    let known: &[(&str, &str)] = match plugin {
        "codex" => &[("-c", "--config"), ("-s", "--sandbox"), ("-a", "--ask-for-approval"), ("-C", "--cd")],
        "gemini" => &[("-y", "--yolo")],
        _ => &[],
    };
    if argument.starts_with("--") {
        return argument.into();
    }
    for (short, long) in known {
        match argument.strip_prefix(short) {
            Some("") => return (*long).into(),
            // `-sVALUE` and `-s=VALUE`.
            Some(value) => return format!("{long}={}", value.strip_prefix('=').unwrap_or(value)).into(),
            None => {}
        }
    }
    argument.into()
}

/// The permissions that a flag gives regardless of its value.
fn alone(plugin: &str, flag: &str) -> Option<Vec<Gives>> {
    use Gives::{AutoApprove, FullAccess, Network, Writes};
    let gives = match flag {
        "--dangerously-bypass-approvals-and-sandbox" => vec![FullAccess, AutoApprove],
        "--yolo" if plugin == "codex" => vec![FullAccess, AutoApprove],
        "--dangerously-skip-permissions" | "--allow-dangerously-skip-permissions" | "--yolo" | "--allow-all-tools" => {
            vec![AutoApprove]
        }
        "--full-auto" | "--approve-for-me" => vec![Writes, AutoApprove],
        "--allow-all" => vec![FullAccess, AutoApprove, Network],
        "--allow-all-paths" | "--no-sandbox" | "--disable-sandbox" => vec![FullAccess],
        "--allow-all-urls" => vec![Network],
        // A flag with such a name removes a restriction.
        unknown if unknown.starts_with("--dangerously-") || unknown.starts_with("--unsafe-") => vec![FullAccess],
        _ => return None,
    };
    Some(gives)
}

fn takes_value(flag: &str) -> bool {
    matches!(
        flag,
        "--config"
            | "--sandbox"
            | "--ask-for-approval"
            | "--cd"
            | "--add-dir"
            | "--include-directories"
            | "--permission-mode"
            | "--approval-mode"
            | "--settings"
    )
}

fn is_list(plugin: &str, flag: &str) -> bool {
    plugin == "claude" && flag == "--add-dir"
}

fn with_value(flag: &str, value: &str, effects: &mut Vec<Effect>) {
    let gives = match (flag, value) {
        ("--config", setting) => {
            effects.extend(setting.split_once('=').into_iter().flat_map(|(key, value)| of_setting(key, value)));
            return;
        }
        ("--sandbox", "danger-full-access" | "full-access" | "false" | "off" | "none" | "disabled") => {
            Gives::FullAccess
        }
        ("--sandbox", "workspace-write") => Gives::Writes,
        ("--ask-for-approval", policy) => Gives::Approval(policy.to_owned()),
        ("--cd" | "--add-dir", folder) => Gives::Directory(folder.to_owned()),
        ("--include-directories", folders) => {
            effects.extend(folders.split(',').map(|folder| Effect::new(Gives::Directory(folder.to_owned()), flag)));
            return;
        }
        ("--permission-mode", "default" | "plan" | "dontAsk") | ("--approval-mode", "default" | "plan") => return,
        ("--permission-mode", "acceptEdits" | "auto") | ("--approval-mode", "auto_edit") => Gives::Writes,
        ("--permission-mode" | "--approval-mode", _) => Gives::AutoApprove,
        // The file is checked where the launch contains it.
        ("--settings", document) if document.trim_start().starts_with('{') => {
            effects.extend(of_json(document, flag));
            return;
        }
        _ => return,
    };
    effects.push(Effect::new(gives, flag));
}
