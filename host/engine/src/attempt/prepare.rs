//! From a start payload to a command line: calls the plugin, and checks what its result omits.
//!
//! The same code runs when a run is submitted, so that the user learns of problems early, and before each attempt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::attempt::environment::Sources;
use crate::features;
use crate::policy::native_policy::launch_variables;
use crate::record::to_value;
use crate::sandbox::Containment;
use crate::setup::{ActiveConfig, Provider};
use crate::submit::check::decode_data_url;
use ostler_config::PolicyConfig;
use ostler_plugin_host::ProviderInstance;
use ostler_plugin_host::types as plugin;
use ostler_protocol::{
    ApiError, ApprovalPolicy, Attachment, CompatibilityWarning, ErrorKind, Problem, RunId, RunMode, SandboxMode,
    StartPayload,
};

/// The input of a run. Without it the agent would have no task, so that dropping it is an error.
const PIPED_CONTENT: &str = "/harness/pipedContent";
/// Longest argument that the system accepts (Linux: 32 pages).
const MAX_ARGUMENT: usize = 128 * 1024;

/// One attempt, as far as a command line depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) run: RunId,
    /// Counts from 1.
    pub(crate) number: u32,
    /// The effective payload, `cwd` resolved.
    pub(crate) payload: &'a StartPayload,
    pub(crate) cwd: &'a Path,
    /// Session to resume, if any: the payload's, unless it has turned out to be invalid.
    pub(crate) resume: Option<&'a str>,
    pub(crate) private_dir: &'a Path,
    /// The variables that the child inherits.
    pub(crate) inherited: &'a BTreeMap<String, String>,
    /// Its containment.
    pub(crate) containment: &'a Containment,
    /// Whether the grant of its folder trusts the settings of the repository.
    pub(crate) trusted_settings: bool,
    /// Whether a policy decides about tool uses before they happen.
    pub(crate) every_tool: bool,
}

/// A command line, and the warnings about fields that it ignores.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) request: plugin::RunRequest,
    pub(crate) launch: plugin::Launch,
    pub(crate) warnings: Vec<CompatibilityWarning>,
    /// Whether the CLI asks before it uses tools.
    pub(crate) asks: bool,
}

/// The variables that the child of a run inherits. `token` is the variable of a stored token and its value; when a run is submitted, the
/// value is empty.
pub(crate) fn inherited(
    active: &ActiveConfig,
    provider: &Provider,
    host: &BTreeMap<String, String>,
    caller: Option<&BTreeMap<String, String>>,
    token: Option<(&str, &str)>,
    payload: &StartPayload,
) -> BTreeMap<String, String> {
    let empty = BTreeMap::new();
    Sources {
        host,
        caller,
        base: &active.config.runner.inherit_environment,
        inherit: provider.inherit_environment(),
        configured: &provider.config.environment,
        token,
        payload: payload.harness.as_ref().map_or(&empty, |harness| &harness.process_env),
    }
    .inherited()
}

/// Asks the plugin for the command line.
///
/// # Errors
/// `INVALID_PARAMS` if the plugin refuses the payload, or if piped input would be lost; `UNENFORCEABLE` if a restriction
/// cannot be enforced and the operator has not allowed that; `PLUGIN_FAILED`, also if the plugin sets variables that it may
/// not set.
pub(crate) fn prepare(
    policy: &PolicyConfig,
    instance: &ProviderInstance,
    capabilities: &plugin::Capabilities,
    attempt: &Attempt<'_>,
) -> Result<Prepared, ApiError> {
    let asks = asks(attempt, &capabilities.features);
    let request = request(attempt, asks);
    let mut launch = instance.prepare(&request, capabilities).map_err(|error| crate::plugin_error(&error))?;
    check_variables(policy, instance, &launch.environment)?;
    if let Some(long) = launch.args.iter().find(|argument| argument.len() >= MAX_ARGUMENT) {
        let message = format!(
            "the command line has an argument of {} KiB; the system takes {} KiB at most",
            long.len() / 1024,
            MAX_ARGUMENT / 1024
        );
        return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/prompt"));
    }
    check_channel(instance, attempt.payload, launch.channel)?;
    check_dropped(instance, &launch.dropped)?;
    let document = to_value(attempt.payload);
    let enforced = attempt.containment.enforced();
    let missing = features::missing(&document, &capabilities.features, &launch.dropped, enforced);
    launch.dropped.extend(missing);
    launch.dropped.retain(|dropped| !enforced.contains(&dropped.pointer.as_str()));
    let (against, warnings): (Vec<_>, Vec<_>) = launch.dropped.iter().partition(|dropped| {
        (dropped.restricts || restricts(&document, &dropped.pointer)) && !policy.allows_unenforced(&dropped.pointer)
    });
    if !against.is_empty() {
        return Err(unenforceable(&against));
    }
    if let Some(lost) = warnings.iter().find(|dropped| dropped.pointer == PIPED_CONTENT) {
        let message = format!("the agent would not get what was piped: {}", lost.reason);
        return Err(ApiError::new(ErrorKind::InvalidParams, message)
            .at(PIPED_CONTENT)
            .hint("put the text into the prompt, or leave it out"));
    }
    let warnings = warnings
        .into_iter()
        .map(|dropped| CompatibilityWarning { pointer: dropped.pointer.clone(), reason: dropped.reason.clone() })
        .collect();
    Ok(Prepared { request, launch, warnings, asks })
}

