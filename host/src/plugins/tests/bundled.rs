//! The plugins that the build script has made.

use serde_json::json;

use crate::plugins::{BUNDLED, Kind, PluginState, Registry, RegistryOptions};

#[test]
fn every_bundled_plugin_loads_and_is_what_it_is_called() {
    let cache = tempfile::tempdir().unwrap();
    let options = RegistryOptions {
        cache: Some(super::cache_options(&cache.path().join("cache"))),
        ..RegistryOptions::default()
    };
    let (registry, problems) = Registry::open(&options).unwrap();
    assert_eq!(problems, []);
    let listed = registry.list();
    assert_eq!(listed.len(), BUNDLED.len());
    for bundled in BUNDLED {
        let plugin = listed.iter().find(|plugin| plugin.name == bundled.name && plugin.kind == Some(bundled.kind));
        let plugin = plugin.unwrap_or_else(|| panic!("{} is not what it is called: {listed:?}", bundled.name));
        assert_eq!(plugin.state, PluginState::Ready);
        assert!(!plugin.summary.is_empty() && plugin.settings_schema.is_some(), "{plugin:?}");
    }
    assert_eq!(Registry::open(&options).unwrap().0.compiled(), 0);
}

#[test]
fn bundled_plugins_take_empty_settings() {
    let (registry, _) = Registry::open(&RegistryOptions::default()).unwrap();
    for bundled in BUNDLED {
        let settings = json!({});
        let outcome = match bundled.kind {
            Kind::Provider => registry.provider(bundled.name, &settings).map(drop),
            Kind::Redactor => registry.redactor(bundled.name, &settings).map(drop),
            Kind::Policy => registry.policy(bundled.name, &settings).map(drop),
        };
        assert_eq!(outcome, Ok(()), "{}", bundled.name);
    }
}
