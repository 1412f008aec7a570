//! Parsing of settings: codex's keys, as `-c key=value` or in a TOML file, and claude's, in JSON.

use serde_json::Value;

use super::{Effect, Gives};

/// The permissions that a key of codex's configuration gives.
pub(super) fn of_setting(key: &str, value: &str) -> Vec<Effect> {
    let key: String = key.split('.').map(|part| part.trim().trim_matches(['"', '\''])).collect::<Vec<_>>().join(".");
    let value = value.trim();
    let plain = value.trim_matches(['"', '\'']);
    let gives = match key.as_str() {
        "sandbox_mode" => match plain {
            "read-only" => return Vec::new(),
            "workspace-write" => Gives::Writes,
            _ => Gives::FullAccess,
        },
        "approval_policy" => Gives::Approval(plain.to_owned()),
        "sandbox_workspace_write.network_access" if plain == "false" => return Vec::new(),
        "sandbox_workspace_write.network_access" => Gives::Network,
        "sandbox_workspace_write.writable_roots" => return folders(value, &key),
        // These keys only remove folders from the sandbox.
        "sandbox_workspace_write.exclude_slash_tmp" | "sandbox_workspace_write.exclude_tmpdir_env_var" => {
            return Vec::new();
        }
        // Whole tables, and the newer permission profiles, are not parsed.
        _ => match key.split('.').next().unwrap_or_default() {
            "sandbox_workspace_write" | "sandbox_permissions" | "default_permissions" | "permissions" => {
                Gives::Unreadable
            }
            _ => return Vec::new(),
        },
    };
    vec![Effect::new(gives, &key)]
}

/// The folders in a list of strings. Any other list is treated as unreadable.
fn folders(list: &str, key: &str) -> Vec<Effect> {
    let Ok(folders) = serde_json::from_str::<Vec<String>>(&list.replace('\'', "\"")) else {
        return vec![Effect::new(Gives::Unreadable, key)];
    };
    folders.into_iter().map(|folder| Effect::new(Gives::Directory(folder), key)).collect()
}

/// The permissions that a TOML file gives. It is parsed line by line: relevant keys are on their own lines, and other forms,
/// such as a list over several lines, are treated as unreadable.
pub(crate) fn of_toml(text: &str) -> Vec<Effect> {
    let mut section = String::new();
    let mut effects = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap_or_default().trim_matches(['[', ' ']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let key = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            effects.extend(of_setting(&key, without_comment(value)));
        }
    }
    effects
}

/// The value without a comment; a `#` inside quotes does not begin one.
fn without_comment(value: &str) -> &str {
    let mut quote = None;
    for (index, c) in value.char_indices() {
        match (quote, c) {
            (None, '#') => return value.get(..index).unwrap_or(value),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    value
}

/// The permissions that a JSON document gives, with keys at any depth. Text that is not JSON is treated as unreadable.
pub(crate) fn of_json(text: &str, source: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    match serde_json::from_str::<Value>(text) {
        Ok(document) => walk(&document, &mut effects),
        Err(_) => effects.push(Effect::new(Gives::Unreadable, source)),
    }
    effects
}

fn walk(value: &Value, effects: &mut Vec<Effect>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, effects)),
        Value::Object(members) => {
            for (key, value) in members {
                effects.extend(of_member(key, value));
                walk(value, effects);
            }
        }
        _ => {}
    }
}

fn of_member(key: &str, value: &Value) -> Vec<Effect> {
    let gives = match (key, value) {
        ("defaultMode", Value::String(mode)) => match mode.as_str() {
            "default" | "plan" | "dontAsk" => return Vec::new(),
            "acceptEdits" | "auto" => Gives::Writes,
            _ => Gives::AutoApprove,
        },
        ("additionalDirectories", Value::Array(folders)) => {
            let folders = folders.iter().filter_map(Value::as_str);
            return folders.map(|folder| Effect::new(Gives::Directory(folder.to_owned()), key)).collect();
        }
        ("allowUnsandboxedCommands" | "skipDangerousModePermissionPrompt", Value::Bool(true)) => Gives::FullAccess,
        (key, Value::Bool(true)) if key.starts_with("dangerously") => Gives::FullAccess,
        _ => return Vec::new(),
    };
    vec![Effect::new(gives, key)]
}