/// A plugin may set only the variables that it has declared for its runs and probes, and none that load code.
///
/// # Errors
/// `PLUGIN_FAILED` with every variable that it may not set.
pub(crate) fn check_variables(
    policy: &PolicyConfig,
    instance: &ProviderInstance,
    variables: &[plugin::NameValue],
) -> Result<(), ApiError> {
    let names = variables.iter().map(|variable| variable.name.as_str());
    let inherit = &instance.describe().inherit_environment;
    let wrong = launch_variables(&policy.allow_environment, instance.containment(), inherit, names);
    if wrong.is_empty() {
        return Ok(());
    }
    let message = format!(
        "plugin {} sets variables that it has not declared or that load code into the CLI: {}",
        instance.plugin().name,
        wrong.join(", ")
    );
    Err(ApiError::new(ErrorKind::PluginFailed, message)
        .hint("replace the plugin, or let the operator add the names to [policy] allow_environment in config.toml"))
}

/// A CLI runs in a terminal if the payload says so, and only then: clients know it from there.
fn check_channel(
    instance: &ProviderInstance,
    payload: &StartPayload,
    channel: plugin::Channel,
) -> Result<(), ApiError> {
    let message = match (payload.terminal.is_some(), channel == plugin::Channel::Pty) {
        (true, false) => "it does not start the CLI in a terminal, although it has the feature",
        (false, true) => "it starts the CLI in a terminal, for which the payload does not ask",
        _ => return Ok(()),
    };
    let message = format!("plugin {}: {message}", instance.plugin().name);
    Err(ApiError::new(ErrorKind::PluginFailed, message))
}

/// A plugin may report only pointers into the payload: another text would be no restriction, and no user would see it.
fn check_dropped(instance: &ProviderInstance, dropped: &[plugin::DroppedOption]) -> Result<(), ApiError> {
    let sound = |pointer: &str| {
        pointer.is_empty() || (pointer.starts_with('/') && pointer.len() <= 1024 && !pointer.contains(char::is_control))
    };
    let Some(wrong) = dropped.iter().find(|dropped| !sound(&dropped.pointer)) else { return Ok(()) };
    let shown: String = wrong.pointer.chars().take(100).collect();
    let message = format!("plugin {}: it dropped {shown:?}, which is not a JSON pointer", instance.plugin().name);
    Err(ApiError::new(ErrorKind::PluginFailed, message))
}

fn unenforceable(against: &[&plugin::DroppedOption]) -> ApiError {
    let problems: Vec<Problem> = against
        .iter()
        .map(|dropped| Problem { pointer: dropped.pointer.clone(), message: dropped.reason.clone() })
        .collect();
    let list: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    let mut error = ApiError::new(
        ErrorKind::Unenforceable,
        format!("nothing can enforce what the payload restricts: {}", list.join("; ")),
    );
    error.pointer = problems.first().map(|problem| problem.pointer.clone());
    error.problems = problems;
    error.hint("leave it out, or let the operator name it in [policy] allow_unenforced")
}

/// Whether the value at this pointer restricts the agent.
fn restricts(payload: &Value, pointer: &str) -> bool {
    let Some(asked) = payload.pointer(pointer) else { return false };
    let Some(field) = pointer.strip_prefix("/harness/") else { return false };
    match field {
        "permissions/sandboxMode" => *asked != to_value(&SandboxMode::FullAccess),
        "permissions/networkAccess" | "permissions/autoApprove" => *asked == Value::Bool(false),
        "permissions/approvalPolicy" => asked != "never",
        _ => {
            let rest = field.split_once('/').map_or("", |(_, rest)| rest);
            // A dropped entry of the list is one tool less.
            field == "tools"
                || field.starts_with("cliAllowlist")
                || matches!(field, "limits/maxBudgetUsd" | "limits/maxTurns")
                || (field.starts_with("mcp/") && (rest.ends_with("enabledTools") || rest.ends_with("disabledTools")))
        }
    }
}

/// Whether the CLI is to ask before it uses tools: in a session, if the payload says so, and if a policy decides. The CLI must be
/// able to.
fn asks(attempt: &Attempt<'_>, known: &[String]) -> bool {
    let payload = attempt.payload;
    let policy = payload.harness().permissions.and_then(|permissions| permissions.approval_policy);
    let wanted = payload.mode == Some(RunMode::Interactive)
        || policy.is_some_and(|policy| policy != ApprovalPolicy::Never)
        || attempt.every_tool;
    wanted && payload.terminal.is_none() && known.iter().any(|feature| feature == features::APPROVALS)
}

