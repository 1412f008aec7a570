//! Compiled code on disk.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::guests::Guest;
use super::{Fixture, context, files_of, start};

fn works(registry: &crate::Registry) -> bool {
    registry.policy("test", &json!({})).unwrap().evaluate(&start(), &context()) == Ok(Vec::new())
}

#[test]
fn second_start_compiles_nothing() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    let first = fixture.registry();
    assert!(works(&first) && first.compiled() == 1);
    let files = files_of(&fixture.cache());
    assert_eq!(files.len(), 1);
    assert_eq!(fixture.cache().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let second = fixture.registry();
    assert!(works(&second) && second.compiled() == 0);
    // Another version of the plugin is another file.
    fixture.put("test.wasm", &Guest { version: "2.0.0", ..Guest::default() }.policy());
    let third = fixture.registry();
    assert!(works(&third) && third.compiled() == 1);
    assert_eq!(files_of(&fixture.cache()).len(), 2);
    assert!(works(&first), "the plugin that was loaded before still works");
}

#[test]
fn damaged_file_is_compiled_again() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    assert_eq!(fixture.registry().compiled(), 1);
    let [file] = files_of(&fixture.cache()).try_into().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for damaged in [
        Vec::new(),
        whole[..20].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        flipped(0),
        flipped(20),
        flipped(whole.len() / 2),
        flipped(whole.len() - 1),
    ] {
        std::fs::write(&file, damaged).unwrap();
        let registry = fixture.registry();
        assert!(works(&registry) && registry.compiled() == 1);
        assert_eq!(fixture.registry().compiled(), 0, "it was written again");
    }
}

#[test]
fn file_writable_by_others_is_not_loaded() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    fixture.registry();
    let [file] = files_of(&fixture.cache()).try_into().unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(fixture.registry().compiled(), 1);
    // A link, even to a valid file.
    let elsewhere = fixture.folder.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert_eq!(fixture.registry().compiled(), 1);
}

#[test]
fn folder_writable_by_others_is_not_used() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    std::fs::create_dir(fixture.cache()).unwrap();
    std::fs::set_permissions(fixture.cache(), PermissionsExt::from_mode(0o777)).unwrap();
    let (registry, problems) = fixture.open();
    assert!(works(&registry));
    assert!(problems.len() == 1 && problems[0].message.contains("chmod 700"), "{problems:?}");
    assert_eq!(files_of(&fixture.cache()), Vec::<std::path::PathBuf>::new());

    std::fs::remove_dir(fixture.cache()).unwrap();
    std::fs::write(fixture.cache(), "a file").unwrap();
    let (registry, problems) = fixture.open();
    assert!(works(&registry) && problems.len() == 1, "{problems:?}");
}

#[test]
fn old_code_of_removed_plugins_is_removed() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    fixture.registry();
    let [file] = files_of(&fixture.cache()).try_into().unwrap();
    let stranger = fixture.cache().join("notes.txt");
    std::fs::write(&stranger, "kept").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(40 * 24 * 3600);
    let make_old = |path: &std::path::Path| {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    };
    make_old(&file);
    make_old(&stranger);
    fixture.registry();
    assert!(file.exists(), "it is in use");
    assert!(file.metadata().unwrap().modified().unwrap() > long_ago, "its time stamp is updated");
    make_old(&file);
    std::fs::remove_file(fixture.folder.path().join("plugins/test.wasm")).unwrap();
    fixture.registry();
    assert!(!file.exists() && stranger.exists());
}

#[test]
fn code_for_another_engine_has_another_name() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    let registry = fixture.registry();
    let here = registry.runtime();
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(false);
    let other = wasmtime::Engine::new(&config).unwrap();
    let folder = fixture.cache();
    let ours = crate::cache::CodeCache::open(&super::cache_options(&folder), here.engine()).unwrap();
    let theirs = crate::cache::CodeCache::open(&super::cache_options(&folder), &other).unwrap();
    assert_ne!(ours.path("digest"), theirs.path("digest"));
    assert_eq!(ours.path("digest"), here.cache.as_ref().unwrap().path("digest"));
}

#[test]
fn code_of_another_component_is_not_loaded() {
    use super::guests::TRAP;
    let (good, other) = (Guest::default().policy(), Guest { body: TRAP, ..Guest::default() }.policy());
    let fixture = Fixture::with(&[("test.wasm", &good)]);
    fixture.registry();
    let [good_file] = files_of(&fixture.cache()).try_into().unwrap();
    fixture.put("test.wasm", &other);
    fixture.registry();
    let other_file = files_of(&fixture.cache()).into_iter().find(|file| *file != good_file).unwrap();
    std::fs::copy(&other_file, &good_file).unwrap();
    fixture.put("test.wasm", &good);
    let registry = fixture.registry();
    assert!(works(&registry) && registry.compiled() == 1, "{}", registry.compiled());
}

#[test]
fn code_written_with_another_key_is_not_loaded() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    let registry = fixture.registry();
    let forged = crate::CacheOptions { key: [8; crate::CODE_KEY_BYTES], ..super::cache_options(&fixture.cache()) };
    let forged = crate::cache::CodeCache::open(&forged, registry.runtime().engine()).unwrap();
    let digest = registry.list()[0].digest.clone().unwrap();
    assert!(forged.load(registry.runtime().engine(), &digest).is_none());
    assert!(registry.runtime().cache.as_ref().unwrap().load(registry.runtime().engine(), &digest).is_some());
}

#[test]
fn unused_code_beyond_the_size_limit_is_removed() {
    let fixture = Fixture::with(&[("test.wasm", &Guest::default().policy())]);
    fixture.registry();
    let [used] = files_of(&fixture.cache()).try_into().unwrap();
    for (name, age) in [("a", 3), ("b", 2), ("c", 1)] {
        let path = fixture.cache().join(name).with_extension("cwasm");
        std::fs::write(&path, [0; 1000]).unwrap();
        let when = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 3600);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(when).unwrap();
    }
    let registry = fixture.registry();
    let digest = registry.list()[0].digest.clone().unwrap();
    registry.runtime().cache.as_ref().unwrap().prune(&[&digest], std::time::Duration::from_secs(24 * 3600), 2500);
    let left: Vec<String> = files_of(&fixture.cache())
        .iter()
        .filter(|file| **file != used)
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["b", "c"]);
    assert!(used.exists());
}
