//! Control characters and NUL: refused wherever a text can reach an argument, an environment, a file or a terminal.

use ostler_plugin::policy::LaunchSummary;
use serde_json::Value;

use crate::document::{member, shown};
use crate::findings::Findings;

const CHECK: &str = "control-characters";

/// What a text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No control character at all: names, paths, flags, addresses.
    Line,
    /// Line breaks and tabs: what people and programs write over several lines.
    Text,
    /// Everything but NUL: the output of a program, with its colours.
    Data,
}

/// Fields that are more than a line, by their place in the payload; `*` is any member or item.
const FIELDS: [(&[&str], Kind); 10] = [
    (&["prompt"], Kind::Text),
    (&["harness", "pipedContent"], Kind::Data),
    (&["harness", "systemPrompt"], Kind::Text),
    (&["harness", "appendSystemPrompt"], Kind::Text),
    (&["harness", "shellPrelude", "content"], Kind::Text),
    (&["harness", "processEnv", "*"], Kind::Text),
    (&["harness", "mcp", "servers", "*", "env", "*"], Kind::Text),
    (&["harness", "mcp", "servers", "*", "args", "*"], Kind::Text),
    (&["harness", "cliAllowlist", "entries", "*", "args", "*"], Kind::Text),
    (&["harness", "cliAllowlist", "entries", "*", "env", "*"], Kind::Text),
];
/// Below this, everything is text.
const SCHEMA: [&str; 3] = ["harness", "structuredOutput", "schema"];

/// Checks every text of the payload and every name in it.
pub(crate) fn check(payload: &Value, findings: &mut Findings) {
    walk(payload, &mut Vec::new(), "", findings);
}

/// Checks input to a session.
pub(crate) fn check_input(input: &str, findings: &mut Findings) {
    if let Some(found) = first_bad(input, Kind::Text) {
        findings.deny(CHECK, "", format!("the input holds {}", named(found)), "take it out");
    }
}

/// Checks a command line. Arguments may hold line breaks and tabs: instructions and settings go by argument.
pub(crate) fn check_launch(launch: &LaunchSummary, findings: &mut Findings) {
    let mut look = |what: &str, text: &str, kind: Kind| {
        if let Some(found) = first_bad(text, kind) {
            findings.deny(CHECK, "", format!("{what} holds {}", named(found)), "take it out");
        }
    };
    look("the program's path", &launch.executable, Kind::Line);
    look("the working folder", &launch.cwd, Kind::Line);
    for (index, argument) in launch.args.iter().enumerate() {
        look(&format!("argument {}", index + 1), argument, Kind::Text);
    }
    for name in &launch.environment_names {
        look("the name of a variable", name, Kind::Line);
    }
    for file in &launch.files {
        look("the path of a private file", &file.path, Kind::Line);
    }
}

fn walk<'v>(value: &'v Value, path: &mut Vec<&'v str>, pointer: &str, findings: &mut Findings) {
    match value {
        Value::String(text) => {
            if let Some(found) = first_bad(text, kind(path)) {
                findings.deny(CHECK, pointer, format!("holds {}", named(found)), "take it out");
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push("*");
                walk(item, path, &format!("{pointer}/{index}"), findings);
                path.pop();
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                let pointer = member(pointer, name);
                if let Some(found) = first_bad(name, Kind::Line) {
                    let message = format!("the name {:?} holds {}", shown(name), named(found));
                    findings.deny(CHECK, &pointer, message, "take it out");
                }
                path.push(name);
                walk(value, path, &pointer, findings);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn kind(path: &[&str]) -> Kind {
    if path.starts_with(&SCHEMA) {
        return Kind::Text;
    }
    let matches = |field: &[&str]| {
        field.len() == path.len() && field.iter().zip(path).all(|(wanted, found)| *wanted == "*" || wanted == found)
    };
    FIELDS.iter().find(|(field, _)| matches(field)).map_or(Kind::Line, |(_, kind)| *kind)
}

fn first_bad(text: &str, kind: Kind) -> Option<char> {
    // Control characters are the ASCII ones and U+0080 to U+009F, whose first byte is C2: texts of megabytes without
    // either are passed over quickly.
    if !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == 0xc2) {
        return None;
    }
    text.chars().find(|c| match kind {
        Kind::Line => c.is_control(),
        Kind::Text => c.is_control() && !matches!(c, '\n' | '\r' | '\t'),
        Kind::Data => *c == '\0',
    })
}

fn named(found: char) -> String {
    match found {
        '\0' => "a NUL".to_owned(),
        '\n' | '\r' => "a line break".to_owned(),
        other => format!("the control character U+{:04X}", u32::from(other)),
    }
}
