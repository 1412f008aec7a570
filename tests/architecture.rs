//! The crates have exactly the dependencies within the workspace that `docs/architecture.md` lists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates by name, each with those of this workspace that it depends on.
type Arrows = BTreeMap<String, BTreeSet<String>>;

const PREFIX: &str = "ostler-";
const TABLE_BEGIN: &str = "<!-- crates: checked by tests/architecture.rs -->";
const TABLE_END: &str = "<!-- end of crates -->";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The dependencies in the manifests. Only `[dependencies]`: tests and build scripts may use more.
fn arrows_of_manifests() -> Arrows {
    let host = workspace().join("host");
    let folders = fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().path());
    let manifests = folders.chain([host.clone()]).map(|folder| folder.join("Cargo.toml")).filter(|path| path.is_file());
    manifests
        .map(|path| {
            let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap().to_owned();
            let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
            let ours = dependencies.into_iter().flatten().map(|(name, _)| name.clone());
            (name, ours.filter(|name| name.starts_with(PREFIX)).collect())
        })
        .collect()
}

/// The dependencies on the page: a table whose first column is the crate, and whose last one lists its dependencies
/// without the prefix.
fn arrows_of_page() -> Arrows {
    let page = fs::read_to_string(workspace().join("docs/architecture.md")).unwrap();
    let (_, rest) = page.split_once(TABLE_BEGIN).expect("the page has the table");
    let (table, _) = rest.split_once(TABLE_END).expect("the table ends");
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let name = names(cells[0]).remove(0);
            let dependencies = names(cells.last().unwrap()).into_iter().map(|name| format!("{PREFIX}{name}"));
            (name, dependencies.collect())
        })
        .collect()
}

#[test]
fn manifests_have_exactly_the_dependencies_of_the_page() {
    let (manifests, page) = (arrows_of_manifests(), arrows_of_page());
    assert!(manifests.len() > 10, "the manifests were found: {manifests:?}");
    let mut differences = Vec::new();
    for name in manifests.keys().chain(page.keys()).collect::<BTreeSet<_>>() {
        match (manifests.get(name), page.get(name)) {
            (Some(_), None) => differences.push(format!("{name} is not in the table")),
            (None, Some(_)) => differences.push(format!("{name} is in the table, but there is no such crate")),
            (Some(real), Some(stated)) => {
                differences
                    .extend(real.difference(stated).map(|on| format!("{name} depends on {on}; the table forbids it")));
                differences.extend(
                    stated.difference(real).map(|on| format!("{name} does not depend on {on}; the table says so")),
                );
            }
            (None, None) => {}
        }
    }
    assert!(differences.is_empty(), "docs/architecture.md and the manifests differ:\n{}", differences.join("\n"));
}

#[test]
fn no_crate_depends_on_itself_through_others() {
    let arrows = arrows_of_manifests();
    for start in arrows.keys() {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&String> = arrows[start].iter().collect();
        while let Some(name) = next.pop() {
            assert_ne!(name, start, "{start} depends on itself");
            if reached.insert(name) {
                next.extend(arrows.get(name).into_iter().flatten());
            }
        }
    }
}

/// A program that embeds the client gets neither the plugin runtime nor the database nor D-Bus.
#[test]
fn client_has_no_heavy_dependency() {
    let lock: toml::Table = fs::read_to_string(workspace().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages: BTreeMap<&str, Vec<&str>> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
            let dependencies = dependencies.into_iter().flatten().filter_map(toml::Value::as_str);
            // `name version` where there are several versions.
            let dependencies = dependencies.map(|text| text.split(' ').next().unwrap()).collect();
            (package["name"].as_str().unwrap(), dependencies)
        })
        .collect();
    let mut reached = BTreeSet::from(["ostler-client"]);
    let mut next = vec!["ostler-client"];
    while let Some(name) = next.pop() {
        for dependency in packages.get(name).into_iter().flatten() {
            if reached.insert(dependency) {
                next.push(dependency);
            }
        }
    }
    assert!(reached.contains("ostler-protocol") && reached.contains("tokio"), "{reached:?}");
    for heavy in ["wasmtime", "rusqlite", "dbus", "axum", "jsonschema", "clap"] {
        assert!(packages.contains_key(heavy), "{heavy} is in the lock file");
        assert!(!reached.contains(heavy), "ostler-client depends on {heavy}");
    }
}

/// Rust files below a folder, tests left out.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if entry.is_dir() && !matches!(name, "tests" | "target") {
            sources(&entry, found);
        } else if name.ends_with(".rs") && !name.contains("tests") {
            found.push(entry);
        }
    }
}

/// Hints below the API name methods and fields; the command line puts its own words in their place.
#[test]
fn crates_below_the_api_do_not_name_commands() {
    // The stand-in agent is a program with a command line of its own.
    let commands = ["cli", "server", "src", "benches", "rehearsal"];
    let host = workspace().join("host");
    let folders = fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|folder| {
        folder.is_dir() && !commands.contains(&folder.file_name().and_then(|name| name.to_str()).unwrap_or_default())
    });
    let mut files = Vec::new();
    for folder in folders.chain(["plugins", "policies"].map(|name| workspace().join(name))) {
        sources(&folder, &mut files);
    }
    assert!(files.len() > 100, "the sources were found: {}", files.len());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            if !is_comment && line.contains("`ostler ") {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "commands are named below the API:\n{}", found.join("\n"));
}
