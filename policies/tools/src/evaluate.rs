//! The decision on a tool use.

use ostler_plugin::policy::{CheckedPath, Context, FileEffect, Finding, ToolCall};
use ostler_plugin::vocabulary::tools;
use serde_json::Value;

use crate::act::{Access, Act, PathUse};
use crate::command::{SHELLS, host_of};
use crate::defaults;
use crate::findings::Findings;
use crate::paths::{Place, Workspace, is_stream};
use crate::rule::{Decision, Hit, Rule, Tool};
use crate::settings::Compiled;
use crate::shell::{self, Unclear};
use crate::text::{clean, is_open, shown};

/// Steps for all scripts of a use: commands, words and paths.
const BUDGET: usize = 10_000;

/// Commands of one use that are looked at.
const MAX_COMMANDS: usize = 100;

/// Programs that have no effect outside the shell. Where only what is listed is allowed, they need not be.
const HARMLESS: &[&str] = &[
    "cd", "pushd", "popd", "echo", "printf", "true", "false", ":", "test", "[", "exit", "return", "break", "continue",
    "shift", "export", "declare", "local", "readonly", "typeset", "set", "unset", "read", "wait", "pwd", "sleep",
    "umask", "env", "nohup", "timeout", "nice", "time", "command", "builtin", "xargs", "eval", "exec",
];

pub(crate) fn evaluate(rules: &Compiled, call: &ToolCall, context: &Context) -> Vec<Finding> {
    let mut findings = Findings::default();
    let workspace = Workspace::new(context, rules.grant_counts);
    let mcp = call.mcp.as_ref().map(|mcp| format!("{}/{}", mcp.server, mcp.tool));
    let tool = Tool { kind: &call.kind, name: &call.name, mcp: mcp.as_deref() };
    if is_cut(call) {
        let message = "the tool use is too long to be judged: the host has shortened it".to_owned();
        findings.add("shortened", rules.unclear, message, "use the tool in smaller steps", None);
    }
    if call.kind == tools::OTHER && call.name.is_empty() {
        let message = "the CLI reports the result of a tool without saying what the tool did".to_owned();
        findings.add("unclear-command", rules.unclear, message, "", None);
    }
    let own = own_act(call, context, &workspace, rules, &mut findings);
    // Each act, and whether it must be listed if only what is listed is allowed.
    let mut acts = vec![(own, call.commands.is_empty())];
    let mut budget = BUDGET;
    let folder =
        call.cwd.as_deref().map_or_else(|| workspace.cwd.clone(), |cwd| workspace.resolve(&workspace.cwd, &clean(cwd)));
    for (index, script) in call.commands.iter().enumerate() {
        let pointer = format!("/commands/{index}");
        if index >= MAX_COMMANDS {
            let message = format!("the tool use has more than {MAX_COMMANDS} commands");
            findings.add("too-complex", rules.unclear, message, "use the tool in smaller steps", None);
            break;
        }
        let analysis = shell::analyze(script, &folder, &workspace, &mut budget);
        for unclear in analysis.unclear {
            add_unclear(&unclear, rules, &pointer, &mut findings);
        }
        for mut act in analysis.acts {
            for path in &mut act.paths {
                path.pointer = Some(pointer.clone());
            }
            let must_be_listed = !is_harmless(&act);
            acts.push((act, must_be_listed));
        }
    }
    let programs = acts.iter().filter_map(|(act, _)| Some(act.command.as_ref()?.program.as_str())).collect();
    let built_in = if rules.built_in { defaults::rules(&programs, &rules.disabled) } else { Ok(Vec::new()) };
    match built_in {
        Ok(built_in) => {
            for (act, must_be_listed) in &acts {
                judge(rules, &built_in, tool, act, *must_be_listed, &mut findings);
            }
        }
        Err(message) => findings.add("built-in-rules", Decision::Deny, message, "", None),
    }
    if call.kind == tools::SHELL && call.commands.is_empty() {
        let message = "the CLI does not say which command the shell runs".to_owned();
        findings.add("unclear-command", rules.unclear, message, "", None);
    }
    findings.into_vec()
}

