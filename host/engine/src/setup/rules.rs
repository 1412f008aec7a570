//! Connects redactor plugins with the matcher: converts the records of one into those of the other, because neither crate
//! depends on the other.

use std::sync::Arc;

use serde_json::Value;

use crate::setup::Failure;
use ostler_config::Config;
use ostler_plugin_host::{Kind, PluginState, RedactorInstance, Registry, types as plugin};
use ostler_protocol::{ApiError, ErrorKind};
use ostler_redaction::{
    Allow, AllowTarget, Block, Candidate, Fault, Find, OperatorRules, PluginRules, Redactor, RedactorPlugin, Rule,
    RuleSet,
};

/// The inputs of the matcher. It is built again only if they have changed.
#[derive(Debug)]
pub(crate) struct Redaction {
    /// The plugins that can be used, by name.
    loaded: Vec<(String, Arc<RedactorInstance>)>,
    redactor: Arc<Redactor>,
    /// The plugins that the matcher does not use.
    left_out: Vec<Failure>,
}

/// One matcher of all rules. If a redactor plugin cannot be loaded, the rules of the others still run; if none is left,
/// everything is withheld. Equal parts of `before`, which may have another configuration, are reused; a plugin that was
/// disabled since then keeps its rules.
pub(crate) fn redaction(
    config: &Config,
    registry: &Registry,
    before: Option<(&Redaction, &Config)>,
    failures: &mut Vec<Failure>,
) -> (Redaction, Arc<Redactor>) {
    let mut loaded = Vec::new();
    let listed = registry.list();
    for plugin in listed.iter().filter(|plugin| plugin.kind == Some(Kind::Redactor)) {
        match load(config, registry, before, &plugin.name, &plugin.state) {
            Ok(instance) => loaded.push((plugin.name.clone(), instance)),
            Err(failure) => failures.push(*failure),
        }
    }
    for name in config.plugins.redactor.keys() {
        if !listed.iter().any(|plugin| plugin.kind == Some(Kind::Redactor) && plugin.name == *name) {
            failures.push(failure(name, "there is no such redactor plugin"));
        }
    }
    let same = |old: &[(String, Arc<RedactorInstance>)]| {
        old.len() == loaded.len() && old.iter().zip(&loaded).all(|((_, old), (_, new))| Arc::ptr_eq(old, new))
    };
    let kept = before.filter(|(old, with)| with.redaction == config.redaction && same(&old.loaded));
    let redaction = kept.map_or_else(
        || {
            let mut left_out = Vec::new();
            let redactor = matcher(&loaded, config, &mut left_out);
            Redaction { loaded: loaded.clone(), redactor, left_out }
        },
        |(old, _)| Redaction {
            loaded: loaded.clone(),
            redactor: Arc::clone(&old.redactor),
            left_out: old.left_out.clone(),
        },
    );
    failures.extend(redaction.left_out.iter().cloned());
    let redactor = Arc::clone(&redaction.redactor);
    (redaction, redactor)
}

/// The matcher for `ostler redact`, which fails where a host would withhold.
///
/// # Errors
/// `PLUGIN_FAILED` if any redactor plugin or rule cannot be used.
pub fn load_redactor(config: &Config, registry: &Registry) -> Result<Arc<Redactor>, ApiError> {
    let mut failures = Vec::new();
    let (_, redactor) = redaction(config, registry, None, &mut failures);
    if failures.is_empty() {
        return Ok(redactor);
    }
    let reasons: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
    Err(ApiError::new(ErrorKind::PluginFailed, reasons.join("; ")).hint("`list_plugins` has the reason"))
}

fn failure(name: &str, reason: &str) -> Failure {
    let plugin = (Kind::Redactor, name.to_owned());
    Failure::plain(format!("/plugins/redactor/{name}"), Some(plugin), &format!("redactor {name}"), reason)
}

fn load(
    config: &Config,
    registry: &Registry,
    before: Option<(&Redaction, &Config)>,
    name: &str,
    state: &PluginState,
) -> Result<Arc<RedactorInstance>, Box<Failure>> {
    let configured = config.plugins.redactor.get(name);
    let kept = before
        .filter(|(_, with)| with.plugins.redactor.get(name) == configured)
        .and_then(|(old, _)| old.loaded.iter().find(|(known, instance)| known == name && instance.is_of(registry)));
    if let Some((_, instance)) = kept {
        return Ok(Arc::clone(instance));
    }
    // A disabled plugin may work with other settings; the registry decides.
    if let PluginState::Refused { reason } | PluginState::Waiting { reason } = state {
        return Err(Box::new(failure(name, reason)));
    }
    let settings = configured.map(|config| config.settings.clone()).unwrap_or_default();
    registry.redactor(name, &Value::Object(settings)).map_err(|error| {
        let (pointer, plugin) = (format!("/plugins/redactor/{name}"), (Kind::Redactor, name.to_owned()));
        Box::new(Failure::new(pointer, plugin, &format!("redactor {name}"), &error))
    })
}

/// Builds the matcher. A plugin whose pattern does not compile is not used; the others are.
fn matcher(loaded: &[(String, Arc<RedactorInstance>)], config: &Config, left_out: &mut Vec<Failure>) -> Arc<Redactor> {
    let rules = |(name, instance): &(String, Arc<RedactorInstance>)| PluginRules {
        name: name.clone(),
        rules: rule_set(instance.rules()),
        plugin: Arc::new(Guest(Arc::clone(instance))),
    };
    let mut plugins: Vec<PluginRules> = loaded.iter().map(rules).collect();
    while !plugins.is_empty() {
        let errors = match Redactor::compile(plugins.clone(), operator_rules(config)) {
            Ok(redactor) => return Arc::new(redactor),
            Err(errors) => errors,
        };
        let before = plugins.len();
        for error in &errors.0 {
            match plugins.iter().any(|plugin| plugin.name == error.source_name) {
                true => left_out.push(failure(&error.source_name, &format!("{}: {}", error.subject, error.message))),
                false => {
                    left_out.push(Failure::plain("/redaction".to_owned(), None, "redaction", &error.to_string()));
                }
            }
        }
        plugins.retain(|plugin| !errors.0.iter().any(|error| error.source_name == plugin.name));
        if plugins.len() == before {
            break;
        }
    }
    let reason = "no redactor plugin can run: all output is withheld";
    left_out.push(Failure::plain("/redaction".to_owned(), None, "redaction", reason));
    Arc::new(Redactor::withholding())
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
            ostler_config::AllowTarget::Secret => AllowTarget::Secret,
            ostler_config::AllowTarget::Match => AllowTarget::Match,
            ostler_config::AllowTarget::Line => AllowTarget::Line,
        },
        pattern: allow.pattern.clone(),
    });
    OperatorRules { rules: rules.collect(), allow: allow.collect() }
}

fn rule_set(set: &plugin::RuleSet) -> RuleSet {
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
            plugin::AllowTarget::Secret => AllowTarget::Secret,
            plugin::AllowTarget::Match => AllowTarget::Match,
            plugin::AllowTarget::Line => AllowTarget::Line,
        },
        pattern: allow.pattern.clone(),
    });
    RuleSet { rules: rules.collect(), allow: allow.collect(), scan_overlap: set.scan_overlap }
}

/// A redactor plugin, as the matcher calls it.
struct Guest(Arc<RedactorInstance>);

impl RedactorPlugin for Guest {
    fn verify(&self, candidates: &[Candidate]) -> Result<Vec<bool>, Fault> {
        let candidates: Vec<plugin::Candidate> = candidates
            .iter()
            .map(|candidate| plugin::Candidate {
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
