//! The policies: each evaluates every action, and the strictest verdict counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::attempt::tool_use::Tally;
use crate::policy::native_policy::deny;
use crate::setup::Failure;
use ostler_config::Config;
use ostler_plugin_host::types::{self as plugin, Action};
use ostler_plugin_host::{Kind, PluginState, PolicyInstance, Registry};
use ostler_protocol::{ApiError, CapabilitySnapshot, ErrorKind, Finding, RunId, Verdict};
use ostler_test_hooks::clock;

/// The active policies.
#[derive(Debug)]
pub(crate) struct PolicySet {
    guards: Vec<LoadedPolicy>,
    allow_advanced: bool,
}

#[derive(Clone, Debug)]
struct LoadedPolicy {
    name: String,
    digest: String,
    /// The policy, or why it cannot be called; then it denies.
    policy: Result<Arc<PolicyInstance>, String>,
    wants: Vec<String>,
}

/// The context of a request.
#[derive(Debug)]
pub(crate) struct PolicyContext<'a> {
    pub(crate) run: Option<RunId>,
    pub(crate) attempt: u32,
    pub(crate) provider: &'a str,
    pub(crate) plugin: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) cwd: &'a Path,
    pub(crate) grants: &'a Grants,
    pub(crate) paths: Vec<plugin::CheckedPath>,
    pub(crate) profile: Option<&'a str>,
    pub(crate) capabilities: &'a CapabilitySnapshot,
    /// The start payload, for the stages after the first.
    pub(crate) payload: Option<&'a RawValue>,
    /// What the host itself limits: the files that the run may change, and its network.
    pub(crate) held: (bool, bool),
    /// Tool uses so far.
    pub(crate) tools: &'a Tally,
    pub(crate) earlier: &'a [EarlierFinding],
}

/// A finding of an earlier stage of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EarlierFinding {
    pub(crate) stage: String,
    #[serde(flatten)]
    pub(crate) finding: Finding,
}

/// The facts that a policy can request in addition to the action, by their names in the plugin guide.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'a Tally>,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<&'a [EarlierFinding]>,
}

/// A policy that requests this is not asked about tool uses.
const NO_TOOLS: &str = "no-tools";

/// With this among the words that it wants, a policy decides about tool uses before they happen.
const TOOL_DECISIONS: &str = "tool-decisions";

/// Name of the check in the finding about a policy that could not be called.
pub(crate) const POLICY_FAILED: &str = "policy-failed";

/// The decision of the policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PolicyDecision {
    pub(crate) findings: Vec<Finding>,
    /// Policies that could not be called.
    pub(crate) failed: Vec<String>,
}

impl PolicyDecision {
    /// With further findings; the strictest come first.
    pub(crate) fn add(&mut self, further: &[Finding]) {
        self.findings.extend_from_slice(further);
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    }

    /// The strictest verdict. A non-interactive run cannot ask a person, so that `ask` stops it as `deny` does.
    pub(crate) fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Allow)
    }

    /// Permits the action or returns the denial.
    ///
    /// # Errors
    /// `POLICY_DENIED` with every finding.
    pub(crate) fn permit(&self) -> Result<(), ApiError> {
        let against: Vec<&Finding> = self.findings.iter().filter(|finding| finding.verdict >= Verdict::Ask).collect();
        let Some(first) = against.first() else { return Ok(()) };
        let messages: Vec<&str> = against.iter().map(|finding| finding.message.as_str()).collect();
        let mut error = ApiError::new(ErrorKind::PolicyDenied, format!("denied by policy: {}", messages.join("; ")));
        error.hint.clone_from(&first.hint);
        error.pointer.clone_from(&first.pointer);
        error.findings.clone_from(&self.findings);
        Err(error)
    }
}

