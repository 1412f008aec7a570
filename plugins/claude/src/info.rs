//! Facts about claude that do not depend on its version.

use ostler_plugin::Containment;
use ostler_plugin::provider::ProviderInfo;
use ostler_provider_kit::variables::{NETWORK, inherited};

use crate::settings::Settings;

/// Variables that claude reads. `CLAUDE_CODE_*` as a whole is not included: variables that a claude sets for its own children
/// (its session, its entry point) would mislead a new process.
const INHERITED: [&str; 29] = [
    "ANTHROPIC_*",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_*",
    "CLAUDE_CODE_SKIP_*",
    "CLAUDE_CODE_CLIENT_*",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "CLAUDE_CODE_SHELL",
    "CLAUDE_CODE_TMPDIR",
    "CLAUDE_ENV_FILE",
    "CLOUD_ML_REGION",
    "VERTEX_REGION_*",
    "API_TIMEOUT_MS",
    "BASH_DEFAULT_TIMEOUT_MS",
    "BASH_MAX_TIMEOUT_MS",
    "BASH_MAX_OUTPUT_LENGTH",
    "MAX_THINKING_TOKENS",
    "MAX_MCP_OUTPUT_TOKENS",
    "MCP_TIMEOUT",
    "MCP_TOOL_TIMEOUT",
    "DISABLE_PROMPT_CACHING",
    "DISABLE_PROMPT_CACHING_*",
    "DISABLE_COMPACT",
    "DISABLE_AUTO_COMPACT",
    "USE_BUILTIN_RIPGREP",
    "IS_SANDBOX",
];

/// Variables that a payload may set: its own credentials, models, limits and switches. None of them selects code or a URL.
const SETTABLE: [&str; 34] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BETAS",
    "ANTHROPIC_DEFAULT_*",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "API_TIMEOUT_MS",
    "BASH_DEFAULT_TIMEOUT_MS",
    "BASH_MAX_OUTPUT_LENGTH",
    "BASH_MAX_TIMEOUT_MS",
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW",
    "CLAUDE_CODE_DISABLE_*",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "CLAUDE_CODE_FILE_READ_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_MAX_TOOL_USE_CONCURRENCY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "DISABLE_AUTO_COMPACT",
    "DISABLE_COMPACT",
    "DISABLE_ERROR_REPORTING",
    "DISABLE_INTERLEAVED_THINKING",
    "DISABLE_PROMPT_CACHING",
    "DISABLE_PROMPT_CACHING_*",
    "DISABLE_TELEMETRY",
    "ENABLE_PROMPT_CACHING_*",
    "IS_SANDBOX",
    "MAX_MCP_OUTPUT_TOKENS",
    "MAX_THINKING_TOKENS",
    "MCP_TIMEOUT",
    "MCP_TOOL_TIMEOUT",
    "USE_BUILTIN_RIPGREP",
];

/// Variables that determine where requests, credentials or telemetry are sent. claude has many, and each version adds more: its
/// whole namespace is included, except for those in `SETTABLE`.
const ENDPOINTS: [&str; 10] = [
    "AGENT_PROXY_*",
    "ANTHROPIC_*",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
    "CLAUDE_CODE_CLIENT_*",
    "CLAUDE_CODE_SKIP_*",
    "CLAUDE_CODE_USE_*",
    "OTEL_*",
    "SESSION_INGRESS_*",
    "USE_LOCAL_OAUTH",
    "USE_STAGING_OAUTH",
];

/// Variables that select code or configuration, for claude or for its runtime.
const CODE: [&str; 2] = ["BUN_*", "CLAUDE_*"];

/// Variables that the plugin sets.
const SETS: [&str; 9] = [
    "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_ENV_FILE",
    "DISABLE_AUTOUPDATER",
    "DISABLE_ERROR_REPORTING",
    "DISABLE_TELEMETRY",
    "OSTLER_DOLLAR",
];

pub(crate) fn describe(settings: &Settings) -> ProviderInfo {
    ProviderInfo {
        id: "claude".to_owned(),
        display_name: "Claude Code".to_owned(),
        executables: vec!["claude".to_owned()],
        install_hint: "install it with `npm install -g @anthropic-ai/claude-code`, then start `claude` once to log in"
            .to_owned(),
        default_model: settings.default_model.clone(),
        token_variable: Some(settings.token_variable.clone()),
        inherit_environment: inherited(&[&INHERITED, &NETWORK], &settings.token_variable, &settings.environment),
        extra: Some(containment(settings).to_extra()),
    }
}

/// Requirements of claude outside the working folder. It replaces `.claude.json` by a rename, which requires write access to
/// the whole folder: with `CLAUDE_CONFIG_DIR` the file is inside that folder. Its settings contain hooks and permissions, so
/// a run must not change them.
fn containment(settings: &Settings) -> Containment {
    const FOLDER: &str = "${CLAUDE_CONFIG_DIR:-~/.claude}";
    let protected =
        ["settings.json", "settings.local.json", "CLAUDE.md", "agents/", "commands/", "hooks/", "skills/", "plugins/"];
    Containment {
        write: [
            &format!("{FOLDER}/"),
            "~/.claude.json",
            "~/.cache/claude-cli-nodejs/",
            "~/.local/state/claude/",
            "~/.npm/_logs",
        ]
        .map(str::to_owned)
        .to_vec(),
        read: vec!["~/.local/share/claude".to_owned()],
        protect: protected.map(|name| format!("{FOLDER}/{name}")).to_vec(),
        hosts: ["api.anthropic.com", "claude.ai", "platform.claude.com", "console.anthropic.com"]
            .map(str::to_owned)
            .to_vec(),
        settable: [&SETTABLE.map(str::to_owned), settings.environment.as_slice()].concat(),
        endpoints: ENDPOINTS.map(str::to_owned).to_vec(),
        code: CODE.map(str::to_owned).to_vec(),
        sets: SETS.map(str::to_owned).to_vec(),
        detection: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_depends_on_the_settings() {
        let settings = Settings {
            environment: vec!["AWS_PROFILE".to_owned(), "MCP_TIMEOUT".to_owned()],
            token_variable: "CLAUDE_CODE_OAUTH_TOKEN".to_owned(),
            default_model: Some("opus".to_owned()),
            ..Settings::default()
        };
        let info = describe(&settings);
        assert_eq!(info.token_variable.as_deref(), Some("CLAUDE_CODE_OAUTH_TOKEN"));
        assert_eq!(info.default_model.as_deref(), Some("opus"));
        for name in ["AWS_PROFILE", "MCP_TIMEOUT", "CLAUDE_CODE_OAUTH_TOKEN"] {
            assert_eq!(info.inherit_environment.iter().filter(|known| *known == name).count(), 1, "{name}");
        }
        assert_eq!(describe(&Settings::default()).token_variable.as_deref(), Some("ANTHROPIC_API_KEY"));
    }
}
