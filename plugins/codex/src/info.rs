//! Facts about codex that do not depend on its version.

use ostler_plugin::Containment;
use ostler_plugin::provider::ProviderInfo;
use ostler_provider_kit::variables::{NETWORK, inherited};

use crate::settings::Settings;

/// Variables that codex, or the Node.js wrapper that npm installs as `codex`, reads, except `RUST_LOG`.
const INHERITED: [&str; 8] = [
    "CODEX_HOME",
    "CODEX_SQLITE_HOME",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_CA_CERTIFICATE",
    "CODEX_OSS_*",
    "OPENAI_*",
    "AZURE_OPENAI_*",
];

/// Variables that a payload may set: its own credentials, and the log level.
const SETTABLE: [&str; 7] = [
    "AZURE_OPENAI_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
    "RUST_LOG",
];

pub(crate) fn describe(settings: &Settings) -> ProviderInfo {
    ProviderInfo {
        id: "codex".to_owned(),
        display_name: "Codex".to_owned(),
        executables: vec!["codex".to_owned()],
        install_hint: "install it with `npm install -g @openai/codex` (or `brew install --cask codex`), then log in with `codex login`"
            .to_owned(),
        default_model: settings.default_model.clone(),
        token_variable: Some(settings.token_variable.clone()),
        inherit_environment: inherited(&[&INHERITED, &NETWORK, &["RUST_LOG"]], &settings.token_variable, &settings.environment),
        extra: Some(containment(settings).to_extra()),
    }
}

/// Requirements of codex outside the working folder. Its home contains the login, which codex replaces when it refreshes it,
/// the sessions and the logs. The configuration in it starts programs (`mcp_servers`, `notify`), so a run must not change
/// it.
fn containment(settings: &Settings) -> Containment {
    Containment {
        write: ["${CODEX_HOME:-~/.codex}/", "$CODEX_SQLITE_HOME/", "~/.npm/_logs"].map(str::to_owned).to_vec(),
        protect: ["config.toml", "hooks.json", "AGENTS.md", ".env", "rules/", "prompts/", "skills/"]
            .map(|name| format!("${{CODEX_HOME:-~/.codex}}/{name}"))
            .to_vec(),
        hosts: ["api.openai.com", "auth.openai.com", "chatgpt.com", "*.chatgpt.com"].map(str::to_owned).to_vec(),
        settable: [&SETTABLE.map(str::to_owned), settings.environment.as_slice()].concat(),
        endpoints: ["AZURE_OPENAI_*", "CODEX_OSS_*", "OPENAI_*", "OTEL_*"].map(str::to_owned).to_vec(),
        // Its folders, certificates, login servers, and variables that it passes to its own helpers.
        code: vec!["CODEX_*".to_owned()],
        // Headers of MCP servers.
        sets: vec!["OSTLER_MCP_*".to_owned()],
        // Its MCP servers are configured there.
        detection: ["${CODEX_HOME:-~/.codex}/config.toml", "/etc/codex/config.toml", "/etc/codex/managed_config.toml"]
            .map(str::to_owned)
            .to_vec(),
        ..Containment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_depends_on_the_settings() {
        let settings = Settings {
            environment: vec!["ACME_KEY".to_owned(), "RUST_LOG".to_owned()],
            token_variable: "ACME_KEY".to_owned(),
            default_model: Some("m".to_owned()),
            ..Settings::default()
        };
        let info = describe(&settings);
        assert_eq!(info.token_variable.as_deref(), Some("ACME_KEY"));
        assert_eq!(info.default_model.as_deref(), Some("m"));
        assert_eq!(info.inherit_environment.iter().filter(|name| *name == "ACME_KEY").count(), 1);
        assert_eq!(info.inherit_environment.iter().filter(|name| *name == "RUST_LOG").count(), 1);
        assert_eq!(describe(&Settings::default()).token_variable.as_deref(), Some("CODEX_API_KEY"));
    }
}
