//! The cases that are run on each release.

mod bounds;
mod ends;
mod extras;
mod messages;
mod tools;

use super::{
    fixture::{Fixture, Verdict},
    support::{AgentFixture, hostile},
};
use std::{fs, path::Path};

/// One row of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The only CLI that has it.
    only: Option<&'static str>,
    pub(crate) run: fn(&Fixture<'_>) -> Verdict,
}

/// The rows of the table of a CLI.
pub(crate) fn of(cli: &str) -> impl Iterator<Item = &'static Case> {
    ALL.iter().filter(move |case| case.only.is_none_or(|only| only == cli))
}

const fn both(name: &'static str, run: fn(&Fixture<'_>) -> Verdict) -> Case {
    Case { name, only: None, run }
}

const fn claude(name: &'static str, run: fn(&Fixture<'_>) -> Verdict) -> Case {
    Case { name, only: Some("claude"), run }
}

const fn codex(name: &'static str, run: fn(&Fixture<'_>) -> Verdict) -> Case {
    Case { name, only: Some("codex"), run }
}

/// Every row, in the order of the table.
const ALL: &[Case] = &[
    both("detection", messages::detection),
    both("plain message", messages::plain),
    both("deltas", messages::deltas),
    both("prompt that looks like an option", messages::dashed),
    both("broken stream", messages::broken_stream),
    both("model, new and resumed session", messages::model),
    both("system prompt", messages::system_prompt),
    both("system prompt, resumed session", messages::system_prompt_resumed),
    both("appended prompt", messages::appended_prompt),
    both("appended prompt, resumed session", messages::appended_prompt_resumed),
    both("resume with history", messages::resume),
    both("invalid resume", messages::invalid_resume),
    both("lost session of a conversation", messages::lost_session),
    both("continue", messages::continued),
    both("tool call", tools::call),
    both("no tools", tools::none),
    both("no tools, resumed session", tools::none_resumed),
    both("reading tools alone", tools::reading),
    both("shell and reading, resumed session", tools::shell),
    both("MCP server", tools::mcp),
    both("MCP tools that are not to be used", tools::mcp_filters),
    both("MCP server that does not start", tools::mcp_broken),
    codex("MCP server that was added after detection, in a run without MCP", tools::mcp_added_later),
    both("read-only", bounds::read_only),
    both("read-only, by the CLI alone", bounds::read_only_by_cli),
    both("workspace-write", bounds::workspace_write),
    both("workspace-write, by the CLI alone", bounds::workspace_write_by_cli),
    both("nothing is approved, by the CLI alone", bounds::nothing_approved),
    both("no mode is named", bounds::no_mode),
    both("no network", bounds::no_network),
    both("no network and an MCP server over HTTP", bounds::no_network_with_http_server),
    both("settings of a foreign project", bounds::foreign_project),
    both("settings of a foreign project, by the CLI alone", bounds::foreign_project_by_cli),
    claude("scheduled prompts in a read-only run, by the CLI alone", bounds::scheduled_prompt),
    both("allowlist, prelude and environment", extras::shells),
    both("allowlist, by the CLI alone", extras::allowlist_by_cli),
    both("files and piped content", extras::files),
    both("image", extras::image),
    both("additional directory", extras::directory),
    both("structured output", extras::structured),
    both("structured output that never fits", extras::misfit),
    both("limit on turns", extras::max_turns),
    both("limit on cost", extras::max_budget),
    both("status 401", ends::refused_login),
    both("status 429", ends::too_many_requests),
    both("cancel while streaming", ends::cancel_in_stream),
    both("cancel while a tool runs", ends::cancel_in_tool),
    claude("command left in the background", ends::background),
    codex("broken configuration of the CLI", ends::broken_configuration),
];

/// Adds everything with which a repository can have the CLI run something. Each leaves a file in the folder `proof`.
fn plant(fixture: &Fixture<'_>, agent: &AgentFixture, work: &Path, proof: &Path) {
    if fixture.is_codex() {
        fs::create_dir_all(work.join(".codex")).unwrap();
        let touch = proof.join("server");
        let server = format!("command = \"/bin/sh\"\nargs = [\"-c\", \"touch {}\"]\n", touch.display());
        fs::write(work.join(".codex/config.toml"), format!("[mcp_servers.helpful]\n{server}")).unwrap();
        // The user has trusted the folder in codex once.
        let own = agent.own_folder().join("config.toml");
        let config = fs::read_to_string(&own).unwrap();
        let work = work.canonicalize().unwrap();
        let trust = format!("[projects.\"{}\"]\ntrust_level = \"trusted\"\n", work.display());
        fs::write(&own, format!("{config}{trust}")).unwrap();
        return;
    }
    hostile::settings_of_claude(work, proof);
}
