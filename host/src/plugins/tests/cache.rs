//! Compiled code on disk.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::guests::Guest;
use super::{Bench, context, files_of, start};

fn works(registry: &crate::plugins::Registry) -> bool {
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
    for path in [&file, &stranger] {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    bench.registry();
    assert!(file.exists(), "it is in use");
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
    let ours = crate::plugins::cache::CodeCache::open(&folder, here.engine()).unwrap();
    let theirs = crate::plugins::cache::CodeCache::open(&folder, &other).unwrap();
    assert_ne!(ours.path("digest"), theirs.path("digest"));
    assert_eq!(ours.path("digest"), here.cache.as_ref().unwrap().path("digest"));
}
