//! Flags of a CLI that `optionalFlags` may set.

use std::collections::{BTreeMap, BTreeSet};

use ostler_plugin::provider::{FlagValues, OptionalFlag};
use ostler_plugin::{Problems, escape_pointer};

use crate::argument::argument_problem;
use crate::payload::FlagValue;

/// Everything that a flag can widen: for flags that run code, or change permissions or the whole configuration.
pub const EVERYTHING: &[&str] =
    &["sandboxMode", "autoApprove", "networkAccess", "approvalPolicy", "tools", "additionalDirectories", "mcp"];

/// Whether a payload turns a switch on.
#[must_use]
pub fn is_on(flags: &BTreeMap<String, FlagValue>, name: &str) -> bool {
    flags.get(name) == Some(&FlagValue::Switch(true))
}

/// A flag that a plugin knows, whether or not the installed version has it.
#[derive(Clone, Copy, Debug)]
pub struct KnownFlag {
    /// Its name, with dashes.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The number of its values.
    pub values: FlagValues,
    /// Whether it may be set only if the operator has enabled advanced options.
    pub advanced: bool,
    /// Fields of the payload whose restrictions it can weaken.
    pub widens: &'static [&'static str],
}

/// A flag that cannot weaken a restriction.
#[must_use]
pub const fn plain(name: &'static str, summary: &'static str, values: FlagValues) -> KnownFlag {
    KnownFlag { name, summary, values, advanced: false, widens: &[] }
}

/// An advanced flag that can weaken the restrictions of these fields.
#[must_use]
pub const fn wide(
    name: &'static str,
    summary: &'static str,
    values: FlagValues,
    widens: &'static [&'static str],
) -> KnownFlag {
    KnownFlag { name, summary, values, advanced: true, widens }
}

/// The known flags that the installed version has.
#[must_use]
pub fn installed(known: &[KnownFlag], options: &BTreeSet<String>) -> Vec<OptionalFlag> {
    known
        .iter()
        .filter(|flag| options.contains(flag.name))
        .map(|flag| OptionalFlag {
            name: flag.name.to_owned(),
            summary: flag.summary.to_owned(),
            values: flag.values,
            advanced: flag.advanced,
            widens: flag.widens.iter().map(|field| (*field).to_owned()).collect(),
        })
        .collect()
}

/// The arguments for the flags of a payload. A value is joined with `=`, so that it cannot be parsed as a flag. `cli` is the
/// name of the CLI for messages. `refuse` returns why the CLI would reject the value of a flag.
pub fn arguments(
    flags: &BTreeMap<String, FlagValue>,
    offered: &[OptionalFlag],
    cli: &str,
    refuse: impl Fn(&str, &str) -> Option<&'static str>,
    problems: &mut Problems,
) -> Vec<String> {
    let mut args = Vec::new();
    for (name, value) in flags {
        let pointer = format!("/optionalFlags/{}", escape_pointer(name));
        let Some(flag) = offered.iter().find(|flag| flag.name == *name) else {
            let names: Vec<&str> = offered.iter().map(|flag| flag.name.as_str()).collect();
            problems
                .push(pointer, format!("is not supported by the installed {cli}; it supports {}", names.join(", ")));
            continue;
        };
        match (flag.values, value) {
            (_, FlagValue::Switch(false)) => {}
            (FlagValues::None, FlagValue::Switch(true)) => args.push(name.clone()),
            (FlagValues::None, _) => problems.push(pointer, "takes no value; give `true` or `false`"),
            (FlagValues::One | FlagValues::Many, FlagValue::Switch(true)) => problems.push(pointer, "needs a value"),
            (FlagValues::One, FlagValue::List(_)) => problems.push(pointer, "takes one value, not a list"),
            (FlagValues::One | FlagValues::Many, FlagValue::One(value)) => {
                args.extend(joined(name, &value.to_string(), &pointer, &refuse, problems));
            }
            (FlagValues::Many, FlagValue::List(values)) => {
                for (index, value) in values.iter().enumerate() {
                    let pointer = format!("{pointer}/{index}");
                    args.extend(joined(name, &value.to_string(), &pointer, &refuse, problems));
                }
            }
        }
    }
    args
}

fn joined(
    name: &str,
    value: &str,
    pointer: &str,
    refuse: impl Fn(&str, &str) -> Option<&'static str>,
    problems: &mut Problems,
) -> Option<String> {
    if let Some(reason) = argument_problem(value) {
        problems.push(pointer, reason);
    } else if value.is_empty() {
        problems.push(pointer, "is empty");
    } else if let Some(reason) = refuse(name, value) {
        problems.push(pointer, reason);
    } else {
        return Some(format!("{name}={value}"));
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use ostler_plugin::Error;

    use super::*;

    const KNOWN: [KnownFlag; 3] = [
        plain("--quiet", "print less", FlagValues::None),
        plain("--name", "a name", FlagValues::One),
        wide("--set", "set a key", FlagValues::Many, EVERYTHING),
    ];

    fn of(flags: serde_json::Value) -> (Vec<String>, Vec<(String, String)>) {
        let offered = installed(&KNOWN, &KNOWN.iter().map(|flag| flag.name.to_owned()).collect());
        let flags: BTreeMap<String, FlagValue> = serde_json::from_value(flags).unwrap();
        let mut problems = Problems::default();
        let refuse = |name: &str, value: &str| (name == "--set" && !value.contains('=')).then_some("has no =");
        let args = arguments(&flags, &offered, "x", refuse, &mut problems);
        let problems = match problems.into_result() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(problems)) => problems.into_iter().map(|found| (found.pointer, found.message)).collect(),
            Err(other) => panic!("{other:?}"),
        };
        (args, problems)
    }

    #[test]
    fn only_installed_flags_are_listed() {
        let some = installed(&KNOWN, &BTreeSet::from(["--set".to_owned(), "--other".to_owned()]));
        assert_eq!(some.iter().map(|flag| flag.name.as_str()).collect::<Vec<_>>(), ["--set"]);
        assert!(some[0].advanced && some[0].widens == EVERYTHING);
    }

    #[test]
    fn values_are_joined_to_their_flags() {
        let given = serde_json::json!({"--quiet": true, "--name": "--quiet", "--set": ["a=1", "b=-x"]});
        assert_eq!(of(given).0, ["--name=--quiet", "--quiet", "--set=a=1", "--set=b=-x"]);
        assert_eq!(of(serde_json::json!({"--quiet": false, "--name": 7})).0, ["--name=7"]);
    }

    #[test]
    fn invalid_flags_are_reported_with_their_pointers() {
        let (args, problems) = of(serde_json::json!({
            "--quiet": "x", "--name": ["a"], "--set": ["a=1", "", "a\u{0}=", "plain"], "--a/b": true,
        }));
        assert_eq!(args, ["--set=a=1"]);
        let problems: Vec<_> =
            problems.iter().map(|(pointer, message)| (pointer.as_str(), message.split(';').next().unwrap())).collect();
        assert_eq!(
            problems,
            [
                ("/optionalFlags/--a~1b", "is not supported by the installed x"),
                ("/optionalFlags/--name", "takes one value, not a list"),
                ("/optionalFlags/--quiet", "takes no value"),
                ("/optionalFlags/--set/1", "is empty"),
                ("/optionalFlags/--set/2", "contains a NUL character, which an argument cannot contain"),
                ("/optionalFlags/--set/3", "has no ="),
            ]
        );
    }
}
