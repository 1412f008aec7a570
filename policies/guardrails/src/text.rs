//! Control characters and NUL are denied in every text that can reach an argument, an environment, a file or a terminal.

use ostler_plugin::policy::LaunchSummary;
use serde_json::Value;

use crate::document::{member, shown};
use crate::findings::Findings;

const CHECK: &str = "control-characters";

/// The characters that a text may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No control characters: names, paths, flags, URLs.
    Line,
    /// Also line breaks and tabs: texts of several lines.
    Text,
    /// Everything except NUL: the output of a program, with colors.
    Data,
}

/// Fields that may have several lines, by their pointer in the payload; `*` is any member or item.
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
/// All values inside these fields are texts.
const SCHEMA: [&str; 3] = ["harness", "structuredOutput", "schema"];

/// Checks all strings and names in the payload.
pub(crate) fn check(payload: &Value, findings: &mut Findings) {
    walk(payload, &mut Vec::new(), "", findings);
}

/// Checks input for a session.
pub(crate) fn check_input(input: &str, findings: &mut Findings) {
    if let Some(found) = first_bad(input, Kind::Text) {
        findings.deny(CHECK, "", format!("the input contains {}", describe(found)), "remove it");
    }
}

/// Checks a command line. Arguments may contain line breaks and tabs, because instructions and settings are passed as
/// arguments.
pub(crate) fn check_launch(launch: &LaunchSummary, findings: &mut Findings) {
    let mut look = |what: &str, text: &str, kind: Kind| {
        if let Some(found) = first_bad(text, kind) {
            findings.deny(CHECK, "", format!("{what} contains {}", describe(found)), "remove it");
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
                findings.deny(CHECK, pointer, format!("contains {}", describe(found)), "remove it");
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
                    let message = format!("the name {:?} contains {}", shown(name), describe(found));
                    findings.deny(CHECK, &pointer, message, "remove it");
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
    // Control characters are those of ASCII, and U+0080 to U+009F, whose first byte is C2. Long texts without these bytes
    // are skipped quickly.
    if !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == 0xc2) {
        return None;
    }
    text.chars().find(|c| match kind {
        Kind::Line => c.is_control(),
        Kind::Text => c.is_control() && !matches!(c, '\n' | '\r' | '\t'),
        Kind::Data => *c == '\0',
    })
}

fn describe(found: char) -> String {
    match found {
        '\0' => "a NUL".to_owned(),
        '\n' | '\r' => "a line break".to_owned(),
        other => format!("the control character U+{:04X}", u32::from(other)),
    }
}
