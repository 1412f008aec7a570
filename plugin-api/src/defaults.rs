//! Default values of records, so that authors write only the fields that they need: `Step { events, ..Step::default() }`.

use crate::policy::Context;
use crate::provider::{
    Capabilities, Channel, ExitStatus, HostFacts, Launch, Outcome, OutputForm, ProviderInfo, RunMode, RunRequest, Step,
    StopSignal, Support, Usage,
};
use crate::redactor::{Rule, RuleSet};
use crate::types::ToolCall;

impl Default for ProviderInfo {
    /// Empty: `id`, `display_name` and `executables` must be set.
    fn default() -> Self {
        Self {
            id: String::new(),
            display_name: String::new(),
            executables: Vec::new(),
            install_hint: String::new(),
            default_model: None,
            token_variable: None,
            inherit_environment: Vec::new(),
            extra: None,
        }
    }
}

impl Default for Capabilities {
    /// Supported, with non-interactive runs and no features.
    fn default() -> Self {
        Self {
            support: Support::Supported,
            cli_version: None,
            features: Vec::new(),
            modes: vec![RunMode::NonInteractive],
            optional_flags: Vec::new(),
            reasons: Vec::new(),
            extra: None,
        }
    }
}

impl Default for HostFacts {
    /// Linux, not root, no variables.
    fn default() -> Self {
        Self { os: "linux".to_owned(), root: false, environment_names: Vec::new(), extra: None }
    }
}

impl Default for RunRequest {
    /// The first attempt of a run with an empty prompt, for tests.
    fn default() -> Self {
        Self {
            run_id: "run".to_owned(),
            attempt: 1,
            fresh_id: "00000000-0000-4000-8000-000000000000".to_owned(),
            mode: RunMode::NonInteractive,
            prompt: String::new(),
            model: None,
            cwd: "/work".to_owned(),
            resume_session: None,
            private_dir: "/private".to_owned(),
            attachments: Vec::new(),
            host: HostFacts::default(),
            payload: "{}".to_owned(),
        }
    }
}

impl Default for Launch {
    /// No arguments, empty standard input, output as lines, stopped by an interrupt.
    fn default() -> Self {
        Self {
            args: Vec::new(),
            environment: Vec::new(),
            stdin: None,
            files: Vec::new(),
            collect: Vec::new(),
            channel: Channel::Pipes,
            output: OutputForm::Lines,
            stop: StopSignal::Interrupt,
            dropped: Vec::new(),
            extra: None,
        }
    }
}

impl Default for Step {
    /// No events and nothing to write.
    fn default() -> Self {
        Self { events: Vec::new(), covered: Vec::new(), write: Vec::new(), end_input: false }
    }
}

impl Default for Outcome {
    /// Success without a text.
    fn default() -> Self {
        Self { final_text: None, structured_output: None, failure: None, extra: None }
    }
}

impl Default for ExitStatus {
    /// No exit code and no signal: set one of them.
    fn default() -> Self {
        Self { code: None, signal: None, timed_out: false, canceled: false }
    }
}

impl Default for Usage {
    /// Nothing reported.
    fn default() -> Self {
        Self {
            whole_session: false,
            input_tokens: None,
            cached_input_tokens: None,
            cache_write_tokens: None,
            output_tokens: None,
            reasoning_tokens: None,
            cost_micro_usd: None,
            others: Vec::new(),
        }
    }
}

impl Default for ToolCall {
    /// A use of a tool of the kind `other`.
    fn default() -> Self {
        Self {
            id: String::new(),
            kind: crate::vocabulary::tools::OTHER.to_owned(),
            name: String::new(),
            input: "null".to_owned(),
            commands: Vec::new(),
            cwd: None,
            files: Vec::new(),
            urls: Vec::new(),
            mcp: None,
            parent: None,
            extra: None,
        }
    }
}

impl Default for Rule {
    /// The whole match is the secret, with at most 256 bytes; `id` and `pattern` must be set.
    fn default() -> Self {
        Self {
            id: String::new(),
            description: String::new(),
            pattern: String::new(),
            secret_groups: Vec::new(),
            keywords: Vec::new(),
            whole_word: false,
            min_entropy: None,
            max_length: 256,
            block: None,
            decoded: false,
            verify: false,
            extra: None,
        }
    }
}

impl Default for RuleSet {
    /// No rules and no exceptions; `scan` is not called.
    fn default() -> Self {
        Self { rules: Vec::new(), allow: Vec::new(), scan_overlap: None, extra: None }
    }
}

impl Default for Context {
    /// A run of the provider `codex` before it is queued, from the command line, without a grant; for tests.
    fn default() -> Self {
        Self {
            run_id: None,
            attempt: 0,
            provider: "codex".to_owned(),
            plugin: "codex".to_owned(),
            origin: "cli".to_owned(),
            user: "user".to_owned(),
            cwd: "/work".to_owned(),
            workspace_grant: None,
            paths: Vec::new(),
            profile: None,
            capabilities: "{}".to_owned(),
            advanced: false,
            now_rfc3339: "2026-01-01T12:00:00+00:00".to_owned(),
            facts: "{}".to_owned(),
        }
    }
}