impl PolicySet {
    /// Loads every policy plugin. One that cannot be loaded stays in the set and denies. Policies of `before` with the same
    /// plugin and the same settings are reused.
    pub(crate) fn load(
        config: &Config,
        registry: &Registry,
        before: Option<(&Self, &Config)>,
        failures: &mut Vec<Failure>,
    ) -> Self {
        let mut guards = Vec::new();
        let denying = |failure: Failure| Failure {
            message: format!("{}; until it is corrected, everything is denied", failure.message),
            ..failure
        };
        for plugin in registry.list().into_iter().filter(|plugin| plugin.kind == Some(Kind::Policy)) {
            if guards.iter().any(|guard: &LoadedPolicy| guard.name == plugin.name && guard.policy.is_err()) {
                continue;
            }
            let configured = config.plugins.policy.get(&plugin.name);
            let kept =
                before.filter(|(_, with)| with.plugins.policy.get(&plugin.name) == configured).and_then(|(old, _)| {
                    old.guards.iter().find(|guard| guard.name == plugin.name && guard.is_of(registry))
                });
            if let Some(guard) = kept {
                guards.push(guard.clone());
                continue;
            }
            let (pointer, piece) = (format!("/plugins/policy/{}", plugin.name), format!("policy {}", plugin.name));
            let settings = Value::Object(configured.map(|config| config.settings.clone()).unwrap_or_default());
            let policy = match &plugin.state {
                // A disabled plugin may work with other settings; the registry decides.
                PluginState::Ready | PluginState::Disabled { .. } => {
                    registry.policy(&plugin.name, &settings).map_err(|error| {
                        failures.push(denying(Failure::new(
                            pointer,
                            (Kind::Policy, plugin.name.clone()),
                            &piece,
                            &error,
                        )));
                        error.message
                    })
                }
                PluginState::Refused { reason } | PluginState::Waiting { reason } => {
                    let about = Some((Kind::Policy, plugin.name.clone()));
                    failures.push(denying(Failure::plain(pointer, about, &piece, reason)));
                    Err(reason.clone())
                }
            };
            let wants = policy.as_ref().map_or_else(|_| Vec::new(), |policy| policy.wants().to_vec());
            guards.push(LoadedPolicy { name: plugin.name, digest: plugin.digest.unwrap_or_default(), policy, wants });
        }
        for name in config.plugins.policy.keys() {
            if guards.iter().any(|guard| guard.name == *name) {
                continue;
            }
            let reason = "there is no such policy plugin".to_owned();
            let about = Some((Kind::Policy, name.clone()));
            let missing = Failure::plain(format!("/plugins/policy/{name}"), about, &format!("policy {name}"), &reason);
            failures.push(denying(missing));
            guards.push(LoadedPolicy {
                name: name.clone(),
                digest: String::new(),
                policy: Err(reason),
                wants: Vec::new(),
            });
        }
        Self { guards, allow_advanced: config.policy.allow_advanced }
    }

    /// Whether a policy requests a group of facts.
    pub(crate) fn wants(&self, group: &str) -> bool {
        self.guards.iter().any(|guard| guard.wants(group))
    }

    /// Whether tool uses are evaluated. A policy is asked about them unless it declines that.
    pub(crate) fn judges_tools(&self) -> bool {
        self.guards.is_empty() || self.guards.iter().any(LoadedPolicy::judges_tools)
    }

    /// Whether a policy decides about tool uses before they happen, if the CLI can ask.
    pub(crate) fn decides_tools(&self) -> bool {
        self.guards.iter().any(|guard| guard.wants(TOOL_DECISIONS) && guard.judges_tools())
    }

