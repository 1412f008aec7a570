//! Between redactor plugins and the matcher: the same records under two roofs, because neither module knows the other.

use std::sync::Arc;

use serde_json::Value;

use super::setup::Problems;
use crate::config::Config;
use crate::model::{ApiError, ErrorKind};
use crate::plugins::{Kind, PluginState, RedactorInstance, Registry, types as guest};
use crate::redaction::{
    Allow, AllowTarget, Block, Candidate, Fault, Find, OperatorRules, PluginRules, Redactor, RedactorPlugin, Rule,
    RuleSet,
};

/// One matcher of all rules. If a redactor plugin cannot be loaded, the rules of the others still run; if none is left,
/// everything is withheld.
pub(super) fn redactor(config: &Config, registry: &Registry, problems: &mut Problems) -> Arc<Redactor> {
    let mut listed = registry.list();
    listed.retain(|plugin| plugin.kind == Some(Kind::Redactor));
    let mut loaded = Vec::new();
    for plugin in &listed {
        match load(config, registry, &plugin.name, &plugin.state) {
            Ok(rules) => loaded.push(rules),
            Err(reason) => {
                let told = format!("redactor {}: {reason}", plugin.name);
                problems.plugin(Kind::Redactor, &plugin.name, &reason, told);
            }
        }
    }
    for name in config.plugins.redactor.keys().filter(|name| !listed.iter().any(|plugin| plugin.name == **name)) {
        problems.told.push(format!("redactor {name}: there is no such redactor plugin"));
    }
    if let Some(redactor) = compile(&mut loaded, config, problems) {
        return Arc::new(redactor);
    }
    problems.told.push("no redactor plugin can run: all output is withheld".to_owned());
    Arc::new(Redactor::withholding())
}

/// The matcher for `ostler redact`, which fails where a host would withhold.
///
/// # Errors
/// `PLUGIN_FAILED` if any redactor plugin or rule cannot be used.
pub fn load_redactor(config: &Config, registry: &Registry) -> Result<Arc<Redactor>, ApiError> {
    let mut problems = Problems::default();
    let redactor = redactor(config, registry, &mut problems);
    if problems.told.is_empty() {
        return Ok(redactor);
    }
    Err(ApiError::new(ErrorKind::PluginFailed, problems.told.join("; ")).hint("see `ostler plugin list`"))
}

fn load(config: &Config, registry: &Registry, name: &str, state: &PluginState) -> Result<PluginRules, String> {
    if let PluginState::SetAside { reason } | PluginState::Refused { reason } = state {
        return Err(reason.clone());
    }
    let settings = config.plugins.redactor.get(name).map(|config| config.settings.clone()).unwrap_or_default();
    let instance = registry.redactor(name, &Value::Object(settings)).map_err(|error| error.to_string())?;
    let rules = rule_set(instance.rules());
    Ok(PluginRules { name: name.to_owned(), rules, plugin: Arc::new(Guest(instance)) })
}

/// A plugin whose pattern does not compile is left out, by name; the others go on.
fn compile(loaded: &mut Vec<PluginRules>, config: &Config, problems: &mut Problems) -> Option<Redactor> {
    while !loaded.is_empty() {
        match Redactor::compile(loaded.clone(), operator_rules(config)) {
            Ok(redactor) => return Some(redactor),
            Err(errors) => {
                problems.told.push(format!("redaction: {errors}"));
                let before = loaded.len();
                loaded.retain(|plugin| {
                    let wrong = errors.0.iter().find(|error| error.source_name == plugin.name);
                    if let Some(error) = wrong {
                        problems.fail(Kind::Redactor, &plugin.name, error.to_string());
                    }
                    wrong.is_none()
                });
                if loaded.len() == before {
                    return None;
                }
            }
        }
    }
    None
}

fn operator_rules(config: &Config) -> OperatorRules {
    let rules = config.redaction.rules.iter().map(|rule| Rule {
        description: rule.description.clone(),
        secret_groups: rule.secret_groups.clone(),
        keywords: rule.keywords.clone(),
        whole_word: rule.whole_word,
        min_entropy: rule.min_entropy,
        max_length: rule.max_length,
        decoded: rule.decoded,
        ..Rule::new(rule.id.clone(), rule.pattern.clone())
    });
    let allow = config.redaction.allow.iter().map(|allow| Allow {
        rules: allow.rules.clone(),
        target: match allow.target {
            crate::config::AllowTarget::Secret => AllowTarget::Secret,
            crate::config::AllowTarget::Match => AllowTarget::Match,
            crate::config::AllowTarget::Line => AllowTarget::Line,
        },
        pattern: allow.pattern.clone(),
    });
    OperatorRules { rules: rules.collect(), allow: allow.collect() }
}

fn rule_set(set: &guest::RuleSet) -> RuleSet {
    let rules = set.rules.iter().map(|rule| Rule {
        id: rule.id.clone(),
        description: rule.description.clone(),
        pattern: rule.pattern.clone(),
        secret_groups: rule.secret_groups.clone(),
        keywords: rule.keywords.clone(),
        whole_word: rule.whole_word,
        min_entropy: rule.min_entropy,
        max_length: rule.max_length,
        block: rule.block.as_ref().map(|block| Block {
            body: block.body.clone(),
            end: block.end.clone(),
            max_lines: block.max_lines,
        }),
        decoded: rule.decoded,
        verify: rule.verify,
    });
    let allow = set.allow.iter().map(|allow| Allow {
        rules: allow.rules.clone(),
        target: match allow.target {
            guest::AllowTarget::Secret => AllowTarget::Secret,
            guest::AllowTarget::Match => AllowTarget::Match,
            guest::AllowTarget::Line => AllowTarget::Line,
        },
        pattern: allow.pattern.clone(),
    });
    RuleSet { rules: rules.collect(), allow: allow.collect(), scan_overlap: set.scan_overlap }
}

/// A redactor plugin, as the matcher calls it.
struct Guest(Arc<RedactorInstance>);

impl RedactorPlugin for Guest {
    fn verify(&self, candidates: &[Candidate]) -> Result<Vec<bool>, Fault> {
        let candidates: Vec<guest::Candidate> = candidates
            .iter()
            .map(|candidate| guest::Candidate {
                rule: candidate.rule.clone(),
                secret: candidate.secret.clone(),
                before: candidate.before.clone(),
                after: candidate.after.clone(),
            })
            .collect();
        self.0.verify(&candidates).map_err(|error| Fault::new(error.to_string()))
    }

    fn scan(&self, text: &str) -> Result<Vec<Find>, Fault> {
        let found = self.0.scan(text).map_err(|error| Fault::new(error.to_string()))?;
        Ok(found.into_iter().map(|find| Find { rule: find.rule, secret: find.secret }).collect())
    }
}
