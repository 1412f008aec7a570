//! Compiled code on disk.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::guests::Guest;
use super::{Bench, context, files_of, start};

fn works(registry: &crate::Registry) -> bool {
    registry.policy("test", &json!({})).unwrap().evaluate(&start(), &context()) == Ok(Vec::new())
}

#[test]
fn the_second_start_compiles_nothing() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    let first = bench.registry();
    assert!(works(&first) && first.compiled() == 1);
    let files = files_of(&bench.cache());
    assert_eq!(files.len(), 1);
    assert_eq!(bench.cache().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let second = bench.registry();
    assert!(works(&second) && second.compiled() == 0);
    // Another version of the plugin is another file.
    bench.put("test.wasm", &Guest { version: "2.0.0", ..Guest::default() }.policy());
    let third = bench.registry();
    assert!(works(&third) && third.compiled() == 1);
    assert_eq!(files_of(&bench.cache()).len(), 2);
    assert!(works(&first), "what was loaded before goes on");
}

#[test]
fn a_damaged_file_is_compiled_again() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    assert_eq!(bench.registry().compiled(), 1);
    let [file] = files_of(&bench.cache()).try_into().unwrap();
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
        let registry = bench.registry();
        assert!(works(&registry) && registry.compiled() == 1);
        assert_eq!(bench.registry().compiled(), 0, "it was written anew");
    }
}

#[test]
fn a_file_that_others_could_have_written_is_not_run() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    bench.registry();
    let [file] = files_of(&bench.cache()).try_into().unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(bench.registry().compiled(), 1);
    // A link, even to a good file.
    let elsewhere = bench.folder.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert_eq!(bench.registry().compiled(), 1);
}

#[test]
fn a_folder_that_others_can_write_is_not_used() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    std::fs::create_dir(bench.cache()).unwrap();
    std::fs::set_permissions(bench.cache(), PermissionsExt::from_mode(0o777)).unwrap();
    let (registry, problems) = bench.open();
    assert!(works(&registry));
    assert!(problems.len() == 1 && problems[0].message.contains("chmod 700"), "{problems:?}");
    assert_eq!(files_of(&bench.cache()), Vec::<std::path::PathBuf>::new());

    std::fs::remove_dir(bench.cache()).unwrap();
    std::fs::write(bench.cache(), "a file").unwrap();
    let (registry, problems) = bench.open();
    assert!(works(&registry) && problems.len() == 1, "{problems:?}");
}

#[test]
fn old_code_of_plugins_that_are_gone_is_removed() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    bench.registry();
    let [file] = files_of(&bench.cache()).try_into().unwrap();
    let stranger = bench.cache().join("notes.txt");
    std::fs::write(&stranger, "kept").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(40 * 24 * 3600);
    let make_old = |path: &std::path::Path| {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    };
    make_old(&file);
    make_old(&stranger);
    bench.registry();
    assert!(file.exists(), "it is in use");
    assert!(file.metadata().unwrap().modified().unwrap() > long_ago, "its use is marked");
    make_old(&file);
    std::fs::remove_file(bench.folder.path().join("plugins/test.wasm")).unwrap();
    bench.registry();
    assert!(!file.exists() && stranger.exists());
}

#[test]
fn code_for_another_engine_has_another_name() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    let registry = bench.registry();
    let here = registry.runtime();
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(false);
    let other = wasmtime::Engine::new(&config).unwrap();
    let folder = bench.cache();
    let ours = crate::cache::CodeCache::open(&super::cache_options(&folder), here.engine()).unwrap();
    let theirs = crate::cache::CodeCache::open(&super::cache_options(&folder), &other).unwrap();
    assert_ne!(ours.path("digest"), theirs.path("digest"));
    assert_eq!(ours.path("digest"), here.cache.as_ref().unwrap().path("digest"));
}

#[test]
fn compiled_code_of_another_component_is_not_run() {
    use super::guests::TRAP;
    let (good, other) = (Guest::default().policy(), Guest { body: TRAP, ..Guest::default() }.policy());
    let bench = Bench::with(&[("test.wasm", &good)]);
    bench.registry();
    let [good_file] = files_of(&bench.cache()).try_into().unwrap();
    bench.put("test.wasm", &other);
    bench.registry();
    let other_file = files_of(&bench.cache()).into_iter().find(|file| *file != good_file).unwrap();
    std::fs::copy(&other_file, &good_file).unwrap();
    bench.put("test.wasm", &good);
    let registry = bench.registry();
    assert!(works(&registry) && registry.compiled() == 1, "{}", registry.compiled());
}

#[test]
fn compiled_code_that_was_written_with_another_key_is_not_run() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    let registry = bench.registry();
    let forged = crate::CacheOptions { key: [8; crate::CODE_KEY_BYTES], ..super::cache_options(&bench.cache()) };
    let forged = crate::cache::CodeCache::open(&forged, registry.runtime().engine()).unwrap();
    let digest = registry.list()[0].digest.clone().unwrap();
    assert!(forged.load(registry.runtime().engine(), &digest).is_none());
    assert!(registry.runtime().cache.as_ref().unwrap().load(registry.runtime().engine(), &digest).is_some());
}

#[test]
fn unused_code_is_removed_beyond_a_size() {
    let bench = Bench::with(&[("test.wasm", &Guest::default().policy())]);
    bench.registry();
    let [used] = files_of(&bench.cache()).try_into().unwrap();
    for (name, age) in [("a", 3), ("b", 2), ("c", 1)] {
        let path = bench.cache().join(name).with_extension("cwasm");
        std::fs::write(&path, [0; 1000]).unwrap();
        let when = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 3600);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(when).unwrap();
    }
    let registry = bench.registry();
    let digest = registry.list()[0].digest.clone().unwrap();
    registry.runtime().cache.as_ref().unwrap().prune(&[&digest], std::time::Duration::from_secs(24 * 3600), 2500);
    let left: Vec<String> = files_of(&bench.cache())
        .iter()
        .filter(|file| **file != used)
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["b", "c"]);
    assert!(used.exists());
}