    /// Asks every policy. Blocks; calls plugins.
    pub(crate) fn judge(&self, action: &Action, circumstances: &PolicyContext<'_>) -> PolicyDecision {
        let (mut findings, mut failed) = (Vec::new(), Vec::new());
        let is_tool = matches!(action, Action::Tool(_));
        if self.guards.is_empty() {
            findings.push(Finding {
                policy: "host".to_owned(),
                digest: String::new(),
                check: "no-policy".to_owned(),
                verdict: Verdict::Deny,
                pointer: None,
                message: "there is no policy plugin, and without one nothing is run".to_owned(),
                hint: Some("`list_plugins` has the reason".to_owned()),
            });
        }
        for guard in self.guards.iter().filter(|guard| !is_tool || guard.judges_tools()) {
            let found = match &guard.policy {
                Ok(_) if is_tool && circumstances.tools.is_given_up(&guard.name) => {
                    Err("it has failed over too many tool uses of this attempt".to_owned())
                }
                Ok(policy) => {
                    let context = self.context(guard, circumstances);
                    policy.evaluate(action, &context).map_err(|error| error.message)
                }
                Err(reason) => Err(reason.clone()),
            };
            match found {
                Ok(found) => findings.extend(found.into_iter().map(|finding| guard.finding(finding))),
                Err(reason) => {
                    findings.push(guard.failed(&reason));
                    failed.push(guard.name.clone());
                }
            }
        }
        if matches!(action, Action::Start(_) | Action::Spawn(_)) {
            refuse_outside_of_grants(circumstances, &mut findings);
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        PolicyDecision { findings, failed }
    }

    fn context(&self, guard: &LoadedPolicy, at: &PolicyContext<'_>) -> plugin::Context {
        let facts = Facts {
            host: guard.wants("host").then(host_facts),
            payload: at.payload.filter(|_| guard.wants("payload")),
            sandbox: guard.wants("sandbox").then(|| json!({"files": at.held.0, "network": at.held.1})),
            tools: guard.wants("tools").then_some(at.tools),
            findings: guard.wants("findings").then_some(at.earlier),
        };
        plugin::Context {
            run_id: at.run.map(|run| run.to_string()),
            attempt: at.attempt,
            provider: at.provider.to_owned(),
            plugin: at.plugin.to_owned(),
            origin: at.origin.to_owned(),
            user: USER_NAME.clone(),
            cwd: at.cwd.display().to_string(),
            workspace_grant: at.grants.containing(at.cwd).map(|grant| grant.display().to_string()),
            paths: at.paths.clone(),
            profile: at.profile.map(str::to_owned),
            capabilities: serde_json::to_string(at.capabilities).unwrap_or_else(|_| "{}".to_owned()),
            advanced: self.allow_advanced,
            now_rfc3339: now_rfc3339(),
            facts: serde_json::to_string(&facts).unwrap_or_else(|_| "{}".to_owned()),
        }
    }
}

/// The host's own rule: agents work only in granted folders. If a policy has denied the same already, the host adds no
/// finding.
fn refuse_outside_of_grants(at: &PolicyContext<'_>, findings: &mut Vec<Finding>) {
    let folders = at
        .paths
        .iter()
        .filter(|path| path.pointer == "/cwd" || path.pointer.starts_with("/harness/additionalDirectories/"));
    let outside =
        folders.filter(|path| path.grant.is_none()).map(|path| (path.pointer.as_str(), path.resolved.clone()));
    let cwd = Some(("/cwd", at.cwd.display().to_string())).filter(|_| at.grants.containing(at.cwd).is_none());
    for (pointer, folder) in outside.chain(cwd) {
        let denied =
            |finding: &Finding| finding.verdict == Verdict::Deny && finding.pointer.as_deref() == Some(pointer);
        if findings.iter().any(denied) {
            continue;
        }
        let message = format!("{folder} is not inside an active grant");
        let hint = "grant it with `grant_workspace`, or use a folder inside a grant";
        findings.push(deny("folder-in-grant", pointer.to_owned(), message, hint));
    }
}

impl LoadedPolicy {
    fn wants(&self, group: &str) -> bool {
        self.wants.iter().any(|want| want == group)
    }

    fn judges_tools(&self) -> bool {
        !self.wants(NO_TOOLS)
    }

    /// Whether it uses the current plugin of the registry.
    fn is_of(&self, registry: &Registry) -> bool {
        self.policy.as_ref().is_ok_and(|policy| policy.is_of(registry))
    }

