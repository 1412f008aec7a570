//! Files that change while plugins are in use.

use std::path::Path;

use serde_json::json;

use super::guests::{self, Guest};
use super::{Fixture, context, start, tight};
use crate::{Kind, Limits, PluginChange, PluginChangeKind, PluginProblem, PluginSource, PluginState, Registry};

const VERSIONS: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];

fn version(number: usize) -> Vec<u8> {
    Guest { version: VERSIONS[number - 1], ..Guest::default() }.policy()
}

fn reload(fixture: &Fixture, registry: &Registry) -> (Registry, Vec<PluginProblem>) {
    registry.reloaded(Some(&fixture.folder.path().join("plugins")), &fixture.limits, &super::trusting())
}

fn remove(fixture: &Fixture, name: &str) {
    std::fs::remove_file(fixture.folder.path().join("plugins").join(name)).unwrap();
}

fn changes(now: &Registry, before: &Registry) -> Vec<(PluginChangeKind, String)> {
    now.changes_since(before).into_iter().map(|PluginChange { change, name, .. }| (change, name)).collect()
}

fn version_of(registry: &Registry) -> String {
    registry.list().into_iter().find(|plugin| plugin.name == "test").and_then(|plugin| plugin.version).unwrap()
}

#[test]
fn unchanged_file_keeps_its_plugin() {
    let fixture = Fixture::with(&[("a.wasm", &version(1)), ("broken.wasm", b"broken")]);
    let (first, problems) = fixture.open();
    assert_eq!(problems.len(), 1);
    let policy = first.policy("test", &json!({})).unwrap();
    let (second, again) = reload(&fixture, &first);
    assert_eq!(again, problems, "the problems are reported again");
    assert!(policy.is_of(&second));
    assert_eq!(changes(&second, &first), []);
    // The same bytes in a file with other metadata.
    fixture.put("a.wasm", &version(1));
    let (third, _) = reload(&fixture, &second);
    assert!(policy.is_of(&third));
    assert_eq!(third.compiled(), 1);
}

#[test]
fn replaced_file_is_used_only_by_new_instances() {
    let fixture = Fixture::with(&[("a.wasm", &version(1))]);
    let first = fixture.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    fixture.put("a.wasm", &version(2));
    let (second, problems) = reload(&fixture, &first);
    assert_eq!(problems, []);
    assert_eq!(changes(&second, &first), [(PluginChangeKind::Replaced, "test".to_owned())]);
    assert_eq!((version_of(&first), version_of(&second)), ("1.0.0".to_owned(), "2.0.0".to_owned()));
    assert!(policy.is_of(&first) && !policy.is_of(&second));
    assert_eq!(policy.evaluate(&start(), &context()), Ok(Vec::new()), "the old instance still works");
    assert_eq!(policy.plugin().version, "1.0.0");
}

#[test]
fn broken_replacement_keeps_the_last_working_plugin() {
    let fixture = Fixture::with(&[("a.wasm", &version(1))]);
    let first = fixture.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    let good = version(2);
    for broken in [b"broken".to_vec(), Vec::new(), good[..good.len() / 2].to_vec()] {
        fixture.put("a.wasm", &broken);
        let (second, problems) = reload(&fixture, &first);
        assert_eq!(changes(&second, &first), [(PluginChangeKind::Kept, "test".to_owned())]);
        assert!(policy.is_of(&second));
        let [listed] = second.list().try_into().unwrap();
        assert_eq!(listed.state, PluginState::Ready);
        let reason = listed.displaced.expect("the listing says so");
        assert!(problems[0].is_error && problems[0].message.contains(&reason), "{problems:?}");
        // It is reported once, and stays in the listing.
        let (third, problems) = reload(&fixture, &second);
        assert_eq!((changes(&third, &second), problems.len()), (Vec::new(), 1));
        assert!(policy.is_of(&third));
    }
    fixture.put("a.wasm", &good);
    let (mended, problems) = reload(&fixture, &first);
    assert_eq!((version_of(&mended).as_str(), problems.len()), ("2.0.0", 0));
    assert_eq!(mended.list()[0].displaced, None);
}

