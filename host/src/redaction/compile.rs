//! From declared rules to one matcher.

use super::rules::{OperatorRules, PluginRules};

/// All rules of all plugins, ready to match. Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Redactor {
    names: Vec<String>,
}

/// One rule or exception that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {subject}: {message}")]
pub struct CompileError {
    /// Plugin, or `redaction` for the operator's own rules.
    pub source_name: String,
    /// Which rule and which field: ``rule `x`, pattern``.
    pub subject: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that is wrong with the rules, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to compile the redaction rules: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct CompileErrors(pub Vec<CompileError>);

impl Redactor {
    /// Compiles the rules of all plugins and of the operator into one matcher.
    ///
    /// # Errors
    /// Every rule or exception that cannot be used, with its plugin's name and its own.
    pub fn compile(plugins: Vec<PluginRules>, operator: OperatorRules) -> Result<Self, CompileErrors> {
        let names = operator.rules.into_iter().chain(plugins.into_iter().flat_map(|p| p.rules.rules)).map(|r| r.id);
        Ok(Self { names: names.collect() })
    }

    /// A redactor for when no rules can be had: all text but white space is replaced by `[REDACTED:withheld]`.
    pub fn withholding() -> Self {
        Self { names: Vec::new() }
    }

    /// Names of all rules, in order of precedence.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}
