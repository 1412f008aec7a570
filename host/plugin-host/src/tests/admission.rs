//! Which sound components become plugins.

use std::collections::BTreeSet;

use serde_json::json;

use super::guests::{Guest, OK};
use super::{Bench, context, start};
use crate::{Admission, Bundled, Kind, KnownFile, PluginSource, PluginState, Registry, RegistryOptions};

fn open(bench: &Bench, bundled: &'static [Bundled], admission: Admission, known: Vec<KnownFile>) -> Registry {
    let options = RegistryOptions {
        plugin_dir: Some(bench.folder.path().join("plugins")),
        bundled,
        limits: bench.limits.clone(),
        admission,
        known_files: known,
        ..RegistryOptions::default()
    };
    Registry::open(&options).unwrap().0
}

fn reloaded(bench: &Bench, registry: &Registry, admission: &Admission) -> Registry {
    registry.reloaded(Some(&bench.folder.path().join("plugins")), &bench.limits, admission).0
}

/// As a host carries a policy of that name.
fn bundled(name: &'static str) -> &'static [Bundled] {
    let component: &'static [u8] = Guest { name, ..Guest::default() }.policy().leak();
    Vec::leak(vec![Bundled { name, kind: Kind::Policy, component, code: &[] }])
}

#[test]
fn file_with_the_name_of_a_bundled_policy_is_refused_unless_the_configuration_says_so() {
    let own = Guest { name: "rails", version: "9.0.0", ..Guest::default() }.policy();
    let bench = Bench::with(&[("rails.wasm", &own)]);
    let bundled = bundled("rails");
    let registry = open(&bench, bundled, Admission::default(), Vec::new());
    let listed = registry.list();
    assert_eq!(listed[0].source, PluginSource::Bundled);
    assert!(
        matches!(&listed[1].state, PluginState::Refused { reason } if reason.contains("replace = true")),
        "{listed:?}"
    );
    // The one that stays judges; the file is not taken for a policy that is missing.
    assert_eq!(listed[1].kind, None);
    assert!(registry.policy("rails", &json!({})).unwrap().evaluate(&start(), &context()).is_ok());

    let replace = Admission { replace: BTreeSet::from(["rails".to_owned()]), ..Admission::default() };
    let replaced = reloaded(&bench, &registry, &replace);
    assert_eq!(replaced.list()[0].version.as_deref(), Some("9.0.0"));
    let digest = replaced.list()[0].digest.clone().unwrap();
    for (pin, version) in [(digest.as_str(), "9.0.0"), ("00", "1.2.3")] {
        let pins = [((Kind::Policy, "rails".to_owned()), pin.to_owned())].into();
        let pinned = reloaded(&bench, &registry, &Admission { pins, ..Admission::default() });
        assert_eq!(pinned.list()[0].version.as_deref(), Some(version), "{pin}");
    }
}

#[test]
fn provider_waits_for_approval_and_runs_its_successor_only_when_that_is_approved() {
    let version = |version| Guest { version, ..Guest::default() }.provider();
    let bench = Bench::with(&[("test.wasm", &version("1.0.0"))]);
    let first = open(&bench, &[], Admission::default(), Vec::new());
    let waiting = first.list().remove(0);
    assert!(matches!(&waiting.state, PluginState::Waiting { reason } if reason.contains("trust_plugin(test)")));
    let error = first.provider("test", &json!({})).err().unwrap();
    assert!(error.message.contains("trust_plugin(test)"), "{error}");
    // It can be looked at.
    let seen = first.waiting_provider("test", &json!({})).unwrap();
    assert_eq!(Some(seen.plugin().digest.clone()), waiting.digest);
    assert!(first.waiting_provider("other", &json!({})).is_err());

    let approved = Admission { approved: [seen.plugin().digest].into(), ..Admission::default() };
    let second = reloaded(&bench, &first, &approved);
    assert_eq!(second.list()[0].state, PluginState::Ready);
    assert!(second.provider("test", &json!({})).is_ok());

    bench.put("test.wasm", &version("2.0.0"));
    let third = reloaded(&bench, &second, &approved);
    let listed = third.list().remove(0);
    assert_eq!((listed.version.as_deref(), &listed.state), (Some("1.0.0"), &PluginState::Ready));
    assert!(listed.displaced.unwrap().contains("trust_plugin(test)"));
    assert_eq!(third.waiting_provider("test", &json!({})).unwrap().plugin().version, "2.0.0");
    // After a start of the host there is nothing left of the first.
    let again = open(&bench, &[], approved, Vec::new());
    assert!(matches!(again.list()[0].state, PluginState::Waiting { .. }));
}

#[test]
fn damaged_file_is_known_for_what_it_was() {
    let bench = Bench::with(&[("test.wasm", &Guest { name: "strict", ..Guest::default() }.policy())]);
    let first = open(&bench, &[], Admission::default(), Vec::new());
    let known = first.known_files().to_vec();
    assert_eq!((known.len(), known[0].kind, known[0].name.as_str()), (1, Kind::Policy, "strict"));
    bench.put("test.wasm", b"damaged");
    let second = open(&bench, &[], Admission::default(), known);
    let listed = second.list().remove(0);
    assert_eq!((listed.kind, listed.name.as_str()), (Some(Kind::Policy), "strict"));
    assert!(matches!(listed.state, PluginState::Refused { .. }));
    assert!(second.was_used(Kind::Policy, "strict") && !second.was_used(Kind::Policy, "other"));
    // A file that somebody has taken away is forgotten.
    std::fs::remove_file(bench.folder.path().join("plugins/test.wasm")).unwrap();
    assert!(reloaded(&bench, &second, &Admission::default()).known_files().is_empty());
}

#[test]
fn broken_policy_is_known_to_be_one_although_it_never_worked() {
    let broken = Guest { version: "no version", ..Guest::default() }.policy();
    let bench = Bench::with(&[("test.wasm", &broken)]);
    let listed = open(&bench, &[], Admission::default(), Vec::new()).list().remove(0);
    assert_eq!(listed.kind, Some(Kind::Policy));
    assert!(matches!(listed.state, PluginState::Refused { .. }));
}

#[test]
fn of_two_files_with_one_name_the_one_in_use_stays() {
    let policy = |version| Guest { version, ..Guest::default() }.policy();
    let bench = Bench::with(&[("b.wasm", &policy("1.0.0"))]);
    let first = open(&bench, &[], Admission::default(), Vec::new());
    bench.put("a.wasm", &policy("2.0.0"));
    let second = reloaded(&bench, &first, &Admission::default());
    assert_eq!(second.list()[0].version.as_deref(), Some("1.0.0"));
    assert!(matches!(&second.list()[1].state, PluginState::Refused { reason } if reason.contains("same name")));
}

#[test]
fn file_that_others_could_write_is_refused_with_the_command_that_corrects_it() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::with(&[("test.wasm", &Guest { body: OK, ..Guest::default() }.policy())]);
    let path = bench.folder.path().join("plugins/test.wasm");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let registry = open(&bench, &[], Admission::default(), Vec::new());
    assert!(matches!(&registry.list()[0].state, PluginState::Refused { reason } if reason.contains("chmod ")));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(reloaded(&bench, &registry, &Admission::default()).list()[0].state, PluginState::Ready);
}
