//! Files that change while plugins are in use.

use std::path::Path;

use serde_json::json;

use super::guests::{self, Guest};
use super::{Bench, context, start, tight};
use crate::{Kind, Limits, PluginChange, PluginChangeKind, PluginProblem, PluginSource, PluginState, Registry};

const VERSIONS: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];

fn version(number: usize) -> Vec<u8> {
    Guest { version: VERSIONS[number - 1], ..Guest::default() }.policy()
}

fn reload(bench: &Bench, registry: &Registry) -> (Registry, Vec<PluginProblem>) {
    registry.reloaded(Some(&bench.folder.path().join("plugins")), &bench.limits, &super::trusting())
}

fn remove(bench: &Bench, name: &str) {
    std::fs::remove_file(bench.folder.path().join("plugins").join(name)).unwrap();
}

fn changes(now: &Registry, before: &Registry) -> Vec<(PluginChangeKind, String)> {
    now.changes_since(before).into_iter().map(|PluginChange { change, name, .. }| (change, name)).collect()
}

fn version_of(registry: &Registry) -> String {
    registry.list().into_iter().find(|plugin| plugin.name == "test").and_then(|plugin| plugin.version).unwrap()
}

#[test]
fn what_has_not_changed_is_the_same_plugin() {
    let bench = Bench::with(&[("a.wasm", &version(1)), ("broken.wasm", b"broken")]);
    let (first, problems) = bench.open();
    assert_eq!(problems.len(), 1);
    let policy = first.policy("test", &json!({})).unwrap();
    let (second, again) = reload(&bench, &first);
    assert_eq!(again, problems, "what is wrong is still wrong");
    assert!(policy.is_of(&second));
    assert_eq!(changes(&second, &first), []);
    // The same bytes in a file that looks different.
    bench.put("a.wasm", &version(1));
    let (third, _) = reload(&bench, &second);
    assert!(policy.is_of(&third));
    assert_eq!(third.compiled(), 1);
}

#[test]
fn a_replaced_file_counts_for_what_begins_after_it() {
    let bench = Bench::with(&[("a.wasm", &version(1))]);
    let first = bench.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    bench.put("a.wasm", &version(2));
    let (second, problems) = reload(&bench, &first);
    assert_eq!(problems, []);
    assert_eq!(changes(&second, &first), [(PluginChangeKind::Replaced, "test".to_owned())]);
    assert_eq!((version_of(&first), version_of(&second)), ("1.0.0".to_owned(), "2.0.0".to_owned()));
    assert!(policy.is_of(&first) && !policy.is_of(&second));
    assert_eq!(policy.evaluate(&start(), &context()), Ok(Vec::new()), "what has begun goes on");
    assert_eq!(policy.plugin().version, "1.0.0");
}

#[test]
fn a_broken_replacement_leaves_the_last_good_one() {
    let bench = Bench::with(&[("a.wasm", &version(1))]);
    let first = bench.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    let good = version(2);
    for broken in [b"broken".to_vec(), Vec::new(), good[..good.len() / 2].to_vec()] {
        bench.put("a.wasm", &broken);
        let (second, problems) = reload(&bench, &first);
        assert_eq!(changes(&second, &first), [(PluginChangeKind::Kept, "test".to_owned())]);
        assert!(policy.is_of(&second));
        let [listed] = second.list().try_into().unwrap();
        assert_eq!(listed.state, PluginState::Ready);
        let reason = listed.displaced.expect("the listing says so");
        assert!(problems[0].is_error && problems[0].message.contains(&reason), "{problems:?}");
        // It is told once, and stays true.
        let (third, problems) = reload(&bench, &second);
        assert_eq!((changes(&third, &second), problems.len()), (Vec::new(), 1));
        assert!(policy.is_of(&third));
    }
    bench.put("a.wasm", &good);
    let (mended, problems) = reload(&bench, &first);
    assert_eq!((version_of(&mended).as_str(), problems.len()), ("2.0.0", 0));
    assert_eq!(mended.list()[0].displaced, None);
}

