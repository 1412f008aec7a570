//! Which valid components become plugins.

use std::collections::BTreeSet;

use serde_json::json;

use super::guests::{Guest, OK};
use super::{Fixture, context, start};
use crate::{Admission, Bundled, Kind, KnownFile, PluginSource, PluginState, Registry, RegistryOptions};

fn open(fixture: &Fixture, bundled: &'static [Bundled], admission: Admission, known: Vec<KnownFile>) -> Registry {
    let options = RegistryOptions {
        plugin_dir: Some(fixture.folder.path().join("plugins")),
        bundled,
        limits: fixture.limits.clone(),
        admission,
        known_files: known,
        ..RegistryOptions::default()
    };
    Registry::open(&options).unwrap().0
}

fn reloaded(fixture: &Fixture, registry: &Registry, admission: &Admission) -> Registry {
    registry.reloaded(Some(&fixture.folder.path().join("plugins")), &fixture.limits, admission).0
}

/// A bundled policy of that name.
fn bundled(name: &'static str) -> &'static [Bundled] {
    let component: &'static [u8] = Guest { name, ..Guest::default() }.policy().leak();
    Vec::leak(vec![Bundled { name, kind: Kind::Policy, component, code: &[] }])
}

#[test]
fn file_replaces_a_bundled_policy_only_if_configured() {
    let own = Guest { name: "rails", version: "9.0.0", ..Guest::default() }.policy();
    let fixture = Fixture::with(&[("rails.wasm", &own)]);
    let bundled = bundled("rails");
    let registry = open(&fixture, bundled, Admission::default(), Vec::new());
    let listed = registry.list();
    assert_eq!(listed[0].source, PluginSource::Bundled);
    assert!(
        matches!(&listed[1].state, PluginState::Refused { reason } if reason.contains("replace = true")),
        "{listed:?}"
    );
    // The bundled policy stays in use; the file does not count as a missing policy.
    assert_eq!(listed[1].kind, None);
    assert!(registry.policy("rails", &json!({})).unwrap().evaluate(&start(), &context()).is_ok());

    let replace = Admission { replace: BTreeSet::from(["rails".to_owned()]), ..Admission::default() };
    let replaced = reloaded(&fixture, &registry, &replace);
    assert_eq!(replaced.list()[0].version.as_deref(), Some("9.0.0"));
    let digest = replaced.list()[0].digest.clone().unwrap();
    for (pin, version) in [(digest.as_str(), "9.0.0"), ("00", "1.2.3")] {
        let pins = [((Kind::Policy, "rails".to_owned()), pin.to_owned())].into();
        let pinned = reloaded(&fixture, &registry, &Admission { pins, ..Admission::default() });
        assert_eq!(pinned.list()[0].version.as_deref(), Some(version), "{pin}");
    }
}

#[test]
fn provider_and_its_successor_wait_for_approval() {
    let version = |version| Guest { version, ..Guest::default() }.provider();
    let fixture = Fixture::with(&[("test.wasm", &version("1.0.0"))]);
    let first = open(&fixture, &[], Admission::default(), Vec::new());
    let waiting = first.list().remove(0);
    assert!(matches!(&waiting.state, PluginState::Waiting { reason } if reason.contains("trust_plugin(test)")));
    let error = first.provider("test", &json!({})).err().unwrap();
    assert!(error.message.contains("trust_plugin(test)"), "{error}");
    // It can be inspected.
    let seen = first.waiting_provider("test", &json!({})).unwrap();
    assert_eq!(Some(seen.plugin().digest.clone()), waiting.digest);
    assert!(first.waiting_provider("other", &json!({})).is_err());

    let approved = Admission { approved: [seen.plugin().digest].into(), ..Admission::default() };
    let second = reloaded(&fixture, &first, &approved);
    assert_eq!(second.list()[0].state, PluginState::Ready);
    assert!(second.provider("test", &json!({})).is_ok());

    fixture.put("test.wasm", &version("2.0.0"));
    let third = reloaded(&fixture, &second, &approved);
    let listed = third.list().remove(0);
    assert_eq!((listed.version.as_deref(), &listed.state), (Some("1.0.0"), &PluginState::Ready));
    assert!(listed.displaced.unwrap().contains("trust_plugin(test)"));
    assert_eq!(third.waiting_provider("test", &json!({})).unwrap().plugin().version, "2.0.0");
    // After a restart of the host the first one is gone.
    let again = open(&fixture, &[], approved, Vec::new());
    assert!(matches!(again.list()[0].state, PluginState::Waiting { .. }));
}

#[test]
fn damaged_file_keeps_its_known_kind_and_name() {
    let fixture = Fixture::with(&[("test.wasm", &Guest { name: "strict", ..Guest::default() }.policy())]);
    let first = open(&fixture, &[], Admission::default(), Vec::new());
    let known = first.known_files().to_vec();
    assert_eq!((known.len(), known[0].kind, known[0].name.as_str()), (1, Kind::Policy, "strict"));
    fixture.put("test.wasm", b"damaged");
    let second = open(&fixture, &[], Admission::default(), known);
    let listed = second.list().remove(0);
    assert_eq!((listed.kind, listed.name.as_str()), (Some(Kind::Policy), "strict"));
    assert!(matches!(listed.state, PluginState::Refused { .. }));
    assert!(second.was_used(Kind::Policy, "strict") && !second.was_used(Kind::Policy, "other"));
    // A removed file is not known any more.
    std::fs::remove_file(fixture.folder.path().join("plugins/test.wasm")).unwrap();
    assert!(reloaded(&fixture, &second, &Admission::default()).known_files().is_empty());
}

#[test]
fn kind_of_a_policy_that_never_worked_is_known() {
    let broken = Guest { version: "no version", ..Guest::default() }.policy();
    let fixture = Fixture::with(&[("test.wasm", &broken)]);
    let listed = open(&fixture, &[], Admission::default(), Vec::new()).list().remove(0);
    assert_eq!(listed.kind, Some(Kind::Policy));
    assert!(matches!(listed.state, PluginState::Refused { .. }));
}

#[test]
fn of_two_files_with_one_name_the_one_in_use_stays() {
    let policy = |version| Guest { version, ..Guest::default() }.policy();
    let fixture = Fixture::with(&[("b.wasm", &policy("1.0.0"))]);
    let first = open(&fixture, &[], Admission::default(), Vec::new());
    fixture.put("a.wasm", &policy("2.0.0"));
    let second = reloaded(&fixture, &first, &Admission::default());
    assert_eq!(second.list()[0].version.as_deref(), Some("1.0.0"));
    assert!(matches!(&second.list()[1].state, PluginState::Refused { reason } if reason.contains("same name")));
}

#[test]
fn file_writable_by_others_is_refused_with_a_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::with(&[("test.wasm", &Guest { body: OK, ..Guest::default() }.policy())]);
    let path = fixture.folder.path().join("plugins/test.wasm");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let registry = open(&fixture, &[], Admission::default(), Vec::new());
    assert!(matches!(&registry.list()[0].state, PluginState::Refused { reason } if reason.contains("chmod ")));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(reloaded(&fixture, &registry, &Admission::default()).list()[0].state, PluginState::Ready);
}
