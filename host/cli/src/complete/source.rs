//! Which names complete which argument, and where they come from.

use std::sync::{Arc, OnceLock};

use clap::{Arg, ValueHint};

use super::{LocalCommands, Nameable, Named, live};
use ostler_config::Paths;

/// What completes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Paths, which the shell completes itself.
    Path(ValueHint),
    Names(Names),
}

/// Sources of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Names that are looked up on this machine.
    Of(Nameable),
    /// Open sessions, of the host that runs.
    Sessions,
    /// Open approvals, of the host that runs.
    Approvals,
    Tools,
    AuditKinds,
    /// Fields of a start payload.
    Fields,
    /// Environment variables of the caller.
    Variables,
}

/// Names of values that nothing completes: numbers, times and text.
#[cfg(test)]
const FREE: &[&str] = &[
    "N",
    "TIME",
    "TEXT",
    "TITLE",
    "PROMPT",
    "WORDS",
    "VALUE",
    "HOST",
    "SESSION",
    "MB",
    "DAYS",
    "DURATION",
    "MODEL",
    "USD",
    "DIGEST",
    "COMMAND",
    "NAME=VALUE",
    "FLAG[=VALUE]",
    "WHEN",
    "NUMBER",
    "COUNT",
    "LINES",
    "MESSAGE",
    "JSON",
    "[QUESTION=]TEXT",
];

/// By the name of the value, for all commands: `RUN` is always a run.
const BY_VALUE: &[(&str, Kind)] = &[
    ("RUN", names(Nameable::Runs)),
    ("RUNS", names(Nameable::Runs)),
    ("ID", Kind::Names(Names::Approvals)),
    ("CHAT", names(Nameable::Conversations)),
    ("CHATS", names(Nameable::Conversations)),
    ("CONVERSATION", names(Nameable::Conversations)),
    ("PROFILE", names(Nameable::Profiles)),
    ("PROVIDER", names(Nameable::Providers)),
    ("PROVIDERS", names(Nameable::Providers)),
    ("PLUGIN", names(Nameable::Plugins)),
    ("KEY", names(Nameable::Keys)),
    ("SECTION", names(Nameable::Sections)),
    ("TOOL", Kind::Names(Names::Tools)),
    ("KIND", Kind::Names(Names::AuditKinds)),
    ("FIELD", Kind::Names(Names::Fields)),
    ("NAME[=VALUE]", Kind::Names(Names::Variables)),
    ("FILE", Kind::Path(ValueHint::FilePath)),
    ("PATH", Kind::Path(ValueHint::AnyPath)),
    ("DIR", Kind::Path(ValueHint::DirPath)),
    ("FOLDER", Kind::Path(ValueHint::DirPath)),
];

/// By the argument's own name, for values that are called `NAME`.
const BY_ARGUMENT: &[(&str, Kind)] = &[
    ("provider", names(Nameable::Providers)),
    ("profile", names(Nameable::Profiles)),
    ("tool", Kind::Names(Names::Tools)),
    ("tools", Kind::Names(Names::Tools)),
];

/// By command and argument, where the argument has a special meaning.
const BY_VERB: &[(&str, &str, Kind)] = &[
    ("ostler session attach", "run", Kind::Names(Names::Sessions)),
    ("ostler session send", "run", Kind::Names(Names::Sessions)),
    ("ostler session interrupt", "run", Kind::Names(Names::Sessions)),
    ("ostler session end", "run", Kind::Names(Names::Sessions)),
    ("ostler settings set", "key", names(Nameable::SettableKeys)),
    ("ostler settings unset", "keys", names(Nameable::SettableKeys)),
    ("ostler access revoke", "name", names(Nameable::AccessTokens)),
    ("ostler plugin trust", "name", names(Nameable::Plugins)),
    ("ostler profile show", "name", names(Nameable::Profiles)),
    ("ostler profile delete", "name", names(Nameable::Profiles)),
    ("ostler profile save", "name", names(Nameable::Profiles)),
];

const fn names(what: Nameable) -> Kind {
    Kind::Names(Names::Of(what))
}

