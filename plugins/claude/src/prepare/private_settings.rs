//! The private `settings.json` of a run: the settings of the instance, and those that the run requires.

use serde_json::{Map, Value, json};

use crate::settings::Settings;

/// Characters that permission rules treat as patterns.
const PATTERNS: [char; 10] = ['*', '?', '[', ']', '(', ')', '{', '}', '!', '\\'];

#[derive(Debug, Default)]
pub(super) struct PrivateSettings {
    config: Map<String, Value>,
    allow: Vec<String>,
    deny: Vec<String>,
    watches_start: bool,
}

impl PrivateSettings {
    pub(super) fn new(settings: &Settings, own_sandbox: bool) -> Self {
        let mut config = settings.config.clone();
        if settings.sandbox && own_sandbox {
            let sandbox = config.entry("sandbox").or_insert_with(|| json!({}));
            if let Value::Object(sandbox) = sandbox {
                sandbox.insert("enabled".to_owned(), true.into());
                // Without these, claude would continue without a sandbox if it cannot start, and the model could leave it.
                sandbox.insert("failIfUnavailable".to_owned(), true.into());
                sandbox.insert("allowUnsandboxedCommands".to_owned(), false.into());
            }
        }
        if !own_sandbox {
            // It cannot start inside the host's sandbox, whatever the user's own settings are.
            config.insert("sandbox".to_owned(), json!({"enabled": false}));
        }
        Self { config, ..Self::default() }
    }

    /// Sets whether sandboxed commands run without approval.
    pub(super) fn approve_sandboxed(&mut self, approve: bool) {
        if let Some(Value::Object(sandbox)) = self.config.get_mut("sandbox") {
            sandbox.insert("autoAllowBashIfSandboxed".to_owned(), approve.into());
        }
    }

    /// Whether the configuration lets commands leave the sandbox, or use the network inside it.
    pub(super) fn opens_sandbox(&self) -> bool {
        let sandbox = self.config.get("sandbox").unwrap_or(&Value::Null);
        let some =
            |pointer: &str| sandbox.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        some("/excludedCommands") || some("/network/allowedDomains")
    }

    /// Disables approval by a model, unless the settings of the instance enable it.
    pub(super) fn without_auto_mode(&mut self) {
        let wanted = self.config.get("permissions").and_then(|permissions| permissions.get("defaultMode"));
        if wanted.is_some_and(|mode| mode == crate::detect::AUTO) {
            return;
        }
        let permissions = self.config.entry("permissions").or_insert_with(|| json!({}));
        if let Value::Object(permissions) = permissions {
            permissions.entry("disableAutoMode").or_insert_with(|| "disable".into());
        }
    }

    pub(super) fn allow(&mut self, rule: impl Into<String>) {
        self.allow.push(rule.into());
    }

    pub(super) fn deny(&mut self, rule: impl Into<String>) {
        let rule = rule.into();
        if !self.deny.contains(&rule) {
            self.deny.push(rule);
        }
    }

    /// Lets `Read` open one file by its absolute path, which must be plain.
    pub(super) fn allow_reading(&mut self, path: &str) {
        self.allow(format!("Read(/{path})"));
    }

    /// Makes claude report in its output how the session started.
    pub(super) fn watch_the_start(&mut self) {
        self.watches_start = true;
    }

    /// The document; none if it is empty.
    pub(super) fn document(&mut self) -> Option<String> {
        let mut config = std::mem::take(&mut self.config);
        for (list, rules) in [("allow", &mut self.allow), ("deny", &mut self.deny)] {
            append(&mut config, "permissions", list, rules.drain(..).map(Value::from).collect());
        }
        if self.watches_start {
            let hook = json!({ "hooks": [{ "type": "command", "command": "true", "timeout": 5 }] });
            append(&mut config, "hooks", "SessionStart", vec![hook]);
        }
        (!config.is_empty()).then(|| Value::Object(config).to_string())
    }
}

/// Whether a rule can contain this absolute path.
pub(super) fn is_plain(path: &str) -> bool {
    let plain = path.starts_with('/') && !path.contains(PATTERNS) && !path.chars().any(char::is_control);
    plain && !path.ends_with([' ', '/'])
}

/// Adds to a list of the document, which can already exist.
fn append(config: &mut Map<String, Value>, block: &str, list: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    let block = config.entry(block).or_insert_with(|| json!({}));
    if let Value::Object(block) = block
        && let Value::Array(entries) = block.entry(list).or_insert_with(|| json!([]))
    {
        entries.extend(more);
    }
}
