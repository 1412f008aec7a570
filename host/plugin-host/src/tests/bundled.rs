//! The plugins that the build script has made.

use serde_json::json;

use crate::{BUNDLED, Kind, PluginState, Registry, RegistryOptions};

#[test]
fn every_bundled_plugin_loads_with_its_name_and_kind() {
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
fn embedded_code_is_rejected_by_an_engine_with_other_settings() {
    use crate::runtime::{embedded_code, single_engine};
    let engine = single_engine().unwrap();
    let mut other = crate::code::config();
    other.memory_reservation(0).memory_guard_size(0);
    let other = wasmtime::Engine::new(&other).unwrap();
    for bundled in BUNDLED {
        let made = embedded_code(&engine, bundled.code).is_some();
        assert_eq!(made, !bundled.code.is_empty(), "{}", bundled.name);
        assert!(embedded_code(&other, bundled.code).is_none(), "{}", bundled.name);
    }
    assert!(embedded_code(&engine, &[]).is_none());
}

#[test]
fn bundled_plugins_are_compiled_and_each_step_is_reported() {
    let cache = tempfile::tempdir().unwrap();
    let steps = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let reported = std::sync::Arc::clone(&steps);
    let cache = super::cache_options(&cache.path().join("cache"));
    let progress: crate::Progress = std::sync::Arc::new(move |step| reported.lock().unwrap().push(step.to_owned()));
    crate::compile_bundled(&cache, progress).unwrap();
    let steps = steps.lock().unwrap();
    for number in 1..=BUNDLED.len() {
        let step = format!("compiling plugins ({number} of {})", BUNDLED.len());
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
    assert_eq!(super::files_of(&cache.folder).len(), BUNDLED.len());
}

#[test]
fn bundled_plugins_accept_empty_settings() {
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