#[test]
fn files_come_and_go() {
    let bench = Bench::with(&[("a.wasm", &version(1))]);
    let first = bench.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    bench.put("b.wasm", &Guest { name: "other", ..Guest::default() }.redactor());
    bench.put("c.wasm", b"broken");
    bench.put("d.wasm", &version(3));
    remove(&bench, "a.wasm");
    let (second, problems) = reload(&bench, &first);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        changes(&second, &first),
        [
            (PluginChangeKind::Added, "other".to_owned()),
            (PluginChangeKind::Replaced, "test".to_owned()),
            (PluginChangeKind::Refused, "c".to_owned()),
        ]
    );
    remove(&bench, "d.wasm");
    let (third, _) = reload(&bench, &second);
    assert_eq!(changes(&third, &second), [(PluginChangeKind::Removed, "test".to_owned())]);
    assert!(!third.contains(Kind::Policy, "test") && second.contains(Kind::Policy, "test"));
    assert_eq!(policy.evaluate(&start(), &context()), Ok(Vec::new()));
    // Another folder altogether, and none.
    assert_eq!(third.reloaded(Some(Path::new("/nowhere")), &bench.limits, &super::trusting()).0.list(), []);
    assert_eq!(third.reloaded(None, &bench.limits, &super::trusting()).0.list(), []);
}

#[test]
fn a_plugin_that_refuses_what_it_is_given_can_be_taken_back() {
    let bench = Bench::with(&[("a.wasm", &version(1)), ("b.wasm", &Guest { name: "b", ..Guest::default() }.policy())]);
    let first = bench.registry();
    let policy = first.policy("test", &json!({})).unwrap();
    assert!(first.restored(&first, Kind::Policy, "test", "no").is_none(), "it has not changed");
    bench.put("a.wasm", &Guest { configure: guests::TRAP, ..Guest::default() }.policy());
    bench.put("n.wasm", &Guest { name: "new", configure: guests::TRAP, ..Guest::default() }.policy());
    let (second, _) = reload(&bench, &first);
    assert!(second.policy("test", &json!({})).is_err());
    let (third, problems) = second.restored(&first, Kind::Policy, "test", "it trapped").unwrap();
    assert!(policy.is_of(&third));
    assert!(problems.iter().any(|problem| problem.message.contains("it trapped")), "{problems:?}");
    assert_eq!(
        third.list().iter().find(|plugin| plugin.name == "test").unwrap().displaced.as_deref(),
        Some("it trapped")
    );
    // One that was not there before is refused.
    let (fourth, _) = third.restored(&first, Kind::Policy, "new", "it trapped").unwrap();
    assert!(!fourth.contains(Kind::Policy, "new"));
    assert!(fourth.restored(&first, Kind::Policy, "new", "again").is_none());
    assert!(fourth.restored(&first, Kind::Policy, "nothing", "no").is_none());
}

#[test]
fn other_limits_make_other_plugins_of_the_same_code() {
    let bench =
        Bench::with(&[("a.wasm", &version(1)), ("large.wasm", &Guest { pages: 400, ..Guest::default() }.redactor())]);
    let (first, problems) = bench.open();
    assert_eq!(problems.len(), 1, "25 MiB of memory where 16 are allowed");
    let policy = first.policy("test", &json!({})).unwrap();
    let mut more = tight();
    more.redactor.memory = 64 << 20;
    let folder = bench.folder.path().join("plugins");
    let (second, problems) = first.reloaded(Some(&folder), &more, &super::trusting());
    assert_eq!(problems, []);
    assert!(!policy.is_of(&second), "its limits are others");
    assert_eq!(second.compiled(), 2, "nothing is compiled again");
    assert_eq!(changes(&second, &first).len(), 1);
    let (third, problems) = second.reloaded(Some(&folder), &Limits { component_size: 100, ..more }, &super::trusting());
    assert_eq!((third.list().len(), problems.len()), (2, 2));
    assert!(third.list().iter().all(|plugin| matches!(plugin.state, PluginState::Refused { .. })));
}

#[test]
fn a_link_that_leads_nowhere_for_a_moment_takes_nothing_away() {
    let bench = Bench::new();
    let real = bench.folder.path().join("built.wasm");
    std::fs::write(&real, version(1)).unwrap();
    let link = bench.folder.path().join("plugins/a.wasm");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let first = bench.registry();
    std::fs::remove_file(&real).unwrap();
    let (second, problems) = reload(&bench, &first);
    assert_eq!((version_of(&second).as_str(), problems.len()), ("1.0.0", 1));
    std::fs::write(&real, version(2)).unwrap();
    let (third, _) = reload(&bench, &second);
    assert_eq!(version_of(&third), "2.0.0");
    assert_eq!(third.list()[0].source, PluginSource::File(link));
}
