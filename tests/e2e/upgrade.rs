//! Upgrades: the current host opens the homes of earlier versions (`tests/homes`) and finds all stored data.

use crate::support::TestHost;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The homes that `tests/homes/make` has created, one for each version. All have the same content.
fn homes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/homes");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let homes: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    assert!(!homes.is_empty());
    homes
}

/// A copy of a home with the permissions that the repository does not keep.
fn copy(home: &Path) -> TestHost {
    let host = TestHost::new();
    copy_folder(home, &host.home());
    host
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// The id of the only run with this title.
fn run_titled(host: &TestHost, title: &str) -> String {
    let runs = host.run(&["runs", "--json"]).ok().json();
    let found: Vec<&Value> = runs["items"].as_array().unwrap().iter().filter(|run| run["title"] == title).collect();
    assert_eq!(found.len(), 1, "{title}: {runs:#}");
    found[0]["runId"].as_str().unwrap().to_owned()
}

#[test]
fn opens_earlier_homes_and_lists_their_content() {
    for home in homes() {
        let host = copy(&home);
        let runs = host.run(&["runs", "--json"]).ok().json();
        let states: Vec<(&str, &str)> = runs["items"]
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(|run| (run["title"].as_str().unwrap(), run["status"].as_str().unwrap()))
            .collect();
        let expected = [
            ("SAY the first answer of an old version", "completed"),
            ("SAY a second answer, with zebra in it", "completed"),
            ("FAIL usage", "failed"),
            ("ENV APP_TOKEN", "completed"),
            ("SAY from a profile", "completed"),
            ("SAY hello in the conversation", "completed"),
            ("SAY hello once more", "completed"),
            ("SAY the scheduled run", "queued"),
        ];
        assert_eq!(states, expected, "{}", home.display());

        let queue = host.run(&["queue"]).ok().stdout;
        assert!(queue.contains("scheduled") && queue.contains("2099"), "{queue}");
        host.run(&["cancel", &run_titled(&host, "SAY the scheduled run")]).ok();

        let profile = host.run(&["profiles", "show", "careful", "--json"]).ok().json();
        assert_eq!(profile["config"]["harness"]["permissions"]["sandboxMode"], "read-only", "{profile:#}");
        let grants = host.run(&["grants", "list", "--json"]).ok().stdout;
        assert!(grants.contains("/tmp/ostler-upgrade/project"), "{grants}");
        assert_eq!(host.run(&["settings", "get", "scheduler.global"]).ok().stdout, "3\n");
        let retention = host.run(&["retention", "show"]).ok().stdout;
        assert!(retention.contains("understudy") && retention.contains("500"), "{retention}");
        let tokens = host.run(&["access", "list"]).ok().stdout;
        assert!(tokens.contains("reader") && tokens.contains("valid"), "{tokens}");
        host.run(&["audit", "verify"]).ok();
        let problems = host.run(&["status", "--json"]).ok().json()["problems"].clone();
        assert_eq!(problems, Value::Array(Vec::new()), "{}", home.display());
    }
}

#[test]
fn shows_searches_and_exports_runs_of_earlier_homes() {
    for home in homes() {
        let host = copy(&home);
        let first = run_titled(&host, "SAY the first answer of an old version");
        let shown = host.run(&["show", &first]).ok().stdout;
        assert!(shown.ends_with("answer\nthe first answer of an old version\n"), "{shown}");
        let secret = run_titled(&host, "ENV APP_TOKEN");
        let shown = host.run(&["show", &secret]).ok().stdout;
        assert!(shown.ends_with("[REDACTED:app-token]\n"), "{shown}");
        assert!(host.run(&["logs", &first]).ok().stdout.contains("the first answer"));

        let zebra = run_titled(&host, "SAY a second answer, with zebra in it");
        let found = host.run(&["search", "zebra", "--json"]).ok().stdout;
        assert!(found.contains(&zebra) && !found.contains(&first), "{found}");

        let text = host.run(&["export", &zebra, "--format", "txt", "--output", "-"]).ok().stdout;
        assert_eq!(text.trim_end(), "a second answer, with zebra in it");
        let page = host.run(&["export", &zebra, "--format", "md", "--output", "-"]).ok().stdout;
        assert!(page.starts_with("# SAY a second answer, with zebra in it\n"), "{page}");
        let whole = host.run(&["export", &zebra, "--format", "json", "--output", "-"]).ok().stdout;
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert!(whole.to_string().contains("run.completed"), "{whole:#}");
    }
}

#[test]
fn continues_conversations_and_reruns_runs_of_earlier_homes() {
    for home in homes() {
        let host = copy(&home);
        let work = host.work();
        host.run(&["grants", "add", work.to_str().unwrap()]).ok();
        let work = work.to_str().unwrap();

        let chats = host.run(&["chat", "list", "--json"]).ok().json();
        assert_eq!(chats["items"][0]["title"], "An old conversation", "{chats:#}");
        let chat = chats["items"][0]["conversationId"].as_str().unwrap();
        let shown = host.run(&["chat", "show", chat, "--text"]).ok().stdout;
        assert!(shown.contains("hello in the conversation") && shown.contains("hello once more"), "{shown}");
        // The folder of the conversation does not exist, so that a message may name another.
        let sent = host.run(&["chat", "send", chat, "--cwd", work, "SAY hello from the new version"]).ok();
        assert_eq!(sent.stdout, "hello from the new version\n");

        let first = run_titled(&host, "SAY the first answer of an old version");
        let again = host.run(&["rerun", &first, "--cwd", work]).ok();
        assert_eq!(again.stdout, "the first answer of an old version\n");
        host.run(&["audit", "verify"]).ok();
    }
}