    fn finding(&self, finding: plugin::Finding) -> Finding {
        Finding {
            policy: self.name.clone(),
            digest: self.digest.clone(),
            check: finding.check,
            verdict: match finding.verdict {
                plugin::Verdict::Allow => Verdict::Allow,
                plugin::Verdict::Warn => Verdict::Warn,
                plugin::Verdict::Ask => Verdict::Ask,
                plugin::Verdict::Deny => Verdict::Deny,
            },
            pointer: finding.pointer,
            message: finding.message,
            hint: finding.hint,
        }
    }

    /// A policy that cannot answer denies, because its verdict is not known.
    fn failed(&self, reason: &str) -> Finding {
        Finding {
            policy: self.name.clone(),
            digest: self.digest.clone(),
            check: POLICY_FAILED.to_owned(),
            verdict: Verdict::Deny,
            pointer: None,
            message: format!("{}{reason}", failure_begins(&self.name)),
            hint: Some("repair or remove the plugin; `list_plugins` has its file".to_owned()),
        }
    }
}

/// The beginning of the message about a policy that could not be called.
pub(crate) fn failure_begins(policy: &str) -> String {
    format!("the policy {policy} could not be asked: ")
}

fn host_facts() -> Value {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let zone = jiff::tz::TimeZone::system();
    json!({"name": name, "os": std::env::consts::OS, "timeZone": zone.iana_name()})
}

/// Name of the user for whom the host acts, or the number if there is no name. Looked up once: it can need a directory
/// service, and does not change while the host runs.
static USER_NAME: LazyLock<String> = LazyLock::new(|| {
    let user = nix::unistd::geteuid();
    let known = nix::unistd::User::from_uid(user).ok().flatten();
    known.map_or_else(|| user.to_string(), |known| known.name)
});

fn now_rfc3339() -> String {
    clock::now().to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The folders in which runs may work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants {
    /// The folders, and whether the settings of agent CLIs in each of them are trusted.
    folders: BTreeMap<PathBuf, bool>,
}

impl Grants {
    /// From folders, each with whether it is trusted: see [`Self::trusts_settings_of`].
    pub(crate) fn new(folders: impl IntoIterator<Item = (PathBuf, bool)>) -> Self {
        Self { folders: folders.into_iter().collect() }
    }

    /// Whether settings of agent CLIs in a folder are used for runs there. The innermost grant decides.
    pub(crate) fn trusts_settings_of(&self, resolved: &Path) -> bool {
        self.containing(resolved).is_some_and(|grant| self.folders.get(grant) == Some(&true))
    }

    /// The innermost grant that contains a path whose links are resolved.
    pub(crate) fn containing(&self, resolved: &Path) -> Option<&Path> {
        let containing = self.folders.keys().filter(|folder| resolved.starts_with(folder));
        containing.max_by_key(|folder| folder.as_os_str().len()).map(PathBuf::as_path)
    }

    /// Resolves a path for a policy.
    pub(crate) fn check(&self, pointer: impl Into<String>, path: &Path) -> plugin::CheckedPath {
        self.checked(pointer.into(), path.display().to_string(), &resolve(path))
    }

    /// A path for a policy that was resolved to `resolved`.
    pub(crate) fn checked(
        &self,
        pointer: String,
        path: String,
        (resolved, exists): &(PathBuf, bool),
    ) -> plugin::CheckedPath {
        plugin::CheckedPath {
            pointer,
            path,
            grant: self.containing(resolved).map(|grant| grant.display().to_string()),
            resolved: resolved.display().to_string(),
            exists: *exists,
        }
    }
}

/// The path with links resolved as far as it exists, and whether all of it exists. A path with a dangling link could lead
/// anywhere, and counts as outside of every grant.
pub(crate) fn resolve(path: &Path) -> (PathBuf, bool) {
    if let Ok(resolved) = path.canonicalize() {
        return (resolved, true);
    }
    let mut rest = Vec::new();
    for ancestor in path.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize() {
            let whole = rest.iter().rev().fold(resolved, |folder: PathBuf, name| folder.join(name));
            return (normalize(&whole), false);
        }
        match ancestor.file_name() {
            Some(name) if !ancestor.is_symlink() => rest.push(name.to_owned()),
            // A dangling link, or `..` after a component that does not exist: its target is not known.
            _ => break,
        }
    }
    (PathBuf::from("/"), false)
}

/// Removes `..` from the part that does not exist, so that it cannot lead out of a grant.
fn normalize(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => _ = plain.pop(),
            std::path::Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::attempt::tool_use::unknown_tool;

    #[test]
    fn links_out_of_a_grant_lead_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        let grant = inside.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(outside.path(), grant.join("link")).unwrap();
        let grants = Grants::new([(grant.clone(), false)]);
        assert!(grants.check("/cwd", &grant.join("link")).grant.is_none());
        assert!(grants.check("/cwd", &grant.join("link/deeper")).grant.is_none());
        assert!(grants.check("/cwd", &grant.join("new/folder")).grant.is_some());
        assert!(grants.check("/cwd", &grant.join("new/../../elsewhere")).grant.is_none());
        assert!(!grants.check("/cwd", &grant.join("new")).exists);
    }

