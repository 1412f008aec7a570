//! `ostler plugin`

use clap::{Args, Subcommand};
use serde_json::json;

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::option_names;
use super::output::{BAD, GOOD, WARN};
use super::table::{Cell, Table};
use ostler_protocol::ApiError;
use ostler_protocol::methods::{ListPluginsResult, TrustPluginResult};

const EXAMPLES: &str = "\
Examples:
  ostler plugin list
  ostler plugin list --json | jq '.plugins[] | {name, digest}'
  ostler plugin trust opencode        show what a new provider runs and approve it";

const TRUST_EXAMPLES: &str = "\
Examples:
  ostler plugin trust opencode --dry-run    only show it
  ostler plugin trust opencode

Nothing of a new provider plugin runs before its digest is approved. A changed file must be approved again. \
[plugins.provider.NAME] sha256 = \"...\" in config.toml approves exactly one digest.";

/// Show plugins and their providers, and approve new ones
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all plugins, including refused ones, and the providers
    #[command(after_help = EXAMPLES)]
    List,
    /// Show what a new provider plugin runs and reads, and approve it
    #[command(after_help = TRUST_EXAMPLES)]
    Trust {
        /// Name of a provider plugin that waits for approval
        name: String,
        /// Only show it, do not approve it
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::Trust { name, dry_run } => trust(context, name, *dry_run).await,
        Action::List => {
            let listed = context.client().await?.list_plugins().await?;
            if context.json {
                context.out.document(&listed)?;
            } else {
                let (width, color) = (context.out.width, context.out.color);
                context.out.write(&render(&listed, width, color))?;
            }
            Ok(Exit::Done)
        }
    }
}

async fn trust(context: &mut Context<'_>, name: &str, dry_run: bool) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let seen = client.trust_plugin(name.to_owned(), None).await?;
    // Approve the digest that was shown, even if the file has changed since.
    let digest = seen.digest.clone();
    let result = if dry_run { seen } else { client.trust_plugin(name.to_owned(), Some(digest)).await? };
    if context.json {
        context.out.document(&result)?;
    } else {
        context.out.write(&declaration(&result))?;
    }
    Ok(Exit::Done)
}

/// Describes what a provider plugin runs and reads, and whether it is approved.
fn declaration(plugin: &TrustPluginResult) -> String {
    let list = |items: &[String]| {
        let items: Vec<String> = items.iter().map(|item| clean::line(item)).collect();
        if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
    };
    let (name, version) = (clean::line(&plugin.name), clean::line(&plugin.version));
    let mut text = format!("{name} {version}, sha256 {}\n", plugin.digest);
    text.push_str(&format!("runs       {}\n", list(&plugin.executables)));
    for probe in &plugin.probes {
        let args: Vec<String> = probe.args.iter().map(|arg| clean::json(&json!(arg).to_string())).collect();
        text.push_str(&format!("probes it  {}\n", args.join(" ")));
        if !probe.environment.is_empty() {
            text.push_str(&format!("  sets     {}\n", list(&probe.environment)));
        }
    }
    text.push_str(&format!("inherits   {}\n", list(&plugin.inherit_environment)));
    if let Some(variable) = &plugin.token_variable {
        text.push_str(&format!("token in   {}\n", clean::line(variable)));
    }
    for (title, items) in [("writes    ", &plugin.writes), ("reads     ", &plugin.reads), ("reaches   ", &plugin.hosts)]
    {
        if !items.is_empty() {
            text.push_str(&format!("{title} {}\n", list(items)));
        }
    }
    text.push_str(if plugin.approved { "approved\n" } else { "not approved\n" });
    text
}