/// What completes an argument of a command. `None` for free text, and for fixed values, which are in its definition.
pub(super) fn kind(verb: &str, arg: &Arg) -> Option<Kind> {
    if is_switch(arg) || has_fixed_values(arg) {
        return None;
    }
    let id = arg.get_id().as_str();
    let by_verb = BY_VERB.iter().find(|(known, name, _)| *known == verb && *name == id).map(|(.., kind)| *kind);
    let by_value = || BY_VALUE.iter().find(|(name, _)| value_name(arg) == *name).map(|(_, kind)| *kind);
    let by_argument = || BY_ARGUMENT.iter().find(|(name, _)| *name == id).map(|(_, kind)| *kind);
    by_verb.or_else(by_argument).or_else(by_value)
}

fn is_switch(arg: &Arg) -> bool {
    !arg.get_action().takes_values()
}

fn has_fixed_values(arg: &Arg) -> bool {
    arg.get_value_parser().possible_values().is_some_and(|values| values.count() > 0)
}

/// The name of the value in the help; by default it is the argument's own.
fn value_name(arg: &Arg) -> String {
    match arg.get_value_names().and_then(|names| names.first()) {
        Some(name) => name.to_string(),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

/// Whether the tables say what completes an argument, or that nothing does.
#[cfg(test)]
pub(super) fn is_decided(verb: &str, arg: &Arg) -> bool {
    let name = value_name(arg);
    let new_name =
        name == "NAME" && (arg.get_id() == "model" || matches!(verb, "ostler access add" | "ostler chat update"));
    has_fixed_values(arg) || new_name || kind(verb, arg).is_some() || FREE.contains(&name.as_str())
}

/// Names, each kind read once.
pub(super) struct Source {
    paths: Option<Paths>,
    local: &'static (dyn LocalCommands + Sync),
    last: OnceLock<(Names, Arc<Vec<Named>>)>,
}

impl Source {
    pub(super) fn new(paths: Option<Paths>, local: &'static (dyn LocalCommands + Sync)) -> Self {
        Self { paths, local, last: OnceLock::new() }
    }

    /// The names of a kind.
    pub(super) fn names(&self, what: Names) -> Vec<Named> {
        // The completion engine may ask twice for the same kind.
        let (known, names) = self.last.get_or_init(|| (what, Arc::new(self.read(what))));
        if *known == what { names.as_ref().clone() } else { self.read(what) }
    }

    fn read(&self, what: Names) -> Vec<Named> {
        match what {
            Names::Of(what) => self.paths.as_ref().map_or_else(Vec::new, |paths| self.local.names(paths, what)),
            Names::Sessions => self.paths.as_ref().map_or_else(Vec::new, live::sessions),
            Names::Approvals => self.paths.as_ref().map_or_else(Vec::new, live::approvals),
            Names::Tools => enum_values::<ostler_protocol::Tool>(),
            Names::AuditKinds => enum_values::<ostler_protocol::AuditKind>(),
            Names::Fields => fields(),
            Names::Variables => {
                let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
                let mut names: Vec<String> = names.collect();
                names.sort();
                names.into_iter().map(|name| Named::new(name, "")).collect()
            }
        }
    }
}

/// The values of an enumeration, from its schema.
fn enum_values<T: schemars::JsonSchema>() -> Vec<Named> {
    let schema = schemars::schema_for!(T).to_value();
    let text = |value: &serde_json::Value, about: &str| value.as_str().map(|name| Named::new(name, about));
    let values = schema["enum"].as_array().into_iter().flatten().filter_map(|value| text(value, ""));
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let described = described.filter_map(|one| text(&one["const"], one["description"].as_str().unwrap_or_default()));
    values.chain(described).collect()
}

/// The fields of a start payload, those of the harness with dots.
fn fields() -> Vec<Named> {
    let schema = schemars::schema_for!(ostler_protocol::StartPayload).to_value();
    let members = |schema: &serde_json::Value, before: &str| -> Vec<Named> {
        let members = schema["properties"].as_object().into_iter().flatten();
        let about = |member: &serde_json::Value| member["description"].as_str().unwrap_or_default().to_owned();
        members.map(|(name, member)| Named::new(format!("{before}{name}"), about(member))).collect()
    };
    let mut names = members(&schema, "");
    names.extend(members(&schema["$defs"]["Harness"], "harness."));
    names
}
