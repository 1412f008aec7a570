//! The tools of the agent, and which of them run without approval.
//!
//! Nobody can be asked in a run of `--print` without the control protocol, so claude denies what it would ask about, which depends on its mode: `dontAsk`
//! allows reading and searching, `acceptEdits` also allows changes of files in its folders, and `bypassPermissions` allows
//! everything. Rules in claude's own settings files can allow more, and their hooks run any program. So a run that restricts
//! the agent only reads the files that the operator trusts, and a run in a folder that its grant does not trust reads no
//! settings of the folder.

use super::Builder;
use super::duplex::Asking;
use crate::detect::AUTO;
use crate::flags;
use crate::settings::Source;

const TOOLS: &str = "/harness/tools";
const SANDBOX_MODE: &str = "/harness/permissions/sandboxMode";
const AUTO_APPROVE: &str = "/harness/permissions/autoApprove";
const NETWORK: &str = "/harness/permissions/networkAccess";

/// The tools of claude for a kind of tools.
fn names(kind: &str) -> &'static [&'static str] {
    match kind {
        "file_read" => &["Read"],
        "file_write" => &["Write"],
        "file_edit" => &["Edit", "NotebookEdit"],
        "file_search" => &["Glob"],
        "content_search" => &["Grep"],
        // The other two are for commands in the background.
        "shell" => &["Bash", "TaskOutput", "TaskStop"],
        "web_fetch" => &["WebFetch"],
        "web_search" => &["WebSearch"],
        "task" => &["Task"],
        _ => &[],
    }
}

/// Tools that change files without a shell.
const WRITERS: [&str; 5] = ["Edit", "Write", "NotebookEdit", "EnterWorktree", "ExitWorktree"];

/// Tools that schedule prompts, some of them in a file of the project. A run has ended before that.
const SCHEDULERS: [&str; 3] = ["CronCreate", "CronDelete", "ScheduleWakeup"];

/// An option that was added in or after the version in which `dontAsk` recognizes that a redirection writes (2.1.2; versions
/// before 2.0.53 recognized it, too). The help does not mention the fault itself.
const SINCE_REDIRECTIONS: &str = "--debug-file";

/// What claude allows without a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// No permission is checked.
    pub bypass: bool,
    /// MCP servers in the payload are allowed.
    pub approved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sandbox {
    ReadOnly,
    WorkspaceWrite,
    FullAccess,
}