fn render(listed: &ListPluginsResult, width: Option<usize>, color: bool) -> String {
    let mut plugins = Table::new(&["PLUGIN", "KIND", "VERSION", "STATE", "DIGEST", "SOURCE", "SUMMARY"], 6);
    for plugin in &listed.plugins {
        let style = match plugin.state.as_str() {
            "ready" => GOOD,
            "set-aside" | "waiting" => WARN,
            _ => BAD,
        };
        plugins.row(vec![
            plugin.name.as_str().into(),
            plugin.kind.as_deref().unwrap_or("?").into(),
            plugin.version.as_deref().unwrap_or("?").into(),
            Cell::styled(style, &plugin.state),
            plugin.digest.get(..12).unwrap_or(&plugin.digest).into(),
            plugin.source.as_str().into(),
            plugin.summary.as_deref().unwrap_or_default().into(),
        ]);
    }
    let mut text = plugins.render(width, color);
    for plugin in &listed.plugins {
        if let Some(reason) = &plugin.reason {
            text.push_str(&format!("{}: {}\n", clean::line(&plugin.name), clean::line(&option_names::message(reason))));
        }
        if let Some(reason) = &plugin.displaced {
            let (name, reason) = (clean::line(&plugin.name), clean::line(&option_names::message(reason)));
            text.push_str(&format!(
                "{name}: its file cannot be used now, so the previous one stays active: {reason}\n"
            ));
        }
    }
    if listed.providers.is_empty() {
        return text;
    }
    let mut providers = Table::new(&["PROVIDER", "PLUGIN", "MODEL", "NAME"], 3);
    for provider in &listed.providers {
        providers.row(vec![
            provider.name.as_str().into(),
            provider.plugin.as_str().into(),
            provider.default_model.as_deref().unwrap_or_default().into(),
            provider.display_name.as_str().into(),
        ]);
    }
    text.push('\n');
    text.push_str(&providers.render(width, color));
    for provider in &listed.providers {
        if let Some(problem) = &provider.problem {
            text.push_str(&format!(
                "{}: {}\n",
                clean::line(&provider.name),
                clean::line(&option_names::message(problem))
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn declaration_lists_everything_that_runs() {
        let plugin: TrustPluginResult = serde_json::from_value(serde_json::json!({
            "name": "mini", "version": "0.1.0", "digest": "ab", "executables": ["mini", "mini\u{1b}[2J"],
            "probes": [{"args": ["-c", "date > x"], "environment": ["A"]}], "inheritEnvironment": [], "approved": false
        }))
        .unwrap();
        insta::assert_snapshot!(declaration(&plugin), @r#"
        mini 0.1.0, sha256 ab
        runs       mini, mini␛[2J
        probes it  "-c" "date > x"
          sets     A
        inherits   nothing
        not approved
        "#);
    }

    #[test]
    fn shows_reasons_of_refused_plugins_and_broken_providers() {
        let listed: ListPluginsResult = serde_json::from_value(serde_json::json!({
            "plugins": [
                {"name": "codex", "kind": "provider", "version": "0.1.0", "summary": "OpenAI Codex", "state": "ready",
                 "digest": "0123456789abcdef0123", "source": "bundled"},
                {"name": "guardrails", "kind": "policy", "version": "0.1.0", "summary": "Ranges", "state": "ready",
                 "digest": "00", "source": "/p/g.wasm", "displaced": "it is damaged"},
                {"name": "evil.wasm", "kind": null, "version": null, "summary": null, "state": "refused",
                 "digest": "ff", "source": "/p/evil.wasm", "reason": "it imports wasi:cli/environment"}
            ],
            "providers": [
                {"name": "codex", "plugin": "codex", "displayName": "Codex", "inheritEnvironment": [],
                 "problem": "its executable is not a file"}
            ]
        }))
        .unwrap();
        insta::assert_snapshot!(render(&listed, Some(90), false), @r"
        PLUGIN      KIND      VERSION  STATE    DIGEST        SOURCE        SUMMARY
        codex       provider  0.1.0    ready    0123456789ab  bundled       OpenAI Codex
        guardrails  policy    0.1.0    ready    00            /p/g.wasm     Ranges
        evil.wasm   ?         ?        refused  ff            /p/evil.wasm
        guardrails: its file cannot be used now, so the previous one stays active: it is damaged
        evil.wasm: it imports wasi:cli/environment

        PROVIDER  PLUGIN  MODEL  NAME
        codex     codex          Codex
        codex: its executable is not a file
        ");
    }
}