fn is_cut(call: &ToolCall) -> bool {
    let extra = call.extra.as_deref().and_then(|extra| serde_json::from_str::<Value>(extra).ok());
    let cut = extra.as_ref().and_then(|extra| extra.get("cut"));
    // What is left out of the contents of a file does not matter here.
    cut.is_some_and(|cut| {
        cut.as_array().is_none_or(|cut| {
            cut.iter().any(|pointer| {
                pointer.as_str().is_none_or(|pointer| !(pointer.starts_with("/files/") && pointer.ends_with("/change")))
            })
        })
    })
}

fn add_unclear(unclear: &Unclear, rules: &Compiled, pointer: &str, findings: &mut Findings) {
    let (check, message, hint) = match unclear {
        Unclear::Unparsable(reason) => (
            "unclear-command",
            format!("the command cannot be parsed as bash: {}", shown(reason)),
            "write the command in plain bash",
        ),
        Unclear::TooComplex(reason) => (
            "too-complex",
            format!("the command is too complex to be judged: {reason}"),
            "use several simpler commands",
        ),
        Unclear::Unknown(what) => {
            ("unclear-command", format!("it cannot be judged what the command does: {what}"), "write the command out")
        }
    };
    findings.add(check, rules.unclear, message, hint, Some(pointer.to_owned()));
}

/// What the tool does itself: its files and addresses.
fn own_act(
    call: &ToolCall,
    context: &Context,
    workspace: &Workspace,
    rules: &Compiled,
    findings: &mut Findings,
) -> Act {
    let mut act = Act { network: matches!(call.kind.as_str(), tools::WEB_FETCH | tools::WEB_SEARCH), ..Act::default() };
    act.hosts = call
        .urls
        .iter()
        .filter_map(|url| host_of(url).or_else(|| (!url.contains("://")).then(|| host_of(&format!("x://{url}")))?))
        .collect();
    act.network |= !act.hosts.is_empty();
    let cwd = context.paths.iter().find(|path| path.pointer == "/cwd");
    let folder = cwd.map_or_else(|| workspace.cwd.clone(), |path| path.resolved.clone());
    let mut unresolved = 0;
    for (index, file) in call.files.iter().enumerate() {
        let pointer = format!("/files/{index}");
        let access = match file.effect {
            FileEffect::Read => Access::Read,
            FileEffect::Create | FileEffect::Modify => Access::Write,
            FileEffect::Delete => Access::Delete,
        };
        if is_stream(&file.path) {
            continue;
        }
        let text = clean(&file.path);
        let mut forms = vec![workspace.forms(&workspace.resolve(&folder, &text))];
        let mut place = Place::Unknown;
        if let Some(checked) = context.paths.iter().find(|path| path.pointer == pointer) {
            place = place_of(checked, workspace, rules);
            forms.push(workspace.forms(&checked.resolved));
        } else {
            unresolved += usize::from(call.kind != tools::SHELL);
        }
        act.paths.push(PathUse { text, access, forms, place, is_redirected: false, pointer: Some(pointer) });
    }
    if unresolved > 0 {
        let message =
            format!("{unresolved} of the tool's files could not be resolved, so that it is not known where they are");
        findings.add(
            "unclear-command",
            rules.unclear,
            message,
            "use the tool on fewer files with shorter paths",
            Some("/files".to_owned()),
        );
    }
    act
}

/// The place of a path that the host has resolved.
fn place_of(path: &CheckedPath, workspace: &Workspace, rules: &Compiled) -> Place {
    match workspace.place(&path.resolved) {
        // Every grant is a workspace.
        Place::Outside if path.grant.is_some() && rules.grant_counts => Place::Inside,
        place => place,
    }
}