pub(super) fn apply(launch: &mut Builder<'_>) -> Rights {
    let permissions = &launch.harness.permissions;
    let requested = permissions.sandbox_mode.as_deref();
    let sandbox = match requested {
        Some("read-only") => Some(Sandbox::ReadOnly),
        Some("workspace-write") => Some(Sandbox::WorkspaceWrite),
        Some("full-access") => Some(Sandbox::FullAccess),
        Some(other) => {
            launch.problems.push(SANDBOX_MODE, format!("`{other}` is not a valid sandbox mode"));
            None
        }
        None => None,
    };
    let bounded = matches!(sandbox, Some(Sandbox::ReadOnly | Sandbox::WorkspaceWrite));
    let auto = permissions.auto_approve;
    let asking = launch.asking();
    // If the host restricts the whole run, claude does not have to ask about actions inside its sandbox.
    let mut bypass = auto == Some(true) && (!bounded || launch.host.sandboxed) && asking != Asking::Everything;
    if bypass {
        mode(launch, "bypassPermissions", AUTO_APPROVE);
        refuse_root(launch, AUTO_APPROVE);
    }
    match sandbox {
        Some(Sandbox::ReadOnly) => read_only(launch, bypass, asking),
        Some(_) if bypass => {}
        Some(Sandbox::WorkspaceWrite | Sandbox::FullAccess) if asking == Asking::Everything => {
            mode(launch, "default", SANDBOX_MODE);
        }
        Some(Sandbox::FullAccess) if asking == Asking::OnRequest => mode(launch, "acceptEdits", SANDBOX_MODE),
        Some(Sandbox::WorkspaceWrite) => mode(launch, "acceptEdits", SANDBOX_MODE),
        // Without a mode, claude's own settings would select one, which could allow everything.
        None if auto == Some(false) => mode(launch, "default", AUTO_APPROVE),
        None if asking != Asking::Nobody && !bypass => ask_by_default(launch),
        Some(Sandbox::FullAccess) => {
            mode(launch, "acceptEdits", SANDBOX_MODE);
            launch.dropped.convenience(
                SANDBOX_MODE,
                "claude denies what it would ask about, including most shell commands, because nobody can be asked; `workspace-write` with `autoApprove` runs them inside of the host's sandbox",
            );
        }
        None => {}
    }
    let auto_by_flag = launch.payload.optional_flags.get(flags::PERMISSION_MODE).is_some_and(
        |value| matches!(value, ostler_provider_kit::payload::FlagValue::One(word) if word.to_string() == AUTO),
    );
    if launch.detected.modes.contains(AUTO) && !auto_by_flag {
        // Some versions use it if no mode is set, and then a model approves actions instead of the user.
        launch.private.without_auto_mode();
    }
    let flagged = flagged_bypass(launch);
    match flagged {
        Some(pointer)
            if bounded
                || permissions.network_access == Some(false)
                || auto == Some(false)
                || asking == Asking::Everything =>
        {
            launch.problems.push(pointer, "skips the permissions that `harness.permissions` sets; remove one of them");
        }
        Some(pointer) => {
            if !bypass {
                refuse_root(launch, &pointer);
            }
            bypass = true;
        }
        None => {}
    }
    if bounded
        && auto == Some(true)
        && !bypass
        && asking == Asking::Nobody
        && !(launch.settings.sandbox && sandbox == Some(Sandbox::WorkspaceWrite))
    {
        launch.dropped.convenience(
            AUTO_APPROVE,
            "nothing but claude's permissions bounds its shell, so commands that are not plainly harmless are refused; `settings.sandbox` of the provider bounds them in `workspace-write`",
        );
    }
    let approve = auto == Some(true) && sandbox != Some(Sandbox::ReadOnly) && asking != Asking::Everything;
    launch.private.approve_sandboxed(approve);
    tools(launch);
    network(launch, bypass || asking == Asking::Everything);
    let policy = launch.harness.permissions.approval_policy.as_deref().filter(|policy| *policy != "never");
    if let Some(policy) = policy.filter(|_| launch.control.is_none()) {
        launch.dropped.restriction(
            "/harness/permissions/approvalPolicy",
            format!("`claude --print` cannot ask anybody, so `{policy}` cannot be enforced; use `never` with a sandboxMode that restricts the run"),
        );
    }
    let filters = launch.harness.mcp.servers.iter().any(|server| server.enabled_tools.is_some());
    let withheld = auto == Some(false) || permissions.network_access == Some(false);
    if bounded || withheld || launch.harness.tools.is_some() || filters {
        setting_sources(launch, &[]);
    } else if !launch.host.trusted_settings {
        setting_sources(launch, &[Source::User]);
    }
    Rights { bypass, approved: auto != Some(false) && asking != Asking::Everything }
}

fn mode(launch: &mut Builder<'_>, mode: &str, pointer: &str) {
    if launch.detected.modes.contains(mode) {
        launch.override_flag(flags::PERMISSION_MODE);
        launch.option(flags::PERMISSION_MODE, mode, pointer);
    } else if mode == "bypassPermissions" {
        launch.dropped.convenience(pointer, "the installed claude has no mode that allows everything");
    } else {
        launch.dropped.restriction(pointer, format!("the installed claude has no permission mode `{mode}`"));
    }
}

/// Without a mode, claude's own settings would select one. A payload can select one as well.
fn ask_by_default(launch: &mut Builder<'_>) {
    if !launch.payload.optional_flags.contains_key(flags::PERMISSION_MODE) {
        mode(launch, "default", "/harness/permissions/approvalPolicy");
    }
}

fn read_only(launch: &mut Builder<'_>, bypass: bool, asking: Asking) {
    if bypass {
        // Nothing is asked.
    } else if asking != Asking::Nobody && launch.host.sandboxed {
        // What is allowed cannot write.
        mode(launch, "default", SANDBOX_MODE);
    } else {
        mode(launch, "dontAsk", SANDBOX_MODE);
    }
    for tool in WRITERS.into_iter().chain(SCHEDULERS) {
        launch.private.deny(tool);
    }
    if !launch.host.sandboxed && !launch.detected.has(SINCE_REDIRECTIONS) {
        // Nothing else prevents the shell from writing.
        launch.private.deny("Bash");
        launch.dropped.convenience(
            SANDBOX_MODE_WITH_WRITERS,
            "the shell of the installed claude writes files by redirection in read-only runs, too, so there is none; install a current claude",
        );
    }
    let listed = launch
        .harness
        .tools
        .as_ref()
        .is_some_and(|tools| tools.iter().any(|tool| names(tool).iter().any(|name| WRITERS.contains(name))));
    if listed {
        launch
            .dropped
            .convenience(SANDBOX_MODE_WITH_WRITERS, "`sandboxMode` is `read-only`, so claude has no tools that write");
    }
}

/// The pointer is not inside `/harness/tools`: fewer tools than listed is not a lost restriction.
const SANDBOX_MODE_WITH_WRITERS: &str = "/harness/permissions";

