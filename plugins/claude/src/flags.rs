//! Flags of claude that `optionalFlags` may set. Flags for which the start payload has a field are not included.

use std::collections::{BTreeMap, BTreeSet};

use ostler_plugin::Problems;
use ostler_plugin::provider::{FlagValues, OptionalFlag};
pub(crate) use ostler_provider_kit::flags::is_on;
use ostler_provider_kit::flags::{self, EVERYTHING, KnownFlag, plain, wide};
use ostler_provider_kit::payload::FlagValue;

/// Skips every permission check.
pub(crate) const SKIP_PERMISSIONS: &str = "--dangerously-skip-permissions";
pub(crate) const PERMISSION_MODE: &str = "--permission-mode";
pub(crate) const FORK_SESSION: &str = "--fork-session";
/// Starts claude without hooks, even those of the host.
pub(crate) const BARE: &str = "--bare";
pub(crate) const SETTING_SOURCES: &str = "--setting-sources";

const KNOWN: [KnownFlag; 28] = [
    plain(FORK_SESSION, "give a resumed session a new id and leave the old one as it is", FlagValues::None),
    plain("--no-session-persistence", "keep no session files; the session cannot be resumed", FlagValues::None),
    plain("--effort", "effort level: low, medium, high, xhigh or max", FlagValues::One),
    plain("--fallback-model", "models to use while the first is overloaded, separated by commas", FlagValues::One),
    plain("--betas", "beta headers of API requests (API keys only)", FlagValues::Many),
    plain("--name", "display name of the session", FlagValues::One),
    plain("--disable-slash-commands", "disable skills", FlagValues::None),
    plain(
        "--safe-mode",
        "start without hooks, plugins, skills, MCP servers and other customizations",
        FlagValues::None,
    ),
    plain(BARE, "start without hooks, plugins, memory and stored logins", FlagValues::None),
    plain(
        "--exclude-dynamic-system-prompt-sections",
        "keep what differs by machine out of the system prompt, for prompt caches",
        FlagValues::None,
    ),
    plain("--include-hook-events", "report every hook", FlagValues::None),
    plain("--disallowedTools", "tools that are refused: `Edit`, `Bash(git push:*)`", FlagValues::Many),
    plain("--disallowed-tools", "as --disallowedTools", FlagValues::Many),
    plain("--no-chrome", "without the browser integration", FlagValues::None),
    wide("--agent", "agent of the session", FlagValues::One, &["tools", "autoApprove", "mcp"]),
    wide("--agents", "custom agents as JSON", FlagValues::One, &["tools", "autoApprove", "mcp"]),
    wide("--allowedTools", "tools that run without a question: `Bash(cargo test:*)`", FlagValues::Many, EVERYTHING),
    wide("--allowed-tools", "as --allowedTools", FlagValues::Many, EVERYTHING),
    wide(PERMISSION_MODE, "mode of claude's permissions", FlagValues::One, EVERYTHING),
    wide(
        "--allow-dangerously-skip-permissions",
        "let the session skip permissions later",
        FlagValues::None,
        EVERYTHING,
    ),
    wide(SKIP_PERMISSIONS, "no permission checks at all", FlagValues::None, EVERYTHING),
    wide("--plugin-dir", "load a claude plugin from a folder", FlagValues::Many, EVERYTHING),
    wide("--plugin-url", "load a claude plugin from an address", FlagValues::Many, EVERYTHING),
    wide(SETTING_SOURCES, "settings files to read: user, project, local", FlagValues::One, EVERYTHING),
    wide("--worktree", "work in a new git worktree of this name", FlagValues::One, &["additionalDirectories"]),
    wide("--file", "files to download at the start: file_id:path", FlagValues::Many, &["networkAccess"]),
    wide("--chrome", "with the browser integration", FlagValues::None, &["networkAccess", "tools", "mcp"]),
    wide(
        "--debug-file",
        "write claude's debug log to this path; it can hold secrets",
        FlagValues::One,
        &["additionalDirectories"],
    ),
];

/// The known flags that the installed version has.
pub(crate) fn installed(options: &BTreeSet<String>) -> Vec<OptionalFlag> {
    flags::installed(&KNOWN, options)
}

/// The arguments for the flags of a payload.
pub(crate) fn arguments(
    flags: &BTreeMap<String, FlagValue>,
    offered: &[OptionalFlag],
    problems: &mut Problems,
) -> Vec<String> {
    flags::arguments(flags, offered, "claude", |_, _| None, problems)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use ostler_plugin::Error;

    use super::*;

    fn all() -> Vec<OptionalFlag> {
        installed(&KNOWN.iter().map(|flag| flag.name.to_owned()).collect())
    }

    #[test]
    fn only_installed_flags_are_listed_and_those_that_widen_are_advanced() {
        let some = installed(&BTreeSet::from(["--effort".to_owned(), "--chrome".to_owned(), "--new-thing".to_owned()]));
        assert_eq!(some.iter().map(|flag| flag.name.as_str()).collect::<Vec<_>>(), ["--effort", "--chrome"]);
        assert!(all().iter().all(|flag| flag.widens.is_empty() || flag.advanced));
        for field in ["--model", "--resume", "--mcp-config", "--settings", "--add-dir", "--tools", "--json-schema"] {
            assert!(!all().iter().any(|flag| flag.name == field), "{field} has a field of its own");
        }
    }

    #[test]
    fn values_cannot_become_flags() {
        let flags: BTreeMap<String, FlagValue> = serde_json::from_value(serde_json::json!({
            "--effort": "--bare", "--betas": ["a", "-x"], "--bare": true, "--chrome": false,
        }))
        .unwrap();
        let mut problems = Problems::default();
        let args = arguments(&flags, &all(), &mut problems);
        problems.into_result().unwrap();
        assert_eq!(args, ["--bare", "--betas=a", "--betas=-x", "--effort=--bare"]);
        assert!(is_on(&flags, "--bare") && !is_on(&flags, "--chrome") && !is_on(&flags, "--effort"));
    }

    #[test]
    fn all_problems_are_reported() {
        let flags: BTreeMap<String, FlagValue> = serde_json::from_value(serde_json::json!({
            "--nope": true, "--effort": ["a"], "--bare": "x", "--betas": ["ok", ""], "--agent": true, "--name": "a\u{0}b",
        }))
        .unwrap();
        let mut problems = Problems::default();
        assert_eq!(arguments(&flags, &all(), &mut problems), ["--betas=ok"]);
        let Err(Error::Invalid(problems)) = problems.into_result() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/optionalFlags/--agent",
                "/optionalFlags/--bare",
                "/optionalFlags/--betas/1",
                "/optionalFlags/--effort",
                "/optionalFlags/--name",
                "/optionalFlags/--nope",
            ]
        );
    }
}