/// Judges an act. `listed`: whether it must be listed if only what is listed is allowed.
fn judge(rules: &Compiled, built_in: &[Rule], tool: Tool<'_>, act: &Act, listed: bool, findings: &mut Findings) {
    let own: Vec<Hit<'_>> = rules.own.iter().filter_map(|rule| rule.matches(tool, act)).collect();
    let (allowing, against): (Vec<_>, Vec<_>) = own.into_iter().partition(|hit| hit.rule.decision == Decision::Allow);
    for hit in &against {
        add(hit, tool, act, findings);
    }
    for hit in built_in.iter().filter_map(|rule| rule.matches(tool, act)) {
        if !allowing.iter().any(|allowing| allowing.lowers(&hit)) {
            add(&hit, tool, act, findings);
        }
    }
    // What the shell writes for a command is not a part of the command.
    let redirects = act.paths.iter().any(|path| path.is_redirected && path.access != Access::Read);
    let allows = |hit: &Hit<'_>| !redirects || hit.rule.commands.is_empty() || hit.rule.files.is_some();
    if listed && rules.otherwise > Decision::Allow && against.is_empty() && !allowing.iter().any(allows) {
        let what =
            act.command.as_ref().map_or_else(|| tool_name(tool), |command| format!("`{}`", shown(&command.program)));
        let hint = "add a rule with the decision allow to the settings of the policy";
        findings.add("not-listed", rules.otherwise, format!("{what} is not allowed by a rule"), hint, None);
    }
}

/// Whether an act of a script has no effect by itself.
fn is_harmless(act: &Act) -> bool {
    let changes = act.paths.iter().any(|path| path.access != Access::Read);
    let harmless = act.command.as_ref().is_none_or(|command| {
        let program = command.program.as_str();
        // The script of `sh -c` is judged by itself.
        HARMLESS.contains(&program) || SHELLS.contains(&program) && command.option(&["-c"]).is_some()
    });
    harmless && !changes && !act.network
}

fn tool_name(tool: Tool<'_>) -> String {
    match tool.mcp {
        Some(mcp) => format!("the MCP tool {}", shown(mcp)),
        None => format!("the tool {}", shown(if tool.name.is_empty() { tool.kind } else { tool.name })),
    }
}

/// Adds the finding of a rule.
fn add(hit: &Hit<'_>, tool: Tool<'_>, act: &Act, findings: &mut Findings) {
    let path = hit.path.and_then(|index| act.paths.get(index));
    let command = act.command.as_ref().map(|command| match hit.pattern {
        Some(pattern) => shown(&pattern.shown(command)),
        None => shown(&command.program),
    });
    let message = hit.rule.message.as_deref().unwrap_or_default();
    let is_own = hit.rule.check.starts_with("rule:");
    let subject = match (&command, path) {
        (Some(command), Some(path)) => format!("`{command}` {} {}", path.access.verb(), shown(&path.text)),
        (Some(command), None) => format!("`{command}`"),
        (None, Some(path)) if act.command.is_none() => {
            format!("{} {} {}", tool_name(tool), path.access.verb(), shown(&path.text))
        }
        _ => tool_name(tool),
    };
    let subject = match act.hosts.first().filter(|_| !hit.rule.hosts.is_empty() || hit.rule.network) {
        Some(host) => format!("{subject} uses {}", shown(host)),
        None => subject,
    };
    let name = hit.rule.check.strip_prefix("rule:").unwrap_or_default();
    let mut text = match (is_own, message.is_empty()) {
        (true, true) => format!(
            "{subject}: the rule {name} {}",
            if hit.decision() == Decision::Deny { "denies it" } else { "asks for it" }
        ),
        (true, false) => format!("{subject}: {message}"),
        (false, _) if path.is_some() || !hit.rule.hosts.is_empty() => format!("{subject}, which {message}"),
        (false, _) => format!("{subject} {message}"),
    };
    if hit.decision() < hit.rule.decision
        || path.is_some_and(|path| is_open(&path.text) && path.place == Place::Unknown)
    {
        text.push_str(" (perhaps: a part of the command is only known when it runs)");
    }
    let pointer = path.and_then(|path| path.pointer.clone());
    findings.add(&hit.rule.check, hit.decision(), text, hit.rule.hint.as_deref().unwrap_or_default(), pointer);
}

/// Whether there can be a finding at all: tells whether tool uses have to be judged.
pub(crate) fn can_match(rules: &Compiled) -> bool {
    rules.built_in
        || rules.own.iter().any(|rule| rule.decision > Decision::Allow)
        || rules.otherwise > Decision::Allow
        || rules.unclear > Decision::Allow
}