fn request(attempt: &Attempt<'_>, asks: bool) -> plugin::RunRequest {
    let payload = attempt.payload;
    let mut document = to_value(payload);
    let mut attachments = Vec::new();
    for (block, list) in [("images", payload.harness().images), ("files", payload.harness().files)] {
        for (index, attachment) in list.iter().enumerate() {
            let laid_out = lay_out(block, attachment, attempt.private_dir);
            // The plugin does not get the bytes.
            if let Some(Value::Object(fields)) = document.pointer_mut(&format!("/harness/{block}/{index}"))
                && fields.shift_remove("dataUrl").is_some()
            {
                fields.insert("path".to_owned(), laid_out.path.clone().into());
            }
            attachments.push(laid_out);
        }
    }
    plugin::RunRequest {
        run_id: attempt.run.to_string(),
        attempt: attempt.number,
        fresh_id: uuid::Uuid::now_v7().to_string(),
        mode: match payload.mode.unwrap_or_default() {
            RunMode::NonInteractive => plugin::RunMode::NonInteractive,
            RunMode::Interactive => plugin::RunMode::Interactive,
        },
        prompt: payload.prompt.clone(),
        model: payload.model.clone(),
        cwd: attempt.cwd.display().to_string(),
        resume_session: attempt.resume.map(str::to_owned),
        private_dir: attempt.private_dir.display().to_string(),
        attachments,
        host: plugin::HostFacts {
            os: std::env::consts::OS.to_owned(),
            root: nix::unistd::geteuid().is_root(),
            environment_names: attempt.inherited.keys().cloned().collect(),
            extra: Some(host_facts(attempt, asks).to_string()),
        },
        payload: document.to_string(),
    }
}

/// The member `extra` of the facts about the host.
fn host_facts(attempt: &Attempt<'_>, asks: bool) -> Value {
    let mut facts = to_value(&attempt.containment.facts(attempt.trusted_settings));
    facts["approvals"] = asks.into();
    facts["terminal"] = attempt.payload.terminal.is_some().into();
    facts["everyTool"] = (asks && attempt.every_tool).into();
    facts
}

/// The file of an attachment, which may not exist yet.
fn lay_out(block: &str, attachment: &Attachment, private_dir: &Path) -> plugin::Attachment {
    let (path, size) = match (&attachment.path, &attachment.data_url) {
        (Some(path), _) => (path.clone(), std::fs::metadata(path).map_or(0, |found| found.len())),
        (None, url) => {
            let bytes = url.as_deref().and_then(|url| decode_data_url(url).ok()).map_or(0, |bytes| bytes.len());
            (private_dir.join(attachment_path(block, attachment)), bytes as u64)
        }
    };
    plugin::Attachment {
        name: attachment.name.clone(),
        mime_type: attachment.mime_type.clone(),
        path: path.display().to_string(),
        size,
    }
}

fn attachment_path(block: &str, attachment: &Attachment) -> PathBuf {
    PathBuf::from("attachments").join(block).join(&attachment.name)
}

/// The attachments whose bytes are in the payload, and their paths in the private folder.
pub(crate) fn attachments(payload: &StartPayload) -> Result<Vec<(String, Vec<u8>)>, String> {
    let harness = payload.harness();
    let blocks = [("images", harness.images), ("files", harness.files)];
    let mut files = Vec::new();
    for (block, attachment) in blocks.iter().flat_map(|(block, list)| list.iter().map(move |one| (*block, one))) {
        if let Some(url) = &attachment.data_url {
            files.push((attachment_path(block, attachment).display().to_string(), decode_data_url(url)?));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn restricting_fields_are_known_without_the_plugin() {
        let payload = json!({"harness": {
            "permissions": {"sandboxMode": "read-only", "networkAccess": true, "approvalPolicy": "never"},
            "tools": ["file_read"], "limits": {"maxTurns": 3, "timeoutMs": 6000}, "systemPrompt": "x",
            "mcp": {"servers": [{"name": "a", "disabledTools": ["b"], "url": "c"}]}
        }});
        for pointer in [
            "/harness/permissions/sandboxMode",
            "/harness/tools",
            "/harness/limits/maxTurns",
            "/harness/mcp/servers/0/disabledTools",
        ] {
            assert!(restricts(&payload, pointer), "{pointer}");
        }
        for pointer in [
            "/harness/permissions/networkAccess",
            "/harness/permissions/approvalPolicy",
            "/harness/systemPrompt",
            "/harness/mcp/servers/0/url",
            "/harness/limits/maxBudgetUsd",
            "/harness/tools/0",
        ] {
            assert!(!restricts(&payload, pointer), "{pointer}");
        }
    }
}