    fn snapshot() -> CapabilitySnapshot {
        serde_json::from_value(json!({
            "provider": "p", "plugin": "p", "pluginDigest": "", "executable": null, "support": "supported",
            "cliVersion": null, "features": [], "modes": [], "optionalFlags": [], "reasons": [], "installHint": null,
            "extra": null, "detectedAt": "2026-01-01T00:00:00Z"
        }))
        .unwrap()
    }

    fn circumstances<'a>(
        cwd: &'a str,
        grants: &'a Grants,
        paths: Vec<plugin::CheckedPath>,
        capabilities: &'a CapabilitySnapshot,
        tools: &'a Tally,
    ) -> PolicyContext<'a> {
        PolicyContext {
            run: None,
            attempt: 0,
            provider: "p",
            plugin: "p",
            origin: "test",
            cwd: Path::new(cwd),
            grants,
            paths,
            profile: None,
            capabilities,
            payload: None,
            held: (false, false),
            tools,
            earlier: &[],
        }
    }

    #[test]
    fn host_denies_folders_outside_of_grants_where_no_policy_does() {
        let grants = Grants::new([(PathBuf::from("/granted"), false)]);
        let (snapshot, tools) = (snapshot(), Tally::default());
        let at = |cwd, paths| circumstances(cwd, &grants, paths, &snapshot, &tools);
        let pointers = |circumstances: &PolicyContext<'_>, mut findings: Vec<Finding>| {
            refuse_outside_of_grants(circumstances, &mut findings);
            findings.iter().filter_map(|finding| finding.pointer.clone()).collect::<Vec<_>>()
        };
        let paths = vec![
            grants.check("/cwd", Path::new("/elsewhere")),
            grants.check("/harness/additionalDirectories/0", Path::new("/granted/a")),
            grants.check("/harness/additionalDirectories/1", Path::new("/elsewhere/b")),
        ];
        let outside = at("/elsewhere", paths);
        assert_eq!(pointers(&outside, Vec::new()), ["/cwd", "/harness/additionalDirectories/1"]);
        let denied = Finding {
            policy: "guardrails".to_owned(),
            digest: String::new(),
            check: "cwd-in-grant".to_owned(),
            verdict: Verdict::Deny,
            pointer: Some("/cwd".to_owned()),
            message: String::new(),
            hint: None,
        };
        assert_eq!(pointers(&outside, vec![denied]).len(), 2);
        assert_eq!(pointers(&at("/granted/x", Vec::new()), Vec::new()), [""; 0]);
        assert_eq!(pointers(&at("/", Vec::new()), Vec::new()), ["/cwd"]);
    }

    #[test]
    fn policy_gets_the_requested_facts_that_exist() {
        let grants = Grants::default();
        let snapshot = snapshot();
        let payload = serde_json::value::to_raw_value(&json!({"prompt": "hello"})).unwrap();
        let found = Finding {
            policy: "strict".to_owned(),
            digest: String::new(),
            check: "odd".to_owned(),
            verdict: Verdict::Warn,
            pointer: Some("/prompt".to_owned()),
            message: "odd".to_owned(),
            hint: None,
        };
        let earlier = [EarlierFinding { stage: "spawn".to_owned(), finding: found }];
        let tools = Tally::default();
        let circumstances = PolicyContext {
            payload: Some(&payload),
            earlier: &earlier,
            ..circumstances("/", &grants, Vec::new(), &snapshot, &tools)
        };
        let facts = |wants: &[&str]| -> Value {
            let wants: Vec<String> = wants.iter().map(|want| (*want).to_owned()).collect();
            let guard = LoadedPolicy { name: "p".to_owned(), digest: String::new(), policy: Err(String::new()), wants };
            let gate = PolicySet { guards: vec![guard], allow_advanced: false };
            serde_json::from_str(&gate.context(&gate.guards[0], &circumstances).facts).unwrap()
        };
        assert_eq!(facts(&[]), json!({}));
        assert_eq!(facts(&["novel", "payload"]), json!({"payload": {"prompt": "hello"}}));
        let found = facts(&["tools", "findings", "sandbox"]);
        assert_eq!(found["tools"], json!({"total": 0, "byKind": {}}));
        assert_eq!(found["sandbox"], json!({"files": false, "network": false}));
        let finding = &found["findings"][0];
        let parts = ["stage", "policy", "check", "verdict", "pointer", "message"].map(|part| &finding[part]);
        assert_eq!(parts, ["spawn", "strict", "odd", "warn", "/prompt", "odd"]);
    }

    fn gate_of(wants: &[&[&str]]) -> PolicySet {
        let guard = |(number, wants): (usize, &&[&str])| LoadedPolicy {
            name: format!("p{number}"),
            digest: String::new(),
            policy: Err("it is broken".to_owned()),
            wants: wants.iter().map(|want| (*want).to_owned()).collect(),
        };
        PolicySet { guards: wants.iter().enumerate().map(guard).collect(), allow_advanced: false }
    }

    #[test]
    fn policy_is_asked_about_tool_uses_unless_it_declines() {
        let (grants, snapshot, tools) = (Grants::default(), snapshot(), Tally::default());
        let at = circumstances("/", &grants, Vec::new(), &snapshot, &tools);
        let asked = |wants: &[&[&str]], action: &Action| gate_of(wants).judge(action, &at).failed;
        let call = plugin::ToolCall { kind: "shell".to_owned(), ..unknown_tool() };
        let tool = Action::Tool(call);
        assert_eq!(asked(&[&["payload"], &["no-tools"], &[]], &tool), ["p0", "p2"]);
        assert_eq!(asked(&[&["no-tools"]], &Action::Input(String::new())), ["p0"]);
        let found = gate_of(&[]).judge(&tool, &at).findings;
        assert_eq!(found[0].check, "no-policy", "without any policy, everything is denied");
        for (wants, judges) in
            [(&[][..], true), (&[&["no-tools"][..]][..], false), (&[&["no-tools"], &["tools"]], true)]
        {
            assert_eq!(gate_of(wants).judges_tools(), judges, "{wants:?}");
        }
    }

    #[test]
    fn grant_does_not_contain_folders_whose_names_it_begins() {
        let grants =
            Grants::new([("/projects/project", false), ("/projects", true)].map(|(path, trust)| (path.into(), trust)));
        assert_eq!(grants.containing(Path::new("/projects/project/src")), Some(Path::new("/projects/project")));
        assert_eq!(grants.containing(Path::new("/projects/project-two")), Some(Path::new("/projects")));
        assert_eq!(grants.containing(Path::new("/elsewhere")), None);
    }

    #[test]
    fn innermost_grant_decides_whether_settings_are_trusted() {
        let grants =
            Grants::new([("/p", true), ("/p/in", false), ("/p/in/er", true)].map(|(path, trust)| (path.into(), trust)));
        let trusts = ["/p", "/p/a", "/p/in", "/p/in/a", "/p/in/er/a", "/q"]
            .map(|path| grants.trusts_settings_of(Path::new(path)));
        assert_eq!(trusts, [true, true, false, false, true, false]);
    }
}
