//! `optionalFlags`: only flags that the plugin lists and the installed CLI has, and none that weakens the permissions.

use ostler_plugin::policy::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::document::{member, members, shown};
use crate::findings::Findings;
use crate::permissions::Permissions;
use crate::widening::{self, CheckContext};

/// The capabilities of the installed CLI that are relevant here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Capabilities {
    pub(crate) executable: Option<String>,
    optional_flags: Vec<Offered>,
}

impl Capabilities {
    pub(crate) fn read(context: &Context) -> Option<Self> {
        serde_json::from_str(&context.capabilities).ok()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offered {
    name: String,
    values: Values,
    advanced: bool,
    widens: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Values {
    None,
    One,
    Many,
}

pub(crate) fn check(payload: &Value, permissions: &Permissions, context: &Context, findings: &mut Findings) {
    let block = "/optionalFlags";
    let flags: Vec<_> = members(payload, block).collect();
    if flags.is_empty() {
        return;
    }
    let Some(capabilities) = Capabilities::read(context) else {
        let message = "the capabilities of the installed CLI are unknown, so no flag is allowed";
        findings.deny(
            "flag-unlisted",
            block,
            message,
            "ask the CLI again with `list_capabilities`, or remove the flags",
        );
        return;
    };
    for (name, value) in flags {
        let pointer = member(block, name);
        let Some(offered) = capabilities.optional_flags.iter().find(|offered| offered.name == *name) else {
            let names: Vec<&str> = capabilities.optional_flags.iter().map(|offered| offered.name.as_str()).collect();
            let hint = match names.as_slice() {
                [] => "remove it: this provider supports no flags".to_owned(),
                names => format!("it supports {}", names.join(", ")),
            };
            let message = format!("{} is not a flag of the installed {}", shown(name), context.provider);
            findings.deny("flag-unlisted", pointer, message, &hint);
            continue;
        };
        let Some(flag_values) = flag_values(offered, value, &pointer, findings) else { continue };
        if offered.advanced && !context.advanced {
            let message = format!("{name} is an advanced flag, and advanced flags are not enabled");
            let hint = "remove it, or set allow_advanced in [policy] of the configuration";
            findings.deny("flag-advanced", &pointer, message, hint);
        }
        widening(offered, permissions, &pointer, findings);
        let effects = widening::of_arguments(&context.plugin, &flag_values);
        widening::check(&effects, &CheckContext::start(permissions, context, &pointer), findings);
    }
}

/// The value of a flag as on the command line; none if it is off or invalid.
fn flag_values(offered: &Offered, value: &Value, pointer: &str, findings: &mut Findings) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let name = &offered.name;
    let (values, wanted) = match (offered.values, value) {
        (_, Value::Bool(false)) => return None,
        (Values::None, Value::Bool(true)) => return Some(vec![name.clone()]),
        (Values::None, _) => (None, "takes no value: use true or false"),
        (Values::One, value) => (text(value).map(|value| vec![value]), "takes one value: use a string or a number"),
        (Values::Many, Value::Array(items)) => {
            (items.iter().map(text).collect(), "takes strings or numbers: use a list of them")
        }
        (Values::Many, value) => (text(value).map(|value| vec![value]), "takes strings or numbers: use a list of them"),
    };
    let Some(values) = values else {
        findings.deny("flag-value", pointer, format!("{name} {wanted}"), "correct the value");
        return None;
    };
    if values.is_empty() { None } else { Some(values.iter().map(|value| format!("{name}={value}")).collect()) }
}

fn widening(offered: &Offered, permissions: &Permissions, pointer: &str, findings: &mut Findings) {
    let name = &offered.name;
    let blocked: Vec<&str> =
        offered.widens.iter().map(String::as_str).filter(|field| permissions.forbids(field)).collect();
    if !blocked.is_empty() {
        let message = format!("{name} can weaken {}, which the payload restricts", blocked.join(", "));
        let hint = "remove the flag, or request its effect in the harness";
        findings.deny("flag-widens", pointer, message, hint);
    }
    if permissions.completes_full_access(|field| offered.widens.iter().any(|widened| widened == field)) {
        let message = format!("with {name}, tools could run without approval and without a sandbox");
        let hint = "remove the flag, or set sandboxMode to workspace-write or read-only";
        findings.deny("auto-approve-full-access", pointer, message, hint);
    }
}
