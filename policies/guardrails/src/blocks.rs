//! Checks that the allowlist of programs, the shell prelude and the variables are well-formed, and so have the intended
//! effect.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::document::{at, items, member, members, shown};
use crate::findings::Findings;
use crate::settings::Settings;

/// Maximum length of a shell prelude in bytes.
const MAX_PRELUDE: usize = 1 << 20;

pub(crate) fn check(payload: &Value, settings: &Settings, findings: &mut Findings) {
    if at(payload, "/harness/cliAllowlist").is_some() {
        allowlist(payload, settings, findings);
    }
    if at(payload, "/harness/shellPrelude").is_some() {
        prelude(payload, findings);
    }
    variables(payload, "/harness/processEnv", settings, findings);
    for (pointer, _) in items(payload, "/harness/mcp/servers") {
        variables(payload, &format!("{pointer}/env"), settings, findings);
    }
}

fn allowlist(payload: &Value, settings: &Settings, findings: &mut Findings) {
    let block = "/harness/cliAllowlist";
    let entries: Vec<_> = items(payload, &format!("{block}/entries")).collect();
    if entries.is_empty() {
        let hint = "list at least one program, or remove the allowlist";
        findings.deny("allowlist-entries", format!("{block}/entries"), "the allowlist contains no programs", hint);
    }
    let mut names = BTreeSet::new();
    for (pointer, entry) in entries {
        let name = at(entry, "/name").and_then(Value::as_str).unwrap_or_default();
        file_name(name, &format!("{pointer}/name"), findings);
        if !name.is_empty() && !names.insert(name) {
            let message = format!("{} is listed twice", shown(name));
            findings.deny("allowlist-name", format!("{pointer}/name"), message, "remove one of them");
        }
        let path = at(entry, "/path").and_then(Value::as_str).unwrap_or_default();
        if !path.starts_with('/') || path.ends_with('/') || path.split('/').any(|part| part == "..") {
            let hint = "use the absolute path of the program, without ..";
            findings.deny("allowlist-path", format!("{pointer}/path"), "is not the absolute path of a program", hint);
        }
        variables(payload, &format!("{pointer}/env"), settings, findings);
    }
    let wrapper = at(payload, &format!("{block}/mode")).and_then(Value::as_str) == Some("wrapper");
    let name = format!("{block}/wrapperName");
    match at(payload, &name) {
        Some(value) if wrapper => file_name(value.as_str().unwrap_or_default(), &name, findings),
        Some(_) => {
            let hint = "set mode to wrapper, or remove the name";
            findings.deny("allowlist-wrapper", &name, "has no effect without the mode wrapper", hint);
        }
        None => {}
    }
    let keep = format!("{block}/keepBinDir");
    let folder = at(payload, &format!("{block}/binDir")).and_then(Value::as_str);
    if at(payload, &keep).and_then(Value::as_bool) == Some(true) && folder.is_none() {
        findings.deny("allowlist-folder", &keep, "has no effect without binDir", "set binDir, or remove keepBinDir");
    }
    if folder.is_some_and(|folder| folder.contains(':')) {
        let message = "contains a colon, which separates folders in PATH";
        findings.deny("allowlist-folder", format!("{block}/binDir"), message, "choose another folder");
    }
}

fn file_name(name: &str, pointer: &str, findings: &mut Findings) {
    let fits = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-[".contains(&byte));
    if !fits {
        let hint = "use at most 128 letters, digits and . _ + - [, without - or . at the beginning";
        findings.deny("allowlist-name", pointer, "is not a valid program name", hint);
    }
}

fn prelude(payload: &Value, findings: &mut Findings) {
    let block = "/harness/shellPrelude";
    let content = format!("{block}/content");
    match at(payload, &content).and_then(Value::as_str) {
        None => {
            let hint = "set the text, or remove the prelude";
            findings.deny("prelude-content", content, "the prelude has no text", hint);
        }
        Some(text) if text.len() > MAX_PRELUDE => {
            let message = format!("has {} bytes, but at most {MAX_PRELUDE} are allowed", text.len());
            findings.deny("prelude-content", content, message, "shorten it, or read a file in it");
        }
        Some(_) => {}
    }
    let off = |name: &str| at(payload, &format!("{block}/{name}")).and_then(Value::as_bool) == Some(false);
    if off("bashEnv") && off("shEnv") {
        let hint = "set one of them to true, or remove the prelude";
        findings.deny("prelude-target", block, "has no effect with both bashEnv and shEnv off", hint);
    }
}

fn variables(payload: &Value, block: &str, settings: &Settings, findings: &mut Findings) {
    for (name, value) in members(payload, block) {
        let pointer = member(block, name);
        let first_fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first_fits || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let message = format!("{:?} is not a valid variable name", shown(name));
            findings.deny(
                "environment-name",
                &pointer,
                message,
                "use letters, digits and _, without a digit at the beginning",
            );
        } else if settings.forbids_variable(name) {
            let message = format!("{name} must not be set: it could replace code of the verified CLI");
            findings.deny("environment-forbidden", &pointer, message, "remove it");
        }
        if !value.is_string() {
            findings.deny("environment-value", &pointer, "must be a string", "put it in quotes");
        }
    }
}
