//! Facts about claude that do not depend on its version.

use ostler_plugin::Containment;
use ostler_plugin::provider::ProviderInfo;
use ostler_provider_kit::variables::{NETWORK, contained, inherited};

use crate::settings::Settings;

/// Variables that claude reads. Not `CLAUDE_CODE_*` as a whole: what a claude sets for its own children (its session,
/// its entry point) would mislead one that is started anew.
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

/// What claude needs outside of the work folder. It replaces `.claude.json` by a rename, which works only where the
/// whole folder can be written: with `CLAUDE_CONFIG_DIR` the file lies inside of that folder. Its settings name hooks
/// and permissions, so a run must not change them.
fn containment(settings: &Settings) -> Containment {
    let folders = ["$CLAUDE_CONFIG_DIR", "~/.claude"];
    let protected =
        ["settings.json", "settings.local.json", "CLAUDE.md", "agents", "commands", "hooks", "skills", "plugins"];
    Containment {
        write: [
            "$CLAUDE_CONFIG_DIR/",
            "~/.claude/",
            "~/.claude.json",
            "~/.cache/claude-cli-nodejs/",
            "~/.local/state/claude/",
            "~/.npm/_logs/",
        ]
        .map(str::to_owned)
        .to_vec(),
        read: vec!["~/.local/share/claude".to_owned()],
        protect: folders.iter().flat_map(|folder| protected.map(|name| format!("{folder}/{name}"))).collect(),
        hosts: ["api.anthropic.com", "claude.ai", "platform.claude.com", "console.anthropic.com"]
            .map(str::to_owned)
            .to_vec(),
        endpoints: [
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_BEDROCK_*",
            "ANTHROPIC_VERTEX_*",
            "ANTHROPIC_FOUNDRY_*",
            "CLAUDE_CODE_USE_*",
            "CLAUDE_CODE_SKIP_*",
            "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
        ]
        .map(str::to_owned)
        .to_vec(),
        code: [
            "CLAUDE_CONFIG_DIR",
            "CLAUDE_ENV_FILE",
            "CLAUDE_CODE_SHELL",
            "CLAUDE_CODE_SHELL_PREFIX",
            "CLAUDE_CODE_TMPDIR",
            "BUN_*",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..contained(&settings.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_shape_the_description() {
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
