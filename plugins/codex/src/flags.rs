//! Flags of `codex exec` that `optionalFlags` may set. Flags for which the start payload has a field are not included.

use std::collections::{BTreeMap, BTreeSet};

use ostler_plugin::provider::{FlagValues, OptionalFlag};
use ostler_plugin::{DroppedOptions, Problems};
pub(crate) use ostler_provider_kit::flags::is_on;
use ostler_provider_kit::flags::{self, EVERYTHING, KnownFlag, plain, wide};
use ostler_provider_kit::payload::FlagValue;

/// Makes codex use the configuration of the project, now and in later runs.
pub(crate) const TRUST: &str = "--trust";

const KNOWN: [KnownFlag; 16] = [
    plain("--ephemeral", "keep no session files; the session cannot be resumed", FlagValues::None),
    plain("--ignore-user-config", "do not load config.toml of CODEX_HOME", FlagValues::None),
    plain("--strict-config", "fail on configuration keys that this version does not know", FlagValues::None),
    plain("--oss", "use the local open-source provider", FlagValues::None),
    plain("--local-provider", "local provider to use: lmstudio or ollama", FlagValues::One),
    plain("--thread-source", "source classification of new threads", FlagValues::One),
    wide("--profile", "layer CODEX_HOME/NAME.config.toml on top", FlagValues::One, EVERYTHING),
    wide("--config", "override a key of the configuration: key=value", FlagValues::Many, EVERYTHING),
    wide("--enable", "enable a feature", FlagValues::Many, EVERYTHING),
    wide("--disable", "disable a feature", FlagValues::Many, EVERYTHING),
    wide("--worktree", "work in a new managed git worktree", FlagValues::None, &["additionalDirectories"]),
    wide("--ignore-rules", "do not load execpolicy rules", FlagValues::None, &["approvalPolicy", "sandboxMode"]),
    wide(
        TRUST,
        "trust this project from now on, its MCP commands too",
        FlagValues::None,
        &["sandboxMode", "networkAccess", "mcp", "approvalPolicy"],
    ),
    wide(
        "--approve-for-me",
        "let a model review what needs approval, in the workspace-write sandbox",
        FlagValues::None,
        &["sandboxMode", "approvalPolicy", "autoApprove", "networkAccess", "mcp"],
    ),
    wide("--dangerously-bypass-hook-trust", "run hooks that were never trusted", FlagValues::None, EVERYTHING),
    wide("--dangerously-bypass-approvals-and-sandbox", "no sandbox and no approvals", FlagValues::None, EVERYTHING),
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
    let refuse = |name: &str, value: &str| {
        (name == "--config" && !value.contains('=')).then_some("is not of the form key=value")
    };
    flags::arguments(flags, offered, "codex", refuse, problems)
}

/// The arguments of `codex app-server` for the flags of a payload. `--ephemeral` and `--thread-source` are fields of the
/// protocol; flags that it has no equivalent for are dropped.
pub(crate) fn app_server_arguments(
    flags: &BTreeMap<String, FlagValue>,
    offered: &[OptionalFlag],
    dropped: &mut DroppedOptions,
    problems: &mut Problems,
) -> Vec<String> {
    let mut all = arguments(flags, offered, problems);
    all.retain(|argument| {
        let name = argument.split('=').next().unwrap_or_default();
        let pointer = format!("/optionalFlags/{name}");
        match name {
            "--config" | "--enable" | "--disable" | "--strict-config" => return true,
            "--ephemeral" | "--thread-source" => {}
            // The run would use more of the user's configuration than requested, another service, or another folder.
            "--ignore-user-config" | "--ignore-rules" | "--oss" | "--local-provider" | "--profile" | "--worktree" => {
                dropped.restriction(pointer, "sessions and approvals use `codex app-server`, which has no such option");
            }
            TRUST => dropped.convenience(
                pointer,
                "the grant of the folder trusts the settings in it for this run; nothing is saved",
            ),
            _ => {
                dropped
                    .convenience(pointer, "tool uses are decided by the host; `codex app-server` has no such option");
            }
        }
        false
    });
    all
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
        let some =
            installed(&BTreeSet::from(["--ephemeral".to_owned(), "--trust".to_owned(), "--new-thing".to_owned()]));
        assert_eq!(some.iter().map(|flag| flag.name.as_str()).collect::<Vec<_>>(), ["--ephemeral", "--trust"]);
        assert!(all().iter().all(|flag| flag.widens.is_empty() || flag.advanced));
        // The commands of a project run outside the sandbox.
        let trust = all().into_iter().find(|flag| flag.name == TRUST).unwrap();
        assert!(trust.widens.iter().any(|field| field == "sandboxMode"), "{:?}", trust.widens);
    }

    #[test]
    fn values_cannot_become_flags() {
        let flags: BTreeMap<String, FlagValue> = serde_json::from_value(serde_json::json!({
            "--profile": "--trust", "--config": ["a=1", "b=-x"], "--ephemeral": true, "--oss": false,
        }))
        .unwrap();
        let mut problems = Problems::default();
        let args = arguments(&flags, &all(), &mut problems);
        problems.into_result().unwrap();
        assert_eq!(args, ["--config=a=1", "--config=b=-x", "--ephemeral", "--profile=--trust"]);
    }

    #[test]
    fn all_problems_are_reported() {
        let flags: BTreeMap<String, FlagValue> = serde_json::from_value(serde_json::json!({
            "--nope": true, "--profile": ["a"], "--ephemeral": "x", "--config": ["novalue", ""], "--local-provider": true,
            "--thread-source": "a\u{0}b",
        }))
        .unwrap();
        let mut problems = Problems::default();
        assert!(arguments(&flags, &all(), &mut problems).is_empty());
        let Err(Error::Invalid(problems)) = problems.into_result() else { panic!("accepted") };
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/optionalFlags/--config/0",
                "/optionalFlags/--config/1",
                "/optionalFlags/--ephemeral",
                "/optionalFlags/--local-provider",
                "/optionalFlags/--nope",
                "/optionalFlags/--profile",
                "/optionalFlags/--thread-source",
            ]
        );
    }
}
