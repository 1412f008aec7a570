//! The bundled `secrets` plugin, called natively instead of as a component.

use std::sync::Arc;

use ostler_plugin::Plugin as _;
use ostler_plugin::Redactor as _;
use ostler_plugin::redactor as wit;
use ostler_plugin_secrets::Secrets;

use super::super::*;

struct Native(Secrets);

// The plugin is plain data without interior mutability.
impl RedactorPlugin for Native {
    fn verify(&self, candidates: &[Candidate]) -> Result<Vec<bool>, Fault> {
        let candidates = candidates
            .iter()
            .cloned()
            .map(|c| wit::Candidate { rule: c.rule, secret: c.secret, before: c.before, after: c.after })
            .collect();
        Ok(self.0.verify(candidates))
    }

    fn scan(&self, _text: &str) -> Result<Vec<Find>, Fault> {
        Err(Fault::new("the plugin does not ask for text"))
    }
}

/// The plugin with these settings.
pub(super) fn plugin(settings: &str) -> PluginRules {
    let secrets = Secrets::configure(serde_json::from_str(settings).unwrap()).unwrap();
    let declared = secrets.rules();
    let rules = declared.rules.into_iter().map(|r| Rule {
        id: r.id,
        description: r.description,
        pattern: r.pattern,
        secret_groups: r.secret_groups,
        keywords: r.keywords,
        whole_word: r.whole_word,
        min_entropy: r.min_entropy,
        max_length: r.max_length,
        block: r.block.map(|b| Block { body: b.body, end: b.end, max_lines: b.max_lines }),
        decoded: r.decoded,
        verify: r.verify,
    });
    let allow = declared.allow.into_iter().map(|a| Allow {
        rules: a.rules,
        target: match a.target {
            wit::AllowTarget::Secret => AllowTarget::Secret,
            wit::AllowTarget::Match => AllowTarget::Match,
            wit::AllowTarget::Line => AllowTarget::Line,
        },
        pattern: a.pattern,
    });
    PluginRules {
        name: "secrets".to_owned(),
        rules: RuleSet { rules: rules.collect(), allow: allow.collect(), scan_overlap: declared.scan_overlap },
        plugin: Arc::new(Native(secrets)),
    }
}
