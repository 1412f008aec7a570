//! The agent CLIs with an account of the scripted model server.

use super::{Cli, KEY};
use serde_json::json;
use std::fs;

/// codex.
pub static CODEX: Cli = Cli {
    name: "codex",
    variable: "OSTLER_TEST_CODEX",
    protocol: "responses",
    free_shell: || json!({ "permissions": { "sandboxMode": "full-access" } }),
    absent_session: "019a0000-0000-7000-8000-00000000dead",
    sessions: "sessions",
    dangerous_flag: "--dangerously-bypass-approvals-and-sandbox",
    settings: "{ modelProvider = \"scripted\", requestMaxRetries = 0, streamMaxRetries = 0 }",
    prepare_home: |home, server| {
        let config = format!(
            "model = \"scripted\"\nmodel_provider = \"scripted\"\n[model_providers.scripted]\nname = \"scripted\"\n\
             base_url = \"{}/v1\"\nwire_api = \"responses\"\nenv_key = \"SCRIPTED_KEY\"\n",
            server.url()
        );
        fs::write(home.join("config.toml"), config).unwrap();
        format!("{{ CODEX_HOME = \"{}\", SCRIPTED_KEY = \"{KEY}\" }}", home.display())
    },
};

/// claude.
pub static CLAUDE: Cli = Cli {
    name: "claude",
    variable: "OSTLER_TEST_CLAUDE",
    protocol: "messages",
    // As root, claude skips permissions only if this variable says that it is in a sandbox.
    free_shell: || json!({ "permissions": { "autoApprove": true }, "processEnv": { "IS_SANDBOX": "1" } }),
    absent_session: "019a0000-0000-7000-8000-00000000dead",
    sessions: "projects",
    dangerous_flag: "--dangerously-skip-permissions",
    settings: "{ maxRetries = 0 }",
    // claude prefers zsh, and sets its own PATH after the startup files of zsh.
    prepare_home: |home, server| {
        format!(
            "{{ CLAUDE_CONFIG_DIR = \"{}\", ANTHROPIC_BASE_URL = \"{}\", ANTHROPIC_API_KEY = \"{KEY}\", \
             SHELL = \"/bin/bash\" }}",
            home.display(),
            server.url()
        )
    },
};
