//! Checks a configuration with its plugins before a host starts with it.

use serde_json::{Map, Value};

use ostler_config::{Config, ConfigDiagnostic};
use ostler_plugin_host::{Kind, PluginError, PluginErrorKind, PluginState, Registry};
use ostler_protocol::pointer_names;

/// Everything in the configuration that would be refused: unknown plugins, settings that a plugin does not accept, and
/// missing programs. Blocks; calls plugins.
#[must_use]
pub fn plugin_diagnostics(config: &Config, registry: &Registry) -> Vec<ConfigDiagnostic> {
    let mut all = Vec::new();
    for (name, provider) in &config.providers {
        let at = ["providers", name];
        match registry.provider(&provider.plugin, &settings(&provider.settings)) {
            Ok(instance) if instance.describe().executables.is_empty() && provider.executable.is_none() => {
                all.push(ConfigDiagnostic {
                    path: path(&at, []),
                    message: format!("plugin {} runs any program, and none is configured", provider.plugin),
                    hint: Some("add executable".to_owned()),
                });
            }
            Ok(_) => {}
            Err(error) => add_diagnostics(&at, Kind::Provider, &provider.plugin, &error, registry, &mut all),
        }
    }
    for (name, plugin) in &config.plugins.redactor {
        if let Err(error) = registry.redactor(name, &settings(&plugin.settings)) {
            add_diagnostics(&["plugins", "redactor", name], Kind::Redactor, name, &error, registry, &mut all);
        }
    }
    for (name, plugin) in &config.plugins.policy {
        if let Err(error) = registry.policy(name, &settings(&plugin.settings)) {
            add_diagnostics(&["plugins", "policy", name], Kind::Policy, name, &error, registry, &mut all);
        }
    }
    all
}

fn settings(settings: &Map<String, Value>) -> Value {
    Value::Object(settings.clone())
}

fn path<const N: usize>(at: &[&str], more: [&str; N]) -> Vec<String> {
    at.iter().chain(&more).map(|step| (*step).to_owned()).collect()
}

/// One diagnostic for each problem of the settings, or one about the plugin.
fn add_diagnostics(
    at: &[&str],
    kind: Kind,
    plugin: &str,
    error: &PluginError,
    registry: &Registry,
    all: &mut Vec<ConfigDiagnostic>,
) {
    match &error.kind {
        PluginErrorKind::NotFound => {
            let listed = registry.list();
            let ready = listed.iter().filter(|other| other.kind == Some(kind) && other.state == PluginState::Ready);
            let known = ready.map(|other| other.name.as_str());
            all.push(ConfigDiagnostic::unknown(path(at, ["plugin"]), error.message.clone(), plugin, known));
        }
        PluginErrorKind::Settings(problems) => {
            for problem in problems {
                let mut path = path(at, ["settings"]);
                path.extend(pointer_names(&problem.pointer));
                all.push(ConfigDiagnostic { path, message: problem.message.clone(), hint: None });
            }
        }
        _ => all.push(ConfigDiagnostic { path: path(at, ["plugin"]), message: error.message.clone(), hint: None }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use ostler_plugin_host::RegistryOptions;

    #[test]
    fn settings_that_a_plugin_does_not_accept_are_named() {
        let config = Config::parse(
            "[providers.claude.settings]\nmaxRetries = -1\nenviroment = [\"A\"]\nenvironment = [\"A\", \"B C\"]\n\
             [providers.work]\nplugin = \"claud\"\n[providers.codx]\n[providers.any]\nplugin = \"command\"\n\
             [plugins.redactor.secrts]\n[plugins.policy.guardrails]\nsettings = { nonsense = 1 }\n\
             [providers.fine]\nplugin = \"codex\"\nsettings = { requestMaxRetries = 3 }\n",
        )
        .unwrap();
        let (registry, _) = Registry::open(&RegistryOptions::default()).unwrap();
        let found: Vec<(String, Option<String>)> = plugin_diagnostics(&config, &registry)
            .into_iter()
            .map(|diagnostic| (diagnostic.path.join("/"), diagnostic.hint))
            .collect();
        let hint = |near: &str| Some(format!("did you mean {near:?}?"));
        for wanted in [
            ("providers/claude/settings/maxRetries", None),
            ("providers/claude/settings/enviroment", None),
            ("providers/claude/settings/environment/1", None),
            ("providers/work/plugin", hint("claude")),
            ("providers/codx/plugin", hint("codex")),
            ("providers/any", Some("add executable".to_owned())),
            ("plugins/redactor/secrts/plugin", hint("secrets")),
            ("plugins/policy/guardrails/settings/nonsense", None),
        ] {
            assert!(found.contains(&(wanted.0.to_owned(), wanted.1.clone())), "{wanted:?}: {found:#?}");
        }
        assert!(!found.iter().any(|(path, _)| path.starts_with("providers/fine")), "{found:#?}");
    }

    #[test]
    fn problems_beyond_the_schema_come_from_the_plugin() {
        let config =
            Config::parse("[providers.claude.settings]\nconfig = { permissions = { allow = \"Bash\" } }\n").unwrap();
        let (registry, _) = Registry::open(&RegistryOptions::default()).unwrap();
        let found = plugin_diagnostics(&config, &registry);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path.join("/"), "providers/claude/settings/config/permissions/allow");
    }
}