#[test]
fn added_and_removed_files_are_noticed() {
    let fixture = Fixture::with(&[("a.wasm", &version(1))]);
    let first = fixture.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    fixture.put("b.wasm", &Guest { name: "other", ..Guest::default() }.redactor());
    fixture.put("c.wasm", b"broken");
    fixture.put("d.wasm", &version(3));
    remove(&fixture, "a.wasm");
    let (second, problems) = reload(&fixture, &first);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        changes(&second, &first),
        [
            (PluginChangeKind::Added, "other".to_owned()),
            (PluginChangeKind::Replaced, "test".to_owned()),
            (PluginChangeKind::Refused, "c".to_owned()),
        ]
    );
    remove(&fixture, "d.wasm");
    let (third, _) = reload(&fixture, &second);
    assert_eq!(changes(&third, &second), [(PluginChangeKind::Removed, "test".to_owned())]);
    assert!(!third.contains(Kind::Policy, "test") && second.contains(Kind::Policy, "test"));
    assert_eq!(policy.evaluate(&start(), &context()), Ok(Vec::new()));
    // Another folder, and no folder.
    assert_eq!(third.reloaded(Some(Path::new("/nowhere")), &fixture.limits, &super::trusting()).0.list(), []);
    assert_eq!(third.reloaded(None, &fixture.limits, &super::trusting()).0.list(), []);
}

#[test]
fn replacement_that_refuses_its_settings_can_be_undone() {
    let fixture =
        Fixture::with(&[("a.wasm", &version(1)), ("b.wasm", &Guest { name: "b", ..Guest::default() }.policy())]);
    let first = fixture.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    assert!(first.restored(&first, Kind::Policy, "test", "no").is_none(), "it has not changed");
    fixture.put("a.wasm", &Guest { configure: guests::TRAP, ..Guest::default() }.policy());
    fixture.put("n.wasm", &Guest { name: "new", configure: guests::TRAP, ..Guest::default() }.policy());
    let (second, _) = reload(&fixture, &first);
    assert!(second.policy("test", &json!({})).is_err());
    let (third, problems) = second.restored(&first, Kind::Policy, "test", "it trapped").unwrap();
    assert!(policy.is_of(&third));
    assert!(problems.iter().any(|problem| problem.message.contains("it trapped")), "{problems:?}");
    assert_eq!(
        third.list().iter().find(|plugin| plugin.name == "test").unwrap().displaced.as_deref(),
        Some("it trapped")
    );
    // A new plugin is refused.
    let (fourth, _) = third.restored(&first, Kind::Policy, "new", "it trapped").unwrap();
    assert!(!fourth.contains(Kind::Policy, "new"));
    assert!(fourth.restored(&first, Kind::Policy, "new", "again").is_none());
    assert!(fourth.restored(&first, Kind::Policy, "nothing", "no").is_none());
}

#[test]
fn changed_limits_reload_plugins_without_compiling() {
    let fixture =
        Fixture::with(&[("a.wasm", &version(1)), ("large.wasm", &Guest { pages: 400, ..Guest::default() }.redactor())]);
    let (first, problems) = fixture.open();
    assert_eq!(problems.len(), 1, "25 MiB of memory where 16 are allowed");
    let policy = first.policy("test", &json!({})).unwrap();
    let mut more = tight();
    more.redactor.memory = 64 << 20;
    let folder = fixture.folder.path().join("plugins");
    let (second, problems) = first.reloaded(Some(&folder), &more, &super::trusting());
    assert_eq!(problems, []);
    assert!(!policy.is_of(&second), "its limits have changed");
    assert_eq!(second.compiled(), 2, "nothing is compiled again");
    assert_eq!(changes(&second, &first).len(), 1);
    let (third, problems) = second.reloaded(Some(&folder), &Limits { component_size: 100, ..more }, &super::trusting());
    assert_eq!((third.list().len(), problems.len()), (2, 2));
    assert!(third.list().iter().all(|plugin| matches!(plugin.state, PluginState::Refused { .. })));
}

#[test]
fn temporarily_dangling_link_keeps_its_plugin() {
    let fixture = Fixture::new();
    let real = fixture.folder.path().join("built.wasm");
    std::fs::write(&real, version(1)).unwrap();
    let link = fixture.folder.path().join("plugins/a.wasm");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let first = fixture.registry();
    std::fs::remove_file(&real).unwrap();
    let (second, problems) = reload(&fixture, &first);
    assert_eq!((version_of(&second).as_str(), problems.len()), ("1.0.0", 1));
    std::fs::write(&real, version(2)).unwrap();
    let (third, _) = reload(&fixture, &second);
    assert_eq!(version_of(&third), "2.0.0");
    assert_eq!(third.list()[0].source, PluginSource::File(link));
}