/// The flag with which a payload skips permissions, if there is one.
fn flagged_bypass(launch: &Builder<'_>) -> Option<String> {
    let set = &launch.payload.optional_flags;
    if flags::is_on(set, flags::SKIP_PERMISSIONS) {
        return Some(format!("/optionalFlags/{}", flags::SKIP_PERMISSIONS));
    }
    // If the run sets a mode itself, that is the later option.
    let mode = launch.args.iter().rev().find_map(|arg| arg.strip_prefix("--permission-mode="))?;
    let by_flag = set.get(flags::PERMISSION_MODE).is_some_and(
        |value| matches!(value, ostler_provider_kit::payload::FlagValue::One(word) if word.to_string() == mode),
    );
    (by_flag && mode == "bypassPermissions").then(|| format!("/optionalFlags/{}", flags::PERMISSION_MODE))
}

/// claude does not skip permissions as root, unless a variable says that it runs in a sandbox.
fn refuse_root(launch: &mut Builder<'_>, pointer: &str) {
    const IN_SANDBOX: &str = "IS_SANDBOX";
    let host = &launch.request.host;
    let in_sandbox = match launch.harness.process_env.get(IN_SANDBOX) {
        Some(value) => matches!(value.trim(), "1" | "true" | "yes" | "on"),
        None => host.environment_names.iter().any(|name| name == IN_SANDBOX),
    };
    if host.root && !in_sandbox && launch.host.sandboxed {
        // This is such a sandbox.
        launch.set(IN_SANDBOX, "1");
    } else if host.root && !in_sandbox {
        launch.problems.push(
            pointer,
            "claude does not skip permissions as root; run the host as another user, or remove this option (in a container that is made for it, add `harness.processEnv` IS_SANDBOX=1)",
        );
    }
}

fn tools(launch: &mut Builder<'_>) {
    let harness = launch.harness;
    let Some(listed) = &harness.tools else { return };
    if !launch.detected.has("--tools") {
        launch
            .dropped
            .restriction(TOOLS, "the installed claude has no --tools, so its tools cannot be restricted to a list");
        return;
    }
    let mut built_in: Vec<&str> = listed.iter().flat_map(|kind| names(kind)).copied().collect();
    built_in.dedup();
    // An empty list means no tools.
    launch.args.push(format!("--tools={}", built_in.join(",")));
}

fn network(launch: &mut Builder<'_>, bypass: bool) {
    let has = |kind: &str| launch.harness.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| tool == kind));
    let (shell, fetch, search) = (has("shell"), has("web_fetch"), has("web_search"));
    match launch.harness.permissions.network_access {
        Some(false) => {
            for tool in ["WebFetch", "WebSearch"] {
                launch.private.deny(tool);
            }
            if shell && !launch.host.network && (!launch.settings.sandbox || launch.private.opens_sandbox()) {
                launch.dropped.restriction(
                    NETWORK,
                    "claude does not deny its shell network access; set `harness.tools` without `shell`, or enable `settings.sandbox` of the provider",
                );
            }
        }
        Some(true) if !bypass => {
            for (tool, has) in [("WebFetch", fetch), ("WebSearch", search)] {
                if has {
                    launch.private.allow(tool);
                }
            }
            if shell && launch.settings.sandbox && !launch.host.sandboxed && !launch.private.opens_sandbox() {
                launch.dropped.convenience(
                    NETWORK,
                    "commands in claude's sandbox reach only the domains in `settings.config.sandbox.network.allowedDomains` of the provider",
                );
            }
        }
        _ => {}
    }
}

/// Restricts claude to these settings files and those that the operator trusts. The settings of a repository (also MCP
/// servers, commands, skills) start programs, so they apply only if the grant trusts them.
fn setting_sources(launch: &mut Builder<'_>, base: &[Source]) {
    let trusted = &launch.settings.trusted_sources;
    let further = trusted.iter().filter(|source| !base.contains(source));
    let words: Vec<&str> = base.iter().chain(further).map(|source| source.word()).collect();
    launch.override_flag(flags::SETTING_SOURCES);
    launch.args.push(format!("{}={}", flags::SETTING_SOURCES, words.join(",")));
    // Without the settings of the project, claude does not read its CLAUDE.md either, which only contains instructions. It
    // can read those of additional folders, and the folder itself can be one.
    let memory = launch.settings.project_memory && !trusted.contains(&Source::Project);
    if memory && launch.detected.has("--add-dir") {
        launch.set("CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD", "1");
        let cwd = launch.request.cwd.clone();
        launch.option("--add-dir", &cwd, "/cwd");
    }
}
